//! The list of commands, and what each of them calls.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use holdfast_engine::backup::BackupOptions;
use holdfast_engine::bundle::{BundleRequest, OfflineRequest};
use holdfast_engine::jobs::{JobId, JobState, JournalReader};
use holdfast_engine::keys::{
    self, ListedSlot, MadeKeyPair, NewKey, PublicKey, RemovedKey, RotatedKey,
};
use holdfast_engine::recovery_kit::RecoveryKit;
use holdfast_engine::replication::ReplicationRequest;
use holdfast_engine::repository::{NewRepository, RepositoryStatus};
use holdfast_engine::rescue::RescueRequest;
use holdfast_engine::restore::{
    InspectRequest, Inspection, Placement, Purged, RestoreRequest, RestoreResult, RunOptions,
    Swapped, TimelineChoice,
};
use holdfast_engine::retention::{
    Held, Hold, Policy, PolicyVersion, Queued, RetentionOutline, Undeleted, parse_hold, parse_mark,
};
use holdfast_engine::secrets::GivenSecrets;
use holdfast_engine::snapshot::parse_id;
use holdfast_engine::timeline::{Around, Freshness, TimeSpan, Way};
use holdfast_engine::verify::VerifyRequest;
use holdfast_engine::{Engine, EngineError, ErrorObject};
use secrecy::SecretString;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

#[allow(clippy::wildcard_imports, reason = "every request is used here")]
use crate::requests::*;

type Outcome<T> = Result<T, EngineError>;

/// Writes the table of commands once: names for the list, and the dispatch.
macro_rules! commands {
    ($($name:ident),+ $(,)?) => {
        /// The names of all commands.
        pub const NAMES: &[&str] = &[$(stringify!($name)),+];

        /// Calls a command by name. Requests and responses are those of its TypeScript declaration.
        ///
        /// # Errors
        /// The error object of the engine; `usage` for an unknown command or a malformed request.
        pub async fn call(engine: &Engine, command: &str, request: Value) -> Result<Value, ErrorObject> {
            let outcome = match command {
                $(stringify!($name) => answer($name(engine, parse(request).map_err(|e| e.to_object())?).await),)+
                other => Err(EngineError::usage(format!("there is no command {other:?}"), "The window and the engine are of different versions.")),
            };
            outcome.map_err(|e| e.to_object())
        }
    };
}

commands! {
    workspace_status, overview, repository_create, repository_attach, repository_status, keys_list, keys_add,
    keys_remove, keys_rotate, key_pair_generate, recovery_kit, cluster_check, cluster_add, cluster_remove,
    points, timeline, commits, density, markers, find, backup_start, archive_start, verify_start,
    retention_plan, policy_set, retention_queue, retention_start, retention_undelete, holds_list, holds_add,
    holds_remove, replicas_list, replicas_forget, replicate_start, bundle_start,
    verify_offline_start,
    restore_destination, restore_plan, restore_loss, restore_run, restore_step, restore_inspect, restore_pause,
    restore_resume, restore_promote, restore_discard, restore_swap_back, restore_purge, rescue_start, jobs_list,
    job_show, job_cancel, demo_start, demo_discard,
}

fn parse<T: DeserializeOwned>(request: Value) -> Outcome<T> {
    serde_json::from_value(request).map_err(|e| {
        EngineError::usage(
            format!("the request is malformed: {e}"),
            "The window and the engine are of different versions.",
        )
    })
}

fn answer<T: Serialize>(outcome: Outcome<T>) -> Outcome<Value> {
    serde_json::to_value(outcome?)
        .map_err(|e| EngineError::Fault(format!("a response cannot be written: {e}")))
}

fn secret(text: Option<String>) -> Option<SecretString> {
    given(text).map(SecretString::from)
}

fn started(job: JobId) -> JobRef {
    JobRef { job: job.to_string() }
}

async fn workspace_status(engine: &Engine, _: Nothing) -> Outcome<WorkspaceStatus> {
    let mut clusters = Vec::new();
    for cluster in engine.clusters().await? {
        clusters.push(engine.cluster_summary(&cluster).await?);
    }
    Ok(WorkspaceStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        home: engine.home().root().display().to_string(),
        secret_store: engine.secret_store().await,
        repositories: engine.repositories().await?,
        clusters,
        running_jobs: engine
            .jobs()
            .await?
            .into_iter()
            .filter(|j| j.state == JobState::Running)
            .collect(),
        server_binaries: engine.server_binaries().await,
        demo: engine.demo_status(),
    })
}

async fn overview(
    engine: &Engine,
    _: Nothing,
) -> Outcome<Vec<holdfast_engine::overview::ClusterOverview>> {
    engine.overview().await
}

async fn repository_create(
    engine: &Engine,
    r: RepositoryCreate,
) -> Outcome<holdfast_engine::RepositorySummary> {
    engine
        .create_repository(NewRepository {
            url: r.url,
            passphrase: secret(r.passphrase),
            keychain: r.keychain,
            recovery_key_file: given(r.recovery_key_file).as_deref().map(whole_path).transpose()?,
            ..NewRepository::default()
        })
        .await
}

async fn repository_attach(
    engine: &Engine,
    r: RepositoryAttach,
) -> Outcome<holdfast_engine::RepositorySummary> {
    let given = brought(r.passphrase, r.recovery_key);
    Ok(engine.attach_repository(&r.url, &given, r.keychain).await?.0)
}

async fn repository_status(engine: &Engine, r: RepositoryName) -> Outcome<RepositoryStatus> {
    engine.repository_status(engine.find_repository(r.repository.as_deref()).await?).await
}

/// What opens a repository that this machine does not know.
fn brought(passphrase: Option<String>, recovery_key: Option<String>) -> GivenSecrets {
    GivenSecrets {
        passphrase: secret(passphrase),
        recovery_key: recovery_key.filter(|k| !k.is_empty()).map(|k| secrets_text(&k)),
        ..GivenSecrets::default()
    }
}

fn secrets_text(text: &str) -> SecretString {
    holdfast_engine::repository::recovery_key_from_text(text)
}

async fn keys_list(engine: &Engine, r: RepositoryName) -> Outcome<Vec<ListedSlot>> {
    engine.key_slots(&engine.find_repository(r.repository.as_deref()).await?).await
}

/// What a field holds; none when it was left empty.
fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Where something is to be written. A window has no directory of its own that a shorter path could begin at.
fn whole_path(text: &str) -> Outcome<PathBuf> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        return Ok(path);
    }
    Err(EngineError::usage(
        format!("{text:?} is no whole path"),
        "Write the path from the root, such as /media/disk/orders.tar.",
    ))
}

/// The one key that a request names.
fn new_key(key: NewSlotKey) -> Outcome<NewKey> {
    Ok(match key {
        NewSlotKey::Passphrase { passphrase } => NewKey::Passphrase(SecretString::from(passphrase)),
        NewSlotKey::Keychain {} => NewKey::Keychain,
        NewSlotKey::RecoveryKey { file } => NewKey::RecoveryKey(whole_path(&file)?),
        NewSlotKey::PublicKey { text } => {
            NewKey::PublicKey(PublicKey::parse(&text).map_err(EngineError::from)?)
        }
    })
}

async fn keys_add(engine: &Engine, r: KeysAdd) -> Outcome<ListedSlot> {
    let summary = engine.find_repository(r.repository.as_deref()).await?;
    let label = r.label.filter(|l| !l.trim().is_empty());
    engine.add_key_slot(&summary, &new_key(r.key)?, label.as_deref()).await
}

async fn keys_remove(engine: &Engine, r: KeysRemove) -> Outcome<RemovedKey> {
    let summary = engine.find_repository(r.repository.as_deref()).await?;
    engine.remove_key_slot(&summary, &r.slot, r.force).await
}

async fn keys_rotate(engine: &Engine, r: KeysRotate) -> Outcome<RotatedKey> {
    let summary = engine.find_repository(r.repository.as_deref()).await?;
    engine.rotate_key_slot(&summary, &r.slot, &new_key(r.key)?).await
}

async fn key_pair_generate(_: &Engine, r: KeyPairGenerate) -> Outcome<MadeKeyPair> {
    let private = given(r.private_key_file).as_deref().map(whole_path).transpose()?;
    keys::generate_key_pair(&whole_path(&r.public_key_file)?, private.as_deref()).await
}

async fn recovery_kit(engine: &Engine, r: RecoveryKitRequest) -> Outcome<RecoveryKit> {
    let summary = engine.find_repository(r.repository.as_deref()).await?;
    engine.write_recovery_kit(&summary, &whole_path(&r.file)?).await
}

async fn cluster_check(
    engine: &Engine,
    r: ClusterCheckRequest,
) -> Outcome<holdfast_engine::cluster::ClusterCheck> {
    engine.check_dsn(&r.dsn, secret(r.password)).await
}

async fn cluster_add(
    engine: &Engine,
    r: ClusterAdd,
) -> Outcome<holdfast_engine::cluster::ClusterSummary> {
    let cluster = engine
        .add_cluster(&r.name, &r.dsn, r.repository.as_deref(), secret(r.password), false)
        .await?;
    engine.cluster_summary(&cluster).await
}

async fn cluster_remove(engine: &Engine, r: ClusterRemove) -> Outcome<()> {
    engine.remove_cluster(&r.name).await.map(drop)
}

async fn points(engine: &Engine, r: PointsRequest) -> Outcome<holdfast_engine::points::Points> {
    engine.points(&r.cluster, r.from, r.to).await
}

/// A timeline's number; none for the newest.
fn way(timeline: Option<u32>) -> Outcome<Way> {
    timeline.map_or(Ok(Way::Newest), |number| {
        number.to_string().parse().map(Way::To).map_err(|_| {
            EngineError::usage(format!("{number} is no timeline"), "Timelines are counted from 1.")
        })
    })
}

async fn timeline(
    engine: &Engine,
    r: TimelineRequest,
) -> Outcome<holdfast_engine::timeline::Timeline> {
    let way = way(r.timeline)?;
    engine.timeline(&r.cluster, r.shown, r.groups as usize, r.buckets as usize, way).await
}

async fn commits(
    engine: &Engine,
    r: CommitsRequest,
) -> Outcome<holdfast_engine::points::CommitPage> {
    let around = match (r.around_xid, r.around_lsn, r.around) {
        (Some(xid), _, _) => Around::Xid(transaction_id(&xid)?),
        (None, Some(lsn), _) => Around::Lsn(lsn.parse().map_err(|_| {
            EngineError::usage(format!("{lsn:?} is no LSN"), "An LSN is written X/Y.")
        })?),
        (None, None, Some(time)) => Around::Time(time),
        (None, None, None) => Around::End,
    };
    let way = way(r.timeline)?;
    engine.commits(&r.cluster, around, r.limit as usize, way, Freshness::Kept).await
}

fn transaction_id<T: FromStr>(text: &str) -> Outcome<T> {
    text.parse().map_err(|_| {
        EngineError::usage(
            format!("{text:?} is no transaction id"),
            "A transaction id is a number of 32 bits, as `pg_current_xact_id()` modulo 2^32.",
        )
    })
}

async fn density(engine: &Engine, r: DensityRequest) -> Outcome<holdfast_engine::points::Density> {
    let shown = TimeSpan { from: r.from, to: r.to };
    let way = way(r.timeline)?;
    engine.density(&r.cluster, shown, r.buckets as usize, way, Freshness::Kept).await
}

async fn find(engine: &Engine, r: FindRequest) -> Outcome<holdfast_engine::find::Found> {
    let request = holdfast_engine::find::FindRequest {
        cluster: r.cluster,
        table: r.table.filter(|t| !t.trim().is_empty()),
        xid: r.xid.as_deref().map(transaction_id).transpose()?,
        drops: r.drops,
        truncates: r.truncates,
        mass_deletes: r.mass_deletes,
        rows: None,
        from: r.from,
        to: r.to,
    };
    // Whoever asked may leave: dropped with the request, the guard ends the search.
    let cancel = CancellationToken::new();
    let _guard = cancel.clone().drop_guard();
    engine.find(&request, &cancel).await
}

async fn markers(engine: &Engine, r: MarkersRequest) -> Outcome<holdfast_engine::find::Markers> {
    let request = holdfast_engine::find::MarkersRequest {
        cluster: r.cluster,
        from: r.from,
        to: r.to,
        limit: r.limit as usize,
        buckets: r.buckets as usize,
        rebuild: r.rebuild,
    };
    engine.markers(&request, Freshness::Kept).await
}

async fn backup_start(engine: &Engine, r: BackupStart) -> Outcome<JobRef> {
    engine
        .start_backup(
            &r.cluster,
            BackupOptions {
                reason: r.reason,
                incremental: r.incremental,
                ..BackupOptions::default()
            },
        )
        .await
        .map(started)
}

async fn archive_start(engine: &Engine, r: ClusterName) -> Outcome<JobRef> {
    engine.start_archive(&r.cluster).await.map(started)
}

async fn retention_plan(engine: &Engine, r: RetentionPlanRequest) -> Outcome<RetentionOutline> {
    let now = engine.retention_plan(&r.cluster).await?;
    if r.at.is_none() && r.policy.is_none() {
        return Ok(RetentionOutline::of(now, None, r.limit));
    }
    let policy = r.policy.as_ref().map(checked).transpose()?;
    let plan = engine.simulate_policy(&r.cluster, r.at, policy).await?;
    Ok(RetentionOutline::of(plan, Some(&now), r.limit))
}

/// What a window sends is checked like a file.
fn checked(policy: &Policy) -> Outcome<Policy> {
    let text = serde_json::to_vec(policy)
        .map_err(|e| EngineError::Fault(format!("a policy cannot be written: {e}")))?;
    Policy::parse(&text)
}

async fn policy_set(engine: &Engine, r: PolicySet) -> Outcome<PolicyVersion> {
    engine.set_retention_policy(&r.cluster, checked(&r.policy)?).await
}

async fn retention_queue(engine: &Engine, r: ClusterName) -> Outcome<Vec<Queued>> {
    engine.retention_queue(&r.cluster).await
}

async fn retention_start(engine: &Engine, r: ClusterName) -> Outcome<JobRef> {
    engine.start_retention(&r.cluster).await.map(started)
}

async fn retention_undelete(engine: &Engine, r: RetentionUndelete) -> Outcome<Undeleted> {
    let mark = r.mark.as_deref().map(parse_mark).transpose()?;
    engine.undelete(&r.cluster, mark).await
}

async fn holds_list(engine: &Engine, r: ClusterName) -> Outcome<Vec<Hold>> {
    engine.holds(&r.cluster).await
}

async fn holds_add(engine: &Engine, r: HoldsAdd) -> Outcome<Hold> {
    let on = match (r.snapshot.as_deref(), r.from, r.to) {
        (Some(snapshot), None, None) => Held::Snapshot(parse_id(snapshot)?),
        (None, Some(from), Some(to)) => Held::Between { from, to },
        _ => {
            return Err(EngineError::usage(
                "a hold is on one snapshot, or on all between two times",
                "Name a snapshot, or both times.",
            ));
        }
    };
    engine.add_hold(&r.cluster, on, &r.reason).await
}

async fn holds_remove(engine: &Engine, r: HoldsRemove) -> Outcome<Hold> {
    engine.remove_hold(&r.cluster, parse_hold(&r.hold)?).await
}

async fn replicas_list(engine: &Engine, r: ClusterName) -> Outcome<Replicas> {
    let replicas = engine.replicas(&r.cluster).await?;
    let score = engine.replication_score(&r.cluster, &replicas).await?;
    Ok(Replicas { replicas, score })
}

async fn replicas_forget(engine: &Engine, r: ReplicasForget) -> Outcome<()> {
    engine.forget_replica(&r.cluster, &r.url).await.map(drop)
}

async fn replicate_start(engine: &Engine, r: ReplicateStart) -> Outcome<JobRef> {
    let to = r.to.filter(|url| !url.trim().is_empty());
    if let Some(folder) = to.as_deref().filter(|url| !url.contains("://")) {
        whole_path(folder)?;
    }
    let request =
        ReplicationRequest { cluster: r.cluster, to, bytes_per_second: r.bytes_per_second };
    engine.start_replication(request).await.map(started)
}

async fn bundle_start(engine: &Engine, r: BundleStart) -> Outcome<JobRef> {
    let request = BundleRequest {
        cluster: r.cluster,
        snapshot: r.snapshot.as_deref().map(parse_id).transpose()?,
        through: r.through,
        to: whole_path(&r.to)?,
    };
    engine.start_bundle(request).await.map(started)
}

async fn verify_start(engine: &Engine, r: VerifyStart) -> Outcome<JobRef> {
    let request = VerifyRequest {
        cluster: r.cluster,
        depth: r.level.unwrap_or_default(),
        sample: r.sample.map(|sample| sample.parse()).transpose()?,
        snapshot: r.snapshot.as_deref().map(parse_id).transpose()?,
        leave_untouched: false,
    };
    engine.start_verify(request).await.map(started)
}

async fn verify_offline_start(engine: &Engine, r: VerifyOfflineStart) -> Outcome<JobRef> {
    let given = brought(r.passphrase, r.recovery_key);
    let request = OfflineRequest {
        path: PathBuf::from(r.path),
        depth: r.level,
        sample: None,
        snapshot: None,
    };
    engine.start_verify_offline(request, given).await.map(started)
}

async fn restore_destination(engine: &Engine, r: ClusterName) -> Outcome<Destination> {
    Ok(Destination { path: engine.suggest_destination(&r.cluster).await?.display().to_string() })
}

/// A point with the place where its copy goes.
fn restore_to(point: Point, destination: PathBuf) -> Outcome<RestoreRequest> {
    Ok(RestoreRequest {
        cluster: point.cluster,
        target: point.target.parse()?,
        exclusive: point.exclusive,
        timeline: point.timeline.map_or(Ok(TimelineChoice::Latest), |t| t.parse())?,
        destination,
        snapshot: point.snapshot.as_deref().map(parse_id).transpose()?,
        accept_host_differences: point.accept_host_differences,
        placement: Placement::default(),
        tablespaces: BTreeMap::new(),
    })
}

fn restore_request(r: RestorePlanRequest) -> Outcome<RestoreRequest> {
    if r.to.trim().is_empty() {
        return Err(EngineError::usage(
            "a restore needs a destination",
            "Name a directory that does not exist yet.",
        ));
    }
    Ok(RestoreRequest {
        placement: r.placement.unwrap_or_default(),
        tablespaces: r.tablespaces.unwrap_or_default(),
        ..restore_to(r.point, PathBuf::from(r.to))?
    })
}

async fn restore_plan(
    engine: &Engine,
    r: RestorePlanRequest,
) -> Outcome<holdfast_engine::restore::RestorePlan> {
    engine.plan_restore(restore_request(r)?).await
}

async fn restore_loss(
    engine: &Engine,
    r: RestorePlanRequest,
) -> Outcome<holdfast_engine::find::LossChanges> {
    engine.restore_loss(restore_request(r)?).await
}

async fn restore_run(engine: &Engine, r: RestoreRunRequest) -> Outcome<JobRef> {
    let options = RunOptions {
        request: restore_request(r.plan)?,
        at_target: r.at_target,
        start: r.start,
        fetch_only: false,
        plan_hash: Some(r.plan_hash),
    };
    engine.start_restore(options).await.map(started)
}

async fn restore_step(engine: &Engine, r: RestoreStep) -> Outcome<RestoreResult> {
    engine.step_restore(r.job.parse()?, r.commits, CancellationToken::new()).await
}

async fn restore_inspect(engine: &Engine, r: RestoreInspect) -> Outcome<Inspection> {
    let request = InspectRequest { database: r.database, sql: r.sql, rows: r.rows };
    engine.inspect_restore(r.job.parse()?, &request, CancellationToken::new()).await
}

async fn restore_pause(engine: &Engine, r: JobRef) -> Outcome<()> {
    engine.pause_job(r.job.parse()?).await
}

async fn restore_resume(engine: &Engine, r: JobRef) -> Outcome<()> {
    engine.start_resume(r.job.parse()?).await
}

async fn restore_swap_back(engine: &Engine, r: JobRef) -> Outcome<Swapped> {
    engine.swap_back_restore(r.job.parse()?).await
}

async fn restore_purge(engine: &Engine, r: JobRef) -> Outcome<Purged> {
    engine.purge_restore(r.job.parse()?).await
}

async fn restore_promote(engine: &Engine, r: JobRef) -> Outcome<RestoreResult> {
    engine.promote_restore(r.job.parse()?).await
}

async fn restore_discard(engine: &Engine, r: JobRef) -> Outcome<()> {
    engine.discard_restore(r.job.parse()?).await
}

async fn rescue_start(engine: &Engine, r: RescueStart) -> Outcome<JobRef> {
    let request = RescueRequest {
        // The engine chooses a place.
        point: restore_to(r.point, PathBuf::new())?,
        copy: r.copy.filter(|c| !c.is_empty()).map(PathBuf::from),
        database: r.database.filter(|d| !d.is_empty()),
        tables: r.tables,
        condition: r.condition.filter(|c| !c.trim().is_empty()),
        follow: r.follow,
        to: r.into.parse()?,
        mode: r.mode,
        without_triggers: r.without_triggers,
    };
    engine.start_rescue(request).await.map(started)
}

async fn jobs_list(engine: &Engine, _: Nothing) -> Outcome<Vec<holdfast_engine::jobs::JobSummary>> {
    engine.jobs().await
}

async fn job_show(engine: &Engine, r: JobRef) -> Outcome<JobDetail> {
    let id: JobId = r.job.parse()?;
    let (job, result) = engine.job(id).await?;
    let last_seq = JournalReader::last_seq(&engine.home().jobs().join(id.to_string()));
    // The kind tells the page which of the results it is.
    let result = result.map(|mut value| {
        if let Value::Object(fields) = &mut value {
            fields.insert("kind".to_owned(), Value::String(job.kind.as_str().to_owned()));
        }
        value
    });
    let set_aside = engine.set_aside_by(id);
    Ok(JobDetail { job, last_seq, set_aside, result })
}

async fn job_cancel(engine: &Engine, r: JobRef) -> Outcome<()> {
    engine.cancel_job(r.job.parse()?).await
}

async fn demo_start(engine: &Engine, _: Nothing) -> Outcome<JobRef> {
    engine.start_demo().await.map(started)
}

async fn demo_discard(engine: &Engine, _: Nothing) -> Outcome<()> {
    engine.discard_demo().await
}
