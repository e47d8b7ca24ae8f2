//! Clock sanity: a clock that was lost judges certificates and lists wrongly.

use autonomy_schema::finding::Severity;
use autonomy_schema::version::released_at;
use autonomy_schema::{Code, Reason, Time};
use autonomy_stateroot::StateRoot;

use crate::epoch::Sight;

/// Times that the node has seen and that the clock must not be behind.
pub(crate) fn clock(root: &StateRoot, sight: Option<&Sight>, now: Time) -> Vec<(Severity, Reason)> {
    let mark = root.floors().ok().flatten().and_then(|floors| floors.time_mark);
    let recorded = sight.and_then(|sight| sight.recorded.as_ref()).map(|os| os.captured_at);
    let proven = sight.and_then(|sight| sight.chain.as_ref()).map(|chain| chain.current.time);
    let seen = [
        (Severity::Error, "the release of this tool", Some(released_at())),
        (Severity::Error, "the time mark of the floors", mark),
        (Severity::Error, "the record of the operating system (`bootstrap/os_fingerprint.json`)", recorded),
        // By the node's own clock, and signed: were this an error, a clock that was wrong once would be one for years.
        (Severity::Warning, "the evidence of the last replacement (`epoch/current/evidence.json`)", proven),
    ];
    let behind = seen.into_iter().filter_map(|(how, what, time)| Some((how, what, time.filter(|time| now < *time)?)));
    behind
        .map(|(how, what, time)| {
            (how, Reason::new(Code::ClockBehind, format!("the clock says {now}; {what} is of {time}")))
        })
        .collect()
}
