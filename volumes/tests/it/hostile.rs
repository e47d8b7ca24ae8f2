//! What a medium may claim, and what it is told.

use std::fs;
use std::path::Path;

use autonomy_volumes::{IndexError, OpenError, VolumeSet};
use serde_json::{Value, json};

use super::{assert_whole, files, vol, volume_of, write};

fn refusal(dir: &Path) -> OpenError {
    VolumeSet::open(dir).err().expect("refused")
}

/// A header around any JSON, with a right checksum.
fn header(json: &[u8]) -> Vec<u8> {
    let mut bytes = b"AUTVOL01".to_vec();
    bytes.extend(u32::try_from(json.len()).expect("short").to_le_bytes());
    bytes.extend(json);
    bytes.resize(4064, 0);
    bytes.extend(blake3::hash(&bytes).as_bytes());
    bytes
}

fn honest() -> Value {
    json!({
        "blockBytes": 65536, "data": 1, "index": format!("blake3:{}", "0".repeat(64)), "indexBytes": 2, "parity": 0,
        "set": format!("blake3:{}", "0".repeat(64)), "streamBytes": 2, "stripes": 1, "volume": 0,
    })
}

#[test]
fn headers_that_cannot_be_are_no_headers() {
    let dir = tempfile::tempdir().expect("a folder");
    let put = |json: &Value| {
        fs::write(vol(dir.path(), 0), header(&serde_json::to_vec(json).expect("JSON"))).expect("writes");
        refusal(dir.path())
    };
    // The honest one is read as far as its blocks, which are not there.
    assert!(matches!(put(&honest()), OpenError::Incomplete(_)));
    let huge = u64::MAX;
    for (field, value) in [
        ("blockBytes", json!(1 << 30)),
        ("blockBytes", json!(0)),
        ("data", json!(0)),
        ("data", json!(1001)),
        ("data", json!(65535)),
        ("data", json!(65536)),
        ("parity", json!(256)),
        ("parity", json!(-1)),
        ("indexBytes", json!(huge)),
        ("indexBytes", json!(3)),
        ("streamBytes", json!(huge)),
        ("streamBytes", json!(0)),
        ("streamBytes", json!(65537)),
        ("stripes", json!(0)),
        ("stripes", json!(huge)),
        ("stripes", json!(65600)),
        ("volume", json!(1)),
        ("volume", json!(65535)),
        ("set", json!("sha256:0")),
        ("more", json!(1)),
    ] {
        let mut claim = honest();
        claim[field] = value.clone();
        let error = put(&claim);
        assert!(matches!(error, OpenError::NoHeader(_)), "{field} {value}: {error}");
    }
    // The largest set that can be: nothing is reserved for it.
    let mut claim = honest();
    for (field, value) in [
        ("data", 745_u64),
        ("parity", 255),
        ("stripes", 65_503),
        ("streamBytes", 745 * 65_503 * 65_536),
        ("indexBytes", 16 << 20),
    ] {
        claim[field] = json!(value);
    }
    assert!(matches!(put(&claim), OpenError::Incomplete(_)));
    claim["indexBytes"] = json!((16 << 20) + 1);
    assert!(matches!(put(&claim), OpenError::NoHeader(_)));
}

#[test]
fn headers_in_another_form_are_no_headers() {
    let dir = tempfile::tempdir().expect("a folder");
    let good = header(&serde_json::to_vec(&honest()).expect("JSON"));
    let reseal = |bytes: &mut Vec<u8>| {
        let sum = *blake3::hash(&bytes[..4064]).as_bytes();
        bytes[4064..].copy_from_slice(&sum);
    };
    let spaced = header(&serde_json::to_vec_pretty(&honest()).expect("JSON"));
    let mut magic = good.clone();
    magic[7] = b'2';
    let mut length = good.clone();
    length[8..12].fill(0xff);
    let mut padding = good.clone();
    padding[4063] = 1;
    for mut bytes in [spaced, magic, length, padding, header(b""), header(b"[[[[[[[[[[")] {
        reseal(&mut bytes);
        fs::write(vol(dir.path(), 0), &bytes).expect("writes");
        assert!(matches!(refusal(dir.path()), OpenError::NoHeader(_)));
    }
    assert!(matches!(refusal(&dir.path().join("none")), OpenError::Folder(_)));
    fs::remove_file(vol(dir.path(), 0)).expect("removes");
    assert!(matches!(refusal(dir.path()), OpenError::NoVolumes));
}

/// A volume with any index.
fn medium(dir: &Path, index: &[u8], stream_bytes: usize) {
    let mut block = index.to_vec();
    block.resize(65536, 0);
    let mut hasher = blake3::Hasher::new_derive_key("autonomy volumes block v1");
    hasher.update(&[0; 10]).update(&block);
    let mut claim = honest();
    claim["indexBytes"] = json!(index.len());
    claim["streamBytes"] = json!(stream_bytes);
    claim["index"] = json!(format!("blake3:{}", blake3::hash(index).to_hex()));
    let mut bytes = header(&serde_json::to_vec(&claim).expect("JSON"));
    bytes.extend(hasher.finalize().as_bytes());
    bytes.extend(&block);
    fs::write(vol(dir, 0), bytes).expect("writes");
}

#[test]
fn lists_that_lie_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let good = br#"[{"path":"a","size":3}]"#;
    medium(dir.path(), good, good.len() + 3);
    assert_eq!(VolumeSet::open(dir.path()).expect("opens").members().len(), 1);
    let sum = |text: &str, extra: usize| (text.to_owned(), text.len() + extra);
    for ((index, stream), expected) in [
        (sum(r#"[{"path":"a","size":3}]"#, 4), "add up to 26 bytes, the volumes hold 27"),
        (sum(r#"[{"path":"a","size":9007199254740991}]"#, 0), "more than 2^53-1"),
        (sum(r#"[{"path":"../a","size":0}]"#, 0), "not canonical JSON"),
        (sum(r#"[{"path":"/a","size":0}]"#, 0), "not canonical JSON"),
        (sum(r#"[{"path":"a","size":-1}]"#, 0), "not canonical JSON"),
        (sum(r#"[{"path":"a","size":0,"x":0}]"#, 0), "not canonical JSON"),
        (sum(r#"[{"size":0,"path":"a"}]"#, 0), "not canonical JSON"),
        (sum(r#"[{"path":"a","size":0}] "#, 0), "not canonical JSON"),
        (sum("", 1), "not canonical JSON"),
        (sum(r#"[{"path":"b","size":0},{"path":"a","size":0}]"#, 0), "out of order"),
        (sum(r#"[{"path":"a","size":0},{"path":"a","size":0}]"#, 0), "listed twice"),
        (sum(r#"[{"path":"a","size":0},{"path":"a-b","size":0},{"path":"a/b","size":0}]"#, 0), "below a file"),
    ] {
        medium(dir.path(), index.as_bytes(), stream);
        let OpenError::Index(error) = refusal(dir.path()) else { panic!("{index} is no list") };
        assert!(error.to_string().contains(expected), "{index}: {error}");
    }
}

#[test]
fn a_list_that_the_header_does_not_name_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    medium(dir.path(), b"[]", 2);
    let mut bytes = fs::read(vol(dir.path(), 0)).expect("reads");
    let mut claim = honest();
    claim["index"] = json!(format!("blake3:{}", "1".repeat(64)));
    bytes[..4096].copy_from_slice(&header(&serde_json::to_vec(&claim).expect("JSON")));
    fs::write(vol(dir.path(), 0), bytes).expect("writes");
    assert!(matches!(refusal(dir.path()), OpenError::Index(IndexError::Digest)));
}

#[test]
fn volumes_of_two_sets_are_refused() {
    let (a, b) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let mut files = files(&[100_000, 200_000]);
    write(a.path(), &files, volume_of(2), 1).expect("writes");
    // The same names and sizes: only a byte of the content differs.
    files[1].1[77] ^= 1;
    write(b.path(), &files, volume_of(2), 1).expect("writes");
    fs::copy(vol(b.path(), 2), vol(a.path(), 2)).expect("copies");
    let OpenError::Mixture { first, other } = refusal(a.path()) else { panic!("no mixture") };
    assert_eq!((&*first, &*other), ("vol-000", "vol-002"));
}

#[test]
fn a_volume_under_a_wrong_name_is_lost() {
    let dir = tempfile::tempdir().expect("a folder");
    let files = files(&[100_000, 200_000]);
    write(dir.path(), &files, volume_of(2), 1).expect("writes");
    fs::copy(vol(dir.path(), 0), vol(dir.path(), 1)).expect("copies");
    fs::copy(vol(dir.path(), 0), vol(dir.path(), 500)).expect("copies");
    assert_whole(dir.path(), &files);
}

#[test]
fn links_and_special_files_are_not_opened() {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), &files(&[100_000, 200_000]), volume_of(2), 1).expect("writes");
    let real = dir.path().join("real");
    fs::rename(vol(dir.path(), 1), &real).expect("renames");
    std::os::unix::fs::symlink("real", vol(dir.path(), 1)).expect("links");
    assert!(matches!(refusal(dir.path()), OpenError::NotAFile(name) if name == "vol-001"));
    fs::remove_file(vol(dir.path(), 1)).expect("removes");
    fs::create_dir(vol(dir.path(), 1)).expect("makes");
    assert!(matches!(refusal(dir.path()), OpenError::NotAFile(name) if name == "vol-001"));
    fs::remove_dir(vol(dir.path(), 1)).expect("removes");
    let _socket = std::os::unix::net::UnixListener::bind(vol(dir.path(), 1)).expect("binds");
    assert!(matches!(refusal(dir.path()), OpenError::NotAFile(name) if name == "vol-001"));
    fs::remove_file(vol(dir.path(), 1)).expect("removes");
    let made = std::process::Command::new("mkfifo").arg(vol(dir.path(), 1)).status().expect("runs");
    assert!(made.success());
    assert!(matches!(refusal(dir.path()), OpenError::NotAFile(name) if name == "vol-001"));
}
