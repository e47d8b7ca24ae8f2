//! Repositories that are opened where they lie.

use std::os::unix::fs::{PermissionsExt, chown};

use autonomy_git::{GitError, tip};
use autonomy_schema::Code;
use autonomy_stateroot::{SetSource, SourceError};

use crate::fixture::{FILES, Repo, content, entry, git, listed, open, options, try_git, url};

#[test]
fn a_set_is_the_folder_below_the_path() {
    let repo = Repo::with_set();
    let set = open(&repo.url("?ref=main&path=dist/pier-7")).expect("opens");
    assert_eq!(listed(&set), ["file artifacts/bin/agent 21", "file manifest.json 2"]);
    assert_eq!(content(&set, "manifest.json").expect("reads"), b"{}");
    assert_eq!(content(&set, "artifacts/bin/agent").expect("reads"), FILES[1].1.as_bytes());
    assert_eq!(set.commit().to_string(), repo.head());
    assert_eq!(set.revision(), Some(format!("commit:{}", repo.head())));
    assert_eq!(set.describe(), format!("git+file://{}?ref=main&path=dist/pier-7", repo.path().display()));
    assert_eq!(listed(&open(&repo.url("")).expect("opens")).len(), FILES.len());
}

#[test]
fn what_is_no_regular_file_is_not_opened() {
    let repo = Repo::with_set();
    let set = open(&repo.url("?path=dist")).expect("opens");
    assert!(matches!(content(&set, "pier-7"), Err(SourceError::NotRegular(_))));
    assert!(matches!(content(&set, "pier-7/manifest.json/x"), Err(SourceError::NotRegular(_))));
    assert!(matches!(content(&set, "pier-7/x"), Err(SourceError::Missing(_))));
    assert!(matches!(content(&set, "README"), Err(SourceError::Missing(_))));
}

#[test]
fn branches_tags_and_commits_are_found_in_every_form_of_repository() {
    let repo = Repo::with_set();
    let first = repo.head();
    repo.git(&["tag", "light"]);
    repo.git(&["tag", "-a", "-m", "words", "annotated"]);
    repo.git(&["tag", "-a", "-m", "words", "twice", "annotated"]);
    repo.write("more", b"more");
    let second = repo.commit("second");
    repo.git(&["branch", "feature/x+y"]);
    let expected = [
        ("", &second),
        ("?ref=HEAD", &second),
        ("?ref=main", &second),
        ("?ref=refs/heads/main", &second),
        ("?ref=feature/x%2By", &second),
        ("?ref=light", &first),
        ("?ref=annotated", &first),
        ("?ref=twice", &first),
        ("?ref=refs/tags/annotated", &first),
        (&format!("?ref={first}"), &first),
        (&format!("?ref={}", first.to_uppercase()), &first),
    ]
    .map(|(query, commit)| (query.to_owned(), commit.clone()));
    let check = |place: &std::path::Path| {
        for (query, commit) in &expected {
            let url = url(&format!("git+file://{}{query}", place.display()));
            assert_eq!(&tip(&url, &options()).expect("a tip").to_string(), commit, "{url}");
            let set = open(&url).expect("opens");
            assert_eq!(&set.commit().to_string(), commit, "{url}");
            assert_eq!(listed(&set).len(), if *commit == first { 3 } else { 4 });
            assert_eq!(content(&set, "README").expect("reads"), b"a fleet\n");
        }
    };
    check(&repo.path());
    check(&repo.path().join(".git"));
    repo.git(&["gc", "--quiet"]);
    check(&repo.path());
    git(repo.dir.path(), &["clone", "--quiet", "--bare", "fleet", "bare.git"], b"");
    check(&repo.dir.path().join("bare.git"));
    repo.git(&["worktree", "add", "--quiet", "--detach", "../tree"]);
    assert_eq!(
        open(&url(&format!("git+file://{}", repo.dir.path().join("tree").display())))
            .expect("opens")
            .commit()
            .to_string(),
        second
    );
}

#[test]
fn a_shallow_repository_is_as_good() {
    let repo = Repo::with_set();
    let first = repo.head();
    let second = repo.commit("second");
    let from = format!("file://{}", repo.path().display());
    git(repo.dir.path(), &["clone", "--quiet", "--depth=1", &from, "shallow"], b"");
    let at = |query: &str| open(&url(&format!("git+file://{}{query}", repo.dir.path().join("shallow").display())));
    assert_eq!(at("").expect("opens").commit().to_string(), second);
    assert_eq!(listed(&at("?path=dist").expect("opens")).len(), 2);
    let error = at(&format!("?ref={first}")).expect_err("not there");
    assert_eq!(error.to_reason().code, Code::SourceNotFound);
}

#[test]
fn what_does_not_exist_is_named() {
    let repo = Repo::with_set();
    std::fs::create_dir(repo.path().join("sub")).expect("mkdir");
    let absent = "0".repeat(39) + "1";
    for (query, says) in [
        ("/../nowhere?ref=main", "climbs"),
        ("?ref=nope", "no branch or tag `nope`"),
        (&format!("?ref={}", &repo.head()[..12]), "all of its 40 digits"),
        ("?ref=refs/heads/nope", "refs/heads/nope"),
        (&format!("?ref={absent}"), "has no commit"),
        ("?path=dist/pier-8", "no folder `dist/pier-8`"),
        ("?path=README", "is not a folder"),
        ("?path=README/x", "is not a folder"),
        // A folder of the work tree is not a repository, and those above are not searched.
        ("/sub", "no git repository"),
        ("-gone", "no git repository"),
    ] {
        let text = format!("git+file://{}{query}", repo.path().display());
        let reason = match text.parse() {
            Ok(url) => open(&url).expect_err(query).to_reason(),
            Err(error) => autonomy_git::UrlError::to_reason(&error),
        };
        assert!(reason.message.contains(says), "{query}: {reason}");
        assert!(reason.code == Code::SourceNotFound || says == "climbs", "{reason}");
    }
    let empty = Repo::empty();
    let error = open(&empty.url("")).expect_err("no commit");
    assert!(error.to_string().contains("no HEAD"), "{error}");
}

#[test]
fn a_name_that_is_branch_and_tag_is_refused() {
    let repo = Repo::with_set();
    repo.git(&["tag", "main"]);
    let error = open(&repo.url("?ref=main")).expect_err("ambiguous");
    assert!(matches!(error, GitError::Ambiguous { .. }), "{error}");
    assert!(error.to_reason().remedy.contains("refs/heads/"));
    assert!(open(&repo.url("?ref=refs/heads/main")).is_ok());
}

#[test]
fn every_kind_of_entry_is_listed_as_what_it_is() {
    let repo = Repo::with_set();
    let script = repo.path().join("dist/pier-7/run");
    std::fs::write(&script, "x").expect("write");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    std::os::unix::fs::symlink("/etc/passwd", repo.path().join("dist/pier-7/link")).expect("symlink");
    repo.git(&["add", "--all"]);
    let commit = repo.head();
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},dist/pier-7/module")]);
    repo.git(&["commit", "--quiet", "-m", "kinds"]);
    let set = open(&repo.url("?path=dist/pier-7")).expect("opens");
    assert_eq!(
        listed(&set),
        ["file artifacts/bin/agent 21", "link link 11", "file manifest.json 2", "other module 0", "file run 1"]
    );
    for path in ["link", "module"] {
        assert!(matches!(content(&set, path), Err(SourceError::NotRegular(_))), "{path}");
        assert!(open(&repo.url(&format!("?path=dist/pier-7/{path}"))).is_err());
    }
}

#[test]
fn names_that_are_no_safe_path_are_shown_escaped_and_not_entered() {
    let repo = Repo::with_set();
    let blob = repo.object("blob", b"x");
    let tree = repo.object("tree", &entry("100644", b"inside", &blob));
    let long = [b'a'; 300];
    let names: &[&[u8]] = &[b"..", b".", b"a/b", b"back\\slash", b"line\nfeed", b"\xff\xfe", &long];
    let mut root: Vec<u8> = names.iter().flat_map(|name| entry("100644", name, &blob)).collect();
    root.extend(entry("40000", b"../up", &tree));
    root.extend(entry("100644", b"good", &blob));
    let root = repo.object("tree", &root);
    repo.commit_tree(&root);
    let found = listed(&open(&repo.url("")).expect("opens"));
    assert_eq!(found.iter().filter(|line| line.starts_with("bad ")).count(), names.len() + 1, "{found:?}");
    assert!(found.contains(&"bad back\\\\slash 0".to_owned()) && found.contains(&"bad line\\nfeed 0".to_owned()));
    assert!(found.contains(&"file good 1".to_owned()) && !found.iter().any(|line| line.contains("inside")));
}

#[test]
fn a_name_that_occurs_twice_is_damage() {
    let repo = Repo::with_set();
    let (one, two) = (repo.object("blob", b"1"), repo.object("blob", b"2"));
    let tree = repo.object("tree", &[entry("100644", b"a", &one), entry("100644", b"a", &two)].concat());
    repo.commit_tree(&tree);
    let error = open(&repo.url("")).expect("opens").list().expect_err("twice");
    assert!(matches!(&error, SourceError::Io { source, .. } if source.to_string().contains("twice")), "{error}");
}

#[test]
fn a_local_repository_is_not_written() {
    let repo = Repo::with_set();
    let seen = || {
        let output =
            std::process::Command::new("find").arg(repo.dir.path()).args(["-printf", "%p %s %T@ %C@\n"]).output();
        String::from_utf8(output.expect("find").stdout).expect("UTF-8")
    };
    let before = seen();
    let set = open(&repo.url("?path=dist/pier-7")).expect("opens");
    assert_eq!(listed(&set).len(), 2);
    content(&set, "manifest.json").expect("reads");
    tip(&repo.url(""), &options()).expect("a tip");
    assert_eq!(before, seen());
}

#[test]
fn the_branch_that_moved_is_read_where_it_is_now() {
    let repo = Repo::with_set();
    let seen = tip(&repo.url("?ref=main"), &options()).expect("a tip").to_string();
    repo.write("more", b"more");
    let moved = repo.commit("second");
    let set = open(&repo.url("?ref=main")).expect("opens");
    assert_eq!(set.commit().to_string(), moved);
    assert_ne!(seen, moved);
    repo.git(&["reset", "--quiet", "--hard", &seen]);
    // What was opened stays what it was.
    assert_eq!(set.commit().to_string(), moved);
    assert_eq!(content(&set, "more").expect("reads"), b"more");
}

#[test]
fn a_repository_of_another_user_is_refused_with_gits_own_remedy() {
    // Only root can give a folder away, and only where no configuration trusts every folder.
    let trusted = std::process::Command::new("git").args(["config", "--get-all", "safe.directory"]).output();
    if !rustix::process::geteuid().is_root() || !trusted.expect("git starts").stdout.is_empty() {
        return;
    }
    let repo = Repo::with_set();
    for folder in [repo.path(), repo.path().join(".git")] {
        chown(folder, Some(65534), None).expect("chown");
    }
    let error = open(&repo.url("")).expect_err("not ours");
    assert!(matches!(error, GitError::Owner { .. }), "{error:?}");
    assert!(error.to_reason().remedy.contains("safe.directory"));
}

#[test]
fn an_object_format_that_is_not_known_is_named() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (made, _) = try_git(dir.path(), &["init", "--quiet", "--object-format=sha256", "new"], b"");
    assert!(made);
    let error = open(&url(&format!("git+file://{}/new", dir.path().display()))).expect_err("sha256");
    assert_eq!(error.to_reason().code, Code::SourceError);
    assert!(error.to_reason().message.contains("cannot open the repository: "), "{}", error.to_reason());
}
