//! The ways into a repository: listing, adding, proving and removing key slots.

use std::sync::Arc;

use uuid::Uuid;

use crate::error::{RepositoryError, Result};
use crate::keys::RepositoryKey;
use crate::repository::Repository;
use crate::root::{KEYS_PREFIX, KeyDocument, RootDocument, read_key_document};
use crate::signed::MAX_SIGNED_BYTES;
use crate::slots::{
    KdfParams, KeySlot, NewSlot, SlotDocument, SlotKind, SlotSecret, Unlock, parse_slot_path,
    slot_path,
};
use crate::store::Store;

impl Repository {
    /// The ways in, oldest first. Damaged slots are left out: verification names them.
    ///
    /// # Errors
    /// What the store says.
    pub async fn slots(&self) -> Result<Vec<KeySlot>> {
        let (slots, damaged) = read_slots(self.store(), &self.inner.root).await?;
        for error in damaged {
            tracing::warn!(%error, "a key slot cannot be used");
        }
        let mut slots: Vec<KeySlot> = slots.iter().map(SlotDocument::describe).collect();
        slots.sort_by_key(|slot| (slot.created_at, slot.id));
        Ok(slots)
    }

    /// The slot that opened it; none for a repository that was made this moment, or that was opened for
    /// adding only.
    pub fn opened_with(&self) -> Option<Uuid> {
        self.inner.opened_with
    }

    /// Which slot this secret opens, if any. Takes as long as opening the repository with it.
    ///
    /// # Errors
    /// What the store says; a recovery key with a typing mistake.
    pub async fn slot_opened_by(&self, unlock: Unlock<'_>) -> Result<Option<Uuid>> {
        let (slots, _) = read_slots(self.store(), &self.inner.root).await?;
        Ok(find(slots, unlock.kind(), unlock.secret()?).await?.map(|(slot, _)| slot))
    }

    /// Adds a way in. When it returns, the slot has been read back, and its secret has been shown to open
    /// it; for a public key only that the slot is there as it was written, since the secret is elsewhere.
    ///
    /// # Errors
    /// [`RepositoryError::KeyRequired`] without the repository key. The slot is taken back when it cannot be
    /// shown to open.
    pub async fn add_slot(&self, slot: NewSlot<'_>, label: impl Into<String>) -> Result<KeySlot> {
        let document = self.wrap(&slot, label.into(), self.inner.kdf).await?;
        let mut written = Vec::new();
        let proven = match self.write_slot(&document, &mut written).await {
            Ok(()) => self.prove(&document, slot.secret()).await,
            Err(error) => Err(error),
        };
        if let Err(error) = proven {
            self.take_back(&written).await;
            return Err(error);
        }
        Ok(document.describe())
    }

    /// Removes a way in. Whoever had its secret may have kept the repository key: this ends a way in, and
    /// changes no key.
    ///
    /// # Errors
    /// [`RepositoryError::LastSlot`] when no other usable one would be left.
    pub async fn remove_slot(&self, id: Uuid) -> Result<()> {
        self.owner("removing a key slot")?;
        let slots = self.slots().await?;
        let path = slot_path(id);
        if !slots.iter().any(|slot| slot.id == id) {
            // A damaged one is no way in and may go.
            self.store().head(&path).await?;
            return self.store().delete(&path).await;
        }
        if slots.len() < 2 {
            return Err(RepositoryError::LastSlot);
        }
        let removed = self.store().get_limited(&path, MAX_SIGNED_BYTES).await?;
        self.store().delete(&path).await?;
        // Two who each remove one of the last two: both look after they removed, so at least one of them
        // sees that none is left, and puts its own back.
        if self.slots().await?.is_empty() {
            self.store().put_new(&path, removed).await?;
            return Err(RepositoryError::LastSlot);
        }
        Ok(())
    }

    /// Makes a slot's document; slow for passphrases.
    pub(crate) async fn wrap(
        &self,
        slot: &NewSlot<'_>,
        label: String,
        kdf: KdfParams,
    ) -> Result<SlotDocument> {
        self.owner("adding a key slot")?;
        let (kind, secret) = (slot.kind(), slot.secret());
        let repository = self.clone();
        tokio::task::spawn_blocking(move || {
            let owner = repository.owner("adding a key slot")?;
            SlotDocument::wrap(
                repository.id(),
                &owner.root,
                &owner.key,
                (kind, &secret),
                label,
                kdf,
            )
        })
        .await
        .map_err(RepositoryError::worker)?
    }

    pub(crate) async fn write_slot(
        &self,
        slot: &SlotDocument,
        written: &mut Vec<String>,
    ) -> Result<()> {
        let bytes = slot.encode(&self.owner("adding a key slot")?.root)?;
        written.push(slot.path());
        self.store().put_new(&slot.path(), bytes).await
    }

    /// Reads a slot back and opens it.
    async fn prove(&self, written: &SlotDocument, secret: SlotSecret) -> Result<()> {
        let path = written.path();
        let bytes = self.store().get_limited(&path, MAX_SIGNED_BYTES).await?;
        let fails = || RepositoryError::corrupt(&path, "read back, it is not what was written");
        let KeyDocument::Own(slot) = read_slot(&path, written.id, &bytes, &self.inner.root)? else {
            return Err(fails());
        };
        if slot != *written {
            return Err(fails());
        }
        if slot.kind == SlotKind::PublicKey {
            return Ok(());
        }
        match find(vec![slot], written.kind, secret).await? {
            Some((_, key)) if key.as_bytes() == self.owner("adding a key slot")?.key.as_bytes() => {
                Ok(())
            }
            _ => Err(RepositoryError::corrupt(&path, "its secret does not open it")),
        }
    }
}

/// The first of `slots` that opens, and the key in it. Slots of other kinds are not tried.
pub(crate) async fn find(
    slots: Vec<SlotDocument>,
    kind: SlotKind,
    secret: SlotSecret,
) -> Result<Option<(Uuid, RepositoryKey)>> {
    let secret = Arc::new(secret);
    for slot in slots.into_iter().filter(|slot| slot.kind == kind) {
        let (id, secret) = (slot.id, Arc::clone(&secret));
        let key = tokio::task::spawn_blocking(move || slot.unwrap(&secret))
            .await
            .map_err(RepositoryError::worker)??;
        if let Some(key) = key {
            return Ok(Some((id, key)));
        }
    }
    Ok(None)
}

/// The usable slots, and what is wrong with the others.
pub(crate) async fn read_slots(
    store: &Store,
    root: &RootDocument,
) -> Result<(Vec<SlotDocument>, Vec<RepositoryError>)> {
    let mut slots = Vec::new();
    let mut damaged = Vec::new();
    for entry in store.list(KEYS_PREFIX).await? {
        let Some(id) = parse_slot_path(&entry.path) else { continue };
        let bytes = match store.get_limited(&entry.path, MAX_SIGNED_BYTES).await {
            Ok(bytes) => bytes,
            Err(RepositoryError::NotFound { .. }) => continue,
            Err(error @ RepositoryError::Corrupt { .. }) => {
                damaged.push(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        match read_slot(&entry.path, id, &bytes, root) {
            Ok(KeyDocument::Own(slot)) => slots.push(slot),
            Ok(KeyDocument::Foreign) => {}
            Err(error) => damaged.push(error),
        }
    }
    Ok((slots, damaged))
}

/// One slot from its bytes.
pub(crate) fn read_slot(
    path: &str,
    id: Uuid,
    bytes: &[u8],
    root: &RootDocument,
) -> Result<KeyDocument<SlotDocument>> {
    let document = read_key_document(
        path,
        bytes,
        root,
        |slot: &SlotDocument| slot.repository,
        |slot| crate::crypto::from_hex(&slot.root_public_key),
    )?;
    if let KeyDocument::Own(slot) = &document
        && slot.id != id
    {
        return Err(RepositoryError::corrupt(path, "it is another slot's file"));
    }
    Ok(document)
}
