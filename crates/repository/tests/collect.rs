//! Collection: what nothing needs goes, what anything needs stays, wherever it is cut off.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fixture::{
    assert_clean, assert_fetches, create, edited, errors, in_memory, listed, listed_after, memory,
    noise, open, small_packs, verify,
};
use holdfast_repository::fault::{Fault, FaultStore};
use holdfast_repository::{
    ExtentId, FileTableRef, Lease, ObjectKind, PackId, Replica, ReplicaOptions, Repository,
    RepositoryError, Store, VerifyLevel,
};
use tokio_util::sync::CancellationToken;

/// What a manifest has to say here.
#[derive(serde::Serialize, serde::Deserialize)]
struct Manifest {
    file_table: FileTableRef,
}

/// A snapshot and what is in it.
struct Made {
    manifest: String,
    table: FileTableRef,
    ids: Vec<ExtentId>,
    extents: Vec<Bytes>,
}

/// A snapshot with the extents of these numbers.
async fn snapshot(repository: &Repository, name: &str, numbers: impl Iterator<Item = u64>) -> Made {
    let extents: Vec<Bytes> = numbers.map(|n| noise(n, 8192)).collect();
    snapshot_of(repository, name, extents, Vec::new()).await
}

/// A snapshot of these extents, after what stood in their places before.
async fn snapshot_of(
    repository: &Repository,
    name: &str,
    extents: Vec<Bytes>,
    old: Vec<Option<ExtentId>>,
) -> Made {
    let files = format!("snapshots/c/{name}.files");
    let (table, ids) =
        listed_after(repository, &files, &extents, &old, small_packs()).await.unwrap();
    let manifest = format!("snapshots/c/{name}");
    let body = Manifest { file_table: table.clone() };
    repository.put_document(&manifest, ObjectKind::Snapshot, &body).await.unwrap();
    Made { manifest, table, ids, extents }
}

/// Three that share some of what they hold.
async fn three(repository: &Repository) -> [Made; 3] {
    let first = snapshot(repository, "1", 0..20).await;
    let second = snapshot(repository, "2", (10..20).chain(100..300)).await;
    // The last of what the third has are differences from what only the second has whole.
    let bases: Vec<(Bytes, ExtentId)> =
        second.extents.iter().cloned().zip(second.ids.iter().copied()).skip(20).take(8).collect();
    let whole: Vec<Bytes> =
        (0..5).chain(290..295).chain(400..410).map(|n| noise(n, 8192)).collect();
    let old = whole.iter().map(|_| None).chain(bases.iter().map(|(_, id)| Some(*id))).collect();
    let edits = bases.iter().map(|(bytes, _)| edited(bytes, 9, 30));
    let extents: Vec<Bytes> = whole.iter().cloned().chain(edits).collect();
    let third = snapshot_of(repository, "3", extents, old).await;
    [first, second, third]
}

/// Removes the second snapshot as the engine does, from wherever an earlier attempt has ended.
async fn remove_second(repository: &Repository, made: &[Made; 3]) -> Result<u64, RepositoryError> {
    let living = [made[0].table.clone(), made[2].table.clone()];
    let unneeded = repository.packs_unneeded(&living, &HashSet::new()).await?;
    let packs: HashSet<PackId> = unneeded.iter().map(|each| each.pack).collect();
    let mut objects = vec![made[1].manifest.clone(), made[1].table.path.clone()];
    objects.extend(repository.reindex_without(&packs).await?);
    objects.extend(packs.iter().map(PackId::path));
    let none = |_| {};
    let removed = repository.remove_objects(&objects, &none, &CancellationToken::new()).await?;
    match removed.kept.into_iter().next() {
        None => Ok(removed.gone.len() as u64),
        Some((path, why)) => {
            Err(RepositoryError::InvalidArgument { what: format!("{path}: {why}") })
        }
    }
}

/// Whatever can be read names only what is there.
async fn assert_sound(repository: &Repository, made: &[Made; 3]) {
    for each in [&made[0], &made[2]] {
        let manifest: Manifest =
            repository.get_document(&each.manifest, ObjectKind::Snapshot).await.unwrap();
        assert_eq!(manifest.file_table, each.table);
        assert_fetches(repository, &each.ids, &each.extents).await;
    }
    match repository.get_document::<Manifest>(&made[1].manifest, ObjectKind::Snapshot).await {
        Ok(manifest) => {
            repository.packs_needed(&[manifest.file_table], &[]).await.unwrap();
            assert_fetches(repository, &made[1].ids, &made[1].extents).await;
        }
        Err(RepositoryError::NotFound { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    let report = verify(repository, VerifyLevel::Data).await;
    assert!(errors(&report).is_empty(), "{:#?}", report.findings);
}

#[tokio::test]
async fn what_others_need_stays_and_the_rest_goes() {
    let (store, repository) = in_memory().await;
    let made = three(&repository).await;
    let everything: Vec<_> = made.iter().map(|each| each.table.clone()).collect();
    assert_eq!(repository.packs_unneeded(&everything, &HashSet::new()).await.unwrap(), []);
    let before = store.list("packs").await.unwrap();
    remove_second(&repository, &made).await.unwrap();
    let after = store.list("packs").await.unwrap();
    assert!(after.len() < before.len() && !after.is_empty(), "{} {}", after.len(), before.len());
    let other = open(store.clone()).await.unwrap();
    assert_sound(&other, &made).await;
    assert_clean(&other).await;
    // No index object names what is gone, and nothing that is there lacks one.
    let index = other.index().await.unwrap();
    let named: BTreeSet<String> = index.packs().map(|pack| pack.path()).collect();
    assert_eq!(named, after.into_iter().map(|entry| entry.path).collect());
    // The same content can come again.
    let again = snapshot(&other, "4", 100..300).await;
    assert_fetches(&other, &again.ids, &again.extents).await;
}

/// A removal is cut off at every operation, in every way, and run again.
#[tokio::test]
async fn a_removal_survives_a_fault_at_every_operation() {
    let faults = [Fault::Error, Fault::ErrorAfterSuccess, Fault::TruncatedBody, Fault::Full];
    let mut points = 0;
    // Once, and from then on: as when the process is killed.
    for (fault, count) in faults.into_iter().flat_map(|fault| [(fault, 1), (fault, u64::MAX)]) {
        for nth in 0.. {
            let control = FaultStore::new(memory());
            let store = Store::from_object_store(Arc::new(control.clone()), "p");
            let repository = create(store.clone()).await.unwrap();
            let made = three(&repository).await;
            // Whoever comes after has nothing in memory.
            let repository = open(store.clone()).await.unwrap();
            control.arm(nth, count, fault);
            let outcome = remove_second(&repository, &made).await;
            let finished = control.operations() <= nth;
            control.disarm();
            points += 1;
            let other = open(store).await.unwrap();
            assert_sound(&other, &made).await;
            if outcome.is_err() {
                remove_second(&other, &made).await.unwrap();
                assert_sound(&other, &made).await;
            }
            assert_clean(&other).await;
            if finished {
                break;
            }
        }
    }
    println!("{points} removals were cut off");
    assert!(points > 100, "{points}");
}

#[tokio::test]
async fn a_cancelled_removal_goes_on() {
    let (_, repository) = in_memory().await;
    let made = three(&repository).await;
    let cancel = CancellationToken::new();
    let objects = vec![made[1].manifest.clone(), made[1].table.path.clone()];
    let stop = |_| cancel.cancel();
    let error = repository.remove_objects(&objects, &stop, &cancel).await.unwrap_err();
    assert!(matches!(error, RepositoryError::Cancelled), "{error}");
    assert_sound(&repository, &made).await;
    remove_second(&repository, &made).await.unwrap();
    assert_clean(&repository).await;
}

#[tokio::test]
async fn keys_and_the_root_are_never_removed() {
    let (store, repository) = in_memory().await;
    let before = store.list("").await.unwrap().len();
    for path in ["holdfast.json", "keys/writers/x.json"] {
        let both = ["snapshots/c/1".to_owned(), path.to_owned()];
        let outcome = repository.remove_objects(&both, &|_| {}, &CancellationToken::new()).await;
        assert!(matches!(outcome, Err(RepositoryError::InvalidArgument { .. })), "{outcome:?}");
    }
    assert_eq!(store.list("").await.unwrap().len(), before);
}

/// Failure catalogue 11: a backup that begins after something was marked does not rely on it.
#[tokio::test]
async fn catalogue_11_nothing_is_shared_with_packs_that_are_marked() {
    let (store, repository) = in_memory().await;
    let made = snapshot(&repository, "1", 0..20).await;
    let marked = repository.packs_needed(std::slice::from_ref(&made.table), &[]).await.unwrap();
    let options = small_packs().with_avoided(marked.clone());
    let files = "snapshots/c/2.files";
    let (table, ids) = listed(&repository, files, &made.extents, options).await.unwrap();
    let needed = store.list("packs").await.unwrap().len();
    assert!(needed > marked.len(), "everything was stored again");
    let objects: Vec<String> = marked.iter().map(PackId::path).collect();
    let old = repository.reindex_without(&marked).await.unwrap();
    let all: Vec<String> = [objects, old, vec![made.manifest, made.table.path]].concat();
    repository.remove_objects(&all, &|_| {}, &CancellationToken::new()).await.unwrap();
    let other = open(store).await.unwrap();
    assert_fetches(&other, &ids, &made.extents).await;
    assert_eq!(other.packs_needed(&[table], &[]).await.unwrap().intersection(&marked).count(), 0);
}

/// A pack of an index object that is damaged may be needed all the same, and is not given up.
#[tokio::test]
async fn what_is_not_known_is_not_removed() {
    let (store, repository) = in_memory().await;
    let made = three(&repository).await;
    for entry in store.list("index").await.unwrap() {
        repository.delete(&entry.path).await.unwrap();
    }
    let other = open(store.clone()).await.unwrap();
    remove_second(&other, &made).await.unwrap();
    assert_sound(&open(store.clone()).await.unwrap(), &made).await;
    // One that was cut short is needed by those who need what was in it: a replica may have it whole.
    let other = open(store.clone()).await.unwrap();
    let again = snapshot(&other, "9", 500..520).await;
    let packs = other.packs_needed(std::slice::from_ref(&again.table), &[]).await.unwrap();
    for pack in &packs {
        let bytes = store.get(&pack.path()).await.unwrap();
        store.put_replacing(&pack.path(), bytes.slice(..bytes.len() - 7)).await.unwrap();
    }
    let other = open(store.clone()).await.unwrap();
    let unneeded =
        other.packs_unneeded(std::slice::from_ref(&again.table), &HashSet::new()).await.unwrap();
    assert!(unneeded.iter().all(|each| !packs.contains(&each.pack)), "{unneeded:?}");
    // One that no index object names and that cannot be read is none that nobody needs.
    let named: Vec<String> = packs.iter().map(PackId::path).collect();
    let listed = store.list("packs").await.unwrap();
    let pack = listed.into_iter().map(|e| e.path).find(|path| !named.contains(path)).unwrap();
    store.put_replacing(&pack, noise(1, 100)).await.unwrap();
    let other = open(store).await.unwrap();
    let unneeded = other.packs_unneeded(&[], &HashSet::new()).await.unwrap();
    assert!(!unneeded.is_empty() && unneeded.iter().all(|each| each.pack.path() != pack));
}

/// What differs from others is in a pack that cannot be read, and that no index object names: the others are not
/// unneeded because nobody can tell.
#[tokio::test]
async fn bases_stay_when_it_is_not_known_what_differs_from_them() {
    let (store, repository) = in_memory().await;
    let bases = snapshot(&repository, "1", 0..5).await;
    let before: HashSet<String> = paths(&store, "packs").await;
    let named: HashSet<String> = paths(&store, "index").await;
    let extents = bases.extents.iter().map(|bytes| edited(bytes, 9, 30)).collect();
    let old = bases.ids.iter().copied().map(Some).collect();
    let made = snapshot_of(&repository, "2", extents, old).await;
    let delta = paths(&store, "packs").await.difference(&before).next().unwrap().clone();
    for index in paths(&store, "index").await.difference(&named) {
        store.delete(index).await.unwrap();
    }
    let whole = store.get(&delta).await.unwrap();
    let mut bytes = whole.to_vec();
    let end = bytes.len() - 200;
    bytes[end] ^= 1;
    store.put_replacing(&delta, Bytes::from(bytes)).await.unwrap();
    let living = [made.table];
    let other = open(store.clone()).await.unwrap();
    match other.packs_unneeded(&living, &HashSet::new()).await.unwrap_err() {
        RepositoryError::Corrupt { object, what } => {
            assert_eq!(object, delta);
            assert!(what.contains("snapshots/c/2.files"), "{what}");
        }
        error => panic!("{error}"),
    }
    // Mended, it says what it needs.
    store.put_replacing(&delta, whole).await.unwrap();
    let other = open(store).await.unwrap();
    assert_eq!(other.packs_unneeded(&living, &HashSet::new()).await.unwrap(), []);
    assert_fetches(&other, &made.ids, &made.extents).await;
}

async fn paths(store: &Store, folder: &str) -> HashSet<String> {
    store.list(folder).await.unwrap().into_iter().map(|entry| entry.path).collect()
}

#[tokio::test]
async fn what_was_removed_goes_from_a_replica_when_nobody_reads_it() {
    let (store, source) = in_memory().await;
    let made = three(&source).await;
    let to = Store::from_object_store(memory(), "replica");
    let update = async |removed: BTreeSet<String>| {
        let options = ReplicaOptions::default().with_removed(Arc::new(removed));
        let replica = Replica::open(&source, to.clone()).await.unwrap();
        replica.update(options, &|_| {}, &CancellationToken::new()).await.unwrap()
    };
    update(BTreeSet::new()).await;
    let paths = async |store: &Store| -> BTreeSet<String> {
        store.list("").await.unwrap().into_iter().map(|entry| entry.path).collect()
    };
    let before = paths(&store).await;
    remove_second(&source, &made).await.unwrap();
    let after = paths(&store).await;
    let removed: BTreeSet<String> = before.difference(&after).cloned().collect();

    let told = update(BTreeSet::new()).await;
    assert_eq!((told.ahead, told.removed), (removed.len() as u64, 0), "nobody said so");
    let copy = open(to.clone()).await.unwrap();
    let lease = Lease::acquire(&copy, "restore-1", Duration::from_hours(1), "b").await.unwrap();
    let held = update(removed.clone()).await;
    assert_eq!((held.ahead, held.removed), (0, 0), "somebody reads there");
    assert_eq!(held.waiting.as_deref(), Some("b"));
    lease.conclude().await.unwrap();
    assert_eq!(paths(&to).await.iter().filter(|path| path.starts_with("leases/")).count(), 0);
    let done = update(removed.clone()).await;
    assert_eq!((done.ahead, done.removed), (0, removed.len() as u64));
    let copy = open(to).await.unwrap();
    assert_sound(&copy, &made).await;
    assert_clean(&copy).await;
}
