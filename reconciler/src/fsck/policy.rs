//! The slots of the node's own policy: whether what they name is whole and signed.

use autonomy_policy::slots::{Slot, Slots};
use autonomy_schema::RelPath;
use autonomy_sets::roots::pinned_root;
use autonomy_stateroot::disk::FileKind;
use autonomy_stateroot::{DiskError, StateRoot, layout};

use super::check::listed;
use super::{Finding, Mend, Report};

const LOAD: &str = "load a signed bundle with `autonomy policy load`";
const GC: &str = "nothing: `autonomy gc` removes it";

pub(super) fn check(root: &StateRoot, report: &mut Report) -> Result<(), DiskError> {
    let slots = Slots::new(root);
    // Whom the node trusts may be unknown; that is told by itself, and then nothing can be judged.
    if pinned_root(root).is_ok() && root.floors().is_ok() {
        // A managed node asks its generation's policy alone.
        let is_asked = matches!(root.current(), Ok(None));
        for slot in [Slot::Current, Slot::Lkg] {
            let Err(reasons) = slots.held(slot) else { continue };
            let finding = if is_asked { Finding::damage } else { Finding::notice };
            report.findings.push(finding(slot.link(), reasons.one_line(), LOAD, Mend::Nothing));
        }
    }
    for entry in listed(root, &layout::policy())? {
        let path = format!("{}/{}", layout::policy(), entry.name);
        let known = [layout::policy_bundles(), layout::policy_current(), layout::policy_lkg()];
        if known.iter().any(|known| known.as_str() == path) {
            continue;
        }
        let leftover = entry.name.starts_with('.').then(|| entry.name.parse::<RelPath>().ok()).flatten();
        report.findings.push(match leftover {
            Some(name) => {
                let message = "a replacement that was cut off";
                Finding::notice(path, message, super::REPAIR, Mend::Remove(layout::policy().join(&name)))
            }
            None => {
                Finding::notice(path, "it is no part of a policy", "move it away, if it is not yours", Mend::Nothing)
            }
        });
    }
    let named: Vec<String> = [Slot::Current, Slot::Lkg]
        .into_iter()
        .filter_map(|slot| slots.target(slot).ok().flatten())
        .map(|digest| digest.hex())
        .collect();
    let others = listed(root, &layout::policy_bundles())?;
    for entry in others.iter().filter(|entry| !(entry.kind == FileKind::Dir && named.contains(&entry.name))) {
        let path = format!("{}/{}", layout::policy_bundles(), entry.name);
        report.findings.push(Finding::notice(path, "no slot names it", GC, Mend::Nothing));
    }
    Ok(())
}
