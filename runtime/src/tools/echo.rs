//! `tool.echo`: says back what it is told.

use serde::Deserialize;
use serde_json::{Value, json};

/// Parameters of `tool.echo`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    message: String,
}

pub(super) fn run(params: Params) -> Value {
    json!({ "message": params.message })
}
