//! What configures the daemon: `edge.toml` of the active generation, and over it the operator's `edge/local.toml`.

use std::net::{Ipv4Addr, SocketAddr};

use autonomy_schema::relay::{Local, Relay, with_bandwidth};
use autonomy_schema::{Code, Mode, Name, Reason, Reasons, RelPath};
use autonomy_stateroot::{StateRoot, durable, layout, read_capped};

/// Largest configuration in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// The configuration as it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The active generation; `None` before the first, when the node only receives.
    pub generation: Option<Name>,
    /// How it relays, with the operator's bandwidth.
    pub relay: Relay,
    /// Where peers connect to.
    pub listen: SocketAddr,
    /// Where metrics are read.
    pub metrics: SocketAddr,
    /// The operator limits the bandwidth himself.
    pub is_bandwidth_local: bool,
}

impl Settings {
    /// Reads the configuration of a state root.
    pub fn load(root: &StateRoot) -> Result<Self, Reasons> {
        let generation = root.current()?;
        let relay = match &generation {
            Some(generation) => signed(root, generation)?,
            None => Relay::default(),
        };
        Ok(Self::merge(generation, relay, local(root)?))
    }

    fn merge(generation: Option<Name>, mut relay: Relay, local: Local) -> Self {
        let bandwidth = &mut relay.bandwidth;
        bandwidth.bytes_per_second = local.bytes_per_second.unwrap_or(bandwidth.bytes_per_second);
        bandwidth.daily_quota_bytes = local.daily_quota_bytes.unwrap_or(bandwidth.daily_quota_bytes);
        Self {
            generation,
            relay,
            listen: local.listen.unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 7443).into()),
            metrics: local.metrics.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 9643).into()),
            is_bandwidth_local: local.bytes_per_second.is_some(),
        }
    }
}

/// What the signed manifest says.
fn signed(root: &StateRoot, generation: &Name) -> Result<Relay, Reasons> {
    let path = layout::in_generation(generation, &RelPath::fixed("edge.toml"));
    let damaged = |why: &str| Reasons::from(Reason::new(Code::CorruptState, format!("`{path}`: {why}")));
    let text = read(root, &path)?.ok_or_else(|| damaged("it is missing"))?;
    Relay::from_edge_toml(&text).map_err(|why| damaged(&why))
}

/// What the operator says.
fn local(root: &StateRoot) -> Result<Local, Reasons> {
    let text = read(root, &layout::edge_local())?.unwrap_or_default();
    Local::parse(&text).map_err(|why| refused(&why).into())
}

fn refused(why: &str) -> Reason {
    let reason = Reason::new(Code::BadConfig, format!("`{}`: {why}", layout::edge_local()));
    reason.with_remedy("mend the file or remove it; `edgectl` and a text editor may write it")
}

fn read(root: &StateRoot, path: &RelPath) -> Result<Option<String>, Reason> {
    let bytes = read_capped(root.disk(), path, MAX_BYTES).map_err(|error| error.to_reason())?;
    let text = bytes.map(String::from_utf8).transpose();
    text.map_err(|_not_text| Reason::new(Code::BadConfig, format!("`{path}`: it is not UTF-8")))
}

/// Limits the bandwidth to one peer in `edge/local.toml`, durably, and leaves everything else in it alone.
pub fn set_bandwidth(root: &StateRoot, bytes_per_second: u64) -> Result<(), Reasons> {
    let path = layout::edge_local();
    let text = read(root, &path)?.unwrap_or_default();
    let text = with_bandwidth(&text, bytes_per_second).map_err(|why| refused(&why))?;
    let disk = root.disk();
    durable::ensure_dir(disk, &RelPath::fixed("edge")).map_err(|error| error.to_reason())?;
    durable::replace(disk, &path, text.as_bytes(), Mode::PRIVATE).map_err(|error| error.to_reason())?;
    Ok(())
}
