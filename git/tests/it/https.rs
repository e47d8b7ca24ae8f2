//! A real web server with git's own backend behind it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use autonomy_git::{Environment, GitError, GitOptions, GitUrl, fetch, tip};
use autonomy_schema::Code;

use crate::fixture::{FILES, Repo, content, git, listed, options, try_git, url};
use crate::servers::{Https, PASSWORD, USER};

fn workspace() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The error of both questions, which must be the same.
fn refused(url: &GitUrl, options: &GitOptions<'_>) -> GitError {
    let space = workspace();
    let error = fetch(url, space.path(), options).expect_err("refused");
    let left: Vec<_> =
        std::fs::read_dir(space.path()).expect("lists").map(|entry| entry.expect("entry").file_name()).collect();
    assert_eq!(left, ["lock"], "nothing is kept");
    let tip = tip(url, options).expect_err("refused");
    assert_eq!(tip.to_reason(), error.to_reason());
    error
}

#[test]
fn a_set_is_fetched_without_history() {
    let repo = Repo::with_set();
    let first = repo.head();
    repo.write("dist/pier-7/more", b"more");
    repo.git(&["tag", "-a", "-m", "words", "v1"]);
    let second = repo.commit("second");
    repo.git(&["update-server-info"]);
    let server = Https::start(repo.dir.path(), "");
    let (space, options) = (workspace(), server.options());
    let at = |query: &str| server.url(&format!("open/fleet{query}"));
    for (query, commit) in [
        ("", &second),
        ("?ref=main&path=dist/pier-7", &second),
        ("?ref=v1", &first),
        (&format!("?ref={second}"), &second),
        (&format!("?ref={first}"), &first),
    ] {
        assert_eq!(&tip(&at(query), &options).expect("a tip").to_string(), commit, "{query}");
        let set = fetch(&at(query), space.path(), &options).expect("fetches");
        assert_eq!(&set.commit().to_string(), commit, "{query}");
        let kept = space.path().join(format!("{commit}.git"));
        assert_eq!(git(&kept, &["rev-list", "--count", commit], b""), "1", "{query}");
        assert!(!try_git(&kept, &["cat-file", "-e", &format!("{second}~1")], b"").0, "history came along");
        let files: Vec<String> = listed(&set);
        assert_eq!(files.len(), if query.contains("path=") || *commit == first { 3 } else { 4 }, "{files:?}");
    }
    let set = fetch(&at("?path=dist/pier-7"), space.path(), &options).expect("fetches");
    assert_eq!(content(&set, "artifacts/bin/agent").expect("reads"), FILES[1].1.as_bytes());
}

#[test]
fn plain_http_serves_loopback() {
    let repo = Repo::with_set();
    let server = Https::plain(repo.dir.path());
    let set = fetch(&server.url("open/fleet/.git"), workspace().path(), &options()).expect("fetches");
    assert_eq!(set.commit().to_string(), repo.head());
}

#[test]
fn what_the_server_does_not_have_is_named() {
    let repo = Repo::with_set();
    repo.git(&["branch", "twin"]);
    repo.git(&["tag", "twin"]);
    let old = repo.head();
    repo.git(&["commit", "--quiet", "--amend", "--allow-empty", "-m", "other"]);
    repo.git(&["branch", "-D", "twin"]);
    repo.git(&["tag", "-d", "twin"]);
    let server = Https::start(repo.dir.path(), "location /page { return 200 'hello'; }");
    let options = server.options();
    for (rest, code, says) in [
        ("open/nowhere", Code::SourceNotFound, "no such repository"),
        ("open/fleet?ref=nope", Code::SourceNotFound, "no branch or tag `nope`"),
        ("page", Code::SourceError, "smart protocol"),
        ("missing", Code::SourceNotFound, "status 404"),
    ] {
        let reason = refused(&server.url(rest), &options).to_reason();
        assert_eq!(reason.code, code, "{reason}");
        assert!(reason.message.contains(says), "{reason}");
        assert!(reason.message.contains(&format!("127.0.0.1:{}/{}", server.port, rest)), "{reason}");
    }
    let by_id =
        fetch(&server.url(&format!("open/fleet?ref={old}")), workspace().path(), &options).expect_err("no name");
    assert_eq!(by_id.to_reason().code, Code::SourceNotFound);
    assert!(by_id.to_string().contains("by name only"), "{by_id}");
    repo.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    let set = fetch(&server.url(&format!("open/fleet?ref={old}")), workspace().path(), &options).expect("allowed now");
    assert_eq!(set.commit().to_string(), old);
    let absent = "1".repeat(40);
    let gone = fetch(&server.url(&format!("open/fleet?ref={absent}")), workspace().path(), &options).expect_err("gone");
    assert_eq!(gone.to_reason().code, Code::SourceNotFound, "{}", gone.to_reason());
    let folder = fetch(&server.url("open/fleet?path=nope"), workspace().path(), &options).expect_err("no folder");
    assert_eq!(folder.to_reason().code, Code::SourceNotFound);
    repo.git(&["tag", "main"]);
    assert!(matches!(refused(&server.url("open/fleet?ref=main"), &options), GitError::Ambiguous { .. }));
}

#[test]
fn only_the_named_authority_is_trusted() {
    let repo = Repo::with_set();
    let server = Https::start(repo.dir.path(), "");
    let url = server.url("open/fleet");
    let with = |file: &str| GitOptions { ca_file: Some(server.folder.path().join(file)), ..options() };
    let error = refused(&url, &with("other-ca.pem"));
    assert!(matches!(&error, GitError::Tls { trusted, .. } if trusted.contains("other-ca.pem")), "{error:?}");
    assert!(error.to_reason().remedy.contains("--ca-file"));
    // The system's authorities did not sign it either.
    assert!(matches!(refused(&url, &options()), GitError::Tls { .. }));
    for (file, says) in [("absent.pem", "cannot be read"), ("users", "holds no certificate")] {
        let error = refused(&url, &with(file));
        assert!(matches!(&error, GitError::File { .. }) && error.to_string().contains(says), "{error}");
    }
    // As git: from the environment, with what is given by hand before it.
    let environment =
        |file: &str| Environment { ca_info: Some(server.folder.path().join(file)), ..Environment::default() };
    let from_environment = GitOptions { environment: environment("ca.pem"), ..options() };
    assert!(tip(&url, &from_environment).is_ok());
    assert!(tip(&url, &GitOptions { environment: environment("other-ca.pem"), ..with("ca.pem") }).is_ok());
    // A name that the certificate does not have.
    let other_name = crate::fixture::url(&format!("git+https://127.0.0.2:{}/open/fleet", server.port));
    assert!(tip(&other_name, &server.options()).is_err());
}

#[test]
fn credentials_are_taken_from_the_users_files() {
    let repo = Repo::with_set();
    let server = Https::start(repo.dir.path(), "");
    let url = server.url("closed/fleet");
    let good = format!("{USER}:p%40ss%3Aw%2Frd");
    let none = refused(&url, &server.options());
    assert!(matches!(none, GitError::Refused { .. }), "{none}");
    let with = |login: &str| GitOptions { credentials: Some(server.credentials(login)), ..server.options() };
    let wrong = refused(&url, &with("ops:wrong"));
    assert!(matches!(&wrong, GitError::Refused { detail, .. } if detail.contains("user `ops`")), "{wrong}");
    assert!(wrong.to_string().contains("credentials-9") && !wrong.to_string().contains("wrong"), "{wrong}");
    let set = fetch(&url, workspace().path(), &with(&good)).expect("let in");
    assert_eq!(set.commit().to_string(), repo.head());
    // The user of the URL chooses among the lines.
    let named = |user: &str| crate::fixture::url(&url.to_string().replace("127.", &format!("{user}@127.")));
    assert!(tip(&named(USER), &with(&good)).is_ok());
    assert!(matches!(refused(&named("guest"), &with(&good)), GitError::Refused { .. }));

    let home = tempfile::tempdir().expect("a temporary folder");
    let at_home = |xdg: Option<&str>| GitOptions {
        environment: Environment {
            home: Some(home.path().to_owned()),
            xdg_config_home: xdg.map(|folder| home.path().join(folder)),
            ..Environment::default()
        },
        ..server.options()
    };
    let lacking = refused(&url, &at_home(None));
    assert!(
        lacking.to_string().contains(".git-credentials") && lacking.to_string().contains(".config/git/credentials"),
        "{lacking}"
    );
    std::fs::create_dir_all(home.path().join("x/git")).expect("mkdir");
    std::fs::copy(server.credentials(&good), home.path().join("x/git/credentials")).expect("copies");
    assert!(tip(&url, &at_home(Some("x"))).is_ok());
    std::fs::copy(server.credentials(&good), home.path().join(".git-credentials")).expect("copies");
    assert!(tip(&url, &at_home(None)).is_ok());
    let log = std::fs::read_to_string(server.folder.path().join("access.log")).expect("reads");
    assert!(!log.contains(PASSWORD) && log.contains("\"git/2.0 (autonomy"), "{log}");
}

#[test]
fn a_credentials_file_that_others_can_read_is_refused() {
    let repo = Repo::with_set();
    let server = Https::start(repo.dir.path(), "");
    let file = server.credentials(&format!("{USER}:p%40ss%3Aw%2Frd"));
    let options = GitOptions { credentials: Some(file.clone()), ..server.options() };
    for mode in [0o644, 0o640, 0o602, 0o610] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("chmod");
        let reason = refused(&server.url("closed/fleet"), &options).to_reason();
        assert!(
            reason.message.contains(&format!("mode {mode:04o}")) && reason.remedy.contains("chmod 600"),
            "{reason}"
        );
    }
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o400)).expect("chmod");
    assert!(tip(&server.url("closed/fleet"), &options).is_ok());
}

#[test]
fn redirects_are_followed_within_the_host_alone() {
    let repo = Repo::with_set();
    let elsewhere = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = elsewhere.local_addr().expect("an address").port();
    elsewhere.set_nonblocking(true).expect("sets");
    let away = format!(
        "location ~ ^/away(/.*)$ {{ return 302 https://user:token@127.0.0.1:{port}$1?$args; }}\n\
         location ~ ^/moved(/.*)$ {{ return 301 /closed$1?$args; }}\n\
         location ~ ^/round(/.*)$ {{ return 301 /round$1?$args; }}\n\
         location ~ ^/page(/.*)$ {{ return 301 /open/fleet; }}\n"
    );
    let server = Https::start(repo.dir.path(), &away);
    let file = server.credentials(&format!("{USER}:p%40ss%3Aw%2Frd"));
    let options = GitOptions { credentials: Some(file), ..server.options() };
    let error = refused(&server.url("away/fleet"), &options);
    assert!(
        matches!(&error, GitError::Redirected { to, .. } if to.starts_with(&format!("https://127.0.0.1:{port}/"))),
        "{error}"
    );
    assert!(!error.to_string().contains("token"), "{error}");
    assert_eq!(elsewhere.accept().expect_err("nobody came").kind(), std::io::ErrorKind::WouldBlock);
    for rest in ["round/fleet", "page/fleet"] {
        assert!(matches!(refused(&server.url(rest), &options), GitError::Redirected { .. }), "{rest}");
    }
    let set = fetch(&server.url("moved/fleet"), workspace().path(), &options).expect("follows");
    assert_eq!(set.commit().to_string(), repo.head());
}

#[test]
fn what_the_network_does_is_named() {
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let error = refused(&url(&format!("git+http://127.0.0.1:{nobody}/x")), &options());
    assert!(matches!(error, GitError::Unreachable { .. }), "{error}");
    // Half an answer.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.expect("a connection");
            let mut request = [0; 4096];
            let _asked = connection.read(&mut request);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-git-upload-pack-advertisement\r\ncontent-length: 500\r\n\r\n";
            let _told = connection.write_all(format!("{head}001e# service=git-upl").as_bytes());
        }
    });
    let error = refused(&url(&format!("git+http://127.0.0.1:{port}/x")), &options());
    assert!(matches!(error, GitError::Unreachable { .. }), "{error:?}");
}
