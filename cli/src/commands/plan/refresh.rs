//! `autonomy plan --refresh-only`: what differs from the active manifest, without a set.

use autonomy_plan::render::{Detail, Texts};
use autonomy_schema::plan_doc::PlanDoc;
use autonomy_schema::{Code, Reason, Time};

use super::{Args, rendered};
use crate::failure::{Failure, exit};
use crate::{Global, node, ui};

pub(super) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    let doc = against_itself(global, args.now, args.verify_content)?;
    ui::out(&rendered(&doc, &Texts::default(), args.output, args.look.style(Detail::Changes))?);
    let differs = args.detailed_exitcode && !doc.drift.is_empty();
    Ok(if differs { exit::PENDING } else { exit::DONE })
}

/// What differs between the node and its own active manifest.
pub(crate) fn against_itself(global: &Global, now: Option<Time>, verify_content: bool) -> Result<PlanDoc, Failure> {
    let (root, _) = node::state_root(global)?;
    let facts = node::facts(global, &root, now, verify_content)?;
    let doc = autonomy_plan::refresh(&facts).map_err(|error| Failure::because(Code::IoError, error.to_string()))?;
    doc.ok_or_else(|| {
        let message = "no generation is active on this node, so nothing can differ";
        let reason = Reason::new(Code::UnknownGeneration, message).with_remedy("apply a set first");
        Failure::refused(reason, false)
    })
}
