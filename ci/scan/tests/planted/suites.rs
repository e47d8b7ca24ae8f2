//! `ci/run-suites` against small budgets: it must fail when it should.

use std::process::Command;

use crate::tree;

/// Runs the script with this budget; gives its exit code and what it printed.
fn run(budget: &str, only: &[&str]) -> (Option<i32>, String) {
    let dir = tree(&[("budget.toml", budget)]);
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../run-suites"))
        .args(only)
        .env("BUDGET_FILE", dir.path().join("budget.toml"))
        .output()
        .expect("the script starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

const GOOD: &str = "total = 5\nfails_at = 7\n[suites.one]\nminutes = 2\nrun = \"echo first; echo 'Summary of one'\"\n\
                    [suites.two]\nminutes = 3\nrun = \"printf 'second\\n     Summary [ 1s] 2 tests run\\n'\"\n";

#[test]
fn the_closing_line_of_the_last_suite_ends_the_output() {
    let (code, text) = run(GOOD, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.ends_with("     Summary [ 1s] 2 tests run\n"), "{text}");
    assert!(text.contains("Summary of one"), "{text}");
    // Two suites of no time may still meet the turn of a second each.
    let took = ["0m0s", "0m1s", "0m2s"].map(|took| format!("total                      {took}       5m  fails at 7m"));
    assert!(took.iter().any(|line| text.contains(line)), "{text}");
}

#[test]
fn a_failed_suite_fails_the_run_and_the_others_still_run() {
    let (code, text) = run(&GOOD.replace("echo first;", "exit 3;"), &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("FAILED (exit 3)") && text.contains("second"), "{text}");
    assert!(text.contains("run-suites: failed: one"), "{text}");
}

#[test]
fn too_long_a_run_and_too_generous_a_budget_fail() {
    let (code, text) = run(&GOOD.replace("echo first", "sleep 1.1").replace("fails_at = 7", "fails_at = 0"), &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("took longer than 0 minutes"), "{text}");

    let (code, text) = run(&GOOD.replace("total = 5", "total = 4"), &[]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("are given 5 minutes; the total is 4"), "{text}");
}

#[test]
fn one_suite_can_be_run_alone_and_a_wrong_name_is_an_error() {
    let (code, text) = run(GOOD, &["two"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("first"), "{text}");
    assert_eq!(run(GOOD, &["three"]).0, Some(2));
    assert_eq!(run("total = 5\nfails_at = 7\n", &[]).0, Some(2));
}

#[test]
fn the_real_budget_is_within_its_total_and_ends_with_nextest() {
    let budget = include_str!("../../../budget.toml");
    assert!(budget.contains("\ntotal = 55\n") && budget.contains("\nfails_at = 75\n"));
    let minutes = budget.lines().filter_map(|line| line.strip_prefix("minutes = ")?.parse::<u32>().ok());
    assert!(minutes.sum::<u32>() <= 55);
    let last = budget.lines().rfind(|line| line.starts_with("run = ")).expect("suites");
    assert!(last.contains("cargo nextest run"), "{last}");
}
