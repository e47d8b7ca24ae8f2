//! Receiving: bodies, segments, completion, the ceiling, and what a power cut leaves of each.

mod ceiling;
mod crash;
mod delta;
mod fixture;
mod hostile;
mod looks;
mod receive;
mod several;
