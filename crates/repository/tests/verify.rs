//! Verification finds every kind of damage and names what it costs.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::sync::Mutex;

use bytes::Bytes;
use fixture::{add, errors, in_memory, noise, open, small_packs, verify};
use holdfast_repository::{
    EntryKind, FileEntry, FindingKind, ObjectEntry, ObjectKind, PutKind, Repository,
    RepositoryError, Severity, Store, VerifyLevel,
};
use tokio_util::sync::CancellationToken;

/// A little of everything.
async fn filled() -> (Store, Repository) {
    let (store, repository) = in_memory().await;
    let extents: Vec<Bytes> = (0..3).map(|n| noise(n, 200)).collect();
    let (ids, _) = add(&repository, &extents, small_packs()).await.unwrap();
    let ingest = repository.begin_ingest().await.unwrap();
    let mut table = ingest.begin_file_table().await.unwrap();
    let entry = FileEntry {
        path: "base/1".into(),
        size: 600,
        mode: 0o600,
        mtime: 0,
        crc32c: None,
        kind: EntryKind::File,
        extents: ids,
        extent_crc32c: Vec::new(),
    };
    table.add(&entry).await.unwrap();
    ingest.flush().await.unwrap();
    let table = table.finish("snapshots/1.files").await.unwrap();
    repository.put_document("snapshots/1", ObjectKind::Snapshot, &table).await.unwrap();
    repository
        .put_sealed("wal/1", ObjectKind::WalSegment, noise(9, 300), &9, PutKind::CreateOnly)
        .await
        .unwrap();
    (store, repository)
}

#[tokio::test]
async fn a_sound_repository_is_clean_and_every_object_is_shown() {
    let (store, repository) = filled().await;
    let seen = Mutex::new(Vec::new());
    let done = Mutex::new(Vec::new());
    let report = repository
        .verify_observed(
            VerifyLevel::Data,
            &|_| true,
            &|progress| done.lock().unwrap().push(progress),
            &|object| seen.lock().unwrap().push((object.path.clone(), object.kind)),
            &CancellationToken::new(),
        )
        .await
        .unwrap();
    assert!(report.findings.is_empty(), "{report:#?}");
    let listed = store.list("").await.unwrap();
    assert_eq!(report.objects, listed.len() as u64);
    assert_eq!(report.bytes, listed.iter().map(|entry| entry.size).sum::<u64>());
    let last = *done.lock().unwrap().last().unwrap();
    assert_eq!((last.objects_done, last.bytes_done), (last.objects_total, last.bytes_total));
    let seen = seen.into_inner().unwrap();
    for (path, kind) in [
        ("snapshots/1", ObjectKind::Snapshot),
        ("snapshots/1.files", ObjectKind::FileTable),
        ("wal/1", ObjectKind::WalSegment),
    ] {
        assert!(seen.contains(&(path.to_owned(), kind)), "{path}");
    }
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_an_error_that_names_the_object() {
    let (store, _) = filled().await;
    for entry in store.list("").await.unwrap() {
        let path = entry.path;
        let good = store.get(&path).await.unwrap();
        for at in (0..good.len()).step_by(7) {
            let mut bad = good.to_vec();
            bad[at] ^= 1 << (at % 8);
            store.put_replacing(&path, bad).await.unwrap();
            // `holdfast.json` and the certificate are needed to open at all: open before.
            store.put_replacing(&path, good.clone()).await.unwrap();
            let repository = open(store.clone()).await.unwrap();
            let mut bad = good.to_vec();
            bad[at] ^= 1 << (at % 8);
            store.put_replacing(&path, bad).await.unwrap();
            for level in [VerifyLevel::Structure, VerifyLevel::Data] {
                let report = verify(&repository, level).await;
                let found = report
                    .findings
                    .iter()
                    .any(|finding| finding.object == path && finding.severity >= Severity::Warning);
                assert!(found, "byte {at} of {path}: {report:#?}");
            }
        }
        store.put_replacing(&path, good).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_left_out_is_counted_and_no_fault_but_its_size_is_looked_at() {
    let (store, repository) = filled().await;
    let packs = store.list("packs").await.unwrap();
    let left_out = || async {
        let cancel = CancellationToken::new();
        let no_packs = |entry: &ObjectEntry| !entry.path.starts_with("packs/");
        let level = VerifyLevel::Data;
        repository.verify_observed(level, &no_packs, &|_| {}, &|_| {}, &cancel).await.unwrap()
    };
    let report = left_out().await;
    assert!(report.findings.is_empty(), "{report:#?}");
    assert_eq!(report.skipped_objects, packs.len() as u64);
    assert_eq!(report.skipped_bytes, packs.iter().map(|pack| pack.size).sum::<u64>());
    let all = store.list("").await.unwrap().len() as u64;
    assert_eq!(report.objects + report.skipped_objects, all);
    let pack = &packs[0].path;
    let cut = store.get(pack).await.unwrap().slice(..100);
    store.put_replacing(pack, cut).await.unwrap();
    let report = left_out().await;
    assert!(errors(&report).iter().any(|f| f.object == *pack), "{report:#?}");
    store.delete(pack).await.unwrap();
    let report = left_out().await;
    assert!(
        errors(&report).iter().any(|f| f.object == *pack && f.kind == FindingKind::Missing),
        "{report:#?}"
    );
}

#[tokio::test]
async fn a_missing_pack_costs_the_snapshots_that_need_it() {
    let (store, repository) = filled().await;
    let pack = store.list("packs").await.unwrap().remove(0).path;
    store.delete(&pack).await.unwrap();
    let report = verify(&repository, VerifyLevel::Structure).await;
    let found = errors(&report);
    assert!(found.iter().any(|f| f.object == pack && f.kind == FindingKind::Missing), "{found:#?}");
    let table = found.iter().find(|f| f.object == "snapshots/1.files").unwrap();
    assert!(table.message.contains("base/1") && table.message.contains("cannot be restored"));
}

#[tokio::test]
async fn a_damaged_pack_costs_the_snapshots_that_need_it() {
    let (store, repository) = filled().await;
    let pack = store.list("packs").await.unwrap().remove(0).path;
    let mut bytes = store.get(&pack).await.unwrap().to_vec();
    bytes[100] ^= 1;
    store.put_replacing(&pack, bytes).await.unwrap();
    let report = verify(&repository, VerifyLevel::Structure).await;
    let objects: Vec<&str> = errors(&report).iter().map(|f| f.object.as_str()).collect();
    assert_eq!(objects, [pack.as_str(), "snapshots/1.files"]);
}

#[tokio::test]
async fn missing_keys_and_strangers_are_named() {
    let (store, repository) = filled().await;
    store.put_new("packs/.DS_Store", Bytes::from_static(b"x")).await.unwrap();
    store.put_new("keys/readme.txt", Bytes::from_static(b"x")).await.unwrap();
    store.put_new("snapshots/2", Bytes::from_static(b"not an object")).await.unwrap();
    store.delete("holdfast.json").await.unwrap();
    for slot in repository.slots().await.unwrap() {
        store.delete(&format!("keys/{}.json", slot.id)).await.unwrap();
    }
    let report = verify(&repository, VerifyLevel::Structure).await;
    let of = |path: &str| report.findings.iter().find(|f| f.object == path).unwrap();
    assert_eq!(of("holdfast.json").kind, FindingKind::Missing);
    assert_eq!(of("keys").kind, FindingKind::Missing);
    assert_eq!(of("packs/.DS_Store").kind, FindingKind::Unexpected);
    assert_eq!(of("keys/readme.txt").kind, FindingKind::Unexpected);
    assert_eq!(of("snapshots/2").severity, Severity::Error);
    assert_eq!(report.findings[0].severity, Severity::Error, "the worst comes first");
}

#[tokio::test]
async fn objects_cannot_be_exchanged() {
    let (store, repository) = filled().await;
    repository.put_document("snapshots/2", ObjectKind::Snapshot, &2).await.unwrap();
    let one = store.get("snapshots/1").await.unwrap();
    store.put_replacing("snapshots/2", one).await.unwrap();
    let error = repository.get_document::<u32>("snapshots/2", ObjectKind::Snapshot).await;
    assert!(matches!(error, Err(RepositoryError::Corrupt { .. })));
    let report = verify(&repository, VerifyLevel::Structure).await;
    assert_eq!(errors(&report)[0].object, "snapshots/2");
}

#[tokio::test]
async fn long_objects_are_checked_in_ranges() {
    let (store, repository) = in_memory().await;
    let content = noise(1, 40 * 1024 * 1024);
    repository
        .put_sealed("wal/long", ObjectKind::WalSegment, content, &1, PutKind::Replace)
        .await
        .unwrap();
    fixture::assert_clean(&repository).await;
    let good = store.get("wal/long").await.unwrap();
    for at in [3, 20, 1_000_000, 30_000_000, good.len() - 300, good.len() - 100] {
        let mut bad = good.to_vec();
        bad[at] ^= 4;
        store.put_replacing("wal/long", bad).await.unwrap();
        let report = verify(&repository, VerifyLevel::Structure).await;
        assert_eq!(errors(&report).len(), 1, "byte {at}");
    }
}

#[tokio::test]
async fn a_cancelled_verification_says_so() {
    let (_, repository) = filled().await;
    let cancel = CancellationToken::new();
    cancel.cancel();
    let outcome = repository.verify(VerifyLevel::Data, &|_| {}, &cancel).await;
    assert!(matches!(outcome, Err(RepositoryError::Cancelled)));
}
