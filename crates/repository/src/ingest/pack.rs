//! One pack being assembled.

use bytes::Bytes;

use crate::container::frame::EncodedFrame;
use crate::container::write::{ContainerWriter, to_raw};
use crate::container::{HexHeader, Suite};
use crate::error::Result;
use crate::index::{ExtentEntry, IndexedPack, PackBody, PackId};
use crate::object::ObjectKind;
use crate::repository::Repository;

pub(super) struct PackBuilder {
    id: PackId,
    container: ContainerWriter<Vec<u8>>,
    extents: Vec<Vec<ExtentEntry>>,
    extent_count: usize,
}

/// A pack ready for the store.
pub(super) struct FinishedPack {
    pub(super) bytes: Bytes,
    pub(super) directory: IndexedPack,
}

impl PackBuilder {
    pub(super) fn begin(repository: &Repository, pack_size: u64) -> Result<Self> {
        let id = PackId::generate();
        let keys = &repository.inner.writer;
        // With room for the last frame and the directory: a pack is not moved while it grows.
        let room = usize::try_from(pack_size).unwrap_or(0).saturating_add(1024 * 1024);
        let container = ContainerWriter::begin(
            keys,
            &id.path(),
            ObjectKind::Pack,
            Suite::Sealed,
            Vec::with_capacity(room),
        )?;
        Ok(Self { id, container, extents: Vec::new(), extent_count: 0 })
    }

    pub(super) fn push(&mut self, frame: EncodedFrame, extents: Vec<ExtentEntry>) -> Result<()> {
        self.extent_count += extents.len();
        self.extents.push(extents);
        self.container.push(frame)
    }

    pub(super) fn stored_bytes(&self) -> u64 {
        self.container.stored_bytes()
    }

    pub(super) fn extent_count(&self) -> usize {
        self.extent_count
    }

    pub(super) fn finish(self, repository: &Repository) -> Result<FinishedPack> {
        let path = self.id.path();
        let body = PackBody { extents: self.extents };
        let raw = to_raw(&path, &body)?;
        let inner = &repository.inner;
        let finished = self.container.finish(&inner.writer, &inner.codec, &path, raw)?;
        Ok(FinishedPack {
            directory: IndexedPack {
                pack: self.id,
                size: finished.size,
                header: HexHeader(finished.header.encode()),
                frames: finished.frames,
                extents: body.extents,
                by: None,
            },
            bytes: finished.out.into(),
        })
    }
}
