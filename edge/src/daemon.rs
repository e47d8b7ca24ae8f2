//! The daemon, from its first check to its end.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use autonomy_precheck::{Assurance, assurance, certificates, demands};
use autonomy_schema::finding::Severity;
use autonomy_schema::manifest::Durability;
use autonomy_schema::{Code, Reason, Reasons, Time};
use autonomy_stateroot::StateRoot;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::config::Settings;
use crate::control::Control;
use crate::driver::{Command, Driver, DriverError, Face, Tools};
use crate::ledger::Ledger;
use crate::storage::{Storage, Stores};
use crate::store::{Limits, Store};
use crate::wire::{Client, Metrics, Parts, Scrape, Server, Shed, Timeouts, Tls};

/// Threads that serve sockets.
const WORKERS: usize = 2;
/// Threads that read what is sent; one that waits for a slow peer holds its own.
pub(crate) const READERS: usize = 64;
/// How often the certificates' files are looked at.
const IDENTITY_PAUSE: Duration = Duration::from_secs(60);
/// Commands and peers that may wait.
const WAITING: usize = 16;

/// How it is started.
#[derive(Debug, Clone)]
pub struct Start {
    /// The node's state root.
    pub state_root: PathBuf,
    /// The root of the operating system.
    pub os_root: PathBuf,
    /// Where cgroup v2 is mounted.
    pub cgroup_root: PathBuf,
    /// Memory that it may use in bytes, where no cgroup limits it; 0 is unlimited.
    pub memory_limit: u64,
}

/// Runs until SIGTERM, SIGINT or `edgectl drain`.
pub fn run(start: &Start) -> Result<(), Reasons> {
    let root = StateRoot::open(&start.state_root)?;
    let settings = Settings::load(&root)?;
    let node = root.node()?;
    assure(&root, &start.cgroup_root)?;
    let started = now();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(READERS)
        .enable_all()
        .build()
        .map_err(|error| failed("start its threads", &error))?;
    // Before anything that takes its time: a signal that nobody hears ends the process.
    let (commands, asked) = mpsc::channel(WAITING);
    let heard = runtime.block_on(async { signals(&commands) });
    heard.map_err(|error| failed("hear signals", &error))?;
    let tls = Tls::open(root.clone())?;
    warn_of_ends(&root, started);
    let ledger = Ledger::open(&root).map_err(|error| error.to_reason())?;
    let limits = Limits {
        ceiling_bytes: settings.relay.storage.disk_ceiling_bytes,
        eviction_percent: settings.relay.storage.eviction_percent,
    };
    let store = Store::open(root.clone(), limits)?;
    let (storage, thread) =
        Storage::start(Stores { store, ledger }).map_err(|error| failed("start a thread", &error))?;
    let face = Face { node: node.node_id, started, listen: String::new(), metrics: String::new() };
    let served = runtime.block_on(serve(start, root, settings, tls, storage, face, (commands, asked)));
    // What waits for a peer is given up; what waits for the disk is done.
    runtime.shutdown_timeout(Duration::from_secs(1));
    join(thread);
    served
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!(event = "edge.storage.failed", "the storage thread ended with a panic");
    }
}

async fn serve(
    start: &Start,
    root: StateRoot,
    settings: Settings,
    tls: Tls,
    storage: Storage,
    mut face: Face,
    (commands, asked): (mpsc::Sender<Command>, mpsc::Receiver<Command>),
) -> Result<(), Reasons> {
    let metrics = Arc::new(Metrics::default());
    let (seen, connected) = mpsc::channel(WAITING);
    let arrived = Arc::new(Notify::new());
    let parts = Parts {
        tls: tls.clone(),
        storage: storage.clone(),
        metrics: Arc::clone(&metrics),
        quota: settings.relay.ingest_quota.clone(),
        shed: Shed::new(&start.os_root, start.memory_limit),
        timeouts: Timeouts::default(),
        seen,
        arrived: Arc::clone(&arrived),
    };
    let listening = |what: &str, error: &io::Error| {
        let reason = failed(&format!("listen on {what}"), error);
        Reasons::from(reason.with_remedy("choose a free address of this machine in `edge/local.toml`"))
    };
    let server = Server::bind(settings.listen, parts).await;
    let server = server.map_err(|error| listening(&settings.listen.to_string(), &error))?;
    let scrape = Scrape::bind(settings.metrics, Arc::clone(&metrics)).await;
    let scrape = scrape.map_err(|error| listening(&settings.metrics.to_string(), &error))?;
    let control = Control::bind(&start.state_root, storage.clone(), commands.clone());
    let control = control.map_err(|error| listening(crate::control::SOCKET, &error))?;
    face.listen = server.address().map_err(|error| failed("tell its address", &error))?.to_string();
    face.metrics = scrape.address().map_err(|error| failed("tell its address", &error))?.to_string();
    let steer = server.steer();
    tracing::info!(
        event = "edge.ready",
        node = %face.node,
        listen = face.listen,
        metrics = face.metrics,
        pid = std::process::id(),
        "peers are served"
    );
    let client = Client::new(tls.clone(), Arc::clone(&metrics), Timeouts::default());
    let tools = Tools { root, storage, client, tls: tls.clone(), steer, metrics, arrived, face };
    let driver = Driver::new(tools, settings);
    let others = [tokio::spawn(scrape.run()), tokio::spawn(control.run()), tokio::spawn(tls.follow(IDENTITY_PAUSE))];
    let serving = tokio::spawn(server.run());
    // On the threads that the sockets and timers wake, so that an idle second wakes one thread and not two.
    let driving = tokio::spawn(driver.run(asked, connected)).await;
    let result = driving.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
    if result.is_ok() {
        // Drained: what peers have begun ends, or has had its time.
        serving.await.ok();
    } else {
        serving.abort();
    }
    for other in others {
        other.abort();
    }
    std::fs::remove_file(start.state_root.join(crate::control::SOCKET)).ok();
    tracing::info!(event = "edge.ended", "no peer is served any more");
    result.map_err(|error| match error {
        DriverError::Ledger(error) => error.to_reason().into(),
        DriverError::Storage(error) => Reason::new(Code::IoError, error.to_string()).into(),
    })
}

/// SIGHUP reads everything again; SIGTERM and SIGINT drain.
fn signals(commands: &mpsc::Sender<Command>) -> io::Result<()> {
    for kind in [SignalKind::hangup(), SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signal = signal(kind)?;
        let commands = commands.clone();
        tokio::spawn(async move {
            while signal.recv().await.is_some() {
                let command = if kind == SignalKind::hangup() {
                    // The reload logs what it refuses.
                    Command::Reload(oneshot::channel().0)
                } else {
                    Command::Drain
                };
                if commands.send(command).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

/// INV-05: what was promised durable in time needs a platform that gives it.
fn assure(root: &StateRoot, cgroup_root: &Path) -> Result<(), Reasons> {
    let Assurance::Reduced(why) = assurance(cgroup_root) else { return Ok(()) };
    if demands(root).durability == Durability::High {
        tracing::error!(event = "edge.assurance.reduced", why, "high durability is refused");
        return Err(Reason::new(Code::AssuranceReduced, format!("high durability is refused: {why}")).into());
    }
    tracing::warn!(event = "edge.assurance.reduced", why, "high durability cannot be had here");
    Ok(())
}

/// A certificate that ends soon keeps nobody from serving; it is told.
fn warn_of_ends(root: &StateRoot, now: Time) {
    let Ok(node) = root.node() else { return };
    let window = demands(root).cert_expiry_window;
    for (severity, reason) in certificates(root, &node, now, window, true).findings {
        if severity != Severity::Info {
            tracing::warn!(event = "edge.identity.finding", code = %reason.code, message = reason.message, "a certificate needs care");
        }
    }
}

fn now() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Time::from_unix(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn failed(what: &str, error: &io::Error) -> Reason {
    Reason::new(Code::IoError, format!("cannot {what}: {error}"))
}
