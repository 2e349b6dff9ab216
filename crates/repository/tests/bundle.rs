//! Bundles are repositories: whole in a folder or a file, or not there.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::path::Path;

use bytes::Bytes;
use fixture::{
    DEVICE, add, assert_clean, assert_fetches, in_memory, noise, passphrase, small_packs, verify,
};
use holdfast_repository::{
    Bundle, ExtentId, ObjectKind, Repository, RepositoryError, RepositoryUrl, Store, Unlock,
    VerifyLevel,
};
use tokio_util::sync::CancellationToken;

/// A repository with extents in several packs, one of them large, and what is in it.
async fn filled() -> (Repository, Vec<ExtentId>, Vec<Bytes>) {
    let (_, repository) = in_memory().await;
    let extents: Vec<Bytes> = (0..320).map(|n| noise(n, 8192)).collect();
    let (ids, _) = add(&repository, &extents, small_packs()).await.unwrap();
    (repository, ids, extents)
}

async fn opened(path: &Path) -> Result<Repository, RepositoryError> {
    let url = RepositoryUrl::parse(&path.display().to_string()).unwrap();
    let secret = passphrase();
    Repository::open_to_read(Store::open(&url).await?, DEVICE, Unlock::Passphrase(&secret)).await
}

/// Everything but the index, which is written anew, and a document of its own.
async fn fill(bundle: &mut Bundle, repository: &Repository) {
    let cancel = CancellationToken::new();
    for entry in repository.list("").await.unwrap() {
        if !entry.path.starts_with("index/") {
            bundle.copy(repository, &entry, &cancel).await.unwrap();
        }
    }
    let packs: Vec<_> = repository.index().await.unwrap().packs().collect();
    assert!(packs.len() > 3, "{}", packs.len());
    for (path, bytes) in repository.index_of(&packs).await.unwrap() {
        bundle.put(&path, bytes).await.unwrap();
    }
    let bytes = repository.document("bundle/one", ObjectKind::Bundle, &"contents").await.unwrap();
    bundle.put("bundle/one", bytes).await.unwrap();
}

#[tokio::test]
async fn a_bundle_is_a_repository_in_a_folder_or_a_file() {
    let place = tempfile::tempdir().unwrap();
    let (repository, ids, extents) = filled().await;
    for name in ["folder", "file.tar"] {
        let to = place.path().join(name);
        let mut bundle = Bundle::begin(&to).await.unwrap();
        fill(&mut bundle, &repository).await;
        let part = bundle.settle().await.unwrap();
        assert!(!to.exists(), "{name} has its name before it was read back");
        assert_clean(&repository.at(part).unwrap()).await;
        let stats = bundle.finish().unwrap();
        let copy = opened(&to).await.unwrap();
        let listed = copy.list("").await.unwrap();
        assert_eq!(stats.objects, listed.len() as u64);
        assert_eq!(stats.bytes, listed.iter().map(|entry| entry.size).sum::<u64>());
        assert_clean(&copy).await;
        assert_fetches(&copy, &ids, &extents).await;
        let said: String = copy.get_document("bundle/one", ObjectKind::Bundle).await.unwrap();
        assert_eq!(said, "contents");
    }
    let left: Vec<_> = std::fs::read_dir(place.path()).unwrap().flatten().collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[tokio::test]
async fn what_is_not_finished_leaves_nothing_and_nothing_is_overwritten() {
    let place = tempfile::tempdir().unwrap();
    let (repository, ..) = filled().await;
    for name in ["folder", "file.tar"] {
        let to = place.path().join(name);
        let mut bundle = Bundle::begin(&to).await.unwrap();
        fill(&mut bundle, &repository).await;
        drop(bundle);
        let cancelled = CancellationToken::new();
        cancelled.cancel();
        let mut bundle = Bundle::begin(&to).await.unwrap();
        let entry = repository.list("packs").await.unwrap().remove(0);
        let outcome = bundle.copy(&repository, &entry, &cancelled).await;
        assert!(matches!(outcome, Err(RepositoryError::Cancelled)), "{outcome:?}");
        drop(bundle);
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "{name}");
        std::fs::write(&to, b"mine").unwrap();
        assert!(matches!(Bundle::begin(&to).await, Err(RepositoryError::AlreadyExists { .. })));
        assert_eq!(std::fs::read(&to).unwrap(), b"mine");
        std::fs::remove_file(&to).unwrap();
    }
}

#[tokio::test]
async fn a_bundle_file_is_only_read_and_one_that_was_cut_short_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let (repository, ..) = filled().await;
    let to = place.path().join("file.tar");
    let mut bundle = Bundle::begin(&to).await.unwrap();
    fill(&mut bundle, &repository).await;
    bundle.settle().await.unwrap();
    bundle.finish().unwrap();
    let whole = std::fs::read(&to).unwrap();

    let copy = opened(&to).await.unwrap();
    let outcome = copy.put_document("snapshots/x", ObjectKind::Snapshot, &1).await;
    assert!(matches!(outcome, Err(RepositoryError::Permission { .. })), "{outcome:?}");
    assert!(copy.delete("bundle/one").await.is_err());
    // As an owner it opens, too: whoever may not write needs no certificate.
    let url = RepositoryUrl::parse(&to.display().to_string()).unwrap();
    let secret = passphrase();
    let device = holdfast_repository::DeviceId::generate();
    let store = Store::open(&url).await.unwrap();
    Repository::open(store, device, Unlock::Passphrase(&secret)).await.unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), whole);

    // In the middle of a member, of a head, and of what is no tar file at all.
    for cut in [whole.len() / 2, whole.len() / 2 + 300, 100] {
        std::fs::write(&to, &whole[..cut]).unwrap();
        match opened(&to).await {
            Err(RepositoryError::Corrupt { .. } | RepositoryError::NotARepository { .. }) => {}
            // At the end of a member: what is missing is found by a verification.
            Ok(copy) => {
                let report = verify(&copy, VerifyLevel::Structure).await;
                assert!(!report.is_clean(), "cut at {cut}: {report:#?}");
            }
            Err(other) => panic!("cut at {cut}: {other:?}"),
        }
    }
    // A flipped bit is found like in any other place.
    let mut bad = whole.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 4;
    std::fs::write(&to, &bad).unwrap();
    let report = verify(&opened(&to).await.unwrap(), VerifyLevel::Structure).await;
    assert!(!report.is_clean(), "{report:#?}");
}

#[tokio::test]
async fn any_tar_makes_a_file_of_a_folder() {
    let place = tempfile::tempdir().unwrap();
    let (repository, ids, extents) = filled().await;
    let folder = place.path().join("folder");
    let mut bundle = Bundle::begin(&folder).await.unwrap();
    fill(&mut bundle, &repository).await;
    bundle.settle().await.unwrap();
    bundle.finish().unwrap();
    let file = place.path().join("packed.tar");
    let mut builder = tar::Builder::new(std::fs::File::create(&file).unwrap());
    // As `tar -C folder -cf packed.tar .` names them.
    builder.append_dir_all("./", &folder).unwrap();
    builder.into_inner().unwrap();
    let copy = opened(&file).await.unwrap();
    assert_clean(&copy).await;
    assert_fetches(&copy, &ids, &extents).await;
}
