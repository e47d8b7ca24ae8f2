//! Golden checks, the tutorial, and the jobs of `docs/ci.md`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::node::Site;
use crate::world::World;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("repository")
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-r").arg(from).arg(to).status();
    assert!(status.expect("cp").success(), "{}", from.display());
}

/// The tutorial's fleet as a world of its own.
fn fleet() -> World {
    let world = World::empty();
    let tutorial = repository().join("examples/ci-golden");
    copy(&tutorial.join("manifests"), &world.path("manifests"));
    copy(&tutorial.join("golden"), &world.path("golden"));
    world
}

#[test]
fn what_is_recorded_here_is_what_the_tool_says() {
    for folder in [repository(), repository().join("examples/ci-golden")] {
        let ran = World::empty().run(&format!("golden check {}", folder.display()));
        let told = ran.exits(0).stdout();
        assert!(told.contains("files as recorded"), "{told}");
    }
}

#[test]
fn changed_missing_and_stale_records_are_differences() {
    let world = fleet();
    world.run("golden check").exits(0);
    let before = world.tree("golden");
    world.edit("manifests/base/settings.toml", "60s", "10s");
    let told = world.run("golden check").exits(1).warns("golden: 5 files differ").stdout();
    for part in ["--- a/fingerprints.txt", "+pier-7 manifest blake3:", "--- a/sets/pier-8/manifest.json", "\"digest\""]
    {
        assert!(told.contains(part), "no `{part}` in\n{told}");
    }
    assert!(!told.contains("-pier-7 lock"), "the lock did not move: {told}");
    assert!(world.tree("golden") == before, "a check writes nothing");
    world.edit("manifests/base/settings.toml", "10s", "60s");
    std::fs::remove_file(world.path("golden/sets/pier-7/manifest.json")).expect("removes");
    world.write("golden/plans/node-z.pier-9.txt", "stale");
    let json = world.run("golden check --output json").exits(1).stdout();
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let state = |file: &str| {
        let list = json["files"].as_array().expect("a list");
        list.iter().find(|entry| entry["file"] == file).map(|entry| entry["state"].clone()).unwrap_or_default()
    };
    assert_eq!(state("sets/pier-7/manifest.json"), "missing");
    assert_eq!(state("plans/node-z.pier-9.txt"), "stale");
    assert_eq!(state("fingerprints.txt"), "same");
    world.run("golden check --update").exits(0);
    assert!(world.tree("golden") == before, "an update restores exactly the records");
    let again = world.run("golden check --update").exits(0).stdout();
    assert_eq!(again, "golden: 21 files as recorded\n");
}

#[test]
fn an_overlay_that_has_gone_takes_its_records_along_and_facts_stay() {
    let world = fleet();
    std::fs::remove_dir_all(world.path("manifests/overlays/pier-8")).expect("removes");
    // node-b is of pier 8: nothing is for it any more.
    world.run("golden check").exits(3).warns("golden/facts/node-b.json: no overlay is for node `node-b`");
    std::fs::remove_file(world.path("golden/facts/node-b.json")).expect("removes");
    world.run("golden check --update").exits(0);
    assert!(!world.has("golden/sets/pier-8") && !world.has("golden/plans/node-b.pier-8.txt"));
    assert!(world.has("golden/facts/node-a.json"));
    world.run("golden check").exits(0);
}

#[test]
fn what_does_not_render_leaves_the_records_alone() {
    let world = fleet();
    let before = world.tree("golden");
    world.edit("manifests/overlays/pier-7/manifest.yaml", "matchLabels", "matchLabel");
    world.run("golden check --update").exits(1).warns("matchLabel");
    assert!(world.tree("golden") == before);
    world.edit("manifests/overlays/pier-7/manifest.yaml", "matchLabel", "matchLabels");
    world.write("golden/facts/node-c.json", "{]");
    world.run("golden check --update").exits(3).warns("golden/facts/node-c.json");
    std::fs::remove_file(world.path("golden/facts/node-c.json")).expect("removes");
    std::os::unix::fs::symlink("/etc/passwd", world.path("golden/sets/link")).expect("link");
    world.run("golden check --update").exits(3).warns("symlink_refused: ");
    std::fs::remove_file(world.path("golden/sets/link")).expect("removes");
    std::fs::rename(world.path("golden/sets"), world.path("elsewhere")).expect("renames");
    std::os::unix::fs::symlink("../elsewhere", world.path("golden/sets")).expect("link");
    world.run("golden check --update").exits(3).warns("symlink_refused: ");
    world.run("golden check nowhere").exits(1);
}

#[test]
fn a_built_artifact_is_rendered_from_its_stand_in() {
    let world = fleet();
    std::fs::remove_file(world.path("manifests/base/agent.sh")).expect("removes");
    world.run("golden check").exits(1).warns("agent.sh");
    std::fs::create_dir(world.path("golden/stand-ins")).expect("folder");
    copy(&repository().join("examples/ci-golden/manifests/base/agent.sh"), &world.path("golden/stand-ins/agent"));
    world.run("golden check").exits(0).warns("artifact agent is rendered from its stand-in");
}

#[test]
fn the_tutorial_runs() {
    let output = Command::new(repository().join("examples/ci-golden/run"))
        .env("AUTONOMY", env!("CARGO_BIN_EXE_autonomy"))
        .output()
        .expect("runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        told.contains("node-b     3  scope_mismatch: ") && told.ends_with("golden: 21 files as recorded\n"),
        "{told}"
    );
}

/// The two jobs of `docs/ci.md`, as YAML.
fn jobs() -> (Value, Value) {
    let page = std::fs::read_to_string(repository().join("docs/ci.md")).expect("page");
    let mut blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let mut next = || serde_yaml::from_str::<Value>(blocks.next().expect("a block")).expect("YAML");
    (next(), next())
}

#[test]
fn the_jobs_of_the_ci_page_run_in_a_git_repository() {
    let (github, gitlab) = jobs();
    let steps = github["jobs"]["golden"]["steps"].as_array().expect("steps");
    let run = |step: &Value| step["run"].as_str().map(str::to_owned);
    let mut commands: Vec<String> = steps.iter().filter_map(run).collect();
    let comment = commands.pop().expect("the step that posts");
    assert!(comment.contains("gh pr comment") && comment.contains("plan.md"), "{comment}");
    let script: Vec<&str> =
        gitlab["golden"]["script"].as_array().expect("script").iter().filter_map(Value::as_str).collect();
    assert_eq!(commands, script, "both jobs run the same commands");
    assert!(gitlab["golden"]["after_script"][0].as_str().is_some_and(|post| post.contains("body@plan.md")));

    // A fleet with a signed set, as the page describes it.
    let site = Site::bare();
    let world = &site.world;
    std::fs::remove_dir_all(world.path("manifests")).expect("removes");
    copy(&repository().join("examples/ci-golden/manifests"), &world.path("manifests"));
    copy(&repository().join("examples/ci-golden/golden"), &world.path("golden"));
    for folder in ["dist", "trust"] {
        std::fs::create_dir(world.path(folder)).expect("folder");
    }
    world.run("render manifests/overlays/pier-7 --out dist/pier-7").exits(0);
    site.sign("dist/pier-7");
    for file in ["root.json", "root.json.sigstore.jsonl"] {
        std::fs::copy(world.path(file), world.path(&format!("trust/{file}"))).expect("copies");
    }
    std::fs::create_dir(world.path("bin")).expect("folder");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_autonomy"), world.path("bin/autonomy")).expect("link");
    let shell = |command: &str| {
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", world.path("bin").display());
        let output = Command::new("bash")
            .args(["-e", "-c", command])
            .current_dir(world.path(""))
            .env_clear()
            .envs([("PATH", path.as_str()), ("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1")])
            .envs([("GIT_AUTHOR_NAME", "ada"), ("GIT_AUTHOR_EMAIL", "a@b"), ("GIT_COMMITTER_NAME", "ada")])
            .env("GIT_COMMITTER_EMAIL", "a@b")
            .env("GITHUB_STEP_SUMMARY", "summary.md")
            .output()
            .expect("bash");
        let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), told)
    };
    let git = "git init -q && git add manifests golden dist trust && git commit -qm fleet && git clone -q . ../x-$$ && rm -rf ../x-$$";
    let (ok, told) = shell(git);
    assert!(ok, "{told}");
    for command in &commands {
        let (ok, told) = shell(command);
        assert!(ok, "{command}\n{told}");
    }
    let plan = String::from_utf8(world.read("plan.md")).expect("UTF-8");
    assert!(plan.contains("| node-b | 3 | scope\\_mismatch: ") && plan.contains("| node-a | 0 | "), "{plan}");
    // A change without its record stops the job at the check.
    world.edit("manifests/base/settings.toml", "60s", "10s");
    let check = commands.iter().find(|command| command.contains("golden check")).expect("the check");
    assert!(!shell(check).0);
}
