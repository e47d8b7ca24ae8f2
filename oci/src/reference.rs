//! `oci://HOST[:PORT]/REPOSITORY:TAG` and `…@sha256:DIGEST`, with the grammar of distribution-spec 1.1.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use autonomy_schema::{Code, Reason, Sha256};

/// What a reference begins with.
pub const SCHEME: &str = "oci://";
/// Longest host and repository together (distribution-spec 1.1, "Pulling manifests").
const MAX_NAME_CHARS: usize = 255;
/// Longest tag.
const MAX_TAG_CHARS: usize = 128;

/// A repository of a registry, and what is meant in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    host: String,
    port: Option<u16>,
    repository: String,
    tag: Option<String>,
    digest: Option<Sha256>,
}

/// A text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a reference: {why}")]
pub struct ReferenceError {
    text: String,
    why: String,
}

impl ReferenceError {
    /// The error as a reason.
    pub fn to_reason(&self) -> Reason {
        Reason::new(Code::BadValue, self.to_string())
            .with_remedy("write `oci://HOST[:PORT]/REPOSITORY:TAG` or `oci://HOST[:PORT]/REPOSITORY@sha256:DIGEST`")
    }
}

impl Reference {
    /// The host's name or address; an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, where it is named.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// `HOST` or `HOST:PORT`, as credentials are filed under.
    pub fn authority(&self) -> String {
        self.port.map_or_else(|| self.host.clone(), |port| format!("{}:{port}", self.host))
    }

    /// The repository.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, where it is named.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where it is named.
    pub fn digest(&self) -> Option<Sha256> {
        self.digest
    }

    /// What the registry is asked for: the digest, else the tag.
    pub fn target(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => String::new(), // never: one of the two is read
        }
    }

    /// Whether the host is this machine.
    pub fn is_loopback(&self) -> bool {
        let address = self.host.parse::<Ipv4Addr>();
        self.host == "localhost" || self.host == "[::1]" || address.is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.authority(), self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        parse(text).map_err(|why| {
            let shown = text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect();
            // A password that stands where none belongs is not shown again.
            let hidden = text.split('/').nth(2).is_some_and(|authority| authority.contains('@'));
            ReferenceError { text: if hidden { "oci://…".to_owned() } else { shown }, why }
        })
    }
}

fn parse(text: &str) -> Result<Reference, String> {
    let rest = text.strip_prefix(SCHEME).ok_or_else(|| format!("it does not begin with `{SCHEME}`"))?;
    let (authority, path) = rest.split_once('/').ok_or("it names no repository")?;
    if authority.contains('@') {
        return Err("a user or a password has no place in it (they come from docker's config file)".to_owned());
    }
    let (host, port) = host_and_port(authority)?;
    let (path, digest) = match path.split_once('@') {
        Some((path, digest)) => {
            let digest = digest.parse::<Sha256>().map_err(|error| format!("its digest is wrong: {error}"))?;
            (path, Some(digest))
        }
        None => (path, None),
    };
    let (repository, tag) = match path.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (path, None),
    };
    if !repository.split('/').all(is_component) {
        let rule = "lower-case letters and digits, in words joined by `.`, `_`, `__` or `-`, in parts joined by `/`";
        return Err(format!("its repository is not {rule}"));
    }
    if authority.len() + 1 + repository.len() > MAX_NAME_CHARS {
        return Err(format!("host and repository have more than {MAX_NAME_CHARS} characters"));
    }
    if tag.is_some_and(|tag| !is_tag(tag)) {
        let rule = "letters, digits, `_`, `.` and `-`, the first one neither `.` nor `-`";
        return Err(format!("its tag is not 1 to {MAX_TAG_CHARS} {rule}"));
    }
    if tag.is_none() && digest.is_none() {
        return Err("it has neither tag nor digest (no tag is taken for granted)".to_owned());
    }
    Ok(Reference { host, port, repository: repository.to_owned(), tag: tag.map(str::to_owned), digest })
}

fn host_and_port(authority: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (authority, None),
    };
    let port = match port {
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0') => {
            Some(port.parse::<u16>().map_err(|error| format!("its port is wrong: {error}"))?)
        }
        Some(_) => return Err("its port is not a number from 1 to 65535".to_owned()),
        None => None,
    };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = match inner {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(is_label),
    };
    if good {
        Ok((host.to_ascii_lowercase(), port))
    } else {
        Err("its host is not a host name or an address".to_owned())
    }
}

fn is_label(label: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    label.len() <= 63
        && edge(label.chars().next())
        && edge(label.chars().last())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(component: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    if !bytes.first().copied().is_some_and(plain) || !bytes.last().copied().is_some_and(plain) {
        return false;
    }
    let joined = |run: &str| matches!(run, "." | "_" | "__") || run.bytes().all(|b| b == b'-');
    component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(joined)
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
pub(crate) fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= MAX_TAG_CHARS
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn what_is_read_is_written_again() {
        for text in [
            "oci://registry.example/fleet/edge:7".to_owned(),
            "oci://localhost:5000/a:v1.0_x-Y".to_owned(),
            "oci://[::1]:5000/a__b/c-d--e.f:_".to_owned(),
            format!("oci://127.0.0.1/a@{DIGEST}"),
            format!("oci://h/a:t@{DIGEST}"),
        ] {
            let reference: Reference = text.parse().expect("a reference");
            assert_eq!(reference.to_string(), text);
        }
    }

    #[test]
    fn what_breaks_the_grammar_is_refused_with_the_reason() {
        let long = format!("oci://h/{}:t", "a".repeat(300));
        let long_tag = format!("oci://h/a:{}", "t".repeat(129));
        for (text, why) in [
            ("registry.example/a:t", "begin"),
            ("oci://registry.example", "repository"),
            ("oci://h/A:t", "repository"),
            ("oci://h/a//b:t", "repository"),
            ("oci://h/a___b:t", "repository"),
            ("oci://h/a..b:t", "repository"),
            ("oci://h/-a:t", "repository"),
            ("oci://h/../b:t", "repository"),
            ("oci://h/a", "neither"),
            ("oci://h/a:", "tag"),
            ("oci://h/a:.t", "tag"),
            ("oci://h/a:t/x", "tag"),
            ("oci://h/a@sha256:12", "digest"),
            ("oci://h:0/a:t", "port"),
            ("oci://h:70000/a:t", "port"),
            ("oci://h_/a:t", "host"),
            ("oci:///a:t", "host"),
            ("oci://[::g]/a:t", "host"),
            (long.as_str(), "characters"),
            (long_tag.as_str(), "tag"),
        ] {
            let error = text.parse::<Reference>().expect_err(text);
            assert!(error.why.contains(why), "{text}: {error}");
        }
        let error = "oci://me:secret@h/a:t".parse::<Reference>().expect_err("a password");
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn loopback_is_told() {
        let local = |text: &str| text.parse::<Reference>().expect("a reference").is_loopback();
        assert!(local("oci://localhost/a:t") && local("oci://127.9.0.1/a:t") && local("oci://[::1]:1/a:t"));
        assert!(!local("oci://localhost.example/a:t") && !local("oci://128.0.0.1/a:t"));
    }
}
