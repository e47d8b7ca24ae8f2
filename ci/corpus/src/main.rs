//! Writes `examples/hostile`: the corpus of attacks that `autonomy selftest hostile` plays. Fixed secrets, no clock,
//! no randomness: the same bytes on every machine, which `tests/` proves against what is checked in.
//!
//! Not part of the product: nothing imports it. It makes the formats of `schema` and, on purpose, what only looks
//! like them. Deliberately absent: verification. What an attack must come to is written beside it, by hand, and judged
//! by the tool alone.
//!
//! Start with `world`, then `case`; the attacks are in `themes/`, one file for each kind of trust.

#![expect(clippy::print_stdout, reason = "this is a program")]

mod case;
mod keys;
mod output;
mod themes;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

/// What anything here gives: the program has one reader, whoever changes the corpus.
type Made<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: autonomy-hostile-corpus FOLDER");
        return ExitCode::from(64);
    };
    match make(&folder) {
        Ok(count) => {
            println!("{count} cases in {}", folder.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("autonomy-hostile-corpus: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make(folder: &std::path::Path) -> Made<usize> {
    let world = world::World::new()?;
    let themes = themes::all(&world)?;
    output::write(folder, &world, &themes)?;
    Ok(themes.iter().map(|theme| theme.cases.len()).sum())
}
