//! What of a state root belongs into a backup, by its path. Both directions ask here.

use autonomy_schema::{Name, RelPath};
use autonomy_stateroot::layout;

/// Names at the top that no backup has: locks, what is computed again, and what an interrupted write left.
const NOT_KEPT: [&str; 4] = ["LOCK", "store.lock", "cache", "segments"];
/// Of `edge/`, what the operator wrote. The rest is the daemon's at work: a ledger that was copied meanwhile would be torn, and
/// an old one would count attempts again that were made (INV-12); sets that were on their way come again from the node before.
const KEPT_OF_EDGE: &str = "edge/local.toml";
/// Folders whose files may have any name that a release gives them.
const NAMED_BY_OTHERS: [&str; 3] = ["generations", "inbox", "quarantine"];

/// Whether a file, link or folder at `path` is kept.
pub(super) fn belongs(path: &RelPath, is_folder: bool) -> bool {
    let mut parts = path.components();
    let Some(top) = parts.next() else { return false };
    if !layout::TOP_NAMES.contains(&top) || NOT_KEPT.contains(&top) || top.starts_with('.') {
        return false;
    }
    let second = parts.next();
    if second.is_none() && !is_link(path) && is_folder != layout::TOP_FOLDERS.contains(&top) {
        return false;
    }
    match top {
        // A generation is a folder with a name; under a dot name one is being made.
        "generations" => {
            second.is_none_or(|name| name.parse::<Name>().is_ok() && (is_folder || parts.next().is_some()))
        }
        "objects" => second.is_none_or(|name| !name.starts_with('.') && !is_folder && parts.next().is_none()),
        _ if NAMED_BY_OTHERS.contains(&top) => true,
        "edge" => second.is_none() || (path.as_str() == KEPT_OF_EDGE && !is_folder),
        "policy" => {
            second.is_none_or(|name| !name.starts_with('.')) && parts.next().is_none_or(|name| !name.starts_with('.'))
        }
        "receipts" if path.as_str() == "receipts/LOCK" => false,
        _ => !(is_lock_or_leftover(path, is_folder) || path.components().any(|part| part.starts_with(".restore-"))),
    }
}

/// A lock file, or one that is being replaced.
fn is_lock_or_leftover(path: &RelPath, is_folder: bool) -> bool {
    let name = path.file_name();
    !is_folder && (is_lock(name) || (name.starts_with('.') && name.rsplit('.').next() == Some("tmp")))
}

/// Whether a file of this name is a lock.
pub(super) fn is_lock(name: &str) -> bool {
    name.rsplit('.').next() == Some("lock")
}

/// Whether a symbolic link lies at `path` in a state root, and nothing else may.
pub(super) fn is_link(path: &RelPath) -> bool {
    let text = path.as_str();
    text == "current" || text == "lkg" || is_policy_slot(path) || is_outbox_entry(path)
}

/// Whether it is one of the two links to policy bundles.
pub(super) fn is_policy_slot(path: &RelPath) -> bool {
    *path == layout::policy_current() || *path == layout::policy_lkg()
}

fn is_outbox_entry(path: &RelPath) -> bool {
    path.as_str()
        .strip_prefix("outbox/")
        .is_some_and(|name| name.len() == 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

/// Whether the link at `path` may have this text.
pub(super) fn may_point(path: &RelPath, target: &str) -> bool {
    if is_policy_slot(path) {
        return layout::policy_target(target).is_some();
    }
    let prefix = if is_outbox_entry(path) { "../generations/" } else { "generations/" };
    is_link(path) && target.strip_prefix(prefix).is_some_and(|name| name.parse::<Name>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_holds_the_state_root_and_no_lock_or_leftover() {
        let path = |text: &str| text.parse::<RelPath>().expect("path");
        for kept in [
            "node.yaml",
            "trust/floors.json",
            "generations/1-a-1/artifacts/poetry.lock",
            "generations/1-a-1/artifacts/.x.tmp",
            "objects/00-0644",
            "current",
            "inbox/x/y.lock",
            "telemetry/autonomy/telemetry.wal",
            "edge/local.toml",
            "policy/current",
            "policy/bundles/00/policy.tar.gz",
        ] {
            assert!(belongs(&path(kept), false), "{kept}");
        }
        for left_out in [
            "LOCK",
            "store.lock",
            ".pins.json.tmp",
            "cache/files",
            "audit/audit.lock",
            "trust/.floors.json.tmp",
            "objects/.tmp-00-0644",
            "generations/.restore-1-a-1/manifest.json",
            "generations/file",
            "telemetry/.restore-autonomy/telemetry.wal",
            "stranger",
            "trust",
            "edge/relay.redb",
            "edge/status.json",
            "edge/edged.sock",
            "edge/pins.json",
            "edge/sets/00/manifest.json",
            "segments/00.part",
            "receipts/LOCK",
            "policy/.current.tmp",
            "policy/bundles/.new-00/policy.tar.gz",
            "policy/bundles/00/.policy.tar.gz.tmp",
        ] {
            assert!(!belongs(&path(left_out), false), "{left_out}");
        }
        assert!(belongs(&path("trust"), true) && !belongs(&path("node.yaml"), true));
    }

    #[test]
    fn links_of_a_backup_point_to_generations_alone() {
        let outbox = format!("outbox/{}", "0a".repeat(32));
        let may = |path: &str, target: &str| may_point(&path.parse().expect("path"), target);
        assert!(may("current", "generations/1-a-1") && may("lkg", "generations/1-a-1"));
        assert!(may(&outbox, "../generations/1-a-1"));
        let bundle = format!("bundles/{}", "0a".repeat(32));
        assert!(may("policy/current", &bundle) && may("policy/lkg", &bundle));
        assert!(!may("policy/current", "generations/1-a-1") && !may("current", &bundle));
        assert!(!may("policy/current", "bundles/../../identity") && !may("policy/current", &bundle.to_uppercase()));
        for (path, target) in [
            ("current", "/etc/passwd"),
            ("current", "generations/../x"),
            ("current", "../generations/1-a-1"),
            (outbox.as_str(), "generations/1-a-1"),
            ("outbox/x", "../generations/1-a-1"),
            ("trust/root.json", "generations/1-a-1"),
        ] {
            assert!(!may(path, target), "{path} -> {target}");
        }
    }
}
