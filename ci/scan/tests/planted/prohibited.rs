//! One planted violation per rule, and the look-alikes that must pass.

use crate::{scan, tree, write};

fn findings(files: &[(&str, &str)]) -> Vec<String> {
    let dir = tree(files);
    let (code, lines, errors) = scan("prohibited", dir.path());
    assert_eq!(code, Some(i32::from(!lines.is_empty())), "{lines:?} {errors}");
    lines
}

/// The rules that the file breaks, in order.
fn rules(path: &str, text: &str) -> Vec<String> {
    let lines = findings(&[(path, text)]);
    lines.iter().map(|line| line.split(": ").nth(1).expect("place: rule: what").to_owned()).collect()
}

#[test]
fn clean_code_passes() {
    let text = "//! About `#[ignore]`, unsafe and std::net in words.\n#![forbid(unsafe_code)]\n\
                const S: &str = \"todo!() #[ignore] unsafe std::net::TcpStream\";\nfn f(todo: u8) -> bool { todo != 3 }\n";
    assert_eq!(rules("plan/src/lib.rs", text), [""; 0]);
}

#[test]
fn tests_that_are_switched_off_are_caught() {
    assert_eq!(rules("cli/tests/a.rs", "#[test]\n#[ignore]\nfn f() {}"), ["ignored-test"]);
    assert_eq!(rules("cli/tests/a.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}"), ["ignored-test"]);
    assert_eq!(rules("cli/tests/a.rs", "#[test]\n#[cfg_attr(all(), ignore)]\nfn f() {}"), ["ignored-test"]);
    assert_eq!(rules("cli/src/a.rs", "/// ```ignore\n/// f();\n/// ```\nfn f() {}"), ["ignored-test"]);
}

#[test]
fn unfinished_work_is_caught() {
    assert_eq!(rules("cli/src/a.rs", "fn f() { todo!() }"), ["unfinished"]);
    assert_eq!(rules("cli/src/a.rs", "fn f() { std::unimplemented!(\"later\") }"), ["unfinished"]);
    assert_eq!(rules("cli/src/a.rs", concat!("// FIX", "ME: later\nfn f() {}")), ["unfinished"]);
    assert_eq!(rules("bench/run", concat!("#!/bin/sh\n# XX", "X\n")), ["unfinished"]);
    assert_eq!(rules("bench/run", "#!/bin/sh\nmktemp -d /tmp/aXXXXXX\n"), [""; 0]);
}

#[test]
fn unsafe_code_is_caught() {
    assert_eq!(rules("edge/src/a.rs", "fn f() { unsafe { g() } }"), ["unsafe"]);
    assert_eq!(rules("edge/src/a.rs", "unsafe impl Send for X {}"), ["unsafe"]);
    assert_eq!(rules("edge/src/a.rs", "#[unsafe(no_mangle)]\nfn f() {}"), ["unsafe"]);
    assert_eq!(rules("edge/src/a.rs", "macro_rules! m { () => { unsafe { g() } } }"), ["unsafe"]);
}

#[test]
fn the_one_file_that_may_be_unsafe_may_be_so_once() {
    let once = "fn f() { unsafe { g() } }";
    assert_eq!(rules("git/src/register.rs", once), [""; 0]);
    assert_eq!(rules("git/src/register.rs", &format!("{once}\n{once}")), ["unsafe"]);
    for path in ["git/src/lib.rs", "git/src/register/deeper.rs", "git/tests/it/register.rs", "cli/git/src/register.rs"]
    {
        assert_eq!(rules(path, once), ["unsafe"], "{path}");
    }
}

#[test]
fn the_network_is_caught_where_it_is_banned() {
    for room in ["apply", "plan", "trust", "schema"] {
        let path = format!("{room}/src/deep/er.rs");
        assert_eq!(rules(&path, "use std::net::TcpStream;"), ["network"], "{room}");
        assert_eq!(rules(&path, "use std::{fmt, net};"), ["network"], "{room}");
        assert_eq!(rules(&path, "fn f() { let _ = std::os::unix::net::UnixStream::pair(); }"), ["network"], "{room}");
        assert_eq!(rules(&path, "use std as s;"), ["hidden-std"], "{room}");
        assert_eq!(rules(&path, "use std::*;"), ["hidden-std"], "{room}");
    }
    assert_eq!(rules("edge/src/a.rs", "use std::net::TcpStream;"), [""; 0]);
}

#[test]
fn processes_are_caught_where_they_are_banned() {
    for room in ["plan", "trust", "schema", "apply"] {
        assert_eq!(rules(&format!("{room}/src/a.rs"), "fn f() { std::process::exit(1) }"), ["process"], "{room}");
    }
    assert_eq!(rules("apply/src/exec.rs", "use std::process::Command;"), [""; 0]);
    assert_eq!(rules("apply/src/exec/deeper.rs", "use std::process::Command;"), ["process"]);
    assert_eq!(rules("git/src/ssh.rs", "use std::process::Command;"), [""; 0]);
    for path in ["git/src/http.rs", "git/src/ssh/deeper.rs"] {
        assert_eq!(rules(path, "use std::process::Command;"), ["process"], "{path}");
        assert_eq!(
            rules(path, "fn f(c: &mut C) { std::os::unix::process::CommandExt::exec(c); }"),
            ["process"],
            "{path}"
        );
    }
}

#[test]
fn clocks_disks_and_environment_are_caught_in_pure_crates() {
    for room in ["plan", "trust", "schema"] {
        let path = format!("{room}/src/a.rs");
        assert_eq!(rules(&path, "use std::time::{Duration, Instant};"), ["clock"], "{room}");
        assert_eq!(rules(&path, "fn f() { let _ = jiff::Timestamp::now(); }"), ["clock"], "{room}");
        assert_eq!(rules(&path, "fn f() { let _ = vec![SystemTime::now()]; }"), ["clock"], "{room}");
        assert_eq!(rules(&path, "fn f() { let _ = std::fs::read(\"x\"); }"), ["disk"], "{room}");
        assert_eq!(rules(&path, "fn f() { let _ = std::env::var(\"x\"); }"), ["environment"], "{room}");
    }
    assert_eq!(rules("plan/src/a.rs", "use std::time::Duration;"), [""; 0]);
}

#[test]
fn convergence_and_election_are_caught_in_the_edge_wing_under_any_name() {
    for room in ["relay", "edge", "precheck", "sets"] {
        let path = format!("{room}/src/deep/er.rs");
        for text in [
            "struct VectorClock;",
            "fn gossip_round() {}",
            "use crdts::Orswot;",
            "mod anti_entropy;",
            "const MERKLE_SYNC: u8 = 1;",
            "enum E { VersionVectors }",
        ] {
            assert_eq!(rules(&path, text), ["INV-02"], "{room}: {text}");
        }
        for text in [
            "use openraft as x;",
            "struct Leader;",
            "fn f(quorum: u8) -> u8 { quorum }",
            "mod paxos;",
            "fn election() {}",
        ] {
            assert!(rules(&path, text).iter().any(|rule| rule == "INV-03"), "{room}: {text}");
        }
        assert_eq!(rules(&path, "#[cfg(test)]\nmod tests { struct Gossip; struct Leader; }"), [""; 0]);
        assert_eq!(
            rules(&path, "fn f(selected: u8, aircraft: u8) -> u8 { selected + aircraft } // the leader gossips"),
            [""; 0]
        );
    }
    assert_eq!(rules("orchestrator/src/a.rs", "struct Leader; fn gossip() {}"), [""; 0]);
}

#[test]
fn what_differs_from_run_to_run_is_caught_in_relay() {
    for text in [
        "use std::collections::HashMap;",
        "use std::collections::{BTreeMap, HashSet};",
        "fn f<H>(of: HashMap<u8, u8, H>) -> usize { of.len() }",
        "use std::hash::RandomState;",
        "fn f() -> u8 { rand::random() }",
        "fn f(rng: &mut impl Rng) {}",
    ] {
        let found = rules("relay/src/a.rs", text);
        assert!(!found.is_empty() && found.iter().all(|rule| rule == "INV-11"), "{text}: {found:?}");
    }
    for text in ["use std::time::Instant;", "use std::time::SystemTime;"] {
        assert_eq!(rules("relay/src/a.rs", text), ["INV-11", "clock"], "{text}");
    }
    assert_eq!(rules("relay/src/a.rs", "use std::collections::{BTreeMap, BTreeSet}; fn f(operand: u8) {}"), [""; 0]);
    assert_eq!(rules("edge/src/a.rs", "use std::collections::HashMap; use std::time::Instant;"), [""; 0]);
}

#[test]
fn tests_of_a_pure_crate_are_free_but_the_code_behind_them_is_not() {
    let text = "#[cfg(test)]\nmod tests { use std::fs; }\n";
    assert_eq!(rules("plan/src/a.rs", text), [""; 0]);
    assert_eq!(rules("plan/src/a.rs", &format!("{text}use std::fs;")), ["disk"]);
    assert_eq!(rules("plan/tests/a.rs", "use std::process::Command;"), [""; 0]);
    assert_eq!(rules("plan/src/a/tests.rs", "use std::fs;"), [""; 0]);
}

#[test]
fn files_that_are_too_long_are_caught() {
    assert_eq!(rules("cli/src/a.rs", &"//\n".repeat(600)), [""; 0]);
    assert_eq!(rules("cli/src/a.rs", &"//\n".repeat(601)), ["too-long"]);
    assert_eq!(rules("cli/src/lib.rs", &"//\n".repeat(121)), ["too-long"]);
    assert_eq!(rules("bench/run", &format!("#!/bin/sh\n{}", "#\n".repeat(600))), ["too-long"]);
    assert_eq!(rules("docs/long.md", &"line\n".repeat(900)), [""; 0]);
}

#[test]
fn machine_paths_and_registry_hosts_are_caught_in_any_text() {
    assert_eq!(rules("docs/a.md", concat!("see `/wo", "rk/main`")), ["machine-path"]);
    assert_eq!(rules("golden/a.json", concat!("{\"a\":\"/ro", "ot/x\"}")), ["machine-path"]);
    assert_eq!(rules("Cargo.lock", concat!("source = \"registry+sparse", "+http://mirror.example/\"")), ["registry"]);
    assert_eq!(rules(".cargo/config.toml", concat!("replace-", "with = \"mirror\"")), ["registry"]);
    assert_eq!(rules("web/lock.json", concat!("\"https://registry.", "npmjs.org/x\"")), ["registry"]);
    let lock = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    assert_eq!(rules("Cargo.lock", lock), [""; 0]);
    assert_eq!(rules("docs/a.md", concat!("trust/root.json and bench/wo", "rk/")), [""; 0]);
}

#[test]
fn a_crate_that_does_nothing_is_caught() {
    let manifest = ("room/Cargo.toml", "[package]\nname = \"room\"\n");
    for text in ["fn main() {}", "pub mod a;", "#[cfg(test)]\nmod t { #[test] fn f() { assert!(true) } }"] {
        assert_eq!(
            findings(&[manifest, ("room/src/lib.rs", text)]),
            ["room: empty-crate: no function in src/ does anything"],
            "{text}"
        );
    }
    assert_eq!(findings(&[manifest, ("room/src/lib.rs", "fn f() -> u8 { 1 }")]), [""; 0]);
    assert_eq!(findings(&[("Cargo.toml", "[workspace]\n")]), [""; 0]);
}

#[test]
fn activation_takes_local_types_alone() {
    let activation = |text: &str| {
        let manifest = ("apply/Cargo.toml", "[package]\nname = \"autonomy-apply\"\n");
        findings(&[manifest, ("apply/src/activate.rs", text)])
    };
    let good = "use std::path::Path;\nuse autonomy_stateroot::{StateRoot, disk::Disk as D};\nstruct Own;\n\
                impl Own { pub fn go<F: Fn(&Own)>(self, a: &StateRoot, b: &dyn D, c: Option<&Path>, d: F) -> u8 { 1 } }\n\
                #[cfg(test)]\nmod tests { fn helper(a: std::net::IpAddr) {} }";
    assert_eq!(activation(good), [""; 0]);
    let head = "apply/src/activate.rs:2: INV-06: `go` takes";
    for (text, taken) in [
        ("use reqwest::Client;\npub fn go(a: &Client) -> u8 { 1 }", "reqwest::Client"),
        ("use reqwest as autonomy;\npub fn go(a: &autonomy::Client) -> u8 { 1 }", "reqwest::Client"),
        ("\npub fn go(a: Vec<url::Url>) -> u8 { 1 }", "url::Url"),
        ("use tokio::net::TcpStream;\nfn go<T: Into<TcpStream>>(a: T) -> u8 { 1 }", "tokio::net::TcpStream"),
        ("use tokio::io::AsyncRead;\nfn go<T>(a: T) -> u8 where T: AsyncRead { 1 }", "tokio::io::AsyncRead"),
        ("use tokio::io::AsyncRead;\nfn go(a: impl AsyncRead) -> u8 { 1 }", "tokio::io::AsyncRead"),
        ("struct S; impl S {\nfn go(&self, a: fn(hyper::Uri)) -> u8 { 1 } }", "hyper::Uri"),
        ("use hyper::*;\nfn go(a: Uri) -> u8 { 1 }", "Uri"),
    ] {
        assert_eq!(activation(text), [format!("{head} `{taken}`, which is not a local type")], "{text}");
    }
    // `std::net` breaks two rules.
    assert_eq!(activation("\nfn go(a: std::net::IpAddr) -> u8 { 1 }").len(), 2);
    assert_eq!(activation("use std::path;").len(), 2, "no function, and so an empty crate too");
}

#[test]
fn a_missing_activation_room_and_a_file_that_does_not_lex_are_caught() {
    let manifest = ("apply/Cargo.toml", "[package]\nname = \"autonomy-apply\"\n");
    assert_eq!(
        findings(&[manifest, ("apply/src/lib.rs", "fn f() -> u8 { 1 }")]),
        ["apply/src/activate.rs: INV-06: is missing; the activation functions live here"]
    );
    assert_eq!(rules("cli/src/a.rs", "fn f( {"), ["unreadable"]);
}

#[test]
fn with_git_only_what_it_tracks_or_would_track_is_scanned() {
    let dir = tree(&[(".gitignore", "/out\n"), ("out/a.rs", "fn f() { todo!() }"), ("b.rs", "fn f() { todo!() }")]);
    let git = std::process::Command::new("git").args(["init", "-q"]).current_dir(dir.path()).status().expect("git");
    assert!(git.success());
    let (_, lines, _) = scan("prohibited", dir.path());
    assert_eq!(lines, ["b.rs:1: unfinished: `todo!`"]);
    write(dir.path(), "b.rs", "fn f() {}");
    assert_eq!(scan("prohibited", dir.path()).0, Some(0));
}

#[test]
fn a_folder_that_does_not_exist_is_an_error_not_a_clean_scan() {
    let dir = tree(&[]);
    assert_eq!(scan("prohibited", &dir.path().join("absent")).0, Some(2));
}
