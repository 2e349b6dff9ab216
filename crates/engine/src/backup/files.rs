//! The file stage: tar entries in, extents and a list of files out. Runs on a thread of its own.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holdfast_postgres::{
    BackupLabel, ControlFile, Lsn, RelationFile, TarEntry, TarError, TarEvent, TarKind,
    incremental_target, relation_file, without_incremental_lines,
};
use holdfast_repository::{
    EntryKind, ExtentId, FileEntry, FileLookup, FileTableWriter, Ingest, OldExtent,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::archive_stream::ArchiveStream;
use super::checksum::ChecksumJoiner;
use super::compare::{Checks, path_key};
use super::fold::{Fold, FoldPlaces, Folded};
use super::incremental::Basis;
use super::pages::{PageCheck, PageMismatches, Shape};
use crate::error::{EngineError, Result};

/// The server's manifest of a cluster with millions of files stays below this.
const MANIFEST_LIMIT: usize = 4 << 30;
/// `global/pg_control` is kept aside; it has 8 KiB.
const CONTROL_LIMIT: usize = 64 << 10;
/// So is `backup_label`, which has a few lines.
const LABEL_LIMIT: usize = 64 << 10;
/// How often a page that looks wrong is read again: the server may be writing it. It reads once more itself.
const READ_AGAIN: usize = 5;
/// How long it waits before, from the second time on.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(2);
/// After so many wrong pages the others are read again only once: the disk is bad.
const PATIENT_WITH: u64 = 100;

/// What the socket's side tells the file stage.
pub(super) enum StageMessage {
    /// A new tar archive begins: the base directory's, or a tablespace's; compressed or not.
    Archive { tablespace: Option<u32>, zstd: bool },
    /// The server's manifest begins.
    Manifest,
    /// Bytes of what began last.
    Data(Bytes),
}

/// Sums over all files.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Every file as it arrived.
    pub(super) checks: Checks,
    /// Those that are kept otherwise than they arrived, by the path they arrived under: what was folded
    /// into a whole file, and the label.
    pub(super) changed: Checks,
}

/// What the file stage has when everything arrived.
pub(super) struct Received {
    pub(super) table: FileTableWriter,
    pub(super) ingest: Arc<Ingest>,
    pub(super) totals: Totals,
    /// As the server sent it, and then of the files as they are kept.
    pub(super) manifest: Vec<u8>,
    pub(super) pages: PageMismatches,
    pub(super) control: ControlFile,
}

/// A file on its way.
struct OpenFile {
    path: String,
    mode: u32,
    mtime: i64,
    size: u64,
    crc: u32,
    extents: Vec<ExtentId>,
    sums: Vec<u32>,
    filled: BytesMut,
    pages: Option<RelationFile>,
    /// The extents of the file in the snapshot before, where these are at hand.
    before: Vec<ExtentId>,
    offset: u64,
    /// What is done with it before it is kept.
    kept: Kept,
    /// The file itself, where it is at hand.
    at_hand: Option<File>,
}

enum Kept {
    /// Nothing: it is kept as it arrives.
    AsItIs,
    /// The label of an incremental backup, which becomes a full one's.
    Label(Vec<u8>),
    /// An incremental file, folded into the whole one.
    Folded(Box<Fold>),
}

pub(super) struct FileStage {
    ingest: Arc<Ingest>,
    table: FileTableWriter,
    start_lsn: Lsn,
    shape: Shape,
    checksums: bool,
    /// What an incremental backup builds on.
    basis: Option<Basis>,
    /// The files of the snapshot before a full backup: of what changed little in them the difference is stored.
    before: Option<FileLookup>,
    joiner: ChecksumJoiner,
    totals: Totals,
    wrong: PageMismatches,
    prefix: String,
    open: Option<OpenFile>,
    control: Vec<u8>,
}

/// Errors of the tar parser and of what is done with its entries.
enum StageError {
    Tar(TarError),
    Engine(EngineError),
}

impl From<TarError> for StageError {
    fn from(error: TarError) -> Self {
        Self::Tar(error)
    }
}

impl From<EngineError> for StageError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<StageError> for EngineError {
    fn from(error: StageError) -> Self {
        match error {
            StageError::Engine(error) => error,
            StageError::Tar(error) => EngineError::integrity(
                "tar_stream_damaged",
                format!("the server's copy of its files cannot be read: {error}"),
                "Nothing of this backup was kept. Run it again; if it goes on, report it with the server's version.",
            ),
        }
    }
}

impl FileStage {
    pub(super) fn new(
        ingest: Arc<Ingest>,
        table: FileTableWriter,
        start_lsn: Lsn,
        shape: Shape,
        checksums: bool,
        basis: Option<Basis>,
        before: Option<FileLookup>,
    ) -> Self {
        Self {
            joiner: ChecksumJoiner::new(ingest.extent_size()),
            ingest,
            table,
            start_lsn,
            shape,
            checksums,
            basis,
            before,
            totals: Totals::default(),
            wrong: PageMismatches::default(),
            prefix: String::new(),
            open: None,
            control: Vec::new(),
        }
    }

    /// Takes messages until the sender is gone.
    pub(super) fn run(
        mut self,
        mut messages: mpsc::Receiver<StageMessage>,
        runtime: &Handle,
    ) -> Result<Received> {
        let mut archive: Option<ArchiveStream> = None;
        let mut manifest: Option<Vec<u8>> = None;
        while let Some(message) = messages.blocking_recv() {
            match message {
                StageMessage::Archive { tablespace, zstd } => {
                    finish(archive.replace(ArchiveStream::begin(zstd)?))?;
                    self.prefix =
                        tablespace.map(|oid| format!("pg_tblspc/{oid}/")).unwrap_or_default();
                    if let Some(oid) = tablespace {
                        // In the link's place.
                        self.directory(&format!("pg_tblspc/{oid}"), 0o700, 0, runtime)?;
                    }
                }
                StageMessage::Manifest => {
                    finish(archive.take())?;
                    manifest = Some(Vec::new());
                }
                StageMessage::Data(bytes) => {
                    if let Some(manifest) = &mut manifest {
                        if manifest.len() + bytes.len() > MANIFEST_LIMIT {
                            return Err(EngineError::Fault(
                                "the server's manifest is larger than 4 GiB".to_owned(),
                            ));
                        }
                        manifest.extend_from_slice(&bytes);
                    } else if let Some(archive) = &mut archive {
                        archive.push(&bytes, &mut |event| self.take(event, runtime))?;
                    }
                }
            }
        }
        finish(archive)?;
        self.received(manifest.unwrap_or_default())
    }

    /// What it has when everything was taken.
    pub(super) fn received(self, manifest: Vec<u8>) -> Result<Received> {
        let control = ControlFile::parse(&self.control).map_err(|e| {
            EngineError::integrity(
                "control_file_damaged",
                format!("the copied global/pg_control cannot be read: {e}"),
                "Nothing of this backup was kept. Run it again.",
            )
        })?;
        Ok(Received {
            table: self.table,
            ingest: self.ingest,
            totals: self.totals,
            manifest,
            pages: self.wrong,
            control,
        })
    }

    fn take(&mut self, event: TarEvent<'_>, runtime: &Handle) -> Result<(), StageError> {
        match event {
            TarEvent::Entry(entry) => self.begin(entry, runtime)?,
            TarEvent::Data(bytes) => self.data(bytes, runtime)?,
            TarEvent::EndEntry => drop(self.end(runtime)?),
        }
        Ok(())
    }

    /// A directory, a link or a file begins.
    pub(super) fn begin(&mut self, entry: TarEntry, runtime: &Handle) -> Result<()> {
        let path = format!("{}{}", self.prefix, entry.path);
        match entry.kind {
            TarKind::Directory => self.directory(&path, entry.mode, entry.mtime, runtime)?,
            // A tablespace's own archive follows and makes the directory.
            TarKind::Symlink { .. } if path.starts_with("pg_tblspc/") => {}
            TarKind::Symlink { target } => {
                runtime.block_on(self.table.add(&FileEntry {
                    path,
                    size: 0,
                    mode: entry.mode,
                    mtime: entry.mtime,
                    crc32c: None,
                    kind: EntryKind::Symlink(target),
                    extents: Vec::new(),
                    extent_crc32c: Vec::new(),
                }))?;
            }
            TarKind::File => {
                let kept = self.kept(&path, runtime)?;
                let whole = match &kept {
                    Kept::Folded(fold) => fold.path(),
                    Kept::AsItIs | Kept::Label(_) => &path,
                };
                let relation = relation_file(whole);
                let pages = relation.filter(|_| self.checksums);
                let before = match (&mut self.before, &kept) {
                    (Some(files), Kept::AsItIs) if relation.is_some() => {
                        match runtime.block_on(files.get(&path)) {
                            Ok(entry) => entry.map(|entry| entry.extents),
                            // A backup does without.
                            Err(error) => {
                                tracing::warn!(%error, %path, "older content is not built on");
                                None
                            }
                        }
                    }
                    _ => None,
                };
                self.open = Some(OpenFile {
                    path,
                    mode: entry.mode,
                    mtime: entry.mtime,
                    size: entry.size,
                    crc: 0,
                    extents: Vec::new(),
                    sums: Vec::new(),
                    filled: BytesMut::new(),
                    pages,
                    before: before.unwrap_or_default(),
                    offset: 0,
                    kept,
                    at_hand: None,
                });
            }
        }
        Ok(())
    }

    /// What is to be done with a file that begins.
    fn kept(&mut self, path: &str, runtime: &Handle) -> Result<Kept> {
        let target = incremental_target(path);
        let Some(basis) = &mut self.basis else {
            return match target {
                None => Ok(Kept::AsItIs),
                Some(_) => Err(without_basis(path, "the backup is not incremental")),
            };
        };
        let Some(target) = target else {
            return Ok(if path == "backup_label" { Kept::Label(Vec::new()) } else { Kept::AsItIs });
        };
        if basis.read_whole.own(&target) {
            return Err(without_basis(path, "the file was to be read whole"));
        }
        let Some(previous) = runtime.block_on(basis.files.get(&target))? else {
            return Err(without_basis(path, "the previous snapshot does not have the file"));
        };
        let Shape { block_size, segment_blocks } = self.shape;
        let fold = Fold::begin(previous, self.ingest.extent_size(), block_size, segment_blocks)?;
        Ok(Kept::Folded(Box::new(fold)))
    }

    fn directory(&mut self, path: &str, mode: u32, mtime: i64, runtime: &Handle) -> Result<()> {
        runtime.block_on(self.table.add(&FileEntry {
            path: path.to_owned(),
            size: 0,
            mode,
            mtime,
            crc32c: None,
            kind: EntryKind::Directory,
            extents: Vec::new(),
            extent_crc32c: Vec::new(),
        }))?;
        Ok(())
    }

    /// Reads the file that has begun, as long as it was then. What it has lost since is zeros, as the server sends it:
    /// replay truncates it again. `before_each` is told the bytes of each extent and may stop it.
    pub(super) fn read(
        &mut self,
        file: File,
        before_each: &mut dyn FnMut(u64) -> Result<()>,
        runtime: &Handle,
    ) -> Result<()> {
        let extent_size = self.ingest.extent_size();
        let Some(open) = &mut self.open else { return Ok(()) };
        let mut left = open.size;
        open.at_hand = Some(file);
        while left > 0 {
            let Some(open) = &mut self.open else { return Ok(()) };
            let Some(file) = &open.at_hand else { return Ok(()) };
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(extent_size);
            before_each(length as u64)?;
            open.filled = BytesMut::zeroed(length);
            read_at(file, &mut open.filled, open.offset)
                .map_err(EngineError::file("read", &open.path))?;
            left -= length as u64;
            self.extent(runtime)?;
        }
        Ok(())
    }

    /// The next bytes of the file that has begun.
    pub(super) fn data(&mut self, mut bytes: &[u8], runtime: &Handle) -> Result<()> {
        let extent_size = self.ingest.extent_size();
        let Some(file) = &mut self.open else { return Ok(()) };
        match &mut file.kept {
            Kept::AsItIs => {}
            Kept::Label(label) => {
                if label.len() + bytes.len() > LABEL_LIMIT {
                    return Err(label_damaged("it is longer than 64 KiB"));
                }
                file.crc = crc32c::crc32c_append(file.crc, bytes);
                label.extend_from_slice(bytes);
                return Ok(());
            }
            Kept::Folded(fold) => {
                file.crc = crc32c::crc32c_append(file.crc, bytes);
                let check = PageCheck { shape: self.shape, start_lsn: self.start_lsn };
                let Some(basis) = &self.basis else { return Ok(()) };
                let places = FoldPlaces { ingest: &self.ingest, extents: &basis.extents, runtime };
                let (pages, check, wrong) = (file.pages, check, &mut self.wrong);
                return fold.push(bytes, &places, &mut |path, number, page| {
                    if let Some(relation) = pages {
                        wrong.extend(check.page(path, relation, u64::from(number), page));
                    }
                });
            }
        }
        while !bytes.is_empty() {
            let Some(file) = &mut self.open else { return Ok(()) };
            if file.filled.capacity() == 0 {
                file.filled.reserve(extent_size);
            }
            let (now, rest) = bytes.split_at(bytes.len().min(extent_size - file.filled.len()));
            file.filled.extend_from_slice(now);
            bytes = rest;
            if file.filled.len() == extent_size {
                self.extent(runtime)?;
            }
        }
        Ok(())
    }

    /// Hands one extent on: its pages looked at, its checksum taken.
    fn extent(&mut self, runtime: &Handle) -> Result<()> {
        let Some(file) = &mut self.open else { return Ok(()) };
        let mut extent = std::mem::take(&mut file.filled);
        if let Some(relation) = file.pages {
            let block_size = self.shape.block_size as usize;
            let first = file.offset / block_size as u64;
            let check = PageCheck { shape: self.shape, start_lsn: self.start_lsn };
            for (number, page) in (first..).zip(extent.chunks_exact_mut(block_size)) {
                let mut wrong = check.page(&file.path, relation, number, page);
                if let Some(at_hand) = &file.at_hand {
                    let tries = if self.wrong.total < PATIENT_WITH { READ_AGAIN } else { 1 };
                    for nth in 0..tries {
                        if wrong.is_none() {
                            break;
                        }
                        if nth > 0 {
                            std::thread::sleep(READ_AGAIN_AFTER);
                        }
                        page.fill(0);
                        read_at(at_hand, page, number * block_size as u64)
                            .map_err(EngineError::file("read", &file.path))?;
                        wrong = check.page(&file.path, relation, number, page);
                    }
                }
                self.wrong.extend(wrong);
            }
        }
        let extent = extent.freeze();
        file.sums.push(crc32c::crc32c(&extent));
        if file.path == "global/pg_control" && self.control.len() < CONTROL_LIMIT {
            self.control.extend_from_slice(&extent);
        }
        file.offset += extent.len() as u64;
        let before = file.before.get(file.extents.len()).filter(|id| !id.is_zero());
        let id = runtime.block_on(async {
            match before {
                Some(id) => self.ingest.add_changed_extent(extent, OldExtent::named(*id)).await,
                None => self.ingest.add_extent(extent).await,
            }
        })?;
        file.extents.push(id);
        Ok(())
    }

    /// The file that has begun is whole; its size and CRC-32C as they are kept.
    pub(super) fn end(&mut self, runtime: &Handle) -> Result<(u64, u32)> {
        if self.open.as_ref().is_some_and(|f| !f.filled.is_empty()) {
            self.extent(runtime)?;
        }
        let Some(mut file) = self.open.take() else { return Ok((0, 0)) };
        let arrived = path_key(file.path.as_bytes());
        let arrived_size = file.size;
        let changed = match std::mem::replace(&mut file.kept, Kept::AsItIs) {
            Kept::AsItIs => {
                file.crc = self.joiner.join(&file.sums, file.size);
                // What was read here is compared with nothing.
                if file.at_hand.is_none() {
                    self.totals.checks.insert(arrived, (arrived_size, file.crc));
                }
                false
            }
            Kept::Label(label) => {
                self.totals.checks.insert(arrived, (arrived_size, file.crc));
                let read = BackupLabel::parse(&label).map_err(|e| label_damaged(&e.to_string()))?;
                if let Some(basis) = &self.basis {
                    basis.require_named(read.incremental_from)?;
                }
                let whole = Bytes::from(without_incremental_lines(&label));
                file.size = whole.len() as u64;
                (file.extents, file.sums) = runtime.block_on(stored(&self.ingest, &whole))?;
                true
            }
            Kept::Folded(fold) => {
                self.totals.checks.insert(arrived, (arrived_size, file.crc));
                let Some(basis) = &self.basis else { return Ok((0, 0)) };
                let places = FoldPlaces { ingest: &self.ingest, extents: &basis.extents, runtime };
                let Folded { path, size, extents, sums } = fold.finish(&places)?;
                file = OpenFile { path, size, extents, sums, ..file };
                true
            }
        };
        if changed {
            file.crc = self.joiner.join(&file.sums, file.size);
            self.totals.changed.insert(arrived, (file.size, file.crc));
        }
        self.totals.files += 1;
        self.totals.bytes += file.size;
        let kept = (file.size, file.crc);
        runtime.block_on(self.table.add(&FileEntry {
            path: file.path,
            size: file.size,
            mode: file.mode,
            mtime: file.mtime,
            crc32c: Some(file.crc),
            kind: EntryKind::File,
            extents: file.extents,
            extent_crc32c: of_several(file.sums),
        }))?;
        Ok(kept)
    }
}

/// Reads into all of `bytes`; what the file does not have stays as it is.
fn read_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.read_at(bytes, offset) {
            Ok(0) => break,
            Ok(length) => {
                bytes = &mut bytes[length..];
                offset += length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Stores a file that is in memory: the manifest, which is a file of the snapshot like any other but not of the
/// cluster, or the label.
pub(super) async fn store(
    ingest: &Ingest,
    table: &mut FileTableWriter,
    path: &str,
    content: Vec<u8>,
    mtime: i64,
) -> Result<()> {
    let content = Bytes::from(content);
    let (extents, sums) = stored(ingest, &content).await?;
    table
        .add(&FileEntry {
            path: path.to_owned(),
            size: content.len() as u64,
            mode: 0o600,
            mtime,
            crc32c: Some(crc32c::crc32c(&content)),
            kind: EntryKind::File,
            extents,
            extent_crc32c: of_several(sums),
        })
        .await?;
    Ok(())
}

/// Stores content that is in memory; its extents and their checksums.
async fn stored(ingest: &Ingest, content: &Bytes) -> Result<(Vec<ExtentId>, Vec<u32>)> {
    let mut extents = Vec::new();
    let mut sums = Vec::new();
    for part in content.chunks(ingest.extent_size()) {
        sums.push(crc32c::crc32c(part));
        extents.push(ingest.add_extent(content.slice_ref(part)).await?);
    }
    Ok((extents, sums))
}

/// The checksums of extents as an entry has them: of a single one the file's own says it already.
fn of_several(sums: Vec<u32>) -> Vec<u32> {
    if sums.len() == 1 { Vec::new() } else { sums }
}

fn without_basis(path: &str, why: &str) -> EngineError {
    EngineError::integrity(
        "incremental_file_unexpected",
        format!("the server sent {path}, and {why}"),
        "Nothing of this backup was kept. Take a full one: holdfast backup NAME --incremental never",
    )
}

fn label_damaged(why: &str) -> EngineError {
    EngineError::integrity(
        "backup_label_damaged",
        format!("the copied backup_label cannot be read: {why}"),
        "Nothing of this backup was kept. Run it again.",
    )
}

fn finish(archive: Option<ArchiveStream>) -> Result<()> {
    match archive {
        Some(archive) => archive.finish::<StageError>().map_err(EngineError::from),
        None => Ok(()),
    }
}
