//! Another policy takes over while calls are decided.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use autonomy_runtime::Standing;
use autonomy_schema::Sha256;
use serde_json::json;

use crate::{Place, bundle, call, policy};

/// Version `n` allows only calls that name it, and says its number in every deny.
fn version(n: u32) -> String {
    format!(
        "package autonomy.tool

allow if input.params.v == {n}

deny contains \"{n}: not mine\" if input.params.v != {n}

deny contains \"{n}: not mine either\" if input.params.v != {n}
"
    )
}

#[test]
fn a_swap_under_load_drops_and_mixes_no_decision() {
    let place = Place::serving(&version(0));
    let digests: Vec<Sha256> = (0..2).map(|n| bundle(&version(n), &json!({})).digest()).collect();
    let (ends, decided) = (AtomicBool::new(false), AtomicUsize::new(0));
    let seen = [AtomicUsize::new(0), AtomicUsize::new(0)];
    std::thread::scope(|scope| {
        for v in [0, 1, 0, 1] {
            let (place, digests, ends, decided, seen) = (&place, &digests, &ends, &decided, &seen);
            scope.spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    let ruling = place.interceptor.decide(call("tool.echo", json!({ "v": v })));
                    decided.fetch_add(1, Ordering::Relaxed);
                    let by = digests
                        .iter()
                        .position(|digest| Some(*digest) == ruling.policy.as_ref().map(|policy| policy.digest));
                    let by = by.expect("one of the two decided");
                    seen[by].fetch_add(1, Ordering::Relaxed);
                    assert_eq!(ruling.allow, by == v, "{ruling:?}");
                    let said: Vec<&str> = ruling.reasons.iter().map(|reason| reason.message.as_str()).collect();
                    let wanted = [format!("{by}: not mine"), format!("{by}: not mine either")];
                    assert!(said.is_empty() || said == wanted, "{said:?}");
                    assert_eq!(said.is_empty(), ruling.allow);
                }
            });
        }
        for round in 1..=200 {
            place.interceptor.swap(Standing::Serving(policy(&version(round % 2))));
        }
        ends.store(true, Ordering::Relaxed);
    });
    let [old, new] = seen.map(AtomicUsize::into_inner);
    assert!(old > 0 && new > 0, "both decided: {old}, {new}");
    assert_eq!(place.decisions().len(), decided.into_inner(), "every decision is on record, once");
}
