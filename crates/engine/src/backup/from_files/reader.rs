//! Reads a data directory into the file stage, and lists it as the server's manifest would.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use chrono::DateTime;
use holdfast_postgres::{
    ChecksumAlgorithm, ControlFile, FileChecksum, Lsn, ManifestFile, ManifestPath, ManifestWriter,
    ServerVersion, SystemIdentifier, TarEntry, TarKind, TimelineId, WalRange,
    crc32c_manifest_bytes,
};
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
    /// Ends it between two extents.
    stop: CancellationToken,
    read: u64,
}

impl Reader {
    pub(super) fn new(
        stage: FileStage,
        tree: Tree,
        version: ServerVersion,
        system: SystemIdentifier,
        stop: CancellationToken,
    ) -> Self {
        Self { stage, tree, listing: Listing::begin(version, system), stop, read: 0 }
    }

    /// Reads everything; the control file last, so that the copy says of itself that it is older than its pages.
    pub(super) fn run(
        mut self,
        reporter: &Reporter,
        runtime: &Handle,
    ) -> Result<(Received, Listing)> {
        reporter.phase("copying", Some("bytes"), Some(self.tree.bytes()?));
        let tree = self.tree.clone();
        tree.walk(&mut |found| self.take(&found, reporter, runtime))?;
        let path = tree.root.join(CONTROL);
        let (_, bytes) = control_bytes(&path).map_err(EngineError::file("read", &path))?;
        let metadata = path.metadata().map_err(EngineError::file("read", &path))?;
        let found = Found {
            path: CONTROL.to_owned(),
            kind: FoundKind::File(path.clone()),
            metadata: &metadata,
        };
        let entry = entry_of(&found, bytes.len() as u64);
        self.stage.begin(entry, runtime)?;
        self.stage.data(&bytes, runtime)?;
        self.end(CONTROL, metadata.mtime(), runtime)?;
        Ok((self.stage.received(Vec::new())?, self.listing))
    }

    fn take(&mut self, found: &Found<'_>, reporter: &Reporter, runtime: &Handle) -> Result<()> {
        let FoundKind::File(source) = &found.kind else {
            return self.stage.begin(entry_of(found, 0), runtime);
        };
        // Dropped since it was listed.
        let Some(file) = there(File::open(source), source)? else { return Ok(()) };
        let size = file.metadata().map_err(EngineError::file("read", source))?.len();
        self.stage.begin(entry_of(found, size), runtime)?;
        let (read, stop) = (&mut self.read, &self.stop);
        let mut before_each = |bytes| {
            if stop.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            *read += bytes;
            reporter.done(*read);
            Ok(())
        };
        self.stage.read(file, &mut before_each, runtime)?;
        self.end(&found.path, found.metadata.mtime(), runtime)
    }

    fn end(&mut self, path: &str, mtime: i64, runtime: &Handle) -> Result<()> {
        let (size, crc) = self.stage.end(runtime)?;
        self.listing.add(path, size, crc, mtime);
        Ok(())
    }
}

fn entry_of(found: &Found<'_>, size: u64) -> TarEntry {
    let kind = match found.kind {
        FoundKind::Directory => TarKind::Directory,
        FoundKind::File(_) => TarKind::File,
    };
    let (path, mode, mtime) = (found.path.clone(), found.mode(), found.metadata.mtime());
    TarEntry { path, kind, size, mode, mtime }
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

    fn add(&mut self, path: &str, size: u64, crc: u32, mtime: i64) {
        // What the tree gives is below it.
        let Some(path) = ManifestPath::new(path.as_bytes().to_vec()) else { return };
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
    }

    /// Ends it with the label, which comes last, and the WAL that the copy needs.
    pub(super) fn finish(
        mut self,
        label: &[u8],
        mtime: i64,
        timeline: TimelineId,
        start: Lsn,
        end: Lsn,
    ) -> Vec<u8> {
        self.add("backup_label", label.len() as u64, crc32c::crc32c(label), mtime);
        self.text.append(&mut self.writer.finish(&[WalRange { timeline, start, end }]));
        self.text
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
