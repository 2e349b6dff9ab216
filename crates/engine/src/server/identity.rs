//! Under which user a private server runs. PostgreSQL refuses to run as root.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{EngineError, Result};

/// The user that a private server and its tools run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunAs {
    /// Whoever runs Holdfast.
    Myself,
    /// Another user, because Holdfast runs as root.
    Other {
        /// Its name, for messages.
        name: String,
        /// Its user id.
        uid: u32,
        /// Its group id.
        gid: u32,
    },
}

/// The names looked for, in this order, when Holdfast runs as root.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

impl RunAs {
    /// Finds the user for this process.
    ///
    /// # Errors
    /// [`EngineError::Refused`] when running as root on a machine without `postgres` and `nobody`.
    pub fn detect() -> Result<Self> {
        if !running_as_root()? {
            return Ok(Self::Myself);
        }
        let passwd = std::fs::read_to_string("/etc/passwd")
            .map_err(EngineError::file("read", "/etc/passwd"))?;
        CANDIDATES.iter().find_map(|name| find_user(&passwd, name)).ok_or_else(|| {
            EngineError::refused(
                "no_unprivileged_user",
                "PostgreSQL refuses to run as root and this machine has neither a user postgres nor nobody",
                "Run Holdfast as an ordinary user, or create a user named postgres.",
            )
        })
    }

    /// A command that runs `program` as this user.
    ///
    /// As root on Linux the program keeps one right of root's, to search directories
    /// (`CAP_DAC_READ_SEARCH`), where a directory on the way to `needed` is closed to that user:
    /// a data directory below a private directory can then still be served.
    pub fn command(&self, program: &Path, needed: &[&Path]) -> Command {
        let Self::Other { uid, gid, .. } = self else { return Command::new(program) };
        let reachable =
            std::iter::once(program).chain(needed.iter().copied()).all(|p| self.can_reach(p));
        #[cfg(target_os = "linux")]
        if !reachable {
            let mut command = Command::new("setpriv");
            command
                .arg(format!("--reuid={uid}"))
                .arg(format!("--regid={gid}"))
                .args([
                    "--clear-groups",
                    "--inh-caps=+dac_read_search",
                    "--ambient-caps=+dac_read_search",
                    "--",
                ])
                .arg(program);
            return command;
        }
        let _ = reachable;
        let mut command = Command::new(program);
        #[cfg(unix)]
        {
            use std::os::unix::process::CommandExt as _;
            command.uid(*uid).gid(*gid);
        }
        command
    }

    /// Gives a file or directory to this user; nothing to do for oneself.
    ///
    /// # Errors
    /// [`EngineError::File`].
    pub fn own(&self, path: &Path) -> Result<()> {
        #[cfg(unix)]
        if let Self::Other { uid, gid, .. } = self {
            std::os::unix::fs::lchown(path, Some(*uid), Some(*gid))
                .map_err(EngineError::file("hand over", path))?;
        }
        let _ = path;
        Ok(())
    }

    /// Gives a whole tree to this user.
    ///
    /// # Errors
    /// [`EngineError::File`].
    pub fn own_tree(&self, root: &Path) -> Result<()> {
        if *self == Self::Myself {
            return Ok(());
        }
        self.own(root)?;
        for entry in std::fs::read_dir(root).map_err(EngineError::file("read", root))? {
            let entry = entry.map_err(EngineError::file("read", root))?;
            let kind = entry.file_type().map_err(EngineError::file("read", entry.path()))?;
            if kind.is_dir() {
                self.own_tree(&entry.path())?;
            } else {
                self.own(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Makes a directory that only this user can enter, unless it is there.
    ///
    /// # Errors
    /// [`EngineError::File`].
    pub fn private_directory(&self, path: &Path) -> Result<()> {
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        match builder.create(path) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(EngineError::file("create", path)(e))
            }
            _ => self.own(path),
        }
    }

    /// Whether every directory above `path` can be searched by this user.
    #[cfg(unix)]
    pub(super) fn can_reach(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let Self::Other { uid, gid, .. } = self else { return true };
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        real.ancestors().skip(1).all(|directory| {
            std::fs::metadata(directory).is_ok_and(|m| {
                let bit = if m.uid() == *uid {
                    0o100
                } else if m.gid() == *gid {
                    0o010
                } else {
                    0o001
                };
                m.mode() & bit != 0
            })
        })
    }

    #[cfg(not(unix))]
    #[allow(clippy::unused_self, reason = "the same signature everywhere")]
    pub(super) fn can_reach(&self, _path: &Path) -> bool {
        true
    }
}

/// Whether this process may do everything: the owner of a file it makes is user 0.
fn running_as_root() -> Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let file = tempfile::tempfile()
            .map_err(EngineError::file("create a temporary file in", std::env::temp_dir()))?;
        let metadata = file
            .metadata()
            .map_err(EngineError::file("look at a temporary file in", std::env::temp_dir()))?;
        Ok(metadata.uid() == 0)
    }
    #[cfg(not(unix))]
    Ok(false)
}

fn find_user(passwd: &str, name: &str) -> Option<RunAs> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(RunAs::Other { name: name.to_owned(), uid, gid })
    })
}

/// A short private directory for sockets: their paths are limited to about 100 bytes.
///
/// # Errors
/// [`EngineError::File`].
pub fn socket_directory(run_as: &RunAs) -> Result<PathBuf> {
    let base = if cfg!(unix) { PathBuf::from("/tmp") } else { std::env::temp_dir() };
    let directory = tempfile::Builder::new()
        .prefix("holdfast-")
        .tempdir_in(&base)
        .map_err(EngineError::file("create a directory in", &base))?
        .keep();
    run_as.own(&directory)?;
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_exact_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\npostgresql:x:7:7::/:\npostgres:x:101:104::/var:/bin/bash\n";
        assert_eq!(
            find_user(passwd, "postgres"),
            Some(RunAs::Other { name: "postgres".into(), uid: 101, gid: 104 })
        );
        assert_eq!(find_user(passwd, "nobody"), None);
    }
}
