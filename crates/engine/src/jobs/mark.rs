//! Asking a job of another process to stop: a file in the job's directory, and who looks for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::{EngineError, Result};

/// A job is asked to stop at the latest this long after the mark was left.
const LOOK_EVERY: Duration = Duration::from_millis(250);

fn path(directory: &Path) -> PathBuf {
    directory.join("cancel")
}

/// Leaves the mark.
pub(super) fn leave(directory: &Path) -> Result<()> {
    let mark = path(directory);
    std::fs::write(&mark, b"").map_err(EngineError::file("write", &mark))
}

/// Looks for the mark until dropped.
#[derive(Debug)]
pub(super) struct Watch {
    _until_dropped: DropGuard,
}

impl Watch {
    /// Cancels `cancel` once there is a mark in `directory`.
    pub(super) fn start(directory: PathBuf, cancel: CancellationToken) -> Self {
        let over = CancellationToken::new();
        let guard = over.clone().drop_guard();
        tokio::spawn(async move {
            let mark = path(&directory);
            loop {
                if mark.exists() {
                    cancel.cancel();
                    return;
                }
                tokio::select! {
                    () = over.cancelled() => return,
                    () = cancel.cancelled() => return,
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
        });
        Self { _until_dropped: guard }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_mark_cancels_within_a_second() {
        let directory = tempfile::tempdir().unwrap();
        let cancel = CancellationToken::new();
        let _watch = Watch::start(directory.path().to_path_buf(), cancel.clone());
        leave(directory.path()).unwrap();
        tokio::time::timeout(Duration::from_secs(1), cancel.cancelled()).await.unwrap();
    }
}
