//! Git's smart protocol over HTTP(S).

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use url::Url;

use crate::credentials::Credentials;
use crate::error::{GitError, shown};
use crate::exchange::Exchange;
use crate::pump::Incoming;
use crate::transport::Way;

/// Redirects that are followed within one host: hosts add `.git` or a trailing part, once.
const MAX_REDIRECTS: usize = 5;
/// Some hosts speak the smart protocol only to agents that begin so.
const AGENT: &str = concat!("git/2.0 (autonomy ", env!("CARGO_PKG_VERSION"), ")");
const LISTING: &str = "/info/refs?service=git-upload-pack";

/// One conversation with an HTTP server.
pub(crate) struct Http {
    exchange: Arc<Exchange>,
    state: Mutex<State>,
}

/// What was learnt from the first request and holds for the next.
#[derive(Default)]
struct State {
    client: Option<Client>,
    base: Option<String>,
    credentials: Option<Arc<Credentials>>,
}

impl Http {
    pub(crate) fn new(exchange: Arc<Exchange>) -> Arc<Self> {
        Arc::new(Self { exchange, state: Mutex::new(State::default()) })
    }

    fn state<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn shown_url(&self) -> String {
        self.exchange.url.to_string()
    }

    /// Built on a receiving thread, as building blocks.
    fn client(&self) -> Result<Client, GitError> {
        if let Some(client) = self.state(|state| state.client.clone()) {
            return Ok(client);
        }
        let roots = if self.exchange.url.scheme == crate::url::Scheme::Https {
            self.exchange.roots.read()?
        } else {
            Vec::new()
        };
        let mut builder = Client::builder()
            .tls_certs_only(roots)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(AGENT)
            // Of connecting, of waiting for an answer, and of every single read.
            .connect_timeout(self.exchange.silence)
            .timeout(self.exchange.silence);
        if self.exchange.url.is_loopback() {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| self.failed(error))?;
        self.state(|state| state.client = Some(client.clone()));
        Ok(client)
    }

    /// Asks for the refs, following redirects within the host.
    fn advertisement(&self) -> Result<Box<dyn Read + Send>, GitError> {
        let client = self.client()?;
        let mut target = format!("{}{LISTING}", self.exchange.url.http_base());
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(|| client.get(&target))?;
            if response.status().is_redirection() {
                target = self.redirected(&target, &response)?;
                continue;
            }
            let base = target.strip_suffix(LISTING).unwrap_or(&target).to_owned();
            self.state(|state| state.base = Some(base));
            return self.body(response, "application/x-git-upload-pack-advertisement");
        }
        Err(GitError::Redirected { url: self.shown_url(), to: shown(&target) })
    }

    /// Sends the negotiation.
    fn negotiation(&self, body: &[u8]) -> Result<Box<dyn Read + Send>, GitError> {
        let client = self.client()?;
        let base = self.state(|state| state.base.clone()).unwrap_or_else(|| self.exchange.url.http_base());
        let target = format!("{base}/git-upload-pack");
        let response = self.send(|| {
            let request = client.post(&target).header(CONTENT_TYPE, "application/x-git-upload-pack-request");
            request.header(ACCEPT, "application/x-git-upload-pack-result").body(body.to_vec())
        })?;
        if response.status().is_redirection() {
            return Err(GitError::Redirected { url: self.shown_url(), to: location(&target, &response).1 });
        }
        self.body(response, "application/x-git-upload-pack-result")
    }

    /// Sends a request: with credentials when the server asked for them before or asks now, else without.
    fn send(&self, request: impl Fn() -> RequestBuilder) -> Result<Response, GitError> {
        let with = |credentials: Option<&Credentials>| {
            let request = request();
            let request = match credentials {
                Some(found) => request.basic_auth(&found.user, Some(found.password.as_str())),
                None => request,
            };
            request.send().map_err(|error| self.failed(error))
        };
        let known = self.state(|state| state.credentials.clone());
        let response = with(known.as_deref())?;
        if response.status() != StatusCode::UNAUTHORIZED || known.is_some() {
            return Ok(response);
        }
        let Some(found) = self.exchange.places.find(&self.exchange.url)? else { return Ok(response) };
        let found = Arc::new(found);
        self.state(|state| state.credentials = Some(Arc::clone(&found)));
        with(Some(&*found))
    }

    /// Where a redirect leads, if that is the same scheme, host and port.
    fn redirected(&self, target: &str, response: &Response) -> Result<String, GitError> {
        match location(target, response) {
            (Some(next), _) if next.as_str().ends_with(LISTING) => Ok(next.into()),
            (_, to) => Err(GitError::Redirected { url: self.shown_url(), to }),
        }
    }

    /// The body of an answer that is what was asked for.
    fn body(&self, response: Response, wanted: &str) -> Result<Box<dyn Read + Send>, GitError> {
        let url = self.shown_url();
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            let places = self.exchange.places.describe();
            let detail = match self.state(|state| state.credentials.as_ref().map(|found| found.user.clone())) {
                Some(user) => {
                    format!("status {}; sent as user `{user}` with the password from {places}", status.as_u16())
                }
                None => format!("status {}; no credentials for this host in {places}", status.as_u16()),
            };
            return Err(GitError::Refused { url, detail });
        }
        if status == StatusCode::NOT_FOUND || status == StatusCode::GONE {
            let what = format!("the server has no such repository (status {}), or hides it", status.as_u16());
            return Err(GitError::NotFound { url, what });
        }
        if !status.is_success() {
            return Err(GitError::Unreachable { url, detail: format!("the server answered with status {status}") });
        }
        let found = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if found.split(';').next().map(str::trim) != Some(wanted) {
            let detail =
                format!("no git server that speaks the smart protocol answers there (content type `{}`)", shown(found));
            return Err(GitError::Unreachable { url, detail });
        }
        Ok(Box::new(response))
    }

    fn failed(&self, error: reqwest::Error) -> GitError {
        let timed_out = error.is_timeout();
        // The user is not in it, but the query of a redirect could hold anything.
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
        let (url, detail) = (self.shown_url(), shown(&detail));
        if timed_out {
            return GitError::Silent { url, seconds: self.exchange.silence.as_secs() };
        }
        if ["certificate", "TLS", "tls", "handshake"].iter().any(|word| detail.contains(word)) {
            return GitError::Tls { url, detail, trusted: self.exchange.roots.describe() };
        }
        GitError::Unreachable { url, detail }
    }
}

/// Where a redirect leads: whole when it stays within the origin, and as people may see it.
fn location(target: &str, response: &Response) -> (Option<Url>, String) {
    let text = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match Url::parse(target).and_then(|from| Ok((from.join(text)?, from))) {
        Ok((to, from)) => {
            let seen = shown(&format!("{}{}", to.origin().ascii_serialization(), to.path()));
            let inside = to.origin() == from.origin() && to.username().is_empty() && to.password().is_none();
            (inside.then_some(to), seen)
        }
        Err(_) => (None, "a malformed address".to_owned()),
    }
}

impl Way for Http {
    type Stream = HttpStream;

    fn list(self: &Arc<Self>) -> io::Result<HttpStream> {
        let http = Arc::clone(self);
        let incoming = Incoming::start(&self.exchange, move || http.advertisement())?;
        Ok(HttpStream { http: Arc::clone(self), request: Vec::new(), incoming: Some(incoming) })
    }

    fn pack(self: &Arc<Self>) -> io::Result<HttpStream> {
        Ok(HttpStream { http: Arc::clone(self), request: Vec::new(), incoming: None })
    }
}

/// One request: what is written is sent at the first read.
pub(crate) struct HttpStream {
    http: Arc<Http>,
    request: Vec<u8>,
    incoming: Option<Incoming>,
}

impl Read for HttpStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let incoming = match &mut self.incoming {
            Some(incoming) => incoming,
            none => {
                let (http, request) = (Arc::clone(&self.http), std::mem::take(&mut self.request));
                let started = Incoming::start(&self.http.exchange, move || http.negotiation(&request))?;
                none.insert(started)
            }
        };
        incoming.read(into)
    }
}

impl Write for HttpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.incoming.is_some() {
            return Err(io::Error::other("the request was sent already"));
        }
        // libgit2's own words: wants and haves of a fresh repository, a few hundred bytes.
        self.request.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
