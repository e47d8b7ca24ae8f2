//! A site with signers, a pinned root, and a node that runs release 1.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use autonomy_schema::{Blake3, canonical};
use autonomy_signing::Signer;
use serde_json::Value;

use crate::world::{PASSWORD, Ran, World};

/// What a refusal may write (DESIGN §12).
const MAY_CHANGE: [&str; 7] = ["audit", "telemetry", "metrics", "quarantine", "cache", "LOCK", "store.lock"];

/// An agent that every service step finds well.
pub(crate) const AGENT: &str = "#!/bin/sh\nexit 0\n";

/// Keys and root, the same for every test.
const SEED: [&str; 8] = ["a.key", "a.pub", "b.key", "b.pub", "c.key", "c.pub", "root.json", "root.json.sigstore.jsonl"];

/// A folder with the seed, made once for this build of the program: making keys is slow by design.
fn seed() -> PathBuf {
    let program = Blake3::of(&std::fs::read(env!("CARGO_BIN_EXE_autonomy")).expect("program"));
    let seed = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("seed-{}", program.hex()));
    if !seed.exists() {
        let world = World::empty();
        world.keys(&["a", "b", "c"]);
        let all = "a.pub,b.pub,c.pub";
        let roles =
            format!("--role root={all}:2 --role manifest={all}:2 --role artifact={all}:1 --role policy=c.pub:1");
        world.run(&format!("trust new {roles} --expires 2y --sign a.key --sign b.key --out root.json")).exits(0);
        let whole = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("folder");
        for file in SEED {
            std::fs::copy(world.path(file), whole.path().join(file)).expect("copies");
        }
        // Another test may have been faster; then its seed is as good, and this one goes away with `whole`.
        std::fs::rename(whole.path(), &seed).ok();
    }
    seed
}

pub(crate) struct Site {
    pub(crate) world: World,
    /// Unlocked once a test: unlocking is slow by design.
    signers: [Signer; 2],
}

/// Path → kind, mode, times and content.
pub(crate) type Snapshot = BTreeMap<String, (u32, i64, i64, Vec<u8>)>;

impl Site {
    /// Signers, root and an initialized node without a release.
    pub(crate) fn bare() -> Self {
        let world = World::fleet();
        world.write("build/agent", AGENT);
        let seed = seed();
        for file in SEED {
            std::fs::copy(seed.join(file), world.path(file)).expect("copies");
        }
        let signer = |key: &str| {
            let pem = String::from_utf8(world.read(key)).expect("PEM");
            Signer::from_encrypted_pem(&pem, PASSWORD.as_bytes()).expect("key")
        };
        let signers = [signer("a.key"), signer("b.key")];
        let site = Self { world, signers };
        site.node("init --node-id node-a --fleet harbor --label site=pier-7 --hardware x86_64 --trust-root root.json")
            .exits(0);
        site
    }

    /// The same, and release 1 is active; `one` is its set.
    pub(crate) fn running() -> Self {
        let site = Self::bare();
        site.set("one", 1);
        site.node("apply one --auto-approve").exits(0);
        site
    }

    /// Runs a verb on the node.
    pub(crate) fn node(&self, arguments: &str) -> Ran {
        self.world.run(&format!("{arguments} --state-root node"))
    }

    /// Renders and signs a set with this serial.
    pub(crate) fn set(&self, name: &str, serial: u64) {
        let path = "manifests/base/manifest.yaml";
        let text = String::from_utf8(self.world.read(path)).expect("UTF-8");
        let lines = text
            .lines()
            .map(|line| if line.starts_with("  serial:") { format!("  serial: {serial}") } else { line.to_owned() });
        self.world.write(path, lines.collect::<Vec<_>>().join("\n"));
        self.world.run(&format!("render manifests/overlays/pier-7 --out {name}")).exits(0);
        self.sign(name);
    }

    /// Two of three sign the manifest, one the lock.
    pub(crate) fn sign(&self, name: &str) {
        self.sign_raw(name, &self.world.read(&format!("{name}/manifest.json")));
        let lock = self.signers[0].sign_line(&self.world.read(&format!("{name}/autonomy.lock.json"))).expect("signs");
        self.world.write(&format!("{name}/autonomy.lock.json.sigstore.jsonl"), lock + "\n");
    }

    /// Changes a rendered manifest and signs what comes out, whatever it is.
    pub(crate) fn doctor(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let path = format!("{name}/manifest.json");
        let mut value: Value = serde_json::from_slice(&self.world.read(&path)).expect("JSON");
        change(&mut value);
        self.sign_raw(name, &canonical::to_bytes(&value).expect("canonical"));
    }

    /// Writes these very bytes as the manifest, signed by two.
    pub(crate) fn sign_raw(&self, name: &str, bytes: &[u8]) {
        let lines: String = self.signers.iter().map(|signer| signer.sign_line(bytes).expect("signs") + "\n").collect();
        self.world.write(&format!("{name}/manifest.json"), bytes);
        self.world.write(&format!("{name}/manifest.json.sigstore.jsonl"), lines);
    }

    /// Everything in the state root that a refusal must not change.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut seen = self.snapshot_all();
        seen.retain(|path, _| !MAY_CHANGE.iter().any(|prefix| path.starts_with(prefix)) && !path.is_empty());
        seen
    }

    /// Everything in the state root.
    pub(crate) fn snapshot_all(&self) -> Snapshot {
        let mut seen = Snapshot::new();
        look(&self.world.path("node"), "", &mut seen);
        seen
    }

    /// Demands the refusal of `apply`, its code and its exit code, and a state root as before.
    #[track_caller]
    pub(crate) fn refuses(&self, set: &str, exit: i32, code: &str) {
        let before = self.snapshot();
        let ran = self.node(&format!("apply {set} --auto-approve --json")).exits(exit);
        let line = ran.stderr().lines().any(|line| line.starts_with(&format!("{code}: ")));
        assert!(line, "{set}: no `{code}` in\n{}", ran.stderr());
        let last = ran.stdout().lines().last().map(str::to_owned).unwrap_or_default();
        let result: Value =
            serde_json::from_str(&last).unwrap_or_else(|_| panic!("{set}: no result line in\n{}", ran.stdout()));
        let codes: Vec<&str> =
            result["reasons"].as_array().expect("reasons").iter().filter_map(|r| r["code"].as_str()).collect();
        assert!(codes.contains(&code), "{set}: {codes:?}");
        assert_eq!(result["exit"], exit, "{set}");
        let after = self.snapshot();
        let changed: Vec<_> =
            before.keys().chain(after.keys()).filter(|path| before.get(*path) != after.get(*path)).collect();
        assert!(changed.is_empty(), "{set}: the refusal changed {changed:?}");
    }

    /// A copy of the set `from`, to be spoilt.
    pub(crate) fn copy(&self, from: &str, to: &str) {
        let status =
            std::process::Command::new("cp").arg("-r").arg(self.world.path(from)).arg(self.world.path(to)).status();
        assert!(status.expect("cp").success());
    }

    /// The fingerprint of a set's manifest.
    pub(crate) fn fingerprint(&self, set: &str) -> Blake3 {
        Blake3::of(&self.world.read(&format!("{set}/manifest.json")))
    }

    /// `current` points to a whole generation with this serial.
    #[track_caller]
    pub(crate) fn is_whole(&self, serials: &[u64]) {
        let facts = self.node("facts --verify-content --output json").exits(0).stdout();
        let facts: Value = serde_json::from_str(&facts).expect("facts");
        assert_eq!(facts["bound"].get("drift"), None, "{facts}");
        let serial = facts["bound"]["current"]["serial"].as_u64();
        assert!(serial.is_some_and(|serial| serials.contains(&serial)), "{serial:?} of {serials:?}");
    }
}

fn look(path: &Path, name: &str, seen: &mut Snapshot) {
    let metadata = path.symlink_metadata().expect("metadata");
    let mut content = Vec::new();
    if metadata.is_symlink() {
        content = std::fs::read_link(path).expect("link").into_os_string().into_encoded_bytes();
    } else if metadata.is_file() {
        content = std::fs::read(path).expect("file");
    } else {
        for entry in std::fs::read_dir(path).expect("folder") {
            let entry = entry.expect("entry").file_name().into_string().expect("UTF-8");
            let below = if name.is_empty() { entry.clone() } else { format!("{name}/{entry}") };
            look(&path.join(&entry), &below, seen);
        }
    }
    let times = (
        metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
        metadata.ctime() * 1_000_000_000 + metadata.ctime_nsec(),
    );
    seen.insert(name.to_owned(), (metadata.mode(), times.0, times.1, content));
}
