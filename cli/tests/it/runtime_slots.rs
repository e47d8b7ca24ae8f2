//! The runtime on a node without a manifest: the policy of its slots, a lock by itself.

use crate::node::Site;
use crate::runtime::Runtime;
use serde_json::{Value, json};

const V1: &str = "package autonomy.tool\n\nallow := true\n";
const V2: &str = "package autonomy.tool\n\nallow := true\n\ndeny contains \"quiet\" if input.kind == \"tool.echo\"\n";

/// A node `own` whose root knows role `policy`, with version 1 loaded, and a signed lock that binds it.
fn own() -> Site {
    let site = Site::bare();
    let all = "a.pub,b.pub,c.pub";
    let roles = format!("--role root={all}:2 --role manifest={all}:2 --role artifact={all}:1 --role policy={all}:1");
    site.world.run(&format!("trust new {roles} --expires 2y --sign a.key --sign b.key --out own.json")).exits(0);
    let init = "init --node-id node-a --fleet harbor --hardware x86_64 --trust-root own.json --state-root own";
    site.world.run(init).exits(0);
    std::fs::create_dir(site.world.path("rules")).expect("folder");
    for (version, rego) in [(1, V1), (2, V2)] {
        site.world.write("rules/tool.rego", rego);
        let build = format!("policy build --in rules --out p{version}.tar.gz --name harbor --version {version}.0.0");
        site.world.run(&build).exits(0);
        site.world.run(&format!("sign p{version}.tar.gz --key c.key")).exits(0);
    }
    site.world.run("policy load p1.tar.gz --state-root own").exits(0);
    site.world.run("lock build --agent build/agent --policy p1.tar.gz --out own.lock.json").exits(0);
    site
}

fn start(site: &Site, arguments: &str) -> Runtime {
    let command = format!("runtime start --state-root own --listen 127.0.0.1:0 --output json {arguments}");
    Runtime::spawn(site, &mut site.world.command(&command))
}

fn version(ready: &crate::runtime::Answer) -> Value {
    ready.body["policy_ref"]["version"].clone()
}

#[test]
fn lkg_kept_on_a_bad_bundle() {
    let site = own();
    let runtime = start(&site, "--require-lock=false");
    assert_eq!(version(&runtime.get("/readyz")), "1.0.0");
    // A bundle that nobody signed is not loaded, and the old one serves on.
    site.world.run("policy build --in rules --out bad.tar.gz --name harbor --version 3.0.0").exits(0);
    site.world.run("policy load bad.tar.gz --state-root own").exits(3);
    let echo = || runtime.call("tool.echo", &json!({ "message": "x" })).code;
    assert_eq!((echo(), version(&runtime.get("/readyz"))), (200, json!("1.0.0")));
    // A good one takes over.
    site.world.run("policy load p2.tar.gz --state-root own").exits(0);
    runtime.waits_until("version 2 serves", |ready| version(ready) == "2.0.0");
    assert_eq!(echo(), 403);
    // One that is damaged where it lies is not believed: the last known good one serves, and it is told why.
    let bundle = site.world.path("own/policy/current").canonicalize().expect("current").join("policy.tar.gz");
    std::fs::remove_file(&bundle).expect("removes");
    std::fs::write(&bundle, "junk").expect("writes");
    let ready = runtime.waits_until("version 1 serves", |ready| version(ready) == "1.0.0");
    assert!(ready.body["fallback"].as_str().is_some_and(|why| why.contains("policy/current")), "{}", ready.body);
    assert_eq!(echo(), 200);
}

#[test]
fn a_lock_by_itself_binds_the_policy_of_the_slots() {
    let site = own();
    let refused = |lock: &str| {
        let start = format!("runtime start --state-root own --listen 127.0.0.1:0 {lock}");
        site.world.run(&start).exits(3).warns("lock_invalid: ");
    };
    refused("");
    refused("--lock own.lock.json");
    site.world.run("sign own.lock.json --key a.key").exits(0);
    let runtime = start(&site, "--lock own.lock.json");
    let lock: Value = serde_json::from_slice(&site.world.read("own.lock.json")).expect("JSON");
    assert_eq!(runtime.get("/readyz").body["lock"], lock["behavioral_fingerprint"]);
    assert_eq!(runtime.call("tool.echo", &json!({ "message": "x" })).code, 200);
    // Another policy is not the one that it binds.
    site.world.run("policy load p2.tar.gz --state-root own").exits(0);
    let closed = runtime.waits_until("nothing is allowed", |ready| ready.code == 503);
    assert_eq!(closed.codes(), ["lock_invalid"]);
    assert_eq!(runtime.call("tool.echo", &json!({ "message": "x" })).codes(), ["lock_invalid"]);
    refused("--lock own.lock.json");
}
