//! The folder of fetched repositories.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use autonomy_git::{GitError, GitOptions, fetch, tip};
use autonomy_schema::Code;

use crate::fixture::{Repo, content, listed, noise, options};
use crate::servers::Https;

/// The names in a workspace, but for the lock.
fn kept(space: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(space)
        .expect("lists")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name != "lock")
        .collect();
    names.sort();
    names
}

fn git_dir(commit: &str) -> String {
    format!("{commit}.git")
}

/// Something done to a pack.
type Damage = fn(&Path);

#[test]
fn a_force_pushed_branch_replaces_what_was_kept() {
    let repo = Repo::with_set();
    let (server, space) = (Https::plain(repo.dir.path()), tempfile::tempdir().expect("a temporary folder"));
    let url = server.url("open/fleet/.git?ref=main");
    let first = repo.head();
    let seen = tip(&url, &options()).expect("a tip");
    assert_eq!(seen.to_string(), first);
    let old = fetch(&url, space.path(), &options()).expect("fetches");
    assert_eq!(kept(space.path()), [git_dir(&first)]);
    repo.write("dist/pier-7/more", b"more");
    repo.git(&["add", "--all"]);
    repo.git(&["commit", "--quiet", "--amend", "-m", "rewritten"]);
    let second = repo.head();
    assert_ne!(first, second);
    // The ref moved between the question and the fetch: what comes is what is there now, and it says so.
    let new = fetch(&url, space.path(), &options()).expect("fetches");
    assert_eq!(new.commit().to_string(), second);
    assert_eq!(listed(&new).len(), 4);
    // The old one is still read, so it is still there.
    assert_eq!(kept(space.path()).len(), 2);
    assert_eq!(content(&old, "dist/pier-7/manifest.json").expect("reads"), b"{}");
    drop(old);
    repo.git(&["commit", "--quiet", "--amend", "-m", "rewritten again"]);
    let third = fetch(&url, space.path(), &options()).expect("fetches");
    drop(new);
    assert_eq!(kept(space.path()).len(), 2);
    repo.git(&["commit", "--quiet", "--amend", "-m", "and again"]);
    drop(third);
    fetch(&url, space.path(), &options()).expect("fetches");
    assert_eq!(kept(space.path()), [git_dir(&repo.head())]);
}

fn pack_of(space: &Path, commit: &str) -> PathBuf {
    let folder = space.join(git_dir(commit)).join("objects/pack");
    std::fs::read_dir(folder)
        .expect("lists")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension().is_some_and(|end| end == "pack"))
        .expect("a pack")
}

#[test]
fn what_is_kept_is_used_again_and_made_anew_when_it_is_damaged() {
    let repo = Repo::with_set();
    let bytes = noise(64 * 1024);
    repo.write("dist/pier-7/noise", &bytes);
    let commit = repo.commit("noise");
    let (server, space) = (Https::plain(repo.dir.path()), tempfile::tempdir().expect("a temporary folder"));
    let by_name = server.url("open/fleet/.git?ref=main&path=dist/pier-7");
    let by_id = server.url(&format!("open/fleet/.git?ref={commit}&path=dist/pier-7"));
    // nginx writes a line after the client has its answer.
    let read = || std::fs::read_to_string(server.folder.path().join("access.log")).expect("reads");
    let log = || {
        let mut text = read();
        loop {
            std::thread::sleep(std::time::Duration::from_millis(300));
            let later = read();
            if later == text {
                return text;
            }
            text = later;
        }
    };
    let packs = || log().matches("POST ").count();
    drop(fetch(&by_name, space.path(), &options()).expect("fetches"));
    let after_first = packs();
    drop(fetch(&by_name, space.path(), &options()).expect("fetches"));
    let asked = log().lines().count();
    drop(fetch(&by_id, space.path(), &options()).expect("fetches"));
    assert_eq!((packs(), log().lines().count()), (after_first, asked), "the kept one serves");

    let damages: [(&str, Damage); 4] = [
        ("a flipped byte", |pack| {
            let mut bytes = std::fs::read(pack).expect("reads");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::remove_file(pack).expect("removes");
            std::fs::write(pack, bytes).expect("write");
        }),
        ("a torn pack", |pack| {
            let bytes = std::fs::read(pack).expect("reads");
            std::fs::remove_file(pack).expect("removes");
            std::fs::write(pack, &bytes[..bytes.len() / 2]).expect("write");
        }),
        ("no pack", |pack| std::fs::remove_file(pack).expect("removes")),
        ("no HEAD", |pack| std::fs::remove_file(pack.with_file_name("../../HEAD")).expect("removes")),
    ];
    for (name, damage) in damages {
        let pack = pack_of(space.path(), &commit);
        damage(&pack);
        let before = packs();
        let set = fetch(&by_id, space.path(), &options()).expect(name);
        assert!(packs() > before, "{name}: was not fetched anew");
        assert_eq!(content(&set, "noise").expect(name), bytes, "{name}");
    }
}

#[test]
fn what_a_killed_fetch_left_is_removed_and_strangers_are_not() {
    let repo = Repo::with_set();
    let (server, space) = (Https::plain(repo.dir.path()), tempfile::tempdir().expect("a temporary folder"));
    std::fs::create_dir_all(space.path().join("new.git/objects/pack")).expect("mkdir");
    std::fs::write(space.path().join("new.git/objects/pack/pack_git2_x"), "half").expect("write");
    std::fs::create_dir(space.path().join(git_dir(&"1".repeat(40)))).expect("mkdir");
    std::fs::write(space.path().join("notes.git"), "somebody's").expect("write");
    fetch(&server.url("open/fleet/.git"), space.path(), &options()).expect("fetches");
    let mut expected = vec![git_dir(&repo.head()), "notes.git".to_owned()];
    expected.sort();
    assert_eq!(kept(space.path()), expected);
}

#[test]
fn two_processes_do_not_fetch_into_one_workspace() {
    let repo = Repo::with_set();
    let (server, space) = (Https::plain(repo.dir.path()), tempfile::tempdir().expect("a temporary folder"));
    let lock = File::create(space.path().join("lock")).expect("creates");
    lock.lock().expect("locks");
    let url = server.url("open/fleet/.git");
    let hasty = GitOptions { silence: Duration::ZERO, ..options() };
    let error = fetch(&url, space.path(), &hasty).expect_err("busy");
    assert!(matches!(error, GitError::Busy { .. }), "{error:?}");
    assert_eq!(error.to_reason().code, Code::Locked);
    drop(lock);
    fetch(&url, space.path(), &options()).expect("free again");
}
