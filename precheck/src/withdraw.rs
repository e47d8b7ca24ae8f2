//! Taking back what a reconstruction put where nothing was, when its release is given up.

use autonomy_schema::manifest::{Effect, MAX_UNIT_BYTES, unit_links};
use autonomy_schema::path::UnitName;
use autonomy_schema::{Code, Reason, RelPath};
use autonomy_stateroot::{SyncTarget, os_difference, read_capped};

use crate::reconstruct::Reconstruction;
use crate::write::told;

impl Reconstruction<'_> {
    /// Takes back what a step left, if it is still that; something of somebody else, and a folder that holds anything, stays.
    /// Gives the unit that is gone.
    pub fn withdraw(&self, at: usize) -> Result<Option<UnitName>, Reason> {
        let Some(step) = self.steps().get(at) else { return Ok(None) };
        let (Some(place), Some(effect)) = (self.place(step)?, step.effect(&self.document().spec.artifacts)) else {
            return Ok(None);
        };
        let os = self.platform().os();
        if os_difference(os, &place, &effect).is_some() {
            return Ok(None);
        }
        let failed = |why: String| {
            Reason::new(Code::ReconstructionFailed, format!("`{}` is not taken back: {why}", self.label(at)))
        };
        if let Some(unit) = step.systemd_unit.as_ref().filter(|unit| unit.enable) {
            let bytes = read_capped(os, &place, MAX_UNIT_BYTES).ok().flatten().unwrap_or_default();
            for (link, target) in unit_links(&unit.name, &String::from_utf8_lossy(&bytes)).unwrap_or_default() {
                if os_difference(os, &link, &Effect::Link { target: &target }).is_none() {
                    self.remove(&link).map_err(failed)?;
                }
            }
        }
        match (self.remove(&place), &effect) {
            (Ok(()), _) => Ok(step.systemd_unit.as_ref().map(|unit| unit.name.clone())),
            // Something lives in it.
            (Err(_), Effect::Dir { .. }) => Ok(None),
            (Err(why), Effect::File { .. } | Effect::Link { .. }) => Err(failed(why)),
        }
    }

    fn remove(&self, path: &RelPath) -> Result<(), String> {
        let os = self.platform().os();
        os.remove(path).map_err(|error| told(&error))?;
        os.sync(SyncTarget::Dir(path.parent().as_ref())).map_err(|error| told(&error))
    }
}
