//! The builder: reproducible, and nothing that would not load or compile.

use std::collections::BTreeMap;
use std::io::Read as _;

use autonomy_policy::{BuildError, BuildOptions, Bundle, build};
use autonomy_schema::{RelPath, Sha256, Time};
use serde_json::json;

use crate::fixture::{UPDATE, files, options};

fn sample() -> BTreeMap<RelPath, Vec<u8>> {
    files(&[
        ("update.rego", UPDATE),
        ("lib/util.rego", "package lib.util\n\nok := true\n"),
        ("lib/util_test.rego", "package lib.util_test\n\ntest_ok if data.lib.util.ok\n"),
        ("data.json", "{\"top\": 1}"),
        ("lib/data.json", "{\"limits\": [1, 2]}"),
        ("README.md", "how to change this\n"),
    ])
}

#[test]
fn the_same_files_give_the_same_bytes() {
    let bytes = build(&sample(), &options()).unwrap();
    // A map has no order of insertion; what could vary is turned round all the same.
    let turned: BTreeMap<_, _> = sample().into_iter().rev().collect();
    assert_eq!(bytes, build(&turned, &options()).unwrap());
    // The bytes are a contract: they change only with the format.
    assert_eq!(
        Sha256::of(&bytes).to_string(),
        "sha256:23acbf267f816f052517a1575f581cab2778f0618460c2dd69952d72253832dd"
    );
}

#[test]
fn headers_say_nothing_of_the_machine() {
    let bytes = build(&sample(), &options()).unwrap();
    assert_eq!(bytes[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255]);
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut unpacked).unwrap();
    let mut archive = tar::Archive::new(unpacked.as_slice());
    let mut paths = Vec::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        assert!(header.as_ustar().is_some());
        assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mode().unwrap()), (0, 0, 0o644));
        assert_eq!(header.mtime().unwrap(), 1_795_165_200);
        assert_eq!((header.username().unwrap(), header.groupname().unwrap()), (Some(""), Some("")));
        paths.push(String::from_utf8(entry.path_bytes().into_owned()).unwrap());
    }
    assert!(paths.is_sorted() && paths.contains(&"manifest.json".to_owned()), "{paths:?}");
}

#[test]
fn it_loads_again_with_all_that_went_in() {
    let bytes = build(&sample(), &options()).unwrap();
    let bundle = Bundle::load(&bytes).unwrap();
    assert_eq!(bundle.digest(), Sha256::of(&bytes));
    assert_eq!(bundle.manifest().name.as_str(), "harbor");
    assert_eq!(bundle.manifest().policy_bundle_version.to_string(), "1.0.0");
    let modules: Vec<_> = bundle.modules().keys().map(String::as_str).collect();
    assert_eq!(modules, ["lib/util.rego", "lib/util_test.rego", "update.rego"]);
    assert_eq!(bundle.data(), &json!({ "top": 1, "lib": { "limits": [1, 2] } }));
}

#[test]
fn the_hash_does_not_depend_on_the_time() {
    let at = |seconds| BuildOptions { created_at: Time::from_unix(seconds), ..options() };
    let load = |options| Bundle::load(&build(&sample(), &options).unwrap()).unwrap();
    let (left, right) = (load(at(0)), load(at(1_000_000_000)));
    assert_eq!(left.manifest().bundle_hash, right.manifest().bundle_hash);
    assert_ne!(left.digest(), right.digest());
}

#[test]
fn a_time_before_1970_does_not_break_the_archive() {
    let options = BuildOptions { created_at: Time::from_unix(-5), ..options() };
    assert!(Bundle::load(&build(&sample(), &options).unwrap()).is_ok());
}

#[test]
fn a_long_path_that_ustar_holds_is_built_and_a_longer_one_is_told() {
    let long = format!("{}/{}/x.rego", "a".repeat(100), "b".repeat(50));
    assert!(build(&files(&[(&long, "package x\n")]), &options()).is_ok());
    let longer = format!("{}.rego", "a".repeat(200));
    assert!(matches!(build(&files(&[(&longer, "package x\n")]), &options()), Err(BuildError::Pack(_))));
}

#[test]
fn bad_input_is_refused_with_its_cause() {
    for (entries, cause) in [
        (vec![("update.rego", "package autonomy.update\n\nallow if {")], "does not compile"),
        (vec![("update.rego", "package autonomy.update\n\nallow if x > 1\n")], "does not compile"),
        (vec![("update.rego", "allow := true\n")], "does not compile"),
        (vec![("readme.txt", "no rules")], "no `.rego` file"),
        (vec![("update.rego", UPDATE), ("manifest.json", "{}")], "manifest.json"),
        (vec![("update.rego", UPDATE), ("data.json", "[1]")], "no object"),
        (vec![("update.rego", UPDATE), ("data.json", "{")], "malformed"),
        (vec![("update.rego", UPDATE), ("data.yaml", "a: 1")], "ignored"),
        (
            vec![("update.rego", UPDATE), ("data.json", "{\"a\": {\"b\": 1}}"), ("a/data.json", "{\"b\": 2}")],
            "says again",
        ),
        (vec![("update.rego", UPDATE), ("UPDATE.rego", UPDATE)], "twice"),
    ] {
        let error = build(&files(&entries), &options()).unwrap_err();
        assert!(error.to_string().contains(cause), "{entries:?}: {error}");
    }
    let old = BuildOptions { required_runtime_version: Some("newest".to_owned()), ..options() };
    assert!(build(&sample(), &old).unwrap_err().to_string().contains("required_runtime_version"));
}

/// Found by ci/fuzz: the engine's parser reads what is within a bracket twice or more, at every level.
#[test]
fn brackets_that_nest_too_deep_are_refused_before_the_parser_reads_them() {
    let policy = |open: &str, close: &str, depth: usize| {
        let text =
            format!("package autonomy.update\nx := {}1{}\nallow := true\n", open.repeat(depth), close.repeat(depth));
        build(&BTreeMap::from([("a.rego".parse().unwrap(), text.into_bytes())]), &options())
    };
    for (open, close) in
        [("[", "]"), ("{", "}"), ("(", ")"), ("{\"a\": ", "}"), ("[1 | x := ", "]"), ("{[", "]}"), ("count([", "])")]
    {
        let levels = open.matches(['[', '{', '(']).count();
        let started = std::time::Instant::now();
        let deepest = policy(open, close, 16 / levels);
        assert!(deepest.is_ok(), "{open}: {:?}", deepest.err());
        assert!(started.elapsed().as_secs() < 5, "{open}: {:?}", started.elapsed());
        for depth in [16 / levels + 1, 40, 5000] {
            let error = policy(open, close, depth).unwrap_err().to_string();
            assert!(
                error.contains("brackets nest deeper than 16") || error.contains("column"),
                "{open} {depth}: {error}"
            );
        }
    }
    // Brackets in texts and comments do not count.
    let text = format!("package autonomy.update\n# {0}\nx := \"{0}\"\nallow := true\n", "[".repeat(100));
    assert!(build(&BTreeMap::from([("a.rego".parse().unwrap(), text.into_bytes())]), &options()).is_ok());
}
