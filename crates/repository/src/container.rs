//! The one layout of every object that is not signed JSON.
//!
//! ```text
//! header 60 | content: frames | metadata | trailer 184
//! ```
//!
//! The bytes are described in `docs/repository-format.md`. One ranged read of the tail gives and
//! authenticates the metadata; one whole read authenticates everything; one ranged read per frame
//! gives a part of the content, authenticated by its key.

pub(crate) mod frame;
pub(crate) mod read;
pub(crate) mod write;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::crypto::{SealingKey, Secret, derive, from_hex, hex, random};
use crate::error::{RepositoryError, Result};
use crate::keys::{ReaderKeys, WriterKeys};
use crate::object::ObjectKind;

/// First bytes of every container.
pub(crate) const MAGIC: &[u8; 8] = b"HOLDFAST";
/// Last bytes of every container.
pub(crate) const END_MAGIC: &[u8; 8] = b"TSAFDLOH";
/// The format written and read.
pub(crate) const FORMAT: u16 = 1;
pub(crate) const HEADER_BYTES: usize = 60;
pub(crate) const TRAILER_BYTES: usize = 184;
/// The most a frame holds before compression.
pub(crate) const MAX_FRAME_RAW: usize = 1024 * 1024;
/// Codec byte and tag on top of a frame that did not compress.
pub(crate) const MAX_FRAME_STORED: u64 = MAX_FRAME_RAW as u64 + 1 + 16;
/// The most the metadata may be, before and after compression.
pub(crate) const MAX_METADATA: u64 = 256 * 1024 * 1024;

/// How content is protected.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Suite {
    /// There is no content, only metadata.
    Empty = 0,
    /// Sealed to the repository's public key.
    Sealed = 1,
    /// Under the metadata key: what writers must be able to read as well.
    Shared = 2,
}

impl Suite {
    fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Empty),
            1 => Some(Self::Sealed),
            2 => Some(Self::Shared),
            _ => None,
        }
    }
}

/// The first 60 bytes.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct Header {
    pub(crate) kind: ObjectKind,
    pub(crate) suite: Suite,
    pub(crate) repository: Uuid,
    /// HPKE's encapsulated key for [`Suite::Sealed`], else zeros.
    pub(crate) encapsulated: [u8; 32],
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0u8; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[10] = self.kind.code();
        bytes[11] = self.suite as u8;
        bytes[12..28].copy_from_slice(self.repository.as_bytes());
        bytes[28..].copy_from_slice(&self.encapsulated);
        bytes
    }

    pub(crate) fn parse(path: &str, bytes: &[u8; HEADER_BYTES]) -> Result<Self> {
        let corrupt = |what: &str| RepositoryError::corrupt(path, what);
        if bytes[..8] != MAGIC[..] {
            return Err(corrupt("it does not begin like an object of a repository"));
        }
        let format = u16::from_le_bytes([bytes[8], bytes[9]]);
        if format != FORMAT {
            return Err(RepositoryError::UnsupportedFormat {
                object: path.to_owned(),
                found: format.into(),
            });
        }
        let kind =
            ObjectKind::from_code(bytes[10]).ok_or_else(|| corrupt("its kind is not known"))?;
        let suite = Suite::from_code(bytes[11]).ok_or_else(|| corrupt("its suite is not known"))?;
        let mut repository = [0u8; 16];
        repository.copy_from_slice(&bytes[12..28]);
        let mut encapsulated = [0u8; 32];
        encapsulated.copy_from_slice(&bytes[28..]);
        if suite != Suite::Sealed && encapsulated != [0; 32] {
            return Err(corrupt("its header names a key that its suite does not use"));
        }
        Ok(Self { kind, suite, repository: Uuid::from_bytes(repository), encapsulated })
    }

    /// Bound into every frame.
    pub(crate) fn hash(&self) -> [u8; 32] {
        *blake3::hash(&self.encode()).as_bytes()
    }
}

/// The last 184 bytes.
#[derive(Clone, Debug)]
pub(crate) struct Trailer {
    pub(crate) salt: [u8; 32],
    pub(crate) writer: [u8; 32],
    /// Bytes of the frames, without the header.
    pub(crate) content_bytes: u64,
    /// Bytes of the encrypted metadata.
    pub(crate) metadata_bytes: u64,
    /// BLAKE3 of header and content.
    pub(crate) content_hash: [u8; 32],
    pub(crate) signature: [u8; 64],
}

impl Trailer {
    pub(crate) fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0u8; TRAILER_BYTES];
        bytes[..32].copy_from_slice(&self.salt);
        bytes[32..64].copy_from_slice(&self.writer);
        bytes[64..72].copy_from_slice(&self.content_bytes.to_le_bytes());
        bytes[72..80].copy_from_slice(&self.metadata_bytes.to_le_bytes());
        bytes[80..112].copy_from_slice(&self.content_hash);
        bytes[112..176].copy_from_slice(&self.signature);
        bytes[176..].copy_from_slice(END_MAGIC);
        bytes
    }

    /// Reads the last bytes of an object of `size` bytes and checks that the lengths add up.
    pub(crate) fn parse(path: &str, tail: &[u8], size: u64) -> Result<Self> {
        let corrupt = |what: &str| RepositoryError::corrupt(path, what);
        let bytes: &[u8; TRAILER_BYTES] =
            tail.last_chunk().ok_or_else(|| corrupt("it is too short to be an object"))?;
        if bytes[176..] != END_MAGIC[..] {
            return Err(corrupt("it does not end like an object of a repository"));
        }
        let trailer = Self {
            salt: array(&bytes[..32]),
            writer: array(&bytes[32..64]),
            content_bytes: u64::from_le_bytes(array(&bytes[64..72])),
            metadata_bytes: u64::from_le_bytes(array(&bytes[72..80])),
            content_hash: array(&bytes[80..112]),
            signature: array(&bytes[112..176]),
        };
        if trailer.metadata_bytes > MAX_METADATA {
            return Err(corrupt("its metadata is impossibly long"));
        }
        let total = trailer
            .content_bytes
            .checked_add(trailer.metadata_bytes)
            .and_then(|n| n.checked_add((HEADER_BYTES + TRAILER_BYTES) as u64));
        if total != Some(size) {
            return Err(corrupt("its length is not the one it was written with"));
        }
        Ok(trailer)
    }

    /// What the writer signs.
    pub(crate) fn signed_message(
        &self,
        repository: Uuid,
        path: &str,
        kind: ObjectKind,
        metadata: &[u8],
    ) -> Vec<u8> {
        let mut message = Vec::with_capacity(256);
        message.extend_from_slice(b"holdfast/1/object\0");
        message.extend_from_slice(repository.as_bytes());
        message.extend_from_slice(blake3::hash(path.as_bytes()).as_bytes());
        message.push(kind.code());
        message.extend_from_slice(&self.salt);
        message.extend_from_slice(&self.writer);
        message.extend_from_slice(&self.content_bytes.to_le_bytes());
        message.extend_from_slice(&self.metadata_bytes.to_le_bytes());
        message.extend_from_slice(&self.content_hash);
        message.extend_from_slice(blake3::hash(metadata).as_bytes());
        message
    }
}

/// The caller gives a slice of exactly `N` bytes.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0u8; N];
    out.copy_from_slice(bytes);
    out
}

/// Where a frame is: `[offset in the object, stored bytes, raw bytes]`.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct FrameEntry(pub(crate) u64, pub(crate) u32, pub(crate) u32);

impl FrameEntry {
    pub(crate) fn offset(self) -> u64 {
        self.0
    }
    pub(crate) fn stored(self) -> u64 {
        self.1.into()
    }
    pub(crate) fn raw(self) -> u64 {
        self.2.into()
    }
    pub(crate) fn end(self) -> u64 {
        self.0.saturating_add(self.1.into())
    }
}

/// The decrypted metadata.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metadata {
    /// The header again, so that frames can be opened after reading only the tail.
    pub(crate) header: HexHeader,
    pub(crate) frames: Vec<FrameEntry>,
    pub(crate) body: Box<RawValue>,
}

/// A header as 120 hex digits.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct HexHeader(pub(crate) [u8; HEADER_BYTES]);

impl Serialize for HexHeader {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for HexHeader {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        from_hex(&text)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("a header is 120 lower-case hex digits"))
    }
}

/// Frames must fill the content without gaps.
pub(crate) fn check_frames(path: &str, frames: &[FrameEntry], content_bytes: u64) -> Result<()> {
    let corrupt = || RepositoryError::corrupt(path, "its frame table does not fit its content");
    let mut at = HEADER_BYTES as u64;
    for frame in frames {
        let possible = frame.offset() == at
            && frame.stored() <= MAX_FRAME_STORED
            && frame.stored() > 16
            && frame.raw() <= MAX_FRAME_RAW as u64;
        if !possible {
            return Err(corrupt());
        }
        at = frame.end();
    }
    if at == HEADER_BYTES as u64 + content_bytes { Ok(()) } else { Err(corrupt()) }
}

/// HPKE's `info`: a content key belongs to one object of one repository.
fn content_info(repository: Uuid, kind: ObjectKind, path: &str) -> Vec<u8> {
    let mut info = b"holdfast/1/content\0".to_vec();
    info.extend_from_slice(repository.as_bytes());
    info.push(kind.code());
    info.extend_from_slice(path.as_bytes());
    info
}

/// A fresh content key for an object that is being written; also the header's `encapsulated`.
pub(crate) fn new_content_key(
    keys: &WriterKeys,
    kind: ObjectKind,
    suite: Suite,
    path: &str,
    salt: &[u8; 32],
) -> Result<([u8; 32], Secret)> {
    let sealing: &SealingKey = &keys.sealing;
    match suite {
        Suite::Sealed => sealing.encapsulate(&content_info(keys.repository, kind, path)),
        Suite::Shared => Ok(([0; 32], shared_content_key(keys, kind, salt))),
        Suite::Empty => Ok(([0; 32], Secret::new(random()?))),
    }
}

/// Not bound to the path, which is not known while the content is being spooled; the signature
/// binds it.
fn shared_content_key(keys: &WriterKeys, kind: ObjectKind, salt: &[u8; 32]) -> Secret {
    let info: [&[u8]; 2] = [b"holdfast/1/shared-content\0", &[kind.code()]];
    derive(keys.metadata.as_slice(), salt, &info)
}

/// The key of an object's metadata.
pub(crate) fn metadata_key(
    keys: &WriterKeys,
    kind: ObjectKind,
    path: &str,
    salt: &[u8; 32],
) -> Secret {
    let info: [&[u8]; 3] = [b"holdfast/1/metadata\0", &[kind.code()], path.as_bytes()];
    derive(keys.metadata.as_slice(), salt, &info)
}

/// The content key of an object that is being read.
pub(crate) fn content_key(
    writer: &WriterKeys,
    reader: Option<&ReaderKeys>,
    header: &Header,
    path: &str,
    salt: &[u8; 32],
) -> Result<Secret> {
    match header.suite {
        Suite::Shared => Ok(shared_content_key(writer, header.kind, salt)),
        Suite::Empty => Err(RepositoryError::corrupt(path, "it has no content")),
        Suite::Sealed => {
            let reader =
                reader.ok_or(RepositoryError::KeyRequired { operation: "reading content" })?;
            let info = content_info(header.repository, header.kind, path);
            reader
                .opening
                .decapsulate(&header.encapsulated, &info)
                .ok_or_else(|| RepositoryError::corrupt(path, "its content key is malformed"))
        }
    }
}
