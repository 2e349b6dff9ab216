//! New files that hold a secret.

use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};

use crate::error::{EngineError, Result};

/// A file that did not exist before and that only its owner can read. Dropped before it is kept, it goes.
pub(crate) struct SecretFile {
    path: PathBuf,
    file: std::fs::File,
    kept: bool,
}

impl SecretFile {
    /// Creates it, empty.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let mut options = std::fs::File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        match options.open(path) {
            Ok(file) => Ok(Self { path: path.to_path_buf(), file, kept: false }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(EngineError::refused(
                    "file_exists",
                    format!("{} exists already", path.display()),
                    "Choose another name: a file is never overwritten by a key.",
                ))
            }
            Err(error) => Err(EngineError::file("create", path)(error)),
        }
    }

    /// Makes `text` the whole content, synced.
    pub(crate) fn write(&mut self, text: &str) -> Result<()> {
        self.file
            .rewind()
            .and_then(|()| self.file.write_all(text.as_bytes()))
            .and_then(|()| self.file.set_len(text.len() as u64))
            .and_then(|()| self.file.sync_all())
            .map_err(EngineError::file("write", &self.path))
    }

    /// From here on it stays, whatever fails.
    pub(crate) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_secret_file_is_new_and_private_and_goes_unless_it_is_kept() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("key");
        let mut file = SecretFile::create(&path).unwrap();
        file.write("a long text").unwrap();
        file.write("short").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "short");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(SecretFile::create(&path).is_err());
        drop(file);
        assert!(!path.exists());
        let mut file = SecretFile::create(&path).unwrap();
        file.keep();
        drop(file);
        assert!(path.exists());
    }
}
