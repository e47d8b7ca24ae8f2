//! Evaluations that do not end.

use std::time::{Duration, Instant};

use autonomy_runtime::Standing;
use serde_json::{Value, json};

use crate::{Place, call, codes, compiled};

/// Loops as long as its data is large, when it is asked to.
const LOOP: &str = "package autonomy.tool

allow if not input.params.loop

allow if {
	input.params.loop
	some a in data.many
	some b in data.many
	some c in data.many
	some d in data.many
	a + b + c + d < 0
}
";

fn many() -> Value {
    json!({ "many": (0..1000).collect::<Vec<u32>>() })
}

#[test]
fn an_evaluation_that_takes_too_long_is_a_no_and_others_go_on() {
    let place = Place::new();
    place.interceptor.swap(Standing::Serving(compiled(LOOP, &many()).expect("policy")));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let ruling = place.interceptor.decide(call("tool.echo", json!({ "loop": true })));
                assert_eq!(codes(&ruling), ["policy_error"]);
                assert!(ruling.reasons[0].message.contains("no answer within 250ms"), "{:?}", ruling.reasons);
            });
        }
    });
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(place.interceptor.decide(call("tool.echo", json!({}))).allow);
    assert_eq!(place.decisions().len(), 7);
}

/// One built-in call that takes very long: the engine's own timer cannot stop it.
const STUCK: &str = "package autonomy.tool

allow if not input.params.stuck

allow if {
	input.params.stuck
	strings.any_prefix_match(data.names, data.prefixes)
}
";

/// 10^10 comparisons.
fn many_names() -> Value {
    let names = |letter: &str| (0..100_000).map(|n| format!("{letter}{n}")).collect::<Vec<_>>();
    json!({ "names": names("a"), "prefixes": names("b") })
}

#[test]
fn evaluations_that_cannot_be_stopped_are_given_up_and_replaced_and_four_of_them_close_the_door() {
    let place = Place::new();
    place.interceptor.swap(Standing::Serving(compiled(STUCK, &many_names()).expect("policy")));
    let stuck = json!({ "stuck": true });
    let ruling = place.interceptor.decide(call("tool.echo", stuck.clone()));
    assert_eq!(codes(&ruling), ["policy_error"]);
    assert!(ruling.reasons[0].message.contains("no answer within"), "{:?}", ruling.reasons);
    assert!(
        place.metrics.text().expect("text").contains("policy_overruns_total 1"),
        "it was given up, not timed by the engine"
    );
    assert!(place.interceptor.decide(call("tool.echo", json!({}))).allow, "another thread took its place");
    for _ in 0..3 {
        assert!(!place.interceptor.decide(call("tool.echo", stuck.clone())).allow);
    }
    let closed = place.interceptor.decide(call("tool.echo", json!({})));
    assert_eq!(codes(&closed), ["policy_error"]);
    assert!(closed.reasons[0].message.contains("have not ended"), "{:?}", closed.reasons);
}
