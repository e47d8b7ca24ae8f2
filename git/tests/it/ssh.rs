//! A real sshd.

use std::path::Path;

use autonomy_git::{Environment, GitError, GitOptions, fetch, tip};
use autonomy_schema::Code;

use crate::fixture::{Repo, content, git, listed, noise, options, url};
use crate::servers::Sshd;

#[test]
fn a_set_is_fetched_with_the_right_key() {
    let repo = Repo::with_set();
    repo.write("dist/pier-7/noise", &noise(300_000));
    repo.commit("second");
    let (server, space) = (Sshd::start(), tempfile::tempdir().expect("a temporary folder"));
    let options = server.options("user", "known");
    let url = server.url(&repo.path(), "?ref=main&path=dist/pier-7");
    assert_eq!(tip(&url, &options).expect("a tip").to_string(), repo.head());
    let set = fetch(&url, space.path(), &options).expect("fetches");
    assert_eq!(listed(&set), ["file artifacts/bin/agent 21", "file manifest.json 2", "file noise 300000"]);
    assert_eq!(content(&set, "noise").expect("reads"), noise(300_000));
    let kept = space.path().join(format!("{}.git", repo.head()));
    assert_eq!(git(&kept, &["rev-list", "--count", &repo.head()], b""), "1");
    // With all of it there, the second time transfers nothing.
    assert_eq!(fetch(&url, space.path(), &options).expect("fetches").commit(), set.commit());
}

#[test]
fn a_path_with_quotes_is_one_word_on_the_far_side() {
    let repo = Repo::with_set();
    let odd = repo.dir.path().join("it's; touch pwned; ! $(x)");
    std::fs::rename(repo.path(), &odd).expect("renames");
    let server = Sshd::start();
    let url = server.url(&odd, "");
    assert_eq!(
        tip(&url, &server.options("user", "known")).expect("a tip").to_string(),
        git(&odd, &["rev-parse", "HEAD"], b"")
    );
}

#[test]
fn keys_hosts_and_repositories_that_are_wrong_are_told_apart() {
    let repo = Repo::with_set();
    let server = Sshd::start();
    let url = server.url(&repo.path(), "");
    let both = |options: &GitOptions<'_>, url: &autonomy_git::GitUrl| {
        let space = tempfile::tempdir().expect("a temporary folder");
        let error = fetch(url, space.path(), options).expect_err("refused");
        assert_eq!(std::fs::read_dir(space.path()).expect("lists").count(), 1, "only the lock is left");
        assert_eq!(std::mem::discriminant(&error), std::mem::discriminant(&tip(url, options).expect_err("refused")));
        error
    };
    let stranger = both(&server.options("stranger", "known"), &url);
    assert!(matches!(stranger, GitError::Refused { .. }), "{stranger}");
    let unknown = both(&server.options("user", "absent"), &url);
    assert!(matches!(unknown, GitError::HostKey { .. }), "{unknown}");
    let changed = std::fs::read_to_string(server.folder.path().join("stranger.pub")).expect("reads");
    std::fs::write(server.folder.path().join("other"), format!("[127.0.0.1]:{} {changed}", server.port))
        .expect("write");
    let changed = both(&server.options("user", "other"), &url);
    assert!(matches!(changed, GitError::HostKey { .. }), "{changed}");
    let absent = both(&server.options("user", "known"), &server.url(&repo.dir.path().join("nowhere"), ""));
    assert!(matches!(absent, GitError::NotFound { .. }), "{absent}");
    assert_eq!(absent.to_reason().code, Code::SourceNotFound);
}

#[test]
fn a_client_that_does_not_work_is_named() {
    let with = |environment| GitOptions { environment, ..options() };
    let url = url("git+ssh://127.0.0.1:1/x");
    let environment = Environment { ssh: Some("/nonexistent/ssh".into()), ..Environment::default() };
    let error = tip(&url, &with(environment)).expect_err("no program");
    assert!(matches!(&error, GitError::Start { program, .. } if program == "/nonexistent/ssh"), "{error:?}");
    let environment =
        Environment { ssh_command: Some("sh -c 'echo no way >&2; exit 7' --".to_owned()), ..Environment::default() };
    let error = tip(&url, &with(environment)).expect_err("fails");
    assert!(error.to_string().contains("exit status: 7") && error.to_string().contains("no way"), "{error}");
    let error = fetch(&url, Path::new("/proc/nowhere"), &options()).expect_err("no workspace");
    assert_eq!(error.to_reason().code, Code::IoError);
}
