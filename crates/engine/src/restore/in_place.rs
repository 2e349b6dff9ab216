//! Restoring in place: the copy is made and proven beside the data directory, then the two change
//! places in one step. The old one is kept until it is purged, and can be swapped back.

use std::path::{Path, PathBuf};

use holdfast_postgres::{ControlFile, SystemIdentifier};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::begun::Begun;
use super::fetch::sync_directory;
use super::place::Identity;
use super::record::RestoreRecord;
use super::result::RestoreResult;
use super::unfinished::Unfinished;
use crate::Engine;
use crate::error::{EngineError, Result};
use crate::jobs::{JobContext, JobId, JobState};
use crate::server::private::{blocking, server_runs_in};

/// Where a restore puts the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// Into a directory that is absent or empty.
    #[default]
    New,
    /// In the place of an existing data directory of the same cluster, which is set aside.
    InPlace,
    /// Over an existing data directory of the same cluster: what stands there is kept where its content
    /// is right, and overwritten or removed where it is not. No way back.
    Delta,
}

/// What a restore in place has set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct SetAside {
    /// Where it is now.
    #[ts(type = "string")]
    pub path: PathBuf,
    /// Whether it is the restored copy, because the old directory was swapped back.
    pub is_copy: bool,
}

/// The end of a change of places.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct Swapped {
    /// The data directory, which now holds what was there before the restore.
    #[ts(type = "string")]
    pub data_directory: PathBuf,
    /// Where the restored copy is kept until it is purged.
    #[ts(type = "string")]
    pub set_aside: PathBuf,
}

/// What a purge removed.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct Purged {
    /// The directory that is gone.
    #[ts(type = "string")]
    pub removed: PathBuf,
}

/// Refuses a directory that cannot be replaced: no data directory, another cluster's, in use, or one in
/// which something of Holdfast's `own` lies, which would be set aside and purged with it.
pub(super) fn check(
    directory: &Path,
    system: SystemIdentifier,
    own: &[impl AsRef<Path>],
) -> Result<()> {
    let refused = |message: String, hint: &str| {
        Err(EngineError::refused("destination_unusable", message, hint.to_owned()))
    };
    let path = directory.join("global/pg_control");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return refused(
                format!("{} is no data directory", directory.display()),
                "--in-place replaces an existing data directory. Leave it out to restore to a new directory.",
            );
        }
        Err(error) => return Err(EngineError::file("read", &path)(error)),
    };
    // A damaged pg_control may be the very reason for the restore: only a readable one can object.
    if let Ok(control) = ControlFile::parse(&bytes)
        && control.system_identifier != system
    {
        return refused(
            format!(
                "{} is of another cluster (system identifier {} instead of {system})",
                directory.display(),
                control.system_identifier
            ),
            "Check the path: a restore never replaces another cluster.",
        );
    }
    for own in own.iter().map(AsRef::as_ref) {
        if own.canonicalize().is_ok_and(|real| real.starts_with(directory)) {
            return refused(
                format!("{} lies in {}", own.display(), directory.display()),
                "The repository and Holdfast's own files would be set aside and purged with it. Move them away first.",
            );
        }
    }
    if directory.is_symlink() || directory.parent().is_none() {
        return refused(
            format!("{} cannot change places", directory.display()),
            "Name the directory itself, not a link to it; it must lie in a directory of its file system.",
        );
    }
    require_stopped(directory)
}

/// Refuses while a server runs in a directory.
pub(super) fn require_stopped(directory: &Path) -> Result<()> {
    if !server_runs_in(directory) {
        return Ok(());
    }
    Err(EngineError::refused(
        "server_running",
        format!("a PostgreSQL server runs in {}", directory.display()),
        format!("Stop it first: pg_ctl stop -D {}", directory.display()),
    ))
}

/// Where the copy is made: beside the directory, on the same file system.
pub(super) fn staging(directory: &Path, job: JobId) -> PathBuf {
    beside(directory, "new", job)
}

fn beside(directory: &Path, what: &str, job: JobId) -> PathBuf {
    let name = directory.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let job = job.to_string();
    directory.with_file_name(format!("{name}.holdfast-{what}-{}", job.get(24..).unwrap_or(&job)))
}

/// Puts the copy in the directory's place; gives where the directory is now. May be called again after
/// it was interrupted: `copy` tells which of the two directories is the copy.
fn swap_in(staging: &Path, directory: &Path, job: JobId, copy: Identity) -> Result<SetAside> {
    let aside = beside(directory, "old", job);
    #[cfg(unix)]
    if copy.stands_at(staging) && directory.exists() {
        require_stopped(directory)?;
        give_owner_of(directory, staging)?;
    }
    change_places(staging, directory, &aside, |path| copy.stands_at(path))?;
    Ok(SetAside { path: aside, is_copy: false })
}

/// Puts the old directory back in its place; gives where the copy is now. May be called again, too.
fn swap_out(old: &Path, directory: &Path, job: JobId, copy: Identity) -> Result<SetAside> {
    let aside = beside(directory, "copy", job);
    change_places(old, directory, &aside, |path| path.exists() && !copy.stands_at(path))?;
    Ok(SetAside { path: aside, is_copy: true })
}

/// Puts what stands at `incoming` in the place of `directory`, which becomes `aside`, from wherever an
/// earlier call was interrupted: `comes_in` tells which of the directories is to have the place.
fn change_places(
    incoming: &Path,
    directory: &Path,
    aside: &Path,
    comes_in: impl Fn(&Path) -> bool,
) -> Result<()> {
    let parent = directory.parent().unwrap_or(Path::new("/"));
    match (comes_in(directory), comes_in(incoming)) {
        (true, false) => {
            // Stopped right behind the exchange: what is called incoming is what went out.
            if incoming.exists() {
                std::fs::rename(incoming, aside)
                    .map_err(EngineError::file("set aside", incoming))?;
            }
            sync_directory(parent)
        }
        (false, true) if directory.exists() => {
            require_stopped(directory)?;
            exchange(incoming, directory, aside)
        }
        (false, true) if aside.exists() => {
            std::fs::rename(incoming, directory).map_err(EngineError::file("place", directory))?;
            sync_directory(parent)
        }
        _ => Err(EngineError::integrity(
            "copy_moved",
            format!(
                "{} and {} are not the directories that were to change places",
                incoming.display(),
                directory.display()
            ),
            "Somebody has moved them. Nothing was removed: look at the directories beside them.",
        )),
    }
}

/// The copy belongs to whom the directory belonged: only that account can start it.
#[cfg(unix)]
fn give_owner_of(directory: &Path, copy: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let old = std::fs::metadata(directory).map_err(EngineError::file("read", directory))?;
    give_to(copy, old.uid(), old.gid())
}

/// Gives a whole tree to an account; links themselves, not what they lead to.
#[cfg(unix)]
pub(super) fn give_to(tree: &Path, uid: u32, gid: u32) -> Result<()> {
    use std::os::unix::fs::{MetadataExt as _, lchown};
    fn own(path: &Path, uid: u32, gid: u32) -> std::io::Result<()> {
        lchown(path, Some(uid), Some(gid))?;
        if std::fs::symlink_metadata(path)?.is_dir() {
            for entry in std::fs::read_dir(path)? {
                own(&entry?.path(), uid, gid)?;
            }
        }
        Ok(())
    }
    let new = std::fs::metadata(tree).map_err(EngineError::file("read", tree))?;
    if (uid, gid) == (new.uid(), new.gid()) {
        return Ok(());
    }
    own(tree, uid, gid).map_err(EngineError::file("hand over", tree))
}

/// Exchanges two directories and gives the one that comes out of `directory` its new name. Where the
/// file system can, there is no moment without a data directory.
fn exchange(incoming: &Path, directory: &Path, aside: &Path) -> Result<()> {
    let parent = directory.parent().unwrap_or(Path::new("/"));
    #[cfg(target_os = "linux")]
    let exchanged = rustix::fs::renameat_with(
        rustix::fs::CWD,
        incoming,
        rustix::fs::CWD,
        directory,
        rustix::fs::RenameFlags::EXCHANGE,
    )
    .is_ok();
    #[cfg(not(target_os = "linux"))]
    let exchanged = false;
    if exchanged {
        std::fs::rename(incoming, aside).map_err(EngineError::file("set aside", incoming))?;
    } else {
        std::fs::rename(directory, aside).map_err(EngineError::file("set aside", directory))?;
        if let Err(error) = std::fs::rename(incoming, directory) {
            // Back to where it was: the directory must not be gone because of us.
            let _ = std::fs::rename(aside, directory);
            return Err(EngineError::file("place", directory)(error));
        }
    }
    sync_directory(parent)
}

/// Refuses what would go by a change of places that did not end.
pub(super) fn swap_unfinished(job: JobId) -> EngineError {
    EngineError::refused(
        "swap_unfinished",
        "the copy and the data directory were about to change places",
        format!(
            "End it with `holdfast restore resume {job}`, or with `holdfast restore swap-back {job}` when that was \
             interrupted."
        ),
    )
}

impl Engine {
    /// The proven copy takes the place of the old directory.
    pub(super) async fn take_place(
        &self,
        job: &JobContext,
        begun: &mut Begun,
        directory: &Path,
        mut result: RestoreResult,
    ) -> Result<RestoreResult> {
        job.check()?;
        result.data_directory = directory.display().to_string();
        begun.unfinished.swapping = Some(Box::new(result));
        begun.unfinished.write(&job.directory)?;
        self.end_swap(job, &begun.unfinished, directory).await
    }

    /// Ends a change of places, whether it has begun or not.
    pub(super) async fn end_swap(
        &self,
        job: &JobContext,
        unfinished: &Unfinished,
        directory: &Path,
    ) -> Result<RestoreResult> {
        let (Some(copy), Some(result)) = (unfinished.copy, unfinished.swapping.clone()) else {
            return Err(EngineError::Fault("no change of places was prepared".to_owned()));
        };
        job.reporter.phase("swapping", None, None);
        let jobs = self.home().jobs();
        let mut record = RestoreRecord::read(&jobs, job.id)?;
        let (staging, directory) = (unfinished.directory.clone(), directory.to_path_buf());
        let id = job.id;
        blocking(move || {
            record.set_aside = Some(swap_in(&staging, &directory, id, copy)?);
            record.location.data_directory = directory;
            record.write(&jobs, id)
        })
        .await?;
        Ok(RestoreResult { phases: job.reporter.phases(), ..*result })
    }

    /// What a restore in place has set aside and keeps; none for another job, or after a purge.
    pub fn set_aside_by(&self, job: JobId) -> Option<SetAside> {
        RestoreRecord::read(&self.home().jobs(), job).ok()?.set_aside
    }

    /// Puts the directory back that a restore in place has set aside; the copy is set aside instead.
    ///
    /// # Errors
    /// Not found for another kind of restore; refused while a server runs there, when it was swapped
    /// back already, or when the old directory was purged.
    pub async fn swap_back_restore(&self, job: JobId) -> Result<Swapped> {
        let _taken = self.take_up(job, CancellationToken::new()).await?;
        let (mut record, aside) = self.in_place_record(job).await?;
        if aside.is_copy {
            return Err(EngineError::refused(
                "already_swapped_back",
                "the old directory is back in its place already",
                format!(
                    "Remove the copy with `holdfast restore purge {job}` when it is not needed."
                ),
            ));
        }
        let directory = record.location.data_directory.clone();
        let jobs = self.home().jobs();
        let swapped = blocking(move || {
            let aside = swap_out(&aside.path, &directory, job, record.copy)?;
            let set_aside = aside.path.clone();
            record.set_aside = Some(aside);
            record.write(&jobs, job)?;
            Ok(Swapped { data_directory: directory, set_aside })
        })
        .await?;
        Ok(swapped)
    }

    /// Removes what a restore in place has set aside: the old directory, or the copy after it was
    /// swapped back. There is no way back from this.
    ///
    /// # Errors
    /// Not found when nothing is set aside; when files cannot be removed.
    pub async fn purge_restore(&self, job: JobId) -> Result<Purged> {
        let _taken = self.take_up(job, CancellationToken::new()).await?;
        let (mut record, aside) = self.in_place_record(job).await?;
        let jobs = self.home().jobs();
        let removed = aside.path.clone();
        blocking(move || {
            if record.copy.stands_at(&aside.path) != aside.is_copy {
                return Err(swap_unfinished(job));
            }
            require_stopped(&aside.path)?;
            std::fs::remove_dir_all(&aside.path)
                .map_err(EngineError::file("remove", &aside.path))?;
            record.set_aside = None;
            record.write(&jobs, job)
        })
        .await?;
        Ok(Purged { removed })
    }

    async fn in_place_record(&self, job: JobId) -> Result<(RestoreRecord, SetAside)> {
        let (summary, _) = self.job(job).await?;
        if summary.state == JobState::Running {
            return Err(EngineError::refused(
                "job_running",
                "the restore is still running",
                format!("Cancel it first: `holdfast restore cancel {job}`."),
            ));
        }
        let record = RestoreRecord::read(&self.home().jobs(), job)?;
        let aside = record.set_aside.clone().ok_or_else(|| EngineError::NotFound {
            what: "directory set aside by the restore",
            name: job.to_string(),
        })?;
        Ok((record, aside))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn two_directories_change_places() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        for name in ["data", "new"] {
            std::fs::create_dir(path(name)).unwrap();
            std::fs::write(path(name).join("who"), name).unwrap();
        }
        exchange(&path("new"), &path("data"), &path("old")).unwrap();
        let who = |name: &str| std::fs::read_to_string(path(name).join("who")).unwrap();
        assert_eq!((who("data"), who("old")), ("new".to_owned(), "data".to_owned()));
        assert!(!path("new").exists());
    }

    /// Whatever moment it is interrupted at, the second call ends with the copy in its place and the old
    /// directory aside.
    #[test]
    fn an_interrupted_swap_is_ended() {
        for stopped in ["before", "behind the exchange", "between two renames", "at the end"] {
            let place = tempfile::tempdir().unwrap();
            let job = JobId(uuid::Uuid::nil());
            let directory = place.path().join("data");
            let (new, old) = (staging(&directory, job), beside(&directory, "old", job));
            for (path, who) in [(&directory, "old"), (&new, "copy")] {
                std::fs::create_dir(path).unwrap();
                std::fs::write(path.join("who"), who).unwrap();
            }
            let copy = Identity::of(&new).unwrap();
            match stopped {
                "behind the exchange" => {
                    std::fs::rename(&directory, place.path().join("t")).unwrap();
                    std::fs::rename(&new, &directory).unwrap();
                    std::fs::rename(place.path().join("t"), &new).unwrap();
                }
                "between two renames" => std::fs::rename(&directory, &old).unwrap(),
                "at the end" => drop(swap_in(&new, &directory, job, copy).unwrap()),
                _ => {}
            }
            let aside = swap_in(&new, &directory, job, copy).unwrap();
            let who = |path: &Path| std::fs::read_to_string(path.join("who")).unwrap();
            assert_eq!(
                (who(&directory), who(&aside.path)),
                ("copy".into(), "old".into()),
                "{stopped}"
            );
            assert!(!new.exists(), "{stopped}");
        }
    }

    /// Swapping back, too, ends the same whatever moment it is interrupted at: what is aside in the end is
    /// the copy, so that no purge takes the old directory for it.
    #[test]
    fn an_interrupted_swap_back_is_ended() {
        for stopped in ["before", "behind the exchange", "between two renames", "at the end"] {
            let place = tempfile::tempdir().unwrap();
            let job = JobId(uuid::Uuid::nil());
            let directory = place.path().join("data");
            let (old, aside) = (beside(&directory, "old", job), beside(&directory, "copy", job));
            for (path, who) in [(&directory, "copy"), (&old, "old")] {
                std::fs::create_dir(path).unwrap();
                std::fs::write(path.join("who"), who).unwrap();
            }
            let copy = Identity::of(&directory).unwrap();
            match stopped {
                "behind the exchange" => {
                    std::fs::rename(&directory, &aside).unwrap();
                    std::fs::rename(&old, &directory).unwrap();
                    std::fs::rename(&aside, &old).unwrap();
                }
                "between two renames" => std::fs::rename(&directory, &aside).unwrap(),
                "at the end" => drop(swap_out(&old, &directory, job, copy).unwrap()),
                _ => {}
            }
            let out = swap_out(&old, &directory, job, copy).unwrap();
            let who = |path: &Path| std::fs::read_to_string(path.join("who")).unwrap();
            assert_eq!(
                (who(&directory), who(&out.path)),
                ("old".into(), "copy".into()),
                "{stopped}"
            );
            assert!(!old.exists(), "{stopped}");
        }
    }

    #[test]
    fn what_somebody_else_has_moved_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let job = JobId(uuid::Uuid::nil());
        let directory = place.path().join("data");
        let old = beside(&directory, "old", job);
        for path in [&directory, &old] {
            std::fs::create_dir(path).unwrap();
        }
        let copy = Identity::of(&directory).unwrap();
        std::fs::rename(&directory, place.path().join("elsewhere")).unwrap();
        std::fs::create_dir(&directory).unwrap();
        let error = swap_out(&old, &directory, job, copy).unwrap_err();
        assert_eq!(error.to_object().code, "copy_moved");
        assert!(old.exists() && directory.exists());
    }

    #[test]
    fn only_a_data_directory_is_replaced() {
        let place = tempfile::tempdir().unwrap();
        let refused = |own: &[&Path]| {
            let error = check(place.path(), SystemIdentifier(7), own).unwrap_err().to_object();
            assert_eq!(error.code, "destination_unusable");
            error.message
        };
        assert!(refused(&[]).contains("is no data directory"));
        // One that cannot be read objects to nothing.
        std::fs::create_dir(place.path().join("global")).unwrap();
        std::fs::write(place.path().join("global/pg_control"), "").unwrap();
        let inside = place.path().join("backups");
        std::fs::create_dir(&inside).unwrap();
        assert!(check(place.path(), SystemIdentifier(7), &[place.path().join("none")]).is_ok());
        assert!(refused(&[&inside]).contains("backups"));
    }
}
