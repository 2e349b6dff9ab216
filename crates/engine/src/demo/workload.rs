//! Writes that go on while a backup is taken: what couples and vendors do all day.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{RwLock, RwLockWriteGuard};
use tokio::task::JoinSet;

use super::connect;
use crate::error::{EngineError, Result};

/// One transaction of each kind; `$n` is replaced by a running number.
const TRANSACTIONS: [&str; 4] = [
    "INSERT INTO messages (wedding_id, vendor_id, body) VALUES (1 + $n % 2300, 1 + $n % 640, 'See you at noon, number $n')",
    "UPDATE guests SET answer = 'yes' WHERE id = 1 + ($n * 37) % 161000",
    "BEGIN; INSERT INTO payments (wedding_id, vendor_id, amount_cents, due_on) VALUES (1 + $n % 2300, 1 + $n % 640, 5000 + $n, current_date); \
     UPDATE timelines SET updated_at = now() WHERE wedding_id = 1 + $n % 2300; COMMIT",
    "UPDATE timeline_items SET done = NOT done WHERE id = 1 + ($n * 53) % 82800",
];

/// Writers that run until dropped.
pub(super) struct Writers {
    gate: Arc<RwLock<()>>,
    committed: Arc<AtomicU64>,
    tasks: JoinSet<Result<()>>,
    held: tokio::sync::Mutex<Option<tokio::sync::OwnedRwLockWriteGuard<()>>>,
}

impl Writers {
    /// Starts `count` sessions, each committing one transaction after the other.
    pub(super) async fn start(dsn: &str, count: u64) -> Result<Self> {
        let gate = Arc::new(RwLock::new(()));
        let committed = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for writer in 0..count {
            let mut connection = connect(dsn).await?;
            let (gate, committed) = (gate.clone(), committed.clone());
            tasks.spawn(async move {
                let mut n = writer;
                loop {
                    let open = gate.read().await;
                    let kind = usize::try_from(n % TRANSACTIONS.len() as u64).unwrap_or(0);
                    connection.query(&TRANSACTIONS[kind].replace("$n", &n.to_string())).await?;
                    committed.fetch_add(1, Ordering::Relaxed);
                    drop(open);
                    n += count;
                    // Some hundred transactions a second are a busy evening; more only burns the battery.
                    tokio::time::sleep(std::time::Duration::from_millis(4)).await;
                }
            });
        }
        Ok(Self { gate, committed, tasks, held: tokio::sync::Mutex::new(None) })
    }

    /// Waits until no transaction is under way, and lets none begin.
    pub(super) async fn pause(&self) {
        let guard = self.gate.clone().write_owned().await;
        *self.held.lock().await = Some(guard);
    }

    /// Lets them write on, waits for `more` transactions, and ends them; gives how many there were.
    pub(super) async fn resume_until_more(mut self, more: u64) -> Result<u64> {
        let before = self.committed.load(Ordering::Relaxed);
        self.held.lock().await.take();
        loop {
            let written = self.committed.load(Ordering::Relaxed) - before;
            if written >= more {
                let _end: RwLockWriteGuard<'_, ()> = self.gate.write().await;
                let written = self.committed.load(Ordering::Relaxed) - before;
                self.tasks.abort_all();
                return Ok(written);
            }
            tokio::select! {
                ended = self.tasks.join_next() => {
                    return match ended {
                        Some(Ok(Err(error))) => Err(error),
                        _ => Err(EngineError::Fault("a demo writer ended".to_owned())),
                    };
                }
                () = tokio::time::sleep(std::time::Duration::from_millis(20)) => {}
            }
        }
    }
}
