//! The recovery kit: one page that, together with the repository, is enough to restore on a machine that
//! has never seen either.

mod page;

use std::path::{Path, PathBuf};

use chrono::{SubsecRound as _, Utc};
use holdfast_repository::{NewSlot, RecoveryKey, RepositoryUrl, Unlock};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use uuid::Uuid;

use self::page::Kit;
use crate::Engine;
use crate::catalog::repositories::RepositorySummary;
use crate::error::{EngineError, Result};
use crate::recovery_sheet::recovery_key_from_text;
use crate::secret_file::SecretFile;

/// A kit was written, and its key opens the repository.
#[derive(Debug, Clone, Serialize, ts_rs::TS)]
pub struct RecoveryKit {
    /// The page: for its owner's eyes only.
    #[ts(type = "string")]
    pub file: PathBuf,
    /// The slot that the kit's key opens; remove it when the kit is lost.
    #[ts(type = "string")]
    pub slot: Uuid,
    /// What the slot is called.
    pub label: String,
    /// The repository.
    #[ts(type = "string")]
    pub repository: Uuid,
}

impl Engine {
    /// Writes a recovery kit with a recovery key of its own: plain text when the file's name ends in `.txt`,
    /// else HTML that needs no network and no script.
    ///
    /// # Errors
    /// Refused when the file exists. When anything fails, neither the file nor the slot is left; what the
    /// file holds has been read back and has opened the slot before this returns.
    pub async fn write_recovery_kit(
        &self,
        summary: &RepositorySummary,
        path: &Path,
    ) -> Result<RecoveryKit> {
        let repository = self.open_repository(summary).await?;
        let key = RecoveryKey::generate()?;
        let made = Utc::now().trunc_subsecs(0);
        let label = format!("Recovery kit of {}", made.format("%Y-%m-%d"));
        let mut clusters: Vec<(String, String)> = self
            .clusters()
            .await?
            .into_iter()
            .filter(|cluster| cluster.repository == summary.id)
            .map(|cluster| (cluster.name, cluster.server_version.major().to_string()))
            .collect();
        clusters.sort();
        let mut kit = Kit {
            url: place(&RepositoryUrl::parse(&summary.url)?)?,
            repository: repository.id(),
            made,
            slot: Uuid::nil(),
            label: &label,
            key: key.display(),
            root_public_key: repository.root_public_key(),
            sealing_public_key: repository.sealing_public_key(),
            clusters,
        };
        let plain = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("txt"));
        let written = |kit: &Kit<'_>| if plain { kit.text() } else { kit.html() };
        // As with the sheet of a recovery key: the key is on the page before anything takes it.
        let mut file = SecretFile::create(path)?;
        file.write(&written(&kit)?)?;
        let slot = repository.add_slot(NewSlot::RecoveryKey(&key), label.as_str()).await?;
        kit.slot = slot.id;
        let proven = async {
            file.write(&written(&kit)?)?;
            let page = std::fs::read_to_string(path).map_err(EngineError::file("read", path))?;
            let read = recovery_key_from_text(&page);
            match repository.slot_opened_by(Unlock::RecoveryKey(&read)).await? {
                Some(opened) if opened == slot.id => Ok(()),
                _ => Err(EngineError::Fault("the key on the page does not open its slot".into())),
            }
        };
        if let Err(error) = proven.await {
            if let Err(error) = repository.remove_slot(slot.id).await {
                // A slot takes the key, so the page with it stays.
                file.keep();
                tracing::warn!(slot = %slot.id, %error, "the slot of a kit that failed was left behind");
            }
            return Err(error);
        }
        file.keep();
        Ok(RecoveryKit {
            file: path.to_path_buf(),
            slot: slot.id,
            label: slot.label,
            repository: summary.id,
        })
    }
}

/// The address as another machine can use it: a folder by its whole path.
fn place(url: &RepositoryUrl) -> Result<RepositoryUrl> {
    let Some(path) = url.local_path() else { return Ok(url.clone()) };
    let whole = std::path::absolute(path).map_err(EngineError::file("resolve", path))?;
    Ok(RepositoryUrl::parse(&whole.display().to_string())?)
}

/// The fourteen groups in two lines of seven.
fn two_lines(key: &secrecy::SecretString) -> [String; 2] {
    let groups: Vec<&str> = key.expose_secret().split('-').collect();
    let (first, second) = groups.split_at(groups.len() / 2);
    [first.join("-"), second.join("-")]
}
