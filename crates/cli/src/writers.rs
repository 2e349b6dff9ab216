//! `holdfast repo writers`.

use std::process::ExitCode;

use holdfast_engine::{Engine, Result};
use serde_json::json;

use crate::arguments::Writers;
use crate::output::Output;
use crate::tables;

pub(crate) async fn run(engine: &Engine, command: Writers, output: Output) -> Result<ExitCode> {
    match command {
        Writers::List { repo } => {
            let summary = engine.find_repository(repo.as_deref()).await?;
            let writers = engine.writers(&summary).await?;
            Ok(output.result(&json!({ "writers": writers }), |_| tables::writers(&writers)))
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
