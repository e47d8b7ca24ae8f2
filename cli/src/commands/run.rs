//! `autonomy run`: supervises the agent of the active generation where there is no systemd.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use autonomy_apply::{Silent, SystemRunner};
use autonomy_schema::{Code, Name, Reasons, set};
use autonomy_stateroot::StateRoot;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::Global;
use crate::failure::{Failure, exit};
use crate::watcher::report_recovery;
use crate::{node, ui};

/// How often the generation and the agent are looked at.
const POLL: Duration = Duration::from_millis(100);
/// How often what waits for a confirmation is looked at: there may be no timer where there is no systemd.
const EXPIRY_POLL: Duration = Duration::from_secs(1);
/// How long an agent may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);
/// First pause before an agent that ended is started again; doubled up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// An agent that ran this long starts again without a longer pause.
const STABLE: Duration = Duration::from_secs(60);

/// Supervise the active generation's agent: start it through `current`, start the new one when the generation
/// changes, return from a release that nobody confirms in time, pass signals on. SIGTERM and SIGINT end both.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args, global: &Global) -> Result<u8, Failure> {
    let (root, path) = node::state_root(global)?;
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2])
        .map_err(|error| Failure::because(Code::IoError, format!("cannot listen for signals: {error}")))?;
    let now = Instant::now();
    let expiry = Expiry { looked: now, refused: None };
    let runner = node::runner(global, &path);
    let mut supervisor = Supervisor { root, path, runner, agent: None, pause: FIRST_PAUSE, not_before: now, expiry };
    loop {
        for signal in signals.pending() {
            supervisor.pass_on(signal);
            if matches!(signal, SIGTERM | SIGINT | SIGQUIT) {
                supervisor.stop();
                return Ok(exit::DONE);
            }
        }
        supervisor.expire();
        supervisor.look()?;
        std::thread::sleep(POLL);
    }
}

struct Agent {
    generation: Name,
    child: Child,
    started: Instant,
}

struct Supervisor {
    root: StateRoot,
    path: PathBuf,
    runner: SystemRunner,
    agent: Option<Agent>,
    pause: Duration,
    not_before: Instant,
    expiry: Expiry,
}

/// The last look at what waits, and why it came to nothing.
struct Expiry {
    looked: Instant,
    refused: Option<Reasons>,
}

impl Supervisor {
    /// What `autonomy confirm --expire` does. A refusal is told once: the next look may find the lock free.
    fn expire(&mut self) {
        if self.expiry.looked.elapsed() < EXPIRY_POLL {
            return;
        }
        self.expiry.looked = Instant::now();
        let actor = node::actor("run", node::clock());
        match autonomy_reconciler::expire(&self.root, &actor, &self.runner, &mut Silent) {
            Ok(recovery) => {
                self.expiry.refused = None;
                report_recovery(&recovery);
            }
            // Somebody is at it.
            Err(reasons) if reasons.has(Code::Locked) => {}
            Err(reasons) if self.expiry.refused.as_ref() != Some(&reasons) => {
                say(&format!("cannot look at what waits for a confirmation: {reasons}"));
                self.expiry.refused = Some(reasons);
            }
            Err(_told_already) => {}
        }
    }

    /// One look: the right agent runs, or the pause before its next start does.
    fn look(&mut self) -> Result<(), Failure> {
        let current = self.root.current()?;
        if let Some(agent) = &mut self.agent {
            let ended = agent.child.try_wait();
            let ended = ended.map_err(|error| Failure::because(Code::IoError, format!("cannot wait: {error}")))?;
            if let Some(status) = ended {
                self.ended(status);
            } else if Some(&agent.generation) != current.as_ref() {
                say("the generation changed; the agent is replaced");
                self.stop();
                self.pause = FIRST_PAUSE;
                self.not_before = Instant::now();
            }
        }
        if self.agent.is_none()
            && Instant::now() >= self.not_before
            && let Some(generation) = current
        {
            self.start(generation)?;
        }
        Ok(())
    }

    fn ended(&mut self, status: ExitStatus) {
        let Some(agent) = self.agent.take() else { return };
        self.pause = if agent.started.elapsed() > STABLE { FIRST_PAUSE } else { (self.pause * 2).min(MAX_PAUSE) };
        self.not_before = Instant::now() + self.pause;
        say(&format!("the agent ended with {status}; it starts again in {} ms", self.pause.as_millis()));
    }

    fn start(&mut self, generation: Name) -> Result<(), Failure> {
        let program = agent_path(&self.root, &self.path, &generation)?;
        match Command::new(&program).spawn() {
            Ok(child) => {
                say(&format!("started the agent of {generation} as process {}", child.id()));
                self.agent = Some(Agent { generation, child, started: Instant::now() });
            }
            Err(error) => {
                self.pause = (self.pause * 2).min(MAX_PAUSE);
                self.not_before = Instant::now() + self.pause;
                say(&format!("cannot start {}: {error}", program.display()));
            }
        }
        Ok(())
    }

    fn pass_on(&self, signal: i32) {
        if let Some(agent) = &self.agent
            && let (Ok(pid), Ok(signal)) = (i32::try_from(agent.child.id()), Signal::try_from(signal))
        {
            // The agent may have ended a moment ago; the next look tells.
            kill(Pid::from_raw(pid), signal).ok();
        }
    }

    /// SIGTERM, a time of grace, SIGKILL.
    fn stop(&mut self) {
        self.pass_on(SIGTERM);
        let Some(mut agent) = self.agent.take() else { return };
        let asked = Instant::now();
        while asked.elapsed() < GRACE {
            if !matches!(agent.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(POLL);
        }
        say("the agent did not end in time and is killed");
        agent.child.kill().ok();
        agent.child.wait().ok();
    }
}

/// Where the artifact named `agent` lies, through `current`.
fn agent_path(root: &StateRoot, path: &Path, generation: &Name) -> Result<PathBuf, Failure> {
    let (manifest, _) = node::generation_manifest(root, generation)?;
    let agent = manifest.spec.artifacts.iter().find(|artifact| artifact.name.as_str() == "agent");
    let agent = agent.ok_or_else(|| {
        Failure::because(Code::SourceNotFound, format!("{generation} has no artifact named `agent` to run"))
    })?;
    Ok(path.join("current").join(set::ARTIFACTS).join(agent.path.as_str()))
}

fn say(text: &str) {
    ui::err(&ui::printable(&format!("autonomy run: {text}\n")));
}
