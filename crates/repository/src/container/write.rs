//! Writing a container: header, frames in order, metadata, trailer.

use std::io::Write;

use serde::Serialize;
use serde_json::value::RawValue;

use super::frame::{self, Codec, EncodedFrame};
use super::{
    FrameEntry, HEADER_BYTES, Header, HexHeader, MAX_FRAME_RAW, MAX_METADATA, Metadata, Suite,
    TRAILER_BYTES, Trailer, metadata_key, new_content_key,
};
use crate::crypto::{Cipher, random};
use crate::error::{RepositoryError, Result};
use crate::keys::WriterKeys;
use crate::object::ObjectKind;

/// A container whose content is being written to `W`.
pub(crate) struct ContainerWriter<W> {
    out: W,
    header: Header,
    header_hash: [u8; 32],
    salt: [u8; 32],
    cipher: Cipher,
    hasher: blake3::Hasher,
    frames: Vec<FrameEntry>,
    offset: u64,
    /// One frame is held back, because the last one is sealed differently.
    pending: Option<EncodedFrame>,
}

/// A finished container.
pub(crate) struct Finished<W> {
    pub(crate) out: W,
    pub(crate) header: Header,
    pub(crate) frames: Vec<FrameEntry>,
    /// Bytes of the whole object.
    pub(crate) size: u64,
    /// BLAKE3 of the whole object.
    pub(crate) hash: [u8; 32],
}

impl<W: Write> ContainerWriter<W> {
    /// Writes the header. `path` may be empty for [`Suite::Shared`], whose content key does not
    /// depend on it.
    pub(crate) fn begin(
        keys: &WriterKeys,
        path: &str,
        kind: ObjectKind,
        suite: Suite,
        mut out: W,
    ) -> Result<Self> {
        let salt = random()?;
        let (encapsulated, key) = new_content_key(keys, kind, suite, path, &salt)?;
        let header = Header { kind, suite, repository: keys.repository, encapsulated };
        let bytes = header.encode();
        out.write_all(&bytes).map_err(spool)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&bytes);
        Ok(Self {
            out,
            header_hash: header.hash(),
            header,
            salt,
            cipher: Cipher::new(&key)?,
            hasher,
            frames: Vec::new(),
            offset: HEADER_BYTES as u64,
            pending: None,
        })
    }

    /// Appends a frame.
    pub(crate) fn push(&mut self, next: EncodedFrame) -> Result<()> {
        match self.pending.replace(next) {
            Some(previous) => self.seal(previous, false),
            None => Ok(()),
        }
    }

    /// Bytes so far, the frame held back included.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.offset + self.pending.as_ref().map_or(0, |frame| frame.plain.len() as u64 + 16)
    }

    fn seal(&mut self, frame: EncodedFrame, last: bool) -> Result<()> {
        let EncodedFrame { mut plain, raw_bytes } = frame;
        let counter = self.frames.len() as u64;
        frame::seal(&self.cipher, &self.header_hash, counter, last, &mut plain)?;
        self.hasher.update(&plain);
        self.out.write_all(&plain).map_err(spool)?;
        let too_long = |_| RepositoryError::worker("a frame is longer than it may be");
        let stored = u32::try_from(plain.len()).map_err(too_long)?;
        let raw = u32::try_from(raw_bytes).map_err(too_long)?;
        // A reader refuses the whole object for such a frame: it is not written in the first place.
        if raw_bytes > MAX_FRAME_RAW {
            return Err(RepositoryError::worker("a frame has more raw bytes than it may have"));
        }
        self.frames.push(FrameEntry(self.offset, stored, raw));
        self.offset += u64::from(stored);
        Ok(())
    }

    /// Appends metadata and trailer, signed by `keys`.
    pub(crate) fn finish(
        mut self,
        keys: &WriterKeys,
        codec: &Codec,
        path: &str,
        body: Box<RawValue>,
    ) -> Result<Finished<W>> {
        if let Some(last) = self.pending.take() {
            self.seal(last, true)?;
        }
        let metadata = Metadata {
            header: HexHeader(self.header.encode()),
            frames: std::mem::take(&mut self.frames),
            body,
        };
        let text = to_json(path, &metadata)?;
        let sealed = seal_metadata(keys, codec, self.header.kind, path, &self.salt, &text)?;
        let mut trailer = Trailer {
            salt: self.salt,
            writer: *keys.signer.public(),
            content_bytes: self.offset - HEADER_BYTES as u64,
            metadata_bytes: sealed.len() as u64,
            content_hash: *self.hasher.finalize().as_bytes(),
            signature: [0; 64],
        };
        let message = trailer.signed_message(keys.repository, path, self.header.kind, &sealed);
        trailer.signature = keys.signer.sign(&message);
        let trailer = trailer.encode();
        self.hasher.update(&sealed);
        self.hasher.update(&trailer);
        self.out.write_all(&sealed).map_err(spool)?;
        self.out.write_all(&trailer).map_err(spool)?;
        Ok(Finished {
            out: self.out,
            header: self.header,
            frames: metadata.frames,
            size: self.offset + (sealed.len() + TRAILER_BYTES) as u64,
            hash: *self.hasher.finalize().as_bytes(),
        })
    }
}

fn spool(source: std::io::Error) -> RepositoryError {
    RepositoryError::LocalFile { operation: "write to the local spool", source }
}

/// Serialises a caller's document.
pub(crate) fn to_json<T: Serialize + ?Sized>(path: &str, value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|source| RepositoryError::Document { path: path.to_owned(), source })
}

/// Serialises a caller's document for the `body` field.
pub(crate) fn to_raw<T: Serialize + ?Sized>(path: &str, value: &T) -> Result<Box<RawValue>> {
    serde_json::value::to_raw_value(value)
        .map_err(|source| RepositoryError::Document { path: path.to_owned(), source })
}

/// `raw length u32 LE | codec byte | payload`, encrypted under a key of this object alone.
fn seal_metadata(
    keys: &WriterKeys,
    codec: &Codec,
    kind: ObjectKind,
    path: &str,
    salt: &[u8; 32],
    text: &str,
) -> Result<Vec<u8>> {
    let raw_bytes = u32::try_from(text.len()).ok().filter(|n| u64::from(*n) <= MAX_METADATA / 2);
    let Some(raw_bytes) = raw_bytes else {
        return Err(RepositoryError::InvalidArgument {
            what: format!("the document for {path} is too long ({} bytes)", text.len()),
        });
    };
    let encoded = codec.encode(text.as_bytes())?;
    let mut plain = Vec::with_capacity(encoded.plain.len() + 20);
    plain.extend_from_slice(&raw_bytes.to_le_bytes());
    plain.extend_from_slice(&encoded.plain);
    Cipher::new(&metadata_key(keys, kind, path, salt))?.seal(0, &[], &mut plain)?;
    Ok(plain)
}

/// A whole container in memory.
pub(crate) fn in_memory(
    keys: &WriterKeys,
    codec: &Codec,
    path: &str,
    kind: ObjectKind,
    suite: Suite,
    frames: impl IntoIterator<Item = Result<EncodedFrame>>,
    body: Box<RawValue>,
) -> Result<Finished<Vec<u8>>> {
    let mut writer = ContainerWriter::begin(keys, path, kind, suite, Vec::new())?;
    for frame in frames {
        writer.push(frame?)?;
    }
    writer.finish(keys, codec, path, body)
}
