//! Files of more than a gibibyte: a relation of several segments, and a file that is no relation.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use holdfast_tests::pg::{StopMode, TestServer};
use holdfast_tests::protected::Protected;

/// A relation's segment (`RELSEG_SIZE` blocks of 8 KiB).
const SEGMENT: u64 = 1 << 30;
/// Where the foreign file has bytes that are not zero; the last place is its end.
const PLACES: [u64; 4] = [0, SEGMENT - 3, SEGMENT + (77 << 20) + 5, SEGMENT + (150 << 20)];
const MARK: &[u8] = b"not zero";
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

fn write_marks(path: &Path) {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).unwrap();
    for place in PLACES {
        file.seek(SeekFrom::Start(place)).unwrap();
        file.write_all(MARK).unwrap();
    }
}

/// The file has the marks and nothing else that is not zero.
fn assert_marks(path: &Path) {
    let mut file = File::open(path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), PLACES[3] + MARK.len() as u64);
    let (mut at, mut buffer, mut found) = (0_u64, vec![0_u8; ZEROS.len()], Vec::new());
    loop {
        let count = file.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        if buffer[..count] != ZEROS[..count] {
            let bytes = buffer[..count].iter().enumerate().filter(|(_, byte)| **byte != 0);
            found.extend(bytes.map(|(offset, byte)| (at + offset as u64, *byte)));
        }
        at += count as u64;
    }
    let marks =
        |place: u64| MARK.iter().enumerate().map(move |(i, byte)| (place + i as u64, *byte));
    assert_eq!(found, PLACES.into_iter().flat_map(marks).collect::<Vec<_>>());
}

#[test]
fn a_relation_and_a_file_of_more_than_a_gibibyte() {
    let mut server = TestServer::start(15).unwrap();
    server.psql("CREATE TABLE large (n int, filler text)").unwrap();
    server.psql("INSERT INTO large SELECT n, 'before' FROM generate_series(1, 1000) n").unwrap();
    let file = server.psql("SELECT pg_relation_filepath('large')").unwrap();
    server.stop(StopMode::Fast).unwrap();
    // The first segment is filled up with pages that nobody has used yet, as a crash leaves them.
    let segment = server.data().join(&file);
    OpenOptions::new().write(true).open(&segment).unwrap().set_len(SEGMENT).unwrap();
    let foreign = "base/left_behind_by_somebody";
    write_marks(&server.data().join(foreign));
    server.start_again().unwrap();
    server
        .psql("INSERT INTO large SELECT -n, repeat('x', 1000) FROM generate_series(1, 100) n")
        .unwrap();
    server.psql("CHECKPOINT").unwrap();
    let second = server.data().join(format!("{file}.1"));
    assert!(fs::metadata(&second).unwrap().len() > 0, "the relation has no second segment");

    let site = Protected::new(server).unwrap();
    let backup = &site.backup().unwrap()["snapshot"];
    assert!(backup["bytes_logical"].as_u64().unwrap() > 2 * SEGMENT);
    assert!(
        backup["bytes_added"].as_u64().unwrap() < SEGMENT / 10,
        "zeros cost nothing: {}",
        backup["bytes_added"]
    );
    let target = "UPDATE large SET filler = 'after' WHERE n < 0 RETURNING pg_current_xact_id()";
    let xid = site.server.psql(target).unwrap().lines().next().unwrap().to_owned();
    site.server.psql("DELETE FROM large").unwrap();
    site.archive().unwrap();

    let copy = site.restore(&format!("xid:{xid}"), "copy", &["--start"]).unwrap();
    let rows = "SELECT filler, count(*), min(n), max(n) FROM large GROUP BY 1 ORDER BY 1";
    assert_eq!(copy.psql(rows).unwrap(), "after|100|-100|-1\nbefore|1000|1|1000");
    assert_eq!(fs::metadata(copy.data().join(&file)).unwrap().len(), SEGMENT);
    assert_marks(&copy.data().join(foreign));
}
