//! `holdfast.json`: what a repository is.

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::container::FORMAT;
use crate::crypto::{SealingKey, Signer, from_hex, hex};
use crate::error::{RepositoryError, Result};
use crate::signed::{self, SignedDocument};

/// The first object to read.
pub(crate) const ROOT_PATH: &str = "holdfast.json";
/// Where the slots are; writers' certificates are one level deeper.
pub(crate) const KEYS_PREFIX: &str = "keys";

/// Bounds of the extent size; a power of two.
pub(crate) const EXTENT_BYTES: std::ops::RangeInclusive<u32> = 4096..=1024 * 1024;
/// Eight PostgreSQL pages.
pub(crate) const DEFAULT_EXTENT_BYTES: u32 = 64 * 1024;

const EXTENT_DIGEST: &str = "blake3-keyed";
const CONTENT_DIGEST: &str = "blake3";

/// The payload of `holdfast.json`, signed by the root key it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RootDocument {
    pub(crate) format: u32,
    pub(crate) repository: Uuid,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) sealing_public_key: String,
    pub(crate) root_public_key: String,
    pub(crate) extent_size: u32,
    pub(crate) extent_digest: String,
    pub(crate) content_digest: String,
}

impl SignedDocument for RootDocument {
    const TYPE: &'static str = "repository";
}

/// Only the version, so that a newer document is told apart from a damaged one.
#[derive(Deserialize)]
struct AnyVersion {
    payload: String,
}
#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
}

impl RootDocument {
    pub(crate) fn new(
        repository: Uuid,
        sealing: &SealingKey,
        root: &Signer,
        extent_size: u32,
    ) -> Self {
        Self {
            format: FORMAT.into(),
            repository,
            created_at: Utc::now().trunc_subsecs(6),
            sealing_public_key: hex(&sealing.to_bytes()),
            root_public_key: hex(root.public()),
            extent_size,
            extent_digest: EXTENT_DIGEST.to_owned(),
            content_digest: CONTENT_DIGEST.to_owned(),
        }
    }

    /// Parses and checks everything that can be checked without a key.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let found = serde_json::from_slice::<AnyVersion>(bytes)
            .ok()
            .and_then(|wrapper| serde_json::from_str::<AnyFormat>(&wrapper.payload).ok())
            .map(|any| any.format);
        if let Some(found) = found.filter(|found| *found > u32::from(FORMAT)) {
            return Err(RepositoryError::UnsupportedFormat { object: ROOT_PATH.to_owned(), found });
        }
        let document = signed::parse::<Self>(ROOT_PATH, bytes)?;
        let root = document.value.root_key()?;
        if !document.is_signed_by(&root) {
            return Err(corrupt("its signature does not fit its content"));
        }
        let value = document.value;
        let sensible = value.format == u32::from(FORMAT)
            && EXTENT_BYTES.contains(&value.extent_size)
            && value.extent_size.is_power_of_two()
            && value.extent_digest == EXTENT_DIGEST
            && value.content_digest == CONTENT_DIGEST
            && value.sealing_key().is_some();
        if sensible { Ok(value) } else { Err(corrupt("its values make no sense")) }
    }

    pub(crate) fn root_key(&self) -> Result<[u8; 32]> {
        from_hex(&self.root_public_key).ok_or_else(|| corrupt("its root key is malformed"))
    }

    pub(crate) fn sealing_key(&self) -> Option<SealingKey> {
        SealingKey::from_bytes(&from_hex(&self.sealing_public_key)?)
    }
}

fn corrupt(what: &str) -> RepositoryError {
    RepositoryError::corrupt(ROOT_PATH, format!("{what}; the repository cannot be opened with it"))
}

/// What became of reading a document under `keys/`.
pub(crate) enum KeyDocument<T> {
    /// Of this repository.
    Own(T),
    /// Authentic, but of a creation that was interrupted before `holdfast.json` was written.
    Foreign,
}

/// Reads a slot or a certificate and tells apart: ours, another creation's, damaged.
pub(crate) fn read_key_document<T: SignedDocument>(
    path: &str,
    bytes: &[u8],
    root: &RootDocument,
    repository_of: impl Fn(&T) -> Uuid,
    stated_root: impl Fn(&T) -> Option<[u8; 32]>,
) -> Result<KeyDocument<T>> {
    let document = signed::parse::<T>(path, bytes)?;
    let own_root = root.root_key()?;
    if document.is_signed_by(&own_root) {
        if repository_of(&document.value) != root.repository {
            return Err(RepositoryError::corrupt(path, "it names another repository"));
        }
        return Ok(KeyDocument::Own(document.value));
    }
    let foreign = stated_root(&document.value)
        .is_some_and(|stated| stated != own_root && document.is_signed_by(&stated));
    if foreign && repository_of(&document.value) != root.repository {
        return Ok(KeyDocument::Foreign);
    }
    Err(RepositoryError::corrupt(path, "its signature does not fit its content"))
}
