//! Ways in: slots, wrong and damaged keys, writers.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::sync::Arc;

use fixture::{DEVICE, create, in_memory, memory, open, options, passphrase};
use holdfast_repository::fault::{Fault, FaultStore};
use holdfast_repository::{
    NewSlot, ObjectKind, PrivateKey, PublicKey, PutKind, RecoveryKey, Repository, RepositoryError,
    SlotKind, Store, Unlock, WriterKey,
};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

#[tokio::test]
async fn every_way_in_opens_the_same_repository() {
    let store = Store::from_object_store(memory(), "");
    let (secret, recovery, wrapping) = (passphrase(), RecoveryKey::generate().unwrap(), [42u8; 32]);
    let slots = [
        NewSlot::Passphrase(&secret),
        NewSlot::RecoveryKey(&recovery),
        NewSlot::Keychain(&wrapping),
    ];
    let made = Repository::create(store.clone(), DEVICE, &slots, options()).await.unwrap();
    let typed = SecretString::from(recovery.display().expose_secret().to_lowercase());
    for unlock in
        [Unlock::Passphrase(&secret), Unlock::RecoveryKey(&typed), Unlock::Wrapping(&wrapping)]
    {
        let opened = Repository::open(store.clone(), DEVICE, unlock).await.unwrap();
        assert_eq!(opened.id(), made.id());
    }
    let kinds: Vec<SlotKind> = made.slots().await.unwrap().iter().map(|slot| slot.kind).collect();
    assert_eq!(kinds.len(), 3);
    let again = Repository::create(store, DEVICE, &slots, options()).await.unwrap_err();
    assert!(matches!(again, RepositoryError::AlreadyExists { .. }));
}

#[tokio::test]
async fn wrong_keys_are_told_from_typing_mistakes_and_from_absence() {
    let (store, _) = in_memory().await;
    let wrong = SecretString::from("wrong");
    let error = Repository::open(store.clone(), DEVICE, Unlock::Passphrase(&wrong)).await;
    assert!(matches!(error, Err(RepositoryError::WrongKey)));
    let other = RecoveryKey::generate().unwrap().display();
    let error = Repository::open(store.clone(), DEVICE, Unlock::RecoveryKey(&other)).await;
    assert!(matches!(error, Err(RepositoryError::WrongKey)));
    let garbled = SecretString::from("not a key");
    let error = Repository::open(store, DEVICE, Unlock::RecoveryKey(&garbled)).await;
    assert!(matches!(error, Err(RepositoryError::InvalidRecoveryKey { .. })));
    let error = open(Store::from_object_store(memory(), "")).await;
    assert!(matches!(error, Err(RepositoryError::NotARepository { .. })));
}

#[tokio::test]
async fn slots_come_and_go_but_the_last_one_stays() {
    let (store, repository) = in_memory().await;
    let first = repository.slots().await.unwrap().remove(0);
    assert!(matches!(repository.remove_slot(first.id).await, Err(RepositoryError::LastSlot)));
    let second_secret = SecretString::from("second");
    let second = repository.add_slot(NewSlot::Passphrase(&second_secret), "spare").await.unwrap();
    assert_eq!(second.label, "spare");
    repository.remove_slot(first.id).await.unwrap();
    assert!(matches!(open(store.clone()).await, Err(RepositoryError::WrongKey)));
    Repository::open(store, DEVICE, Unlock::Passphrase(&second_secret)).await.unwrap();
    let unknown = repository.remove_slot(Uuid::from_u128(1)).await;
    assert!(matches!(unknown, Err(RepositoryError::NotFound { .. })));
    assert!(matches!(repository.remove_slot(second.id).await, Err(RepositoryError::LastSlot)));
}

#[tokio::test]
async fn a_damaged_slot_is_not_a_wrong_key() {
    let (store, repository) = in_memory().await;
    let slot = repository.slots().await.unwrap().remove(0);
    let path = format!("keys/{}.json", slot.id);
    let good = store.get(&path).await.unwrap();
    for at in (0..good.len()).step_by(17) {
        let mut bad = good.to_vec();
        bad[at] ^= 1;
        store.put_replacing(&path, bad).await.unwrap();
        let error = open(store.clone()).await.unwrap_err();
        assert!(
            matches!(&error, RepositoryError::Corrupt { object, .. } if *object == path),
            "byte {at}: {error}"
        );
    }
    // Another way in still works.
    let key = [1; 32];
    repository.add_slot(NewSlot::Keychain(&key), "device").await.unwrap();
    Repository::open(store, DEVICE, Unlock::Wrapping(&key)).await.unwrap();
}

#[tokio::test]
async fn a_replaced_root_document_is_noticed() {
    let (store, repository) = in_memory().await;
    let (other_store, _) = in_memory().await;
    let slot = repository.slots().await.unwrap().remove(0);
    // An attacker's own root document: slots of the real one are foreign to it.
    store
        .put_replacing("holdfast.json", other_store.get("holdfast.json").await.unwrap())
        .await
        .unwrap();
    let error = open(store.clone()).await.unwrap_err();
    assert!(matches!(error, RepositoryError::WrongKey | RepositoryError::Corrupt { .. }));
    assert!(store.get(&format!("keys/{}.json", slot.id)).await.is_ok());
}

#[tokio::test]
async fn a_newer_format_says_so() {
    let (store, _) = in_memory().await;
    let text = String::from_utf8(store.get("holdfast.json").await.unwrap().to_vec()).unwrap();
    let newer = text.replace(r#"\"format\":1"#, r#"\"format\":2"#);
    assert_ne!(text, newer);
    store.put_replacing("holdfast.json", newer.into_bytes()).await.unwrap();
    let error = open(store).await.unwrap_err();
    assert!(matches!(error, RepositoryError::UnsupportedFormat { found: 2, .. }), "{error}");
}

#[tokio::test]
async fn a_writer_can_add_but_not_read() {
    let (store, repository) = in_memory().await;
    let (_, key) = repository.admit_agent("agent", &[]).await.unwrap();
    let key = WriterKey::parse(key.display().expose_secret()).unwrap();
    let writer = Repository::open_for_writing(store.clone(), &key).await.unwrap();
    assert!(!writer.can_read());
    let stored = vec![fixture::noise(1, 8192), fixture::noise(2, 8192)];
    let (ids, _) = fixture::add(&writer, &stored, fixture::small_packs()).await.unwrap();
    writer
        .put_sealed("wal/1", ObjectKind::WalSegment, &b"log"[..], &1, PutKind::CreateOnly)
        .await
        .unwrap();
    let error = writer.get_sealed::<u32>("wal/1", ObjectKind::WalSegment).await.unwrap_err();
    assert!(matches!(error, RepositoryError::KeyRequired { .. }));
    assert_eq!(
        writer.get_sealed_metadata::<u32>("wal/1", ObjectKind::WalSegment).await.unwrap(),
        1
    );
    let error = fixture::fetch(&writer, &ids).await.unwrap_err();
    assert!(matches!(error, RepositoryError::KeyRequired { .. }));
    let slot = writer.add_slot(NewSlot::Keychain(&[1; 32]), "x").await;
    assert!(matches!(slot, Err(RepositoryError::KeyRequired { .. })));
    fixture::assert_fetches(&repository, &ids, &stored).await;
    fixture::assert_clean(&repository).await;
    assert!(fixture::verify(&writer, holdfast_repository::VerifyLevel::Data).await.is_clean());
}

#[tokio::test]
async fn objects_of_a_writer_nobody_admitted_are_not_used() {
    let (store, repository) = in_memory().await;
    let (agent, key) = repository.admit_agent("agent", &[]).await.unwrap();
    let writer = Repository::open_for_writing(store.clone(), &key).await.unwrap();
    let page = vec![fixture::noise(1, 8192)];
    fixture::add(&writer, &page, fixture::small_packs()).await.unwrap();
    writer.put_document("clusters/1", ObjectKind::Cluster, &1).await.unwrap();
    // The certificate is withdrawn.
    let own = repository.store().list("keys/writers").await.unwrap();
    let fresh = open(store.clone()).await.unwrap();
    for entry in own {
        let text = String::from_utf8(store.get(&entry.path).await.unwrap().to_vec()).unwrap();
        if text.contains(&agent.device.to_string()) {
            store.delete(&entry.path).await.unwrap();
        }
    }
    let error = fresh.get_document::<u32>("clusters/1", ObjectKind::Cluster).await.unwrap_err();
    assert!(matches!(error, RepositoryError::UntrustedWriter { .. }));
    let (_, stats) = fixture::add(&fresh, &page, fixture::small_packs()).await.unwrap();
    assert_eq!(stats.extents_new, 1, "nothing is shared with an untrusted index");
    assert!(Repository::open_for_writing(store, &key).await.is_err());
}

#[tokio::test]
async fn an_agent_notices_another_repository_in_the_place_of_its_own() {
    let (store, repository) = in_memory().await;
    let (_, key) = repository.admit_agent("agent", &[]).await.unwrap();
    let (other_store, _) = in_memory().await;
    let foreign = other_store.get("holdfast.json").await.unwrap();
    let error = Repository::open_for_writing(other_store, &key).await.unwrap_err();
    assert!(matches!(error, RepositoryError::WrongKey), "{error}");
    store.put_replacing("holdfast.json", foreign).await.unwrap();
    assert!(Repository::open_for_writing(store, &key).await.is_err());
}

#[tokio::test]
async fn an_interrupted_creation_does_not_disturb_the_next() {
    let store = Store::from_object_store(memory(), "");
    let other = Store::from_object_store(memory(), "");
    create(other.clone()).await.unwrap();
    for entry in other.list("keys").await.unwrap() {
        store.put_new(&entry.path, other.get(&entry.path).await.unwrap()).await.unwrap();
    }
    let repository = create(store.clone()).await.unwrap();
    assert_eq!(repository.slots().await.unwrap().len(), 1);
    open(store).await.unwrap();
    let report = fixture::verify(&repository, holdfast_repository::VerifyLevel::Data).await;
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!(report.findings.len(), 2, "the strangers are named");
}

#[tokio::test]
async fn a_colleague_gets_in_with_a_key_that_was_never_sent() {
    let (store, repository) = in_memory().await;
    let (anna, ben) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let sent = PublicKey::parse(&anna.public().to_string()).unwrap();
    let slot = repository.add_slot(NewSlot::PublicKey(&sent), "anna").await.unwrap();
    assert_eq!(slot.kind, SlotKind::PublicKey);
    let opened = Repository::open(store.clone(), DEVICE, Unlock::PrivateKey(&anna)).await.unwrap();
    assert_eq!((opened.id(), opened.opened_with()), (repository.id(), Some(slot.id)));
    let error = Repository::open(store, DEVICE, Unlock::PrivateKey(&ben)).await;
    assert!(matches!(error, Err(RepositoryError::WrongKey)));
    let found = opened.slot_opened_by(Unlock::Passphrase(&passphrase())).await.unwrap();
    let first = repository.slots().await.unwrap().remove(0);
    assert_eq!((first.kind, Some(first.id)), (SlotKind::Passphrase, found));
    assert!(fixture::verify(&opened, holdfast_repository::VerifyLevel::Data).await.is_clean());
}

/// A wrong key costs the root document, one listing and the slots, whatever the repository holds.
#[tokio::test]
async fn a_wrong_key_is_told_before_anything_else_is_read() {
    let faults = FaultStore::new(memory());
    let store = Store::from_object_store(Arc::new(faults.clone()), "");
    let repository = create(store.clone()).await.unwrap();
    let pages = vec![fixture::noise(1, 8192), fixture::noise(2, 8192)];
    fixture::add(&repository, &pages, fixture::small_packs()).await.unwrap();
    repository.add_slot(NewSlot::Keychain(&[1; 32]), "device").await.unwrap();
    for unlock in [Unlock::Passphrase(&SecretString::from("wrong")), Unlock::Wrapping(&[2; 32])] {
        faults.disarm();
        let error = Repository::open(store.clone(), DEVICE, unlock).await;
        assert!(matches!(error, Err(RepositoryError::WrongKey)));
        assert_eq!(faults.operations(), 4, "root, listing, two slots");
    }
}

/// A secret is replaced by a new slot, and then by the removal of the old one. Wherever this ends, one of
/// the two opens the repository; and who is told that it is done has the new one.
#[tokio::test]
async fn catalogue_12_wherever_a_rotation_is_cut_off_one_of_the_two_secrets_opens() {
    let mut points = 0;
    for fault in [Fault::Error, Fault::ErrorAfterSuccess, Fault::TruncatedBody, Fault::Full] {
        // Once one operation fails, and once everything from there on: a crash.
        for count in [1, u64::MAX] {
            for nth in 0.. {
                let faults = FaultStore::new(memory());
                let store = Store::from_object_store(Arc::new(faults.clone()), "");
                let (old, new) = ([1; 32], [2; 32]);
                let slots = [NewSlot::Keychain(&old)];
                let repository =
                    Repository::create(store.clone(), DEVICE, &slots, options()).await.unwrap();
                let first = repository.slots().await.unwrap().remove(0).id;
                faults.arm(nth, count, fault);
                let mut added = false;
                let rotated = async {
                    repository.add_slot(NewSlot::Keychain(&new), "device").await?;
                    added = true;
                    repository.remove_slot(first).await
                }
                .await;
                let finished = faults.operations() <= nth;
                faults.disarm();
                let opens = async |key: &[u8; 32]| {
                    Repository::open(store.clone(), DEVICE, Unlock::Wrapping(key)).await.is_ok()
                };
                let (by_old, by_new) = (opens(&old).await, opens(&new).await);
                let at = format!("{fault:?} x{count} at {nth}: {rotated:?}");
                assert!(by_old || by_new, "{at}");
                assert!(by_new || !added, "told that it is there: {at}");
                assert!(rotated.is_err() || !by_old, "told that it is gone: {at}");
                points += 1;
                if finished {
                    break;
                }
            }
        }
    }
    println!("{points} rotations were cut off");
    assert!(points > 40, "{points}");
}

#[tokio::test]
async fn of_two_who_remove_the_last_two_slots_at_once_one_is_refused() {
    for _ in 0..20 {
        let (store, repository) = in_memory().await;
        let first = repository.slots().await.unwrap().remove(0).id;
        let second = repository.add_slot(NewSlot::Keychain(&[1; 32]), "device").await.unwrap().id;
        let other = open(store).await.unwrap();
        let _ = tokio::join!(repository.remove_slot(first), other.remove_slot(second));
        assert!(!repository.slots().await.unwrap().is_empty());
    }
}
