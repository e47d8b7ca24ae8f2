//! What goes into a verification, and the proof that comes out of it.

use autonomy_schema::floors::Floors;
use autonomy_schema::node::Node;
use autonomy_schema::root::Role;
use autonomy_schema::{Blake3, Sha256, Time};

use crate::root::PinnedRoot;
use crate::threshold::Signers;

/// Bytes and the `.sigstore.jsonl` that lies beside them. Nothing is known of either yet.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// The document as it was read, byte for byte.
    pub bytes: &'a [u8],
    /// The signature lines.
    pub signatures: &'a [u8],
}

/// What the document is wanted for. It decides which rules bind; see the table in `rules`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To make it the node's desired state.
    Change,
    /// To make whole again what the node runs: the caller has compared the bytes with the active manifest's.
    Repair,
    /// To finish or undo an interrupted change: the node admitted these bytes before.
    Recover,
    /// To go back, on demand, to a generation that the node had.
    Rollback,
    /// To pass it on to peers.
    Relay,
}

/// What a document is judged against.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The pinned keys. Its earlier roots vouch for what the node admitted under them: for every purpose but `Change` and
    /// `Relay`.
    pub root: &'a PinnedRoot,
    /// What the node has seen.
    pub floors: &'a Floors,
    /// The node's clock, which may be wrong either way.
    pub clock: Time,
    /// When this tool was released: a lower bound for the true time.
    pub released: Time,
    /// Who the node is; `None` leaves the scope unchecked (`verify` away from any node).
    pub node: Option<&'a Node>,
    /// What the document is wanted for.
    pub purpose: Purpose,
}

/// A document whose bytes were verified, and these very bytes. Only this crate can make one.
#[derive(Debug, Clone)]
pub struct Verified<T> {
    document: T,
    bytes: Vec<u8>,
    signatures: Vec<u8>,
    fingerprint: Blake3,
    signers: Vec<Sha256>,
    roles: Vec<Role>,
}

impl<T> Verified<T> {
    pub(crate) fn new(document: T, signed: Signed<'_>, signers: Signers) -> Self {
        Self {
            document,
            bytes: signed.bytes.to_vec(),
            signatures: signed.signatures.to_vec(),
            fingerprint: Blake3::of(signed.bytes),
            signers: signers.keys.into_iter().collect(),
            roles: signers.roles.into_iter().collect(),
        }
    }

    /// What the bytes mean.
    pub fn document(&self) -> &T {
        &self.document
    }

    /// The bytes that were verified.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The signature lines, as they came.
    pub fn signatures(&self) -> &[u8] {
        &self.signatures
    }

    /// BLAKE3 over the bytes.
    pub fn fingerprint(&self) -> Blake3 {
        self.fingerprint
    }

    /// The ids of the keys that counted, sorted.
    pub fn signers(&self) -> &[Sha256] {
        &self.signers
    }

    /// The roles whose threshold was reached.
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// Whether role `offline` alone reached its threshold: the document was made in the field.
    pub fn is_offline(&self) -> bool {
        self.roles == [Role::Offline]
    }
}
