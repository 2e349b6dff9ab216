//! Extents in and out.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::sync::Arc;

use bytes::Bytes;
use fixture::{
    add, assert_clean, assert_fetches, fetch, in_memory, noise, open, small_packs, text,
};
use holdfast_repository::{
    ExtentId, ExtentSink, RepositoryError, SinkError, VerifyLevel, WantedExtent,
};
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Extents with repeats, zeros, odd lengths.
fn extents() -> impl Strategy<Value = Vec<Bytes>> {
    let one = (0u8..4, 0u64..40, 1usize..=8192).prop_map(|(kind, seed, length)| match kind {
        0 => Bytes::from(vec![0; length]),
        1 => text(seed, length),
        2 => noise(seed, 8192),
        _ => noise(seed, length),
    });
    proptest::collection::vec(one, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_goes_in_comes_out(extents in extents()) {
        runtime().block_on(async {
            let (store, repository) = in_memory().await;
            let (ids, first) = add(&repository, &extents, small_packs()).await.unwrap();
            assert_eq!(first.extents_seen, extents.len() as u64);
            assert_fetches(&repository, &ids, &extents).await;
            let again = open(store).await.unwrap();
            let (same, second) = add(&again, &extents, small_packs()).await.unwrap();
            assert_eq!(ids, same);
            assert_eq!((second.extents_new, second.bytes_stored), (0, 0));
            assert_fetches(&again, &ids, &extents).await;
            assert_clean(&again).await;
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_packs_keep_the_order_and_stay_small() {
    let (store, repository) = in_memory().await;
    let extents: Vec<Bytes> = (0..200).map(|n| noise(n, 8192)).collect();
    let (ids, stats) = add(&repository, &extents, small_packs()).await.unwrap();
    assert_eq!(stats.extents_new, 200);
    let packs = store.list("packs").await.unwrap();
    assert!(packs.len() > 2, "{packs:?}");
    // Noise does not grow by more than its directories.
    assert!(stats.bytes_stored < 200 * 8192 + 40_000, "{stats:?}");
    let plan = repository.plan_fetch(&ids).await.unwrap();
    assert_eq!(plan.packs, packs.len() as u64);
    assert_eq!(plan.bytes, 200 * 8192);
    assert!(plan.missing.is_empty());
    assert_fetches(&repository, &ids, &extents).await;
    // A part of them reads only a part.
    let some = repository.plan_fetch(&ids[..3]).await.unwrap();
    assert_eq!((some.packs, some.frames), (1, 1));
}

#[tokio::test]
async fn compressible_content_shrinks() {
    let (_, repository) = in_memory().await;
    let extents: Vec<Bytes> = (0..64).map(|n| text(n, 8192)).collect();
    let (ids, stats) = add(&repository, &extents, small_packs()).await.unwrap();
    assert!(stats.bytes_stored * 10 < stats.bytes_new, "{stats:?}");
    assert_fetches(&repository, &ids, &extents).await;
}

#[tokio::test]
async fn zero_extents_are_named_and_not_stored() {
    let (store, repository) = in_memory().await;
    let extents = vec![Bytes::from(vec![0; 8192]), Bytes::from(vec![0; 17]), Bytes::new()];
    let (ids, stats) = add(&repository, &extents, small_packs()).await.unwrap();
    assert!(ids.iter().all(ExtentId::is_zero));
    assert_eq!((stats.extents_new, stats.bytes_stored), (0, 0));
    assert!(store.list("packs").await.unwrap().is_empty());
}

#[tokio::test]
async fn an_extent_that_is_too_long_is_refused() {
    let (_, repository) = in_memory().await;
    let ingest = repository.begin_ingest().await.unwrap();
    let error = ingest.add_extent(noise(1, 8193)).await.unwrap_err();
    assert!(matches!(error, RepositoryError::InvalidArgument { .. }));
}

#[tokio::test]
async fn an_ingest_that_is_dropped_leaves_a_sound_repository() {
    for added in [0u64, 1, 80, 300] {
        let (store, repository) = in_memory().await;
        let ingest = repository.begin_ingest_with(small_packs()).await.unwrap();
        for n in 0..added {
            ingest.add_extent(noise(n, 8192)).await.unwrap();
        }
        drop(ingest);
        assert_clean(&repository).await;
        let extents: Vec<Bytes> = (0..added).map(|n| noise(n, 8192)).collect();
        let (ids, _) = add(&open(store).await.unwrap(), &extents, small_packs()).await.unwrap();
        assert_fetches(&repository, &ids, &extents).await;
        assert_clean(&repository).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_ingests_at_once_do_not_disturb_each_other() {
    let (_, repository) = in_memory().await;
    let runs = (0..4u64).map(|run| {
        let repository = repository.clone();
        tokio::spawn(async move {
            // Half of it is common to all.
            let extents: Vec<Bytes> =
                (0..40).map(|n| noise(if n % 2 == 0 { n } else { n + run * 1000 }, 8192)).collect();
            let (ids, _) = add(&repository, &extents, small_packs()).await.unwrap();
            (ids, extents)
        })
    });
    for run in futures_util::future::join_all(runs).await {
        let (ids, extents) = run.unwrap();
        assert_fetches(&repository, &ids, &extents).await;
    }
    assert_clean(&repository).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_ingest_takes_extents_from_several_tasks() {
    let (_, repository) = in_memory().await;
    let ingest = Arc::new(repository.begin_ingest_with(small_packs()).await.unwrap());
    let tasks = (0..4u64).map(|task| {
        let ingest = Arc::clone(&ingest);
        tokio::spawn(async move {
            let mut done = Vec::new();
            for n in 0..60 {
                let extent = noise(task * 30 + n, 8192);
                done.push((ingest.add_extent(extent.clone()).await.unwrap(), extent));
            }
            done
        })
    });
    let mut all = Vec::new();
    for task in futures_util::future::join_all(tasks).await {
        all.extend(task.unwrap());
    }
    let stats = Arc::into_inner(ingest).unwrap().flush().await.unwrap();
    assert_eq!(stats.extents_new, 150);
    let (ids, extents): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    assert_fetches(&repository, &ids, &extents).await;
}

#[tokio::test]
async fn a_lost_pack_is_stored_again_by_the_next_run() {
    let (store, repository) = in_memory().await;
    let extents: Vec<Bytes> = (0..10).map(|n| noise(n, 8192)).collect();
    let (ids, _) = add(&repository, &extents, small_packs()).await.unwrap();
    let pack = store.list("packs").await.unwrap().remove(0).path;
    store.delete(&pack).await.unwrap();
    let error = fetch(&repository, &ids).await.unwrap_err();
    assert!(
        matches!(&error, RepositoryError::Corrupt { object, what }
            if *object == pack && what.contains("cannot be restored")),
        "{error}"
    );
    let plan = repository.plan_fetch(&ids).await.unwrap();
    assert!(!plan.missing.is_empty());
    let (_, stats) = add(&repository, &extents, small_packs()).await.unwrap();
    assert!(stats.extents_new > 0);
    assert_fetches(&repository, &ids, &extents).await;
}

#[tokio::test]
async fn a_pack_cut_short_is_not_shared() {
    let (store, repository) = in_memory().await;
    let extents = vec![noise(1, 8192)];
    let (ids, _) = add(&repository, &extents, small_packs()).await.unwrap();
    let pack = store.list("packs").await.unwrap().remove(0).path;
    let whole = store.get(&pack).await.unwrap();
    store.put_replacing(&pack, whole.slice(..whole.len() / 2)).await.unwrap();
    let (_, stats) = add(&repository, &extents, small_packs()).await.unwrap();
    assert_eq!(stats.extents_new, 1);
    assert_fetches(&repository, &ids, &extents).await;
}

#[tokio::test]
async fn packs_are_found_without_their_index() {
    let (store, repository) = in_memory().await;
    let extents: Vec<Bytes> = (0..30).map(|n| noise(n, 8192)).collect();
    let (ids, _) = add(&repository, &extents, small_packs()).await.unwrap();
    for entry in store.list("index").await.unwrap() {
        store.delete(&entry.path).await.unwrap();
    }
    let fresh = open(store).await.unwrap();
    assert_fetches(&fresh, &ids, &extents).await;
    let report = fixture::verify(&fresh, VerifyLevel::Data).await;
    assert!(report.is_clean());
    assert!(!report.findings.is_empty(), "orphans are mentioned");
}

#[tokio::test]
async fn an_unknown_extent_is_named_before_anything_is_written() {
    let (_, repository) = in_memory().await;
    let (mut ids, _) = add(&repository, &[noise(1, 100)], small_packs()).await.unwrap();
    ids.push(ExtentId::from_bytes([9; 32]));
    let sink = Arc::new(fixture::Collected::default());
    let wanted = ids.iter().map(|id| WantedExtent { id: *id, token: 0 }).collect();
    let error = repository
        .fetch_extents(
            wanted,
            2,
            Arc::clone(&sink) as Arc<dyn ExtentSink>,
            &CancellationToken::new(),
        )
        .await
        .unwrap_err();
    assert!(error.to_string().contains("0909"), "{error}");
    assert!(sink.0.lock().unwrap().is_empty());
}

struct Refuses;
impl ExtentSink for Refuses {
    fn write(&self, _: u64, _: &ExtentId, _: &[u8]) -> Result<(), SinkError> {
        Err(SinkError("disk full".into()))
    }
}

#[tokio::test]
async fn a_refusing_sink_and_a_cancellation_end_the_fetch() {
    let (_, repository) = in_memory().await;
    let (ids, _) = add(&repository, &[noise(1, 100)], small_packs()).await.unwrap();
    let wanted = vec![WantedExtent { id: ids[0], token: 0 }];
    let cancel = CancellationToken::new();
    let error = repository.fetch_extents(wanted.clone(), 1, Arc::new(Refuses), &cancel).await;
    assert!(matches!(error, Err(RepositoryError::Sink { .. })));
    cancel.cancel();
    let error = repository.fetch_extents(wanted, 1, Arc::new(Refuses), &cancel).await;
    assert!(matches!(error, Err(RepositoryError::Cancelled)));
}

/// Packs of a run that has not ended may be taken back: nobody shares with them, whoever has looked at them.
#[tokio::test]
async fn nothing_is_shared_with_a_run_that_may_take_it_back() {
    let (store, repository) = in_memory().await;
    let extents: Vec<Bytes> = (0..200).map(|n| noise(n, 8192)).collect();
    let running = repository.begin_ingest_with(small_packs()).await.unwrap();
    for extent in &extents {
        running.add_extent(extent.clone()).await.unwrap();
    }
    let until = |wanted: fn(usize) -> bool| {
        let store = store.clone();
        async move {
            while !wanted(store.list("packs").await.unwrap().len()) {
                tokio::task::yield_now().await;
            }
        }
    };
    until(|packs| packs > 0).await;
    // Somebody counts what is needed, and looks at all packs for it.
    repository.packs_needed(&[], &[]).await.unwrap();
    let other = repository.begin_ingest_with(small_packs()).await.unwrap();
    drop(running);
    until(|packs| packs == 0).await;
    let mut ids = Vec::new();
    for extent in &extents {
        ids.push(other.add_extent(extent.clone()).await.unwrap());
    }
    other.flush().await.unwrap();
    assert_fetches(&repository, &ids, &extents).await;
    assert_clean(&repository).await;
}

/// Two who store the same at once store it twice: what one pack does not give any more, the other one does.
#[tokio::test]
async fn an_extent_that_is_stored_twice_survives_the_loss_of_one() {
    let (store, first) = in_memory().await;
    let second = fixture::open(store.clone()).await.unwrap();
    let content: Vec<_> = (0..40).map(|seed| fixture::noise(seed, 8192)).collect();
    let ingests = [first.begin_ingest().await.unwrap(), second.begin_ingest().await.unwrap()];
    let mut ids = Vec::new();
    for ingest in &ingests {
        ids.clear();
        for bytes in &content {
            ids.push(ingest.add_extent(bytes.clone()).await.unwrap());
        }
    }
    for ingest in ingests {
        assert_eq!(ingest.flush().await.unwrap().extents_new, 40);
    }
    let packs = store.list("packs").await.unwrap();
    assert_eq!(packs.len(), 2);
    let reader = fixture::open(store.clone()).await.unwrap();
    for pack in &packs {
        let whole = store.get(&pack.path).await.unwrap();
        for at in (70..whole.len() - 2000).step_by(whole.len() / 5) {
            let mut damaged = whole.to_vec();
            damaged[at] ^= 1;
            store.put_replacing(&pack.path, damaged).await.unwrap();
            fixture::assert_fetches(&reader, &ids, &content).await;
        }
        store.delete(&pack.path).await.unwrap();
        fixture::assert_fetches(&reader, &ids, &content).await;
        store.put_replacing(&pack.path, whole).await.unwrap();
    }
    // Of both: it is told.
    for pack in &packs {
        let mut damaged = store.get(&pack.path).await.unwrap().to_vec();
        damaged[100] ^= 1;
        store.put_replacing(&pack.path, damaged).await.unwrap();
    }
    let error = fixture::fetch(&reader, &ids).await.unwrap_err();
    assert!(matches!(error, RepositoryError::Corrupt { .. }), "{error}");
}
