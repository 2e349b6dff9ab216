//! The ways into a repository: listed, added, removed, and their secrets replaced.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
pub use holdfast_repository::PublicKey;
use holdfast_repository::{
    KeySlot, NewSlot, PrivateKey, Repository, RepositoryUrl, SlotKind, Unlock,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::Engine;
use crate::catalog::repositories::{RepositorySummary, UnlockSource};
use crate::error::{EngineError, Result};
use crate::home::machine_name;
use crate::recovery_sheet::RecoverySheet;
use crate::secret_file::SecretFile;
use crate::secrets;

/// A way in, as it is listed.
#[derive(Debug, Clone, Serialize, ts_rs::TS)]
#[ts(rename = "KeySlot")]
pub struct ListedSlot {
    /// The slot's id.
    #[ts(type = "string")]
    pub id: Uuid,
    /// What opens it.
    #[ts(type = "\"passphrase\" | \"recovery-key\" | \"keychain\" | \"public-key\"")]
    pub kind: SlotKind,
    /// What it is called.
    pub label: String,
    /// By the clock of the device that added it.
    #[ts(type = "string")]
    pub created_at: DateTime<Utc>,
    /// Whose it is, of a slot for a public key: 64 hex digits.
    pub public_key: Option<String>,
    /// Whether this one has opened the repository now.
    pub opened: bool,
}

/// What is to open a slot.
#[derive(Debug)]
pub enum NewKey {
    /// This passphrase.
    Passphrase(SecretString),
    /// A fresh key in this device's keychain, in place of what it held for this repository.
    Keychain,
    /// A fresh recovery key, written to this new file.
    RecoveryKey(PathBuf),
    /// The private half of this key, which somebody else holds.
    PublicKey(PublicKey),
}

impl NewKey {
    fn kind(&self) -> SlotKind {
        match self {
            Self::Passphrase(_) => SlotKind::Passphrase,
            Self::Keychain => SlotKind::Keychain,
            Self::RecoveryKey(_) => SlotKind::RecoveryKey,
            Self::PublicKey(_) => SlotKind::PublicKey,
        }
    }
}

/// What removing a slot means, for whoever did it.
pub const REMOVING_MEANS: &str = "What opened this slot opens the repository no more. The repository's own key is \
     unchanged: whoever opened it before may have kept a copy of that key, and can read what they can still reach.";

/// A slot is gone.
#[derive(Debug, Clone, Serialize, ts_rs::TS)]
pub struct RemovedKey {
    /// The slot's id.
    #[ts(type = "string")]
    pub removed: Uuid,
    /// What this does and does not mean.
    pub means: String,
    /// The ways in that are left.
    pub left: Vec<ListedSlot>,
}

/// A slot's secret is replaced.
#[derive(Debug, Clone, Serialize, ts_rs::TS)]
pub struct RotatedKey {
    /// The slot whose secret opens nothing any more.
    #[ts(type = "string")]
    pub removed: Uuid,
    /// What this does and does not mean.
    pub means: String,
    /// The slot in its place.
    pub added: ListedSlot,
}

/// A person's key pair was made.
#[derive(Debug, Clone, Serialize, ts_rs::TS)]
pub struct MadeKeyPair {
    /// What to hand out, a line of text.
    pub public_key: String,
    /// Where the private key is: a file, or the OS keychain when there is none.
    #[ts(type = "string | null")]
    pub private_key_file: Option<PathBuf>,
}

impl Engine {
    /// The ways in, oldest first.
    ///
    /// # Errors
    /// When the repository cannot be opened or listed.
    pub async fn key_slots(&self, summary: &RepositorySummary) -> Result<Vec<ListedSlot>> {
        let repository = self.open_repository(summary).await?;
        let opened = repository.opened_with();
        Ok(repository.slots().await?.into_iter().map(|slot| listed(slot, opened)).collect())
    }

    /// Adds a way in. When it returns, it has been shown to open.
    ///
    /// # Errors
    /// When the repository cannot be opened, the slot cannot be written or does not open; nothing is added.
    pub async fn add_key_slot(
        &self,
        summary: &RepositorySummary,
        key: &NewKey,
        label: Option<&str>,
    ) -> Result<ListedSlot> {
        let repository = self.open_repository(summary).await?;
        let slot = self.add_slot(summary, &repository, key, label).await?;
        Ok(listed(slot, repository.opened_with()))
    }

    /// Removes a way in.
    ///
    /// # Errors
    /// Refused for the last one; and, unless `force`d, when nothing would be left that works on a new
    /// machine, without a given device's keychain or a given person's key pair.
    pub async fn remove_key_slot(
        &self,
        summary: &RepositorySummary,
        slot: &str,
        force: bool,
    ) -> Result<RemovedKey> {
        let repository = self.open_repository(summary).await?;
        let removed = slot_id(slot)?;
        let before = repository.slots().await?;
        let portable =
            |slot: &&KeySlot| matches!(slot.kind, SlotKind::Passphrase | SlotKind::RecoveryKey);
        let last_portable = before.iter().filter(portable).all(|slot| slot.id == removed);
        let is_portable = before.iter().filter(portable).any(|slot| slot.id == removed);
        if is_portable && last_portable && before.len() > 1 && !force {
            return Err(EngineError::refused(
                "last_portable_key_slot",
                "the slots that would be left open only on a certain device or for a certain person",
                "Add a passphrase or a recovery key first: without one, the loss of those devices is the loss of \
                 every backup. --force removes the slot all the same.",
            ));
        }
        repository.remove_slot(removed).await?;
        let left = self.key_slots(summary).await?;
        Ok(RemovedKey { removed, means: REMOVING_MEANS.to_owned(), left })
    }

    /// Replaces the secret of a slot: the new slot is there and has been shown to open before the old one is
    /// removed. Takes seconds whatever the repository holds.
    ///
    /// # Errors
    /// Refused when the key is of another kind than the slot's, or the keychain of this device is not what
    /// opens it. When the old slot could not be removed, both open, and the error says so.
    pub async fn rotate_key_slot(
        &self,
        summary: &RepositorySummary,
        slot: &str,
        key: &NewKey,
    ) -> Result<RotatedKey> {
        let repository = self.open_repository(summary).await?;
        let id = slot_id(slot)?;
        let old = repository
            .slots()
            .await?
            .into_iter()
            .find(|found| found.id == id)
            .ok_or_else(|| EngineError::NotFound { what: "key slot", name: slot.to_owned() })?;
        if old.kind != key.kind() {
            return Err(EngineError::usage(
                format!("the slot is of kind {}, the new secret is not", old.kind.name()),
                "A passphrase is replaced with --new-passphrase or --new-passphrase-file, a recovery key with \
                 --recovery-key-out, a public key with --public-key, a keychain's key with none of them.",
            ));
        }
        if let NewKey::Passphrase(new) = key
            && repository.slot_opened_by(Unlock::Passphrase(new)).await? == Some(id)
        {
            return Err(EngineError::usage(
                "the new passphrase is the one that the slot has",
                "Choose another one.",
            ));
        }
        if old.kind == SlotKind::Keychain {
            let held = secrets::kept_repository_key(summary.id, &summary.url).await?;
            if repository.slot_opened_by(Unlock::Wrapping(&held)).await? != Some(id) {
                return Err(EngineError::refused(
                    "key_of_another_device",
                    "this slot is opened by another device's keychain",
                    "Rotate it on that device, or remove it with `holdfast repo keys remove`.",
                ));
            }
        }
        let added = self.add_slot(summary, &repository, key, Some(&old.label)).await?;
        if let Err(error) = repository.remove_slot(id).await {
            tracing::warn!(slot = %id, added = %added.id, "the new secret opens, and the old one still does");
            return Err(error.into());
        }
        Ok(RotatedKey {
            removed: id,
            means: REMOVING_MEANS.to_owned(),
            added: listed(added, repository.opened_with()),
        })
    }

    async fn add_slot(
        &self,
        summary: &RepositorySummary,
        repository: &Repository,
        key: &NewKey,
        label: Option<&str>,
    ) -> Result<KeySlot> {
        let add = async |new: NewSlot<'_>| {
            let label = label.unwrap_or_else(|| new.default_label());
            repository.add_slot(new, label).await.map_err(EngineError::from)
        };
        match key {
            NewKey::Passphrase(passphrase) if passphrase.expose_secret().is_empty() => {
                Err(EngineError::usage("the new passphrase is empty", "Choose one."))
            }
            NewKey::Passphrase(passphrase) => add(NewSlot::Passphrase(passphrase)).await,
            NewKey::PublicKey(public) => add(NewSlot::PublicKey(public)).await,
            NewKey::RecoveryKey(path) => {
                let sheet = RecoverySheet::begin(path, &RepositoryUrl::parse(&summary.url)?)?;
                let slot = add(NewSlot::RecoveryKey(&sheet.key)).await?;
                sheet.finish(repository)?;
                Ok(slot)
            }
            NewKey::Keychain => {
                let slot = add_keychain_slot(repository, label).await?;
                let updated =
                    RepositorySummary { unlock: UnlockSource::Keychain, ..summary.clone() };
                self.catalog().put_repository(&updated).await?;
                self.list_repositories().await?;
                Ok(slot)
            }
        }
    }
}

/// Makes a key pair of this person: the private key goes to a new file, or to the OS keychain when none is
/// named; the public key to a new file, to be handed to whoever administers a repository.
///
/// # Errors
/// Refused when a file exists, or the keychain holds a key pair already.
pub async fn generate_key_pair(
    public_key_file: &Path,
    private_key_file: Option<&Path>,
) -> Result<MadeKeyPair> {
    let private = PrivateKey::generate()?;
    let public_key = private.public().to_string();
    let mut public_file = SecretFile::create(public_key_file)?;
    public_file.write(&format!("{public_key}\n"))?;
    match private_key_file {
        Some(path) => {
            let mut file = SecretFile::create(path)?;
            file.write(&format!("{}\n", private.display().expose_secret()))?;
            file.keep();
        }
        None => secrets::keep_private_key(&private).await?,
    }
    public_file.keep();
    Ok(MadeKeyPair { public_key, private_key_file: private_key_file.map(Path::to_path_buf) })
}

/// A slot whose key this device's keychain keeps. The slot first: a key in the keychain replaces the one
/// that opened an earlier slot, so there must be something for it to open.
pub(crate) async fn add_keychain_slot(
    repository: &Repository,
    label: Option<&str>,
) -> Result<KeySlot> {
    let wrapping = fresh_wrapping_key()?;
    let label = label.map_or_else(machine_name, ToOwned::to_owned);
    let slot = repository.add_slot(NewSlot::Keychain(&wrapping), label).await?;
    if let Err(error) = secrets::keep_repository_key(repository.id(), &wrapping).await {
        if let Err(error) = repository.remove_slot(slot.id).await {
            tracing::warn!(slot = %slot.id, %error, "a key slot that nothing opens was left behind");
        }
        return Err(error);
    }
    Ok(slot)
}

pub(crate) fn fresh_wrapping_key() -> Result<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0_u8; 32]);
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut *key)
        .map_err(|_| EngineError::Fault("the operating system gave no random bytes".to_owned()))?;
    Ok(key)
}

fn slot_id(text: &str) -> Result<Uuid> {
    text.parse().map_err(|_| EngineError::NotFound { what: "key slot", name: text.to_owned() })
}

fn listed(slot: KeySlot, opened: Option<Uuid>) -> ListedSlot {
    ListedSlot {
        id: slot.id,
        kind: slot.kind,
        label: slot.label,
        created_at: slot.created_at,
        public_key: slot.public_key,
        opened: opened == Some(slot.id),
    }
}
