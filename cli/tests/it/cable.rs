//! A cable between two nodes that a test cuts, lengthens and slows: it passes bytes on, and knows nothing of them.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often a side that waits looks again.
const LOOK: Duration = Duration::from_millis(5);

/// From a fixed address to wherever the other end is just now.
pub(crate) struct Cable {
    /// Where the calling end dials.
    pub(crate) address: String,
    ends: Arc<Ends>,
}

#[derive(Default)]
struct Ends {
    target: Mutex<Option<String>>,
    dials: AtomicU64,
    /// Bytes from the calling end that passed, and that may.
    passed: AtomicU64,
    allowed: AtomicU64,
    holds_answers: AtomicBool,
    /// Connections of an earlier era end.
    era: AtomicU64,
}

impl Cable {
    /// It leads nowhere yet.
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = listener.local_addr().expect("address").to_string();
        let ends = Arc::new(Ends { allowed: AtomicU64::new(u64::MAX), ..Ends::default() });
        let own = Arc::clone(&ends);
        std::thread::spawn(move || {
            for caller in listener.incoming().map_while(Result::ok) {
                own.dials.fetch_add(1, Ordering::SeqCst);
                let target = own.target.lock().expect("lock").clone();
                // Without one the caller is hung up on.
                if let Some(far) = target.and_then(|target| TcpStream::connect(target).ok()) {
                    own.join(&caller, &far);
                }
            }
        });
        Self { address, ends }
    }

    /// From now on it leads there.
    pub(crate) fn lead_to(&self, target: &str) {
        *self.ends.target.lock().expect("lock") = Some(target.to_owned());
    }

    /// It leads nowhere, and what stands ends.
    pub(crate) fn cut(&self) {
        *self.ends.target.lock().expect("lock") = None;
        self.drop_connections();
    }

    /// What stands ends; new connections come through.
    pub(crate) fn drop_connections(&self) {
        self.ends.era.fetch_add(1, Ordering::SeqCst);
    }

    /// So many bytes of the calling end pass, counted from here; the rest waits.
    pub(crate) fn allow(&self, bytes: u64) {
        self.ends.passed.store(0, Ordering::SeqCst);
        self.ends.allowed.store(bytes, Ordering::SeqCst);
    }

    /// So many more.
    pub(crate) fn allow_more(&self, bytes: u64) {
        self.ends.allowed.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Whether what comes back waits.
    pub(crate) fn hold_answers(&self, holds: bool) {
        self.ends.holds_answers.store(holds, Ordering::SeqCst);
    }

    /// Bytes of the calling end that passed.
    pub(crate) fn passed(&self) -> u64 {
        self.ends.passed.load(Ordering::SeqCst)
    }

    /// How often it was dialled.
    pub(crate) fn dials(&self) -> u64 {
        self.ends.dials.load(Ordering::SeqCst)
    }

    /// Waits until as many bytes passed as may.
    #[track_caller]
    pub(crate) fn wait_until_full(&self, patience: Duration) {
        let until = Instant::now() + patience;
        while self.passed() < self.ends.allowed.load(Ordering::SeqCst) {
            assert!(Instant::now() < until, "only {} bytes passed", self.passed());
            std::thread::sleep(LOOK);
        }
    }
}

impl Ends {
    fn join(self: &Arc<Self>, near: &TcpStream, far: &TcpStream) {
        let era = self.era.load(Ordering::SeqCst);
        for is_forward in [true, false] {
            let (from, to) = if is_forward { (near, far) } else { (far, near) };
            let (from, to) = (from.try_clone().expect("clone"), to.try_clone().expect("clone"));
            let ends = Arc::clone(self);
            std::thread::spawn(move || ends.pass(from, to, is_forward, era));
        }
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream, is_forward: bool, era: u64) {
        from.set_read_timeout(Some(LOOK)).expect("timeout");
        let mut buffer = [0; 16 << 10];
        while self.era.load(Ordering::SeqCst) == era {
            let room = if is_forward {
                self.allowed.load(Ordering::SeqCst).saturating_sub(self.passed.load(Ordering::SeqCst))
            } else {
                u64::from(!self.holds_answers.load(Ordering::SeqCst)) * buffer.len() as u64
            };
            let room = usize::try_from(room).unwrap_or(buffer.len()).min(buffer.len());
            if room == 0 {
                std::thread::sleep(LOOK);
                continue;
            }
            match from.read(&mut buffer[..room]) {
                Ok(0) => break,
                Ok(length) => {
                    if to.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                    if is_forward {
                        self.passed.fetch_add(length as u64, Ordering::SeqCst);
                    }
                }
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                }
                Err(_) => break,
            }
        }
        // Either end may be gone already.
        from.shutdown(Shutdown::Both).ok();
        to.shutdown(Shutdown::Both).ok();
    }
}
