//! How long a restore may take, from this machine's own history.

use serde::{Deserialize, Serialize};

use crate::Engine;
use crate::jobs::JobKind;
use crate::restore::RestoreResult;
use crate::snapshot::Snapshot;

/// A range of seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ts_rs::TS)]
pub struct Estimate {
    /// At best.
    pub low: f64,
    /// At worst.
    pub high: f64,
}

impl Engine {
    /// A range from this machine's own restores, scaled by size; nothing without history.
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    pub(super) async fn estimate(&self, snapshot: &Snapshot, wal_bytes: u64) -> Option<Estimate> {
        let wanted = (snapshot.bytes_logical + wal_bytes) as f64;
        let mut times = Vec::new();
        for job in
            self.jobs().await.ok()?.into_iter().filter(|j| j.kind == JobKind::Restore).take(20)
        {
            let Ok((_, Some(result))) = self.job(job.id).await else { continue };
            let Ok(result) = serde_json::from_value::<RestoreResult>(result) else {
                continue;
            };
            let seconds: f64 = result.phases.iter().map(|p| p.seconds).sum();
            let bytes: u64 = result.phases.iter().filter_map(|p| p.bytes).sum();
            if bytes > 0 && seconds > 0.0 {
                times.push((seconds * wanted / bytes as f64).max(1.0));
            }
        }
        let low = times.iter().copied().reduce(f64::min)?;
        let high = times.iter().copied().reduce(f64::max)?;
        Some(Estimate { low: low * 0.8, high: high * 1.5 })
    }
}
