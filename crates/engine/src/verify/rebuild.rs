//! Snapshots put together without writing them: every file against what the server said it sent, its pages
//! against their checksums, its control files against what the snapshot says of itself.
//!
//! The extents come the way a restore takes, through index, pack, key and name.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use holdfast_postgres::{
    BackupLabel, ControlFile, ManifestError, ManifestPath, ManifestReader, RelationFile,
    relation_file,
};
use holdfast_repository::{
    EntryKind, ExtentId, ExtentSink, FileEntry, Repository, SinkError, WantedExtent,
};

use super::{Depth, FindingSeverity, Sample, VerifyFinding, error, is_damage};
use crate::backup::checksum::ChecksumJoiner;
use crate::backup::compare::{Listed, covers, path_key};
use crate::backup::pages::{PageCheck, PageMismatches, Shape};
use crate::error::{EngineError, Result};
use crate::jobs::JobContext;
use crate::snapshot::Snapshot;
use crate::snapshot::contents::read_files;

/// Packs read at a time.
const PARALLEL: usize = 4;
/// Extents that are asked for together: 2 GiB of the usual ones, a few megabytes of memory.
const TOGETHER: usize = 32_768;
/// Files that are asked for together, where they are small.
const FILES_TOGETHER: usize = 8_192;
/// Manifest, label and control file together stay below this.
const OWN_FILES_LIMIT: u64 = 4 << 30;
/// At most this many files, or pages, of a snapshot are named; all are counted.
const NAMED: usize = 20;

/// What putting one snapshot together found.
#[derive(Debug, Default)]
pub(super) struct Rebuilt {
    /// Files that were compared.
    pub(super) files: u64,
    /// Files that a sample left out.
    pub(super) skipped: u64,
    /// Pages whose checksum was computed.
    pub(super) pages: u64,
    pub(super) findings: Vec<VerifyFinding>,
}

/// Puts snapshots together, one after the other.
pub(super) struct Rebuild<'a> {
    job: &'a JobContext,
    repository: &'a Repository,
    depth: Depth,
    sample: Option<Sample>,
    joiner: ChecksumJoiner,
    /// Files that were found sound, by their paths, to tell those that are the same in the next snapshot.
    sound: Option<HashMap<[u8; 16], Sound>>,
}

/// A file that was read and found sound.
struct Sound {
    extents: [u8; 16],
    size: u64,
    crc: u32,
}

/// A file that is to be read.
#[derive(Clone)]
struct Pending {
    entry: FileEntry,
    listed: Option<Listed>,
    relation: Option<RelationFile>,
}

/// What the snapshot says of itself in its own files.
struct Own {
    listed: HashMap<[u8; 16], (ManifestPath, Listed)>,
    pages: Option<PageCheck>,
}

impl<'a> Rebuild<'a> {
    /// `several` says that more than one snapshot follows.
    pub(super) fn new(
        job: &'a JobContext,
        repository: &'a Repository,
        depth: Depth,
        sample: Option<Sample>,
        several: bool,
    ) -> Self {
        Self {
            job,
            repository,
            depth,
            sample,
            joiner: ChecksumJoiner::new(repository.extent_size()),
            sound: several.then(HashMap::new),
        }
    }

    /// Puts one together.
    ///
    /// # Errors
    /// When the store cannot be reached, or the job was cancelled. Damage is a finding.
    pub(super) async fn snapshot(&mut self, snapshot: &Snapshot) -> Result<Rebuilt> {
        let name = snapshot.finished_at.format("%Y-%m-%d %H:%M:%S");
        let phase = format!("putting the snapshot of {name} together");
        self.job.reporter.phase(&phase, Some("bytes"), Some(snapshot.bytes_logical));
        let mut found = Findings::new(snapshot);
        if let Err(problem) = self.files(snapshot, &mut found).await {
            found.take(problem)?;
        }
        Ok(found.finish())
    }

    async fn files(&mut self, snapshot: &Snapshot, found: &mut Findings<'_>) -> Result<()> {
        let Own { mut listed, pages } = self.own_files(snapshot, found).await?;
        let extent_size = self.repository.extent_size() as u64;
        let mut reader = self.repository.read_file_table(&snapshot.file_table).await?;
        let mut batch: Vec<Pending> = Vec::new();
        let mut extents = 0;
        let mut done = 0;
        while let Some(entry) = reader.next().await? {
            self.job.check()?;
            if entry.kind != EntryKind::File {
                continue;
            }
            if entry.extents.len() as u64 != entry.size.div_ceil(extent_size) {
                found.file(&entry.path, "its list of extents does not fit its size");
                continue;
            }
            let listed = listed.remove(&path_key(entry.path.as_bytes())).map(|(_, listed)| listed);
            if listed.is_none() && entry.path != "backup_manifest" {
                found.file(&entry.path, "the snapshot's manifest does not list it");
            }
            if self.sample.is_some_and(|sample| !sample.takes(&entry.path)) {
                found.rebuilt.skipped += 1;
                continue;
            }
            let relation = pages.and_then(|_| relation_file(&entry.path));
            let pending = Pending { entry, listed, relation };
            if let Some(crc) = self.known(&pending.entry) {
                done += pending.entry.size;
                found.compare(&pending, crc);
                continue;
            }
            extents += pending.entry.extents.len();
            batch.push(pending);
            if extents >= TOGETHER || batch.len() >= FILES_TOGETHER {
                done = self.read(std::mem::take(&mut batch), pages, done, found).await?;
                extents = 0;
            }
        }
        self.read(batch, pages, done, found).await?;
        for (path, _) in listed.into_values() {
            found.file(
                &path.to_string(),
                "the snapshot's manifest lists it, the snapshot does not have it",
            );
        }
        Ok(())
    }

    /// Reads the files by which the snapshot is judged: its manifest, the label, `pg_control`.
    async fn own_files(&self, snapshot: &Snapshot, found: &mut Findings<'_>) -> Result<Own> {
        const MANIFEST: &str = "backup_manifest";
        const LABEL: &str = "backup_label";
        const CONTROL: &str = "global/pg_control";
        let files =
            read_files(self.repository, snapshot, &self.job.cancel, OWN_FILES_LIMIT, |entry| {
                [MANIFEST, LABEL, CONTROL].contains(&entry.path.as_str())
            })
            .await?
            .unwrap_or_default();
        let content = |name: &str| {
            files.iter().find(|(path, _)| path == name).map_or(&[][..], |(_, bytes)| bytes)
        };
        let mut listed = HashMap::new();
        let mut read = || -> Result<_, ManifestError> {
            let mut reader = ManifestReader::new();
            reader.push(content(MANIFEST), &mut |file| {
                let of_file = Listed::of(&file);
                listed.insert(path_key(file.path.as_bytes()), (file.path, of_file));
            })?;
            reader.finish()
        };
        match read() {
            Ok(manifest) => {
                let Snapshot { timeline, start_lsn, stop_lsn, .. } = *snapshot;
                if !covers(&manifest.wal_ranges, timeline, start_lsn, stop_lsn) {
                    found.snapshot(format!(
                        "the snapshot's manifest does not list the WAL from {start_lsn} to {stop_lsn} on timeline {timeline}"
                    ));
                }
            }
            Err(problem) => {
                found.snapshot(format!("the manifest in it cannot be read: {problem}"));
            }
        }
        if self.depth < Depth::Pages {
            return Ok(Own { listed, pages: None });
        }
        match BackupLabel::parse(content(LABEL)) {
            Ok(label) => found.same(LABEL, &label, snapshot),
            Err(problem) => found.file(LABEL, &problem.to_string()),
        }
        let pages = match ControlFile::parse(content(CONTROL)) {
            Ok(control) => {
                found.control(CONTROL, &control, snapshot);
                let shape = Shape {
                    block_size: control.block_size,
                    segment_blocks: control.relation_segment_blocks,
                };
                control.data_checksums.then_some(PageCheck { shape, start_lsn: snapshot.start_lsn })
            }
            Err(problem) => {
                found.file(CONTROL, &problem.to_string());
                None
            }
        };
        if pages.is_none() {
            found.note(
                FindingSeverity::Info,
                "pages_unchecked",
                "its server has no page checksums: whether pages were sound when they were copied cannot be seen",
            );
        }
        Ok(Own { listed, pages })
    }

    /// The checksum of a file that is, extent by extent, one that was found sound before.
    fn known(&self, entry: &FileEntry) -> Option<u32> {
        let sound = self.sound.as_ref()?.get(&path_key(entry.path.as_bytes()))?;
        (sound.size == entry.size && sound.extents == digest(&entry.extents)).then_some(sound.crc)
    }

    /// Reads files and compares them; what is done now of the snapshot's bytes.
    async fn read(
        &mut self,
        files: Vec<Pending>,
        pages: Option<PageCheck>,
        mut done: u64,
        found: &mut Findings<'_>,
    ) -> Result<u64> {
        let mut groups = vec![files];
        while let Some(group) = groups.pop() {
            if group.is_empty() {
                continue;
            }
            let reading = Arc::new(Reading::new(group, self.repository, pages, self.job, done));
            let wanted = reading.wanted();
            let fetched = self
                .repository
                .fetch_extents(wanted, PARALLEL, reading.clone(), &self.job.cancel)
                .await;
            match fetched.map_err(EngineError::from) {
                Ok(_) => {}
                // Which of them cannot be read is found by halves.
                Err(problem) if is_damage(&problem) => {
                    match reading.files.as_slice() {
                        [file] => {
                            let what =
                                format!("it cannot be read: {}", problem.to_object().message);
                            found.file(&file.entry.path, &what);
                        }
                        files => {
                            let (first, second) = files.split_at(files.len() / 2);
                            groups.extend([second.to_vec(), first.to_vec()]);
                        }
                    }
                    continue;
                }
                Err(problem) => return Err(problem),
            }
            done += reading.bytes();
            found.rebuilt.pages += reading.pages.load(Ordering::Relaxed);
            let wrong = std::mem::take(&mut *reading.wrong());
            for (number, file) in reading.files.iter().enumerate() {
                let crc = self.joiner.join(&reading.sums_of(number), file.entry.size);
                let sound = found.compare(file, crc)
                    && !wrong.listed.iter().any(|page| page.path == file.entry.path)
                    && wrong.total == wrong.listed.len() as u64;
                if let (true, Some(known)) = (sound, &mut self.sound) {
                    let extents = digest(&file.entry.extents);
                    let key = path_key(file.entry.path.as_bytes());
                    known.insert(key, Sound { extents, size: file.entry.size, crc });
                }
            }
            found.wrong(wrong);
        }
        Ok(done)
    }
}

/// What tells two lists of extents apart.
fn digest(extents: &[ExtentId]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for extent in extents {
        hasher.update(extent.as_bytes());
    }
    let mut digest = [0; 16];
    digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    digest
}

/// Files on their way through memory, extent by extent.
struct Reading {
    files: Vec<Pending>,
    /// Where the extents of each file begin among all of them.
    begins: Vec<usize>,
    extent_size: u64,
    sums: Vec<AtomicU32>,
    check: Option<PageCheck>,
    pages: AtomicU64,
    wrong: Mutex<PageMismatches>,
    job: JobContext,
    done: AtomicU64,
}

impl Reading {
    fn new(
        files: Vec<Pending>,
        repository: &Repository,
        check: Option<PageCheck>,
        job: &JobContext,
        done: u64,
    ) -> Self {
        let extent_size = repository.extent_size() as u64;
        let mut begins = Vec::with_capacity(files.len());
        let mut sums = Vec::new();
        let zeros = vec![0; repository.extent_size()];
        let whole = crc32c::crc32c(&zeros);
        for file in &files {
            begins.push(sums.len());
            for (n, id) in (0u64..).zip(&file.entry.extents) {
                // Extents of zeros are stored nowhere.
                let length = length(&file.entry, n, extent_size);
                sums.push(AtomicU32::new(match id.is_zero() {
                    true if length == extent_size => whole,
                    true => {
                        let part = usize::try_from(length).unwrap_or(0);
                        crc32c::crc32c(zeros.get(..part).unwrap_or_default())
                    }
                    false => 0,
                }));
            }
        }
        Self {
            files,
            begins,
            extent_size,
            sums,
            check,
            pages: AtomicU64::new(0),
            wrong: Mutex::default(),
            job: job.clone(),
            done: AtomicU64::new(done),
        }
    }

    /// Every extent that is stored; its token is its number among all of them.
    fn wanted(&self) -> Vec<WantedExtent> {
        let ids = self.files.iter().flat_map(|file| &file.entry.extents);
        let numbered = (0u64..).zip(ids).filter(|(_, id)| !id.is_zero());
        numbered.map(|(token, id)| WantedExtent { id: *id, token }).collect()
    }

    fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.entry.size).sum()
    }

    fn sums_of(&self, number: usize) -> Vec<u32> {
        let begin = self.begins.get(number).copied().unwrap_or(self.sums.len());
        let end = self.begins.get(number + 1).copied().unwrap_or(self.sums.len());
        let sums = self.sums.get(begin..end).unwrap_or_default();
        sums.iter().map(|sum| sum.load(Ordering::Relaxed)).collect()
    }

    fn wrong(&self) -> std::sync::MutexGuard<'_, PageMismatches> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of an extent, and the extent's number in it.
    fn place(&self, token: usize) -> Option<(&Pending, u64)> {
        let file = self.begins.partition_point(|begin| *begin <= token).checked_sub(1)?;
        Some((self.files.get(file)?, (token - self.begins.get(file)?) as u64))
    }
}

/// Bytes of the extent with this number.
fn length(entry: &FileEntry, number: u64, extent_size: u64) -> u64 {
    extent_size.min(entry.size.saturating_sub(number * extent_size))
}

impl ExtentSink for Reading {
    fn write(&self, token: u64, _id: &ExtentId, bytes: &[u8]) -> Result<(), SinkError> {
        self.job.wait_while_paused();
        let token = usize::try_from(token).unwrap_or(usize::MAX);
        let placed = self.place(token).zip(self.sums.get(token));
        let Some(((file, number), sum)) = placed.filter(|((file, n), _)| {
            length(&file.entry, *n, self.extent_size) == bytes.len() as u64
        }) else {
            let error = EngineError::integrity(
                "file_table_damaged",
                "an extent has not the length that the list of files says",
                "This snapshot cannot be restored from this copy of the repository. Choose another snapshot.",
            );
            return Err(SinkError(Box::new(error)));
        };
        sum.store(crc32c::crc32c(bytes), Ordering::Relaxed);
        if let (Some(check), Some(relation)) = (self.check, file.relation) {
            let page_size = check.shape.block_size as usize;
            let first = number * self.extent_size / page_size as u64;
            let pages = bytes.chunks_exact(page_size);
            self.pages.fetch_add(pages.len() as u64, Ordering::Relaxed);
            let wrong: Vec<_> = (first..)
                .zip(pages)
                .filter_map(|(n, page)| check.page(&file.entry.path, relation, n, page))
                .collect();
            if !wrong.is_empty() {
                self.wrong().extend(wrong);
            }
        }
        let length = bytes.len() as u64;
        self.job.reporter.done(self.done.fetch_add(length, Ordering::Relaxed) + length);
        Ok(())
    }
}

/// What is found of one snapshot.
struct Findings<'a> {
    snapshot: &'a Snapshot,
    object: String,
    rebuilt: Rebuilt,
    files_named: usize,
    files_total: u64,
    wrong: PageMismatches,
}

impl<'a> Findings<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        Self {
            snapshot,
            object: snapshot.path(),
            rebuilt: Rebuilt::default(),
            files_named: 0,
            files_total: 0,
            wrong: PageMismatches::default(),
        }
    }

    fn note(&mut self, severity: FindingSeverity, kind: &str, message: &str) {
        let (object, message) = (self.object.clone(), message.to_owned());
        self.rebuilt.findings.push(VerifyFinding {
            severity,
            kind: kind.to_owned(),
            object,
            message,
        });
    }

    /// Something is wrong with the snapshot as a whole.
    fn snapshot(&mut self, what: String) {
        self.rebuilt.findings.push(error("snapshot", &self.object, what));
    }

    /// Something is wrong with one of its files.
    fn file(&mut self, path: &str, what: &str) {
        self.files_total += 1;
        if self.files_named < NAMED {
            self.files_named += 1;
            let message =
                format!("{path}: {what}; the snapshot is not what was copied from the server");
            self.rebuilt.findings.push(error("file", &self.object, message));
        }
    }

    /// Compares a file's checksum with what the server and the list of files say; whether it is theirs.
    fn compare(&mut self, file: &Pending, crc: u32) -> bool {
        self.rebuilt.files += 1;
        let path = &file.entry.path;
        if let Some(wrong) = file.listed.and_then(|l| l.difference(file.entry.size, crc)) {
            self.file(path, &wrong);
            return false;
        }
        if file.entry.crc32c.is_some_and(|kept| kept != crc) {
            self.file(path, "its CRC-32C is not the one in the list of files");
            return false;
        }
        true
    }

    fn same(&mut self, name: &str, label: &BackupLabel, snapshot: &Snapshot) {
        if (label.start_lsn, label.start_timeline) != (snapshot.start_lsn, snapshot.timeline) {
            let what = format!(
                "it begins at {} on timeline {}, the snapshot at {} on {}",
                label.start_lsn, label.start_timeline, snapshot.start_lsn, snapshot.timeline
            );
            self.file(name, &what);
        }
    }

    fn control(&mut self, name: &str, control: &ControlFile, snapshot: &Snapshot) {
        if control.system_identifier != snapshot.system_identifier {
            let what = format!(
                "it is of system {}, the snapshot of {}",
                control.system_identifier, snapshot.system_identifier
            );
            self.file(name, &what);
        }
        if (control.block_size, control.wal_segment_size)
            != (snapshot.block_size, snapshot.segment_size)
        {
            self.file(name, "its sizes of pages and WAL segments are not those of the snapshot");
        }
    }

    fn wrong(&mut self, wrong: PageMismatches) {
        let beyond = wrong.total.saturating_sub(wrong.listed.len() as u64);
        self.wrong.extend(wrong.listed);
        self.wrong.total += beyond;
    }

    /// An error that ended the snapshot is a finding when it is damage.
    fn take(&mut self, problem: EngineError) -> Result<()> {
        if !is_damage(&problem) {
            return Err(problem);
        }
        let message = problem.to_object().message;
        self.snapshot(format!("it could not be put together: {message}"));
        Ok(())
    }

    fn finish(mut self) -> Rebuilt {
        let unnamed = self.files_total - self.files_named as u64;
        if unnamed > 0 {
            self.snapshot(format!(
                "{unnamed} more of its files are not what was copied from the server"
            ));
        }
        // What the server's own pages were like when it sent them is known since then.
        let known = self.wrong.total <= self.snapshot.page_findings_total;
        let severity = if known { FindingSeverity::Warning } else { FindingSeverity::Error };
        let since = if known {
            "as the backup found when it was taken"
        } else {
            "which the backup did not find"
        };
        let listed = std::mem::take(&mut self.wrong.listed);
        for page in listed.iter().take(NAMED) {
            let message = format!(
                "{} block {}: the page says {:04x}, its bytes give {:04x}, {since}",
                page.path, page.block, page.stored, page.computed
            );
            self.note(severity, "page", &message);
        }
        let unnamed = self.wrong.total.saturating_sub(listed.len().min(NAMED) as u64);
        if unnamed > 0 {
            self.note(severity, "page", &format!("{unnamed} more pages are damaged, {since}"));
        }
        self.rebuilt
    }
}
