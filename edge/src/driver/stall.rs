//! The ledger cannot be written: the disk is full, or refuses. Nothing more is sent, and peers are served as before. At each
//! look the round that failed is recorded again, and what waited goes on from there; no count is lost or repeated.

use autonomy_relay::{Change, Input, Output};

use super::{Driver, DriverError, News};
use crate::ledger::{LedgerError, Sent};

/// What waits for the ledger.
#[derive(Debug, Default)]
pub(super) struct Stall {
    /// A round whose rows are not durable, and what is done once they are.
    changes: Vec<Change>,
    sent: Option<Sent>,
    acts: Vec<Output>,
    /// News whose rows could not be read. There is one at most: no other is taken meanwhile.
    news: Option<News>,
    /// What people changed in the meantime.
    inputs: Vec<Input>,
}

impl Driver {
    /// Keeps a round until it can be recorded. What the disk is not to blame for ends the daemon.
    pub(super) fn stall(
        &mut self,
        error: LedgerError,
        round: (Vec<Change>, Option<Sent>, Vec<Output>),
    ) -> Result<(), DriverError> {
        tracing::error!(event = "edge.ledger.failed", %error, "nothing more is sent until it can be written");
        if !matches!(error, LedgerError::Disk(_)) {
            return Err(error.into());
        }
        // While there is one, no round is begun, so there is nothing to lose.
        if self.stall.is_none() {
            let (changes, sent, acts) = round;
            self.stall = Some(Stall { changes, sent, acts, ..Stall::default() });
        }
        Ok(())
    }

    /// Keeps news until their rows can be read.
    pub(super) fn stall_news(&mut self, news: News, error: Option<LedgerError>) -> Result<(), DriverError> {
        if let Some(error) = error {
            self.stall(error, Default::default())?;
        }
        if let Some(stall) = &mut self.stall {
            stall.news = Some(news);
        }
        Ok(())
    }

    /// Keeps inputs, if the ledger cannot be written; gives them back otherwise. What time brings is brought again.
    pub(super) fn hold_back(&mut self, inputs: Vec<Input>) -> Option<Vec<Input>> {
        let Some(stall) = &mut self.stall else { return Some(inputs) };
        stall.inputs.extend(inputs.into_iter().filter(|input| !matches!(input, Input::Tick | Input::Seen { .. })));
        None
    }

    /// Tries again; tells whether everything goes on.
    pub(super) async fn go_on(&mut self) -> Result<bool, DriverError> {
        let Some(Stall { changes, sent, acts, news, inputs }) = self.stall.take() else { return Ok(true) };
        let round = changes.clone();
        let recorded = self.tools.storage.call(move |stores| stores.ledger.record(&round, sent)).await?;
        if let Err(error) = recorded {
            self.stall(error, (changes, sent, acts))?;
            if let Some(stall) = &mut self.stall {
                (stall.news, stall.inputs) = (news, inputs);
            }
            return Ok(false);
        }
        tracing::info!(event = "edge.ledger.recovered", "the ledger can be written again; sending goes on");
        for act in acts {
            self.act(act);
        }
        self.take(inputs).await?;
        match news {
            Some(news) if self.stall.is_none() => self.take_news(news).await?,
            Some(news) => self.stall_news(news, None)?,
            None => {}
        }
        Ok(self.stall.is_none())
    }
}
