//! Locks of the store, in buckets whose rule keeps what is put for a while: what is still needed when its lock
//! ends is kept for longer, and what goes waits for the end of its lock.
//!
//! A pack is shared: it may be years older than the snapshot that needs it, and its lock may have ended long
//! before. Leases live for hours at most and are never kept for longer.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use holdfast_repository::{
    LockMode, ObjectLock, PackId, RepositoryError, Store, StoreLock, is_transient,
};
use serde::{Deserialize, Serialize};

use super::apply::KeptByStore;
use super::sweep::wal_objects;
use super::tombstone::{Marked, Stage};
use crate::error::Result;
use crate::jobs::JobContext;
use crate::snapshot::Snapshot;

/// Objects asked about at a time.
const IN_FLIGHT: usize = 32;
/// Refusals that are named one by one.
const NAMED: usize = 10;

/// What was done about the locks of a store whose rule keeps what is put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct LocksRenewed {
    /// For how many days the bucket's rule keeps what is put.
    #[ts(type = "number")]
    pub days: u64,
    /// Objects that are needed and are kept for so many days from now again.
    #[ts(type = "number")]
    pub renewed: u64,
    /// Objects that are needed and whose lock could not be renewed.
    #[ts(type = "number")]
    pub refused: u64,
    /// The first of these, with what the store said.
    pub examples: Vec<KeptByStore>,
}

/// Keeps for longer what is in the store of a repository, or of a replica of it, and has less than half of the
/// rule's time left: all but what marks name, also those that were carried out. None where the store has no rule, or
/// cannot be asked: that is told.
pub(crate) async fn renew(
    job: &JobContext,
    store: &Store,
    marked: &[Marked],
    now: DateTime<Utc>,
) -> Option<LocksRenewed> {
    let outcome = try_renew(job, store, marked, now).await;
    outcome.unwrap_or_else(|error| {
        job.reporter.warning(format!(
            "locks were not renewed in {}: {error}. What is needed there can be removed once its locks end: do this \
             again",
            store.location()
        ));
        None
    })
}

async fn try_renew(
    job: &JobContext,
    store: &Store,
    marked: &[Marked],
    now: DateTime<Utc>,
) -> Result<Option<LocksRenewed>> {
    let (mode, days) = match store.lock_rule().await? {
        StoreLock::Rule { mode, days } => (mode, days),
        StoreLock::Unknown => {
            let place = store.location();
            job.reporter.log(format!("{place} does not say whether it locks what is put"));
            return Ok(None);
        }
        StoreLock::None | StoreLock::NoRule => return Ok(None),
    };
    let whole = TimeDelta::days(days.into());
    let there: BTreeMap<String, u64> =
        store.list("").await?.into_iter().map(|entry| (entry.path, entry.size)).collect();
    let going = going(marked, &there);
    // All of them: a list does not say how an object is locked, and the rule may have been another when it
    // was put.
    let asked: Vec<String> =
        there.into_keys().filter(|path| !is_transient(path) && !going.contains(path)).collect();
    job.reporter.phase("renewing locks", Some("objects"), Some(asked.len() as u64));
    let mut told = LocksRenewed { days: days.into(), renewed: 0, refused: 0, examples: Vec::new() };
    let mut outcomes = futures_util::stream::iter(asked)
        .map(|path| renew_one(store.clone(), path, now, whole, mode))
        .buffer_unordered(IN_FLIGHT);
    let mut done = 0;
    while let Some((object, outcome)) = outcomes.next().await {
        job.check()?;
        done += 1;
        job.reporter.done(done);
        match outcome {
            Ok(renewed) => told.renewed += u64::from(renewed),
            Err(error) => {
                told.refused += 1;
                if told.examples.len() < NAMED {
                    told.examples.push(KeptByStore { object, message: error.to_string() });
                }
            }
        }
    }
    if told.refused > 0 {
        job.reporter.warning(format!(
            "the locks of {} objects that are needed could not be renewed: they can be removed once these end. The \
             credentials need s3:GetObjectRetention and s3:PutObjectRetention",
            told.refused
        ));
    }
    Ok(Some(told))
}

/// Renews the lock of one object where it is due, and says whether it was.
async fn renew_one(
    store: Store,
    path: String,
    now: DateTime<Utc>,
    whole: TimeDelta,
    rule: LockMode,
) -> (String, std::result::Result<bool, RepositoryError>) {
    let renewed = async {
        let lock = match store.lock_of(&path).await {
            Ok(lock) => lock,
            // Somebody has removed it since it was listed.
            Err(RepositoryError::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        if lock.is_some_and(|lock| lock.until - now >= whole / 2) {
            return Ok(false);
        }
        // One that still holds is made longer as it is: nobody may make it stricter, or less strict.
        let mode = lock.filter(|lock| lock.until > now).map_or(rule, |lock| lock.mode);
        store.lock_until(&path, ObjectLock { mode, until: now + whole }).await?;
        Ok(true)
    }
    .await;
    (path, renewed)
}

/// Until when the locks of these objects keep them; none where all can go now.
///
/// # Errors
/// When the store cannot be reached.
pub(super) async fn kept_until(
    store: &Store,
    paths: Vec<String>,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>> {
    if !matches!(store.lock_rule().await?, StoreLock::Rule { .. }) {
        return Ok(None);
    }
    let mut locks = futures_util::stream::iter(paths)
        .map(|path| lock_end(store.clone(), path))
        .buffer_unordered(IN_FLIGHT);
    let mut latest = None;
    while let Some(until) = locks.next().await {
        latest = latest.max(until?);
    }
    Ok(latest.filter(|until| *until > now))
}

async fn lock_end(store: Store, path: String) -> Result<Option<DateTime<Utc>>> {
    match store.lock_of(&path).await {
        Ok(lock) => Ok(lock.map(|lock| lock.until)),
        Err(RepositoryError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The names of what marks say goes, or has gone: a replica may have it yet.
fn going(marked: &[Marked], there: &BTreeMap<String, u64>) -> HashSet<String> {
    let mut going = HashSet::new();
    for marked in marked {
        match &marked.stage {
            Stage::Standing => {
                let tombstone = &marked.tombstone;
                going.extend(tombstone.packs.iter().map(PackId::path));
                going.extend(tombstone.files.iter().cloned());
                for snapshot in &tombstone.snapshots {
                    going.insert(Snapshot::manifest_path(snapshot.cluster, snapshot.id));
                    going.insert(Snapshot::file_table_path(snapshot.cluster, snapshot.id));
                }
                going.extend(tombstone.wal.iter().flat_map(|wal| wal_objects(wal, there)));
            }
            Stage::Removing(removal) | Stage::Removed(removal) => {
                going.extend(removal.objects.iter().cloned());
            }
            Stage::Lifted => {}
        }
    }
    going
}
