//! `policy inspect | verify | test | eval`, through the binary.

use serde_json::Value;

use crate::world::{Ran, World};

/// A policy for tools.
pub(crate) const TOOL: &str = r#"package autonomy.tool

default allow := false

allow if input.kind == "tool.echo"

allow if {
	input.kind == "tool.shell"
	input.params.argv[0] in data.tools.commands
}

deny contains msg if {
	input.params.argv[0] == "rm"
	msg := sprintf("%s is forbidden", [input.params.argv[0]])
}
"#;

const TESTS: &str = r#"package autonomy.tool_test

import data.autonomy.tool

test_echo if tool.allow with input as {"kind": "tool.echo"}

test_shell if {
	call := {"kind": "tool.shell", "params": {"argv": ["ls"]}}
	tool.allow with input as call
}
"#;

/// A folder `policy` with rules, data and tests.
pub(crate) fn policy() -> World {
    let world = World::empty();
    std::fs::create_dir_all(world.path("policy/tools")).expect("folder");
    world.write("policy/tool.rego", TOOL);
    world.write("policy/tool_test.rego", TESTS);
    world.write("policy/tools/data.json", r#"{"commands": ["ls", "uname"]}"#);
    world
}

/// Builds `policy` into a file.
pub(crate) fn build(world: &World, version: &str, out: &str) {
    world.run(&format!("policy build --in policy --out {out} --name harbor --version {version}")).exits(0);
}

pub(crate) fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout()).expect("JSON")
}

#[test]
fn inspect_tells_what_a_bundle_holds() {
    let world = policy();
    build(&world, "1.2.3", "p.tar.gz");
    let told = json(&world.run("policy inspect p.tar.gz --output json").exits(0));
    assert_eq!((told["name"].as_str(), told["version"].as_str()), (Some("harbor"), Some("1.2.3")));
    let digest = autonomy_schema::Sha256::of(&world.read("p.tar.gz")).to_string();
    assert_eq!(told["digest"], digest);
    let files: Vec<&str> = told["files"].as_array().expect("files").iter().filter_map(|f| f["path"].as_str()).collect();
    assert_eq!(files, ["manifest.json", "tool.rego", "tool_test.rego", "tools/data.json"]);
    assert_eq!(
        told["modules"][0],
        serde_json::json!({
            "file": "tool.rego", "package": "autonomy.tool", "rules": 4, "tests": [],
        })
    );
    assert_eq!(told["modules"][1]["tests"].as_array().map(Vec::len), Some(2));
    let text = world.run("policy inspect p.tar.gz").exits(0).stdout();
    for part in
        ["Policy harbor 1.2.3", digest.as_str(), "tool.rego: package autonomy.tool, 4 rules, 0 tests", "any version"]
    {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    world.write("bad.tar.gz", "no bundle");
    world.run("policy inspect bad.tar.gz").exits(3).warns("syntax: ");
}

#[test]
fn verify_runs_the_tests_and_demands_the_version() {
    let world = policy();
    build(&world, "1.2.3", "p.tar.gz");
    let told = json(&world.run("policy verify p.tar.gz --output json").exits(0));
    assert_eq!((told["tests"].as_u64(), &told["signers"]), (Some(2), &Value::Null));
    let newer =
        "policy build --in policy --out new.tar.gz --name harbor --version 2.0.0 --required-runtime-version >=99.0.0";
    world.run(newer).exits(0);
    world.run("policy verify new.tar.gz").exits(4).warns("policy_error: ").warns("needs version `>=99.0.0`");
    world.edit("policy/tool.rego", "\"tool.echo\"", "\"tool.other\"");
    build(&world, "1.2.4", "failing.tar.gz");
    world
        .run("policy verify failing.tar.gz")
        .exits(1)
        .warns("policy_test_failed: tool_test.rego:5: `data.autonomy.tool_test.test_echo`: it is undefined, at line 5");
    let mut spoilt = world.read("p.tar.gz");
    spoilt.push(0);
    world.write("spoilt.tar.gz", spoilt);
    world.run("policy verify spoilt.tar.gz").exits(3).warns("syntax: ");
}

#[test]
fn verify_demands_the_signature_of_role_policy() {
    let world = policy();
    build(&world, "1.2.3", "p.tar.gz");
    world.keys(&["r", "p"]);
    let root = "trust new --role root=r.pub:1 --role manifest=r.pub:1 --role artifact=r.pub:1 --role policy=p.pub:1";
    world.run(&format!("{root} --expires 2y --sign r.key --out root.json")).exits(0);
    world.run("policy verify p.tar.gz --trust-root root.json").exits(3).warns("below_threshold: ");
    world.run("sign p.tar.gz --key r.key").exits(0);
    world.run("policy verify p.tar.gz --trust-root root.json").exits(3).warns("0 of the 1 keys that role `policy`");
    world.run("sign p.tar.gz --key p.key").exits(0);
    let told = json(&world.run("policy verify p.tar.gz --trust-root root.json --output json").exits(0));
    assert_eq!(told["signers"].as_array().map(Vec::len), Some(1));
    world.run("policy verify p.tar.gz --trust-root root.json --now 2099-01-01T00:00:00Z").exits(3).warns("expired: ");
}

#[test]
fn failing_tests_say_where_and_what_was_printed() {
    let world = policy();
    assert!(world.run("policy test policy").exits(0).stdout().contains("2 passed."));
    world.write(
        "policy/more_test.rego",
        r#"package autonomy.more_test

import data.autonomy.tool

test_rm_is_denied if {
	denied := tool.deny with input as {"params": {"argv": ["rm"]}}
	print("denied:", denied)
	count(denied) == 1
	count(denied) == 2
	true
}

test_broken if {
	to_number("x") == 1
}

test_false := false
"#,
    );
    let ran = world.run("policy test policy").exits(1);
    let text = ran.stdout();
    for part in [
        "pass  tool_test.rego:5 data.autonomy.tool_test.test_echo\n",
        "FAIL  more_test.rego:5 data.autonomy.more_test.test_rm_is_denied\n      more_test.rego:9: its value is undefined",
        "is forbidden",
        "ERROR more_test.rego:13 data.autonomy.more_test.test_broken\n",
        "FAIL  more_test.rego:17 data.autonomy.more_test.test_false\n      more_test.rego:17: its value is false",
        "2 passed, 3 not.",
    ] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    assert!(world.run("policy test policy --run tool_test").exits(0).stdout().contains("2 passed."));
    assert_eq!(world.run("policy test policy --run nothing_so_named").exits(0).stdout(), "No tests.\n");
    let told = json(&world.run("policy test policy --output json").exits(1));
    assert_eq!(told["passed"], 2);
    let failed = told["tests"].as_array().expect("tests").iter().find(|test| test["failed_at"] == 9).expect("one");
    assert_eq!((failed["verdict"].as_str(), failed["line"].as_u64()), (Some("failed"), Some(5)));
    assert_eq!(failed["prints"].as_array().map(Vec::len), Some(1));
    world.write("policy/wrong.rego", "package a\n\nallow if {\n");
    world.run("policy test policy").exits(3).warns("wrong.rego:");
}

#[test]
fn coverage_names_the_lines_that_no_test_reached() {
    let world = policy();
    world.write("policy/unused.rego", "package unused\n\nallow if input.x\n");
    build(&world, "1.0.0", "p.tar.gz");
    for policy in ["policy", "p.tar.gz"] {
        let told = json(&world.run(&format!("policy test {policy} --coverage --output json")).exits(0));
        let [tool, unused] = told["coverage"].as_array().expect("coverage").as_slice() else { panic!("{told}") };
        assert_eq!((tool["file"].as_str(), unused["file"].as_str()), (Some("tool.rego"), Some("unused.rego")));
        assert_eq!((unused["percent"].as_u64(), &unused["uncovered"]), (Some(0), &serde_json::json!([3])));
        // The condition of `deny` was looked at, and never held.
        assert_eq!(tool["uncovered"], serde_json::json!([12, 14]));
        assert!(tool["percent"].as_u64().is_some_and(|percent| percent > 30 && percent < 100), "{tool}");
    }
    let text = world.run("policy test policy --coverage").exits(0).stdout();
    assert!(text.contains("tool.rego, not reached: 12, 14\n") && text.contains("  0 % unused.rego"), "{text}");
}

#[test]
fn eval_gives_the_value_and_explains_it() {
    let world = policy();
    build(&world, "1.0.0", "p.tar.gz");
    world.write("input.json", r#"{"kind": "tool.shell", "params": {"argv": ["rm", "-r"]}}"#);
    let ask = |query: &str, more: &str| {
        world.run(&format!("policy eval --bundle p.tar.gz --query {query} --input input.json {more}"))
    };
    assert_eq!(ask("data.autonomy.tool.allow", "").exits(0).stdout(), "false\n");
    assert_eq!(ask("data.autonomy.tool.deny", "").exits(0).stdout(), "[\"rm is forbidden\"]\n");
    assert_eq!(ask("data.autonomy.tool.nothing", "").exits(0).stdout(), "undefined\n");
    assert_eq!(json(&ask("data.autonomy.tool.nothing", "--output json").exits(0))["defined"], false);
    let text = ask("data.autonomy.tool", "--explain").exits(0).stdout();
    for part in [
        "tool.rego:3 data.autonomy.tool.allow default\n",
        "tool.rego:5 data.autonomy.tool.allow undefined\n",
        "tool.rego:7 data.autonomy.tool.allow undefined\n",
        "tool.rego:12 data.autonomy.tool.deny [\"rm is forbidden\"]\n",
    ] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    world.write("input.json", r#"{"kind": "tool.echo", "params": {}}"#);
    let told = json(&ask("data.autonomy.tool.allow", "--explain --output json").exits(0));
    assert_eq!(told["values"], serde_json::json!([true]));
    let rule = told["rules"].as_array().expect("rules").iter().find(|rule| rule["line"] == 5).expect("the rule");
    assert_eq!(rule["outcome"], "true");
    ask("data.autonomy.tool.allow(", "").exits(4).warns("policy_error: ");
    world.write("input.json", "{");
    ask("data.autonomy.tool.allow", "").exits(3).warns("syntax: ");
}
