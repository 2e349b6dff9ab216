//! The commands and events of the product as one typed list.
//!
//! Both front ends of the user interface (the window and the development host) call [`call`] with a
//! command's name and its request as JSON; the TypeScript side has the same names and shapes,
//! generated from the types here. No Tauri and no HTTP in this crate.

mod bindings;
mod commands;
mod requests;

use holdfast_engine::jobs::{JobEvent, JobId, JournalReader};
use holdfast_engine::{Engine, EngineError, ErrorObject};

pub use bindings::typescript;
pub use commands::{NAMES, call};
pub use requests::*;

/// Reads a job's events from number `from_seq` on, as they come.
#[derive(Debug)]
pub struct JobEvents(JournalReader);

impl JobEvents {
    /// Attaches to a job.
    ///
    /// # Errors
    /// An error object when there is no such job.
    pub async fn attach(engine: &Engine, job: &str, from_seq: u64) -> Result<Self, ErrorObject> {
        let attached = async {
            let id: JobId = job.parse()?;
            engine.attach(id, from_seq).await
        };
        attached.await.map(Self).map_err(|e: EngineError| e.to_object())
    }

    /// The next events; empty when the job has ended and all were given. Cancel-safe.
    pub async fn next(&mut self) -> Vec<JobEvent> {
        self.0.next().await
    }
}
