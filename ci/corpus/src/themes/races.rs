//! Files that are others when they are used than when they were checked.

use autonomy_schema::set;
use serde_json::json;

use crate::Made;
use crate::case::{Case, Files, attack, control};
use crate::world::World;

/// Long enough that the attacker is faster than the hashing.
const BYTES: u64 = 8 << 20;

/// The next set with an artifact of eight mebibytes of zeros, which are made when the case is played.
fn large(world: &World) -> Made<Files> {
    let mut draft = world.draft.clone();
    draft.add("model", "model.bin", &vec![0; usize::try_from(BYTES)?])?;
    let mut files = world.signed(&draft)?;
    files.remove("artifacts/model.bin");
    Ok(files)
}

pub(crate) fn cases(world: &World) -> Made<Vec<Case>> {
    let mut newer = world.draft.clone();
    newer.manifest["metadata"]["serial"] = json!(44);
    let newer = world.signed(&newer)?;
    let agent = "set/artifacts/bin/agent";
    // As long as what was signed.
    let evil: Vec<u8> =
        crate::world::file(&world.next, "artifacts/bin/agent")?.iter().map(u8::to_ascii_uppercase).collect();
    let plan = json!(["plan", "set", "--out", "plan.json"]);
    let apply_plan = ["apply", "plan.json", "--source", "set"];
    Ok(vec![
        attack(
            "artifact-swapped-between-check-and-use",
            3,
            &["digest_mismatch"],
            "The kernel tells the attacker when the node opens an artifact to hash it. Before the node copies it, \
             another file of the same size is in its place. The copy is hashed on the handle that it is made from.",
        )
        .set(&world.next, large(world)?)
        .step("grow", json!({ "path": "set/artifacts/model.bin", "bytes": BYTES }))
        .file("evil", "evil")
        .step("grow", json!({ "path": "evil", "bytes": BYTES }))
        .step("swapWhenOpened", json!({ "path": "set/artifacts/model.bin", "with": "evil" })),
        attack(
            "artifact-swapped-after-the-plan",
            3,
            &["digest_mismatch"],
            "A plan is saved and approved, then an artifact of its set is exchanged.",
        )
        .file("evil", evil.clone())
        .step("run", plan.clone())
        .step("copy", json!({ "from": "evil", "to": agent }))
        .run(&apply_plan),
        attack(
            "artifact-swapped-after-staging",
            3,
            &["digest_mismatch"],
            "A release is staged, then its set is exchanged before the apply that goes on from there.",
        )
        .file("evil", evil)
        .step("run", json!(["apply", "set", "--auto-approve", "--stage-only"]))
        .step("copy", json!({ "from": "evil", "to": agent })),
        attack(
            "manifest-swapped-after-the-plan",
            7,
            &["stale_plan"],
            "A plan is saved and approved, then the whole set is exchanged for another that enough keys signed as \
             well.",
        )
        .file("newer.json", newer[set::MANIFEST].clone())
        .file("newer.jsonl", newer[set::MANIFEST_SIGNATURES].clone())
        .step("run", plan.clone())
        .step("copy", json!({ "from": "newer.json", "to": "set/manifest.json" }))
        .step("copy", json!({ "from": "newer.jsonl", "to": "set/manifest.json.sigstore.jsonl" }))
        .run(&apply_plan),
        attack("plan-applied-twice", 7, &["plan_consumed"], "An approved plan is replayed after it was applied.")
            .step("run", plan.clone())
            .step("run", json!(apply_plan))
            .run(&apply_plan),
        attack("plan-edited", 3, &["digest_mismatch"], "Somebody edits the plan after it was approved.")
            .step("run", plan.clone())
            .step(
                "replace",
                json!({ "path": "plan.json", "text": "artifact.etc/settings", "with": "artifact.etc/harmless" }),
            )
            .run(&apply_plan),
        control("plan-as-saved", "A saved plan of the good set, applied from where the set lies.")
            .step("run", plan)
            .run(&apply_plan),
    ])
}
