//! What is asked of a bundle before it may decide, and the order in which it gets its place.

use autonomy_schema::{Code, Mode, Reason, Reasons, Sha256};
use autonomy_stateroot::{ActivationLock, DiskError, SyncTarget, durable, layout};
use autonomy_trust::{Context, Signed, verify_policy_bundle};

use super::{Held, Slot, Slots, files};
use crate::bundle::Bundle;
use crate::decide::{Budget, EvalError, Limits, on_thread};
use crate::prepared::Prepared;
use crate::testing::{self, Verdict};

/// The package that is asked about tools.
pub const TOOL_ENTRY: &str = "autonomy.tool";
/// Most failing tests that are told.
const MAX_TOLD: usize = 20;

/// A bundle that may become the node's policy. Only [`judge`] makes one.
#[derive(Debug, Clone)]
pub struct Promotable {
    held: Held,
    bytes: Vec<u8>,
    signatures: Vec<u8>,
    tests: usize,
}

impl Promotable {
    /// The bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.held.bundle
    }

    /// The keys of role `policy` that counted.
    pub fn signers(&self) -> &[Sha256] {
        &self.held.signers
    }

    /// How many tests of its own it passed.
    pub fn tests(&self) -> usize {
        self.tests
    }
}

/// What the slots hold after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promoted {
    /// The bundle that decides now.
    pub current: Sha256,
    /// The one that decided before and is kept.
    pub lkg: Option<Sha256>,
    /// Whether anything changed.
    pub changed: bool,
}

/// Judges a bundle: signed by a threshold of role `policy`, an archive whose hash is right, for this version of the tool, one
/// that compiles and has `data.autonomy.tool.allow`, and that passes its own tests. Nothing of it is read before it is known
/// to be signed.
pub fn judge(signed: Signed<'_>, context: &Context<'_>) -> Result<Promotable, Reasons> {
    let signers = verify_policy_bundle(signed, context)?;
    let bundle = Bundle::load(signed.bytes).map_err(|error| error.to_reason())?;
    let tests = answers(&bundle)?;
    let (bytes, signatures) = (signed.bytes.to_vec(), signed.signatures.to_vec());
    Ok(Promotable { held: Held { bundle, signers }, bytes, signatures, tests })
}

/// Whether the bundle can be asked about tools and passes its own tests; gives how many it has.
pub(crate) fn answers(bundle: &Bundle) -> Result<usize, Reasons> {
    asked_about_tools(bundle).map_err(|error| error.to_reason())?;
    let report = testing::test(bundle, "").map_err(|error| error.to_reason())?;
    let failed = report.not_passed().take(MAX_TOLD).map(|test| {
        let why = match &test.verdict {
            Verdict::Passed => String::new(),
            Verdict::Failed { line, value } => format!("it is {value}, at line {line}"),
            Verdict::Errored(message) => message.clone(),
        };
        Reason::new(Code::PolicyTestFailed, format!("{}:{}: `{}`: {why}", test.file, test.line, test.name))
    });
    Reasons::check(failed.collect())?;
    Ok(report.tests.len())
}

fn asked_about_tools(bundle: &Bundle) -> Result<(), EvalError> {
    let bundle = bundle.clone();
    let Budget { time, memory_bytes, .. } = Budget::UPDATE;
    on_thread(Limits { time, memory_bytes }, move || Prepared::new(&bundle, TOOL_ENTRY, &Budget::UPDATE).map(|_| ()))
}

impl Slots {
    /// Makes a bundle the one that decides, and the one before it the last known good one. A power loss leaves the old one
    /// deciding or the new one; the links change one after the other, so the old one may be both for a while.
    pub fn promote(&self, _held: &ActivationLock, new: &Promotable) -> Result<Promoted, Reasons> {
        let digest = new.bundle().digest();
        let failed = |error: DiskError| Reasons::from(error.to_reason());
        // What cannot be believed any more is not known good.
        let former = self.held(Slot::Current).ok().flatten().map(|held| held.bundle.digest());
        self.store(digest, new).map_err(failed)?;
        let mut lkg = self.target(Slot::Lkg).ok().flatten();
        if former == Some(digest) {
            return Ok(Promoted { current: digest, lkg, changed: false });
        }
        if let Some(former) = former {
            self.point(Slot::Lkg, former).map_err(failed)?;
            lkg = Some(former);
        }
        self.point(Slot::Current, digest).map_err(failed)?;
        Ok(Promoted { current: digest, lkg, changed: true })
    }

    /// Makes the last known good bundle the one that decides, and the one that decided the last known good one. It is verified
    /// again, signatures, rules and tests. A power loss leaves the old one deciding or the other; then, until that is done
    /// again, it may be both.
    pub fn roll_back(&self, _held: &ActivationLock) -> Result<(Held, Promoted), Reasons> {
        let failed = |error: DiskError| Reasons::from(error.to_reason());
        let former = self.target(Slot::Current).ok().flatten();
        let good = self.held(Slot::Lkg)?.filter(|held| Some(held.bundle.digest()) != former);
        let Some(good) = good else {
            let message = "there is no last known good policy to go back to";
            return Err(Reason::new(Code::NoPolicy, message)
                .with_remedy("load a bundle with `autonomy policy load`")
                .into());
        };
        answers(&good.bundle)?;
        let digest = good.bundle.digest();
        self.point(Slot::Current, digest).map_err(failed)?;
        if let Some(former) = former {
            self.point(Slot::Lkg, former).map_err(failed)?;
        }
        Ok((good, Promoted { current: digest, lkg: former, changed: true }))
    }

    fn point(&self, slot: Slot, bundle: Sha256) -> Result<(), DiskError> {
        durable::point(self.root.disk(), &slot.link(), &layout::policy_link(bundle))
    }

    /// Puts bundle and signatures into their folder, durably. A folder that is there already gets what differs.
    fn store(&self, digest: Sha256, new: &Promotable) -> Result<(), DiskError> {
        let disk = self.root.disk();
        durable::ensure_dir(disk, &layout::policy_bundles())?;
        let folder = layout::policy_bundle(digest);
        let contents = [&new.bytes, &new.signatures];
        if durable::exists(disk, &folder)? {
            for (path, bytes) in files(&folder).iter().zip(contents) {
                let cap = bytes.len() as u64;
                if autonomy_stateroot::read_capped(disk, path, cap).ok().flatten().as_ref() != Some(bytes) {
                    durable::replace(disk, path, bytes, Mode::PRIVATE)?;
                }
            }
            return Ok(());
        }
        let tmp = layout::new_policy_bundle(digest);
        durable::remove_tree(disk, &tmp)?;
        disk.mkdir(&tmp)?;
        for (path, bytes) in files(&tmp).iter().zip(contents) {
            durable::write_new(disk, path, bytes, Mode::PRIVATE)?;
            disk.sync(SyncTarget::File(path))?;
        }
        disk.sync(SyncTarget::Dir(Some(&tmp)))?;
        disk.rename(&tmp, &folder)?;
        disk.sync(SyncTarget::Dir(Some(&layout::policy_bundles())))
    }
}
