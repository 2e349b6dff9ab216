//! Who may write to a repository: operators' devices, and agents that add and read nothing.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use holdfast_repository::Writer;
pub use holdfast_repository::WriterRole;
use secrecy::ExposeSecret as _;
use serde::Serialize;
use uuid::Uuid;

use crate::Engine;
use crate::archive::{coverage_prefix, history_prefix, slices_prefix, wal_prefix};
use crate::catalog::repositories::RepositorySummary;
use crate::cluster::{Cluster, cluster_documents_prefix};
use crate::error::{EngineError, Result};
use crate::secret_file::SecretFile;

/// Who may write, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedWriter {
    /// Whose signature it is.
    pub device: Uuid,
    /// What it may do.
    pub role: WriterRole,
    /// What an agent is called.
    pub label: Option<String>,
    /// The clusters that an agent may add to, as far as this machine knows their names; all when there is none.
    pub clusters: Vec<String>,
    /// By the clock of the device that admitted it.
    pub certified_at: DateTime<Utc>,
    /// The Ed25519 key it signs with: 64 hex digits.
    pub public_key: String,
    /// Whether it is this process.
    pub this_device: bool,
}

/// An agent may write from now on.
#[derive(Debug, Clone, Serialize)]
pub struct AdmittedAgent {
    /// As it is listed.
    #[serde(flatten)]
    pub writer: ListedWriter,
    /// Where its key is.
    pub key_file: PathBuf,
    /// What the key can do, and what it cannot.
    pub means: String,
}

/// What an agent's key is, for whoever made one.
pub const AGENT_KEY_MEANS: &str = "The key adds backups and WAL. It opens nothing that is stored, marks nothing for \
     removal, and nobody else shares what it has stored. It is kept nowhere else: bring it to the server, and delete this \
     copy.";

impl Engine {
    /// Who may write to a repository, oldest first.
    ///
    /// # Errors
    /// When the repository cannot be opened or listed.
    pub async fn writers(&self, summary: &RepositorySummary) -> Result<Vec<ListedWriter>> {
        let repository = self.open_repository(summary).await?;
        let (own, clusters) = (repository.device().0, self.clusters_in(summary).await?);
        let writers = repository.writers().await?.into_iter();
        Ok(writers.map(|writer| listed(writer, own, &clusters)).collect())
    }

    async fn clusters_in(&self, summary: &RepositorySummary) -> Result<Vec<Cluster>> {
        let mut clusters = self.catalog().clusters().await?;
        clusters.retain(|cluster| cluster.repository == summary.id);
        Ok(clusters)
    }

    /// Admits an agent called `label`, and writes its key to the new file `key_file`. With names of clusters, what it
    /// adds to others does not count.
    ///
    /// # Errors
    /// Refused when the file exists, or an agent is called so already; not permitted to whoever may only add
    /// themselves. Nothing is admitted then.
    pub async fn admit_agent(
        &self,
        summary: &RepositorySummary,
        label: &str,
        clusters: &[String],
        key_file: &Path,
    ) -> Result<AdmittedAgent> {
        let label = label.trim();
        if label.is_empty() || label.len() > 100 || label.chars().any(char::is_control) {
            return Err(EngineError::usage(
                "an agent's name is a line of 1 to 100 bytes",
                "Say which server it is beside, for example --name orders-eu.",
            ));
        }
        let repository = self.open_repository(summary).await?;
        let writers = repository.writers().await?;
        if writers.iter().any(|writer| writer.label.as_deref() == Some(label)) {
            return Err(EngineError::refused(
                "agent_exists",
                format!("an agent called \"{label}\" is admitted already"),
                "Choose another name: `holdfast repo writers list` shows those that are taken.",
            ));
        }
        let known = self.clusters_in(summary).await?;
        let mut below = Vec::new();
        for name in clusters {
            let cluster = known
                .iter()
                .find(|cluster| cluster.name == *name)
                .ok_or_else(|| EngineError::NotFound { what: "cluster", name: name.clone() })?;
            below.extend(prefixes_of(cluster));
        }
        // The file first: an agent whose key nobody has would stay in the list for nothing.
        let mut file = SecretFile::create(key_file)?;
        let (writer, key) = repository.admit_agent(label, &below).await?;
        file.write(&format!(
            "# The key of the agent \"{label}\" for the Holdfast repository {} ({}).\n# {}\n{}\n",
            summary.id,
            summary.url,
            "It adds backups and WAL, and opens nothing that is stored. Use it with --writer-key-file.",
            key.display().expose_secret()
        ))?;
        file.keep();
        Ok(AdmittedAgent {
            writer: listed(writer, repository.device().0, &known),
            key_file: key_file.to_path_buf(),
            means: AGENT_KEY_MEANS.to_owned(),
        })
    }
}

fn listed(writer: Writer, own: Uuid, clusters: &[Cluster]) -> ListedWriter {
    let Writer { public_key, device, role, label, below, certified_at } = writer;
    let this_device = device.0 == own;
    let named = |cluster: &&Cluster| below.contains(&crate::snapshot::prefix(cluster.id));
    let clusters = clusters.iter().filter(named).map(|cluster| cluster.name.clone()).collect();
    ListedWriter { device: device.0, role, label, clusters, certified_at, public_key, this_device }
}

/// Where everything is that belongs to a cluster and that an agent may write.
fn prefixes_of(cluster: &Cluster) -> [String; 6] {
    let system = cluster.system_identifier;
    [
        crate::snapshot::prefix(cluster.id),
        format!("{}{}/", cluster_documents_prefix(), cluster.id),
        wal_prefix(system),
        slices_prefix(system),
        history_prefix(system),
        coverage_prefix(system),
    ]
}
