//! The corpus of every parser, and mutations of it for some seconds. What `cargo xtask prove fuzz`
//! finds is added to the corpus, so that it is found here from then on.
//!
//! `HOLDFAST_SEED` repeats a run; `HOLDFAST_PROVE_SECONDS` lengthens it.
#![allow(clippy::unwrap_used)]

use holdfast_fuzz::{TARGETS, Target};
use holdfast_tests::{prove_duration, random::Random};
use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Inputs grow no longer than this.
const LONGEST: usize = 64 << 10;
/// Numbers at which lengths and counts go wrong.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let mut inputs: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "no corpus in {}", folder.display());
    inputs
}

/// Runs one input; one that fails is kept, and its place is said.
fn run(target: &Target, input: &[u8], of: &Path) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
        let name = format!("holdfast-fuzz-{}-{}", target.name, std::process::id());
        let kept = std::env::temp_dir().join(name);
        fs::write(&kept, input).unwrap();
        eprintln!("{}: {} fails, a mutation of {}", target.name, kept.display(), of.display());
        resume_unwind(panic);
    }
}

fn below(random: &mut Random, limit: usize) -> usize {
    usize::try_from(random.below(limit as u64)).unwrap()
}

/// Changes the input in one to four places.
fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=below(random, 4) {
        let length = input.len();
        let place = below(random, length);
        match random.below(8) {
            0 if length > 0 => input[place] ^= 1 << random.below(8),
            1 if length > 0 => input[place] = u8::try_from(random.below(256)).unwrap(),
            2 => input.truncate(place),
            3 => {
                let edge = EDGES[below(random, EDGES.len())];
                let width = [1, 2, 4, 8][below(random, 4)];
                let (little, big) = (edge.to_le_bytes(), edge.to_be_bytes());
                let bytes = if random.below(2) == 0 { &little[..width] } else { &big[8 - width..] };
                for (at, byte) in (place..length).zip(bytes) {
                    input[at] = *byte;
                }
            }
            4 => {
                let count = below(random, 32).min(length - place);
                let part = input[place..place + count].to_vec();
                let to = below(random, length + 1);
                input.splice(to..to, part);
            }
            5 => {
                let count = below(random, 32).min(length - place);
                input.drain(place..place + count);
            }
            6 if !other.is_empty() => {
                let from = below(random, other.len());
                let count = below(random, 512).min(other.len() - from);
                let end = (place + count).min(length);
                input.splice(place..end, other[from..from + count].iter().copied());
            }
            _ => input.insert(place, u8::try_from(random.below(256)).unwrap()),
        }
    }
    input.truncate(LONGEST);
}

fn holds(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let inputs = corpus(target);
    for (path, input) in &inputs {
        run(target, input, path);
    }
    let mut random = Random::announced(name);
    let end = Instant::now() + prove_duration(Duration::from_secs(2));
    let mut executions = inputs.len();
    while Instant::now() < end {
        let (path, input) = &inputs[below(&mut random, inputs.len())];
        let (_, other) = &inputs[below(&mut random, inputs.len())];
        let mut input = input.clone();
        mutate(&mut input, other, &mut random);
        run(target, &input, path);
        executions += 1;
    }
    eprintln!("{name}: {executions} executions, {} of them the corpus", inputs.len());
}

#[test]
fn incremental() {
    holds("incremental");
}

#[test]
fn segment_index() {
    holds("segment_index");
}

#[test]
fn manifest() {
    holds("manifest");
}

#[test]
fn tar() {
    holds("tar");
}

#[test]
fn wal() {
    holds("wal");
}

#[test]
fn history() {
    holds("history");
}

#[test]
fn label() {
    holds("label");
}

#[test]
fn index() {
    holds("index");
}

#[test]
fn wire() {
    holds("wire");
}

#[test]
fn every_target_has_a_corpus_and_a_test() {
    let tests = include_str!("corpus.rs");
    for target in TARGETS {
        assert!(!corpus(&target).is_empty());
        assert!(tests.contains(&format!("holds(\"{}\");", target.name)), "{}", target.name);
    }
}
