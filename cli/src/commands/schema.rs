//! `autonomy schema`: the JSON Schema of a document kind.

use autonomy_schema::Code;
use autonomy_schema::json_schema::json_schema;
use autonomy_schema::version::Kind;
use clap::builder::PossibleValuesParser;

use crate::failure::{Failure, exit};
use crate::ui;

/// `autonomy schema`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The kind; without it, the list of kinds.
    #[arg(ignore_case = true, value_parser = PossibleValuesParser::new(Kind::ALL.iter().map(|kind| kind.as_str())))]
    kind: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let wanted = args.kind.as_deref().and_then(|text| Kind::ALL.iter().find(|kind| kind.as_str() == text));
    let Some(kind) = wanted else {
        let lines = Kind::ALL.iter().map(|kind| format!("{:<14} {}\n", kind.as_str(), description(*kind)));
        ui::out(&lines.collect::<String>());
        return Ok(exit::DONE);
    };
    ui::out(&text(*kind)?);
    Ok(exit::DONE)
}

/// The schema as it is printed and recorded: two spaces, a newline at the end.
pub(crate) fn text(kind: Kind) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(&json_schema(kind));
    let text = text.map_err(|error| Failure::because(Code::IoError, format!("cannot write the schema: {error}")))?;
    Ok(text + "\n")
}

/// The first line of what the schema says of itself.
fn description(kind: Kind) -> String {
    let schema = json_schema(kind);
    let text = schema.get("description").and_then(serde_json::Value::as_str).unwrap_or_default();
    text.lines().next().unwrap_or_default().replace('`', "")
}
