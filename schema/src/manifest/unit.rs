//! What enabling a systemd unit means: the links that its `[Install]` section asks for (`systemd.unit(5)`), as `systemctl
//! enable` makes them.

use super::UNIT_FOLDER;
use crate::path::{RelPath, UnitName};

/// Largest unit file that is read, in bytes.
pub const MAX_UNIT_BYTES: u64 = 256 << 10;
/// Most links of one unit.
const MAX_LINKS: usize = 64;

/// The links of a unit, each with its text; `Err` says what of the section cannot be carried out.
pub fn unit_links(unit: &UnitName, text: &str) -> Result<Vec<(RelPath, String)>, String> {
    let mut links = Vec::new();
    let mut in_section = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            in_section = line == "[Install]";
            continue;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| in_section && !line.starts_with(['#', ';'])) else {
            continue;
        };
        for word in value.split_whitespace() {
            let folder = match key.trim_end() {
                "WantedBy" => format!("{UNIT_FOLDER}/{word}.wants/{unit}"),
                "RequiredBy" => format!("{UNIT_FOLDER}/{word}.requires/{unit}"),
                "UpheldBy" => format!("{UNIT_FOLDER}/{word}.upholds/{unit}"),
                "Alias" => format!("{UNIT_FOLDER}/{word}"),
                other => return Err(format!("`{other}=` in its [Install] section is not supported")),
            };
            // A specifier or a template's instance would have to be expanded.
            let target = format!("/{UNIT_FOLDER}/{unit}");
            if word.parse::<UnitName>().is_err() || unit.as_str().contains("@.") {
                return Err(format!("`{key}={}` cannot be a link of `{unit}`", word.escape_default()));
            }
            let path = folder.parse().map_err(|error: crate::path::PathError| error.to_string())?;
            links.push((path, target));
        }
    }
    match links.len() {
        0 => Err("it has no [Install] section that says what wants it, so it cannot be enabled".to_owned()),
        1..=MAX_LINKS => Ok(links),
        more => Err(format!("its [Install] section asks for {more} links; at most {MAX_LINKS}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_those_of_systemctl_enable() {
        let unit: UnitName = "agent.service".parse().expect("unit");
        let text = "[Unit]\nWants=x.service\n[Service]\nExecStart=/bin/x\n[Install]\n# WantedBy=no.target\nWantedBy=multi-user.target \
                    network.target\nAlias=a.service\n";
        let links = unit_links(&unit, text).expect("links");
        let shown: Vec<String> = links.iter().map(|(at, target)| format!("{at} -> {target}")).collect();
        assert_eq!(
            shown,
            [
                "etc/systemd/system/multi-user.target.wants/agent.service -> /etc/systemd/system/agent.service",
                "etc/systemd/system/network.target.wants/agent.service -> /etc/systemd/system/agent.service",
                "etc/systemd/system/a.service -> /etc/systemd/system/agent.service",
            ]
        );
        for bad in ["", "[Install]\n", "[Install]\nAlso=x.service\n", "[Install]\nWantedBy=../../x.target\n"] {
            unit_links(&unit, bad).expect_err(bad);
        }
    }
}
