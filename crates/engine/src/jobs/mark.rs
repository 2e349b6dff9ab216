//! Asking a job of another process to stop or to pause: files in the job's directory, and who looks for
//! them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

use super::Reporter;
use crate::error::{EngineError, Result};

/// A job does what it is asked at the latest this long after the mark was left.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What a mark asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// To stop.
    Cancel,
    /// To pause, for as long as the mark is there.
    Pause,
}

impl Mark {
    fn path(self, directory: &Path) -> PathBuf {
        directory.join(match self {
            Self::Cancel => "cancel",
            Self::Pause => "pause",
        })
    }

    /// Leaves the mark.
    pub(super) fn leave(self, directory: &Path) -> Result<()> {
        let mark = self.path(directory);
        std::fs::write(&mark, b"").map_err(EngineError::file("write", &mark))
    }

    /// Takes the mark away, if it is there.
    pub(super) fn take_away(self, directory: &Path) -> Result<()> {
        let mark = self.path(directory);
        match std::fs::remove_file(&mark) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(EngineError::file("remove", mark)(e))
            }
            _ => Ok(()),
        }
    }

    /// Whether the mark is there.
    pub(super) fn is_left(self, directory: &Path) -> bool {
        self.path(directory).exists()
    }
}

/// Looks for marks until dropped.
#[derive(Debug)]
pub(super) struct Watch {
    _until_dropped: DropGuard,
}

impl Watch {
    /// Cancels `cancel` once it is asked for in `directory`, and keeps `paused` as is asked.
    pub(super) fn start(
        directory: PathBuf,
        cancel: CancellationToken,
        paused: Arc<AtomicBool>,
        reporter: Reporter,
    ) -> Self {
        let over = CancellationToken::new();
        let guard = over.clone().drop_guard();
        tokio::spawn(async move {
            loop {
                if Mark::Cancel.is_left(&directory) {
                    cancel.cancel();
                    return;
                }
                let pause = Mark::Pause.is_left(&directory);
                if paused.swap(pause, Ordering::Relaxed) != pause {
                    reporter.log(if pause { "paused" } else { "resumed" });
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
    use crate::jobs::JobId;

    #[tokio::test]
    async fn a_mark_is_seen_within_a_second() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let cancel = CancellationToken::new();
        let paused = Arc::new(AtomicBool::new(false));
        let reporter = Reporter::open(JobId(uuid::Uuid::nil()), at, None).unwrap();
        let _watch = Watch::start(at.to_path_buf(), cancel.clone(), paused.clone(), reporter);
        let reaches = async |wanted: bool| {
            tokio::time::timeout(Duration::from_secs(1), async {
                while paused.load(Ordering::Relaxed) != wanted {
                    tokio::task::yield_now().await;
                }
            })
            .await
            .unwrap();
        };
        Mark::Pause.leave(at).unwrap();
        reaches(true).await;
        Mark::Pause.take_away(at).unwrap();
        reaches(false).await;
        Mark::Cancel.leave(at).unwrap();
        tokio::time::timeout(Duration::from_secs(1), cancel.cancelled()).await.unwrap();
    }
}
