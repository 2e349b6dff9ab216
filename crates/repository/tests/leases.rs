//! Leases: one holder at a time, by the store's clock.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::sync::Arc;
use std::time::Duration;

use fixture::{create, in_memory, memory, open};
use holdfast_repository::fault::{Fault, FaultStore};
use holdfast_repository::{Lease, LeaseError, NewSlot, Repository, RepositoryError, Store};

const HOUR: Duration = Duration::from_hours(1);
/// The shortest there is.
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn one_holder_at_a_time() {
    let (store, repository) = in_memory().await;
    let mut lease = Lease::acquire(&repository, "prune", HOUR, "laptop").await.unwrap();
    let other = open(store).await.unwrap();
    match Lease::acquire(&other, "prune", HOUR, "agent").await {
        Err(LeaseError::Held { holder, until }) => {
            assert_eq!((holder.as_str(), until), ("laptop", lease.until()));
        }
        outcome => panic!("{outcome:?}"),
    }
    Lease::acquire(&other, "restore-1", HOUR, "agent").await.unwrap();
    lease.renew().await.unwrap();
    lease.renew().await.unwrap();
    let alive = Lease::list(&repository, "").await.unwrap();
    assert_eq!(alive.len(), 2);
    assert!(alive.iter().all(|info| info.alive));
    assert_eq!(alive[0].since, lease.since().unwrap());
    lease.release().await.unwrap();
    Lease::acquire(&other, "prune", HOUR, "agent").await.unwrap();
    assert_eq!(repository.list("leases/prune").await.unwrap().len(), 1);
    fixture::assert_clean(&repository).await;
}

#[tokio::test]
async fn of_several_at_once_exactly_one_wins() {
    let (_, repository) = in_memory().await;
    let racers = (0..8).map(|n| {
        let repository = repository.clone();
        async move { Lease::acquire(&repository, "x", HOUR, &n.to_string()).await }
    });
    let won = futures_util::future::join_all(racers).await;
    assert_eq!(won.iter().filter(|outcome| outcome.is_ok()).count(), 1);
}

/// Polls until the condition holds: store clocks cannot be turned.
async fn until_taken(repository: &holdfast_repository::Repository, name: &str) -> Lease {
    for _ in 0..2000 {
        match Lease::acquire(repository, name, HOUR, "second").await {
            Ok(lease) => return lease,
            Err(LeaseError::Held { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    panic!("the lease never expired");
}

#[tokio::test]
async fn a_holder_that_overslept_finds_out() {
    let (_, repository) = in_memory().await;
    let mut first = Lease::acquire(&repository, "x", SECOND, "first").await.unwrap();
    let mut second = until_taken(&repository, "x").await;
    assert!(matches!(first.renew().await, Err(LeaseError::Lost { .. })));
    assert!(matches!(first.renew().await, Err(LeaseError::Lost { .. })));
    first.release().await.unwrap();
    second.renew().await.unwrap();
}

/// Its own next number is free again, since the holder that used it has gone on.
#[tokio::test]
async fn a_holder_that_overslept_others_finds_out() {
    let (_, repository) = in_memory().await;
    let mut first = Lease::acquire(&repository, "x", SECOND, "first").await.unwrap();
    let mut second = until_taken(&repository, "x").await;
    second.renew().await.unwrap();
    second.renew().await.unwrap();
    assert!(matches!(first.renew().await, Err(LeaseError::Lost { .. })));
    second.renew().await.unwrap();
    second.renew().await.unwrap();
    assert_eq!(repository.list("leases/x").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_job_s_lease_leaves_nothing_and_old_ones_are_cleared_away() {
    let (_, repository) = in_memory().await;
    let job = Lease::acquire(&repository, "backup-1", HOUR, "a").await.unwrap();
    job.conclude().await.unwrap();
    assert_eq!(repository.list("leases/backup-1").await.unwrap(), []);
    let mut killed = Lease::acquire(&repository, "backup-2", HOUR, "a").await.unwrap();
    Lease::remove_left(&repository, "collection").await.unwrap();
    killed.renew().await.unwrap();
}

#[tokio::test]
async fn where_nothing_may_be_removed_a_lease_is_given_up_all_the_same() {
    let faults = FaultStore::new(memory());
    let store = Store::from_object_store(Arc::new(faults.clone()), "p");
    let repository = create(store).await.unwrap();
    faults.arm(0, u64::MAX, Fault::Locked);
    let job = Lease::acquire(&repository, "backup-1", HOUR, "a").await.unwrap();
    job.conclude().await.unwrap();
    let mut prune = Lease::acquire(&repository, "prune", HOUR, "a").await.unwrap();
    prune.renew().await.unwrap();
    prune.release().await.unwrap();
    let alive = Lease::list(&repository, "").await.unwrap();
    assert!(alive.iter().all(|lease| !lease.alive), "{alive:?}");
    Lease::acquire(&repository, "prune", HOUR, "b").await.unwrap();
}

#[tokio::test]
async fn a_lease_of_a_dead_holder_is_ended_by_who_knows() {
    let (_, repository) = in_memory().await;
    let mut dead = Lease::acquire(&repository, "collection", HOUR, "a").await.unwrap();
    let listed = Lease::list(&repository, "collection").await.unwrap().remove(0);
    assert!(Lease::end(&repository, &listed).await.unwrap());
    assert_eq!(Lease::list(&repository, "").await.unwrap(), []);
    // It lives after all: it has lost.
    assert!(matches!(dead.renew().await, Err(LeaseError::Lost { .. })));
    let mut next = Lease::acquire(&repository, "collection", HOUR, "b").await.unwrap();
    assert!(!Lease::end(&repository, &listed).await.unwrap(), "it is somebody else's by now");
    next.renew().await.unwrap();
    assert_eq!(repository.list("leases/collection").await.unwrap().len(), 1);

    let mut dead = Lease::acquire(&repository, "backup-1", HOUR, "a").await.unwrap();
    let listed = Lease::list(&repository, "backup-1").await.unwrap().remove(0);
    Lease::clear(&repository, &listed).await.unwrap();
    assert!(matches!(dead.renew().await, Err(LeaseError::Lost { .. })));
    assert_eq!(repository.list("leases/backup-1").await.unwrap(), []);
}

#[tokio::test]
async fn a_damaged_lease_counts_as_held() {
    let (store, repository) = in_memory().await;
    Lease::acquire(&repository, "x", SECOND, "first").await.unwrap();
    let path = store.list("leases/x").await.unwrap().remove(0).path;
    let mut bytes = store.get(&path).await.unwrap().to_vec();
    bytes[30] ^= 1;
    store.put_replacing(&path, bytes).await.unwrap();
    let outcome = Lease::acquire(&repository, "x", HOUR, "second").await;
    assert!(matches!(outcome, Err(LeaseError::Held { .. })));
    let listed = Lease::list(&repository, "").await.unwrap();
    assert!(
        listed.len() == 1 && listed[0].alive && listed[0].holder.contains("damaged"),
        "{listed:?}"
    );
}

#[tokio::test]
async fn names_are_plain() {
    let (_, repository) = in_memory().await;
    for name in ["", "a/b", ".clock", "ä"] {
        assert!(Lease::acquire(&repository, name, HOUR, "x").await.is_err(), "{name:?}");
    }
}

/// Failure catalogue 15: a store that overwrites what must only be stored if absent holds no repository, unless
/// somebody accepts that leases exclude nobody there.
#[tokio::test]
async fn catalogue_15_a_store_that_ignores_conditions_is_refused() {
    let faults = FaultStore::new(memory());
    let store = Store::from_object_store(Arc::new(faults.clone()), "p");
    faults.arm(0, u64::MAX, Fault::IgnoredCondition);
    assert!(!store.probe().await.unwrap().put_if_absent);
    let refused = create(store.clone()).await;
    assert!(matches!(refused, Err(RepositoryError::Unsuitable { .. })), "{refused:?}");
    let secret = fixture::passphrase();
    let accepted = fixture::options().with_unconditional_put_allowed();
    let slots = [NewSlot::Passphrase(&secret)];
    Repository::create(store, fixture::DEVICE, &slots, accepted).await.unwrap();
}
