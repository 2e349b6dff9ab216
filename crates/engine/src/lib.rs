//! The orchestrator and the recovery engine of Holdfast.
//!
//! Everything the product can do is a method of [`Engine`]; the command, the window and the agent
//! are front ends of it. The promise it keeps: a point shown green has been shown to restore, and
//! a finished restore holds every transaction up to the target and none after it.

pub mod archive;
pub mod backup;
pub mod bundle;
mod catalog;
pub mod cluster;
pub mod demo;
mod disk;
pub mod error;
pub mod find;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod home;
pub mod jobs;
pub mod keys;
mod lease;
pub mod overview;
pub mod points;
pub mod recovery_kit;
mod recovery_sheet;
pub mod rekey;
pub mod replication;
pub mod repository;
pub mod rescue;
pub mod restore;
pub mod retention;
mod secret_file;
pub mod secrets;
pub mod server;
pub mod size;
pub mod snapshot;
mod standing;
pub mod target;
pub mod timeline;
pub mod verify;
pub mod writers;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use catalog::repositories::{RepositorySummary, UnlockSource};
pub use error::{EngineError, ErrorObject, Outcome, Result};
pub use home::Home;

use catalog::Catalog;
use jobs::{ProgressListener, RunningJobs};
use secrets::GivenSecrets;
use server::binaries::ServerBinaries;
use server::identity::RunAs;

/// How long a phase took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ts_rs::TS)]
pub struct PhaseTime {
    /// The phase, as its events name it.
    pub name: String,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Bytes it moved, where that is its unit.
    #[ts(type = "number | null")]
    pub bytes: Option<u64>,
}

/// One thing that was looked at, with what it means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// Stable code.
    pub code: String,
    /// What was found.
    pub message: String,
    /// The exact SQL, setting or command that repairs it.
    pub repair: Option<String>,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Info,
    /// Works, with a limit that is said.
    Warning,
    /// Does not work.
    Error,
}

impl Finding {
    pub(crate) fn new(
        severity: Severity,
        code: &str,
        message: impl Into<String>,
        repair: Option<String>,
    ) -> Self {
        Self { severity, code: code.to_owned(), message: message.into(), repair }
    }
}

/// The engine of one home directory. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    home: Home,
    catalog: Catalog,
    secrets: GivenSecrets,
    run_as: Result<RunAs, String>,
    binaries: tokio::sync::OnceCell<Vec<ServerBinaries>>,
    repositories:
        tokio::sync::Mutex<std::collections::HashMap<uuid::Uuid, holdfast_repository::Repository>>,
    secret_store: tokio::sync::OnceCell<secrets::SecretStoreStatus>,
    running: RunningJobs,
    histories: timeline::Histories,
    listener: Option<ProgressListener>,
    names: tokio::sync::Mutex<Vec<(String, Arc<find::names::Names>)>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("home", &self.inner.home).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the engine on `home` with the secrets that the caller brought. `listener` hears every
    /// event of every job that runs in this process.
    ///
    /// # Errors
    /// [`EngineError::Catalog`] when the catalog cannot be opened or migrated.
    pub async fn open(
        home: Home,
        secrets: GivenSecrets,
        listener: Option<ProgressListener>,
    ) -> Result<Self> {
        let catalog = Catalog::open(&home.catalog()).await?;
        Ok(Self {
            inner: Arc::new(Inner {
                home,
                catalog,
                secrets,
                run_as: RunAs::detect().map_err(|e| e.to_string()),
                binaries: tokio::sync::OnceCell::new(),
                repositories: tokio::sync::Mutex::default(),
                secret_store: tokio::sync::OnceCell::new(),
                running: RunningJobs::default(),
                histories: timeline::Histories::default(),
                listener,
                names: tokio::sync::Mutex::default(),
            }),
        })
    }

    /// The home directory.
    pub fn home(&self) -> &Home {
        &self.inner.home
    }

    /// Which PostgreSQL servers can be started on this machine; looked up once.
    pub async fn server_binaries(&self) -> Vec<ServerBinaries> {
        let Ok(run_as) = self.run_as() else { return Vec::new() };
        self.inner
            .binaries
            .get_or_init(|| async {
                tokio::task::spawn_blocking(move || server::binaries::discover(&run_as))
                    .await
                    .unwrap_or_default()
            })
            .await
            .clone()
    }

    /// Asks every job of this process to stop.
    pub fn cancel_running_jobs(&self) {
        self.inner.running.cancel_all();
    }

    pub(crate) fn run_as(&self) -> Result<RunAs> {
        self.inner.run_as.clone().map_err(|message| {
            EngineError::refused(
                "no_unprivileged_user",
                message,
                "Run Holdfast as an ordinary user.",
            )
        })
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.inner.catalog
    }

    pub(crate) fn secrets(&self) -> &GivenSecrets {
        &self.inner.secrets
    }

    pub(crate) fn secret_store_status(&self) -> &tokio::sync::OnceCell<secrets::SecretStoreStatus> {
        &self.inner.secret_store
    }

    pub(crate) fn running(&self) -> &RunningJobs {
        &self.inner.running
    }

    /// Catalogs of snapshots that were read, by the snapshot's id.
    pub(crate) fn names(&self) -> &tokio::sync::Mutex<Vec<(String, Arc<find::names::Names>)>> {
        &self.inner.names
    }

    /// What was summarised of histories for the timeline.
    pub(crate) fn histories(&self) -> &timeline::Histories {
        &self.inner.histories
    }

    pub(crate) fn progress_listener(&self) -> Option<ProgressListener> {
        self.inner.listener.clone()
    }

    pub(crate) fn open_repositories(
        &self,
    ) -> &tokio::sync::Mutex<std::collections::HashMap<uuid::Uuid, holdfast_repository::Repository>>
    {
        &self.inner.repositories
    }
}
