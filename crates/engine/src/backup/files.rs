//! The file stage: tar entries in, extents and a list of files out. Runs on a thread of its own.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use holdfast_postgres::{
    ControlFile, Lsn, PageFinding, RelationFile, TarEntry, TarError, TarEvent, TarKind, TarParser,
    check_page, relation_file,
};
use holdfast_repository::{EntryKind, ExtentId, FileEntry, FileTableWriter, Ingest};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::error::{EngineError, Result};
use crate::snapshot::PageMismatch;

/// At most this many wrong pages are listed; all are counted.
const LISTED_PAGES: usize = 100;
/// The server's manifest of a cluster with millions of files stays below this.
const MANIFEST_LIMIT: usize = 4 << 30;
/// `global/pg_control` is kept aside; it has 8 KiB.
const CONTROL_LIMIT: usize = 64 << 10;

/// What the socket's side tells the file stage.
pub(super) enum StageMessage {
    /// A new tar archive begins: the base directory's, or a tablespace's.
    Archive { tablespace: Option<u32> },
    /// The server's manifest begins.
    Manifest,
    /// Bytes of what began last.
    Data(Bytes),
}

/// Size and CRC-32C of one file, by the hash of its path.
pub(super) type Checks = HashMap<[u8; 16], (u64, u32)>;

/// Sums over all files.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) checks: Checks,
}

/// What the file stage has when everything arrived.
pub(super) struct Received {
    pub(super) table: FileTableWriter,
    pub(super) totals: Totals,
    pub(super) manifest: Vec<u8>,
    pub(super) page_findings: Vec<PageMismatch>,
    pub(super) page_findings_total: u64,
    pub(super) control: ControlFile,
}

/// The key of a path in [`Checks`].
pub(super) fn path_key(path: &[u8]) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(&blake3::hash(path).as_bytes()[..16]);
    key
}

/// A file on its way.
struct OpenFile {
    path: String,
    mode: u32,
    mtime: i64,
    size: u64,
    crc: u32,
    extents: Vec<ExtentId>,
    filled: BytesMut,
    pages: Option<RelationFile>,
    offset: u64,
}

pub(super) struct FileStage {
    ingest: Arc<Ingest>,
    table: FileTableWriter,
    start_lsn: Lsn,
    block_size: usize,
    checksums: bool,
    totals: Totals,
    page_findings: Vec<PageMismatch>,
    page_findings_total: u64,
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
        block_size: u32,
        checksums: bool,
    ) -> Self {
        Self {
            ingest,
            table,
            start_lsn,
            block_size: block_size as usize,
            checksums,
            totals: Totals::default(),
            page_findings: Vec::new(),
            page_findings_total: 0,
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
        let mut parser: Option<TarParser> = None;
        let mut manifest: Option<Vec<u8>> = None;
        while let Some(message) = messages.blocking_recv() {
            match message {
                StageMessage::Archive { tablespace } => {
                    finish(parser.replace(TarParser::new()))?;
                    self.prefix =
                        tablespace.map(|oid| format!("pg_tblspc/{oid}/")).unwrap_or_default();
                    if let Some(oid) = tablespace {
                        // In the link's place.
                        self.directory(&format!("pg_tblspc/{oid}"), 0o700, 0, runtime)?;
                    }
                }
                StageMessage::Manifest => {
                    finish(parser.take())?;
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
                    } else if let Some(parser) = &mut parser {
                        parser.push(&bytes, &mut |event| self.take(event, runtime))?;
                    }
                }
            }
        }
        finish(parser)?;
        let manifest = manifest.unwrap_or_default();
        self.store_manifest(&manifest, runtime)?;
        let control = ControlFile::parse(&self.control).map_err(|e| {
            EngineError::integrity(
                "control_file_damaged",
                format!("the copied global/pg_control cannot be read: {e}"),
                "Nothing of this backup was kept. Run it again.",
            )
        })?;
        Ok(Received {
            table: self.table,
            totals: self.totals,
            manifest,
            page_findings: self.page_findings,
            page_findings_total: self.page_findings_total,
            control,
        })
    }

    fn take(&mut self, event: TarEvent<'_>, runtime: &Handle) -> Result<(), StageError> {
        match event {
            TarEvent::Entry(entry) => self.begin(entry, runtime)?,
            TarEvent::Data(bytes) => self.data(bytes, runtime)?,
            TarEvent::EndEntry => self.end(runtime)?,
        }
        Ok(())
    }

    fn begin(&mut self, entry: TarEntry, runtime: &Handle) -> Result<()> {
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
                }))?;
            }
            TarKind::File => {
                let pages = relation_file(&path).filter(|_| self.checksums);
                self.open = Some(OpenFile {
                    path,
                    mode: entry.mode,
                    mtime: entry.mtime,
                    size: entry.size,
                    crc: 0,
                    extents: Vec::new(),
                    filled: BytesMut::with_capacity(self.ingest.extent_size()),
                    pages,
                    offset: 0,
                });
            }
        }
        Ok(())
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
        }))?;
        Ok(())
    }

    fn data(&mut self, mut bytes: &[u8], runtime: &Handle) -> Result<()> {
        let extent_size = self.ingest.extent_size();
        while !bytes.is_empty() {
            let Some(file) = &mut self.open else { return Ok(()) };
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
        let extent =
            std::mem::replace(&mut file.filled, BytesMut::with_capacity(self.ingest.extent_size()))
                .freeze();
        file.crc = crc32c::crc32c_append(file.crc, &extent);
        if file.path == "global/pg_control" && self.control.len() < CONTROL_LIMIT {
            self.control.extend_from_slice(&extent);
        }
        if let Some(relation) = file.pages {
            // A relation's blocks are numbered through its segments, which are 1 GiB unless built otherwise.
            let blocks_per_segment = (1_u64 << 30) / self.block_size as u64;
            let first = file.offset / self.block_size as u64
                + u64::from(relation.segment) * blocks_per_segment;
            for (n, page) in extent.chunks_exact(self.block_size).enumerate() {
                let block = u32::try_from(first + n as u64).unwrap_or(u32::MAX);
                if let PageFinding::Mismatch { stored, computed } =
                    check_page(page, block, self.start_lsn)
                {
                    self.page_findings_total += 1;
                    if self.page_findings.len() < LISTED_PAGES {
                        self.page_findings.push(PageMismatch {
                            path: file.path.clone(),
                            block,
                            stored,
                            computed,
                        });
                    }
                }
            }
        }
        file.offset += extent.len() as u64;
        let id = runtime.block_on(self.ingest.add_extent(extent))?;
        file.extents.push(id);
        Ok(())
    }

    fn end(&mut self, runtime: &Handle) -> Result<()> {
        if self.open.as_ref().is_some_and(|f| !f.filled.is_empty()) {
            self.extent(runtime)?;
        }
        let Some(file) = self.open.take() else { return Ok(()) };
        self.totals.files += 1;
        self.totals.bytes += file.size;
        self.totals.checks.insert(path_key(file.path.as_bytes()), (file.size, file.crc));
        runtime.block_on(self.table.add(&FileEntry {
            path: file.path,
            size: file.size,
            mode: file.mode,
            mtime: file.mtime,
            crc32c: Some(file.crc),
            kind: EntryKind::File,
            extents: file.extents,
        }))?;
        Ok(())
    }

    /// The server's manifest is a file of the snapshot like any other, but not of the cluster.
    fn store_manifest(&mut self, manifest: &[u8], runtime: &Handle) -> Result<()> {
        let mut extents = Vec::new();
        for part in manifest.chunks(self.ingest.extent_size()) {
            extents.push(runtime.block_on(self.ingest.add_extent(Bytes::copy_from_slice(part)))?);
        }
        runtime.block_on(self.table.add(&FileEntry {
            path: "backup_manifest".to_owned(),
            size: manifest.len() as u64,
            mode: 0o600,
            mtime: 0,
            crc32c: Some(crc32c::crc32c(manifest)),
            kind: EntryKind::File,
            extents,
        }))?;
        Ok(())
    }
}

fn finish(parser: Option<TarParser>) -> Result<()> {
    match parser {
        Some(parser) => parser.finish().map_err(|e| StageError::Tar(e).into()),
        None => Ok(()),
    }
}
