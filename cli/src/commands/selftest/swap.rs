//! The race between check and use, won by the attacker every time: the kernel tells when the verb opens a file, and
//! another one is in its place before the verb looks again.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use rustix::fs::inotify;

/// Room for one event with the longest name.
const EVENT_BYTES: usize = 512;

/// An attacker that lies in wait.
pub(super) struct Ambush {
    path: PathBuf,
    swapped: JoinHandle<io::Result<()>>,
}

impl Ambush {
    /// Puts `with` in the place of `path` as soon as somebody opens `path`.
    pub(super) fn lay(path: PathBuf, with: PathBuf) -> io::Result<Self> {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
        inotify::add_watch(&watch, &path, inotify::WatchFlags::OPEN | inotify::WatchFlags::ONESHOT)?;
        let target = path.clone();
        let swapped = std::thread::spawn(move || {
            let mut buffer = [MaybeUninit::uninit(); EVENT_BYTES];
            inotify::Reader::new(&watch, &mut buffer).next()?;
            fs::rename(with, target)
        });
        Ok(Self { path, swapped })
    }

    /// Ends the ambush; an error when nobody walked into it.
    pub(super) fn lift(self) -> io::Result<()> {
        let walked_in = self.swapped.is_finished();
        // Wakes the attacker, if it still waits.
        open(&self.path)?;
        let swapped = self.swapped.join().unwrap_or_else(|_panicked| Err(io::ErrorKind::Other.into()));
        match swapped {
            Ok(()) if walked_in => Ok(()),
            Ok(()) => Err(io::Error::other(format!("nobody opened {}", self.path.display()))),
            Err(error) => Err(error),
        }
    }
}

fn open(path: &Path) -> io::Result<()> {
    fs::File::open(path).map(drop)
}
