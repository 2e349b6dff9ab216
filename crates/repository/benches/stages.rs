//! Throughput of an ingest: its stages by themselves on one thread (name an extent, compress a
//! frame, seal it), and the whole into memory with known and with new extents.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use holdfast_repository::stages::Stages;
use holdfast_repository::{CreateOptions, DeviceId, NewSlot, Repository, Store};
use object_store::memory::InMemory;
use tokio::runtime::Runtime;

/// Pages as a heap of short rows has them: headers, text, numbers.
fn pages(bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes + 64);
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    while out.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        out.extend_from_slice(&state.to_le_bytes()[3..]);
        out.extend_from_slice(b"customer name and address, ");
        out.extend_from_slice(&(out.len() as u64).to_le_bytes());
    }
    out.truncate(bytes);
    out
}

fn stages(criterion: &mut Criterion) {
    let stages = Stages::new().unwrap();
    let frame = pages(512 * 1024);
    let extent = &frame[..64 * 1024];
    let mut group = criterion.benchmark_group("ingest");
    group.throughput(Throughput::Bytes(extent.len() as u64));
    group.bench_function("hash 64 KiB", |b| b.iter(|| stages.hash(black_box(extent))));
    group.throughput(Throughput::Bytes(frame.len() as u64));
    group.bench_function("compress 512 KiB", |b| {
        b.iter(|| stages.compress(black_box(&frame)).unwrap());
    });
    group.bench_function("seal 512 KiB", |b| b.iter(|| stages.seal(black_box(&frame)).unwrap()));
    group.finish();
}

async fn repository() -> Repository {
    let store = Store::from_object_store(Arc::new(InMemory::new()), "");
    let slots = [NewSlot::Keychain(&[1; 32])];
    Repository::create(store, DeviceId::generate(), &slots, CreateOptions::default()).await.unwrap()
}

async fn ingest(repository: &Repository, extents: &[Bytes]) {
    let ingest = repository.begin_ingest().await.unwrap();
    for extent in extents {
        ingest.add_extent(extent.clone()).await.unwrap();
    }
    ingest.flush().await.unwrap();
}

fn whole(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let data = Bytes::from(pages(64 * 1024 * 1024));
    let extents: Vec<Bytes> =
        (0..data.len()).step_by(64 * 1024).map(|at| data.slice(at..at + 64 * 1024)).collect();
    let mut group = criterion.benchmark_group("whole");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(data.len() as u64));
    let known = runtime.block_on(repository());
    runtime.block_on(ingest(&known, &extents));
    group.bench_function("64 MiB known", |b| {
        b.iter(|| runtime.block_on(ingest(&known, &extents)));
    });
    group.bench_function("64 MiB new", |b| {
        b.iter_batched(
            || runtime.block_on(repository()),
            |fresh| runtime.block_on(ingest(&fresh, &extents)),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, stages, whole);
criterion_main!(benches);
