//! Where replicas are.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use holdfast_repository::{Repository, RepositoryUrl};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::error::{EngineError, Result};
use crate::standing::{self, Standing};

/// Documents below this tell of places.
pub(crate) const PREFIX: &str = "policies/replicas/";

/// A place where a replica is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaPlace {
    /// UUID version 7.
    pub id: Uuid,
    /// Its address, without credentials.
    pub url: String,
    /// When it was added, by the clock of the machine that did.
    pub added_at: DateTime<Utc>,
}

impl Standing for ReplicaPlace {
    fn id(&self) -> Uuid {
        self.id
    }
}

/// The places that are known, in the order in which they were added.
pub(crate) async fn list(catalog: &Catalog, repository: &Repository) -> Result<Vec<ReplicaPlace>> {
    let mut places: Vec<ReplicaPlace> = standing::list(catalog, repository, PREFIX).await?;
    places.sort_by_key(|place| place.id);
    // Two machines may have added the same place at once.
    let mut seen = std::collections::HashSet::new();
    places.retain(|place| seen.insert(place.url.clone()));
    Ok(places)
}

/// An address as it is stored: a folder from the root on, since it is read elsewhere too.
pub(crate) fn absolute(url: &str) -> Result<RepositoryUrl> {
    let url = RepositoryUrl::parse(url)?;
    let Some(path) = url.local_path() else { return Ok(url) };
    let path = std::path::absolute(path).map_err(EngineError::file("resolve", path))?;
    Ok(RepositoryUrl::parse(&path.display().to_string())?)
}

pub(super) async fn add(repository: &Repository, url: &RepositoryUrl) -> Result<()> {
    let place = ReplicaPlace { id: Uuid::now_v7(), url: url.to_string(), added_at: Utc::now() };
    standing::place(repository, PREFIX, &place).await
}

pub(super) async fn remove(repository: &Repository, id: Uuid) -> Result<()> {
    standing::lift(repository, PREFIX, id).await
}

/// Whether one address is the other, or lies in it.
pub(crate) fn overlap(one: &RepositoryUrl, other: &RepositoryUrl) -> bool {
    let within = |a: &Path, b: &Path| a.starts_with(b) || b.starts_with(a);
    match (one.local_path(), other.local_path()) {
        (Some(one), Some(other)) => within(&resolved(one), &resolved(other)),
        (None, None) => within(Path::new(&one.to_string()), Path::new(&other.to_string())),
        _ => false,
    }
}

/// Where a path really leads, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut existing = path.as_path();
    let mut rest = Vec::new();
    loop {
        if let Ok(found) = existing.canonicalize() {
            return rest.iter().rev().fold(found, |path, name| path.join(name));
        }
        match (existing.parent(), existing.file_name()) {
            (Some(parent), Some(name)) => {
                rest.push(name);
                existing = parent;
            }
            _ => return path.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlapping(one: &str, other: &str) -> bool {
        let url = |text: &str| RepositoryUrl::parse(text).expect("an address");
        overlap(&url(one), &url(other))
    }

    #[test]
    fn a_place_is_not_in_the_other() {
        assert!(overlapping("/a/b", "/a/b"));
        assert!(overlapping("/a/b", "file:///a/b/c"));
        assert!(overlapping("s3://one/x", "s3://one/x/y"));
        assert!(overlapping("s3://one", "s3://one/x"));
        assert!(!overlapping("/a/b", "/a/bc"));
        assert!(!overlapping("s3://one/x", "s3://one/xy"));
        assert!(!overlapping("s3://one/x", "s3://two/x"));
        assert!(!overlapping("s3://one/x", "/x"));
        let dir = tempfile::tempdir().expect("a directory");
        let real = dir.path().join("real");
        std::fs::create_dir(&real).expect("a directory");
        let link = dir.path().join("link");
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&real, &link).expect("a link");
            let text = |path: &Path| path.display().to_string();
            assert!(overlapping(&text(&real), &text(&link.join("new"))));
        }
    }
}
