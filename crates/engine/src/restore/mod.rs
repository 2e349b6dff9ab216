//! Restore: plan, fetch, replay to the target, pause, prove, hand over.

mod delta;
mod feed;
mod fetch;
mod gate;
mod host;
mod in_place;
mod inspect;
mod place;
mod plan;
mod prove;
mod record;
mod replay;
mod resolve;
mod resume;
mod tablespace;
mod unfinished;

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::Utc;
use holdfast_repository::ObjectKind;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::error::{EngineError, Outcome, Result};
use crate::jobs::{JobContext, JobId, JobKind, JobState};
use crate::points::Commit;
use crate::server::binaries::ServerBinaries;
use crate::server::identity::{RunAs, socket_directory};
use crate::server::private::{PrivateServer, ServerLocation, blocking, run};
use crate::snapshot::{Proof, proofs_prefix};
use crate::{Engine, Finding, PhaseTime, Severity};

pub use in_place::{Placement, Purged, SetAside, Swapped};
pub use inspect::{InspectRequest, Inspection};
pub use plan::{
    Estimate, Loss, PlanStep, ReachedPoint, RestorePlan, RestoreRequest, TimelineChoice,
};
pub(crate) use plan::{Prepared, Purpose, free_space};
pub use resolve::{Stop, StopRule};
pub use resume::Resumed;
pub(crate) use unfinished::can_resume;

use gate::Gate;
use place::Place;
use record::RestoreRecord;
use replay::{Paused, Site, WorkDirectory};
use unfinished::Unfinished;

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
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    /// Bytes of the files that stood at the destination already, by their content.
    #[serde(default)]
    #[ts(type = "number")]
    pub bytes_reused: u64,
    /// Bytes of the files that were written.
    #[serde(default)]
    #[ts(type = "number")]
    pub bytes_written: u64,
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
            && !options.request.tablespaces.is_empty()
        {
            return Err(EngineError::usage(
                "a restore in place keeps its tablespaces inside",
                "Leave out --tablespace, or restore to a new directory.",
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
            None => self.prepare(options.request.clone(), None, Purpose::Run).await,
        }
    }

    pub(crate) async fn restore_in(
        &self,
        job: JobContext,
        prepared: Prepared,
        options: &RunOptions,
    ) -> Result<RestoreResult> {
        let begun = Begun::new(&job, &prepared, options, self.run_as()?)?;
        self.restore_from(job, prepared, options, begun).await
    }

    /// Runs a restore from wherever its directory stands.
    async fn restore_from(
        &self,
        job: JobContext,
        mut prepared: Prepared,
        options: &RunOptions,
        mut begun: Begun,
    ) -> Result<RestoreResult> {
        let directory = prepared.request.destination.clone();
        prepared.request.destination.clone_from(&begun.unfinished.directory);
        let outcome = match self.run_restore(&job, &prepared, options, &mut begun).await {
            Ok((result, server)) if prepared.request.placement == Placement::InPlace => {
                self.take_place(&job, &mut begun, &directory, result).await.map(|r| (r, server))
            }
            other => other,
        };
        match outcome {
            Ok((result, server)) => {
                begun.ended(result.running)?;
                if let Some(server) = server {
                    server.let_go();
                }
                Ok(result)
            }
            Err(error) => {
                // Asked before the removal gives the space back.
                let error = name_full_disk(error, &begun.unfinished.directory, &prepared);
                let kept = begun.is_kept_after(&error);
                job.reporter.log(if kept {
                    "stopping; what was written is kept"
                } else {
                    "removing what was written"
                });
                blocking(move || {
                    begun.undo(kept);
                    Ok(())
                })
                .await?;
                Err(if kept { unfinished::resumable(job.id, error) } else { error })
            }
        }
    }

    async fn run_restore(
        &self,
        job: &JobContext,
        prepared: &Prepared,
        options: &RunOptions,
        begun: &mut Begun,
    ) -> Result<(RestoreResult, Option<PrivateServer>)> {
        let began = std::time::Instant::now();
        let destination = &prepared.request.destination;
        for finding in
            prepared.plan.host_findings.iter().filter(|f| f.severity >= Severity::Warning)
        {
            job.reporter.warning(finding.message.clone());
        }
        let place = Place {
            data_directory: destination.clone(),
            tablespaces: prepared.request.tablespaces.clone(),
        };
        place.roots().try_for_each(create_private)?;
        let standing = begun.resumed || prepared.request.placement == Placement::Delta;
        let fetched =
            fetch::fetch(job, &prepared.repository, &prepared.snapshot, &place, standing).await?;
        let mut checks = vec![Finding::new(
            Severity::Ok,
            "content_authenticated",
            if standing {
                "every block was authenticated as it was written, or compared with its authenticated hash where it stood"
            } else {
                "every block was authenticated as it was written"
            },
            None,
        )];
        let binaries = prepared.plan.server.clone();
        if let Some(binaries) = &binaries {
            job.reporter.phase("checking files", None, None);
            checks.push(verify_files(binaries, destination).await?);
        }
        job.check()?;
        let fetched = |result: RestoreResult| RestoreResult {
            bytes_reused: fetched.reused,
            bytes_written: fetched.written,
            ..result
        };
        if options.fetch_only {
            begun.give_back()?;
            return Ok((fetched(result(job, prepared, options, checks, None, false)), None));
        }
        let binaries = binaries
            .ok_or_else(|| EngineError::Fault("a plan without a server was run".to_owned()))?;
        let run_as = begun.run_as.clone();
        {
            let (place, run_as) = (place.clone(), run_as.clone());
            blocking(move || prepare_data_directory(&place, &run_as)).await?;
        }
        let work = WorkDirectory(begun.unfinished.work_directory.clone());
        work.create(&run_as)?;
        let sockets = socket_directory(&run_as)?;
        let location = replay::location(prepared, binaries, &work, sockets)?;
        begun.note_server(location.clone())?;
        let site = Site { location: location.clone(), work, run_as, listen: options.start };
        let proven =
            gate::replay_and_prove(job, prepared, &site, prepared.snapshot.start_lsn).await?;
        checks.extend(proven.checks);

        job.reporter.phase("handing over", None, None);
        let server = self.hand_over(proven.server, &location, options, &site.run_as).await?;
        if options.at_target == AtTarget::Promote {
            checks.push(Finding::new(
                Severity::Ok,
                "promoted",
                "recovery ended; the copy takes writes on a timeline of its own",
                None,
            ));
        }
        if server.is_none() {
            begun.give_back()?;
        }
        let record = RestoreRecord {
            location: location.clone(),
            work_directory: site.work.0.clone(),
            placement: prepared.request.placement,
            tablespaces: prepared.request.tablespaces.values().cloned().collect(),
            set_aside: None,
            gate: (options.at_target == AtTarget::Pause)
                .then(|| Gate { plan: prepared.plan.clone(), stop: prepared.stop.clone() }),
            moving: None,
        };
        record.write(&self.home().jobs(), job.id)?;
        let log = job.directory.join("server.log");
        let _ = std::fs::copy(site.work.log(), &log);
        let replayed = Some((&location, &proven.paused));
        let mut result =
            fetched(result(job, prepared, options, checks, replayed, server.is_some()));
        if result.verified {
            self.keep_proof(job, prepared, &result, began.elapsed()).await?;
        }
        result.phases = job.reporter.phases();
        Ok((result, server))
    }

    /// The proven copy takes the place of the old directory.
    async fn take_place(
        &self,
        job: &JobContext,
        begun: &mut Begun,
        directory: &Path,
        mut result: RestoreResult,
    ) -> Result<RestoreResult> {
        job.check()?;
        result.data_directory = directory.display().to_string();
        let copy = in_place::identity(&begun.unfinished.directory)?;
        begun.unfinished.swapping = Some((copy, Box::new(result)));
        begun.unfinished.write(&job.directory)?;
        self.end_swap(job, &begun.unfinished, directory).await
    }

    /// Ends a change of places, whether it has begun or not.
    async fn end_swap(
        &self,
        job: &JobContext,
        unfinished: &Unfinished,
        directory: &Path,
    ) -> Result<RestoreResult> {
        let Some((copy, result)) = unfinished.swapping.clone() else {
            return Err(EngineError::Fault("no change of places was prepared".to_owned()));
        };
        job.reporter.phase("swapping", None, None);
        let jobs = self.home().jobs();
        let mut record = RestoreRecord::read(&jobs, job.id)?;
        let (staging, directory) = (unfinished.directory.clone(), directory.to_path_buf());
        let id = job.id;
        blocking(move || {
            record.set_aside = Some(in_place::swap_in(&staging, &directory, id, copy)?);
            record.location.data_directory = directory;
            record.write(&jobs, id)
        })
        .await?;
        Ok(RestoreResult { phases: job.reporter.phases(), ..*result })
    }

    /// Does what was asked for at the target; gives the server when it is to run on.
    async fn hand_over(
        &self,
        server: PrivateServer,
        location: &ServerLocation,
        options: &RunOptions,
        run_as: &RunAs,
    ) -> Result<Option<PrivateServer>> {
        if options.at_target == AtTarget::Promote
            && let Err(error) = replay::promote(location).await
        {
            let _ = server.stop(run_as).await;
            return Err(error);
        }
        if options.at_target == AtTarget::Shutdown || !options.start {
            server.stop(run_as).await?;
            return Ok(None);
        }
        Ok(Some(server))
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
        let taken = self.take_up(job, CancellationToken::new()).await?;
        if let Some(unfinished) = Unfinished::read(&taken.context.directory)? {
            return self.discard_unfinished(job, &taken.context, unfinished).await;
        }
        let record = RestoreRecord::read(&self.home().jobs(), job)?;
        if record.set_aside.is_some() {
            return Err(EngineError::refused(
                "restored_in_place",
                "the restore took the place of a data directory",
                format!(
                    "Put the old one back with `holdfast restore swap-back {job}`, or let the copy stay and remove the \
                     old one with `holdfast restore purge {job}`."
                ),
            ));
        }
        if record.placement == Placement::Delta {
            return Err(EngineError::refused(
                "restored_in_place",
                "the restore has overwritten a data directory: there is no copy beside it",
                format!(
                    "{} is the only one. Remove it by hand when it is not needed.",
                    record.location.data_directory.display()
                ),
            ));
        }
        self.remove_restore(job).await
    }

    /// Takes back what an interrupted or failed restore has left.
    async fn discard_unfinished(
        &self,
        job: JobId,
        context: &JobContext,
        unfinished: Unfinished,
    ) -> Result<()> {
        if unfinished.swapping.is_some() {
            return Err(EngineError::refused(
                "swap_unfinished",
                "the copy was about to change places with the data directory",
                format!(
                    "End it with `holdfast restore resume {job}`; `holdfast restore swap-back {job}` then puts the old \
                     directory back."
                ),
            ));
        }
        let run_as = self.run_as()?;
        let (jobs, directory) = (self.home().jobs(), context.directory.clone());
        blocking(move || {
            unfinished.take_back(&run_as)?;
            place::remove(&RestoreRecord::path(&jobs, job))?;
            Unfinished::forget(&directory)
        })
        .await
    }

    /// Takes back what a failed restore has kept to go on with, where nobody will: gives its error.
    pub(crate) async fn give_up(&self, job: &JobContext, error: EngineError) -> EngineError {
        let EngineError::Resumable { source, .. } = error else { return error };
        if let Ok(Some(unfinished)) = Unfinished::read(&job.directory)
            && let Err(error) = self.discard_unfinished(job.id, job, unfinished).await
        {
            job.reporter.warning(format!("what was written could not be removed: {error}"));
        }
        *source
    }

    /// Stops the server of a restore and removes the copy, whatever its job does.
    pub(crate) async fn remove_restore(&self, job: JobId) -> Result<()> {
        let record = RestoreRecord::read(&self.home().jobs(), job)?;
        record.location.stop(&self.run_as()?).await?;
        let jobs = self.home().jobs();
        blocking(move || {
            record.tablespaces.iter().try_for_each(|space| unfinished::empty(space))?;
            place::remove(&record.location.data_directory)?;
            place::remove(&record.work_directory)?;
            place::remove(&RestoreRecord::path(&jobs, job))
        })
        .await?;
        self.note_stopped(job).await
    }

    /// Where the server of a restore is that was left running.
    pub(crate) fn restored_server(&self, job: JobId) -> Result<ServerLocation> {
        Ok(RestoreRecord::read(&self.home().jobs(), job)?.location)
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
        bytes_reused: 0,
        bytes_written: 0,
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
fn prepare_data_directory(place: &Place, run_as: &RunAs) -> Result<()> {
    let destination = &place.data_directory;
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
    place.roots().try_for_each(|root| run_as.own_tree(root))
}

/// A restore under way, with what a failed or cancelled one takes back.
struct Begun {
    unfinished: Unfinished,
    /// The job's directory.
    directory: PathBuf,
    run_as: RunAs,
    /// Whether it goes on with what an earlier run has written.
    resumed: bool,
    over: bool,
}

impl Begun {
    /// Notes what is about to begin, before anything is written.
    fn new(
        job: &JobContext,
        prepared: &Prepared,
        options: &RunOptions,
        run_as: RunAs,
    ) -> Result<Self> {
        let asked = &prepared.request;
        let directory = match asked.placement {
            Placement::InPlace => in_place::staging(&asked.destination, job.id),
            Placement::New | Placement::Delta => asked.destination.clone(),
        };
        let request = RestoreRequest {
            snapshot: Some(prepared.snapshot.id),
            timeline: TimelineChoice::Numbered(prepared.timeline()),
            ..asked.clone()
        };
        let existed = directory.exists();
        let unfinished = Unfinished {
            options: RunOptions { request, plan_hash: None, ..options.clone() },
            pinned: prepared.pinned(),
            end: prepared.end(),
            existed,
            owner: if existed { owner(&directory) } else { None },
            work_directory: WorkDirectory::beside(&directory, &job.id.to_string()).0,
            server: None,
            swapping: None,
            directory,
        };
        unfinished.write(&job.directory)?;
        if let Some(parent) = unfinished.directory.parent() {
            std::fs::create_dir_all(parent).map_err(EngineError::file("create", parent))?;
        }
        let directory = job.directory.clone();
        Ok(Self { unfinished, directory, run_as, resumed: false, over: false })
    }

    /// Notes the private server before it is started, so that it can be found whatever happens.
    fn note_server(&mut self, location: ServerLocation) -> Result<()> {
        self.unfinished.server = Some(location);
        self.unfinished.write(&self.directory)
    }

    /// A directory that was there before belongs to whom it belonged.
    fn give_back(&self) -> Result<()> {
        #[cfg(unix)]
        if let Some((uid, gid)) = self.unfinished.owner
            && self.unfinished.options.request.placement == Placement::Delta
        {
            let spaces = self.unfinished.options.request.tablespaces.values();
            for tree in spaces.chain([&self.unfinished.directory]) {
                in_place::give_to(tree, uid, gid)?;
            }
        }
        Ok(())
    }

    /// It ended well: the copy stays, and a server that runs keeps its own files too.
    fn ended(&mut self, running: bool) -> Result<()> {
        self.over = true;
        if !running {
            place::remove(&self.unfinished.work_directory)?;
        }
        Unfinished::forget(&self.directory)
    }

    /// Whether what was written is worth keeping: a store that is away comes back, and what was
    /// overwritten has no undo.
    fn is_kept_after(&self, error: &EngineError) -> bool {
        error.outcome() == Outcome::Unreachable
            || self.unfinished.options.request.placement == Placement::Delta
            || self.unfinished.swapping.is_some()
    }

    /// Stops the server, and takes back what was written unless it is kept.
    fn undo(&mut self, kept: bool) {
        if self.over {
            return;
        }
        self.over = true;
        let undone = if kept {
            self.unfinished.stop(&self.run_as)
        } else {
            self.unfinished.take_back(&self.run_as)
        };
        if let Err(error) = undone {
            tracing::warn!(%error, "something of a restore was left behind");
        } else if !kept {
            let _ = Unfinished::forget(&self.directory);
        }
    }
}

impl Drop for Begun {
    /// The future was dropped: take back what can be taken back.
    fn drop(&mut self) {
        self.undo(self.is_kept_after(&EngineError::Cancelled));
    }
}

/// Who owns a directory.
fn owner(directory: &Path) -> Option<(u32, u32)> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata(directory).ok().map(|found| (found.uid(), found.gid()))
    }
    #[cfg(not(unix))]
    {
        let _ = directory;
        None
    }
}
