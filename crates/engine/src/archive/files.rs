//! Single WAL files, for PostgreSQL's `restore_command` and `archive_command`.
//!
//! PostgreSQL runs both in its data directory, whose `pg_control` tells whose WAL it is. The catalog is
//! not opened: many of these commands run at once, and one that waits holds a server up.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use holdfast_postgres::{
    ControlFile, Lsn, SegmentNo, TimelineHistory, TimelineId, VersionTraits, WalExpectations,
    WalFileName, WalSegmentSize, WalStreamReader,
};
use holdfast_repository::{ObjectKind, PutKind, Repository, RepositoryError};

use super::index::{SegmentIndex, blake3_of};
use super::markers::MarkerGatherer;
use super::upload::{self, Replaces, Upload};
use super::view::{ArchiveView, StoredSegment};
use super::{history_prefix, segment_path, slice_directory, slices_prefix, wal_prefix};
use crate::error::{EngineError, Result};
use crate::home::Home;
use crate::secrets::GivenSecrets;

/// Segments fetched ahead of the one that was asked for.
const AHEAD: u64 = 8;

/// The WAL files of the cluster whose data directory this is.
#[derive(Debug)]
pub struct WalFiles {
    repository: Repository,
    control: ControlFile,
    data_directory: PathBuf,
}

/// What PostgreSQL asks for or hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Segment(WalFileName),
    Partial(WalFileName),
    History(TimelineId),
    /// What `pg_backup_stop` leaves beside a segment; it tells of a backup that is not ours.
    BackupLabel,
}

impl Asked {
    fn of(name: &str, size: WalSegmentSize) -> Result<Self> {
        let label = |name: &str| {
            let (segment, offset) = name.strip_suffix(".backup")?.split_once('.')?;
            (offset.len() == 8 && offset.bytes().all(|b| b.is_ascii_hexdigit()))
                .then(|| WalFileName::parse(segment, size))
                .flatten()
        };
        WalFileName::parse(name, size)
            .map(Self::Segment)
            .or_else(|| WalFileName::parse(name.strip_suffix(".partial")?, size).map(Self::Partial))
            .or_else(|| TimelineHistory::parse_file_name(name).map(Self::History))
            .or_else(|| label(name).map(|_| Self::BackupLabel))
            .ok_or_else(|| {
                EngineError::usage(
                    format!("{name:?} is not the name of a WAL file of this cluster"),
                    "PostgreSQL gives the name: %f in restore_command, %p in archive_command.",
                )
            })
    }
}

/// Files fetched ahead from one repository for one cluster, in the home directory. A file's name carries
/// the checksum of its content.
#[derive(Debug, Clone)]
pub struct WalSpool {
    directory: PathBuf,
}

impl WalSpool {
    /// The spool of the cluster in `data_directory` and of `repository`, or the only one this home knows:
    /// two copies of a cluster may both have written a timeline of one number. The repository is not
    /// opened, and no key is needed.
    ///
    /// # Errors
    /// When `pg_control` cannot be read, or no repository is meant.
    pub fn of(home: &Home, repository: Option<&str>, data_directory: &Path) -> Result<Self> {
        let control = read_control(data_directory)?;
        let (url, _) = crate::repository::find_without_catalog(home, repository)?;
        let system = control.system_identifier.to_string();
        let place = blake3::hash(url.to_string().as_bytes()).to_hex();
        Ok(Self { directory: home.root().join("wal").join(system).join(place.as_str()) })
    }

    /// Hands a file over that was fetched ahead; whether there was one that is whole.
    pub fn take(&self, name: &str, destination: &Path) -> bool {
        let Some((path, checksum)) = self.find(name) else { return false };
        let whole = std::fs::read(&path)
            .ok()
            .filter(|content| blake3::hash(content).to_hex().as_str() == checksum);
        let served = whole.is_some_and(|content| hand_over(&content, destination).is_ok());
        let _ = std::fs::remove_file(&path);
        served
    }

    fn find(&self, name: &str) -> Option<(PathBuf, String)> {
        std::fs::read_dir(&self.directory).ok()?.flatten().find_map(|entry| {
            let file = entry.file_name().to_string_lossy().into_owned();
            let checksum = file.strip_prefix(name)?.strip_prefix('-')?;
            (checksum.len() == 64).then(|| (entry.path(), checksum.to_owned()))
        })
    }

    fn keep(&self, name: &str, content: &[u8]) -> Result<()> {
        std::fs::create_dir_all(&self.directory)
            .map_err(EngineError::file("create", &self.directory))?;
        let checksum = blake3::hash(content).to_hex();
        hand_over(content, &self.directory.join(format!("{name}-{checksum}")))
    }

    /// Removes what lies behind `name`: a server that replays forward never asks for it again.
    fn forget_before(&self, name: &str) {
        for entry in std::fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            // Behind the timeline's eight digits: the segment counts, whatever timeline wrote it.
            if file.get(8..24).is_some_and(|segment| segment < name.get(8..24).unwrap_or_default())
            {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

impl WalFiles {
    /// Opens the repository that holds the WAL of the cluster in `data_directory`: `repository`, or
    /// the only one this home knows.
    ///
    /// # Errors
    /// When `pg_control` cannot be read, or the repository not be opened.
    pub async fn open(
        home: &Home,
        given: &GivenSecrets,
        repository: Option<&str>,
        data_directory: &Path,
    ) -> Result<Self> {
        let control = read_control(data_directory)?;
        let repository = crate::repository::open_without_catalog(home, given, repository).await?;
        Ok(Self { repository, control, data_directory: data_directory.to_path_buf() })
    }

    fn size(&self) -> WalSegmentSize {
        self.control.wal_segment_size
    }

    /// Bytes of one WAL page.
    fn page(&self) -> usize {
        usize::try_from(self.control.wal_block_size).unwrap_or(usize::MAX)
    }

    /// Fetches a file to `destination`; `false` when the archive is proven not to have it.
    ///
    /// # Errors
    /// Anything else than that: an unreachable store, damage, another cluster's WAL, a hole in the
    /// archive where the file should be.
    pub async fn get(&self, name: &str, destination: &Path) -> Result<bool> {
        let Some(content) = self.fetch(name).await? else { return Ok(false) };
        hand_over(&content, destination)?;
        Ok(true)
    }

    async fn fetch(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let system = self.control.system_identifier;
        match Asked::of(name, self.size())? {
            Asked::Segment(file) => {
                let Some((view, stored)) = self.segment(file).await? else { return Ok(None) };
                let content = view.read_segment(&self.repository, &stored).await?;
                self.check(file, &content).await?;
                let mut whole = content.to_vec();
                // PostgreSQL takes whole segments only.
                whole.resize(usize::try_from(self.size().bytes()).unwrap_or(0), 0);
                Ok(Some(whole))
            }
            Asked::Partial(file) => {
                let path =
                    segment_path(system, file.timeline, file.segment, self.size()) + ".partial";
                self.sealed(&path, ObjectKind::WalSegment).await
            }
            Asked::History(timeline) => {
                let path =
                    format!("{}{}", history_prefix(system), TimelineHistory::file_name(timeline));
                self.sealed(&path, ObjectKind::TimelineHistory).await
            }
            Asked::BackupLabel => {
                let path = format!("{}{name}", history_prefix(system));
                self.sealed(&path, ObjectKind::TimelineHistory).await
            }
        }
    }

    async fn sealed(&self, path: &str, kind: ObjectKind) -> Result<Option<Vec<u8>>> {
        match self.repository.get_sealed::<serde_json::Value>(path, kind).await {
            Ok((content, _)) => Ok(Some(content.to_vec())),
            Err(RepositoryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A segment as far as it is archived; none when it is proven not to be.
    ///
    /// One that is missing between others of its timeline, or cut short before others, is a hole: told
    /// "not there", or given zeros, PostgreSQL would take it for the end of the WAL and come up without
    /// what follows.
    async fn segment(&self, file: WalFileName) -> Result<Option<(ArchiveView, StoredSegment)>> {
        let load = || {
            let system = self.control.system_identifier;
            ArchiveView::load_segment(&self.repository, system, self.size(), file)
        };
        let whole = |found: &Option<(ArchiveView, StoredSegment)>| {
            found.as_ref().is_some_and(|(_, stored)| stored.complete)
        };
        let found = load().await?;
        if whole(&found) || !self.is_within(file, found.is_some()).await? {
            return Ok(found);
        }
        // WAL is archived in order: what was unfinished a moment ago is whole now, or is a hole.
        let found = load().await?;
        if whole(&found) {
            return Ok(found);
        }
        Err(EngineError::integrity(
            "wal_gap",
            format!(
                "the segment {} is not whole in the archive, which goes on behind it",
                file.render(self.size())
            ),
            "Recovery cannot pass this place. Restore to a target before it, or begin with a snapshot taken after it.",
        ))
    }

    /// Whether a segment lies within what is archived of its timeline; what follows may be on another one.
    /// `begun` says that something of the segment itself is archived.
    async fn is_within(&self, file: WalFileName, mut begun: bool) -> Result<bool> {
        let system = self.control.system_identifier;
        let size = self.size();
        let mut goes_on = false;
        for prefix in [wal_prefix(system), slices_prefix(system)] {
            let prefix = format!("{prefix}{:08X}/", file.timeline.get());
            for entry in self.repository.list(&prefix).await? {
                let name = entry.path[prefix.len()..].get(..24).unwrap_or_default();
                if let Some(other) = WalFileName::parse(name, size) {
                    begun |= other.segment < file.segment;
                    goes_on |= other.segment > file.segment;
                }
            }
        }
        let histories = ArchiveView::histories(&self.repository, system).await?;
        // The timeline began in this segment or before.
        begun |= histories
            .get(&file.timeline)
            .and_then(|own| own.switches.last())
            .is_some_and(|begin| size.segment_of(begin.switch_lsn) <= file.segment);
        // Another one left it only later; the segment in which it did is also under its own name.
        goes_on |= histories
            .values()
            .flat_map(|history| &history.switches)
            .any(|s| s.parent == file.timeline && size.segment_of(s.switch_lsn) > file.segment);
        Ok(begun && goes_on)
    }

    /// Whether the content is this segment of this cluster and of this timeline's lineage.
    async fn check(&self, file: WalFileName, content: &[u8]) -> Result<()> {
        let foreign = |what: String| {
            EngineError::integrity(
                "wal_foreign",
                format!("{} is not a segment of this cluster: {what}", file.render(self.size())),
                "The archive and the data directory are of different clusters, or the file was exchanged.",
            )
        };
        let mut reader = self.reader(file.segment);
        let first = content.get(..self.page().min(content.len())).unwrap_or_default();
        match reader.push(first, &mut Vec::new()) {
            Err(error) if !error.is_end_of_wal() => return Err(foreign(error.to_string())),
            _ => {}
        }
        // Pages of this place. What is none is behind the end of the WAL, where a file holds what it held
        // before: nothing of it is archived, and recovery stops there.
        let page = self.page().max(16);
        let written: Vec<(Lsn, TimelineId)> = content
            .chunks_exact(page)
            .zip((self.size().start_of(file.segment).0..).step_by(page))
            .filter(|(page, at)| page[..2] == content[..2] && page[8..16] == at.to_le_bytes())
            .filter_map(|(page, at)| {
                let timeline = u32::from_le_bytes([page[4], page[5], page[6], page[7]]);
                Some((Lsn(at), TimelineId::new(timeline)?))
            })
            .collect();
        let own = file.timeline;
        if written.iter().all(|(_, timeline)| *timeline == own) {
            return Ok(());
        }
        let histories =
            ArchiveView::histories(&self.repository, self.control.system_identifier).await?;
        // A timeline's first segment begins with its parent's pages, up to the one in which it left it.
        let inherits = |at: Lsn, timeline: TimelineId| {
            histories.get(&own).and_then(|own| own.end_of(timeline)).is_some_and(|end| at < end)
        };
        let stranger = written.iter().find(|(at, t)| *t != own && !inherits(*at, *t));
        if let Some((at, stranger)) = stranger {
            return Err(foreign(format!(
                "its page at {at} is of timeline {stranger}, which timeline {own} does not continue there"
            )));
        }
        Ok(())
    }

    fn reader(&self, segment: SegmentNo) -> WalStreamReader {
        let expected = WalExpectations {
            system_identifier: Some(self.control.system_identifier),
            timeline: None,
            wal_magic: None,
        };
        let start = self.size().start_of(segment);
        WalStreamReader::new(start, self.size(), self.control.wal_block_size, expected)
    }

    /// Fetches the segments behind `name` that are archived and not in the spool yet.
    ///
    /// # Errors
    /// As [`WalFiles::get`].
    pub async fn fetch_ahead(&self, name: &str, spool: &WalSpool) -> Result<()> {
        let Asked::Segment(file) = Asked::of(name, self.size())? else { return Ok(()) };
        spool.forget_before(name);
        for n in 1..=AHEAD {
            let next = WalFileName { segment: SegmentNo(file.segment.0 + n), ..file };
            let name = next.render(self.size());
            if spool.find(&name).is_some() {
                continue;
            }
            let system = self.control.system_identifier;
            let segment =
                ArchiveView::load_segment(&self.repository, system, self.size(), next).await?;
            // One that still grows is fetched when it is asked for.
            let Some((view, stored)) = segment.filter(|(_, stored)| stored.complete) else {
                break;
            };
            let content = view.read_segment(&self.repository, &stored).await?;
            self.check(next, &content).await?;
            spool.keep(&name, &content)?;
        }
        Ok(())
    }

    /// Archives a file; done only once it is durable, or was there with the same content.
    ///
    /// # Errors
    /// When it is no file of this cluster, differs from what is archived, or cannot be stored.
    pub async fn put(&self, path: &Path) -> Result<()> {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let asked = Asked::of(&name, self.size())?;
        let absolute = self.data_directory.join(path);
        let content = std::fs::read(&absolute).map_err(EngineError::file("read", &absolute))?;
        match asked {
            Asked::Segment(file) => self.put_segment(file, content, &absolute, true).await,
            Asked::Partial(file) => self.put_segment(file, content, &absolute, false).await,
            Asked::History(timeline) => {
                TimelineHistory::parse(timeline, &content).map_err(|e| {
                    EngineError::integrity(
                        "timeline_history_damaged",
                        format!("{name} cannot be read: {e}"),
                        "Compare it with the file of a standby.",
                    )
                })?;
                self.put_text(&name, content).await
            }
            Asked::BackupLabel => self.put_text(&name, content).await,
        }
    }

    async fn put_text(&self, name: &str, content: Vec<u8>) -> Result<()> {
        let path = format!("{}{name}", history_prefix(self.control.system_identifier));
        let stored = self
            .repository
            .put_shared(
                &path,
                ObjectKind::TimelineHistory,
                Bytes::from(content.clone()),
                &serde_json::json!({}),
                PutKind::CreateOnly,
            )
            .await;
        match stored {
            Ok(_) => Ok(()),
            Err(RepositoryError::AlreadyExists { .. }) => {
                let known = self.sealed(&path, ObjectKind::TimelineHistory).await?;
                if known.as_deref() == Some(&content) {
                    return Ok(());
                }
                Err(EngineError::integrity(
                    "timeline_differs",
                    format!("{name} is archived already, with other content"),
                    "Two servers made the same timeline. Nothing was overwritten. Archive one of them elsewhere.",
                ))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn put_segment(
        &self,
        file: WalFileName,
        mut content: Vec<u8>,
        path: &Path,
        whole: bool,
    ) -> Result<()> {
        let size = self.size();
        if content.len() as u64 != size.bytes() {
            return Err(EngineError::refused(
                "wal_length_differs",
                format!(
                    "{} has {} bytes, a segment of this cluster has {}",
                    path.display(),
                    content.len(),
                    size.bytes()
                ),
                "It is not whole: PostgreSQL hands a segment over only when it is.",
            ));
        }
        self.check(file, &content).await?;
        let start = size.start_of(file.segment);
        let mut index = self.index(file, &content, path, whole)?;
        if !whole {
            let held = usize::try_from(index.to.distance_from(start)).unwrap_or(content.len());
            content.truncate(held);
        }
        index.blake3 = Some(blake3_of(&content));
        let system = self.control.system_identifier;
        let mut object = segment_path(system, file.timeline, file.segment, size);
        if !whole {
            object.push_str(".partial");
        }
        let upload = Upload {
            path: object,
            sealed: true,
            bytes: Bytes::from(content),
            durable_to: index.to,
            index,
            replaces: Replaces::Directory(slice_directory(
                system,
                file.timeline,
                file.segment,
                size,
            )),
        };
        upload::put(&self.repository, &upload).await?;
        upload::remove_superfluous(&self.repository, upload.replaces).await;
        Ok(())
    }

    /// What recovery can stop at in a segment. The record that crosses into it is read with the
    /// segment before, which still stands beside it.
    fn index(
        &self,
        file: WalFileName,
        content: &[u8],
        path: &Path,
        whole: bool,
    ) -> Result<SegmentIndex> {
        let size = self.size();
        let magic = content.get(..2).map_or(0, |m| u16::from_le_bytes([m[0], m[1]]));
        let major = VersionTraits::of_wal_magic(magic).map_or(0, |traits| traits.major);
        let mut reader = self.reader(file.segment);
        let mut markers = MarkerGatherer::new();
        let before = file
            .segment
            .previous()
            .map(|segment| path.with_file_name(WalFileName { segment, ..file }.render(size)));
        if let (Some(segment), Some(bytes)) =
            (file.segment.previous(), before.and_then(|path| std::fs::read(path).ok()))
        {
            let mut primed = self.reader(segment);
            let mut earlier = Vec::new();
            if primed.push(&bytes, &mut earlier).is_ok() {
                reader = primed;
                // A transaction that ends in this segment may have begun in that one.
                for record in &earlier {
                    let _ = markers.take(record, major);
                }
            }
        }
        let mut records = Vec::new();
        let read = reader.push(content, &mut records);
        if let (Err(error), true) = (&read, whole) {
            return Err(EngineError::integrity(
                "wal_damaged",
                format!("{} cannot be read: {error}", path.display()),
                "It was not archived. Check the server's disk; a standby may have this WAL intact.",
            ));
        }
        let start = size.start_of(file.segment);
        let mut index = SegmentIndex::new(file.timeline, file.segment, size, start);
        for record in &records {
            if record.span.end > start {
                index.add(record, major, &mut markers)?;
            }
        }
        // What follows the last record of a tail is what the file held before.
        let last = records.last().map_or(start, |record: &_| record.span.end);
        index.to = if whole { size.end_of(file.segment) } else { last.max(start) };
        // Not one record ends in it: its first page still carries the rest of one.
        if index.to <= start {
            if let Err(error) = read
                && error.lsn == start
            {
                return Err(EngineError::integrity(
                    "wal_damaged",
                    format!("{} holds no WAL: {error}", path.display()),
                    "It was not archived. A server archives the tail of a timeline only where something was written to it.",
                ));
            }
            index.to = start.saturating_add(self.page() as u64);
        }
        Ok(index)
    }
}

fn read_control(data_directory: &Path) -> Result<ControlFile> {
    let path = data_directory.join("global/pg_control");
    let bytes = std::fs::read(&path).map_err(EngineError::file("read", &path))?;
    ControlFile::parse(&bytes).map_err(|error| {
        EngineError::integrity(
            "control_file_damaged",
            format!("{} cannot be read: {error}", path.display()),
            "PostgreSQL runs restore_command and archive_command in its data directory; elsewhere name it with \
             --data-directory.",
        )
    })
}

/// Puts a file where it is wanted, whole or not at all.
fn hand_over(content: &[u8], destination: &Path) -> Result<()> {
    let name =
        destination.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let part = destination.with_file_name(format!("{name}.holdfast-{}", std::process::id()));
    let written = std::fs::File::create(&part)
        .and_then(|mut file| std::io::Write::write_all(&mut file, content).map(|()| file))
        .and_then(|file| file.sync_all())
        .and_then(|()| std::fs::rename(&part, destination));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&part);
        EngineError::file("write", destination)(error)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_name_that_postgresql_gives_is_known() {
        let size = WalSegmentSize::DEFAULT;
        let asked = |name: &str| Asked::of(name, size);
        assert!(matches!(asked("000000010000000000000003"), Ok(Asked::Segment(_))));
        assert!(matches!(asked("000000010000000000000003.partial"), Ok(Asked::Partial(_))));
        assert!(matches!(asked("00000002.history"), Ok(Asked::History(_))));
        assert_eq!(asked("000000010000000000000003.00000028.backup").unwrap(), Asked::BackupLabel);
        for name in ["", "x", "../000000010000000000000003", "0000000100000000000000", "a.backup"] {
            assert!(asked(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_spooled_file_is_served_whole_or_not() {
        let place = tempfile::tempdir().unwrap();
        let spool = WalSpool { directory: place.path().join("spool") };
        let name = "000000010000000000000003";
        let to = place.path().join("RECOVERYXLOG");
        assert!(!spool.take(name, &to));
        spool.keep(name, b"content").unwrap();
        assert!(spool.take(name, &to));
        assert_eq!(std::fs::read(&to).unwrap(), b"content");
        std::fs::remove_file(&to).unwrap();

        spool.keep(name, b"content").unwrap();
        let (path, _) = spool.find(name).unwrap();
        std::fs::write(&path, b"contenT").unwrap();
        assert!(!spool.take(name, &to) && !to.exists(), "damaged in the spool");

        spool.keep(name, b"content").unwrap();
        spool.forget_before("000000010000000000000003");
        assert!(spool.find(name).is_some());
        spool.forget_before("000000020000000000000004");
        assert!(spool.find(name).is_none());
    }
}
