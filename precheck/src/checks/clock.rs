//! Clock sanity: a clock that was lost judges certificates and lists wrongly.

use autonomy_schema::version::released_at;
use autonomy_schema::{Code, Reason, Time};
use autonomy_stateroot::StateRoot;

use crate::epoch::Sight;

/// Times that the node has seen and that the clock must not be behind.
pub(crate) fn clock(root: &StateRoot, sight: Option<&Sight>, now: Time) -> Vec<Reason> {
    let mark = root.floors().ok().flatten().and_then(|floors| floors.time_mark);
    let recorded = sight.and_then(|sight| sight.recorded.as_ref()).map(|os| os.captured_at);
    let proven = sight.and_then(|sight| sight.chain.as_ref()).map(|chain| chain.current.time);
    let seen = [
        ("the release of this tool", Some(released_at())),
        ("the time mark of the floors", mark),
        ("the record of the operating system (`bootstrap/os_fingerprint.json`)", recorded),
        ("the evidence of the last replacement (`epoch/current/evidence.json`)", proven),
    ];
    let behind = seen.into_iter().filter_map(|(what, time)| Some((what, time.filter(|time| now < *time)?)));
    behind
        .map(|(what, time)| Reason::new(Code::ClockBehind, format!("the clock says {now}; {what} is of {time}")))
        .collect()
}
