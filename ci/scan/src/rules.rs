//! The prohibitions, as data.

/// Crates that compute and touch nothing.
pub(crate) const PURE: &[&str] = &["schema", "trust", "plan", "relay"];

/// A prohibition on paths such as `std::net`, in the code of some crates. Test modules are free.
pub(crate) struct PathRule {
    /// The name that a finding carries.
    pub(crate) name: &'static str,
    /// Folders of the crates that it binds.
    pub(crate) crates: &'static [&'static str],
    /// Files that it does not bind.
    pub(crate) except: &'static [&'static str],
    /// Paths; one that goes on below is prohibited too. `*` at the start means "whatever leads up to it".
    pub(crate) paths: &'static [&'static [&'static str]],
}

/// All path rules.
pub(crate) const PATHS: &[PathRule] = &[
    PathRule {
        name: "network",
        crates: &["schema", "trust", "plan", "relay", "apply"],
        except: &[],
        // Not `core::net`, which has addresses and no sockets: they are data, as in a configuration.
        paths: &[&["std", "net"], &["std", "os", "unix", "net"], &["nix", "sys", "socket"], &["rustix", "net"]],
    },
    PathRule {
        name: "process",
        crates: PURE,
        except: &[],
        paths: &[&["std", "process"], &["std", "os", "unix", "process"], &["nix"], &["rustix"]],
    },
    PathRule {
        name: "process",
        crates: &["apply"],
        // Services and health are commands; this is where they are run.
        except: &["apply/src/exec.rs"],
        paths: &[
            &["std", "process"],
            &["std", "os", "unix", "process"],
            &["nix", "unistd", "fork"],
            &["nix", "unistd", "execv"],
            &["nix", "unistd", "execve"],
            &["nix", "unistd", "execvp"],
        ],
    },
    PathRule {
        name: "process",
        crates: &["precheck"],
        // Checks and systemd's own are commands; `exec.rs` runs them, and `platform.rs` says which.
        except: &["precheck/src/exec.rs", "precheck/src/platform.rs"],
        paths: &[&["std", "process"], &["std", "os", "unix", "process"]],
    },
    PathRule {
        name: "process",
        crates: &["git"],
        // OpenSSH's client is the one program that this crate starts (ADR 5); git itself is never one.
        except: &["git/src/ssh.rs"],
        paths: &[&["std", "process"], &["std", "os", "unix", "process"]],
    },
    PathRule {
        name: "clock",
        crates: PURE,
        except: &[],
        paths: &[&["std", "time", "SystemTime"], &["std", "time", "Instant"], &["*", "now"]],
    },
    PathRule { name: "disk", crates: PURE, except: &[], paths: &[&["std", "fs"]] },
    PathRule { name: "environment", crates: PURE, except: &[], paths: &[&["std", "env"]] },
    // A glob or a new name for the standard library would hide all of the above.
    PathRule {
        name: "hidden-std",
        crates: &["schema", "trust", "plan", "relay", "apply"],
        except: &[],
        paths: &[&["std", "*"], &["std", "as"], &["core", "as"]],
    },
];

/// The edge wing, and what it shares with the mission layer.
const EDGE_WING: &[&str] = &["relay", "edge", "precheck", "sets"];

/// A prohibition on words in the names that code gives and uses, in some crates. Test modules are free.
pub(crate) struct NameRule {
    /// The name that a finding carries.
    pub(crate) name: &'static str,
    /// Folders of the crates that it binds.
    pub(crate) crates: &'static [&'static str],
    /// Words, in small letters and written as one: `vectorclock` is `VectorClock`, `vector_clocks` and `vectorclock`.
    pub(crate) words: &'static [&'static str],
}

/// All name rules.
pub(crate) const NAMES: &[NameRule] = &[
    // All nodes decide for themselves from signed bytes; nobody keeps track of what the others converge to.
    NameRule {
        name: "INV-02",
        crates: EDGE_WING,
        words: &[
            "gossip",
            "crdt",
            "vectorclock",
            "versionvector",
            "lamport",
            "antientropy",
            "merklesync",
            "merkletree",
            "merklesearchtree",
            "hintedhandoff",
            "readrepair",
            "reconverge",
        ],
    },
    NameRule {
        name: "INV-03",
        crates: EDGE_WING,
        words: &[
            "raft",
            "openraft",
            "paxos",
            "omnipaxos",
            "leader",
            "leadership",
            "quorum",
            "election",
            "electleader",
            "ballot",
        ],
    },
    // Beside the clippy.toml of the crate, which a lint attribute could lift.
    NameRule {
        name: "INV-11",
        crates: &["relay"],
        words: &[
            "hashmap",
            "hashset",
            "randomstate",
            "instant",
            "systemtime",
            "timestamp",
            "rand",
            "random",
            "rng",
            "getrandom",
            "fastrand",
        ],
    },
];

/// Files that may hold the keyword `unsafe`, and how often. Each has an ADR.
pub(crate) const UNSAFE: &[(&str, usize)] = &[
    // ADR 5: `git2::transport::register` is an unsafe function.
    ("git/src/register.rs", 1),
];

/// Macros that promise to write the code later.
pub(crate) const MACROS: &[&str] = &["todo", "unimplemented"];

/// Words that mark unfinished work, wherever they stand in code.
pub(crate) const WORDS: &[&str] = &[concat!("FIX", "ME"), concat!("XX", "X")];

/// Lines that a source file may have.
pub(crate) const MAX_LINES: usize = 600;
/// Lines that a `lib.rs` may have: it is a map, not a room.
pub(crate) const MAX_LIB_LINES: usize = 120;

/// Folders of one machine; matched where a path can start.
pub(crate) const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Hosts and settings that bind a file to one machine's package registries.
pub(crate) const REGISTRIES: &[&str] = &[
    concat!("sparse", "+http"),
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("registry.", "npmjs.org"),
    concat!("files.", "pythonhosted.org"),
    concat!("pypi.org/", "simple"),
    concat!("proxy.", "golang.org"),
    concat!("replace-", "with"),
    concat!("index-", "url"),
    concat!("registry-", "mirrors"),
    concat!("arti", "factory"),
    concat!("jfr", "og."),
];

/// What the parameters of an activation may be made of (INV-06): what is local by nature.
pub(crate) const LOCAL_TYPES: &[&str] = &[
    "crate",
    "self",
    "super",
    "Self",
    "autonomy_schema",
    "autonomy_trust",
    "autonomy_stateroot",
    "autonomy_plan",
    "autonomy_policy",
    "autonomy_precheck",
    "std::collections",
    "std::fmt",
    "std::io",
    "std::path",
    "std::sync",
    "std::time::Duration",
];

/// Names that need no import.
pub(crate) const PRELUDE: &[&str] = &[
    "bool",
    "char",
    "str",
    "u8",
    "u16",
    "u32",
    "u64",
    "u128",
    "usize",
    "i8",
    "i16",
    "i32",
    "i64",
    "i128",
    "isize",
    "Option",
    "Result",
    "Vec",
    "String",
    "Box",
    "Fn",
    "FnMut",
    "FnOnce",
    "Iterator",
    "IntoIterator",
    "AsRef",
    "Into",
    "From",
    "Clone",
    "Copy",
    "Send",
    "Sync",
    "Sized",
];
