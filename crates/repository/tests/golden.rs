//! A repository of format 1 as the first version wrote it. It must be readable forever: never
//! write it anew because a test fails.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::path::PathBuf;

use bytes::Bytes;
use fixture::{DEVICE, fetch, noise, text};
use holdfast_repository::{
    CreateOptions, DeviceId, EntryKind, FileEntry, FileTableRef, Lease, NewSlot, ObjectKind,
    PutKind, RecoveryKey, Repository, RepositoryUrl, Store, Unlock, VerifyLevel,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

const PASSPHRASE: &str = "golden passphrase of format 1";
const RECOVERY: [u8; 32] = *b"golden recovery key of format 1!";
const WRAPPING: [u8; 32] = [0x47; 32];

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Manifest {
    name: String,
    files: FileTableRef,
}

fn folder() -> PathBuf {
    // Where the tests run, not where they were compiled: another checkout may share what was built.
    let own = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(PathBuf::new, PathBuf::from);
    own.join("tests/golden/format-1")
}

async fn store(folder: &std::path::Path) -> Store {
    Store::open(&RepositoryUrl::parse(folder.to_str().unwrap()).unwrap()).await.unwrap()
}

fn extents() -> Vec<Bytes> {
    let mut extents: Vec<Bytes> = (0..6).map(|n| text(n, 8192)).collect();
    extents.push(Bytes::from(vec![0; 8192]));
    extents.push(noise(1, 5000));
    extents
}

/// Opening writes a device's certificate, so the tests work on a copy.
async fn copy() -> (tempfile::TempDir, Store) {
    let place = tempfile::tempdir().unwrap();
    let (from, to) = (store(&folder()).await, store(place.path()).await);
    for entry in from.list("").await.unwrap() {
        to.put_new(&entry.path, from.get(&entry.path).await.unwrap()).await.unwrap();
    }
    (place, to)
}

#[tokio::test]
async fn format_1_is_read_in_every_way() {
    let (_place, store) = copy().await;
    let secret = SecretString::from(PASSPHRASE);
    let printed = RecoveryKey::from_bytes(RECOVERY).display();
    assert_eq!(
        printed.expose_secret(),
        std::fs::read_to_string(folder().with_extension("recovery-key.txt")).unwrap().trim(),
        "printed keys must stay readable"
    );
    for unlock in
        [Unlock::Passphrase(&secret), Unlock::RecoveryKey(&printed), Unlock::Wrapping(&WRAPPING)]
    {
        let repository = Repository::open(store.clone(), DEVICE, unlock).await.unwrap();
        let manifest: Manifest =
            repository.get_document("snapshots/one", ObjectKind::Snapshot).await.unwrap();
        assert_eq!(manifest.name, "golden");
        let mut table = repository.read_file_table(&manifest.files).await.unwrap();
        let file = table.next().await.unwrap().unwrap();
        assert_eq!((file.path.as_str(), file.crc32c), ("base/1/2", Some(0x1234_5678)));
        let link = table.next().await.unwrap().unwrap();
        assert_eq!(link.kind, EntryKind::Symlink("../elsewhere".into()));
        assert!(table.next().await.unwrap().is_none());
        let fetched = fetch(&repository, &file.extents).await.unwrap();
        for (token, extent) in (0..).zip(extents()) {
            match fetched.get(&token) {
                Some(bytes) => assert_eq!(*bytes, extent),
                None => assert!(extent.iter().all(|byte| *byte == 0)),
            }
        }
        let (log, told): (Bytes, String) = repository
            .get_sealed("wal/1/000000010000000000000001", ObjectKind::WalSegment)
            .await
            .unwrap();
        assert_eq!((log, told.as_str()), (text(9, 20_000), "segment"));
        // Names are stable: nothing is stored again.
        let (_, stats) =
            fixture::add(&repository, &extents(), fixture::small_packs()).await.unwrap();
        assert_eq!(stats.extents_new, 0);
    }
}

#[tokio::test]
async fn format_1_verifies_without_findings() {
    let (_place, store) = copy().await;
    let repository = Repository::open(store, DEVICE, Unlock::Wrapping(&WRAPPING)).await.unwrap();
    let report = fixture::verify(&repository, VerifyLevel::Data).await;
    assert!(report.findings.is_empty(), "{report:#?}");
    assert_eq!(Lease::list(&repository, "").await.unwrap().len(), 1);
}

/// How it was made, once.
#[tokio::test]
#[ignore = "makes the golden repository; run only for a new format"]
async fn write_the_golden_repository() {
    let folder = folder();
    assert!(!folder.exists(), "a golden repository is never written over");
    let secret = SecretString::from(PASSPHRASE);
    let recovery = RecoveryKey::from_bytes(RECOVERY);
    let slots = [
        NewSlot::Passphrase(&secret),
        NewSlot::RecoveryKey(&recovery),
        NewSlot::Keychain(&WRAPPING),
    ];
    std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
    std::fs::write(
        folder.with_extension("recovery-key.txt"),
        format!("{}\n", recovery.display().expose_secret()),
    )
    .unwrap();
    let options = CreateOptions::default().with_extent_size(8192);
    let device = DeviceId(uuid::Uuid::from_u128(0x901d));
    let repository =
        Repository::create(store(&folder).await, device, &slots, options).await.unwrap();
    let ingest = repository.begin_ingest().await.unwrap();
    let mut table = ingest.begin_file_table().await.unwrap();
    let mut ids = Vec::new();
    for extent in extents() {
        ids.push(ingest.add_extent(extent).await.unwrap());
    }
    ingest.flush().await.unwrap();
    let file = FileEntry {
        path: "base/1/2".into(),
        size: 7 * 8192 + 5000,
        mode: 0o600,
        mtime: 1_800_000_000,
        crc32c: Some(0x1234_5678),
        kind: EntryKind::File,
        extents: ids,
        extent_crc32c: Vec::new(),
    };
    let link = FileEntry {
        path: "pg_tblspc/16400".into(),
        size: 0,
        crc32c: None,
        kind: EntryKind::Symlink("../elsewhere".into()),
        extents: Vec::new(),
        ..file.clone()
    };
    table.add(&file).await.unwrap();
    table.add(&link).await.unwrap();
    let files = table.finish("snapshots/one.files").await.unwrap();
    let manifest = Manifest { name: "golden".into(), files };
    repository.put_document("snapshots/one", ObjectKind::Snapshot, &manifest).await.unwrap();
    repository
        .put_sealed(
            "wal/1/000000010000000000000001",
            ObjectKind::WalSegment,
            text(9, 20_000),
            "segment",
            PutKind::CreateOnly,
        )
        .await
        .unwrap();
    Lease::acquire(&repository, "golden", std::time::Duration::from_mins(1), "golden")
        .await
        .unwrap();
}
