//! `autonomy explain`: what a reason code means, and what mends it.

use autonomy_plan::Why;
use autonomy_schema::Code;

use crate::failure::{Failure, exit};
use crate::ui;

/// `autonomy explain`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The code; without it, all of them.
    code: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let Some(text) = &args.code else {
        let lines =
            Code::ALL.iter().map(|code| format!("{:<26} {:>2}  {}\n", code.as_str(), code.exit(), code.explain()));
        ui::out(&lines.collect::<String>());
        let lines = Why::ALL.iter().map(|why| format!("{:<26}  -  {}\n", why.as_str(), why.explain()));
        ui::out(&lines.collect::<String>());
        return Ok(exit::DONE);
    };
    if let Some(why) = Why::ALL.iter().find(|why| why.as_str() == text) {
        ui::out(&format!("{} (in plans)\n\n{}\n", why.as_str(), why.explain()));
        return Ok(exit::DONE);
    }
    let code = text.trim_end_matches(':').parse::<Code>().map_err(|error| {
        let every = Code::ALL.iter().map(|code| code.as_str()).chain(Why::ALL.iter().map(|why| why.as_str()));
        let near = every.filter(|code| shares_a_word(code, text));
        let near = near.collect::<Vec<_>>().join(", ");
        let hint = if near.is_empty() { String::new() } else { format!("; near it: {near}") };
        Failure::Usage(ui::printable(&format!("{error}{hint}")))
    })?;
    let exit_code = code.exit();
    ui::out(&format!("{code} (exit {exit_code})\n\n{}\n\nRemedy: {}.\n", code.explain(), code.remedy()));
    Ok(exit::DONE)
}

/// Whether a code and a text that is none have a word in common.
fn shares_a_word(code: &str, text: &str) -> bool {
    text.split(['_', '-', ' ']).any(|word| word.len() > 2 && code.split('_').any(|part| part.starts_with(word)))
}
