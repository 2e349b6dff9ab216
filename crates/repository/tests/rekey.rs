//! Carrying what a repository holds into one with other keys.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use fixture::{
    assert_clean, assert_fetches, create, edited, in_memory, listed, memory, noise, open,
    small_packs,
};
use holdfast_repository::fault::{Fault, FaultStore};
use holdfast_repository::{
    CarriedFiles, ExtentId, FileTableRef, ObjectKind, PutKind, Rekey, Repository, RepositoryError,
    Store,
};
use tokio_util::sync::CancellationToken;

const TABLES: [&str; 2] = ["snapshots/1.files", "snapshots/2.files"];
const OBJECTS: [&str; 3] = ["wal/1", "clusters/1", "history/1"];

/// What an old repository holds: two lists of files, of which the second has one other extent, and other objects.
struct Old {
    repository: Repository,
    tables: Vec<FileTableRef>,
    contents: Vec<Vec<Bytes>>,
}

async fn old() -> Old {
    let (_, repository) = in_memory().await;
    let mut first: Vec<Bytes> = (0..60).map(|n| noise(n, 8192)).collect();
    first.insert(7, Bytes::from(vec![0; 8192]));
    first.push(noise(99, 100));
    let mut second = first.clone();
    second[3] = edited(&second[3], 1, 200);
    let contents = vec![first, second];
    let mut tables = Vec::new();
    for (path, extents) in TABLES.iter().zip(&contents) {
        let (table, _) = listed(&repository, path, extents, small_packs()).await.unwrap();
        tables.push(table);
    }
    let kind = ObjectKind::WalSegment;
    repository
        .put_sealed("wal/1", kind, noise(5, 3_000_000), &7, PutKind::CreateOnly)
        .await
        .unwrap();
    repository.put_document("clusters/1", ObjectKind::Cluster, &"a cluster").await.unwrap();
    let kind = ObjectKind::TimelineHistory;
    let text = Bytes::from_static(b"1\t0/3000000\tx\n");
    repository.put_shared("history/1", kind, text, &2, PutKind::CreateOnly).await.unwrap();
    Old { repository, tables, contents }
}

/// As the engine does it: objects, then each list of files, each named when it is there. What is named is not carried
/// again. Gives the new lists, and the bytes that were read of extents.
async fn carry(old: &Old, to: &Repository) -> Result<(Vec<FileTableRef>, u64), RepositoryError> {
    let rekey = Rekey::new(old.repository.clone(), to.clone()).unwrap();
    let cancel = CancellationToken::new();
    let there = to.list("").await?;
    for path in OBJECTS {
        if !there.iter().any(|entry| entry.path == path) {
            rekey.object(path).await?;
        }
    }
    let read = AtomicU64::new(0);
    let mut new: Vec<FileTableRef> = Vec::new();
    for (n, table) in old.tables.iter().enumerate() {
        let manifest = format!("snapshots/{}", n + 1);
        if there.iter().any(|entry| entry.path == manifest) {
            new.push(to.get_document(&manifest, ObjectKind::Snapshot).await?);
            continue;
        }
        let before = new.last().map(|last| CarriedFiles { old: &old.tables[n - 1], new: last });
        let count = |bytes| {
            read.fetch_add(bytes, Ordering::Relaxed);
        };
        let (carried, _) = rekey.files(table, before, &count, &cancel).await?;
        to.put_document(&manifest, ObjectKind::Snapshot, &carried).await?;
        new.push(carried);
    }
    Ok((new, read.into_inner()))
}

async fn extents_of(repository: &Repository, table: &FileTableRef) -> Vec<ExtentId> {
    let mut reader = repository.read_file_table(table).await.unwrap();
    let mut ids = Vec::new();
    while let Some(entry) = reader.next().await.unwrap() {
        ids.extend(entry.extents);
    }
    ids
}

async fn assert_carried(old: &Old, to: &Repository, new: &[FileTableRef]) {
    for (table, content) in new.iter().zip(&old.contents) {
        let ids = extents_of(to, table).await;
        assert_eq!(ids.len(), content.len());
        assert_fetches(to, &ids, content).await;
    }
    let (log, seven): (Bytes, u32) = to.get_sealed("wal/1", ObjectKind::WalSegment).await.unwrap();
    assert_eq!((log, seven), (noise(5, 3_000_000), 7));
    let cluster: String = to.get_document("clusters/1", ObjectKind::Cluster).await.unwrap();
    assert_eq!(cluster, "a cluster");
    let (text, two): (Bytes, u32) =
        to.get_sealed("history/1", ObjectKind::TimelineHistory).await.unwrap();
    assert_eq!((text.as_ref(), two), (&b"1\t0/3000000\tx\n"[..], 2));
    assert_clean(to).await;
}

#[tokio::test]
async fn everything_arrives_under_other_names() {
    let old = old().await;
    let (_, to) = in_memory().await;
    let (new, read) = carry(&old, &to).await.unwrap();
    assert_carried(&old, &to, &new).await;
    assert_eq!(read, 60 * 8192 + 100 + 8192, "of the second list only what differs is read");
    let names = extents_of(&old.repository, &old.tables[0]).await;
    let renamed = extents_of(&to, &new[0]).await;
    let same = names.iter().zip(&renamed).filter(|(a, b)| a == b).count();
    assert_eq!(same, 1, "only the zero extent has the same name everywhere");
    // Once more: nothing is carried twice.
    let (again, read) = carry(&old, &to).await.unwrap();
    assert_eq!((again, read), (new, 0));
}

#[tokio::test]
async fn a_fault_at_every_operation_leaves_nothing_named_that_is_missing() {
    let old = old().await;
    let mut points = 0;
    for fault in [Fault::Error, Fault::ErrorAfterSuccess, Fault::TruncatedBody, Fault::Full] {
        for count in [1, u64::MAX] {
            for nth in 0.. {
                points += 1;
                let faults = FaultStore::new(memory());
                let store = Store::from_object_store(Arc::new(faults.clone()), "p");
                let to = create(store.clone()).await.unwrap();
                faults.arm(nth, count, fault);
                let outcome = carry(&old, &to).await;
                let finished = faults.operations() <= nth;
                faults.disarm();
                assert_clean(&to).await;
                let to = open(store).await.unwrap();
                let new = match outcome {
                    Ok((new, _)) => new,
                    Err(_) => carry(&old, &to).await.unwrap().0,
                };
                assert_carried(&old, &to, &new).await;
                if finished {
                    break;
                }
            }
        }
    }
    println!("{points} runs were cut off");
    assert!(points > 100, "{points}");
}

#[tokio::test]
async fn what_is_damaged_is_not_carried() {
    let old = old().await;
    let store = old.repository.store();
    for pack in store.list("packs").await.unwrap() {
        let mut bytes = store.get(&pack.path).await.unwrap().to_vec();
        bytes[200] ^= 1;
        store.put_replacing(&pack.path, bytes).await.unwrap();
    }
    let mut log = store.get("wal/1").await.unwrap().to_vec();
    log[200] ^= 1;
    store.put_replacing("wal/1", log).await.unwrap();
    let (_, to) = in_memory().await;
    let rekey = Rekey::new(old.repository.clone(), to.clone()).unwrap();
    let error = rekey.object("wal/1").await.unwrap_err();
    assert!(matches!(&error, RepositoryError::Corrupt { object, .. } if object == "wal/1"));
    let cancel = CancellationToken::new();
    let error = rekey.files(&old.tables[0], None, &|_| {}, &cancel).await.unwrap_err();
    assert!(
        matches!(&error, RepositoryError::Corrupt { object, .. } if object.starts_with("packs/")),
        "{error}"
    );
    assert!(to.list("snapshots").await.unwrap().is_empty());
    assert!(to.list("wal").await.unwrap().is_empty());
    assert_clean(&to).await;
    cancel.cancel();
    let error = rekey.files(&old.tables[0], None, &|_| {}, &cancel).await.unwrap_err();
    assert!(matches!(error, RepositoryError::Cancelled));
}

#[tokio::test]
async fn it_goes_to_another_repository_that_may_be_written() {
    let (store, from) = in_memory().await;
    let same = open(store.clone()).await.unwrap();
    assert!(Rekey::new(from.clone(), same).is_err());
    let (other, to) = in_memory().await;
    let (_, key) = to.admit_agent("agent", &[]).await.unwrap();
    let agent = Repository::open_for_writing(other, &key).await.unwrap();
    let error = Rekey::new(from.clone(), agent.clone()).unwrap_err();
    assert!(matches!(error, RepositoryError::KeyRequired { .. }));
    assert!(matches!(Rekey::new(agent, from).unwrap_err(), RepositoryError::KeyRequired { .. }));
}
