//! What the node could run, and what each generation is to it.

use std::collections::BTreeMap;

use autonomy_schema::journal::Journal;
use autonomy_schema::{Blake3, Name, Reasons};
use autonomy_sets::manifest_of;
use autonomy_stateroot::StateRoot;
use serde::Serialize;

/// One generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its folder below `generations/`.
    pub generation: Name,
    /// Fingerprint of its manifest; absent when that cannot be read.
    pub manifest: Option<Blake3>,
    /// Its serial.
    pub serial: Option<u64>,
    /// Its release version.
    pub release: Option<String>,
    /// `active`, `last known good`, `waits to be confirmed`, `staged`, `pinned`, `in the outbox`; more than one may fit.
    pub roles: Vec<&'static str>,
}

/// Every generation, by serial, fingerprint and number.
pub fn generations(root: &StateRoot) -> Result<Vec<Listed>, Reasons> {
    let names = root.generations().map_err(|error| Reasons::from(error.to_reason()))?;
    let roles = roles(root)?;
    let pinned = root.pinned()?;
    let outbox = root.outbox().map_err(|error| Reasons::from(error.to_reason()))?;
    Ok(names
        .into_iter()
        .map(|generation| {
            let known = manifest_of(root, &generation);
            let mut roles = roles.get(&generation).cloned().unwrap_or_default();
            let manifest = known.as_ref().map(|(_, fingerprint)| *fingerprint);
            roles.extend(manifest.filter(|manifest| pinned.contains(manifest)).map(|_| "pinned"));
            roles.extend(manifest.filter(|manifest| outbox.contains(manifest)).map(|_| "in the outbox"));
            let (serial, release) = known
                .map(|(manifest, _)| (manifest.metadata.serial, manifest.spec.release.version.to_string()))
                .unzip();
            Listed { generation, manifest, serial, release, roles }
        })
        .collect())
}

/// What links and journal say of generations.
fn roles(root: &StateRoot) -> Result<BTreeMap<Name, Vec<&'static str>>, Reasons> {
    let mut roles: BTreeMap<Name, Vec<&'static str>> = BTreeMap::new();
    let mut put = |name: Option<Name>, role| {
        if let Some(name) = name {
            roles.entry(name).or_default().push(role);
        }
    };
    put(root.current()?, "active");
    put(root.lkg()?, "last known good");
    let journal = root.journal()?;
    put(journal.as_ref().and_then(Journal::waiting).map(|waits| waits.generation.clone()), "waits to be confirmed");
    put(journal.filter(|journal| journal.phase.is_before_switch()).map(|journal| journal.generation), "staged");
    Ok(roles)
}
