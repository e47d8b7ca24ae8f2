//! The word of somebody who sees that the new release works, and what happens when nobody says it in time.

use autonomy_schema::journal::{Journal, Phase, Verdict, Waiting};
use autonomy_schema::{Blake3, Code, Name, Reason};

use crate::activate::Active;
use crate::recover::Recovery;
use crate::transaction::{ApplyError, Transaction};

impl Transaction<'_> {
    /// Confirms what waits: it becomes the last known good generation, and goes on to peers. What was staged to take over
    /// from it was planned from a state that ends here, so it is removed. Recovery must have come before.
    pub fn confirm(mut self, manifest: Option<Blake3>) -> Result<Name, ApplyError> {
        let refuse = |message: String| ApplyError::Refused(Reason::new(Code::NotWaiting, message).into());
        let journal = self.root.journal().map_err(ApplyError::Refused)?;
        let Some(waits) = journal.as_ref().and_then(Journal::waiting).cloned() else {
            return Err(refuse("no release waits for a confirmation".to_owned()));
        };
        if let Some(wanted) = manifest.filter(|wanted| *wanted != waits.manifest) {
            return Err(refuse(format!("{} waits for a confirmation, not {wanted}", waits.manifest)));
        }
        if let Some(journal) = journal.filter(|journal| journal.phase.is_before_switch()) {
            self.give_up(journal)?;
        }
        // Decided here: from now on recovery finishes it, however late it comes.
        let mut journal = Journal { phase: Phase::Switched, confirm: None, waiting: None, ..waits };
        self.root.write_journal(&journal)?;
        let active = Active::recovered(journal.generation.clone());
        self.finish(&mut journal, &active)?;
        Ok(journal.generation)
    }

    /// What the moment means to a generation that waits: nothing, a new window, or the way back.
    pub(crate) fn look_at_wait(&mut self, mut journal: Journal) -> Result<Recovery, ApplyError> {
        let Some(waiting) = journal.waiting.clone() else { return Ok(Recovery::Clean) };
        let now = self.runner.moment();
        let over = match waiting.judge(&now) {
            Verdict::Holds(_) => return Ok(Recovery::Clean),
            Verdict::Restarts => {
                journal.waiting = Some(waiting.restarted(now));
                self.root.write_journal(&journal)?;
                return Ok(Recovery::WaitsAgain(journal.generation));
            }
            over @ (Verdict::Expired | Verdict::RebootedAgain) => over,
        };
        let reason = expired(&journal, &waiting, over);
        Err(self.fail(&mut journal, reason))
    }
}

fn expired(journal: &Journal, waiting: &Waiting, over: Verdict) -> Reason {
    let why = if over == Verdict::RebootedAgain {
        "and the machine was started anew twice".to_owned()
    } else {
        format!("within {}", waiting.within)
    };
    Reason::new(Code::ConfirmExpired, format!("nobody confirmed {} {why}", journal.generation))
}
