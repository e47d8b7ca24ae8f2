//! A call of a tool, and what was decided of it.

use std::sync::Arc;

use autonomy_schema::manifest::semver_text::Version;
use autonomy_schema::{Blake3, Name, Reason, Sha256};
use serde::Serialize;
use serde_json::{Map, Value};

/// What an agent wants.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Which tool, such as `tool.echo`.
    pub kind: String,
    /// Its parameters.
    pub params: Map<String, Value>,
}

/// The bundle that decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyRef {
    /// Its name.
    pub name: Name,
    /// Its version.
    pub version: Version,
    /// SHA-256 of its packed bytes.
    pub digest: Sha256,
}

/// What was decided, after it is on record.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ruling {
    /// Whether the tool may run.
    pub allow: bool,
    /// Why not, sorted; empty when it may.
    pub reasons: Vec<Reason>,
    /// Where the decision is on record (`runtime:wal:<seq>`); `None` when it could not be recorded, which denies.
    pub decision_id: Option<String>,
    /// The bundle that was asked; `None` when there was none to ask.
    pub policy: Option<PolicyRef>,
    /// The rule that decided; `None` when none did.
    pub rule: Option<&'static str>,
    /// BLAKE3 over the canonical JSON of `{kind, params}`.
    pub input_digest: Blake3,
    /// The leave to run this very call; there is one exactly when `allow` is true.
    pub permit: Option<Permit>,
}

/// The leave to run one call: only a recorded `allow` makes one, and it holds the call that was judged.
#[derive(Debug)]
pub struct Permit(pub(crate) Arc<Asked>);

impl Permit {
    /// Which tool.
    pub fn kind(&self) -> &str {
        self.0.input["kind"].as_str().unwrap_or_default()
    }

    /// Its parameters, an object.
    pub fn params(&self) -> &Value {
        &self.0.input["params"]
    }
}

/// A call as the policy sees it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) input: Value,
    pub(crate) digest: Blake3,
}

impl Asked {
    pub(crate) fn new(call: Call) -> Self {
        let Call { kind, params } = call;
        let fields = [("kind".to_owned(), Value::String(kind)), ("params".to_owned(), Value::Object(params))];
        let input = Value::Object(Map::from_iter(fields));
        // JSON that was read can be written; were it not so, the digest of nothing would stand in the record.
        let digest = autonomy_schema::canonical::fingerprint(&input).unwrap_or_else(|_unwritable| Blake3::of(b""));
        Self { input, digest }
    }

    pub(crate) fn kind(&self) -> &str {
        self.input["kind"].as_str().unwrap_or_default()
    }
}
