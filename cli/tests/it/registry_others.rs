//! Other people's tools: skopeo, oras, umoci and buildah read what is ours, and what they make can be carried.

use std::path::Path;

use serde_json::Value;

use crate::node::Site;
use crate::registry::{Registry, run, skopeo};

fn said(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Files and their bytes.
fn files(site: &Site, name: &str) -> Vec<(String, Vec<u8>)> {
    site.world.tree(name).into_iter().map(|(path, (_, bytes))| (path, bytes)).collect()
}

#[test]
fn skopeo_and_oras_agree_on_every_digest() {
    let site = Site::running();
    site.set("two", 2);
    site.world.run("export two --to stick --tag 2").exits(0);
    let registry = Registry::start(&site);
    let (place, remote) = (registry.repository(), format!("docker://127.0.0.1:{}/fleet", registry.port));
    let digest = said(&site.world.run(&format!("push two {place}:2 --output json")).exits(0).stdout());
    let digest = digest["digest"].as_str().expect("digest").to_owned();
    // What skopeo pushes from a medium is what `push` pushes.
    skopeo(&site, &["copy", "--dest-tls-verify=false", "oci:stick:2", &format!("{remote}/skopeo:2")]);
    let inspect = |name: &str| {
        let raw = skopeo(&site, &["inspect", "--tls-verify=false", "--raw", &format!("{remote}/{name}:2")]);
        autonomy_schema::Sha256::of(raw.as_bytes()).to_string()
    };
    assert_eq!([inspect("skopeo"), inspect("harbor")], [digest.clone(), digest.clone()]);
    site.world.run(&format!("oci copy oci://127.0.0.1:{}/fleet/skopeo:2 oci:again", registry.port)).exits(0);
    site.world.run("verify oci:again --trust-root root.json").exits(0);
    skopeo(&site, &["copy", "--src-tls-verify=false", &format!("{remote}/harbor:2"), "oci:back:2"]);
    site.world.run("verify oci:back:2 --trust-root root.json").exits(0);
    // The Python client of oras, which `ci/setup-tests` puts below the build.
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../oras/bin/python");
    let script = format!(
        "import oras.client\nc = oras.client.OrasClient(hostname='127.0.0.1:{0}', insecure=True)\n\
         c.pull(target='127.0.0.1:{0}/fleet/harbor:2', outdir='oras')\n",
        registry.port
    );
    run(&site.world.path(""), &python.display().to_string(), &["-c", &script]);
    assert!(files(&site, "oras") == files(&site, "two"), "oras pulls the set as it is");
    site.world.run("verify oras --trust-root root.json").exits(0);
}

/// Makes an image with one file in it, by umoci; gives its digest in the layout `images`.
fn image(site: &Site) -> String {
    let folder = site.world.path("");
    for arguments in [
        &["init", "--layout", "images"][..],
        &["new", "--image", "images:app"],
        &["insert", "--rootless", "--image", "images:app", "manifests/base/tools.json", "/tools.json"],
    ] {
        run(&folder, "umoci", arguments);
    }
    let index = said(&String::from_utf8(site.world.read("images/index.json")).expect("UTF-8"));
    index["manifests"][0]["digest"].as_str().expect("digest").to_owned()
}

#[test]
fn an_image_of_umoci_travels_beside_a_set_and_stays_loadable() {
    let site = Site::running();
    site.set("two", 2);
    let digest = image(&site);
    let registry = Registry::start(&site);
    let apps = format!("oci://127.0.0.1:{}/apps/app:1", registry.port);
    let copied = said(&site.world.run(&format!("oci copy oci:images:app {apps} --output json")).exits(0).stdout());
    assert_eq!(copied["digest"], *digest);
    let again = said(&site.world.run(&format!("oci copy oci:images:app {apps} --output json")).exits(0).stdout());
    assert_eq!(again["blobs"], 0, "what is there is not sent again");
    // Onto a medium that has a set: the set is found, the image is loaded.
    site.world.run("export two --to stick").exits(0);
    site.world.run(&format!("oci copy {apps} oci:stick:app")).exits(0);
    site.node("plan oci:stick").exits(0);
    skopeo(&site, &["copy", "oci:stick:app", "docker-archive:app.tar"]);
    skopeo(&site, &["copy", "docker-archive:app.tar", "oci:loaded:app"]);
    let listed = run(&site.world.path(""), "umoci", &["list", "--layout", "loaded"]);
    assert_eq!(listed.trim(), "app");
    site.node("apply oci:stick --auto-approve").exits(0);
    site.is_whole(&[2]);
    // From one registry to another, by digest.
    let other = Registry::start(&site);
    let there = format!("oci://127.0.0.1:{}/apps/app@{digest}", other.port);
    site.world.run(&format!("oci copy {apps} {there}")).exits(0);
    let wrong = format!("oci://127.0.0.1:{}/apps/app@sha256:{}", other.port, "0".repeat(64));
    site.world.run(&format!("oci copy {apps} {wrong}")).exits(3).warns("digest_mismatch: ");
    let raw = skopeo(&site, &["inspect", "--tls-verify=false", "--raw", &there.replace("oci://", "docker://")]);
    assert_eq!(autonomy_schema::Sha256::of(raw.as_bytes()).to_string(), digest);
    site.world.run("oci copy oci:images:nowhere oci:stick:x").exits(1).warns("source_not_found: ");
}

#[test]
fn an_image_of_buildah_is_an_artifact_of_a_set_and_stays_loadable() {
    let site = Site::running();
    // `FROM scratch`, committed by buildah into an archive, as a file of the release.
    let folder = site.world.path("");
    let store = ["--root", "store", "--runroot", "run", "--storage-driver", "vfs"];
    let buildah = |arguments: &[&str]| run(&folder, "buildah", &[&store[..], arguments].concat());
    let container = buildah(&["from", "scratch"]);
    let container = container.trim();
    buildah(&["copy", container, "manifests/base/settings.toml", "/settings.toml"]);
    buildah(&["commit", "--quiet", container, "oci-archive:build/app.tar"]);
    let artifacts = "    - { name: prompt,";
    let with = format!("    - {{ name: app, path: images/app.tar, source: ../../build/app.tar }}\n{artifacts}");
    site.world.edit("manifests/base/manifest.yaml", artifacts, &with);
    site.set("two", 2);
    let registry = Registry::start(&site);
    site.world.run(&format!("push two {}:2", registry.repository())).exits(0);
    site.node(&format!("apply {}:2 --auto-approve", registry.repository())).exits(0);
    let digest = |place: &str| autonomy_schema::Sha256::of(skopeo(&site, &["inspect", "--raw", place]).as_bytes());
    let active = "oci-archive:node/current/artifacts/images/app.tar";
    assert_eq!(digest(active), digest("oci-archive:build/app.tar"));
    skopeo(&site, &["copy", active, "docker-archive:loaded.tar"]);
}

#[test]
fn a_copy_brings_what_refers_to_it_when_asked() {
    let site = Site::running();
    let registry = Registry::start(&site);
    let place = registry.repository();
    site.world.run(&format!("push one {place}:1")).exits(0);
    site.world.run(&format!("oci attach-signature {place}:1 --key a.key")).exits(0);
    let other = Registry::start(&site);
    let there = format!("{}:1", other.repository());
    // Through a layout, and from there to another registry.
    site.world.run(&format!("oci copy {place}:1 oci:stick --referrers")).exits(0);
    site.world.run("verify oci:stick:1 --trust-root root.json").exits(0);
    site.world.run(&format!("oci copy oci:stick:1 {there} --referrers")).exits(0);
    let kinds = |place: &str| {
        let listed = said(&site.world.run(&format!("oci referrers {place} --output json")).exits(0).stdout());
        let mut kinds: Vec<String> =
            listed["referrers"].as_array().expect("referrers").iter().map(|it| it["digest"].to_string()).collect();
        kinds.sort();
        kinds
    };
    assert_eq!(kinds(&format!("{place}:1")), kinds(&there));
    assert_eq!(kinds(&there).len(), 4);
    site.world.run(&format!("oci verify {there} --key a.pub")).exits(0);
    site.node(&format!("diff {there}")).exits(0);
}
