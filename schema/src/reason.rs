//! The registry of reason codes. A refusal is a sorted list of [`Reason`]s; a code is a contract (DESIGN §12):
//! it is never renamed, and it decides the exit code.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

macro_rules! codes {
    ($($variant:ident $text:literal $exit:literal $explain:literal $remedy:literal;)*) => {
        /// Why something was refused. `docs/formats/reasons.md` lists all of them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $explain] $variant,)*
        }

        impl Code {
            /// Every code, in the order of the registry.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// The stable text of the code.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $text,)* }
            }

            /// The exit code of `autonomy` when this is the gravest reason.
            pub const fn exit(self) -> u8 {
                match self { $(Code::$variant => $exit,)* }
            }

            /// What the code means, for `autonomy explain`.
            pub const fn explain(self) -> &'static str {
                match self { $(Code::$variant => $explain,)* }
            }

            /// What usually mends it.
            pub const fn remedy(self) -> &'static str {
                match self { $(Code::$variant => $remedy,)* }
            }
        }
    };
}

codes! {
    AddressRefused "address_refused" 1 "A tool would reach a host that is not allowed, or an address that is not public." "allow the host with `--allow-domain`, or the network with `--allow-address`";
    AssuranceReduced "assurance_reduced" 5 "The platform cannot give the durability that the manifest demands: high durability needs cgroup v2 with the memory and cpu controllers (INV-05)." "boot with cgroup v2 (`systemd.unified_cgroup_hierarchy=1`) and its memory and cpu controllers, or demand `durability: standard`";
    BadConfig "bad_config" 1 "A file that configures the relay daemon cannot be used." "see the message for what would be right; `edgectl relay config get` shows what is in force";
    BadDigest "bad_digest" 3 "A digest is not `sha256:` or `blake3:` and 64 lower-case hex digits." "write the digest as the tool prints it";
    BadDuration "bad_duration" 3 "A duration has no unit or is not a whole number." "write for example `7d`, `30s` or `250ms`";
    BadMode "bad_mode" 3 "A file mode is not four octal digits, or sets setuid, setgid or sticky." "write for example \"0755\", quoted";
    BadName "bad_name" 3 "A name holds characters that are not safe as a file name." "use letters, digits, `.`, `_` and `-`";
    BadRequest "bad_request" 1 "A request to the relay or to the runtime is not what its protocol says, or an answer is not." "`docs/formats/relay.md` and `docs/formats/runtime.md` draw the protocols; both ends must speak the same version";
    BadSignatureLine "bad_signature_line" 3 "A line of a `.sigstore.jsonl` file is neither a Sigstore bundle v0.3 nor a base64 signature, or its messageDigest is not that of the signed bytes; or a signature made elsewhere is not that of the named key over these bytes." "sign again with `autonomy sign`, or take the file from the signer again";
    BadTime "bad_time" 3 "A time is not RFC 3339 in UTC with whole seconds." "write for example `2026-11-20T09:00:00Z`";
    BadValue "bad_value" 3 "A value is well formed but contradicts another value or a limit." "see the message for what would be right";
    BelowThreshold "below_threshold" 3 "Fewer distinct pinned keys signed than the trust root demands for this role. One key counts once, however often it signed." "collect the missing signatures with `autonomy sign`";
    CaExpired "ca_expired" 3 "A certificate of the CA, or of an intermediate CA, is past its end." "make a new CA with `autonomy cert ca init` and issue the nodes' certificates from it, or import the renewed chain";
    CaExpiring "ca_expiring" 3 "A certificate of the CA, or of an intermediate CA, ends within the window." "make the next CA and issue from it before this one ends";
    CaInvalid "ca_invalid" 3 "A certificate that stands as a CA may not sign certificates: basicConstraints, keyUsage, extended key usage or the length of the path say so." "put the CA's own certificate into `ca.crt`, or have it made with basicConstraints CA:TRUE and keyUsage keyCertSign, cRLSign";
    CaMissing "ca_missing" 3 "The node has no `identity/ca.crt`, so it knows no CA that its peers' certificates could come from." "put the fleet's CA certificate there: `autonomy cert issue --state-root`, or `autonomy cert import`";
    CaNotYetValid "ca_not_yet_valid" 3 "A certificate of the CA, or of an intermediate CA, begins in the future." "check the node's clock";
    CaUnreadable "ca_unreadable" 3 "`ca.crt` is not PEM with X.509 certificates alone, or is larger than its cap." "copy the CA's certificate again from the CA";
    CaseCollision "case_collision" 3 "Two paths differ only in case, so they would be one file on some systems." "rename one of them";
    CeilingExceeded "ceiling_exceeded" 5 "The write would lift the state root above `storage.diskCeilingBytes`." "run `autonomy gc`, or raise the ceiling in the manifest";
    CertificateExpired "certificate_expired" 3 "The node's certificate is past its end; its peers refuse it." "issue a new one: `autonomy cert renew`";
    CertificateExpiring "certificate_expiring" 3 "The node's certificate ends within the window (`precheck.certExpiryWindow`)." "issue a new one: `autonomy cert renew`";
    CertificateMissing "certificate_missing" 3 "The node has no `identity/node.crt`." "issue one: `autonomy cert issue`";
    CertificateNotYetValid "certificate_not_yet_valid" 3 "The node's certificate begins in the future." "check the clocks of the node and of the CA";
    CertificateRevoked "certificate_revoked" 3 "The revocation list names the node's certificate or one of its issuers." "find out why it was revoked; issue a certificate with a new key";
    CertificateUnreadable "certificate_unreadable" 3 "`node.crt` is not PEM with X.509 certificates alone, or is larger than its cap." "copy the certificate again from the CA, or issue a new one";
    CertificateUnsupported "certificate_unsupported" 3 "A certificate, its key or a revocation list uses an algorithm or a critical extension that cannot be judged here. Supported are ECDSA on P-256 or P-384 with SHA-2, and Ed25519." "have it issued with ECDSA P-256 and SHA-256, and plain full revocation lists";
    CertificateUntrusted "certificate_untrusted" 3 "No certificate in `ca.crt` signed the node's certificate, nor an intermediate that is beside it in `node.crt`." "put the missing intermediate behind the node's certificate in `node.crt`, or the right CA into `ca.crt`";
    CertificateWrongKey "certificate_wrong_key" 3 "`node.key` is not the private key of the certificate in `node.crt`." "put back the key that belongs to it, or issue a new certificate";
    CertificateWrongName "certificate_wrong_name" 3 "The node's certificate does not name this node of this fleet with a URI name `spiffe://<fleet>/domains/<fleet>/peers/<id>`." "issue one for this node: `autonomy cert issue --id`";
    CertificateWrongUse "certificate_wrong_use" 3 "The node's certificate is not for what a node does: TLS as client and as server, and no signing of others." "issue one with keyUsage digitalSignature and extended key usage serverAuth, clientAuth";
    ClockBehind "clock_behind" 5 "The clock is behind a time that the node has seen: its time mark, the release of this tool, or its own records." "set the clock; a clock that was lost at power-off needs a battery or a time source";
    ConfirmExpired "confirm_expired" 8 "Nobody confirmed the new release in time; the last known good generation is active again." "find out why nobody could reach the node; `autonomy unpin` lets the release be tried again";
    ConsentMissing "consent_missing" 64 "The verb changes the node and nobody can be asked, as there is no terminal." "add `--auto-approve` after reading the plan";
    CorruptState "corrupt_state" 11 "A file of the state root does not parse or does not hash to its name." "run `autonomy fsck`; restore the file from a backup or a signed set";
    CrlExpired "crl_expired" 3 "The revocation list is past the time at which the next one was due." "fetch a fresh list, or make one: `autonomy cert crl`";
    CrlExpiring "crl_expiring" 3 "The next revocation list is due within the window." "bring a fresh list: `autonomy cert crl`";
    CrlMissing "crl_missing" 3 "The node has no `identity/crl.pem`, so it cannot tell whether a certificate is revoked." "make one: `autonomy cert crl`";
    CrlNotYetValid "crl_not_yet_valid" 3 "The revocation list begins in the future." "check the clocks of the node and of the CA";
    CrlUnreadable "crl_unreadable" 3 "`crl.pem` is not PEM with X.509 revocation lists alone, says not when the next one is due, or is larger than its cap." "make the list again: `autonomy cert crl`";
    CrlUntrusted "crl_untrusted" 3 "No revocation list in `crl.pem` is signed by the issuer of the node's certificate, or that issuer may not sign any (cRLSign)." "fetch the list of the CA that issued the certificate";
    DecisionLogFailed "decision_log_failed" 1 "A decision of the runtime could not be made durable, so the tool did not run." "see the message for the cause; after a failed sync the runtime must be started anew";
    DestinationRefused "destination_refused" 5 "A reconstruction step writes outside the allowed destinations." "choose a destination below an allowed folder, or widen the list in `node.yaml`";
    DigestMismatch "digest_mismatch" 3 "Bytes do not hash to the digest that the signed manifest pins." "take the set again from its source; if it repeats, the source is damaged or hostile";
    DiskFull "disk_full" 5 "The forecast does not leave the free space that the plan needs." "free space, run `autonomy gc`, or lower `precheck.minFreeBytes`";
    DocumentTooLarge "document_too_large" 3 "A document is larger than its cap. Nothing beyond the cap was read." "a manifest is at most 4 MiB; split the release";
    DuplicateKey "duplicate_key" 3 "A key occurs twice in one mapping." "remove one of the two";
    EdgedDown "edged_down" 1 "`edged` does not run on this state root, and only it can do this." "start it: `systemctl start edged`, or `edged run --state-root DIR`";
    EvidenceForged "evidence_forged" 11 "Evidence of an operating system that was replaced is not signed by the attest key of this node, or does not follow from the evidence before it." "find out who wrote it; `autonomy fsck --repair` sets it aside, and the boot epoch goes on from the highest that is proven";
    Expired "expired" 3 "The document's `expiresAt` is not later than the clock or the time mark. The running release goes on." "sign a newer manifest or trust root";
    ExtraneousFile "extraneous_file" 3 "The set holds a file that the signed manifest does not name." "remove it, or take the set again";
    FloorsUnreadable "floors_unreadable" 11 "`trust/floors.json` is missing or damaged although the node has generations. Without floors a rollback could pass unseen." "restore it from a backup with `autonomy restore`";
    HealthFailed "health_failed" 8 "The health command failed after the switch; the last known good generation is active again." "read the command's output, mend the release, sign a new one";
    IoError "io_error" 1 "The operating system refused a read or a write." "see the message for the path and the cause";
    IssuedInFuture "issued_in_future" 3 "`issuedAt` lies further ahead than the trust root's largest time step allows, measured from the clock, the time mark and the build time." "check the signer's clock and the node's clock";
    KeyExposed "key_exposed" 3 "A private key, or the folder it lies in, can be read or written by others." "set mode 0600 on the key; if others may have read it, revoke the certificate and issue one with a new key";
    KeyMissing "key_missing" 3 "The node has no `identity/node.key`." "issue a certificate with a new key: `autonomy cert issue`";
    KeyShared "key_shared" 3 "The key of the node's certificate is also its attest key. Whoever may use one could then act as the other." "issue a certificate with a key of its own: `autonomy cert renew --new-key`";
    KeyUnreadable "key_unreadable" 3 "`node.key` is not an unencrypted P-256, P-384 or Ed25519 private key in PEM." "put back the key that belongs to the certificate, or issue a new one";
    LimitExceeded "limit_exceeded" 3 "The document holds more nesting, aliases or entries than any honest one." "write the document without anchors, or split it";
    LockInvalid "lock_invalid" 3 "The lock of what the runtime serves is missing or does not verify, or agent or policy are not the ones that it binds." "apply a signed set; without a managed node give a signed lock with `--lock FILE`";
    Locked "locked" 6 "Another process holds the lock of the state root." "wait for it; `autonomy status` names it";
    MissingField "missing_field" 3 "A required field is absent." "add it";
    MissingFile "missing_file" 9 "A file that the manifest names is not in the set." "copy the set again, whole";
    NoPolicy "no_policy" 4 "The node has no policy that can be asked: no generation, and no bundle in its slots that is signed and whole." "apply a manifest, or load a signed bundle with `autonomy policy load`";
    NoRetry "no_retry" 64 "A dead letter is terminal by design (INV-12): its attempts are used up, and counting them anew would let a fault repeat for ever." "find the cause in `edgectl relay deadletter inspect`, then sign a new manifest with a higher serial: it is a new delivery";
    NotBuilt "not_built" 5 "This version reads the field but cannot carry it out yet, so it refuses rather than ignore it." "remove the field, or use a version that has it";
    NotCanonical "not_canonical" 3 "The signed bytes are not canonical JSON (RFC 8785), so the same meaning could have two digests." "sign what `autonomy render` writes, unchanged";
    NotInitialized "not_initialized" 1 "The folder is not a state root yet." "run `autonomy init`";
    NotNamed "not_named" 3 "No manifest that was accepted names the segment, or the manifest itself was never accepted. Only what a verified set names is taken." "send the signed set first";
    NotPinned "not_pinned" 1 "No such manifest is pinned on this node." "`autonomy status` lists what is pinned";
    NotUtf8 "not_utf8" 3 "The document is not UTF-8." "save it as UTF-8";
    NotWaiting "not_waiting" 1 "The release that shall be confirmed is not the one that waits for it." "`autonomy status` says what waits";
    OsChanged "os_changed" 5 "The operating system below the state root is another one than the one that is recorded." "run `edged precheck`, which rebuilds what lies outside the state root";
    OutsideWindow "outside_window" 10 "The maintenance window is closed." "wait for the window, or use `--now-anyway`";
    Overloaded "overloaded" 1 "The relay takes no new work: memory is short (INV-07), too much is under way, or the daemon is stopping." "wait for the time that `Retry-After` says; give the daemon more memory if it repeats";
    Pinned "pinned" 5 "This manifest failed on this node before and is not tried again." "sign a new manifest, or run `autonomy unpin`";
    PlanConsumed "plan_consumed" 7 "The saved plan was applied already; a plan applies once." "plan again";
    PolicyDenied "policy_denied" 4 "The node's policy refused the update: a `deny` message, or no `allow`." "read the messages; change the release or the policy";
    PolicyError "policy_error" 4 "The policy could not be evaluated within its budget, or has no `data.autonomy.update`. An unanswered question is a no." "run the policy's tests with `autonomy policy test`";
    PolicyManaged "policy_managed" 4 "A generation is active, so the policy is the one that its signed manifest pins." "put the bundle into a manifest: `spec.policy`, then render, sign and apply";
    PolicyTestFailed "policy_test_failed" 1 "A test that the policy bundle brings failed, or could not be run." "run `autonomy policy test` on the bundle, mend the rule or the test, build and sign it again";
    PreconditionFailed "precondition_failed" 5 "A fact of the node does not meet `spec.preconditions`." "bring the node to the demanded state, or change the precondition";
    QuotaExceeded "quota_exceeded" 1 "The peer sent more than the ingest quota of this node lets in (INV-13). The connection stays." "wait for the time that `Retry-After` says; raise `relay.ingestQuota` in the manifest if it is too low";
    ReceiptReplayed "receipt_replayed" 3 "Two receipts of one node have the same counter and different content: the node's state was set back, or its key is used elsewhere." "find out whether the node was restored from a backup or copied; make it a new node with `autonomy init` if its key may be in other hands";
    ReconstructionFailed "reconstruction_failed" 8 "A reconstruction step failed. In an apply, the last known good generation is active again; in `edged precheck`, which ends with 5, it is done again by the next run." "see the message for the step; mend what it names and run it again";
    RegistryError "registry_error" 1 "The registry or the network failed." "try again; check the reference and the credentials";
    RelayPinsStale "relay_pins_stale" 5 "`edge/pins.json` is missing, damaged, or older than the active generation, so nobody knows what the relay still needs. Nothing is collected." "start `edged` (`edged run`, or `systemctl start edged`), which writes it; on a node that relays nothing, sign a manifest without `spec.relay` and remove `edge/local.toml`";
    RevocationNumberLowered "revocation_number_lowered" 3 "The revocation list's number is lower than one seen before." "sign with the newest revocation list";
    Revoked "revoked" 3 "The manifest or a key that signed it is revoked." "sign a new manifest with valid keys";
    RoleMismatch "role_mismatch" 3 "The document's `kind` is not the one expected here, so signatures for it prove nothing here; or the role that signed it may not do what it says." "check which file is which";
    RootForked "root_forked" 3 "Two trust roots claim the same version with different bytes." "find out which one is real before anything else";
    RootGap "root_gap" 3 "A trust root version between the pinned one and the needed one is missing." "import every root in between with `autonomy trust import`";
    RootSignature "root_signature" 3 "A trust root is not signed by a threshold of its own and of its predecessor's root keys." "collect the missing root signatures";
    ScopeMismatch "scope_mismatch" 3 "The manifest is for another fleet, node, hardware class or label." "send this node a manifest whose scope names it";
    SerialConflict "serial_conflict" 3 "A manifest with this serial but other bytes was seen before. Somebody signed twice: both are kept, the second in `quarantine/`." "find out who signed the second one; sign a new one with a higher serial";
    SerialStep "serial_step" 3 "The serial is further ahead than the trust root's largest serial step." "check the serial; a typing error here would block every later release";
    SerialTooLow "serial_too_low" 3 "The serial is below one that this node has accepted already." "sign a manifest with a higher serial";
    ServiceFailed "service_failed" 8 "A service did not start after the switch; the last known good generation is active again." "read the service's log, mend the release, sign a new one";
    SizeMismatch "size_mismatch" 3 "A file is longer or shorter than signed." "take the set again from its source";
    SourceError "source_error" 1 "The source's repository or the network failed: it cannot be reached, is damaged, or did not accept the credentials or the certificate." "see the message for what failed; try again when it is mended";
    SourceNotFound "source_not_found" 1 "The named source does not exist." "check the path";
    SourceTooLarge "source_too_large" 1 "The source is larger than its cap: the repository, one of its files, or what was received. Nothing of it was kept." "keep large artifacts out of git, or take the set from a registry or a folder";
    StalePlan "stale_plan" 7 "A fact that the plan was made from has changed since." "plan again";
    StateRootUnsafe "state_root_unsafe" 5 "The state root is not on a local file system, or others may write to it (INV-01)." "move it to a local disk, mode 0700, owned by the user that runs autonomy";
    Superseded "superseded" 1 "Something newer came, or the loop was asked to end, before the switch. What was staged is removed; the active generation did not change." "nothing: the newer one is tried next";
    Suspended "suspended" 10 "The node is suspended." "run `autonomy resume`";
    SymlinkRefused "symlink_refused" 3 "A symbolic link or special file stands where a regular file must be." "replace it with the file itself";
    Syntax "syntax" 3 "The document is not well-formed YAML or JSON." "see the message for the place";
    ToolFailed "tool_failed" 1 "The policy allowed the call, and the tool could not do it." "see the message for what failed";
    ToolTooOld "tool_too_old" 3 "The manifest demands a newer version of this tool." "update autonomy on this node";
    ToolUnconfigured "tool_unconfigured" 1 "The policy allowed the call, and this runtime was not told how the tool may be used." "see the message for the flag of `autonomy runtime start`";
    Unauthorized "unauthorized" 1 "The request to the runtime carries no token, or not the right one." "send `Authorization: Bearer` with the content of the token file";
    UnknownCritical "unknown_critical" 3 "A field named in `critical` is not understood by this version, so the document must not be acted on." "update autonomy on this node";
    UnknownField "unknown_field" 3 "A field is not part of the format. A misspelt field must not be ignored." "check the spelling against `autonomy schema`";
    UnknownGeneration "unknown_generation" 1 "No generation of that name exists." "list them with `autonomy generations`";
    UnknownTool "unknown_tool" 4 "No tool of that name exists. The policy was asked all the same; its yes does not make one." "`docs/formats/runtime.md` lists the tools";
    UnknownVersion "unknown_version" 3 "The document's `apiVersion` has a major version that this tool does not know." "update autonomy, or write `apiVersion: autonomy/v1`";
    UnsafePath "unsafe_path" 3 "A path is absolute, climbs with `..`, or holds characters that are not safe." "write a plain relative path";
    WrongKey "wrong_key" 1 "A key file cannot be read: not a key, a wrong password, or readable by others." "check the file, its mode (0600) and COSIGN_PASSWORD";
    WrongStream "wrong_stream" 3 "The node follows another stream (`metadata.name`)." "send the manifest of the node's stream";
    WrongType "wrong_type" 3 "A value has another type than the format says." "see the message for what was expected";
}

impl Ord for Code {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialOrd for Code {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not a reason code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a reason code; `autonomy explain` lists them")]
pub struct UnknownCode(String);

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        Code::ALL.iter().copied().find(|code| code.as_str() == text).ok_or_else(|| UnknownCode(text.to_owned()))
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Code {
    fn schema_name() -> Cow<'static, str> {
        "Code".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[a-z0-9_]+$" })
    }
}

/// One reason of a refusal: a stable code, a sentence that names the object, and what would mend it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// The stable code.
    pub code: Code,
    /// What was wrong, where.
    pub message: String,
    /// What would be right.
    pub remedy: String,
}

impl Reason {
    /// A reason with the registry's own remedy.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), remedy: code.remedy().to_owned() }
    }

    /// The same with a remedy that fits this case better.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// A refusal: at least one reason, sorted, without repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reasons(Vec<Reason>);

impl Reasons {
    /// Sorts `reasons`; `None` when there is nothing to refuse.
    pub fn new(mut reasons: Vec<Reason>) -> Option<Self> {
        reasons.sort();
        reasons.dedup();
        (!reasons.is_empty()).then_some(Self(reasons))
    }

    /// `Ok` when `reasons` is empty, else the refusal.
    pub fn check(reasons: Vec<Reason>) -> Result<(), Self> {
        Self::new(reasons).map_or(Ok(()), Err)
    }

    /// The sorted reasons.
    pub fn as_slice(&self) -> &[Reason] {
        &self.0
    }

    /// All of them as part of one sentence.
    pub fn one_line(&self) -> String {
        self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    /// The sorted reasons, owned.
    pub fn into_vec(self) -> Vec<Reason> {
        self.0
    }

    /// The exit code: the lowest among the reasons' own.
    pub fn exit(&self) -> u8 {
        self.0.iter().map(|reason| reason.code.exit()).min().unwrap_or(1)
    }

    /// Whether one of the reasons has this code.
    pub fn has(&self, code: Code) -> bool {
        self.0.iter().any(|reason| reason.code == code)
    }
}

impl From<Reason> for Reasons {
    fn from(reason: Reason) -> Self {
        Self(vec![reason])
    }
}

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, reason) in self.0.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            write!(f, "{reason}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Reasons {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_is_sorted_and_documented() {
        let texts: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(texts.is_sorted(), "keep the registry in order");
        let page = include_str!("../../docs/formats/reasons.md");
        for code in Code::ALL {
            assert!(
                page.contains(&format!("| `{code}` | {} |", code.exit())),
                "docs/formats/reasons.md lacks `{code}`"
            );
            assert_eq!(code.as_str().parse(), Ok(*code));
        }
    }

    #[test]
    fn reasons_are_sorted_and_the_lowest_exit_code_wins() {
        let reasons = Reasons::new(vec![
            Reason::new(Code::MissingFile, "b"),
            Reason::new(Code::DigestMismatch, "a"),
            Reason::new(Code::MissingFile, "b"),
        ]);
        let reasons = reasons.expect("not empty");
        assert_eq!(reasons.to_string(), "digest_mismatch: a\nmissing_file: b");
        assert_eq!(reasons.exit(), 3);
    }
}
