//! Documents, sealed objects and file tables.
#![allow(clippy::unwrap_used)]

mod fixture;

use bytes::Bytes;
use fixture::{in_memory, noise, text};
use holdfast_repository::{
    EntryKind, ExtentId, FileEntry, FileTableWriter, ObjectKind, PutKind, RepositoryError,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Manifest {
    name: String,
    sizes: Vec<u64>,
}

fn manifest() -> Manifest {
    Manifest { name: "näme \"x\"".into(), sizes: (0..1000).collect() }
}

#[tokio::test]
async fn documents_are_written_once_and_read_back() {
    let (_, repository) = in_memory().await;
    let path = "snapshots/one";
    repository.put_document(path, ObjectKind::Snapshot, &manifest()).await.unwrap();
    let again = repository.put_document(path, ObjectKind::Snapshot, &manifest()).await;
    assert!(matches!(again, Err(RepositoryError::AlreadyExists { .. })));
    let back: Manifest = repository.get_document(path, ObjectKind::Snapshot).await.unwrap();
    assert_eq!(back, manifest());
    let other = repository.get_document::<Manifest>(path, ObjectKind::Proof).await;
    assert!(matches!(other, Err(RepositoryError::Corrupt { .. })));
    let shape = repository.get_document::<u32>(path, ObjectKind::Snapshot).await;
    assert!(matches!(shape, Err(RepositoryError::Document { .. })));
    let absent = repository.get_document::<u32>("snapshots/two", ObjectKind::Snapshot).await;
    assert!(matches!(absent, Err(RepositoryError::NotFound { .. })));
    let reserved = repository.put_document("keys/x", ObjectKind::Policy, &1).await;
    assert!(matches!(reserved, Err(RepositoryError::InvalidArgument { .. })));
    assert!(repository.delete("holdfast.json").await.is_err());
    repository.delete(path).await.unwrap();
    repository.delete(path).await.unwrap();
}

#[tokio::test]
async fn sealed_content_of_every_size_comes_back() {
    let (_, repository) = in_memory().await;
    for (n, size) in [0usize, 1, 1024 * 1024 - 1, 1024 * 1024, 3_500_000].into_iter().enumerate() {
        let content = noise(n as u64, size);
        let path = format!("wal/{n}");
        let pieces: Vec<Bytes> = content.chunks(700_001).map(Bytes::copy_from_slice).collect();
        let receipt = repository
            .put_sealed(&path, ObjectKind::WalSegment, pieces, &size, PutKind::CreateOnly)
            .await
            .unwrap();
        assert!(receipt.bytes_stored >= size as u64);
        let (back, told): (Bytes, usize) =
            repository.get_sealed(&path, ObjectKind::WalSegment).await.unwrap();
        assert_eq!((back, told), (content, size));
        let told: usize =
            repository.get_sealed_metadata(&path, ObjectKind::WalSegment).await.unwrap();
        assert_eq!(told, size);
    }
    fixture::assert_clean(&repository).await;
}

#[tokio::test]
async fn slices_may_be_replaced_and_segments_may_not() {
    let (_, repository) = in_memory().await;
    for n in 0..2u32 {
        let content: [&[u8]; 2] = [b"slice ", &[n.to_le_bytes()[0]]];
        repository
            .put_sealed("wal/s", ObjectKind::WalSlice, &content, &n, PutKind::Replace)
            .await
            .unwrap();
    }
    let (_, n): (Bytes, u32) = repository.get_sealed("wal/s", ObjectKind::WalSlice).await.unwrap();
    assert_eq!(n, 1);
    let refused = repository
        .put_sealed("wal/s", ObjectKind::WalSlice, Bytes::new(), &3, PutKind::CreateOnly)
        .await;
    assert!(matches!(refused, Err(RepositoryError::AlreadyExists { .. })));
}

#[tokio::test]
async fn metadata_longer_than_one_tail_read_is_found() {
    let (_, repository) = in_memory().await;
    let large: Vec<String> =
        (0..4000u32).map(|n| blake3::hash(&n.to_le_bytes()).to_string()).collect();
    repository
        .put_sealed("wal/m", ObjectKind::Coverage, text(1, 100), &large, PutKind::CreateOnly)
        .await
        .unwrap();
    let back: Vec<String> =
        repository.get_sealed_metadata("wal/m", ObjectKind::Coverage).await.unwrap();
    assert_eq!(back, large);
}

fn file(n: u64, extents: u64) -> FileEntry {
    FileEntry {
        path: format!("base/5/{n}"),
        size: extents * 8192,
        mode: 0o600,
        mtime: 1_700_000_000,
        crc32c: Some(7),
        kind: EntryKind::File,
        extents: (0..extents)
            .map(|e| {
                ExtentId::from_bytes(*blake3::hash(&(n * 1_000_000 + e).to_le_bytes()).as_bytes())
            })
            .collect(),
        extent_crc32c: (0..u32::try_from(extents).unwrap()).collect(),
    }
}

#[tokio::test]
async fn file_tables_stream_in_and_out() {
    let (_, repository) = in_memory().await;
    for (name, files, extents) in
        [("none", 0, 0), ("few", 3, 2), ("many", 900, 120), ("long", 2, 30_000)]
    {
        let mut writer = FileTableWriter::begin(&repository).await.unwrap();
        for n in 0..files {
            writer.add(&file(n, extents)).await.unwrap();
        }
        let reference = writer.finish(&format!("snapshots/{name}.files")).await.unwrap();
        assert_eq!(reference.entries, files);
        let mut reader = repository.read_file_table(&reference).await.unwrap();
        for n in 0..files {
            assert_eq!(reader.next().await.unwrap().unwrap(), file(n, extents));
        }
        assert!(reader.next().await.unwrap().is_none());
        let mut lookup =
            repository.look_up_files(&reference, |entry| entry.path != "base/5/1").await.unwrap();
        for n in (0..files).rev().filter(|n| *n != 1) {
            let found = lookup.get(&format!("base/5/{n}")).await.unwrap();
            assert_eq!(found, Some(file(n, extents)));
        }
        assert_eq!(lookup.get("base/5/1").await.unwrap(), None);
        let mut wrong = reference.clone();
        wrong.blake3 = "00".repeat(32);
        let mut reader = repository.read_file_table(&wrong).await.unwrap();
        let end = loop {
            match reader.next().await {
                Ok(Some(_)) => {}
                other => break other,
            }
        };
        assert!(matches!(end, Err(RepositoryError::Corrupt { .. })));
    }
}

#[tokio::test]
async fn a_file_table_larger_than_one_upload_goes_in_parts() {
    let (store, repository) = in_memory().await;
    let mut writer = FileTableWriter::begin(&repository).await.unwrap();
    for n in 0..40 {
        writer.add(&file(n, 16_384)).await.unwrap();
    }
    let reference = writer.finish("snapshots/large.files").await.unwrap();
    assert!(reference.bytes > 18 * 1024 * 1024, "{reference:?}");
    let entry = store.list("snapshots").await.unwrap().remove(0);
    assert_eq!(entry.size, reference.bytes);
    let bytes = store.get("snapshots/large.files").await.unwrap();
    assert_eq!(blake3::hash(&bytes).to_string(), reference.blake3);
    let mut reader = repository.read_file_table(&reference).await.unwrap();
    let mut n = 0;
    while let Some(entry) = reader.next().await.unwrap() {
        assert_eq!(entry.path, format!("base/5/{n}"));
        n += 1;
    }
    assert_eq!(n, 40);
}
