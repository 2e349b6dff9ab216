//! Throughput of the stages of an ingest, one thread: name an extent, compress a frame, seal it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use holdfast_repository::stages::Stages;

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

criterion_group!(benches, stages);
criterion_main!(benches);
