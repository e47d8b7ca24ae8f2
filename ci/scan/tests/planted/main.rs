//! Every rule of the scanners has a planted violation here that must be caught, and a clean tree that must pass.

#![expect(clippy::expect_used, reason = "the helpers of tests may panic, as tests do")]

mod dependencies;
mod prohibited;
mod suites;

use std::path::Path;
use std::process::Command;

/// A folder with the given files.
fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (path, text) in files {
        write(dir.path(), path, text);
    }
    dir
}

fn write(root: &Path, path: &str, text: &str) {
    let whole = root.join(path);
    std::fs::create_dir_all(whole.parent().expect("has a parent")).expect("mkdir");
    std::fs::write(whole, text).expect("write");
}

/// Runs the scanner; gives its exit code, its findings and its errors.
fn scan(verb: &str, root: &Path) -> (Option<i32>, Vec<String>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_autonomy-scan"))
        .args([verb, "--root"])
        .arg(root)
        .env("CARGO_NET_OFFLINE", "true")
        .output()
        .expect("the scanner starts");
    let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    // The last line is the count.
    lines.pop();
    (output.status.code(), lines, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_wrong_call_is_a_usage_error() {
    for args in [&[][..], &["nonsense"], &["prohibited", "--root"], &["prohibited", "--root", ".", "more"]] {
        let status = Command::new(env!("CARGO_BIN_EXE_autonomy-scan")).args(args).output().expect("starts").status;
        assert_eq!(status.code(), Some(64), "{args:?}");
    }
}
