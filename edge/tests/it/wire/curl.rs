//! The protocol with plain curl and a client certificate, as `docs/formats/relay.md` shows it.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{Station, pack_of, two};
use crate::world::{World, write};

/// Runs curl as `place` (`.crt` and `.key`); gives the status and the body.
pub(super) fn ask(station: &Station, world: &World, place: &Path, arguments: &[&str], path: &str) -> (u16, String) {
    let ca = world.path("curl-ca.crt");
    write(&ca, world.pair.certificate_pem.as_bytes());
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--http2", "--tlsv1.3", "--max-time", "30"]);
    command.args(["--resolve", &format!("{}:{}:127.0.0.1", station.id, station.address.port())]);
    command.arg("--cacert").arg(&ca);
    command.arg("--cert").arg(place.with_extension("crt")).arg("--key").arg(place.with_extension("key"));
    command.args(["--write-out", "%{http_version} %{http_code}"]).args(arguments);
    let url = format!("https://{}:{}{path}", station.id, station.address.port());
    let ran = command.arg(url).output().expect("curl runs");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    // The body ends with a newline, behind which curl writes.
    let (body, written) = said.rsplit_once('\n').unwrap_or(("", &said));
    let status = written.strip_prefix("2 ").and_then(|code| code.parse().ok());
    (status.unwrap_or_else(|| panic!("{path} {arguments:?}: {said} {told}")), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_walks_the_protocol() {
    let (world, station, _) = two().await;
    let me = world.path("node-a/identity/node");
    let set = world.set(1, 300_000);
    let file = |name: &str, bytes: &[u8]| {
        write(&world.path(name), bytes);
        world.path(name).display().to_string()
    };
    let ask = |arguments: &[&str], path: &str| {
        let (status, body) = ask(&station, &world, &me, arguments, path);
        (status, serde_json::from_str::<Value>(&body).unwrap_or_else(|_| panic!("{path}: {body}")))
    };
    let fingerprint = set.fingerprint.to_string();
    let manifest = format!("/v1/manifests/{fingerprint}");
    assert_eq!(ask(&[], &manifest).0, 404);

    let tar = file("set.tar", &set.tar);
    let put = ["--header", "content-type: application/x-tar", "--upload-file", &tar];
    let (status, body) = ask(&put, &manifest);
    assert_eq!((status, &body["state"], &body["manifest"]), (201, &"receiving".into(), &fingerprint.clone().into()));
    assert_eq!(body["missing"][0]["segments"][0], serde_json::json!([0, set.segments.len()]), "{body}");
    assert_eq!(ask(&put, &manifest).0, 200, "a repeat is no mistake (INV-08)");

    // The first segment alone, the rest as a pack.
    let (first, rest) = set.segments.split_first().expect("segments");
    let rest: Vec<&[u8]> = rest.iter().map(Vec::as_slice).collect();
    let one = format!("/v1/segments/{}", autonomy_schema::Blake3::of(first));
    let body = file("segment", first);
    assert_eq!(ask(&["--upload-file", &body], &one).0, 201);
    assert_eq!(ask(&["--upload-file", &body], &one).0, 200);
    assert_eq!(ask(&[], &manifest).1["missing"][0]["segments"][0][0], 1);
    let (ids, packed) = pack_of(&rest);
    let pack = file("pack", &packed);
    let data = format!("@{pack}");
    let post = ["--header", "content-type: application/vnd.autonomy.pack.v1", "--data-binary", &data];
    let (status, body) = ask(&post, "/v1/packs");
    assert_eq!(status, 200, "{body}");
    let results = body["results"].as_array().expect("results");
    assert!(results.iter().zip(&ids).all(|(result, id)| result["id"] == id.to_string()), "in the order of the pack");
    assert!(results.iter().all(|result| result["status"] == "stored"), "{body}");
    let (status, body) = ask(&[], &manifest);
    assert_eq!((status, &body["state"], body["missing"].as_array().map(Vec::len)), (200, &"stored".into(), Some(0)));
    assert!(body["receipts"][0]["document"].as_str().is_some_and(|text| text.contains("node-b")), "{body}");
    let (_, body) = ask(&post, "/v1/packs");
    assert!(body["results"].as_array().expect("results").iter().all(|it| it["status"] == "duplicate"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_has_its_status_and_its_reason() {
    let (world, station, _) = two().await;
    let me = world.path("node-a/identity/node");
    let file = |name: &str, bytes: &[u8]| {
        write(&world.path(name), bytes);
        format!("@{}", world.path(name).display())
    };
    let id = autonomy_schema::Blake3::of(b"x");
    let segment = format!("/v1/segments/{id}");
    let (x, y) = (file("x", b"x"), file("y", b"y"));
    let large = file("large", &vec![0; 65_537]);
    let oversize = file("oversize", &vec![0; (8 << 20) + 1]);
    let tar = "content-type: application/x-tar";
    let pack = "content-type: application/vnd.autonomy.pack.v1";
    let (_, unnamed) = pack_of(&[b"x"]);
    let cut = file("cut", &unnamed[..unnamed.len() - 1]);
    let unnamed = file("unnamed", &unnamed);
    let empty = file("empty", &[7; 32].into_iter().chain([0; 4]).collect::<Vec<u8>>());
    let long = file("long", &[7; 32].into_iter().chain([1, 0, 1, 0, 9]).collect::<Vec<u8>>());
    let manifest = format!("/v1/manifests/{id}");
    let cases: &[(&str, &[&str], &str, u16, &str)] = &[
        ("unknown path", &[], "/v1/nothing", 404, "bad_request"),
        ("unknown version", &[], "/v2/health", 404, "bad_request"),
        ("no digest", &[], "/v1/manifests/../../etc/passwd", 404, "bad_request"),
        ("half a digest", &[], "/v1/manifests/blake3:00", 400, "bad_digest"),
        ("wrong algorithm", &["-X", "PUT", "--data-binary", &x], "/v1/segments/sha256:00", 400, "bad_digest"),
        ("method", &["-X", "DELETE"], &manifest, 405, "bad_request"),
        ("method of health", &["-X", "POST", "--data-binary", &x], "/v1/health", 405, "bad_request"),
        ("media type of a set", &["-X", "PUT", "--data-binary", &x], &manifest, 415, "bad_request"),
        ("media type of a pack", &["--data-binary", &x], "/v1/packs", 415, "bad_request"),
        ("no set", &["-X", "PUT", "-H", tar, "--data-binary", &x], &manifest, 422, ""),
        ("not named", &["-X", "PUT", "--data-binary", &x], &segment, 404, "not_named"),
        ("wrong hash", &["-X", "PUT", "--data-binary", &y], &segment, 422, "digest_mismatch"),
        ("large segment", &["-X", "PUT", "--data-binary", &large], &segment, 413, "document_too_large"),
        ("large pack", &["-H", pack, "--data-binary", &oversize], "/v1/packs", 413, "document_too_large"),
        ("cut pack", &["-H", pack, "--data-binary", &cut], "/v1/packs", 400, "bad_request"),
        ("empty segment", &["-H", pack, "--data-binary", &empty], "/v1/packs", 400, "bad_request"),
        ("long segment", &["-H", pack, "--data-binary", &long], "/v1/packs", 400, "bad_request"),
    ];
    for (what, arguments, path, status, code) in cases {
        let arguments: Vec<&str> = ["--path-as-is"].into_iter().chain(arguments.iter().copied()).collect();
        let (found, body) = ask(&station, &world, &me, &arguments, path);
        assert_eq!(found, *status, "{what}: {body}");
        let body: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{what}: {body}"));
        let reason = &body["reasons"][0];
        assert!(code.is_empty() || reason["code"] == *code, "{what}: {body}");
        assert!(reason["message"].is_string() && reason["remedy"].is_string(), "{what}: {body}");
    }
    let (status, body) = ask(&station, &world, &me, &["-H", pack, "--data-binary", &unnamed], "/v1/packs");
    assert_eq!(status, 200);
    let expected = serde_json::json!({ "results": [{ "id": id, "status": "refused", "reason": "not_named" }] });
    assert_eq!(serde_json::from_str::<Value>(&body).expect("JSON"), expected);
}
