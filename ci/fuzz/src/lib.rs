//! Arbitrary bytes in; nothing out unless an invariant breaks, and then a panic that stops the fuzzer.
//!
//! The bodies of the fuzz targets, each in one place: `libfuzzer/` feeds them new inputs, `tests/replay.rs` feeds them
//! the kept ones (`corpus/`) in every `make test`. They call the functions that the product calls. Not part of it.
//!
//! Deliberately absent: evaluating Rego, which runs in a thread with a time budget of seconds
//! (`policy/tests/it/hostile.rs` has its attacks); git objects (`git/tests/it/damage.rs` flips every byte); what a
//! registry answers (`oci/tests/it/rogue.rs`).
//!
//! Start with [`TARGETS`]; `README.md` says how to run one, and what was found.
#![expect(clippy::expect_used, clippy::panic, reason = "a broken invariant must stop the fuzzer")]

mod authored;
mod certificates;
mod documents;
mod layout;
#[cfg(feature = "logs")]
mod logs;
mod pack;
mod policy;
mod signed;
mod told;
mod words;

/// A target: a name, and what is done with an input.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name: of the corpus folder, and for `ci/fuzz/run`.
    pub name: &'static str,
    /// Feeds one input; says whether the product accepted it. Panics when an invariant is broken.
    pub run: fn(&[u8]) -> bool,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "manifest", run: documents::manifest },
    Target { name: "lock", run: documents::lock },
    Target { name: "root", run: signed::root },
    Target { name: "state", run: documents::state },
    Target { name: "authored", run: authored::authored },
    Target { name: "lines", run: signed::lines },
    Target { name: "verify", run: signed::verify },
    Target { name: "keys", run: signed::keys },
    Target { name: "certificates", run: certificates::certificates },
    Target { name: "policy", run: policy::archive },
    Target { name: "policy_build", run: policy::build },
    Target { name: "words", run: words::words },
    Target { name: "layout", run: layout::layout },
    Target { name: "tree", run: layout::tree },
    Target { name: "pack", run: pack::pack },
    #[cfg(feature = "logs")]
    Target { name: "logs", run: logs::logs },
];

/// The target of this name.
pub fn find(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}
