//! Reading the small text files that a connection string leads to.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::error::WireError;

/// Largest service or password file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Reads a file; `None` when it does not exist and nobody named it. Bytes that are not UTF-8 are
/// replaced: they can stand in comments, and a value with them fits nothing.
pub(super) fn read_text(
    what: &'static str,
    path: &Path,
    named: bool,
) -> Result<Option<String>, WireError> {
    let unreadable =
        |source: io::Error| WireError::FileUnreadable { what, path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if !named && is_absent(&error) => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        return Err(unreadable(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "the file is larger than 1 MiB",
        )));
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Whether the answer means that there is no such file.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
