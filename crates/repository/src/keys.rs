//! The repository key and what is derived from it.
//!
//! ```text
//! repository key (32 random bytes)
//!  └─ HKDF-SHA256, salt = repository id (16 bytes), info = "holdfast/1/" + purpose
//!      ├─ "seal"              DeriveKeyPair input of the X25519 pair content is sealed to
//!      ├─ "extent-id"         key of the keyed BLAKE3 that names extents
//!      ├─ "metadata"          input of every object's metadata key
//!      ├─ "root-signing"      Ed25519 seed: holdfast.json, slots, writers' certificates
//!      └─ "writer/<device>"   Ed25519 seed of one device: every other object
//! ```
//!
//! Adding and reading are different rights: [`WriterKeys`] hold no private key.

use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::crypto::{OpeningKey, SealingKey, Secret, Signer, derive, random};
use crate::error::Result;
use crate::extent::ExtentId;
use crate::writer_key::WriterKey;

/// Which installation writes. Chosen at random once and kept by the device.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeviceId(pub Uuid);

impl DeviceId {
    /// A new random id.
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The one secret of a repository. Wiped when dropped; cannot be shown.
pub struct RepositoryKey(Secret);

impl RepositoryKey {
    /// A new random key.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate() -> Result<Self> {
        Ok(Self(Zeroizing::new(random()?)))
    }

    pub(crate) fn from_secret(secret: Secret) -> Self {
        Self(secret)
    }

    /// The same key once more, for another copy of its repository.
    pub(crate) fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn purpose(&self, repository: Uuid, purpose: &str) -> Secret {
        derive(self.0.as_slice(), repository.as_bytes(), &[b"holdfast/1/", purpose.as_bytes()])
    }

    /// The key that signs what only an owner may change.
    pub(crate) fn root_signer(&self, repository: Uuid) -> Result<Signer> {
        Signer::from_seed(&self.purpose(repository, "root-signing"))
    }

    /// What a device needs to add to the repository, and no more.
    ///
    /// # Errors
    /// None in practice: the derivations cannot fail on inputs of these lengths.
    pub fn writer_keys(&self, repository: Uuid, device: DeviceId) -> Result<WriterKeys> {
        self.writer_key(repository, device)?.keys()
    }

    /// The same as it can be handed to that device.
    pub(crate) fn writer_key(&self, repository: Uuid, device: DeviceId) -> Result<WriterKey> {
        let (_, sealing) = OpeningKey::derive(&self.purpose(repository, "seal"));
        Ok(WriterKey {
            repository,
            device,
            extent_id: self.purpose(repository, "extent-id"),
            metadata: self.purpose(repository, "metadata"),
            sealing: sealing.to_bytes(),
            root: *self.root_signer(repository)?.public(),
            seed: self.purpose(repository, &format!("writer/{}", device.0.hyphenated())),
        })
    }

    /// What decrypts stored content.
    pub(crate) fn reader_keys(&self, repository: Uuid) -> ReaderKeys {
        let (opening, _) = OpeningKey::derive(&self.purpose(repository, "seal"));
        ReaderKeys { opening }
    }
}

impl fmt::Debug for RepositoryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RepositoryKey(…)")
    }
}

/// The right to add: names extents, reads and writes metadata, seals content, signs. Cannot open
/// any sealed content.
pub struct WriterKeys {
    pub(crate) repository: Uuid,
    pub(crate) device: DeviceId,
    pub(crate) extent_id: Secret,
    pub(crate) metadata: Secret,
    pub(crate) sealing: SealingKey,
    /// Ed25519: what has signed `holdfast.json`.
    pub(crate) root: [u8; 32],
    pub(crate) signer: Signer,
}

impl WriterKeys {
    /// The repository these keys belong to.
    pub fn repository(&self) -> Uuid {
        self.repository
    }

    /// The device whose signature they make.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// The keyed name of an extent; all-zero content has the name [`ExtentId::ZERO`].
    pub(crate) fn extent_id(&self, bytes: &[u8]) -> ExtentId {
        if is_zero(bytes) {
            return ExtentId::ZERO;
        }
        ExtentId::from_bytes(*blake3::keyed_hash(&self.extent_id, bytes).as_bytes())
    }
}

impl fmt::Debug for WriterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriterKeys({}, device {})", self.repository, self.device)
    }
}

/// The right to read sealed content.
pub(crate) struct ReaderKeys {
    pub(crate) opening: OpeningKey,
}

/// Looks at 64 bytes at a time so that the compiler can use wide registers; a database page is
/// told apart by its first bytes.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let mut blocks = bytes.chunks_exact(64);
    blocks.by_ref().all(|block| block.iter().fold(0u8, |or, byte| or | byte) == 0)
        && blocks.remainder().iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn purposes_and_repositories_do_not_share_keys() {
        let key = RepositoryKey::from_secret(Zeroizing::new([1; 32]));
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_ne!(key.purpose(a, "metadata"), key.purpose(a, "seal"));
        assert_ne!(key.purpose(a, "metadata"), key.purpose(b, "metadata"));
        let device = DeviceId(Uuid::from_u128(9));
        let page = [1u8; 8192];
        let first = key.writer_keys(a, device).unwrap();
        let second = key.writer_keys(b, device).unwrap();
        assert_ne!(first.extent_id(&page), second.extent_id(&page));
        assert_ne!(first.signer.public(), second.signer.public());
    }

    #[test]
    fn zero_is_seen_at_every_length() {
        for length in [0, 1, 63, 64, 65, 8192] {
            let mut bytes = vec![0u8; length];
            assert!(is_zero(&bytes));
            if let Some(last) = bytes.last_mut() {
                *last = 1;
                assert!(!is_zero(&bytes));
            }
        }
    }
}
