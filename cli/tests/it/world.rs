//! A folder of its own for each test: a copy of the example fleet, an agent, keys.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The password of every key.
pub(crate) const PASSWORD: &str = "correct horse";

/// A folder that goes away with the test.
pub(crate) struct World {
    folder: tempfile::TempDir,
}

impl World {
    /// An empty folder.
    pub(crate) fn empty() -> Self {
        Self { folder: tempfile::tempdir().expect("folder") }
    }

    /// The example fleet below `manifests`, with an agent of 300,000 bytes where it expects `build/agent`.
    pub(crate) fn fleet() -> Self {
        let world = Self::empty();
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests"), &world.path("manifests"));
        let mut agent = vec![0; 300_000];
        blake3::Hasher::new_derive_key("autonomy test agent").finalize_xof().fill(&mut agent);
        std::fs::create_dir(world.path("build")).expect("folder");
        world.write("build/agent", &agent);
        world
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).expect("writes");
    }

    /// Reads a file.
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("reads")
    }

    /// Replaces a text that occurs once in a file.
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let text = String::from_utf8(self.read(name)).expect("UTF-8");
        assert_eq!(text.matches(from).count(), 1, "`{from}` in {name}");
        self.write(name, text.replace(from, to));
    }

    /// Whether a path exists.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    /// Every file below a folder with its mode and bytes.
    pub(crate) fn tree(&self, name: &str) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut files = BTreeMap::new();
        collect(&self.path(name), "", &mut files);
        files
    }

    /// Runs `autonomy` in the folder; arguments are separated by white space.
    pub(crate) fn run(&self, arguments: &str) -> Ran {
        self.run_with(arguments, PASSWORD)
    }

    /// As [`World::run`], with another password.
    pub(crate) fn run_with(&self, arguments: &str, password: &str) -> Ran {
        self.run_in(arguments, &[("COSIGN_PASSWORD", password)])
    }

    /// As [`World::run`], with this environment alone.
    pub(crate) fn run_in(&self, arguments: &str, environment: &[(&str, &str)]) -> Ran {
        let output = self.command(arguments).env_clear().envs(environment.iter().copied()).output().expect("runs");
        Ran { arguments: arguments.to_owned(), output }
    }

    /// The program in the folder, to be started.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_autonomy"));
        command.args(arguments.split_whitespace()).current_dir(self.folder.path());
        command.env_clear().env("COSIGN_PASSWORD", PASSWORD);
        command
    }

    /// Makes key pairs.
    pub(crate) fn keys(&self, names: &[&str]) {
        for name in names {
            self.run(&format!("keygen --output-key-prefix {name}")).exits(0);
        }
    }
}

/// What a run said.
pub(crate) struct Ran {
    arguments: String,
    output: Output,
}

impl Ran {
    /// Demands the exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        let said = format!("autonomy {}\n{}{}", self.arguments, self.stdout(), self.stderr());
        assert_eq!(self.output.status.code(), Some(code), "{said}");
        self
    }

    /// Demands a text on stderr.
    #[track_caller]
    pub(crate) fn warns(self, text: &str) -> Self {
        assert!(self.stderr().contains(text), "autonomy {}: no `{text}` in\n{}", self.arguments, self.stderr());
        self
    }

    /// The exit code.
    pub(crate) fn code(&self) -> i32 {
        self.output.status.code().expect("exits")
    }

    /// Results.
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// Messages.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("folder");
    for entry in std::fs::read_dir(from).expect("folder") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copies");
        }
    }
}

fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, (u32, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).expect("folder") {
        let entry = entry.expect("entry");
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let metadata = entry.path().symlink_metadata().expect("metadata");
        if metadata.is_dir() {
            collect(&entry.path(), &format!("{name}/"), files);
        } else {
            let bytes = std::fs::read(entry.path()).unwrap_or_default();
            files.insert(name, (metadata.permissions().mode() & 0o7777, bytes));
        }
    }
}
