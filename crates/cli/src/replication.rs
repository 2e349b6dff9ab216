//! `replicate`: the repository in other places.

use std::fmt::Write as _;
use std::num::NonZeroU64;
use std::process::ExitCode;

use clap::Args;
use holdfast_engine::cluster::parse_size;
use holdfast_engine::replication::{
    Lag, ReplicaState, ReplicationRequest, ReplicationResult, Score,
};
use holdfast_engine::size::bytes;
use holdfast_engine::{Engine, EngineError, Result};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::output::Output;
use crate::retention::locks_renewed;
use crate::tables::table;

/// `holdfast replicate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast replicate orders-eu --to s3://backups-us/orders\n  holdfast replicate orders-eu\n  holdfast replicate orders-eu --status\n\nA replica is a repository with the same keys. When the first is lost:\n  holdfast repo attach s3://backups-us/orders\n\nCredentials come from the environment. Where two S3 buckets need different ones, or are in other regions,\nHOLDFAST_S3_BACKUPS_US_ in place of AWS_ holds for s3://backups-us alone."
)]
pub(crate) struct Replicate {
    /// The cluster whose repository is replicated: all of it, since clusters share what they have in common.
    name: String,
    /// Where to: a folder, s3://, gs:// or az://. It is known from then on; without it, every known replica is
    /// brought up to date.
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Send no more than this in a second on average, such as 500kB or 20MB.
    #[arg(long, value_name = "SIZE")]
    limit_rate: Option<String>,
    /// Copy nothing: tell how far each replica is behind.
    #[arg(long, conflicts_with_all = ["to", "limit_rate"])]
    status: bool,
    /// Forget this replica. What is there stays.
    #[arg(long, value_name = "URL", conflicts_with_all = ["to", "limit_rate", "status"])]
    forget: Option<String>,
}

pub(crate) async fn run(
    engine: &Engine,
    asked: Replicate,
    output: Output,
    cancel: &CancellationToken,
) -> Result<ExitCode> {
    if let Some(url) = &asked.forget {
        let forgotten = engine.forget_replica(&asked.name, url).await?;
        return Ok(output.result(&forgotten, |place| {
            format!("{} is no replica any more; what is there stays", place.url)
        }));
    }
    if asked.status {
        let replicas = engine.replicas(&asked.name).await?;
        let score = engine.replication_score(&asked.name, &replicas).await?;
        let document = json!({ "cluster": asked.name, "replicas": replicas, "score": score });
        return Ok(output.result(&document, |_| states(&replicas, score)));
    }
    let bytes_per_second = asked.limit_rate.as_deref().map(rate).transpose()?;
    let request = ReplicationRequest { cluster: asked.name, to: asked.to, bytes_per_second };
    let result = engine.replicate(request, cancel.clone()).await?;
    let code = output.result(&result, text);
    Ok(result.outcome().map_or(code, |outcome| ExitCode::from(outcome.exit_code())))
}

fn rate(text: &str) -> Result<NonZeroU64> {
    parse_size(text).and_then(NonZeroU64::new).ok_or_else(|| {
        EngineError::usage(
            format!("{text:?} is no number of bytes"),
            "Write a number with kB, MB or GB, in powers of 1024: --limit-rate 20MB.",
        )
    })
}

fn text(result: &ReplicationResult) -> String {
    let mut text = String::new();
    for replica in &result.replicas {
        if !text.is_empty() {
            text.push('\n');
        }
        if let Some(error) = &replica.error {
            let _ = write!(text, "{}: FAILED: {}", replica.url, error.message);
            continue;
        }
        let state = if replica.ok { "up to date" } else { "INCOMPLETE" };
        let _ = write!(
            text,
            "{}: {state}; {} objects, {}, copied and read back in {:.1} s",
            replica.url,
            replica.objects,
            bytes(replica.bytes),
            replica.seconds
        );
        if replica.ahead > 0 {
            let _ = write!(
                text,
                "\n  {} objects are there that the repository lacks: somebody writes to the replica, or the repository \
                 has lost them.\n  Key slots were neither added nor removed.",
                replica.ahead
            );
        }
        if replica.locked > 0 {
            let _ = write!(
                text,
                "\n  {} objects that retention has removed stay until the store's locks end.",
                replica.locked
            );
        }
        text.push_str(&locks_renewed(replica.locks.as_ref()).replace('\n', "\n  "));
        for held in &replica.held_back {
            let _ = write!(text, "\n  not copied: {}: {}", held.object, held.message);
        }
    }
    text
}

fn states(replicas: &[ReplicaState], score: Score) -> String {
    let rows = replicas.iter().map(|replica| {
        let lag = match (&replica.lag, &replica.error) {
            (Some(Lag { objects: 0, .. }), _) => "up to date".to_owned(),
            (Some(lag), _) => format!(
                "behind by {} s: {} objects, {}",
                lag.seconds,
                lag.objects,
                bytes(lag.bytes)
            ),
            (None, error) => error.as_ref().map_or_else(String::new, |e| e.message.clone()),
        };
        vec![replica.url.clone(), lag]
    });
    let listed = if replicas.is_empty() {
        "No replica is known. Make one with --to URL.".to_owned()
    } else {
        table(&["REPLICA", "STATE"], &rows.collect::<Vec<_>>())
    };
    let Score { copies, media, off_site, immutable, errors } = score;
    let immutable = immutable
        .map_or_else(|| "immutable not known".to_owned(), |n| format!("{n} of 1 immutable"));
    format!(
        "{listed}\n3-2-1-1-0: {copies} of 3 copies, {media} of 2 media, {off_site} of 1 off-site, {immutable}, \
         {errors} errors"
    )
}
