//! A backup beside the server: its files are read here, in one session between `pg_backup_start` and
//! `pg_backup_stop` (`xlogfuncs.c`), instead of through the single stream of a walsender.
//!
//! The server sends no manifest then, so Holdfast writes one of what it has read. The proof is its own: page
//! checksums, each page that looks wrong read again, and a restore.

mod reader;
mod tree;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use holdfast_postgres::{BackupLabel, ClusterState, ControlFile, Lsn, SystemIdentifier};
use holdfast_repository::FileLookup;
use holdfast_wire::{Connection, Dsn, HostPort, WireError};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::files::{self, FileStage};
use super::link::Transfer;
use super::pages::PageMismatches;
use super::{Copied, Ground, before};
use crate::cluster::{Cluster, parse_dsn};
use crate::error::{EngineError, Result};
use crate::server::private::blocking;
use crate::snapshot::{ManifestBy, SnapshotKind};

use reader::{Read, Reader};
use tree::{CONTROL, Tree};

/// `pg_default` (`pg_tablespace.dat`), whose databases are below `base`.
const DEFAULT_TABLESPACE: &str = "1663";

/// Whether a backup reads the server's files itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum LocalFiles {
    /// Where the server is on this machine, and the role and this account may.
    #[default]
    Auto,
    /// Never: the server sends them.
    Never,
    /// Refused where it is not possible.
    Require,
}

/// How often the server is asked during the copy whether it still knows of it.
const ASKED_EVERY: Duration = Duration::from_secs(30);
/// How often a control file and the server's word of it are compared: a checkpoint may come in between.
const CONTROL_TRIES: usize = 5;

/// A server whose files can be read here.
pub(super) struct ServerFiles {
    tree: Tree,
    bytes: u64,
}

/// A backup that the server has begun.
pub(super) struct Begun {
    /// It ends with the session.
    session: Connection,
    files: ServerFiles,
    /// The files of the snapshot before.
    before: Option<FileLookup>,
    /// Where databases are, by their directories in the copy.
    databases: HashSet<String>,
    start_lsn: Lsn,
    started_at: DateTime<Utc>,
}

/// Something, or why it cannot be had.
pub(super) type Outcome<T> = std::result::Result<T, String>;

impl LocalFiles {
    /// What is made of an attempt: whoever leaves it open goes on without, with the reason; whoever insists is told.
    pub(super) fn settle<T>(self, attempt: Result<Outcome<T>>) -> Result<Outcome<T>> {
        let why = match attempt {
            Ok(Ok(found)) => return Ok(Ok(found)),
            Ok(Err(why)) => why,
            // Of a server that is not as others are, or that says no; and of what may not be read.
            Err(EngineError::Wire(WireError::Server(server))) => server.message,
            Err(EngineError::Refused { message, .. }) => message,
            Err(EngineError::File { doing, path, source }) => {
                format!("cannot {doing} {}: {source}", path.display())
            }
            Err(other) => return Err(other),
        };
        match self {
            Self::Require => Err(unavailable(&why)),
            Self::Auto | Self::Never => Ok(Err(why)),
        }
    }
}

impl ServerFiles {
    /// The files of a cluster's server, when they are on this machine.
    pub(super) async fn find(cluster: &Cluster, sql: &mut Connection) -> Result<Outcome<Self>> {
        let port = match local_port(&parse_dsn(&cluster.dsn)?) {
            Ok(port) => port,
            Err(why) => return Ok(Err(why)),
        };
        let (start, stop) = functions(sql);
        let asked = format!(
            "SELECT (SELECT setting FROM pg_settings WHERE name = 'data_directory'),
                    (SELECT setting FROM pg_settings WHERE name = 'port'),
                    pg_is_in_recovery(),
                    pg_backend_pid(),
                    has_function_privilege('{start}', 'EXECUTE')
                    AND has_function_privilege('{stop}', 'EXECUTE')"
        );
        let row = sql.catalog_rows(&asked).await?.into_iter().next().unwrap_or_default();
        let mut cells = row.into_iter();
        let mut cell = || cells.next().flatten();
        let (directory, own_port, standby, pid, may) = (cell(), cell(), cell(), cell(), cell());
        let Some(directory) = directory.map(PathBuf::from) else {
            let why =
                "the role may not see where the data directory is: grant it pg_read_all_settings";
            return Ok(Err(why.to_owned()));
        };
        // Behind this port there may be a way to another machine, or a pooler, which lends its sessions.
        let itself = pid.and_then(|pid| pid.parse().ok()) == Some(sql.facts().backend_pid);
        if !itself || own_port.and_then(|port| port.parse().ok()) != Some(port) {
            return Ok(Err(format!("what answers on port {port} is not the server itself")));
        }
        if standby.as_deref() != Some("f") {
            return Ok(Err("the server is a standby".to_owned()));
        }
        if may.as_deref() != Some("t") {
            return Ok(Err(format!("the role may not execute {start} and {stop}")));
        }
        let (system, major) = (cluster.system_identifier, sql.facts().version.major());
        blocking(move || Self::in_directory(directory, system, port, major)).await
    }

    /// Whether a running server of this system and port has this directory, and all of it can be read.
    fn in_directory(
        directory: PathBuf,
        system: SystemIdentifier,
        port: u16,
        major: u32,
    ) -> Result<Outcome<Self>> {
        let pid_file = directory.join("postmaster.pid");
        let running =
            std::fs::read_to_string(&pid_file).map_err(EngineError::file("read", &pid_file))?;
        // The fourth line (`pidfile.h`).
        if running.lines().nth(3).and_then(|line| line.trim().parse().ok()) != Some(port) {
            let directory = directory.display();
            return Ok(Err(format!("the server in {directory} of this machine is another one")));
        }
        let control = control_of(&directory)?;
        if control.system_identifier != system {
            let directory = directory.display();
            return Ok(Err(format!("{directory} on this machine is of another cluster")));
        }
        let tree = Tree {
            root: directory,
            version_directory: format!("PG_{major}_{}", control.catalog_version),
            wal_directories: if major >= 17 {
                &["archive_status", "summaries"]
            } else {
                &["archive_status"]
            },
        };
        let bytes = tree.readable_bytes()?;
        Ok(Ok(Self { tree, bytes }))
    }

    /// Begins a backup, when the directory is shown to be the server's own.
    pub(super) async fn begin(
        self,
        ground: &Ground<'_>,
        mut session: Connection,
    ) -> Result<Outcome<Begun>> {
        let reporter = &ground.job.reporter;
        // It is held for as long as the copy takes, and the checkpoint takes as long as it takes.
        session
            .catalog_rows(
                "SELECT set_config(name, '0', false) FROM pg_settings
                 WHERE name IN ('statement_timeout', 'lock_timeout', 'idle_session_timeout', 'transaction_timeout')",
            )
            .await?;
        let before =
            before::files(ground.engine, ground.cluster, ground.repository, reporter).await;
        reporter.phase("waiting for the server's checkpoint", None, None);
        let started_at = Utc::now();
        let silence = session.set_silence_limit(None);
        let label = format!("holdfast {}", ground.id);
        let start = if session.facts().version.major() >= 15 {
            format!("SELECT pg_backup_start('{label}', true)")
        } else {
            format!("SELECT pg_start_backup('{label}', true, false)")
        };
        let start_lsn = session.catalog_value(&start).await?.and_then(|lsn| lsn.parse().ok());
        session.set_silence_limit(silence);
        let start_lsn: Lsn = start_lsn
            .ok_or_else(|| EngineError::Fault("pg_backup_start gives no LSN".to_owned()))?;
        let root = &self.tree.root;
        if !is_own(root, start_lsn, &mut session).await? {
            return Ok(Err(format!("{} on this machine is another server's", root.display())));
        }
        let databases = databases(&mut session, &self.tree.version_directory).await?;
        let missing = databases.iter().find(|path| !root.join(path).is_dir());
        if let Some(path) = missing {
            return Ok(Err(format!("{} cannot be seen here", root.join(path).display())));
        }
        Ok(Ok(Begun { session, files: self, before, databases, start_lsn, started_at }))
    }
}

impl Begun {
    /// Copies everything, and ends the backup on the server.
    pub(super) async fn copy(mut self, ground: &Ground<'_>) -> Result<Copied> {
        let reporter = &ground.job.reporter;
        ground.companion.require_start(self.start_lsn)?;
        let stage = ground.stage(self.start_lsn, None, self.before.take()).await?;
        reporter.phase("copying", Some("bytes"), Some(self.files.bytes));
        let read = self.read(ground, stage).await?;
        let Read { mut received, listing, directories, warnings } = read;
        // As when the server sends its files: a copy with damaged pages is not kept.
        if received.pages.total > 0 {
            return Err(damaged_pages(&received.pages));
        }
        // What has been there all the time was copied, or this is not all that the server has.
        let since = databases(&mut self.session, &self.files.tree.version_directory).await?;
        let mut lasting = self.databases.intersection(&since);
        if let Some(path) = lasting.find(|path| !directories.contains(*path)) {
            return Err(unseen(path));
        }
        reporter.phase("ending the backup on the server", None, None);
        let (stop_lsn, label_file) = end(&mut self.session).await?;
        let finished_at = Utc::now();
        self.session.close().await;
        let label = BackupLabel::parse(&label_file).map_err(|e| wrong_label(&e.to_string()))?;
        if label.start_lsn != self.start_lsn {
            return Err(wrong_label(&format!("it says that it began at {}", label.start_lsn)));
        }
        let control = &received.control;
        if control.system_identifier != ground.cluster.system_identifier
            || control.timeline != label.start_timeline
            || control.redo < self.start_lsn
        {
            return Err(wrong_label("the copied pg_control is of another server"));
        }
        let (timeline, mtime) = (label.start_timeline, finished_at.timestamp());
        received.totals.files += 1;
        received.totals.bytes += label_file.len() as u64;
        received.manifest =
            listing.finish(&label_file, mtime, timeline, self.start_lsn, stop_lsn)?;
        let (ingest, table) = (&received.ingest, &mut received.table);
        files::store(ingest, table, "backup_label", label_file, mtime).await?;
        Ok(Copied {
            kind: SnapshotKind::Full,
            basis: None,
            full_because: None,
            started_at: self.started_at,
            finished_at,
            start_lsn: self.start_lsn,
            stop_lsn,
            timeline,
            manifest_by: ManifestBy::Holdfast,
            transfer: Transfer::of_files(received.totals.bytes),
            warnings,
            received,
        })
    }

    /// Reads everything on a thread of its own, and makes sure now and then that the server still knows of the backup:
    /// it forgets it with the session.
    async fn read(&mut self, ground: &Ground<'_>, stage: FileStage) -> Result<Read> {
        // Also when this future is dropped.
        let stop = CancellationToken::new();
        let _guard = stop.clone().drop_guard();
        let (version, system) = (self.session.facts().version, ground.cluster.system_identifier);
        let reader = Reader::new(stage, self.files.tree.clone(), version, system, stop.clone());
        let mut reading = tokio::task::spawn_blocking({
            let reporter = ground.job.reporter.clone();
            let runtime = tokio::runtime::Handle::current();
            move || reader.run(&reporter, &runtime)
        });
        loop {
            match tokio::time::timeout(ASKED_EVERY, &mut reading).await {
                Ok(read) => {
                    return read
                        .map_err(|e| EngineError::Fault(format!("the reading failed: {e}")))?;
                }
                Err(_) => drop(self.session.catalog_value("SELECT 1").await?),
            }
        }
    }
}

/// Whether a directory is that of the server behind a session: its control file has the checkpoint that the server has
/// made this moment, at or after `start`.
async fn is_own(root: &Path, start: Lsn, session: &mut Connection) -> Result<bool> {
    for _ in 0..CONTROL_TRIES {
        let root = root.to_owned();
        let control = blocking(move || control_of(&root)).await?;
        let sql = "SELECT checkpoint_lsn, redo_lsn, timeline_id FROM pg_control_checkpoint()";
        let row = session.catalog_rows(sql).await?.into_iter().next().unwrap_or_default();
        let told: Vec<String> = row.into_iter().flatten().collect();
        let read = [
            control.checkpoint.to_string(),
            control.redo.to_string(),
            control.timeline.to_string(),
        ];
        if told == read && control.redo >= start && control.state == ClusterState::InProduction {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The directories of all databases, in all tablespaces.
async fn databases(session: &mut Connection, version_directory: &str) -> Result<HashSet<String>> {
    let sql = "SELECT t.oid, d FROM pg_tablespace t, LATERAL pg_tablespace_databases(t.oid) d
               WHERE t.spcname <> 'pg_global'";
    let rows = session.catalog_rows(sql).await?;
    let directories = rows.into_iter().filter_map(|row| {
        let mut cells = row.into_iter().flatten();
        let (tablespace, database) = (cells.next()?, cells.next()?);
        Some(match tablespace.as_str() {
            DEFAULT_TABLESPACE => format!("base/{database}"),
            _ => format!("pg_tblspc/{tablespace}/{version_directory}/{database}"),
        })
    });
    Ok(directories.collect())
}

/// The functions that begin and end a backup, as `has_function_privilege` wants them.
fn functions(sql: &Connection) -> (&'static str, &'static str) {
    if sql.facts().version.major() >= 15 {
        ("pg_catalog.pg_backup_start(text,boolean)", "pg_catalog.pg_backup_stop(boolean)")
    } else {
        (
            "pg_catalog.pg_start_backup(text,boolean,boolean)",
            "pg_catalog.pg_stop_backup(boolean,boolean)",
        )
    }
}

/// Ends the backup on the server: where it is consistent, and its label. Its WAL is archived by the stream that runs
/// beside.
async fn end(session: &mut Connection) -> Result<(Lsn, Vec<u8>)> {
    let stop = if session.facts().version.major() >= 15 {
        "SELECT lsn, labelfile FROM pg_backup_stop(false)"
    } else {
        "SELECT lsn, labelfile FROM pg_stop_backup(false, false)"
    };
    let row = session.catalog_rows(stop).await?.into_iter().next().unwrap_or_default();
    let mut cells = row.into_iter().flatten();
    let lsn = cells.next().and_then(|lsn| lsn.parse().ok());
    match (lsn, cells.next()) {
        (Some(lsn), Some(label)) => Ok((lsn, label.into_bytes())),
        _ => Err(EngineError::Fault("pg_backup_stop gives no LSN and label".to_owned())),
    }
}

/// The port of a server on this machine.
fn local_port(dsn: &Dsn) -> Outcome<u16> {
    let [host] = dsn.hosts.as_slice() else {
        return Err("the connection names several hosts".to_owned());
    };
    if is_here(host) {
        Ok(host.port)
    } else {
        Err(format!("{} is not an address of this machine alone", host.host))
    }
}

fn is_here(host: &HostPort) -> bool {
    match host.hostaddr {
        Some(address) => address.is_loopback(),
        None => {
            host.is_unix()
                || host.host == "localhost"
                || host.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

/// The control file of a data directory.
fn control_of(directory: &Path) -> Result<ControlFile> {
    let path = directory.join(CONTROL);
    reader::control_bytes(&path)
        .map(|(control, _)| control)
        .map_err(EngineError::file("read", &path))
}

fn unavailable(why: &str) -> EngineError {
    EngineError::refused(
        "local_files_unavailable",
        format!("the server's files cannot be read here: {why}"),
        "Run this beside the server, under an account that may read its data directory, with a role that may execute \
         pg_backup_start and pg_backup_stop. Leave --local-files out: the server then sends its files.",
    )
}

fn unseen(path: &str) -> EngineError {
    EngineError::integrity(
        "local_files_incomplete",
        format!("the server has databases in {path}, and nothing was found there"),
        "Nothing of this backup was kept. A tablespace may not be visible where this runs: have the server send its \
         files, with --local-files never.",
    )
}

fn damaged_pages(pages: &PageMismatches) -> EngineError {
    let first = pages
        .listed
        .iter()
        .take(5)
        .map(|page| format!("{} block {}", page.path, page.block))
        .collect::<Vec<_>>()
        .join(", ");
    EngineError::integrity(
        "page_checksum_failure",
        format!(
            "{} pages of the server have a wrong checksum, also when read again: {first}",
            pages.total
        ),
        "Nothing of this backup was kept: the backups before it are the better ones. The server's disk may be failing. \
         Find out what is in these pages before anything writes to them.",
    )
}

fn wrong_label(why: &str) -> EngineError {
    EngineError::integrity(
        "backup_label_damaged",
        format!("the backup_label that the server gives is not this backup's: {why}"),
        "Nothing of this backup was kept. Run it again.",
    )
}
