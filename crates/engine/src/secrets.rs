//! Where secrets come from: the operating system's keychain, or what the caller brought.
//!
//! Secrets are written and used, never read back to a front end. A keychain that is not there is
//! an error with a way out; nothing falls back silently and no key is ever minted because another
//! was not found.

use std::sync::Arc;

use holdfast_repository::{DeviceId, Repository, RepositoryError, Store, Unlock};
pub use holdfast_repository::{PrivateKey, WriterKey};
use holdfast_wire::Dsn;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::catalog::repositories::{RepositorySummary, UnlockSource};
use crate::error::{EngineError, Result};

const SERVICE: &str = "holdfast";

/// What the caller brought: read from the environment or from files, never from a command line.
#[derive(Default)]
pub struct GivenSecrets {
    /// `HOLDFAST_PASSPHRASE` or `--passphrase-file`.
    pub passphrase: Option<SecretString>,
    /// `--recovery-key-file`.
    pub recovery_key: Option<SecretString>,
    /// `--private-key-file`.
    pub private_key: Option<Arc<PrivateKey>>,
    /// `--writer-key-file`: opens a repository for adding only, whatever else was brought.
    pub writer_key: Option<Arc<WriterKey>>,
}

/// What to do about a repository that is locked.
pub(crate) const HOW_TO_GIVE_A_KEY: &str = "Set HOLDFAST_PASSPHRASE, or pass --passphrase-file, --recovery-key-file, --private-key-file or, for adding only, --writer-key-file.";

impl std::fmt::Debug for GivenSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GivenSecrets")
            .field("passphrase", &self.passphrase.is_some())
            .field("recovery_key", &self.recovery_key.is_some())
            .field("private_key", &self.private_key.is_some())
            .field("writer_key", &self.writer_key.is_some())
            .finish()
    }
}

/// Whether the keychain works, found out by writing, reading and deleting.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct SecretStoreStatus {
    /// What secrets are kept in.
    pub kind: SecretStoreKind,
    /// A sentence for the status bar.
    pub message: String,
}

/// What secrets are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum SecretStoreKind {
    /// The operating system's keychain answers.
    Keychain,
    /// It does not.
    Unavailable,
}

fn unavailable(error: &keyring::v1::Error) -> EngineError {
    EngineError::NotPermitted {
        code: "keychain_unavailable",
        message: format!("the OS keychain cannot be used: {error}"),
        hint: "Unlock it or start its service (on Linux a Secret Service such as gnome-keyring), then restart \
               Holdfast; or give the passphrase with HOLDFAST_PASSPHRASE or --passphrase-file."
            .to_owned(),
    }
}

/// Runs a keychain call off the async runtime: it may wait for a person to unlock it.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(call)
        .await
        .map_err(|e| EngineError::Fault(format!("keychain call: {e}")))?
}

fn entry(account: &str) -> Result<keyring::v1::Entry> {
    keyring::v1::Entry::new(SERVICE, account).map_err(|e| unavailable(&e))
}

async fn store(account: String, secret: SecretString) -> Result<()> {
    blocking(move || {
        entry(&account)?.set_password(secret.expose_secret()).map_err(|e| unavailable(&e))
    })
    .await
}

async fn load(account: String) -> Result<Option<SecretString>> {
    blocking(move || match entry(&account)?.get_password() {
        Ok(text) => Ok(Some(SecretString::from(text))),
        Err(keyring::v1::Error::NoEntry) => Ok(None),
        Err(e) => Err(unavailable(&e)),
    })
    .await
}

async fn delete(account: String) -> Result<()> {
    blocking(move || match entry(&account)?.delete_credential() {
        Ok(()) | Err(keyring::v1::Error::NoEntry) => Ok(()),
        Err(e) => Err(unavailable(&e)),
    })
    .await
}

/// Finds out whether the keychain works: without a collection a *get* answers "no entry", so only
/// a write, a read and a delete tell.
pub async fn probe_keychain() -> SecretStoreStatus {
    let account = format!("probe/{}", Uuid::new_v4());
    let probed = async {
        store(account.clone(), SecretString::from("probe".to_owned())).await?;
        let found = load(account.clone()).await?;
        delete(account).await?;
        if found.is_some() {
            Ok(())
        } else {
            Err(EngineError::Fault("the keychain lost what was written".to_owned()))
        }
    };
    match probed.await {
        Ok(()) => SecretStoreStatus {
            kind: SecretStoreKind::Keychain,
            message: "Secrets are kept in the OS keychain".to_owned(),
        },
        Err(error) => SecretStoreStatus {
            kind: SecretStoreKind::Unavailable,
            message: error.to_object().message,
        },
    }
}

fn repository_account(id: Uuid) -> String {
    format!("repository/{id}")
}

fn cluster_account(id: Uuid) -> String {
    format!("cluster/{id}")
}

/// Keeps the wrapping key of a repository's keychain slot.
pub(crate) async fn keep_repository_key(id: Uuid, wrapping: &[u8; 32]) -> Result<()> {
    let text = data_encoding::HEXLOWER.encode(wrapping);
    store(repository_account(id), SecretString::from(text)).await
}

/// Where a person's own private key is, whatever the repository.
const KEY_PAIR_ACCOUNT: &str = "key-pair";

/// Keeps this person's private key; refused when there is one, which may be the only way into something.
pub(crate) async fn keep_private_key(key: &PrivateKey) -> Result<()> {
    if load(KEY_PAIR_ACCOUNT.to_owned()).await?.is_some() {
        return Err(EngineError::refused(
            "key_pair_exists",
            "the OS keychain holds a key pair of yours already",
            "Use its public key, or keep another pair in a file: --private-key-out FILE.",
        ));
    }
    store(KEY_PAIR_ACCOUNT.to_owned(), key.display()).await
}

/// This person's private key, if the keychain has one. No keychain is the same as none.
pub(crate) async fn kept_private_key() -> Result<Option<HeldUnlock>> {
    let Some(text) = load(KEY_PAIR_ACCOUNT.to_owned()).await.unwrap_or_default() else {
        return Ok(None);
    };
    let key = PrivateKey::parse(text.expose_secret())?;
    Ok(Some(HeldUnlock::PrivateKey(Arc::new(key))))
}

/// The wrapping key of a repository's keychain slot on this device.
pub(crate) async fn kept_repository_key(id: Uuid, url: &str) -> Result<Zeroizing<[u8; 32]>> {
    let text =
        load(repository_account(id)).await?.ok_or_else(|| EngineError::NotPermitted {
            code: "key_not_in_keychain",
            message: format!("the OS keychain holds no key for the repository {url}"),
            hint: "Give the passphrase (HOLDFAST_PASSPHRASE or --passphrase-file) or the printed recovery key \
                   (--recovery-key-file). No new key was made."
                .to_owned(),
        })?;
    let mut key = Zeroizing::new([0u8; 32]);
    match data_encoding::HEXLOWER.decode_len(text.expose_secret().len()) {
        Ok(32)
            if data_encoding::HEXLOWER
                .decode_mut(text.expose_secret().as_bytes(), &mut *key)
                .is_ok() =>
        {
            Ok(key)
        }
        _ => Err(EngineError::integrity(
            "keychain_key_damaged",
            "what the OS keychain holds for this repository is not a key",
            "Open the repository with the passphrase or the recovery key.",
        )),
    }
}

/// Keeps a cluster's database password.
pub(crate) async fn keep_password(cluster: Uuid, password: SecretString) -> Result<()> {
    store(cluster_account(cluster), password).await
}

/// Forgets a cluster's database password, if one was kept.
pub(crate) async fn forget_password(cluster: Uuid) -> Result<()> {
    delete(cluster_account(cluster)).await
}

/// The database password: what libpq would find first (`PGPASSWORD`, the passfile), then the keychain.
pub(crate) async fn password_for(cluster: Option<Uuid>, dsn: &Dsn) -> Result<Option<SecretString>> {
    if let Some(password) = dsn.find_password(&|name| std::env::var(name).ok())? {
        return Ok(Some(password));
    }
    let Some(cluster) = cluster else { return Ok(None) };
    // No keychain is no reason to fail: the server may ask for no password at all.
    Ok(load(cluster_account(cluster)).await.unwrap_or_default())
}

/// An unlocking secret that outlives the call that opens the repository.
pub(crate) enum HeldUnlock {
    Passphrase(SecretString),
    RecoveryKey(SecretString),
    Wrapping(Zeroizing<[u8; 32]>),
    PrivateKey(Arc<PrivateKey>),
    /// Opens it for adding only.
    Writer(Arc<WriterKey>),
}

impl HeldUnlock {
    /// Opens the repository in `store`, to add to it; an agent as what its key says, an owner as `device`.
    pub(crate) async fn open(&self, store: Store, device: DeviceId) -> Result<Repository> {
        Ok(match self {
            Self::Writer(key) => Repository::open_for_writing(store, key).await?,
            _ => Repository::open(store, device, self.reading()?).await?,
        })
    }

    /// What opens it to be read.
    ///
    /// # Errors
    /// Not permitted with a key that only adds.
    pub(crate) fn reading(&self) -> Result<Unlock<'_>> {
        Ok(match self {
            Self::Passphrase(p) => Unlock::Passphrase(p),
            Self::RecoveryKey(k) => Unlock::RecoveryKey(k),
            Self::Wrapping(w) => Unlock::Wrapping(w),
            Self::PrivateKey(k) => Unlock::PrivateKey(k),
            Self::Writer(_) => {
                return Err(RepositoryError::KeyRequired { operation: "looking into it" }.into());
            }
        })
    }
}

/// The secret that opens `repository`: what the caller brought wins over the keychain.
pub(crate) async fn unlock_for(
    given: &GivenSecrets,
    repository: &RepositorySummary,
    demo_passphrase: Option<std::path::PathBuf>,
) -> Result<HeldUnlock> {
    if let (UnlockSource::Demo, Some(path)) = (repository.unlock, demo_passphrase) {
        let text = std::fs::read_to_string(&path).map_err(EngineError::file("read", &path))?;
        return Ok(HeldUnlock::Passphrase(SecretString::from(text)));
    }
    if let Some(held) = given_unlock(given) {
        return Ok(held);
    }
    if repository.unlock == UnlockSource::Keychain {
        let kept = kept_repository_key(repository.id, &repository.url).await;
        return kept.map(HeldUnlock::Wrapping);
    }
    if let Some(held) = kept_private_key().await? {
        return Ok(held);
    }
    Err(EngineError::NotPermitted {
        code: "key_required",
        message: format!("the repository {} is locked and no key was given", repository.url),
        hint: HOW_TO_GIVE_A_KEY.to_owned(),
    })
}

/// What the caller brought, if anything.
pub(crate) fn given_unlock(given: &GivenSecrets) -> Option<HeldUnlock> {
    if let Some(key) = &given.writer_key {
        return Some(HeldUnlock::Writer(Arc::clone(key)));
    }
    if let Some(key) = &given.recovery_key {
        return Some(HeldUnlock::RecoveryKey(key.clone()));
    }
    if let Some(key) = &given.private_key {
        return Some(HeldUnlock::PrivateKey(Arc::clone(key)));
    }
    given.passphrase.as_ref().map(|p| HeldUnlock::Passphrase(p.clone()))
}

impl crate::Engine {
    /// Whether the OS keychain works; looked up once, since a keychain that is not there stays away
    /// for the life of a process.
    pub async fn secret_store(&self) -> SecretStoreStatus {
        self.secret_store_status().get_or_init(probe_keychain).await.clone()
    }
}

/// The password that libpq would find for `dsn`, for a caller who wants it kept in the keychain.
///
/// # Errors
/// A malformed DSN or an unreadable passfile.
pub async fn password_from_environment(dsn: &str) -> Result<Option<SecretString>> {
    password_for(None, &crate::cluster::parse_dsn(dsn)?).await
}
