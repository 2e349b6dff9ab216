//! Creating and opening a repository, and its ways in.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use uuid::Uuid;

use crate::access::{find, read_slots};
use crate::container::frame::Codec;
use crate::crypto::{Signer, hex};
use crate::error::{RepositoryError, Result};
use crate::extent::ExtentId;
use crate::index::Index;
use crate::keys::{DeviceId, ReaderKeys, RepositoryKey, WriterKeys};
use crate::root::{DEFAULT_EXTENT_BYTES, EXTENT_BYTES, ROOT_PATH, RootDocument};
use crate::signed::{self, MAX_SIGNED_BYTES};
use crate::slots::{KdfParams, NewSlot, Unlock};
use crate::store::Store;
use crate::writer_key::WriterKey;
use crate::writers::{Standing, WriterCertificate};

/// Choices that are made once.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CreateOptions {
    /// Bytes of an extent: a power of two from 4 KiB to 1 MiB, default 64 KiB.
    pub extent_size: u32,
    /// What a guess at a passphrase costs.
    pub kdf: KdfParams,
    /// Accept a store that ignores the condition of a put. Leases then exclude nobody.
    pub allow_unconditional_put: bool,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            extent_size: DEFAULT_EXTENT_BYTES,
            kdf: KdfParams::RECOMMENDED,
            allow_unconditional_put: false,
        }
    }
}

impl CreateOptions {
    /// Another extent size.
    #[must_use]
    pub fn with_extent_size(mut self, bytes: u32) -> Self {
        self.extent_size = bytes;
        self
    }

    /// Another passphrase cost.
    #[must_use]
    pub fn with_kdf(mut self, kdf: KdfParams) -> Self {
        self.kdf = kdf;
        self
    }

    /// See the field.
    #[must_use]
    pub fn with_unconditional_put_allowed(mut self) -> Self {
        self.allow_unconditional_put = true;
        self
    }
}

/// An open repository. Cheap to clone.
#[derive(Clone)]
pub struct Repository {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) root: RootDocument,
    pub(crate) writer: WriterKeys,
    pub(crate) reader: Option<ReaderKeys>,
    owner: Option<Owner>,
    pub(crate) codec: Codec,
    /// Writers whose certificate has been seen and checked.
    pub(crate) trusted: RwLock<HashMap<[u8; 32], Standing>>,
    pub(crate) index: tokio::sync::Mutex<Option<Arc<Index>>>,
    pub(crate) kdf: KdfParams,
    /// The slot whose secret was given.
    pub(crate) opened_with: Option<Uuid>,
}

/// Held by whoever opened the repository with the repository key itself.
pub(crate) struct Owner {
    pub(crate) key: RepositoryKey,
    pub(crate) root: Signer,
}

/// What this process may do.
struct Keys {
    writer: WriterKeys,
    reader: Option<ReaderKeys>,
    owner: Option<Owner>,
}

impl Keys {
    /// An owner's.
    fn of(key: RepositoryKey, id: Uuid, device: DeviceId) -> Result<Self> {
        let root = key.root_signer(id)?;
        let writer = key.writer_keys(id, device)?;
        let reader = Some(key.reader_keys(id));
        Ok(Self { writer, reader, owner: Some(Owner { key, root }) })
    }
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Repository({}, {})", self.inner.root.repository, self.inner.store.location())
    }
}

impl Repository {
    /// Makes a new repository with the given ways in (at least one), after testing the store.
    ///
    /// `holdfast.json` is written last: a creation that was interrupted has made nothing, and may
    /// be run again.
    ///
    /// # Errors
    /// [`RepositoryError::AlreadyExists`] when there is a repository; [`RepositoryError::Unsuitable`]
    /// when the store cannot hold one.
    pub async fn create(
        store: Store,
        device: DeviceId,
        slots: &[NewSlot<'_>],
        options: CreateOptions,
    ) -> Result<Repository> {
        let invalid = |what: &str| RepositoryError::InvalidArgument { what: what.to_owned() };
        if slots.is_empty() {
            return Err(invalid("a repository needs at least one way in"));
        }
        if !EXTENT_BYTES.contains(&options.extent_size) || !options.extent_size.is_power_of_two() {
            return Err(invalid("the extent size is a power of two from 4 KiB to 1 MiB"));
        }
        match store.get(ROOT_PATH).await {
            Ok(_) => return Err(RepositoryError::AlreadyExists { path: ROOT_PATH.to_owned() }),
            Err(RepositoryError::NotFound { .. }) => {}
            Err(other) => return Err(other),
        }
        let probe = store.probe().await?;
        let unsuitable = |what: &str| Err(RepositoryError::Unsuitable { what: what.to_owned() });
        if !probe.range_get {
            return unsuitable("it does not return the requested part of an object");
        }
        if !probe.list_after_write {
            return unsuitable("it does not list an object that it has just stored");
        }
        if !probe.put_if_absent && !options.allow_unconditional_put {
            return unsuitable("it overwrites an object that must only be stored if absent");
        }

        let id = Uuid::new_v4();
        let key = RepositoryKey::generate()?;
        let root = key.root_signer(id)?;
        let keys = Keys::of(key, id, device)?;
        let document = RootDocument::new(id, &keys.writer.sealing, &root, options.extent_size);
        let root_bytes = signed::sign(ROOT_PATH, &document, &root)?;
        let repository = Self::assemble(store, document, keys, options.kdf, None);

        let mut written = Vec::new();
        for slot in slots {
            let document =
                repository.wrap(slot, slot.default_label().to_owned(), options.kdf).await;
            let outcome = match document {
                Ok(document) => repository.write_slot(&document, &mut written).await,
                Err(error) => Err(error),
            };
            if let Err(error) = outcome {
                repository.take_back(&written).await;
                return Err(error);
            }
        }
        let certificate = WriterCertificate::path(repository.inner.writer.signer.public());
        written.push(certificate);
        if let Err(error) = repository.certify_self().await {
            repository.take_back(&written).await;
            return Err(error);
        }
        // Whether the last put has happened may be unknown: then nothing is taken back.
        match repository.inner.store.put_new(ROOT_PATH, root_bytes).await {
            Ok(()) => Ok(repository),
            Err(error) => {
                // Only when it is certain that another one's document is there.
                if matches!(error, RepositoryError::AlreadyExists { .. }) {
                    repository.take_back(&written).await;
                }
                Err(error)
            }
        }
    }

    /// Opens a repository with the repository key, which `unlock` finds in one of the slots. Nothing is written
    /// to it.
    ///
    /// # Errors
    /// [`RepositoryError::NotARepository`], [`RepositoryError::WrongKey`] (before anything else is
    /// read), [`RepositoryError::Corrupt`] when `holdfast.json` or the only fitting slot is damaged.
    pub async fn open_to_read(
        store: Store,
        device: DeviceId,
        unlock: Unlock<'_>,
    ) -> Result<Repository> {
        let document = read_root(&store).await?;
        let secret = unlock.secret()?;
        let (slots, damaged) = read_slots(&store, &document).await?;
        let Some((slot, key)) = find(slots, unlock.kind(), secret).await? else {
            return Err(damaged.into_iter().next().unwrap_or(RepositoryError::WrongKey));
        };
        let keys = Keys::of(key, document.repository, device)?;
        let root = keys.owner.as_ref().map(|owner| hex(owner.root.public()));
        if root.as_ref() != Some(&document.root_public_key)
            || hex(&keys.writer.sealing.to_bytes()) != document.sealing_public_key
        {
            return Err(replaced());
        }
        Ok(Self::assemble(store, document, keys, KdfParams::RECOMMENDED, Some(slot)))
    }

    /// Opens a repository as an owner who may also write to it.
    ///
    /// # Errors
    /// As [`Repository::open_to_read`].
    pub async fn open(store: Store, device: DeviceId, unlock: Unlock<'_>) -> Result<Repository> {
        let repository = Self::open_to_read(store, device, unlock).await?;
        match repository.certify_self().await {
            // Whoever may not write needs no certificate.
            Err(error @ RepositoryError::Permission { .. }) => {
                tracing::info!(%error, "this device is not certified as a writer");
            }
            other => other?,
        }
        Ok(repository)
    }

    /// The id of the repository in a store, as it says: nothing is proven without a key.
    ///
    /// # Errors
    /// [`RepositoryError::NotARepository`], [`RepositoryError::Corrupt`], and what the store says.
    pub async fn identify(store: &Store) -> Result<Uuid> {
        Ok(read_root(store).await?.repository)
    }

    /// Opens a repository for adding only: what an agent beside a server does. Sealed content
    /// cannot be read, and slots cannot be changed.
    ///
    /// # Errors
    /// [`RepositoryError::WrongKey`] when the key belongs to another repository;
    /// [`RepositoryError::UntrustedWriter`] when no owner has certified it.
    pub async fn open_for_writing(store: Store, key: &WriterKey) -> Result<Repository> {
        let document = read_root(&store).await?;
        let keys = key.keys()?;
        if document.repository != keys.repository {
            return Err(RepositoryError::WrongKey);
        }
        if document.sealing_public_key != hex(&keys.sealing.to_bytes())
            || document.root_public_key != hex(&keys.root)
        {
            return Err(replaced());
        }
        let public = *keys.signer.public();
        let keys = Keys { writer: keys, reader: None, owner: None };
        let repository = Self::assemble(store, document, keys, KdfParams::RECOMMENDED, None);
        repository.role_of(ROOT_PATH, &public).await?;
        Ok(repository)
    }

    fn assemble(
        store: Store,
        root: RootDocument,
        Keys { writer, reader, owner }: Keys,
        kdf: KdfParams,
        opened_with: Option<Uuid>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                store,
                root,
                writer,
                reader,
                owner,
                codec: Codec::default(),
                trusted: RwLock::default(),
                index: tokio::sync::Mutex::default(),
                kdf,
                opened_with,
            }),
        }
    }

    /// The same repository in another store.
    ///
    /// # Errors
    /// [`RepositoryError::KeyRequired`] without the repository key.
    pub fn at(&self, store: Store) -> Result<Repository> {
        let owner = self.owner("opening another copy")?;
        let keys = Keys::of(owner.key.duplicate(), self.id(), self.device())?;
        let (kdf, slot) = (self.inner.kdf, self.inner.opened_with);
        Ok(Self::assemble(store, self.inner.root.clone(), keys, kdf, slot))
    }

    /// The repository's id.
    pub fn id(&self) -> Uuid {
        self.inner.root.repository
    }

    /// The store beneath.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Which device writes here.
    pub fn device(&self) -> DeviceId {
        self.inner.writer.device
    }

    /// The Ed25519 key that signs `holdfast.json`, slots and certificates, hex: whoever holds a copy of it
    /// tells this repository from one that was put in its place.
    pub fn root_public_key(&self) -> &str {
        &self.inner.root.root_public_key
    }

    /// The X25519 key that content is sealed to, hex.
    pub fn sealing_public_key(&self) -> &str {
        &self.inner.root.sealing_public_key
    }

    /// Bytes of an extent.
    pub fn extent_size(&self) -> usize {
        self.inner.root.extent_size as usize
    }

    /// The name that content has, or would have, as an extent: what two places hold can be compared
    /// without reading either from the store.
    pub fn extent_id(&self, content: &[u8]) -> ExtentId {
        self.inner.writer.extent_id(content)
    }

    /// Whether stored content can be decrypted with the keys at hand.
    pub fn can_read(&self) -> bool {
        self.inner.reader.is_some()
    }

    /// Makes sure of [`Repository::can_read`], for an `operation` that would fail on it later.
    ///
    /// # Errors
    /// [`RepositoryError::KeyRequired`].
    pub fn must_read(&self, operation: &'static str) -> Result<()> {
        if self.can_read() { Ok(()) } else { Err(RepositoryError::KeyRequired { operation }) }
    }

    pub(crate) fn owner(&self, operation: &'static str) -> Result<&Owner> {
        self.inner.owner.as_ref().ok_or(RepositoryError::KeyRequired { operation })
    }

    /// Removes what a creation, or an added slot, has written before it failed.
    pub(crate) async fn take_back(&self, written: &[String]) {
        for path in written {
            if let Err(error) = self.inner.store.delete(path).await {
                tracing::debug!(%path, %error, "left behind by what failed");
            }
        }
    }
}

fn replaced() -> RepositoryError {
    RepositoryError::corrupt(ROOT_PATH, "its keys are not those of the repository: it was replaced")
}

pub(crate) async fn read_root(store: &Store) -> Result<RootDocument> {
    match store.get_limited(ROOT_PATH, MAX_SIGNED_BYTES).await {
        Ok(bytes) => RootDocument::parse(&bytes),
        Err(RepositoryError::NotFound { .. }) => {
            Err(RepositoryError::NotARepository { location: store.location().to_owned() })
        }
        Err(error) => Err(error),
    }
}
