//! `edgectl relay status`, `edgectl segments list`.

use std::fmt::Write as _;

use autonomy_edge::control::Question;
use autonomy_edge::status::{RowStatus, Status};
use autonomy_relay::RowState;
use autonomy_schema::Reasons;
use serde_json::{Value, json};

use crate::show::{limit, safe, short, table};
use crate::{Context, show};

/// Rows that are shown to people; JSON has all of them.
const MAX_SHOWN: usize = 20;

pub(crate) fn status(context: &Context) -> Result<(), Reasons> {
    let known = context.known()?;
    let mut value = json!(known.status);
    value["running"] = json!(known.is_up);
    show::result(&value, context.output, |_| text(&known.status, known.is_up));
    Ok(())
}

fn text(status: &Status, is_up: bool) -> String {
    let state = match (is_up, status.draining) {
        (false, _) => "down",
        (true, true) => "draining",
        (true, false) => "running",
    };
    let generation = status.generation.as_ref().map_or("none yet: it only receives", |name| name.as_str());
    let mut text = format!(
        "node        {} ({state}, pid {})\ngeneration  {generation}\nlistens on  {}\nmetrics     {}\n",
        status.node, status.pid, status.listen, status.metrics
    );
    text += "\npeers:\n";
    let peers: Vec<Vec<String>> = status
        .peers
        .iter()
        .map(|peer| {
            let state = if peer.paused {
                "paused"
            } else if peer.connected {
                "connected"
            } else {
                "not connected"
            };
            let error = peer.last_error.as_deref().map(safe).unwrap_or_default();
            let measured = format!("{} B/s", peer.measured_bytes_per_second);
            vec![peer.id.to_string(), safe(&peer.address), state.to_owned(), measured, limit(peer.limit), error]
        })
        .collect();
    text += &if peers.is_empty() {
        "  none\n".to_owned()
    } else {
        table(&["peer", "address", "state", "measured", "limit", "last error"], &peers)
    };
    text += "\nsets:\n";
    let sets: Vec<Vec<String>> = status
        .deliveries
        .iter()
        .map(|set| {
            let done = if set.done { "done" } else { "under way" };
            let delivered: Vec<&str> = set.delivered.iter().map(autonomy_schema::Name::as_str).collect();
            let digest = short(&set.manifest.to_string());
            vec![format!("{} {}", set.stream, set.serial), digest, done.to_owned(), delivered.join(" ")]
        })
        .collect();
    text += &if sets.is_empty() {
        "  none\n".to_owned()
    } else {
        table(&["stream and serial", "manifest", "state", "delivered to"], &sets)
    };
    let counts = &status.counters;
    let _infallible = write!(
        text,
        "\nrows: {} waiting, {} under way, {} arrived, {} failed, {} dead letters ({} purged)\n",
        status.rows.iter().filter(|row| row.state == RowState::Scheduled).count(),
        counts.inflight,
        counts.acked,
        counts.failed,
        counts.deadletter,
        counts.purged
    );
    let open: Vec<&RowStatus> = status.rows.iter().filter(|row| row.state != RowState::Acked).collect();
    if !open.is_empty() {
        text += &rows(&open[..open.len().min(MAX_SHOWN)]);
    }
    if open.len() > MAX_SHOWN {
        let _infallible = writeln!(text, "  and {} more: `--output json`", open.len() - MAX_SHOWN);
    }
    text
}

/// Rows of the ledger in columns.
pub(crate) fn rows(rows: &[&RowStatus]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let state = json!(row.state).as_str().unwrap_or_default().to_owned();
            let error = row.last_error.as_deref().map(safe).unwrap_or_default();
            let manifest = short(&row.manifest.to_string());
            vec![manifest, short(&row.segment), row.peer.to_string(), state, row.attempts.to_string(), error]
        })
        .collect();
    table(&["manifest", "segment", "peer", "state", "attempts", "last error"], &cells)
}

pub(crate) fn segments(context: &Context) -> Result<(), Reasons> {
    let found = context.ask(&Question::Segments)?;
    show::result(&found, context.output, |found| {
        let segments = found["segments"].as_array().map(Vec::as_slice).unwrap_or_default();
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), safe);
        let cells: Vec<Vec<String>> = segments
            .iter()
            .map(|segment| {
                let here = if segment["present"] == true { "here" } else { "lacks" };
                let digest = |name: &str| short(&text(&segment[name]));
                vec![
                    digest("manifest"),
                    text(&segment["artifact"]),
                    text(&segment["number"]),
                    digest("segment"),
                    text(&segment["length"]),
                    here.to_owned(),
                ]
            })
            .collect();
        if cells.is_empty() {
            return "no set is being received\n".to_owned();
        }
        let mut shown = table(&["manifest", "artifact", "number", "segment", "bytes", "state"], &cells);
        if found["truncated"].as_u64().is_some_and(|more| more > 0) {
            let _infallible = writeln!(shown, "  and {} more", found["truncated"]);
        }
        shown
    });
    Ok(())
}
