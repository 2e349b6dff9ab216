//! Restoring over a data directory: what stands there is kept where its content is the snapshot's, and
//! overwritten or removed where it is not. There is no way back.

use std::path::Path;

use holdfast_postgres::{ControlFile, SystemIdentifier};

use super::in_place::require_stopped;
use crate::error::{EngineError, Result};

/// Refuses a directory that must not be overwritten: no whole data directory of this cluster, in use, or
/// one that holds, or lies in, something else. `apart` are directories of Holdfast's own.
///
/// # Errors
/// [`EngineError::Refused`] with what is wrong.
pub(super) fn check(
    directory: &Path,
    system: SystemIdentifier,
    apart: &[impl AsRef<Path>],
) -> Result<()> {
    let refused = |message: String, hint: &str| {
        Err(EngineError::refused("destination_unusable", message, hint))
    };
    require_stopped(directory)?;
    let control = directory.join("global/pg_control");
    let found = std::fs::read(&control).ok().and_then(|bytes| ControlFile::parse(&bytes).ok());
    match found {
        Some(control) if control.system_identifier == system => {}
        Some(control) => {
            return refused(
                format!(
                    "{} is of another cluster (system identifier {} instead of {system})",
                    directory.display(),
                    control.system_identifier
                ),
                "Check the path: a restore never overwrites another cluster.",
            );
        }
        None => {
            return refused(
                format!(
                    "{} is no data directory, or has no pg_control that can be read",
                    directory.display()
                ),
                "--delta overwrites a data directory of this cluster. Of a restore that was interrupted, resume the job; \
                 for a damaged directory use --in-place, which keeps it.",
            );
        }
    }
    for other in apart.iter().map(AsRef::as_ref) {
        let real = other.canonicalize().unwrap_or_else(|_| other.to_path_buf());
        if real.is_absolute() && (real.starts_with(directory) || directory.starts_with(&real)) {
            return refused(
                format!("{} and {} lie in each other", directory.display(), real.display()),
                "A restore never overwrites the repository or Holdfast's own files. Choose another directory.",
            );
        }
    }
    if let Some(inner) = foreign(directory) {
        return refused(
            format!("{} holds something of its own: {inner}", directory.display()),
            "What the snapshot does not have would be removed. Move it away first.",
        );
    }
    if let Some(outer) =
        directory.ancestors().skip(1).find(|above| above.join("PG_VERSION").is_file())
    {
        return refused(
            format!("{} lies in the data directory {}", directory.display(), outer.display()),
            "Choose a data directory that lies in no other.",
        );
    }
    Ok(())
}

/// Something in a data directory that is not of it: another data directory, a repository, another file
/// system.
fn foreign(directory: &Path) -> Option<String> {
    let real_directories = |path: &Path| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path())
    };
    for child in real_directories(directory) {
        if is_mount(&child, directory) {
            return Some(format!("the mount point {}", child.display()));
        }
        let own =
            ["base", "pg_tblspc"].iter().any(|name| child.file_name().is_some_and(|n| n == *name));
        let inner = real_directories(&child).filter(|_| !own);
        for candidate in std::iter::once(child.clone()).chain(inner) {
            for mark in ["global/pg_control", "holdfast.json"] {
                if candidate.join(mark).exists() {
                    return Some(format!("{}", candidate.join(mark).display()));
                }
            }
        }
    }
    None
}

#[cfg(unix)]
fn is_mount(child: &Path, parent: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (std::fs::symlink_metadata(child), std::fs::symlink_metadata(parent)) {
        (Ok(child), Ok(parent)) => child.dev() != parent.dev(),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_mount(_child: &Path, _parent: &Path) -> bool {
    false
}

/// Bytes of the regular files below a directory; links are not followed.
pub(super) fn bytes_in(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => bytes_in(&entry.path()),
            Ok(found) if found.is_file() => found.len(),
            _ => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_directory_with_something_else_in_it_is_named() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path();
        std::fs::create_dir_all(data.join("base/5")).unwrap();
        assert_eq!(foreign(data), None);
        std::fs::create_dir_all(data.join("backups/here")).unwrap();
        std::fs::write(data.join("backups/here/holdfast.json"), "{}").unwrap();
        assert!(foreign(data).unwrap().contains("backups/here/holdfast.json"));
        let error = check(data, SystemIdentifier(7), &[] as &[&Path]).unwrap_err();
        assert_eq!(error.to_object().code, "destination_unusable");
    }
}
