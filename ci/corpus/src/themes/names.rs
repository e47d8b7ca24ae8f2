//! Names and paths that enough keys signed, and that would lead elsewhere, or look like others.

use serde_json::{Value, json};

use crate::Made;
use crate::case::{Case, attack, control};
use crate::world::World;

pub(crate) fn cases(world: &World) -> Made<Vec<Case>> {
    let mut cases = paths(world)?;
    cases.extend(collisions(world)?);
    cases.extend(look_alikes(world)?);
    Ok(cases)
}

/// The next set with the first artifact at this path, in the manifest and in the set where that is possible.
fn at(world: &World, case: Case, path: &str) -> Made<Case> {
    Ok(case.set(&world.next, world.doctored(|m| m["spec"]["artifacts"][0]["path"] = json!(path))?))
}

fn paths(world: &World) -> Made<Vec<Case>> {
    let unsafe_path = |name, story, path: &str| at(world, attack(name, 3, &["unsafe_path"], story), path);
    let next = &world.next;
    let command = |command: &[&str]| world.doctored(|m| m["spec"]["services"] = json!([{ "command": command }]));
    Ok(vec![
        unsafe_path("path-climbs", "Zip-slip: a path that climbs out of the generation.", "../../current")?,
        unsafe_path(
            "path-climbs-in-the-middle",
            "A path that goes down and then up again.",
            "bin/../../../trust/root.json",
        )?,
        unsafe_path("path-is-absolute", "An absolute path.", "/etc/cron.d/agent")?,
        unsafe_path(
            "path-with-backslashes",
            "A path that climbs on systems where a backslash separates.",
            "..\\..\\x",
        )?,
        unsafe_path("path-with-a-dot", "A second spelling of a path.", "bin/./agent")?,
        unsafe_path("path-with-an-empty-part", "Another spelling of the same path.", "bin//agent")?,
        unsafe_path("path-ends-with-a-slash", "A file that looks like a folder.", "bin/agent/")?,
        unsafe_path(
            "path-with-nul",
            "A path that ends early for the system, and not for the checker.",
            "bin/agent\0.txt",
        )?,
        unsafe_path(
            "path-with-escapes",
            "A path that steers the terminal which shows the plan.",
            "bin/\u{1b}[2Jagent",
        )?,
        unsafe_path("path-too-long", "A path longer than the system can open.", &"long/".repeat(300))?,
        unsafe_path("path-part-too-long", "A component longer than a file name can be.", &"n".repeat(256))?,
        unsafe_path("path-is-empty", "No path at all: the folder itself.", "")?,
        attack("lock-path-elsewhere", 3, &["bad_value"], "The lock is said to lie elsewhere, where nobody checks it.")
            .set(next, world.doctored(|m| m["spec"]["lock"]["path"] = json!("artifacts/bin/agent"))?),
        attack("artifact-name-climbs", 3, &["bad_name"], "The segment index of an artifact is named after it.")
            .set(next, world.doctored(|m| m["spec"]["artifacts"][0]["name"] = json!("../agent"))?),
        attack("command-climbs", 3, &["bad_value"], "A service command that leaves the artifacts.")
            .set(next, command(&["../../../../bin/sh", "-c", "id"])?),
        attack("unit-is-an-option", 3, &["bad_name"], "A unit whose name is an option of systemctl.").set(
            next,
            world
                .doctored(|m| m["spec"]["services"] = json!([{ "unit": "--root=/x.service", "action": "restart" }]))?,
        ),
        attack("mode-with-setuid", 3, &["bad_mode"], "An artifact that would run as its owner, whoever starts it.")
            .set(next, world.doctored(|m| m["spec"]["artifacts"][0]["mode"] = json!("4755"))?),
    ])
}

/// The next set with a second artifact that has the bytes of the first, under this name and path.
fn twin(world: &World, name: &str, path: &str) -> Made<crate::case::Files> {
    let mut draft = world.draft.clone();
    let bytes = crate::world::file(&world.next, "artifacts/bin/agent")?.to_vec();
    draft.add_entry(name, path, &bytes)?;
    world.signed(&draft)
}

fn collisions(world: &World) -> Made<Vec<Case>> {
    let next = &world.next;
    let names = |change: &dyn Fn(&mut Value)| world.doctored(change);
    Ok(vec![
        attack(
            "paths-that-differ-in-case",
            3,
            &["case_collision"],
            "Two files on one system, one on another: the second overwrites the first.",
        )
        .set(next, twin(world, "twin", "BIN/Agent")?),
        attack(
            "names-that-differ-in-case",
            3,
            &["case_collision"],
            "Two artifacts with one index file where case does not count.",
        )
        .set(next, twin(world, "Agent", "bin/twin")?),
        attack(
            "one-path-twice",
            3,
            &["bad_value"],
            "Two artifacts at one path: which one lands there depends on the order.",
        )
        .set(next, twin(world, "twin", "bin/agent")?),
        attack("one-name-twice", 3, &["bad_value"], "Two artifacts with the name `agent`: the lock binds one of them.")
            .set(next, twin(world, "agent", "bin/twin")?),
        attack("file-as-a-folder", 3, &["unsafe_path"], "One artifact is a file where another needs a folder.")
            .set(next, names(&|m| m["spec"]["artifacts"][1]["path"] = json!("bin/agent/settings"))?),
    ])
}

fn look_alikes(world: &World) -> Made<Vec<Case>> {
    let next = &world.next;
    let cyrillic = "h\u{430}rbor";
    let file = crate::world::file(next, "artifacts/bin/agent")?.to_vec();
    let mut replaced = next.clone();
    replaced.remove("artifacts/bin/agent");
    Ok(vec![
        attack(
            "look-alike-stream",
            3,
            &["bad_name"],
            "The name of the stream with a Cyrillic letter: the same to people, and another stream with floors of \
             its own.",
        )
        .set(next, world.doctored(|m| m["metadata"]["name"] = json!(format!("{cyrillic}-gateways")))?),
        attack("look-alike-fleet", 3, &["bad_name"], "The name of the fleet with a Cyrillic letter.")
            .set(next, world.doctored(|m| m["spec"]["scope"]["fleet"] = json!(cyrillic))?),
        attack(
            "look-alike-artifact",
            3,
            &["bad_name"],
            "An artifact named `agent` with a Cyrillic letter, beside the one that the lock binds.",
        )
        .set(next, twin(world, "\u{430}gent", "bin/twin")?),
        attack("look-alike-label", 3, &["scope_mismatch"], "The label of the scope has a Cyrillic letter.")
            .set(next, world.doctored(|m| m["spec"]["scope"]["matchLabels"] = json!({ "site": "pi\u{435}r-7" }))?),
        attack(
            "look-alike-file",
            3,
            &["extraneous_file", "missing_file"],
            "In the set lies `bin/agent` with a Cyrillic letter in the place of the real one.",
        )
        .set(next, replaced)
        .step("write", json!({ "path": "set/artifacts/bin/\u{430}gent", "text": String::from_utf8(file)? })),
        added(
            world,
            attack(
                "look-alike-path",
                3,
                &["unsafe_path"],
                "A path whose characters are shown from right to left, so that people read another extension than the \
             system.",
            ),
            "bin/report-\u{202e}fdp.sh",
        )?,
        added(
            world,
            attack("invisible-path", 3, &["unsafe_path"], "Two paths that differ in a character of no width."),
            "bin/agent\u{200b}",
        )?,
        added(world, control("path-with-umlauts", "A path in another language is a path."), "doc/\u{dc}bersicht.txt")?,
    ])
}

/// A case with one more artifact, which lies where it should: git had better not hold such names.
fn added(world: &World, case: Case, path: &str) -> Made<Case> {
    const TEXT: &str = "one more file\n";
    let mut draft = world.draft.clone();
    draft.add("added", path, TEXT.as_bytes())?;
    let mut files = world.signed(&draft)?;
    files.remove(&format!("artifacts/{path}"));
    Ok(case.set(&world.next, files).step("write", json!({ "path": format!("set/artifacts/{path}"), "text": TEXT })))
}
