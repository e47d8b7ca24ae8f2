//! Boot epochs: which operating system of this state root it is, counted from 1. No number is used twice: the highest of
//! record, evidence and floors wins.

use autonomy_schema::canonical::MAX_INTEGER;
use autonomy_schema::evidence::{Evidence, Rebuilt};
use autonomy_schema::os::{Changed, OsFacts, OsFingerprint};
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Blake3, Code, Reason, Reasons, Time};
use autonomy_stateroot::{ActivationLock, StateRoot};

use crate::evidence::{self, Chain};

/// What a look at the operating system says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// What is there now.
    pub now: OsFacts,
    /// Its composite.
    pub composite: Blake3,
    /// What it means.
    pub verdict: Verdict,
    /// The evidence that is there.
    pub chain: Option<Chain>,
    /// The record that is there.
    pub recorded: Option<OsFingerprint>,
}

/// What it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// No operating system was recorded: this one is, and nothing is rebuilt.
    First {
        /// The epoch that begins.
        epoch: u64,
    },
    /// It is the one that is recorded.
    Same {
        /// The epoch that goes on.
        epoch: u64,
    },
    /// It is another one.
    Replaced {
        /// The epoch that begins when all is rebuilt.
        epoch: u64,
        /// Composite of the one before.
        previous: Blake3,
        /// What changed; empty where only the composite of the one before is known.
        changed: Vec<Changed>,
    },
}

impl Sight {
    /// The epoch that is recorded, or that goes on; `None` before the first sight.
    pub fn epoch(&self) -> Option<u64> {
        match self.verdict {
            Verdict::First { .. } => None,
            Verdict::Same { epoch } => Some(epoch),
            Verdict::Replaced { epoch, .. } => Some(epoch - 1),
        }
    }
}

/// Compares what is there with what is recorded.
pub fn look(root: &StateRoot, now: OsFacts) -> Result<Sight, Reasons> {
    let composite = now.composite().map_err(|error| Reason::new(Code::BadValue, error.to_string()))?;
    let chain = evidence::verify(root)?;
    let recorded = root.os_fingerprint()?;
    let floor = root.floors()?.map_or(0, |floors| floors.boot_epoch);
    let proven = chain.as_ref().map_or(0, |chain| chain.current.boot_epoch);
    let said = recorded.as_ref().map_or(0, |os| os.boot_epoch);
    let highest = proven.max(floor).max(said);
    if said > proven.max(floor).saturating_add(1) {
        let message = format!(
            "`bootstrap/os_fingerprint.json` says boot epoch {said}; evidence and floors prove {}",
            proven.max(floor)
        );
        return Err(Reason::new(Code::CorruptState, message).into());
    }
    if let (Some(chain), Some(os)) = (&chain, &recorded)
        && said == proven
        && os.composite != chain.current.new_fingerprint
    {
        let message = format!(
            "`bootstrap/os_fingerprint.json` and `epoch/current/evidence.json` say another operating system of epoch {said}"
        );
        return Err(Reason::new(Code::CorruptState, message).into());
    }
    if highest >= MAX_INTEGER {
        return Err(Reason::new(Code::CorruptState, "the boot epoch cannot be counted further").into());
    }
    // A power cut may have come between the evidence and the record that follows it.
    let last = match (&chain, &recorded) {
        (Some(chain), _) if proven > said => Some(chain.current.new_fingerprint),
        (_, Some(os)) => Some(os.composite),
        (_, None) => None,
    };
    let verdict = match last {
        None if highest == 0 => Verdict::First { epoch: 1 },
        // The record was lost. Whatever it was of, its number is not used again.
        None => Verdict::First { epoch: highest + 1 },
        Some(last) if last == composite => Verdict::Same { epoch: highest },
        Some(previous) => {
            let known = recorded.as_ref().filter(|os| os.composite == previous);
            let changed = known.map(|os| now.changed_since(&os.components)).unwrap_or_default();
            Verdict::Replaced { epoch: highest + 1, previous, changed }
        }
    };
    Ok(Sight { now, composite, verdict, chain, recorded })
}

/// What is told of a replaced operating system.
pub fn replaced(changed: &[Changed]) -> Reason {
    let told: Vec<String> = changed
        .iter()
        .map(|it| {
            let shown = |text: &str| if text.is_empty() { "nothing".to_owned() } else { format!("`{text}`") };
            format!("{} {} → {}", it.component, shown(&it.old), shown(&it.new))
        })
        .collect();
    let what = if told.is_empty() { "its record is of another one".to_owned() } else { told.join(", ") };
    Reason::new(Code::OsChanged, format!("the operating system was replaced: {what}"))
}

/// The boot epoch that a node is in, as far as it is known: the highest of record, evidence and floors; 0 before the first.
pub fn known(root: &StateRoot) -> u64 {
    let said = root.os_fingerprint().ok().flatten().map_or(0, |os| os.boot_epoch);
    let proven = evidence::verify(root).ok().flatten().map_or(0, |chain| chain.current.boot_epoch);
    let floor = root.floors().ok().flatten().map_or(0, |floors| floors.boot_epoch);
    said.max(proven).max(floor)
}

/// Records a first sight, or brings the record up to evidence that a power cut left ahead of it. Gives whether anything was
/// written.
pub(crate) fn record(root: &StateRoot, held: &ActivationLock, sight: &Sight, time: Time) -> Result<bool, Reasons> {
    root.settle_evidence(held)?;
    let epoch = match sight.verdict {
        Verdict::First { epoch } | Verdict::Same { epoch } => epoch,
        Verdict::Replaced { .. } => return Ok(false),
    };
    // One that is of the future was told, and is written anew: else a clock that was wrong once would be told for years.
    let is_sound =
        |os: &OsFingerprint| os.boot_epoch == epoch && os.composite == sight.composite && os.captured_at <= time;
    let is_there = sight.recorded.as_ref().is_some_and(is_sound);
    if !is_there {
        write(root, held, sight, epoch, time)?;
    }
    root.raise_boot_epoch(held, epoch)?;
    Ok(!is_there)
}

fn write(root: &StateRoot, held: &ActivationLock, sight: &Sight, epoch: u64, time: Time) -> Result<(), Reasons> {
    let os = OsFingerprint {
        api_version: ApiVersion::default(),
        kind: Kind::OsFingerprint,
        composite: sight.composite,
        components: sight.now.clone(),
        boot_epoch: epoch,
        captured_at: time,
    };
    root.write_os_fingerprint(held, &os).map_err(|error| error.to_reason().into())
}

/// What a reconstruction was of.
pub(crate) struct Cause {
    /// The manifest; `None` when nothing is active.
    pub(crate) manifest: Option<Blake3>,
    /// The plan that made it active.
    pub(crate) plan_id: Option<Blake3>,
    /// The files that were put in their places.
    pub(crate) files: Vec<Rebuilt>,
}

/// Begins the next epoch, exactly once: the evidence is what decides, the record and the floors follow it.
pub(crate) fn advance(
    root: &StateRoot,
    held: &ActivationLock,
    sight: &Sight,
    cause: Cause,
    time: Time,
) -> Result<u64, Reasons> {
    let Verdict::Replaced { epoch, previous, changed } = &sight.verdict else {
        return Err(Reason::new(Code::CorruptState, "no epoch begins while the operating system is the same").into());
    };
    let evidence = Evidence {
        api_version: ApiVersion::default(),
        kind: Kind::Evidence,
        node_id: root.node()?.node_id,
        boot_epoch: *epoch,
        previous_fingerprint: *previous,
        new_fingerprint: sight.composite,
        changed: changed.clone(),
        manifest: cause.manifest,
        plan_id: cause.plan_id,
        files: cause.files,
        previous_evidence: sight.chain.as_ref().map(|chain| chain.digest),
        time,
    };
    let signed = evidence::sign(root, &evidence)?;
    root.put_evidence(held, &signed)?;
    write(root, held, sight, *epoch, time)?;
    root.raise_boot_epoch(held, *epoch)?;
    Ok(*epoch)
}
