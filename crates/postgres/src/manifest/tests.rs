#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use ring::digest::{SHA256, digest};

use super::token::TOKEN_MAX;
use super::*;

/// Manifests of real servers; the second with encoded paths and SHA-256.
const VERSION_1: &[u8] = include_bytes!("../../testdata/manifest-15.json");
const VERSION_2: &[u8] = include_bytes!("../../testdata/manifest-17.json");

/// Appends the last line with the right checksum.
fn sealed(lines: &str) -> Vec<u8> {
    let sum = data_encoding::HEXLOWER.encode(digest(&SHA256, lines.as_bytes()).as_ref());
    format!("{lines}\"Manifest-Checksum\": \"{sum}\"}}\n").into_bytes()
}

fn with_file(file: &str) -> Vec<u8> {
    sealed(&format!(
        "{{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n{file}],\n\"WAL-Ranges\": [\n],\n"
    ))
}

fn error(content: &[u8]) -> ManifestError {
    BackupManifest::parse(content).unwrap_err()
}

fn what(content: &[u8]) -> &'static str {
    match error(content) {
        ManifestError::Syntax { what, .. } => what,
        other => panic!("{other}"),
    }
}

#[test]
fn reads_version_1() {
    let manifest = BackupManifest::parse(VERSION_1).unwrap();
    assert_eq!(manifest.version, 1);
    assert_eq!(manifest.system_identifier, None);
    assert_eq!(manifest.files.len(), 375);
    let label = &manifest.files[0];
    assert_eq!(label.path.as_str(), Some("backup_label"));
    assert_eq!(label.checksum.as_ref().unwrap().algorithm, ChecksumAlgorithm::Crc32c);
    assert!(label.last_modified.ends_with(" GMT"));
    let control = manifest.files.last().unwrap();
    assert_eq!((control.path.to_string().as_str(), control.size), ("global/pg_control", 8192));
    assert_eq!(manifest.wal_ranges.len(), 1);
    assert_eq!(manifest.wal_ranges[0].start, Lsn(0x90_0028));
    assert_eq!(manifest.wal_ranges[0].end, Lsn(0x90_0100));
}

#[test]
fn reads_version_2() {
    let manifest = BackupManifest::parse(VERSION_2).unwrap();
    assert_eq!(manifest.version, 2);
    let control = crate::control::ControlFile::parse(include_bytes!("../../testdata/control-17"));
    assert_eq!(manifest.system_identifier, Some(control.unwrap().system_identifier));
    assert_eq!(manifest.files.len(), 377);
    let label = &manifest.files[0];
    assert_eq!(label.path.as_bytes(), b"backup_label");
    // The label stands in the sample of the archive that this manifest came with.
    let archive = include_bytes!("../../testdata/base-17.tar");
    let content = &archive[512..512 + usize::try_from(label.size).unwrap()];
    let checksum = label.checksum.as_ref().unwrap();
    assert_eq!(checksum.algorithm, ChecksumAlgorithm::Sha256);
    assert_eq!(checksum.value, digest(&SHA256, content).as_ref());
}

#[test]
fn a_crc_stands_there_in_memory_order() {
    let file = r#"{ "Path": "a", "Size": 9, "Last-Modified": "x", "Checksum-Algorithm": "crc32c", "Checksum": "839206E3" }"#;
    let manifest = BackupManifest::parse(&with_file(file)).unwrap();
    let checksum = manifest.files[0].checksum.clone().unwrap();
    assert_eq!(checksum.value, crc32c_manifest_bytes(crc32c::crc32c(b"123456789")));
}

#[test]
fn files_without_checksum_and_odd_paths() {
    let file = r#"{ "Encoded-Path": "61FF2f62", "Size": 18446744073709551615 },{"Size":0,"Path":"\u00e9\"\\\/x"}"#;
    let manifest = BackupManifest::parse(&with_file(file)).unwrap();
    let [first, second] = &manifest.files[..] else { panic!("two files") };
    assert_eq!(first.path.as_bytes(), b"a\xFF/b");
    assert_eq!(first.path.as_str(), None);
    assert_eq!(first.path.to_string(), "a\u{FFFD}/b");
    assert_eq!((first.size, &first.checksum), (u64::MAX, &None));
    assert_eq!(second.path.as_str(), Some("é\"\\/x"));
}

#[test]
fn damage_is_noticed() {
    let mut content = VERSION_1.to_vec();
    let at = content.iter().position(|byte| *byte == b'7').unwrap();
    content[at] = b'8';
    assert!(matches!(error(&content), ManifestError::Checksum { .. }));
    let offset = VERSION_1.len() as u64;
    assert_eq!(
        error(&VERSION_1[..VERSION_1.len() - 2]),
        ManifestError::Truncated { offset: offset - 2 }
    );
    assert_eq!(error(b""), ManifestError::Truncated { offset: 0 });
    assert_eq!(what(&VERSION_1[..VERSION_1.len() - 1]), "the last line does not end");
    assert_eq!(what(b"{}"), "not where this belongs");
    assert_eq!(what(&[VERSION_1, b"{"].concat()), "not where this belongs");
    assert!(matches!(error(&[VERSION_1, b"7"].concat()), ManifestError::Truncated { .. }));
    let line = r#"{ "PostgreSQL-Backup-Manifest-Version": 1, "Files": [], "WAL-Ranges": [], "Manifest-Checksum": "00"}"#;
    assert_eq!(what(format!("{line}\n").as_bytes()), "the last line does not end");
    assert!(matches!(error(format!("\n{line}\n").as_bytes()), ManifestError::Checksum { .. }));
}

#[test]
fn the_shape_is_held_to() {
    let head = "{ \"PostgreSQL-Backup-Manifest-Version\"";
    assert_eq!(error(format!("{head}: 3, ").as_bytes()), ManifestError::Version { version: 3 });
    assert_eq!(what(format!("{head}: \"1\"").as_bytes()), "a value of the wrong kind");
    assert_eq!(what(b"{ \"Files\": ["), "the version does not stand first");
    assert_eq!(what(format!("{head}: 1, \"Other\": 1").as_bytes()), "an unknown key");
    let twice = format!("{head}: 1, \"Files\": [], \"Files\": []");
    assert_eq!(what(twice.as_bytes()), "a key for the second time");
    assert_eq!(what(format!("{head}: 1\n}}\n").as_bytes()), "the checksum is missing");
    assert_eq!(what(format!("{head}: true").as_bytes()), "an unexpected character");
    assert_eq!(what(format!("{head}: 01,").as_bytes()), "not a whole number");
    assert_eq!(what(b"{ \"\\x\""), "not a text");
    assert_eq!(what(&sealed(&format!("{head}: 1,\n"))), "the files or the WAL ranges are missing");
    let anonymous = sealed(&format!("{head}: 2,\n\"Files\": [], \"WAL-Ranges\": [],\n"));
    assert_eq!(what(&anonymous), "the system identifier is missing");
    let ranges = |range: &str| {
        what(&sealed(&format!("{head}: 1, \"Files\": [],\n\"WAL-Ranges\": [{range}],\n")))
    };
    assert_eq!(
        ranges(r#"{"Timeline": 0, "Start-LSN": "0/1", "End-LSN": "0/2"}"#),
        "an unusable WAL range"
    );
    assert_eq!(
        ranges(r#"{"Timeline": 1, "Start-LSN": "0/3", "End-LSN": "0/2"}"#),
        "an unusable WAL range"
    );
    assert_eq!(ranges(r#"{"Timeline": 1, "Start-LSN": "0/3"}"#), "an unusable WAL range");
    assert_eq!(ranges(r#"{"Size": 1}"#), "an unknown key");
    assert_eq!(ranges(r#"{"Timeline": 1},"#), "an unusable WAL range");
}

#[test]
fn files_are_held_to_their_shape() {
    let bad = |file: &str| what(&with_file(file));
    assert_eq!(bad(r#"{"Size": 1}"#), "a file without one path");
    assert_eq!(bad(r#"{"Path": "a", "Encoded-Path": "61", "Size": 1}"#), "a file without one path");
    assert_eq!(bad(r#"{"Path": "a", "Path": "b", "Size": 1}"#), "a key for the second time");
    assert_eq!(bad(r#"{"Path": "a"}"#), "a file without size");
    assert_eq!(bad(r#"{"Path": 1}"#), "a value of the wrong kind");
    assert_eq!(
        bad(r#"{"Encoded-Path": "6x", "Size": 1}"#),
        "an encoded path that is not hexadecimal"
    );
    for path in ["", "/a", "a/../b", "./a", "a//b", "a\\u0000b"] {
        let file = format!(r#"{{"Path": "{path}", "Size": 1}}"#);
        assert!(matches!(error(&with_file(&file)), ManifestError::UnsafePath { .. }), "{path}");
    }
    for sum in [
        r#""Checksum-Algorithm": "CRC32C""#,
        r#""Checksum": "00000000""#,
        r#""Checksum-Algorithm": "MD5", "Checksum": "00""#,
        r#""Checksum-Algorithm": "SHA224", "Checksum": "00""#,
        r#""Checksum-Algorithm": "CRC32C", "Checksum": "0000000x""#,
    ] {
        let file = format!(r#"{{"Path": "a", "Size": 1, {sum}}}"#);
        assert!(matches!(error(&with_file(&file)), ManifestError::FileChecksum { .. }), "{sum}");
    }
}

#[test]
fn values_are_bounded() {
    let long = format!(r#"{{"Path": "{}", "Size": 1}}"#, "a".repeat(TOKEN_MAX));
    assert!(matches!(error(&with_file(&long)), ManifestError::TooLong { .. }));
    let long = format!(r#"{{"Size": {}"#, "1".repeat(TOKEN_MAX + 1));
    assert!(matches!(error(&with_file(&long)), ManifestError::TooLong { .. }));
}

#[test]
fn algorithms_have_names_and_lengths() {
    for (name, length) in
        [("NONE", 0), ("CRC32C", 4), ("SHA224", 28), ("SHA256", 32), ("SHA384", 48), ("SHA512", 64)]
    {
        let algorithm = ChecksumAlgorithm::of_name(&name.to_lowercase()).unwrap();
        assert_eq!((algorithm.to_string().as_str(), algorithm.length()), (name, length));
    }
    assert_eq!(ChecksumAlgorithm::of_name("MD5"), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn pieces_of_any_size_give_the_same_files(pieces in proptest::collection::vec(1usize..5000, 1..10)) {
        let whole = BackupManifest::parse(VERSION_2).unwrap();
        let mut files = Vec::new();
        let mut reader = ManifestReader::default();
        let mut rest = VERSION_2;
        for size in pieces.iter().cycle() {
            let (piece, later) = rest.split_at((*size).min(rest.len()));
            reader.push(piece, &mut |file| files.push(file)).unwrap();
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        let summary = reader.finish().unwrap();
        prop_assert_eq!(summary.files, whole.files.len() as u64);
        prop_assert_eq!(summary.bytes, whole.files.iter().map(|file| file.size).sum::<u64>());
        prop_assert_eq!(summary.wal_ranges, whole.wal_ranges);
        prop_assert_eq!(files, whole.files);
    }

    #[test]
    fn a_flipped_bit_is_noticed(bit in 0..VERSION_1.len() * 8) {
        let mut content = VERSION_1.to_vec();
        content[bit / 8] ^= 1 << (bit % 8);
        let before = BackupManifest::parse(VERSION_1).unwrap();
        // In the checksum's own line upper case is as good as lower case.
        prop_assert!(BackupManifest::parse(&content).map_or(true, |read| read == before));
    }

    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>, text in "[{}\\[\\]:,\"0-9a-zA-Z \n\\\\-]{0,200}") {
        let _ = BackupManifest::parse(&bytes);
        let _ = BackupManifest::parse(text.as_bytes());
    }
}
