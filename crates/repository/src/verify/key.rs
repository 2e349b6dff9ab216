//! Telling what an object below `keys/` is.

use crate::access::read_slot;
use crate::error::Result;
use crate::root::{KeyDocument, RootDocument};
use crate::slots::parse_slot_path;
use crate::writers::{read_certificate, writer_of};

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
    Ok(match read_certificate(path, &public, bytes, root)? {
        KeyDocument::Foreign => Key::LeftBehind,
        KeyDocument::Own(_) => Key::Certificate,
    })
}
