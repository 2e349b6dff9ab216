//! Runs one command on the engine.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use holdfast_engine::archive::{ArchiveOptions, Durability, Synchronous};
use holdfast_engine::backup::BackupOptions;
use holdfast_engine::cluster::parse_size;
use holdfast_engine::find::{FindRequest, Markers, MarkersRequest};
use holdfast_engine::home::Home;
use holdfast_engine::jobs::JobId;
use holdfast_engine::rescue::{MergeMode, RescueRequest};
use holdfast_engine::restore::{self, InspectRequest, RestoreRequest, Resumed, RunOptions};
use holdfast_engine::snapshot::parse_id;
use holdfast_engine::target::{Target, parse_time};
use holdfast_engine::timeline::Freshness;
use holdfast_engine::{Engine, EngineError, Result, secrets as keychain};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::arguments::{
    self, Arguments, AtTarget, ClusterCommand, Command, Jobs, Repo, Restore, Server,
};
use crate::output::Output;
use crate::{bundle, replication, repository, retention, secrets, tables, verify, wal};

/// So many transactions that destroyed rows are listed.
const MARKERS_SHOWN: usize = 500;

/// What can be restored, and what destroyed rows.
#[derive(serde::Serialize)]
struct PointsAndMarkers {
    #[serde(flatten)]
    points: holdfast_engine::points::Points,
    markers: Markers,
}

/// Runs the command to its end; a first Ctrl-C cancels it in good order, a second ends at once.
pub(crate) async fn run(arguments: Arguments, output: Output) -> ExitCode {
    match &arguments.command {
        Command::WalGet(wanted) => return wal::get(&arguments, wanted, output).await,
        Command::WalPut(given) => return wal::put(&arguments, given, output).await,
        _ => {}
    }
    let cancel = CancellationToken::new();
    tokio::spawn(watch_signals(cancel.clone()));
    let orderly = ends_in_order(&arguments.command);
    let work = dispatch(arguments, output, &cancel);
    let outcome = if orderly {
        work.await
    } else {
        tokio::select! {
            outcome = work => outcome,
            () = cancel.cancelled() => Err(EngineError::Cancelled),
        }
    };
    match outcome {
        Ok(code) => code,
        Err(error) => output.error(&error),
    }
}

/// Whether the command watches for its cancellation itself, because it has something to take back or to
/// finish; any other is dropped where it stands.
fn ends_in_order(command: &Command) -> bool {
    match command {
        Command::Demo(_)
        | Command::Backup { .. }
        | Command::Archive(_)
        | Command::Tables(_)
        | Command::Verify(_)
        | Command::Bundle(_)
        | Command::Replicate(_)
        | Command::Restore(Restore::Run { .. } | Restore::Step { .. } | Restore::Resume { .. })
        | Command::Repo(
            Repo::Check { .. }
            | Repo::Keys(_)
            | Repo::Rekey { .. }
            | Repo::Writers(_)
            | Repo::RecoveryKit { .. },
        ) => true,
        #[cfg(feature = "development-host")]
        Command::DevelopmentHost { .. } => true,
        _ => false,
    }
}

async fn watch_signals(cancel: CancellationToken) {
    for ending in [false, true] {
        wait_for_signal().await;
        if ending {
            std::process::exit(i32::from(holdfast_engine::Outcome::Cancelled.exit_code()));
        }
        cancel.cancel();
        eprintln!("\nstopping in good order; once more to stop at once");
    }
}

#[cfg(unix)]
async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(not(unix))]
async fn wait_for_signal() {
    let _ = tokio::signal::ctrl_c().await;
}

async fn open(arguments: &Arguments, output: Output) -> Result<Engine> {
    let root = match &arguments.home {
        Some(home) => std::path::absolute(home).map_err(EngineError::file("resolve", home))?,
        None => Home::default_root(|name| std::env::var(name).ok())?,
    };
    open_at(&root, arguments, output).await
}

async fn open_at(root: &Path, arguments: &Arguments, output: Output) -> Result<Engine> {
    Engine::open(Home::open(root)?, secrets::given(arguments)?, output.listener()).await
}

async fn dispatch(
    mut arguments: Arguments,
    output: Output,
    cancel: &CancellationToken,
) -> Result<ExitCode> {
    let command = std::mem::replace(&mut arguments.command, Command::Server(Server::Binaries));
    if let Command::Demo(demo) = command {
        return self::demo(&arguments, &demo, output, cancel).await;
    }
    if let Command::Verify(asked) = &command
        && let Some(path) = &asked.bundle
    {
        return verify::offline(&arguments, asked, path.clone(), output, cancel).await;
    }
    let engine = open(&arguments, output).await?;
    let done = match command {
        Command::Demo(_) | Command::WalGet(_) | Command::WalPut(_) => {
            return Err(EngineError::Fault("a command was run twice".to_owned()));
        }
        Command::Repo(command) => {
            repository::run(&engine, &arguments, command, output, cancel).await?
        }
        Command::Cluster(command) => cluster(&engine, command, output).await?,
        Command::Backup { name, reason, incremental, wire_compression, local_files } => {
            let options = BackupOptions {
                reason,
                incremental: incremental.into(),
                wire_compression: wire_compression.into(),
                local_files: local_files.into(),
            };
            let result = engine.backup(&name, options, cancel.clone()).await?;
            output.result(&result, tables::backup)
        }
        Command::Archive(archive) => {
            let options = archive_options(&archive)?;
            let result = engine.archive(&archive.name, options, cancel.clone()).await?;
            output.result(&result, tables::archived)
        }
        Command::Points { name, from, to, markers, rebuild_markers } => {
            let from = from.as_deref().map(parse_time).transpose()?;
            let to = to.as_deref().map(parse_time).transpose()?;
            let points = engine.points(&name, from, to).await?;
            if !markers {
                return Ok(output.result(&points, tables::points));
            }
            let request = MarkersRequest {
                cluster: name,
                from,
                to,
                limit: MARKERS_SHOWN,
                buckets: 0,
                rebuild: rebuild_markers,
            };
            let markers = engine.markers(&request, Freshness::Now).await?;
            output.result(&PointsAndMarkers { points, markers }, |both| {
                format!("{}\n\n{}", tables::points(&both.points), tables::markers(&both.markers))
            })
        }
        Command::Find(find) => {
            let found = engine.find(&find_request(find)?, cancel).await?;
            output.result(&found, tables::found)
        }
        Command::Restore(command) => self::restore(&engine, command, output, cancel).await?,
        Command::Tables(wanted) => {
            let result = engine.rescue_tables(rescue_request(wanted)?, cancel.clone()).await?;
            output.result(&result, tables::rescued)
        }
        Command::Retention(command) => {
            retention::retention(&engine, command, output, cancel).await?
        }
        Command::Policy(command) => retention::policy(&engine, command, output).await?,
        Command::Hold(command) => retention::hold(&engine, command, output).await?,
        Command::Verify(asked) => verify::run(&engine, asked, output, cancel).await?,
        Command::Bundle(command) => bundle::run(&engine, command, output, cancel).await?,
        Command::Replicate(asked) => replication::run(&engine, asked, output, cancel).await?,
        Command::Jobs(command) => jobs(&engine, command, output).await?,
        Command::Server(Server::Binaries) => {
            let found = engine.server_binaries().await;
            output.result(&json!({ "servers": found }), |_| {
                if found.is_empty() {
                    return "No PostgreSQL server can be started on this machine.".to_owned();
                }
                let lines: Vec<_> = found
                    .iter()
                    .map(|b| format!("{}  {}", b.version, b.bin_directory.display()))
                    .collect();
                lines.join("\n")
            })
        }
        #[cfg(feature = "development-host")]
        Command::DevelopmentHost { listen, ui } => {
            crate::development_host::serve(engine, listen, &ui, cancel).await?;
            ExitCode::SUCCESS
        }
    };
    Ok(done)
}

async fn demo(
    arguments: &Arguments,
    demo: &arguments::Demo,
    output: Output,
    cancel: &CancellationToken,
) -> Result<ExitCode> {
    if !demo.headless {
        return open_window(arguments);
    }
    let (directory, temporary) = if let Some(directory) = &demo.dir {
        (std::path::absolute(directory).map_err(EngineError::file("resolve", directory))?, None)
    } else {
        let temporary = tempfile::Builder::new()
            .prefix("holdfast-demo-")
            .tempdir()
            .map_err(EngineError::file("create a directory in", std::env::temp_dir()))?;
        (temporary.path().to_path_buf(), Some(temporary))
    };
    let created = !directory.exists();
    let home = directory.join("home");
    let engine = open_at(&home, arguments, output).await?;
    let outcome = engine.demo(&directory.join("workspace"), demo.keep, cancel.clone()).await;
    if demo.keep && outcome.is_ok() {
        if let Some(temporary) = temporary {
            let kept = temporary.keep();
            eprintln!(
                "kept in {}; remove it after `holdfast --home {} restore discard JOB`",
                kept.display(),
                home.display()
            );
        }
    } else {
        let _ = std::fs::remove_dir_all(&home);
        if created {
            let _ = std::fs::remove_dir_all(&directory);
        }
    }
    let result = outcome?;
    Ok(output.result(&result, tables::demo))
}

/// The window is another program, installed beside this one.
fn open_window(arguments: &Arguments) -> Result<ExitCode> {
    let here = std::env::current_exe().map_err(EngineError::file("find", "holdfast"))?;
    let name = if cfg!(windows) { "holdfast-desktop.exe" } else { "holdfast-desktop" };
    let program = here.with_file_name(name);
    if !program.is_file() {
        return Err(EngineError::refused(
            "no_window",
            format!("{} is not installed", program.display()),
            "Install the desktop application, or run `holdfast demo --headless`.",
        ));
    }
    let mut command = std::process::Command::new(&program);
    command.arg("--demo");
    if let Some(home) = &arguments.home {
        command.env("HOLDFAST_HOME", home);
    }
    let status = command.status().map_err(EngineError::file("start", &program))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

async fn cluster(engine: &Engine, command: ClusterCommand, output: Output) -> Result<ExitCode> {
    match command {
        ClusterCommand::Add { name, dsn, repo, mode: _, save_password } => {
            let password =
                if save_password { keychain::password_from_environment(&dsn).await? } else { None };
            if save_password && password.is_none() {
                return Err(EngineError::usage(
                    "there is no password to save",
                    "Set PGPASSWORD, or put the password into the passfile (~/.pgpass), for this one run.",
                ));
            }
            let cluster = engine.add_cluster(&name, &dsn, repo.as_deref(), password, false).await?;
            let summary = engine.cluster_summary(&cluster).await?;
            Ok(output.result(&summary, |c| {
                format!(
                    "Cluster {} (PostgreSQL {}, system {}) is added",
                    c.name, c.server_version, c.system_identifier
                )
            }))
        }
        ClusterCommand::List => {
            let mut list = Vec::new();
            for cluster in engine.clusters().await? {
                list.push(engine.cluster_summary(&cluster).await?);
            }
            Ok(output.result(&json!({ "clusters": list }), |_| tables::clusters(&list)))
        }
        ClusterCommand::Check { name } => {
            Ok(output.result(&engine.check_cluster(&name).await?, tables::check))
        }
        ClusterCommand::Remove { name } => {
            let said = engine.remove_cluster(&name).await?;
            Ok(output.result(&json!({ "removed": name, "slot": said }), |_| {
                format!("Cluster {name} is removed from this machine; its backups stay. {said}")
            }))
        }
    }
}

fn archive_options(archive: &arguments::Archive) -> Result<ArchiveOptions> {
    let once_to = archive.once_to.as_ref().map(|l| {
        l.parse()
            .map_err(|_| EngineError::usage(format!("{l:?} is no LSN"), "An LSN is written X/Y."))
    });
    let seconds = |what: &str, seconds: f64| {
        Duration::try_from_secs_f64(seconds).ok().filter(|d| !d.is_zero()).ok_or_else(|| {
            EngineError::usage(
                format!("{seconds} is no span of time for {what}"),
                "Give a number of seconds above 0.",
            )
        })
    };
    let size = |text: &String| {
        parse_size(text).ok_or_else(|| {
            EngineError::usage(
                format!("{text:?} is no size"),
                "Write a number with kB, MB, GB or TB, as in postgresql.conf.",
            )
        })
    };
    let options = ArchiveOptions {
        once_to: once_to.transpose()?,
        slice_after: seconds("--slice-seconds", archive.slice_seconds)?,
        durability: match archive.durability {
            arguments::Durability::Store => Durability::Store,
            arguments::Durability::Spool => Durability::Spool,
        },
        stall_limit: archive.stall_seconds.map(|s| seconds("--stall-seconds", s)).transpose()?,
        backup_on_gap: archive.backup_on_gap,
        drop_slot_after: archive.drop_slot_after.as_ref().map(size).transpose()?,
        ..ArchiveOptions::default()
    };
    if !archive.synchronous {
        return Ok(options);
    }
    Ok(options.synchronous(Synchronous {
        application_name: archive.application_name.clone(),
        arm_sole_member: archive.arm_sole_member,
        report_apply: archive.report_apply,
    }))
}

fn find_request(find: arguments::Find) -> Result<FindRequest> {
    let xid = |text: String| {
        text.parse().map_err(|_| {
            EngineError::usage(
                format!("{text:?} is no transaction id"),
                "A transaction id is a number, as the timeline and pg_current_xact_id() show it, without its epoch.",
            )
        })
    };
    Ok(FindRequest {
        cluster: find.name,
        table: find.table,
        xid: find.xid.map(xid).transpose()?,
        drops: find.drops,
        truncates: find.truncates,
        mass_deletes: find.mass_deletes,
        rows: find.rows,
        from: find.from.as_deref().map(parse_time).transpose()?,
        to: find.to.as_deref().map(parse_time).transpose()?,
    })
}

fn rescue_request(wanted: arguments::Tables) -> Result<RescueRequest> {
    let mode = match (wanted.review, wanted.overwrite) {
        (true, _) => MergeMode::Review,
        (_, true) => MergeMode::Overwrite,
        _ => MergeMode::Missing,
    };
    Ok(RescueRequest {
        // The engine finds a place for the copy.
        point: request_for(wanted.point, std::path::PathBuf::new())?,
        copy: wanted
            .to
            .map(|to| std::path::absolute(&to).map_err(EngineError::file("resolve", &to)))
            .transpose()?,
        database: wanted.database,
        tables: wanted.table,
        condition: wanted.condition,
        follow: wanted.follow,
        to: wanted.into.parse()?,
        mode,
        without_triggers: wanted.without_triggers,
    })
}

fn request(target: arguments::Target) -> Result<RestoreRequest> {
    let destination =
        std::path::absolute(&target.to).map_err(EngineError::file("resolve", &target.to))?;
    Ok(RestoreRequest {
        placement: match (target.in_place, target.delta) {
            (true, _) => restore::Placement::InPlace,
            (_, true) => restore::Placement::Delta,
            _ => restore::Placement::New,
        },
        tablespaces: target.tablespaces.into_iter().collect(),
        ..request_for(target.point, destination)?
    })
}

/// A restore of a point into a new directory.
fn request_for(point: arguments::Point, destination: std::path::PathBuf) -> Result<RestoreRequest> {
    Ok(RestoreRequest {
        cluster: point.name,
        target: point.stop.parse::<Target>()?,
        exclusive: point.exclusive,
        timeline: point.timeline.parse()?,
        destination,
        snapshot: point.snapshot.as_deref().map(parse_id).transpose()?,
        accept_host_differences: point.accept_host_differences,
        placement: restore::Placement::New,
        tablespaces: std::collections::BTreeMap::new(),
    })
}

async fn restore(
    engine: &Engine,
    command: Restore,
    output: Output,
    cancel: &CancellationToken,
) -> Result<ExitCode> {
    match command {
        Restore::Plan { target, whole_loss } => {
            let request = request(target)?;
            let mut plan = engine.plan_restore(request.clone()).await?;
            if whole_loss && !plan.loss.changes.as_ref().is_some_and(|c| c.complete) {
                plan.loss.changes = Some(engine.restore_loss(request).await?);
            }
            Ok(output.result(&plan, tables::plan))
        }
        Restore::Run { target, start, at_target, plan_hash, fetch_only } => {
            let options = RunOptions {
                request: request(target)?,
                at_target: match at_target {
                    AtTarget::Pause => restore::AtTarget::Pause,
                    AtTarget::Promote => restore::AtTarget::Promote,
                    AtTarget::Shutdown => restore::AtTarget::Shutdown,
                },
                start,
                fetch_only,
                plan_hash,
            };
            let result = engine.restore(options, cancel.clone()).await?;
            Ok(output.result(&result, tables::restore))
        }
        Restore::Step { job, commits } => {
            let result = engine.step_restore(job.parse()?, commits, cancel.clone()).await?;
            Ok(output.result(&result, tables::restore))
        }
        Restore::Inspect { job, sql, database, rows } => {
            let request = InspectRequest { database: Some(database), sql, rows: Some(rows) };
            let seen = engine.inspect_restore(job.parse()?, &request, cancel.clone()).await?;
            Ok(output.result(&seen, tables::inspection))
        }
        Restore::Promote { job } => {
            let result = engine.promote_restore(job.parse()?).await?;
            Ok(output.result(&result, tables::restore))
        }
        Restore::Pause { job } => {
            engine.pause_job(job.parse()?).await?;
            Ok(output.result(&json!({ "pausing": job }), |_| {
                format!("Restore {job} was asked to pause")
            }))
        }
        Restore::Resume { job } => {
            match engine.resume_restore(job.parse()?, cancel.clone()).await? {
                Resumed::Continues => Ok(output
                    .result(&json!({ "resuming": job }), |_| format!("Restore {job} goes on"))),
                Resumed::Ended(result) => Ok(output.result(&*result, tables::restore)),
            }
        }
        Restore::Cancel { job } => {
            engine.cancel_job(job.parse()?).await?;
            Ok(output.result(&json!({ "cancelling": job }), |_| {
                format!("Restore {job} was asked to stop")
            }))
        }
        Restore::SwapBack { job } => {
            let swapped = engine.swap_back_restore(job.parse()?).await?;
            Ok(output.result(&swapped, |s| {
                format!(
                    "{} holds what it held before the restore; the copy is kept in {}",
                    s.data_directory.display(),
                    s.set_aside.display()
                )
            }))
        }
        Restore::Purge { job } => {
            let purged = engine.purge_restore(job.parse()?).await?;
            Ok(output.result(&purged, |p| format!("{} is gone", p.removed.display())))
        }
        Restore::Discard { job } => {
            engine.discard_restore(job.parse()?).await?;
            Ok(output.result(&json!({ "discarded": job }), |_| format!("Restore {job} is gone")))
        }
    }
}

async fn jobs(engine: &Engine, command: Jobs, output: Output) -> Result<ExitCode> {
    match command {
        Jobs::List => {
            let list = engine.jobs().await?;
            Ok(output.result(&json!({ "jobs": list }), |_| tables::jobs(&list)))
        }
        Jobs::Show { job } => {
            let (summary, result) = engine.job(job.parse()?).await?;
            let value = json!({ "job": summary, "result": result });
            Ok(output.result(&value, |v| serde_json::to_string_pretty(v).unwrap_or_default()))
        }
        Jobs::Attach { job, from_seq } => {
            let id: JobId = job.parse()?;
            let mut reader = engine.attach(id, from_seq).await?;
            let listener = output.listener();
            loop {
                let events = reader.next().await;
                if events.is_empty() {
                    break;
                }
                if let Some(listener) = &listener {
                    for event in &events {
                        listener(event);
                    }
                }
            }
            let (summary, result) = engine.job(id).await?;
            Ok(output.result(&json!({ "job": summary, "result": result }), |_| {
                tables::jobs(std::slice::from_ref(&summary))
            }))
        }
        Jobs::Cancel { job } => {
            engine.cancel_job(job.parse()?).await?;
            Ok(output
                .result(&json!({ "cancelling": job }), |_| format!("Job {job} was asked to stop")))
        }
    }
}
