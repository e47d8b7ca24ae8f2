//! Packs of segments, as a peer sends them: what is said of them does not depend on how they arrive.

use autonomy_relay::pack::{Frame, PackError, Reader, head};
use autonomy_schema::segments::MAX_SEGMENT;

/// The first byte is the size of the chunks in which the rest arrives.
pub(crate) fn pack(bytes: &[u8]) -> bool {
    let Some((size, pack)) = bytes.split_first() else { return false };
    let whole = read(pack, pack.len());
    assert_eq!(read(pack, usize::from(*size)), whole, "in chunks of {size}");
    let (frames, end) = whole;
    let mut written = Vec::new();
    for Frame { id, bytes } in &frames {
        let length = u32::try_from(bytes.len()).expect("a segment is small");
        assert!((1..=MAX_SEGMENT).contains(&length), "a segment of {length} bytes");
        written.extend_from_slice(&head(id, length));
        written.extend_from_slice(bytes);
    }
    assert!(pack.starts_with(&written), "frames are what came, in its order");
    if end.is_ok() {
        assert_eq!(written, pack, "what is a pack is written again as the same");
    }
    end.is_ok() && !frames.is_empty()
}

/// The frames before the first error, and how it ended.
fn read(pack: &[u8], size: usize) -> (Vec<Frame>, Result<(), PackError>) {
    let (mut reader, mut frames) = (Reader::new(), Vec::new());
    for mut chunk in pack.chunks(size.max(1)) {
        loop {
            match reader.next(&mut chunk) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    let end = reader.end();
    (frames, end)
}
