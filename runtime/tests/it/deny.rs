//! What is denied stays denied, and what is not a clean allow is denied.

use autonomy_runtime::Standing;
use autonomy_schema::{Code, Reason};
use serde_json::json;

use crate::{Place, call, codes, compiled, policy};

/// Allows everything, in every way that a rule can, and denies a shell.
const EAGER: &str = "package autonomy.tool

allow := true

allow if true

deny contains \"no shells\" if input.kind == \"tool.shell\"

deny contains \"not while at sea\" if input.params.place == \"sea\"

# None of these means anything to whoever asks.
override := true

force if true

permits := true
";

#[test]
fn interceptor_deny_cannot_be_overridden() {
    let place = Place::serving(EAGER);
    for params in [
        json!({}),
        json!({ "allow": true, "deny": [], "override": true, "force": true }),
        json!({ "decision": "allow", "policy": null, "kind": "tool.echo", "permit": {} }),
    ] {
        let ruling = place.interceptor.decide(call("tool.shell", params));
        assert!(!ruling.allow && ruling.permit.is_none());
        assert_eq!((codes(&ruling), ruling.rule), (vec!["policy_denied"], Some("data.autonomy.tool.deny")));
        assert_eq!(ruling.reasons[0].message, "no shells");
    }
    // A deny message and an unknown tool are both told.
    let both = place.interceptor.decide(call("tool.teleport", json!({ "place": "sea" })));
    assert_eq!(codes(&both), ["policy_denied", "unknown_tool"]);
    // The same rules do allow what nothing denies, so the test above can fail.
    let echo = place.interceptor.decide(call("tool.echo", json!({ "message": "x" })));
    assert!(echo.allow && echo.reasons.is_empty(), "{:?}", echo.reasons);
    let permit = echo.permit.expect("a permit");
    assert_eq!((permit.kind(), permit.params()), ("tool.echo", &json!({ "message": "x" })));
    let told: Vec<_> = place.decisions().iter().map(|record| record.body["decision"].clone()).collect();
    assert_eq!(told, ["deny", "deny", "deny", "deny", "allow"]);
}

#[test]
fn interceptor_fail_closed() {
    let place = Place::new();
    let ask = |kind: &str| place.interceptor.decide(call(kind, json!({ "n": 1 })));
    let none = ask("tool.echo");
    assert!(!none.allow && none.policy.is_none() && none.permit.is_none());
    assert_eq!((codes(&none), none.rule), (vec!["no_policy"], None));
    // Whatever is no clean answer.
    for (rego, code, text) in [
        ("package autonomy.tool\n\nallow := \"yes\"\n", "policy_error", "not a boolean"),
        ("package autonomy.tool\n\nallow := 1\n", "policy_error", "not a boolean"),
        ("package autonomy.tool\n\nallow := true\n\ndeny := false\n", "policy_error", "not a set"),
        ("package autonomy.tool\n\nallow := true\n\ndeny := [\"x\"]\n", "policy_error", "not a set"),
        ("package autonomy.tool\n\nallow := true\n\ndeny contains 1\n", "policy_error", "not a set"),
        ("package autonomy.tool\n\nallow if to_number(input.kind) == 1\n", "policy_error", "failed"),
        (
            "package autonomy.tool\n\nallow := true\n\ndeny contains x if x := json.unmarshal(\"{\")\n",
            "policy_error",
            "failed",
        ),
        ("package autonomy.tool\n\ndefault allow := false\n", "policy_denied", "no `allow`"),
        ("package autonomy.tool\n\nallow if input.nothing\n", "policy_denied", "no `allow`"),
    ] {
        place.interceptor.swap(Standing::Serving(policy(rego)));
        let ruling = ask("tool.echo");
        assert!(!ruling.allow && ruling.permit.is_none(), "{rego}");
        assert_eq!(codes(&ruling), [code], "{rego}");
        assert!(ruling.reasons[0].message.contains(text), "{rego}: {:?}", ruling.reasons);
        assert!(ruling.decision_id.is_some() && ruling.policy.is_some());
    }
    // A policy that cannot be asked never serves.
    for rego in ["package autonomy.update\n\nallow := true\n", "package autonomy.tool\n\ndeny contains \"x\"\n"] {
        assert!(compiled(rego, &json!({})).is_err(), "{rego}");
    }
    // Unknown tools, and names that look like known ones.
    place.interceptor.swap(Standing::Serving(policy("package autonomy.tool\n\nallow := true\n")));
    for kind in [
        "",
        "echo",
        "Tool.Echo",
        "tool.echo ",
        " tool.echo",
        "tool.echo\0",
        "tool.echo\n",
        "tool.\u{435}cho",
        "tool..echo",
        "tool.echo/../tool.shell",
    ] {
        let ruling = ask(kind);
        assert_eq!((codes(&ruling), ruling.rule), (vec!["unknown_tool"], None), "{kind:?}");
        assert!(!ruling.allow && ruling.permit.is_none());
    }
    assert!(ask("tool.echo").allow);
    // A lock that does not verify any more closes the door.
    place.interceptor.swap(Standing::Closed(Reason::new(Code::LockInvalid, "the lock is another's")));
    assert_eq!(codes(&ask("tool.echo")), ["lock_invalid"]);
    place.interceptor.close();
    let late = ask("tool.echo");
    assert_eq!((codes(&late), late.decision_id), (vec!["overloaded"], None));
}
