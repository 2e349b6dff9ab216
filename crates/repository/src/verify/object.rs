//! Checking one container from its first to its last byte.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::VerifiedObject;
use crate::container::read::{ContentReader, Opened, open_whole, split};
use crate::container::{HEADER_BYTES, Header, Suite};
use crate::delta;
use crate::documents::body;
use crate::error::{RepositoryError, Result};
use crate::extent::ExtentId;
use crate::fetch::ExtentReader;
use crate::file_table::{FileTableBody, LineReader};
use crate::index::{ExtentEntry, Index, IndexBody, IndexedPack, PackBody, PackId};
use crate::object::{ObjectEntry, ObjectKind};
use crate::repository::{Inner, Repository};

/// Objects up to this size are read in one piece.
pub(crate) const WHOLE_BYTES: u64 = 32 * 1024 * 1024;
/// Longer ones in ranges of about this size.
const RANGE_BYTES: u64 = 8 * 1024 * 1024;
/// Bases in memory at a time: an extent's size each.
const BASES: usize = 64;

/// How deep an object is looked into.
#[derive(Copy, Clone)]
pub(crate) enum Depth<'a> {
    /// Signatures and hashes.
    Structure,
    /// Also what is in it. The bases of deltas are read.
    Data(&'a ExtentReader),
}

/// What file tables are compared with.
pub(crate) struct Known {
    pub(crate) index: Arc<Index>,
    pub(crate) damaged: HashSet<PackId>,
}

impl Depth<'_> {
    fn bases(self) -> Option<ExtentReader> {
        match self {
            Self::Structure => None,
            Self::Data(bases) => Some(bases.clone()),
        }
    }
}

impl Known {
    fn holds(&self, id: &ExtentId) -> bool {
        id.is_zero() || self.index.packs_outside(id, &self.damaged).is_some()
    }
}

/// An object that is whole.
pub(crate) struct Checked {
    pub(crate) object: VerifiedObject,
    /// For a pack: itself, its size and the digest of its directory.
    pub(crate) pack: Option<(PackId, u64, [u8; 32])>,
    /// For an index object: the packs it names.
    pub(crate) indexed: Vec<(PackId, u64, [u8; 32])>,
    /// Packs that hold bases of what is in this one and cannot be read, with the reason.
    pub(crate) broken: BTreeMap<PackId, String>,
    /// Whole, but what it refers to is not.
    pub(crate) problem: Option<String>,
}

/// Checks the object; `None` when it is a file table and `known` is not.
pub(crate) async fn check(
    repository: &Repository,
    depth: Depth<'_>,
    entry: &ObjectEntry,
    known: Option<Arc<Known>>,
) -> Result<Option<Checked>> {
    let path = entry.path.as_str();
    if entry.size > WHOLE_BYTES {
        return check_long(repository, depth, entry, known).await;
    }
    let bytes = repository.store().get_limited(path, WHOLE_BYTES).await?;
    check_whole(repository, depth, path, bytes, known).await
}

/// The same for an object whose bytes are at hand.
pub(crate) async fn check_whole(
    repository: &Repository,
    depth: Depth<'_>,
    path: &str,
    bytes: Bytes,
    known: Option<Arc<Known>>,
) -> Result<Option<Checked>> {
    let parts = split(path, &bytes)?;
    let kind = Header::parse(path, parts.header)?.kind;
    if kind == ObjectKind::FileTable && known.is_none() {
        return Ok(None);
    }
    repository.trust(path, kind, &parts.trailer.writer).await?;
    let inner = Arc::clone(&repository.inner);
    let path = path.to_owned();
    let bases = depth.bases();
    tokio::task::spawn_blocking(move || {
        let opened = open_whole(&inner.writer, &inner.codec, &path, kind, &bytes)?;
        let mut content =
            ContentCheck::new(&inner, bases, &path, &opened, bytes.len() as u64, known)?;
        content.frames(&inner, 0..opened.metadata.frames.len(), &bytes, 0)?;
        content.finish(&path, &opened, bytes.len() as u64).map(Some)
    })
    .await
    .map_err(RepositoryError::worker)?
}

async fn check_long(
    repository: &Repository,
    depth: Depth<'_>,
    entry: &ObjectEntry,
    known: Option<Arc<Known>>,
) -> Result<Option<Checked>> {
    let path = entry.path.as_str();
    let store = repository.store();
    let head = store.get_range(path, 0, HEADER_BYTES as u64).await?;
    let header = Header::parse(path, first(path, &head)?)?;
    if header.kind == ObjectKind::FileTable && known.is_none() {
        return Ok(None);
    }
    let (opened, tail) = repository.open_tail(path, header.kind).await?;
    if opened.header != header {
        return Err(RepositoryError::corrupt(path, "its header is not what was signed"));
    }
    let size = HEADER_BYTES as u64 + opened.trailer.content_bytes + tail.len() as u64;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&head);
    let mut content =
        ContentCheck::new(&repository.inner, depth.bases(), path, &opened, size, known)?;
    let frames = opened.metadata.frames.clone();
    let mut next = 0;
    while next < frames.len() {
        let start = frames[next].offset();
        let mut end = next + 1;
        while end < frames.len() && frames[end].end().saturating_sub(start) <= RANGE_BYTES {
            end += 1;
        }
        let length = frames[end - 1].end().saturating_sub(start);
        let bytes = store.get_range(path, start, length).await?;
        let inner = Arc::clone(&repository.inner);
        (content, hasher) = tokio::task::spawn_blocking(move || -> Result<_> {
            hasher.update(&bytes);
            content.frames(&inner, next..end, &bytes, start)?;
            Ok((content, hasher))
        })
        .await
        .map_err(RepositoryError::worker)??;
        next = end;
    }
    if *hasher.finalize().as_bytes() != opened.trailer.content_hash {
        return Err(RepositoryError::corrupt(path, "its content is not what was signed"));
    }
    content.finish(path, &opened, size).map(Some)
}

fn first<'a>(path: &str, bytes: &'a Bytes) -> Result<&'a [u8; HEADER_BYTES]> {
    bytes.first_chunk().ok_or_else(|| RepositoryError::corrupt(path, "it is too short"))
}

/// What the header says the object is, however damaged the rest.
pub(super) async fn stated_kind(repository: &Repository, path: &str) -> Option<ObjectKind> {
    let head = repository.store().get_range(path, 0, HEADER_BYTES as u64).await.ok()?;
    ObjectKind::from_code(*head.get(10)?)
}

/// Goes through the frames of one object, as far as the level and the keys allow.
struct ContentCheck {
    path: String,
    reader: Option<ContentReader>,
    /// Where the content of packs is looked at.
    bases: Option<ExtentReader>,
    broken: BTreeMap<PackId, String>,
    pack: Option<IndexedPack>,
    table: Option<Table>,
}

struct Table {
    lines: LineReader,
    expected: u64,
    known: Arc<Known>,
    files_affected: u64,
    example: Option<String>,
}

impl ContentCheck {
    fn new(
        inner: &Inner,
        bases: Option<ExtentReader>,
        path: &str,
        opened: &Opened,
        size: u64,
        known: Option<Arc<Known>>,
    ) -> Result<Self> {
        let readable = match opened.header.suite {
            Suite::Empty => false,
            Suite::Sealed => bases.is_some() && inner.reader.is_some(),
            Suite::Shared => true,
        };
        let reader = if readable {
            Some(opened.content(&inner.writer, inner.reader.as_ref(), path)?)
        } else {
            None
        };
        let kind = opened.header.kind;
        let pack = match kind {
            ObjectKind::Pack => Some(directory(path, opened, size)?),
            _ => None,
        };
        let table = match known {
            Some(known) if kind == ObjectKind::FileTable => {
                let declared = body::<FileTableBody>(path, opened)?.check(path)?;
                Some(Table {
                    lines: LineReader::default(),
                    expected: declared.entries,
                    known,
                    files_affected: 0,
                    example: None,
                })
            }
            _ => None,
        };
        let broken = BTreeMap::new();
        Ok(Self { path: path.to_owned(), reader, bases, broken, pack, table })
    }

    /// Checks frames `numbers`, whose stored bytes are in `bytes` (which begin at `base`).
    fn frames(
        &mut self,
        inner: &Inner,
        numbers: std::ops::Range<usize>,
        bytes: &[u8],
        base: u64,
    ) -> Result<()> {
        for number in numbers {
            let Some(reader) = &self.reader else { return Ok(()) };
            let stored = reader.slice(number, bytes, base)?;
            let raw = reader.frame(&inner.codec, number, stored)?;
            self.extents(inner, number, &raw)?;
            if let Some(table) = &mut self.table {
                let Table { lines, known, files_affected, example, .. } = table;
                lines.push(&self.path, &raw, &mut |file, _| {
                    if !file.extents.iter().all(|id| known.holds(id)) {
                        *files_affected += 1;
                        example.get_or_insert(file.path);
                    }
                })?;
            }
        }
        Ok(())
    }

    /// Checks the names of the extents of one frame.
    fn extents(&mut self, inner: &Inner, number: usize, raw: &[u8]) -> Result<()> {
        let Some(pack) = &self.pack else { return Ok(()) };
        let mut rest = raw;
        for extents in pack.extents.get(number).map_or(&[][..], Vec::as_slice).chunks(BASES) {
            let bases = read_bases(self.bases.as_ref(), extents, &mut self.broken)?;
            for extent in extents {
                let length = usize::try_from(extent.stored).unwrap_or(usize::MAX);
                let split = rest.split_at_checked(length);
                let named = split.filter(|(stored, _)| match extent.delta {
                    None => inner.writer.extent_id(stored) == extent.id,
                    // Without its base it is nothing, and whoever needs it is told so.
                    Some(made) => bases.get(&made.base).is_none_or(|base| {
                        delta::apply(base, stored, made.length as usize)
                            .is_some_and(|made| inner.writer.extent_id(&made) == extent.id)
                    }),
                });
                let Some((_, after)) = named else {
                    return Err(RepositoryError::corrupt(
                        &self.path,
                        format!("extent {} is not what its name says", extent.id),
                    ));
                };
                rest = after;
            }
        }
        Ok(())
    }

    fn finish(self, path: &str, opened: &Opened, size: u64) -> Result<Checked> {
        let kind = opened.header.kind;
        let mut pack = None;
        let mut indexed = Vec::new();
        let mut metadata = Value::Null;
        match (kind, self.pack) {
            (ObjectKind::Pack, Some(directory)) => {
                pack = Some((directory.pack, size, directory.digest()));
            }
            (ObjectKind::Index, _) => {
                let named: IndexBody = body(path, opened)
                    .map_err(|_| RepositoryError::corrupt(path, "its list is not understood"))?;
                for directory in named.packs {
                    directory.check(opened.header.repository)?;
                    indexed.push((directory.pack, directory.size, directory.digest()));
                }
            }
            _ => {
                metadata = serde_json::from_str(opened.metadata.body.get())
                    .map_err(|_| RepositoryError::corrupt(path, "its metadata is not JSON"))?;
            }
        }
        let mut problem = None;
        if let Some(table) = self.table {
            table.lines.finish(path, table.expected)?;
            problem = table.example.map(|example| {
                format!(
                    "extents of {} of its files (such as {example}) are in no usable pack; {}",
                    table.files_affected,
                    ObjectKind::FileTable.consequence()
                )
            });
        }
        let object = VerifiedObject { path: path.to_owned(), kind, size, metadata };
        Ok(Checked { object, pack, indexed, broken: self.broken, problem })
    }
}

/// What a pack says of itself, before anything in it is believed.
fn directory(path: &str, opened: &Opened, size: u64) -> Result<IndexedPack> {
    let body: PackBody = body(path, opened)
        .map_err(|_| RepositoryError::corrupt(path, "its directory is not understood"))?;
    let pack = PackId::parse_path(path)
        .ok_or_else(|| RepositoryError::corrupt(path, "a pack under another name"))?;
    let directory = IndexedPack {
        pack,
        size,
        header: opened.metadata.header.clone(),
        frames: opened.metadata.frames.clone(),
        extents: body.extents,
        by: None,
    };
    directory.check(opened.header.repository)?;
    Ok(directory)
}

/// The bases of those of these extents that are deltas, as far as they are there and can be read. A pack may hold
/// deltas whose bases are gone: the pack stays for anything in it, bases only for what is needed. A base that is
/// there and cannot be read says nothing against this pack, but against its own.
fn read_bases(
    reader: Option<&ExtentReader>,
    extents: &[ExtentEntry],
    broken: &mut BTreeMap<PackId, String>,
) -> Result<HashMap<ExtentId, Bytes>> {
    let deltas = extents.iter().filter_map(|extent| extent.delta);
    let mut bases: BTreeSet<ExtentId> = deltas.map(|delta| delta.base).collect();
    let Some(reader) = reader.filter(|_| !bases.is_empty()) else { return Ok(HashMap::new()) };
    loop {
        bases.retain(|id| reader.whole_in(id).is_some_and(|pack| !broken.contains_key(&pack)));
        let needed: Vec<ExtentId> = bases.iter().copied().collect();
        // This runs on a thread that may wait.
        match tokio::runtime::Handle::current().block_on(reader.read(&needed)) {
            Ok(read) => return Ok(needed.into_iter().zip(read).collect()),
            Err(RepositoryError::Corrupt { object, what }) => {
                let pack = PackId::parse_path(&object).filter(|pack| !broken.contains_key(pack));
                let Some(pack) = pack else {
                    return Err(RepositoryError::corrupt(object, what));
                };
                broken.insert(pack, what);
            }
            Err(other) => return Err(other),
        }
    }
}
