//! A repository in one tar file (POSIX.1-2001 pax interchange format and its predecessors), for reading only.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Extensions, GetOptions, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};

use crate::error::RepositoryError;

const NAME: &str = "bundle file";

/// Where an object's bytes are in the file.
#[derive(Clone, Copy)]
struct Member {
    start: u64,
    size: u64,
    modified: DateTime<Utc>,
}

/// The objects in a tar file.
pub(super) struct ArchiveFile {
    members: BTreeMap<String, Member>,
    file: Arc<Mutex<File>>,
    location: String,
}

impl fmt::Debug for ArchiveFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArchiveFile({}, {} objects)", self.location, self.members.len())
    }
}

impl fmt::Display for ArchiveFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.location)
    }
}

impl ArchiveFile {
    /// Reads where everything is; blocks.
    ///
    /// # Errors
    /// [`RepositoryError::NotARepository`] when it is no tar file; [`RepositoryError::Corrupt`] when it was cut
    /// short or holds a name twice.
    pub(super) fn open(path: &FilePath) -> Result<Self, RepositoryError> {
        let location = path.display().to_string();
        let corrupt = |what: &str| RepositoryError::corrupt(&location, what);
        let local = |operation| move |source| RepositoryError::LocalFile { operation, source };
        let mut file = File::open(path).map_err(local("open the bundle"))?;
        let length = file.metadata().map_err(local("look at the bundle"))?.len();
        let mut members = BTreeMap::new();
        let cut = || corrupt("it was cut short: copy it again");
        let mut archive = tar::Archive::new(&mut file);
        for entry in archive.entries_with_seek().map_err(|_| cut())? {
            let entry = match entry {
                Ok(entry) => entry,
                // Not even a first member: something else.
                Err(_) if members.is_empty() => {
                    return Err(RepositoryError::NotARepository { location });
                }
                Err(_) => return Err(cut()),
            };
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let name = entry.path().map_err(|_| cut())?.to_string_lossy().into_owned();
            let name = name.trim_start_matches("./").to_owned();
            let (start, size) = (entry.raw_file_position(), entry.size());
            if start.checked_add(size).is_none_or(|end| end > length) {
                return Err(cut());
            }
            let seconds = entry.header().mtime().ok().and_then(|s| i64::try_from(s).ok());
            let modified = seconds
                .and_then(|s| DateTime::from_timestamp(s, 0))
                .unwrap_or(DateTime::UNIX_EPOCH);
            if members.insert(name, Member { start, size, modified }).is_some() {
                return Err(corrupt("it holds two objects of one name"));
            }
        }
        Ok(Self { members, file: Arc::new(Mutex::new(file)), location })
    }

    fn meta(&self, location: &Path) -> Result<(ObjectMeta, u64)> {
        let missing = || object_store::Error::NotFound {
            path: location.to_string(),
            source: "the bundle does not hold it".into(),
        };
        let member = self.members.get(location.as_ref()).ok_or_else(missing)?;
        Ok((meta_of(location.clone(), *member), member.start))
    }

    fn below(&self, prefix: Option<&Path>) -> Vec<ObjectMeta> {
        let prefix = prefix.map(|p| p.as_ref().trim_matches('/').to_owned()).unwrap_or_default();
        let inside = |name: &str| {
            prefix.is_empty()
                || name.strip_prefix(&prefix).is_some_and(|rest| rest.starts_with('/'))
        };
        let found = self.members.iter().filter(|(name, _)| inside(name));
        found.map(|(name, member)| meta_of(Path::from(name.as_str()), *member)).collect()
    }
}

fn meta_of(location: Path, member: Member) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: member.modified,
        size: member.size,
        e_tag: None,
        version: None,
    }
}

fn read_only(path: &Path) -> object_store::Error {
    object_store::Error::PermissionDenied {
        path: path.to_string(),
        source: "a bundle in one file is only read".into(),
    }
}

#[async_trait]
impl ObjectStore for ArchiveFile {
    async fn put_opts(&self, to: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(read_only(to))
    }

    async fn put_multipart_opts(
        &self,
        to: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(read_only(to))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let failed =
            |source| object_store::Error::Generic { store: NAME, source: Box::new(source) };
        let (meta, start) = self.meta(location)?;
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            Some(range) => range
                .as_range(meta.size)
                .map_err(|e| object_store::Error::Generic { store: NAME, source: Box::new(e) })?,
            None => 0..meta.size,
        };
        let wanted = if options.head { range.start..range.start } else { range.clone() };
        let file = Arc::clone(&self.file);
        let read = tokio::task::spawn_blocking(move || {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(start + wanted.start))?;
            let length = usize::try_from(wanted.end - wanted.start)
                .map_err(|_| std::io::Error::from(std::io::ErrorKind::FileTooLarge))?;
            let mut bytes = vec![0; length];
            file.read_exact(&mut bytes)?;
            Ok::<_, std::io::Error>(Bytes::from(bytes))
        });
        let bytes = read
            .await
            .map_err(|e| object_store::Error::Generic { store: NAME, source: Box::new(e) })?
            .map_err(failed)?;
        Ok(GetResult {
            payload: GetResultPayload::Stream(futures_util::stream::iter([Ok(bytes)]).boxed()),
            meta,
            range,
            attributes: Attributes::new(),
            extensions: Extensions::new(),
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        locations.map(|location| location.and_then(|path| Err(read_only(&path)))).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        futures_util::stream::iter(self.below(prefix).into_iter().map(Ok)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let own = prefix.map(|p| p.parts().count()).unwrap_or_default();
        let (objects, deeper): (Vec<_>, Vec<_>) = self
            .below(prefix)
            .into_iter()
            .partition(|meta| meta.location.parts().count() == own + 1);
        let mut common_prefixes: Vec<Path> =
            deeper.into_iter().map(|meta| meta.location.parts().take(own + 1).collect()).collect();
        common_prefixes.dedup();
        Ok(ListResult { objects, common_prefixes, extensions: Extensions::new() })
    }

    async fn copy_opts(&self, _: &Path, to: &Path, _: CopyOptions) -> Result<()> {
        Err(read_only(to))
    }
}
