//! A blob of a GiB goes through in little memory, both ways.

use std::time::Duration;

use serde_json::json;

use crate::node::Site;
use crate::registry::{Registry, run};

/// Its size.
const BYTES: u64 = 1 << 30;
/// What the program may have in memory at its peak.
const MOST_KIB: u64 = 64 << 10;

/// Runs a verb that must succeed; gives its peak of resident memory in KiB, as Linux counts it.
fn peak(site: &Site, arguments: &str) -> u64 {
    let mut running = site.world.command(arguments).spawn().expect("starts");
    let status = format!("/proc/{}/status", running.id());
    let mut peak = 0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let seen = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        peak = seen.unwrap_or(0).max(peak);
        if let Some(ended) = running.try_wait().expect("waits") {
            assert!(ended.success(), "autonomy {arguments}");
            assert!(peak > 1024, "nothing was measured");
            return peak;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_gibibyte_takes_less_than_64_mib_of_memory() {
    let site = Site::bare();
    let folder = site.world.path("");
    std::fs::create_dir_all(site.world.path("big/blobs/sha256")).expect("folders");
    // Sparse, so that the disk holds it once or twice and not three times.
    std::fs::File::create(site.world.path("blob")).and_then(|file| file.set_len(BYTES)).expect("grows");
    let hex = run(&folder, "sha256sum", &["blob"]).split(' ').next().expect("digest").to_owned();
    std::fs::rename(site.world.path("blob"), site.world.path(&format!("big/blobs/sha256/{hex}"))).expect("renames");
    let put = |bytes: &[u8]| {
        let digest = autonomy_schema::Sha256::of(bytes);
        site.world.write(&format!("big/blobs/sha256/{}", digest.hex()), bytes);
        digest
    };
    let config = put(b"{}");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": "application/x.big",
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2 },
        "layers": [{ "mediaType": "application/octet-stream", "digest": format!("sha256:{hex}"), "size": BYTES }],
    })
    .to_string();
    let digest = put(manifest.as_bytes());
    let entry = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": manifest.len(),
    });
    site.world.write("big/index.json", json!({ "schemaVersion": 2, "manifests": [entry] }).to_string());
    site.world.write("big/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    let registry = Registry::start(&site);
    let place = format!("{}:big", registry.repository());
    let pushed = peak(&site, &format!("oci copy oci:big {place}"));
    let pulled = peak(&site, &format!("oci copy {place} oci:back"));
    println!("peaks: {pushed} KiB to push, {pulled} KiB to pull");
    assert!(pushed < MOST_KIB && pulled < MOST_KIB, "{pushed} KiB to push, {pulled} KiB to pull");
    let length = site.world.path(&format!("back/blobs/sha256/{hex}")).metadata().expect("there").len();
    assert_eq!(length, BYTES);
}
