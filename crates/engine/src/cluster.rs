//! Clusters: what is known of one, adding it, and finding out whether it can be backed up.

use chrono::{DateTime, Utc};
use holdfast_postgres::{ServerVersion, SystemIdentifier, WalSegmentSize};
use holdfast_repository::{ObjectKind, Repository};
use holdfast_wire::{Connection, Dsn, ReplicationAccess, SessionKind};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::archive::safety::{self, SlotCost};
use crate::archive::{GapCause, ledger};
use crate::error::{EngineError, Result};
use crate::{Engine, Finding, Severity, secrets};

/// How a cluster's replication protocol is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum AccessMode {
    /// `replication=true`: a `pg_hba.conf` line for replication lets us in.
    Physical,
    /// `replication=database`: matched as an ordinary connection (managed servers).
    PhysicalViaDatabase,
}

impl AccessMode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Physical => "physical",
            Self::PhysicalViaDatabase => "physical_via_database",
        }
    }

    pub(crate) fn parse(text: &str) -> Self {
        if text == "physical_via_database" { Self::PhysicalViaDatabase } else { Self::Physical }
    }

    fn of(access: ReplicationAccess) -> Self {
        match access {
            ReplicationAccess::Physical => Self::Physical,
            ReplicationAccess::ViaDatabase => Self::PhysicalViaDatabase,
        }
    }
}

/// A cluster as the engine knows it; its document in the repository has the same shape.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cluster {
    /// Its identity in the repository.
    pub id: Uuid,
    /// The name people use.
    pub name: String,
    /// The repository that holds its backups.
    #[serde(skip)]
    pub repository: Uuid,
    /// How it is reached, without secrets.
    pub dsn: String,
    /// PostgreSQL's own identity of it.
    pub system_identifier: SystemIdentifier,
    /// The server's version when it was last seen.
    pub server_version: ServerVersion,
    /// How the replication protocol is reached.
    pub mode: AccessMode,
    /// Bytes of one WAL segment.
    pub segment_size: WalSegmentSize,
    /// The physical replication slot that holds its WAL for us.
    pub slot: String,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// Whether it belongs to the demo workspace.
    pub demo: bool,
}

/// A cluster for a list.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct ClusterSummary {
    /// The name people use.
    pub name: String,
    /// How it is reached, without secrets.
    pub dsn: String,
    /// The URL of the repository that holds its backups.
    pub repository: String,
    /// PostgreSQL's own identity of it.
    pub system_identifier: String,
    /// The server's version when it was last seen.
    pub server_version: String,
    /// How the replication protocol is reached.
    pub mode: AccessMode,
    /// When it was added.
    #[ts(type = "string")]
    pub created_at: DateTime<Utc>,
    /// Whether it belongs to the demo workspace.
    pub demo: bool,
}

/// What `cluster check` finds out.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct ClusterCheck {
    /// Whether a session could be opened.
    pub reachable: bool,
    /// How it can be backed up; none when it cannot.
    pub mode: Option<AccessMode>,
    /// The server's version.
    pub server_version: Option<String>,
    /// PostgreSQL's own identity of the cluster.
    pub system_identifier: Option<String>,
    /// Its timeline.
    pub timeline: Option<u32>,
    /// Bytes of all its databases.
    #[ts(type = "number | null")]
    pub data_bytes: Option<u64>,
    /// What a replication slot that nobody reads costs the server; null when it could not be asked.
    pub slot_cost: Option<SlotCost>,
    /// Everything that was looked at.
    pub findings: Vec<Finding>,
}

impl Cluster {
    /// Whether the way to the server stays on this machine.
    pub(crate) fn is_local(&self) -> bool {
        parse_dsn(&self.dsn).is_ok_and(|dsn| is_local(&dsn))
    }
}

/// Where the clusters' documents are.
pub(crate) fn cluster_documents_prefix() -> &'static str {
    "policies/clusters/"
}

/// The newest document of each cluster in a repository, by the cluster's id.
///
/// # Errors
/// What the repository says.
pub(crate) async fn newest_documents(repository: &Repository) -> Result<Vec<Cluster>> {
    let mut documents = std::collections::BTreeMap::<String, Vec<String>>::new();
    for entry in repository.list(cluster_documents_prefix()).await? {
        if let Some((directory, _)) = entry.path.rsplit_once('/') {
            documents.entry(directory.to_owned()).or_default().push(entry.path);
        }
    }
    let mut clusters = Vec::new();
    for mut paths in documents.into_values() {
        paths.sort_unstable();
        // A password that is kept for a cluster goes where its document says: an agent's counts only where there is
        // no other.
        let mut newest = paths.last().cloned();
        for path in paths.into_iter().rev() {
            if repository.is_vouched_for(&path, ObjectKind::Cluster).await? {
                newest = Some(path);
                break;
            }
        }
        let Some(path) = &newest else { continue };
        let cluster: Cluster = repository.get_document(path, ObjectKind::Cluster).await?;
        clusters.push(Cluster { repository: repository.id(), ..cluster });
    }
    Ok(clusters)
}

/// The name of our slot for a cluster: lower case, digits and underscores, at most 63 bytes.
fn slot_name(id: Uuid) -> String {
    format!("holdfast_{}", &id.simple().to_string()[..16])
}

fn read_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Parses a DSN with libpq's environment.
pub(crate) fn parse_dsn(text: &str) -> Result<Dsn> {
    Ok(Dsn::parse(text, &read_env)?)
}

impl Engine {
    /// Looks at a server: can it be backed up, how, and what is missing.
    ///
    /// Being unable to is a finding, not an error.
    ///
    /// # Errors
    /// A malformed DSN.
    pub async fn check_dsn(
        &self,
        dsn: &str,
        password: Option<SecretString>,
    ) -> Result<ClusterCheck> {
        let dsn = parse_dsn(dsn)?;
        let password = match password {
            Some(p) => Some(p),
            None => secrets::password_for(None, &dsn).await?,
        };
        Ok(check(&dsn, password.as_ref()).await)
    }

    /// Looks at a cluster that was added before.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub async fn check_cluster(&self, name: &str) -> Result<ClusterCheck> {
        let cluster = self.catalog().cluster(name).await?;
        let dsn = parse_dsn(&cluster.dsn)?;
        let password = secrets::password_for(Some(cluster.id), &dsn).await?;
        let mut result = check(&dsn, password.as_ref()).await;
        if let Some(found) = &result.system_identifier
            && *found != cluster.system_identifier.to_string()
        {
            result.findings.push(Finding::new(
                Severity::Error,
                "foreign_system_identifier",
                format!(
                    "the server at this address is another cluster ({found}) than the one that was added ({})",
                    cluster.system_identifier
                ),
                Some(format!("holdfast cluster add {name}-new --dsn '{}'", cluster.dsn)),
            ));
        }
        Ok(result)
    }

    /// Adds a cluster after looking at it. A password that was given is kept in the OS keychain.
    ///
    /// # Errors
    /// Refused when it cannot be backed up, or when the name is taken.
    pub async fn add_cluster(
        &self,
        name: &str,
        dsn: &str,
        repository: Option<&str>,
        password: Option<SecretString>,
        demo: bool,
    ) -> Result<Cluster> {
        if name.is_empty()
            || name.len() > 63
            || !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        {
            return Err(EngineError::usage(
                format!("{name:?} cannot be a cluster's name"),
                "Use up to 63 letters, digits, dots, dashes and underscores.",
            ));
        }
        if self.catalog().clusters().await?.iter().any(|c| c.name == name) {
            return Err(EngineError::refused(
                "name_taken",
                format!("there is a cluster \"{name}\" already"),
                "Choose another name, or remove the old one with `holdfast cluster remove`.",
            ));
        }
        let parsed = parse_dsn(dsn)?;
        let summary = self.find_repository(repository).await?;
        let store = self.open_repository(&summary).await?;
        let given = password.is_some();
        let password = match password {
            Some(p) => Some(p),
            None => secrets::password_for(None, &parsed).await?,
        };
        let (mut connection, access) =
            Connection::connect_for_backup(&parsed, password.as_ref()).await?;
        let identity = connection.identify_system().await?;
        let segment_size = wal_segment_size(&mut connection).await?;
        let version = connection.facts().version;
        connection.close().await;
        if version.traits().is_none() {
            return Err(EngineError::refused(
                "unsupported_version",
                format!("PostgreSQL {version} is not supported"),
                "Holdfast backs up PostgreSQL 14 to 18.",
            ));
        }
        let known = self.known_cluster(&store, identity.system_identifier, name).await?;
        let id = known.unwrap_or_else(Uuid::now_v7);
        let cluster = Cluster {
            id,
            name: name.to_owned(),
            repository: summary.id,
            dsn: parsed.to_redacted_string(),
            system_identifier: identity.system_identifier,
            server_version: version,
            mode: AccessMode::of(access),
            segment_size,
            slot: slot_name(id),
            created_at: Utc::now(),
            demo,
        };
        if given && let Some(password) = password {
            secrets::keep_password(id, password).await?;
        }
        let path = format!("{}{id}/{}", cluster_documents_prefix(), Uuid::now_v7());
        store.put_document(&path, ObjectKind::Cluster, &cluster).await?;
        self.catalog().put_cluster(&cluster).await?;
        Ok(cluster)
    }

    /// A cluster that was backed up into this repository before under this name goes on as itself.
    async fn known_cluster(
        &self,
        store: &Repository,
        system: SystemIdentifier,
        name: &str,
    ) -> Result<Option<Uuid>> {
        for entry in store.list(cluster_documents_prefix()).await?.into_iter().rev() {
            let cluster: Cluster = store.get_document(&entry.path, ObjectKind::Cluster).await?;
            if cluster.system_identifier == system && cluster.name == name {
                return Ok(Some(cluster.id));
            }
        }
        Ok(None)
    }

    /// The clusters this machine knows.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn clusters(&self) -> Result<Vec<Cluster>> {
        self.catalog().clusters().await
    }

    /// One cluster by name.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub async fn cluster(&self, name: &str) -> Result<Cluster> {
        self.catalog().cluster(name).await
    }

    /// A cluster as lists show it.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn cluster_summary(&self, cluster: &Cluster) -> Result<ClusterSummary> {
        let repository = self.find_repository(Some(&cluster.repository.to_string())).await?;
        Ok(ClusterSummary {
            name: cluster.name.clone(),
            dsn: cluster.dsn.clone(),
            repository: repository.url,
            system_identifier: cluster.system_identifier.to_string(),
            server_version: cluster.server_version.to_string(),
            mode: cluster.mode,
            created_at: cluster.created_at,
            demo: cluster.demo,
        })
    }

    /// Forgets a cluster on this machine: its backups stay in the repository. Our slot on the server
    /// is dropped, so that it does not hold WAL for nobody; the returned sentence says whether.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub async fn remove_cluster(&self, name: &str) -> Result<String> {
        let cluster = self.catalog().cluster(name).await?;
        let dropped = async {
            let (mut connection, _) = self.connect_for_backup(&cluster).await?;
            connection.drop_slot(&cluster.slot).await?;
            connection.close().await;
            Ok::<_, EngineError>(())
        }
        .await;
        let said = match dropped {
            Ok(()) => format!("The replication slot {} is gone from the server.", cluster.slot),
            Err(error) => format!(
                "The replication slot {} may still hold WAL on the server ({}). Drop it there: \
                 SELECT pg_drop_replication_slot('{}');",
                cluster.slot,
                error.to_object().message,
                cluster.slot
            ),
        };
        let _ = secrets::forget_password(cluster.id).await;
        self.catalog().forget_cluster(cluster.id).await?;
        Ok(said)
    }

    /// Opens a replication session to a cluster and makes sure that it is the same cluster.
    pub(crate) async fn connect_for_backup(
        &self,
        cluster: &Cluster,
    ) -> Result<(Connection, ReplicationAccess)> {
        self.connect_for_backup_as(cluster, None).await
    }

    /// The same under another `application_name`, by which the server tells synchronous standbys apart.
    pub(crate) async fn connect_for_backup_as(
        &self,
        cluster: &Cluster,
        application_name: Option<String>,
    ) -> Result<(Connection, ReplicationAccess)> {
        let mut dsn = parse_dsn(&cluster.dsn)?;
        if let Some(name) = application_name {
            dsn.application_name = name;
        }
        let password = secrets::password_for(Some(cluster.id), &dsn).await?;
        let (mut connection, access) =
            Connection::connect_for_backup(&dsn, password.as_ref()).await?;
        let identity = connection.identify_system().await?;
        if identity.system_identifier != cluster.system_identifier {
            let found = (identity.system_identifier, connection.facts().version);
            connection.close().await;
            if let Err(error) = self.note_other_system(cluster, found).await {
                tracing::warn!(%error, "the other system was not noted in the ledger");
            }
            return Err(EngineError::refused(
                "foreign_system_identifier",
                format!(
                    "the server at this address is another cluster ({}) than \"{}\" ({})",
                    identity.system_identifier, cluster.name, cluster.system_identifier
                ),
                "The address may point to another server now, or the cluster was initialised anew. Add it under a new \
                 name with `holdfast cluster add`; the old backups stay.",
            ));
        }
        Ok((connection, access))
    }

    /// Notes in the ledger of a cluster that another system answers in its place.
    async fn note_other_system(
        &self,
        cluster: &Cluster,
        (found, version): (SystemIdentifier, ServerVersion),
    ) -> Result<()> {
        let (_, repository) = self.repository_by_id(cluster.repository).await?;
        let view = self.archive_view(cluster).await?;
        // pg_upgrade makes a new cluster and moves the data into it.
        let cause = if version.major() > cluster.server_version.major() {
            GapCause::Upgrade
        } else {
            GapCause::ReInit
        };
        ledger::record_change(&repository, &view, cause, found.to_string(), version.to_string())
            .await
    }

    /// Opens an ordinary SQL session to a cluster.
    pub(crate) async fn connect_sql(&self, cluster: &Cluster) -> Result<Connection> {
        let dsn = parse_dsn(&cluster.dsn)?;
        let password = secrets::password_for(Some(cluster.id), &dsn).await?;
        Ok(Connection::connect(&dsn, password.as_ref(), SessionKind::Sql).await?)
    }
}

/// The server's WAL segment size. `SHOW` prints it with a unit.
pub(crate) async fn wal_segment_size(connection: &mut Connection) -> Result<WalSegmentSize> {
    let text = connection.show("wal_segment_size").await?;
    parse_size(&text)
        .and_then(WalSegmentSize::new)
        .ok_or_else(|| EngineError::Fault(format!("the server's wal_segment_size is {text:?}")))
}

/// Bytes of a size as PostgreSQL writes it: a number with `kB`, `MB`, `GB`, `TB`, or none.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match text[digits.len()..].trim() {
        "" | "B" => 1,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        "TB" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

async fn check(dsn: &Dsn, password: Option<&SecretString>) -> ClusterCheck {
    let mut result = ClusterCheck {
        reachable: false,
        mode: None,
        server_version: None,
        system_identifier: None,
        timeline: None,
        data_bytes: None,
        slot_cost: None,
        findings: Vec::new(),
    };
    match Connection::connect(dsn, password, SessionKind::Sql).await {
        Ok(mut connection) => {
            result.reachable = true;
            look_at_settings(&mut connection, is_local(dsn), &mut result).await;
            if let Ok(cost) = SlotCost::look(&mut connection, is_local(dsn)).await {
                result.findings.extend(cost.findings());
                result.slot_cost = Some(cost);
            }
            result.findings.extend(safety::minor_version_finding(connection.facts().version));
            connection.close().await;
        }
        Err(error) => {
            let error = EngineError::from(error).to_object();
            result.findings.push(Finding::new(
                Severity::Error,
                &error.code,
                error.message,
                error.hint,
            ));
            return result;
        }
    }
    match Connection::connect_for_backup(dsn, password).await {
        Ok((mut connection, access)) => {
            let mode = AccessMode::of(access);
            result.mode = Some(mode);
            if let Ok(identity) = connection.identify_system().await {
                result.system_identifier = Some(identity.system_identifier.to_string());
                result.timeline = Some(identity.timeline.get());
            }
            let (severity, text) = match mode {
                AccessMode::Physical => {
                    (Severity::Ok, "a physical backup over the replication protocol is possible")
                }
                AccessMode::PhysicalViaDatabase => (
                    Severity::Info,
                    "pg_hba.conf has no replication line, but a physical backup works through replication=database",
                ),
            };
            result.findings.push(Finding::new(severity, "replication_possible", text, None));
            connection.close().await;
        }
        Err(error) => {
            let error = EngineError::from(error).to_object();
            result.findings.push(Finding::new(
                Severity::Error,
                &error.code,
                error.message,
                error.hint,
            ));
        }
    }
    result
}

/// Whether the way to the server stays on this machine.
fn is_local(dsn: &Dsn) -> bool {
    dsn.hosts.iter().all(|h| {
        h.is_unix() || h.host == "localhost" || h.host.starts_with("127.") || h.host == "::1"
    })
}

async fn look_at_settings(connection: &mut Connection, local: bool, result: &mut ClusterCheck) {
    let version = connection.facts().version;
    result.server_version = Some(version.to_string());
    let mut say = |severity, code: &str, message: String, repair: Option<&str>| {
        result.findings.push(Finding::new(severity, code, message, repair.map(ToOwned::to_owned)));
    };
    if version.traits().is_none() {
        say(
            Severity::Error,
            "unsupported_version",
            format!("PostgreSQL {version} is not supported (14 to 18 are)"),
            None,
        );
    }
    if connection.facts().tls.is_none() && !local {
        say(
            Severity::Warning,
            "no_tls",
            "the connection is not encrypted".to_owned(),
            Some("Add sslmode=verify-full (with sslrootcert) or sslmode=require to the DSN."),
        );
    }
    let mut setting = async |name: &str| connection.show(name).await.unwrap_or_default();
    let wal_level = setting("wal_level").await;
    let senders = setting("max_wal_senders").await;
    let slots = setting("max_replication_slots").await;
    let checksums = setting("data_checksums").await;
    let commit_times = setting("track_commit_timestamp").await;
    if wal_level == "minimal" {
        say(
            Severity::Error,
            "wal_level_minimal",
            "wal_level is minimal: no backup can be taken while the server runs".to_owned(),
            Some("ALTER SYSTEM SET wal_level = 'replica'; -- then restart the server"),
        );
    }
    if senders.parse::<u32>().is_ok_and(|n| n < 2) {
        say(
            Severity::Error,
            "too_few_wal_senders",
            format!("max_wal_senders is {senders}; a backup with its WAL stream needs two"),
            Some("ALTER SYSTEM SET max_wal_senders = 10; -- then restart the server"),
        );
    }
    if slots == "0" {
        say(
            Severity::Error,
            "no_replication_slots",
            "max_replication_slots is 0; the archive needs one slot".to_owned(),
            Some("ALTER SYSTEM SET max_replication_slots = 10; -- then restart the server"),
        );
    }
    if checksums == "off" {
        say(
            Severity::Warning,
            "no_data_checksums",
            "data checksums are off: corruption of a page on the server's disk cannot be seen in a backup".to_owned(),
            Some("pg_checksums --enable -D DATADIR -- with the server stopped"),
        );
    }
    if commit_times == "off" {
        say(
            Severity::Info,
            "no_commit_timestamps",
            "track_commit_timestamp is off; recovery does not need it (commit times come from the WAL)".to_owned(),
            None,
        );
    }
    if let Ok(Some(bytes)) = connection
        .catalog_value("SELECT sum(pg_catalog.pg_database_size(oid)) FROM pg_catalog.pg_database")
        .await
    {
        result.data_bytes = bytes.parse().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_show_prints_them() {
        assert_eq!(parse_size("16MB"), Some(16 << 20));
        assert_eq!(parse_size("1GB"), Some(1 << 30));
        assert_eq!(parse_size("16777216"), Some(16 << 20));
        assert_eq!(parse_size("lots"), None);
    }

    #[test]
    fn a_slot_name_is_one_that_postgresql_takes() {
        let name = slot_name(Uuid::now_v7());
        assert!(
            name.len() < 63
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        );
    }
}
