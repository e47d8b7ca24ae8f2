//! What goes on record, and what happens when nothing can.

use autonomy_runtime::Standing;
use autonomy_schema::Blake3;
use autonomy_stateroot::SimDisk;
use serde_json::json;

use crate::{Place, call, codes, on, policy};

const ALLOW: &str = "package autonomy.tool\n\nallow := true\n\ndeny contains input.params.why\n";

#[test]
fn a_decision_is_on_record_with_its_policy_rule_and_input_and_without_secrets() {
    let place = Place::serving(ALLOW);
    let ruling =
        place.interceptor.decide(call("tool.echo", json!({ "message": "x", "PIN": "1234", "in": [{ "token": "t" }] })));
    let found = place.decisions();
    assert_eq!(ruling.decision_id, Some(format!("runtime:wal:{}", found[0].seq)));
    let body = &found[0].body;
    assert_eq!(body["params"], json!({ "message": "x", "PIN": "[redacted]", "in": [{ "token": "[redacted]" }] }));
    let input = json!({ "kind": "tool.echo", "params": { "message": "x", "PIN": "1234", "in": [{ "token": "t" }] } });
    let digest = Blake3::of(&autonomy_schema::canonical::to_bytes(&input).unwrap());
    assert_eq!((ruling.input_digest, body["input_digest"].as_str()), (digest, Some(digest.to_string().as_str())));
    let policy = ruling.policy.expect("policy");
    assert_eq!(body["policy"], json!({ "name": "harbor", "version": "1.0.0", "digest": policy.digest }));
    assert_eq!((body["decision"].as_str(), body["rule"].as_str()), (Some("allow"), Some("data.autonomy.tool.allow")));
    // Long parameters are left out, long reasons are cut; the digest still tells what was asked.
    let long = place.interceptor.decide(call("tool.echo", json!({ "message": "y".repeat(5000) })));
    let denied = place.interceptor.decide(call("tool.echo", json!({ "why": "\u{1}".repeat(4000) })));
    let found = place.decisions();
    assert_eq!(found[1].body.get("params"), None);
    assert_eq!(found[1].body["input_digest"], long.input_digest.to_string());
    assert_eq!(found[2].body["reasons"][0]["message"].as_str().map(str::len), Some(1000));
    assert_eq!(denied.reasons[0].message.len(), 4000);
}

#[test]
fn what_cannot_be_recorded_is_denied_and_a_full_disk_that_is_emptied_is_no_end() {
    let disk = SimDisk::new();
    let (interceptor, _root, _metrics) = on(disk.clone());
    interceptor.swap(Standing::Serving(policy(ALLOW)));
    let ask = || interceptor.decide(call("tool.echo", json!({})));
    assert!(ask().allow);
    // ENOSPC at the write.
    disk.fail_at(disk.verbs() + 1, 28);
    let ruling = ask();
    assert_eq!((codes(&ruling), ruling.allow, ruling.decision_id), (vec!["decision_log_failed"], false, None));
    assert!(ruling.permit.is_none() && !interceptor.can_record());
    assert!(ask().allow && interceptor.can_record(), "there is room again");
    // EIO at the sync: what the disk holds is not known, so nothing is built on it any more.
    disk.fail_at(disk.verbs() + 2, 5);
    for _ in 0..3 {
        assert_eq!(codes(&ask()), ["decision_log_failed"]);
    }
    assert!(!interceptor.can_record());
}
