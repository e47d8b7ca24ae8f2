//! Clocks that jump, disks that are full, and networks that are cut for long, under daemons that run.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cable::Cable;
use crate::disks::{Mount, may_mount, run};
use crate::node::Site;
use crate::relay::{Daemon, edgectl, fleet, json_of, relayed, status_until};
use crate::relay_kills::{agent, metric};
use crate::relay_rogues::{archive, pack, rogue, send};

const PATIENCE: Duration = Duration::from_secs(60);
/// Beyond what every manifest and certificate of the test is good for.
const FAR: &str = "+7300d";
const BACK: &str = "-7300d";

/// A wall clock of its own for a daemon, which the test sets while it runs. Time that passes is not touched.
struct Clock<'a> {
    site: &'a Site,
    file: &'static str,
}

impl<'a> Clock<'a> {
    fn new(site: &'a Site, file: &'static str) -> Self {
        let clock = Self { site, file };
        clock.set("+0");
        clock
    }

    /// By an offset from the true time.
    fn set(&self, offset: &str) {
        // Replaced at once: the daemon reads it at any moment.
        self.site.world.write("clock.new", format!("{offset}\n"));
        std::fs::rename(self.site.world.path("clock.new"), self.site.world.path(self.file)).expect("renames");
    }

    fn start(&self, node: &str) -> Daemon {
        let libraries = std::fs::read_dir("/usr/lib").expect("folder").flatten().map(|entry| entry.path());
        let library = libraries.map(|path| path.join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
        let library = library.expect("libfaketime (ci/setup-tests installs it)").display().to_string();
        let file = self.site.world.path(self.file).display().to_string();
        let environment = [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", file.as_str()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
        ];
        Daemon::start(self.site, node, &environment)
    }
}

/// How often anything was begun to be sent at most.
fn attempts(site: &Site) -> u64 {
    let status = json_of(&edgectl(site, "node", "relay status --output json"), 0);
    let rows = status["rows"].as_array().expect("rows");
    rows.iter().filter_map(|row| row["attempts"].as_u64()).max().unwrap_or_default()
}

#[test]
fn fi_a_clock_that_jumps_ahead_or_back_expires_nothing_that_is_durable_and_makes_no_storm() {
    let site = fleet();
    let cable = Cable::new();
    site.world.write("build/agent", agent(6 << 20));
    relayed(&site, "one", 1, &cable.address, &json!({ "window": "2s", "maxRetryCount": 8 }));
    let fingerprint = site.fingerprint("one");
    let (clock_a, clock_b) = (Clock::new(&site, "clock.a"), Clock::new(&site, "clock.b"));
    let mut b = clock_b.start("b");
    cable.lead_to(&b.listen);
    // Half of it is there when the receiver's clock jumps, and the rest comes then: the set is whole, and not admitted.
    cable.allow(3 << 20);
    let mut a = clock_a.start("node");
    cable.wait_until_full(PATIENCE);
    clock_b.set(FAR);
    let begun = cable.dials();
    cable.allow(u64::MAX);
    let refused = b.wait_for("edge.set.refused");
    assert!(refused["reasons"].as_str().expect("reasons").contains("expired"), "{refused}");
    std::thread::sleep(Duration::from_secs(3));
    let held = site.world.path(&format!("b/edge/sets/{}", fingerprint.hex()));
    assert!(held.exists(), "what was durable is there");
    assert!(!site.world.has(&format!("b/inbox/{}", fingerprint.hex())), "and is not admitted");
    // The sender's clock jumps back: nothing is sent twice, and nobody is dialled more often than the schedule says.
    clock_a.set(BACK);
    std::thread::sleep(Duration::from_secs(3));
    assert!(cable.dials() - begun <= 10, "{} dials in seven seconds", cable.dials() - begun);
    let stored = metric(&b, "autonomy_edge_segments_total{status=\"stored\"}");
    clock_b.set("+0");
    clock_a.set("+0");
    a.wait_for("edge.set.done");
    assert!(site.world.has(&format!("b/inbox/{}/manifest.json", fingerprint.hex())));
    let again = metric(&b, "autonomy_edge_segments_total{status=\"stored\"}") - stored;
    assert!(
        again == 0 && metric(&b, "autonomy_edge_segments_total{status=\"duplicate\"}") == 0,
        "{again} were sent again"
    );
    assert!(attempts(&site) <= 2, "what was cut off is begun again, once");
    // The sender's clock jumps ahead: what it sends on has ended, and begins again with the true time; all of it is there.
    clock_a.set(FAR);
    a.wait_for("edge.set.withdrawn");
    clock_a.set("+0");
    a.wait_for("edge.set.done");
    assert_eq!(metric(&b, "autonomy_edge_segments_total{status=\"stored\"}"), stored);
}

#[test]
fn fi_a_set_in_transit_outlives_a_clock_that_jumps_ahead() {
    let site = fleet();
    rogue(&site, "node-m");
    let clock = Clock::new(&site, "clock");
    let mut a = clock.start("node");
    site.set("far", 1);
    site.doctor("far", |manifest| manifest["spec"]["scope"]["matchLabels"] = json!({ "site": "pier-9" }));
    let fingerprint = site.fingerprint("far");
    let path = format!("/v1/manifests/{fingerprint}");
    assert_eq!(send(&site, "node-m", ("node-a", &a), &path, &archive(&site, "far")).0, 201);
    assert_eq!(send(&site, "node-m", ("node-a", &a), "/v1/packs", &pack(&site, "far")).0, 200);
    a.wait_for("edge.set.begun");
    clock.set(FAR);
    a.wait_for("edge.set.withdrawn");
    // A few more looks at what there is.
    std::thread::sleep(Duration::from_secs(3));
    assert!(site.world.has(&format!("node/edge/sets/{}/artifacts/bin/agent", fingerprint.hex())));
    clock.set("+0");
    a.wait_for("edge.set.begun");
}

#[test]
fn fi_a_network_that_is_cut_for_long_costs_no_attempt_and_heals() {
    let site = fleet();
    let cable = Cable::new();
    relayed(&site, "one", 1, &cable.address, &json!({ "window": "2s", "maxRetryCount": 3 }));
    let mut a = Daemon::start(&site, "node", &[]);
    let cut = Instant::now();
    // As many windows as attempts are allowed, and more.
    for _ in 0..6 {
        a.wait_for("edge.peer.unreachable");
    }
    assert!(cut.elapsed() > Duration::from_secs(4), "dials back off: {:?}", cut.elapsed());
    std::thread::sleep(Duration::from_secs(4));
    let dials = cable.dials();
    assert!((6..=10).contains(&dials), "{dials} dials in {:?}", cut.elapsed());
    assert_eq!(attempts(&site), 0, "no contact is no attempt");
    let b = Daemon::start(&site, "b", &[]);
    cable.lead_to(&b.listen);
    a.wait_for("edge.set.done");
    let status = status_until(&site, "node", |status| status["deliveries"][0]["done"] == true);
    let rows = status["rows"].as_array().expect("rows");
    assert!(rows.len() > 1 && rows.iter().all(|row| row["attempts"] == 1 && row["state"] == "acked"), "{rows:#?}");
}

/// A state root on a file system of a few megabytes, which somebody else fills.
#[test]
fn fi_a_real_disk_that_is_full_is_answered_507_and_used_again_when_there_is_room() {
    if !may_mount() {
        return;
    }
    let site = fleet();
    site.world.write("build/agent", agent(6 << 20));
    std::fs::rename(site.world.path("b"), site.world.path("old")).expect("renames");
    std::fs::create_dir(site.world.path("b")).expect("folder");
    run("mount", &["-t", "tmpfs", "-o", "size=32m,mode=0700", "tmpfs", "b"], &site);
    let _mount = Mount(site.world.path("b"));
    run("cp", &["-a", "old/.", "b"], &site);
    let mut b = Daemon::start(&site, "b", &[]);
    fill(&site.world.path("b/filler"), 3 << 20);
    relayed(&site, "one", 1, &b.listen, &json!({ "maxRetryCount": 40, "window": "60s", "backoffBase": "500ms" }));
    let mut a = Daemon::start(&site, "node", &[]);
    let status = status_until(&site, "node", |status| {
        let rows = status["rows"].as_array().expect("rows");
        rows.iter().any(|row| row["last_error"].as_str().is_some_and(|error| error.contains("507")))
    });
    let refused: Vec<&Value> =
        status["rows"].as_array().expect("rows").iter().filter(|row| row["last_error"].is_string()).collect();
    assert!(refused.iter().all(|row| row["state"] != "deadletter"), "{refused:#?}");
    // It answers, and says why; so does the node's own tool.
    assert!(metric(&b, "autonomy_edge_requests_total{code=\"507\"}") >= 1);
    json_of(&edgectl(&site, "b", "relay status --output json"), 0);
    std::fs::remove_file(site.world.path("b/filler")).expect("removes");
    a.wait_for("edge.set.done");
    assert!(site.world.has(&format!("b/inbox/{}/manifest.json", site.fingerprint("one").hex())));
    b.signal("TERM");
    assert_eq!(b.end(), Some(0));
}

/// Writes until only so much is left.
fn fill(path: &Path, left: u64) {
    let folder = path.parent().expect("folder");
    let free = std::process::Command::new("stat").args(["-f", "-c", "%a %S"]).arg(folder).output().expect("stat");
    let text = String::from_utf8(free.stdout).expect("UTF-8");
    let (blocks, size) = text.trim().split_once(' ').expect("two numbers");
    let free = blocks.parse::<u64>().expect("number") * size.parse::<u64>().expect("number");
    std::fs::write(path, vec![7; usize::try_from(free - left).expect("fits")]).expect("fills");
}
