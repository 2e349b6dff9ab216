//! Verifying what lies in a folder or a file: a bundle, or a repository that was brought here by other means.

use std::path::{Path, PathBuf};

use holdfast_repository::{Repository, RepositoryUrl, Store};
use tokio_util::sync::CancellationToken;

use crate::Engine;
use crate::catalog::repositories::UnlockSource;
use crate::error::{EngineError, Result};
use crate::home::Home;
use crate::jobs::{JobId, JobKind, ProgressListener};
use crate::repository::unlock_to_attach;
use crate::secrets::GivenSecrets;
use crate::verify::{Depth, Sample, VerifyRequest, VerifyResult};

/// What is to be verified, and how deep.
#[derive(Debug, Clone)]
pub struct OfflineRequest {
    /// A folder or a file.
    pub path: PathBuf,
    /// How deep.
    pub depth: Depth,
    /// Only one part.
    pub sample: Option<Sample>,
    /// Only this snapshot.
    pub snapshot: Option<uuid::Uuid>,
}

impl OfflineRequest {
    fn verification(self) -> VerifyRequest {
        VerifyRequest {
            cluster: None,
            depth: self.depth,
            sample: self.sample,
            snapshot: self.snapshot,
            leave_untouched: true,
        }
    }
}

/// Verifies what is at a path, with a catalog that is made for it and thrown away: no home is needed. Nothing is
/// written there.
///
/// # Errors
/// When there is nothing, when it is no repository, or when no secret opens it. Damage is a finding.
pub async fn verify_offline(
    request: OfflineRequest,
    secrets: GivenSecrets,
    listener: Option<ProgressListener>,
    cancel: CancellationToken,
) -> Result<VerifyResult> {
    let (_home, engine) = look_at(&request.path, secrets, listener).await?;
    engine.verify(request.verification(), cancel).await
}

impl Engine {
    /// The same in the background, as a job of this home.
    ///
    /// # Errors
    /// When the job cannot be recorded.
    pub async fn start_verify_offline(
        &self,
        request: OfflineRequest,
        secrets: GivenSecrets,
    ) -> Result<JobId> {
        let title = format!("Verify {} ({})", request.path.display(), request.depth);
        self.start_job(JobKind::Verify, None, title, move |job| async move {
            let (_home, engine) = look_at(&request.path, secrets, None).await?;
            engine.verify_in(job, request.verification()).await
        })
        .await
    }
}

/// An engine that knows what lies at `path` and nothing else, and the home that goes with it.
async fn look_at(
    path: &Path,
    secrets: GivenSecrets,
    listener: Option<ProgressListener>,
) -> Result<(tempfile::TempDir, Engine)> {
    let place = path.display().to_string();
    if !path.exists() {
        return Err(EngineError::NotFound { what: "bundle", name: place });
    }
    let url = RepositoryUrl::parse(&place)?;
    let home = tempfile::tempdir()
        .map_err(EngineError::file("create a directory in", std::env::temp_dir()))?;
    let engine = Engine::open(Home::open(home.path())?, secrets, listener).await?;
    let held = unlock_to_attach(engine.secrets()).await?;
    let store = Store::open(&url).await?;
    let device = engine.home().device()?;
    let repository = Repository::open_to_read(store, device, held.reading()?).await?;
    engine.remember(repository.clone(), url.to_string(), UnlockSource::Passphrase).await?;
    engine.rebuild_clusters(&repository).await?;
    Ok((home, engine))
}
