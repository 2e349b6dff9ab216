//! The demo: a private server with sample data, a backup, a disaster, and the way back.
//!
//! Everything in it is real: the server, the backup, the WAL, the statement that destroys, the
//! restore and its proof. Only the data is made up.

mod workload;

use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_postgres::Lsn;
use holdfast_wire::Connection;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Engine;
use crate::archive::{ArchiveOptions, ArchiveStream, Frontier};
use crate::backup::BackupOptions;
use crate::cluster::Cluster;
use crate::error::{EngineError, Result};
use crate::jobs::{JobContext, JobId, JobKind};
use crate::points::Commit;
use crate::repository::NewRepository;
use crate::restore::{
    AtTarget, Purpose, RestoreRequest, RestoreResult, RunOptions, TimelineChoice,
};
use crate::server::identity::{RunAs, socket_directory};
use crate::server::private::{PrivateServer, ServerLocation, blocking, free_port, run};
use crate::target::Target;
use crate::timeline::{Around, Freshness, Way};

use workload::Writers;

/// The name of the demo's cluster.
pub const CLUSTER: &str = "demo-weddings";
/// The tables that are counted.
const TABLES: [&str; 8] = [
    "couples",
    "weddings",
    "vendors",
    "timelines",
    "timeline_items",
    "guests",
    "messages",
    "payments",
];
/// What destroys: one transaction, no condition.
const DISASTER: &str = "DELETE FROM timeline_items";

/// Rows of one table at the three moments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct DemoTable {
    /// The table.
    pub table: String,
    /// Just before the disaster.
    #[ts(type = "number")]
    pub at_target: u64,
    /// After the disaster and the good writes that followed it.
    #[ts(type = "number")]
    pub after_disaster: u64,
    /// In the restored copy; none before a restore.
    #[ts(type = "number | null")]
    pub restored: Option<u64>,
}

/// The demo workspace as it stands: in the middle of a bad day.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct DemoStatus {
    /// Its cluster.
    pub cluster: String,
    /// The transaction that destroyed.
    pub disaster: Commit,
    /// Rows before and after.
    pub tables: Vec<DemoTable>,
    /// The target just before the disaster, to be used exclusively.
    pub suggested_target: String,
}

/// What the demo showed.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct DemoResult {
    /// The job.
    pub job: String,
    /// The restore was proven and every row count is exact.
    pub verified: bool,
    /// The restore; none when the demo only prepares the workspace.
    pub restore: Option<RestoreResult>,
    /// Rows of every table.
    pub tables: Vec<DemoTable>,
    /// Seconds by phase.
    pub seconds: std::collections::BTreeMap<String, f64>,
}

/// What is needed to find the demo again.
#[derive(Debug, Serialize, Deserialize)]
struct DemoRecord {
    status: DemoStatus,
    directory: PathBuf,
    repository: Uuid,
    server: ServerLocation,
}

/// A demo whose server runs.
struct Stage {
    directory: PathBuf,
    server: PrivateServer,
    run_as: RunAs,
}

impl Engine {
    fn demo_record(&self) -> PathBuf {
        self.home().root().join("demo.json")
    }

    /// Where the passphrase of a demo's throwaway repository is.
    pub(crate) fn demo_passphrase_path(&self, repository: Uuid) -> PathBuf {
        self.home().root().join(format!("demo-{repository}.passphrase"))
    }

    /// The demo workspace, when there is one.
    pub fn demo_status(&self) -> Option<DemoStatus> {
        let text = std::fs::read(self.demo_record()).ok()?;
        serde_json::from_slice::<DemoRecord>(&text).ok().map(|r| r.status)
    }

    /// The whole demo: prepares, restores to just before the disaster, compares, cleans up.
    ///
    /// # Errors
    /// Whatever fails on the way; nothing is left running then.
    pub async fn demo(
        &self,
        directory: &Path,
        keep: bool,
        cancel: CancellationToken,
    ) -> Result<DemoResult> {
        let engine = self.clone();
        let directory = directory.to_path_buf();
        self.run_job(JobKind::Demo, Some(CLUSTER), "Demo".to_owned(), cancel, |job| async move {
            let outcome = engine.whole_demo(&job, &directory).await;
            if !keep || outcome.is_err() {
                let _ = engine.discard_demo().await;
            }
            outcome
        })
        .await
    }

    /// Prepares the demo workspace in the background: server, data, backup, disaster.
    ///
    /// # Errors
    /// Refused when there is a demo workspace already.
    pub async fn start_demo(&self) -> Result<JobId> {
        if self.demo_status().is_some() {
            return Err(EngineError::refused(
                "demo_exists",
                "there is a demo workspace already",
                "Discard it first; its server and its repository are removed then.",
            ));
        }
        let engine = self.clone();
        let directory = self.home().root().join("demo");
        self.start_job(
            JobKind::Demo,
            Some(CLUSTER),
            "Prepare the demo workspace".to_owned(),
            |job| async move {
                let outcome = engine.prepare_demo(&job, &directory).await;
                if outcome.is_err() {
                    let _ = engine.discard_demo().await;
                }
                let record = outcome?;
                Ok(DemoResult {
                    job: job.id.to_string(),
                    verified: false,
                    restore: None,
                    tables: record.status.tables,
                    seconds: seconds(&job),
                })
            },
        )
        .await
    }

    /// Stops the demo's server and removes everything that belongs to it.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub async fn discard_demo(&self) -> Result<()> {
        let path = self.demo_record();
        let Ok(text) = std::fs::read(&path) else { return Ok(()) };
        let record: DemoRecord = serde_json::from_slice(&text)
            .map_err(|e| EngineError::Fault(format!("{}: {e}", path.display())))?;
        for job in self.jobs().await?.into_iter().filter(|j| j.cluster.as_deref() == Some(CLUSTER))
        {
            if job.kind == JobKind::Restore || job.kind == JobKind::Demo {
                let _ = self.remove_restore(job.id).await;
            }
        }
        record.server.stop(&self.run_as()?).await?;
        if let Ok(cluster) = self.cluster(CLUSTER).await {
            self.catalog().forget_cluster(cluster.id).await?;
        }
        self.open_repositories().lock().await.remove(&record.repository);
        self.catalog().forget_repository(record.repository).await?;
        self.list_repositories().await?;
        let _ = std::fs::remove_file(self.demo_passphrase_path(record.repository));
        blocking(move || {
            match std::fs::remove_dir_all(&record.directory) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(EngineError::file("remove", record.directory)(e));
                }
                _ => {}
            }
            std::fs::remove_file(&path).map_err(EngineError::file("remove", path))
        })
        .await
    }

    async fn whole_demo(&self, job: &JobContext, directory: &Path) -> Result<DemoResult> {
        let record = self.prepare_demo(job, directory).await?;
        let mut tables = record.status.tables.clone();
        let options = RunOptions {
            request: RestoreRequest {
                cluster: CLUSTER.to_owned(),
                target: record.status.suggested_target.parse::<Target>()?,
                exclusive: true,
                timeline: TimelineChoice::Latest,
                destination: record.directory.join("restored"),
                snapshot: None,
                accept_host_differences: false,
                placement: crate::restore::Placement::New,
                tablespaces: std::collections::BTreeMap::new(),
            },
            at_target: AtTarget::Promote,
            start: true,
            fetch_only: false,
            plan_hash: None,
        };
        job.reporter.phase("planning", None, None);
        let prepared = self.prepare(options.request.clone(), None, Purpose::Run).await?;
        let restore = self.restore_in(job.clone(), prepared, &options).await?;
        let dsn = restore
            .dsn
            .clone()
            .ok_or_else(|| EngineError::Fault("the restored server has no address".to_owned()))?;
        let dsn = dsn.replace("dbname=postgres", "dbname=weddings");
        job.reporter.phase("counting rows", None, None);
        let mut connection = connect(&dsn).await?;
        for table in &mut tables {
            table.restored = Some(count(&mut connection, &table.table).await?);
        }
        connection.close().await;
        let exact = tables.iter().all(|t| t.restored == Some(t.at_target));
        let result = DemoResult {
            job: job.id.to_string(),
            verified: restore.verified && exact,
            restore: Some(restore),
            tables,
            seconds: seconds(job),
        };
        if !exact {
            return Err(EngineError::Integrity {
                code: "demo_counts_differ",
                message: "the restored tables do not hold what they held before the disaster"
                    .to_owned(),
                hint: "This is a fault of Holdfast. Please report it with the job's journal."
                    .to_owned(),
                details: serde_json::to_value(&result.tables).unwrap_or_default(),
            });
        }
        Ok(result)
    }

    /// Server, data, backup under load, disaster, good writes after it; all of it archived.
    async fn prepare_demo(&self, job: &JobContext, directory: &Path) -> Result<DemoRecord> {
        let reporter = &job.reporter;
        reporter.phase("starting a private server", None, None);
        let stage = self.start_demo_server(directory).await?;
        let prepared = tokio::select! {
            prepared = self.play(job, &stage) => prepared,
            () = job.cancel.cancelled() => Err(EngineError::Cancelled),
        };
        match prepared {
            Ok(record) => {
                stage.server.let_go();
                Ok(record)
            }
            Err(error) => {
                let Stage { server, run_as, directory } = stage;
                let _ = server.stop(&run_as).await;
                // A record that was written belongs to a demo that does not exist any more.
                if self.demo_status().is_none() {
                    let _ = std::fs::remove_dir_all(&directory);
                }
                Err(error)
            }
        }
    }

    async fn start_demo_server(&self, directory: &Path) -> Result<Stage> {
        let run_as = self.run_as()?;
        let binaries = self.server_binaries().await.into_iter().rfind(|b| b.major <= 18).ok_or_else(|| {
            EngineError::refused(
                "no_server",
                "no PostgreSQL server can be started on this machine",
                "Install one (Debian: apt-get install postgresql), or set HOLDFAST_PG_BIN_17 to a directory that has postgres.",
            )
        })?;
        let data = directory.join("server");
        if directory.exists()
            && std::fs::read_dir(directory).is_ok_and(|mut d| {
                d.next().is_some_and(|e| e.is_ok_and(|e| e.file_name() != "home"))
            })
        {
            return Err(EngineError::refused(
                "destination_not_empty",
                format!("{} is not empty", directory.display()),
                "Choose a directory that does not exist yet, or an empty one.",
            ));
        }
        let (target, user, programs) = (data.clone(), run_as.clone(), binaries.clone());
        blocking(move || {
            std::fs::create_dir_all(&target).map_err(EngineError::file("create", &target))?;
            user.own(&target)?;
            let mut command =
                user.command(&programs.program("initdb"), &[target.join("x").as_path()]);
            command
                .args([
                    "--username=postgres",
                    "--auth=trust",
                    "--encoding=UTF8",
                    "--locale=C.UTF-8",
                ])
                .args(["--data-checksums", "--no-sync", "-D"])
                .arg(&target)
                .current_dir("/");
            run(&mut command, "initdb").map(drop)
        })
        .await?;
        let location = ServerLocation {
            log: directory.join("server.log"),
            socket_directory: socket_directory(&run_as)?,
            port: free_port()?,
            superuser: "postgres".to_owned(),
            data_directory: data,
            binaries,
        };
        let settings = [
            ("listen_addresses", String::new()),
            ("unix_socket_directories", location.socket_directory.to_string_lossy().into_owned()),
            ("port", location.port.to_string()),
            ("wal_level", "replica".to_owned()),
            ("max_slot_wal_keep_size", "4GB".to_owned()),
            ("track_commit_timestamp", "on".to_owned()),
            ("max_wal_size", "2GB".to_owned()),
            ("logging_collector", "off".to_owned()),
            ("cluster_name", "holdfast-demo".to_owned()),
        ]
        .map(|(n, v)| (n.to_owned(), v));
        let mut server = PrivateServer::start(location, &settings, &run_as)?;
        match server.wait_ready(Duration::from_mins(1)).await {
            Ok(connection) => connection.close().await,
            Err(error) => {
                let _ = server.stop(&run_as).await;
                let _ = std::fs::remove_dir_all(directory);
                return Err(error);
            }
        }
        Ok(Stage { directory: directory.to_path_buf(), server, run_as })
    }

    async fn play(&self, job: &JobContext, stage: &Stage) -> Result<DemoRecord> {
        let reporter = &job.reporter;
        let location = &stage.server.location;
        reporter.phase("loading 2,143 active weddings", None, None);
        let mut admin = location.connect("postgres").await?;
        admin.query("CREATE DATABASE weddings").await?;
        admin.close().await;
        let dsn = location.dsn("weddings");
        let mut app = connect(&dsn).await?;
        app.query(include_str!("schema.sql")).await?;
        app.query(include_str!("data.sql")).await?;
        app.query("ANALYZE").await?;

        reporter.phase("creating a repository", None, None);
        let passphrase = SecretString::from(Uuid::new_v4().to_string());
        let repository = self
            .create_repository(NewRepository {
                url: stage.directory.join("repository").display().to_string(),
                passphrase: Some(passphrase.clone()),
                demo: true,
                ..NewRepository::default()
            })
            .await?;
        let path = self.demo_passphrase_path(repository.id);
        std::fs::write(&path, secrecy::ExposeSecret::expose_secret(&passphrase))
            .map_err(EngineError::file("write", &path))?;
        let cluster =
            self.add_cluster(CLUSTER, &dsn, Some(&repository.id.to_string()), None, true).await?;

        let (_, store) = self.repository_by_id(repository.id).await?;
        let stop_archive = CancellationToken::new();
        let _stop_on_error = stop_archive.clone().drop_guard();
        let (stream, frontier) = ArchiveStream::new(
            self.clone(),
            cluster.clone(),
            store,
            ArchiveOptions::default(),
            None,
            stop_archive.clone(),
        );
        let archive = tokio::spawn(stream.run());
        let writers = Writers::start(&dsn, 3).await?;
        let context = job.cancelled_by(job.cancel.child_token());
        self.backup_in(
            context,
            cluster.clone(),
            BackupOptions { reason: Some("demo".to_owned()), ..BackupOptions::default() },
        )
        .await?;

        reporter.phase("disaster", None, None);
        writers.pause().await;
        let mut tables = Vec::new();
        for table in TABLES {
            let at_target = count(&mut app, table).await?;
            tables.push(DemoTable {
                table: table.to_owned(),
                at_target,
                after_disaster: 0,
                restored: None,
            });
        }
        let sets =
            app.query(&format!("BEGIN; {DISASTER}; SELECT pg_current_xact_id(); COMMIT")).await?;
        let xid = sets.iter().find_map(|s| s.rows.first()?.first()?.clone()).ok_or_else(|| {
            EngineError::Fault("the server did not name the transaction".to_owned())
        })?;
        reporter.log(format!("{DISASTER}: transaction {xid}"));
        let written = writers.resume_until_more(120).await?;
        reporter.log(format!("{written} good transactions after it"));
        for table in &mut tables {
            table.after_disaster = count(&mut app, &table.table).await?;
        }
        let end: Lsn = app
            .query_value("SELECT pg_current_wal_lsn()")
            .await?
            .and_then(|l| l.parse().ok())
            .ok_or_else(|| {
                EngineError::Fault("the server did not tell its WAL position".to_owned())
            })?;
        app.close().await;
        reporter.phase("archiving WAL", None, None);
        wait_for(frontier, end).await?;
        stop_archive.cancel();
        archive.await.map_err(|e| EngineError::Fault(format!("the WAL stream failed: {e}")))??;
        let disaster = self.find_commit(&cluster, &xid).await?;
        let record = DemoRecord {
            status: DemoStatus {
                cluster: CLUSTER.to_owned(),
                suggested_target: format!("xid:{}", disaster.xid),
                disaster,
                tables,
            },
            directory: stage.directory.clone(),
            repository: repository.id,
            server: location.clone(),
        };
        let path = self.demo_record();
        let text = serde_json::to_vec(&record).map_err(|e| EngineError::Fault(e.to_string()))?;
        std::fs::write(&path, text).map_err(EngineError::file("write", &path))?;
        Ok(record)
    }

    async fn find_commit(&self, cluster: &Cluster, xid: &str) -> Result<Commit> {
        // The server counts 64 bits, the WAL 32.
        let short = xid.parse::<u64>().map(|x| (x & 0xffff_ffff).to_string()).unwrap_or_default();
        let page =
            self.commits(&cluster.name, Around::End, 1000, Way::Newest, Freshness::Now).await?;
        page.commits.into_iter().find(|c| c.xid == short).ok_or_else(|| {
            EngineError::integrity(
                "commit_not_indexed",
                format!("transaction {xid} is not in the commit index"),
                "",
            )
        })
    }
}

async fn wait_for(mut frontier: tokio::sync::watch::Receiver<Frontier>, lsn: Lsn) -> Result<()> {
    let reached =
        tokio::time::timeout(Duration::from_mins(2), frontier.wait_for(|f| f.durable >= lsn)).await;
    match reached {
        Ok(Ok(_)) => Ok(()),
        _ => Err(EngineError::refused(
            "wal_archive_stalled",
            "the demo's WAL did not reach the repository",
            "Look at the journal of the job.",
        )),
    }
}

fn seconds(job: &JobContext) -> std::collections::BTreeMap<String, f64> {
    let mut sums = std::collections::BTreeMap::new();
    for phase in job.reporter.phases() {
        *sums.entry(phase.name).or_insert(0.0) += phase.seconds;
    }
    sums
}

async fn connect(dsn: &str) -> Result<Connection> {
    let dsn = holdfast_wire::Dsn::parse(dsn, &|_| None)?;
    Ok(Connection::connect(&dsn, None, holdfast_wire::SessionKind::Sql).await?)
}

async fn count(connection: &mut Connection, table: &str) -> Result<u64> {
    let text = connection.query_value(&format!("SELECT count(*) FROM {table}")).await?;
    text.and_then(|t| t.parse().ok())
        .ok_or_else(|| EngineError::Fault(format!("{table} could not be counted")))
}
