//! Registries that go away, stall, lie or lead elsewhere: each is a named error, nothing active changes, and the next try
//! goes on where the last one ended.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::node::{AGENT, Site};
use crate::registry::{Registry, run};
use crate::rogue::{Act, Rogue, answer, text};

/// A site whose node runs release 1, and a registry with release 2, whose agent has `size` bytes; its digest.
fn with_agent(bytes: usize) -> (Site, Registry, String) {
    let site = Site::running();
    let mut agent = AGENT.as_bytes().to_vec();
    let start = agent.len();
    agent.resize(bytes, 0);
    blake3::Hasher::new_derive_key("a large agent").finalize_xof().fill(&mut agent[start..]);
    site.world.write("build/agent", agent);
    site.set("two", 2);
    let registry = Registry::start(&site);
    site.world.run(&format!("push two {}:2", registry.repository())).exits(0);
    let manifest: Value = serde_json::from_slice(&site.world.read("two/manifest.json")).expect("JSON");
    let digest = manifest["spec"]["artifacts"][0]["digest"].as_str().expect("digest").to_owned();
    (site, registry, digest)
}

/// Tells a request for the blob, and the how manieth it is.
fn blob(method: &'static str, digest: &str) -> impl Fn(&str) -> Option<usize> + Send + Sync + use<> {
    let (wanted, count) = (format!("{method} /v2/fleet/harbor/blobs/{digest} "), AtomicUsize::new(0));
    move |head| head.starts_with(&wanted).then(|| count.fetch_add(1, Ordering::SeqCst))
}

#[test]
fn a_pull_that_breaks_off_goes_on_where_it_ended() {
    let (site, registry, digest) = with_agent(3_000_000);
    let gone = std::sync::atomic::AtomicBool::new(false);
    let is_agent = blob("GET", &digest);
    let rogue = Rogue::start(registry.port, move |head| {
        if gone.load(Ordering::SeqCst) {
            return Act::Close;
        }
        if is_agent(head).is_some() {
            gone.store(true, Ordering::SeqCst);
            return Act::Cut(2_000_000);
        }
        Act::Pass
    });
    let place = format!("{}:2", rogue.repository());
    site.world.run(&format!("pull {place} --to got")).exits(1).warns("registry_error: ");
    let part = format!("got/.pull/{}.part", digest.trim_start_matches("sha256:"));
    assert_eq!(site.world.read(&part).len(), 2_000_000, "what came is kept");
    assert!(!site.world.has("got/manifest.json"));
    site.world.run("verify got --trust-root root.json").exits(9).warns("missing_file: ");
    let through = Rogue::start(registry.port, |_| Act::Pass);
    site.world.run(&format!("pull {}:2 --to got --trust-root root.json", through.repository())).exits(0);
    let asked = through.asked().into_iter().filter(|head| head.contains("/blobs/")).collect::<Vec<_>>();
    let resumed = asked.iter().filter(|head| head.to_ascii_lowercase().contains("range: bytes=2000000-")).count();
    assert_eq!(resumed, 1, "{asked:?}");
    assert_eq!(site.world.read("got/artifacts/bin/agent"), site.world.read("two/artifacts/bin/agent"));
    // A part that is not what the registry has begins anew.
    std::fs::remove_dir_all(site.world.path("got")).expect("removes");
    std::fs::create_dir_all(site.world.path("got/.pull")).expect("folder");
    site.world.write(&part, vec![7; 1_000_000]);
    site.world.run(&format!("pull {}:2 --to got --trust-root root.json", through.repository())).exits(0);
}

#[test]
fn a_server_that_begins_anew_each_time_is_not_asked_for_ever() {
    let (site, registry, digest) = with_agent(3_000_000);
    let is_agent = blob("GET", &digest);
    let cut = format!("HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n{}", "x".repeat(1_500_000));
    let rogue = Rogue::start(registry.port, move |head| match is_agent(head) {
        Some(_) => Act::Answer(cut.clone()),
        None => Act::Pass,
    });
    site.world.run(&format!("pull {}:2 --to got", rogue.repository())).exits(1).warns("registry_error: ");
    let asked = rogue.asked().iter().filter(|head| head.contains(digest.as_str())).count();
    // Five attempts, and five more after the first headway.
    assert!((2..=10).contains(&asked), "{asked}");
}

#[test]
fn a_registry_that_goes_away_and_comes_back_is_waited_for() {
    let (site, registry, digest) = with_agent(3_000_000);
    let (is_agent, closed) = (blob("GET", &digest), AtomicUsize::new(0));
    let rogue = Rogue::start(registry.port, move |head| match is_agent(head) {
        Some(0) => Act::Cut(1_000_000),
        Some(1) => Act::Close,
        _ if closed.fetch_add(1, Ordering::SeqCst) == 0 => Act::Close,
        _ => Act::Pass,
    });
    site.node(&format!("apply {}:2 --auto-approve", rogue.repository())).exits(0);
    site.is_whole(&[2]);
    assert!(rogue.asked().iter().any(|head| head.to_ascii_lowercase().contains("range: bytes=1000000-")));
}

#[test]
fn a_push_that_breaks_off_goes_on_where_it_ended() {
    let (site, registry, digest) = with_agent(10_000_000);
    let fresh = Registry::start(&site);
    let broken = AtomicUsize::new(0);
    let rogue = Rogue::start(fresh.port, move |head| {
        let second = head.starts_with("PATCH ") && head.to_ascii_lowercase().contains("content-range: 4194304-");
        if second && broken.fetch_add(1, Ordering::SeqCst) == 0 { Act::Close } else { Act::Pass }
    });
    site.world.run(&format!("push two {}:2", rogue.repository())).exits(0);
    let range = |head: &String| {
        let head = head.to_ascii_lowercase();
        head.lines().find_map(|line| line.strip_prefix("content-range: ").map(str::to_owned))
    };
    let asked = rogue.asked();
    let large = asked.iter().filter_map(range).filter(|range| range.len() > 8).collect::<Vec<_>>();
    let wanted = ["0-4194303", "4194304-8388607", "4194304-8388607", "8388608-9999999"];
    assert_eq!(large, wanted, "the first chunk is sent once, the second once more");
    let stored = |registry: &Registry| std::fs::read(registry.blob(&digest)).expect("stored");
    assert!(stored(&fresh) == stored(&registry));
    // Nobody there at all.
    drop(fresh);
    site.world.run(&format!("push two {}:2", rogue.repository())).exits(1).warns("registry_error: ");
}

#[test]
fn a_busy_registry_is_asked_again_after_its_time_and_not_for_ever() {
    let (site, registry, _) = with_agent(1000);
    let count = AtomicUsize::new(0);
    let rogue = Rogue::start(registry.port, move |head| {
        let first = head.contains("/manifests/2 ") && count.fetch_add(1, Ordering::SeqCst) == 0;
        if first { answer("429 Too Many Requests", "Retry-After: 2\r\nContent-Length: 0\r\n", "") } else { Act::Pass }
    });
    let since = std::time::Instant::now();
    site.world.run(&format!("pull {}:2 --to got", rogue.repository())).exits(0);
    assert!(since.elapsed().as_secs() >= 2, "it came before its time");
    let busy = Rogue::start(registry.port, |_| answer("429 Too Many Requests", "Content-Length: 4\r\n", "busy"));
    let said = site.world.run(&format!("pull {}:2 --to other", busy.repository())).exits(1);
    said.warns("registry_error: ").warns("status 429: busy");
    assert_eq!(busy.asked().len(), 5);
}

#[test]
fn bytes_that_are_not_those_that_were_asked_for_are_refused() {
    let (site, registry, digest) = with_agent(4000);
    let before = site.snapshot();
    let other = "x".repeat(4000);
    let more = "x".repeat(5000);
    for (what, said, exit, code) in [
        ("other bytes", text("200 OK", "Content-Length: 4000\r\n", &other), 3, "digest_mismatch: "),
        ("a longer body", text("200 OK", "", &more), 3, "size_mismatch: "),
        ("a wrong length", text("200 OK", "Content-Length: 5000\r\n", &more), 3, "size_mismatch: "),
        (
            "another range",
            text("206 Partial Content", "Content-Range: bytes 9-12/13\r\nContent-Length: 4\r\n", "xxxx"),
            3,
            "size_mismatch: ",
        ),
        ("no blob", text("404 Not Found", "Content-Length: 0\r\n", ""), 9, "missing_file: "),
        ("a fault", text("500 Internal Server Error", "Content-Length: 0\r\n", ""), 1, "registry_error: "),
        ("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n".to_owned(), 1, "registry_error: "),
    ] {
        let is_agent = blob("GET", &digest);
        let rogue = Rogue::start(registry.port, move |head| match is_agent(head) {
            Some(_) => Act::Answer(said.clone()),
            None => Act::Pass,
        });
        let ran = site.node(&format!("apply {}:2 --auto-approve", rogue.repository()));
        assert_eq!(ran.code(), exit, "{what}: {}", ran.stderr());
        ran.warns(code);
        assert!(before == site.snapshot(), "{what} changed the state root");
    }
    // The registry's own disk gives other bytes.
    let stored = registry.blob(&digest);
    let mut bytes = std::fs::read(&stored).expect("stored");
    bytes[3000] ^= 1;
    std::fs::write(&stored, bytes).expect("writes");
    site.node(&format!("apply {}:2 --auto-approve", registry.repository())).exits(3).warns("digest_mismatch: ");
    site.is_whole(&[1]);
}

#[test]
fn a_trickle_is_given_up() {
    let (site, registry, digest) = with_agent(4000);
    let is_agent = blob("GET", &digest);
    let rogue = Rogue::start(registry.port, move |head| match is_agent(head) {
        Some(_) => Act::Trickle(text("200 OK", "Content-Length: 4000\r\n", &"x".repeat(4000))),
        None => Act::Pass,
    });
    let since = std::time::Instant::now();
    site.world
        .run(&format!("pull {}:2 --to got --patience 1s", rogue.repository()))
        .exits(1)
        .warns("registry_error: ")
        .warns("gave less than 1 KiB in 1 seconds");
    assert!(since.elapsed().as_secs() < 8, "the trickle of 10 s was waited for");
}

/// Changes the OCI manifest of release 2 and puts it under another tag.
fn doctored(site: &Site, registry: &Registry, tag: &str, kind: &str, change: impl FnOnce(Value) -> Value) {
    let base = format!("http://127.0.0.1:{}/v2/fleet/harbor/manifests", registry.port);
    let folder = site.world.path("");
    let accept = "Accept: application/vnd.oci.image.manifest.v1+json";
    let manifest = run(&folder, "curl", &["-sSf", "-H", accept, &format!("{base}/2")]);
    let manifest = change(serde_json::from_str(&manifest).expect("JSON"));
    site.world.write("doctored.json", manifest.to_string());
    let kind = format!("Content-Type: application/vnd.oci.image.{kind}.v1+json");
    run(
        &folder,
        "curl",
        &["-sSf", "-X", "PUT", "-H", &kind, "--data-binary", "@doctored.json", &format!("{base}/{tag}")],
    );
}

#[test]
fn a_list_that_is_not_that_of_its_set_is_refused_before_anything_large_comes() {
    let (site, registry, digest) = with_agent(4000);
    let layer = |manifest: &Value, title: &str| {
        let layers = manifest["layers"].as_array().expect("layers");
        let named = |layer: &Value| layer["annotations"]["org.opencontainers.image.title"] == title;
        layers.iter().position(named).expect("layer")
    };
    let title = "org.opencontainers.image.title";
    doctored(&site, &registry, "vast", "manifest", |mut manifest| {
        let at = layer(&manifest, "artifacts/bin/agent");
        manifest["layers"][at]["size"] = json!(1_u64 << 50);
        manifest
    });
    doctored(&site, &registry, "stray", "manifest", |mut manifest| {
        let at = layer(&manifest, "artifacts/bin/agent");
        let mut copy = manifest["layers"][at].clone();
        copy["annotations"][title] = json!("artifacts/bin/other");
        manifest["layers"].as_array_mut().expect("layers").push(copy);
        manifest
    });
    doctored(&site, &registry, "climbing", "manifest", |mut manifest| {
        manifest["layers"][0]["annotations"][title] = json!("../../etc/cron.d/x");
        manifest
    });
    doctored(&site, &registry, "hidden", "manifest", |mut manifest| {
        manifest["layers"][0]["annotations"][title] = json!(".pull/x");
        manifest
    });
    doctored(&site, &registry, "lacking", "manifest", |mut manifest| {
        let at = layer(&manifest, "policy.tar.gz");
        manifest["layers"].as_array_mut().expect("layers").remove(at);
        manifest
    });
    doctored(&site, &registry, "image", "manifest", |mut manifest| {
        manifest["artifactType"] = json!("application/vnd.example.other");
        manifest
    });
    let through = Rogue::start(registry.port, |_| Act::Pass);
    for (tag, exit, code) in [
        ("vast", 3, "size_mismatch: "),
        ("stray", 3, "extraneous_file: "),
        ("climbing", 3, "unsafe_path: "),
        ("hidden", 3, "unsafe_path: "),
        ("lacking", 9, "missing_file: "),
        ("image", 3, "bad_value: "),
    ] {
        site.node(&format!("apply {}:{tag} --auto-approve", through.repository())).exits(exit).warns(code);
    }
    assert!(!through.asked().iter().any(|head| head.contains(&digest)), "the agent was asked for");
    site.is_whole(&[1]);
}

#[test]
fn an_index_gives_this_machine_its_set_or_says_what_it_has() {
    let (site, registry, _) = with_agent(1000);
    let index = |os: &'static str, architecture: &'static str| {
        move |manifest: Value| {
            let bytes = autonomy_schema::canonical::to_bytes(&manifest).expect("canonical");
            json!({
                "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": [{
                    "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": bytes.len(),
                    "digest": autonomy_schema::Sha256::of(&bytes), "platform": { "os": os, "architecture": architecture },
                }],
            })
        }
    };
    doctored(&site, &registry, "other", "index", index("plan9", "mips"));
    let said = site.node(&format!("plan {}:other", registry.repository())).exits(1).warns("registry_error: ");
    assert!(said.stderr().contains("plan9/mips"), "{}", said.stderr());
    let machine = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    doctored(&site, &registry, "ours", "index", index("linux", machine));
    site.node(&format!("apply {}:ours --auto-approve", registry.repository())).exits(0);
    site.is_whole(&[2]);
}

#[test]
fn another_host_is_never_contacted() {
    let (site, registry, digest) = with_agent(1000);
    let elsewhere = TcpListener::bind("127.0.0.1:0").expect("binds");
    elsewhere.set_nonblocking(true).expect("sets");
    let port = elsewhere.local_addr().expect("address").port();
    let away = |status: &str, header: &str| text(status, &format!("{header}Content-Length: 0\r\n"), "");
    let blob_away = away("307 Temporary Redirect", &format!("Location: http://127.0.0.1:{port}/x?token=hush\r\n"));
    let upload_away = away("202 Accepted", &format!("Location: http://127.0.0.1:{port}/upload\r\n"));
    let token_away =
        away("401 Unauthorized", &format!("WWW-Authenticate: Bearer realm=\"http://127.0.0.1:{port}/t\"\r\n"));
    let wanted = format!("GET /v2/fleet/harbor/blobs/{digest} ");
    let rogue = Rogue::start(registry.port, move |head| {
        let spoilt = head.starts_with(&wanted).then_some(&blob_away);
        spoilt.map_or(Act::Pass, |answer| Act::Answer(answer.clone()))
    });
    let led = site.world.run(&format!("pull {}:2 --to got", rogue.repository())).exits(1);
    let led =
        led.warns("registry_error: ").warns(&format!("http://127.0.0.1:{port}, which the reference does not name"));
    assert!(!led.stderr().contains("hush"), "{}", led.stderr());
    let rogue = Rogue::start(registry.port, move |head| {
        if head.starts_with("POST ") { Act::Answer(upload_away.clone()) } else { Act::Pass }
    });
    site.set("three", 3);
    site.world.run(&format!("push three {}:3", rogue.repository())).exits(1).warns("which the reference does not name");
    let rogue = Rogue::start(registry.port, move |_| Act::Answer(token_away.clone()));
    site.world.run(&format!("pull {}:2 --to got", rogue.repository())).exits(1).warns("wants a token of");
    assert!(elsewhere.accept().is_err(), "another host was contacted");
    // Within the host, a redirect is followed.
    let moved = format!("GET /v2/fleet/harbor/blobs/{digest} ");
    let rogue = Rogue::start(registry.port, move |head| {
        if head.starts_with(&moved) {
            let to = head.split(' ').nth(1).expect("path").to_owned();
            return answer("302 Found", &format!("Location: {to}?again=1\r\nContent-Length: 0\r\n"), "");
        }
        Act::Pass
    });
    site.world.run(&format!("pull {}:2 --to got --trust-root root.json", rogue.repository())).exits(0);
}

#[test]
fn one_pull_at_a_time_has_a_folder() {
    let (site, registry, digest) = with_agent(40_000);
    let is_agent = blob("GET", &digest);
    let rogue = Rogue::start(registry.port, move |head| match is_agent(head) {
        Some(_) => Act::Trickle(text("200 OK", "Content-Length: 40000\r\n", &"x".repeat(40_000))),
        None => Act::Pass,
    });
    let mut first = site.world.command(&format!("pull {}:2 --to got", rogue.repository()));
    let mut first = first.stderr(std::process::Stdio::null()).spawn().expect("starts");
    while !rogue.asked().iter().any(|head| head.contains(&digest)) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    site.world.run(&format!("pull {}:2 --to got", registry.repository())).exits(6).warns("locked: ");
    first.kill().expect("kills");
    first.wait().expect("ends");
    site.world.run(&format!("pull {}:2 --to got --trust-root root.json", registry.repository())).exits(0);
}
