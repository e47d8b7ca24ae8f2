//! What the relay daemon has in a state root. Its ledger is its own: it is opened by `edged` alone, which refuses a damaged one.

use autonomy_schema::{Blake3, RelPath};
use autonomy_stateroot::disk::FileKind;
use autonomy_stateroot::{DiskError, StateRoot, layout};

use super::check::{file_mode, listed};
use super::{Finding, Mend, Report};
use crate::relay::relaying;

const MOVE: &str = "move it away, if it is not yours";

/// Looks at names, kinds and modes, and at what others read.
pub(super) fn check(root: &StateRoot, report: &mut Report) -> Result<(), DiskError> {
    let private =
        [layout::edge_ledger(), layout::edge_lock(), layout::edge_status(), layout::edge_pins(), layout::edge_local()];
    for entry in listed(root, &layout::edge())? {
        let Ok(name) = entry.name.parse::<RelPath>() else { continue };
        let path = layout::edge().join(&name);
        let fits = match entry.kind {
            FileKind::File if private.contains(&path) => {
                let mode = root.disk().stat(&path)?.map(|stat| stat.mode);
                // Its operator may let others read it.
                mode.filter(|_| path != layout::edge_local())
                    .into_iter()
                    .for_each(|mode| file_mode(report, &path, mode));
                true
            }
            FileKind::Dir => path == layout::edge_sets(),
            FileKind::Other => path == layout::edge_socket(),
            FileKind::File => entry.name.starts_with('.'),
            FileKind::Symlink => false,
        };
        if !fits {
            report.findings.push(Finding::notice(
                path,
                "`edged` has nothing of this name and kind",
                MOVE,
                Mend::Nothing,
            ));
        }
    }
    if let Err(reason) = relaying(root) {
        let remedy = "let `edged` run, which writes it anew";
        report.findings.push(Finding::notice(layout::edge_status(), reason.message, remedy, Mend::Nothing));
    }
    // Under dot names: bodies that are being received, and sets that are being put together.
    let sets = |name: &str, kind| match kind {
        FileKind::Dir => name.starts_with('.') || is_digest(name),
        FileKind::File => name.starts_with('.'),
        FileKind::Symlink | FileKind::Other => false,
    };
    strangers(root, &layout::edge_sets(), &sets, report)?;
    let parts = |name: &str, kind| kind == FileKind::File && (name.starts_with('.') || layout::is_partial(name));
    strangers(root, &layout::segments(), &parts, report)?;
    let lock = layout::receipts_lock();
    if root.disk().stat(&lock)?.is_some_and(|stat| stat.kind != FileKind::File) {
        report.findings.push(Finding::damage(
            &lock,
            "it is no regular file",
            "remove it: it holds nothing",
            Mend::Nothing,
        ));
    }
    Ok(())
}

fn is_digest(name: &str) -> bool {
    format!("blake3:{name}").parse::<Blake3>().is_ok()
}

/// What lies in a folder of the daemon under a name that it gives to nothing.
fn strangers(
    root: &StateRoot,
    folder: &RelPath,
    fits: &dyn Fn(&str, FileKind) -> bool,
    report: &mut Report,
) -> Result<(), DiskError> {
    for entry in listed(root, folder)?.into_iter().filter(|entry| !fits(&entry.name, entry.kind)) {
        let path = format!("{folder}/{}", entry.name);
        report.findings.push(Finding::notice(path, "it is no part of what `edged` receives", MOVE, Mend::Nothing));
    }
    Ok(())
}
