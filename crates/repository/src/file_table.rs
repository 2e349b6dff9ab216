//! The files of a snapshot: one JSON line per file, in a container that writers can read too.
//!
//! Written through a local spool of encrypted frames and read frame by frame, so that memory does
//! not depend on how many files there are.

use std::collections::VecDeque;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::container::read::{ContentReader, Opened};
use crate::container::write::{ContainerWriter, Finished, to_raw};
use crate::container::{HEADER_BYTES, MAX_FRAME_RAW, Suite};
use crate::crypto::hex;
use crate::documents::{body, check_path};
use crate::error::{RepositoryError, Result};
use crate::extent::ExtentId;
use crate::object::ObjectKind;
use crate::repository::Repository;
use crate::store::{PART_BYTES, SINGLE_PUT_BYTES};

/// Content that is read at once.
const READ_BYTES: u64 = 4 * 1024 * 1024;
/// The longest line: four million extents.
const MAX_LINE: usize = 288 * 1024 * 1024;

/// Version 2 added the checksums of extents.
const FILE_TABLE_VERSION: u32 = 2;

/// What an entry of a file table is.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Symlink(String),
}

/// One file, directory or link.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Path relative to the directory that was read, with '/'.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Seconds since 1970-01-01 UTC.
    pub mtime: i64,
    /// CRC-32C of the whole content, when it was computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc32c: Option<u32>,
    /// What it is.
    pub kind: EntryKind,
    /// The content, extent after extent; all but the last have the repository's extent size.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extents: Vec<ExtentId>,
    /// CRC-32C of each extent's bytes, when there are several and they were computed: whoever replaces
    /// some extents can then say the new file's CRC-32C without reading the others. Since version 2.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "checksums")]
    pub extent_crc32c: Vec<u32>,
}

/// A list of checksums as one text, eight hex digits each, most significant first.
mod checksums {
    use std::fmt::Write as _;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(sums: &[u32], serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(sums.len() * 8);
        for sum in sums {
            // Writing to a string cannot fail.
            let _ = write!(text, "{sum:08x}");
        }
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u32>, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let bytes = data_encoding::HEXLOWER
            .decode(text.as_bytes())
            .ok()
            .filter(|bytes| bytes.len() % 4 == 0)
            .ok_or_else(|| D::Error::custom("checksums are eight lower-case hex digits each"))?;
        Ok(bytes
            .chunks_exact(4)
            .map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
            .collect())
    }
}

/// Where manifests of snapshots and their lists of files are, without a slash.
pub const SNAPSHOTS_PREFIX: &str = "snapshots";
/// What is added to the path of a manifest for its list of files.
pub const FILES_SUFFIX: &str = ".files";

/// How a manifest names its file table.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct FileTableRef {
    /// Path inside the repository.
    pub path: String,
    /// BLAKE3 of the whole object, hex.
    pub blake3: String,
    /// Size of the object.
    pub bytes: u64,
    /// Number of entries.
    pub entries: u64,
}

/// The body of a file table's metadata.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileTableBody {
    pub(crate) entries: u64,
    /// Absent in version 1.
    #[serde(default = "first_version")]
    pub(crate) version: u32,
}

fn first_version() -> u32 {
    1
}

impl FileTableBody {
    /// A table that a newer version has written may say things that must not be overlooked.
    pub(crate) fn check(self, path: &str) -> Result<Self> {
        if self.version <= FILE_TABLE_VERSION {
            return Ok(self);
        }
        Err(RepositoryError::UnsupportedFormat { object: path.to_owned(), found: self.version })
    }
}

type Spool = BufWriter<std::fs::File>;

/// Writes a file table in bounded memory.
pub struct FileTableWriter {
    repository: Repository,
    container: Option<ContainerWriter<Spool>>,
    lines: Vec<u8>,
    entries: u64,
}

impl std::fmt::Debug for FileTableWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileTableWriter({} entries)", self.entries)
    }
}

impl FileTableWriter {
    /// Opens the spool: an unnamed file in the system's temporary directory. What is written to it
    /// is encrypted.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub async fn begin(repository: &Repository) -> Result<Self> {
        let repository = repository.clone();
        tokio::task::spawn_blocking(move || {
            let spool = tempfile::tempfile().map_err(|source| RepositoryError::LocalFile {
                operation: "make a spool file in the temporary directory",
                source,
            })?;
            let container = ContainerWriter::begin(
                &repository.inner.writer,
                "",
                ObjectKind::FileTable,
                Suite::Shared,
                BufWriter::new(spool),
            )?;
            let lines = Vec::new();
            Ok(Self { repository, container: Some(container), lines, entries: 0 })
        })
        .await
        .map_err(RepositoryError::worker)?
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// When the spool cannot be written; then the table cannot be finished.
    pub async fn add(&mut self, entry: &FileEntry) -> Result<()> {
        serde_json::to_writer(&mut self.lines, entry)
            .map_err(|source| RepositoryError::Document { path: entry.path.clone(), source })?;
        self.lines.push(b'\n');
        self.entries += 1;
        if self.lines.len() >= MAX_FRAME_RAW {
            let whole = self.lines.len() / MAX_FRAME_RAW * MAX_FRAME_RAW;
            let rest = self.lines.split_off(whole);
            let full = std::mem::replace(&mut self.lines, rest);
            self.spool(full).await?;
        }
        Ok(())
    }

    async fn spool(&mut self, lines: Vec<u8>) -> Result<()> {
        let mut container = self.container.take().ok_or(RepositoryError::IngestFailed)?;
        let repository = self.repository.clone();
        let container = tokio::task::spawn_blocking(move || -> Result<_> {
            for raw in lines.chunks(MAX_FRAME_RAW) {
                container.push(repository.inner.codec.encode(raw)?)?;
            }
            Ok(container)
        })
        .await
        .map_err(RepositoryError::worker)??;
        self.container = Some(container);
        Ok(())
    }

    /// Uploads the table under `path`, which must not exist yet.
    ///
    /// # Errors
    /// What the store says.
    pub async fn finish(mut self, path: &str) -> Result<FileTableRef> {
        check_path(path)?;
        let rest = std::mem::take(&mut self.lines);
        if !rest.is_empty() {
            self.spool(rest).await?;
        }
        let container = self.container.take().ok_or(RepositoryError::IngestFailed)?;
        let raw =
            to_raw(path, &FileTableBody { entries: self.entries, version: FILE_TABLE_VERSION })?;
        let repository = self.repository.clone();
        let name = path.to_owned();
        let (spool, size, hash) = tokio::task::spawn_blocking(move || -> Result<_> {
            let inner = &repository.inner;
            let Finished { out, size, hash, .. } =
                container.finish(&inner.writer, &inner.codec, &name, raw)?;
            let mut file = out.into_inner().map_err(|e| spool_failed(e.into_error()))?;
            file.flush().map_err(spool_failed)?;
            file.seek(SeekFrom::Start(0)).map_err(spool_failed)?;
            Ok((file, size, hash))
        })
        .await
        .map_err(RepositoryError::worker)??;
        self.upload(path, spool, size).await?;
        Ok(FileTableRef {
            path: path.to_owned(),
            blake3: hex(&hash),
            bytes: size,
            entries: self.entries,
        })
    }

    async fn upload(&self, path: &str, mut spool: std::fs::File, size: u64) -> Result<()> {
        let store = self.repository.store();
        if size <= SINGLE_PUT_BYTES {
            let (_, bytes) = read_spool(spool, size).await?;
            return store.put_new(path, bytes).await;
        }
        match store.head(path).await {
            Ok(_) => return Err(RepositoryError::AlreadyExists { path: path.to_owned() }),
            Err(RepositoryError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut upload = store.begin_parts(path).await?;
        let mut left = size;
        while left > 0 {
            let take = left.min(PART_BYTES as u64);
            let bytes;
            (spool, bytes) = read_spool(spool, take).await?;
            upload.part(bytes).await?;
            left -= take;
        }
        upload.complete().await
    }
}

async fn read_spool(mut spool: std::fs::File, length: u64) -> Result<(std::fs::File, Bytes)> {
    tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(PART_BYTES)];
        spool.read_exact(&mut bytes).map_err(spool_failed)?;
        Ok((spool, bytes.into()))
    })
    .await
    .map_err(RepositoryError::worker)?
}

fn spool_failed(source: std::io::Error) -> RepositoryError {
    RepositoryError::LocalFile { operation: "use the spool file", source }
}

/// Cuts frames into lines and lines into entries.
#[derive(Default)]
pub(crate) struct LineReader {
    partial: Vec<u8>,
    pub(crate) entries: u64,
    /// Where the next line begins in the whole content.
    at: u64,
}

impl LineReader {
    /// Takes the next raw bytes and hands out every entry that they complete, each with the bytes of
    /// its line in the whole content.
    pub(crate) fn push(
        &mut self,
        path: &str,
        raw: &[u8],
        sink: &mut impl FnMut(FileEntry, Range<u64>),
    ) -> Result<()> {
        let mut rest = raw;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            let joined;
            let line = if self.partial.is_empty() {
                line
            } else {
                self.partial.extend_from_slice(line);
                joined = std::mem::take(&mut self.partial);
                &joined[..]
            };
            let entry = serde_json::from_slice(line)
                .map_err(|source| RepositoryError::Document { path: path.to_owned(), source })?;
            self.entries += 1;
            let place = self.at..self.at + line.len() as u64;
            self.at = place.end + 1;
            sink(entry, place);
            rest = after.get(1..).unwrap_or_default();
        }
        if self.partial.len() + rest.len() > MAX_LINE {
            return Err(RepositoryError::corrupt(path, "a line of it is impossibly long"));
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    /// Checks that nothing is left over and that the count fits.
    pub(crate) fn finish(&self, path: &str, expected: u64) -> Result<()> {
        if self.partial.is_empty() && self.entries == expected {
            Ok(())
        } else {
            Err(RepositoryError::corrupt(
                path,
                format!("it has {} whole entries of {expected}", self.entries),
            ))
        }
    }
}

/// Reads a file table in bounded memory.
pub struct FileTableReader {
    repository: Repository,
    reference: FileTableRef,
    content: std::sync::Arc<ContentReader>,
    /// Encrypted metadata and trailer, hashed last.
    tail: Bytes,
    next_frame: usize,
    hasher: blake3::Hasher,
    lines: LineReader,
    ready: VecDeque<(FileEntry, Range<u64>)>,
    done: bool,
    version: u32,
}

impl std::fmt::Debug for FileTableReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileTableReader({}, frame {})", self.reference.path, self.next_frame)
    }
}

impl Repository {
    /// Starts reading a file table. Its signature is checked now, every frame as it is read, and
    /// the hash of the whole when the last entry has been read.
    ///
    /// # Errors
    /// As [`Repository::get_document`].
    pub async fn read_file_table(&self, reference: &FileTableRef) -> Result<FileTableReader> {
        let path = &reference.path;
        let (opened, tail) = self.open_tail(path, ObjectKind::FileTable).await?;
        let size = HEADER_BYTES as u64 + opened.trailer.content_bytes + tail.len() as u64;
        let declared = body::<FileTableBody>(path, &opened)?.check(path)?;
        if size != reference.bytes || declared.entries != reference.entries {
            return Err(RepositoryError::corrupt(path, "it is not the one that was referred to"));
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&opened.metadata.header.0);
        Ok(FileTableReader {
            content: std::sync::Arc::new(self.table_content(path, &opened)?),
            repository: self.clone(),
            reference: reference.clone(),
            tail,
            next_frame: 0,
            hasher,
            lines: LineReader::default(),
            ready: VecDeque::new(),
            done: false,
            version: declared.version,
        })
    }

    fn table_content(&self, path: &str, opened: &Opened) -> Result<ContentReader> {
        if opened.header.suite == Suite::Shared {
            opened.content(&self.inner.writer, None, path)
        } else {
            Err(RepositoryError::corrupt(path, "it is not written like a file table"))
        }
    }
}

impl FileTableReader {
    /// How many entries there are.
    pub fn entries(&self) -> u64 {
        self.reference.entries
    }

    /// Whether its files have the checksums of their extents.
    pub fn has_extent_checksums(&self) -> bool {
        self.version >= 2
    }

    /// The content that the lines are in, to read parts of it again.
    pub(crate) fn content(&self) -> std::sync::Arc<ContentReader> {
        std::sync::Arc::clone(&self.content)
    }

    /// The next entry; `None` after the last, when everything has been checked.
    ///
    /// # Errors
    /// [`RepositoryError::Corrupt`] and what the store says.
    pub async fn next(&mut self) -> Result<Option<FileEntry>> {
        Ok(self.next_placed().await?.map(|(entry, _)| entry))
    }

    /// The same with the bytes of its line in the whole content.
    pub(crate) async fn next_placed(&mut self) -> Result<Option<(FileEntry, Range<u64>)>> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Ok(Some(entry));
            }
            if self.done {
                return Ok(None);
            }
            if self.next_frame >= self.content.frames().len() {
                self.check_end()?;
                self.done = true;
                continue;
            }
            self.read_more().await?;
        }
    }

    fn check_end(&mut self) -> Result<()> {
        let path = &self.reference.path;
        self.lines.finish(path, self.reference.entries)?;
        self.hasher.update(&self.tail);
        if hex(self.hasher.finalize().as_bytes()) == self.reference.blake3 {
            Ok(())
        } else {
            Err(RepositoryError::corrupt(path, "it is not the one that was referred to"))
        }
    }

    async fn read_more(&mut self) -> Result<()> {
        let frames = self.content.frames();
        let first = self.next_frame;
        let start = frames[first].offset();
        let mut end = first;
        while end < frames.len()
            && (end == first || frames[end].end().saturating_sub(start) <= READ_BYTES)
        {
            end += 1;
        }
        let length = frames[end - 1].end().saturating_sub(start);
        let path = self.reference.path.clone();
        let bytes = self.repository.store().get_range(&path, start, length).await?;
        let content = std::sync::Arc::clone(&self.content);
        let repository = self.repository.clone();
        let mut lines = std::mem::take(&mut self.lines);
        let mut hasher = self.hasher.clone();
        let outcome = tokio::task::spawn_blocking(move || -> Result<_> {
            hasher.update(&bytes);
            let mut entries = VecDeque::new();
            for number in first..end {
                let stored = content.slice(number, &bytes, start)?;
                let raw = content.frame(&repository.inner.codec, number, stored)?;
                lines.push(&path, &raw, &mut |entry, place| entries.push_back((entry, place)))?;
            }
            Ok((lines, hasher, entries))
        })
        .await
        .map_err(RepositoryError::worker)??;
        (self.lines, self.hasher, self.ready) = outcome;
        self.next_frame = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn checksums_are_one_text_and_old_lines_have_none() {
        let line = r#"{"path":"a","size":2,"mode":1,"mtime":0,"kind":"file"}"#;
        let mut entry: FileEntry = serde_json::from_str(line).unwrap();
        assert!(entry.extent_crc32c.is_empty());
        assert_eq!(serde_json::to_string(&entry).unwrap(), line);
        entry.extent_crc32c = vec![1, 0xA0B0_C0D0];
        let text = serde_json::to_string(&entry).unwrap();
        assert!(text.contains(r#""extent_crc32c":"00000001a0b0c0d0""#), "{text}");
        assert_eq!(serde_json::from_str::<FileEntry>(&text).unwrap(), entry);
        assert!(serde_json::from_str::<FileEntry>(&text.replace("00000001", "0000000")).is_err());
    }

    #[test]
    fn a_table_of_a_newer_version_is_refused() {
        let body = |text: &str| serde_json::from_str::<FileTableBody>(text).unwrap().check("t");
        assert_eq!(body(r#"{"entries":3}"#).unwrap().version, 1);
        assert!(body(r#"{"entries":3,"version":2}"#).is_ok());
        assert!(body(r#"{"entries":3,"version":3}"#).is_err());
    }

    #[test]
    fn lines_may_be_cut_anywhere() {
        let entry = FileEntry {
            path: "base/1/2".into(),
            size: 8192,
            mode: 0o600,
            mtime: -5,
            crc32c: Some(7),
            kind: EntryKind::Symlink("x\ny".into()),
            extents: vec![ExtentId::ZERO; 2],
            extent_crc32c: vec![0xFEDC_BA98, 1],
        };
        let mut text = serde_json::to_vec(&entry).unwrap();
        text.push(b'\n');
        let length = text.len() as u64 - 1;
        let text = [text.clone(), text].concat();
        for cut in 0..text.len() {
            let mut seen = Vec::new();
            let mut lines = LineReader::default();
            let mut places = Vec::new();
            for part in [&text[..cut], &text[cut..]] {
                lines
                    .push("t", part, &mut |entry, place| {
                        seen.push(entry);
                        places.push(place);
                    })
                    .unwrap();
            }
            assert_eq!(places, [0..length, length + 1..2 * length + 1]);
            lines.finish("t", 2).unwrap();
            assert_eq!(seen, [entry.clone(), entry.clone()]);
            assert!(lines.finish("t", 3).is_err());
        }
    }
}
