//! `edge/local.toml`: what the operator of one node sets, over what the signed manifest says.

use core::net::SocketAddr;

use toml_edit::{DocumentMut, Item, Table};

use super::edge_toml::{integer, number};
use crate::canonical::MAX_INTEGER;

/// Keys that an operator may set in `edge/local.toml` (DESIGN §12).
pub const LOCAL_KEYS: [&str; 3] = ["bandwidth", "listen", "metrics"];

/// Keys of its section `bandwidth`.
const BANDWIDTH_KEYS: [&str; 2] = ["bytes_per_second", "daily_quota_bytes"];

/// The operator's own settings. What is not set is as the manifest or the defaults say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Local {
    /// Where peers connect to.
    pub listen: Option<SocketAddr>,
    /// Where metrics are read; a loopback address.
    pub metrics: Option<SocketAddr>,
    /// Bytes a second to one peer; 0 is unlimited.
    pub bytes_per_second: Option<u64>,
    /// Bytes a day to all of them; 0 is unlimited.
    pub daily_quota_bytes: Option<u64>,
}

impl Local {
    /// Reads an `edge/local.toml`; or says why it cannot be used, without quoting it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let doc = document(text)?;
        let address = |key: &str| -> Result<Option<SocketAddr>, String> {
            let Some(item) = doc.get(key) else { return Ok(None) };
            let address = item.as_str().and_then(|text| text.parse().ok());
            address.map(Some).ok_or_else(|| format!("`{key}` is no address; expected for example \"127.0.0.1:7443\""))
        };
        let mut local = Self { listen: address("listen")?, metrics: address("metrics")?, ..Self::default() };
        if local.metrics.is_some_and(|metrics| !metrics.ip().is_loopback()) {
            return Err("`metrics` is no loopback address; metrics are for this machine alone".to_owned());
        }
        let Some(bandwidth) = doc.get("bandwidth") else { return Ok(local) };
        let table = bandwidth.as_table_like().ok_or("`bandwidth` is no section")?;
        if table.iter().any(|(key, _)| !BANDWIDTH_KEYS.contains(&key)) {
            return Err(format!(
                "`bandwidth` has keys that it does not know; allowed are {}",
                BANDWIDTH_KEYS.join(", ")
            ));
        }
        let limit = |key: &str| -> Result<Option<u64>, String> {
            if table.get(key).is_none() {
                return Ok(None);
            }
            let limit = number(table, key).filter(|limit| *limit <= MAX_INTEGER);
            limit.map(Some).ok_or_else(|| format!("`bandwidth.{key}` is no number of bytes; 0 is unlimited"))
        };
        local.bytes_per_second = limit("bytes_per_second")?;
        local.daily_quota_bytes = limit("daily_quota_bytes")?;
        Ok(local)
    }
}

/// The text with another limit in bytes a second; comments and everything else stay as they are.
pub fn with_bandwidth(text: &str, bytes_per_second: u64) -> Result<String, String> {
    Local::parse(text)?;
    let mut doc = document(text)?;
    if doc.get("bandwidth").is_none() {
        doc["bandwidth"] = Item::Table(Table::new());
    }
    let table = doc.get_mut("bandwidth").and_then(Item::as_table_like_mut).ok_or("`bandwidth` is no section")?;
    let new = integer(bytes_per_second);
    match (table.get_mut("bytes_per_second").and_then(Item::as_value_mut), new.as_value()) {
        (Some(old), Some(value)) => {
            // The comment behind the number is part of its decoration.
            let decor = old.decor().clone();
            *old = value.clone();
            *old.decor_mut() = decor;
        }
        _ => {
            table.insert("bytes_per_second", new);
        }
    }
    Ok(doc.to_string())
}

/// The keys that an `edge/local.toml` sets, sorted; or why it cannot be used.
pub fn local_keys(text: &str) -> Result<Vec<String>, String> {
    Local::parse(text)?;
    let mut keys: Vec<String> = document(text)?.iter().map(|(key, _)| key.to_owned()).collect();
    keys.sort();
    Ok(keys)
}

fn document(text: &str) -> Result<DocumentMut, String> {
    // The parser's own message quotes the file, whose content must not travel with facts.
    let doc = text.parse::<DocumentMut>().map_err(|_quotes_it| "it is not TOML".to_owned())?;
    let count = doc.iter().filter(|(key, _)| !LOCAL_KEYS.contains(key)).count();
    if count > 0 {
        return Err(format!("{count} of its keys may not be set there; allowed are {}", LOCAL_KEYS.join(", ")));
    }
    Ok(doc)
}

#[cfg(test)]
mod tests {
    use super::{Local, local_keys, with_bandwidth};
    use crate::relay::{Bandwidth, Peer, Relay};

    const OWN: &str = "# the uplink is a satellite\nlisten = \"10.0.0.1:7443\" # ship's network\n\n[bandwidth] # bytes\nbytes_per_second = 1000 # ask Kim\n# none a day\n";

    #[test]
    fn another_bandwidth_keeps_comments_and_order() {
        let changed = with_bandwidth(OWN, 5).expect("is taken");
        assert_eq!(changed, OWN.replace("1000", "5"));
        let local = Local::parse(&changed).expect("reads");
        assert_eq!((local.bytes_per_second, local.daily_quota_bytes), (Some(5), None));
        for (before, after) in [
            ("", "[bandwidth]\nbytes_per_second = 0\n"),
            (
                "bandwidth = { daily_quota_bytes = 7 }\n",
                "bandwidth = { daily_quota_bytes = 7 , bytes_per_second = 0 }\n",
            ),
            ("metrics = \"127.0.0.1:1\"\n", "metrics = \"127.0.0.1:1\"\n\n[bandwidth]\nbytes_per_second = 0\n"),
        ] {
            assert_eq!(with_bandwidth(before, 0).expect("is taken"), after);
        }
        assert!(with_bandwidth("peers = []", 1).is_err(), "a file that is wrong is not made worse");
    }

    #[test]
    fn a_local_file_is_refused_with_what_would_be_right_and_without_its_words() {
        for (text, told) in [
            ("listen = [", "not TOML"),
            ("peers = \"secret\"", "allowed are bandwidth, listen, metrics"),
            ("listen = \"secret\"", "`listen` is no address"),
            ("metrics = \"0.0.0.0:9643\"", "no loopback"),
            ("bandwidth = 3", "no section"),
            ("[bandwidth]\nsecret = 3", "allowed are bytes_per_second, daily_quota_bytes"),
            ("[bandwidth]\nbytes_per_second = -1", "0 is unlimited"),
            ("[bandwidth]\ndaily_quota_bytes = \"secret\"", "0 is unlimited"),
        ] {
            let refused = Local::parse(text).expect_err(text);
            assert!(refused.contains(told) && !refused.contains("secret"), "{text}: {refused}");
            assert_eq!(local_keys(text), Err(refused));
        }
        assert_eq!(local_keys(OWN).expect("reads"), ["bandwidth", "listen"]);
    }

    #[test]
    fn edge_toml_is_read_as_it_is_written_and_nothing_else_is() {
        let peer = |id: &str| Peer { id: id.parse().expect("name"), address: format!("{id}.harbor:7443") };
        let relay = Relay {
            peers: vec![peer("node-c"), peer("node-b")],
            bandwidth: Bandwidth { bytes_per_second: 9, daily_quota_bytes: 10 },
            ..Relay::default()
        };
        for relay in [Relay::default(), relay] {
            let text = relay.edge_toml();
            assert_eq!(Relay::from_edge_toml(&text), Ok(relay));
            for foreign in
                [format!("{text}# mine\n"), text.replace("max_retry_count = 5", "max_retry_count = 6_0"), String::new()]
            {
                assert!(Relay::from_edge_toml(&foreign).is_err(), "{foreign}");
            }
        }
    }
}
