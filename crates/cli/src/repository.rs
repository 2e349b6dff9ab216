//! `holdfast repo`: its commands, and what they tell.

use std::fmt::Write as _;
use std::process::ExitCode;

use holdfast_engine::repository::{LockMode, NewRepository, RepositoryStatus, StoreLock};
use holdfast_engine::size::bytes;
use holdfast_engine::verify::VerifyRequest;
use holdfast_engine::{Engine, RepositorySummary, Result};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::arguments::{Arguments, Repo};
use crate::output::Output;
use crate::tables::{self, table, time};
use crate::{keys, secrets, verify, writers};

/// Runs `holdfast repo`.
pub(crate) async fn run(
    engine: &Engine,
    arguments: &Arguments,
    command: Repo,
    output: Output,
    cancel: &CancellationToken,
) -> Result<ExitCode> {
    match command {
        Repo::Create { url, recovery_key_out, keychain } => {
            let passphrase = secrets::given(arguments)?.passphrase;
            let keychain = keychain || passphrase.is_none();
            let created = engine
                .create_repository(NewRepository {
                    url,
                    passphrase,
                    keychain,
                    recovery_key_file: recovery_key_out,
                    ..NewRepository::default()
                })
                .await?;
            Ok(output.result(&created, |r| format!("Repository {} at {}", r.id, r.url)))
        }
        Repo::Attach { url, keychain } => {
            let (summary, clusters) =
                engine.attach_repository(&url, &secrets::given(arguments)?, keychain).await?;
            let mut known = Vec::new();
            for cluster in &clusters {
                known.push(engine.cluster_summary(cluster).await?);
            }
            let value = json!({ "repository": summary, "clusters": known });
            Ok(output.result(&value, |_| tables::clusters(&known)))
        }
        Repo::Detach { url } => {
            let summary = engine.detach_repository(url.as_deref()).await?;
            Ok(output.result(&json!({ "detached": summary }), |_| {
                format!("{} is forgotten here. What is stored there stays.", summary.url)
            }))
        }
        Repo::Status { url } => {
            let summary = engine.find_repository(url.as_deref()).await?;
            Ok(output.result(&engine.repository_status(summary).await?, status))
        }
        Repo::Check { url } => {
            let summary = engine.find_repository(url.as_deref()).await?;
            let clusters = engine.clusters().await?;
            let cluster =
                clusters.iter().find(|c| c.repository == summary.id).map(|c| c.name.clone());
            let request = VerifyRequest { cluster, ..VerifyRequest::default() };
            let result = engine.verify(request, cancel.clone()).await?;
            Ok(verify::verified(&result, output))
        }
        Repo::List => {
            let list = engine.repositories().await?;
            Ok(output.result(&json!({ "repositories": list }), |_| listed(&list)))
        }
        Repo::Keys(command) => keys::run(engine, command, output).await,
        Repo::Writers(command) => writers::run(engine, command, output).await,
        Repo::Rekey { to, repo, key, keychain, force } => {
            let request = keys::rekey_request(to, repo, key, keychain, force).await?;
            let result = engine.rekey(request, cancel.clone()).await?;
            let code = output.result(&result, keys::rekeyed);
            Ok(if result.ok {
                code
            } else {
                ExitCode::from(holdfast_engine::Outcome::Integrity.exit_code())
            })
        }
        Repo::RecoveryKit { out, repo } => {
            let summary = engine.find_repository(repo.as_deref()).await?;
            let kit = engine.write_recovery_kit(&summary, &out).await?;
            Ok(output.result(&kit, |kit| {
                format!(
                    "{} is written; its key opens the repository (slot {}).\n\
                     Print it, keep it apart from the repository, and delete the file.",
                    kit.file.display(),
                    kit.slot
                )
            }))
        }
    }
}

fn listed(list: &[RepositorySummary]) -> String {
    if list.is_empty() {
        return "No repositories. Create one with `holdfast repo create URL`.".to_owned();
    }
    let rows: Vec<_> =
        list.iter().map(|r| vec![r.id.to_string(), r.url.clone(), time(r.attached_at)]).collect();
    table(&["id", "url", "attached"], &rows)
}

fn status(s: &RepositoryStatus) -> String {
    let mut text = format!("{}\n{}\n{} stored\n\n", s.summary.url, s.summary.id, bytes(s.bytes));
    let rows: Vec<_> = s
        .objects
        .iter()
        .map(|(n, c)| vec![n.clone(), c.objects.to_string(), bytes(c.bytes)])
        .collect();
    text.push_str(&table(&["objects", "number", "size"], &rows));
    let rows: Vec<_> = s
        .slots
        .iter()
        .map(|k| {
            vec![k.id.to_string(), k.kind.name().to_owned(), k.label.clone(), time(k.created_at)]
        })
        .collect();
    text.push_str("\n\n");
    text.push_str(&table(&["key slot", "kind", "label", "made"], &rows));
    let _ = write!(
        text,
        "\n\nThe store honours put-if-absent: {}; lists what was just written: {}; reads ranges: {}\n{}",
        yes(s.store.put_if_absent),
        yes(s.store.list_after_write),
        yes(s.store.range_get),
        lock(s.store.lock)
    );
    text
}

fn lock(lock: StoreLock) -> String {
    match lock {
        StoreLock::None => "It locks no objects: who may write may also remove.".to_owned(),
        StoreLock::NoRule => {
            "Its bucket can lock objects, but has no rule that does: give it a default retention."
                .to_owned()
        }
        StoreLock::Rule { mode, days } => {
            let who = match mode {
                LockMode::Governance => "only who has a right of its own",
                LockMode::Compliance => "nobody",
            };
            format!("It locks what is put for {days} days: {who} can remove it before.")
        }
        StoreLock::Unknown => "It does not say whether it locks objects.".to_owned(),
    }
}

fn yes(b: bool) -> &'static str {
    if b { "yes" } else { "NO" }
}
