//! Digests that carry their algorithm: `sha256:<64 hex>` and `blake3:<64 hex>`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::Digest as _;

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad_digest: `{text}` is not a digest; expected `{algorithm}:` and 64 lower-case hex digits")]
pub struct DigestError {
    text: String,
    algorithm: &'static str,
}

macro_rules! digest_type {
    ($(#[$doc:meta])* $name:ident, $algorithm:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The algorithm prefix, without the colon.
            pub const ALGORITHM: &'static str = $algorithm;

            /// Wraps 32 raw bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 raw bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The 64 lower-case hex digits, without the algorithm.
            pub fn hex(&self) -> String {
                hex::encode(self.0)
            }

            /// The first twelve hex digits, as directory names and terminals show them.
            pub fn short(&self) -> String {
                hex::encode(&self.0[..6])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}:{}", Self::ALGORITHM, self.hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                let error = || DigestError { text: text.chars().take(80).collect(), algorithm: Self::ALGORITHM };
                let digits = text
                    .strip_prefix(Self::ALGORITHM)
                    .and_then(|rest| rest.strip_prefix(':'))
                    .filter(|digits| digits.len() == 64 && !digits.bytes().any(|b| b.is_ascii_uppercase()))
                    .ok_or_else(error)?;
                let mut bytes = [0; 32];
                hex::decode_to_slice(digits, &mut bytes).map_err(|_not_hex| error())?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
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
                json_schema!({ "type": "string", "pattern": concat!("^", $algorithm, ":[0-9a-f]{64}$") })
            }
        }
    };
}

digest_type!(
    /// A SHA-256 digest (FIPS 180-4): what OCI, Sigstore and openssl speak.
    Sha256,
    "sha256"
);
digest_type!(
    /// A BLAKE3 digest: objects, segments and fingerprints.
    Blake3,
    "blake3"
);

impl Sha256 {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl Blake3 {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}
