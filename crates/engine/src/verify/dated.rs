//! What verifications found, kept in the repository: one dated document a run.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use holdfast_repository::{ObjectKind, Repository};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::request::{Depth, VerifyRequest};
use super::{VerifiedSnapshot, id_of, is_damage};
use crate::catalog::Catalog;
use crate::error::Result;
use crate::snapshot::cached_document;

/// So many documents are looked through for snapshots that the newest do not judge.
const READ_AT_MOST: usize = 64;

/// The newest verification of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct SnapshotCheck {
    /// When it was.
    #[ts(type = "string")]
    pub at: DateTime<Utc>,
    /// How deep it looked.
    pub level: Depth,
    /// Everything that the snapshot needs to be consistent was read back and is what it must be.
    pub ok: bool,
    /// What is not.
    pub problem: Option<String>,
}

/// The document.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    at: DateTime<Utc>,
    level: Depth,
    /// It judges every snapshot that there was.
    all: bool,
    snapshots: Vec<Judged>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Judged {
    snapshot: Uuid,
    /// What is wrong; none when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

fn prefix(cluster: Uuid) -> String {
    format!("proofs/{cluster}/verified/")
}

/// Keeps the outcome. Of a sample only what it found wrong counts: what was skipped has not passed. That
/// references hold says nothing of the bytes.
pub(super) async fn keep(
    catalog: &Catalog,
    repository: &Repository,
    cluster: Uuid,
    request: &VerifyRequest,
    whole: bool,
    judged: &[VerifiedSnapshot],
) -> Result<()> {
    let passes = whole && request.depth >= Depth::Data;
    let snapshots: Vec<_> = judged
        .iter()
        .filter(|verified| passes || !verified.ok)
        .filter_map(|verified| {
            Some(Judged { snapshot: id_of(verified)?, problem: verified.problem.clone() })
        })
        .collect();
    if snapshots.is_empty() {
        return Ok(());
    }
    let kept = Kept {
        at: Utc::now(),
        level: request.depth,
        all: passes && request.snapshot.is_none(),
        snapshots,
    };
    let path = format!("{}{}", prefix(cluster), Uuid::now_v7());
    repository.put_document(&path, ObjectKind::Proof, &kept).await?;
    // From now on its loss is found.
    cached_document::<Kept>(catalog, repository, &path, ObjectKind::Proof).await.map(|_| ())
}

/// The newest verification of each snapshot of a cluster.
pub(crate) async fn checks_of(
    catalog: &Catalog,
    repository: &Repository,
    cluster: Uuid,
) -> Result<HashMap<Uuid, SnapshotCheck>> {
    let mut checks = HashMap::new();
    // Names sort by time.
    let mut entries = repository.list(&prefix(cluster)).await?;
    entries.sort_by(|a, b| b.path.cmp(&a.path));
    for entry in entries.into_iter().take(READ_AT_MOST) {
        let read = cached_document(catalog, repository, &entry.path, ObjectKind::Proof).await;
        let kept: Kept = match read {
            Ok(kept) => kept,
            // A note that is damaged is one that was not written: verification names it.
            Err(problem) if is_damage(&problem) => {
                tracing::warn!(path = %entry.path, %problem, "the outcome of a verification cannot be read");
                continue;
            }
            Err(problem) => return Err(problem),
        };
        for judged in kept.snapshots {
            checks.entry(judged.snapshot).or_insert_with(|| SnapshotCheck {
                at: kept.at,
                level: kept.level,
                ok: judged.problem.is_none(),
                problem: judged.problem,
            });
        }
        if kept.all {
            break;
        }
    }
    Ok(checks)
}
