//! What only a file system does: leftovers of a killed process, full disks, missing rights.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fixture::{add, assert_clean, assert_fetches, create, noise, open, small_packs};
use holdfast_repository::{ObjectKind, RepositoryError, RepositoryUrl, Store};

async fn at(path: &Path) -> Store {
    Store::open(&RepositoryUrl::parse(path.to_str().unwrap()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn the_half_written_file_of_a_killed_process_is_no_object() {
    let place = tempfile::tempdir().unwrap();
    let store = at(place.path()).await;
    let repository = create(store.clone()).await.unwrap();
    let (ids, _) = add(&repository, &[noise(1, 8192)], small_packs()).await.unwrap();
    let pack = store.list("packs").await.unwrap().remove(0).path;
    // What is being written has the object's name and a number after '#'.
    for name in [format!("{pack}#1"), "snapshots#1".to_owned(), "wal/x#12".to_owned()] {
        let file = place.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, b"half").unwrap();
    }
    let paths: Vec<String> =
        store.list("").await.unwrap().into_iter().map(|entry| entry.path).collect();
    assert!(paths.iter().all(|path| !path.contains('#')), "{paths:?}");
    assert_clean(&repository).await;
    repository.put_document("wal/x", ObjectKind::Coverage, &1).await.unwrap();
    assert_fetches(&repository, &ids, &[noise(1, 8192)]).await;
}

/// A file system of two megabytes, when this user may mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(place.path())
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(Self(place))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_says_so_and_leaves_nothing_half_written() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("skipped: this user may not mount a small file system");
        return;
    };
    let store = at(disk.0.path()).await;
    let repository = create(store.clone()).await.unwrap();
    let first: Vec<Bytes> = (0..8).map(|n| noise(n, 8192)).collect();
    let (ids, _) = add(&repository, &first, small_packs()).await.unwrap();
    let before = store.list("").await.unwrap();
    let much: Vec<Bytes> = (100..500).map(|n| noise(n, 8192)).collect();
    let error = add(&repository, &much, small_packs()).await.unwrap_err();
    assert!(matches!(error, RepositoryError::Full { .. }), "{error:?}");
    let large = noise(9, 3 * 1024 * 1024);
    let error = store.put_new("wal/large", large.clone()).await.unwrap_err();
    assert!(matches!(error, RepositoryError::Full { .. }), "{error:?}");
    let error = store.put_replacing("wal/large", noise(9, 20 * 1024 * 1024)).await.unwrap_err();
    assert!(matches!(error, RepositoryError::Full { .. }), "{error:?}");
    assert!(store.get("wal/large").await.is_err());
    assert_clean(&repository).await;
    assert_fetches(&repository, &ids, &first).await;
    // With room again, the same run succeeds.
    for entry in store.list("packs").await.unwrap() {
        if !before.contains(&entry) {
            store.delete(&entry.path).await.unwrap();
        }
    }
    // What was given up is taken back by threads of their own.
    let deadline = Instant::now() + Duration::from_secs(20);
    let (_, stats) = loop {
        match add(&repository, &much[..40], small_packs()).await {
            Err(RepositoryError::Full { .. }) if Instant::now() < deadline => {
                tokio::task::yield_now().await;
            }
            outcome => break outcome.unwrap(),
        }
    };
    assert_eq!(stats.extents_new, 40);
    assert_clean(&open(store).await.unwrap()).await;
}

#[tokio::test]
async fn something_else_at_the_place_is_not_a_repository() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("file"), b"x").unwrap();
    let error = open(at(place.path()).await).await.unwrap_err();
    assert!(matches!(error, RepositoryError::NotARepository { .. }));
    // A file could be a bundle; this one is none.
    let file = RepositoryUrl::parse(place.path().join("file").to_str().unwrap()).unwrap();
    let error = Store::open(&file).await.unwrap_err();
    assert!(matches!(error, RepositoryError::NotARepository { .. }), "{error:?}");
}
