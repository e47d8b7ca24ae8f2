//! The units: systemd understands them, what they start is ours, and each is as closed as `units/README.md` says.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::world::World;

/// Where systemd looks for units in an image.
const UNITS: &str = "image/usr/lib/systemd/system";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../units")
}

/// Every unit, sorted: name and text.
fn units() -> Vec<(String, String)> {
    let names = std::fs::read_dir(folder()).expect("units").map(|entry| entry.expect("entry").file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().expect("UTF-8")).collect();
    names.retain(|name| name != "README.md");
    names.sort();
    names
        .into_iter()
        .map(|name| {
            let text = std::fs::read_to_string(folder().join(&name)).expect("unit");
            (name, text)
        })
        .collect()
}

/// An image with the units, systemd's own targets, and something executable for each program that a unit starts.
fn image() -> World {
    let world = World::empty();
    for folder in [UNITS, "image/usr/local/bin", "image/usr/bin"] {
        std::fs::create_dir_all(world.path(folder)).expect("folder");
    }
    for (name, text) in units() {
        world.write(&format!("{UNITS}/{name}"), text);
    }
    for entry in std::fs::read_dir("/usr/lib/systemd/system").expect("systemd").flatten() {
        let name = entry.file_name().into_string().expect("UTF-8");
        if name.ends_with(".target") {
            world.write(&format!("{UNITS}/{name}"), std::fs::read(entry.path()).expect("target"));
        }
    }
    for program in ["usr/local/bin/autonomy", "usr/local/bin/edged", "usr/bin/systemctl", "usr/bin/kill"] {
        world.write(&format!("image/{program}"), "");
        std::fs::set_permissions(
            world.path(&format!("image/{program}")),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .expect("mode");
    }
    world
}

/// What systemd says to the units of an image.
fn verify(world: &World) -> Output {
    let names = units().into_iter().map(|(name, _)| world.path(&format!("{UNITS}/{name}")));
    let mut command = Command::new("systemd-analyze");
    command.arg("verify").arg("--man=no").arg(format!("--root={}", world.path("image").display())).args(names);
    command.output().expect("systemd-analyze (ci/setup-tests installs it)")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn systemd_understands_every_unit_and_finds_what_it_starts() {
    let world = image();
    let verified = verify(&world);
    assert!(verified.status.success() && said(&verified).is_empty(), "{}", said(&verified));
    // It would say so: a program that is not there, and a word that systemd does not know.
    std::fs::remove_file(world.path("image/usr/local/bin/edged")).expect("removes");
    let verified = verify(&world);
    assert!(!verified.status.success() && said(&verified).contains("edged is not executable"), "{}", said(&verified));
    let world = image();
    let name = format!("{UNITS}/edged-precheck.service");
    let text = String::from_utf8(world.read(&name)).expect("UTF-8");
    world.write(&name, text.replace("NoNewPrivileges=", "NoNewPrivilegs="));
    assert!(said(&verify(&world)).contains("NoNewPrivilegs"), "{}", said(&verify(&world)));
}

/// The rows of the table in `units/README.md`: unit and the exposure that it may have.
fn limits() -> Vec<(String, u32)> {
    let text = std::fs::read_to_string(folder().join("README.md")).expect("README");
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [unit, _, limit] = cells.as_slice() else { return None };
        Some((unit.trim_matches('`').to_owned(), limit.parse().ok()?))
    });
    rows.collect()
}

fn exposure(world: &World, unit: &str, limit: u32) -> Output {
    Command::new("systemd-analyze")
        .args(["security", "--no-pager", "--offline=yes", &format!("--threshold={limit}")])
        .arg(world.path(&format!("{UNITS}/{unit}")))
        .output()
        .expect("systemd-analyze (ci/setup-tests installs it)")
}

#[test]
fn each_service_is_as_closed_as_the_page_says() {
    let limits = limits();
    let mut named: Vec<&String> = limits.iter().map(|(unit, _)| unit).collect();
    named.sort();
    let units = units();
    let services: Vec<&String> = units.iter().map(|(name, _)| name).filter(|name| name.ends_with(".service")).collect();
    assert_eq!(named, services, "every service has its line in units/README.md");
    let world = image();
    for (unit, limit) in limits {
        let within = exposure(&world, &unit, limit);
        assert!(within.status.success(), "{}", said(&within));
        // The line is no wider than it has to be.
        let wider = exposure(&world, &unit, limit - 5);
        assert!(!wider.status.success(), "{unit} would be within {}: {}", limit - 5, said(&wider));
    }
}

/// The values of a directive, over all its lines.
fn values<'text>(unit: &'text str, directive: &str) -> Vec<&'text str> {
    let lines = unit.lines().filter_map(|line| line.strip_prefix(directive)?.strip_prefix('='));
    lines.flat_map(str::split_whitespace).collect()
}

#[test]
fn the_order_at_boot_and_the_rules_that_every_service_keeps() {
    let text = |wanted: &str| units().into_iter().find(|(name, _)| name == wanted).expect("unit").1;
    let precheck = text("edged-precheck.service");
    assert_eq!(
        values(&precheck, "Before"),
        ["edged.service", "autonomy-reconcile.service", "autonomy-confirm.service"]
    );
    assert_eq!((values(&precheck, "Type"), values(&precheck, "RemainAfterExit")), (vec!["oneshot"], vec!["yes"]));
    // A check that found a certificate to end soon does not take the relay down; what is unusable the daemon refuses itself.
    assert_eq!(values(&text("edged.service"), "Wants"), ["edged-precheck.service"]);
    assert!(values(&text("edged.service"), "Requires").is_empty());
    assert_eq!(values(&text("edged.service"), "ExecStart"), ["/usr/local/bin/edged", "run"]);
    assert!(values(&text("autonomy-reconcile.service"), "Requires").is_empty());
    for (name, unit) in units() {
        if !name.ends_with(".service") {
            continue;
        }
        for (directive, value) in [
            ("Environment", "AUTONOMY_STATE_ROOT=/var/lib/autonomy"),
            ("ProtectSystem", "strict"),
            ("NoNewPrivileges", "yes"),
            ("PrivateTmp", "yes"),
            ("ProtectKernelModules", "yes"),
            ("SystemCallArchitectures", "native"),
        ] {
            assert_eq!(values(&unit, directive), [value], "{directive} of {name}");
        }
        // Its filter answers openat2(2) with ENOSYS, and every path below the state root is opened with that.
        assert!(values(&unit, "RestrictSUIDSGID").is_empty(), "{name}");
        assert!(values(&unit, "ReadWritePaths").contains(&"/var/lib/autonomy"), "{name}");
        assert!(
            values(&unit, "ExecStart").first().is_some_and(|program| program.starts_with("/usr/local/bin/")),
            "{name}"
        );
    }
}
