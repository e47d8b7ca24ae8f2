//! Drives the machine: sockets, disk and clock become its inputs, and its outputs are carried out.
//!
//! One task owns the machine. Whatever waits for the network runs in tasks of its own and comes back as news; whatever
//! waits for the disk goes through the storage thread. What one round records is durable before anything else of that round
//! is done; rounds that wait share one commit.

mod calls;
mod custody;
mod receipts;
mod round;
pub mod source;
mod stall;
mod tell;
mod watch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use autonomy_relay::{Config, Input, Machine, PeerQuota, Row, RowKey};
use autonomy_schema::relay::Relay;
use autonomy_schema::{Blake3, Name, Reasons, Time};
use autonomy_stateroot::StateRoot;
use autonomy_stateroot::gc::RelayPins;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use crate::config::Settings;
use crate::ledger::LedgerError;
use crate::status::Status;
use crate::storage::{Storage, StorageGone};
use crate::store::{Limits, StoreError};
use crate::wire::{Client, Connection, Metrics, Steer, Tls};
use custody::{Inquiry, Learnt};
use source::{At, Place, Source, Wants};
use stall::Stall;

/// How often outbox and active generation are looked at; sets in transit with them when one came, and every fifth time.
const LOOK: Duration = Duration::from_secs(1);
/// How long calls may go on when the daemon ends.
const DRAIN: Duration = Duration::from_secs(30);
/// Ticks that no daemon lives to see.
const FOR_EVER: u64 = 1 << 52;
/// News that may wait. Tasks that have some then wait too.
const WAITING: usize = 64;
/// Bodies that are read from the disk for peers at once. Each holds one of the threads that read, and some are left over
/// for everything else.
const BODIES: usize = crate::daemon::READERS / 4 * 3;

/// Why the daemon cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The storage thread ended.
    #[error(transparent)]
    Storage(#[from] StorageGone),
    /// What must be durable before anything is sent cannot be made so.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What the driver works with.
#[derive(Debug)]
pub struct Tools {
    /// The state root.
    pub root: StateRoot,
    /// The storage thread.
    pub storage: Storage,
    /// The calling end.
    pub client: Client,
    /// The certificates.
    pub tls: Tls,
    /// The listening end.
    pub steer: Steer,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Told when a set was received that may have to be sent on.
    pub arrived: Arc<Notify>,
    /// Who this is, and where it is reached.
    pub face: Face,
}

/// What the status says of the process.
#[derive(Debug, Clone)]
pub struct Face {
    /// The node.
    pub node: Name,
    /// When the process began.
    pub started: Time,
    /// Where peers connect to.
    pub listen: String,
    /// Where metrics are read.
    pub metrics: String,
}

/// What people and signals ask for.
#[derive(Debug)]
pub enum Command {
    /// Read certificates and configuration again.
    Reload(oneshot::Sender<Result<(), Reasons>>),
    /// Tell how things stand.
    Status(oneshot::Sender<Result<Status, Reasons>>),
    /// Take no new work, and end.
    Drain,
}

/// What came of a task.
#[derive(Debug)]
enum News {
    /// Mutual TLS stands, and the health was read.
    Connected { peer: Name, connection: Arc<Connection>, quota: PeerQuota },
    /// Something that the machine takes as it is. `link` is the connection that it is about.
    Input { link: Option<u64>, input: Input },
    /// A peer told what it has of a set.
    Answered { link: u64, peer: Name, manifest: Blake3, wants: Wants, more: bool, stored: bool },
    /// A peer was asked who else has a set.
    Learnt { peer: Name, manifest: Blake3, learnt: Learnt },
}

/// A connection that stands.
#[derive(Debug)]
struct Link {
    number: u64,
    connection: Arc<Connection>,
    /// Dropped with the link: whoever watches the connection lets go of it.
    _watched: oneshot::Sender<()>,
}

/// A peer that sets are sent to.
#[derive(Debug)]
struct Peer {
    address: String,
    link: Option<Link>,
    paused_until: u64,
    allowed: u64,
    last_error: Option<String>,
    /// Bytes that went to it in all: documents, packs, and answers.
    sent: u64,
    /// Tick and `sent`, once a second, the last ten.
    samples: VecDeque<(u64, u64)>,
}

/// A set that may be sent.
struct Known {
    at: At,
    stream: Name,
    serial: u64,
    expires: Time,
    /// It is the newest of its stream, and is sent.
    source: Option<Arc<Source>>,
    /// Peers that have it, and when each is asked who else has.
    delivered: BTreeMap<Name, Inquiry>,
}

/// The driver.
pub struct Driver {
    tools: Tools,
    settings: Settings,
    machine: Machine,
    begun: Instant,
    peers: BTreeMap<Name, Peer>,
    sets: BTreeMap<Blake3, Known>,
    /// Sets that lie where they should and cannot be read, so that it is told once.
    unreadable: BTreeMap<Blake3, At>,
    places: BTreeMap<(Blake3, Name), Arc<BTreeMap<Blake3, Place>>>,
    links: u64,
    day: u64,
    /// Whose configuration was read last, whether or not it was taken.
    looked_at: Option<Name>,
    pins: Option<RelayPins>,
    unrelayed: BTreeSet<Blake3>,
    has_changed: bool,
    /// The active generation and the outbox, as they were last.
    glance: Option<(Option<Name>, Option<BTreeSet<Blake3>>)>,
    looks: u32,
    /// No new work; and when what is under way is given up.
    draining: Option<Instant>,
    /// Rows of sets that went while nobody ran were looked for.
    is_tidy: bool,
    /// When the status may be published next: the more there is of it, the less often.
    publish_from: Instant,
    /// The ledger cannot be written: what waits for it.
    stall: Option<Stall>,
    /// Every call to a peer holds one.
    calls: Arc<()>,
    /// And every body that is read for one holds one of these.
    bodies: Arc<Semaphore>,
    news: mpsc::Sender<News>,
    told: mpsc::Receiver<News>,
}

impl Driver {
    /// With the configuration in force.
    pub fn new(tools: Tools, settings: Settings) -> Self {
        let (news, told) = mpsc::channel(WAITING);
        let settings_generation = settings.generation.clone();
        Self {
            tools,
            settings,
            machine: Machine::new(),
            begun: Instant::now(),
            peers: BTreeMap::new(),
            sets: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            places: BTreeMap::new(),
            links: 0,
            day: 0,
            looked_at: settings_generation,
            pins: None,
            unrelayed: BTreeSet::new(),
            has_changed: true,
            glance: None,
            looks: 0,
            draining: None,
            is_tidy: false,
            publish_from: Instant::now(),
            stall: None,
            calls: Arc::new(()),
            bodies: Arc::new(Semaphore::new(BODIES)),
            news,
            told,
        }
    }

    /// Runs until it is drained, or cannot go on.
    pub async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut seen: mpsc::Receiver<Name>,
    ) -> Result<(), DriverError> {
        self.configure().await?;
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let arrived = Arc::clone(&self.tools.arrived);
        loop {
            // While the ledger cannot be written, nothing new is begun, and what comes waits where it is.
            let goes_on = self.stall.is_none();
            let due = self.machine.next_due().filter(|_| goes_on);
            let pause = due.map(|due| Duration::from_millis(due.saturating_sub(self.now()).max(1)));
            let wake = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(news) = self.told.recv(), if goes_on => self.take_news(news).await?,
                Some(peer) = seen.recv(), if goes_on => self.take(vec![Input::Seen { peer }]).await?,
                Some(command) = commands.recv() => self.command(command).await?,
                _ = look.tick() => {
                    self.inquire();
                    self.look().await?;
                }
                () = arrived.notified() => {
                    self.has_changed = true;
                    self.look().await?;
                }
                () = wake => self.take(vec![Input::Tick]).await?,
            }
            if self.draining.is_some_and(|until| until <= Instant::now() || Arc::strong_count(&self.calls) == 1) {
                while let Ok(news) = self.told.try_recv() {
                    self.take_news(news).await?;
                }
                return self.publish().await;
            }
        }
    }

    /// Ticks: milliseconds since the start.
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn command(&mut self, command: Command) -> Result<(), DriverError> {
        match command {
            Command::Reload(answer) => {
                let result = self.reload().await?;
                // Nobody waits for the answer of a signal.
                answer.send(result).ok();
            }
            Command::Status(answer) => {
                let status = self.status().await?;
                answer.send(status.map_err(|error| error.to_reason().into())).ok();
            }
            Command::Drain if self.draining.is_some() => {}
            Command::Drain => {
                tracing::info!(event = "edge.draining", "no new work; what is under way ends");
                self.draining = Some(Instant::now() + DRAIN);
                self.tools.steer.drain();
                // What is under way is recorded when it ends, and nothing follows it.
                let pause = |peer: &Name| Input::Throttled { peer: peer.clone(), ticks: FOR_EVER };
                self.take(self.peers.keys().map(pause).collect()).await?;
            }
        }
        Ok(())
    }

    /// Reads certificates and configuration again. What is wrong with either changes nothing, and is told.
    async fn reload(&mut self) -> Result<Result<(), Reasons>, DriverError> {
        let root = self.tools.root.clone();
        let loaded = self.tools.storage.call(move |_| Settings::load(&root)).await?;
        let mut refusals = Vec::new();
        match loaded {
            Ok(settings) => {
                if settings != self.settings {
                    let moved = settings.listen != self.settings.listen || settings.metrics != self.settings.metrics;
                    if moved {
                        tracing::warn!(
                            event = "edge.config.restart_needed",
                            "another address is used from the next start on"
                        );
                    }
                    self.settings = settings;
                    self.configure().await?;
                    tracing::info!(event = "edge.config.reloaded", "the new configuration is in force");
                }
            }
            Err(reasons) => {
                tracing::error!(
                    event = "edge.config.refused",
                    reasons = reasons.one_line(),
                    "the old configuration stays"
                );
                refusals.extend(reasons.into_vec());
            }
        }
        let tls = self.tools.tls.clone();
        // It logs what it refuses.
        if let Err(reasons) = self.tools.storage.call(move |_| tls.reload()).await? {
            refusals.extend(reasons.into_vec());
        }
        Ok(Reasons::check(refusals))
    }

    /// Puts the configuration in force.
    async fn configure(&mut self) -> Result<(), DriverError> {
        let relay = self.settings.relay.clone();
        let limits = Limits {
            ceiling_bytes: relay.storage.disk_ceiling_bytes,
            eviction_percent: relay.storage.eviction_percent,
        };
        self.tools.metrics.ceiling_bytes.set(i64::try_from(limits.ceiling_bytes).unwrap_or(i64::MAX));
        self.tools.storage.call(move |stores| stores.store.set_limits(limits)).await?;
        self.tools.steer.set_quota(relay.ingest_quota.clone());
        let own = self.tools.face.node.clone();
        // A manifest is for many nodes, and may name this one among its peers.
        let peers: Vec<&autonomy_schema::relay::Peer> = relay.peers.iter().filter(|peer| peer.id != own).collect();
        let mut inputs = Vec::new();
        self.peers.retain(|id, known| {
            let stays = peers.iter().any(|peer| peer.id == *id && peer.address == known.address);
            if !stays && known.link.is_some() {
                // Whoever watched the connection is let go of with it, so nobody else tells.
                inputs.push(Input::Lost { peer: id.clone(), error: MOVED.to_owned() });
            }
            stays
        });
        for peer in peers {
            self.peers.entry(peer.id.clone()).or_insert_with(|| Peer::at(peer.address.clone()));
        }
        let config = config(&relay, self.peers.keys().cloned().collect());
        self.has_changed = true;
        inputs.push(Input::Configure(config));
        self.take(inputs).await
    }

    /// News of a task.
    async fn take_news(&mut self, first: News) -> Result<(), DriverError> {
        let mut inputs = Vec::new();
        let mut next = Some(first);
        while let Some(news) = next {
            match news {
                News::Connected { peer, connection, quota } => inputs.extend(self.connected(peer, connection, quota)),
                News::Learnt { peer, manifest, learnt } => self.learnt(&peer, manifest, learnt),
                News::Input { link, input } => {
                    if self.is_current(&input, link) {
                        self.note(&input);
                        inputs.push(input);
                    }
                }
                News::Answered { link, peer, manifest, wants, more, stored } => {
                    if self.link(&peer).is_none_or(|current| current.number != link) {
                        next = self.told.try_recv().ok();
                        continue;
                    }
                    // What is known of these rows is in the ledger, once everything before is recorded.
                    self.take(std::mem::take(&mut inputs)).await?;
                    let known = match self.known_rows(&peer, manifest, &wants).await? {
                        Ok(known) if self.stall.is_none() => known,
                        known => {
                            let news = News::Answered { link, peer, manifest, wants, more, stored };
                            return self.stall_news(news, known.err());
                        }
                    };
                    self.places.insert((manifest, peer.clone()), Arc::new(wants.places));
                    inputs.push(Input::Restore(known));
                    inputs.push(Input::Answered { peer, manifest, wanted: wants.wanted, more, stored });
                }
            }
            next = self.told.try_recv().ok();
        }
        self.take(inputs).await
    }

    /// Whether news are about a connection that still stands.
    fn is_current(&self, input: &Input, link: Option<u64>) -> bool {
        let Some(link) = link else { return true };
        peer_of(input).and_then(|peer| self.link(peer)).is_some_and(|current| current.number == link)
    }

    fn link(&self, peer: &Name) -> Option<&Link> {
        self.peers.get(peer)?.link.as_ref()
    }

    /// A connection stands; it is watched until it ends or is let go of.
    fn connected(&mut self, peer: Name, connection: Arc<Connection>, quota: PeerQuota) -> Vec<Input> {
        let Some(known) = self.peers.get_mut(&peer) else { return Vec::new() };
        self.links += 1;
        let number = self.links;
        let (watched, let_go) = oneshot::channel::<()>();
        let link = Link { number, connection: Arc::clone(&connection), _watched: watched };
        let replaced = known.link.replace(link);
        known.allowed = quota.bytes_per_second;
        known.last_error = None;
        tracing::info!(event = "edge.peer.connected", %peer, "a connection stands");
        let (news, of) = (self.news.clone(), peer.clone());
        tokio::spawn(async move {
            tokio::select! {
                error = connection.closed() => {
                    let input = Input::Lost { peer: of, error };
                    // Without the driver nobody is interested.
                    news.send(News::Input { link: Some(number), input }).await.ok();
                }
                _ = let_go => {}
            }
        });
        let lost = replaced.map(|_link| Input::Lost { peer: peer.clone(), error: MOVED.to_owned() });
        lost.into_iter().chain([Input::Reached { peer, quota }]).collect()
    }

    /// Keeps what the status tells of an input.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others tell nothing of a peer")]
    fn note(&mut self, input: &Input) {
        let now = self.now();
        let Some(known) = peer_of(input).and_then(|peer| self.peers.get_mut(peer)) else { return };
        match input {
            Input::Unreachable { peer, error } => {
                tracing::info!(event = "edge.peer.unreachable", %peer, %error, "no connection");
                known.last_error = Some(error.clone());
            }
            Input::Lost { peer, error } => {
                tracing::warn!(event = "edge.peer.lost", %peer, %error, "the connection ended");
                known.last_error = Some(error.clone());
                known.link = None;
            }
            Input::Throttled { peer, ticks } => {
                tracing::warn!(event = "edge.quota.exceeded", %peer, ticks, "the peer asks for a pause");
                known.paused_until = now.saturating_add(*ticks);
            }
            _ => {}
        }
    }

    /// Rows of the ledger for segments that a peer wants.
    async fn known_rows(
        &self,
        peer: &Name,
        manifest: Blake3,
        wants: &Wants,
    ) -> Result<Result<Vec<(RowKey, Row)>, LedgerError>, DriverError> {
        let (peer, ids) = (peer.clone(), wants.wanted.iter().map(|wanted| wanted.id).collect::<Vec<_>>());
        Ok(self.tools.storage.call(move |stores| stores.ledger.known(manifest, &peer, &ids)).await?)
    }
}

impl Peer {
    fn at(address: String) -> Self {
        Self { address, link: None, paused_until: 0, allowed: 0, last_error: None, sent: 0, samples: VecDeque::new() }
    }
}

/// The configuration in the words of the machine.
fn config(relay: &Relay, peers: Vec<Name>) -> Config {
    Config {
        success: relay.success_condition,
        max_attempts: relay.max_retry_count,
        backoff: relay.backoff_base.millis(),
        window: relay.window.millis(),
        peers,
        bytes_per_second: relay.bandwidth.bytes_per_second,
        daily_bytes: relay.bandwidth.daily_quota_bytes,
    }
}

/// The peer that an input is about.
fn peer_of(input: &Input) -> Option<&Name> {
    match input {
        Input::Reached { peer, .. }
        | Input::Unreachable { peer, .. }
        | Input::Seen { peer }
        | Input::Lost { peer, .. }
        | Input::Answered { peer, .. }
        | Input::OfferFailed { peer, .. }
        | Input::AskFailed { peer, .. }
        | Input::PackDone { peer, .. }
        | Input::PackFailed { peer, .. }
        | Input::Throttled { peer, .. } => Some(peer),
        Input::Configure(_)
        | Input::Deliver(_)
        | Input::Withdraw(_)
        | Input::Restore(_)
        | Input::SentToday(_)
        | Input::Tick => None,
    }
}

/// A connection gave way to another one, or to another address.
const MOVED: &str = "the connection was replaced";

/// What the store says of its disk, told once here.
fn complain(what: &'static str, error: StoreError) {
    tracing::error!(event = "edge.store.failed", reasons = error.into_reasons().one_line(), what);
}
