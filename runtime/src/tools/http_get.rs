//! `tool.http_get`: a page of a host that the operator allowed, from an address that was judged before it was connected to.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use autonomy_schema::{Code, Reason};
use base64::Engine as _;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Client, Response, Url, redirect};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Host;

use super::address::{Network, is_metadata, is_public};
use super::failed;

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 5;
/// The whole of it, redirects and body included.
const TIME: Duration = Duration::from_secs(10);
/// Largest body.
const MAX_BODY: usize = 1 << 20;
/// Longest address.
const MAX_URL: usize = 8 << 10;

/// Parameters of `tool.http_get`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    url: String,
}

/// A host that may be asked, and with `.` before it those below it; with `:PORT` behind it that port instead of the
/// scheme's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    host: String,
    below: bool,
    port: Option<u16>,
}

impl std::str::FromStr for Domain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || "expected `example.org`, `.example.org` for the hosts below it, or `example.org:8443`".to_owned();
        let (below, rest) = text.strip_prefix('.').map_or((false, text), |rest| (true, rest));
        let url = Url::parse(&format!("https://{rest}/")).map_err(|_no_host| wrong())?;
        let is_plain = url.path() == "/" && url.query().is_none() && url.username().is_empty() && !rest.contains('/');
        let host = url.host_str().filter(|_| is_plain).ok_or_else(wrong)?.trim_end_matches('.').to_owned();
        if below && url.host().is_some_and(|host| !matches!(host, Host::Domain(_))) {
            return Err(wrong());
        }
        // 443 is what an address without a port has, so it is looked for in the text.
        let port = if rest.ends_with(":443") { Some(443) } else { url.port() };
        Ok(Self { host, below, port })
    }
}

impl Domain {
    fn holds(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default().trim_end_matches('.');
        let is_host = if self.below {
            host.strip_suffix(&self.host).is_some_and(|before| before.ends_with('.') && before.len() > 1)
        } else {
            host == self.host
        };
        let is_port = match self.port {
            Some(port) => url.port_or_known_default() == Some(port),
            None => url.port().is_none(),
        };
        is_host && is_port
    }
}

/// Hosts and networks that may be reached.
#[derive(Debug, Clone)]
pub(super) struct HttpGet {
    domains: Vec<Domain>,
    networks: Arc<Networks>,
    client: Client,
}

/// Networks that are allowed although they are not public.
#[derive(Debug)]
struct Networks(Vec<Network>);

impl Networks {
    fn judge(&self, address: IpAddr) -> Result<(), Kept> {
        let is_named = self.0.iter().any(|network| network.holds(address)) && !is_metadata(address);
        if is_named || is_public(address) { Ok(()) } else { Err(Kept(address)) }
    }
}

/// An address that is nobody's business.
#[derive(Debug)]
struct Kept(IpAddr);

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not a public address", self.0)
    }
}

impl Error for Kept {}

/// Names become addresses here and nowhere else, so what is judged is what is connected to.
#[derive(Debug)]
struct Judging(Arc<Networks>);

impl Resolve for Judging {
    fn resolve(&self, name: Name) -> Resolving {
        let networks = Arc::clone(&self.0);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            // One bad address of a name is enough: which of them is tried first is the name's choice.
            for address in &found {
                networks.judge(address.ip())?;
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl HttpGet {
    pub(super) fn new(domains: Vec<Domain>, networks: Vec<Network>, ca_file: Option<&Path>) -> Result<Self, Reason> {
        let networks = Arc::new(Networks(networks));
        let client = Client::builder()
            .tls_certs_only(autonomy_oci::trusted_certificates(ca_file)?)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .dns_resolver(Arc::new(Judging(Arc::clone(&networks))))
            // Each call has threads of its own, which no connection outlives.
            .pool_max_idle_per_host(0)
            .timeout(TIME)
            .user_agent(concat!("autonomy/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Reason::new(Code::IoError, format!("`tool.http_get` cannot be set up: {error}")))?;
        Ok(Self { domains, networks, client })
    }

    pub(super) fn run(&self, params: &Params) -> Result<Value, Reason> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| failed(format!("no thread: {error}")))?;
        runtime.block_on(async {
            let late = |_elapsed| failed(format!("it took longer than {} s", TIME.as_secs()));
            tokio::time::timeout(TIME, self.get(&params.url)).await.map_err(late)?
        })
    }

    async fn get(&self, text: &str) -> Result<Value, Reason> {
        if text.len() > MAX_URL {
            return Err(failed(format!("the address has {} bytes; at most {MAX_URL}", text.len())));
        }
        let mut url = Url::parse(text).map_err(|error| failed(format!("that is no address: {error}")))?;
        for _ in 0..=MAX_REDIRECTS {
            self.judge(&url)?;
            let response = self.client.get(url.clone()).send().await.map_err(|error| told(&error))?;
            let to = response.headers().get(LOCATION).filter(|_| response.status().is_redirection());
            let Some(to) = to else { return body(url, response).await };
            let to = to.to_str().map_err(|_not_ascii| failed("it redirects to what is no address".to_owned()))?;
            url = url.join(to).map_err(|error| failed(format!("it redirects to what is no address: {error}")))?;
        }
        Err(failed(format!("it redirects more than {MAX_REDIRECTS} times")))
    }

    /// Every address that is asked, redirects included.
    fn judge(&self, url: &Url) -> Result<(), Reason> {
        let shown: String = url.host_str().unwrap_or_default().chars().take(255).collect();
        let refuse = |why: String| Err(Reason::new(Code::AddressRefused, why));
        if !matches!(url.scheme(), "http" | "https") {
            return refuse(format!("`{}` is not http or https", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("an address with a user or a password is not asked".to_owned());
        }
        if !self.domains.iter().any(|domain| domain.holds(url)) {
            let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
            return refuse(format!("`{shown}{port}` is not among the hosts that `--allow-domain` names"));
        }
        // A resolver is not asked about an address that is written out.
        let written = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) | None => None,
        };
        match written.map(|address| self.networks.judge(address)) {
            Some(Err(kept)) => refuse(format!("{kept}, and no `--allow-address` names it")),
            Some(Ok(())) | None => Ok(()),
        }
    }
}

/// Why a request failed, without the address, which may hold secrets.
fn told(error: &reqwest::Error) -> Reason {
    let mut source: Option<&dyn Error> = error.source();
    let mut last = String::new();
    while let Some(cause) = source {
        if let Some(kept) = cause.downcast_ref::<Kept>() {
            return Reason::new(Code::AddressRefused, format!("{kept}, and no `--allow-address` names it"));
        }
        last = cause.to_string();
        source = cause.source();
    }
    let what = if error.is_timeout() { "it took too long" } else { "the request failed" };
    failed(format!("{what}: {}", last.chars().take(300).collect::<String>()))
}

async fn body(url: Url, mut response: Response) -> Result<Value, Reason> {
    let too_large = || failed(format!("the body is longer than {MAX_BODY} bytes"));
    if response.content_length().is_some_and(|length| length > MAX_BODY as u64) {
        return Err(too_large());
    }
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
    let status = response.status().as_u16();
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| told(&error))? {
        if bytes.len() + chunk.len() > MAX_BODY {
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    let mut result = json!({ "status": status, "content_type": kind, "url": url.as_str() });
    match String::from_utf8(bytes) {
        Ok(text) => result["body"] = text.into(),
        Err(error) => {
            result["body_base64"] = base64::engine::general_purpose::STANDARD.encode(error.as_bytes()).into();
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("address")
    }

    #[test]
    fn a_domain_holds_its_host_and_port_alone() {
        let domain = |text: &str| text.parse::<Domain>().expect("domain");
        let exact = domain("Example.org");
        for inside in
            ["https://example.org/x", "http://EXAMPLE.org", "https://example.org./", "https://example.org:443/"]
        {
            assert!(exact.holds(&url(inside)), "{inside}");
        }
        for outside in [
            "https://a.example.org",
            "https://example.org.evil.net",
            "https://evil-example.org",
            "https://example.org:8443",
            "https://example.org@evil.net",
            "https://evil.net/example.org",
            "https://evil.net#example.org",
            "https://exаmple.org",
        ] {
            assert!(!exact.holds(&url(outside)), "{outside}");
        }
        let below = domain(".example.org");
        assert!(below.holds(&url("https://a.b.example.org")) && !below.holds(&url("https://example.org")));
        assert!(!below.holds(&url("https://xexample.org")) && !below.holds(&url("https://.example.org")));
        let port = domain("example.org:8443");
        assert!(port.holds(&url("https://example.org:8443")) && !port.holds(&url("https://example.org")));
        assert!(domain("example.org:443").holds(&url("https://example.org")));
        for wrong in ["", ".", "a/b", "user@example.org", "example.org?x", "https://example.org", "a b", ".10.0.0.1"] {
            assert!(wrong.parse::<Domain>().is_err(), "{wrong}");
        }
    }
}
