//! `git+SCHEME://[USER@]HOST[:PORT]/REPOSITORY?ref=REF&path=PATH`: the address of a set in a repository.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use autonomy_schema::{Code, Reason, RelPath};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// Longest URL in bytes: a repository path and a path below it, each as long as the kernel takes, fit.
pub const MAX_URL_BYTES: usize = 16 * 1024;

/// What a query value may not hold as it is.
const VALUE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'&').add(b'+').add(b'<').add(b'>');

/// How the repository is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    File,
    Http,
    Https,
    Ssh,
}

impl Scheme {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Http => "http",
            Self::Https => "https",
            Self::Ssh => "ssh",
        }
    }
}

/// The address of a set in a git repository. It holds no secret, so it may be shown and logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitUrl {
    pub(crate) scheme: Scheme,
    pub(crate) user: Option<String>,
    /// An IPv6 address keeps its brackets; empty for a local repository.
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    /// The path of the repository, as it stands in the URL.
    encoded: String,
    /// The same, decoded.
    pub(crate) repository: String,
    pub(crate) reference: Option<String>,
    pub(crate) path: Option<RelPath>,
}

/// Why a text is not the address of a set in a repository. No variant repeats a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Another scheme, or none.
    #[error("a git source begins with `git+file://`, `git+https://` or `git+ssh://`")]
    Scheme,
    /// `git+http://` to a host that is not this one.
    #[error(
        "`git+http://{0}` could be read and changed on the way: write `git+https://`; plain http is for loopback hosts"
    )]
    PlainHttp(String),
    /// A password in the URL would end up in logs and plans.
    #[error("the URL holds a password: put it into a git credentials file, and leave only the user name in the URL")]
    Password,
    /// `#…`.
    #[error(
        "the URL has a fragment (`#`): the revision is named with `?ref=`, the folder with `&path=`; a `#` in a name is written `%23`"
    )]
    Fragment,
    /// A query key that nobody reads.
    #[error("`{0}` is not a query key of a git source: there are `ref` and `path`")]
    UnknownKey(String),
    /// Which of the two would count?
    #[error("the query key `{0}` occurs twice: leave one")]
    RepeatedKey(&'static str),
    /// A user name that ssh would take for an option or HTTP for a password; not repeated, as it may hold one.
    #[error("the user name in the URL is empty, begins with `-`, or holds one of `:@/`")]
    User,
    /// A part that cannot be.
    #[error("the {part} `{text}` {why}")]
    Part {
        /// Which part.
        part: &'static str,
        /// Its text, shortened and escaped.
        text: String,
        /// What is wrong and what would be right.
        why: String,
    },
}

impl UrlError {
    /// The error as a reason.
    pub fn to_reason(&self) -> Reason {
        let form = "write for example `git+https://git.example/fleet.git?ref=main&path=dist/pier-7`";
        Reason::new(Code::BadValue, self.to_string()).with_remedy(form)
    }
}

impl GitUrl {
    /// Whether `text` claims to be a git source, well formed or not.
    pub fn claims(text: &str) -> bool {
        text.starts_with("git+")
    }

    /// Whether the repository lies on this machine's file system.
    pub fn is_local(&self) -> bool {
        self.scheme == Scheme::File
    }

    /// The branch, tag or commit that is asked for; `None` means the repository's HEAD.
    pub fn reference(&self) -> Option<&str> {
        self.reference.as_deref()
    }

    /// The folder of the set; `None` means the root of the tree.
    pub fn path(&self) -> Option<&RelPath> {
        self.path.as_ref()
    }

    /// `SCHEME://HOST[:PORT]/REPOSITORY` without the user, for HTTP.
    pub(crate) fn http_base(&self) -> String {
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}{}", self.scheme.as_str(), self.host, self.encoded.trim_end_matches('/'))
    }

    /// Whether the host is this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn part(part: &'static str, text: &str, why: impl Into<String>) -> UrlError {
    UrlError::Part { part, text: text.chars().take(120).flat_map(char::escape_debug).collect(), why: why.into() }
}

fn decoded(name: &'static str, text: &str) -> Result<String, UrlError> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_utf8| part(name, text, "is not UTF-8"))?;
    if decoded.chars().any(char::is_control) {
        return Err(part(name, text, "holds a control character"));
    }
    Ok(decoded.into_owned())
}

impl FromStr for GitUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = scheme(text)?;
        if text.len() > MAX_URL_BYTES {
            return Err(part("URL", text, format!("is longer than {MAX_URL_BYTES} bytes")));
        }
        if rest.contains('#') {
            return Err(UrlError::Fragment);
        }
        let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
        let slash = place.find('/').ok_or_else(|| part("URL", "", "names no repository after the host"))?;
        let (authority, encoded) = place.split_at(slash);
        let (user, host, port) = authority_of(scheme, authority)?;
        let repository = decoded("repository path", encoded)?;
        if repository.split('/').any(|segment| segment == "..") {
            return Err(part("repository path", &repository, "climbs with `..`: write the path that is meant"));
        }
        if repository.trim_matches('/').is_empty() {
            return Err(part("repository path", &repository, "names no repository"));
        }
        if scheme == Scheme::Http && !is_loopback(&host) {
            return Err(UrlError::PlainHttp(host));
        }
        let (reference, path) = query_of(query.unwrap_or_default())?;
        let encoded = encoded.to_owned();
        let url = Self { scheme, user, host, port, encoded, repository, reference, path };
        // What is sent over the wire must be what was read here.
        if matches!(scheme, Scheme::Http | Scheme::Https) {
            url::Url::parse(&url.http_base())
                .map_err(|why| part("URL", &url.http_base(), format!("is malformed: {why}")))?;
        }
        Ok(url)
    }
}

fn scheme(text: &str) -> Result<(Scheme, &str), UrlError> {
    [Scheme::File, Scheme::Https, Scheme::Http, Scheme::Ssh]
        .into_iter()
        .find_map(|scheme| {
            let rest = text.strip_prefix("git+")?.strip_prefix(scheme.as_str())?.strip_prefix("://")?;
            Some((scheme, rest))
        })
        .ok_or(UrlError::Scheme)
}

/// User, host and port.
fn authority_of(scheme: Scheme, text: &str) -> Result<(Option<String>, String, Option<u16>), UrlError> {
    let (user, place) = text.rsplit_once('@').map_or((None, text), |(user, place)| (Some(user), place));
    if user.is_some_and(|user| user.contains(':')) {
        return Err(UrlError::Password);
    }
    let user = user.map(|user| decoded("user", user)).transpose()?;
    if let Some(user) = &user {
        // ssh would take it for an option, and `:` ends the user name in HTTP's Basic.
        if user.is_empty() || user.starts_with('-') || user.contains([':', '@', '/']) {
            return Err(UrlError::User);
        }
    }
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            let port = port.parse::<u16>().ok().filter(|port| *port > 0);
            (host, Some(port.ok_or_else(|| part("port", place, "is not a number from 1 to 65535"))?))
        }
        Some(_) | None => (place, None),
    };
    if scheme == Scheme::File {
        if user.is_some() || port.is_some() || !(host.is_empty() || host == "localhost") {
            return Err(part(
                "host",
                text,
                "cannot be in `git+file://`: write three slashes, `git+file:///srv/fleet.git`",
            ));
        }
        return Ok((None, String::new(), None));
    }
    let six = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = match six {
        Some(six) => six.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')),
    };
    if !good || host.is_empty() || host.starts_with('-') {
        return Err(part("host", host, "is not a host name or address (letters, digits, `.`, `-`, not `-` first)"));
    }
    Ok((user, host.to_ascii_lowercase(), port))
}

/// `ref` and `path`.
fn query_of(query: &str) -> Result<(Option<String>, Option<RelPath>), UrlError> {
    let (mut reference, mut path) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        // The value of an unknown key may be somebody's token: it is not shown.
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "ref" => {
                let value = decoded("ref", value)?;
                let valid = git2::Reference::is_valid_name(&format!("refs/heads/{value}"));
                if !valid || value.starts_with('-') || value.is_empty() {
                    return Err(part("ref", &value, "is not the name of a branch or tag, nor a whole commit id"));
                }
                if reference.replace(value).is_some() {
                    return Err(UrlError::RepeatedKey("ref"));
                }
            }
            "path" => {
                let value = decoded("path", value)?;
                let folder = value.strip_suffix('/').unwrap_or(&value).parse::<RelPath>().map_err(|_why| {
                    part(
                        "path",
                        &value,
                        "is not a folder below the root of the tree, such as `dist/pier-7`, without `..`",
                    )
                })?;
                if path.replace(folder).is_some() {
                    return Err(UrlError::RepeatedKey("path"));
                }
            }
            unknown => {
                return Err(UrlError::UnknownKey(unknown.chars().take(40).flat_map(char::escape_debug).collect()));
            }
        }
    }
    Ok((reference, path))
}

impl fmt::Display for GitUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "git+{}://", self.scheme.as_str())?;
        if let Some(user) = &self.user {
            write!(f, "{}@", utf8_percent_encode(user, percent_encoding::NON_ALPHANUMERIC))?;
        }
        f.write_str(&self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.encoded)?;
        let pairs = [("ref", self.reference.as_deref()), ("path", self.path.as_ref().map(RelPath::as_str))];
        let mut lead = '?';
        for (key, value) in pairs {
            if let Some(value) = value {
                write!(f, "{lead}{key}={}", utf8_percent_encode(value, VALUE))?;
                lead = '&';
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
