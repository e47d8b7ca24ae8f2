//! The runtime, from its first look at the state root to its end.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use autonomy_policy::STACK_BYTES;
use autonomy_schema::{Code, Reason, Reasons};
use autonomy_stateroot::StateRoot;
use autonomy_telemetry::{Priority, Record};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::active::{Demand, Order, Status, Watcher};
use crate::interceptor::{Interceptor, Parts, clock};
use crate::log::Log;
use crate::metrics::Metrics;
use crate::redact::Redact;
use crate::server::{App, Listen, MAX_CALLS, Server, TlsFiles, Token, acceptor, router};
use crate::tools::Tools;

/// Threads that serve sockets.
const SERVERS: usize = 2;

/// How it is started.
#[derive(Debug)]
pub struct Start {
    /// The node's state root.
    pub root: StateRoot,
    /// What must be there.
    pub demand: Demand,
    /// Where to listen.
    pub listen: Listen,
    /// TLS, where it is wanted.
    pub tls: Option<TlsFiles>,
    /// What callers must show.
    pub token: Option<Token>,
    /// The tools.
    pub tools: Tools,
    /// Names of parameters that are not recorded, besides those that never are.
    pub redact: Vec<String>,
    /// Calls per second.
    pub rate: u32,
}

/// Serves until SIGTERM or SIGINT; `ready` is told where it listens once it does.
pub fn start(start: Start, ready: &dyn Fn(&str)) -> Result<(), Reasons> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(SERVERS)
        .max_blocking_threads(MAX_CALLS)
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| failed("start its threads", &error))?;
    let tls = start.tls.as_ref().map(acceptor).transpose()?;
    let metrics = Arc::new(Metrics::default());
    let parts = Parts {
        log: Log::open(&start.root)?,
        redact: Redact::new(&start.redact),
        kinds: Box::new(Tools::knows),
        metrics: Arc::clone(&metrics),
    };
    let interceptor = Interceptor::start(parts).map_err(|error| failed("start its threads", &error))?;
    let status = Status::default();
    let watcher =
        Watcher::new((start.root, start.demand), (Arc::clone(&interceptor), Arc::clone(&metrics)), status.clone());
    let served = watch_active(watcher).and_then(|(orders, thread)| {
        let app =
            App::new((Arc::clone(&interceptor), Arc::new(start.tools)), (metrics, status), start.token, start.rate);
        let served = runtime.block_on(serve((&start.listen, tls), app, (&interceptor, orders.clone()), ready));
        // A watcher that ended by itself has nobody to tell.
        orders.send(Order::End).ok();
        if thread.join().is_err() {
            tracing::error!(event = "runtime.watcher.failed", "the watcher ended with a panic");
        }
        served
    });
    // Tools that still run have had their time.
    runtime.shutdown_timeout(Duration::from_secs(1));
    interceptor.close();
    served
}

fn failed(what: &str, error: &io::Error) -> Reason {
    Reason::new(Code::IoError, format!("the runtime cannot {what}: {error}"))
}

/// Starts to follow what is active, and waits for the first look.
fn watch_active(watcher: Watcher) -> Result<(Sender<Order>, JoinHandle<()>), Reasons> {
    let (orders, asked) = mpsc::channel();
    let (first, begun) = mpsc::sync_channel(1);
    let builder = thread::Builder::new().name("active".to_owned()).stack_size(STACK_BYTES);
    let thread =
        builder.spawn(move || watcher.run(&asked, &first)).map_err(|error| failed("start its threads", &error))?;
    let lost = |_lost| Reasons::from(Reason::new(Code::PolicyError, "the policy could not be compiled"));
    begun.recv().map_err(lost)??;
    Ok((orders, thread))
}

async fn serve(
    (listen, tls): (&Listen, Option<TlsAcceptor>),
    app: App,
    (interceptor, orders): (&Interceptor, Sender<Order>),
    ready: &dyn Fn(&str),
) -> Result<(), Reasons> {
    let (drain, draining) = watch::channel(false);
    signals(drain, orders).map_err(|error| failed("hear signals", &error))?;
    let listening = |error: &io::Error| match listen {
        Listen::Tcp(address) => failed(&format!("listen on {address}"), error),
        Listen::Unix(path) => failed(&format!("listen on {}", path.display()), error),
    };
    let server = Server::bind(listen, tls, router(Arc::new(app)), draining).await.map_err(|error| listening(&error))?;
    let at = server.at().map_err(|error| listening(&error))?;
    note(interceptor, "runtime.started", &at);
    ready(&at);
    server.run().await;
    note(interceptor, "runtime.ended", &at);
    Ok(())
}

fn note(interceptor: &Interceptor, kind: &str, listen: &str) {
    let body = json!({ "listen": listen, "pid": std::process::id() });
    interceptor.note(Record { kind: kind.to_owned(), priority: Priority::Lifecycle, time: clock(), body });
}

/// SIGHUP looks again; SIGTERM and SIGINT drain.
fn signals(drain: watch::Sender<bool>, orders: Sender<Order>) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = hangup.recv() => orders.send(Order::Look).unwrap_or_default(),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        drain.send_replace(true);
    });
    Ok(())
}
