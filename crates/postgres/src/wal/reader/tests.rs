#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::wal::record::rmgr;

const MAGIC: u16 = 0xD116;
const SYSTEM: SystemIdentifier = SystemIdentifier(7_000_000_000_000_000_001);
const SEGMENT: u64 = 1 << 20;

fn segment_size() -> WalSegmentSize {
    WalSegmentSize::new(SEGMENT).unwrap()
}

fn timeline(number: u32) -> TimelineId {
    TimelineId::new(number).unwrap()
}

/// Writes WAL as a server does, to have edge cases a server seldom produces.
struct Writer {
    start: Lsn,
    block: usize,
    timeline: u32,
    prev: Lsn,
    bytes: Vec<u8>,
}

impl Writer {
    fn new(start: u64, block: usize) -> Self {
        Writer { start: Lsn(start), block, timeline: 1, prev: Lsn(0x28), bytes: Vec::new() }
    }

    fn position(&self) -> Lsn {
        self.start.saturating_add(self.bytes.len() as u64)
    }

    fn header(&mut self, flags: u16, continuation: u32) {
        let position = self.position();
        let long = position.0.is_multiple_of(SEGMENT);
        let flags = flags | if long { page_header::LONG_HEADER } else { 0 };
        self.bytes.extend(MAGIC.to_le_bytes());
        self.bytes.extend(flags.to_le_bytes());
        self.bytes.extend(self.timeline.to_le_bytes());
        self.bytes.extend(position.0.to_le_bytes());
        self.bytes.extend(continuation.to_le_bytes());
        self.bytes.extend([0; 4]);
        if long {
            self.bytes.extend(SYSTEM.0.to_le_bytes());
            self.bytes.extend(u32::try_from(SEGMENT).unwrap().to_le_bytes());
            self.bytes.extend(u32::try_from(self.block).unwrap().to_le_bytes());
        }
    }

    /// Spreads bytes over pages; each page begun says how many of them are left.
    fn spread(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.position().0.is_multiple_of(self.block as u64) {
                let left = u32::try_from(bytes.len()).unwrap();
                self.header(page_header::FIRST_IS_CONTINUATION, left);
            }
            let room = self.block - self.bytes.len() % self.block;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.bytes.extend(now);
            bytes = later;
        }
    }

    fn encode(&self, rmgr: u8, info: u8, data: &[u8]) -> Vec<u8> {
        let mut record = u32::try_from(data.len() + 24).unwrap().to_le_bytes().to_vec();
        record.extend(77u32.to_le_bytes());
        record.extend(self.prev.0.to_le_bytes());
        record.extend([info, rmgr, 0, 0]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(data), &record);
        record.extend(crc.to_le_bytes());
        record.extend(data);
        record
    }

    fn begin(&mut self) -> Lsn {
        if self.position().0.is_multiple_of(self.block as u64) {
            self.header(0, 0);
        }
        self.position()
    }

    fn record(&mut self, rmgr: u8, info: u8, data: &[u8]) -> WalRecord {
        let start = self.begin();
        let record = self.encode(rmgr, info, data);
        self.spread(&record);
        while !self.bytes.len().is_multiple_of(8) {
            self.bytes.push(0);
        }
        let prev = std::mem::replace(&mut self.prev, start);
        let span = RecordSpan { start, end: self.position() };
        WalRecord { span, prev, xid: Xid(77), rmgr, info, data: data.to_vec() }
    }

    fn switch(&mut self) -> WalRecord {
        let mut record = self.record(rmgr::XLOG, 0x40, &[]);
        while !self.position().0.is_multiple_of(SEGMENT) {
            self.bytes.push(0);
        }
        record.span.end = self.position();
        record
    }

    fn reader(&self) -> WalStreamReader {
        let expected = WalExpectations {
            system_identifier: Some(SYSTEM),
            timeline: Some(timeline(self.timeline)),
            wal_magic: Some(MAGIC),
        };
        WalStreamReader::new(
            self.start,
            segment_size(),
            u32::try_from(self.block).unwrap(),
            expected,
        )
    }

    fn read(&self) -> Result<Vec<WalRecord>, WalReadError> {
        let mut out = Vec::new();
        self.reader().push(&self.bytes, &mut out).map(|()| out)
    }

    fn error(&self) -> Kind {
        self.read().unwrap_err().kind
    }
}

/// A start near the end of a segment, so that short streams cross into the next.
const NEAR_END: u64 = 5 * SEGMENT - 2048;

#[test]
fn reads_what_was_written() {
    let mut writer = Writer::new(SEGMENT, 8192);
    let expected = vec![
        writer.record(10, 0, b"short"),
        writer.record(10, 0x80, &vec![7; 30_000]),
        writer.switch(),
        writer.record(1, 0, b"after the switch"),
    ];
    let mut out = Vec::new();
    let mut reader = writer.reader();
    reader.push(&writer.bytes, &mut out).unwrap();
    assert_eq!(out, expected);
    assert_eq!(reader.position(), writer.position());
    assert_eq!(reader.last_record(), Some(expected[3].span));
    assert!(!reader.in_record());
    assert_eq!(expected[2].span.end, Lsn(2 * SEGMENT));
}

#[test]
fn a_record_that_fills_its_page_ends_at_the_boundary() {
    let mut writer = Writer::new(SEGMENT, 8192);
    let filling = writer.record(10, 0, &[1; 8192 - 40 - 24]);
    assert_eq!(filling.span.end, Lsn(SEGMENT + 8192));
    let next = writer.record(10, 0, b"x");
    assert_eq!(next.span.start, Lsn(SEGMENT + 8192 + 24));
    assert_eq!(writer.read().unwrap(), [filling, next]);
}

#[test]
fn a_switch_that_fills_its_segment_skips_nothing() {
    let mut writer = Writer::new(2 * SEGMENT - 8192, 8192);
    writer.record(10, 0, &[1; 8192 - 24 - 24 - 24]);
    let switch = writer.switch();
    assert_eq!(switch.span.end, Lsn(2 * SEGMENT));
    writer.record(10, 0, b"x");
    assert_eq!(writer.read().unwrap().len(), 3);
}

#[test]
fn the_rest_of_an_unseen_record_is_skipped() {
    let mut writer = Writer::new(SEGMENT - 8192, 8192);
    writer.record(10, 0, &vec![1; 30_001]);
    let seen = writer.record(10, 0, b"seen");
    let bytes = &writer.bytes[8192..];
    let mut out = Vec::new();
    let expected = WalExpectations::default();
    let mut reader = WalStreamReader::new(Lsn(SEGMENT), segment_size(), 8192, expected);
    for byte in bytes {
        reader.push(&[*byte], &mut out).unwrap();
    }
    assert_eq!(out, [seen]);
}

#[test]
fn an_overwritten_record_is_dropped() {
    let mut writer = Writer::new(NEAR_END, 1024);
    let before = writer.record(10, 0, b"before");
    let start = writer.begin();
    let lost = writer.encode(10, 0, &[3; 3000]);
    let room = 1024 - writer.bytes.len() % 1024;
    writer.spread(&lost[..room]);
    assert_eq!(writer.position(), Lsn(NEAR_END + 1024), "{start}");
    writer.header(page_header::FIRST_IS_OVERWRITE, 0);
    let after = writer.record(rmgr::XLOG, 0xD0, b"overwrite");
    assert_eq!(after.prev, before.span.start);
    assert_eq!(writer.read().unwrap(), [before, after]);
}

#[test]
fn zeros_end_the_wal_and_it_may_go_on() {
    let mut writer = Writer::new(SEGMENT, 8192);
    let first = writer.record(10, 0, b"first");
    let end = writer.position();
    let mut out = Vec::new();
    let mut reader = writer.reader();
    reader.push(&writer.bytes, &mut out).unwrap();
    let error = reader.push(&[0; 4096], &mut out).unwrap_err();
    assert!(error.is_end_of_wal());
    assert_eq!((error.lsn, reader.position()), (end, end));
    assert!(!reader.in_record());
    let second = writer.record(10, 0, &[2; 9000]);
    let done = usize::try_from(end.distance_from(writer.start)).unwrap();
    reader.push(&writer.bytes[done..], &mut out).unwrap();
    assert_eq!(out, [first, second]);
}

#[test]
fn an_unwritten_page_ends_the_wal_even_inside_a_record() {
    let mut writer = Writer::new(SEGMENT, 8192);
    writer.record(10, 0, &[2; 9000]);
    let mut reader = writer.reader();
    let mut out = Vec::new();
    reader.push(&writer.bytes[..8192], &mut out).unwrap();
    assert!(reader.in_record());
    let error = reader.push(&[0; 8192], &mut out).unwrap_err();
    assert!(error.is_end_of_wal());
    assert_eq!(reader.position(), Lsn(SEGMENT + 8192));
    reader.push(&writer.bytes[8192..], &mut out).unwrap();
    assert_eq!(out.len(), 1);
}

#[test]
fn zeros_in_the_last_bytes_of_a_page_end_the_wal() {
    let mut writer = Writer::new(SEGMENT, 8192);
    let filling = writer.record(10, 0, &[1; 8192 - 40 - 24 - 8]);
    writer.bytes.extend([0; 8]);
    let error = writer.read().unwrap_err();
    assert_eq!(error, WalReadError::new(filling.span.end, Kind::NeverWritten));
}

#[test]
fn a_length_of_zero_before_other_bytes_is_damage() {
    let mut writer = Writer::new(SEGMENT, 8192);
    writer.record(10, 0, &[1; 40]);
    writer.bytes[40..44].fill(0);
    assert_eq!(writer.error(), Kind::RecordLength { found: 0 });
    writer.bytes[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(writer.error(), Kind::RecordLength { found: u32::MAX });
}

#[test]
fn every_check_of_a_page_is_made() {
    let mut writer = Writer::new(SEGMENT, 8192);
    writer.record(10, 0, &vec![1; 20_000]);
    let with = |at: usize, bytes: &[u8]| {
        let mut damaged = Writer { bytes: writer.bytes.clone(), ..Writer::new(SEGMENT, 8192) };
        damaged.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        let error = damaged.read().unwrap_err();
        assert!(!error.is_end_of_wal());
        (error.lsn.0 - SEGMENT, error.kind)
    };
    let second = 8192;
    assert_eq!(with(0, &[0x10, 0xD1]), (0, Kind::Magic { found: 0xD110, expected: MAGIC }));
    assert_eq!(with(2, &[0x12, 0]), (0, Kind::PageFlags { flags: 0x12 }));
    assert_eq!(with(2, &[0]), (0, Kind::PageFlags { flags: 0 }));
    assert_eq!(with(second + 2, &[9]), (8192, Kind::PageFlags { flags: 9 }));
    assert_eq!(with(second + 4, &[2]), (8192, Kind::Timeline { found: 2, expected: 1 }));
    assert_eq!(with(second + 4, &[0]), (8192, Kind::Timeline { found: 0, expected: 1 }));
    assert_eq!(with(8, &[1]), (0, Kind::PageAddress { found: Lsn(SEGMENT + 1) }));
    assert!(matches!(with(24, &[0; 8]), (0, Kind::System { expected: SYSTEM, .. })));
    assert!(matches!(with(32, &[1]), (0, Kind::Geometry { .. })));
    assert!(matches!(with(37, &[0x10]), (0, Kind::Geometry { block_size: 4096, .. })));
    let missing = 20_024 - (8192 - 40);
    assert_eq!(
        with(second + 16, &[1, 0]),
        (8192, Kind::Continuation { found: 1, expected: missing })
    );
    assert_eq!(with(second + 2, &[0]), (8192, Kind::Continuation { found: 0, expected: missing }));
    assert_eq!(
        with(second + 16, &[0, 0]),
        (8192, Kind::Continuation { found: 0, expected: missing })
    );
}

#[test]
fn a_continuation_of_nothing_is_damage() {
    let mut writer = Writer::new(SEGMENT, 8192);
    writer.record(10, 0, &[1; 8192 - 40 - 24]);
    writer.header(page_header::FIRST_IS_CONTINUATION, 8);
    assert_eq!(writer.error(), Kind::Continuation { found: 8, expected: 0 });
}

#[test]
fn the_chain_of_records_is_followed() {
    let mut writer = Writer::new(SEGMENT, 8192);
    let first = writer.record(10, 0, b"one");
    writer.prev = Lsn(8);
    writer.record(10, 0, b"two");
    assert_eq!(writer.error(), Kind::PreviousRecord { found: Lsn(8), expected: first.span.start });
    let mut writer = Writer::new(SEGMENT, 8192);
    writer.prev = Lsn(2 * SEGMENT);
    writer.record(10, 0, b"one");
    assert!(matches!(writer.error(), Kind::PreviousRecord { .. }));
}

#[test]
fn parents_pages_stand_only_in_the_first_segment() {
    let mut writer = Writer::new(NEAR_END, 1024);
    writer.record(10, 0, &[1; 900]);
    writer.timeline = 2;
    writer.record(10, 0, &[1; 3000]);
    assert_eq!(writer.read().unwrap().len(), 2);

    let mut writer = Writer::new(NEAR_END, 1024);
    writer.record(10, 0, &[1; 3000]);
    let mut reader = WalStreamReader::new(
        writer.start,
        segment_size(),
        1024,
        WalExpectations { timeline: Some(timeline(2)), ..WalExpectations::default() },
    );
    let error = reader.push(&writer.bytes, &mut Vec::new()).unwrap_err();
    assert_eq!(error.lsn, Lsn(5 * SEGMENT));
    assert_eq!(error.kind, Kind::Timeline { found: 1, expected: 2 });

    let mut writer = Writer::new(NEAR_END, 1024);
    writer.timeline = 2;
    writer.record(10, 0, &[1; 980]);
    writer.timeline = 1;
    writer.record(10, 0, &[1; 980]);
    writer.timeline = 2;
    assert_eq!(writer.error(), Kind::Timeline { found: 1, expected: 2 });
}

#[test]
fn what_was_not_told_is_learnt_from_the_first_page() {
    let mut writer = Writer::new(NEAR_END, 1024);
    writer.record(10, 0, &[1; 3000]);
    let expected = WalExpectations::default();
    let mut reader = WalStreamReader::new(writer.start, segment_size(), 1024, expected);
    reader.push(&writer.bytes, &mut Vec::new()).unwrap();
    writer.bytes[1024] ^= 1;
    let mut reader = WalStreamReader::new(writer.start, segment_size(), 1024, expected);
    let error = reader.push(&writer.bytes, &mut Vec::new()).unwrap_err();
    assert!(matches!(error.kind, Kind::Magic { .. }));
    assert_eq!(reader.push(&[], &mut Vec::new()), Err(error), "an error is final");
}

#[test]
fn an_impossible_beginning_is_refused() {
    let new = |start, block| {
        let expected = WalExpectations::default();
        let mut reader = WalStreamReader::new(Lsn(start), segment_size(), block, expected);
        reader.push(&[1], &mut Vec::new()).unwrap_err().kind
    };
    assert_eq!(new(0, 0), Kind::BlockSize { bytes: 0 });
    assert_eq!(new(0, 3000), Kind::BlockSize { bytes: 3000 });
    assert_eq!(new(0, 1 << 20), Kind::BlockSize { bytes: 1 << 20 });
    assert_eq!(new(8, 8192), Kind::NotAPageStart);
}

#[test]
fn pages_of_any_size_are_learnt_from_the_segment() {
    for block in [1024, 4096, 8192, 65_536] {
        let mut writer = Writer::new(SEGMENT, block);
        for n in 0..40_u8 {
            writer.record(10, 0, &[n; 3000]);
        }
        let mut reader =
            WalStreamReader::at_segment(Lsn(SEGMENT), segment_size(), WalExpectations::default());
        let mut records = Vec::new();
        reader.push(&writer.bytes, &mut records).unwrap();
        assert_eq!(records.len(), 40, "pages of {block} bytes");
    }
    let at = |start| {
        let mut reader =
            WalStreamReader::at_segment(Lsn(start), segment_size(), WalExpectations::default());
        reader
            .push(&Writer::new(SEGMENT, 8192).bytes, &mut Vec::new())
            .and_then(|()| reader.push(&[1], &mut Vec::new()))
    };
    assert_eq!(at(8192).unwrap_err().kind, Kind::NotAPageStart);
}

#[test]
fn errors_name_place_and_cause() {
    let mut writer = Writer::new(SEGMENT, 8192);
    writer.record(10, 0, b"one");
    writer.bytes[64] ^= 1;
    let error = writer.read().unwrap_err();
    assert!(error.to_string().starts_with("WAL at 0/100028: the record is damaged"), "{error}");
}

fn contents() -> impl Strategy<Value = Vec<(usize, bool)>> {
    let size = prop_oneof![0usize..200, 0usize..5000];
    proptest::collection::vec((size, proptest::bool::weighted(0.1)), 1..12)
}

fn written(contents: &[(usize, bool)]) -> (Writer, Vec<WalRecord>) {
    let mut writer = Writer::new(NEAR_END, 1024);
    let mut records = Vec::new();
    for (number, (size, switch)) in contents.iter().enumerate() {
        let fill = u8::try_from(number).unwrap();
        records.push(writer.record(10, 0x20, &vec![fill; *size]));
        // One switch at most: the segment behind it is written out whole.
        if *switch && !records.iter().any(WalRecord::is_switch) {
            records.push(writer.switch());
        }
    }
    (writer, records)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pieces_of_any_size_give_the_same_records(
        contents in contents(),
        pieces in proptest::collection::vec(1usize..1500, 1..20),
    ) {
        let (writer, records) = written(&contents);
        let mut reader = writer.reader();
        let mut out = Vec::new();
        let mut rest = &writer.bytes[..];
        for size in pieces.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, later) = rest.split_at((*size).min(rest.len()));
            reader.push(piece, &mut out).unwrap();
            rest = later;
            if let Some(last) = out.last().filter(|record| !record.is_switch()) {
                prop_assert!(last.span.end <= reader.position());
            }
        }
        prop_assert_eq!(out, records);
        prop_assert!(!reader.in_record());
    }

    #[test]
    fn a_flipped_bit_in_a_record_is_noticed(contents in contents(), place: prop::sample::Index, bit in 0u8..8) {
        let (mut writer, records) = written(&contents);
        let record = &records[place.index(records.len())];
        // The first page of a record is enough: its other pages have headers in between.
        let from = usize::try_from(record.span.start.distance_from(writer.start)).unwrap();
        let room = 1024 - from % 1024;
        let at = from + place.index(room.min(record.length()));
        writer.bytes[at] ^= 1 << bit;
        let mut out = Vec::new();
        let result = writer.reader().push(&writer.bytes, &mut out);
        // A longer length may wait for bytes that never come; the record is not handed out though.
        prop_assert!(result.is_err_and(|error| !error.is_end_of_wal()) || out.len() < records.len());
        prop_assert!(out.iter().all(|read| records.contains(read)));
        prop_assert!(!out.contains(record));
    }

    #[test]
    fn random_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..4000),
        cut in 0usize..2000,
        contents in contents(),
    ) {
        let (mut writer, _) = written(&contents);
        let at = cut.min(writer.bytes.len());
        writer.bytes.truncate(at);
        writer.bytes.extend(bytes);
        let _ = writer.read();
    }
}
