//! Where the files of a snapshot go: the data directory, and directories of their own for tablespaces.
//!
//! Nothing that stands there is followed: where a directory is needed and a link stands, the link is
//! removed, and what it led to stays as it is.

use std::collections::{BTreeMap, HashSet};
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{EngineError, Result};

/// Where a copy's files go.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// The data directory.
    pub(super) data_directory: PathBuf,
    /// Tablespaces that get a directory of their own; all others are directories inside the data directory.
    pub(super) tablespaces: BTreeMap<u32, PathBuf>,
}

impl Place {
    /// The path of a name in the list of files; nothing outside.
    ///
    /// # Errors
    /// [`EngineError::Integrity`] for a name that is no path inside a data directory.
    pub(super) fn path(&self, name: &str) -> Result<PathBuf> {
        let relative = Path::new(name);
        if name.is_empty() || !relative.components().all(|c| matches!(c, Component::Normal(_))) {
            return Err(EngineError::integrity(
                "path_outside",
                format!("the snapshot lists {name:?}, which is no path inside a data directory"),
                "The list of files is not one that Holdfast wrote. Nothing was written there.",
            ));
        }
        if let Some((directory, rest)) = self.mapped(name) {
            return Ok(if rest.is_empty() { directory.clone() } else { directory.join(rest) });
        }
        Ok(self.data_directory.join(relative))
    }

    /// The directory of its own of the tablespace that a name belongs to, and the name in it.
    fn mapped<'a>(&self, name: &'a str) -> Option<(&PathBuf, &'a str)> {
        let rest = name.strip_prefix("pg_tblspc/")?;
        let (oid, rest) = rest.split_once('/').unwrap_or((rest, ""));
        Some((self.tablespaces.get(&oid.parse().ok()?)?, rest))
    }

    /// The data directory and every tablespace's own.
    pub(super) fn roots(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.data_directory.as_path())
            .chain(self.tablespaces.values().map(PathBuf::as_path))
    }

    /// The root that a path lies in.
    fn root_of(&self, path: &Path) -> &Path {
        self.roots()
            .filter(|root| path.starts_with(root))
            .max_by_key(|r| r.as_os_str().len())
            .unwrap_or(&self.data_directory)
    }

    /// The links to tablespaces with a directory of their own: where they stand, where they lead.
    pub(super) fn links(&self) -> impl Iterator<Item = (PathBuf, &Path)> {
        self.tablespaces.iter().map(|(oid, directory)| {
            (self.data_directory.join("pg_tblspc").join(oid.to_string()), directory.as_path())
        })
    }
}

/// PostgreSQL takes a data directory that only its owner can read.
pub(super) fn create_private(destination: &Path) -> Result<()> {
    std::fs::create_dir_all(destination).map_err(EngineError::file("create", destination))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(destination, std::fs::Permissions::from_mode(0o700))
            .map_err(EngineError::file("protect", destination))?;
    }
    Ok(())
}

/// Directories that are known to be real ones.
#[derive(Debug, Default)]
pub(super) struct Directories(HashSet<PathBuf>);

impl Directories {
    /// Makes sure that `path` and everything above it up to its root are directories, not links.
    ///
    /// # Errors
    /// [`EngineError::File`].
    pub(super) fn ensure(&mut self, place: &Place, path: &Path) -> Result<()> {
        if self.0.contains(path) {
            return Ok(());
        }
        if path != place.root_of(path)
            && let Some(parent) = path.parent()
        {
            self.ensure(place, parent)?;
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                remove(path)?;
                create(path)?;
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => create(path)?,
            Err(e) => return Err(EngineError::file("look at", path)(e)),
        }
        self.0.insert(path.to_path_buf());
        Ok(())
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.0.iter()
    }
}

fn create(path: &Path) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(EngineError::file("create", path))
}

/// Which directory it is, whatever it is called: its number in its file system and, since numbers are
/// given again, when it was made, where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    number: u64,
    /// Seconds and nanoseconds since 1970.
    made: Option<(u64, u32)>,
}

impl Identity {
    /// Of the directory that stands at `path`; of a link its own.
    ///
    /// # Errors
    /// [`EngineError::File`].
    pub(super) fn of(path: &Path) -> Result<Self> {
        let found = std::fs::symlink_metadata(path).map_err(EngineError::file("look at", path))?;
        #[cfg(unix)]
        let number = std::os::unix::fs::MetadataExt::ino(&found);
        #[cfg(not(unix))]
        let number = 0;
        let made = found.created().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        Ok(Self { number, made: made.map(|since| (since.as_secs(), since.subsec_nanos())) })
    }

    /// Whether that directory stands at `path`.
    pub(super) fn stands_at(self, path: &Path) -> bool {
        Self::of(path).is_ok_and(|found| found == self)
    }
}

/// Refuses unless nothing stands at `path`, or the directory that a restore made its `copy` in. Where
/// that was not noted yet, nothing was written either.
///
/// # Errors
/// [`EngineError::Refused`]; [`EngineError::File`] when it cannot be looked at.
pub(super) fn require_ours(path: &Path, copy: Option<Identity>) -> Result<()> {
    let ours = match (std::fs::symlink_metadata(path), copy) {
        (Err(e), _) if e.kind() == std::io::ErrorKind::NotFound => true,
        (Err(e), _) => return Err(EngineError::file("look at", path)(e)),
        (Ok(_), Some(copy)) => copy.stands_at(path),
        (Ok(_), None) => std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none()),
    };
    if ours {
        return Ok(());
    }
    Err(EngineError::refused(
        "directory_replaced",
        format!("{} is another directory than the one that the restore wrote", path.display()),
        "Somebody has put it there: it is not touched. Move it away, and try again.",
    ))
}

/// What was just stopped may write for so long into what is being removed.
const WRITTEN_BY_THE_STOPPED: Duration = Duration::from_secs(5);

/// Removes whatever stands at `path`: of a link the link, of a directory all of it. Nothing there is fine.
/// Blocks: a directory into which something is still written is tried again.
///
/// # Errors
/// [`EngineError::File`].
pub(super) fn remove(path: &Path) -> Result<()> {
    let began = Instant::now();
    loop {
        let removed = match std::fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
            Ok(_) => std::fs::remove_file(path),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => Err(e),
        };
        match removed {
            Ok(()) => return Ok(()),
            Err(e)
                if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty)
                    && began.elapsed() < WRITTEN_BY_THE_STOPPED =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(e) => return Err(EngineError::file("remove", path)(e)),
        }
    }
}

/// Removes everything below `directory` that is not expected there; gives how many entries that were.
/// Links are removed, never followed.
///
/// # Errors
/// [`EngineError::File`].
pub(super) fn remove_others(directory: &Path, expected: &HashSet<PathBuf>) -> Result<u64> {
    let mut removed = 0;
    let entries = std::fs::read_dir(directory).map_err(EngineError::file("read", directory))?;
    for entry in entries {
        let entry = entry.map_err(EngineError::file("read", directory))?;
        let path = entry.path();
        if !expected.contains(&path) {
            remove(&path)?;
            removed += 1;
        } else if entry.file_type().map_err(EngineError::file("look at", &path))?.is_dir() {
            removed += remove_others(&path, expected)?;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_directory_that_is_still_written_into_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("copy");
        std::fs::create_dir(&directory).unwrap();
        let (begun, begins) = std::sync::mpsc::channel();
        let writer = {
            let directory = directory.clone();
            std::thread::spawn(move || {
                for number in 0..20_000_u32 {
                    if std::fs::write(directory.join(number.to_string()), "x").is_err() {
                        break;
                    }
                    if number == 2000 {
                        begun.send(()).unwrap();
                    }
                }
            })
        };
        begins.recv().unwrap();
        remove(&directory).unwrap();
        writer.join().unwrap();
        assert!(!directory.exists());
        remove(&directory).unwrap();
    }

    fn place(root: &Path) -> Place {
        Place {
            data_directory: root.join("data"),
            tablespaces: BTreeMap::from([(16385, root.join("space"))]),
        }
    }

    #[test]
    fn paths_stay_inside_the_destination() {
        let place = place(Path::new("/srv"));
        assert_eq!(place.path("base/5/1259").unwrap(), Path::new("/srv/data/base/5/1259"));
        for bad in ["", "/etc/passwd", "../x", "base/../../x", "pg_tblspc/16385/../../etc"] {
            assert!(place.path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tablespace_goes_where_it_is_told() {
        let place = place(Path::new("/srv"));
        assert_eq!(place.path("pg_tblspc/16385").unwrap(), Path::new("/srv/space"));
        assert_eq!(
            place.path("pg_tblspc/16385/PG_17/5/9").unwrap(),
            Path::new("/srv/space/PG_17/5/9")
        );
        assert_eq!(
            place.path("pg_tblspc/16386/x").unwrap(),
            Path::new("/srv/data/pg_tblspc/16386/x")
        );
    }

    #[test]
    fn a_directory_of_somebody_else_is_not_ours() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("copy");
        require_ours(&path, None).unwrap();
        std::fs::create_dir(&path).unwrap();
        require_ours(&path, None).unwrap();
        let copy = Identity::of(&path).unwrap();
        std::fs::write(path.join("PG_VERSION"), "17").unwrap();
        assert!(require_ours(&path, None).is_err(), "nothing was noted, and something is there");
        require_ours(&path, Some(copy)).unwrap();
        std::fs::rename(&path, root.path().join("moved")).unwrap();
        require_ours(&path, Some(copy)).unwrap();
        std::fs::create_dir(&path).unwrap();
        let error = require_ours(&path, Some(copy)).unwrap_err();
        assert_eq!(error.to_object().code, "directory_replaced");
        assert!(copy.stands_at(&root.path().join("moved")));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_replaced_and_what_it_led_to_stays() {
        let root = tempfile::tempdir().unwrap();
        let place = Place { data_directory: root.path().join("data"), ..Place::default() };
        let elsewhere = root.path().join("elsewhere");
        std::fs::create_dir_all(place.data_directory.join("base")).unwrap();
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::write(elsewhere.join("sentinel"), "untouched").unwrap();
        let link = place.data_directory.join("base/5");
        std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
        Directories::default().ensure(&place, &link.join("deep")).unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_dir());
        std::os::unix::fs::symlink(&elsewhere, place.data_directory.join("other")).unwrap();
        let expected = HashSet::from([place.data_directory.join("base"), link.clone()]);
        assert_eq!(remove_others(&place.data_directory, &expected).unwrap(), 2);
        assert_eq!(std::fs::read_to_string(elsewhere.join("sentinel")).unwrap(), "untouched");
        assert!(link.exists() && !link.join("deep").exists());
    }
}
