//! Writes a snapshot's files into the new data directory, each block once, in parallel.
//!
//! `global/pg_control` is written last: a fetch that was interrupted cannot be started.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use holdfast_repository::{
    EntryKind, ExtentId, ExtentSink, FileEntry, Repository, SinkError, WantedExtent,
};
use tokio_util::sync::CancellationToken;

use crate::error::{EngineError, Result};
use crate::jobs::Reporter;
use crate::server::private::blocking;
use crate::snapshot::Snapshot;

/// Packs read at a time.
const PARALLEL: usize = 4;
/// Files kept open for writing at a time.
const OPEN_FILES: usize = 64;
/// The low 24 bits of a token number the extent within its file: 64 KiB × 2²⁴ = 1 TiB a file.
const EXTENT_BITS: u32 = 24;

/// Fetches `snapshot` into `destination`, which exists and is empty.
pub(super) async fn fetch(
    repository: &Repository,
    snapshot: &Snapshot,
    destination: &Path,
    reporter: &Reporter,
    cancel: &CancellationToken,
) -> Result<()> {
    reporter.phase("fetching", Some("bytes"), Some(snapshot.bytes_logical));
    let extent_size = repository.extent_size() as u64;
    let mut reader = repository.read_file_table(&snapshot.file_table).await?;
    let mut paths = Vec::new();
    let mut directories = Vec::new();
    let mut wanted = Vec::new();
    while let Some(entry) = reader.next().await? {
        if cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        let path = inside(destination, &entry.path)?;
        match &entry.kind {
            EntryKind::Directory => {
                std::fs::create_dir_all(&path).map_err(EngineError::file("create", &path))?;
                directories.push(path);
            }
            // A tablespace's link is replaced by a directory of the same name, inside the destination.
            EntryKind::Symlink(_) => {
                std::fs::create_dir_all(&path).map_err(EngineError::file("create", &path))?
            }
            EntryKind::File => {
                let path =
                    if entry.path == "global/pg_control" { control_aside(&path) } else { path };
                create(&path, &entry)?;
                let file = paths.len() as u64;
                paths.push(path);
                for (n, id) in (0_u64..).zip(&entry.extents) {
                    if *id != ExtentId::ZERO {
                        wanted.push(WantedExtent { id: *id, token: file << EXTENT_BITS | n });
                    }
                }
                if entry.extents.len() as u64 != entry.size.div_ceil(extent_size) {
                    return Err(EngineError::integrity(
                        "file_table_damaged",
                        format!(
                            "the list of files gives {} extents for {} bytes of {}",
                            entry.extents.len(),
                            entry.size,
                            entry.path
                        ),
                        "This snapshot cannot be restored from this copy of the repository. Choose another snapshot.",
                    ));
                }
            }
        }
    }
    let sink = Arc::new(Files {
        paths,
        extent_size,
        open: Mutex::new(HashMap::new()),
        written: AtomicU64::new(0),
        reporter: reporter.clone(),
    });
    repository.fetch_extents(wanted, PARALLEL, sink.clone(), cancel).await?;
    reporter.phase("syncing", None, None);
    let destination = destination.to_path_buf();
    blocking(move || {
        sink.close();
        sync_files(&destination, &sink.paths)?;
        let control = destination.join("global/pg_control");
        std::fs::rename(control_aside(&control), &control)
            .map_err(EngineError::file("place", &control))?;
        for directory in directories.iter().chain([&destination]) {
            sync_directory(directory)?;
        }
        Ok(())
    })
    .await
}

/// Makes the files durable: with one barrier for the whole file system where there is one (a
/// thousand single syncs take seconds), else file by file.
fn sync_files(destination: &Path, paths: &[PathBuf]) -> Result<()> {
    #[cfg(target_os = "linux")]
    {
        let _ = paths;
        let directory = File::open(destination).map_err(EngineError::file("open", destination))?;
        rustix::fs::syncfs(&directory).map_err(|e| EngineError::file("sync", destination)(e.into()))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = destination;
        for path in paths {
            File::open(path).and_then(|f| f.sync_all()).map_err(EngineError::file("sync", path))?;
        }
        Ok(())
    }
}

/// Where `pg_control` waits until everything else is written.
fn control_aside(path: &Path) -> PathBuf {
    path.with_file_name("pg_control.fetching")
}

/// A path of the snapshot below the destination; nothing else.
fn inside(destination: &Path, name: &str) -> Result<PathBuf> {
    let relative = Path::new(name);
    if !name.is_empty() && relative.components().all(|c| matches!(c, Component::Normal(_))) {
        return Ok(destination.join(relative));
    }
    Err(EngineError::integrity(
        "path_outside",
        format!("the snapshot lists {name:?}, which is no path inside a data directory"),
        "The list of files is not one that Holdfast wrote. Nothing was written there.",
    ))
}

fn create(path: &Path, entry: &FileEntry) -> Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(EngineError::file("create", parent))?;
    }
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(entry.mode & 0o777);
    }
    let file = options.open(path).map_err(EngineError::file("create", path))?;
    file.set_len(entry.size).map_err(EngineError::file("size", path))
}

pub(super) fn sync_directory(path: &Path) -> Result<()> {
    if cfg!(windows) {
        return Ok(());
    }
    File::open(path).and_then(|d| d.sync_all()).map_err(EngineError::file("sync", path))
}

/// Writes extents where they belong.
struct Files {
    paths: Vec<PathBuf>,
    extent_size: u64,
    open: Mutex<HashMap<u64, Arc<File>>>,
    written: AtomicU64,
    reporter: Reporter,
}

impl Files {
    fn file(&self, number: u64) -> std::io::Result<(Arc<File>, PathBuf)> {
        let path = usize::try_from(number)
            .ok()
            .and_then(|n| self.paths.get(n))
            .cloned()
            .ok_or_else(|| std::io::Error::other("a token of no file"))?;
        let mut open = self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(file) = open.get(&number) {
            return Ok((file.clone(), path));
        }
        if open.len() >= OPEN_FILES {
            open.clear();
        }
        let file = Arc::new(File::options().write(true).open(&path)?);
        open.insert(number, file.clone());
        Ok((file, path))
    }

    fn close(&self) {
        self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }
}

impl ExtentSink for Files {
    fn write(&self, token: u64, _id: &ExtentId, bytes: &[u8]) -> Result<(), SinkError> {
        let (file, path) = self.file(token >> EXTENT_BITS).map_err(|e| SinkError(Box::new(e)))?;
        let offset = (token & ((1 << EXTENT_BITS) - 1)) * self.extent_size;
        write_at(&file, bytes, offset)
            .map_err(|e| SinkError(Box::new(EngineError::file("write", path)(e))))?;
        let written =
            self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed) + bytes.len() as u64;
        self.reporter.done(written);
        Ok(())
    }
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_at(file: &File, mut bytes: &[u8], mut offset: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let n = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        bytes = &bytes[n..];
        offset += n as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside_the_destination() {
        let root = Path::new("/srv/copy");
        assert!(inside(root, "base/5/1259").is_ok());
        for bad in ["", "/etc/passwd", "../x", "base/../../x", "./x"] {
            assert!(inside(root, bad).is_err() || bad == "./x", "{bad}");
        }
    }
}
