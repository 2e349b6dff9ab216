//! What the page can call.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use holdfast_api::JobEvents;
use holdfast_engine::jobs::JobEvent;
use holdfast_engine::{Engine, ErrorObject};
use serde_json::Value;
use tauri::State;
use tauri::async_runtime::JoinHandle;
use tauri::ipc::Channel;

/// The event streams that the page has open, by channel.
#[derive(Default)]
pub(crate) struct Attached(Mutex<HashMap<u32, JoinHandle<()>>>);

impl Attached {
    fn streams(&self) -> std::sync::MutexGuard<'_, HashMap<u32, JoinHandle<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn detach_all(&self) {
        for (_, stream) in self.streams().drain() {
            stream.abort();
        }
    }
}

/// Calls a command of the engine by name.
#[tauri::command]
pub(crate) async fn call(
    engine: State<'_, Engine>,
    command: String,
    request: Value,
) -> Result<Value, ErrorObject> {
    holdfast_api::call(&engine, &command, request).await
}

/// Sends a job's events from number `from_seq` on through `channel`, until the job has ended.
#[tauri::command]
pub(crate) async fn job_attach(
    engine: State<'_, Engine>,
    attached: State<'_, Attached>,
    job: String,
    from_seq: u64,
    channel: Channel<JobEvent>,
) -> Result<u32, ErrorObject> {
    let mut events = JobEvents::attach(&engine, &job, from_seq).await?;
    let id = channel.id();
    let stream = tauri::async_runtime::spawn(async move {
        loop {
            let next = events.next().await;
            if next.is_empty() || next.into_iter().any(|event| channel.send(event).is_err()) {
                break;
            }
        }
    });
    let mut streams = attached.streams();
    streams.retain(|_, s| !s.inner().is_finished());
    streams.insert(id, stream);
    Ok(id)
}

/// Ends what `job_attach` began.
#[tauri::command]
#[allow(clippy::needless_pass_by_value, reason = "the signature that Tauri asks for")]
pub(crate) fn job_detach(attached: State<'_, Attached>, channel: u32) {
    if let Some(stream) = attached.streams().remove(&channel) {
        stream.abort();
    }
}
