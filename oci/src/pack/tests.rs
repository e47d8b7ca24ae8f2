use std::collections::BTreeMap;

use autonomy_stateroot::{SourceError, SourceFile};

use super::*;

struct Files(BTreeMap<String, Vec<u8>>);

impl SetSource for Files {
    fn list(&self) -> Result<Vec<SourceFile>, SourceError> {
        Ok(Vec::new())
    }

    fn open(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, SourceError> {
        let bytes = self.0.get(path.as_str()).ok_or_else(|| SourceError::Missing(path.to_string()))?;
        Ok(Box::new(io::Cursor::new(bytes.clone())))
    }

    fn describe(&self) -> String {
        "files".to_owned()
    }
}

/// Two files, and a segment of every thousand bytes of them.
fn cut() -> (Files, Arc<Cuts>) {
    let mut bytes = vec![0; 10_000];
    blake3::Hasher::new_derive_key("autonomy test pack").finalize_xof().fill(&mut bytes);
    let mut cuts = Cuts { files: vec!["a".parse().expect("path"), "b".parse().expect("path")], segments: Vec::new() };
    for (at, piece) in bytes.chunks(1000).enumerate() {
        let (file, offset) = (u32::from(at >= 5), (at as u64 % 5) * 1000);
        cuts.segments.push(Cut { id: Blake3::of(piece), length: 1000, file, offset });
    }
    let files = [("a", &bytes[..5000]), ("b", &bytes[5000..])];
    let files = files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect();
    (Files(files), Arc::new(cuts))
}

fn made(files: &Files, cuts: &Arc<Cuts>, pack: &Range<usize>) -> Vec<u8> {
    let mut bytes = Vec::new();
    Packing::new(files, cuts, pack).read_to_end(&mut bytes).expect("packs");
    assert_eq!(bytes.len() as u64, cuts.size(pack));
    bytes
}

fn table(bytes: &[u8]) -> Result<Vec<(Blake3, u32, u64)>, Reason> {
    let mut found = Vec::new();
    read_table(bytes, bytes.len() as u64, |id, length, offset| found.push((id, length, offset)))?;
    Ok(found)
}

#[test]
fn packs_hold_every_segment_once_and_none_is_larger_than_its_cap() {
    let (files, cuts) = cut();
    let packs = cuts.packs(4000);
    assert!(packs.len() > 2, "{packs:?}");
    let mut seen = Vec::new();
    for pack in &packs {
        let bytes = made(&files, &cuts, pack);
        assert!(bytes.len() <= 4000);
        assert_eq!(bytes, made(&files, &cuts, pack), "twice the same");
        for (id, length, offset) in table(&bytes).expect("reads") {
            let from = usize::try_from(offset).expect("64 bits");
            assert_eq!(Blake3::of(&bytes[from..from + length as usize]), id);
            seen.push(id);
        }
    }
    assert_eq!(seen, cuts.segments.iter().map(|cut| cut.id).collect::<Vec<_>>());
}

#[test]
fn a_file_that_is_not_as_its_index_says_is_not_packed() {
    let (mut files, cuts) = cut();
    files.0.get_mut("b").expect("b")[1500] ^= 1;
    let mut packing = Packing::new(&files, &cuts, &(0..10));
    let error = packing.read_to_end(&mut Vec::new()).expect_err("refuses");
    assert_eq!(read_failed("pack", &error).code, Code::DigestMismatch);
    files.0.get_mut("b").expect("b").truncate(1500);
    let error = Packing::new(&files, &cuts, &(0..10)).read_to_end(&mut Vec::new()).expect_err("refuses");
    assert_eq!(read_failed("pack", &error).code, Code::SizeMismatch);
}

#[test]
fn a_table_that_lies_is_refused() {
    let (files, cuts) = cut();
    let whole = made(&files, &cuts, &(0..10));
    let refused = |bytes: Vec<u8>| table(&bytes).expect_err("refused").to_string();
    for at in [0, 7, 8, 11, 12, 40, 47, whole.len() - 1] {
        assert!(refused(whole[..at].to_vec()).starts_with("bad_value: "), "cut at {at}");
    }
    let with = |at: usize, bytes: &[u8]| {
        let mut spoilt = whole.clone();
        spoilt[at..at + bytes.len()].copy_from_slice(bytes);
        refused(spoilt)
    };
    assert!(with(7, &[2]).contains("begins otherwise"));
    assert!(with(8, &u32::MAX.to_le_bytes()).contains("at most 262144"));
    assert!(with(8, &9u32.to_le_bytes()).contains("does not come to"));
    assert!(with(44, &0u32.to_le_bytes()).contains("a segment of 0 bytes"));
    assert!(with(44, &(MAX_SEGMENT + 1).to_le_bytes()).contains("65537"));
    assert!(with(44, &MAX_SEGMENT.to_le_bytes()).contains("does not come to"));
    let longer = [whole.clone(), vec![0]].concat();
    assert!(refused(longer).contains("does not come to"));
}

#[test]
fn whatever_a_table_says_lies_within_the_pack() {
    let (files, cuts) = cut();
    let whole = made(&files, &cuts, &(0..10));
    for at in 0..12 + 10 * 36 {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut spoilt = whole.clone();
            spoilt[at] = value;
            let told = read_table(&spoilt[..], spoilt.len() as u64, |_, length, offset| {
                assert!(offset >= HEAD && offset + u64::from(length) <= spoilt.len() as u64, "byte {at} as {value}");
            });
            // Only names may change without notice: they are looked up, and what is found is hashed.
            let in_a_name = at >= 12 && (at - 12) % 36 < 32;
            assert_eq!(told.is_ok(), in_a_name || spoilt == whole, "byte {at} as {value}");
        }
    }
}
