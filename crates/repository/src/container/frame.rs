//! Frames: a piece of content, compressed if that makes it smaller, then sealed.

use std::sync::Mutex;

use super::{FrameEntry, MAX_FRAME_RAW};
use crate::crypto::{Cipher, TAG_BYTES};
use crate::error::{RepositoryError, Result};

/// zstd's default level: compresses pages about as well as the slower ones do.
pub(crate) const ZSTD_LEVEL: i32 = 3;
const RAW: u8 = 0;
const ZSTD: u8 = 1;

/// A frame before sealing: a codec byte and the payload.
pub(crate) struct EncodedFrame {
    pub(crate) plain: Vec<u8>,
    pub(crate) raw_bytes: usize,
}

/// Compressors cost about a megabyte to set up, so they are kept.
#[derive(Default)]
pub(crate) struct Codec {
    compressors: Mutex<Vec<zstd::bulk::Compressor<'static>>>,
    decompressors: Mutex<Vec<zstd::bulk::Decompressor<'static>>>,
}

impl Codec {
    fn taken<T>(pool: &Mutex<Vec<T>>) -> Option<T> {
        pool.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop()
    }

    fn returned<T>(pool: &Mutex<Vec<T>>, item: T) {
        pool.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(item);
    }

    /// Compresses `raw`, or leaves it when that is not smaller.
    pub(crate) fn encode(&self, raw: &[u8]) -> Result<EncodedFrame> {
        let zstd_failed =
            |source| RepositoryError::LocalFile { operation: "compress a frame", source };
        let mut compressor = match Self::taken(&self.compressors) {
            Some(compressor) => compressor,
            None => zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(zstd_failed)?,
        };
        // Room for the codec byte, the worst case of zstd and the tag that sealing appends.
        let bound = zstd::zstd_safe::compress_bound(raw.len());
        let mut plain = vec![0u8; 1 + bound];
        plain[0] = ZSTD;
        let compressed = compressor.compress_to_buffer(raw, &mut plain[1..]);
        Self::returned(&self.compressors, compressor);
        let compressed = compressed.map_err(zstd_failed)?;
        if compressed < raw.len() {
            plain.truncate(1 + compressed);
            plain.reserve_exact(TAG_BYTES);
            if plain.capacity() > plain.len() * 2 {
                plain.shrink_to(plain.len() + TAG_BYTES);
            }
        } else {
            plain.clear();
            plain.push(RAW);
            plain.extend_from_slice(raw);
            plain.reserve_exact(TAG_BYTES);
        }
        Ok(EncodedFrame { plain, raw_bytes: raw.len() })
    }

    /// The inverse of [`Codec::encode`]; `None` when the result is not exactly `raw_bytes` long.
    /// Never allocates more than `raw_bytes`, which the caller has bounded.
    pub(crate) fn decode(&self, plain: &[u8], raw_bytes: usize) -> Option<Vec<u8>> {
        let (codec, payload) = plain.split_first()?;
        match *codec {
            RAW if payload.len() == raw_bytes => Some(payload.to_vec()),
            ZSTD => {
                let mut decompressor = match Self::taken(&self.decompressors) {
                    Some(decompressor) => decompressor,
                    None => zstd::bulk::Decompressor::new().ok()?,
                };
                let mut raw = vec![0u8; raw_bytes];
                let written = decompressor.decompress_to_buffer(payload, &mut raw[..]);
                Self::returned(&self.decompressors, decompressor);
                (written.ok()? == raw_bytes).then_some(raw)
            }
            _ => None,
        }
    }
}

/// What a frame's tag covers besides its bytes.
fn aad(header_hash: &[u8; 32], counter: u64, last: bool) -> [u8; 41] {
    let mut aad = [0u8; 41];
    aad[..32].copy_from_slice(header_hash);
    aad[32..40].copy_from_slice(&counter.to_le_bytes());
    aad[40] = u8::from(last);
    aad
}

pub(crate) fn seal(
    cipher: &Cipher,
    header_hash: &[u8; 32],
    counter: u64,
    last: bool,
    plain: &mut Vec<u8>,
) -> Result<()> {
    cipher.seal(counter, &aad(header_hash, counter, last), plain)
}

/// Opens and decompresses frame number `number` of `frames` from its stored bytes.
pub(crate) fn open(
    codec: &Codec,
    cipher: &Cipher,
    header_hash: &[u8; 32],
    frames: &[FrameEntry],
    number: usize,
    stored: &mut [u8],
) -> Option<Vec<u8>> {
    let frame = frames.get(number)?;
    let counter = u64::try_from(number).ok()?;
    let last = number + 1 == frames.len();
    let raw = usize::try_from(frame.raw()).ok().filter(|raw| *raw <= MAX_FRAME_RAW)?;
    let plain = cipher.open(counter, &aad(header_hash, counter, last), stored)?;
    codec.decode(plain, raw)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_round_trip(raw in proptest::collection::vec(any::<u8>(), 0..3000), fill in 0usize..5000) {
            let codec = Codec::default();
            let mut raw = raw;
            raw.resize(raw.len() + fill, 7);
            let encoded = codec.encode(&raw).unwrap();
            prop_assert!(encoded.plain.len() <= raw.len() + 1);
            prop_assert_eq!(codec.decode(&encoded.plain, raw.len()).unwrap(), raw.clone());
            prop_assert!(codec.decode(&encoded.plain, raw.len() + 1).is_none());
        }
    }
}
