//! `tool.echo`: says back what it is told.

use serde::Deserialize;
use serde_json::{Map, Value};

/// Parameters of `tool.echo`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    message: String,
}

pub(super) fn run(params: Params) -> Value {
    let Params { message } = params;
    Value::Object(Map::from_iter([("message".to_owned(), Value::String(message))]))
}
