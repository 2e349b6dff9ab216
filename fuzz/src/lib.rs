//! Every parser of bytes that come from outside, as a function that must not panic whatever it is
//! given. Where a parser has an inverse, or may be fed in pieces, that is compared too.
//!
//! `cargo xtask prove fuzz` drives them with libFuzzer, which follows the coverage of our own crates;
//! the ordinary tests run the corpus and mutate it for some seconds (`tests/corpus.rs`).

use holdfast_postgres::{
    BackupLabel, BackupManifest, ControlFile, IncrementalError, IncrementalEvent,
    IncrementalReader, Lsn, ManifestError, ManifestFile, ManifestReader, RecordSpan,
    SystemIdentifier, TarError, TarEvent, TarParser, TimelineHistory, TimelineId, VersionTraits,
    WalExpectations, WalFileName, WalRecord, WalSegmentSize, WalStreamReader, Xid, decode_change,
    decode_event, parse_tablespace_map, relation_file, render_tablespace_map,
};

/// A parser to be fuzzed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Also the name of its folder in the corpus.
    pub name: &'static str,
    /// Runs it; panics when something is wrong.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 9] = [
    Target { name: "manifest", run: manifest },
    Target { name: "tar", run: tar },
    Target { name: "wal", run: wal },
    Target { name: "history", run: history },
    Target { name: "label", run: label },
    Target { name: "incremental", run: incremental },
    Target { name: "index", run: index },
    Target { name: "segment_index", run: segment_index },
    Target { name: "wire", run: wire },
];

/// Where a second feeding of the same bytes is cut: decided by the bytes themselves.
fn cut(bytes: &[u8]) -> usize {
    let sum = bytes
        .iter()
        .fold(7_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    sum.checked_rem(bytes.len()).unwrap_or(0)
}

/// `backup_manifest`: read whole, and in two pieces with the same result.
fn manifest(bytes: &[u8]) {
    let whole = BackupManifest::parse(bytes);
    let mut reader = ManifestReader::new();
    let mut files: Vec<ManifestFile> = Vec::new();
    let (first, second) = bytes.split_at(cut(bytes));
    let pieces = reader
        .push(first, &mut |file| files.push(file))
        .and_then(|()| reader.push(second, &mut |file| files.push(file)))
        .and_then(|()| reader.finish());
    if matches!(whole, Err(ManifestError::ListedTwice { .. })) {
        // Only who keeps all files can see that.
        return;
    }
    assert_eq!(whole.is_ok(), pieces.is_ok(), "in pieces it is another manifest");
    if let Ok(whole) = whole {
        assert_eq!(whole.files, files);
    }
}

/// What a tar archive was said to contain.
#[derive(Debug, PartialEq)]
enum Member {
    Entry(String),
    Data(Vec<u8>),
    End,
}

fn members(pieces: &[&[u8]]) -> Result<Vec<Member>, TarError> {
    let mut parser = TarParser::new();
    let mut members = Vec::new();
    for piece in pieces {
        parser.push(piece, &mut |event| {
            match event {
                TarEvent::Entry(entry) => {
                    assert!(!entry.path.starts_with('/'), "an absolute path");
                    assert!(entry.path.split('/').all(|part| part != ".."), "a path upwards");
                    members.push(Member::Entry(format!("{entry:?}")));
                }
                TarEvent::Data(data) => match members.last_mut() {
                    Some(Member::Data(before)) => before.extend_from_slice(data),
                    _ => members.push(Member::Data(data.to_vec())),
                },
                TarEvent::EndEntry => members.push(Member::End),
            }
            Ok::<(), TarError>(())
        })?;
    }
    parser.finish()?;
    Ok(members)
}

/// A tar archive: read whole, and in two pieces with the same result; nothing leads out of its folder.
fn tar(bytes: &[u8]) {
    let (first, second) = bytes.split_at(cut(bytes));
    match (members(&[bytes]), members(&[first, second])) {
        (Ok(whole), Ok(pieces)) => assert_eq!(whole, pieces, "in pieces it is another archive"),
        (whole, pieces) => assert_eq!(whole.is_ok(), pieces.is_ok(), "{whole:?} {pieces:?}"),
    }
}

/// The first byte chooses: pages of WAL with their records, or one record whose CRC was right.
fn wal(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let majors = VersionTraits::all();
    let major = majors[usize::from(choice >> 1) % majors.len()].major;
    if choice & 1 == 0 {
        pages(bytes, major);
    } else if let Some((head, data)) = bytes.split_first_chunk::<6>() {
        let record = WalRecord {
            span: RecordSpan { start: Lsn(0x0100_0028), end: Lsn(0x0100_0060) },
            prev: Lsn(0x0100_0000),
            xid: Xid(u32::from_le_bytes([head[2], head[3], head[4], head[5]])),
            rmgr: head[0],
            info: head[1],
            data: data.to_vec(),
        };
        decode(&record, major);
    }
}

fn pages(bytes: &[u8], major: u32) {
    let Some(size) = WalSegmentSize::new(1 << 20) else { return };
    // Where the first page says that it stands (`xlp_pageaddr`), so that captured pages are read.
    let start = bytes
        .get(8..)
        .and_then(|rest| rest.first_chunk::<8>())
        .map_or(0, |at| u64::from_le_bytes(*at));
    let read = |pieces: &[&[u8]]| {
        let mut reader = WalStreamReader::new(Lsn(start), size, 8192, WalExpectations::default());
        let mut records = Vec::new();
        let result = pieces.iter().try_for_each(|piece| reader.push(piece, &mut records));
        (records, reader.last_record(), result)
    };
    let (first, second) = bytes.split_at(cut(bytes));
    let whole = read(&[bytes]);
    let pieces = read(&[first, second]);
    assert_eq!(whole.0, pieces.0, "in pieces it is other WAL");
    assert_eq!(whole.1, pieces.1);
    assert_eq!(whole.2.is_ok(), pieces.2.is_ok(), "{:?} {:?}", whole.2, pieces.2);
    for pair in whole.0.windows(2) {
        assert!(pair[0].span.end <= pair[1].span.start, "records overlap");
    }
    for record in &whole.0 {
        decode(record, major);
    }
}

fn decode(record: &WalRecord, major: u32) {
    let _ = decode_event(record, major);
    let _ = record.main_data(major);
    let Ok((blocks, main)) = record.parts(major) else { return };
    let _ = decode_change(record, &blocks, main, major);
    for block in &blocks {
        if let Some(image) = &block.image
            && let Some(page) = image.page(8192)
        {
            assert_eq!(page.len(), 8192);
            let _ = holdfast_postgres::check_page(&page, block.block, Lsn(u64::MAX));
            for (_, tuple) in holdfast_postgres::heap::tuples(&page) {
                let _ = holdfast_postgres::heap::class_row(tuple, major);
                let _ = holdfast_postgres::heap::named_row(tuple);
                let _ = holdfast_postgres::heap::is_current(tuple);
            }
        }
    }
}

/// A timeline's history: what is read can be written and read again.
fn history(bytes: &[u8]) {
    let Some((number, content)) = bytes.split_first_chunk::<2>() else { return };
    let Some(timeline) = TimelineId::new(u32::from(u16::from_le_bytes(*number))) else { return };
    if let Ok(history) = TimelineHistory::parse(timeline, content) {
        // A reason is written without what would break its line: from then on it stays as it is.
        let written = history.render();
        let again = TimelineHistory::parse(timeline, &written);
        let facts = |of: &TimelineHistory| {
            of.switches.iter().map(|s| (s.parent, s.switch_lsn)).collect::<Vec<_>>()
        };
        assert_eq!(again.as_ref().map(facts), Ok(facts(&history)), "not read as it was written");
        assert_eq!(again.map(|again| again.render()), Ok(written), "not written as it was read");
        for switch in &history.switches {
            assert!(history.is_ancestor(switch.parent));
        }
        let _ = history.timeline_at(Lsn(0x0300_0000));
    }
    let text = String::from_utf8_lossy(content);
    let _ = TimelineHistory::parse_file_name(&text);
    if let Some(size) = WalSegmentSize::new(16 << 20)
        && let Some(name) = WalFileName::parse(&text, size)
    {
        assert_eq!(name.render(size), text, "a segment's name is not written as it was read");
    }
}

/// `backup_label`, `tablespace_map`, `pg_control`, names of relation files and textual numbers.
fn label(bytes: &[u8]) {
    let _ = BackupLabel::parse(bytes);
    if let Ok(map) = parse_tablespace_map(bytes) {
        let again = parse_tablespace_map(&render_tablespace_map(&map));
        assert_eq!(again.as_ref(), Ok(&map), "a map is not read as it was written");
    }
    let _ = ControlFile::parse(bytes);
    let _ = holdfast_postgres::heap::relation_map(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = relation_file(text);
        if let Ok(lsn) = text.parse::<Lsn>() {
            assert_eq!(lsn.to_string().parse(), Ok(lsn));
        }
        let _ = text.parse::<SystemIdentifier>();
    }
}

/// A file of an incremental backup, as read with the sizes that the first two bytes choose: whole, and
/// in two pieces with the same result.
fn incremental(bytes: &[u8]) {
    let Some(([block, segment], bytes)) = bytes.split_first_chunk::<2>() else { return };
    let block_size = 1024_u32 << (block % 6);
    let segment_blocks = u32::from(*segment) + 1;
    let read = |pieces: &[&[u8]]| {
        let mut reader = IncrementalReader::new(block_size, segment_blocks)?;
        let (mut header, mut blocks) = (None, Vec::new());
        let mut sink = |event: IncrementalEvent<'_>| {
            match event {
                IncrementalEvent::Header(read) => header = Some(read.clone()),
                IncrementalEvent::Block { number, page } => blocks.push((number, page.to_vec())),
            }
            Ok::<_, IncrementalError>(())
        };
        pieces.iter().try_for_each(|piece| reader.push(piece, &mut sink))?;
        reader.finish()?;
        Ok::<_, IncrementalError>((header, blocks))
    };
    let (first, second) = bytes.split_at(cut(bytes));
    let whole = read(&[bytes]);
    assert_eq!(whole.is_ok(), read(&[first, second]).is_ok(), "in pieces it is another file");
    let Ok((Some(header), blocks)) = whole else { return };
    assert_eq!(read(&[first, second]), Ok((Some(header.clone()), blocks.clone())));
    assert_eq!(blocks.iter().map(|(number, _)| *number).collect::<Vec<_>>(), header.blocks);
    assert!(blocks.windows(2).all(|pair| pair[0].0 < pair[1].0), "blocks are not in order");
    assert!(header.length_in_blocks() <= segment_blocks, "it is longer than a segment");
    for (number, page) in &blocks {
        assert_eq!(page.len(), block_size as usize);
        assert_eq!(header.source_of(*number), holdfast_postgres::BlockSource::Incremental);
    }
}

/// Stored objects: their plain parts, their metadata, index objects, file tables, frames.
fn index(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    match choice % 4 {
        0 => holdfast_repository::fuzzing::container(bytes),
        1 => holdfast_repository::fuzzing::index(bytes),
        2 => holdfast_repository::fuzzing::content(bytes),
        _ => holdfast_repository::fuzzing::recovery_key(&String::from_utf8_lossy(bytes)),
    }
}

/// What stands beside archived WAL, as JSON.
fn segment_index(bytes: &[u8]) {
    holdfast_engine::fuzzing::segment_indexes(bytes);
}

/// What a server sends, from the first message of an authentication on.
fn wire(bytes: &[u8]) {
    let _ = holdfast_wire::fuzzing::frames(bytes);
}
