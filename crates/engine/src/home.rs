//! Where this machine keeps what is its own: the catalog, the jobs' journals, its device id.

use std::path::{Path, PathBuf};

use holdfast_repository::DeviceId;
use uuid::Uuid;

use crate::error::{EngineError, Result};

/// The home directory of Holdfast. Created on first use, readable by its owner only.
#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// Opens (and creates) the home at `root`.
    ///
    /// # Errors
    /// [`EngineError::File`] when it cannot be created.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let home = Self { root: root.into() };
        for directory in [home.root.clone(), home.jobs()] {
            std::fs::create_dir_all(&directory).map_err(EngineError::file("create", &directory))?;
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&home.root, std::fs::Permissions::from_mode(0o700))
                .map_err(EngineError::file("protect", &home.root))?;
        }
        Ok(home)
    }

    /// `HOLDFAST_HOME`, else the platform's data directory.
    ///
    /// # Errors
    /// [`EngineError::Usage`] when neither is known.
    pub fn default_root(env: impl Fn(&str) -> Option<String>) -> Result<PathBuf> {
        if let Some(home) = env("HOLDFAST_HOME").filter(|h| !h.is_empty()) {
            return Ok(PathBuf::from(home));
        }
        let base = if cfg!(target_os = "macos") {
            env("HOME").map(|h| PathBuf::from(h).join("Library/Application Support"))
        } else if cfg!(windows) {
            env("APPDATA").map(PathBuf::from)
        } else {
            env("XDG_DATA_HOME")
                .filter(|d| d.starts_with('/'))
                .map(PathBuf::from)
                .or_else(|| env("HOME").map(|h| PathBuf::from(h).join(".local/share")))
        };
        base.map(|b| b.join("holdfast")).ok_or_else(|| {
            EngineError::usage(
                "no home directory is known",
                "Set HOLDFAST_HOME or pass --home DIR.",
            )
        })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The catalog's file.
    pub fn catalog(&self) -> PathBuf {
        self.root.join("catalog.db")
    }

    /// The directory of the jobs' journals.
    pub fn jobs(&self) -> PathBuf {
        self.root.join("jobs")
    }

    /// This machine's identity as a writer of repositories, made on first use.
    ///
    /// # Errors
    /// [`EngineError::File`] when it cannot be read or written; a file that is not a UUID is
    /// a fault that is told, never replaced.
    pub fn device(&self) -> Result<DeviceId> {
        let path = self.root.join("device");
        match std::fs::read_to_string(&path) {
            Ok(text) => Uuid::parse_str(text.trim()).map(DeviceId).map_err(|e| {
                EngineError::Fault(format!("{} does not hold a device id: {e}", path.display()))
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let id = Uuid::new_v4();
                let mut file = tempfile::NamedTempFile::new_in(&self.root)
                    .map_err(EngineError::file("create", &path))?;
                std::io::Write::write_all(&mut file, id.to_string().as_bytes())
                    .map_err(EngineError::file("write", &path))?;
                // Another process may have been faster: then its id is ours too.
                match file.persist_noclobber(&path) {
                    Ok(_) => Ok(DeviceId(id)),
                    Err(_) => self.device(),
                }
            }
            Err(e) => Err(EngineError::file("read", &path)(e)),
        }
    }
}

/// What this machine calls itself, for others to know whom to ask.
pub(crate) fn machine_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "this device".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_device_keeps_its_identity() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("h")).unwrap();
        assert_eq!(home.device().unwrap().0, home.device().unwrap().0);
        std::fs::write(home.root().join("device"), "nonsense").unwrap();
        assert!(home.device().is_err());
    }

    #[test]
    fn the_environment_decides_the_root() {
        let env = |name: &str| (name == "HOME").then(|| "/home/x".to_owned());
        assert!(Home::default_root(env).unwrap().starts_with("/home/x"));
        let env = |name: &str| (name == "HOLDFAST_HOME").then(|| "/srv/h".to_owned());
        assert_eq!(Home::default_root(env).unwrap(), PathBuf::from("/srv/h"));
        assert!(Home::default_root(|_| None).is_err());
    }
}
