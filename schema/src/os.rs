//! What a node runs on, and the record of it (`bootstrap/os_fingerprint.json`): other components mean that the operating
//! system was replaced, and what lies outside the state root must be rebuilt.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::canonical::{self, CanonicalError, MAX_INTEGER};
use crate::digest::Blake3;
use crate::document::Document;
use crate::manifest::is_default;
use crate::reason::{Code, Reason};
use crate::time::Time;
use crate::version::{ApiVersion, Kind};

/// Largest fingerprint file in bytes; one has about 1,000.
pub const MAX_FINGERPRINT_BYTES: usize = 64 << 10;

/// Boot parameters that decide what runs, of which kernel and from which root; all others come and go without meaning a
/// replaced system (`kernel-command-line(7)`, `bootparam(7)`).
pub const BOOT_PARAMETERS: [&str; 18] = [
    "apparmor",
    "cgroup_disable",
    "cgroup_no_v1",
    "enforcing",
    "init",
    "lsm",
    "module.sig_enforce",
    "ostree",
    "rauc.slot",
    "rdinit",
    "root",
    "rootflags",
    "rootfstype",
    "security",
    "selinux",
    "systemd.unified_cgroup_hierarchy",
    "systemd.unit",
    "usrhash",
];

/// What the node runs on. Empty where the platform does not say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OsFacts {
    /// `uname -r`.
    pub kernel: String,
    /// `uname -m`.
    pub machine: String,
    /// `ID` of os-release(5).
    pub id: String,
    /// `VERSION_ID` of os-release.
    pub version_id: String,
    /// `BUILD_ID` of os-release, or its `IMAGE_VERSION`.
    #[serde(skip_serializing_if = "is_default")]
    pub build_id: String,
    /// A digest of machine-id(5), which itself is to be kept confidential.
    #[serde(skip_serializing_if = "is_default")]
    pub machine_id: String,
    /// The [`BOOT_PARAMETERS`] that the kernel was started with, sorted.
    #[serde(skip_serializing_if = "is_default")]
    pub boot_parameters: String,
}

/// One component that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Changed {
    /// Its name.
    pub component: String,
    /// What it was.
    pub old: String,
    /// What it is.
    pub new: String,
}

impl OsFacts {
    /// The canonical list: every component by name, empty ones too.
    pub fn components(&self) -> BTreeMap<&'static str, &str> {
        BTreeMap::from([
            ("bootParameters", self.boot_parameters.as_str()),
            ("buildId", &self.build_id),
            ("id", &self.id),
            ("kernel", &self.kernel),
            ("machine", &self.machine),
            ("machineId", &self.machine_id),
            ("versionId", &self.version_id),
        ])
    }

    /// BLAKE3 over the canonical JSON of [`Self::components`].
    pub fn composite(&self) -> Result<Blake3, CanonicalError> {
        canonical::fingerprint(&self.components())
    }

    /// Which components changed from `old` to these, sorted.
    pub fn changed_since(&self, old: &OsFacts) -> Vec<Changed> {
        let (before, after) = (old.components(), self.components());
        let changed = after.into_iter().filter_map(|(name, new)| {
            let old = before.get(name).copied().unwrap_or_default();
            (old != new).then(|| Changed { component: name.to_owned(), old: old.to_owned(), new: new.to_owned() })
        });
        changed.collect()
    }
}

/// The parameters of a kernel command line that are a component, sorted. A value may be quoted and hold spaces.
pub fn boot_parameters(command_line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let (mut word, mut quoted) = (String::new(), false);
    for c in command_line.trim().chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    let name = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
    words.retain(|word| BOOT_PARAMETERS.contains(&name(word).as_str()));
    words.sort();
    words.dedup();
    words.join(" ")
}

/// `bootstrap/os_fingerprint.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OsFingerprint {
    /// `autonomy/v1`.
    pub api_version: ApiVersion,
    /// `OsFingerprint`.
    pub kind: Kind,
    /// BLAKE3 over the canonical list of components.
    pub composite: Blake3,
    /// The components.
    pub components: OsFacts,
    /// How many operating systems this state root has lived under, from 1.
    pub boot_epoch: u64,
    /// When it was looked at, by the node's clock.
    pub captured_at: Time,
}

impl Document for OsFingerprint {
    const KIND: Kind = Kind::OsFingerprint;
    const MAX_BYTES: usize = MAX_FINGERPRINT_BYTES;

    fn validate(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let mut bad = |message: &str| reasons.push(Reason::new(Code::BadValue, message));
        if !self.components.composite().is_ok_and(|composite| composite == self.composite) {
            bad("`composite` is not the digest of `components`");
        }
        if !(1..=MAX_INTEGER).contains(&self.boot_epoch) {
            bad("`bootEpoch` is not between 1 and 2^53-1");
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_matter_are_kept_sorted_and_others_are_not() {
        let line = "BOOT_IMAGE=/vmlinuz-6.1 root=UUID=1 ro quiet  init=/sbin/init lsm=\"a b\" rootwait root=UUID=1\n";
        assert_eq!(boot_parameters(line), "init=/sbin/init lsm=a b root=UUID=1");
        assert_eq!(boot_parameters(""), "");
    }

    #[test]
    fn each_component_counts_and_is_named_with_both_values() {
        let old = OsFacts { kernel: "6.1.0".to_owned(), ..OsFacts::default() };
        for (name, _) in old.components() {
            let mut value = serde_json::to_value(&old).expect("JSON");
            value[name] = "other".into();
            let new: OsFacts = serde_json::from_value(value).expect("components");
            assert_ne!(new.composite().expect("canonical"), old.composite().expect("canonical"), "{name}");
            let changed = new.changed_since(&old);
            assert_eq!(changed.len(), 1);
            assert_eq!((changed[0].component.as_str(), changed[0].new.as_str()), (name, "other"));
        }
        assert_eq!(old.changed_since(&old), []);
    }
}
