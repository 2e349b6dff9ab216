//! Deltas: little is stored of what changed little, and it comes back.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::collections::HashSet;

use bytes::Bytes;
use fixture::{
    add, assert_clean, assert_fetches, edited, errors, fetch, in_memory, listed, listed_after,
    noise, open, small_packs, verify,
};
use holdfast_repository::{
    ExtentId, IngestOptions, IngestStats, ObjectEntry, OldExtent, PackId, Replica, ReplicaOptions,
    Repository, RepositoryError, Store, VerifyLevel,
};
use tokio_util::sync::CancellationToken;

async fn add_after(
    repository: &Repository,
    extents: &[Bytes],
    old: impl Fn(usize) -> OldExtent,
    options: IngestOptions,
) -> (Vec<ExtentId>, IngestStats) {
    let ingest = repository.begin_ingest_with(options).await.unwrap();
    let mut ids = Vec::new();
    for (n, extent) in extents.iter().enumerate() {
        ids.push(ingest.add_changed_extent(extent.clone(), old(n)).await.unwrap());
    }
    (ids, ingest.flush().await.unwrap())
}

fn edited_all(extents: &[Bytes], seed: u64, count: usize) -> Vec<Bytes> {
    (seed..).zip(extents).map(|(seed, extent)| edited(extent, seed, count)).collect()
}

#[tokio::test]
async fn what_changed_little_costs_little_and_never_more_than_one_step() {
    let (store, repository) = in_memory().await;
    let first: Vec<Bytes> = (0..400).map(|n| noise(n, 8192)).collect();
    let (first_ids, whole) = add(&repository, &first, small_packs()).await.unwrap();
    let mut versions = vec![(first_ids, first)];
    // What was there is read when it is needed, or has been read before; of the whole ones, and of deltas.
    for (round, at_hand) in [(1, true), (2, false), (3, true)] {
        let (old_ids, old_extents) = versions.last().unwrap();
        let reader = repository.extent_reader().await.unwrap();
        let read = reader.read_old(old_ids).await.unwrap();
        assert!(read.iter().zip(old_extents).all(|(read, old)| read.bytes() == old));
        let new = edited_all(old_extents, round * 1000, 60);
        let at = |n: usize| if at_hand { read[n].clone() } else { OldExtent::named(old_ids[n]) };
        let (ids, stats) = add_after(&repository, &new, at, small_packs()).await;
        assert_eq!(stats.extents_delta, 400, "round {round}: {stats:?}");
        assert!(stats.bytes_stored < whole.bytes_stored / 8, "round {round}: {stats:?}");
        versions.push((ids, new));
    }
    let other = open(store).await.unwrap();
    for (ids, extents) in &versions {
        assert_fetches(&other, ids, extents).await;
    }
    // All together, each more than once.
    let ids: Vec<ExtentId> = versions.iter().flat_map(|(ids, _)| ids).copied().collect();
    let extents: Vec<Bytes> = versions.iter().flat_map(|(_, e)| e).cloned().collect();
    assert_fetches(
        &other,
        &[ids.clone(), ids.clone()].concat(),
        &[extents.clone(), extents].concat(),
    )
    .await;
    let plan = other.plan_fetch(&ids).await.unwrap();
    assert_eq!((plan.missing, plan.bytes), (Vec::new(), 4 * 400 * 8192));
    assert_clean(&other).await;
    // The same content again is known.
    let (last, extents) = versions.last().unwrap();
    let (again, stats) = add(&other, extents, small_packs()).await.unwrap();
    assert_eq!((&again, stats.extents_new), (last, 0));
}

#[tokio::test]
async fn what_changed_much_becomes_a_base_of_its_own() {
    let (_, repository) = in_memory().await;
    let first: Vec<Bytes> = (0..20).map(|n| noise(n, 8192)).collect();
    let (ids, _) = add(&repository, &first, small_packs()).await.unwrap();
    let mut old = ids;
    let mut new = first;
    let mut rebased = 0;
    // Small changes add up: every so often a whole one is stored, and the next builds on that.
    for round in 0..12 {
        new = edited_all(&new, 100 * round, 300);
        let at = |n: usize| OldExtent::named(old[n]);
        let (ids, stats) = add_after(&repository, &new, at, small_packs()).await;
        rebased += stats.extents_new - stats.extents_delta;
        assert_fetches(&repository, &ids, &new).await;
        old = ids;
    }
    assert!((20..120).contains(&rebased), "{rebased} of 240");
    assert_clean(&repository).await;
}

#[tokio::test]
async fn content_may_become_longer_and_shorter() {
    let (_, repository) = in_memory().await;
    let whole = noise(1, 8192);
    let (ids, _) = add(&repository, &[whole.slice(..5000)], small_packs()).await.unwrap();
    let old = |_: usize| OldExtent::named(ids[0]);
    let new = [whole.slice(..5100), edited(&whole.slice(..4000), 3, 10), whole.slice(..4000)];
    let (new_ids, stats) = add_after(&repository, &new, old, small_packs()).await;
    assert_eq!(stats.extents_delta, 2, "of nothing that changed there is no difference");
    assert_fetches(&repository, &new_ids, &new).await;
    assert_clean(&repository).await;
}

#[tokio::test]
async fn nothing_is_built_on_what_is_going_or_unknown() {
    let (_, repository) = in_memory().await;
    let first = [noise(1, 8192), noise(2, 8192)];
    let (ids, _) = add(&repository, &first, small_packs()).await.unwrap();
    let index = repository.index().await.unwrap();
    let going: HashSet<PackId> = index.packs().collect();
    let new = edited_all(&first, 10, 20);
    let at = |n: usize| OldExtent::named(ids[n]);
    let marked = small_packs().with_avoided(going.clone());
    let (_, stats) = add_after(&repository, &new, at, marked).await;
    assert_eq!((stats.extents_new, stats.extents_delta), (2, 0));
    let new = edited_all(&first, 20, 20);
    let unknown = |_: usize| OldExtent::named(ExtentId::from_bytes([7; 32]));
    let (_, stats) = add_after(&repository, &new, unknown, small_packs()).await;
    assert_eq!((stats.extents_new, stats.extents_delta), (2, 0));
    // What is a difference from something that is going is stored anew.
    let new = edited_all(&first, 50, 20);
    let (_, stats) = add_after(&repository, &new, at, small_packs()).await;
    assert_eq!(stats.extents_delta, 2);
    let marked = small_packs().with_avoided(going);
    let (_, stats) = add(&repository, &new, marked).await.unwrap();
    assert_eq!(stats.extents_new, 2);
}

/// A first state and one that differs little from it, each as a list of files.
async fn two(store: &Store, repository: &Repository) -> (Vec<Bytes>, Vec<ExtentId>, [PackId; 2]) {
    let first: Vec<Bytes> = (0..5).map(|n| noise(n, 8192)).collect();
    let (_, ids) = listed(repository, "snapshots/c/1.files", &first, small_packs()).await.unwrap();
    let base = repository.index().await.unwrap().packs().next().unwrap();
    let new = edited_all(&first, 10, 20);
    let old: Vec<_> = ids.into_iter().map(Some).collect();
    let path = "snapshots/c/2.files";
    let (_, new_ids) = listed_after(repository, path, &new, &old, small_packs()).await.unwrap();
    assert_eq!(store.list("packs").await.unwrap().len(), 2);
    let delta = repository.index().await.unwrap().packs().find(|pack| *pack != base).unwrap();
    (new, new_ids, [base, delta])
}

#[tokio::test]
async fn a_base_stays_as_long_as_a_difference_from_it_is_needed() {
    let (store, repository) = in_memory().await;
    let first: Vec<Bytes> = (0..5).map(|n| noise(n, 8192)).collect();
    let (table, ids) =
        listed(&repository, "snapshots/c/1.files", &first, small_packs()).await.unwrap();
    let new = edited_all(&first, 10, 20);
    let old: Vec<_> = ids.into_iter().map(Some).collect();
    let path = "snapshots/c/2.files";
    let (later, _) = listed_after(&repository, path, &new, &old, small_packs()).await.unwrap();
    let both = repository.packs_needed(std::slice::from_ref(&later), &[]).await.unwrap();
    assert_eq!(both.len(), 2);
    let none = HashSet::new();
    let unneeded = repository.packs_unneeded(std::slice::from_ref(&later), &none).await.unwrap();
    assert_eq!(unneeded, []);
    let base = repository.packs_needed(std::slice::from_ref(&table), &[]).await.unwrap();
    assert_eq!(base.len(), 1);
    let unneeded = repository.packs_unneeded(&[table], &none).await.unwrap();
    assert_eq!(unneeded.len(), 1);
    assert!(!base.contains(&unneeded[0].pack));
    // Marking the base's pack makes it no less needed.
    let needed = repository.packs_needed(std::slice::from_ref(&later), &[&base]).await.unwrap();
    assert_eq!(needed, both);
    // When it is lost it still is what is needed.
    let lost = base.iter().next().unwrap();
    store.delete(&lost.path()).await.unwrap();
    assert_eq!(repository.packs_needed(&[later], &[]).await.unwrap(), both);
}

#[tokio::test]
async fn a_base_that_is_gone_or_damaged_is_named() {
    for flip in [false, true] {
        let (store, repository) = in_memory().await;
        let (_, ids, [base, delta]) = two(&store, &repository).await;
        if flip {
            let mut bytes = store.get(&base.path()).await.unwrap().to_vec();
            bytes[5000] ^= 1;
            store.delete(&base.path()).await.unwrap();
            store.put_new(&base.path(), Bytes::from(bytes)).await.unwrap();
        } else {
            store.delete(&base.path()).await.unwrap();
        }
        let other = open(store.clone()).await.unwrap();
        match fetch(&other, &ids).await.unwrap_err() {
            RepositoryError::Corrupt { object, .. } => assert_eq!(object, base.path()),
            error => panic!("{error}"),
        }
        let report = verify(&other, VerifyLevel::Data).await;
        let found: Vec<&str> = errors(&report).iter().map(|f| f.object.as_str()).collect();
        for object in [&base.path(), "snapshots/c/1.files", "snapshots/c/2.files"] {
            assert!(found.contains(&object), "{object} is not in {found:?}");
        }
        // There is nothing wrong with it itself.
        assert!(!found.contains(&delta.path().as_str()), "{found:?}");
        // A base that was left out of the sample is read for what differs from it.
        let selection = |entry: &ObjectEntry| entry.path != base.path();
        let none = CancellationToken::new();
        let report = other
            .verify_observed(VerifyLevel::Data, &selection, &|_| {}, &|_| {}, &none)
            .await
            .unwrap();
        let found: Vec<&str> = errors(&report).iter().map(|f| f.object.as_str()).collect();
        assert!(found.contains(&"snapshots/c/2.files"), "{found:?}");
        assert!(found.contains(&base.path().as_str()), "{found:?}");
    }
}

/// A pack stays for anything in it that is needed, its bases only for what is needed of it.
#[tokio::test]
async fn a_difference_that_nobody_needs_may_outlive_its_base() {
    let (store, repository) = in_memory().await;
    let first = [noise(1, 8192), noise(2, 8192)];
    let mut old = Vec::new();
    for extent in &first {
        old.extend(add(&repository, std::slice::from_ref(extent), small_packs()).await.unwrap().0);
    }
    let new = edited_all(&first, 10, 20);
    let at = |n: usize| OldExtent::named(old[n]);
    let (ids, stats) = add_after(&repository, &new, at, small_packs()).await;
    assert_eq!(stats.extents_delta, 2);
    // What is listed is the first of the two.
    let path = "snapshots/c/3.files";
    let (table, listed) = listed(&repository, path, &new[..1], small_packs()).await.unwrap();
    assert_eq!(listed, ids[..1]);
    let none = HashSet::new();
    let unneeded = repository.packs_unneeded(&[table], &none).await.unwrap();
    let leaving: HashSet<PackId> = unneeded.iter().map(|unneeded| unneeded.pack).collect();
    assert_eq!(leaving.len(), 1);
    let mut objects = repository.reindex_without(&leaving).await.unwrap();
    objects.extend(leaving.iter().map(PackId::path));
    let cancel = CancellationToken::new();
    repository.remove_objects(&objects, &|_| {}, &cancel).await.unwrap();
    let other = open(store).await.unwrap();
    assert_fetches(&other, &listed, &new).await;
    assert!(fetch(&other, &ids).await.is_err(), "the second has no base any more");
    assert_clean(&other).await;
}

/// More differences than are in memory at a time.
#[tokio::test]
async fn many_differences_are_fetched_in_rounds() {
    let (_, repository) = in_memory().await;
    // Their deltas have 8195 bytes each: 34 MB.
    let first: Vec<Bytes> = (0..4200).map(|n| noise(n, 8192)).collect();
    let (old, _) = add(&repository, &first, IngestOptions::default()).await.unwrap();
    let new = edited_all(&first, 1, 20);
    let at = |n: usize| OldExtent::named(old[n]);
    let (ids, stats) = add_after(&repository, &new, at, IngestOptions::default()).await;
    assert_eq!(stats.extents_delta, 4200);
    let all = [old, ids].concat();
    assert_fetches(&repository, &all, &[first, new].concat()).await;
}

#[tokio::test]
async fn a_replica_has_the_bases_too() {
    let (store, repository) = in_memory().await;
    let (new, ids, _) = two(&store, &repository).await;
    let to = Store::from_object_store(fixture::memory(), "copy");
    let replica = Replica::open(&repository, to.clone()).await.unwrap();
    let options = ReplicaOptions::default();
    let done = replica.update(options, &|_| {}, &CancellationToken::new()).await.unwrap();
    assert_eq!(done.held_back, []);
    let copy = open(to).await.unwrap();
    assert_fetches(&copy, &ids, &new).await;
    assert_clean(&copy).await;
}

#[tokio::test]
async fn a_replica_does_not_get_a_list_of_files_without_the_bases() {
    let (store, repository) = in_memory().await;
    let (_, _, [base, delta]) = two(&store, &repository).await;
    store.delete(&base.path()).await.unwrap();
    let source = open(store).await.unwrap();
    let to = Store::from_object_store(fixture::memory(), "copy");
    let replica = Replica::open(&source, to.clone()).await.unwrap();
    let options = ReplicaOptions::default();
    let done = replica.update(options, &|_| {}, &CancellationToken::new()).await.unwrap();
    let held: Vec<&str> = done.held_back.iter().map(|held| held.object.as_str()).collect();
    assert!(held.contains(&"snapshots/c/2.files"), "{held:?}");
    assert!(to.get(&delta.path()).await.is_ok(), "the difference itself is whole");
    assert!(to.get("snapshots/c/2.files").await.is_err());
}
