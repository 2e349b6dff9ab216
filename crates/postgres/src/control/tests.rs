#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// `pg_control` of a server shut down, cut to its first sector, and what `pg_controldata` says of it.
const SAMPLES: [(u32, &[u8], &str); 4] = [
    (
        1300,
        include_bytes!("../../testdata/control-14"),
        include_str!("../../testdata/control-14.txt"),
    ),
    (
        1300,
        include_bytes!("../../testdata/control-15"),
        include_str!("../../testdata/control-15.txt"),
    ),
    (
        1700,
        include_bytes!("../../testdata/control-17"),
        include_str!("../../testdata/control-17.txt"),
    ),
    (
        1800,
        include_bytes!("../../testdata/control-18"),
        include_str!("../../testdata/control-18.txt"),
    ),
];

fn value<'a>(report: &'a str, name: &str) -> &'a str {
    report
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .unwrap_or_else(|| panic!("{name} is not reported"))
        .trim()
}

#[test]
fn servers_files_are_read_as_pg_controldata_reads_them() {
    for (version, bytes, report) in SAMPLES {
        let file = ControlFile::parse(bytes).unwrap();
        let number = |name: &str| value(report, name).parse::<u64>().unwrap();
        assert_eq!(file.control_version, version);
        assert_eq!(number("pg_control version number"), u64::from(version));
        assert_eq!(number("Catalog version number"), u64::from(file.catalog_version));
        assert_eq!(number("Database system identifier"), file.system_identifier.0);
        assert_eq!(value(report, "Database cluster state"), "shut down");
        assert_eq!(file.state, ClusterState::ShutDown);
        assert_eq!(value(report, "Latest checkpoint location"), file.checkpoint.to_string());
        assert_eq!(value(report, "Latest checkpoint's REDO location"), file.redo.to_string());
        assert_eq!(number("Latest checkpoint's TimeLineID"), u64::from(file.timeline.get()));
        assert_eq!(
            value(report, "Minimum recovery ending location"),
            file.min_recovery_point.to_string()
        );
        assert_eq!(value(report, "wal_level setting"), "replica");
        let limits = file.limits;
        assert_eq!(limits.wal_level, 1);
        assert_eq!(number("max_connections setting"), u64::from(limits.max_connections));
        assert_eq!(number("max_worker_processes setting"), u64::from(limits.max_worker_processes));
        assert_eq!(number("max_wal_senders setting"), u64::from(limits.max_wal_senders));
        assert_eq!(number("max_prepared_xacts setting"), u64::from(limits.max_prepared_xacts));
        assert_eq!(number("max_locks_per_xact setting"), u64::from(limits.max_locks_per_xact));
        assert_eq!(value(report, "track_commit_timestamp setting"), "on");
        assert!(limits.track_commit_timestamp);
        assert_eq!(number("Database block size"), u64::from(file.block_size));
        assert_eq!(
            number("Blocks per segment of large relation"),
            u64::from(file.relation_segment_blocks)
        );
        assert_eq!(number("WAL block size"), u64::from(file.wal_block_size));
        assert_eq!(number("Bytes per WAL segment"), file.wal_segment_size.bytes());
        assert_eq!(number("Data page checksum version"), u64::from(file.data_checksums));
        let time = file.checkpoint_time.to_chrono().format("%a %b %e %H:%M:%S %Y").to_string();
        assert_eq!(value(report, "Time of latest checkpoint"), time);

        let json = serde_json::to_string(&file).unwrap();
        assert_eq!(serde_json::from_str::<ControlFile>(&json).unwrap(), file);
    }
}

/// A copy with other bytes at a place, and a CRC that fits.
fn changed(bytes: &[u8], at: usize, new: &[u8]) -> Result<ControlFile, ControlFileError> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + new.len()].copy_from_slice(new);
    let crc = crc32c::crc32c(&bytes[..CRC_OFFSET_1300]).to_le_bytes();
    bytes[CRC_OFFSET_1300..CRC_OFFSET_1300 + 4].copy_from_slice(&crc);
    ControlFile::parse(&bytes)
}

#[test]
fn damage_and_strangers_are_refused() {
    let (_, bytes, _) = SAMPLES[1];
    for length in [0, 11, 200, CRC_OFFSET_1300 + 3] {
        assert_eq!(
            ControlFile::parse(&bytes[..length]),
            Err(ControlFileError::Truncated { length })
        );
    }
    let with = |at, new: &[u8]| changed(bytes, at, new).unwrap_err();
    assert_eq!(
        with(offset::CONTROL_VERSION, &[0x4B, 4, 0, 0]),
        ControlFileError::Version { version: 1099 }
    );
    assert_eq!(with(offset::CONTROL_VERSION, &[0, 0, 0x05, 0x14]), ControlFileError::ByteOrder);
    assert_eq!(with(offset::STATE, &[7]), ControlFileError::Value { field: "state", value: 7 });
    assert_eq!(
        with(offset::CHECKPOINT_TIMELINE, &[0]),
        ControlFileError::Value { field: "timeline", value: 0 }
    );
    assert!(matches!(with(offset::FLOAT_FORMAT, &[1]), ControlFileError::Value { .. }));
    assert_eq!(
        with(offset::BLOCK_SIZE, &[0, 0]),
        ControlFileError::Value { field: "block size", value: 0 }
    );
    assert!(matches!(with(offset::WAL_SEGMENT_SIZE, &[1]), ControlFileError::Value { .. }));
    for state in 0..=6u8 {
        let file = changed(bytes, offset::STATE, &[state]).unwrap();
        assert_eq!(file.state as u32, u32::from(state));
    }
}

proptest! {
    #[test]
    fn a_flipped_bit_is_noticed(sample in 0usize..4, bit in 0usize..288 * 8) {
        let mut bytes = SAMPLES[sample].1.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(ControlFile::parse(&bytes).is_err());
    }

    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>) {
        let _ = ControlFile::parse(&bytes);
    }
}
