//! The attacks of DESIGN §4 as input, one named test for each, and the honest cases beside them.
#![expect(clippy::expect_used, reason = "a fixture that cannot be built is a broken test")]

mod attest;
mod detached;
mod floors;
mod image;
mod limits;
mod locks;
mod parsing;
mod policy_bundle;
mod roots;
mod rotation;
mod scope;
mod signatures;
mod support;
mod told;
