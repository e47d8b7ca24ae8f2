//! Objects that are not what their ids say.

use autonomy_schema::Code;
use autonomy_stateroot::{SetSource, SourceError};

use crate::fixture::{Repo, content, noise, open};

fn damaged(error: &SourceError) -> bool {
    matches!(error, SourceError::Io { .. }) && error.to_reason().code == Code::IoError
}

/// Puts the loose object `from` in the place of `to`: well formed, and not what the id says.
fn swap(repo: &Repo, to: &str, from: &str) {
    std::fs::remove_file(repo.loose(to)).expect("read-only, but ours");
    std::fs::copy(repo.loose(from), repo.loose(to)).expect("copies");
}

#[test]
fn a_loose_object_with_other_content_is_not_read() {
    let repo = Repo::with_set();
    let blob = repo.git(&["rev-parse", "main:dist/pier-7/manifest.json"]);
    let other = repo.object("blob", b"[]");
    swap(&repo, &blob, &other);
    let set = open(&repo.url("?path=dist/pier-7")).expect("opens");
    assert_eq!(set.list().expect("the size is the same").len(), 2);
    let error = content(&set, "manifest.json").expect_err("another content");
    assert!(damaged(&error), "{error}");
    assert!(matches!(&error, SourceError::Io { source, .. } if source.to_string().contains("mismatch")), "{error:?}");
    assert!(content(&set, "artifacts/bin/agent").is_ok());
}

#[test]
fn a_tree_or_commit_in_the_place_of_another_is_not_read() {
    let repo = Repo::with_set();
    let (first, tree) = (repo.head(), repo.git(&["rev-parse", "main:dist/pier-7"]));
    repo.write("dist/pier-7/extra", b"x");
    let second = repo.commit("second");
    let other = repo.git(&["rev-parse", "main:dist/pier-7"]);
    swap(&repo, &tree, &other);
    let set = open(&repo.url(&format!("?ref={first}&path=dist"))).expect("opens");
    assert!(damaged(&set.list().expect_err("another tree")));
    assert!(damaged(&content(&set, "pier-7/manifest.json").expect_err("another tree")));
    assert_eq!(
        open(&repo.url(&format!("?ref={first}&path=dist/pier-7")))
            .expect("opens")
            .list()
            .map_err(|error| damaged(&error)),
        Err(true)
    );
    swap(&repo, &first, &second);
    let reason = open(&repo.url(&format!("?ref={first}"))).expect_err("another commit").to_reason();
    assert_eq!(reason.code, Code::SourceError, "{reason}");
    assert!(reason.message.contains("mismatch"), "{reason}");
}

#[test]
fn a_torn_or_missing_loose_object_is_named() {
    let repo = Repo::with_set();
    let blob = repo.loose(&repo.git(&["rev-parse", "main:dist/pier-7/manifest.json"]));
    let whole = std::fs::read(&blob).expect("reads");
    for length in 0..whole.len() {
        std::fs::remove_file(&blob).expect("read-only, but ours");
        std::fs::write(&blob, &whole[..length]).expect("write");
        let set = open(&repo.url("?path=dist/pier-7")).expect("opens");
        let read = content(&set, "manifest.json");
        // The last bytes are the checksum of the compression; the content may be whole without it.
        assert!(read.as_ref().map_or_else(damaged, |bytes| bytes == b"{}"), "{length}: {read:?}");
    }
    std::fs::remove_file(&blob).expect("read-only, but ours");
    let set = open(&repo.url("?path=dist/pier-7")).expect("opens");
    assert!(damaged(&set.list().expect_err("missing")));
    assert!(damaged(&content(&set, "manifest.json").expect_err("missing")));
}

#[test]
fn a_torn_object_of_a_shared_clone_and_one_with_something_behind_it_are_named() {
    let repo = Repo::with_set();
    let shared = tempfile::tempdir().expect("folder");
    let clone = shared.path().join("clone.git");
    crate::fixture::git(
        shared.path(),
        &["clone", "--quiet", "--bare", "--shared", &repo.path().display().to_string(), "clone.git"],
        b"",
    );
    let url = crate::fixture::url(&format!("git+file://{}?path=dist/pier-7", clone.display()));
    assert!(content(&open(&url).expect("opens"), "manifest.json").is_ok());
    let blob = repo.loose(&repo.git(&["rev-parse", "main:dist/pier-7/manifest.json"]));
    let whole = std::fs::read(&blob).expect("reads");
    let put = |bytes: &[u8]| {
        std::fs::remove_file(&blob).expect("read-only, but ours");
        std::fs::write(&blob, bytes).expect("write");
    };
    put(&whole[..whole.len() / 2]);
    assert!(damaged(&content(&open(&url).expect("opens"), "manifest.json").expect_err("torn")));
    put(&[&whole[..], &noise(1000)].concat());
    assert!(damaged(&content(&open(&url).expect("opens"), "manifest.json").expect_err("garbage behind it")));
    put(&whole);
    assert!(content(&open(&url).expect("opens"), "manifest.json").is_ok());
    // A sparse file larger than any that is read: it is not.
    std::fs::OpenOptions::new().write(true).open(&blob).expect("opens").set_len(1 << 40).expect("grows");
    assert!(damaged(&content(&open(&url).expect("opens"), "manifest.json").expect_err("huge")));
}

#[test]
fn a_damaged_pack_is_named_and_never_read_as_data() {
    let repo = Repo::with_set();
    let bytes = noise(64 * 1024);
    repo.write("dist/pier-7/noise", &bytes);
    repo.commit("noise");
    repo.git(&["repack", "-adq"]);
    let pack = std::fs::read_dir(repo.path().join(".git/objects/pack"))
        .expect("lists")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension().is_some_and(|end| end == "pack"))
        .expect("a pack");
    let whole = std::fs::read(&pack).expect("reads");
    let mut refused = 0;
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        let mut broken = whole.clone();
        broken[at] ^= 0x20;
        std::fs::remove_file(&pack).expect("read-only, but ours");
        std::fs::write(&pack, &broken).expect("write");
        let Ok(set) = open(&repo.url("?path=dist/pier-7")) else {
            refused += 1;
            continue;
        };
        match content(&set, "noise") {
            Ok(read) => assert!(read == bytes, "byte {at}"),
            Err(error) => {
                assert!(damaged(&error), "byte {at}: {error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 30, "most bytes of the pack are the noise; only {refused} were noticed");
}

#[test]
fn a_repository_that_vanished_is_an_error() {
    let repo = Repo::with_set();
    let set = open(&repo.url("?path=dist/pier-7")).expect("opens");
    std::fs::rename(repo.path(), repo.dir.path().join("away")).expect("renames");
    assert!(damaged(&content(&set, "manifest.json").expect_err("gone")));
    assert!(open(&repo.url("")).is_err());
}
