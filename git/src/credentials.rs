//! User names and passwords for https, from the files of git-credential-store. No helper is ever started.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use crate::error::GitError;
use crate::options::GitOptions;
use crate::url::{GitUrl, Scheme};

/// Largest file of credentials: thousands of lines.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A user name and a password. There is no `Debug`: it would end up in a log.
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: Zeroizing<String>,
}

/// Where credentials are looked for, in order.
#[derive(Debug, Clone)]
pub(crate) struct Places(Vec<PathBuf>);

impl Places {
    /// The given file alone, else those of git-credential-store.
    pub(crate) fn of(options: &GitOptions<'_>) -> Self {
        if let Some(file) = &options.credentials {
            return Self(vec![file.clone()]);
        }
        let home = options.environment.home.as_ref();
        let config = options.environment.xdg_config_home.clone().or_else(|| Some(home?.join(".config")));
        let files =
            [home.map(|home| home.join(".git-credentials")), config.map(|folder| folder.join("git/credentials"))];
        Self(files.into_iter().flatten().collect())
    }

    /// The places, for people.
    pub(crate) fn describe(&self) -> String {
        let names: Vec<String> = self.0.iter().map(|path| format!("`{}`", path.display())).collect();
        if names.is_empty() { "no file, as HOME is not set".to_owned() } else { names.join(", ") }
    }

    /// The first credentials for the URL.
    pub(crate) fn find(&self, url: &GitUrl) -> Result<Option<Credentials>, GitError> {
        for path in &self.0 {
            let Some(text) = read(path)? else { continue };
            if let Some(found) = text.lines().find_map(|line| matching(line, url)) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// The file's text; `None` when it does not exist. One that others may read is refused: its secrets are out.
fn read(path: &PathBuf) -> Result<Option<Zeroizing<String>>, GitError> {
    let problem = |problem: String, remedy: String| GitError::File { path: path.clone(), problem, remedy };
    let unreadable =
        |error: io::Error| problem(format!("cannot be read: {error}"), "check the file and its owner".to_owned());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    if mode & 0o077 != 0 {
        let shown = path.display();
        return Err(problem(
            format!("holds credentials and is open to others (mode {:04o})", mode & 0o7777),
            format!("`chmod 600 {shown}`, and change the passwords if others could have read them"),
        ));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(problem(format!("is larger than {MAX_FILE_BYTES} bytes"), "remove old lines".to_owned()));
    }
    Ok(Some(text))
}

/// `SCHEME://USER:PASSWORD@HOST[:PORT]`, when scheme, host, port and (where the URL names one) user are the same.
fn matching(line: &str, url: &GitUrl) -> Option<Credentials> {
    let (scheme, rest) = line.trim().split_once("://")?;
    let authority = rest.split('/').next()?;
    let (login, place) = authority.rsplit_once('@')?;
    let (user, password) = login.split_once(':')?;
    let decode = |text| percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned);
    let user = decode(user)?;
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port.parse::<u16>().ok()?)),
        Some(_) | None => (place, None),
    };
    let default = if url.scheme == Scheme::Https { 443 } else { 80 };
    let same = scheme == url.scheme.as_str()
        && host.eq_ignore_ascii_case(&url.host)
        && port.unwrap_or(default) == url.port.unwrap_or(default)
        && url.user.as_ref().is_none_or(|wanted| *wanted == user);
    same.then_some(Credentials { user, password: Zeroizing::new(decode(password)?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_counts_for_its_scheme_host_port_and_user_alone() {
        let url: GitUrl = "git+https://git.example/x".parse().expect("a URL");
        let with_user: GitUrl = "git+https://ops@git.example:8443/x".parse().expect("a URL");
        let found = |line, url| matching(line, url).map(|found| format!("{}/{}", found.user, found.password.as_str()));
        assert_eq!(found("https://a:b%40c@git.example", &url).as_deref(), Some("a/b@c"));
        assert_eq!(found("https://a:b@GIT.example:443/any", &url).as_deref(), Some("a/b"));
        assert_eq!(found("https://ops:b@git.example:8443", &with_user).as_deref(), Some("ops/b"));
        for line in [
            "http://a:b@git.example",
            "https://a:b@git.example:8443",
            "https://a:b@git.example.evil",
            "https://a:b@evil/@git.example",
            "https://git.example",
            "# https://a:b@git.example",
            "",
        ] {
            assert_eq!(found(line, &url), None, "{line}");
        }
        assert_eq!(found("https://other:b@git.example:8443", &with_user), None);
    }
}
