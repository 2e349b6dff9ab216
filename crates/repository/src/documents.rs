//! Objects that the layers above put and get by name.

use std::future::Future;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::container::read::{self, Opened};
use crate::container::write::{in_memory, to_raw};
use crate::container::{MAX_FRAME_RAW, Suite, TRAILER_BYTES, Trailer};
use crate::error::{RepositoryError, Result};
use crate::object::{ObjectEntry, ObjectKind, PutKind, PutReceipt};
use crate::repository::Repository;

/// What a tail read asks for at first: enough for most objects' metadata.
const TAIL_BYTES: u64 = 64 * 1024;

/// Content in pieces, as callers have it. Borrowed pieces are copied once.
pub trait IntoContent {
    /// The pieces, in order.
    fn into_content(self) -> Vec<Bytes>;
}

impl IntoContent for Vec<Bytes> {
    fn into_content(self) -> Vec<Bytes> {
        self
    }
}

impl IntoContent for Bytes {
    fn into_content(self) -> Vec<Bytes> {
        vec![self]
    }
}

impl IntoContent for Vec<u8> {
    fn into_content(self) -> Vec<Bytes> {
        vec![self.into()]
    }
}

impl IntoContent for &[Bytes] {
    fn into_content(self) -> Vec<Bytes> {
        self.to_vec()
    }
}

impl IntoContent for &[u8] {
    fn into_content(self) -> Vec<Bytes> {
        vec![Bytes::copy_from_slice(self)]
    }
}

impl IntoContent for &[&[u8]] {
    fn into_content(self) -> Vec<Bytes> {
        self.iter().map(|piece| Bytes::copy_from_slice(piece)).collect()
    }
}

impl<const N: usize> IntoContent for &[&[u8]; N] {
    fn into_content(self) -> Vec<Bytes> {
        self.as_slice().into_content()
    }
}

impl Repository {
    /// Stores a document that does not exist yet: encrypted under the metadata key, signed.
    ///
    /// # Errors
    /// [`RepositoryError::AlreadyExists`] and what the store says.
    pub fn put_document<T: Serialize + ?Sized>(
        &self,
        path: &str,
        kind: ObjectKind,
        body: &T,
    ) -> impl Future<Output = Result<()>> + Send + use<T> {
        let put =
            self.put_container(path, kind, Suite::Empty, Vec::new(), body, PutKind::CreateOnly);
        async move { put.await.map(|_| ()) }
    }

    /// The document at `path`, with its signature and every byte checked.
    ///
    /// # Errors
    /// [`RepositoryError::NotFound`], [`RepositoryError::Corrupt`],
    /// [`RepositoryError::UntrustedWriter`]; [`RepositoryError::Document`] when it is not a `T`.
    pub async fn get_document<T: DeserializeOwned>(
        &self,
        path: &str,
        kind: ObjectKind,
    ) -> Result<T> {
        let (_, opened) = self.open_whole(path, kind).await?;
        body(path, &opened)
    }

    /// Stores content, compressed in frames and sealed to the repository's public key, with
    /// metadata beside it that can be read by itself.
    ///
    /// # Errors
    /// [`RepositoryError::AlreadyExists`] with [`PutKind::CreateOnly`], and what the store says.
    pub fn put_sealed<T: Serialize + ?Sized, C: IntoContent>(
        &self,
        path: &str,
        kind: ObjectKind,
        content: C,
        metadata: &T,
        mode: PutKind,
    ) -> impl Future<Output = Result<PutReceipt>> + Send + use<T, C> {
        self.put_container(path, kind, Suite::Sealed, content.into_content(), metadata, mode)
    }

    /// The same for content that is no secret from whoever adds to the repository.
    ///
    /// # Errors
    /// As [`Repository::put_sealed`].
    pub fn put_shared<T: Serialize + ?Sized, C: IntoContent>(
        &self,
        path: &str,
        kind: ObjectKind,
        content: C,
        metadata: &T,
        mode: PutKind,
    ) -> impl Future<Output = Result<PutReceipt>> + Send + use<T, C> {
        self.put_container(path, kind, Suite::Shared, content.into_content(), metadata, mode)
    }

    /// Content and metadata of an object stored by [`Repository::put_sealed`].
    ///
    /// # Errors
    /// As [`Repository::get_document`]; [`RepositoryError::KeyRequired`] with writer keys only.
    pub async fn get_sealed<T: DeserializeOwned>(
        &self,
        path: &str,
        kind: ObjectKind,
    ) -> Result<(Bytes, T)> {
        let (bytes, opened) = self.open_whole(path, kind).await?;
        let metadata = body(path, &opened)?;
        if opened.header.suite == Suite::Empty {
            return Ok((Bytes::new(), metadata));
        }
        Ok((self.content_of(path, &opened, bytes).await?, metadata))
    }

    /// The content of an opened object whose bytes these are.
    pub(crate) async fn content_of(
        &self,
        path: &str,
        opened: &Opened,
        bytes: Bytes,
    ) -> Result<Bytes> {
        let inner = std::sync::Arc::clone(&self.inner);
        let reader = opened.content(&inner.writer, inner.reader.as_ref(), path)?;
        tokio::task::spawn_blocking(move || -> Result<Bytes> {
            let mut content = Vec::new();
            for number in 0..reader.frames().len() {
                let stored = reader.slice(number, &bytes, 0)?;
                content.extend_from_slice(&reader.frame(&inner.codec, number, stored)?);
            }
            Ok(content.into())
        })
        .await
        .map_err(RepositoryError::worker)?
    }

    /// Only the metadata, by one ranged read of the object's tail. Its signature covers the
    /// content's hash, but the content is not read.
    ///
    /// # Errors
    /// As [`Repository::get_document`].
    pub async fn get_sealed_metadata<T: DeserializeOwned>(
        &self,
        path: &str,
        kind: ObjectKind,
    ) -> Result<T> {
        let (opened, _) = self.open_tail(path, kind).await?;
        body(path, &opened)
    }

    /// Whether what an object says is to be built on: an operator has written it, or this device.
    ///
    /// # Errors
    /// As [`Repository::get_document`].
    pub async fn is_vouched_for(&self, path: &str, kind: ObjectKind) -> Result<bool> {
        let (opened, _) = self.open_tail(path, kind).await?;
        self.vouches_for(path, &opened.trailer.writer).await
    }

    /// Every object below `prefix`, sorted by path.
    ///
    /// # Errors
    /// What the store says.
    pub async fn list(&self, prefix: &str) -> Result<Vec<ObjectEntry>> {
        self.inner.store.list(prefix).await
    }

    /// Removes an object. What names what is the caller's business.
    ///
    /// # Errors
    /// What the store says; [`RepositoryError::InvalidArgument`] for `holdfast.json` and `keys/`.
    pub async fn delete(&self, path: &str) -> Result<()> {
        if path == crate::root::ROOT_PATH || path.starts_with("keys/") {
            return Err(RepositoryError::InvalidArgument {
                what: format!("{path} is not removed this way"),
            });
        }
        self.inner.store.delete(path).await
    }

    pub(crate) fn put_container<T: Serialize + ?Sized>(
        &self,
        path: &str,
        kind: ObjectKind,
        suite: Suite,
        content: Vec<Bytes>,
        metadata: &T,
        mode: PutKind,
    ) -> impl Future<Output = Result<PutReceipt>> + Send + use<T> {
        let contained = self.contain(path, kind, suite, content, metadata);
        let repository = self.clone();
        let path = path.to_owned();
        async move {
            let bytes = contained.await?;
            let receipt = PutReceipt { bytes_stored: bytes.len() as u64 };
            match mode {
                PutKind::CreateOnly => repository.inner.store.put_new(&path, bytes).await?,
                PutKind::Replace => repository.inner.store.put_replacing(&path, bytes).await?,
            }
            Ok(receipt)
        }
    }

    /// The bytes of the object that [`Repository::put_sealed`] would store at `path`: for a caller that
    /// keeps it elsewhere first and brings it to the store later as it is.
    ///
    /// # Errors
    /// [`RepositoryError::InvalidArgument`] for a path that no object can have.
    pub fn seal<T: Serialize + ?Sized, C: IntoContent>(
        &self,
        path: &str,
        kind: ObjectKind,
        content: C,
        metadata: &T,
    ) -> impl Future<Output = Result<Bytes>> + Send + use<T, C> {
        self.contain(path, kind, Suite::Sealed, content.into_content(), metadata)
    }

    pub(crate) fn contain<T: Serialize + ?Sized>(
        &self,
        path: &str,
        kind: ObjectKind,
        suite: Suite,
        content: Vec<Bytes>,
        metadata: &T,
    ) -> impl Future<Output = Result<Bytes>> + Send + use<T> {
        // Serialised before the first await, so that callers need not share `T` across threads.
        let prepared = check_path(path)
            .and_then(|()| self.may_write(path, kind))
            .and_then(|()| to_raw(path, metadata));
        let inner = std::sync::Arc::clone(&self.inner);
        let name = path.to_owned();
        async move {
            let metadata = prepared?;
            tokio::task::spawn_blocking(move || -> Result<Bytes> {
                let frames = frames_of(&content).into_iter().map(|raw| inner.codec.encode(&raw));
                in_memory(&inner.writer, &inner.codec, &name, kind, suite, frames, metadata)
                    .map(|finished| finished.out.into())
            })
            .await
            .map_err(RepositoryError::worker)?
        }
    }

    pub(crate) async fn open_whole(&self, path: &str, kind: ObjectKind) -> Result<(Bytes, Opened)> {
        let bytes = self.inner.store.get(path).await?;
        self.opened(path, kind, bytes).await
    }

    /// The same of an object whose bytes are at hand.
    pub(crate) async fn opened(
        &self,
        path: &str,
        kind: ObjectKind,
        bytes: Bytes,
    ) -> Result<(Bytes, Opened)> {
        let writer = read::split(path, &bytes)?.trailer.writer;
        self.trust(path, kind, &writer).await?;
        let inner = std::sync::Arc::clone(&self.inner);
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || {
            let opened = read::open_whole(&inner.writer, &inner.codec, &path, kind, &bytes)?;
            Ok((bytes, opened))
        })
        .await
        .map_err(RepositoryError::worker)?
    }

    /// Also returns the bytes after the content: encrypted metadata and trailer.
    pub(crate) async fn open_tail(&self, path: &str, kind: ObjectKind) -> Result<(Opened, Bytes)> {
        let (mut tail, size) = self.inner.store.get_tail(path, TAIL_BYTES).await?;
        let trailer = Trailer::parse(path, &tail, size)?;
        let wanted = trailer.metadata_bytes + TRAILER_BYTES as u64;
        if wanted > tail.len() as u64 {
            tail = self.inner.store.get_range(path, size - wanted, wanted).await?;
        }
        let start = tail.len() - usize::try_from(wanted).unwrap_or(tail.len());
        let tail = tail.slice(start..);
        self.trust(path, kind, &trailer.writer).await?;
        let inner = std::sync::Arc::clone(&self.inner);
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || {
            let metadata = &tail[..tail.len() - TRAILER_BYTES];
            let opened =
                read::open_tail(&inner.writer, &inner.codec, &path, kind, trailer, metadata)?;
            Ok((opened, tail))
        })
        .await
        .map_err(RepositoryError::worker)?
    }
}

/// The caller's document inside an opened object.
pub(crate) fn body<T: DeserializeOwned>(path: &str, opened: &Opened) -> Result<T> {
    serde_json::from_str(opened.metadata.body.get())
        .map_err(|source| RepositoryError::Document { path: path.to_owned(), source })
}

/// Cuts pieces into frames of at most 1 MiB without looking at their borders.
fn frames_of(content: &[Bytes]) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut current: Vec<u8> = Vec::new();
    for piece in content {
        let mut rest = piece.clone();
        while !rest.is_empty() {
            if current.is_empty() && rest.len() >= MAX_FRAME_RAW {
                frames.push(rest.split_to(MAX_FRAME_RAW));
                continue;
            }
            let take = rest.len().min(MAX_FRAME_RAW - current.len());
            current.extend_from_slice(&rest.split_to(take));
            if current.len() == MAX_FRAME_RAW {
                frames.push(std::mem::take(&mut current).into());
            }
        }
    }
    if !current.is_empty() {
        frames.push(current.into());
    }
    frames
}

/// Paths are plain: stores and file systems agree on these characters.
pub(crate) fn check_path(path: &str) -> Result<()> {
    let plain = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    };
    let reserved = path == crate::root::ROOT_PATH || path.starts_with("keys/");
    if path.len() <= 512 && path.split('/').all(plain) && !reserved {
        Ok(())
    } else {
        Err(RepositoryError::InvalidArgument {
            what: format!("{path:?} cannot be the path of an object"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        #[test]
        fn frames_join_to_the_content(sizes in proptest::collection::vec(0usize..1_500_000, 0..4)) {
            let content: Vec<Bytes> = sizes.iter().enumerate()
                .map(|(n, size)| Bytes::from(vec![u8::try_from(n).unwrap_or(0); *size])).collect();
            let frames = frames_of(&content);
            prop_assert!(frames.iter().all(|f| f.len() <= MAX_FRAME_RAW && !f.is_empty()));
            prop_assert_eq!(frames.concat(), content.concat());
        }
    }

    #[test]
    fn paths_are_plain() {
        for good in ["wal/a/00000001.x", "a", "snapshots/x_y-z"] {
            assert!(check_path(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "../a", "a b", "ä", "keys/x.json", "holdfast.json"] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
    }
}
