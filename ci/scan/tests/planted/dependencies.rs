//! Small workspaces of path crates; the foreign crates are stand-ins with the real names, so no network is needed.

use crate::{scan, tree, write};

const TABLE: &str = include_str!("../../../arrows.toml");

/// A crate: its folder, its package name, its dependency sections.
type Member<'a> = (&'a str, &'a str, &'a str);

const SCHEMA: Member = ("schema", "autonomy-schema", "");
const TRUST: Member = ("trust", "autonomy-trust", "[dependencies]\nautonomy-schema = { path = \"../schema\" }");

fn workspace(members: &[Member<'_>], strangers: &[&str]) -> tempfile::TempDir {
    let list: Vec<String> = members.iter().map(|(folder, ..)| format!("{folder:?}")).collect();
    let root = format!("[workspace]\nresolver = \"3\"\nmembers = [{}]\nexclude = [\"strangers\"]\n", list.join(", "));
    let dir = tree(&[("Cargo.toml", root.as_str()), ("ci/arrows.toml", TABLE)]);
    let strangers = strangers.iter().map(|name| (format!("strangers/{name}"), *name, ""));
    let members = members.iter().map(|(folder, name, tail)| ((*folder).to_owned(), *name, *tail));
    for (folder, name, tail) in members.chain(strangers) {
        let manifest = format!("[package]\nname = {name:?}\nversion = \"1.0.0\"\nedition = \"2024\"\n{tail}\n");
        write(dir.path(), &format!("{folder}/Cargo.toml"), &manifest);
        write(dir.path(), &format!("{folder}/src/lib.rs"), "");
    }
    dir
}

fn findings(members: &[Member<'_>], strangers: &[&str]) -> Vec<String> {
    let dir = workspace(members, strangers);
    let (code, lines, errors) = scan("dependencies", dir.path());
    assert_eq!(code, Some(i32::from(!lines.is_empty())), "{lines:?} {errors}");
    lines
}

/// Only what was found in closures; the stand-ins are path crates, so the arrow rule objects to them as well.
fn closures(members: &[Member<'_>], strangers: &[&str]) -> Vec<String> {
    findings(members, strangers).into_iter().filter(|line| line.contains(": closure: ")).collect()
}

#[test]
fn a_house_in_order_passes() {
    let plan = "[dependencies]\nautonomy-trust = { path = \"../trust\" }\n[dev-dependencies]\ntokio = { path = \"../strangers/tokio\" }";
    assert_eq!(findings(&[SCHEMA, TRUST, ("plan", "autonomy-plan", plan)], &["tokio"]), Vec::<String>::new());
}

#[test]
fn an_import_from_a_higher_or_the_same_floor_is_caught() {
    let up = "[dependencies]\nautonomy-trust = { path = \"../trust\" }";
    let lines = findings(&[("schema", "autonomy-schema", up), ("trust", "autonomy-trust", "")], &[]);
    assert_eq!(lines, ["schema/Cargo.toml: floor: imports `trust` (floor 1) from floor 0"]);

    let sideways = "[dependencies]\nautonomy-trust = { path = \"../trust\" }";
    let lines = findings(&[SCHEMA, TRUST, ("signing", "autonomy-signing", sideways)], &[]);
    assert_eq!(lines, ["signing/Cargo.toml: floor: imports `trust` (floor 1) from floor 1"]);
}

#[test]
fn an_arrow_that_the_table_lacks_is_caught_also_as_build_target_or_optional_dependency() {
    let stateroot = ("stateroot", "autonomy-stateroot", "");
    for section in ["[dependencies]", "[build-dependencies]", "[target.'cfg(windows)'.dependencies]"] {
        let plan = format!("{section}\nautonomy-stateroot = {{ path = \"../stateroot\" }}");
        let lines = findings(&[SCHEMA, stateroot, ("plan", "autonomy-plan", &plan)], &[]);
        assert_eq!(lines, ["plan/Cargo.toml: arrow: imports `stateroot`, which is not allowed"], "{section}");
    }
    let optional =
        "[dependencies]\nhidden = { package = \"autonomy-stateroot\", path = \"../stateroot\", optional = true }";
    let lines = findings(&[SCHEMA, stateroot, ("plan", "autonomy-plan", optional)], &[]);
    assert_eq!(lines, ["plan/Cargo.toml: arrow: imports `stateroot`, which is not allowed"]);
}

#[test]
fn the_edge_wing_may_not_import_the_mission_layer() {
    let edge = "[dependencies]\nautonomy-policy = { path = \"../policy\" }";
    let lines = findings(&[("policy", "autonomy-policy", ""), ("edge", "autonomy-edge", edge)], &[]);
    assert_eq!(
        lines,
        [
            "edge: closure: `autonomy-policy` is among its dependencies",
            "edge/Cargo.toml: arrow: imports `policy`, which is not allowed",
        ]
    );
}

/// However deep: here by way of a crate that the edge wing may import.
#[test]
fn a_mission_crate_in_the_closure_of_the_edge_wing_is_caught() {
    for mission in ["apply", "plan", "policy", "reconciler", "oci", "git"] {
        let package = format!("autonomy-{mission}");
        let trust = format!("[dependencies]\n{package} = {{ path = \"../{mission}\" }}");
        let edge = "[dependencies]\nautonomy-trust = { path = \"../trust\" }";
        let members =
            [(mission, package.as_str(), ""), ("trust", "autonomy-trust", &trust), ("edge", "autonomy-edge", edge)];
        let lines = closures(&members, &[]);
        assert!(lines.contains(&format!("edge: closure: `{package}` is among its dependencies")), "{lines:?}");
    }
}

#[test]
fn crates_for_convergence_and_for_election_are_caught_in_the_edge_wing() {
    for stranger in ["crdts", "chitchat", "foca", "raft", "openraft", "omnipaxos"] {
        for room in ["relay", "sets", "precheck", "edge"] {
            let package = format!("autonomy-{room}");
            let manifest = format!("[dependencies]\n{stranger} = {{ path = \"../strangers/{stranger}\" }}");
            let lines = closures(&[(room, &package, &manifest)], &[stranger]);
            assert_eq!(lines, [format!("{room}: closure: `{stranger}` is among its dependencies")]);
        }
    }
}

/// FI-C1-03: what is linked into the daemons of the edge wing, as cargo resolves it.
#[test]
fn fi_mission_decoupled_no_mission_import() {
    let workspace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let tree = |package: &str| {
        let output = std::process::Command::new(env!("CARGO"))
            .args(["tree", "--offline", "--edges", "normal,build", "--prefix", "none", "--package", package])
            .current_dir(&workspace)
            .output()
            .expect("cargo");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let ours = |package: &str| -> std::collections::BTreeSet<String> {
        let lines = tree(package);
        let names = lines.lines().filter_map(|line| line.split(' ').next()?.strip_prefix("autonomy-"));
        names.map(str::to_owned).collect()
    };
    let allowed =
        ["authority", "edge", "precheck", "relay", "schema", "sets", "signing", "stateroot", "telemetry", "trust"];
    let edge = ours("autonomy-edge");
    let mission: Vec<&String> = edge.iter().filter(|name| !allowed.contains(&name.as_str())).collect();
    assert!(mission.is_empty() && edge.contains("relay"), "{mission:?} in {edge:?}");
    // The question is put rightly: the mission layer itself is found so.
    assert!(ours("autonomy-reconciler").contains("apply"));
}

#[test]
fn a_crate_without_a_row_is_caught() {
    let lines = findings(&[SCHEMA, ("novelty", "autonomy-novelty", "")], &[]);
    assert_eq!(lines, ["novelty/Cargo.toml: unknown-crate: `autonomy-novelty` has no row in ci/arrows.toml"]);
}

#[test]
fn a_network_crate_in_a_closure_is_caught_however_deep() {
    for stranger in ["tokio", "hyper", "reqwest", "rustls", "socket2", "mio", "sigstore"] {
        let schema = format!("[dependencies]\n{stranger} = {{ path = \"../strangers/{stranger}\" }}");
        let plan = "[dependencies]\nautonomy-schema = { path = \"../schema\" }";
        let lines = closures(&[("schema", "autonomy-schema", &schema), ("plan", "autonomy-plan", plan)], &[stranger]);
        let expected =
            ["plan", "schema"].map(|room| format!("{room}: closure: `{stranger}` is among its dependencies"));
        assert_eq!(lines, expected);
    }
}

#[test]
fn a_random_source_in_trust_and_a_signer_below_apply_are_caught() {
    for stranger in ["getrandom", "rand"] {
        let trust = format!("[dependencies]\n{stranger} = {{ path = \"../strangers/{stranger}\" }}");
        let lines = closures(&[("trust", "autonomy-trust", &trust)], &[stranger]);
        assert_eq!(lines, [format!("trust: closure: `{stranger}` is among its dependencies")]);
    }
    let apply = "[dependencies]\nautonomy-policy = { path = \"../policy\" }";
    let policy = "[dependencies]\nautonomy-signing = { path = \"../signing\" }";
    let members = [
        ("signing", "autonomy-signing", ""),
        ("policy", "autonomy-policy", policy),
        ("apply", "autonomy-apply", apply),
    ];
    assert_eq!(
        findings(&members, &[]),
        [
            "apply: closure: `autonomy-signing` is among its dependencies",
            "policy/Cargo.toml: arrow: imports `signing`, which is not allowed",
        ]
    );
}

#[test]
fn a_table_that_breaks_its_own_rule_is_caught() {
    let dir = workspace(&[SCHEMA], &[]);
    let table = "[crates.schema]\nfloor = 0\nimports = [\"trust\", \"ghost\"]\n[crates.trust]\nfloor = 1\nimports = []\n\
                 [sets]\nx = []\n[closures]\nghost = [\"x\"]\n";
    write(dir.path(), "ci/arrows.toml", table);
    let (code, lines, _) = scan("dependencies", dir.path());
    assert_eq!(code, Some(1));
    assert_eq!(
        lines,
        [
            "ci/arrows.toml: closures.ghost: unknown-crate: is not in the table of crates",
            "ci/arrows.toml: crates.schema: floor: `trust` is on floor 1, not below floor 0",
            "ci/arrows.toml: crates.schema: unknown-crate: `ghost` is not in the table",
        ]
    );
}

#[test]
fn a_scan_that_cannot_run_fails_and_says_why() {
    let dir = workspace(&[SCHEMA], &[]);
    write(dir.path(), "ci/arrows.toml", "[crates.schema]\nimports = []\n");
    let (code, _, errors) = scan("dependencies", dir.path());
    assert_eq!(code, Some(2));
    assert!(errors.contains("`crates.schema` has no whole number `floor`"), "{errors}");

    write(dir.path(), "ci/arrows.toml", TABLE);
    write(dir.path(), "schema/Cargo.toml", "not a manifest");
    assert_eq!(scan("dependencies", dir.path()).0, Some(2));
}
