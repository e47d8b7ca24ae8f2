//! What the server bears, and how long it waits.

use std::time::Duration;

/// Largest body of a call.
pub(super) const MAX_BODY: usize = 1 << 20;
/// Calls under way at once, tools included.
pub(crate) const MAX_CALLS: usize = 64;
/// Connections at once; more wait in the kernel's queue.
pub(super) const MAX_CONNECTIONS: usize = 256;
/// Until a request's head is there, also on a connection that idles.
pub(super) const HEAD: Duration = Duration::from_secs(30);
/// Until its body is.
pub(super) const BODY: Duration = Duration::from_secs(10);
/// Until TLS stands.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);
/// What is under way when the runtime ends has this long: longer than any tool.
pub(super) const DRAIN: Duration = Duration::from_secs(15);
/// Most of a request's head; ours are below 1 KiB.
pub(super) const MAX_HEAD: usize = 16 << 10;
/// Pause after an accept that failed for want of file handles.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
