//! Reading a container: the tail first, then whatever part of the content is needed.

use uuid::Uuid;

use super::frame::{self, Codec};
use super::{
    FrameEntry, HEADER_BYTES, Header, MAX_METADATA, Metadata, Suite, TRAILER_BYTES, Trailer,
    check_frames, content_key, metadata_key,
};
use crate::crypto::{Cipher, signed_by};
use crate::error::{RepositoryError, Result};
use crate::keys::{ReaderKeys, WriterKeys};
use crate::object::ObjectKind;

/// Authenticated metadata of an object, and what is needed to read its content.
pub(crate) struct Opened {
    pub(crate) header: Header,
    pub(crate) trailer: Trailer,
    pub(crate) metadata: Metadata,
}

/// Opens the tail of an object. The caller has made sure that `trailer.writer` is certified.
///
/// `metadata` are the encrypted metadata's bytes, `kind` is what the signature must say.
pub(crate) fn open_tail(
    keys: &WriterKeys,
    codec: &Codec,
    path: &str,
    kind: ObjectKind,
    trailer: Trailer,
    metadata: &[u8],
) -> Result<Opened> {
    let corrupt = |what: &str| RepositoryError::corrupt(path, what);
    let message = trailer.signed_message(keys.repository, path, kind, metadata);
    if !signed_by(&trailer.writer, &message, &trailer.signature) {
        return Err(corrupt("its signature does not fit (changed bytes, or another object's)"));
    }
    let cipher = Cipher::new(&metadata_key(keys, kind, path, &trailer.salt))?;
    let mut bytes = metadata.to_vec();
    let plain =
        cipher.open(0, &[], &mut bytes).ok_or_else(|| corrupt("its metadata does not decrypt"))?;
    let (length, encoded) =
        plain.split_first_chunk::<4>().ok_or_else(|| corrupt("its metadata is too short"))?;
    let raw_bytes = u32::from_le_bytes(*length);
    if u64::from(raw_bytes) > MAX_METADATA {
        return Err(corrupt("its metadata is impossibly long"));
    }
    let text = usize::try_from(raw_bytes)
        .ok()
        .and_then(|raw_bytes| codec.decode(encoded, raw_bytes))
        .ok_or_else(|| corrupt("its metadata does not decompress"))?;
    let metadata: Metadata =
        serde_json::from_slice(&text).map_err(|_| corrupt("its metadata is not understood"))?;
    let header = Header::parse(path, &metadata.header.0)?;
    if header.kind != kind || header.repository != keys.repository {
        return Err(corrupt("its metadata belongs to another object"));
    }
    if header.suite == Suite::Empty && (trailer.content_bytes != 0 || !metadata.frames.is_empty()) {
        return Err(corrupt("it has content that its header denies"));
    }
    check_frames(path, &metadata.frames, trailer.content_bytes)?;
    Ok(Opened { header, trailer, metadata })
}

impl Opened {
    /// Prepares to decrypt frames.
    pub(crate) fn content(
        &self,
        writer: &WriterKeys,
        reader: Option<&ReaderKeys>,
        path: &str,
    ) -> Result<ContentReader> {
        ContentReader::new(
            writer,
            reader,
            path,
            &self.header,
            &self.trailer.salt,
            self.metadata.frames.clone(),
        )
    }
}

/// Decrypts frames of one object in any order.
pub(crate) struct ContentReader {
    path: String,
    cipher: Cipher,
    header_hash: [u8; 32],
    frames: Vec<FrameEntry>,
}

impl ContentReader {
    pub(crate) fn new(
        writer: &WriterKeys,
        reader: Option<&ReaderKeys>,
        path: &str,
        header: &Header,
        salt: &[u8; 32],
        frames: Vec<FrameEntry>,
    ) -> Result<Self> {
        let key = content_key(writer, reader, header, path, salt)?;
        Ok(Self {
            path: path.to_owned(),
            cipher: Cipher::new(&key)?,
            header_hash: header.hash(),
            frames,
        })
    }

    pub(crate) fn frames(&self) -> &[FrameEntry] {
        &self.frames
    }

    /// The raw bytes of frame `number`.
    pub(crate) fn frame(&self, codec: &Codec, number: usize, stored: &[u8]) -> Result<Vec<u8>> {
        let mut stored = stored.to_vec();
        frame::open(codec, &self.cipher, &self.header_hash, &self.frames, number, &mut stored)
            .ok_or_else(|| {
                RepositoryError::corrupt(&self.path, format!("frame {number} does not decrypt"))
            })
    }

    /// The stored bytes of frame `number` within `bytes`, which begin at offset `base` of the
    /// object.
    pub(crate) fn slice<'a>(&self, number: usize, bytes: &'a [u8], base: u64) -> Result<&'a [u8]> {
        self.frames
            .get(number)
            .and_then(|frame| {
                let start = usize::try_from(frame.offset().checked_sub(base)?).ok()?;
                let length = usize::try_from(frame.stored()).ok()?;
                bytes.get(start..start.checked_add(length)?)
            })
            .ok_or_else(|| {
                RepositoryError::corrupt(&self.path, format!("frame {number} is not there"))
            })
    }
}

/// A whole object's parts, with the lengths checked and nothing else.
pub(crate) struct Parts<'a> {
    pub(crate) trailer: Trailer,
    pub(crate) header: &'a [u8; HEADER_BYTES],
    pub(crate) header_and_content: &'a [u8],
    pub(crate) metadata: &'a [u8],
}

/// Takes a whole object apart.
pub(crate) fn split<'a>(path: &str, bytes: &'a [u8]) -> Result<Parts<'a>> {
    let corrupt = |what: &str| RepositoryError::corrupt(path, what);
    let trailer = Trailer::parse(path, bytes, bytes.len() as u64)?;
    let metadata_bytes =
        usize::try_from(trailer.metadata_bytes).map_err(|_| corrupt("it is too long"))?;
    let body = bytes.len() - TRAILER_BYTES;
    let (header_and_content, metadata) = bytes[..body]
        .split_at_checked(body.saturating_sub(metadata_bytes))
        .ok_or_else(|| corrupt("it is too short"))?;
    let header = header_and_content.first_chunk().ok_or_else(|| corrupt("it is too short"))?;
    Ok(Parts { trailer, header, header_and_content, metadata })
}

/// Opens a whole object and checks every byte of it against the signature. The caller has made sure
/// that the signer is certified.
pub(crate) fn open_whole(
    keys: &WriterKeys,
    codec: &Codec,
    path: &str,
    kind: ObjectKind,
    bytes: &[u8],
) -> Result<Opened> {
    let parts = split(path, bytes)?;
    let header = Header::parse(path, parts.header)?;
    if header.repository != keys.repository {
        return Err(foreign(path, header.repository));
    }
    if header.kind != kind {
        return Err(RepositoryError::corrupt(
            path,
            format!("it is a {} where a {kind} was expected", header.kind),
        ));
    }
    let opened = open_tail(keys, codec, path, kind, parts.trailer, parts.metadata)?;
    if opened.header != header
        || *blake3::hash(parts.header_and_content).as_bytes() != opened.trailer.content_hash
    {
        return Err(RepositoryError::corrupt(path, "its content is not what was signed"));
    }
    Ok(opened)
}

fn foreign(path: &str, repository: Uuid) -> RepositoryError {
    RepositoryError::corrupt(path, format!("it belongs to another repository ({repository})"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::write::{in_memory, to_raw};
    use super::*;
    use crate::keys::{DeviceId, RepositoryKey};
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    struct Keys {
        writer: WriterKeys,
        reader: ReaderKeys,
    }

    fn keys() -> Keys {
        let id = Uuid::from_u128(77);
        let key = RepositoryKey::from_secret(Zeroizing::new([8; 32]));
        Keys {
            writer: key.writer_keys(id, DeviceId(Uuid::from_u128(1))).unwrap(),
            reader: key.reader_keys(id),
        }
    }

    fn write(keys: &Keys, suite: Suite, frames: &[Vec<u8>]) -> Vec<u8> {
        let codec = Codec::default();
        let body = to_raw("wal/1", &serde_json::json!({"n": frames.len()})).unwrap();
        in_memory(
            &keys.writer,
            &codec,
            "wal/1",
            ObjectKind::WalSegment,
            suite,
            frames.iter().map(|raw| codec.encode(raw)),
            body,
        )
        .unwrap()
        .out
    }

    fn read(keys: &Keys, path: &str, kind: ObjectKind, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let codec = Codec::default();
        let opened = open_whole(&keys.writer, &codec, path, kind, bytes)?;
        if opened.header.suite == Suite::Empty {
            return Ok(Vec::new());
        }
        let content = opened.content(&keys.writer, Some(&keys.reader), path)?;
        (0..content.frames().len())
            .map(|n| content.frame(&codec, n, content.slice(n, bytes, 0)?))
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn containers_round_trip(
            frames in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 0..2000), 0..6),
            shared: bool,
        ) {
            let keys = keys();
            let suite = if shared { Suite::Shared } else { Suite::Sealed };
            let bytes = write(&keys, suite, &frames);
            prop_assert_eq!(read(&keys, "wal/1", ObjectKind::WalSegment, &bytes).unwrap(), frames);
            prop_assert!(read(&keys, "wal/2", ObjectKind::WalSegment, &bytes).is_err());
            prop_assert!(read(&keys, "wal/1", ObjectKind::WalSlice, &bytes).is_err());
        }
    }

    #[test]
    fn every_single_flipped_bit_is_detected() {
        let keys = keys();
        for suite in [Suite::Empty, Suite::Sealed, Suite::Shared] {
            let frames: &[Vec<u8>] =
                if suite == Suite::Empty { &[] } else { &[vec![1; 40], vec![2; 5]] };
            let bytes = write(&keys, suite, frames);
            read(&keys, "wal/1", ObjectKind::WalSegment, &bytes).unwrap();
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut flipped = bytes.clone();
                    flipped[at] ^= 1 << bit;
                    let outcome = read(&keys, "wal/1", ObjectKind::WalSegment, &flipped);
                    assert!(outcome.is_err(), "{suite:?}: bit {bit} of byte {at}");
                }
            }
        }
    }

    #[test]
    fn every_truncation_and_any_appended_byte_is_detected() {
        let keys = keys();
        let bytes = write(&keys, Suite::Sealed, &[vec![9; 100]]);
        for length in 0..bytes.len() {
            let cut = &bytes[..length];
            assert!(read(&keys, "wal/1", ObjectKind::WalSegment, cut).is_err(), "{length}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(read(&keys, "wal/1", ObjectKind::WalSegment, &longer).is_err());
    }
}
