//! The source's configuration files that lay outside its data directory: written beside a copy.
//!
//! They are not put to use: they name directories, addresses and certificates of the source's machine, and
//! a `data_directory` in one of them would win over the copy's own.

use std::io::Write as _;
use std::path::{Component, Path, PathBuf};

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use super::fetch::sync_directory;
use super::place::create_private;
use crate::error::{EngineError, Result};
use crate::server::identity::RunAs;
use crate::snapshot::{Captured, ConfigurationFile};

/// The source's configuration, where it lay outside the data directory.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct SourceConfiguration {
    /// The directory beside the copy that holds the files, below their paths on the source.
    pub directory: String,
    /// The files' paths on the source.
    pub files: Vec<String>,
    /// Files that no backup holds, since the role could not read them.
    pub missing: Vec<String>,
}

/// A directory beside the copy at which nothing stands.
pub(super) fn directory_beside(destination: &Path) -> PathBuf {
    let name = destination.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut directory = destination.with_file_name(format!("{name}.configuration"));
    let mut number = 1;
    while directory.symlink_metadata().is_ok() {
        number += 1;
        directory = destination.with_file_name(format!("{name}.configuration-{number}"));
    }
    directory
}

/// Writes the files, durably. Blocks.
///
/// # Errors
/// [`EngineError::File`]; integrity for a path that leads out of the directory.
pub(super) fn write(
    directory: &Path,
    files: &[ConfigurationFile],
    run_as: &RunAs,
) -> Result<SourceConfiguration> {
    let mut written = SourceConfiguration {
        directory: directory.display().to_string(),
        files: Vec::new(),
        missing: Vec::new(),
    };
    create_private(directory)?;
    for file in files {
        let Captured::Base64(text) = &file.content else {
            written.missing.push(file.path.clone());
            continue;
        };
        let damaged = || {
            EngineError::integrity(
                "configuration_damaged",
                format!("the snapshot's configuration file {:?} cannot be written", file.path),
                "It is not what Holdfast wrote. Choose another snapshot.",
            )
        };
        let bytes = BASE64.decode(text.as_bytes()).map_err(|_| damaged())?;
        let path = directory.join(below(&file.path).ok_or_else(damaged)?);
        let parent = path.parent().unwrap_or(directory);
        std::fs::create_dir_all(parent).map_err(EngineError::file("create", parent))?;
        let mut options = std::fs::File::options();
        options.write(true).create_new(true);
        // Access rules and connection strings are nobody else's business.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options
            .open(&path)
            .and_then(|mut out| out.write_all(&bytes).and_then(|()| out.sync_all()))
            .map_err(EngineError::file("write", &path))?;
        sync_directory(parent)?;
        written.files.push(file.path.clone());
    }
    run_as.own_tree(directory)?;
    Ok(written)
}

/// A path of the source as one below a directory; none for one that would lead out of it.
fn below(path: &str) -> Option<PathBuf> {
    let mut relative = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => relative.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (!relative.as_os_str().is_empty()).then_some(relative)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file(path: &str, content: &[u8]) -> ConfigurationFile {
        ConfigurationFile {
            path: path.to_owned(),
            content: Captured::Base64(BASE64.encode(content)),
        }
    }

    #[test]
    fn files_are_written_below_their_paths() {
        let place = tempfile::tempdir().unwrap();
        let copy = place.path().join("copy");
        let directory = directory_beside(&copy);
        assert_eq!(directory, place.path().join("copy.configuration"));
        let unread = ConfigurationFile {
            path: "/etc/postgresql/pg_ident.conf".to_owned(),
            content: Captured::NotRead("permission denied".to_owned()),
        };
        let files = [file("/etc/postgresql/pg_hba.conf", b"# caf\xe9\n"), unread];
        let written = write(&directory, &files, &RunAs::Myself).unwrap();
        assert_eq!(written.files, ["/etc/postgresql/pg_hba.conf"]);
        assert_eq!(written.missing, ["/etc/postgresql/pg_ident.conf"]);
        let back = std::fs::read(directory.join("etc/postgresql/pg_hba.conf")).unwrap();
        assert_eq!(back, b"# caf\xe9\n");
        assert_eq!(directory_beside(&copy), place.path().join("copy.configuration-2"));
    }

    #[test]
    fn nothing_is_written_elsewhere() {
        let place = tempfile::tempdir().unwrap();
        for path in ["/etc/../../out", "", "/"] {
            let written = write(&place.path().join("d"), &[file(path, b"x")], &RunAs::Myself);
            assert_eq!(written.unwrap_err().to_object().code, "configuration_damaged", "{path}");
        }
    }
}
