//! What `trust new` and `trust rotate` share: roles, times, signatures, files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use autonomy_schema::root::{Role, RoleKeys, TrustRoot};
use autonomy_schema::{Code, Document as _, Duration, Mode, Reason, Reasons, Sha256, Time};
use autonomy_trust::{PinnedRoot, Signed};
use jiff::tz::TimeZone;

use crate::commands::sign::{must_be_new, signatures_of};
use crate::failure::Failure;
use crate::{files, keys, ui};

/// Largest number in a document (RFC 8785 §3.2.2.3).
pub(super) const MAX_NUMBER: u64 = (1 << 53) - 1;

/// What every new trust root is told.
#[derive(clap::Args)]
pub(crate) struct Make {
    /// When it expires: `2y`, a duration such as `90d`, or a time.
    #[arg(long, value_name = "SPAN|TIME")]
    pub(super) expires: String,
    /// How far a serial may be ahead of the highest one seen.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_NUMBER))]
    pub(super) max_serial_step: Option<u64>,
    /// How far `issuedAt` may be ahead of what the node knows of the time.
    #[arg(long, value_name = "DURATION")]
    pub(super) max_time_step: Option<Duration>,
    /// A private root key that signs it; repeat until the thresholds are reached.
    #[arg(long = "sign", required_unless_present = "partial", value_name = "KEY")]
    signers: Vec<PathBuf>,
    /// Write it although signatures are missing; other people add theirs with `autonomy sign`.
    #[arg(long)]
    partial: bool,
    /// Where to write it; the signatures go to `OUT.sigstore.jsonl`.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// A role as it is given on the command line.
#[derive(Clone, Debug)]
pub(crate) struct RoleSpec {
    role: Role,
    keys: Vec<PathBuf>,
    threshold: u64,
}

/// Keys by id, and who may sign what.
pub(super) type Keys = (BTreeMap<Sha256, String>, BTreeMap<Role, RoleKeys>);

/// Reads the keys that the roles name.
pub(super) fn read_roles(specs: &[RoleSpec]) -> Result<Keys, Failure> {
    let mut pems = BTreeMap::new();
    let mut roles = BTreeMap::new();
    for spec in specs {
        let mut ids = Vec::<Sha256>::new();
        for path in &spec.keys {
            let key = keys::public(path)?;
            if ids.contains(&key.id()) {
                let message = format!("--role {}: {} is a key that is named already", spec.role, path.display());
                return Err(Failure::Usage(message));
            }
            ids.push(key.id());
            pems.insert(key.id(), key.pem().to_owned());
        }
        let keys = RoleKeys { keys: ids.into_iter().collect(), threshold: spec.threshold };
        if roles.insert(spec.role, keys).is_some() {
            return Err(Failure::Usage(format!("--role {} is given twice; name all its keys in one", spec.role)));
        }
    }
    Ok((pems, roles))
}

/// Signs and writes the root, once `judge` says that a node would take it; with `--partial` also when only signatures are
/// missing, which are then told.
pub(super) fn finish(
    make: &Make,
    root: &TrustRoot,
    judge: impl Fn(Signed<'_>) -> Result<PinnedRoot, Reasons>,
) -> Result<String, Failure> {
    let beside = signatures_of(&make.out);
    let why = "nodes may have pinned it; write the new one to another file";
    must_be_new(&make.out, why)?;
    Reasons::check(root.validate())?;
    let bytes = root
        .to_canonical()
        .map_err(|error| Failure::because(Code::BadValue, format!("cannot write the trust root: {error}")))?;
    let mut signatures = Vec::new();
    for path in &make.signers {
        let signer = keys::signer(path)?;
        let line = signer.sign_line(&bytes).map_err(|error| {
            Failure::because(Code::WrongKey, format!("cannot sign with {}: {error}", path.display()))
        })?;
        signatures = autonomy_signing::add_line(&signatures, &line, signer.key_id());
    }
    let missing = match judge(Signed { bytes: &bytes, signatures: &signatures }) {
        Ok(_) => String::new(),
        Err(reasons) if make.partial && reasons.as_slice().iter().all(|reason| reason.code == Code::RootSignature) => {
            let told: Vec<String> = reasons.as_slice().iter().map(|reason| format!("  {}\n", reason.message)).collect();
            format!("No node takes it yet; add signatures with `autonomy sign`:\n{}", told.concat())
        }
        Err(reasons) => return Err(wanting(&reasons).into()),
    };
    files::create_new(&make.out, &bytes, Mode::FILE)?;
    if let Err(failure) = files::create_new(&beside, &signatures, Mode::FILE) {
        std::fs::remove_file(&make.out).ok();
        return Err(failure);
    }
    Ok(summary(&make.out, root) + &missing)
}

/// What a node would refuse is not worth a file.
fn wanting(reasons: &Reasons) -> Reasons {
    let remedy = "sign with more root keys (`--sign`), or write it with `--partial` and let others sign";
    let with = |reason: &Reason| {
        let reason = reason.clone();
        if reason.code == Code::RootSignature { reason.with_remedy(remedy) } else { reason }
    };
    Reasons::new(reasons.as_slice().iter().map(with).collect()).unwrap_or_else(|| reasons.clone())
}

/// `root=a.pub,b.pub:2`.
pub(super) fn parse_role(text: &str) -> Result<RoleSpec, String> {
    let wrong = || "expected ROLE=KEY[,KEY…]:THRESHOLD, such as root=a.pub,b.pub,c.pub:2".to_owned();
    let (role, rest) = text.split_once('=').ok_or_else(wrong)?;
    let (keys, threshold) = rest.rsplit_once(':').ok_or_else(wrong)?;
    let role = parse_role_name(role)?;
    let threshold = threshold.parse().map_err(|_not_a_number| wrong())?;
    let keys: Vec<PathBuf> = keys.split(',').map(PathBuf::from).collect();
    if keys.iter().any(|key| key.as_os_str().is_empty()) {
        return Err(wrong());
    }
    Ok(RoleSpec { role, keys, threshold })
}

/// The name of a role.
pub(super) fn parse_role_name(text: &str) -> Result<Role, String> {
    let roles = Role::ALL.map(Role::as_str).join(", ");
    let role = Role::ALL.into_iter().find(|known| known.as_str() == text);
    role.ok_or_else(|| format!("there is no such role; the roles are {roles}"))
}

/// A time, a duration from `now`, or a number of calendar years from `now`.
pub(crate) fn expiry(text: &str, now: jiff::Timestamp) -> Result<Time, Failure> {
    let expires = if let Ok(time) = text.parse::<Time>() {
        Some(time)
    } else if let Some(years) = text.strip_suffix('y').and_then(|digits| digits.parse::<i16>().ok()) {
        // `years()` panics beyond what a span may hold.
        let span = jiff::Span::new().try_years(years);
        let later = span.and_then(|span| now.to_zoned(TimeZone::UTC).checked_add(span));
        later.ok().map(|later| Time::from_unix(later.timestamp().as_second()))
    } else {
        text.parse::<Duration>().ok().map(|span| Time::from_unix(now.as_second()).plus(span))
    };
    match expires {
        Some(expires) if expires.unix() > now.as_second() => Ok(expires),
        Some(expires) => Err(Failure::from(Reasons::from(Reason::new(
            Code::Expired,
            format!("--expires {text} means {expires}, which is past"),
        )))),
        None => Err(Failure::Usage(format!(
            "--expires {} is no span such as 2y or 90d, and no time such as 2028-11-25T00:00:00Z",
            text.escape_default()
        ))),
    }
}

/// The root in a few lines.
fn summary(out: &Path, root: &TrustRoot) -> String {
    let fingerprint = root.to_canonical().map(|bytes| autonomy_schema::document::fingerprint(&bytes));
    let mut lines = vec![format!(
        "trust root {} version {}, expires {}\n  fingerprint {}\n",
        ui::printable(&out.display().to_string()),
        root.version,
        root.expires_at,
        fingerprint.map_or_else(|_| String::new(), |fingerprint| fingerprint.to_string()),
    )];
    let roles = root.roles.iter();
    lines.extend(
        roles.map(|(role, keys)| format!("  {:<11} {} of {} keys\n", role.as_str(), keys.threshold, keys.keys.len())),
    );
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read() {
        let spec = parse_role("root=a.pub,dir:x/b.pub:2").expect("reads");
        assert_eq!((spec.role, spec.threshold, spec.keys.len()), (Role::Root, 2, 2));
        assert_eq!(spec.keys[1], PathBuf::from("dir:x/b.pub"));
        for bad in ["root", "root=a.pub", "root=:1", "root=a.pub,:1", "boss=a.pub:1", "root=a.pub:x"] {
            assert!(parse_role(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn expiry_is_a_time_a_duration_or_calendar_years() {
        let now = "2028-02-29T10:00:00Z".parse().expect("time");
        let read = |text: &str| expiry(text, now).map(|time| time.to_string()).ok();
        assert_eq!(read("2y").as_deref(), Some("2030-02-28T10:00:00Z"));
        assert_eq!(read("90d").as_deref(), Some("2028-05-29T10:00:00Z"));
        assert_eq!(read("2030-01-01T00:00:00Z").as_deref(), Some("2030-01-01T00:00:00Z"));
        for bad in ["", "y", "-1y", "0d", "2020-01-01T00:00:00Z", "32767y", "soon"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
