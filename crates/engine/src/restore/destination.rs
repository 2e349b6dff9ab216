//! Where a restore may write.

use std::path::{Path, PathBuf};

use chrono::Utc;

use crate::Engine;
use crate::error::{EngineError, Result};

impl Engine {
    /// A directory for a restore that does not exist yet, in the home directory.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] when there is no such cluster.
    pub async fn suggest_destination(&self, cluster: &str) -> Result<PathBuf> {
        let cluster = self.cluster(cluster).await?;
        let name = format!("{}-{}", cluster.name, Utc::now().format("%Y%m%dT%H%M%SZ"));
        Ok(self.home().root().join("restored").join(name))
    }
}

/// A destination that exists is taken where it really is: PostgreSQL looks at the owner of the
/// directory, not of a link to it.
pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    if let Ok(real) = path.canonicalize() {
        return Ok(real);
    }
    std::path::absolute(path).map_err(EngineError::file("resolve", path))
}

/// A restore writes into a directory that is absent or empty, never over anything.
pub(super) fn check_destination(path: &Path) -> Result<()> {
    match std::fs::read_dir(path) {
        Ok(mut entries) => {
            if entries.next().is_none() {
                return Ok(());
            }
            Err(EngineError::refused(
                "destination_not_empty",
                format!("{} is not empty", path.display()),
                "Choose a directory that does not exist yet, or an empty one. Nothing was written.",
            ))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let parent = path.parent().unwrap_or(Path::new("/"));
            let existing = parent.ancestors().find(|p| p.exists());
            match existing {
                Some(p) if p.is_dir() => Ok(()),
                _ => Err(EngineError::refused(
                    "destination_unusable",
                    format!("{} cannot be created", path.display()),
                    "Choose a directory below one that exists.",
                )),
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory && !path.exists() => {
            Err(EngineError::refused(
                "destination_unusable",
                format!("{} cannot be created: what is above it is a file", path.display()),
                "Choose a directory below one that exists.",
            ))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => Err(EngineError::refused(
            "destination_not_empty",
            format!("{} is a file", path.display()),
            "Choose a directory that does not exist yet, or an empty one. Nothing was written.",
        )),
        Err(e) => Err(EngineError::file("read", path)(e)),
    }
}

/// The folder of a repository; for any other store a path that is none.
pub(super) fn repository_folder(url: &str) -> PathBuf {
    PathBuf::from(url.strip_prefix("file://").unwrap_or(url))
}
