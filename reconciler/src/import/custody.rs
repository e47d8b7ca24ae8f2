//! Receipts for what an import did.

use std::path::Path;

use autonomy_schema::Time;
use autonomy_schema::receipt::ReceiptResult;
use autonomy_sets::Became;
use autonomy_stateroot::StateRoot;

use super::{OnMedium, Standing, active};
use crate::receipts;

/// Signs for what became of the sets, and leaves the receipts on the medium, where they may lie beside a layout. That none
/// could be made, or left, is told and no more: the sets are here.
pub(super) fn sign_for(root: &StateRoot, sets: &[OnMedium], leave_on: Option<&Path>, clock: Time) -> Option<String> {
    let active = active(root).ok().flatten().map(|(_, active)| active);
    let became = sets.iter().filter_map(|set| {
        let (_, manifest) = set.says.as_ref()?;
        let result = match &set.standing {
            // What is refused leaves the state root as it is (DESIGN §12), so it is not signed for.
            Standing::NotForUs(_) | Standing::Refused(_) => return None,
            Standing::Here if active == Some(*manifest) => ReceiptResult::Active,
            Standing::Takes | Standing::Here => ReceiptResult::Stored,
        };
        Some(Became { manifest: *manifest, result, from: None })
    });
    let receipts = match receipts::sign(root, &became.collect::<Vec<_>>(), clock) {
        Ok(receipts) => receipts,
        Err(reasons) => {
            let why: Vec<String> = reasons.as_slice().iter().map(ToString::to_string).collect();
            return Some(format!("no receipts were made: {}", why.join("; ")));
        }
    };
    let left = leave_on.map_or(Ok(()), |medium| receipts::leave(medium, &receipts));
    left.err().map(|reason| format!("the receipts stay here, the medium did not take them: {reason}"))
}
