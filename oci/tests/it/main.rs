//! A real registry, and servers that misbehave.

mod real;
mod rogue;
