//! `autonomy plan --refresh-only`: what differs from the active manifest, without a set.

use autonomy_plan::render::{Detail, Texts};
use autonomy_schema::{Code, Reason};

use super::{Args, rendered};
use crate::Global;
use crate::failure::{Failure, exit};
use crate::{node, ui};

pub(super) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    let (root, _) = node::state_root(global)?;
    let facts = node::facts(&root, args.now.unwrap_or_else(node::clock), args.verify_content)?;
    let broken = |error: autonomy_plan::PlanError| Failure::because(Code::IoError, error.to_string());
    let Some(doc) = autonomy_plan::refresh(&facts).map_err(broken)? else {
        let reason =
            Reason::new(Code::UnknownGeneration, "no generation is active on this node, so nothing can differ");
        return Err(Failure::refused(reason.with_remedy("apply a set first"), false));
    };
    ui::out(&rendered(&doc, &Texts::default(), args.output, args.look.style(Detail::Changes))?);
    let differs = args.detailed_exitcode && !doc.drift.is_empty();
    Ok(if differs { exit::PENDING } else { exit::DONE })
}
