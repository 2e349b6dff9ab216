//! PostgreSQL's own recovery tests about where WAL ends, with the archive in the place of its tools:
//! 026_overwrite_contrecord, 039_end_of_wal, 043_no_contrecord_switch.
#![allow(clippy::unwrap_used)]

use holdfast_tests::{
    pg::{StopMode, TestServer},
    protected::{CLUSTER, Protected},
    wait_for,
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

const SEGMENT: u64 = 1 << 20;
const PAGE: usize = 8192;
const ROWS: &str = "SELECT coalesce(string_agg(n::text, ' ' ORDER BY n), '') FROM t";

fn lsn(text: &str) -> u64 {
    let (high, low) = text.split_once('/').unwrap();
    u64::from_str_radix(high, 16).unwrap() << 32 | u64::from_str_radix(low, 16).unwrap()
}

fn server(major: u32) -> TestServer {
    let server = TestServer::builder(major)
        .wal_segment_size(1)
        .config("autovacuum = off")
        .config("wal_keep_size = 1GB")
        .start()
        .unwrap();
    server.psql("CREATE TABLE t (n int)").unwrap();
    server
}

fn add(server: &TestServer, n: u32) {
    server.psql(&format!("INSERT INTO t VALUES ({n})")).unwrap();
}

fn insert_position(server: &TestServer) -> u64 {
    lsn(&server.psql("SELECT pg_current_wal_insert_lsn()").unwrap())
}

fn message(server: &TestServer, bytes: u64) {
    let sql = format!("SELECT pg_logical_emit_message(true, 'test', repeat('x', {bytes}))");
    server.psql(&sql).unwrap();
}

/// Writes until fewer than `left` bytes of the segment are left, but more than a page.
fn near_the_end_of_a_segment(server: &TestServer, left: u64) {
    loop {
        let rest = SEGMENT - insert_position(server) % SEGMENT;
        if rest <= left && rest > PAGE as u64 {
            return;
        }
        message(server, if rest > left { (rest - left).clamp(8, 100_000) } else { rest });
    }
}

fn objects(site: &Protected, below: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(site.url()).join(below)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path())
            } else {
                found.push(entry.path())
            }
        }
    }
    found.sort();
    found
}

fn rows(site: &Protected, cluster: &str, name: &str) -> String {
    let destination = site.destination(name);
    let result = site
        .cli
        .json(&[
            "restore",
            "run",
            cluster,
            "--target",
            "latest",
            "--to",
            &destination,
            "--start",
            "--at-target",
            "pause",
        ])
        .unwrap();
    let dsn = result["dsn"].as_str().unwrap().to_owned();
    let told = std::process::Command::new(site.server.binaries().program("psql"))
        .args(["-XqAt", "-c", ROWS, &dsn])
        .output()
        .unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    site.cli.json(&["restore", "discard", result["job"].as_str().unwrap()]).unwrap();
    String::from_utf8_lossy(&told.stdout).trim().to_owned()
}

/// A crash loses the end of a record that crosses into another segment. The server goes on with a page
/// that says so; the archive passes it, and so does a restore.
fn overwrite_contrecord(major: u32) {
    let mut site = Protected::new(server(major)).unwrap();
    site.backup().unwrap();
    add(&site.server, 1);
    site.archive().unwrap();
    near_the_end_of_a_segment(&site.server, 60_000);
    let began = insert_position(&site.server);
    message(&site.server, 617_280);
    let end = insert_position(&site.server);
    assert_eq!(end / SEGMENT, began / SEGMENT + 1, "the record crosses");
    let last = format!("SELECT pg_walfile_name('{:X}/{:X}')", end >> 32, end & 0xFFFF_FFFF);
    let last = site.server.psql(&last).unwrap();
    site.server.stop(StopMode::Immediate).unwrap();
    fs::remove_file(site.server.data().join("pg_wal").join(&last)).unwrap();
    site.server.start_again().unwrap();
    add(&site.server, 2);
    site.archive().unwrap();
    let points = site.points().unwrap();
    assert_eq!(points["windows"].as_array().unwrap().len(), 1, "{points}");
    assert!(points["needs_snapshot"].is_null(), "{points}");
    assert_eq!(rows(&site, CLUSTER, "copy"), "1 2");
    // A backup behind it, and the whole of it read back.
    site.backup().unwrap();
    add(&site.server, 3);
    site.archive().unwrap();
    assert_eq!(rows(&site, CLUSTER, "again"), "1 2 3");
    let verified = site.cli.json(&["verify", CLUSTER]).unwrap();
    assert_eq!(verified["ok"], true, "{verified}");
}

#[test]
fn recovery_026_overwrite_contrecord_on_15() {
    overwrite_contrecord(15);
}

#[test]
fn recovery_026_overwrite_contrecord_on_17() {
    overwrite_contrecord(17);
}

/// The archive ends within a record that crosses segments, and a copy that was restored to that end is
/// promoted: it does not continue the record, and its own timeline is archived and restored.
fn no_contrecord_switch(major: u32) {
    let mut site = Protected::new(server(major)).unwrap();
    site.backup().unwrap();
    add(&site.server, 1);
    near_the_end_of_a_segment(&site.server, 60_000);
    let began = insert_position(&site.server);
    message(&site.server, 2 * SEGMENT + 100_000);
    add(&site.server, 2);
    site.archive().unwrap();
    site.server.stop(StopMode::Immediate).unwrap();
    // What the archive has behind the segment in which the record begins is gone.
    let first = began / SEGMENT;
    for object in objects(&site, "wal").into_iter().chain(objects(&site, "slices")) {
        let named = object.components().find_map(|part| {
            let part = part.as_os_str().to_str()?;
            (part.len() == 24).then(|| u64::from_str_radix(&part[16..], 16).ok()).flatten()
        });
        // Segments of 1 MiB: 4096 to a log file, none of which is left behind here.
        if named.is_some_and(|number| number > first) {
            fs::remove_file(object).unwrap();
        }
    }
    let more = ["--start", "--at-target", "promote"];
    let copy = site.restore("latest", "copy", &more).unwrap();
    assert_eq!(copy.psql(ROWS).unwrap(), "1");
    // The control file follows with the first checkpoint; WAL is written to the new timeline at once.
    assert_eq!(
        copy.psql("SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)").unwrap(),
        "00000002"
    );
    let data = copy.keep();
    // The private server is stopped in good order, and the directory goes on as a server of its own.
    let pid = fs::read_to_string(data.join("postmaster.pid")).unwrap();
    let pid = rustix::process::Pid::from_raw(pid.lines().next().unwrap().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    wait_for("the copy to stop", Duration::from_mins(1), || !data.join("postmaster.pid").exists());
    let own = TestServer::builder(major).data_directory(&data).start().unwrap();
    site.cli.json(&["cluster", "add", "own", "--dsn", &own.dsn()]).unwrap();
    add(&own, 10);
    let flushed = own.psql("SELECT pg_current_wal_flush_lsn()").unwrap();
    let result = site.cli.json(&["archive", "own", "--once-to", &flushed]).unwrap();
    assert_eq!(result["timeline"], 2, "{result}");
    assert_eq!(rows(&site, CLUSTER, "latest"), "1 10");
    site.cli.json(&["backup", "own"]).unwrap();
    add(&own, 11);
    let flushed = own.psql("SELECT pg_current_wal_flush_lsn()").unwrap();
    site.cli.json(&["archive", "own", "--once-to", &flushed]).unwrap();
    assert_eq!(rows(&site, "own", "own-latest"), "1 10 11");
}

#[test]
fn recovery_043_no_contrecord_switch_on_15() {
    no_contrecord_switch(15);
}

#[test]
fn recovery_043_no_contrecord_switch_on_17() {
    no_contrecord_switch(17);
}

/// The end of a crashed server's WAL, with everything behind it that a recycled file or a torn write may
/// leave there: the archive takes what is whole, to the byte, and a restore has every commit of it.
fn end_of_wal(major: u32) {
    let mut site = Protected::new(server(major)).unwrap();
    site.backup().unwrap();
    add(&site.server, 1);
    near_the_end_of_a_segment(&site.server, 400_000);
    add(&site.server, 2);
    let name = site.server.psql("SELECT pg_walfile_name(pg_current_wal_insert_lsn())").unwrap();
    // The last record, and behind it room for another one's header on the same page.
    let (previous, end) = loop {
        let previous = insert_position(&site.server);
        site.server.psql("SELECT pg_logical_emit_message(false, 'test', '')").unwrap();
        let end = insert_position(&site.server);
        wait_for("the last record to be flushed", Duration::from_mins(1), || {
            lsn(&site.server.psql("SELECT pg_current_wal_flush_lsn()").unwrap()) >= end
        });
        let on_page = end % PAGE as u64;
        // The server writes now and then by itself.
        let last = end - previous < 100 && insert_position(&site.server) == end;
        if last && on_page > 100 && on_page < PAGE as u64 - 100 {
            break (previous, end);
        }
        message(&site.server, 400);
    };
    assert_eq!(previous / SEGMENT, end / SEGMENT);
    site.server.stop(StopMode::Immediate).unwrap();
    let wal = site.server.data().join("pg_wal");
    let data = site.server.data().display().to_string();
    let put = |path: &Path| {
        let path = path.display().to_string();
        site.cli.run(&["wal-put", "--data-directory", &data, &path]).unwrap()
    };
    // Whole segments that nobody has streamed.
    let mut whole: Vec<_> = fs::read_dir(&wal)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let file = path.file_name().unwrap().to_string_lossy().into_owned();
            file.len() == 24 && file < name
        })
        .collect();
    whole.sort();
    let held: Vec<_> = objects(&site, "wal");
    for path in whole {
        if !held.iter().any(|object| object.ends_with(path.file_name().unwrap())) {
            let told = put(&path);
            assert_eq!(told.code, 0, "{told}");
        }
    }
    let original = fs::read(wal.join(&name)).unwrap();
    let at = usize::try_from(end % SEGMENT).unwrap();
    let left_on_page = u32::try_from(PAGE - at % PAGE).unwrap();
    // A record's header: total length, xid, prev, info, resource manager, two spare bytes, CRC.
    let header = |length: u32, prev: u64| {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend_from_slice(&0_u32.to_le_bytes());
        bytes.extend_from_slice(&prev.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&7_u32.to_le_bytes());
        bytes
    };
    let next_page = (at / PAGE + 1) * PAGE;
    // A page's header: magic, flags, timeline, address, and what is left of the record before.
    let page = |magic: [u8; 2], flags: u16, address: u64, rest: u32| {
        let mut bytes = magic.to_vec();
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(&1_u32.to_le_bytes());
        bytes.extend_from_slice(&address.to_le_bytes());
        bytes.extend_from_slice(&rest.to_le_bytes());
        bytes
    };
    let behind = |record: &[u8], page: &[u8]| {
        let mut content = original.clone();
        content[at..].fill(0);
        content[at..at + record.len()].copy_from_slice(record);
        content[next_page..next_page + page.len()].copy_from_slice(page);
        content
    };
    let magic = [original[0], original[1]];
    let address = end / SEGMENT * SEGMENT + next_page as u64;
    let crossing = header(left_on_page + 200, previous);
    // And what PostgreSQL says where it stops.
    let variants: [(&str, Vec<u8>); 11] = [
        ("invalid record length", behind(&[], &[])),
        ("invalid record length", behind(&1_u32.to_le_bytes(), &[])),
        ("incorrect resource manager data checksum", behind(&header(64, previous), &[])),
        ("incorrect prev-link", behind(&header(64, 0xDEAD_BEEF), &[])),
        ("invalid magic number 0000", behind(&crossing, &[])),
        ("invalid magic number 0101", behind(&crossing, &page([1, 1], 1, address, 200))),
        ("unexpected pageaddr", behind(&crossing, &page(magic, 1, address - SEGMENT, 200))),
        ("there is no contrecord flag", behind(&crossing, &page(magic, 0, address, 0))),
        ("invalid contrecord length 40000", behind(&crossing, &page(magic, 1, address, 40_000))),
        // Noise, and what was there.
        ("", {
            let mut random = holdfast_tests::random::Random::announced("end_of_wal");
            let mut content = original.clone();
            content[at..].fill_with(|| random.next_u64().to_le_bytes()[0]);
            content
        }),
        ("", original.clone()),
    ];
    let elsewhere = site.root().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let partial = elsewhere.join(format!("{name}.partial"));
    for (n, (why, content)) in variants.into_iter().enumerate() {
        fs::write(elsewhere.join(&name), &content).unwrap();
        let said = std::process::Command::new(site.server.pg_waldump())
            .arg("-p")
            .args([&elsewhere, Path::new(&name)])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.contains(why), "{n}: not {why:?}: {said}");
        fs::write(&partial, content).unwrap();
        let told = put(&partial);
        // The first is stored; each of the others is the same once its end is found.
        assert_eq!(told.code, 0, "{n}, {why}: {told}");
    }
    let points = site.points().unwrap();
    let window: &Value = points["windows"].as_array().unwrap().last().unwrap();
    assert_eq!(lsn(window["to_lsn"].as_str().unwrap()), end, "{points}");
    assert_eq!(rows(&site, CLUSTER, "copy"), "1 2");

    // The server itself comes up behind the same end, and the archive goes on with it.
    site.server.start_again().unwrap();
    add(&site.server, 3);
    site.archive().unwrap();
    assert_eq!(rows(&site, CLUSTER, "on"), "1 2 3");
}

#[test]
fn recovery_039_end_of_wal_on_15() {
    end_of_wal(15);
}

#[test]
fn recovery_039_end_of_wal_on_17() {
    end_of_wal(17);
}
