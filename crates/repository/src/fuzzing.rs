//! What stored bytes go through once they are authenticated, without keys: for the fuzzer. A writer
//! with a key may still have been wrong, or hostile. Not part of the interface.

use uuid::Uuid;

use crate::container::frame::Codec;
use crate::container::{HEADER_BYTES, Header, MAX_FRAME_RAW, Metadata, Trailer, check_frames};
use crate::file_table::LineReader;
use crate::index::{Index, IndexBody, PackBody};
use crate::signed;

const PATH: &str = "index/fuzzing";

/// The plain parts of an object: what stands at its start and its end.
pub fn container(bytes: &[u8]) {
    if let Some(header) = bytes.first_chunk::<HEADER_BYTES>()
        && let Ok(header) = Header::parse(PATH, header)
    {
        assert_eq!(
            Some(&header.encode()),
            bytes.first_chunk(),
            "a header is written as it is read"
        );
    }
    if let Ok(trailer) = Trailer::parse(PATH, bytes, bytes.len() as u64) {
        assert_eq!(
            Some(&trailer.encode()),
            bytes.last_chunk(),
            "a trailer is written as it is read"
        );
    }
    let _ = signed::parse::<crate::root::RootDocument>(PATH, bytes);
}

/// Decrypted metadata, and the body of an index object with its packs.
pub fn index(bytes: &[u8]) {
    if let Ok(metadata) = serde_json::from_slice::<Metadata>(bytes) {
        let _ = Header::parse(PATH, &metadata.header.0);
        let content = metadata.frames.last().map_or(0, |f| f.end().saturating_sub(60));
        let _ = check_frames(PATH, &metadata.frames, content);
    }
    let _ = serde_json::from_slice::<PackBody>(bytes);
    let Ok(body) = serde_json::from_slice::<IndexBody>(bytes) else { return };
    let mut index = Index::default();
    let repository = body.packs.first().map(|pack| pack.header.0).map_or(Uuid::nil(), |header| {
        Header::parse(PATH, &header).map_or(Uuid::nil(), |header| header.repository)
    });
    for pack in body.packs {
        let vouched = pack.by.is_none();
        let _ = index.add(repository, pack, vouched);
    }
}

/// The lines of a file table in two pieces; a codec byte with a frame's payload behind it.
pub fn content(bytes: &[u8]) {
    let mut lines = LineReader::default();
    let mut entries = 0;
    let (first, second) = bytes.split_at(bytes.len() / 2);
    // A base and what differs from it.
    let made = crate::delta::apply(first, second, 20_000);
    assert!(made.is_none_or(|made| made.len() == 20_000), "an extent has its length");
    let read = lines
        .push(PATH, first, &mut |_, _| entries += 1)
        .and_then(|()| lines.push(PATH, second, &mut |_, _| entries += 1));
    if read.is_ok() {
        let _ = lines.finish(PATH, entries);
    }
    if let Some((length, frame)) = bytes.split_first_chunk::<3>() {
        let length =
            usize::from(length[0]) | usize::from(length[1]) << 8 | usize::from(length[2]) << 16;
        let raw = Codec::default().decode(frame, length.min(MAX_FRAME_RAW));
        assert!(raw.is_none_or(|raw| raw.len() == length.min(MAX_FRAME_RAW)));
    }
}

/// A recovery key as somebody types it.
pub fn recovery_key(text: &str) {
    if let Ok(key) = crate::RecoveryKey::parse(text) {
        use secrecy::ExposeSecret as _;
        let shown = key.display();
        assert!(
            crate::RecoveryKey::parse(shown.expose_secret()).is_ok(),
            "what is shown can be typed"
        );
    }
}
