//! `autonomy facts --os`: what the operating system's fingerprint is made of.

use autonomy_schema::os::{Changed, OsFacts, OsFingerprint};
use autonomy_schema::{Blake3, Code};
use serde_json::json;

use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// What is recorded, and what differs from it.
struct Recorded {
    os: OsFingerprint,
    changed: Vec<Changed>,
}

pub(super) fn show(output: Output, global: &Global) -> Result<u8, Failure> {
    // `uname` speaks for the root that runs, however its path is written.
    let path = global.os_root.canonicalize().map_err(|error| Failure::io("open", &global.os_root, &error))?;
    let os = autonomy_stateroot::facts::os_facts(&path);
    let composite = os.composite().map_err(|error| Failure::because(Code::IoError, error.to_string()))?;
    let recorded = match &global.state_root {
        None => None,
        Some(_) => node::state_root(global)?.0.os_fingerprint()?,
    };
    let recorded = recorded.map(|recorded| Recorded { changed: os.changed_since(&recorded.components), os: recorded });
    if output == Output::Json {
        let mut value = json!({ "composite": composite, "components": os.components() });
        if let Some(Recorded { os, changed }) = &recorded {
            value["recorded"] = json!({
                "boot_epoch": os.boot_epoch, "captured_at": os.captured_at, "composite": os.composite, "changed": changed,
            });
        }
        ui::out(&format!("{value}\n"));
    } else {
        ui::out(&ui::printable(&as_text(&os, composite, recorded.as_ref())));
    }
    Ok(exit::DONE)
}

fn as_text(os: &OsFacts, composite: Blake3, recorded: Option<&Recorded>) -> String {
    let shown = |value: &str| if value.is_empty() { "-".to_owned() } else { value.replace('\n', "\\n") };
    let mut lines: Vec<String> =
        os.components().into_iter().map(|(name, value)| format!("{name:<14}  {}", shown(value))).collect();
    lines.push(format!("{:<14}  {composite}", "composite"));
    if let Some(Recorded { os, changed }) = recorded {
        let since = format!("boot epoch {} was recorded at {}", os.boot_epoch, os.captured_at);
        lines.push(match changed.len() {
            0 => format!("Nothing changed since {since}."),
            1 => format!("1 component changed since {since}:"),
            count => format!("{count} components changed since {since}:"),
        });
        let change = |it: &Changed| format!("  {:<14}  {} → {}", it.component, shown(&it.old), shown(&it.new));
        lines.extend(changed.iter().map(change));
    }
    lines.join("\n") + "\n"
}
