//! Relative paths that cannot leave the folder they are joined to, and the other names that end up on disk.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::reason::{Code, Reason};

/// Longest path in bytes: a quarter of Linux's `PATH_MAX`, so that it still fits below any state root.
pub const MAX_PATH_BYTES: usize = 1024;
/// Longest path component in bytes (`NAME_MAX` of ext4, xfs and btrfs).
pub const MAX_COMPONENT_BYTES: usize = 255;
/// Longest name of a node, fleet, stream or artifact.
pub const MAX_NAME_BYTES: usize = 128;

/// Why a text is not a safe path or name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: `{text}` {why}")]
pub struct PathError {
    code: &'static str,
    text: String,
    why: &'static str,
}

impl PathError {
    /// The error as a reason.
    pub fn to_reason(&self) -> Reason {
        let code = self.code.parse().unwrap_or(Code::UnsafePath);
        Reason::new(code, format!("`{}` {}", self.text, self.why))
    }
}

fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

macro_rules! string_type {
    ($name:ident, $check:ident, $code:literal, $schema:expr) => {
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = PathError;

            fn from_str(text: &str) -> Result<Self, PathError> {
                match $check(text) {
                    None => Ok(Self(text.to_owned())),
                    Some(why) => Err(PathError { code: $code, text: shown(text), why }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

/// A relative path with `/` between plain components: never absolute, never `.` or `..`, no control, invisible or
/// direction-turning characters, no backslash, at most [`MAX_PATH_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(String);

string_type!(
    RelPath,
    path_problem,
    "unsafe_path",
    json_schema!({ "type": "string", "minLength": 1, "maxLength": MAX_PATH_BYTES, "pattern": "^[^/\\\\]+(/[^/\\\\]+)*$" })
);

impl RelPath {
    /// A path that is known when the program is written; it is not checked, so never hand it outside text.
    pub fn fixed(text: &'static str) -> RelPath {
        RelPath(text.to_owned())
    }

    /// This path with `tail` below it. The length cap is not checked again: both halves are bounded.
    #[must_use]
    pub fn join(&self, tail: &RelPath) -> RelPath {
        RelPath(format!("{}/{}", self.0, tail.0))
    }

    /// The path above, or `None` for a single component.
    pub fn parent(&self) -> Option<RelPath> {
        self.0.rsplit_once('/').map(|(head, _)| RelPath(head.to_owned()))
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The components, in order.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

/// Whether a character moves the cursor, hides text or turns its direction. No path holds one, and none is shown raw.
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn path_problem(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("is empty; expected a relative path such as `bin/agent`");
    }
    if text.len() > MAX_PATH_BYTES {
        return Some("is longer than 1024 bytes");
    }
    if text.starts_with('/') {
        return Some("is absolute; expected a relative path such as `bin/agent`");
    }
    if text.contains('\\') || text.chars().any(is_deceptive) {
        return Some(
            "holds a backslash, or a character that is invisible, moves the cursor or turns the direction of text",
        );
    }
    for component in text.split('/') {
        match component {
            "" => return Some("has an empty component"),
            "." | ".." => return Some("has a `.` or `..` component, which could leave the folder"),
            long if long.len() > MAX_COMPONENT_BYTES => return Some("has a component longer than 255 bytes"),
            _ => {}
        }
    }
    None
}

/// The name of a node, fleet, stream, artifact or role: starts with a letter or digit, then letters, digits,
/// `.`, `_` and `-`, at most [`MAX_NAME_BYTES`]. It is safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

string_type!(
    Name,
    name_problem,
    "bad_name",
    json_schema!({ "type": "string", "maxLength": MAX_NAME_BYTES, "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$" })
);

impl Name {
    /// A name that is known when the program is written; it is not checked, so never hand it outside text.
    pub fn fixed(text: &'static str) -> Name {
        Name(text.to_owned())
    }
}

fn name_problem(text: &str) -> Option<&'static str> {
    let ok = text.len() <= MAX_NAME_BYTES
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    (!ok).then_some(
        "is not a name; expected letters, digits, `.`, `_`, `-`, starting with a letter or digit, at most 128",
    )
}

/// A systemd unit name (systemd.unit(5)): valid characters and a known suffix, at most 255 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitName(String);

string_type!(
    UnitName,
    unit_problem,
    "bad_name",
    json_schema!({ "type": "string", "maxLength": MAX_COMPONENT_BYTES, "pattern": "^[A-Za-z0-9:_.@-]+\\.(service|socket|timer|path|target|mount)$" })
);

fn unit_problem(text: &str) -> Option<&'static str> {
    let suffix = text.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, suffix)| suffix);
    let ok = text.len() <= MAX_COMPONENT_BYTES
        && !text.starts_with('-')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '.' | '@' | '-'))
        && matches!(suffix, Some("service" | "socket" | "timer" | "path" | "target" | "mount"));
    (!ok).then_some("is not a systemd unit name; expected for example `agent.service`")
}

/// File permission bits, written as four octal digits (`"0755"`). Only owner, group and other bits; no setuid,
/// setgid or sticky bit, which a signed payload has no business to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mode(u16);

impl Mode {
    /// Owner read and write, others read.
    pub const FILE: Mode = Mode(0o644);
    /// `0755`: as a file, and everybody may run it.
    pub const PROGRAM: Mode = Mode(0o755);
    /// Owner read and write alone.
    pub const PRIVATE: Mode = Mode(0o600);
    /// `0700`: every folder of a state root.
    pub const FOLDER: Mode = Mode(0o700);

    /// The bits, at most `0o777`.
    pub fn bits(self) -> u32 {
        u32::from(self.0)
    }

    /// Keeps the permission bits of `bits` and drops the rest.
    pub fn from_bits(bits: u32) -> Self {
        Mode(u16::try_from(bits & 0o777).unwrap_or(0o600))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl FromStr for Mode {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let error = || PathError {
            code: "bad_mode",
            text: shown(text),
            why: "is not a file mode; expected four octal digits between \"0000\" and \"0777\", quoted",
        };
        if text.len() != 4 || !text.starts_with('0') {
            return Err(error());
        }
        u16::from_str_radix(text, 8).map(Mode).map_err(|_not_octal| error())
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Mode {
    fn schema_name() -> Cow<'static, str> {
        "Mode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^0[0-7]{3}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_could_escape_are_refused() {
        for bad in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../x",
            "a/../b",
            "a//b",
            "a/",
            "./a",
            "a\\b",
            "a\0b",
            "a\nb",
            "a\u{202e}b",
            "a\u{200b}",
        ] {
            assert!(bad.parse::<RelPath>().is_err(), "{bad:?}");
        }
        for good in ["a", "bin/agent", "..a/b..", "Ünïcode/ok", "a b"] {
            assert!(good.parse::<RelPath>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn names_units_and_modes() {
        assert!("node-a".parse::<Name>().is_ok());
        assert!("-x".parse::<Name>().is_err());
        assert!("a/b".parse::<Name>().is_err());
        assert!("agent@1.service".parse::<UnitName>().is_ok());
        assert!("--now.service".parse::<UnitName>().is_err());
        assert!(".service".parse::<UnitName>().is_err());
        assert_eq!("0755".parse::<Mode>().map(Mode::bits).ok(), Some(0o755));
        for bad in ["755", "4755", "0888", "0o755"] {
            assert!(bad.parse::<Mode>().is_err(), "{bad}");
        }
    }
}
