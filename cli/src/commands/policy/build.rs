//! `autonomy policy build`: a folder of Rego becomes a bundle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use autonomy_policy::{BuildError, BuildOptions};
use autonomy_schema::manifest::semver_text::Version;
use autonomy_schema::{Code, Name, Reason, RelPath, Sha256, Time, set};

use crate::failure::{Failure, exit};
use crate::{files, ui};

/// Most files of a policy folder; as many as a bundle may hold.
const MAX_FILES: usize = 10_000;
/// Deepest folder below a policy folder.
const MAX_DEPTH: usize = 16;

/// `autonomy policy build`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of `*.rego` and `*.json`; other files are left out.
    #[arg(long = "in", value_name = "DIR")]
    input: PathBuf,
    /// Where to write the bundle.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Name of the bundle.
    #[arg(long)]
    name: Name,
    /// Its semantic version.
    #[arg(long)]
    version: Version,
    /// The versions of the runtime that can evaluate it, such as `>=0.1`.
    #[arg(long, value_name = "CONSTRAINT")]
    required_runtime_version: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let files = read_folder(&args.input)?;
    let options = BuildOptions {
        name: args.name.clone(),
        version: args.version.clone(),
        required_runtime_version: args.required_runtime_version.clone(),
        // Without SOURCE_DATE_EPOCH the time is a constant, so that the same folder gives the same bytes.
        created_at: source_date_epoch()?.unwrap_or(Time::EPOCH),
    };
    let bytes = autonomy_policy::build(&files, &options).map_err(|error| {
        let Reason { code, message, .. } = refusal(&error);
        Failure::because(code, format!("{}: {message}", args.input.display()))
    })?;
    files::replace(&args.out, &bytes)?;
    ui::out(&format!(
        "policy bundle {}: {} {}, {} files, {} bytes\n  digest {}\n",
        ui::printable(&args.out.display().to_string()),
        args.name,
        args.version,
        files.len(),
        bytes.len(),
        Sha256::of(&bytes)
    ));
    Ok(exit::DONE)
}

/// Why no bundle was built.
pub(crate) fn refusal(error: &BuildError) -> Reason {
    match error {
        BuildError::Bundle(error) => error.to_reason(),
        BuildError::Reserved | BuildError::Empty | BuildError::Rego(_) | BuildError::Pack(_) => {
            Reason::new(Code::BadValue, error.to_string())
        }
    }
}

/// The time that reproducible builds agree on, where the environment names one.
fn source_date_epoch() -> Result<Option<Time>, Failure> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let seconds = text.to_str().and_then(|text| text.parse::<i64>().ok());
    let wrong = || Failure::Usage("SOURCE_DATE_EPOCH is not a whole number of seconds".to_owned());
    seconds.map(|seconds| Some(Time::from_unix(seconds))).ok_or_else(wrong)
}

/// Reads the `*.rego` and `*.json` files of a policy folder. Links are refused: what they point to is another folder's.
pub(crate) fn read_folder(folder: &Path) -> Result<BTreeMap<RelPath, Vec<u8>>, Failure> {
    let mut found = BTreeMap::new();
    let mut total = 0u64;
    let mut open = vec![(folder.to_path_buf(), String::new(), 0)];
    while let Some((path, prefix, depth)) = open.pop() {
        let entries = std::fs::read_dir(&path).map_err(|error| Failure::io("read the folder", &path, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| Failure::io("read the folder", &path, &error))?;
            let (path, name) = (entry.path(), entry.file_name());
            let kind = entry.file_type().map_err(|error| Failure::io("look at", &path, &error))?;
            let bad_name = || Failure::because(Code::UnsafePath, format!("{} has an unsafe name", path.display()));
            let name = name.to_str().ok_or_else(bad_name)?;
            let relative = format!("{prefix}{name}");
            if kind.is_symlink() {
                return Err(Failure::because(Code::SymlinkRefused, format!("{} is a symbolic link", path.display())));
            }
            if kind.is_dir() && depth < MAX_DEPTH {
                open.push((path, format!("{relative}/"), depth + 1));
            } else if kind.is_file() && belongs(name) {
                let file = relative.parse::<RelPath>().map_err(|_unsafe| bad_name())?;
                let bytes = files::read(&path, set::MAX_POLICY_BYTES - total)?;
                total += bytes.len() as u64;
                found.insert(file, bytes);
            } else {
                tracing::info!(path = %path.display(), "left out of the bundle");
            }
            if found.len() > MAX_FILES {
                let message = format!("{} holds more than {MAX_FILES} files", folder.display());
                return Err(Failure::because(Code::LimitExceeded, message));
            }
        }
    }
    Ok(found)
}

/// Whether a file is part of a bundle; hidden files are editors' business.
fn belongs(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    !name.starts_with('.') && matches!(extension, Some("rego" | "json"))
}
