//! `edgectl relay config`.

use autonomy_edge::config::{Settings, set_bandwidth};
use autonomy_edge::control::Question;
use autonomy_schema::{Code, Reasons, canonical::MAX_INTEGER};
use clap::Subcommand;
use serde_json::json;

use crate::show::limit;
use crate::{Context, show};

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// What is in force: the signed manifest, and over it `edge/local.toml`
    Get,
    /// Limit what is sent to one peer, in `edge/local.toml`, whose comments stay; the daemon takes it up at once
    SetBandwidth {
        /// Bytes a second; 0 is unlimited
        #[arg(value_parser = clap::value_parser!(u64).range(..=MAX_INTEGER))]
        bytes_per_second: u64,
    },
}

pub(crate) fn run(context: &Context, verb: &Verb) -> Result<(), Reasons> {
    match verb {
        Verb::Get => {
            let settings = Settings::load(&context.root)?;
            let source = if settings.is_bandwidth_local { "edge/local.toml" } else { "the manifest" };
            let value = json!({
                "generation": settings.generation,
                "listen": settings.listen.to_string(),
                "metrics": settings.metrics.to_string(),
                "relay": settings.relay,
                "bandwidth_from": source,
            });
            show::result(&value, context.output, |_| {
                let relay = &settings.relay;
                let generation = settings.generation.as_ref().map_or("none yet", |name| name.as_str());
                format!(
                    "generation      {generation}\nlisten          {}\nmetrics         {}\nbandwidth       {} (from {source})\n\
                     daily quota     {}\npeers           {}\nattempts        {} in {}, first after {}\n",
                    settings.listen,
                    settings.metrics,
                    limit(relay.bandwidth.bytes_per_second),
                    if relay.bandwidth.daily_quota_bytes == 0 {
                        "unlimited".to_owned()
                    } else {
                        format!("{} B", relay.bandwidth.daily_quota_bytes)
                    },
                    relay.peers.iter().map(|peer| peer.id.as_str()).collect::<Vec<_>>().join(" "),
                    relay.max_retry_count,
                    relay.window,
                    relay.backoff_base,
                )
            });
        }
        Verb::SetBandwidth { bytes_per_second } => {
            set_bandwidth(&context.root, *bytes_per_second)?;
            let is_up = match context.ask(&Question::Reload) {
                Ok(_) => true,
                Err(reasons) if reasons.has(Code::EdgedDown) => false,
                Err(reasons) => return Err(reasons),
            };
            let value = json!({ "bytes_per_second": bytes_per_second, "in_force": is_up });
            show::result(&value, context.output, |_| {
                let when = if is_up { "from now on" } else { "when edged runs" };
                format!("to one peer at most {}, {when}\n", limit(*bytes_per_second))
            });
        }
    }
    Ok(())
}
