//! Running a restore: fetch, check files, replay to the target, prove, hand over.

use std::path::Path;
use std::time::Duration;

use chrono::Utc;
use holdfast_repository::ObjectKind;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::begun::Begun;
use super::gate::{self, Gate};
use super::in_place::Placement;
use super::place::{self, Identity, Place, create_private};
use super::plan::{Prepared, Purpose};
use super::record::RestoreRecord;
use super::replay::{self, Site, WorkDirectory};
use super::request::{AtTarget, RunOptions};
use super::result::{RestoreResult, result};
use super::{fetch, unfinished};
use crate::disk::free_space;
use crate::error::{EngineError, Result};
use crate::jobs::{JobContext, JobId, JobKind};
use crate::lease::HeldLease;
use crate::retention::tombstone;
use crate::server::binaries::ServerBinaries;
use crate::server::identity::{RunAs, socket_directory};
use crate::server::private::{PrivateServer, ServerLocation, blocking, run};
use crate::snapshot::{Proof, proofs_prefix};
use crate::{Engine, Finding, Severity};

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
        let begun = Begun::new(&job, &prepared, options, self.run_as()?, false)?;
        self.restore_from(job, prepared, options, begun).await
    }

    /// Runs a restore from wherever its directory stands, and lets it go as soon as it is recorded: until
    /// then whoever kills this process finds an interrupted restore that goes on, and no server.
    pub(super) async fn restore_from(
        &self,
        job: JobContext,
        prepared: Prepared,
        options: &RunOptions,
        begun: Begun,
    ) -> Result<RestoreResult> {
        let (result, server, mut begun) =
            self.restore_held(job.clone(), prepared, options, begun).await?;
        let running = result.running;
        job.once_recorded(move || {
            if let Some(server) = server {
                server.let_go();
            }
            begun.ended(running)
        });
        Ok(result)
    }

    /// Runs a restore from wherever its directory stands. It is noted as unfinished, and its server is
    /// watched, until the caller says otherwise.
    pub(super) async fn restore_held(
        &self,
        job: JobContext,
        mut prepared: Prepared,
        options: &RunOptions,
        mut begun: Begun,
    ) -> Result<(RestoreResult, Option<PrivateServer>, Begun)> {
        let directory = prepared.request.destination.clone();
        prepared.request.destination.clone_from(&begun.unfinished.directory);
        let lease = HeldLease::to_read(self, &prepared.repository, &job, JobKind::Restore).await;
        let outcome = async {
            self.refuse_what_goes(&prepared, lease.as_ref()).await?;
            let (result, server) = self.run_restore(&job, &prepared, options, &mut begun).await?;
            let result = begun.keep_configuration(&prepared, &directory, result).await?;
            if prepared.request.placement != Placement::InPlace {
                return Ok((result, server));
            }
            let result = self.take_place(&job, &mut begun, &directory, result).await?;
            Ok((result, server))
        }
        .await;
        if let Some(lease) = lease {
            lease.release().await;
        }
        match outcome {
            Ok((result, server)) => Ok((result, server, begun)),
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

    /// Refuses a plan that needs what may be removed at any moment.
    async fn refuse_what_goes(&self, plan: &Prepared, lease: Option<&HeldLease>) -> Result<()> {
        let since = lease.map_or_else(Utc::now, HeldLease::since);
        let system = plan.view.system;
        let (catalog, repository) = (self.catalog(), &plan.repository);
        let waited = lease.is_some_and(HeldLease::has_waited);
        tombstone::refuse_due(catalog, repository, since, waited, plan.snapshot.id, |wal| {
            plan.wal.iter().any(|file| wal.holds(system, *file))
        })
        .await
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
        begun.note_copy()?;
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
            begun.give_back().await?;
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
            begun.give_back().await?;
        }
        let record = RestoreRecord {
            location: location.clone(),
            work_directory: site.work.0.clone(),
            copy: Identity::of(destination)?,
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
}

/// A server that dies on a full disk cannot even say so: its log is on the same disk.
fn name_full_disk(error: EngineError, destination: &Path, prepared: &Prepared) -> EngineError {
    let EngineError::Program { program, output } = &error else { return error };
    let needed = prepared.snapshot.segment_size.bytes();
    if free_space(destination).is_none_or(|free| free >= needed) {
        return error;
    }
    EngineError::refused(
        "disk_full",
        format!(
            "{program} failed and the disk that holds {} is full: {output}",
            destination.display()
        ),
        "Free some space or choose another destination, then run the restore again.",
    )
}

fn title(prepared: &Prepared) -> String {
    let exclusive = if prepared.request.exclusive { " (exclusive)" } else { "" };
    format!("Restore {} to {}{exclusive}", prepared.cluster.name, prepared.plan.target)
}

/// `pg_verifybackup` against the server's own manifest, before anything of ours is in the directory.
async fn verify_files(binaries: &ServerBinaries, destination: &Path) -> Result<Finding> {
    let Some(program) = binaries.optional_program("pg_verifybackup") else {
        return Ok(Finding::new(
            Severity::Warning,
            "pg_verifybackup_missing",
            "pg_verifybackup is not installed: the fetched files were not compared with the snapshot's manifest again",
            None,
        ));
    };
    let destination = destination.to_path_buf();
    blocking(move || {
        // WAL is replayed from the archive, not from the directory: -n leaves it out.
        run(
            std::process::Command::new(program).args(["-n", "-q"]).arg(&destination),
            "pg_verifybackup",
        )
        .map_err(|error| {
            EngineError::integrity(
                "fetched_files_differ",
                format!(
                    "the fetched files are not what was copied from the server: {}",
                    error.hint().unwrap_or_default()
                ),
                "The destination's disk may be failing: choose another. Nothing was started.",
            )
        })?;
        Ok(Finding::new(
            Severity::Ok,
            "files_verified",
            "pg_verifybackup: the files are what was copied from the server",
            None,
        ))
    })
    .await
}

/// What differs from the snapshot before the first start.
fn prepare_data_directory(place: &Place, run_as: &RunAs) -> Result<()> {
    let destination = &place.data_directory;
    // The map would make the server link to the source's own directories.
    // And standby.signal, which a standby's copy has, would win over recovery.signal.
    for name in ["tablespace_map", "standby.signal", "postmaster.pid", "postmaster.opts"] {
        place::remove(&destination.join(name))?;
    }
    let signal = destination.join("recovery.signal");
    std::fs::write(&signal, b"").map_err(EngineError::file("write", &signal))?;
    fetch::sync_directory(destination)?;
    place.roots().try_for_each(|root| run_as.own_tree(root))
}
