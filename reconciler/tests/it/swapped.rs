//! A set that is exchanged while it is applied: at every opening of its artifact, before, during and after the reading.
//! What lands in the generation are the bytes that were verified, or nothing does.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use autonomy_apply::Silent;
use autonomy_reconciler::{ApplyFailure, Approval, Options, Outcome};
use autonomy_schema::{Code, RelPath};
use autonomy_stateroot::{DirSet, SetSource, SourceError, SourceFile, StateRoot, layout, read_capped};

use crate::fixture::{Fleet, Recorder, Release, actor, options, state_root};

/// Longer than any buffer that a file is read with, so that there is a middle.
const BYTES: usize = 600_000;
/// The artifact that is exchanged, below the set.
const ARTIFACT: &str = "artifacts/agent";
/// More openings than an apply makes.
const MOST: usize = 6;

/// How the file becomes another one.
#[derive(Debug, Clone, Copy)]
enum How {
    /// Another file is renamed over it; who has it open still reads the old one.
    Rename,
    /// It is written over in place; who has it open reads the new bytes.
    Overwrite,
    /// A symbolic link to the evil bytes takes its place.
    Link,
}

/// When, seen from one opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Before,
    AfterOpening,
    HalfRead,
    AfterReading,
}

/// A set whose artifact is exchanged at its n-th opening.
struct Swapping {
    inner: DirSet,
    attacker: Arc<Attacker>,
    when: When,
    at: usize,
    opened: AtomicUsize,
}

/// Who does it, once.
struct Attacker {
    artifact: PathBuf,
    evil: PathBuf,
    how: How,
}

impl Attacker {
    fn strike(&self) {
        let struck = match self.how {
            How::Rename => std::fs::rename(&self.evil, &self.artifact),
            How::Overwrite => std::fs::read(&self.evil).and_then(|evil| std::fs::write(&self.artifact, evil)),
            How::Link => std::fs::remove_file(&self.artifact)
                .and_then(|()| std::os::unix::fs::symlink(&self.evil, &self.artifact)),
        };
        struck.expect("the attacker may write to the medium");
    }
}

/// Reads at most a little at once, and lets the attacker strike in between.
struct Reading {
    inner: Box<dyn Read + Send>,
    attacker: Option<Arc<Attacker>>,
    when: When,
    read: usize,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let some = buffer.len().min(BYTES / 3);
        let count = self.inner.read(&mut buffer[..some])?;
        self.read += count;
        let due = match self.when {
            When::HalfRead => self.read > BYTES / 2,
            When::AfterReading => count == 0,
            When::Before | When::AfterOpening => false,
        };
        if due && let Some(attacker) = self.attacker.take() {
            attacker.strike();
        }
        Ok(count)
    }
}

impl SetSource for Swapping {
    fn list(&self) -> Result<Vec<SourceFile>, SourceError> {
        self.inner.list()
    }

    fn open(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, SourceError> {
        if path.as_str() != ARTIFACT || self.opened.fetch_add(1, Ordering::Relaxed) + 1 != self.at {
            return self.inner.open(path);
        }
        if self.when == When::Before {
            self.attacker.strike();
        }
        let inner = self.inner.open(path)?;
        if self.when == When::AfterOpening {
            self.attacker.strike();
        }
        Ok(Box::new(Reading { inner, attacker: Some(Arc::clone(&self.attacker)), when: self.when, read: 0 }))
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

fn apply(root: &StateRoot, source: &dyn SetSource, options: &Options<'_>) -> Result<Outcome, ApplyFailure> {
    let (actor, runner, mut silent) = (actor(), Recorder::default(), Silent);
    autonomy_reconciler::recover_unfinished(root, &actor, &runner, &mut silent)?;
    let prepared = autonomy_reconciler::prepare(root, source, options)?;
    let approval = Approval {
        prepared,
        saved: None,
        stage_only: false,
        now_anyway: false,
        actor: &actor,
        runner: &runner,
        observer: &mut silent,
    };
    autonomy_reconciler::apply(root, source, approval, options)
}

/// What the active generation has as its agent.
fn active_agent(root: &StateRoot) -> Vec<u8> {
    let current = root.current().expect("current").expect("active");
    let path = layout::generation(&current).join(&RelPath::fixed(ARTIFACT));
    read_capped(root.disk(), &path, BYTES as u64).expect("reads").expect("is there")
}

/// What a refusal must leave as it was: the store, the generations, the journal, the floors.
fn trace(root: &StateRoot) -> ([Vec<String>; 2], [Option<Vec<u8>>; 2]) {
    let names = |folder: &RelPath| {
        let entries = root.disk().list(Some(folder)).expect("folder");
        entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>()
    };
    let bytes = |path: &RelPath| read_capped(root.disk(), path, 1 << 20).expect("reads");
    let lists = [names(&layout::objects()), names(&layout::generations())];
    (lists, [bytes(&layout::journal()), bytes(&layout::floors())])
}

/// Applies a release whose agent is exchanged; gives how often the agent was opened, and whether it was refused.
fn attack(fleet: &Fleet, folder: &Path, swap: (How, When, usize), running: bool) -> (usize, bool) {
    let (how, when, at) = swap;
    let (good, evil) = ("good".repeat(BYTES / 4), "evil".repeat(BYTES / 4));
    let set = folder.join("set");
    let files = [("agent", good.as_str()), ("zzz", "placed after the agent")];
    let inner = fleet.release(&set, &Release { serial: 2, files: &files, extra: "", channel: "stable" });
    std::fs::write(folder.join("evil"), &evil).expect("writes");
    let disk = fleet.node();
    let root = state_root(&disk);
    if running {
        let first = [("aaa", "before"), ("agent", "first")];
        let first = Release { serial: 1, files: &first, extra: "", channel: "stable" };
        apply(&root, &fleet.release(&folder.join("first"), &first), &options()).expect("first");
    }
    let attacker = Arc::new(Attacker { artifact: set.join(ARTIFACT), evil: folder.join("evil"), how });
    let source = Swapping { inner, attacker, when, at, opened: AtomicUsize::new(0) };
    let before = trace(&root);
    let result = apply(&root, &source, &options());
    let opened = source.opened.load(Ordering::Relaxed);
    let refused = result.is_err();
    match result {
        Ok(_) => assert!(active_agent(&root) == good.as_bytes(), "{swap:?}: evil bytes are active"),
        Err(failure) => {
            let expected = [Code::DigestMismatch, Code::SizeMismatch, Code::SymlinkRefused, Code::StalePlan];
            let fits = failure.reasons.as_slice().iter().all(|reason| expected.contains(&reason.code));
            assert!(fits, "{swap:?}: {}", failure.reasons);
            assert!(trace(&root) == before, "{swap:?}: the refusal left a trace");
        }
    }
    (opened, refused)
}

#[test]
fn an_artifact_that_is_exchanged_at_any_moment_never_becomes_active() {
    let fleet = Fleet::new();
    let (mut refused, mut accepted, mut most) = (0, 0, 0);
    for how in [How::Rename, How::Overwrite, How::Link] {
        for when in [When::Before, When::AfterOpening, When::HalfRead, When::AfterReading] {
            for at in 1..=MOST {
                let folder = tempfile::tempdir().expect("folder");
                let (opened, was_refused) = attack(&fleet, folder.path(), (how, when, at), at % 2 == 0);
                most = most.max(opened);
                *(if was_refused { &mut refused } else { &mut accepted }) += 1;
            }
        }
    }
    // Both happen: a test in which every apply is refused, or none, proves nothing.
    assert!(refused > 12 && accepted > 12, "{refused} refused, {accepted} accepted");
    // Once to be checked, and once to be used.
    assert!((2..MOST).contains(&most), "the artifact was opened {most} times");
}
