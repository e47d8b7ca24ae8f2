//! Requests to the one host of a reference: who asks, where answers lead, when to ask again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use reqwest::blocking::{Client, Response};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use std::io::Read;
use url::Url;
use zeroize::Zeroizing;

use super::error::{Again, RegistryError, shown};
use super::{RegistryOptions, credentials, roots};
use crate::reference::Reference;

/// The error code of the distribution specification for a manifest that names a blob which is not there.
const BLOB_UNKNOWN: &str = "MANIFEST_BLOB_UNKNOWN";
const MAX_REDIRECTS: usize = 5;
const ATTEMPTS: u32 = 5;
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const FIRST_WAIT: Duration = Duration::from_millis(250);
const MAX_TOKEN_BYTES: usize = 256 << 10;
/// A span in which less comes than this ends the transfer.
const LEAST_BYTES: u64 = 1024;
/// A broken transfer that moved so many bytes begins to count its attempts anew.
const HEADWAY: u64 = 1 << 20;
/// A chunk that is sent may take as long as at 16 KiB a second.
const SLOWEST: u64 = 16 << 10;

/// One request.
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Ask {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }
}

pub(crate) struct Http {
    client: Client,
    pub(crate) base: Url,
    authority: String,
    pub(crate) options: RegistryOptions,
    authorization: Mutex<Option<HeaderValue>>,
    tried: Mutex<String>,
    trusted: String,
    moved: AtomicU64,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: Zeroizing<String>,
    #[serde(default)]
    access_token: Zeroizing<String>,
}

impl Http {
    pub(crate) fn new(reference: &Reference, options: RegistryOptions) -> Result<Self, RegistryError> {
        let plain = reference.is_loopback() && !options.tls && options.ca_file.is_none();
        let authority = reference.authority();
        let text = format!("{}://{authority}/", if plain { "http" } else { "https" });
        let malformed = |detail: String| RegistryError::Unreachable { place: authority.clone(), detail };
        let base = Url::parse(&text).map_err(|error| malformed(error.to_string()))?;
        let file = roots::file(options.ca_file.as_deref());
        let trusted = file.as_ref().map_or("nothing".to_owned(), |path| format!("`{}`", path.display()));
        let certificates = if plain { Vec::new() } else { roots::read(file.as_deref())? };
        let mut builder = Client::builder()
            .tls_certs_only(certificates)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(concat!("autonomy/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.silence)
            .timeout(options.silence);
        if reference.is_loopback() {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| malformed(error.without_url().to_string()))?;
        let (authorization, tried) = (Mutex::new(None), Mutex::new("no credentials were asked for".to_owned()));
        Ok(Self { client, base, authority, options, authorization, tried, trusted, moved: AtomicU64::new(0) })
    }

    /// The address of a path of the registry.
    pub(crate) fn at(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        url
    }

    pub(crate) fn cancelled(&self) -> Result<(), RegistryError> {
        let asked = self.options.cancel.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed));
        if asked { Err(RegistryError::Cancelled) } else { Ok(()) }
    }

    /// Tries up to five times, with growing waits; what moved on in between begins to count anew.
    pub(crate) fn attempts<T>(&self, mut once: impl FnMut() -> Result<T, RegistryError>) -> Result<T, RegistryError> {
        let (mut wait, mut attempt) = (FIRST_WAIT, 1);
        let mut before = self.moved.load(Ordering::Relaxed);
        loop {
            self.cancelled()?;
            let error = match once() {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let now = self.moved.load(Ordering::Relaxed);
            if now.saturating_sub(before) >= HEADWAY {
                (wait, attempt) = (FIRST_WAIT, 1);
            }
            // Bytes that had to come again are no headway.
            before = before.max(now);
            let asked = match error.again() {
                Again::Soon if attempt < ATTEMPTS => wait,
                Again::After(asked) if attempt < ATTEMPTS => asked.min(LONGEST_WAIT),
                Again::No | Again::Soon | Again::After(_) => return Err(error),
            };
            self.pause(asked)?;
            wait *= 2;
            attempt += 1;
        }
    }

    /// Waits, unless the caller asks to stop.
    pub(crate) fn pause(&self, span: Duration) -> Result<(), RegistryError> {
        let since = Instant::now();
        while let Some(left) = span.checked_sub(since.elapsed()) {
            self.cancelled()?;
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        Ok(())
    }

    /// One request, with what a 401 asks for, and redirects within the host.
    pub(crate) fn send(&self, ask: &Ask) -> Result<Response, RegistryError> {
        let mut url = ask.url.clone();
        let mut asked = false;
        for _ in 0..=MAX_REDIRECTS + 1 {
            let response = self.once(ask, &url)?;
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && !asked {
                asked = true;
                if self.authorize(&url, &response)? {
                    continue;
                }
            }
            let safe = ask.method == Method::GET || ask.method == Method::HEAD;
            if matches!(status.as_u16(), 307 | 308) || safe && matches!(status.as_u16(), 301..=303) {
                url = self.location(&url, &response)?;
                continue;
            }
            return Ok(response);
        }
        Err(RegistryError::Redirected { place: place(&ask.url), to: "itself, again and again".to_owned() })
    }

    fn once(&self, ask: &Ask, url: &Url) -> Result<Response, RegistryError> {
        let mut request = self.client.request(ask.method.clone(), url.clone());
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        if let Some(value) = &*self.authorization.lock().unwrap_or_else(PoisonError::into_inner) {
            request = request.header(AUTHORIZATION, value.clone());
        }
        if ask.method != Method::GET && ask.method != Method::HEAD {
            let sending = Duration::from_secs(ask.body.len() as u64 / SLOWEST);
            request = request.timeout(self.options.silence + sending);
            request = request.header(CONTENT_LENGTH, ask.body.len()).body(ask.body.clone());
        }
        request.send().map_err(|error| self.failed(url, error))
    }

    /// Where an answer leads, if that is the same scheme, host and port.
    pub(crate) fn location(&self, from: &Url, response: &Response) -> Result<Url, RegistryError> {
        self.inside(from, header(response.headers(), LOCATION.as_str()))
    }

    /// An address that is within the origin.
    pub(crate) fn inside(&self, from: &Url, text: &str) -> Result<Url, RegistryError> {
        let to = from.join(text).map_err(|error| RegistryError::Malformed {
            place: place(from),
            detail: format!("it leads to what is not an address: {error}"),
        })?;
        if to.origin() == self.base.origin() && to.username().is_empty() && to.password().is_none() {
            return Ok(to);
        }
        Err(RegistryError::Redirected { place: place(from), to: shown(&to.origin().ascii_serialization()) })
    }

    /// Gets what a 401 asks for; whether there is something new to try.
    fn authorize(&self, url: &Url, response: &Response) -> Result<bool, RegistryError> {
        let challenges: Vec<&str> =
            response.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).collect();
        let file = self.options.docker_config.clone().or_else(credentials::default_file);
        let helpers = self.options.helpers.as_deref();
        let found = match &file {
            Some(file) => credentials::find(file, helpers, &self.authority)?,
            None => None,
        };
        let tried = match (&found, &file) {
            (Some(found), _) => format!("sent as user `{}` with the secret from {}", shown(&found.user), found.from),
            (None, Some(file)) => format!("no credentials for {} in `{}`", self.authority, file.display()),
            (None, None) => "no docker config, as HOME is not set".to_owned(),
        };
        *self.tried.lock().unwrap_or_else(PoisonError::into_inner) = tried;
        let value = if let Some(rest) = challenges.iter().find_map(|text| scheme(text, "bearer")) {
            let token = self.token(url, rest, found.as_ref())?;
            Zeroizing::new(["Bearer ", token.as_str()].concat())
        } else if challenges.iter().any(|text| scheme(text, "basic").is_some()) {
            let Some(found) = found.filter(|found| !found.identity) else { return Ok(false) };
            basic(&found)
        } else {
            return Ok(false);
        };
        let Ok(mut header) = HeaderValue::from_str(&value) else { return Ok(false) };
        header.set_sensitive(true);
        let mut known = self.authorization.lock().unwrap_or_else(PoisonError::into_inner);
        let new = known.as_ref() != Some(&header);
        *known = Some(header);
        Ok(new)
    }

    fn token(
        &self,
        url: &Url,
        challenge: &str,
        found: Option<&credentials::Credentials>,
    ) -> Result<Zeroizing<String>, RegistryError> {
        let malformed = |detail: &str| RegistryError::Malformed { place: place(url), detail: detail.to_owned() };
        let realm = parameter(challenge, "realm").ok_or_else(|| malformed("a challenge without realm"))?;
        let mut realm = Url::parse(&realm).map_err(|_error| malformed("a realm that is no address"))?;
        if realm.origin() != self.base.origin() || !realm.username().is_empty() || realm.password().is_some() {
            let realm = shown(&realm.origin().ascii_serialization());
            return Err(RegistryError::RealmElsewhere { place: place(url), realm });
        }
        let asked: Vec<(&str, String)> =
            ["service", "scope"].into_iter().filter_map(|name| Some((name, parameter(challenge, name)?))).collect();
        let request = match found {
            Some(found) if found.identity => {
                let mut form = url::form_urlencoded::Serializer::new(String::new());
                form.extend_pairs(&asked).append_pair("grant_type", "refresh_token");
                form.append_pair("refresh_token", &found.secret).append_pair("client_id", "autonomy");
                let request = self.client.post(realm.clone()).body(form.finish());
                request.header("Content-Type", "application/x-www-form-urlencoded")
            }
            other => {
                realm.query_pairs_mut().extend_pairs(&asked);
                let request = self.client.get(realm.clone());
                match other {
                    Some(found) => request.header(AUTHORIZATION, basic(found).as_str()),
                    None => request,
                }
            }
        };
        let response = request.send().map_err(|error| self.failed(&realm, error))?;
        // What a token endpoint says when it refuses may repeat what it was sent.
        let response = self.accept_silently(&realm, response, "a token")?;
        // As large as it may get, so that no copy is left behind where it grew.
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_TOKEN_BYTES));
        let read = response.take(MAX_TOKEN_BYTES as u64).read_to_end(&mut text);
        read.map_err(|error| self.broken(&realm, &error))?;
        let token: Token = serde_json::from_slice(&text).map_err(|_shows_it| malformed("the answer holds no token"))?;
        let token = if token.token.is_empty() { token.access_token } else { token.token };
        if token.is_empty() { Err(malformed("the answer holds no token")) } else { Ok(token) }
    }

    /// The answer, if it is a good one.
    pub(crate) fn accept(&self, url: &Url, response: Response, what: &str) -> Result<Response, RegistryError> {
        self.accepted(url, response, what, true)
    }

    /// The same; of a refusal the status alone is shown.
    fn accept_silently(&self, url: &Url, response: Response, what: &str) -> Result<Response, RegistryError> {
        self.accepted(url, response, what, false)
    }

    fn accepted(&self, url: &Url, response: Response, what: &str, show: bool) -> Result<Response, RegistryError> {
        let status = response.status();
        let place = place(url);
        match status.as_u16() {
            200..=299 => Ok(response),
            401 | 403 => {
                let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Err(RegistryError::Refused { place, status: status.as_u16(), tried })
            }
            404 => Err(RegistryError::NotFound { what: what.to_owned(), place }),
            status => {
                let retry_after = wait_of(header(response.headers(), RETRY_AFTER.as_str()), jiff::Timestamp::now());
                let mut text = Vec::new();
                // A server that was sent a secret could repeat it.
                let secret = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).is_some();
                if show {
                    let _read = response.take(4096).read_to_end(&mut text);
                }
                let text = shown(&String::from_utf8_lossy(&text));
                let lacks_blob = status == 400 && text.contains(BLOB_UNKNOWN);
                let detail = if text.is_empty() || secret { String::new() } else { format!(": {text}") };
                if lacks_blob {
                    return Err(RegistryError::LacksBlob { place, detail });
                }
                Err(RegistryError::Status { place, status, detail, retry_after })
            }
        }
    }

    fn failed(&self, url: &Url, error: reqwest::Error) -> RegistryError {
        if error.is_timeout() {
            return RegistryError::Silent { place: place(url), silence: self.options.silence };
        }
        let error = error.without_url();
        let mut detail = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(source) = cause {
            let text = source.to_string();
            if !detail.contains(&text) {
                detail = format!("{detail}: {text}");
            }
            cause = source.source();
        }
        let (place, detail) = (place(url), shown(&detail));
        if ["certificate", "TLS", "tls", "handshake"].iter().any(|word| detail.contains(word)) {
            return RegistryError::Tls { place, detail, trusted: self.trusted.clone() };
        }
        RegistryError::Unreachable { place, detail }
    }

    fn broken(&self, url: &Url, error: &std::io::Error) -> RegistryError {
        let text = error.to_string();
        if text.contains("timed out") {
            return RegistryError::Silent { place: place(url), silence: self.options.silence };
        }
        RegistryError::Unreachable { place: place(url), detail: shown(&text) }
    }

    /// Reads a body piece by piece, with the deadline of progress.
    pub(crate) fn body(
        &self,
        url: &Url,
        response: &mut Response,
        mut with: impl FnMut(&[u8]) -> Result<(), RegistryError>,
    ) -> Result<(), RegistryError> {
        let mut buffer = vec![0; 256 << 10];
        let (mut since, mut bytes) = (Instant::now(), 0_u64);
        loop {
            self.cancelled()?;
            let count = response.read(&mut buffer).map_err(|error| self.broken(url, &error))?;
            if count == 0 {
                return Ok(());
            }
            bytes += count as u64;
            with(&buffer[..count])?;
            if since.elapsed() >= self.options.silence {
                if bytes < LEAST_BYTES {
                    return Err(RegistryError::Silent { place: place(url), silence: self.options.silence });
                }
                (since, bytes) = (Instant::now(), 0);
            }
        }
    }

    /// Counts bytes that arrived on either side: attempts begin anew after enough of them.
    pub(crate) fn moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What came and must come again.
    pub(crate) fn lost(&self, bytes: u64) {
        // Of one transfer at a time, no more can be lost than moved, save what an earlier run left.
        let known = self.moved.load(Ordering::Relaxed);
        self.moved.store(known.saturating_sub(bytes), Ordering::Relaxed);
    }
}

/// An address as people may see it: without a query, which could hold anything.
pub(crate) fn place(url: &Url) -> String {
    shown(&format!("{}{}", url.origin().ascii_serialization(), url.path()))
}

pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// What `Retry-After` asks for, in seconds or as a date (RFC 9110, 10.2.3).
fn wait_of(text: &str, now: jiff::Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
    Some(then.duration_since(now).try_into().unwrap_or_default())
}

fn basic(found: &credentials::Credentials) -> Zeroizing<String> {
    let login = Zeroizing::new([found.user.as_str(), ":", found.secret.as_str()].concat());
    // With room for all of it, so that no copy is left behind where it grew.
    let mut value = Zeroizing::new(String::with_capacity(login.len() * 4 / 3 + 16));
    value.push_str("Basic ");
    base64::engine::general_purpose::STANDARD.encode_string(login.as_bytes(), &mut value);
    value
}

fn scheme<'a>(challenge: &'a str, name: &str) -> Option<&'a str> {
    let (scheme, rest) = challenge.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case(name).then_some(rest)
}

/// The value of `name="…"`.
fn parameter(challenge: &str, name: &str) -> Option<String> {
    let mut rest = challenge;
    while let Some((key, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.trim_matches([',', ' ']).eq_ignore_ascii_case(name) {
            return Some(value.to_owned());
        }
        rest = next;
    }
    None
}

impl Http {
    /// The version and the scheme of the challenge that a first, bare request meets.
    pub(crate) fn challenge(&self, url: &Url) -> Result<(Option<String>, Option<String>), RegistryError> {
        let response = self.client.get(url.clone()).send().map_err(|error| self.failed(url, error))?;
        let some = |text: &str| (!text.is_empty()).then(|| shown(text));
        let version = some(header(response.headers(), "docker-distribution-api-version"));
        let challenge = header(response.headers(), WWW_AUTHENTICATE.as_str());
        Ok((version, some(challenge.split(' ').next().unwrap_or_default())))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{parameter, wait_of};

    #[test]
    fn the_wait_is_read_in_seconds_and_as_a_date() {
        let now = "2026-11-29T10:00:00Z".parse().expect("a time");
        let wait = |text| wait_of(text, now);
        assert_eq!(wait("120"), Some(Duration::from_secs(120)));
        assert_eq!(wait("Sun, 29 Nov 2026 10:00:07 GMT"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Sun, 29 Nov 2026 09:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!((wait(""), wait("soon"), wait("-3")), (None, None, None));
    }

    #[test]
    fn parameters_of_a_challenge_are_found() {
        let challenge = r#"realm="https://h/t",service=a,scope="repository:x:pull,push""#;
        assert_eq!(parameter(challenge, "realm").as_deref(), Some("https://h/t"));
        assert_eq!(parameter(challenge, "service").as_deref(), Some("a"));
        assert_eq!(parameter(challenge, "Scope").as_deref(), Some("repository:x:pull,push"));
        assert_eq!(parameter(challenge, "error"), None);
    }
}
