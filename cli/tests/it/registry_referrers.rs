//! What refers to a manifest: locks, policies and signatures, attached by hand and by many at once.

use serde_json::{Value, json};

use crate::node::Site;
use crate::registry::{Registry, run};
use crate::rogue::{Act, Rogue, answer};

fn said(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A site with the set `one`, and a registry that has its agent under the tag `agent`, as `artifactRef` has it; its
/// digest.
fn with_agent() -> (Site, Registry, String) {
    let site = Site::running();
    let registry = Registry::start(&site);
    let pushed = site.world.run(&format!("push one {}:1 --output json", registry.repository())).exits(0).stdout();
    let digest = said(&pushed)["artifact"].as_str().expect("artifact").to_owned();
    // A repository in which nothing refers to it yet.
    let (from, to) = (format!("{}@{digest}", registry.repository()), format!("{}-fresh:agent", registry.repository()));
    let copied = site.world.run(&format!("oci copy {from} {to} --output json")).exits(0).stdout();
    assert_eq!(said(&copied)["digest"], digest);
    (site, registry, to)
}

fn kinds(site: &Site, place: &str) -> Vec<String> {
    let listed = said(&site.world.run(&format!("oci referrers {place} --output json")).exits(0).stdout());
    let listed = listed["referrers"].as_array().expect("referrers").clone();
    listed.iter().map(|it| it["artifactType"].as_str().expect("type").to_owned()).collect()
}

#[test]
fn a_lock_a_policy_and_a_signature_are_attached_and_listed() {
    let (site, registry, agent) = with_agent();
    assert_eq!(kinds(&site, &agent), [""; 0]);
    site.world.run(&format!("oci attach-lock {agent} one/autonomy.lock.json")).exits(0);
    site.world.run(&format!("oci attach-policy {agent} one/policy.tar.gz")).exits(0);
    site.world.run(&format!("oci attach-signature {agent} --key a.key")).exits(0);
    let all = [
        "application/vnd.autonomy.lock.v1+json",
        "application/vnd.autonomy.policy.v1.tar+gzip",
        "application/vnd.dev.sigstore.bundle.v0.3+json",
    ];
    assert_eq!(kinds(&site, &agent), all);
    // Once more is no more.
    site.world.run(&format!("oci attach-lock {agent} one/autonomy.lock.json")).exits(0);
    site.world.run(&format!("oci attach-signature {agent} --key a.key")).exits(0);
    assert_eq!(kinds(&site, &agent), all);
    let listed = said(&site.world.run(&format!("oci referrers {agent} --output json")).exits(0).stdout());
    // The lock brings its signatures, as anybody's tool sees.
    let base = format!("http://127.0.0.1:{}/v2/fleet/harbor-fresh", registry.port);
    let digest = listed["referrers"][0]["digest"].as_str().expect("digest");
    let accept = "Accept: application/vnd.oci.image.manifest.v1+json";
    let manifest = run(&site.world.path(""), "curl", &["-sSf", "-H", accept, &format!("{base}/manifests/{digest}")]);
    let manifest = said(&manifest);
    assert_eq!(manifest["subject"]["digest"], listed["subject"]);
    let titles = |at: usize| manifest["layers"][at]["annotations"]["org.opencontainers.image.title"].clone();
    assert_eq!([titles(0), titles(1)], [json!("autonomy.lock.json"), json!("autonomy.lock.json.sigstore.jsonl")]);
    // The fallback list is where the specification says, and is an index.
    let tag = listed["subject"].as_str().expect("digest").replace(':', "-");
    let accept = "Accept: application/vnd.oci.image.index.v1+json";
    let index = run(&site.world.path(""), "curl", &["-sSf", "-H", accept, &format!("{base}/manifests/{tag}")]);
    assert_eq!(said(&index)["manifests"], listed["referrers"]);
}

#[test]
fn verify_tampered_agent_digest() {
    let (site, _registry, agent) = with_agent();
    // A lock that was made for another agent.
    site.world.write("build/agent", "#!/bin/sh\nexit 1\n");
    site.set("two", 2);
    site.world.run(&format!("oci attach-lock {agent} two/autonomy.lock.json")).exits(3).warns("digest_mismatch: ");
    // One whose digest was changed after the fingerprint was made.
    let mut lock: Value = serde_json::from_slice(&site.world.read("one/autonomy.lock.json")).expect("JSON");
    lock["agent_artifact"]["digest"] = json!(format!("sha256:{}", "0".repeat(64)));
    site.world.write("forged.json", autonomy_schema::canonical::to_bytes(&lock).expect("canonical"));
    site.world.run(&format!("oci attach-lock {agent} forged.json")).exits(3).warns("digest_mismatch: ");
    site.world.run(&format!("oci attach-policy {agent} one/manifest.json")).exits(3).warns("bad_value: ");
    assert_eq!(kinds(&site, &agent), [""; 0]);
}

#[test]
fn who_attaches_at_the_same_time_is_listed_as_well() {
    let (site, _registry, agent) = with_agent();
    for round in 0..6 {
        let names: Vec<String> = (0..2).map(|writer| format!("policy-{round}-{writer}.tar.gz")).collect();
        for (writer, name) in names.iter().enumerate() {
            let version = format!("{}.{writer}.0", round + 2);
            let build = format!(
                "policy build --in manifests/base/policy --name harbor-update --version {version} --out {name}"
            );
            site.world.run(&build).exits(0);
        }
        let running: Vec<_> = names
            .iter()
            .map(|name| site.world.command(&format!("oci attach-policy {agent} {name}")).spawn().expect("starts"))
            .collect();
        for mut one in running {
            assert!(one.wait().expect("ends").success());
        }
        assert_eq!(kinds(&site, &agent).len(), (round + 1) * 2, "an entry was lost in round {round}");
    }
}

#[test]
fn a_registry_that_lists_referrers_itself_is_asked_for_its_list() {
    let (site, registry, agent) = with_agent();
    let entry = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 2, "artifactType": "application/x.one",
        "digest": format!("sha256:{}", "1".repeat(64)),
    });
    let page = move |kind: &str| {
        let mut entry = entry.clone();
        entry["artifactType"] = json!(kind);
        json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry] })
            .to_string()
    };
    // Debian's registry has no such list, so a server before it plays one: two pages, the filter passed over.
    let rogue = Rogue::start(registry.port, move |head| {
        let Some(path) = head.strip_prefix("GET ").and_then(|rest| rest.split(' ').next()) else { return Act::Pass };
        if !path.contains("/referrers/") {
            return Act::Pass;
        }
        let next = if path.contains("page=2") {
            String::new()
        } else {
            format!("Link: <{}?page=2>; rel=\"next\"\r\n", path.split('?').next().unwrap_or_default())
        };
        let body = page(if next.is_empty() { "application/x.two" } else { "application/x.one" });
        answer(
            "200 OK",
            &format!(
                "{next}Content-Type: application/vnd.oci.image.index.v1+json\r\nContent-Length: {}\r\n",
                body.len()
            ),
            &body,
        )
    });
    let place = agent.replace(&registry.port.to_string(), &rogue.port.to_string());
    assert_eq!(kinds(&site, &place), ["application/x.one", "application/x.two"]);
    let two =
        site.world.run(&format!("oci referrers {place} --artifact-type application/x.two --output json")).exits(0);
    assert_eq!(said(&two.stdout())["referrers"].as_array().map(Vec::len), Some(1));
    let probe = |place: &str| said(&site.world.run(&format!("oci probe {place} --output json")).exits(0).stdout());
    assert_eq!(
        (probe(&place)["referrersApi"].clone(), probe(&agent)["referrersApi"].clone()),
        (json!(true), json!(false))
    );
    assert_eq!(probe(&agent)["apiVersion"], "registry/2.0");
}

#[test]
fn signatures_of_cosigns_kind_are_made_and_judged() {
    let (site, registry, agent) = with_agent();
    site.world.run(&format!("oci verify {agent} --key a.pub")).exits(3).warns("below_threshold: ");
    site.world.run(&format!("oci attach-signature {agent} --key a.key")).exits(0);
    let verified = said(&site.world.run(&format!("oci verify {agent} --key a.pub --output json")).exits(0).stdout());
    assert_eq!(verified["verified"], true);
    site.world.run(&format!("oci verify {agent} --key b.pub")).exits(3).warns("bad_signature_line: ");
    // Role `artifact` of the root has these keys, one of which is enough.
    site.world.run(&format!("oci verify {agent} --trust-root root.json")).exits(0);
    site.node(&format!("oci verify {agent}")).exits(0);
    site.world.run(&format!("oci attach-signature {agent} --key b.key")).exits(0);
    let verified =
        said(&site.world.run(&format!("oci verify {agent} --trust-root root.json --output json")).exits(0).stdout());
    assert_eq!(verified["signers"].as_array().map(Vec::len), Some(2));
    // Cosign's layout, as curl and openssl see it.
    let base = format!("http://127.0.0.1:{}/v2/fleet/harbor-fresh", registry.port);
    let tag = verified["digest"].as_str().expect("digest").replace(':', "-");
    let folder = site.world.path("");
    let manifest = said(&run(
        &folder,
        "curl",
        &["-sSf", "-H", "Accept: application/vnd.oci.image.manifest.v1+json", &format!("{base}/manifests/{tag}.sig")],
    ));
    let layers = manifest["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), 2);
    assert_eq!(layers[0]["mediaType"], "application/vnd.dev.cosign.simplesigning.v1+json");
    let payload =
        run(&folder, "curl", &["-sSf", &format!("{base}/blobs/{}", layers[0]["digest"].as_str().expect("digest"))]);
    assert_eq!(said(&payload)["critical"]["image"]["docker-manifest-digest"], verified["digest"]);
    let signature = layers[0]["annotations"]["dev.cosignproject.cosign/signature"].as_str().expect("signature");
    let signature = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, signature).expect("base64");
    site.world.write("payload", payload);
    site.world.write("signature", signature);
    run(&folder, "openssl", &["dgst", "-sha256", "-verify", "a.pub", "-signature", "signature", "payload"]);
    // Moved to another manifest, they prove nothing.
    let other = format!("{}-fresh:policy", registry.repository());
    let policy = said(&String::from_utf8(site.world.read("one/manifest.json")).expect("UTF-8"));
    let policy =
        policy["spec"]["release"]["policyRef"].as_str().expect("ref").split_once('@').expect("pinned").1.to_owned();
    site.world.run(&format!("oci copy {}@{policy} {other}", registry.repository())).exits(0);
    let moved = format!("{base}/manifests/{}.sig", policy.replace(':', "-"));
    site.world.write("moved.json", manifest.to_string());
    run(
        &folder,
        "curl",
        &[
            "-sSf",
            "-X",
            "PUT",
            "-H",
            "Content-Type: application/vnd.oci.image.manifest.v1+json",
            "--data-binary",
            "@moved.json",
            &moved,
        ],
    );
    site.world.run(&format!("oci verify {other} --key a.pub")).exits(3).warns("digest_mismatch: ");
    site.world.run(&format!("oci verify {other} --trust-root root.json")).exits(3).warns("below_threshold: ");
}

#[test]
fn two_who_sign_at_the_same_time_are_both_under_cosigns_tag() {
    let (site, _registry, agent) = with_agent();
    let sign =
        |key: &str| site.world.command(&format!("oci attach-signature {agent} --key {key}")).spawn().expect("starts");
    for mut one in [sign("a.key"), sign("b.key")] {
        assert!(one.wait().expect("ends").success());
    }
    for key in ["a.pub", "b.pub"] {
        site.world.run(&format!("oci verify {agent} --key {key}")).exits(0);
    }
    let by_root = site.world.run(&format!("oci verify {agent} --trust-root root.json --output json")).exits(0).stdout();
    assert_eq!(said(&by_root)["signers"].as_array().map(Vec::len), Some(2));
    assert_eq!(kinds(&site, &agent).len(), 2, "a bundle of each");
}
