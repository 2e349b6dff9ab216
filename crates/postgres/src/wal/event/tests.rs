#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::version::VersionTraits;
use crate::wal::reader::{WalExpectations, WalStreamReader};
use crate::wal::segment::WalSegmentSize;

/// The first pages of a segment as a server wrote them, and what `pg_waldump` says of its records:
/// start, previous, transaction, resource manager, length, description.
const SAMPLES: [(u32, &[u8], &str); 4] = [
    (
        14,
        include_bytes!("../../../testdata/wal-14"),
        include_str!("../../../testdata/wal-14.waldump"),
    ),
    (
        15,
        include_bytes!("../../../testdata/wal-15"),
        include_str!("../../../testdata/wal-15.waldump"),
    ),
    (
        17,
        include_bytes!("../../../testdata/wal-17"),
        include_str!("../../../testdata/wal-17.waldump"),
    ),
    (
        18,
        include_bytes!("../../../testdata/wal-18"),
        include_str!("../../../testdata/wal-18.waldump"),
    ),
];

struct Described<'a> {
    start: Lsn,
    prev: Lsn,
    xid: Xid,
    rmgr: &'a str,
    length: usize,
    description: &'a str,
}

fn described(dump: &str) -> Vec<Described<'_>> {
    dump.lines()
        .map(|line| {
            let parts: Vec<&str> = line.splitn(6, '\t').collect();
            Described {
                start: parts[0].parse().unwrap(),
                prev: parts[1].parse().unwrap(),
                xid: parts[2].parse().unwrap(),
                rmgr: parts[3],
                length: parts[4].parse().unwrap(),
                description: parts[5],
            }
        })
        .collect()
}

fn records(major: u32, bytes: &[u8], start: Lsn) -> Vec<WalRecord> {
    let expected = WalExpectations {
        timeline: Some(TimelineId::FIRST),
        wal_magic: Some(VersionTraits::of_major(major).unwrap().wal_magic),
        system_identifier: None,
    };
    let size = WalSegmentSize::new(1 << 20).unwrap();
    let mut reader = WalStreamReader::new(size.floor(start), size, 8192, expected);
    let mut out = Vec::new();
    reader.push(bytes, &mut out).unwrap();
    out
}

/// `2026-01-02 03:04:05.678 UTC`, as the server prints it.
fn time(text: &str) -> PgTimestamp {
    let text = text.split(';').next().unwrap();
    text.replacen(' ', "T", 1).replace(" UTC", "Z").parse().unwrap()
}

/// What the description announces, for the kinds of records that stand in the samples.
fn announced(record: &Described<'_>) -> Option<WalEvent> {
    let (kind, rest) = record.description.split_once(' ').unwrap_or((record.description, ""));
    let xid = record.xid;
    Some(match (record.rmgr, kind) {
        ("Transaction", "COMMIT") => WalEvent::Commit { xid, time: time(rest) },
        ("Transaction", "ABORT") => WalEvent::Abort { xid, time: time(rest) },
        ("Transaction", "COMMIT_PREPARED") => {
            let (xid, rest) = rest.split_once(": ").unwrap();
            WalEvent::CommitPrepared { xid: xid.parse().unwrap(), time: time(rest) }
        }
        ("Transaction", "ABORT_PREPARED") => {
            let (xid, rest) = rest.split_once(": ").unwrap();
            WalEvent::AbortPrepared { xid: xid.parse().unwrap(), time: time(rest) }
        }
        ("XLOG", "SWITCH") => WalEvent::Switch,
        ("Standby", "RUNNING_XACTS") => WalEvent::RunningXacts,
        ("XLOG", "CHECKPOINT_ONLINE") => WalEvent::Checkpoint {
            redo: rest.split([' ', ';']).nth(1).unwrap().parse().unwrap(),
            timeline: TimelineId::FIRST,
            online: true,
        },
        _ => return None,
    })
}

#[test]
fn servers_records_are_read_as_pg_waldump_reads_them() {
    for (major, bytes, dump) in SAMPLES {
        let described = described(dump);
        let records = records(major, bytes, described[0].start);
        assert_eq!(records.len(), described.len());
        let mut kinds = std::collections::HashSet::new();
        for (record, known) in records.iter().zip(&described) {
            let what = format!("{major}: {}", known.description);
            assert_eq!(
                (record.span.start, record.prev, record.xid),
                (known.start, known.prev, known.xid),
                "{what}"
            );
            assert_eq!(record.length(), known.length, "{what}");
            assert!(record.main_data(major).is_ok(), "{what}");
            let event = decode_event(record, major).unwrap();
            if let Some(event) = &event {
                kinds.insert(std::mem::discriminant(event));
            }
            if let Some(WalEvent::RestorePoint { name, .. }) = event {
                assert_eq!(known.description, format!("RESTORE_POINT {name}"));
            } else {
                assert_eq!(event, announced(known), "{what}");
            }
        }
        assert_eq!(kinds.len(), 8, "the samples hold eight kinds of events");
        for (record, next) in records.iter().zip(&records[1..]) {
            assert_eq!(next.prev, record.span.start);
            assert!(next.span.start.distance_from(record.span.end) <= 24);
        }
    }
}

#[test]
fn a_flipped_bit_in_a_servers_record_is_noticed() {
    let (major, bytes, dump) = SAMPLES[1];
    let described = described(dump);
    // The commit with subtransactions: short, and on the first page.
    let known = described.iter().find(|known| known.description.contains("subxacts")).unwrap();
    let at = usize::try_from(known.start.0 & 0xF_FFFF).unwrap();
    let size = WalSegmentSize::new(1 << 20).unwrap();
    for bit in 0..known.length * 8 {
        let mut bytes = bytes.to_vec();
        bytes[at + bit / 8] ^= 1 << (bit % 8);
        let mut out = Vec::new();
        let start = size.floor(known.start);
        let mut reader = WalStreamReader::new(start, size, 8192, WalExpectations::default());
        let result = reader.push(&bytes, &mut out);
        let undisturbed = out.iter().any(|record| record.span.start == known.start);
        assert!(!undisturbed, "{major}: bit {bit}");
        // A length changed to more than the sample holds just waits.
        assert!(result.is_err_and(|error| !error.is_end_of_wal()) || reader.in_record());
    }
}

fn record(rmgr: u8, info: u8, main: &[u8]) -> WalRecord {
    let mut data = vec![255, u8::try_from(main.len()).unwrap()];
    data.extend(main);
    let span = RecordSpan { start: Lsn(0x28), end: Lsn(0x60) };
    WalRecord { span, prev: Lsn(0), xid: Xid(7), rmgr, info, data }
}

#[test]
fn every_part_of_a_transactions_end_is_passed_over() {
    // Database, one subtransaction, one relation, one statistics item, one invalidation, prepared.
    let xinfo = 0b1_0001_1111u32;
    for (major, item) in [(14, None), (15, Some(12)), (17, Some(12)), (18, Some(16))] {
        let mut main = 5i64.to_le_bytes().to_vec();
        main.extend(xinfo.to_le_bytes());
        main.extend([9; 8]);
        for size in [Some(4), Some(12), item, Some(16)].into_iter().flatten() {
            main.extend(1u32.to_le_bytes());
            main.extend(vec![9; size]);
        }
        main.extend(4711u32.to_le_bytes());
        let event = decode_event(&record(rmgr::XACT, 0x80 | 0x30, &main), major).unwrap();
        assert_eq!(event, Some(WalEvent::CommitPrepared { xid: Xid(4711), time: PgTimestamp(5) }));
        main.pop();
        let error = decode_event(&record(rmgr::XACT, 0x80 | 0x30, &main), major).unwrap_err();
        assert_eq!(error.kind, WalReadErrorKind::Content { what: "transaction end" });
    }
    // Counts are checked against what is there, however large.
    let mut main = 5i64.to_le_bytes().to_vec();
    main.extend(2u32.to_le_bytes());
    main.extend(u32::MAX.to_le_bytes());
    assert!(decode_event(&record(rmgr::XACT, 0x80, &main), 17).is_err());
    // A prepared transaction's end has to say which.
    assert!(decode_event(&record(rmgr::XACT, 0x40, &[0; 8]), 17).is_err());
}

#[test]
fn rare_records_of_the_wal_itself() {
    let backup_end = record(rmgr::XLOG, 0x50, &0x200_0028u64.to_le_bytes());
    let event = decode_event(&backup_end, 15).unwrap();
    assert_eq!(event, Some(WalEvent::BackupEnd { start_lsn: Lsn(0x200_0028) }));

    let mut main = 5i64.to_le_bytes().to_vec();
    main.extend(3u32.to_le_bytes());
    main.extend(2u32.to_le_bytes());
    let event = decode_event(&record(rmgr::XLOG, 0x90, &main), 17).unwrap();
    let (timeline, previous) = (TimelineId::new(3).unwrap(), TimelineId::new(2).unwrap());
    assert_eq!(event, Some(WalEvent::EndOfRecovery { timeline, previous_timeline: previous }));
    assert!(decode_event(&record(rmgr::XLOG, 0x90, &[0; 16]), 17).is_err());

    let mut main: Vec<u8> = (1..=6u32).flat_map(u32::to_le_bytes).collect();
    main.extend([0, 1, 0, 0]);
    let limits = ServerLimits {
        max_connections: 1,
        max_worker_processes: 2,
        max_wal_senders: 3,
        max_prepared_xacts: 4,
        max_locks_per_xact: 5,
        wal_level: 6,
        track_commit_timestamp: true,
    };
    let event = decode_event(&record(rmgr::XLOG, 0x60, &main), 17).unwrap();
    assert_eq!(event, Some(WalEvent::ParameterChange(limits)));

    let mut main = 9u64.to_le_bytes().to_vec();
    main.extend(1u32.to_le_bytes());
    let event = decode_event(&record(rmgr::XLOG, 0x00, &main), 17).unwrap();
    let shutdown =
        WalEvent::Checkpoint { redo: Lsn(9), timeline: TimelineId::FIRST, online: false };
    assert_eq!(event, Some(shutdown));

    assert!(decode_event(&record(rmgr::XLOG, 0x70, &[0; 40]), 17).is_err());
    assert_eq!(decode_event(&record(rmgr::XLOG, 0x20, &[]), 17), Ok(None));
    assert_eq!(decode_event(&record(rmgr::XACT, 0x50, &[]), 17), Ok(None));
    assert_eq!(decode_event(&record(10, 0, &[]), 17), Ok(None));
    let error = decode_event(&record(10, 0, &[]), 13).unwrap_err();
    assert_eq!(error.kind, WalReadErrorKind::UnsupportedMajor { major: 13 });
}

#[test]
fn events_have_a_json_form() {
    let span = RecordSpan { start: Lsn(0x28), end: Lsn(0x60) };
    let event = WalEvent::Commit { xid: Xid(7), time: PgTimestamp(1) };
    let json = serde_json::to_string(&LocatedEvent { span, event }).unwrap();
    assert_eq!(
        json,
        r#"{"span":{"start":"0/28","end":"0/60"},"event":{"event":"commit","xid":"7","time":"2000-01-01T00:00:00.000001Z"}}"#
    );
    for event in [
        WalEvent::Switch,
        WalEvent::ParameterChange(ServerLimits::default()),
        WalEvent::RestorePoint { name: "x".to_owned(), time: PgTimestamp(1) },
        WalEvent::Checkpoint { redo: Lsn(9), timeline: TimelineId::FIRST, online: false },
    ] {
        let located = LocatedEvent { span, event };
        let json = serde_json::to_string(&located).unwrap();
        assert_eq!(serde_json::from_str::<LocatedEvent>(&json).unwrap(), located, "{json}");
    }
}

proptest! {
    #[test]
    fn random_records_never_panic(
        main in proptest::collection::vec(any::<u8>(), 0..120),
        rmgr in prop_oneof![Just(rmgr::XLOG), Just(rmgr::XACT), Just(rmgr::STANDBY), any::<u8>()],
        info: u8,
        major in 13u32..20,
    ) {
        let _ = decode_event(&record(rmgr, info, &main), major);
    }
}
