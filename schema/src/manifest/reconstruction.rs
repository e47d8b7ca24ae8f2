//! What is rebuilt outside the state root: the steps, where they may write, and what each leaves there.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Artifact, is_default};
use crate::digest::Blake3;
use crate::path::{Mode, Name, RelPath, UnitName};
use crate::reason::{Code, Reason};

/// Steps that rebuild what lies outside the state root.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Reconstruction {
    /// In order.
    #[serde(skip_serializing_if = "is_default")]
    pub steps: Vec<ReconstructionStep>,
}

/// One step; exactly one field is set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReconstructionStep {
    /// Copies an artifact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy_binary: Option<CopyBinary>,
    /// Writes a small file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_file: Option<WriteFile>,
    /// Makes a symbolic link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symlink: Option<Symlink>,
    /// Makes a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<Directory>,
    /// Installs a systemd unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub systemd_unit: Option<SystemdUnit>,
    /// Runs a check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify_config: Option<VerifyConfig>,
}

/// What a step leaves at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect<'a> {
    /// A file with these bytes.
    File {
        /// Their number.
        size: u64,
        /// BLAKE3 of the content.
        blake3: Blake3,
        /// Permission bits.
        mode: Mode,
    },
    /// A directory.
    Dir {
        /// Permission bits.
        mode: Mode,
    },
    /// A symbolic link with this text.
    Link {
        /// The text.
        target: &'a str,
    },
}

impl fmt::Display for Effect<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { blake3, mode, .. } => write!(f, "{blake3} {mode}"),
            Self::Dir { mode } => write!(f, "directory {mode}"),
            Self::Link { target } => write!(f, "-> {target}"),
        }
    }
}

/// Where units are installed, below the root of the operating system (`systemd.unit(5)`).
pub const UNIT_FOLDER: &str = "etc/systemd/system";

/// Folders below which a step may write, unless `node.yaml` names more.
pub const DESTINATIONS: [&str; 4] = ["/usr/local/", "/etc/systemd/system/", "/etc/autonomy/", "/opt/"];

/// An absolute path without `.`, `..` or empty components, as a path below the root of the operating system.
pub fn destination(text: &str) -> Result<RelPath, Reason> {
    const REMEDY: &str = "write an absolute path without `.`, `..` or empty parts, such as `/usr/local/bin/agent`";
    let unsafe_path = |why: &str| Reason::new(Code::UnsafePath, format!("`{}` {why}", text.escape_default()));
    let below = text.strip_prefix('/').ok_or_else(|| unsafe_path("is not an absolute path"));
    let parsed = below.and_then(|below| below.parse::<RelPath>().map_err(|error| error.to_reason()));
    parsed.map_err(|reason| reason.with_remedy(REMEDY))
}

/// Whether a step may write at a path below the root of the operating system. `more` are the node's own folders.
pub fn is_allowed(path: &RelPath, more: &[String]) -> bool {
    let folders = DESTINATIONS.iter().copied().chain(more.iter().map(String::as_str));
    let text = format!("/{path}");
    folders.into_iter().any(|folder| {
        text.strip_prefix(folder.trim_end_matches('/')).is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
    })
}

impl ReconstructionStep {
    /// The kinds that are set; exactly one is right.
    pub fn kinds(&self) -> Vec<&'static str> {
        let kinds = [
            ("copyBinary", self.copy_binary.is_some()),
            ("writeFile", self.write_file.is_some()),
            ("symlink", self.symlink.is_some()),
            ("directory", self.directory.is_some()),
            ("systemdUnit", self.systemd_unit.is_some()),
            ("verifyConfig", self.verify_config.is_some()),
        ];
        kinds.into_iter().filter_map(|(kind, is_set)| is_set.then_some(kind)).collect()
    }

    /// The kind of a step of a parsed manifest, whose parser checks that there is one.
    pub fn kind(&self) -> &'static str {
        self.kinds().first().copied().unwrap_or_default()
    }

    /// Where it writes, below the root of the operating system; `None` for a check, which writes nothing.
    pub fn place(&self) -> Option<Result<RelPath, Reason>> {
        let text = match self {
            Self { copy_binary: Some(step), .. } => &step.to,
            Self { write_file: Some(step), .. } => &step.to,
            Self { symlink: Some(step), .. } => &step.at,
            Self { directory: Some(step), .. } => &step.path,
            Self { systemd_unit: Some(step), .. } => {
                return Some(destination(&format!("/{UNIT_FOLDER}/{}", step.name)));
            }
            Self { .. } => return None,
        };
        Some(destination(text))
    }

    /// The artifact that it needs.
    pub fn artifact(&self) -> Option<&Name> {
        let unit = self.systemd_unit.as_ref().map(|step| &step.artifact);
        self.copy_binary.as_ref().map(|step| &step.artifact).or(unit)
    }

    /// What it leaves at its place; `None` for a check, and where the manifest does not pin the artifact.
    pub fn effect<'a>(&'a self, artifacts: &[Artifact]) -> Option<Effect<'a>> {
        let pinned = |name: &Name| artifacts.iter().find(|artifact| artifact.name == *name)?.file();
        match self {
            Self { copy_binary: Some(step), .. } => {
                let pins = pinned(&step.artifact)?;
                Some(Effect::File { size: pins.size, blake3: pins.blake3, mode: step.mode })
            }
            Self { write_file: Some(step), .. } => {
                let bytes = step.content.as_bytes();
                Some(Effect::File { size: bytes.len() as u64, blake3: Blake3::of(bytes), mode: step.mode })
            }
            Self { systemd_unit: Some(step), .. } => {
                let pins = pinned(&step.artifact)?;
                Some(Effect::File { size: pins.size, blake3: pins.blake3, mode: Mode::FILE })
            }
            Self { symlink: Some(step), .. } => Some(Effect::Link { target: &step.target }),
            Self { directory: Some(step), .. } => Some(Effect::Dir { mode: step.mode }),
            Self { .. } => None,
        }
    }

    /// Where it works, for people: the absolute path, or the program of a check.
    pub fn label(&self) -> String {
        match (self.place(), &self.verify_config) {
            (Some(Ok(path)), _) => format!("/{path}"),
            (_, Some(check)) => check.command.first().cloned().unwrap_or_default(),
            (Some(Err(_)) | None, None) => String::new(),
        }
    }

    /// What it brings about, for people: [`Effect`], and what it does beside it.
    pub fn expected(&self, artifacts: &[Artifact]) -> String {
        match (&self.verify_config, &self.systemd_unit, self.effect(artifacts)) {
            (Some(check), ..) => format!("`{}` exits 0", check.command.join(" ")),
            (_, Some(unit), Some(effect)) if unit.enable => format!("{effect} enabled"),
            (_, _, Some(effect)) => effect.to_string(),
            (_, _, None) => String::new(),
        }
    }
}

/// Copies an artifact to an absolute path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CopyBinary {
    /// Name of the artifact.
    pub artifact: Name,
    /// Absolute destination.
    pub to: String,
    /// Permission bits.
    pub mode: Mode,
}

/// Writes a small text file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WriteFile {
    /// Absolute destination.
    pub to: String,
    /// The text.
    pub content: String,
    /// Permission bits.
    pub mode: Mode,
}

/// Makes a symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Symlink {
    /// Absolute path of the link.
    pub at: String,
    /// What it points to.
    pub target: String,
}

/// Makes a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Directory {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: Mode,
}

/// Installs a systemd unit from an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SystemdUnit {
    /// Name of the unit.
    pub name: UnitName,
    /// Name of the artifact that holds the unit file.
    pub artifact: Name,
    /// Whether it is enabled by link.
    #[serde(default)]
    pub enable: bool,
}

/// Runs a command that must exit 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerifyConfig {
    /// Argument vector.
    pub command: Vec<String>,
}
