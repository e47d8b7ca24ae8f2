//! `apiVersion` and `kind`, the two fields that every document opens with.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::time::Time;

/// The version of this tool, as `minTool` is compared with and plans are bound to.
pub const TOOL_VERSION: &str = env!("CARGO_PKG_VERSION");

/// When this version was released. A node whose clock was lost knows that it is later than this; a constant, so
/// that builds stay reproducible. Raised with every release.
pub fn released_at() -> Time {
    Time::from_unix(1_795_564_800) // 2026-11-25T00:00:00Z
}

/// The text is not an `apiVersion` that this tool reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown_version: `{0}` is not a version this tool reads; expected `autonomy/v1`")]
pub struct VersionError(String);

/// `autonomy/v1` or `autonomy/v1.N`: an unknown minor is read, an unknown major refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ApiVersion {
    /// The minor version; 0 is written without it.
    pub minor: u32,
}

impl FromStr for ApiVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let error = || VersionError(text.chars().take(40).collect());
        match text.strip_prefix("autonomy/v1").ok_or_else(error)? {
            "" => Ok(Self { minor: 0 }),
            rest => {
                let digits =
                    rest.strip_prefix('.').filter(|d| !d.starts_with('0') && d.bytes().all(|b| b.is_ascii_digit()));
                let minor = digits.and_then(|d| d.parse().ok()).ok_or_else(error)?;
                Ok(Self { minor })
            }
        }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("autonomy/v1")?;
        if self.minor > 0 { write!(f, ".{}", self.minor) } else { Ok(()) }
    }
}

impl Serialize for ApiVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ApiVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for ApiVersion {
    fn schema_name() -> Cow<'static, str> {
        "ApiVersion".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^autonomy/v1(\\.[1-9][0-9]*)?$" })
    }
}

macro_rules! kinds {
    ($($variant:ident $doc:literal;)*) => {
        /// The kinds of documents.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        pub enum Kind {
            $(#[doc = $doc] $variant,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant,)*];

            /// The text of the `kind` field.
            pub const fn as_str(self) -> &'static str {
                match self { $(Kind::$variant => stringify!($variant),)* }
            }
        }
    };
}

kinds! {
    StateManifest "Desired state, signed by role `manifest`.";
    Lock "What an agent release is made of, signed by role `artifact`.";
    TrustRoot "Keys per role, signed by role `root`.";
    Facts "What a node knows of itself.";
    Plan "What a change would do.";
    Journal "The intent of the apply in progress.";
    Floors "What a node has seen and will not go below.";
    Node "Who the node is (`node.yaml`).";
    Backup "What a backup of a state root holds.";
    Revocation "Keys and manifests that count for nothing any more, signed by role `manifest` or `root`.";
    Receipt "What became of a set on a node, signed by the node's attest key.";
    OsFingerprint "What a node runs on, and since when (`bootstrap/os_fingerprint.json`).";
    Evidence "What a node did when its operating system was replaced, signed by the node's attest key.";
    PolicyOverride "Lets one manifest pass a policy that denies it, signed by role `root`.";
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
