//! The stories of the relay, with the programs of this build: what they tell, in order, and how they end.

use std::path::Path;
use std::process::Command;

/// Runs a story without its pauses; gives what it told.
fn told(script: &str, environment: &[(&str, &str)]) -> String {
    let beside = |program: &str| Path::new(env!("CARGO_BIN_EXE_autonomy")).with_file_name(program);
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(script))
        .env("AUTONOMY", beside("autonomy"))
        .env("EDGED", beside("edged"))
        .env("EDGECTL", beside("edgectl"))
        .env("STORY_PACE", "0")
        .envs(environment.iter().copied())
        .output()
        .expect("runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    told
}

/// Demands these texts, each after the one before it.
#[track_caller]
fn tells(told: &str, texts: &[&str]) {
    let mut rest = told;
    for text in texts {
        let at = rest.find(text);
        assert!(at.is_some(), "no `{text}` in the rest of\n{told}");
        rest = &rest[at.unwrap_or_default() + text.len()..];
    }
}

#[test]
fn the_opening_story_is_told() {
    tells(
        &told("examples/story/run", &[]),
        &[
            "== 1. Two nodes and a stick; no server, no network but a wire between the two\n",
            "== 2. A stick seeds node A\n",
            "imported: harbor-fleet 1.0.0 (serial 1), blake3:",
            "\nagent 1.0.0 runs on A.",
            "== 3. A relays to B the very bytes that it verified, and B verifies them again\n",
            "\nagent 1.0.0 runs on B.",
            "hop 0  node-a  from no peer",
            "hop 1  node-b  from node-a\n",
            "== 4. B's operating system is replaced; the disk of its state root stays\n",
            "  ~ versionId: 12 -> 13\n",
            "would rebuild:\n",
            "\nrebuilt:\n",
            "\nagent 1.0.0 runs on B again: ",
            "== 5. B is reached again, and goes on: release 1.1.0\n",
            "\nagent 1.1.0 runs on B.",
            "== 6. Release 2.0.0 needs a radio that B does not have; it is signed by everybody\n",
            "policy_denied: ",
            "(exit code 4)\n",
            "its own policy said no: agent 1.1.0 runs on.\n",
            "== The end\n\nA stick, two nodes, a new operating system, and a no that held. No server anywhere.\n",
        ],
    );
}

#[test]
fn the_fleet_is_updated_by_relay_along_a_chain_in_a_star_and_after_a_partition() {
    tells(
        &told("examples/relay-fleet/run", &[]),
        &[
            "== 1. Five nodes\n",
            "== 2. A chain: A - B - C - D - E. Serial 1 comes to A on a stick\n",
            "All five run serial 1. A has never reached C, D or E, and knows by the receipts that came back through B:\n",
            "hop 4  node-e  from node-d\n",
            "== 3. A star: A reaches everybody.",
            "All five run serial 2:\n",
            "== 4. The network falls apart: A and B here, C, D and E there. Serial 3 reaches B and no further\n",
            "B and C find each other again:\n",
            "== 5. The mission layer of B and C is killed; the relay goes on\n",
            "== 6. edged of E is killed; plan and apply go on\n",
            "\nDone: one stick, five nodes, no server.\n",
        ],
    );
}

#[test]
fn the_lab_of_dead_letters_ends_as_it_says() {
    tells(
        &told("examples/deadletter/run", &[]),
        &[
            "== 2. Five attempts were made, each counted before its first byte; then the delivery ended\n",
            "== 3. It is not tried again: not by asking, not by starting edged anew\n",
            "(exit code 64)\n",
            "Started anew, A says the same: 5 attempts.\n",
            "== 5. Sent at 256 KiB a second: what was measured, beside what is allowed\n",
            "\nDone: refused five times, ended, told, and mended by a new manifest.\n",
        ],
    );
}

/// FI-C1-03, without namespaces: anybody can run it.
#[test]
fn fi_mission_process_kill_relay_unaffected() {
    let told = told("ci/fi/FI-C1-03_mission_kill.sh", &[("STORY_NETWORK", "loopback")]);
    tells(
        &told,
        &["B's edged (the same process) received serial 2 and answers; B runs serial 1\n", "FI-C1-03: passed\n"],
    );
}

/// FI-C4-01 between two real daemons.
#[test]
fn fail_relay_deadletter() {
    let told = told("ci/fi/FI-C4-01_retry_exhaustion.sh", &[("STORY_NETWORK", "loopback")]);
    tells(
        &told,
        &["terminal after 5 attempts\n", "after SIGKILL, a start anew and the window: still 5\n", "FI-C4-01: passed\n"],
    );
}
