//! Nothing is taken without a cap, and nobody waits for ever.

use std::cell::Cell;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use autonomy_git::{GitError, GitOptions, fetch, tip};
use autonomy_schema::Code;
use autonomy_stateroot::{SetSource, SourceError};

use crate::fixture::{Repo, content, entry, listed, noise, open, options, url};
use crate::servers::{Https, Sshd};

fn left(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("lists");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_gigantic_repository_is_refused_and_nothing_is_kept() {
    let repo = Repo::with_set();
    repo.write("noise", &noise(4 * 1024 * 1024));
    repo.commit("noise");
    let (server, sshd) = (Https::plain(repo.dir.path()), Sshd::start());
    for (url, base) in
        [(server.url("open/fleet/.git"), server.options()), (sshd.url(&repo.path(), ""), sshd.options("user", "known"))]
    {
        let space = tempfile::tempdir().expect("a temporary folder");
        let bytes = GitOptions { max_bytes: 1024 * 1024, ca_file: None, ..base.clone() };
        let error = fetch(&url, space.path(), &bytes).expect_err("too large");
        assert!(matches!(error, GitError::TooLarge { .. }), "{error:?}");
        assert_eq!(error.to_reason().code, Code::SourceTooLarge);
        assert_eq!(left(space.path()), ["lock"]);
        let objects = GitOptions { max_objects: 3, ca_file: None, ..base.clone() };
        let error = fetch(&url, space.path(), &objects).expect_err("too many");
        assert!(error.to_string().contains("3 objects"), "{error}");
        assert_eq!(left(space.path()), ["lock"]);
        // The listing of refs counts too.
        let error = tip(&url, &GitOptions { max_bytes: 100, ca_file: None, ..base.clone() }).expect_err("too large");
        assert!(matches!(error, GitError::TooLarge { .. }), "{error:?}");
        let seen = Cell::new(0);
        let tell = |bytes| seen.set(bytes);
        let enough = GitOptions { ca_file: None, progress: Some(&tell), ..base };
        fetch(&url, space.path(), &enough).expect("fetches");
        assert!(seen.get() > 4 * 1024 * 1024, "progress told {}", seen.get());
    }
}

#[test]
fn a_file_beyond_the_cap_is_listed_but_not_read() {
    let repo = Repo::with_set();
    repo.write("dist/pier-7/noise", &noise(2000));
    repo.commit("noise");
    let small = GitOptions { max_blob_bytes: 1999, ..options() };
    let set = fetch(&repo.url("?path=dist/pier-7"), std::path::Path::new("/nonexistent"), &small).expect("opens");
    assert!(listed(&set).contains(&"file noise 2000".to_owned()));
    let error = content(&set, "noise").expect_err("too large");
    assert!(matches!(&error, SourceError::TooLarge { path, size: 2000, cap: 1999 } if path == "noise"), "{error:?}");
    assert_eq!(error.to_reason().code, Code::SourceTooLarge);
    assert!(content(&set, "manifest.json").is_ok());
}

#[test]
fn trees_that_name_each_other_many_times_are_refused() {
    let repo = Repo::with_set();
    let blob = repo.object("blob", b"x");
    let names: Vec<Vec<u8>> = (b'a'..=b'j').map(|name| vec![name]).collect();
    let tree = |mode: &str, id: &str| {
        let lines: Vec<u8> = names.iter().flat_map(|name| entry(mode, name, id)).collect();
        repo.object("tree", &lines)
    };
    let mut id = tree("100644", &blob);
    for _ in 0..8 {
        id = tree("40000", &id);
    }
    repo.commit_tree(&id);
    let error = open(&repo.url("")).expect("opens").list().expect_err("a bomb");
    assert!(matches!(error, SourceError::TooMany(_)), "{error:?}");
}

#[test]
fn a_silent_server_is_left_and_a_stop_is_heard() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = url(&format!("git+http://{}/x", listener.local_addr().expect("an address")));
    let short = GitOptions { silence: Duration::from_secs(1), ..options() };
    let error = tip(&url, &short).expect_err("silence");
    assert!(matches!(error, GitError::Silent { seconds: 1, .. }), "{error:?}");

    let cancel = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&cancel);
    std::thread::spawn(move || {
        let _first = listener.accept();
        let _second = listener.accept();
        stop.store(true, Ordering::Relaxed);
        std::thread::park();
    });
    let long = GitOptions { silence: Duration::from_secs(3600), cancel: Some(cancel), ..options() };
    let error = tip(&url, &long).expect_err("stopped");
    assert!(matches!(error, GitError::Cancelled { .. }), "{error:?}");
}

#[test]
fn a_stop_in_the_middle_of_a_pack_leaves_nothing() {
    let repo = Repo::with_set();
    repo.write("noise", &noise(4 * 1024 * 1024));
    repo.commit("noise");
    let server = Https::plain(repo.dir.path());
    let space = tempfile::tempdir().expect("a temporary folder");
    let cancel = Arc::new(AtomicBool::new(false));
    let tell = |_| cancel.store(true, Ordering::Relaxed);
    let options = GitOptions { cancel: Some(Arc::clone(&cancel)), progress: Some(&tell), ..options() };
    let error = fetch(&server.url("open/fleet/.git"), space.path(), &options).expect_err("stopped");
    assert!(matches!(error, GitError::Cancelled { .. }), "{error:?}");
    assert_eq!(left(space.path()), ["lock"]);
}
