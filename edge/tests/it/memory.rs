//! Bounded memory (INV-07), of the daemon as a process.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use autonomy_edge::store::SetState;
use autonomy_edge::wire::{Client, Connection, Metrics, Timeouts, Tls};

use crate::wire::{offer, send};
use crate::world::{Machine, World, name, write};

const PEERS: usize = 64;
const MIB: usize = 1 << 20;
/// What a pack of the tests holds at most: 8 MiB with heads.
const PACK: usize = 7 * MIB;

struct Daemon {
    child: Child,
    address: String,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Daemon {
    fn start(machine: &Machine) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_edged"))
            .args(["run", "--state-root"])
            .arg(&machine.path)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
        let ready = lines.by_ref().map_while(Result::ok).find(|line| line.contains("edge.ready")).expect("ready");
        // Nobody reads the rest, but the pipe must not fill up.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let ready: serde_json::Value = serde_json::from_str(&ready).expect("JSON");
        let find = |value: &serde_json::Value| value["listen"].as_str().map(str::to_owned);
        let address = find(&ready).or_else(|| find(&ready["fields"])).expect("address");
        Self { child, address }
    }

    /// The most resident memory that it ever had, in bytes.
    fn peak(&self) -> usize {
        let status = std::fs::read_to_string(Path::new("/proc").join(self.child.id().to_string()).join("status"));
        let status = status.expect("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("number") << 10
    }

    async fn called_by(&self, machine: &Machine) -> Connection {
        let tls = Tls::open(machine.root()).expect("certificates");
        let client = Client::new(tls, Arc::new(Metrics::default()), Timeouts::default());
        client.connect(&name("node-b"), &self.address).await.expect("connects")
    }
}

/// A node without a generation: its quota for each peer is 10 MiB a second, and 64 MiB at once.
fn receiver(world: &World) -> Machine {
    let machine = world.machine("node-b");
    write(&machine.path.join("edge/local.toml"), b"listen = \"127.0.0.1:0\"\nmetrics = \"127.0.0.1:0\"\n");
    machine
}

/// Packs of `segments`, the first of them at `from`, all of them once.
async fn push(connection: &Connection, segments: &[Vec<u8>], from: usize) {
    let order: Vec<&[u8]> = segments[from..].iter().chain(&segments[..from]).map(Vec::as_slice).collect();
    let mut rest = &order[..];
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |segment: &&&[u8]| {
            bytes += segment.len();
            bytes <= PACK
        };
        let count = rest.iter().take_while(fits).count();
        let (pack, behind) = rest.split_at(count);
        rest = behind;
        let taken = send(connection, pack).await.expect("is taken");
        assert!(taken.iter().all(|(_, taken)| taken.is_ok()), "{taken:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_peers_push_64_mib_each_at_once_into_less_than_96_mib() {
    let world = World::new();
    let daemon = Daemon::start(&receiver(&world));
    let set = Arc::new(world.set(1, 63 * MIB));
    let mut peers = Vec::new();
    for number in 0..PEERS {
        let machine = world.machine(&format!("peer-{number}"));
        peers.push(daemon.called_by(&machine).await);
    }
    offer(&peers[0], &set).await.expect("accepted");
    let before = daemon.peak();
    let tasks: Vec<_> = peers
        .into_iter()
        .enumerate()
        .map(|(number, connection)| {
            let set = Arc::clone(&set);
            // Each begins elsewhere, so that all of them bring what is new for a while.
            let from = number * set.segments.len() / PEERS;
            tokio::spawn(async move { push(&connection, &set.segments, from).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("pushes");
    }
    let peak = daemon.peak();
    println!("{before} bytes before, {peak} at most");
    assert!(peak < 96 * MIB, "{peak} bytes, {before} before");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_the_payload() {
    let mut peaks = Vec::new();
    for mib in [16, 256] {
        let world = World::new();
        let daemon = Daemon::start(&receiver(&world));
        let set = world.set(1, mib * MIB);
        // One after the other: the quota of each is 64 MiB at once.
        let mut stored = false;
        for (number, part) in set.segments.chunks(48 * MIB / (16 << 10)).enumerate() {
            let connection = daemon.called_by(&world.machine(&format!("peer-{number}"))).await;
            offer(&connection, &set).await.expect("accepted");
            push(&connection, part, 0).await;
            let told = connection.ask(set.fingerprint).await.expect("asks").expect("known");
            stored = told.state == SetState::Stored;
        }
        assert!(stored, "all of it was pushed");
        peaks.push(daemon.peak());
    }
    println!("{peaks:?}");
    // 15,000 more segments are named, at 32 bytes each in memory, and a bit each says which of them are here.
    assert!(peaks[1] < peaks[0] + 8 * MIB, "{peaks:?}");
}
