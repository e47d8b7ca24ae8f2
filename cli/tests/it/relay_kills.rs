//! SIGKILL of either side of a transfer, then its completion: what was durable is not sent again, and every attempt counts once.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cable::Cable;
use crate::node::{AGENT, Site};
use crate::relay::{Daemon, fleet, relayed, status_until};

/// Two packs: one of 8 MiB and one of 4 MiB, which travel side by side.
const PAYLOAD: usize = 12 << 20;
/// Bytes that pass at once where the test waits for something to happen at the other end.
const STEP: u64 = 64 << 10;
/// Long for a part of a transfer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Points at random: seconds each, so hundreds are for `make soak`.
const RANDOM: (u64, u64) = (4, 200);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Sender,
    Receiver,
}

/// Where in a transfer somebody dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    /// So many bytes of the sender arrived.
    Bytes(u64),
    /// The receiver has made a pack durable, and nobody was told.
    Pack,
    /// The whole set is in the inbox of the receiver, and nobody was told.
    Inbox,
}

/// A number of the metrics; what was never counted is 0.
pub(crate) fn metric(daemon: &Daemon, name: &str) -> u64 {
    let mut stream = TcpStream::connect(&daemon.metrics).expect("connects");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("asks");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("text");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    line.unwrap_or_default()
}

/// Pseudo-random bytes, so that no two segments are the same.
pub(crate) fn agent(bytes: usize) -> Vec<u8> {
    let mut agent = AGENT.as_bytes().to_vec();
    let begin = agent.len();
    agent.resize(begin + bytes, 0);
    blake3::Hasher::new_derive_key("autonomy relay test").finalize_xof().fill(&mut agent[begin..]);
    agent
}

pub(crate) fn copy(site: &Site, from: &str, to: &str) {
    std::fs::remove_dir_all(site.world.path(to)).ok();
    let status = Command::new("cp").arg("-a").arg(site.world.path(from)).arg(site.world.path(to)).status();
    assert!(status.expect("cp").success());
}

/// Two nodes with a cable between them: A runs the release, B has nothing.
struct Rig {
    site: Site,
    cable: Cable,
    /// Segments of the set.
    segments: u64,
    /// Bytes from A before the first of the set: handshake and greeting.
    greeting: u64,
    /// Bytes from A of a whole transfer.
    whole: u64,
}

impl Rig {
    fn new() -> Self {
        let site = fleet();
        let cable = Cable::new();
        site.world.write("build/agent", agent(PAYLOAD));
        relayed(&site, "one", 1, &cable.address, &json!({}));
        for node in ["node", "b"] {
            copy(&site, node, &format!("{node}.kept"));
        }
        let manifest: Value = serde_json::from_slice(&site.world.read("one/manifest.json")).expect("JSON");
        let artifacts = manifest["spec"]["artifacts"].as_array().expect("artifacts");
        let segments = artifacts.iter().filter_map(|artifact| artifact["segments"]["count"].as_u64()).sum();
        let mut rig = Self { site, cable, segments, greeting: 0, whole: 0 };
        // Measured once: up to the first attempt, and in all.
        let b = rig.start_b();
        let mut a = Daemon::start(&rig.site, "node", &[("AUTONOMY_EDGE_STOP_BEFORE_SEND", "1")]);
        a.wait_for("edge.failpoint");
        rig.greeting = rig.cable.passed();
        drop((a, b));
        rig.reset();
        let b = rig.start_b();
        rig.cable.allow(u64::MAX);
        let mut a = Daemon::start(&rig.site, "node", &[]);
        a.wait_for("edge.set.done");
        rig.whole = rig.cable.passed();
        assert_eq!(metric(&b, "autonomy_edge_packs_total"), 2, "it is two packs");
        assert!(rig.whole > PAYLOAD as u64 && rig.greeting < 8192, "{} {}", rig.whole, rig.greeting);
        rig
    }

    fn reset(&self) {
        for node in ["node", "b"] {
            copy(&self.site, &format!("{node}.kept"), node);
        }
    }

    fn start_b(&self) -> Daemon {
        let b = Daemon::start(&self.site, "b", &[]);
        self.cable.lead_to(&b.listen);
        b
    }

    /// Lets the transfer go on bit by bit, with no answer on its way when it is looked at, until something is so.
    fn creep(&self, is_so: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        loop {
            self.cable.hold_answers(true);
            self.cable.allow_more(STEP);
            let soon = Instant::now() + Duration::from_millis(60);
            while Instant::now() < soon {
                if is_so() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            assert!(Instant::now() < until, "it never came; {} bytes passed", self.cable.passed());
            self.cable.hold_answers(false);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn in_inbox(&self) -> bool {
        self.site.world.has(&format!("b/inbox/{}/manifest.json", self.site.fingerprint("one").hex()))
    }

    /// One transfer, in which the victim dies at the point, and starts again.
    fn kill(&self, victim: Victim, point: Point) {
        let shown = format!("{victim:?} killed at {point:?}");
        self.cable.cut();
        self.cable.hold_answers(false);
        self.reset();
        let mut b = self.start_b();
        let begin = match point {
            Point::Bytes(bytes) => bytes,
            Point::Pack => self.whole * 55 / 100,
            Point::Inbox => self.whole - 4 * STEP,
        };
        self.cable.allow(begin);
        let mut a = Daemon::start(&self.site, "node", &[]);
        self.cable.wait_until_full(PATIENCE);
        match point {
            Point::Bytes(_) => {}
            Point::Pack => self.creep(|| metric(&b, "autonomy_edge_packs_total") == 1),
            Point::Inbox => self.creep(|| self.in_inbox()),
        }
        let durable = metric(&b, STORED);
        let before = if victim == Victim::Receiver { durable } else { 0 };
        let dead = if victim == Victim::Sender { &mut a } else { &mut b };
        dead.signal("KILL");
        dead.end();
        self.cable.drop_connections();
        self.cable.hold_answers(false);
        self.cable.allow(u64::MAX);
        match victim {
            Victim::Sender => a = Daemon::start(&self.site, "node", &[]),
            Victim::Receiver => b = self.start_b(),
        }
        a.wait_for("edge.set.done");
        assert!(self.in_inbox(), "{shown}");
        // Nothing that was durable came again. Of a pack that was cut off its whole segments are here too, uncounted.
        let stored = before + metric(&b, STORED);
        assert_eq!(metric(&b, DUPLICATE), 0, "{shown}: sent again");
        assert!(stored <= self.segments, "{shown}: {stored} of {} segments", self.segments);
        if point == Point::Bytes(self.greeting + 8) {
            assert_eq!((durable, stored), (0, self.segments), "{shown}");
        }
        let status = status_until(&self.site, "node", |status| status["deliveries"][0]["done"] == true);
        let rows = status["rows"].as_array().expect("rows");
        assert_eq!(status["truncated"], 0, "{shown}");
        let again = rows.iter().filter(|row| row["attempts"] != 1).count() as u64;
        assert!(rows.iter().all(|row| row["attempts"].as_u64() <= Some(2)), "{shown}: {rows:#?}");
        assert!(again <= 1 + self.segments - durable, "{shown}: {again} rows were begun again, {durable} were durable");
        self.site.world.run("reconcile --once --state-root b").exits(0);
        assert_eq!(
            self.site.world.read("b/current/manifest.json"),
            self.site.world.read("one/manifest.json"),
            "{shown}"
        );
    }

    /// The five points: before the first byte, within a pack, behind a durable pack, before the whole, behind it.
    fn points(&self) -> [Point; 5] {
        [
            Point::Bytes(self.greeting + 8),
            Point::Bytes(self.whole / 2),
            Point::Pack,
            Point::Bytes(self.whole - 4 * STEP),
            Point::Inbox,
        ]
    }
}

const STORED: &str = "autonomy_edge_segments_total{status=\"stored\"}";
const DUPLICATE: &str = "autonomy_edge_segments_total{status=\"duplicate\"}";

#[test]
fn fi_sender_killed_at_five_points_of_a_transfer_resends_nothing_that_was_durable() {
    let rig = Rig::new();
    for point in rig.points() {
        rig.kill(Victim::Sender, point);
    }
}

#[test]
fn fi_receiver_killed_at_five_points_of_a_transfer_is_resent_nothing_that_was_durable() {
    let rig = Rig::new();
    for point in rig.points() {
        rig.kill(Victim::Receiver, point);
    }
}

/// Anywhere, either side; `RELAY_SEED` gives the points of an earlier run.
#[test]
fn fi_either_side_killed_at_random_points_of_a_transfer() {
    let rig = Rig::new();
    let seed = std::env::var("RELAY_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("RELAY_SEED={seed}");
    let points = if std::env::var_os("AUTONOMY_SOAK").is_some() { RANDOM.1 } else { RANDOM.0 };
    for at in 0..points {
        let drawn = blake3::hash(format!("{seed} {at}").as_bytes());
        let drawn = u64::from_le_bytes(drawn.as_bytes()[..8].try_into().expect("eight"));
        let victim = if drawn & 1 == 0 { Victim::Sender } else { Victim::Receiver };
        rig.kill(victim, Point::Bytes((drawn >> 1) % (rig.whole - 4 * STEP)));
    }
}
