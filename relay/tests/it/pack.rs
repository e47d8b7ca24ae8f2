//! Packs, cut into chunks of any size, and bytes that are none.

use autonomy_relay::pack::{Frame, HEAD_BYTES, MAX_BYTES, PackError, Reader, framed, head};
use autonomy_schema::Blake3;
use proptest::prelude::*;

fn written(segments: &[Vec<u8>]) -> Vec<u8> {
    let mut pack = Vec::new();
    for bytes in segments {
        pack.extend_from_slice(&head(&Blake3::of(bytes), u32::try_from(bytes.len()).unwrap()));
        pack.extend_from_slice(bytes);
    }
    pack
}

fn read(pack: &[u8], chunk: usize) -> Result<Vec<Frame>, PackError> {
    let (mut reader, mut frames) = (Reader::new(), Vec::new());
    for mut chunk in pack.chunks(chunk) {
        while let Some(frame) = reader.next(&mut chunk)? {
            frames.push(frame);
        }
        assert!(chunk.is_empty(), "a chunk is used up");
    }
    reader.end().map(|()| frames)
}

#[test]
fn the_bytes_of_a_pack_are_pinned() {
    let pack = written(&[b"abc".to_vec(), b"d".to_vec()]);
    assert_eq!(pack.len() as u64, framed(3) + framed(1));
    assert_eq!(&pack[..32], Blake3::of(b"abc").as_bytes());
    assert_eq!(&pack[32..39], [3, 0, 0, 0, b'a', b'b', b'c']);
    assert_eq!(&pack[39..71], Blake3::of(b"d").as_bytes());
    assert_eq!(&pack[71..], [1, 0, 0, 0, b'd']);
}

#[test]
fn every_framing_error_has_its_name() {
    let id = Blake3::of(b"x");
    let whole = written(&[b"abc".to_vec()]);
    let after = |tail: &[u8]| [whole.as_slice(), tail].concat();
    let table: [(Vec<u8>, PackError); 6] = [
        (head(&id, 0).to_vec(), PackError::Empty { at: 0 }),
        (after(&head(&id, 0)), PackError::Empty { at: 1 }),
        (after(&head(&id, 65_537)), PackError::TooLong { at: 1, length: 65_537 }),
        (head(&id, u32::MAX).to_vec(), PackError::TooLong { at: 0, length: u32::MAX }),
        (after(&[7; 5]), PackError::Truncated { at: 1, missing: HEAD_BYTES - 5 }),
        (after(&head(&id, 9)), PackError::Truncated { at: 1, missing: 9 }),
    ];
    for (bytes, expected) in table {
        for chunk in [1, 7, bytes.len()] {
            assert_eq!(read(&bytes, chunk), Err(expected.clone()), "in chunks of {chunk}");
        }
    }
    assert_eq!(read(&[], 1), Ok(Vec::new()));
}

#[test]
fn a_pack_may_have_8_mib_and_not_a_byte_more() {
    let segment = vec![5u8; 65_536];
    let count = usize::try_from(MAX_BYTES / framed(65_536)).unwrap();
    let rest = usize::try_from(MAX_BYTES).unwrap() - count * usize::try_from(framed(65_536)).unwrap();
    let mut segments = vec![segment; count];
    segments.push(vec![6; rest - HEAD_BYTES]);
    let pack = written(&segments);
    assert_eq!(pack.len() as u64, MAX_BYTES);
    assert_eq!(read(&pack, 10_000).unwrap().len(), count + 1);
    assert_eq!(read(&[pack.as_slice(), &[0]].concat(), 10_000), Err(PackError::Oversize));
}

proptest! {
    #[test]
    fn what_was_written_is_read_however_it_arrives(
        segments in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..12),
        chunk in 1usize..400,
    ) {
        let frames = read(&written(&segments), chunk).unwrap();
        let expected: Vec<Frame> =
            segments.into_iter().map(|bytes| Frame { id: Blake3::of(&bytes), bytes }).collect();
        prop_assert_eq!(frames, expected);
    }

    /// Chunks do not change what is said of bytes that are no pack.
    #[test]
    fn garbage_is_judged_alike_in_any_chunks(bytes in prop::collection::vec(any::<u8>(), 0..400), chunk in 1usize..50) {
        prop_assert_eq!(read(&bytes, chunk), read(&bytes, 400));
    }
}
