//! Leases: who does what, without a server.
//!
//! A lease is a series of numbered objects `leases/<name>/<16 digits>.json`, each made with
//! put-if-absent; the highest number counts. Taking, renewing and releasing all write the next
//! number, so that of two that act at once exactly one succeeds, and a holder that overslept its
//! time finds a stranger's object in its way. Ages are differences between times of the *store's*
//! clock: the holder's and the asker's clocks take no part.
//!
//! A store that ignores the condition of a put (see [`crate::StoreProbe`]) makes leases advisory.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::crypto::{from_hex, hex};
use crate::documents::check_path;
use crate::error::RepositoryError;
use crate::object::{ObjectEntry, ObjectKind};
use crate::repository::Repository;
use crate::signed::{self, MAX_SIGNED_BYTES, SignedDocument};

/// Where leases are.
pub(crate) const LEASES_PREFIX: &str = "leases";
/// Objects written only to learn the store's time; removed at once.
const CLOCK_PREFIX: &str = "leases/.clock";
/// How long a lease may be taken for.
const LONGEST_TTL: chrono::Duration = chrono::Duration::days(30);
/// How often a race is run again before giving up.
const ATTEMPTS: usize = 8;
/// What holds a lease whose newest object is damaged.
const DAMAGED: &str = "a damaged lease";
/// How long a lease counts as held whose newest object is damaged.
const DAMAGED_TTL: chrono::Duration = chrono::Duration::hours(1);

/// Why a lease was not taken or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// Somebody else has it.
    #[error("{holder} holds this lease until {until} (by the store's clock)")]
    Held {
        /// What the holder calls itself.
        holder: String,
        /// When it ends unless it is renewed.
        until: DateTime<Utc>,
    },
    /// It was ours, but expired and was taken by somebody else. Stop what it protects.
    #[error("the lease {name} was lost to another holder")]
    Lost {
        /// The lease's name.
        name: String,
    },
    /// The store failed; whether the lease is held is unknown.
    #[error("the lease could not be read or written")]
    Repository(
        /// What failed.
        #[from]
        #[source]
        RepositoryError,
    ),
}

/// The payload, signed by the writer it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseDocument {
    repository: Uuid,
    name: String,
    number: u64,
    /// The same through all renewals.
    lease: Uuid,
    holder: String,
    writer: String,
    ttl_seconds: u64,
    /// When the lease was taken, by the store's clock; null in its first object.
    since: Option<DateTime<Utc>>,
    released: bool,
}

impl SignedDocument for LeaseDocument {
    const TYPE: &'static str = "lease";
}

/// A lease that is held. Dropping it does not release it: the process may have been killed as well,
/// so expiry is what others rely on.
#[derive(Debug)]
pub struct Lease {
    repository: Repository,
    document: LeaseDocument,
    until: DateTime<Utc>,
}

/// A lease as others see it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct LeaseInfo {
    /// Its name.
    pub name: String,
    /// Who holds it.
    pub holder: String,
    /// When it was taken, by the store's clock.
    pub since: DateTime<Utc>,
    /// When it ends unless renewed, by the store's clock.
    pub until: DateTime<Utc>,
    /// Whether it is held now.
    pub alive: bool,
    /// Of its newest object.
    #[serde(skip)]
    number: u64,
}

fn path_of(name: &str, number: u64) -> String {
    format!("{LEASES_PREFIX}/{name}/{number:016}.json")
}

fn number_of(path: &str) -> Option<u64> {
    let digits = path.rsplit_once('/')?.1.strip_suffix(".json")?;
    (digits.len() == 16).then(|| digits.parse().ok()).flatten()
}

impl Lease {
    /// Takes the lease `name` (letters, digits, '-', '_', '.') for `ttl`.
    ///
    /// # Errors
    /// [`LeaseError::Held`] while another holder's time runs.
    pub async fn acquire(
        repository: &Repository,
        name: &str,
        ttl: Duration,
        holder: &str,
    ) -> Result<Lease, LeaseError> {
        if name.contains('/') || name.starts_with('.') {
            let what = format!("{name:?} cannot be the name of a lease");
            return Err(RepositoryError::InvalidArgument { what }.into());
        }
        check_path(&path_of(name, 0))?;
        let mut document = LeaseDocument {
            repository: repository.id(),
            name: name.to_owned(),
            number: 0,
            lease: Uuid::new_v4(),
            holder: holder.to_owned(),
            writer: hex(repository.inner.writer.signer.public()),
            ttl_seconds: ttl.as_secs().clamp(1, LONGEST_TTL.num_seconds().unsigned_abs()),
            since: None,
            released: false,
        };
        for _ in 0..ATTEMPTS {
            let newest = newest(repository, name).await?;
            document.number = 1;
            let mut before = None;
            if let Some((entry, current)) = newest {
                document.number = entry.number + 1;
                before = Some(entry.number);
                // What cannot be read may well be held: unknown is not free.
                let (holder, ttl) = match current {
                    Some(current) if current.released => (None, chrono::Duration::zero()),
                    Some(current) => {
                        let ttl = ttl_of(&current);
                        (Some(current.holder), ttl)
                    }
                    None => (Some(DAMAGED.to_owned()), DAMAGED_TTL),
                };
                if let Some(holder) = holder {
                    let until = entry.modified + ttl;
                    if store_now(repository).await? < until {
                        return Err(LeaseError::Held { holder, until });
                    }
                }
            }
            match write(repository, &document).await {
                Ok(modified) => {
                    document.since = Some(modified);
                    let until = modified + ttl_of(&document);
                    let lease = Lease { repository: repository.clone(), document, until };
                    lease.require_newest().await?;
                    if let Some(before) = before {
                        lease.forget(before).await;
                    }
                    return Ok(lease);
                }
                Err(RepositoryError::AlreadyExists { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(LeaseError::Held { holder: "somebody else".to_owned(), until: Utc::now() })
    }

    /// The lease's name.
    pub fn name(&self) -> &str {
        &self.document.name
    }

    /// When it ends unless renewed, by the store's clock.
    pub fn until(&self) -> DateTime<Utc> {
        self.until
    }

    /// When it was taken, by the store's clock.
    pub fn since(&self) -> Option<DateTime<Utc>> {
        self.document.since
    }

    /// Starts the time anew.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] when another holder has taken it.
    pub async fn renew(&mut self) -> Result<(), LeaseError> {
        self.advance(false).await
    }

    /// Gives it up at once.
    ///
    /// # Errors
    /// When the store cannot be written; the lease then ends by itself.
    pub async fn release(mut self) -> Result<(), LeaseError> {
        match self.advance(true).await {
            Err(LeaseError::Lost { .. }) => Ok(()),
            other => other,
        }
    }

    /// Gives up a lease whose name nobody else takes, such as a job's: nothing of it stays behind.
    ///
    /// # Errors
    /// When the store cannot be written; the lease then ends by itself.
    pub async fn conclude(self) -> Result<(), LeaseError> {
        let path = path_of(self.name(), self.document.number);
        match self.repository.store().delete(&path).await {
            Ok(()) => Ok(()),
            // A store that removes nothing takes the word that it is given up.
            Err(error) => {
                tracing::info!(%path, %error, "the store keeps the lease: it is given up in it");
                self.release().await
            }
        }
    }

    /// Ends a lease whose holder is known to be gone, where nobody else takes its name: nothing of it stays.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn clear(repository: &Repository, lease: &LeaseInfo) -> Result<(), RepositoryError> {
        for entry in repository.list(&format!("{LEASES_PREFIX}/{}", lease.name)).await? {
            repository.store().delete(&entry.path).await?;
        }
        Ok(())
    }

    /// Ends a lease whose holder is known to be gone, so that others can take it at once. Says whether it was still
    /// the one that `lease` tells of: another holder's is left alone.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn end(repository: &Repository, lease: &LeaseInfo) -> Result<bool, RepositoryError> {
        let document = LeaseDocument {
            repository: repository.id(),
            name: lease.name.clone(),
            number: lease.number + 1,
            // Not the holder's: if it lives after all, it finds a stranger's object in its way.
            lease: Uuid::new_v4(),
            holder: lease.holder.clone(),
            writer: hex(repository.inner.writer.signer.public()),
            ttl_seconds: 1,
            since: Some(lease.since),
            released: true,
        };
        match write(repository, &document).await {
            Ok(_) => {}
            Err(RepositoryError::AlreadyExists { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        // Its number is free again when others came and went meanwhile.
        let newest = newest(repository, &lease.name).await?;
        let ended = newest.is_none_or(|(entry, _)| entry.number <= document.number);
        let number = if ended { lease.number } else { document.number };
        forget(repository, &lease.name, number).await;
        Ok(ended)
    }

    /// Removes what killed holders have left of leases, but of the one named `kept`, once it is so old that no
    /// lease of it can be alive.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn remove_left(repository: &Repository, kept: &str) -> Result<(), RepositoryError> {
        let entries = repository.list(LEASES_PREFIX).await?;
        let Some(newest) = entries.iter().map(|entry| entry.modified).max() else { return Ok(()) };
        let before = newest - LONGEST_TTL - LONGEST_TTL;
        let kept = format!("{LEASES_PREFIX}/{kept}/");
        for entry in entries.iter().filter(|e| e.modified < before && !e.path.starts_with(&kept)) {
            if let Err(error) = repository.store().delete(&entry.path).await {
                tracing::info!(path = %entry.path, %error, "what a killed holder has left stays");
            }
        }
        Ok(())
    }

    async fn advance(&mut self, released: bool) -> Result<(), LeaseError> {
        let mut previous = self.document.number;
        let mut attempts = ATTEMPTS;
        loop {
            // Whoever took this holder for dead has removed it, and nobody waits for it any more.
            match self.repository.store().head(&path_of(self.name(), previous)).await {
                Ok(_) => {}
                Err(RepositoryError::NotFound { .. }) => {
                    return Err(LeaseError::Lost { name: self.name().to_owned() });
                }
                Err(error) => return Err(error.into()),
            }
            let next = LeaseDocument { number: previous + 1, released, ..self.document.clone() };
            match write(&self.repository, &next).await {
                Ok(modified) => {
                    self.document = next;
                    self.until = modified + ttl_of(&self.document);
                    self.require_newest().await?;
                    break;
                }
                Err(RepositoryError::AlreadyExists { .. }) if attempts > 0 => {
                    // Our own number, when an earlier answer was lost; else a stranger's.
                    attempts -= 1;
                    match newest(&self.repository, self.name()).await? {
                        Some((entry, Some(current)))
                            if current.lease == self.document.lease && !current.released =>
                        {
                            previous = entry.number;
                        }
                        _ => return Err(LeaseError::Lost { name: self.name().to_owned() }),
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        // The newest number always stays: a holder that slept finds it in its way, or above its own.
        self.forget(previous).await;
        Ok(())
    }

    /// Makes sure that no higher number is there: a holder that slept while two others came and went finds its
    /// own next number free again. Takes its object back when one is.
    async fn require_newest(&self) -> Result<(), LeaseError> {
        let newest = newest(&self.repository, self.name()).await?;
        if newest.is_some_and(|(entry, _)| entry.number > self.document.number) {
            self.forget(self.document.number).await;
            return Err(LeaseError::Lost { name: self.name().to_owned() });
        }
        Ok(())
    }

    async fn forget(&self, number: u64) {
        forget(&self.repository, self.name(), number).await;
    }

    /// Every lease whose name begins with `prefix`, released ones left out.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(
        repository: &Repository,
        prefix: &str,
    ) -> Result<Vec<LeaseInfo>, RepositoryError> {
        let mut names: Vec<String> = repository
            .list(LEASES_PREFIX)
            .await?
            .into_iter()
            .filter_map(|entry| {
                let mut parts = entry.path.split('/').skip(1);
                let name = parts.next()?;
                parts.next()?;
                (!name.starts_with('.') && name.starts_with(prefix)).then(|| name.to_owned())
            })
            .collect();
        names.dedup();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let now = store_now(repository).await?;
        let mut leases = Vec::new();
        for name in names {
            let Some((entry, current)) = newest(repository, &name).await? else { continue };
            if current.as_ref().is_some_and(|current| current.released) {
                continue;
            }
            // What cannot be read may well be held, and nobody knows since when.
            let (holder, since, ttl) = match current {
                Some(current) => {
                    let ttl = ttl_of(&current);
                    (current.holder, current.since.unwrap_or(entry.modified), ttl)
                }
                None => (DAMAGED.to_owned(), DateTime::<Utc>::MIN_UTC, DAMAGED_TTL),
            };
            let until = entry.modified + ttl;
            let (number, alive) = (entry.number, now < until);
            leases.push(LeaseInfo { name, holder, since, until, alive, number });
        }
        Ok(leases)
    }
}

/// Removes the object of a number that does not count any more.
async fn forget(repository: &Repository, name: &str, number: u64) {
    let path = path_of(name, number);
    if let Err(error) = repository.store().delete(&path).await {
        tracing::debug!(%path, %error, "an old number of a lease stays behind");
    }
}

fn ttl_of(document: &LeaseDocument) -> chrono::Duration {
    let longest = LONGEST_TTL.num_seconds();
    chrono::Duration::seconds(i64::try_from(document.ttl_seconds).unwrap_or(longest).min(longest))
}

struct Numbered {
    number: u64,
    modified: DateTime<Utc>,
}

/// The highest number, and its document when it is authentic. One that is not (or that vanished
/// because its holder renewed) still keeps its number.
async fn newest(
    repository: &Repository,
    name: &str,
) -> Result<Option<(Numbered, Option<LeaseDocument>)>, RepositoryError> {
    for _ in 0..ATTEMPTS {
        let entries = repository.list(&format!("{LEASES_PREFIX}/{name}")).await?;
        let last: Option<(u64, ObjectEntry)> = entries
            .into_iter()
            .filter_map(|entry| Some((number_of(&entry.path)?, entry)))
            .max_by_key(|(number, _)| *number);
        let Some((number, entry)) = last else { return Ok(None) };
        match read(repository, &entry.path, name, number).await {
            Ok(document) => {
                let numbered = Numbered { number, modified: entry.modified.trunc_subsecs(6) };
                return Ok(Some((numbered, Some(document))));
            }
            // Renewed since it was listed: look again.
            Err(RepositoryError::NotFound { .. }) => {}
            Err(
                error @ (RepositoryError::Corrupt { .. } | RepositoryError::UntrustedWriter { .. }),
            ) => {
                tracing::warn!(%error, "a lease is not honoured");
                let numbered = Numbered { number, modified: entry.modified.trunc_subsecs(6) };
                return Ok(Some((numbered, None)));
            }
            Err(error) => return Err(error),
        }
    }
    Err(RepositoryError::corrupt(
        format!("{LEASES_PREFIX}/{name}"),
        "its newest object is listed but cannot be read",
    ))
}

async fn read(
    repository: &Repository,
    path: &str,
    name: &str,
    number: u64,
) -> Result<LeaseDocument, RepositoryError> {
    let bytes = repository.store().get_limited(path, MAX_SIGNED_BYTES).await?;
    verify(repository, path, &bytes).await.and_then(|document| {
        if document.name == name && document.number == number {
            Ok(document)
        } else {
            Err(RepositoryError::corrupt(path, "it is another lease's object"))
        }
    })
}

async fn verify(
    repository: &Repository,
    path: &str,
    bytes: &[u8],
) -> Result<LeaseDocument, RepositoryError> {
    let document = signed::parse::<LeaseDocument>(path, bytes)?;
    let writer: [u8; 32] = from_hex(&document.value.writer)
        .ok_or_else(|| RepositoryError::corrupt(path, "its writer is malformed"))?;
    repository.trust(path, ObjectKind::Lease, &writer).await?;
    if !document.is_signed_by(&writer) || document.value.repository != repository.id() {
        return Err(RepositoryError::corrupt(path, "its signature does not fit its content"));
    }
    Ok(document.value)
}

/// For verification: whether the bytes at `path` are an authentic lease.
pub(crate) async fn check_object(
    repository: &Repository,
    path: &str,
    bytes: &[u8],
) -> Result<(), RepositoryError> {
    verify(repository, path, bytes).await.map(|_| ())
}

/// Puts the document if its number is free; the store's time of doing so.
async fn write(
    repository: &Repository,
    document: &LeaseDocument,
) -> Result<DateTime<Utc>, RepositoryError> {
    let path = path_of(&document.name, document.number);
    let bytes = signed::sign(&path, document, &repository.inner.writer.signer)?;
    repository.store().put_new(&path, bytes).await?;
    let entry = repository.store().head(&path).await?;
    Ok(entry.modified.trunc_subsecs(6))
}

/// The store's clock, read from the time it gives a new object.
async fn store_now(repository: &Repository) -> Result<DateTime<Utc>, RepositoryError> {
    let store = repository.store();
    let path = format!("{CLOCK_PREFIX}/{}", Uuid::new_v4().simple());
    store.put_new(&path, hex(&[0]).into_bytes()).await?;
    let entry = store.head(&path).await;
    if let Err(error) = store.delete(&path).await {
        tracing::debug!(%path, %error, "a clock object stays behind");
    }
    Ok(entry?.modified.trunc_subsecs(6))
}

/// Whether `path` is one of the objects that only tell the time.
pub(crate) fn is_clock(path: &str) -> bool {
    path.strip_prefix(CLOCK_PREFIX).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_paths() {
        assert_eq!(path_of("a", 7), "leases/a/0000000000000007.json");
        assert_eq!(number_of("leases/a/0000000000000007.json"), Some(7));
        assert_eq!(number_of("leases/a/7.json"), None);
    }
}
