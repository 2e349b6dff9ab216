//! Reads a data directory into the file stage, and lists it as the server's manifest would.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use chrono::DateTime;
use holdfast_postgres::{
    ChecksumAlgorithm, ControlFile, FileChecksum, Lsn, ManifestFile, ManifestPath, ManifestWriter,
    ServerVersion, SystemIdentifier, TarEntry, TarKind, TimelineId, WalRange,
    crc32c_manifest_bytes,
};
use rustix::fs::OFlags;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::tree::{CONTROL, Found, FoundKind, Tree, there};
use crate::backup::files::{FileStage, Received};
use crate::error::{EngineError, Result};
use crate::jobs::Reporter;

/// How often a control file is read that the server is writing, and how long is waited in between.
const CONTROL_TRIES: usize = 20;
const CONTROL_WAIT: Duration = Duration::from_millis(5);

/// Reads one data directory. Runs on a thread of its own.
pub(super) struct Reader {
    stage: FileStage,
    tree: Tree,
    listing: Listing,
    /// Ends it between two files or extents.
    stop: CancellationToken,
    read: u64,
    directories: HashSet<String>,
    warnings: Vec<String>,
}

/// What a reader has when it has read everything.
pub(super) struct Read {
    pub(super) received: Received,
    pub(super) listing: Listing,
    /// Of the copy, by their paths in it.
    pub(super) directories: HashSet<String>,
    pub(super) warnings: Vec<String>,
}

impl Reader {
    pub(super) fn new(
        stage: FileStage,
        tree: Tree,
        version: ServerVersion,
        system: SystemIdentifier,
        stop: CancellationToken,
    ) -> Self {
        let listing = Listing::begin(version, system);
        let (directories, warnings) = (HashSet::new(), Vec::new());
        Self { stage, tree, listing, stop, read: 0, directories, warnings }
    }

    /// Reads everything; the control file last, so that the copy says of itself that it is older than its pages.
    pub(super) fn run(mut self, reporter: &Reporter, runtime: &Handle) -> Result<Read> {
        let tree = self.tree.clone();
        tree.walk(&mut |found| self.take(found, reporter, runtime))?;
        let path = tree.root.join(CONTROL);
        let (_, bytes) = control_bytes(&path).map_err(EngineError::file("read", &path))?;
        let metadata = path.metadata().map_err(EngineError::file("read", &path))?;
        let (mode, mtime) = (metadata.mode() & 0o7777, metadata.mtime());
        let (path, size) = (CONTROL.to_owned(), bytes.len() as u64);
        self.stage.begin(TarEntry { path, kind: TarKind::File, size, mode, mtime }, runtime)?;
        self.stage.data(&bytes, runtime)?;
        self.end(CONTROL, mtime, runtime)?;
        Ok(Read {
            received: self.stage.received(Vec::new())?,
            listing: self.listing,
            directories: self.directories,
            warnings: self.warnings,
        })
    }

    fn take(&mut self, found: Found, reporter: &Reporter, runtime: &Handle) -> Result<()> {
        still_wanted(&self.stop)?;
        let Found { path, kind, mode, mtime } = found;
        let source = match kind {
            FoundKind::File(source, _) => source,
            FoundKind::Directory => {
                self.directories.insert(path.clone());
                let entry = TarEntry { path, kind: TarKind::Directory, size: 0, mode, mtime };
                return self.stage.begin(entry, runtime);
            }
            FoundKind::Link => {
                self.warn(reporter, format!("{path} is a symbolic link: it is not in the backup"));
                return Ok(());
            }
        };
        // Never through a link that was put in its place, never waiting for a pipe.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut options = File::options();
        let opened = options.read(true).custom_flags(flags.bits().cast_signed()).open(&source);
        // Dropped since it was listed.
        let Some(file) = there(opened, &source)? else { return Ok(()) };
        let metadata = file.metadata().map_err(EngineError::file("read", &source))?;
        if !metadata.is_file() {
            self.warn(reporter, format!("{path} is no file any more: it is not in the backup"));
            return Ok(());
        }
        let (mode, mtime, size) = (metadata.mode() & 0o7777, metadata.mtime(), metadata.len());
        let entry = TarEntry { path: path.clone(), kind: TarKind::File, size, mode, mtime };
        self.stage.begin(entry, runtime)?;
        let (read, stop) = (&mut self.read, &self.stop);
        let mut before_each = |bytes| {
            still_wanted(stop)?;
            *read += bytes;
            reporter.done(*read);
            Ok(())
        };
        self.stage.read(file, &mut before_each, runtime)?;
        self.end(&path, mtime, runtime)
    }

    fn warn(&mut self, reporter: &Reporter, warning: String) {
        reporter.warning(warning.clone());
        self.warnings.push(warning);
    }

    fn end(&mut self, path: &str, mtime: i64, runtime: &Handle) -> Result<()> {
        let (size, crc) = self.stage.end(runtime)?;
        self.listing.add(path, size, crc, mtime)
    }
}

fn still_wanted(stop: &CancellationToken) -> Result<()> {
    if stop.is_cancelled() { Err(EngineError::Cancelled) } else { Ok(()) }
}

/// The manifest of what was read.
pub(super) struct Listing {
    writer: ManifestWriter,
    text: Vec<u8>,
}

impl Listing {
    fn begin(version: ServerVersion, system: SystemIdentifier) -> Self {
        let version = version.traits().map_or(1, |traits| traits.manifest_version);
        let system = (version >= 2).then_some(system);
        Self { writer: ManifestWriter::new(version, system), text: Vec::new() }
    }

    fn add(&mut self, path: &str, size: u64, crc: u32, mtime: i64) -> Result<()> {
        let path = ManifestPath::new(path.as_bytes().to_vec())
            .ok_or_else(|| EngineError::Fault(format!("{path:?} is no path of a copy")))?;
        let last_modified = DateTime::from_timestamp(mtime, 0).unwrap_or_default();
        self.writer.file(&ManifestFile {
            path,
            size,
            last_modified: last_modified.format("%Y-%m-%d %H:%M:%S GMT").to_string(),
            checksum: Some(FileChecksum {
                algorithm: ChecksumAlgorithm::Crc32c,
                value: crc32c_manifest_bytes(crc).to_vec(),
            }),
        });
        self.text.append(&mut self.writer.take());
        Ok(())
    }

    /// Ends it with the label, which comes last, and the WAL that the copy needs.
    pub(super) fn finish(
        mut self,
        label: &[u8],
        mtime: i64,
        timeline: TimelineId,
        start: Lsn,
        end: Lsn,
    ) -> Result<Vec<u8>> {
        self.add("backup_label", label.len() as u64, crc32c::crc32c(label), mtime)?;
        self.text.append(&mut self.writer.finish(&[WalRange { timeline, start, end }]));
        Ok(self.text)
    }
}

/// Reads a control file, and again when its checksum is wrong: the server may be writing it (`controldata_utils.c`,
/// `get_controlfile`).
pub(super) fn control_bytes(path: &Path) -> io::Result<(ControlFile, Vec<u8>)> {
    let mut nth = 0;
    loop {
        let bytes = std::fs::read(path)?;
        match ControlFile::parse(&bytes) {
            Ok(control) => return Ok((control, bytes)),
            Err(error) if nth == CONTROL_TRIES => return Err(io::Error::other(error)),
            Err(_) => std::thread::sleep(CONTROL_WAIT),
        }
        nth += 1;
    }
}
