//! `autonomy selftest hostile`: the corpus of the repository, and corpora that lie.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::world::{Ran, World};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/hostile").canonicalize().expect("corpus")
}

/// A corpus with the world of the repository's and these cases, as YAML.
fn planted(cases: &[(&str, &str)]) -> World {
    let world = World::empty();
    let copied = std::process::Command::new("cp").arg("-r").arg(corpus().join("_world")).arg(world.path("")).status();
    assert!(copied.expect("cp").success());
    for (name, yaml) in cases {
        std::fs::create_dir(world.path(name)).expect("folder");
        world.write(&format!("{name}/case.yaml"), yaml);
    }
    world
}

fn play(world: &World, arguments: &str) -> Ran {
    world.run(&format!("selftest hostile --corpus . {arguments}"))
}

const UNSIGNED: &str = "story: s\nprepare: [{ remove: set/manifest.json.sigstore.jsonl }]\n";

#[test]
fn every_attack_is_refused_for_its_reason_and_leaves_the_node_as_it_was() {
    let world = World::empty();
    let started = Instant::now();
    let ran = world.run(&format!("selftest hostile --output json --corpus {}", corpus().display()));
    let value: Value = serde_json::from_str(&ran.stdout()).expect("JSON");
    let wrong: Vec<&Value> =
        value["cases"].as_array().expect("cases").iter().filter(|case| case["as_expected"] != true).collect();
    assert!(wrong.is_empty(), "{}", serde_json::to_string_pretty(&wrong).expect("JSON"));
    ran.exits(0);
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    for (part, least) in [("attacks", 60), ("controls", 10)] {
        let (total, good) = (value[part]["total"].as_u64(), value[part]["as_expected"].as_u64());
        assert!(total == good && total >= Some(least), "{part}: {}", value[part]);
    }
    // What the issue names stands in the corpus.
    for name in [
        "root-lists-one-key-under-two-ids",
        "root-lists-one-key-in-two-encodings",
        "one-key-twice-by-signature",
        "one-key-twice-by-malleability",
        "roles-added-up",
        "high-s-is-a-signature",
        "duplicate-key",
        "pem-with-trailing-data",
        "two-payloads-of-one-kind",
        "two-payloads-of-two-kinds",
        "huge-list",
        "deep-nesting",
        "digest-algorithm-confusion",
        "look-alike-stream",
        "look-alike-path",
        "zip-slip",
        "artifact-swapped-between-check-and-use",
    ] {
        assert!(corpus().join(name).join("case.yaml").is_file(), "{name}");
    }
}

#[test]
fn the_result_as_text_has_a_line_for_each_case() {
    let world = planted(&[
        ("unsigned", &format!("{UNSIGNED}expect: {{ exit: 3, codes: [below_threshold] }}\n")),
        ("good", "story: s\nexpect: { exit: 0, changes: true }\n"),
    ]);
    let text = play(&world, "").exits(0).stdout();
    assert!(text.contains("ok    good      accepted\n"), "{text}");
    assert!(text.contains("ok    unsigned  refused: below_threshold (exit 3)\n"), "{text}");
    assert!(text.contains("1 attacks: 1 refused as expected\n1 controls: 1 accepted as expected\n"), "{text}");
    let text = play(&world, "--only unsigned").exits(0).stdout();
    assert!(text.contains("0 controls: 0 accepted"), "{text}");
    play(&world, "--only no-such-case").exits(64).warns("no such case");
}

#[test]
fn wrong_expectations_are_told() {
    let removed_and_added = "prepare: [{ remove: set/policy.tar.gz }, { write: { path: set/x, text: x } }]";
    let unopened = "prepare: [{ swapWhenOpened: { path: root.json, with: set/policy.tar.gz } }]\nrun: [apply, nowhere]";
    let expired = "expect: { exit: 3, codes: [expired] }";
    let world = planted(&[
        ("another-code", &format!("{UNSIGNED}{expired}\n")),
        ("another-exit", &format!("{UNSIGNED}expect: {{ exit: 9, codes: [below_threshold] }}\n")),
        (
            "one-code-of-two",
            &format!("story: s\n{removed_and_added}\nexpect: {{ exit: 3, codes: [extraneous_file] }}\n"),
        ),
        ("not-refused", &format!("story: s\n{expired}\n")),
        ("not-accepted", &format!("{UNSIGNED}expect: {{ exit: 0, changes: true }}\n")),
        ("changes-the-node", "story: s\nexpect: { exit: 0 }\n"),
        ("says-nothing", &format!("{UNSIGNED}expect: {{ exit: 3, codes: [below_threshold], says: moon }}\n")),
        ("no-such-file", &format!("story: s\nprepare: [{{ remove: set/nothing }}]\n{expired}\n")),
        ("verb-fails", &format!("story: s\nprepare: [{{ run: [verify, nowhere] }}]\n{expired}\n")),
        ("never-opened", &format!("story: s\n{unopened}\nexpect: {{ exit: 1, codes: [source_not_found] }}\n")),
    ]);
    let text = play(&world, "").exits(1).stdout();
    for (name, problem) in [
        ("another-code", "reasons below_threshold; expected expired"),
        ("another-exit", "exit 3; expected exit 9"),
        ("one-code-of-two", "reasons extraneous_file, missing_file; expected extraneous_file"),
        ("not-refused", "exit 0; expected exit 3"),
        ("not-accepted", "exit 3; expected exit 0"),
        ("changes-the-node", "the state root changed: current has other content"),
        ("says-nothing", "no reason says `moon`"),
        ("no-such-file", "it was not played: cannot carry out `prepare.0`"),
        ("verb-fails", "it was not played: `prepare.0` failed: source_not_found: "),
        ("never-opened", "the file was not swapped: nobody opened "),
    ] {
        let told = text.split("WRONG ").find(|part| part.starts_with(&format!("{name} ")));
        let told = told.unwrap_or_else(|| panic!("{name} is not named in\n{text}"));
        assert!(told.contains(problem), "{name}: no `{problem}` in\n{told}");
    }
    assert!(!text.contains("ok  "), "{text}");
}

#[test]
fn a_refusal_that_changes_the_node_is_caught() {
    // The verb is refused, and what it did before that is not taken back.
    let world = planted(&[(
        "leaves-a-trace",
        "story: s\nrun: [suspend, --reason, x]\nexpect: { exit: 3, codes: [expired] }\n",
    )]);
    let text = play(&world, "").exits(1).stdout();
    assert!(text.contains("the state root changed: suspended is new"), "{text}");
}

#[test]
fn malformed_corpora_are_told_with_their_place() {
    let expect = "expect: { exit: 3, codes: [expired] }\n";
    for (yaml, code, place) in [
        (format!("story: s\nruns: [apply]\n{expect}"), "unknown_field", "case.yaml:2:1"),
        ("story: s\nexpect: { exit: 3, codes: [no_such_code] }\n".to_owned(), "wrong_type", "case.yaml:2:"),
        ("story: s\nexpect: { exit: three }\n".to_owned(), "wrong_type", "case.yaml:2:"),
        ("story: s\n".to_owned(), "missing_field", "case.yaml:1:1"),
        (format!("story: s\nprepare: [{{ dig: set }}]\n{expect}"), "bad_value", "case.yaml:2:"),
        (format!("story: s\nprepare: [{{ remove: ../x }}]\n{expect}"), "unsafe_path", "case.yaml:2:"),
        (format!("story: s\nprepare: [{{ remove: /etc/x }}]\n{expect}"), "unsafe_path", "case.yaml:2:"),
        (format!("story: s\nrun: [selftest, hostile]\n{expect}"), "bad_value", "case.yaml:2:1"),
        (format!("story: s\nrun: [apply, set, --state-root=/x]\n{expect}"), "bad_value", "case.yaml:2:1"),
        ("story: s\nexpect: { exit: 3 }\n".to_owned(), "bad_value", "case.yaml:2:1"),
        ("story: s\nexpect: { exit: 0, codes: [expired] }\n".to_owned(), "bad_value", "case.yaml:2:1"),
        (format!("story: s\nstory: t\n{expect}"), "duplicate_key", "case.yaml:2:"),
        ("story: [".to_owned(), "syntax", "case.yaml:"),
    ] {
        let world = planted(&[("broken", &yaml)]);
        let said = play(&world, "").exits(1).stderr();
        assert!(said.starts_with(&format!("{code}: ")) && said.contains(place), "{yaml}\n{said}");
    }
    let world = World::empty();
    world.run("selftest hostile").exits(1).warns("source_not_found: there is no corpus in examples/hostile");
    play(&world, "").exits(1).warns("source_not_found: ").warns("has no folder `_world`");
    play(&planted(&[]), "").exits(1).warns("has no cases");
    let world = planted(&[("good", "story: s\nexpect: { exit: 0, changes: true }\n")]);
    world.edit("_world/world.yaml", "--trust-root, root.json", "--trust-root, nowhere.json");
    play(&world, "").exits(1).warns("the world's `init` or `activate` failed: source_not_found: ");
    let ran = world.run("selftest hostile --corpus nowhere --output json").exits(1);
    let value: Value = serde_json::from_str(&ran.stdout()).expect("JSON");
    assert_eq!(value["reasons"][0]["code"], "source_not_found");
}

#[test]
fn the_keys_of_the_corpus_sign_for_whoever_adds_to_it() {
    let world = planted(&[("mine", "story: s\nexpect: { exit: 3, codes: [scope_mismatch] }\n")]);
    let manifest = String::from_utf8(world.read("_world/files/set/manifest.json")).expect("UTF-8");
    std::fs::create_dir(world.path("mine/set")).expect("folder");
    world.write("mine/set/manifest.json", manifest.replace("\"pier-7\"", "\"pier-8\""));
    // One of each algorithm. Git keeps no mode that `sign` would take for private.
    for key in ["manifest-1", "manifest-3"] {
        let path = format!("_world/keys/{key}.key");
        std::fs::set_permissions(world.path(&path), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("chmod");
        world.run_with(&format!("sign mine/set/manifest.json --key {path}"), "hostile").exits(0);
    }
    play(&world, "").exits(0);
}

#[test]
fn nothing_is_left_behind() {
    let world = planted(&[("good", "story: s\nexpect: { exit: 0, changes: true }\n")]);
    let temporary = World::empty();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_autonomy"))
        .args(["selftest", "hostile", "--corpus", "."])
        .current_dir(world.path(""))
        .env("TMPDIR", temporary.path(""))
        .output()
        .expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_dir(temporary.path("")).expect("folder").count(), 0);
    assert!(output.stderr.is_empty(), "progress is for terminals: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_case_that_the_security_page_names_is_there() {
    let page = corpus().join("../../docs/security.md");
    let text = std::fs::read_to_string(page).expect("page");
    let rows = text.lines().filter(|line| line.starts_with("| ")).filter_map(|line| line.split('|').nth(3));
    // In the last column a word in backticks without `::` and `/` is a case.
    let named = rows.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let cases: Vec<&str> =
        named.filter(|name| !name.contains("::") && !name.contains('/') && *name != "status").collect();
    assert!(cases.len() > 60, "{cases:?}");
    for case in cases {
        assert!(corpus().join(case).join("case.yaml").is_file(), "docs/security.md names `{case}`");
    }
}

#[test]
fn a_case_cannot_reach_out_of_its_folder_and_a_pipe_does_not_hang() {
    let world = planted(&[
        (
            "escape",
            "story: s\nprepare: [{ symlink: { path: l, to: ../.. } }, { write: { path: l/a, text: x } }]\nexpect: { exit: 0 }\n",
        ),
        (
            "through",
            "story: s\nprepare: [{ symlink: { path: l, to: /etc/hostname } }, { append: { path: l, text: x, times: 1 } }]\nexpect: { exit: 0 }\n",
        ),
        ("pipe", "story: s\nexpect: { exit: 0 }\n"),
    ]);
    let made = std::process::Command::new("mkfifo").arg(world.path("pipe/left")).status();
    assert!(made.expect("mkfifo").success());
    let said = play(&world, "").exits(1);
    let text = said.stdout() + &said.stderr();
    for what in ["a link leads out of the folder", "a link lies where a file", "is no file, folder or link"] {
        assert!(text.contains(what), "no `{what}` in {text}");
    }
}
