//! Decisions: what permits, and everything that must not.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use autonomy_policy::{Budget, Bundle, Decision, EvalError, build, decide};
use autonomy_schema::reason::Code;
use serde_json::{Value, json};

use crate::fixture::{UPDATE, bundle, files, options};

const SHORT: Budget = Budget { time: Duration::from_millis(300), ..Budget::UPDATE };

fn ask(rego: &str, input: &Value) -> Result<Decision, EvalError> {
    decide(&bundle(rego), "autonomy.update", input, &SHORT)
}

fn refusal(rego: &str) -> EvalError {
    let error = ask(rego, &json!({})).unwrap_err();
    assert_eq!(error.to_reason().code, Code::PolicyError);
    error
}

#[test]
fn allow_and_no_deny_permits() {
    let rego = format!(
        "{UPDATE}allow if input.serial > 40\n\ndeny contains \"late\" if input.late\n\ndeny contains \"early\" if input.late\n"
    );
    let decision = |input| ask(&rego, &input).unwrap();
    assert!(decision(json!({ "serial": 41 })).permits());
    assert!(!decision(json!({ "serial": 40 })).permits());
    let denied = decision(json!({ "serial": 41, "late": true }));
    assert_eq!(denied, Decision { allow: true, deny: vec!["early".to_owned(), "late".to_owned()] });
    assert!(!denied.permits());
}

#[test]
fn an_allow_that_holds_for_nothing_is_no() {
    let decision = ask("package autonomy.update\n\nallow if input.x\n", &json!({})).unwrap();
    assert_eq!(decision, Decision { allow: false, deny: vec![] });
}

#[test]
fn a_rule_that_is_missing() {
    for rego in [
        "package other\n\nallow := true\n",
        "package autonomy.updates\n\nallow := true\n",
        "package autonomy.update\n\npermit := true\n",
        "package autonomy.update\n\ndeny contains \"x\" if false\n",
        "package autonomy.update.allow\n\nyes := true\n",
    ] {
        assert!(matches!(refusal(rego), EvalError::MissingRule(_)), "{rego}");
    }
}

#[test]
fn data_that_pretends_to_be_the_rule() {
    let entries = [("other.rego", "package other\n"), ("data.json", "{\"autonomy\": {\"update\": {\"allow\": true}}}")];
    let bundle = Bundle::load(&build(&files(&entries), &options()).unwrap()).unwrap();
    let answer = decide(&bundle, "autonomy.update", &json!({}), &SHORT);
    assert!(matches!(answer, Err(EvalError::MissingRule(_))), "{answer:?}");
}

#[test]
fn a_deny_in_a_package_above_counts() {
    let entries = [
        ("update.rego", "package autonomy.update\n\nallow := true\n"),
        ("above.rego", "package autonomy\n\nupdate.deny contains \"from above\" if true\n"),
    ];
    let bundle = Bundle::load(&build(&files(&entries), &options()).unwrap()).unwrap();
    match decide(&bundle, "autonomy.update", &json!({}), &SHORT) {
        Ok(decision) => assert!(!decision.permits(), "{decision:?}"),
        Err(error) => assert_eq!(error.to_reason().code, Code::PolicyError),
    }
}

#[test]
fn tests_take_no_part() {
    let entries = [("update.rego", UPDATE), ("update_test.rego", "package autonomy.update\n\nallow if true\n")];
    let bundle = Bundle::load(&build(&files(&entries), &options()).unwrap()).unwrap();
    assert!(!decide(&bundle, "autonomy.update", &json!({}), &SHORT).unwrap().permits());
}

#[test]
fn answers_of_another_type() {
    for value in ["\"true\"", "1", "null", "[true]", "{\"a\": true}", "{true}"] {
        let rego = format!("package autonomy.update\n\nallow := {value}\n");
        assert!(matches!(refusal(&rego), EvalError::NotBoolean(_)), "{value}");
    }
    for value in ["\"no\"", "true", "[\"a\"]", "{\"a\": 1}", "{1}", "{\"a\", 1}", "{[\"a\"]}", "false", "null"] {
        let rego = format!("package autonomy.update\n\nallow := true\n\ndeny := {value}\n");
        assert!(matches!(refusal(&rego), EvalError::NotStrings(_)), "{value}");
    }
}

#[test]
fn errors_while_it_runs() {
    for body in [
        "allow if 1 / input.zero == 1",
        "allow if to_number(\"x\") == 1",
        "allow := true\n\nallow := false",
        "allow if no.such.function(1)",
        "allow if regex.match(\"(\", \"x\")",
        "allow := true\n\ndeny contains x if x := sprintf(\"%d\")",
        "allow if count(input) == count(5)",
    ] {
        let rego = format!("package autonomy.update\n\n{body}\n");
        // What does not even compile never becomes a bundle.
        let Ok(bytes) = build(&files(&[("update.rego", &rego)]), &options()) else { continue };
        let answer = decide(&Bundle::load(&bytes).unwrap(), "autonomy.update", &json!({ "zero": 0 }), &SHORT);
        assert!(!answer.as_ref().is_ok_and(Decision::permits), "{body}: {answer:?}");
    }
    assert!(matches!(refusal("package autonomy.update\n\nallow := true\n\nallow := false\n"), EvalError::Rego(_)));
}

#[test]
fn a_comprehension_without_end_hits_the_time() {
    let list = "l := [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]";
    let each = "some a in l; some b in l; some c in l; some d in l; some e in l; some f in l; some g in l; some h in l";
    let rego = format!(
        "package autonomy.update\n\n{list}\n\nallow if count([1 | {each}; some i in l; some j in l; a + b + c + d + e + f + g + h + i + j == 91]) == 0\n"
    );
    let start = Instant::now();
    assert!(matches!(refusal(&rego), EvalError::Time(_)));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn deny_is_bounded_as_allow_is() {
    let list = "l := [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]";
    let each = "some a in l; some b in l; some c in l; some d in l; some e in l; some f in l; some g in l; some h in l";
    let rego = format!(
        "package autonomy.update\n\n{list}\n\nallow := true\n\ndeny contains \"x\" if {{ {each}; some i in l; a + b + c + d + e + f + g + h + i == 91 }}\n"
    );
    assert!(matches!(refusal(&rego), EvalError::Time(_)));
}

#[test]
fn rules_that_depend_on_themselves_end_in_an_error() {
    for body in [
        "allow if not allow",
        "allow if g\n\ng if h\n\nh if g",
        "allow if r\n\nr if f(1)\n\nf(x) if r",
        "allow if count(s) > 0\n\ns contains x if some x in s",
        "allow if data.autonomy.update[\"allow\"]",
    ] {
        let error = refusal(&format!("package autonomy.update\n\n{body}\n"));
        assert!(error.to_string().contains("recursion"), "{body}: {error}");
    }
}

#[test]
fn functions_that_call_themselves_are_no_bundle() {
    for body in [
        "f(x) if f(x + 1)",
        "f(x) if g(x)\n\ng(x) if f(x)",
        "f(x) if data.autonomy.update.f(x)",
        "f(x) if data.autonomy.update[\"f\"](x)",
        "f(x) := 1 if { x == 0 } else := f(x + 1)",
        "f(x) := [y | some y in [f(x)]]",
        "f(x) if count(x) > 0 with count as f",
        "import data.autonomy.update as me\n\nf(x) if me.f(x)",
        "import data.autonomy.update\n\nf(x) if update.f(x)",
    ] {
        let rego = format!("package autonomy.update\n\n{body}\n\nallow if f(1)\n");
        let error = build(&files(&[("update.rego", &rego)]), &options()).unwrap_err();
        assert!(error.to_string().contains("recursion"), "{body}: {error}");
    }
}

#[test]
fn functions_of_one_name_in_two_packages_are_two() {
    let entries = [
        ("update.rego", "package autonomy.update\n\nimport data.lib.util\n\nallow if f(1)\n\nf(x) if util.f(x)\n"),
        ("lib/util.rego", "package lib.util\n\nf(x) if data.lib.base.f(x)\n"),
        ("lib/base.rego", "package lib.base\n\nf(x) if x == 1\n"),
    ];
    let bundle = Bundle::load(&build(&files(&entries), &options()).unwrap()).unwrap();
    assert!(decide(&bundle, "autonomy.update", &json!({}), &SHORT).unwrap().permits());
}

#[test]
fn rules_nest_as_deep_as_there_may_be_rules_and_no_deeper() {
    let chain = |rules: usize| {
        let nested = "count([1 | some a in [1]; some b in [[[[a]]]]; b == [[[1]]]])";
        let mut rego = "package autonomy.update\n\nallow if f0(1)\n".to_owned();
        for n in 0..rules - 2 {
            writeln!(rego, "f{n}(x) if {{ [1 | some y in [x]; {nested} == 1; f{}(y)] == [1] }}", n + 1).unwrap();
        }
        rego + &format!("f{}(x) := true\n", rules - 2)
    };
    let budget = Budget { time: Duration::from_secs(20), ..Budget::UPDATE };
    assert!(decide(&bundle(&chain(2_000)), "autonomy.update", &json!({}), &budget).unwrap().permits());
    let error = build(&files(&[("update.rego", &chain(2_001))]), &options()).unwrap_err();
    assert!(error.to_string().contains("2001 rules"), "{error}");
}

#[test]
fn strings_that_double_hit_the_memory() {
    let mut rego = "package autonomy.update\n\ns0 := \"0123456789abcdef\"\n".to_owned();
    for n in 1..40 {
        writeln!(rego, "s{n} := concat(\"\", [s{0}, s{0}])", n - 1).unwrap();
    }
    rego += "allow if count(s39) > 0\n";
    let budget = Budget { memory_bytes: 256 << 20, time: Duration::from_secs(20), ..Budget::UPDATE };
    let answer = decide(&bundle(&rego), "autonomy.update", &json!({}), &budget);
    assert!(matches!(answer, Err(EvalError::Memory(_))), "{answer:?}");
}

#[test]
fn functions_that_are_no_function_of_the_input() {
    for (call, cause) in [
        ("time.now_ns() > 0", "input.facts.observed.clock"),
        ("rand.intn(\"x\", 5) < 5", "random"),
        ("count(numbers.range(1, 1000000000000)) > 0", "memory"),
        ("count(numbers.range_step(1, 1000000000000, 1)) > 0", "memory"),
        ("count(net.cidr_expand(\"::/0\")) > 0", "memory"),
        ("bits.lsh(1, 1000000000000) > 0", "memory"),
        ("count(graph.reachable_paths({\"a\": [\"a\"]}, [\"a\"])) > 0", "memory"),
    ] {
        let error = refusal(&format!("package autonomy.update\n\nallow if {call}\n"));
        assert!(error.to_string().contains(cause), "{call}: {error}");
    }
    for call in [
        "http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1\"}).status_code == 200",
        "opa.runtime().env.HOME != \"\"",
        "uuid.rfc4122(\"x\") != \"\"",
    ] {
        let rego = format!("package autonomy.update\n\nallow if {call}\n");
        let Ok(bytes) = build(&files(&[("update.rego", &rego)]), &options()) else { continue };
        let answer = decide(&Bundle::load(&bytes).unwrap(), "autonomy.update", &json!({}), &SHORT);
        assert!(matches!(answer, Err(EvalError::Rego(_))), "{call}: {answer:?}");
    }
    // A call that shadows one of them is the rule's own function and stays.
    let own = "package autonomy.update\n\nrand_intn(x) := x\n\nallow if rand_intn(1) == 1\n";
    assert!(ask(own, &json!({})).unwrap().permits());
}

#[test]
fn input_and_result_are_bounded() {
    let tiny = Budget { input_bytes: 100, ..SHORT };
    let answer = decide(&bundle(UPDATE), "autonomy.update", &json!({ "x": "y".repeat(100) }), &tiny);
    assert!(matches!(answer, Err(EvalError::InputTooLarge(108, 100))), "{answer:?}");
    let rego = format!("{UPDATE}deny contains x if some x in input.list\n");
    let many: Vec<String> = (0..1_001).map(|n| n.to_string()).collect();
    assert!(matches!(ask(&rego, &json!({ "list": many })), Err(EvalError::ResultTooLarge(_))));
    assert!(matches!(ask(&rego, &json!({ "list": ["x".repeat(5_000)] })), Err(EvalError::ResultTooLarge(_))));
    assert_eq!(ask(&rego, &json!({ "list": ["x".repeat(4_096)] })).unwrap().deny.len(), 1);
}

#[test]
fn entries_that_are_no_package() {
    for entry in ["", ".", "autonomy.", "autonomy update", "autonomy.update.allow == true; true", "a[\"b\"]", "1a"] {
        let answer = decide(&bundle(UPDATE), entry, &json!({}), &SHORT);
        assert!(matches!(answer, Err(EvalError::Entry(_))), "{entry}");
    }
}

#[test]
fn a_bundle_for_another_version_of_the_tool() {
    for (required, fits) in [
        (None, true),
        (Some("0.1.0"), true),
        (Some("0.0.1"), true),
        (Some(">=0.1.0, <2.0.0"), true),
        (Some("99.0.0"), false),
        (Some("<0.1.0"), false),
    ] {
        let mut options = options();
        options.required_runtime_version = required.map(str::to_owned);
        let rego = "package autonomy.update\n\nallow := true\n";
        let bundle = Bundle::load(&build(&files(&[("update.rego", rego)]), &options).unwrap()).unwrap();
        let answer = decide(&bundle, "autonomy.update", &json!({}), &SHORT);
        assert_eq!(answer.is_ok(), fits, "{required:?}: {answer:?}");
    }
}

#[test]
fn the_same_question_has_the_same_answer() {
    let rego = format!("{UPDATE}deny contains x if some x in {{\"c\", \"a\", \"b\"}}\n");
    let first = ask(&rego, &json!({})).unwrap();
    assert_eq!(first.deny, ["a", "b", "c"]);
    for _ in 0..20 {
        assert_eq!(ask(&rego, &json!({})).unwrap(), first);
    }
}

#[test]
fn data_and_other_modules_take_part() {
    let entries = [
        ("update.rego", "package autonomy.update\n\nimport data.lib.util\n\nallow if util.small(input.n)\n"),
        ("lib/util.rego", "package lib.util\n\nsmall(n) if n < data.lib.limits.most\n"),
        ("lib/limits/data.json", "{\"most\": 10}"),
    ];
    let bundle = Bundle::load(&build(&files(&entries), &options()).unwrap()).unwrap();
    let permits = |n: u64| decide(&bundle, "autonomy.update", &json!({ "n": n }), &SHORT).unwrap().permits();
    assert!(permits(9) && !permits(10));
}
