//! INV-05: high durability only with cgroup v2 and its memory and cpu controllers. Without them one process may starve the
//! one that writes, and what was promised durable in time is not.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use autonomy_schema::manifest::Durability;

/// The controllers that high durability needs.
const NEEDED: [&str; 2] = ["cpu", "memory"];
/// Largest list of controllers in bytes; the kernel has about ten.
const MAX_BYTES: u64 = 4096;

/// What the platform gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assurance {
    /// cgroup v2 with what is needed.
    High,
    /// Less, and why.
    Reduced(String),
}

impl Assurance {
    /// The durability that it gives.
    pub fn durability(&self) -> Durability {
        match self {
            Self::High => Durability::High,
            Self::Reduced(_) => Durability::Standard,
        }
    }
}

/// Looks at the cgroup file system that is mounted at `cgroup_root` (`/sys/fs/cgroup`). Only the root of a v2 hierarchy has
/// `cgroup.controllers` (cgroups(7)).
pub fn assurance(cgroup_root: &Path) -> Assurance {
    let path = cgroup_root.join("cgroup.controllers");
    let mut text = String::new();
    let read = File::open(&path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
    if let Err(error) = read {
        return Assurance::Reduced(if error.kind() == std::io::ErrorKind::NotFound {
            "cgroup v2 is not mounted (cgroup v1 alone, or none)".to_owned()
        } else {
            format!("the controllers of cgroup v2 cannot be read: {error}")
        });
    }
    let missing: Vec<&str> =
        NEEDED.into_iter().filter(|needed| !text.split_whitespace().any(|word| word == *needed)).collect();
    if missing.is_empty() {
        Assurance::High
    } else {
        Assurance::Reduced(format!("cgroup v2 lacks the controllers {}", missing.join(", ")))
    }
}
