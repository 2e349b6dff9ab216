#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// The first members of a `base.tar` a server sent.
const ARCHIVE: &[u8] = include_bytes!("../../testdata/base-17.tar");

/// What a whole archive contains.
#[derive(Debug, Default, PartialEq)]
struct Collected(Vec<(TarEntry, Vec<u8>)>, bool);

fn read(pieces: &[&[u8]]) -> Result<Collected, TarError> {
    let mut collected = Collected::default();
    let mut parser = TarParser::default();
    for piece in pieces {
        parser.push::<TarError>(piece, &mut |event| {
            match event {
                TarEvent::Entry(entry) => {
                    assert!(!collected.1, "an entry inside an entry");
                    collected.1 = true;
                    collected.0.push((entry, Vec::new()));
                }
                TarEvent::Data(data) => {
                    assert!(collected.1 && !data.is_empty());
                    collected.0.last_mut().unwrap().1.extend(data);
                }
                TarEvent::EndEntry => {
                    assert!(collected.1);
                    collected.1 = false;
                }
            }
            Ok(())
        })?;
    }
    parser.finish()?;
    for (entry, data) in &collected.0 {
        assert_eq!(entry.size, data.len() as u64);
    }
    Ok(collected)
}

/// A header as a server writes it.
fn header(name: &[u8], kind: u8, size: u64, link: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000600 ");
    if size < 1 << 33 {
        block[124..136].copy_from_slice(format!("{size:011o} ").as_bytes());
    } else {
        block[124] = 0x80;
        block[128..136].copy_from_slice(&size.to_be_bytes());
    }
    block[136..148].copy_from_slice(b"14722234000 ");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block
}

fn seal(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn error(block: &[u8; BLOCK]) -> TarError {
    read(&[block]).unwrap_err()
}

#[test]
fn reads_what_a_server_sends() {
    let collected = read(&[ARCHIVE]).unwrap();
    let names: Vec<_> = collected
        .0
        .iter()
        .map(|(entry, _)| (entry.path.as_str(), entry.kind.to_string(), entry.size))
        .collect();
    assert_eq!(
        names,
        [
            ("backup_label", "file".to_owned(), 204),
            ("tablespace_map", "file".to_owned(), 0),
            ("pg_stat", "folder".to_owned(), 0),
            ("pg_notify", "folder".to_owned(), 0),
            ("PG_VERSION", "file".to_owned(), 3),
            ("global", "folder".to_owned(), 0),
            ("global/1261", "file".to_owned(), 8192),
        ]
    );
    assert_eq!(collected.0[4].1, b"17\n");
    assert_eq!(collected.0[4].0.mode, 0o600);
    assert_eq!(collected.0[2].0.mode, 0o700);
    assert!(collected.0[4].0.mtime > 1_700_000_000);
    let label = crate::label::BackupLabel::parse(&collected.0[0].1).unwrap();
    assert_eq!(label.label, "golden");
}

#[test]
fn an_end_may_be_there_or_not() {
    let whole = read(&[ARCHIVE]).unwrap();
    assert_eq!(read(&[ARCHIVE, &[0; 512]]).unwrap(), whole);
    assert_eq!(read(&[ARCHIVE, &[0; 1024]]).unwrap(), whole);
    assert_eq!(read(&[ARCHIVE, &[0; 10_240]]).unwrap(), whole);
    assert_eq!(read(&[]).unwrap(), Collected::default());
    let offset = ARCHIVE.len() as u64;
    assert_eq!(read(&[ARCHIVE, &[0; 511]]), Err(TarError::Truncated { offset: offset + 511 }));
    assert_eq!(read(&[ARCHIVE, &[0; 513]]), Err(TarError::Truncated { offset: offset + 513 }));
    assert_eq!(
        read(&[ARCHIVE, &[0; 512], ARCHIVE]),
        Err(TarError::AfterEnd { offset: offset + 512 })
    );
    let cut = ARCHIVE.len() - 1;
    assert_eq!(read(&[&ARCHIVE[..cut]]), Err(TarError::Truncated { offset: offset - 1 }));
}

#[test]
fn paths_are_made_plain() {
    let path = |name: &[u8]| read(&[&header(name, b'5', 0, b"")]).unwrap().0[0].0.path.clone();
    assert_eq!(path(b"./pg_wal/archive_status"), "pg_wal/archive_status");
    assert_eq!(path(b"base/"), "base");
    assert_eq!(path(b"a//b/./c"), "a/b/c");
    assert_eq!(path(b"..a/b.."), "..a/b..");
    let mut prefixed = header(b"file", b'0', 0, b"");
    prefixed[345..348].copy_from_slice(b"dir");
    seal(&mut prefixed);
    assert_eq!(read(&[&prefixed]).unwrap().0[0].0.path, "dir/file");
}

#[test]
fn paths_that_lead_out_are_refused() {
    for name in [&b"/etc/passwd"[..], b"..", b"a/../b", b"", b".", b"./", b"a\0b"] {
        let error = error(&header(name, b'0', 0, b""));
        assert!(matches!(error, TarError::UnsafePath { offset: 0, .. }), "{name:?}: {error}");
    }
    assert!(matches!(error(&header(b"a\xFF", b'0', 0, b"")), TarError::NotUtf8 { .. }));
    assert!(matches!(error(&header(b"link", b'2', 0, b"")), TarError::UnsafePath { .. }));
}

#[test]
fn links_keep_their_target() {
    let collected = read(&[&header(b"pg_tblspc/16400", b'2', 0, b"/data/ts")]).unwrap();
    let kind = TarKind::Symlink { target: "/data/ts".to_owned() };
    assert_eq!(collected.0[0].0.kind.to_string(), "link");
    assert_eq!(collected.0[0].0.kind, kind);
}

#[test]
fn kinds_no_server_sends_are_refused() {
    for kind in [b'1', b'3', b'x', b'g', b'L', 0xFF] {
        let error = error(&header(b"a", kind, 0, b""));
        assert_eq!(error, TarError::Unsupported { offset: 0, kind: kind.into() });
    }
    for kind in [b'5', b'2'] {
        assert!(matches!(error(&header(b"a", kind, 1, b"t")), TarError::Unsupported { .. }));
    }
}

#[test]
fn sizes_beyond_octal_are_read() {
    let mut parser = TarParser::new();
    let mut size = 0;
    let huge = 9 << 30;
    parser
        .push::<TarError>(&header(b"big", b'0', huge, b""), &mut |event| {
            if let TarEvent::Entry(entry) = event {
                size = entry.size;
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(size, huge);
    assert_eq!(parser.offset(), 512);
    assert_eq!(
        error(&header(b"big", b'0', u64::MAX, b"")),
        TarError::Number { offset: 0, field: "size" }
    );
    let mut negative = header(b"a", b'0', 0, b"");
    negative[124] = 0xFF;
    seal(&mut negative);
    assert_eq!(error(&negative), TarError::Number { offset: 0, field: "size" });
    let mut beyond = header(b"a", b'0', 1 << 40, b"");
    beyond[125] = 1;
    seal(&mut beyond);
    assert_eq!(error(&beyond), TarError::Number { offset: 0, field: "size" });
    let mut text = header(b"a", b'0', 0, b"");
    text[100] = b'8';
    seal(&mut text);
    assert_eq!(error(&text), TarError::Number { offset: 0, field: "mode" });
}

#[test]
fn the_sinks_error_comes_back() {
    #[derive(Debug, PartialEq)]
    enum Refusal {
        Tar,
        Sink,
    }
    impl From<TarError> for Refusal {
        fn from(_: TarError) -> Self {
            Refusal::Tar
        }
    }
    let mut parser = TarParser::new();
    let result = parser.push(ARCHIVE, &mut |_| Err(Refusal::Sink));
    assert_eq!(result, Err(Refusal::Sink));
    let result = TarParser::new().push(&[1; 512], &mut |_| Err(Refusal::Sink));
    assert_eq!(result, Err(Refusal::Tar));
}

proptest! {
    #[test]
    fn pieces_of_any_size_give_the_same_members(
        sizes in proptest::collection::vec(0u64..1500, 0..6),
        pieces in proptest::collection::vec(1usize..700, 1..10),
    ) {
        let mut archive = Vec::new();
        for (number, size) in sizes.iter().enumerate() {
            archive.extend(header(format!("base/{number}").as_bytes(), b'0', *size, b""));
            archive.extend((0..*size).map(|byte| byte.to_le_bytes()[0]));
            archive.resize(archive.len().next_multiple_of(BLOCK), 0);
        }
        let mut parts = Vec::new();
        let mut rest = &archive[..];
        for size in pieces.iter().cycle() {
            let (part, later) = rest.split_at((*size).min(rest.len()));
            parts.push(part);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        let collected = read(&parts).unwrap();
        prop_assert_eq!(&collected, &read(&[&archive]).unwrap());
        prop_assert_eq!(collected.0.len(), sizes.len());
    }

    #[test]
    fn a_flipped_bit_in_a_header_is_noticed(bit in 0usize..BLOCK * 8) {
        let whole = header(b"base/5/1259", b'0', 0, b"");
        let mut block = whole;
        block[bit / 8] ^= 1 << (bit % 8);
        let outcome = read(&[&block]);
        // Blanks and NULs around the checksum's digits say nothing: a leading zero that became a
        // blank leaves the same number.
        if (148 * 8..156 * 8).contains(&bit) && outcome.is_ok() {
            prop_assert_eq!(outcome, read(&[&whole]));
        } else {
            prop_assert!(outcome.is_err(), "{:?}", outcome);
        }
    }

    #[test]
    fn random_headers_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), BLOCK..2000), sealed: bool) {
        if sealed {
            let mut block: [u8; BLOCK] = bytes[..BLOCK].try_into().unwrap();
            seal(&mut block);
            bytes[..BLOCK].copy_from_slice(&block);
        }
        let mut parser = TarParser::new();
        let _ = parser.push::<TarError>(&bytes, &mut |_| Ok(()));
    }
}
