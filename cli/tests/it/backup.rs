//! Backup and restore through the binary: the round trip, and every wrong input with its code, its exit code, and nothing
//! changed.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;

use autonomy_schema::backup::{Backup, BackupEntry, EntryType};
use autonomy_schema::{Blake3, Document as _, Mode, Name, document};
use serde_json::Value;
use tar::EntryType as Tar;

use crate::node::Site;

/// The list at the end.
const LIST: &str = "backup.json";

/// What a restored node has in common with the one before: all but locks, the cache, and logs, which grow.
fn kept(site: &Site, folder: &str) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut tree = site.world.tree(folder);
    tree.retain(|path, _| {
        !["LOCK", "cache/", "audit/", "telemetry/", "receipts/LOCK"].iter().any(|prefix| path.starts_with(prefix))
    });
    tree
}

/// An entry of an archive, to be spoilt.
struct Piece {
    header: tar::Header,
    data: Vec<u8>,
}

impl Piece {
    /// As `backup` would write it, at the time of the others.
    fn new(like: &[Piece], name: &str, kind: Tar, link: &str, data: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(like[0].header.mtime().expect("time"));
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        let fields = header.as_old_mut();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        Self { header, data: data.to_vec() }
    }

    fn path(&self) -> String {
        String::from_utf8_lossy(&self.header.path_bytes()).trim_end_matches('/').to_owned()
    }
}

fn pieces(bytes: &[u8]) -> Vec<Piece> {
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().expect("tar");
    let read = entries.map(|entry| {
        let mut entry = entry.expect("entry");
        let mut data = Vec::new();
        entry.read_to_end(&mut data).expect("content");
        Piece { header: entry.header().clone(), data }
    });
    read.collect()
}

fn packed(pieces: &[Piece]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        bytes.extend_from_slice(piece.header.as_bytes());
        bytes.extend_from_slice(&piece.data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn at<'a>(pieces: &'a mut [Piece], path: &str) -> &'a mut Piece {
    let names: Vec<String> = pieces.iter().map(Piece::path).collect();
    let found = pieces.iter_mut().find(|piece| piece.path() == path);
    found.unwrap_or_else(|| panic!("no `{path}` in {names:?}"))
}

/// Gives an entry another content, with a header that fits.
fn rewrite(pieces: &mut [Piece], path: &str, data: Vec<u8>) {
    let piece = at(pieces, path);
    piece.header.set_size(data.len() as u64);
    piece.header.set_cksum();
    piece.data = data;
}

/// Changes the list and seals it again, as somebody would who forges a backup.
fn relist(pieces: &mut [Piece], change: impl FnOnce(&mut Backup)) {
    let mut list: Backup = document::parse(&at(pieces, LIST).data).expect("list");
    change(&mut list);
    let bytes = list.seal().and_then(|list| list.to_canonical()).expect("canonical");
    rewrite(pieces, LIST, bytes);
}

/// Changes a file, and what the list says of it.
fn forge(pieces: &mut [Piece], path: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut data = at(pieces, path).data.clone();
    let before = Blake3::of(&data);
    change(&mut data);
    rewrite(pieces, path, data.clone());
    relist(pieces, |list| {
        // Its hard links too.
        for entry in list.entries.iter_mut().filter(|entry| entry.blake3 == Some(before)) {
            (entry.size, entry.blake3) = (Some(data.len() as u64), Some(Blake3::of(&data)));
        }
    });
}

/// Puts an entry before the list.
fn insert(pieces: &mut Vec<Piece>, name: &str, kind: Tar, link: &str, data: &[u8]) {
    let piece = Piece::new(pieces, name, kind, link, data);
    pieces.insert(pieces.len() - 1, piece);
}

fn flip(text: &mut [u8]) {
    let middle = text.len() / 2;
    text[middle] ^= 1;
}

/// Demands that the archive is refused, on a node and for an empty place, and that nothing is changed by it.
#[track_caller]
fn refuses(site: &Site, what: &str, archive: &[u8], exit: i32, code: &str) {
    site.world.write("bad.backup", archive);
    let before = site.snapshot();
    let ran = site.node("restore bad.backup --auto-approve --output json").exits(exit);
    assert!(ran.stderr().lines().any(|line| line.starts_with(&format!("{code}: "))), "{what}: {}", ran.stderr());
    let told: Value = serde_json::from_str(&ran.stdout()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(told["reasons"].as_array().is_some_and(|reasons| reasons.iter().any(|reason| reason["code"] == code)));
    assert!(before == site.snapshot(), "{what}: the refusal changed the node");
    site.world.run("restore bad.backup --state-root other").exits(exit);
    assert!(!site.world.has("other"), "{what}: the refusal left a folder");
}

#[test]
fn backup_and_restore_round_trip() {
    let site = Site::running();
    site.set("two", 2);
    site.node("apply two --auto-approve").exits(0);
    site.node("suspend").exits(0);
    let made = site.node("backup --out node.backup").exits(0).warns("private attest key");
    assert!(made.stdout().contains("Backed up node `node-a` of fleet `harbor`"), "{}", made.stdout());
    let bits = |name: &str| site.world.path(name).metadata().expect("file").permissions().mode() & 0o777;
    assert_eq!(bits("node.backup"), 0o600);
    let restored = site.world.run("restore node.backup --state-root again").exits(0).stdout();
    assert!(restored.contains("restored  node.yaml") && restored.contains("Active     2-"), "{restored}");
    assert_eq!(kept(&site, "node"), kept(&site, "again"));
    assert_eq!((bits("again"), bits("again/identity"), bits("again/identity/attest.key")), (0o700, 0o700, 0o600));
    // It is the same node: whole, suspended, with its floors and its trail, and it goes on.
    let facts = |folder: &str| -> Value {
        let ran = site.world.run(&format!("facts --verify-content --output json --state-root {folder}")).exits(0);
        serde_json::from_str(&ran.stdout()).expect("facts")
    };
    assert_eq!(facts("node")["bound"], facts("again")["bound"]);
    site.set("three", 3);
    site.world.run("apply three --auto-approve --state-root again").exits(10);
    site.world.run("resume --state-root again").exits(0);
    site.world.run("apply three --auto-approve --state-root again").exits(0);
    site.world.run("apply one --auto-approve --state-root again").exits(3).warns("serial_too_low: ");
    let trail = String::from_utf8(site.world.read("again/audit/audit.jsonl")).expect("UTF-8");
    for verb in ["apply", "suspend", "backup", "restore"] {
        assert!(trail.contains(&format!("\"verb\":\"{verb}\"")), "{trail}");
    }
    // The older backup on the newer node brings back that it was suspended, and nothing else; again, and nothing at all.
    for brought in [serde_json::json!(["suspended"]), serde_json::json!([])] {
        let before = site.world.tree("again");
        let ran = site.world.run("restore node.backup --auto-approve --state-root again --output json").exits(0);
        let said: Value = serde_json::from_str(&ran.stdout()).expect("JSON");
        assert_eq!((&said["restored"], &said["floors"]["harbor-gateways"]), (&brought, &serde_json::json!(3)));
        let counts = |path: &&String| {
            let logs = ["LOCK", "audit/", "telemetry/"].iter().any(|prefix| path.starts_with(prefix));
            if brought == serde_json::json!([]) { *path != "LOCK" } else { !logs && *path != "suspended" }
        };
        let after = site.world.tree("again");
        let paths = before.keys().chain(after.keys());
        let changed: Vec<_> = paths.filter(|path| before.get(*path) != after.get(*path)).filter(counts).collect();
        assert!(changed.is_empty(), "{changed:?}");
    }
}

#[test]
fn a_damaged_node_is_filled_from_its_backup() {
    let site = Site::running();
    site.node("backup --out one.backup").exits(0);
    site.set("two", 2);
    site.node("apply two --auto-approve").exits(0);
    site.node("backup --out two.backup --output json").exits(0);
    let whole = kept(&site, "node");
    std::fs::remove_file(site.world.path("node/trust/floors.json")).expect("removes");
    std::fs::write(site.world.path("node/current/artifacts/etc/settings.toml"), "tampered").expect("writes");
    site.node("status").exits(11);
    site.node("restore two.backup").exits(64).warns("consent_missing: ");
    let said = site.node("restore two.backup --auto-approve").exits(0).stdout();
    assert!(said.contains("floors, merged by maximum") && said.contains("the damaged one is in quarantine/"), "{said}");
    site.is_whole(&[2]);
    let mut after = kept(&site, "node");
    after.retain(|path, _| !path.starts_with("quarantine/"));
    assert_eq!(whole, after);
    // The older backup can give floors and nothing older.
    std::fs::remove_file(site.world.path("node/trust/floors.json")).expect("removes");
    site.node("restore one.backup --auto-approve").exits(0);
    site.is_whole(&[2]);
    site.node("apply one --auto-approve").exits(3).warns("serial_too_low: ");
    std::fs::remove_file(site.world.path("node/current")).expect("removes");
    std::fs::remove_file(site.world.path("node/lkg")).expect("removes");
    let before = site.snapshot();
    site.node("restore one.backup --auto-approve").exits(3).warns("serial_too_low: ");
    assert!(before == site.snapshot());
    site.node("restore two.backup --auto-approve").exits(0);
    site.is_whole(&[2]);
}

#[test]
fn a_backup_goes_where_it_is_told_and_nowhere_else() {
    let site = Site::running();
    let before = site.snapshot();
    std::os::unix::fs::symlink(site.world.path("node/inbox"), site.world.path("inside")).expect("link");
    for out in ["node/x", "node/quarantine/x", "inside/x", "node/../node/x"] {
        site.node(&format!("backup --out {out}")).exits(64).warns("inside the state root");
    }
    site.world.write("taken", "letters");
    std::fs::set_permissions(site.world.path("taken"), std::fs::Permissions::from_mode(0o644)).expect("mode");
    site.node("backup --out taken").exits(64).warns("--force");
    assert_eq!(site.world.read("taken"), b"letters");
    site.node("backup --out missing/x").exits(1).warns("source_not_found: ");
    assert!(before == site.snapshot());
    site.node("backup --out taken --force").exits(0);
    assert_eq!(site.world.path("taken").metadata().expect("file").permissions().mode() & 0o777, 0o600);
    site.world.run("restore taken --state-root again").exits(0);
    let left: Vec<_> = std::fs::read_dir(site.world.path("")).expect("folder").filter_map(Result::ok).collect();
    assert!(left.iter().all(|entry| !entry.file_name().to_string_lossy().ends_with(".tmp")), "{left:?}");
    // A socket, as the relay daemon has one, is no part of it.
    let _socket = std::os::unix::net::UnixListener::bind(site.world.path("node/metrics.sock"));
    std::fs::create_dir(site.world.path("node/edge")).expect("folder");
    let _socket = std::os::unix::net::UnixListener::bind(site.world.path("node/edge/edged.sock")).expect("socket");
    site.node("backup --out socket").exits(0).warns("note: `metrics.sock` is nothing of a state root");
    site.world.run("restore socket --state-root third").exits(0);
    assert!(!site.world.has("third/edge/edged.sock") && !site.world.has("third/metrics.sock"));
}

#[test]
fn backup_of_another_node_and_restore_into_a_strange_folder_are_refused() {
    let site = Site::running();
    let init = "init --node-id node-b --fleet harbor --label site=pier-7 --hardware x86_64 --trust-root root.json";
    site.world.run(&format!("{init} --state-root b")).exits(0);
    site.world.run("apply one --auto-approve --state-root b").exits(0);
    site.world.run("backup --out b.backup --state-root b").exits(0);
    let before = site.snapshot();
    site.node("restore b.backup --auto-approve").exits(3).warns("scope_mismatch: ");
    assert!(before == site.snapshot());
    std::fs::create_dir(site.world.path("strange")).expect("folder");
    site.world.write("strange/letters", "x");
    site.world.run("restore b.backup --state-root strange").exits(5).warns("state_root_unsafe: ");
    assert_eq!(site.world.tree("strange").len(), 1);
    site.world.run("restore nothing --state-root c").exits(1).warns("source_not_found: ");
    site.world.run("restore manifests --state-root c").exits(3).warns("wrong_type: ");
    assert!(!site.world.has("c"));
}

#[test]
fn a_backup_that_is_cut_off_or_changed_anywhere_is_refused() {
    let site = Site::running();
    site.node("backup --out node.backup").exits(0);
    let whole = site.world.read("node.backup");
    for part in 0..20 {
        let length = whole.len() * part / 20;
        refuses(&site, &format!("cut off at {length}"), &whole[..length], 9, "missing_file");
    }
    refuses(&site, "without its last byte", &whole[..whole.len() - 1], 9, "missing_file");
    let before = site.snapshot();
    let mut changed = whole.clone();
    // Places in headers, contents, padding and the list alike; a restore passes over no byte.
    for place in (0..whole.len()).step_by(whole.len() / 59).chain([whole.len() - 1]) {
        for bit in [1, 0x20] {
            changed[place] ^= bit;
            site.world.write("bad.backup", &changed);
            site.node("restore bad.backup --auto-approve").exits(3);
            changed[place] = whole[place];
        }
    }
    assert!(before == site.snapshot(), "a refusal changed the node");
    refuses(&site, "empty", b"", 9, "missing_file");
    refuses(&site, "a text", "letters ".repeat(1000).as_bytes(), 3, "wrong_type");
    refuses(&site, "bytes after the end", &[&whole[..], b"more"].concat(), 3, "extraneous_file");
}

/// What is wrong, the code, the exit code, and how it is made.
type Case = (&'static str, &'static str, i32, Spoil);
/// Spoils an archive.
type Spoil = Box<dyn Fn(&mut Vec<Piece>)>;

/// An entry more, before the list.
fn put(name: &'static str, kind: Tar, link: &'static str) -> Spoil {
    Box::new(move |pieces| insert(pieces, name, kind, link, b""))
}

/// Another entry in the place of one.
fn instead(name: &'static str, kind: Tar, link: &'static str) -> Spoil {
    Box::new(move |pieces| {
        let piece = Piece::new(pieces, name, kind, link, b"");
        *at(pieces, name) = piece;
    })
}

/// A header of an entry, changed and summed again.
fn header(name: &'static str, change: fn(&mut tar::Header)) -> Spoil {
    Box::new(move |pieces| {
        let piece = at(pieces, name);
        change(&mut piece.header);
        piece.header.set_cksum();
    })
}

/// The list as text, changed and not sealed again.
fn list_text(from: &'static str, to: &'static str) -> Spoil {
    Box::new(move |pieces| {
        let text = String::from_utf8(at(pieces, LIST).data.clone()).expect("UTF-8");
        rewrite(pieces, LIST, text.replace(from, to).into_bytes());
    })
}

/// The list, changed and sealed again.
fn list(change: fn(&mut Backup)) -> Spoil {
    Box::new(move |pieces| relist(pieces, change))
}

/// A file, changed together with what the list says of it.
fn file(name: impl Into<String>, change: fn(&mut Vec<u8>)) -> Spoil {
    let name = name.into();
    Box::new(move |pieces| forge(pieces, &name, change))
}

/// A file that is gone.
fn without(name: &'static str) -> Spoil {
    Box::new(move |pieces| pieces.retain(|piece| piece.path() != name))
}

/// A long name of a mebibyte.
fn long_name() -> Spoil {
    Box::new(|pieces| {
        insert(pieces, "././@LongLink", Tar::GNULongName, "", &vec![b'a'; 1 << 20]);
        insert(pieces, "a", Tar::Regular, "", b"");
    })
}

fn paths() -> Vec<Case> {
    vec![
        ("a path that climbs", "unsafe_path", 3, put("../x", Tar::Regular, "")),
        ("a path that climbs within", "unsafe_path", 3, put("trust/../../x", Tar::Regular, "")),
        ("an absolute path", "unsafe_path", 3, put("/tmp/x", Tar::Regular, "")),
        ("a folder that climbs", "unsafe_path", 3, put("../", Tar::Directory, "")),
        ("a file below no folder", "unsafe_path", 3, put("rbac/x", Tar::Regular, "")),
        ("a file below a link", "unsafe_path", 3, put("lkg/x", Tar::Regular, "")),
        ("a name without end", "unsafe_path", 3, long_name()),
        ("a link elsewhere", "symlink_refused", 3, put("trust/x", Tar::Symlink, "/etc/passwd")),
        ("a link to above", "symlink_refused", 3, put("inbox/x", Tar::Symlink, "../../etc")),
        ("a device", "symlink_refused", 3, put("trust/x", Tar::Char, "")),
        ("a pipe", "symlink_refused", 3, put("trust/x", Tar::Fifo, "")),
        ("a sparse file", "symlink_refused", 3, put("trust/x", Tar::GNUSparse, "")),
        ("a header of another tar", "symlink_refused", 3, put("trust/x", Tar::XHeader, "")),
        ("a hard link to elsewhere", "symlink_refused", 3, put("trust/x", Tar::Link, "/etc/passwd")),
        ("a hard link to nothing", "symlink_refused", 3, put("trust/x", Tar::Link, "trust/y")),
        ("a hard link to a folder", "symlink_refused", 3, put("trust/x", Tar::Link, "identity")),
        ("an absolute current", "symlink_refused", 3, instead("current", Tar::Symlink, "/etc")),
        ("current as a file", "symlink_refused", 3, instead("current", Tar::Regular, "")),
        ("a list as a folder", "symlink_refused", 3, instead(LIST, Tar::Directory, "")),
        ("an entry twice", "extraneous_file", 3, put("trust/floors.json", Tar::Regular, "")),
        ("a folder twice", "extraneous_file", 3, put("trust/", Tar::Directory, "")),
        ("a name that no state root has", "extraneous_file", 3, put("letters", Tar::Regular, "")),
        ("a lock", "extraneous_file", 3, put("LOCK", Tar::Regular, "")),
        ("a cache", "extraneous_file", 3, put("cache/", Tar::Directory, "")),
        ("a file that the list lacks", "extraneous_file", 3, put("trust/nodes/x.pub", Tar::Regular, "")),
        ("a folder in the place of a file", "extraneous_file", 3, put("pins.json/", Tar::Directory, "")),
        ("the list twice", "extraneous_file", 3, put(LIST, Tar::Regular, "")),
    ]
}

fn contents(generation: &str, object: &str) -> Vec<Case> {
    let after = |pieces: &mut Vec<Piece>| {
        let piece = Piece::new(pieces, "suspended", Tar::Regular, "", b"x");
        pieces.push(piece);
    };
    let more = |list: &mut Backup| {
        let path = "trust/zzz".parse().expect("path");
        let mode = Some(Mode::from_bits(0o700));
        let entry = BackupEntry { path, kind: EntryType::Folder, mode, size: None, blake3: None, target: None };
        let place = list.entries.partition_point(|before| before.path < entry.path);
        list.entries.insert(place, entry);
    };
    let later = |text: &mut Vec<u8>| {
        *text = String::from_utf8(text.clone()).expect("UTF-8").replace("\"version\":1", "\"version\":2").into_bytes();
    };
    let other_floors = |list: &mut Backup| list.floors = BTreeMap::from([(Name::fixed("harbor-gateways"), 0)]);
    let below = |name: &str| format!("{generation}/{name}");
    let other_kind = list_text("\"kind\":\"Backup\"", "\"kind\":\"Floors\"");
    let key = "identity/attest.key";
    vec![
        ("an entry after the list", "extraneous_file", 3, Box::new(after)),
        ("no list", "missing_file", 9, without(LIST)),
        ("a huge list", "document_too_large", 3, header(LIST, |header| header.set_size(33 << 20))),
        ("a list without end", "missing_file", 9, header(LIST, |header| header.set_size(31 << 20))),
        ("a file that is gone", "missing_file", 9, without("identity/attest.pub")),
        ("another content", "digest_mismatch", 3, Box::new(move |pieces| flip(&mut at(pieces, key).data))),
        ("another mode", "digest_mismatch", 3, header(key, |header| header.set_mode(0o644))),
        ("another owner", "digest_mismatch", 3, header(key, |header| header.set_uid(1000))),
        ("another time", "digest_mismatch", 3, header(key, |header| header.set_mtime(1))),
        ("a list of a later version", "unknown_version", 3, list_text("autonomy/v1", "autonomy/v2")),
        ("a list of another kind", "role_mismatch", 3, other_kind),
        ("a list that is not sealed", "digest_mismatch", 3, list_text("\"toolVersion\":\"0", "\"toolVersion\":\"9")),
        ("a list of another node", "digest_mismatch", 3, list(|list| list.node_id = Name::fixed("node-b"))),
        ("a list of other floors", "digest_mismatch", 3, list(other_floors)),
        ("a list with one more", "missing_file", 9, list(more)),
        ("another manifest", "below_threshold", 3, file(below("manifest.json"), |text| flip(text))),
        ("other signatures", "below_threshold", 3, file(below("manifest.json.sigstore.jsonl"), Vec::clear)),
        (
            "a lock without signatures",
            "below_threshold",
            3,
            file(below("autonomy.lock.json.sigstore.jsonl"), Vec::clear),
        ),
        ("another lock", "digest_mismatch", 3, file(below("autonomy.lock.json"), |text| flip(text))),
        ("another policy", "digest_mismatch", 3, file(below("policy.tar.gz"), |text| flip(text))),
        ("another edge.toml", "digest_mismatch", 3, file(below("edge.toml"), |text| text.push(b'\n'))),
        ("another artifact", "digest_mismatch", 3, file(object, |text| flip(text))),
        ("another trust root", "root_signature", 3, file("trust/root.json", later)),
        ("floors that do not parse", "bad_value", 3, file("trust/floors.json", |text| text.push(b'x'))),
        ("a journal that does not parse", "bad_value", 3, file("journal/apply.json", |text| text.push(b'x'))),
        ("a node that does not parse", "bad_value", 3, file("node.yaml", |text| text.push(b'x'))),
    ]
}

#[test]
fn a_forged_backup_is_refused_for_what_is_wrong_with_it() {
    let site = Site::running();
    site.node("backup --out node.backup").exits(0);
    let whole = site.world.read("node.backup");
    assert_eq!(packed(&pieces(&whole)), whole, "the helpers write what the tool writes");
    let generation = std::fs::read_link(site.world.path("node/current")).expect("current").display().to_string();
    let object = pieces(&whole).iter().map(Piece::path).find(|path| path.starts_with("objects/")).expect("an object");
    for (what, code, exit, spoil) in paths().into_iter().chain(contents(&generation, &object)) {
        let mut spoilt = pieces(&whole);
        spoil(&mut spoilt);
        refuses(&site, what, &packed(&spoilt), exit, code);
    }
    // The same archive with what it needs left out of the list as well.
    let mut spoilt = pieces(&whole);
    without("trust/root.json")(&mut spoilt);
    relist(&mut spoilt, |list| list.entries.retain(|entry| entry.path.as_str() != "trust/root.json"));
    refuses(&site, "no trust root", &packed(&spoilt), 9, "missing_file");
}

/// A backup of release 1, and a node whose release 2 waits to be confirmed.
fn waiting_with_backup() -> Site {
    let site = Site::running();
    site.node("backup --out one.tar").exits(0);
    site.set("two", 2);
    site.doctor("two", |manifest| manifest["spec"]["confirm"] = serde_json::json!({ "within": "5m" }));
    site.node("apply two --auto-approve").exits(0);
    site
}

#[test]
fn a_wait_goes_on_through_a_restore() {
    let site = waiting_with_backup();
    let current = std::fs::read_link(site.world.path("node/current")).expect("current");
    std::fs::remove_file(site.world.path("node/current")).expect("removed");
    site.node("restore one.tar --auto-approve").exits(0);
    assert_eq!(std::fs::read_link(site.world.path("node/current")).expect("current"), current);
    assert!(site.node("status").exits(0).stdout().contains("`autonomy confirm` within"));
    site.node("fsck").exits(0);
    site.node("confirm").exits(0);
    site.is_whole(&[2]);
}

#[test]
fn what_waited_and_is_nowhere_whole_leaves_what_was_before_it_and_its_floor() {
    let site = waiting_with_backup();
    for path in ["current", "lkg"] {
        std::fs::remove_file(site.world.path(&format!("node/{path}"))).expect("removed");
    }
    std::fs::remove_dir_all(site.world.path("node/generations")).expect("removed");
    std::fs::create_dir(site.world.path("node/generations")).expect("folder");
    std::fs::remove_file(site.world.path("node/trust/floors.json")).expect("removed");
    site.node("restore one.tar --auto-approve").exits(0);
    site.is_whole(&[1]);
    let floors = String::from_utf8(site.world.read("node/trust/floors.json")).expect("UTF-8");
    assert!(floors.contains("\"serial\":2"), "{floors}");
    site.node("fsck").exits(0);
    site.node("apply two --auto-approve").exits(0);
}
