//! A backup beside the server: its files are read here, in one session between `pg_backup_start` and
//! `pg_backup_stop` (`xlogfuncs.c`), instead of through the single stream of a walsender.
//!
//! The server sends no manifest then, so Holdfast writes one of what it has read. The proof is its own: page
//! checksums, each page that looks wrong read again, and a restore.

mod reader;
mod tree;

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use holdfast_postgres::{BackupLabel, ControlFile, Lsn, SystemIdentifier};
use holdfast_repository::FileLookup;
use holdfast_wire::{Connection, Dsn, HostPort};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::files;
use super::link::Transfer;
use super::pages::PageMismatches;
use super::{Copied, Ground, before};
use crate::cluster::{Cluster, parse_dsn};
use crate::error::{EngineError, Result};
use crate::server::private::blocking;
use crate::snapshot::{ManifestBy, SnapshotKind};

use reader::Reader;
use tree::{CONTROL, Tree};

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

/// A server whose files can be read here.
pub(super) struct ServerFiles {
    directory: PathBuf,
    catalog_version: u32,
}

/// A backup that the server has begun.
pub(super) struct Begun {
    /// It ends with the session.
    session: Connection,
    tree: Tree,
    /// The files of the snapshot before.
    before: Option<FileLookup>,
    start_lsn: Lsn,
    started_at: DateTime<Utc>,
}

impl ServerFiles {
    /// The files of a cluster's server, when they are on this machine.
    ///
    /// # Errors
    /// Refused where they are wanted in any case and cannot be had; the reason is in it.
    pub(super) async fn find(
        wanted: LocalFiles,
        cluster: &Cluster,
        sql: &mut Connection,
    ) -> Result<Option<Self>> {
        if wanted == LocalFiles::Never {
            return Ok(None);
        }
        match Self::look(cluster, sql).await? {
            Ok(found) => Ok(Some(found)),
            Err(why) if wanted == LocalFiles::Require => Err(unavailable(&why)),
            Err(why) => {
                tracing::debug!(%why, "the server sends its files");
                Ok(None)
            }
        }
    }

    /// The same; or why not.
    async fn look(cluster: &Cluster, sql: &mut Connection) -> Result<Outcome<Self>> {
        let port = match local_port(&parse_dsn(&cluster.dsn)?) {
            Ok(port) => port,
            Err(why) => return Ok(Err(why)),
        };
        let (start, stop) = functions(sql);
        let asked = format!(
            "SELECT (SELECT setting FROM pg_settings WHERE name = 'data_directory'),
                    (SELECT setting FROM pg_settings WHERE name = 'port'),
                    pg_is_in_recovery(),
                    has_function_privilege('{start}', 'EXECUTE')
                    AND has_function_privilege('{stop}', 'EXECUTE')"
        );
        let row = sql.catalog_rows(&asked).await?.into_iter().next().unwrap_or_default();
        let mut cells = row.into_iter();
        let mut cell = || cells.next().flatten();
        let (directory, own_port, standby, may) = (cell(), cell(), cell(), cell());
        let Some(directory) = directory.map(PathBuf::from) else {
            let why =
                "the role may not see where the data directory is: grant it pg_read_all_settings";
            return Ok(Err(why.to_owned()));
        };
        // Behind this port there may be a way to another machine.
        if own_port.and_then(|port| port.parse().ok()) != Some(port) {
            return Ok(Err(format!("what answers on port {port} is not the server itself")));
        }
        if standby.as_deref() != Some("f") {
            return Ok(Err("the server is a standby".to_owned()));
        }
        if may.as_deref() != Some("t") {
            return Ok(Err(format!("the role may not execute {start} and {stop}")));
        }
        let system = cluster.system_identifier;
        blocking(move || Ok(Self::in_directory(directory, system, port))).await
    }

    /// Whether a running server of this system and port has this directory, and it can be read.
    fn in_directory(directory: PathBuf, system: SystemIdentifier, port: u16) -> Outcome<Self> {
        let unreadable = |path: &Path, error| format!("{} cannot be read: {error}", path.display());
        let pid_file = directory.join("postmaster.pid");
        let running = std::fs::read_to_string(&pid_file).map_err(|e| unreadable(&pid_file, e))?;
        // The fourth line (`pidfile.h`).
        if running.lines().nth(3).and_then(|line| line.trim().parse().ok()) != Some(port) {
            let directory = directory.display();
            return Err(format!("the server in {directory} of this machine is another one"));
        }
        let control = directory.join(CONTROL);
        let control = control_file(&control).map_err(|e| unreadable(&control, e))?;
        if control.system_identifier != system {
            let directory = directory.display();
            return Err(format!("{directory} on this machine is of another cluster"));
        }
        Ok(Self { directory, catalog_version: control.catalog_version })
    }

    /// Begins a backup; none when it turns out that the directory is not the server's own after all.
    pub(super) async fn begin(
        self,
        ground: &Ground<'_>,
        mut session: Connection,
    ) -> Result<Outcome<Begun>> {
        let reporter = &ground.job.reporter;
        let before =
            before::files(ground.engine, ground.cluster, ground.repository, reporter).await;
        reporter.phase("waiting for the server's checkpoint", None, None);
        let started_at = Utc::now();
        session
            .query("SET statement_timeout = 0; SET lock_timeout = 0; SET idle_session_timeout = 0")
            .await?;
        // The checkpoint takes as long as it takes.
        session.set_silence_limit(None);
        let label = format!("holdfast {}", ground.id);
        let major = session.facts().version.major();
        let start = if major >= 15 {
            format!("SELECT pg_backup_start('{label}', true)")
        } else {
            format!("SELECT pg_start_backup('{label}', true, false)")
        };
        let start_lsn = session.catalog_value(&start).await?.and_then(|lsn| lsn.parse().ok());
        let start_lsn: Lsn = start_lsn
            .ok_or_else(|| EngineError::Fault("pg_backup_start gives no LSN".to_owned()))?;
        // Only the directory of this very server has seen this checkpoint.
        let path = self.directory.join(CONTROL);
        let control =
            blocking(move || control_file(&path).map_err(EngineError::file("read", path))).await?;
        if control.redo < start_lsn {
            session.close().await;
            let directory = self.directory.display();
            return Ok(Err(format!("{directory} on this machine is another server's")));
        }
        let tree = Tree {
            root: self.directory,
            version_directory: format!("PG_{major}_{}", self.catalog_version),
            wal_directories: if major >= 17 {
                &["archive_status", "summaries"]
            } else {
                &["archive_status"]
            },
        };
        Ok(Ok(Begun { session, tree, before, start_lsn, started_at }))
    }
}

impl Begun {
    /// Copies everything, and ends the backup on the server.
    pub(super) async fn copy(mut self, ground: &Ground<'_>) -> Result<Copied> {
        let reporter = &ground.job.reporter;
        ground.companion.require_start(self.start_lsn)?;
        let stage = ground.stage(self.start_lsn, None, self.before).await?;
        // Also when this future is dropped.
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let reader = Reader::new(
            stage,
            self.tree,
            self.session.facts().version,
            ground.cluster.system_identifier,
            stop,
        );
        let copied = tokio::task::spawn_blocking({
            let (reporter, runtime) = (reporter.clone(), tokio::runtime::Handle::current());
            move || reader.run(&reporter, &runtime)
        });
        let (mut received, listing) =
            copied.await.map_err(|e| EngineError::Fault(format!("the reading failed: {e}")))??;
        drop(guard);
        // As when the server sends its files: a copy with damaged pages is not kept.
        if received.pages.total > 0 {
            return Err(damaged_pages(&received.pages));
        }
        reporter.phase("ending the backup on the server", None, None);
        let (stop_lsn, label_file) = end(&mut self.session).await?;
        let finished_at = Utc::now();
        self.session.close().await;
        let label = BackupLabel::parse(&label_file).map_err(|e| wrong_label(&e.to_string()))?;
        if label.start_lsn != self.start_lsn {
            return Err(wrong_label(&format!("it says that it began at {}", label.start_lsn)));
        }
        let mtime = finished_at.timestamp();
        received.totals.files += 1;
        received.totals.bytes += label_file.len() as u64;
        let manifest =
            listing.finish(&label_file, mtime, label.start_timeline, self.start_lsn, stop_lsn);
        files::store(&received.ingest, &mut received.table, "backup_label", label_file, mtime)
            .await?;
        Ok(Copied {
            kind: SnapshotKind::Full,
            basis: None,
            full_because: None,
            started_at: self.started_at,
            finished_at,
            start_lsn: self.start_lsn,
            stop_lsn,
            timeline: label.start_timeline,
            manifest,
            manifest_by: ManifestBy::Holdfast,
            transfer: Transfer::of_files(received.totals.bytes),
            warnings: Vec::new(),
            received,
        })
    }
}

/// Something, or why it cannot be had.
type Outcome<T> = std::result::Result<T, String>;

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

/// Reads a control file, again when the server is just writing it (`controldata_utils.c`, `get_controlfile`).
fn control_file(path: &Path) -> std::io::Result<ControlFile> {
    reader::control_bytes(path).map(|(control, _)| control)
}

pub(super) fn unavailable(why: &str) -> EngineError {
    EngineError::refused(
        "local_files_unavailable",
        format!("the server's files cannot be read here: {why}"),
        "Run this beside the server, under an account that may read its data directory, with a role that may execute \
         pg_backup_start and pg_backup_stop. Leave --local-files out: the server then sends its files.",
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
