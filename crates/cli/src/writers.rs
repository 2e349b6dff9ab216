//! `holdfast repo writers`.

use std::process::ExitCode;

use holdfast_engine::writers::{ListedWriter, WriterRole};
use holdfast_engine::{Engine, Result};
use serde_json::json;

use crate::arguments::Writers;
use crate::output::Output;
use crate::tables::{table, time};

pub(crate) async fn run(engine: &Engine, command: Writers, output: Output) -> Result<ExitCode> {
    match command {
        Writers::List { repo } => {
            let summary = engine.find_repository(repo.as_deref()).await?;
            let writers = engine.writers(&summary).await?;
            Ok(output.result(&json!({ "writers": writers }), |_| listed(&writers)))
        }
        Writers::Admit { name, cluster, key_out, repo } => {
            let summary = engine.find_repository(repo.as_deref()).await?;
            let admitted = engine.admit_agent(&summary, &name, &cluster, &key_out).await?;
            Ok(output.result(&admitted, |admitted| {
                format!(
                    "The agent \"{name}\" is admitted; its key is in {}. {}",
                    admitted.key_file.display(),
                    admitted.means
                )
            }))
        }
    }
}

fn listed(writers: &[ListedWriter]) -> String {
    let rows: Vec<_> = writers
        .iter()
        .map(|w| {
            let role = match w.role {
                WriterRole::Operator => "operator: everything".to_owned(),
                WriterRole::Agent if w.clusters.is_empty() => "agent: adds".to_owned(),
                WriterRole::Agent => format!("agent: adds to {}", w.clusters.join(", ")),
            };
            let this = if w.this_device { "this device" } else { "" };
            let name = w.label.clone().unwrap_or_default();
            vec![w.device.to_string(), role, name, time(w.certified_at), this.into()]
        })
        .collect();
    table(&["device", "may", "name", "admitted", ""], &rows)
}
