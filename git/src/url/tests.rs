use super::*;

#[test]
fn good_addresses_are_read_and_shown_as_written() {
    for text in [
        "git+file:///srv/fleet.git",
        "git+file:///srv/fleet.git?ref=main&path=dist/pier-7",
        "git+https://git.example:8443/a/b.git?ref=v1.4%2B2",
        "git+https://ops@git.example/a/b.git?path=a%20b",
        "git+ssh://git@git.example:2222/~ops/fleet.git?ref=refs/heads/main",
        "git+ssh://[2001:db8::1]:22/srv/x",
        "git+http://127.0.0.1:8080/x.git",
        "git+http://[::1]/x.git?ref=0123456789abcdef0123456789abcdef01234567",
    ] {
        let url: GitUrl = text.parse().expect(text);
        assert_eq!(url.to_string(), text);
        assert_eq!(url.to_string().parse::<GitUrl>(), Ok(url));
    }
    let url: GitUrl = "git+file://localhost/srv/a%20b?path=dist/".parse().expect("a URL");
    assert_eq!((url.repository.as_str(), url.to_string().as_str()), ("/srv/a b", "git+file:///srv/a%20b?path=dist"));
    assert!(url.is_local());
    assert_eq!(url.path().map(RelPath::as_str), Some("dist"));
}

#[test]
fn every_wrong_address_says_what_would_be_right() {
    for (text, says) in [
        ("https://h/x", "git+https://"),
        ("git+ftp://h/x", "git+https://"),
        ("git+http://git.example/x", "git+https://"),
        ("git+http://127.0.0.1.evil.example/x", "git+https://"),
        ("git+https://u:secret@h/x", "credentials file"),
        ("git+https://u%3Asecret@h/x", "holds one of"),
        ("git+https://h/x#main", "?ref="),
        ("git+https://h/x?branch=main", "`ref` and `path`"),
        ("git+https://h/x?ref=a&ref=b", "leave one"),
        ("git+https://h/x?path=a&path=b", "leave one"),
        ("git+https://h/x?ref=", "branch or tag"),
        ("git+https://h/x?ref=-x", "branch or tag"),
        ("git+https://h/x?ref=a..b", "branch or tag"),
        ("git+https://h/x?ref=a:b", "branch or tag"),
        ("git+https://h/x?path=../etc", "without `..`"),
        ("git+https://h/x?path=a/%2e%2e/b", "without `..`"),
        ("git+https://h/x?path=/etc", "below the root"),
        ("git+https://h/x?path=", "below the root"),
        ("git+https://h/a/../x", "climbs"),
        ("git+https://h/a/%2e%2e/x", "climbs"),
        ("git+https://h/a%0ab", "control character"),
        ("git+https://h/%ff", "UTF-8"),
        ("git+https://h", "names no repository"),
        ("git+https://h/", "names no repository"),
        ("git+https:///x", "host name"),
        ("git+https://h:0/x", "port"),
        ("git+https://h:99999/x", "port"),
        ("git+https://a b/x", "host name"),
        ("git+ssh://-oProxyCommand=x/y", "not `-` first"),
        ("git+ssh://-oProxyCommand@h/y", "begins with `-`"),
        ("git+ssh://%2doProxyCommand@h/y", "begins with `-`"),
        ("git+ssh://[::1/y", "host name"),
        ("git+file://srv/fleet.git", "three slashes"),
    ] {
        let error = text.parse::<GitUrl>().expect_err(text);
        assert!(error.to_string().contains(says), "{text}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(error.to_reason().code, Code::BadValue);
    }
    let error = "git+https://h/x?access_token=hunter2".parse::<GitUrl>().expect_err("unknown key");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}
