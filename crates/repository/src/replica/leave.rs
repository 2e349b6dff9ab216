//! What leaves a replica: parts of segments that it has whole, ways in that were closed, and what was removed from
//! the source on purpose.

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::Utc;
use tokio_util::sync::CancellationToken;

use super::stage::{self, Stage};
use super::{Replica, Replicated, is_slot};
use crate::collect::step_of;
use crate::error::{RepositoryError, Result};
use crate::lease::Lease;
use crate::object::ObjectEntry;
use crate::repository::read_root;
use crate::signed::MAX_SIGNED_BYTES;
use crate::store::StoreLock;
use crate::verify::{Key, read_key};

impl Replica<'_> {
    /// Removes parts of WAL segments that it has whole and, with `slots`, ways in that are closed at the source.
    pub(super) async fn remove_superfluous(
        &self,
        listed: &[(Stage, ObjectEntry)],
        there: &HashMap<String, u64>,
        slots: bool,
    ) -> Result<u64> {
        let own: HashSet<&str> = listed.iter().map(|(_, entry)| entry.path.as_str()).collect();
        let mut removed = 0;
        for path in there.keys().filter(|path| !own.contains(path.as_str())) {
            let sealed = stage::sealed_by(path)
                .is_some_and(|segment| segment.iter().any(|path| there.contains_key(path)));
            let closed = slots && is_slot(path) && self.is_closed(path, listed, there).await?;
            if !sealed && !closed {
                continue;
            }
            match self.copy.store().delete(path).await {
                Ok(()) => removed += 1,
                // In a locked bucket a slice costs a little space. An open way in is told.
                Err(error) if sealed => tracing::info!(%path, %error, "a slice stays in a replica"),
                Err(error) => return Err(error),
            }
            if sealed && let Some((folder, _)) = path.rsplit_once('/') {
                self.copy.store().remove_folder(folder).await;
            }
        }
        Ok(removed)
    }

    /// Removes what was removed from the source on purpose, unless somebody may be reading it here.
    pub(super) async fn remove_removed(
        &self,
        listed: &[(Stage, ObjectEntry)],
        there: &HashMap<String, u64>,
        removed: &BTreeSet<String>,
        cancel: &CancellationToken,
        done: &mut Replicated,
    ) -> Result<()> {
        let own: HashSet<&str> = listed.iter().map(|(_, entry)| entry.path.as_str()).collect();
        let leaving: Vec<String> = removed
            .iter()
            .filter(|path| there.contains_key(*path) && !own.contains(path.as_str()))
            .cloned()
            .collect();
        // What takes the place of what goes may be among what was held back.
        if leaving.is_empty() || !done.held_back.is_empty() {
            return Ok(());
        }
        if let Some(lease) = Lease::list(&self.copy, "").await?.into_iter().find(|l| l.alive) {
            done.waiting = Some(lease.holder);
            return Ok(());
        }
        let leaving = self.without_locked(leaving, done).await?;
        let outcome = self.copy.remove_objects(&leaving, &|_| {}, cancel).await?;
        done.removed += outcome.gone.len() as u64;
        for (path, why) in outcome.kept {
            tracing::warn!(%path, %why, "a replica keeps what was removed from its source");
        }
        Ok(())
    }

    /// Without what the store locks for a while yet, which would only be hidden, and without what that may name:
    /// it goes the next time.
    async fn without_locked(
        &self,
        paths: Vec<String>,
        done: &mut Replicated,
    ) -> Result<Vec<String>> {
        let store = self.copy.store();
        if !matches!(store.lock_rule().await?, StoreLock::Rule { .. }) {
            return Ok(paths);
        }
        let (now, mut free) = (Utc::now(), Vec::new());
        let mut first = u8::MAX;
        for path in paths {
            match store.lock_of(&path).await {
                Ok(Some(lock)) if lock.until > now => {
                    done.locked += 1;
                    first = first.min(step_of(&path));
                }
                Ok(_) => free.push(path),
                Err(RepositoryError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        free.retain(|path| step_of(path) <= first);
        Ok(free)
    }

    /// Whether a way in of the replica is closed at the source. That it was not listed proves nothing: the
    /// source has to be there, with another way in that the replica has too, and to say so by name.
    async fn is_closed(
        &self,
        slot: &str,
        listed: &[(Stage, ObjectEntry)],
        there: &HashMap<String, u64>,
    ) -> Result<bool> {
        let store = self.source.store();
        if read_root(store).await? != self.source.inner.root {
            return Ok(false);
        }
        let mut opens = false;
        for (_, entry) in listed.iter().filter(|(_, entry)| is_slot(&entry.path)) {
            if there.get(&entry.path) == Some(&entry.size) {
                let bytes = store.get_limited(&entry.path, MAX_SIGNED_BYTES).await?;
                let key = read_key(&entry.path, &bytes, &self.source.inner.root);
                opens |= matches!(key, Ok(Key::Slot));
            }
        }
        match store.head(slot).await {
            Err(RepositoryError::NotFound { .. }) => Ok(opens),
            Ok(_) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
