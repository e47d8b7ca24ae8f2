//! The agent as the example fleet uses it.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

const AGENT: &str = env!("CARGO_BIN_EXE_autonomy-example-agent");

#[test]
fn it_answers_the_health_check_and_refuses_unknown_flags() {
    let output = Command::new(AGENT).arg("--selfcheck").output().expect("starts");
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).ends_with(": ready\n"));
    assert_eq!(Command::new(AGENT).arg("--nonsense").output().expect("starts").status.code(), Some(64));
}

#[test]
fn it_says_who_it_is_and_beats_until_a_signal_ends_it() {
    let mut agent = Command::new(AGENT).arg("node-a").stdout(Stdio::piped()).spawn().expect("starts");
    let mut lines = BufReader::new(agent.stdout.take().expect("piped")).lines();
    let mut line = || lines.next().expect("a line").expect("reads");
    assert!(line().contains("node-a: started as process"));
    assert!(line().ends_with("heartbeat 1"));
    agent.kill().expect("kill");
    assert!(!agent.wait().expect("wait").success());
}

#[test]
fn it_is_large_enough_to_be_worth_segments() {
    assert!(std::fs::metadata(AGENT).expect("exists").len() > 1 << 20);
}
