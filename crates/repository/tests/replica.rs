//! Replicas: whole, or short of what they do not name; never wrong.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use fixture::{
    add, assert_clean, assert_fetches, create, errors, in_memory, listed, memory, noise, open,
    small_packs, verify,
};
use holdfast_repository::fault::{Fault, FaultStore};
use holdfast_repository::{
    ExtentId, NewSlot, ObjectKind, PutKind, Replica, ReplicaOptions, Replicated, Repository,
    RepositoryError, Store, VerifyLevel,
};
use tokio_util::sync::CancellationToken;

const EVERYTHING: fn(holdfast_repository::ReplicaProgress) = |_| {};

fn empty() -> Store {
    Store::from_object_store(memory(), "replica")
}

async fn update(source: &Repository, to: &Store) -> Result<Replicated, RepositoryError> {
    let replica = Replica::open(source, to.clone()).await?;
    replica.update(ReplicaOptions::default(), &EVERYTHING, &CancellationToken::new()).await
}

/// A backup as the engine makes one, with as many extents that are stored nowhere else.
async fn backup(repository: &Repository, seed: u64, count: u64) -> (Vec<ExtentId>, Vec<Bytes>) {
    let extents: Vec<Bytes> = (0..count).map(|n| noise(seed * 1000 + n, 8192)).collect();
    let files = format!("snapshots/c/{seed}.files");
    let (table, ids) = listed(repository, &files, &extents, small_packs()).await.unwrap();
    segment(repository, seed).await;
    let manifest = format!("snapshots/c/{seed}");
    let body = serde_json::json!({ "file_table": table });
    repository.put_document(&manifest, ObjectKind::Snapshot, &body).await.unwrap();
    let proof = format!("proofs/c/{seed}");
    repository.put_document(&proof, ObjectKind::Proof, &"restored").await.unwrap();
    (ids, extents)
}

async fn segment(repository: &Repository, number: u64) {
    let path = format!("wal/7/00000001/{number:024}");
    let log = noise(number, 5000);
    repository
        .put_sealed(&path, ObjectKind::WalSegment, log, &1, PutKind::CreateOnly)
        .await
        .unwrap();
}

async fn slice(repository: &Repository, segment: &str) {
    let path = format!("slices/7/00000001/{segment}/00000000-000000ff");
    repository
        .put_sealed(&path, ObjectKind::WalSlice, noise(5, 500), &1, PutKind::Replace)
        .await
        .unwrap();
}

/// Every object of the source that a replica is to have, and no other.
async fn assert_same(source: &Repository, to: &Store) {
    let of = async |store: &Store| -> Vec<_> {
        let listed = store.list("").await.unwrap();
        listed
            .into_iter()
            .filter(|e| !e.path.starts_with("leases/") && !e.path.starts_with("probe/"))
            .map(|e| (e.path, e.size))
            .collect()
    };
    assert_eq!(of(to).await, of(source.store()).await);
}

#[tokio::test]
async fn a_replica_is_the_repository_and_only_what_is_new_is_copied() {
    let (_, source) = in_memory().await;
    let (ids, extents) = backup(&source, 1, 30).await;
    slice(&source, "a").await;
    let to = empty();
    let first = update(&source, &to).await.unwrap();
    assert_same(&source, &to).await;
    assert_eq!(first.objects, source.store().list("").await.unwrap().len() as u64);
    assert_eq!((first.held_back.len(), first.behind.objects), (0, 0));
    let copy = open(to.clone()).await.unwrap();
    assert_eq!(copy.id(), source.id());
    assert_clean(&copy).await;
    assert_fetches(&copy, &ids, &extents).await;

    assert_eq!(update(&source, &to).await.unwrap(), Replicated::default());
    let (ids, extents) = backup(&source, 2, 10).await;
    let behind = Replica::open(&source, to.clone()).await.unwrap().behind().await.unwrap();
    let second = update(&source, &to).await.unwrap();
    assert_eq!((second.objects, second.bytes), (behind.objects, behind.bytes));
    assert!(behind.since.is_some() && second.bytes < first.bytes / 2, "{behind:?}, {second:?}");
    assert_fetches(&open(to).await.unwrap(), &ids, &extents).await;
}

/// Failure catalogue 14: whatever the moment at which a replication ends, what the replica names is in it.
#[tokio::test]
async fn catalogue_14_a_replica_never_names_what_it_lacks() {
    let (_, source) = in_memory().await;
    backup(&source, 1, 20).await;
    for number in [5, 2, 4, 3] {
        segment(&source, number).await;
    }
    let mut ends = 0;
    for (first, faults) in
        [(true, [Fault::Error, Fault::Full]), (false, [Fault::Error, Fault::ErrorAfterSuccess])]
    {
        for fault in faults {
            for nth in 0.. {
                let beneath = memory();
                let plain = Store::from_object_store(Arc::clone(&beneath), "replica");
                let faulty = FaultStore::new(beneath);
                let to = Store::from_object_store(Arc::new(faulty.clone()), "replica");
                if !first {
                    update(&source, &plain).await.unwrap();
                }
                let seed = 10_000 + nth;
                let (_, grown) = in_memory_with(&source, seed, first).await;
                let source = grown.as_ref().unwrap_or(&source);
                faulty.arm(nth, u64::MAX, fault);
                let outcome = update(source, &to).await;
                let finished = faulty.operations() <= nth;
                faulty.disarm();
                // A full store still reads: what comes last may be read alone.
                let passes = finished || fault == Fault::Full;
                assert!(outcome.is_err() || passes, "{fault:?} at {nth}: {outcome:?}");
                assert!(outcome.is_ok() || !finished, "{fault:?} at {nth}: {outcome:?}");
                ends += 1;
                // What stands there is sound as far as it goes.
                let half = source.at(plain.clone()).unwrap();
                let report = verify(&half, VerifyLevel::Data).await;
                let wrong: Vec<_> = errors(&report)
                    .into_iter()
                    .filter(|f| f.object != "holdfast.json" && f.object != "keys")
                    .collect();
                assert!(wrong.is_empty(), "{fault:?} at {nth}: {wrong:#?}");
                let wal = async |store: &Store| -> Vec<_> {
                    store.list("wal").await.unwrap().into_iter().map(|e| e.path).collect()
                };
                let (all, copied) = (wal(source.store()).await, wal(&plain).await);
                assert_eq!(copied, all[..copied.len()], "{fault:?} at {nth}: a hole in its WAL");
                match open(plain.clone()).await {
                    Ok(copy) => assert_clean(&copy).await,
                    Err(RepositoryError::NotARepository { .. }) if first => {}
                    Err(other) => panic!("{fault:?} at {nth}: {other}"),
                }
                // It goes on where it was.
                update(source, &to).await.unwrap();
                assert_same(source, &plain).await;
                if finished {
                    break;
                }
            }
        }
    }
    println!("{ends} replications were cut off");
    assert!(ends > 100, "{ends}");
}

/// The source with one backup more, unless it is copied for the first time.
async fn in_memory_with(
    source: &Repository,
    seed: u64,
    first: bool,
) -> (Store, Option<Repository>) {
    let store = empty();
    if first {
        return (store, None);
    }
    update(source, &store).await.unwrap();
    let grown = open(store.clone()).await.unwrap();
    backup(&grown, seed, 8).await;
    segment(&grown, seed + 1).await;
    segment(&grown, seed + 2).await;
    (store, Some(grown))
}

#[tokio::test]
async fn what_is_damaged_is_not_copied_nor_what_needs_it() {
    let (store, source) = in_memory().await;
    backup(&source, 1, 12).await;
    let whole: Vec<_> = store.list("").await.unwrap().into_iter().map(|e| e.path).collect();
    let (ids, extents) = backup(&source, 2, 12).await;
    let new = store.list("packs").await.unwrap();
    let rotten = new.iter().find(|entry| !whole.contains(&entry.path)).unwrap().path.clone();
    let mut bytes = store.get(&rotten).await.unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    store.put_replacing(&rotten, bytes).await.unwrap();

    let to = empty();
    let done = update(&source, &to).await.unwrap();
    let held: Vec<_> = done.held_back.iter().map(|held| held.object.as_str()).collect();
    assert!(held.contains(&rotten.as_str()), "{held:?}");
    assert!(held.contains(&"snapshots/c/2") && held.contains(&"snapshots/c/2.files"), "{held:?}");
    assert!(held.iter().any(|path| path.starts_with("index/")), "{held:?}");
    assert_eq!(done.behind.objects, held.len() as u64);
    assert_eq!(done.ahead, 0);
    let copy = open(to.clone()).await.unwrap();
    assert_clean(&copy).await;
    let names: Vec<_> = to.list("").await.unwrap().into_iter().map(|e| e.path).collect();
    assert!(whole.iter().all(|path| names.contains(path)), "the other snapshot is whole");
    assert!(names.iter().any(|path| path.ends_with(&format!("{:024}", 2))), "its WAL is there");

    // Mended at the source, it is copied.
    let mut bytes = store.get(&rotten).await.unwrap().to_vec();
    bytes[middle] ^= 1;
    store.put_replacing(&rotten, bytes).await.unwrap();
    let done = update(&open(store).await.unwrap(), &to).await.unwrap();
    assert!(done.held_back.is_empty(), "{:?}", done.held_back);
    assert_same(&source, &to).await;
    assert_fetches(&open(to).await.unwrap(), &ids, &extents).await;
}

#[tokio::test]
async fn a_lost_pack_keeps_its_snapshot_back() {
    let (store, source) = in_memory().await;
    backup(&source, 1, 12).await;
    let lost = store.list("packs").await.unwrap().remove(0).path;
    store.delete(&lost).await.unwrap();
    let to = empty();
    let done = update(&open(store).await.unwrap(), &to).await.unwrap();
    let held: Vec<_> = done.held_back.iter().map(|held| held.object.as_str()).collect();
    assert!(held.contains(&"snapshots/c/1"), "{held:?}");
    assert!(to.list("snapshots").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_lost_list_of_files_keeps_its_snapshot_back() {
    let (store, source) = in_memory().await;
    backup(&source, 1, 12).await;
    store.delete("snapshots/c/1.files").await.unwrap();
    let to = empty();
    let done = update(&source, &to).await.unwrap();
    let held: Vec<_> = done.held_back.iter().map(|held| held.object.as_str()).collect();
    assert_eq!(held, ["snapshots/c/1"]);
}

/// What the replica is read by one day are its own certificates.
#[tokio::test]
async fn what_nobody_has_certified_there_is_held_back() {
    let (store, source) = in_memory().await;
    backup(&source, 1, 3).await;
    let certificate = store.list("keys/writers").await.unwrap().remove(0);
    let whole = store.get(&certificate.path).await.unwrap();
    store.put_replacing(&certificate.path, whole.slice(..whole.len() / 2)).await.unwrap();
    let to = empty();
    let done = update(&source, &to).await.unwrap();
    assert!(done.held_back.iter().any(|held| held.object == certificate.path));
    assert!(to.list("packs").await.unwrap().is_empty() && to.list("wal").await.unwrap().is_empty());
    store.put_replacing(&certificate.path, whole).await.unwrap();
    assert!(update(&source, &to).await.unwrap().held_back.is_empty());
    assert_same(&source, &to).await;
}

/// A bit that turns on the way into the store is noticed, and not forgotten by the next time.
#[tokio::test]
async fn what_a_store_keeps_wrongly_is_taken_back() {
    let (_, source) = in_memory().await;
    backup(&source, 1, 12).await;
    let long = noise(7, 33 << 20);
    source
        .put_sealed("wal/7/00000001/long", ObjectKind::WalSegment, long, &1, PutKind::CreateOnly)
        .await
        .unwrap();
    let mut refused = 0;
    for nth in 0.. {
        let faulty = FaultStore::new(memory());
        let to = Store::from_object_store(Arc::new(faulty.clone()), "replica");
        faulty.arm(nth, 1, Fault::CorruptedWrite);
        let outcome = update(&source, &to).await;
        let finished = faulty.operations() <= nth;
        faulty.disarm();
        refused += u64::from(outcome.is_err());
        assert!(outcome.is_err() || !finished || nth > 0, "{nth}: {outcome:?}");
        update(&source, &to).await.unwrap();
        assert_same(&source, &to).await;
        assert_clean(&open(to).await.unwrap()).await;
        if finished {
            break;
        }
    }
    assert!(refused > 10, "{refused}");
}

/// A segment is sealed, and its slices go, while they are copied.
#[tokio::test(flavor = "multi_thread")]
async fn wal_that_is_sealed_meanwhile_comes_before_the_snapshot() {
    let beneath = memory();
    let faulty = FaultStore::new(Arc::clone(&beneath));
    let store = Store::from_object_store(Arc::new(faulty.clone()), "p");
    let source = create(store.clone()).await.unwrap();
    slice(&source, &format!("{:024}", 1)).await;
    let to = empty();
    let replica = Replica::open(&source, to.clone()).await.unwrap();
    let sealed = std::sync::atomic::AtomicBool::new(false);
    // The first thing that progress is told of is what was listed.
    let handle = tokio::runtime::Handle::current();
    let seal = |_: holdfast_repository::ReplicaProgress| {
        if !sealed.swap(true, std::sync::atomic::Ordering::SeqCst) {
            tokio::task::block_in_place(|| {
                handle.block_on(async {
                    let path = format!("wal/7/00000001/{:024}", 1);
                    source
                        .put_sealed(
                            &path,
                            ObjectKind::WalSegment,
                            noise(5, 500),
                            &1,
                            PutKind::CreateOnly,
                        )
                        .await
                        .unwrap();
                    for entry in store.list("slices").await.unwrap() {
                        store.delete(&entry.path).await.unwrap();
                    }
                });
            });
        }
    };
    let cancel = CancellationToken::new();
    let done = replica.update(ReplicaOptions::default(), &seal, &cancel).await.unwrap();
    assert!(done.held_back.is_empty() && done.behind.objects == 0, "{done:?}");
    assert_same(&source, &to).await;
}

#[tokio::test]
async fn a_store_that_keeps_something_else_is_found_out() {
    let (_, source) = in_memory().await;
    backup(&source, 1, 12).await;
    let objects = source.store().list("").await.unwrap().len() as u64;
    for nth in 0..3 * objects {
        let faulty = FaultStore::new(memory());
        let to = Store::from_object_store(Arc::new(faulty.clone()), "replica");
        faulty.arm(nth, 1, Fault::TruncatedBody);
        let outcome = update(&source, &to).await;
        faulty.disarm();
        // A read that is cut short is noticed; what went well without one is whole.
        match outcome {
            Ok(_) => assert_clean(&open(to.clone()).await.unwrap()).await,
            Err(error) => assert!(!matches!(error, RepositoryError::Occupied { .. }), "{error}"),
        }
        update(&source, &to).await.unwrap();
        assert_same(&source, &to).await;
    }
}

#[tokio::test]
async fn an_object_that_was_cut_short_is_replaced() {
    let (_, source) = in_memory().await;
    let (ids, extents) = backup(&source, 1, 12).await;
    let to = empty();
    update(&source, &to).await.unwrap();
    let pack = to.list("packs").await.unwrap().remove(0);
    let bytes = to.get(&pack.path).await.unwrap();
    to.put_replacing(&pack.path, bytes.slice(..bytes.len() / 2)).await.unwrap();
    let done = update(&source, &to).await.unwrap();
    assert_eq!((done.objects, done.bytes), (1, pack.size));
    assert_fetches(&open(to).await.unwrap(), &ids, &extents).await;
}

/// Both were written to, after one took over from the other: neither is overwritten by the other.
#[tokio::test]
async fn what_is_whole_is_never_replaced() {
    let (_, source) = in_memory().await;
    backup(&source, 1, 3).await;
    let to = empty();
    update(&source, &to).await.unwrap();
    let copy = open(to.clone()).await.unwrap();
    let path = "wal/7/00000001/both";
    for (repository, length) in [(&source, 4000), (&copy, 5000)] {
        let log = noise(3, length);
        repository
            .put_sealed(path, ObjectKind::WalSegment, log, &1, PutKind::CreateOnly)
            .await
            .unwrap();
    }
    let before = to.get(path).await.unwrap();
    let done = update(&source, &to).await.unwrap();
    let held: Vec<_> = done.held_back.iter().map(|held| held.object.as_str()).collect();
    assert_eq!(held, [path], "{:?}", done.held_back);
    assert_eq!(to.get(path).await.unwrap(), before);
}

#[tokio::test]
async fn nothing_else_becomes_a_replica() {
    let (_, source) = in_memory().await;
    backup(&source, 1, 3).await;
    let other = empty();
    let foreign = create(other.clone()).await.unwrap();
    backup(&foreign, 9, 3).await;
    let before = other.list("").await.unwrap();
    let outcome = update(&source, &other).await;
    assert!(matches!(outcome, Err(RepositoryError::Occupied { .. })), "{outcome:?}");
    // Neither does what is left of another one's first copy, or somebody's bucket.
    other.delete("holdfast.json").await.unwrap();
    let outcome = update(&source, &other).await;
    assert!(matches!(outcome, Err(RepositoryError::Occupied { .. })), "{outcome:?}");
    assert_eq!(other.list("").await.unwrap().len(), before.len() - 1);
    let bucket = empty();
    bucket.put_new("photos/summer.jpg", Bytes::from_static(b"jpg")).await.unwrap();
    let outcome = update(&source, &bucket).await;
    assert!(matches!(outcome, Err(RepositoryError::Occupied { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_way_in_that_is_closed_is_closed_in_the_replica() {
    let (_, source) = in_memory().await;
    let secret = secrecy::SecretString::from("another way in");
    let slot = source.add_slot(NewSlot::Passphrase(&secret), "another").await.unwrap();
    let to = empty();
    update(&source, &to).await.unwrap();
    source.remove_slot(slot.id).await.unwrap();
    let done = update(&source, &to).await.unwrap();
    assert_eq!(done.removed, 1);
    assert_same(&source, &to).await;
}

/// Only the source itself can say so: not a listing that shows nothing, and not one that is behind.
#[tokio::test]
async fn no_way_in_is_lost_with_the_source_or_by_one_that_is_behind() {
    let (store, source) = in_memory().await;
    backup(&source, 1, 3).await;
    let to = empty();
    update(&source, &to).await.unwrap();
    let keys = to.list("keys").await.unwrap().len();
    // The replica took over, and has a way in of its own.
    let copy = open(to.clone()).await.unwrap();
    let secret = secrecy::SecretString::from("another way in");
    copy.add_slot(NewSlot::Passphrase(&secret), "another").await.unwrap();
    backup(&copy, 2, 3).await;
    let done = update(&source, &to).await.unwrap();
    assert!(done.ahead >= 4 && done.removed == 0, "{done:?}");
    assert_eq!(to.list("keys").await.unwrap().len(), keys + 1);
    // The source is wiped under an open repository.
    for entry in store.list("").await.unwrap() {
        store.delete(&entry.path).await.unwrap();
    }
    let done = update(&source, &to).await.unwrap();
    assert_eq!((done.objects, done.removed), (0, 0));
    assert_eq!(to.list("keys").await.unwrap().len(), keys + 1);
    assert_clean(&copy).await;
}

#[tokio::test]
async fn parts_of_a_segment_go_when_it_is_there_and_nothing_else_does() {
    let (store, source) = in_memory().await;
    backup(&source, 1, 3).await;
    slice(&source, &format!("{:024}", 2)).await;
    slice(&source, "open").await;
    let to = empty();
    update(&source, &to).await.unwrap();
    // Sealed at the source; and somebody has removed a snapshot and other slices there.
    backup(&source, 2, 3).await;
    for entry in store.list("slices").await.unwrap() {
        store.delete(&entry.path).await.unwrap();
    }
    for gone in ["snapshots/c/1", "snapshots/c/1.files"] {
        store.delete(gone).await.unwrap();
    }
    let done = update(&source, &to).await.unwrap();
    assert_eq!(done.removed, 1);
    let left: Vec<_> = to.list("slices").await.unwrap().into_iter().map(|e| e.path).collect();
    assert_eq!(left, ["slices/7/00000001/open/00000000-000000ff"]);
    assert!(to.list("snapshots").await.unwrap().iter().any(|e| e.path == "snapshots/c/1"));
}

#[tokio::test]
async fn it_is_cancelled_and_keeps_to_its_pace() {
    let (_, source) = in_memory().await;
    add(&source, &[noise(1, 8192)], small_packs()).await.unwrap();
    let to = empty();
    let replica = Replica::open(&source, to.clone()).await.unwrap();
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    let outcome = replica.update(ReplicaOptions::default(), &EVERYTHING, &cancelled).await;
    assert!(matches!(outcome, Err(RepositoryError::Cancelled)), "{outcome:?}");
    let began = Instant::now();
    let slow = ReplicaOptions::default().with_bytes_per_second(NonZeroU64::new(20_000));
    let done = replica.update(slow, &EVERYTHING, &CancellationToken::new()).await.unwrap();
    // The last object is sent when those before it are through.
    let largest = source.store().list("").await.unwrap().iter().map(|e| e.size).max().unwrap();
    let least = (done.bytes - largest) * 1000 / 20_000;
    assert!(began.elapsed().as_millis() >= u128::from(least), "{:?}", began.elapsed());
}
