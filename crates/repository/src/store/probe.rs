//! What a store really honours, found out by trying.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Store, StoreLock};
use crate::error::{RepositoryError, Result};

/// Where the test objects are put; nothing else is ever below it.
pub(crate) const PROBE_PREFIX: &str = "probe";

/// The tested properties of a store.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct StoreProbe {
    /// A second put of an object that must not exist is refused, also when several race.
    pub put_if_absent: bool,
    /// An object is listed as soon as its put was answered.
    pub list_after_write: bool,
    /// A part of an object can be read, and a size can be learnt.
    pub range_get: bool,
    /// Whether what is put is kept from being removed.
    pub lock: StoreLock,
}

pub(super) async fn probe(store: &Store) -> Result<StoreProbe> {
    let path = format!("{PROBE_PREFIX}/{}", Uuid::new_v4().simple());
    let outcome = run(store, &path).await;
    // A locked bucket keeps it, which does no harm.
    if let Err(error) = store.delete(&path).await {
        tracing::debug!(%path, %error, "a probe object stays behind");
    }
    outcome
}

async fn run(store: &Store, path: &str) -> Result<StoreProbe> {
    // Different bytes per racer: the one that reads its own back is the winner.
    let racers: Vec<Bytes> =
        (0..4u8).map(|n| Bytes::from(format!("holdfast probe, racer {n} of 4"))).collect();
    let answers =
        futures_util::future::join_all(racers.iter().map(|b| store.put_new(path, b.clone()))).await;
    let mut won = 0;
    for answer in answers {
        match answer {
            Ok(()) => won += 1,
            Err(RepositoryError::AlreadyExists { .. }) => {}
            // A file system without hard links, or a store that knows no conditions: an answer,
            // provided that an ordinary put works.
            Err(error @ (RepositoryError::Full { .. } | RepositoryError::Permission { .. })) => {
                return Err(error);
            }
            Err(error) => {
                store.put_replacing(path, racers[0].clone()).await?;
                tracing::info!(%error, "the store refuses a conditional put");
                won = 0;
                break;
            }
        }
    }
    let late = store.put_new(path, Bytes::from_static(b"late")).await;
    let put_if_absent = won == 1 && matches!(late, Err(RepositoryError::AlreadyExists { .. }));
    let list_after_write =
        store.list(PROBE_PREFIX).await?.iter().any(|entry| entry.path == path && entry.size > 0);
    let whole = store.get(path).await?;
    let size = whole.len() as u64;
    let middle = store.get_range(path, 1, size.saturating_sub(2)).await;
    let tail = store.get_tail(path, 2).await;
    let range_get = matches!((middle, tail), (Ok(middle), Ok((tail, told)))
        if told == size && whole.get(1..whole.len() - 1) == Some(&middle[..]) && whole.ends_with(&tail));
    let lock = store.lock_rule().await.unwrap_or_else(|error| {
        tracing::info!(%error, "the store cannot be asked for its locks");
        StoreLock::Unknown
    });
    Ok(StoreProbe { put_if_absent, list_after_write, range_get, lock })
}
