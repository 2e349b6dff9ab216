//! Brings a snapshot's files into a data directory, in parallel: every block that is not there already.
//!
//! What stands there is compared by content, block by block, with the keyed hash that the list of files
//! has of it. No time, no size and no note of an earlier run is believed, so that a directory of any
//! origin can be taken over, and an interrupted fetch goes on where it really is.
//!
//! `global/pg_control` is removed before anything is changed and placed last: a fetch that was
//! interrupted cannot be started.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use holdfast_repository::{
    EntryKind, ExtentId, ExtentSink, FileEntry, Repository, SinkError, WantedExtent,
};
use tokio::task::JoinSet;

use super::place::{self, Directories, Place};
use crate::error::{EngineError, Result};
use crate::jobs::{JobContext, Patience};
use crate::server::private::blocking;
use crate::snapshot::Snapshot;

/// Packs read at a time.
const PARALLEL: usize = 4;
/// Files compared at a time.
const COMPARED: usize = 4;
/// Files kept open for writing at a time.
const OPEN_FILES: usize = 64;
/// The low 24 bits of a token number the extent within its file: 64 KiB × 2²⁴ = 1 TiB a file.
const EXTENT_BITS: u32 = 24;

/// What a fetch did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fetched {
    /// Bytes that stood there already, by their content.
    pub(super) reused: u64,
    /// Bytes that were written.
    pub(super) written: u64,
    /// Files, directories and links that were removed because the snapshot has none of that name.
    pub(super) removed: u64,
}

/// Brings `snapshot` to `place`, whose data directory exists. `standing` says that something may be
/// there that is worth comparing. A store that is away is asked again for a while.
///
/// # Errors
/// What the store or the destination fails with. The directory then has no `global/pg_control`.
pub(super) async fn fetch(
    job: &JobContext,
    repository: &Repository,
    snapshot: &Snapshot,
    place: &Place,
    standing: bool,
) -> Result<Fetched> {
    let mut compare = standing;
    let mut patience = Patience::new();
    let (layout, mut fetched) = loop {
        match bring(job, repository, snapshot, place, compare).await {
            Ok(done) => break done,
            Err(error) => patience.after(job, error).await?,
        }
        // What was written before the store went away is found there again.
        compare = true;
    };
    job.reporter.phase("syncing", None, None);
    let place = place.clone();
    blocking(move || {
        for root in place.roots() {
            sync_files(root, &layout.paths)?;
        }
        let control = place.data_directory.join("global/pg_control");
        std::fs::rename(control_aside(&control), &control)
            .map_err(EngineError::file("place", &control))?;
        for directory in layout.directories.all() {
            sync_directory(directory)?;
        }
        place.roots().try_for_each(sync_directory)
    })
    .await?;
    if !standing {
        // What was there was written by an earlier try of this very fetch.
        fetched.written += std::mem::take(&mut fetched.reused);
    }
    Ok(fetched)
}

async fn bring(
    job: &JobContext,
    repository: &Repository,
    snapshot: &Snapshot,
    place: &Place,
    compare: bool,
) -> Result<(Layout, Fetched)> {
    let phase = if compare { "comparing" } else { "fetching" };
    job.reporter.phase(phase, Some("bytes"), Some(snapshot.bytes_logical));
    let mut layout = lay_out(job, repository, snapshot, place).await?;
    let expected = std::mem::take(&mut layout.expected);
    let roots: Vec<_> = place.roots().map(Path::to_path_buf).collect();
    let removed = blocking(move || {
        roots.iter().map(|root| place::remove_others(root, &expected)).sum::<Result<u64>>()
    })
    .await?;
    let wanted = std::mem::take(&mut layout.wanted);
    if compare {
        job.reporter.phase("fetching", Some("bytes"), Some(layout.wanted_bytes));
    } else {
        job.reporter.total(Some(layout.wanted_bytes));
    }
    let sink = Arc::new(Files {
        paths: layout.paths.clone(),
        extent_size: repository.extent_size() as u64,
        open: Mutex::new(HashMap::new()),
        written: AtomicU64::new(0),
        job: job.clone(),
    });
    repository.fetch_extents(wanted, PARALLEL, sink.clone(), &job.cancel).await?;
    let written = layout.written + sink.written.load(Ordering::Relaxed);
    let reused = layout.reused;
    Ok((layout, Fetched { reused, written, removed }))
}

/// The snapshot's files as they stand at the place, and what they still need.
#[derive(Default)]
struct Layout {
    paths: Vec<PathBuf>,
    directories: Directories,
    /// Everything that belongs there.
    expected: HashSet<PathBuf>,
    wanted: Vec<WantedExtent>,
    wanted_bytes: u64,
    reused: u64,
    written: u64,
}

/// Makes directories and files as the list says, and compares what stands in them.
async fn lay_out(
    job: &JobContext,
    repository: &Repository,
    snapshot: &Snapshot,
    place: &Place,
) -> Result<Layout> {
    let mut layout = Layout::default();
    {
        let place = place.clone();
        blocking(move || take_control_away(&place.data_directory)).await?;
    }
    let mut comparing = JoinSet::new();
    let laid_out =
        lay_out_entries(job, repository, snapshot, place, &mut layout, &mut comparing).await;
    // Whatever happened: nobody works on in the directory behind our back.
    let mut outcome = laid_out;
    while let Some(settled) = comparing.join_next().await {
        outcome = outcome.and_then(|()| layout.take(settled));
    }
    outcome?;
    // Directories above what is listed belong there, too.
    layout.expected.extend(layout.directories.all().cloned());
    Ok(layout)
}

async fn lay_out_entries(
    job: &JobContext,
    repository: &Repository,
    snapshot: &Snapshot,
    place: &Place,
    layout: &mut Layout,
    comparing: &mut JoinSet<Result<Settled>>,
) -> Result<()> {
    let extent_size = repository.extent_size() as u64;
    let mut reader = repository.read_file_table(&snapshot.file_table).await?;
    let compared = Arc::new(AtomicU64::new(0));
    for (link, target) in place.links() {
        if let Some(parent) = link.parent() {
            layout.directories.ensure(place, parent)?;
        }
        set_link(&link, target)?;
        layout.directories.ensure(place, target)?;
        layout.expected.insert(link);
    }
    while let Some(entry) = reader.next().await? {
        job.check()?;
        let path = place.path(&entry.path)?;
        if !matches!(entry.kind, EntryKind::File) {
            // A tablespace's link is replaced by a directory of the same name, inside the destination.
            layout.directories.ensure(place, &path)?;
            if entry.kind == EntryKind::Directory {
                set_mode(&path, entry.mode)?;
            }
            layout.expected.insert(path);
            continue;
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
        let path = if entry.path == "global/pg_control" { control_aside(&path) } else { path };
        if let Some(parent) = path.parent() {
            layout.directories.ensure(place, parent)?;
        }
        layout.expected.insert(path.clone());
        let number = layout.paths.len() as u64;
        layout.paths.push(path.clone());
        if comparing.len() >= COMPARED
            && let Some(settled) = comparing.join_next().await
        {
            layout.take(settled)?;
        }
        let (repository, job, compared) = (repository.clone(), job.clone(), compared.clone());
        comparing.spawn_blocking(move || {
            let settled = settle(&repository, &job, &path, number, &entry)?;
            let done = compared.fetch_add(settled.reused, Ordering::Relaxed) + settled.reused;
            if settled.reused > 0 {
                job.reporter.done(done);
            }
            Ok(settled)
        });
    }
    Ok(())
}

impl Layout {
    fn take(&mut self, settled: Result<Result<Settled>, tokio::task::JoinError>) -> Result<()> {
        let settled =
            settled.map_err(|e| EngineError::Fault(format!("a worker thread failed: {e}")))??;
        self.wanted.extend(settled.wanted);
        self.wanted_bytes += settled.wanted_bytes;
        self.reused += settled.reused;
        self.written += settled.written;
        Ok(())
    }
}

/// What one file still needs.
#[derive(Default)]
struct Settled {
    wanted: Vec<WantedExtent>,
    wanted_bytes: u64,
    reused: u64,
    written: u64,
}

/// Brings a file to its length and mode, and compares each of its blocks with the list.
fn settle(
    repository: &Repository,
    job: &JobContext,
    path: &Path,
    number: u64,
    entry: &FileEntry,
) -> Result<Settled> {
    let extent_size = repository.extent_size() as u64;
    let mut settled = Settled::default();
    let (file, standing) = open(path, entry)?;
    if standing != entry.size {
        file.set_len(entry.size).map_err(EngineError::file("size", path))?;
    }
    let mut buffer = vec![0; if standing == 0 { 0 } else { repository.extent_size() }];
    for (n, id) in (0_u64..).zip(&entry.extents) {
        let offset = n * extent_size;
        let length = extent_size.min(entry.size - offset);
        let beyond = offset >= standing;
        if beyond && id.is_zero() {
            continue;
        }
        if !beyond {
            job.check()?;
            job.wait_while_paused();
            let block = buffer.get_mut(..usize::try_from(length).unwrap_or(0)).unwrap_or_default();
            // A block that cannot be read is one to be written.
            if read_at(&file, block, offset).is_ok() && repository.extent_id(block) == *id {
                settled.reused += length;
                continue;
            }
            if id.is_zero() {
                block.fill(0);
                write_at(&file, block, offset).map_err(EngineError::file("write", path))?;
                settled.written += length;
                continue;
            }
        }
        settled.wanted.push(WantedExtent { id: *id, token: number << EXTENT_BITS | n });
        settled.wanted_bytes += length;
    }
    Ok(settled)
}

/// Opens what stands at `path` with its length, when it is a file of its own; else makes a new one there.
fn open(path: &Path, entry: &FileEntry) -> Result<(File, u64)> {
    if let Ok(found) = std::fs::symlink_metadata(path)
        && found.is_file()
        && only_name(&found)
    {
        set_mode(path, entry.mode)?;
        if let Ok(file) = File::options().read(true).write(true).open(path) {
            return Ok((file, found.len()));
        }
    }
    place::remove(path)?;
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, entry.mode & 0o777);
    Ok((options.open(path).map_err(EngineError::file("create", path))?, 0))
}

/// A file with a second name belongs to somebody else as well: it is replaced, not overwritten.
#[cfg(unix)]
fn only_name(found: &std::fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(found) == 1
}

#[cfg(not(unix))]
fn only_name(_found: &std::fs::Metadata) -> bool {
    true
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let found = std::fs::metadata(path).map_err(EngineError::file("look at", path))?;
        // Its owner must be able to work in it whatever the source had.
        let wanted = mode & 0o777 | if found.is_dir() { 0o700 } else { 0o600 };
        if found.permissions().mode() & 0o7777 != wanted {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(wanted))
                .map_err(EngineError::file("protect", path))?;
        }
    }
    let _ = (path, mode);
    Ok(())
}

fn set_link(link: &Path, target: &Path) -> Result<()> {
    if std::fs::read_link(link).is_ok_and(|found| found == target) {
        return Ok(());
    }
    place::remove(link)?;
    #[cfg(unix)]
    return std::os::unix::fs::symlink(target, link).map_err(EngineError::file("link", link));
    #[cfg(not(unix))]
    Err(EngineError::refused(
        "tablespace_unusable",
        format!("{} cannot be linked to {} here", link.display(), target.display()),
        "Leave out --tablespace: the tablespace is then a directory inside the copy.",
    ))
}

/// Removes `global/pg_control` for good before anything else is touched: from now on nobody can start
/// what is neither the old nor the new.
pub(super) fn take_control_away(data_directory: &Path) -> Result<()> {
    let global = data_directory.join("global");
    if std::fs::symlink_metadata(&global).is_ok_and(|found| found.is_symlink()) {
        place::remove(&global)?;
        return sync_directory(data_directory);
    }
    let control = global.join("pg_control");
    if std::fs::symlink_metadata(&control).is_err() {
        return Ok(());
    }
    place::remove(&control)?;
    sync_directory(&global)
}

/// Makes the files durable: with one barrier for the whole file system where there is one (a
/// thousand single syncs take seconds), else file by file.
fn sync_files(root: &Path, paths: &[PathBuf]) -> Result<()> {
    #[cfg(target_os = "linux")]
    {
        let _ = paths;
        let directory = File::open(root).map_err(EngineError::file("open", root))?;
        rustix::fs::syncfs(&directory).map_err(|e| EngineError::file("sync", root)(e.into()))
    }
    #[cfg(not(target_os = "linux"))]
    {
        for path in paths.iter().filter(|path| path.starts_with(root)) {
            File::open(path).and_then(|f| f.sync_all()).map_err(EngineError::file("sync", path))?;
        }
        Ok(())
    }
}

/// Where `pg_control` waits until everything else is written.
fn control_aside(path: &Path) -> PathBuf {
    path.with_file_name("pg_control.fetching")
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
    /// A file is written by one thread at a time: the kernel lets no two of them write to it anyway, and the second
    /// would spin.
    open: Mutex<HashMap<u64, Arc<Mutex<File>>>>,
    written: AtomicU64,
    job: JobContext,
}

impl Files {
    fn file(&self, number: u64) -> std::io::Result<(Arc<Mutex<File>>, PathBuf)> {
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
        let file = Arc::new(Mutex::new(File::options().write(true).open(&path)?));
        open.insert(number, file.clone());
        Ok((file, path))
    }
}

impl ExtentSink for Files {
    fn write(&self, token: u64, _id: &ExtentId, bytes: &[u8]) -> Result<(), SinkError> {
        self.job.wait_while_paused();
        let (file, path) = self.file(token >> EXTENT_BITS).map_err(|e| SinkError(Box::new(e)))?;
        let offset = (token & ((1 << EXTENT_BITS) - 1)) * self.extent_size;
        let file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        write_at(&file, bytes, offset)
            .map_err(|e| SinkError(Box::new(EngineError::file("write", path)(e))))?;
        drop(file);
        let written =
            self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed) + bytes.len() as u64;
        self.job.reporter.done(written);
        Ok(())
    }
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
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

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let n = std::os::windows::fs::FileExt::seek_read(file, bytes, offset)?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[n..];
        offset += n as u64;
    }
    Ok(())
}
