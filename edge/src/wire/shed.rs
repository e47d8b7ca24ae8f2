//! Whether memory is short: then new load is refused before it is read (INV-07).
//!
//! Read are the process' own size against the configured envelope, and the control group's use, without the pages of files
//! that the kernel can drop, against its limit, in version 1 and 2, up to the root of the hierarchy.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// From this share of a limit on, load is refused.
const SHORT_PERCENT: u64 = 90;
/// How old an answer may be: asking costs a few reads, and memory does not grow faster than this matters.
const FRESH: Duration = Duration::from_millis(100);
/// Longest file of `proc` and of the control group that is read.
const MAX_FILE: u64 = 64 << 10;
/// The unit of `statm`.
const PAGE: u64 = 4096;
/// From here on, version 1 means "no limit".
const NO_LIMIT: u64 = 1 << 60;

/// Which limit is near.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short {
    /// `envelope` or `cgroup`.
    pub limit: &'static str,
    /// Bytes in use.
    pub used: u64,
    /// Bytes that may be.
    pub of: u64,
}

/// Watches memory.
#[derive(Debug)]
pub struct Shed {
    os_root: PathBuf,
    envelope: u64,
    last: Mutex<Option<(Instant, Option<Short>)>>,
}

impl Shed {
    /// `os_root` is where `proc` and `sys` are (`/` on a running node); `envelope` is in bytes, 0 without one.
    pub fn new(os_root: &Path, envelope: u64) -> Self {
        Self { os_root: os_root.to_owned(), envelope, last: Mutex::new(None) }
    }

    /// The limit that is near, if one is. What cannot be read limits nothing.
    pub fn short(&self) -> Option<Short> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((at, found)) = *last
            && now.duration_since(at) < FRESH
        {
            return found;
        }
        let found = self.measure();
        *last = Some((now, found));
        found
    }

    fn measure(&self) -> Option<Short> {
        let near = |limit, used: u64, of: u64| {
            (of > 0 && used >= of / 100 * SHORT_PERCENT).then_some(Short { limit, used, of })
        };
        let own = || self.resident().and_then(|used| near("envelope", used, self.envelope));
        own().or_else(|| self.groups().into_iter().find_map(|(used, of)| near("cgroup", used, of)))
    }

    fn resident(&self) -> Option<u64> {
        let statm = self.read("proc/self/statm")?;
        Some(statm.split_whitespace().nth(1)?.parse::<u64>().ok()?.saturating_mul(PAGE))
    }

    /// Use and limit of every group above this process that has a limit.
    fn groups(&self) -> Vec<(u64, u64)> {
        let membership = self.read("proc/self/cgroup").unwrap_or_default();
        let mut found = Vec::new();
        for line in membership.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
            let is_unified = controllers.is_empty();
            if !is_unified && !controllers.split(',').any(|controller| controller == "memory") {
                continue;
            }
            let base = if is_unified { "sys/fs/cgroup" } else { "sys/fs/cgroup/memory" };
            let mut group = path.trim_matches('/');
            loop {
                let folder = format!("{base}/{group}");
                found.extend(if is_unified { self.unified(&folder) } else { self.legacy(&folder) });
                if group.is_empty() {
                    break;
                }
                group = group.rsplit_once('/').map_or("", |(above, _)| above);
            }
        }
        found
    }

    fn unified(&self, folder: &str) -> Option<(u64, u64)> {
        let limit = self.number(&format!("{folder}/memory.max"))?;
        let used = self.number(&format!("{folder}/memory.current"))?;
        Some((used.saturating_sub(self.droppable(folder, "inactive_file")), limit))
    }

    fn legacy(&self, folder: &str) -> Option<(u64, u64)> {
        let limit = self.number(&format!("{folder}/memory.limit_in_bytes")).filter(|limit| *limit < NO_LIMIT)?;
        let used = self.number(&format!("{folder}/memory.usage_in_bytes"))?;
        Some((used.saturating_sub(self.droppable(folder, "total_inactive_file")), limit))
    }

    fn droppable(&self, folder: &str, key: &str) -> u64 {
        let stat = self.read(&format!("{folder}/memory.stat")).unwrap_or_default();
        let mut values = stat.lines().filter_map(|line| line.strip_prefix(key)?.trim().parse().ok());
        values.next().unwrap_or_default()
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.read(file)?.trim().parse().ok()
    }

    fn read(&self, file: &str) -> Option<String> {
        use std::io::Read as _;
        let mut text = String::new();
        let file = std::fs::File::open(self.os_root.join(file)).ok()?;
        file.take(MAX_FILE).read_to_string(&mut text).ok()?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("folder");
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("folders");
            std::fs::write(path, text).expect("file");
        }
        dir
    }

    #[test]
    fn a_group_near_its_limit_sheds_in_both_versions_and_from_above() {
        const MIB: u64 = 1 << 20;
        let short = |used: u64| Some(Short { limit: "cgroup", used: used * MIB, of: 100 * MIB });
        let case = |files: &[(&str, String)]| {
            let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
            Shed::new(tree(&files).path(), 0).short()
        };
        let unified = |current: u64, inactive: u64| {
            case(&[
                ("proc/self/cgroup", "0::/system.slice/edged.service\n".to_owned()),
                ("sys/fs/cgroup/system.slice/edged.service/memory.max", "max\n".to_owned()),
                ("sys/fs/cgroup/system.slice/edged.service/memory.current", (current * MIB).to_string()),
                ("sys/fs/cgroup/system.slice/memory.max", (100 * MIB).to_string()),
                ("sys/fs/cgroup/system.slice/memory.current", (current * MIB).to_string()),
                ("sys/fs/cgroup/system.slice/memory.stat", format!("anon 1\ninactive_file {}\n", inactive * MIB)),
            ])
        };
        assert_eq!(unified(89, 0), None);
        assert_eq!(unified(90, 0), short(90));
        assert_eq!(unified(99, 50), None, "pages of files can be dropped");
        assert_eq!(unified(99, 1), short(98));
        let legacy = |usage: u64, limit: u64| {
            case(&[
                ("proc/self/cgroup", "12:cpu,cpuacct:/x\n4:memory:/edged\n".to_owned()),
                ("sys/fs/cgroup/memory/edged/memory.limit_in_bytes", limit.to_string()),
                ("sys/fs/cgroup/memory/edged/memory.usage_in_bytes", (usage * MIB).to_string()),
                ("sys/fs/cgroup/memory/edged/memory.stat", format!("total_inactive_file {MIB}\n")),
            ])
        };
        assert_eq!(legacy(96, 100 * MIB), short(95));
        assert_eq!(legacy(80, 100 * MIB), None);
        assert_eq!(legacy(96, 9_223_372_036_854_771_712), None, "that is no limit");
    }

    #[test]
    fn the_envelope_is_held_against_the_process_itself() {
        let pages = |pages: u64| tree(&[("proc/self/statm", &format!("9999 {pages} 1 1 0 1 0\n"))]);
        let envelope = 4096 * 100;
        assert_eq!(Shed::new(pages(89).path(), envelope).short(), None);
        let found = Shed::new(pages(90).path(), envelope).short();
        assert_eq!(found, Some(Short { limit: "envelope", used: 90 * 4096, of: envelope }));
        assert_eq!(Shed::new(pages(90).path(), 0).short(), None, "none is configured");
        // The process that runs this has a size, and it is above one byte and below a pebibyte.
        assert!(Shed::new(Path::new("/"), 2).resident().is_some_and(|bytes| bytes > 1 << 20));
    }
}
