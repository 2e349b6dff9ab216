//! The stages of an ingest by themselves, for the benchmark. Not part of the interface.

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::container::Suite;
use crate::container::frame::Codec;
use crate::container::write::{ContainerWriter, to_raw};
use crate::error::Result;
use crate::extent::ExtentId;
use crate::keys::{DeviceId, RepositoryKey, WriterKeys};
use crate::object::ObjectKind;

/// Keys and compressors of a repository that does not exist.
#[derive(Debug)]
pub struct Stages {
    keys: WriterKeys,
    codec: Codec,
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Codec")
    }
}

impl Stages {
    /// With fixed keys.
    ///
    /// # Errors
    /// None in practice.
    pub fn new() -> Result<Self> {
        let key = RepositoryKey::from_secret(Zeroizing::new([1; 32]));
        let keys = key.writer_keys(Uuid::from_u128(1), DeviceId(Uuid::from_u128(2)))?;
        Ok(Self { keys, codec: Codec::default() })
    }

    /// The name of an extent.
    pub fn hash(&self, extent: &[u8]) -> ExtentId {
        self.keys.extent_id(extent)
    }

    /// Compresses a frame; the bytes before sealing.
    ///
    /// # Errors
    /// When zstd fails.
    pub fn compress(&self, frame: &[u8]) -> Result<usize> {
        Ok(self.codec.encode(frame)?.plain.len())
    }

    /// Seals, hashes and signs a container of one incompressible frame; its size.
    ///
    /// # Errors
    /// None in practice.
    pub fn seal(&self, frame: &[u8]) -> Result<u64> {
        let path = "packs/aa/aa";
        let mut container = ContainerWriter::begin(
            &self.keys,
            path,
            ObjectKind::Pack,
            Suite::Sealed,
            std::io::sink(),
        )?;
        let mut plain = Vec::with_capacity(frame.len() + 17);
        plain.push(0);
        plain.extend_from_slice(frame);
        container.push(crate::container::frame::EncodedFrame { plain, raw_bytes: frame.len() })?;
        Ok(container.finish(&self.keys, &self.codec, path, to_raw(path, &())?)?.size)
    }
}
