//! `kind: Receipt`: what became of a set on a node, signed by the node's attest key. It rides back on the medium that
//! brought the set.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::canonical::MAX_INTEGER;
use crate::digest::{Blake3, Sha256};
use crate::document::Document;
use crate::path::Name;
use crate::reason::{Code, Reason};
use crate::set::SIGNATURES_SUFFIX;
use crate::time::Time;
use crate::version::{ApiVersion, Kind};

/// Largest receipt in bytes; one has about 300, and a later minor version may say more.
pub const MAX_RECEIPT_BYTES: usize = 16 << 10;

/// What became of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ReceiptResult {
    /// The node verified it and has it whole.
    Stored,
    /// The node runs it.
    Active,
}

impl ReceiptResult {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Active => "active",
        }
    }
}

/// What a node says of one set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// `autonomy/v1`.
    pub api_version: ApiVersion,
    /// `Receipt`.
    pub kind: Kind,
    /// The node.
    pub node_id: Name,
    /// Fingerprint of the set's manifest.
    pub manifest: Blake3,
    /// What became of it.
    pub result: ReceiptResult,
    /// The boot epoch of the node; 0 where none is kept.
    pub boot_epoch: u64,
    /// One more than in the receipt before it, or higher: no two receipts of a node have the same.
    pub counter: u64,
    /// The node's clock, which may be wrong.
    pub time: Time,
    /// The peer that brought the last of it; absent where it came otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Name>,
}

impl Document for Receipt {
    const KIND: Kind = Kind::Receipt;
    const MAX_BYTES: usize = MAX_RECEIPT_BYTES;

    fn validate(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let mut bad = |message: &str| reasons.push(Reason::new(Code::BadValue, message));
        if !(1..=MAX_INTEGER).contains(&self.counter) {
            bad("`counter` is not between 1 and 2^53-1");
        }
        if self.boot_epoch > MAX_INTEGER {
            bad("`bootEpoch` is above 2^53-1");
        }
        reasons
    }
}

/// How the name of a receipt ends.
pub const SUFFIX: &str = ".json";
/// Most letters of the node's id in the name of a receipt.
const MAX_SLUG: usize = 32;
/// Digits of the key's id in it.
const KEY_DIGITS: usize = 8;

/// What the file of a receipt is called: lower-case letters, digits and dashes, so that every file system takes it, and none
/// takes two for one. The key keeps nodes apart whose ids differ in case alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReceiptName(String);

impl ReceiptName {
    /// The name of the receipt that `node` signed with the key of this id.
    pub fn of(node: &Name, key: Sha256, counter: u64) -> Self {
        Self(format!("{}{counter}", Self::prefix(node, key)))
    }

    /// How the names of all its receipts begin.
    pub fn prefix(node: &Name, key: Sha256) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let slug: String = node.as_str().chars().take(MAX_SLUG).map(plain).collect();
        format!("{slug}-{}-", &key.hex()[..KEY_DIGITS])
    }

    /// Whether a file is called as the document of some receipt is.
    pub fn is_like(file: &str) -> bool {
        let mut parts = file.strip_suffix(SUFFIX).unwrap_or_default().rsplitn(3, '-');
        let (counter, key, node) = (parts.next(), parts.next(), parts.next());
        counter.is_some_and(|counter| counter.parse::<u64>().is_ok())
            && key.is_some_and(|key| key.len() == KEY_DIGITS && key.bytes().all(|byte| byte.is_ascii_hexdigit()))
            && node.is_some_and(|node| !node.is_empty())
    }

    /// Its document.
    pub fn file(&self) -> String {
        format!("{}{SUFFIX}", self.0)
    }

    /// The signature beside it.
    pub fn signature(&self) -> String {
        format!("{}{SUFFIX}{SIGNATURES_SUFFIX}", self.0)
    }
}
