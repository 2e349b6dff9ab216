//! Every operation of the store fails, in every way, once or from then on as when the process is killed: the
//! repository stays sound, and the same call succeeds afterwards.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fixture::{
    add, assert_clean, assert_fetches, create, fetch, listed, memory, noise, open, small_packs,
};
use holdfast_repository::fault::{Fault, FaultStore};
use holdfast_repository::{
    ExtentId, Lease, LeaseError, ObjectKind, PutKind, Repository, RepositoryError, Store,
};

const FAULTS: [Fault; 5] = [
    Fault::Error,
    Fault::ErrorAfterSuccess,
    Fault::TruncatedBody,
    Fault::LostListEntry,
    Fault::Full,
];

fn store() -> (FaultStore, Store) {
    let faults = FaultStore::new(memory());
    let store = Store::from_object_store(Arc::new(faults.clone()), "p");
    (faults, store)
}

/// Every fault, once and from then on.
fn faults() -> impl Iterator<Item = (Fault, u64)> {
    FAULTS.into_iter().flat_map(|fault| [(fault, 1), (fault, u64::MAX)])
}

#[tokio::test]
async fn creation_survives_a_fault_at_every_operation() {
    let mut points = 0;
    for (fault, count) in faults() {
        for nth in 0.. {
            points += 1;
            let (faults, store) = store();
            faults.arm(nth, count, fault);
            let made = create(store.clone()).await;
            let finished = faults.operations() <= nth;
            faults.disarm();
            let repository = match made {
                Ok(repository) => repository,
                Err(error) => match open(store.clone()).await {
                    // The last answer was lost, and so was the attempt to find out.
                    Ok(repository) => repository,
                    Err(RepositoryError::NotARepository { .. }) => create(store).await.unwrap(),
                    Err(other) => panic!("{fault:?} x{count} at {nth}: {error}, then {other}"),
                },
            };
            assert_clean(&repository).await;
            if finished {
                assert!(nth > 5);
                break;
            }
        }
    }
    println!("{points} creations were cut off");
}

fn extents() -> Vec<Bytes> {
    (0..120).map(|n| noise(n, 8192)).collect()
}

/// A backup as the engine makes one: packs, index, file table, sealed object, manifest.
async fn backup(repository: &Repository) -> Result<Vec<ExtentId>, RepositoryError> {
    let attempt = uuid::Uuid::new_v4();
    let files = format!("snapshots/{attempt}.files");
    let (table, ids) = listed(repository, &files, &extents(), small_packs()).await?;
    let log = noise(77, 5000);
    let path = format!("wal/{attempt}");
    repository.put_sealed(&path, ObjectKind::WalSegment, log, &1, PutKind::CreateOnly).await?;
    repository.put_document(&format!("snapshots/{attempt}"), ObjectKind::Snapshot, &table).await?;
    Ok(ids)
}

#[tokio::test]
async fn a_backup_survives_a_fault_at_every_operation() {
    let mut points = 0;
    for (fault, count) in faults() {
        for nth in 0.. {
            points += 1;
            let (faults, store) = store();
            let repository = create(store.clone()).await.unwrap();
            // Something to share, and an index to read.
            add(&repository, &extents()[..5], small_packs()).await.unwrap();
            let repository = open(store.clone()).await.unwrap();
            faults.arm(nth, count, fault);
            let outcome = backup(&repository).await;
            let finished = faults.operations() <= nth;
            faults.disarm();
            assert_clean(&repository).await;
            let ids = match outcome {
                Ok(ids) => ids,
                Err(error) => {
                    if fault == Fault::Full {
                        assert!(matches!(error, RepositoryError::Full { .. }), "{error}");
                    }
                    backup(&repository).await.unwrap()
                }
            };
            assert_fetches(&open(store).await.unwrap(), &ids, &extents()).await;
            if finished {
                break;
            }
        }
    }
    println!("{points} backups were cut off");
    assert!(points > 80, "{points}");
}

#[tokio::test]
async fn a_lost_answer_to_a_write_is_no_failure() {
    let (faults, store) = store();
    let repository = create(store).await.unwrap();
    faults.arm(0, 1, Fault::ErrorAfterSuccess);
    repository.put_document("proofs/1", ObjectKind::Proof, &1).await.unwrap();
    faults.disarm();
    assert_clean(&repository).await;
}

#[tokio::test]
async fn a_store_that_is_full_says_so_and_keeps_what_it_has() {
    let (faults, store) = store();
    let repository = create(store.clone()).await.unwrap();
    let (ids, _) = add(&repository, &extents()[..5], small_packs()).await.unwrap();
    faults.arm(0, u64::MAX, Fault::Full);
    let error = add(&repository, &extents(), small_packs()).await.unwrap_err();
    assert!(matches!(error, RepositoryError::Full { .. }), "{error}");
    assert_fetches(&repository, &ids, &extents()[..5]).await;
    let report = fixture::verify(&repository, holdfast_repository::VerifyLevel::Data).await;
    assert!(report.is_clean());
}

#[tokio::test]
async fn reading_never_returns_wrong_bytes() {
    let (faults, store) = store();
    let repository = create(store.clone()).await.unwrap();
    let (ids, _) = add(&repository, &extents(), small_packs()).await.unwrap();
    repository.put_document("proofs/1", ObjectKind::Proof, &"text").await.unwrap();
    for fault in [Fault::Error, Fault::TruncatedBody, Fault::LostListEntry] {
        for nth in 0.. {
            let repository = open(store.clone()).await.unwrap();
            faults.arm(nth, 1, fault);
            if let Ok(fetched) = fetch(&repository, &ids).await {
                let right: Vec<Bytes> = fetched.into_values().collect();
                assert_eq!(right, extents());
            }
            if let Ok(text) = repository.get_document::<String>("proofs/1", ObjectKind::Proof).await
            {
                assert_eq!(text, "text");
            }
            let finished = faults.operations() <= nth;
            faults.disarm();
            if finished {
                break;
            }
        }
    }
}

#[tokio::test]
async fn an_ingest_reports_its_failure_once_and_ends() {
    let (faults, store) = store();
    let repository = create(store).await.unwrap();
    let ingest = repository.begin_ingest_with(small_packs()).await.unwrap();
    faults.arm(0, u64::MAX, Fault::Error);
    let mut errors = Vec::new();
    for n in 0..600 {
        if let Err(error) = ingest.add_extent(noise(n, 8192)).await {
            errors.push(error.code());
        }
    }
    assert_eq!(errors.first(), Some(&"repository.unreachable"));
    assert!(errors[1..].iter().all(|code| *code == "repository.ingest_failed"));
    assert!(ingest.flush().await.is_err());
    faults.disarm();
    assert_clean(&repository).await;
}

#[tokio::test]
async fn a_slow_store_is_waited_for() {
    let (faults, store) = store();
    let repository = create(store).await.unwrap();
    faults.arm(0, u64::MAX, Fault::Slow(Duration::from_millis(2)));
    repository.put_document("proofs/1", ObjectKind::Proof, &1).await.unwrap();
    assert_eq!(repository.get_document::<u32>("proofs/1", ObjectKind::Proof).await.unwrap(), 1);
}

#[tokio::test]
async fn leases_survive_any_single_fault() {
    let hour = Duration::from_hours(1);
    for fault in [Fault::Error, Fault::ErrorAfterSuccess, Fault::TruncatedBody] {
        for nth in 0.. {
            let (faults, store) = store();
            let repository = create(store.clone()).await.unwrap();
            let mut lease = Lease::acquire(&repository, "x", hour, "one").await.unwrap();
            faults.arm(nth, 1, fault);
            let outcome = lease.renew().await;
            let finished = faults.operations() <= nth;
            faults.disarm();
            assert!(!matches!(outcome, Err(LeaseError::Lost { .. })), "{fault:?} at {nth}");
            lease.renew().await.unwrap();
            lease.renew().await.unwrap();
            let other = Lease::acquire(&repository, "x", hour, "two").await;
            assert!(matches!(other, Err(LeaseError::Held { .. })));
            if finished {
                break;
            }
        }
    }
}
