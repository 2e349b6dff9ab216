//! Documents that stand until they are lifted: a document, and lifting it another one beside it. Who loses
//! the second has the first back.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use holdfast_repository::{ObjectKind, Repository};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::error::Result;
use crate::snapshot::cached_document;

/// What is added to a document's path to lift it.
const RELEASED: &str = ".released";

/// A document that can be lifted.
pub(crate) trait Standing: Serialize + DeserializeOwned {
    /// Its name below the prefix.
    fn id(&self) -> Uuid;
}

/// That a document was lifted.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Release {
    #[serde(alias = "hold")]
    id: Uuid,
    released_at: DateTime<Utc>,
}

/// The documents below `prefix`, which ends in '/', that are not lifted, in the order of their names.
pub(crate) async fn list<T: Standing>(
    catalog: &Catalog,
    repository: &Repository,
    prefix: &str,
) -> Result<Vec<T>> {
    let (lifted, placed): (Vec<_>, Vec<_>) = repository
        .list(prefix)
        .await?
        .into_iter()
        .map(|entry| entry.path)
        .partition(|path| path.ends_with(RELEASED));
    let lifted: BTreeSet<_> = lifted.into_iter().collect();
    let mut standing = Vec::new();
    for path in placed {
        let document: T = cached_document(catalog, repository, &path, ObjectKind::Policy).await?;
        let release = format!("{path}{RELEASED}");
        if lifted.contains(&release) {
            // One that cannot be read or speaks of another document lifts nothing.
            let told: Release =
                cached_document(catalog, repository, &release, ObjectKind::Policy).await?;
            if told.id == document.id() {
                continue;
            }
        }
        standing.push(document);
    }
    Ok(standing)
}

/// Places a document.
pub(crate) async fn place(
    repository: &Repository,
    prefix: &str,
    document: &impl Standing,
) -> Result<()> {
    let path = format!("{prefix}{}", document.id());
    Ok(repository.put_document(&path, ObjectKind::Policy, document).await?)
}

/// Lifts a document that is there.
pub(crate) async fn lift(repository: &Repository, prefix: &str, id: Uuid) -> Result<()> {
    let release = Release { id, released_at: Utc::now() };
    let path = format!("{prefix}{id}{RELEASED}");
    Ok(repository.put_document(&path, ObjectKind::Policy, &release).await?)
}
