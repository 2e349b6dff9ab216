//! Replays WAL on a private server up to the target, and leaves it paused there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use holdfast_postgres::{Lsn, PgTimestamp, ServerLimits};
use holdfast_wire::Connection;

use super::feed;
use super::host;
use super::plan::Prepared;
use super::resolve::StopRule;
use super::tablespace;
use crate::disk::free_space;
use crate::error::{EngineError, Result};
use crate::jobs::JobContext;
use crate::server::binaries::ServerBinaries;
use crate::server::identity::RunAs;
use crate::server::private::{PrivateServer, ServerLocation};

/// Where a private server's own files are: settings, access rules, log, spool.
#[derive(Debug, Clone)]
pub(super) struct WorkDirectory(pub(super) PathBuf);

impl WorkDirectory {
    /// Beside the destination, on the same file system.
    pub(super) fn beside(destination: &Path, job: &str) -> Self {
        let name =
            destination.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Self(
            destination
                .with_file_name(format!(".{name}.holdfast-{}", job.get(24..).unwrap_or(job))),
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The spool's directory.
    pub(super) fn spool(&self) -> PathBuf {
        self.path("wal")
    }

    /// The server's log.
    pub(super) fn log(&self) -> PathBuf {
        self.path("server.log")
    }

    /// Begins the server's log anew; what it said so far stays in the job's directory.
    pub(super) fn begin_log(&self, job: &Path) -> Result<()> {
        let log = self.log();
        let said = std::fs::read(&log).unwrap_or_default();
        let kept = job.join("server.log");
        let mut all = std::fs::read(&kept).unwrap_or_default();
        if !all.ends_with(&said) {
            all.extend_from_slice(&said);
            std::fs::write(&kept, all).map_err(EngineError::file("write", kept))?;
        }
        let file = std::fs::File::options().write(true).truncate(true).open(&log);
        file.map(drop).map_err(EngineError::file("empty", log))
    }

    /// Writes settings and access rules of our own: nothing of the source's is used.
    pub(super) fn create(&self, run_as: &RunAs) -> Result<()> {
        std::fs::create_dir_all(self.spool()).map_err(EngineError::file("create", self.spool()))?;
        let write = |name: &str, text: &str| {
            let path = self.path(name);
            std::fs::write(&path, text).map_err(EngineError::file("write", path))
        };
        write(
            "postgresql.conf",
            "# Settings of a private copy; everything that matters is on the command line.\n",
        )?;
        // The socket's directory is private to whoever runs Holdfast; on loopback passwords count.
        write(
            "pg_hba.conf",
            "local all all trust\nhost all all 127.0.0.1/32 md5\nhost all all ::1/128 md5\n",
        )?;
        write("pg_ident.conf", "")?;
        write("server.log", "")?;
        run_as.own_tree(&self.0)
    }
}

/// The private server's settings. They are given on its command line, where `postgresql.auto.conf`
/// of the source cannot override them.
fn settings(prepared: &Prepared, site: &Site, restore_command: &str) -> Vec<(String, String)> {
    let snapshot = &prepared.snapshot;
    let limits =
        prepared.view.limits(&prepared.legs, snapshot.start_lsn, prepared.end(), snapshot.limits);
    let mut list = base_settings(&site.work, &site.location, limits, site.listen);
    let mut set = |name: &str, value: String| list.push((name.to_owned(), value));
    set(
        "shared_preload_libraries",
        host::loadable_libraries(&snapshot.source, &prepared.plan.host_findings).join(","),
    );
    // PostgreSQL wants room for two segments at least, whatever their size.
    let segment_mib = prepared.cluster.segment_size.bytes() >> 20;
    set("min_wal_size", format!("{}MB", (2 * segment_mib).max(80)));
    set("max_wal_size", format!("{}MB", (8 * segment_mib).max(1024)));
    set("restore_command", restore_command.to_owned());
    // A target that the source's own files still name would be a second one. They are cleared first:
    // PostgreSQL refuses an empty one, too, once another is set.
    for name in ["", "_time", "_xid", "_lsn", "_name"] {
        set(&format!("recovery_target{name}"), String::new());
    }
    set("recovery_min_apply_delay", "0".to_owned());
    set("recovery_target_timeline", prepared.timeline().to_string());
    set("recovery_target_action", "pause".to_owned());
    set(
        "recovery_target_inclusive",
        if prepared.request.exclusive { "off" } else { "on" }.to_owned(),
    );
    match &prepared.stop.rule {
        StopRule::Immediate => set("recovery_target", "immediate".to_owned()),
        StopRule::Time(t) => set(
            "recovery_target_time",
            PgTimestamp(*t).to_chrono().format("%Y-%m-%d %H:%M:%S%.6f+00").to_string(),
        ),
        StopRule::Xid(xid) => set("recovery_target_xid", xid.to_string()),
        StopRule::Lsn(lsn) => set("recovery_target_lsn", lsn.to_string()),
        StopRule::Name(name) => set("recovery_target_name", name.clone()),
    }
    if snapshot.server_version.major() >= 15 {
        set("archive_library", String::new());
    }
    if prepared.plan.server.as_ref().is_some_and(tablespace::can_be_inside) {
        set("allow_in_place_tablespaces", "on".to_owned());
    }
    list
}

fn base_settings(
    work: &WorkDirectory,
    location: &ServerLocation,
    limits: ServerLimits,
    listen: bool,
) -> Vec<(String, String)> {
    let text = |p: PathBuf| p.to_string_lossy().into_owned();
    let fixed: [(&str, String); 34] = [
        ("config_file", text(work.path("postgresql.conf"))),
        ("hba_file", text(work.path("pg_hba.conf"))),
        ("ident_file", text(work.path("pg_ident.conf"))),
        ("external_pid_file", String::new()),
        ("port", location.port.to_string()),
        ("listen_addresses", if listen { "127.0.0.1" } else { "" }.to_owned()),
        ("unix_socket_directories", location.socket_directory.to_string_lossy().into_owned()),
        ("unix_socket_group", String::new()),
        ("unix_socket_permissions", "0777".to_owned()),
        // The source's machine may be far larger than this one.
        ("shared_buffers", "128MB".to_owned()),
        ("huge_pages", "try".to_owned()),
        ("hot_standby", "on".to_owned()),
        ("archive_mode", "off".to_owned()),
        ("archive_command", String::new()),
        ("archive_cleanup_command", String::new()),
        ("recovery_end_command", String::new()),
        ("primary_conninfo", String::new()),
        ("primary_slot_name", String::new()),
        ("synchronous_standby_names", String::new()),
        ("session_preload_libraries", String::new()),
        ("local_preload_libraries", String::new()),
        ("max_logical_replication_workers", "0".to_owned()),
        ("ssl", "off".to_owned()),
        ("logging_collector", "off".to_owned()),
        ("log_destination", "stderr".to_owned()),
        ("log_min_messages", "warning".to_owned()),
        ("log_line_prefix", "%m [%p] ".to_owned()),
        ("log_timezone", "UTC".to_owned()),
        ("lc_messages", "C".to_owned()),
        ("max_connections", limits.max_connections.max(20).to_string()),
        ("max_worker_processes", limits.max_worker_processes.to_string()),
        ("max_wal_senders", limits.max_wal_senders.to_string()),
        ("max_prepared_transactions", limits.max_prepared_xacts.to_string()),
        ("max_locks_per_transaction", limits.max_locks_per_xact.max(64).to_string()),
    ];
    fixed.into_iter().map(|(n, v)| (n.to_owned(), v)).collect()
}

/// What a server that is paused, or on its way there, says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Paused {
    /// The end of the last replayed record.
    pub(super) replayed: Lsn,
    /// The time in the last replayed transaction end.
    pub(super) last_transaction: Option<PgTimestamp>,
}

impl Paused {
    fn time(&self) -> Option<DateTime<Utc>> {
        self.last_transaction.map(PgTimestamp::to_chrono)
    }
}

/// A copy with its private server and everything of its own around it.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) location: ServerLocation,
    pub(super) work: WorkDirectory,
    pub(super) run_as: RunAs,
    /// Whether the server listens on loopback, beside its socket.
    pub(super) listen: bool,
}

/// Brings the copy's server up and replays until it is paused at the stop of `prepared`. WAL is served
/// from the segment of `first` on, and from wherever else PostgreSQL asks for.
pub(super) async fn to_stop(
    job: &JobContext,
    prepared: &Prepared,
    site: &Site,
    first: Lsn,
) -> Result<(PrivateServer, Paused)> {
    let histories = feed::history_files(&prepared.repository, &prepared.view).await?;
    let size = prepared.view.segment_size;
    let names: Vec<_> = prepared.wal.iter().map(|f| f.render(size)).collect();
    let spool = feed::Spool::create(&site.work.spool(), &names, &histories, &site.run_as)?;
    let settings = settings(prepared, site, &spool.restore_command());
    let segments = feed::stored_segments(prepared)?;
    let mut feeder = tokio::spawn(feed::feed(
        prepared.repository.clone(),
        segments,
        prepared.view.clone(),
        spool.clone(),
        size.segment_of(first),
        job.clone(),
        prepared.patches.clone(),
    ));
    let replayed = run(job, prepared, site, &settings, &spool, &mut feeder).await;
    if !feeder.is_finished() {
        feeder.abort();
        // Nothing writes into the spool any more when somebody removes it.
        let _ = (&mut feeder).await;
    }
    replayed
}

/// Starts the server and waits until it is paused at the target.
async fn run(
    job: &JobContext,
    prepared: &Prepared,
    site: &Site,
    settings: &[(String, String)],
    spool: &feed::Spool,
    feeder: &mut tokio::task::JoinHandle<EngineError>,
) -> Result<(PrivateServer, Paused)> {
    let reporter = &job.reporter;
    let run_as = &site.run_as;
    let segments = prepared.wal.len() as u64;
    reporter.heading_for(&prepared.plan.target, prepared.end());
    reporter.phase("replaying", Some("segments"), Some(segments));
    let mut server = PrivateServer::start(site.location.clone(), settings, run_as)?;
    let mut connection: Option<Connection> = None;
    let mut progress = Progress::new();
    loop {
        let outcome = step(&mut server, &mut connection).await;
        if job.is_paused() {
            progress = Progress::new();
        }
        let seen = (spool.taken(), connection.is_some(), replayed_to(&outcome));
        if progress.is_over(seen, &prepared.request.destination) {
            let error = EngineError::Program {
                program: "the private PostgreSQL server, which came no further,".to_owned(),
                output: crate::server::private::log_tail(&server.location.log),
            };
            let _ = server.stop(run_as).await;
            return Err(error);
        }
        let stopped = async |server: PrivateServer, error: EngineError| {
            let _ = server.stop(run_as).await;
            Err(error)
        };
        match outcome {
            Ok(Step::Starting) => reporter.done(spool.taken().min(segments)),
            Ok(Step::Replaying(seen)) => {
                reporter.replayed(seen.time(), seen.replayed, spool.taken().min(segments))
            }
            Ok(Step::Paused(paused)) => {
                reporter.replayed(paused.time(), paused.replayed, segments);
                return Ok((server, paused));
            }
            Ok(Step::Promoted) => {
                let error = EngineError::integrity(
                    "recovery_ended_early",
                    "PostgreSQL ended recovery without pausing at the target",
                    "It may hold more or less than was asked for, and was not handed over. Report this with the job's journal.",
                );
                return stopped(server, error).await;
            }
            Err(error) => {
                // A feeder that failed is the cause of whatever the server says.
                let error = if feeder.is_finished() { cause(feeder).await } else { error };
                return stopped(server, error).await;
            }
        }
        if job.cancel.is_cancelled() {
            return stopped(server, EngineError::Cancelled).await;
        }
        if feeder.is_finished() {
            let error = cause(feeder).await;
            return stopped(server, error).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What ended the feeder.
async fn cause(feeder: &mut tokio::task::JoinHandle<EngineError>) -> EngineError {
    feeder.await.unwrap_or_else(|e| EngineError::Fault(format!("the WAL feed failed: {e}")))
}

/// A server that comes no further for so long is given up: one segment never takes it that long.
const STALLED_AFTER: Duration = Duration::from_mins(20);
/// On a disk without any room it is not waited for: nothing will give way.
const STALLED_ON_FULL_DISK_AFTER: Duration = Duration::from_secs(15);
/// Less than this is no room.
const NO_ROOM: u64 = 1 << 20;

/// What has moved: segments taken, whether it can be asked, the time it has replayed to.
type Seen = (u64, bool, Option<DateTime<Utc>>);

/// When replay last came further.
struct Progress {
    seen: Seen,
    since: tokio::time::Instant,
}

impl Progress {
    fn new() -> Self {
        Self { seen: (0, false, None), since: tokio::time::Instant::now() }
    }

    /// Whether replay has stood still for too long.
    fn is_over(&mut self, seen: Seen, destination: &Path) -> bool {
        if seen != self.seen {
            *self = Self { seen, since: tokio::time::Instant::now() };
        }
        let still = self.since.elapsed();
        still > STALLED_AFTER
            || still > STALLED_ON_FULL_DISK_AFTER
                && free_space(destination).is_some_and(|free| free < NO_ROOM)
    }
}

fn replayed_to(step: &Result<Step>) -> Option<DateTime<Utc>> {
    match step {
        Ok(Step::Replaying(seen) | Step::Paused(seen)) => seen.time(),
        _ => None,
    }
}

enum Step {
    Starting,
    Replaying(Paused),
    Paused(Paused),
    Promoted,
}

async fn step(server: &mut PrivateServer, connection: &mut Option<Connection>) -> Result<Step> {
    if server.has_exited() {
        return Err(server.failed());
    }
    if connection.is_none() {
        *connection = server.location.connect("postgres").await.ok();
    }
    let Some(open) = connection else { return Ok(Step::Starting) };
    match look(open).await {
        Ok((false, _, _)) => Ok(Step::Promoted),
        Ok((true, true, paused)) => {
            // A pause may also mean that a setting is too small: then the log does not speak of a target.
            let log = std::fs::read_to_string(&server.location.log).unwrap_or_default();
            if log.contains("recovery stopping") {
                return Ok(Step::Paused(paused));
            }
            if log.contains("insufficient parameter settings") {
                return Err(server.failed());
            }
            Ok(Step::Replaying(paused))
        }
        Ok((true, false, seen)) => Ok(Step::Replaying(seen)),
        Err(_) => {
            *connection = None;
            Ok(Step::Starting)
        }
    }
}

/// Whether the server is in recovery, whether it is paused, and how far it is.
pub(super) async fn look(connection: &mut Connection) -> Result<(bool, bool, Paused)> {
    let sql = "SELECT pg_catalog.pg_is_in_recovery(), \
               CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_get_wal_replay_pause_state() END, \
               pg_catalog.pg_last_wal_replay_lsn(), \
               ((extract(epoch FROM pg_catalog.pg_last_xact_replay_timestamp()) - 946684800) * 1000000)::bigint";
    let row = connection.catalog_rows(sql).await?.into_iter().next().unwrap_or_default();
    let mut cells = row.into_iter();
    let mut cell = || cells.next().flatten();
    let recovering = cell().as_deref() == Some("t");
    let paused = cell().as_deref() == Some("paused");
    let replayed = cell().and_then(|l| l.parse().ok()).unwrap_or_default();
    let last_transaction = cell().and_then(|t| t.parse().ok()).map(PgTimestamp);
    Ok((recovering, paused, Paused { replayed, last_transaction }))
}

/// Ends recovery: the copy takes writes on a timeline of its own.
pub(super) async fn promote(location: &ServerLocation) -> Result<()> {
    let mut connection = location.connect("postgres").await?;
    connection
        .query("SELECT pg_catalog.pg_wal_replay_resume() WHERE pg_catalog.pg_is_in_recovery()")
        .await?;
    let began = tokio::time::Instant::now();
    loop {
        let recovering = match location.connect("postgres").await {
            Ok(mut c) => {
                c.query_value("SELECT pg_catalog.pg_is_in_recovery()").await.ok().flatten()
            }
            Err(_) => None,
        };
        if recovering.as_deref() == Some("f") {
            return Ok(());
        }
        if !location.is_running() || began.elapsed() > Duration::from_mins(10) {
            return Err(EngineError::Program {
                program: "promoting the private server".to_owned(),
                output: crate::server::private::log_tail(&location.log),
            });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Where the new server will be found.
pub(super) fn location(
    prepared: &Prepared,
    binaries: ServerBinaries,
    work: &WorkDirectory,
    socket_directory: PathBuf,
) -> Result<ServerLocation> {
    Ok(ServerLocation {
        data_directory: prepared.request.destination.clone(),
        socket_directory,
        port: crate::server::private::free_port()?,
        superuser: prepared.snapshot.source.superuser.clone(),
        binaries,
        log: work.log(),
    })
}
