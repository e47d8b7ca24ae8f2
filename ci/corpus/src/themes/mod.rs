//! The attacks, by what they try to turn against the node.

use crate::Made;
use crate::case::Case;
use crate::world::World;

mod bundles;
mod floors;
mod lock;
mod media;
mod names;
mod parser;
mod policy;
mod races;
mod roots;
mod rotation;
mod scope;
mod thresholds;

/// Cases of one kind.
pub(crate) struct Theme {
    pub(crate) title: &'static str,
    pub(crate) cases: Vec<Case>,
}

type Make = fn(&World) -> Made<Vec<Case>>;

/// Every case.
pub(crate) fn all(world: &World) -> Made<Vec<Theme>> {
    let themes: [(&'static str, Make); 12] = [
        ("Who signed: thresholds count keys", thresholds::cases),
        ("What a signature line may be", bundles::cases),
        ("Trust roots that an operator is handed", roots::cases),
        ("Newer roots, revocation lists, the field, overrides", rotation::cases),
        ("Signed, and not one document with one meaning", parser::cases),
        ("Signed names and paths", names::cases),
        ("Files of a set that its manifest does not vouch for", media::cases),
        ("Checked is not used: swaps", races::cases),
        ("Locks that bind something else", lock::cases),
        ("Policy bundles", policy::cases),
        ("Rollback, fast-forward, equivocation, revocation, time", floors::cases),
        ("Sets for somebody else", scope::cases),
    ];
    themes.into_iter().map(|(title, make)| Ok(Theme { title, cases: make(world)? })).collect()
}
