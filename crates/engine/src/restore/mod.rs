//! Restore: plan, fetch, replay to the target, pause, prove, hand over.

mod feed;
mod fetch;
mod gate;
mod host;
mod in_place;
mod inspect;
mod plan;
mod prove;
mod record;
mod replay;
mod resolve;

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::Utc;
use holdfast_repository::ObjectKind;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::error::{EngineError, Result};
use crate::jobs::{JobContext, JobId, JobKind, JobState};
use crate::points::Commit;
use crate::server::binaries::ServerBinaries;
use crate::server::identity::{RunAs, socket_directory};
use crate::server::private::{PrivateServer, ServerLocation, blocking, run};
use crate::snapshot::{Proof, proofs_prefix};
use crate::{Engine, Finding, PhaseTime, Severity};

pub use in_place::{Placement, Purged, Swapped};
pub use inspect::{InspectRequest, Inspection};
pub(crate) use plan::Prepared;
pub use plan::{
    Estimate, Loss, PlanStep, ReachedPoint, RestorePlan, RestoreRequest, TimelineChoice,
};
pub use resolve::{Stop, StopRule};

use gate::Gate;
use record::RestoreRecord;
use replay::{Paused, Site, WorkDirectory};

/// What to do once the target is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum AtTarget {
    /// Stay paused, open for reading.
    Pause,
    /// End recovery and take writes, on a timeline of the copy's own.
    #[default]
    Promote,
    /// Shut down at the target.
    Shutdown,
}

/// How to run a restore.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// What to restore, and to where.
    pub request: RestoreRequest,
    /// What to do at the target.
    pub at_target: AtTarget,
    /// Leave the private server running.
    pub start: bool,
    /// Write the files and stop: no replay, no proof.
    pub fetch_only: bool,
    /// Run exactly the plan of this hash.
    pub plan_hash: Option<String>,
}

/// What a restore did.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct RestoreResult {
    /// The job.
    pub job: String,
    /// The plan that was run.
    pub plan_hash: String,
    /// The snapshot it began with.
    pub snapshot: String,
    /// Where recovery really stopped.
    pub reached: ReachedPoint,
    /// The first transaction that is not in the copy.
    pub stopped_before: Option<Commit>,
    /// How long each phase took.
    pub phases: Vec<PhaseTime>,
    /// The new data directory.
    pub data_directory: String,
    /// The private server's port on loopback, while it runs.
    pub port: Option<u16>,
    /// How to connect to it as superuser, while it runs.
    pub dsn: Option<String>,
    /// Whether every check passed. Never true for what was not checked.
    pub verified: bool,
    /// The checks.
    pub checks: Vec<Finding>,
    /// What was done at the target.
    pub at_target: AtTarget,
    /// Whether the private server runs.
    pub running: bool,
}

impl Engine {
    /// Restores to a point in time.
    ///
    /// # Errors
    /// Refused before anything is written when it cannot work; whatever was written is removed when
    /// it fails later or is cancelled.
    pub async fn restore(
        &self,
        options: RunOptions,
        cancel: CancellationToken,
    ) -> Result<RestoreResult> {
        let prepared = tokio::select! {
            prepared = self.prepared(&options) => prepared?,
            () = cancel.cancelled() => return Err(EngineError::Cancelled),
        };
        let engine = self.clone();
        let name = options.request.cluster.clone();
        let title = title(&prepared);
        self.run_job(JobKind::Restore, Some(&name), title, cancel, |job| async move {
            engine.restore_in(job, prepared, &options).await
        })
        .await
    }

    /// The same in the background. What can be refused is refused before the job exists.
    ///
    /// # Errors
    /// As [`Engine::restore`].
    pub async fn start_restore(&self, options: RunOptions) -> Result<JobId> {
        let prepared = self.prepared(&options).await?;
        let engine = self.clone();
        let name = options.request.cluster.clone();
        let title = title(&prepared);
        self.start_job(JobKind::Restore, Some(&name), title, move |job| async move {
            engine.restore_in(job, prepared, &options).await
        })
        .await
    }

    async fn prepared(&self, options: &RunOptions) -> Result<Prepared> {
        if options.at_target == AtTarget::Pause && !options.start && !options.fetch_only {
            return Err(EngineError::usage(
                "a server that is paused at the target must keep running",
                "Add --start, or choose --at-target promote or shutdown.",
            ));
        }
        if options.request.placement == Placement::InPlace
            && (options.start || options.fetch_only || options.at_target == AtTarget::Pause)
        {
            return Err(EngineError::usage(
                "a restore in place ends with the directory, not with a private server",
                "Leave out --start and --fetch-only, choose --at-target promote or shutdown, and start the server as \
                 always. To look first, restore to a new directory with --start --at-target pause.",
            ));
        }
        match &options.plan_hash {
            Some(hash) => self.prepare_stored(options.request.clone(), hash).await,
            None => self.prepare(options.request.clone(), None, true).await,
        }
    }

    pub(crate) async fn restore_in(
        &self,
        job: JobContext,
        prepared: Prepared,
        options: &RunOptions,
    ) -> Result<RestoreResult> {
        let mut prepared = prepared;
        let replaced = (prepared.request.placement == Placement::InPlace)
            .then(|| prepared.request.destination.clone());
        if let Some(directory) = &replaced {
            prepared.request.destination = in_place::staging(directory, job.id);
        }
        let destination = prepared.request.destination.clone();
        let mut cleanup = Cleanup::begin(&destination, &job)?;
        let outcome = match self.run_restore(&job, &prepared, options, &mut cleanup).await {
            Ok(result) => match &replaced {
                Some(directory) => self.take_place(&job, &destination, directory, result).await,
                None => Ok(result),
            },
            Err(error) => Err(error),
        };
        match outcome {
            Ok(result) => {
                cleanup.keep(result.running);
                Ok(result)
            }
            Err(error) => {
                // Asked before the removal gives the space back.
                let error = name_full_disk(error, &destination, &prepared);
                job.reporter.log("removing what was written");
                blocking(move || {
                    cleanup.undo();
                    Ok(())
                })
                .await?;
                Err(error)
            }
        }
    }

    async fn run_restore(
        &self,
        job: &JobContext,
        prepared: &Prepared,
        options: &RunOptions,
        cleanup: &mut Cleanup,
    ) -> Result<RestoreResult> {
        let began = std::time::Instant::now();
        let run_as = self.run_as()?;
        let destination = &prepared.request.destination;
        for finding in
            prepared.plan.host_findings.iter().filter(|f| f.severity >= Severity::Warning)
        {
            job.reporter.warning(finding.message.clone());
        }
        create_private(destination)?;
        fetch::fetch(
            &prepared.repository,
            &prepared.snapshot,
            destination,
            &job.reporter,
            &job.cancel,
        )
        .await?;
        let mut checks = vec![Finding::new(
            Severity::Ok,
            "content_authenticated",
            "every block was authenticated as it was written",
            None,
        )];
        let binaries = prepared.plan.server.clone();
        if let Some(binaries) = &binaries {
            job.reporter.phase("checking files", None, None);
            checks.push(verify_files(binaries, destination).await?);
        }
        job.check()?;
        if options.fetch_only {
            return Ok(result(job, prepared, options, checks, None, false));
        }
        let binaries = binaries
            .ok_or_else(|| EngineError::Fault("a plan without a server was run".to_owned()))?;
        {
            let (destination, run_as) = (destination.clone(), run_as.clone());
            blocking(move || prepare_data_directory(&destination, &run_as)).await?;
        }
        let work = cleanup.work.clone();
        work.create(&run_as)?;
        let sockets = socket_directory(&run_as)?;
        cleanup.sockets = Some(sockets.clone());
        let location = replay::location(prepared, binaries, &work, sockets)?;
        cleanup.server = Some((location.clone(), run_as.clone()));
        let site = Site { location: location.clone(), work, run_as, listen: options.start };
        let proven =
            gate::replay_and_prove(job, prepared, &site, prepared.snapshot.start_lsn).await?;
        checks.extend(proven.checks);

        job.reporter.phase("handing over", None, None);
        let running = self.hand_over(proven.server, &location, options, &site.run_as).await?;
        if options.at_target == AtTarget::Promote {
            checks.push(Finding::new(
                Severity::Ok,
                "promoted",
                "recovery ended; the copy takes writes on a timeline of its own",
                None,
            ));
        }
        let record = RestoreRecord {
            location: location.clone(),
            work_directory: site.work.0.clone(),
            set_aside: None,
            gate: (options.at_target == AtTarget::Pause)
                .then(|| Gate { plan: prepared.plan.clone(), stop: prepared.stop.clone() }),
        };
        record.write(&self.home().jobs(), job.id)?;
        let log = job.directory.join("server.log");
        let _ = std::fs::copy(site.work.log(), &log);
        let mut result =
            result(job, prepared, options, checks, Some((&location, &proven.paused)), running);
        if result.verified {
            self.keep_proof(job, prepared, &result, began.elapsed()).await?;
        }
        result.phases = job.reporter.phases();
        Ok(result)
    }

    /// The proven copy takes the place of the old directory.
    async fn take_place(
        &self,
        job: &JobContext,
        staging: &Path,
        directory: &Path,
        mut result: RestoreResult,
    ) -> Result<RestoreResult> {
        job.check()?;
        job.reporter.phase("swapping", None, None);
        let jobs = self.home().jobs();
        let mut record = RestoreRecord::read(&jobs, job.id)?;
        let (staging, directory, id) = (staging.to_path_buf(), directory.to_path_buf(), job.id);
        result.data_directory = directory.display().to_string();
        blocking(move || {
            record.set_aside = Some(in_place::swap_in(&staging, &directory, id)?);
            record.location.data_directory = directory;
            record.write(&jobs, id)
        })
        .await?;
        result.phases = job.reporter.phases();
        Ok(result)
    }

    async fn hand_over(
        &self,
        server: PrivateServer,
        location: &ServerLocation,
        options: &RunOptions,
        run_as: &RunAs,
    ) -> Result<bool> {
        if options.at_target == AtTarget::Promote
            && let Err(error) = replay::promote(location).await
        {
            let _ = server.stop(run_as).await;
            return Err(error);
        }
        if options.at_target == AtTarget::Shutdown || !options.start {
            server.stop(run_as).await?;
            return Ok(false);
        }
        server.let_go();
        Ok(true)
    }

    /// A restore that reached its target is the proof of its snapshot.
    async fn keep_proof(
        &self,
        job: &JobContext,
        prepared: &Prepared,
        result: &RestoreResult,
        took: Duration,
    ) -> Result<()> {
        let proof = Proof {
            at: Utc::now(),
            target: prepared.plan.target.clone(),
            reached_lsn: result.reached.lsn,
            reached_time: result.reached.commit_time,
            seconds: took.as_secs_f64(),
            job: job.id.to_string(),
        };
        let path = format!(
            "{}{}",
            proofs_prefix(prepared.cluster.id, prepared.snapshot.id),
            Uuid::now_v7()
        );
        let kept = prepared.repository.put_document(&path, ObjectKind::Proof, &proof).await;
        if let Err(error) = kept {
            // The restore is good all the same; a read-only copy of a repository takes no proof.
            job.reporter
                .warning(format!("the proof could not be stored in the repository: {error}"));
        }
        Ok(())
    }

    /// Stops a restored server and removes the copy.
    ///
    /// # Errors
    /// Not found, refused while the restore runs, or when files cannot be removed.
    pub async fn discard_restore(&self, job: JobId) -> Result<()> {
        let (summary, _) = self.job(job).await?;
        if summary.state == JobState::Running {
            return Err(EngineError::refused(
                "job_running",
                "the restore is still running",
                format!("Cancel it first: `holdfast restore cancel {job}`."),
            ));
        }
        let _taken = self.take_up(job, CancellationToken::new()).await?;
        if RestoreRecord::read(&self.home().jobs(), job)?.set_aside.is_some() {
            return Err(EngineError::refused(
                "restored_in_place",
                "the restore took the place of a data directory",
                format!(
                    "Put the old one back with `holdfast restore swap-back {job}`, or let the copy stay and remove the \
                     old one with `holdfast restore purge {job}`."
                ),
            ));
        }
        self.remove_restore(job).await
    }

    /// Stops the server of a restore and removes the copy, whatever its job does.
    pub(crate) async fn remove_restore(&self, job: JobId) -> Result<()> {
        let record = RestoreRecord::read(&self.home().jobs(), job)?;
        record.location.stop(&self.run_as()?).await?;
        let jobs = self.home().jobs();
        blocking(move || {
            for directory in [&record.location.data_directory, &record.work_directory] {
                match std::fs::remove_dir_all(directory) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                        return Err(EngineError::file("remove", directory)(e));
                    }
                    _ => {}
                }
            }
            let path = RestoreRecord::path(&jobs, job);
            std::fs::remove_file(&path).map_err(EngineError::file("remove", path))
        })
        .await?;
        self.note_stopped(job).await
    }

    /// Notes in a restore's result that its server does not run any more.
    async fn note_stopped(&self, job: JobId) -> Result<()> {
        if let Ok(mut result) = self.restore_result(job).await {
            result.running = false;
            result.port = None;
            result.dsn = None;
            self.keep_restore_result(job, &result).await?;
        }
        Ok(())
    }

    async fn keep_restore_result(&self, job: JobId, result: &RestoreResult) -> Result<()> {
        let value = serde_json::to_value(result).map_err(|e| EngineError::Fault(e.to_string()))?;
        self.catalog().set_job_result(job, &value).await
    }

    async fn restore_result(&self, job: JobId) -> Result<RestoreResult> {
        let (_, result) = self.job(job).await?;
        result
            .and_then(|r| serde_json::from_value(r).ok())
            .ok_or_else(|| EngineError::NotFound { what: "restore", name: job.to_string() })
    }

    /// A directory for a restore that does not exist yet, in the home directory.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] when there is no such cluster.
    pub async fn suggest_destination(&self, cluster: &str) -> Result<PathBuf> {
        let cluster = self.cluster(cluster).await?;
        let name = format!("{}-{}", cluster.name, Utc::now().format("%Y%m%dT%H%M%SZ"));
        Ok(self.home().root().join("restored").join(name))
    }
}

/// A server that dies on a full disk cannot even say so: its log is on the same disk.
fn name_full_disk(error: EngineError, destination: &Path, prepared: &Prepared) -> EngineError {
    let EngineError::Program { program, output } = &error else { return error };
    let needed = prepared.snapshot.segment_size.bytes();
    if plan::free_space(destination).is_none_or(|free| free >= needed) {
        return error;
    }
    EngineError::refused(
        "disk_full",
        format!(
            "{program} failed and the disk that holds {} is full: {output}",
            destination.display()
        ),
        "Free some space or choose another destination, then run the restore again. What was written is removed.",
    )
}

fn title(prepared: &Prepared) -> String {
    let exclusive = if prepared.request.exclusive { " (exclusive)" } else { "" };
    format!("Restore {} to {}{exclusive}", prepared.cluster.name, prepared.plan.target)
}

fn require_running(location: &ServerLocation) -> Result<()> {
    if location.is_running() {
        return Ok(());
    }
    Err(EngineError::refused(
        "server_not_running",
        "the restored server does not run",
        "It was stopped or discarded. Restore again with --start.",
    ))
}

fn result(
    job: &JobContext,
    prepared: &Prepared,
    options: &RunOptions,
    checks: Vec<Finding>,
    replayed: Option<(&ServerLocation, &Paused)>,
    running: bool,
) -> RestoreResult {
    let shown = replayed.filter(|_| running).map(|(l, _)| l);
    RestoreResult {
        job: job.id.to_string(),
        plan_hash: prepared.plan.hash.clone(),
        snapshot: prepared.snapshot.id.to_string(),
        reached: ReachedPoint {
            lsn: replayed.map_or(prepared.snapshot.start_lsn, |(_, p)| p.replayed),
            ..if replayed.is_some() {
                prepared.plan.predicted.clone()
            } else {
                ReachedPoint {
                    lsn: prepared.snapshot.start_lsn,
                    xid: None,
                    commit_time: None,
                    timeline: prepared.snapshot.timeline.get(),
                }
            }
        },
        stopped_before: prepared.plan.stops_before.clone().filter(|_| replayed.is_some()),
        phases: job.reporter.phases(),
        data_directory: prepared.request.destination.display().to_string(),
        port: shown.map(|l| l.port),
        dsn: shown.map(|l| l.dsn("postgres")),
        verified: replayed.is_some() && checks.iter().all(|c| c.severity < Severity::Error),
        checks,
        at_target: options.at_target,
        running,
    }
}

fn not_proven(checks: &[Finding]) -> EngineError {
    let failed: Vec<_> = checks
        .iter()
        .filter(|c| c.severity == Severity::Error)
        .map(|c| c.message.as_str())
        .collect();
    EngineError::Integrity {
        code: "stop_not_proven",
        message: format!("the copy did not stop where it must: {}", failed.join("; ")),
        hint: "The copy was removed: it may hold more or less than was asked for. Report this with the job's journal."
            .to_owned(),
        details: serde_json::json!({ "checks": checks }),
    }
}

/// PostgreSQL takes a data directory that only its owner can read.
fn create_private(destination: &Path) -> Result<()> {
    std::fs::create_dir_all(destination).map_err(EngineError::file("create", destination))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(destination, std::fs::Permissions::from_mode(0o700))
            .map_err(EngineError::file("protect", destination))?;
    }
    Ok(())
}

/// `pg_verifybackup` against the server's own manifest, before anything of ours is in the directory.
async fn verify_files(binaries: &ServerBinaries, destination: &Path) -> Result<Finding> {
    let Some(program) = binaries.optional_program("pg_verifybackup") else {
        return Ok(Finding::new(
            Severity::Warning,
            "pg_verifybackup_missing",
            "pg_verifybackup is not installed: the fetched files were not compared with the server's manifest again",
            None,
        ));
    };
    let destination = destination.to_path_buf();
    blocking(move || {
        // WAL is replayed from the archive, not from the directory: -n leaves it out.
        run(std::process::Command::new(program).args(["-n", "-q"]).arg(&destination), "pg_verifybackup").map_err(
            |error| {
                EngineError::integrity(
                    "fetched_files_differ",
                    format!("the fetched files are not what the server sent: {}", error.hint().unwrap_or_default()),
                    "The destination's disk may be failing. Nothing was started; the files were removed.",
                )
            },
        )?;
        Ok(Finding::new(Severity::Ok, "files_verified", "pg_verifybackup: the files are what the server sent", None))
    })
    .await
}

/// What differs from the snapshot before the first start.
fn prepare_data_directory(destination: &Path, run_as: &RunAs) -> Result<()> {
    // The map would make the server link to the source's own directories.
    // And standby.signal, which a standby's copy has, would win over recovery.signal.
    for name in ["tablespace_map", "standby.signal", "postmaster.pid", "postmaster.opts"] {
        let path = destination.join(name);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(EngineError::file("remove", path)(e));
            }
            _ => {}
        }
    }
    let signal = destination.join("recovery.signal");
    std::fs::write(&signal, b"").map_err(EngineError::file("write", &signal))?;
    fetch::sync_directory(destination)?;
    run_as.own_tree(destination)
}

/// What a failed or cancelled restore takes back.
struct Cleanup {
    destination: PathBuf,
    existed: bool,
    work: WorkDirectory,
    sockets: Option<PathBuf>,
    server: Option<(ServerLocation, RunAs)>,
    kept: bool,
}

impl Cleanup {
    fn begin(destination: &Path, job: &JobContext) -> Result<Self> {
        let existed = destination.exists();
        if let Some(parent) = destination.parent() {
            std::fs::create_dir_all(parent).map_err(EngineError::file("create", parent))?;
        }
        Ok(Self {
            destination: destination.to_path_buf(),
            existed,
            work: WorkDirectory::beside(destination, &job.id.to_string()),
            sockets: None,
            server: None,
            kept: false,
        })
    }

    /// The copy stays; a server that runs keeps its own files too.
    fn keep(&mut self, running: bool) {
        self.kept = true;
        if !running {
            let _ = std::fs::remove_dir_all(&self.work.0);
        }
    }

    fn undo(&mut self) {
        if self.kept {
            return;
        }
        self.kept = true;
        if let Some((location, run_as)) = &self.server
            && location.is_running()
        {
            let pid_file = location.data_directory.join("PG_VERSION");
            let _ = run(
                run_as
                    .command(&location.binaries.program("pg_ctl"), &[pid_file.as_path()])
                    .args(["stop", "-w", "-m", "immediate", "-D"])
                    .arg(&location.data_directory),
                "pg_ctl stop",
            );
        }
        let _ = std::fs::remove_dir_all(&self.work.0);
        if let Some(sockets) = &self.sockets {
            let _ = std::fs::remove_dir_all(sockets);
        }
        if self.existed {
            if let Ok(entries) = std::fs::read_dir(&self.destination) {
                for entry in entries.flatten() {
                    let path = entry.path();
                    let _ = if path.is_dir() {
                        std::fs::remove_dir_all(&path)
                    } else {
                        std::fs::remove_file(&path)
                    };
                }
            }
        } else {
            let _ = std::fs::remove_dir_all(&self.destination);
        }
    }
}

impl Drop for Cleanup {
    /// The future was dropped: take back what can be taken back.
    fn drop(&mut self) {
        self.undo();
    }
}
