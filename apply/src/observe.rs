//! What an apply reports while it runs. Apply has no other way to speak: it neither logs nor prints.

use autonomy_schema::journal::Phase;
use autonomy_schema::{Code, Reason, Reasons};

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// The journal reached a phase, durably.
    Phase(Phase),
    /// Staging copied this many of all bytes that it must copy.
    Staged {
        /// So far.
        done: u64,
        /// In all.
        total: u64,
    },
    /// A reconstruction step is about to be carried out.
    RebuildStarted(&'a str),
    /// It is done.
    RebuildDone(&'a str),
    /// It failed.
    RebuildFailed(&'a str, &'a Reason),
    /// A service is about to run.
    ServiceStarted(&'a str),
    /// A service ran.
    ServiceDone(&'a str),
    /// A service failed.
    ServiceFailed(&'a str, &'a Reason),
    /// The health command is about to run.
    HealthStarted(&'a str),
    /// It is well.
    HealthDone(&'a str),
    /// It is not.
    HealthFailed(&'a str, &'a Reason),
    /// The change is being undone, for this reason.
    RollingBack(&'a Reason),
}

/// Who listens.
pub trait Observer {
    /// Takes an event; it cannot fail the apply.
    fn event(&mut self, event: &Event<'_>);

    /// Asked at every safe step before the switch: why the apply shall stop here, if it shall.
    fn stop(&self) -> Option<String> {
        None
    }
}

/// The refusal that a stop is.
pub(crate) fn stopped(observer: &dyn Observer) -> Result<(), Reasons> {
    match observer.stop() {
        Some(why) => Err(Reason::new(Code::Superseded, format!("stopped before the switch: {why}")).into()),
        None => Ok(()),
    }
}

/// Nobody listens.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&mut self, _event: &Event<'_>) {}
}
