//! Git as the source, through the binary: a plan of a commit, and a node that follows a branch.

use std::process::Command;

use serde_json::Value;

use crate::node::Site;
use crate::reconcile::{Loop, await_round};

/// Runs git in the repository `fleet` of the site.
fn git(site: &Site, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(site.world.path("fleet"))
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_COMMITTER_NAME", "ada")])
        .envs([("GIT_AUTHOR_NAME", "ada"), ("GIT_AUTHOR_EMAIL", "a@b"), ("GIT_COMMITTER_EMAIL", "a@b")])
        .output()
        .expect("git");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

/// A repository whose branch `main` holds a set at `dist/pier-7`; gives the source's name.
fn repository(site: &Site, set: &str) -> String {
    std::fs::create_dir_all(site.world.path("fleet/dist")).expect("folder");
    git(site, &["init", "--quiet", "--initial-branch", "main"]);
    commit(site, set);
    format!("git+file://{}?ref=main&path=dist/pier-7", site.world.path("fleet").display())
}

/// Commits another set in its place; gives the commit.
fn commit(site: &Site, set: &str) -> String {
    std::fs::remove_dir_all(site.world.path("fleet/dist/pier-7")).ok();
    site.copy(set, "fleet/dist/pier-7");
    git(site, &["add", "--all"]);
    git(site, &["commit", "--quiet", "--message", set]);
    git(site, &["rev-parse", "HEAD"])
}

fn outcome(round: &Value) -> &str {
    round["outcome"].as_str().unwrap_or_default()
}

fn audit(site: &Site) -> String {
    String::from_utf8(site.world.read("node/audit/audit.jsonl")).expect("UTF-8")
}

#[test]
fn a_commit_is_planned_and_applied_and_its_id_is_kept() {
    let site = Site::running();
    site.set("two", 2);
    let source = repository(&site, "two");
    let id = git(&site, &["rev-parse", "HEAD"]);
    let before = site.snapshot_all();
    let plan = site.node(&format!("plan {source} --output json --out plan.json")).exits(0).stdout();
    assert!(before == site.snapshot_all(), "planning wrote to the state root");
    let plan: Value = serde_json::from_str(&plan).expect("JSON");
    assert_eq!(plan["revision"], format!("commit:{id}"));
    assert_eq!(plan.get("source"), None, "an absolute path stays out of plans");
    let folder: Value = serde_json::from_str(&site.node("plan two --output json").exits(0).stdout()).expect("JSON");
    assert_eq!(folder["plan_id"], plan["plan_id"], "the way that a set came is no part of what is done");
    site.node(&format!("apply plan.json --source {source}")).exits(0);
    site.is_whole(&[2]);
    assert!(audit(&site).contains(&format!("commit:{id}")), "{}", audit(&site));
    site.node(&format!("diff {source}")).exits(0);
    site.world.run(&format!("verify {source} --trust-root root.json")).exits(0);
}

#[test]
fn what_is_wrong_with_a_source_is_named() {
    let site = Site::running();
    site.set("two", 2);
    let source = repository(&site, "two");
    let base = format!("git+file://{}", site.world.path("fleet").display());
    let before = site.snapshot();
    for (name, exit, code) in [
        (format!("{base}?ref=nowhere&path=dist/pier-7"), 1, "source_not_found: "),
        (format!("{base}?ref=main&path=dist/pier-9"), 1, "source_not_found: "),
        (format!("{base}x?ref=main&path=dist/pier-7"), 1, "source_not_found: "),
        (format!("{base}?ref=main&path=../etc"), 3, "bad_value: "),
        (format!("{base}?branch=main"), 3, "bad_value: "),
        ("git+https://ada:secret-word@git.example/fleet".to_owned(), 3, "bad_value: the URL holds a password"),
        ("git+http://git.example/fleet".to_owned(), 3, "bad_value: "),
        ("git+ssh://-oProxyCommand=x/fleet".to_owned(), 3, "bad_value: "),
        ("release:https://releases.example/fleet#stable".to_owned(), 5, "not_built: "),
        (format!("{base}?ref=main"), 9, "missing_file: "),
    ] {
        let ran = site.node(&format!("apply {name} --auto-approve")).exits(exit).warns(code);
        assert!(!ran.stderr().contains("secret-word"), "{}", ran.stderr());
    }
    assert!(before == site.snapshot(), "a refusal changed the state root");
    // A commit that holds a set which nobody signed.
    site.copy("two", "forged");
    site.world.write("forged/manifest.json.sigstore.jsonl", "");
    commit(&site, "forged");
    site.node(&format!("apply {source} --auto-approve")).exits(3).warns("below_threshold: ");
    site.is_whole(&[1]);
}

#[test]
fn a_node_follows_a_branch_through_all_that_happens_to_it() {
    let site = Site::bare();
    for (name, serial) in [("one", 1), ("two", 2), ("three", 3)] {
        site.set(name, serial);
    }
    let source = repository(&site, "one");
    let first = git(&site, &["rev-parse", "HEAD"]);
    let running = Loop::start(&site, &source);
    let applied = |what: &str, prefix: &'static str| {
        await_round(&site, what, move |round| {
            outcome(round) == "applied" && round["generation"].as_str().is_some_and(|name| name.starts_with(prefix))
        })
    };
    assert_eq!(applied("first", "1-")["tip"], format!("commit:{first}"));
    let second = commit(&site, "two");
    assert_eq!(applied("update", "2-")["tip"], format!("commit:{second}"));
    // Forced back to the first commit: the serial is a named refusal, and the node stays where it is.
    git(&site, &["reset", "--quiet", "--hard", &first]);
    await_round(&site, "refusal", |round| {
        outcome(round) == "refused" && round["reasons"][0]["code"] == "serial_too_low"
    });
    site.is_whole(&[2]);
    // Vanished, and back with something newer.
    std::fs::rename(site.world.path("fleet"), site.world.path("gone")).expect("renames");
    await_round(&site, "failure", |round| {
        outcome(round) == "failed" && round["reasons"][0]["code"] == "source_not_found"
    });
    std::fs::rename(site.world.path("gone"), site.world.path("fleet")).expect("renames");
    commit(&site, "three");
    applied("recovery", "3-");
    // Corrupted: a loose object of the new commit holds other bytes.
    // The branch moves when the damage is done.
    site.set("four", 4);
    git(&site, &["checkout", "--quiet", "--detach"]);
    let damaged = commit(&site, "four");
    let blob = git(&site, &["rev-parse", &format!("{damaged}:dist/pier-7/manifest.json")]);
    let object = site.world.path(&format!("fleet/.git/objects/{}/{}", &blob[..2], &blob[2..]));
    let whole = std::fs::read(&object).expect("reads");
    std::fs::remove_file(&object).expect("removes");
    std::fs::write(&object, &whole[..whole.len() / 2]).expect("writes");
    git(&site, &["update-ref", "refs/heads/main", &damaged]);
    await_round(&site, "damage", |round| {
        round["tip"] == format!("commit:{damaged}") && matches!(outcome(round), "failed" | "refused")
    });
    site.is_whole(&[3]);
    assert_eq!(running.end(), Some(0));
    let audit = audit(&site);
    assert!(audit.contains(&first) && audit.contains(&second), "{audit}");
}

#[test]
fn https_goes_through_the_proxy_that_the_environment_names_and_nowhere_else() {
    let site = Site::running();
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = proxy.local_addr().expect("address");
    let asked = std::thread::spawn(move || {
        let (stream, _) = proxy.accept().expect("connects");
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(&stream), &mut line).expect("asks");
        line
    });
    let output = Command::new(env!("CARGO_BIN_EXE_autonomy"))
        .args(["plan", "git+https://git.example/fleet.git", "--state-root", "node"])
        .current_dir(site.world.path(""))
        .env_clear()
        .env("HTTPS_PROXY", format!("http://{address}"))
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("source_error: "), "{told}");
    assert_eq!(asked.join().expect("asked").trim(), "CONNECT git.example:443 HTTP/1.1");
}

#[test]
fn ssh_is_the_program_that_git_ssh_names_with_the_host_behind_its_options() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Site::running();
    site.world.write("ssh", "#!/bin/sh\nprintf '%s\\n' \"$@\" > asked.txt\nexit 7\n");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(site.world.path("ssh"), mode).expect("executable");
    let output = Command::new(env!("CARGO_BIN_EXE_autonomy"))
        .args(["plan", "git+ssh://git@git.example:2222/srv/fleet.git", "--state-root", "node"])
        .current_dir(site.world.path(""))
        .env_clear()
        .env("GIT_SSH", site.world.path("ssh"))
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let asked = String::from_utf8(site.world.read("asked.txt")).expect("UTF-8");
    assert!(asked.contains("BatchMode=yes\n") && asked.contains("\n2222\n"), "{asked}");
    assert!(asked.ends_with("-l\ngit\n--\ngit.example\ngit-upload-pack '/srv/fleet.git'\n"), "{asked}");
}
