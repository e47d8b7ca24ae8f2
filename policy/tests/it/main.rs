//! Bundles, decisions and admission from outside, with the attacks as input.
#![expect(clippy::unwrap_used, reason = "a failed helper fails its test")]

mod admission;
mod building;
mod evaluation;
mod fixture;
mod hostile;
mod slots;
