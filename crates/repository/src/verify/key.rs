//! Telling what an object below `keys/` is.

use crate::access::read_slot;
use crate::crypto::from_hex;
use crate::error::{RepositoryError, Result};
use crate::root::{
    KeyDocument, RootDocument, WRITERS_PREFIX, WriterCertificate, read_key_document,
};
use crate::slots::parse_slot_path;

/// An object below `keys/`.
pub(crate) enum Key {
    /// A way in.
    Slot,
    /// What admits a writer.
    Certificate,
    /// Of a creation that was interrupted.
    LeftBehind,
    /// Neither, by its name.
    Stranger,
}

/// What the object is.
///
/// # Errors
/// When it is not what its name says, or nobody who may has signed it.
pub(crate) fn read_key(path: &str, bytes: &[u8], root: &RootDocument) -> Result<Key> {
    if let Some(id) = parse_slot_path(path) {
        return Ok(match read_slot(path, id, bytes, root)? {
            KeyDocument::Own(_) => Key::Slot,
            KeyDocument::Foreign => Key::LeftBehind,
        });
    }
    let Some(public) = writer_of(path) else { return Ok(Key::Stranger) };
    let certificate = read_key_document(
        path,
        bytes,
        root,
        |certificate: &WriterCertificate| certificate.repository,
        |certificate| from_hex(&certificate.root_public_key),
    )?;
    match certificate {
        KeyDocument::Foreign => Ok(Key::LeftBehind),
        KeyDocument::Own(own) if from_hex(&own.public_key) == Some(public) => Ok(Key::Certificate),
        KeyDocument::Own(_) => Err(RepositoryError::corrupt(path, "it certifies another writer")),
    }
}

fn writer_of(path: &str) -> Option<[u8; 32]> {
    let name = path.strip_prefix(WRITERS_PREFIX)?.strip_prefix('/')?.strip_suffix(".json")?;
    from_hex(name)
}
