//! `edge.toml`: written as a pure function of `spec.relay`, and read back as strictly as that allows.

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, TableLike, value};

use super::{Bandwidth, IngestQuota, Peer, Relay, Storage, SuccessCondition};

impl Relay {
    /// The text of `edge.toml`: the configuration of `edged`, the same bytes on every machine.
    pub fn edge_toml(&self) -> String {
        let mut doc = DocumentMut::new();
        doc["success_condition"] = value(self.success_condition.as_str());
        doc["max_retry_count"] = integer(self.max_retry_count);
        doc["backoff_base"] = value(self.backoff_base.to_string());
        doc["window"] = value(self.window.to_string());
        doc["bandwidth"] = table(&[
            ("bytes_per_second", self.bandwidth.bytes_per_second),
            ("daily_quota_bytes", self.bandwidth.daily_quota_bytes),
        ]);
        doc["ingest_quota"] = table(&[
            ("bytes_per_second", self.ingest_quota.bytes_per_second),
            ("burst_bytes", self.ingest_quota.burst_bytes),
        ]);
        doc["storage"] = table(&[
            ("disk_ceiling_bytes", self.storage.disk_ceiling_bytes),
            ("eviction_percent", self.storage.eviction_percent),
        ]);
        if !self.peers.is_empty() {
            let mut peers = ArrayOfTables::new();
            for peer in &self.peers {
                let mut entry = Table::new();
                entry["id"] = value(peer.id.as_str());
                entry["address"] = value(peer.address.as_str());
                peers.push(entry);
            }
            doc["peers"] = Item::ArrayOfTables(peers);
        }
        format!("# Written by autonomy from the signed manifest; your own settings go into edge/local.toml.\n{doc}")
    }

    /// Reads an `edge.toml`. Nobody but [`Relay::edge_toml`] writes one, so what is not its very text is refused.
    pub fn from_edge_toml(text: &str) -> Result<Self, String> {
        let foreign = || "it is not what autonomy writes from a signed manifest".to_owned();
        // The parser's own message quotes the file.
        let doc = text.parse::<DocumentMut>().map_err(|_quotes_it| "it is not TOML".to_owned())?;
        let relay = relay(&doc).ok_or_else(foreign)?;
        if relay.edge_toml() != text || !relay.validate().is_empty() {
            return Err(foreign());
        }
        Ok(relay)
    }
}

fn relay(doc: &DocumentMut) -> Option<Relay> {
    let section = |name: &str| doc.get(name)?.as_table_like();
    let (bandwidth, ingest, storage) = (section("bandwidth")?, section("ingest_quota")?, section("storage")?);
    let peers = match doc.get("peers") {
        Some(peers) => peers.as_array_of_tables()?.iter().map(peer).collect::<Option<_>>()?,
        None => Vec::new(),
    };
    Some(Relay {
        success_condition: SuccessCondition::named(doc.get("success_condition")?.as_str()?)?,
        peers,
        max_retry_count: number(doc.as_table(), "max_retry_count")?,
        backoff_base: doc.get("backoff_base")?.as_str()?.parse().ok()?,
        window: doc.get("window")?.as_str()?.parse().ok()?,
        bandwidth: Bandwidth {
            bytes_per_second: number(bandwidth, "bytes_per_second")?,
            daily_quota_bytes: number(bandwidth, "daily_quota_bytes")?,
        },
        ingest_quota: IngestQuota {
            bytes_per_second: number(ingest, "bytes_per_second")?,
            burst_bytes: number(ingest, "burst_bytes")?,
        },
        storage: Storage {
            disk_ceiling_bytes: number(storage, "disk_ceiling_bytes")?,
            eviction_percent: number(storage, "eviction_percent")?,
        },
    })
}

fn peer(entry: &Table) -> Option<Peer> {
    Some(Peer { id: entry.get("id")?.as_str()?.parse().ok()?, address: entry.get("address")?.as_str()?.to_owned() })
}

/// A whole number that is not negative.
pub(super) fn number(table: &dyn TableLike, name: &str) -> Option<u64> {
    u64::try_from(table.get(name)?.as_integer()?).ok()
}

/// Parsed numbers are at most 2^53 - 1, so the saturation is never reached.
pub(super) fn integer(number: u64) -> Item {
    value(i64::try_from(number).unwrap_or(i64::MAX))
}

fn table(entries: &[(&str, u64)]) -> Item {
    let mut table = Table::new();
    for (name, number) in entries {
        table[*name] = integer(*number);
    }
    Item::Table(table)
}
