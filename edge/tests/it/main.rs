//! Wrong usage of `edged`, through the binary. What it does on a node is tested in `cli/tests/it/edged.rs`, beside the verbs
//! that make nodes. And the parts of the relay daemon, over real sockets and files.

#![expect(clippy::expect_used, clippy::panic, reason = "a fixture that cannot be made fails its test")]

mod memory;
mod store;
mod wire;
mod world;

use std::process::{Command, Output};

fn edged(arguments: &[&str]) -> std::io::Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edged"));
    command.args(arguments).env_remove("AUTONOMY_STATE_ROOT").output()
}

#[test]
fn wrong_usage_ends_with_64_and_says_what_is_right() {
    for (arguments, told) in [
        (&[][..], "precheck"),
        (&["precheck"], "--state-root"),
        (&["precheck", "--state-root", "x", "--output", "yaml"], "possible values"),
        (&["precheck", "--state-root", "x", "--now", "yesterday"], "RFC 3339"),
        (&["precheck", "--stateroot", "x"], "--state-root"),
        (&["run"], "--state-root"),
        (&["run", "--state-root", "x", "--memory-limit", "much"], "invalid value"),
    ] {
        let ran = edged(arguments).expect("runs");
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(64), "{arguments:?}: {said}");
        assert!(said.contains(told) && ran.stdout.is_empty(), "{arguments:?}: {said}");
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    for argument in ["--help", "--version"] {
        let ran = edged(&[argument]).expect("runs");
        assert_eq!(ran.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&ran.stdout).contains("edged") && ran.stderr.is_empty());
    }
    let help = edged(&["precheck", "--help"]).expect("runs").stdout;
    assert!(String::from_utf8_lossy(&help).contains("Exit codes: 0 clean"));
}

#[test]
fn a_folder_that_is_no_state_root_ends_with_2() {
    let ran = edged(&["precheck", "--state-root", "/proc/self", "--output", "json"]).expect("runs");
    assert_eq!(ran.status.code(), Some(2));
    let report: serde_json::Value = serde_json::from_slice(&ran.stdout).expect("JSON");
    assert_eq!(report["exit"], 2, "{report}");
    assert!(!report["findings"].as_array().expect("findings").is_empty(), "{report}");
}
