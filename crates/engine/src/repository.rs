//! Creating, attaching and opening repositories; their key slots.

use std::path::PathBuf;

use chrono::Utc;
use holdfast_repository::{
    CreateOptions, NewSlot, Repository, RepositoryError, RepositoryUrl, Store, StoreProbe,
};
pub use holdfast_repository::{KeySlot, LockMode, StoreLock};
use secrecy::SecretString;
use serde::Serialize;
use uuid::Uuid;

use crate::Engine;
use crate::catalog::repositories::{RepositorySummary, UnlockSource};
use crate::cluster::{Cluster, newest_documents};
use crate::error::{EngineError, Result};
use crate::home::Home;
use crate::keys::{ListedSlot, add_keychain_slot, fresh_wrapping_key};
use crate::recovery_sheet::RecoverySheet;
pub use crate::recovery_sheet::recovery_key_from_text;
use crate::secrets::{self, HeldUnlock};

/// What a new repository is made with.
#[derive(Debug, Default)]
pub struct NewRepository {
    /// Where: a folder, `file://`, `s3://`, `gs://`, `az://`.
    pub url: String,
    /// Adds a slot for this passphrase.
    pub passphrase: Option<SecretString>,
    /// Adds a slot whose key is kept in the OS keychain.
    pub keychain: bool,
    /// Adds a recovery key and writes it, printable, to this new file.
    pub recovery_key_file: Option<PathBuf>,
    /// The demo's throwaway repository.
    pub demo: bool,
}

/// What is known of a repository without reading its contents.
#[derive(Debug, Clone, Serialize, ts_rs::TS)]
pub struct RepositoryStatus {
    /// The repository.
    #[serde(flatten)]
    pub summary: RepositorySummary,
    /// Its key slots.
    pub slots: Vec<ListedSlot>,
    /// What its store honours.
    #[ts(
        type = "{ put_if_absent: boolean; list_after_write: boolean; range_get: boolean; lock: { kind: \"none\" | \"no_rule\" | \"unknown\" } | { kind: \"rule\"; mode: \"governance\" | \"compliance\"; days: number } }"
    )]
    pub store: StoreProbe,
    /// Objects and bytes by the first part of their names.
    pub objects: std::collections::BTreeMap<String, ObjectCount>,
    /// All bytes stored.
    #[ts(type = "number")]
    pub bytes: u64,
}

/// How many objects, how large together.
#[derive(Debug, Clone, Copy, Default, Serialize, ts_rs::TS)]
pub struct ObjectCount {
    /// Their number.
    #[ts(type = "number")]
    pub objects: u64,
    /// Their bytes.
    #[ts(type = "number")]
    pub bytes: u64,
}

impl Engine {
    /// Creates a repository and remembers it.
    ///
    /// # Errors
    /// Refused when there is one already, when no way in was asked for, or when the recovery key's
    /// file exists; nothing is created then.
    pub async fn create_repository(&self, new: NewRepository) -> Result<RepositorySummary> {
        let url = RepositoryUrl::parse(&new.url)?;
        let repository = self.make_repository(&new, &url, CreateOptions::default()).await?;
        let unlock = match (new.demo, new.keychain) {
            (true, _) => UnlockSource::Demo,
            (_, true) => UnlockSource::Keychain,
            _ => UnlockSource::Passphrase,
        };
        self.remember(repository, url.to_string(), unlock).await
    }

    /// Creates a repository without remembering it.
    pub(crate) async fn make_repository(
        &self,
        new: &NewRepository,
        url: &RepositoryUrl,
        options: CreateOptions,
    ) -> Result<Repository> {
        if new.passphrase.is_none() && !new.keychain && new.recovery_key_file.is_none() {
            return Err(EngineError::usage(
                "a repository needs at least one way in",
                "Set HOLDFAST_PASSPHRASE or pass --passphrase-file, use the OS keychain, or write a recovery key with \
                 --recovery-key-out FILE.",
            ));
        }
        let wrapping = new.keychain.then(fresh_wrapping_key).transpose()?;
        if new.keychain {
            let status = secrets::probe_keychain().await;
            if status.kind == secrets::SecretStoreKind::Unavailable {
                return Err(EngineError::NotPermitted {
                    code: "keychain_unavailable",
                    message: status.message,
                    hint: "Unlock the keychain, or create the repository with a passphrase: HOLDFAST_PASSPHRASE or \
                           --passphrase-file."
                        .to_owned(),
                });
            }
        }
        let store = Store::open(url).await?;
        answers(&store).await?;
        // Before the repository: a key that could not be written down must not be the only way in.
        let sheet = new
            .recovery_key_file
            .as_deref()
            .map(|path| RecoverySheet::begin(path, url))
            .transpose()?;
        let mut slots = Vec::new();
        if let Some(passphrase) = &new.passphrase {
            slots.push(NewSlot::Passphrase(passphrase));
        }
        if let Some(wrapping) = &wrapping {
            slots.push(NewSlot::Keychain(wrapping));
        }
        if let Some(sheet) = &sheet {
            slots.push(NewSlot::RecoveryKey(&sheet.key));
        }
        let repository = Repository::create(store, self.home().device()?, &slots, options).await?;
        if let Some(wrapping) = &wrapping
            && let Err(error) = secrets::keep_repository_key(repository.id(), wrapping).await
        {
            take_back(&repository).await;
            return Err(error);
        }
        if let Some(sheet) = sheet {
            sheet.finish(&repository)?;
        }
        Ok(repository)
    }

    /// Makes this machine know an existing repository and its clusters.
    ///
    /// # Errors
    /// When it cannot be reached or none of the given secrets opens it.
    pub async fn attach_repository(
        &self,
        url: &str,
        given: &secrets::GivenSecrets,
        keychain: bool,
    ) -> Result<(RepositorySummary, Vec<Cluster>)> {
        let url = RepositoryUrl::parse(url)?;
        let held = unlock_to_attach(given).await?;
        let repository = open_at(&url, self.home(), &held).await?;
        if keychain {
            add_keychain_slot(&repository, None).await?;
        }
        let unlock = if keychain { UnlockSource::Keychain } else { UnlockSource::Passphrase };
        let summary = self.remember(repository.clone(), url.to_string(), unlock).await?;
        let clusters = self.rebuild_clusters(&repository).await?;
        Ok((summary, clusters))
    }

    /// The repositories this machine knows.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn repositories(&self) -> Result<Vec<RepositorySummary>> {
        self.catalog().repositories().await
    }

    /// Opens the repository with id or URL `which`; without one, the only one there is.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], or usage when there are several.
    pub async fn find_repository(&self, which: Option<&str>) -> Result<RepositorySummary> {
        let all = self.repositories().await?;
        match which {
            Some(which) => {
                let canonical =
                    RepositoryUrl::parse(which).map(|u| u.to_string()).unwrap_or_default();
                all.into_iter()
                    .find(|r| r.id.to_string() == which || r.url == which || r.url == canonical)
                    .ok_or_else(|| EngineError::NotFound {
                        what: "repository",
                        name: which.to_owned(),
                    })
            }
            None if all.len() == 1 => {
                Ok(all.into_iter().next().unwrap_or_else(|| unreachable!("one was counted")))
            }
            None if all.is_empty() => {
                Err(EngineError::NotFound { what: "repository", name: "(any)".to_owned() })
            }
            None => Err(EngineError::usage(
                "there are several repositories",
                format!(
                    "Name one with --repo URL: {}",
                    all.iter().map(|r| r.url.as_str()).collect::<Vec<_>>().join(", ")
                ),
            )),
        }
    }

    /// Unlocks and opens a repository; kept open for the life of the engine.
    ///
    /// # Errors
    /// Key, reachability and integrity errors of the repository.
    pub async fn open_repository(&self, summary: &RepositorySummary) -> Result<Repository> {
        let mut open = self.open_repositories().lock().await;
        if let Some(repository) = open.get(&summary.id) {
            return Ok(repository.clone());
        }
        let url = RepositoryUrl::parse(&summary.url)?;
        let held = secrets::unlock_for(
            self.secrets(),
            summary,
            Some(self.demo_passphrase_path(summary.id)),
        )
        .await?;
        let repository = open_at(&url, self.home(), &held).await?;
        if repository.id() != summary.id {
            return Err(EngineError::integrity(
                "foreign_repository",
                format!(
                    "{} now holds another repository ({}) than the one that was attached",
                    summary.url,
                    repository.id()
                ),
                "Somebody replaced it. Attach it anew only if that was intended: `holdfast repo attach URL`.",
            ));
        }
        open.insert(summary.id, repository.clone());
        Ok(repository)
    }

    pub(crate) async fn repository_by_id(
        &self,
        id: Uuid,
    ) -> Result<(RepositorySummary, Repository)> {
        let summary = self.find_repository(Some(&id.to_string())).await?;
        let repository = self.open_repository(&summary).await?;
        Ok((summary, repository))
    }

    /// What is known of a repository without reading its contents.
    ///
    /// # Errors
    /// When it cannot be opened or listed.
    pub async fn repository_status(&self, summary: RepositorySummary) -> Result<RepositoryStatus> {
        let repository = self.open_repository(&summary).await?;
        let slots = self.key_slots(&summary).await?;
        let store = repository.store().probe().await?;
        let mut objects = std::collections::BTreeMap::<String, ObjectCount>::new();
        let mut bytes = 0;
        for entry in repository.list("").await? {
            let first = entry.path.split('/').next().unwrap_or_default().to_owned();
            let count = objects.entry(first).or_default();
            count.objects += 1;
            count.bytes += entry.size;
            bytes += entry.size;
        }
        Ok(RepositoryStatus { summary, slots, store, objects, bytes })
    }

    pub(crate) async fn remember(
        &self,
        repository: Repository,
        url: String,
        unlock: UnlockSource,
    ) -> Result<RepositorySummary> {
        let summary =
            RepositorySummary { id: repository.id(), url, attached_at: Utc::now(), unlock };
        self.catalog().put_repository(&summary).await?;
        self.list_repositories().await?;
        self.open_repositories().lock().await.insert(summary.id, repository);
        Ok(summary)
    }

    /// Forgets a repository on this machine. What is stored stays, and attaching it again brings everything back.
    /// A key in the OS keychain stays as well: it may be the only one.
    ///
    /// # Errors
    /// [`EngineError::NotFound`]; refused while a cluster of this machine is backed up to it.
    pub async fn detach_repository(&self, which: Option<&str>) -> Result<RepositorySummary> {
        let summary = self.find_repository(which).await?;
        let clusters = self.clusters().await?;
        let within: Vec<&str> = clusters
            .iter()
            .filter(|cluster| cluster.repository == summary.id)
            .map(|cluster| cluster.name.as_str())
            .collect();
        if !within.is_empty() {
            return Err(EngineError::refused(
                "repository_has_clusters",
                format!(
                    "{} has the backups of {}, which this machine knows",
                    summary.url,
                    within.join(", ")
                ),
                "Forget the clusters first, with `holdfast cluster remove NAME`: their backups stay in the repository.",
            ));
        }
        self.catalog().forget_repository(summary.id).await?;
        self.list_repositories().await?;
        self.open_repositories().lock().await.remove(&summary.id);
        Ok(summary)
    }

    /// Writes the list of repositories for the commands that do not open the catalog.
    pub(crate) async fn list_repositories(&self) -> Result<()> {
        let list = self.repositories().await?;
        let text =
            serde_json::to_vec_pretty(&list).map_err(|e| EngineError::Fault(e.to_string()))?;
        let path = repository_list(self.home());
        let mut file = tempfile::NamedTempFile::new_in(self.home().root())
            .map_err(EngineError::file("create", &path))?;
        std::io::Write::write_all(&mut file, &text).map_err(EngineError::file("write", &path))?;
        file.persist(&path).map_err(|e| EngineError::file("write", &path)(e.error))?;
        Ok(())
    }

    /// Rebuilds the catalog's clusters from the newest document of each in the repository.
    pub(crate) async fn rebuild_clusters(&self, repository: &Repository) -> Result<Vec<Cluster>> {
        let mut clusters = Vec::new();
        for mut cluster in newest_documents(repository).await? {
            let taken = self.catalog().clusters().await?;
            if taken.iter().any(|c| c.name == cluster.name && c.id != cluster.id) {
                cluster.name = format!("{}-{}", cluster.name, &cluster.id.to_string()[..8]);
            }
            self.catalog().put_cluster(&cluster).await?;
            clusters.push(cluster);
        }
        Ok(clusters)
    }
}

/// What opens a repository that this machine does not know yet.
pub(crate) async fn unlock_to_attach(given: &secrets::GivenSecrets) -> Result<HeldUnlock> {
    match secrets::given_unlock(given) {
        Some(held) => Ok(held),
        None => secrets::kept_private_key().await?.ok_or_else(|| EngineError::NotPermitted {
            code: "key_required",
            message: "opening a repository that this machine does not know needs a key".to_owned(),
            hint:
                "Give its passphrase (HOLDFAST_PASSPHRASE or --passphrase-file), its recovery key \
                   (--recovery-key-file) or your private key (--private-key-file)."
                    .to_owned(),
        }),
    }
}

/// How long a store may take to answer for the first time. Later requests are tried again for minutes;
/// a store that was never there is told at once.
const FIRST_ANSWER: std::time::Duration = std::time::Duration::from_secs(20);

/// Asks the store for the one object that every repository has; whether it is there does not matter yet.
pub(crate) async fn answers(store: &Store) -> Result<()> {
    match tokio::time::timeout(FIRST_ANSWER, store.get("holdfast.json")).await {
        Ok(Ok(_) | Err(RepositoryError::NotFound { .. })) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(RepositoryError::Unreachable {
            operation: "reach",
            path: store.location().to_owned(),
            source: format!("no answer within {} s", FIRST_ANSWER.as_secs()).into(),
        }
        .into()),
    }
}

async fn open_at(url: &RepositoryUrl, home: &Home, held: &HeldUnlock) -> Result<Repository> {
    let store = Store::open(url).await?;
    answers(&store).await?;
    held.open(store, home.device()?).await
}

fn repository_list(home: &Home) -> PathBuf {
    home.root().join("repositories.json")
}

/// The repository that a command means which must not wait for the catalog: the one at the URL `which`,
/// or the only one, with what this home knows of it.
///
/// # Errors
/// Usage when there are several; [`EngineError::NotFound`] when there is none.
pub(crate) fn find_without_catalog(
    home: &Home,
    which: Option<&str>,
) -> Result<(RepositoryUrl, Option<RepositorySummary>)> {
    let path = repository_list(home);
    let known: Vec<RepositorySummary> = match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .map_err(|e| EngineError::Fault(format!("{}: {e}", path.display())))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(EngineError::file("read", &path)(error)),
    };
    let canonical = which.map(RepositoryUrl::parse).transpose()?;
    let summary = match &canonical {
        Some(url) => known.into_iter().find(|r| r.url == url.to_string()),
        None if known.len() == 1 => known.into_iter().next(),
        None => {
            return Err(EngineError::usage(
                format!("this home knows {} repositories", known.len()),
                "Name the repository with --repo URL.",
            ));
        }
    };
    match (summary, canonical) {
        (Some(summary), _) => Ok((RepositoryUrl::parse(&summary.url)?, Some(summary))),
        (None, Some(url)) => Ok((url, None)),
        (None, None) => Err(EngineError::NotFound { what: "repository", name: "(any)".to_owned() }),
    }
}

/// Opens a repository for such a command.
pub(crate) async fn open_without_catalog(
    home: &Home,
    given: &secrets::GivenSecrets,
    which: Option<&str>,
) -> Result<Repository> {
    let (url, summary) = find_without_catalog(home, which)?;
    let held = match summary {
        Some(summary) => secrets::unlock_for(given, &summary, None).await?,
        None => secrets::given_unlock(given).ok_or_else(|| EngineError::NotPermitted {
            code: "key_required",
            message: format!("the repository {url} is locked and no key was given"),
            hint: secrets::HOW_TO_GIVE_A_KEY.to_owned(),
        })?,
    };
    open_at(&url, home, &held).await
}

/// Removes a repository that was made this moment and that nobody could open.
async fn take_back(repository: &Repository) {
    let store = repository.store();
    let Ok(mut entries) = store.list("").await else { return };
    // The root first: without it there is no repository.
    entries.sort_by_key(|e| e.path.contains('/'));
    for entry in entries {
        if let Err(error) = store.delete(&entry.path).await {
            tracing::warn!(path = %entry.path, %error, "left behind by a creation that failed");
        }
    }
}
