//! A backup's memory is bounded, whatever the size of the database.
//!
//! With `HOLDFAST_PROVE_SECONDS` also for 2 GB.
#![allow(clippy::unwrap_used)]

use holdfast_tests::{
    cli::Running,
    pg::TestServer,
    protected::{CLUSTER, Protected},
};
use std::{fs, thread, time::Duration};

/// The bound of the design: 256 MiB resident.
const BOUND_KIB: u64 = 256 * 1024;

/// The most that was ever resident (`VmHWM`), in KiB; none when the process is gone.
fn peak_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Runs a command to its end; gives the most that was resident.
fn peak_of(mut running: Running) -> u64 {
    let mut peak = 0;
    while running.is_running().unwrap() {
        peak = peak_kib(running.pid()).unwrap_or(0).max(peak);
        thread::sleep(Duration::from_millis(20));
    }
    let ended = running.finish(Duration::from_secs(5)).unwrap();
    assert_eq!(ended.code, 0, "{ended}");
    peak
}

fn bytes_of(site: &Protected) -> u64 {
    let listed = site.points().unwrap();
    let snapshots = listed["snapshots"].as_array().unwrap();
    snapshots.last().unwrap()["bytes_logical"].as_u64().unwrap()
}

#[test]
fn memory_does_not_grow_with_the_database() {
    let site = Protected::new(TestServer::start(17).unwrap()).unwrap();
    let mut sizes = vec![200_000_000_u64, 500_000_000];
    if std::env::var_os("HOLDFAST_PROVE_SECONDS").is_some() {
        sizes.push(2_000_000_000);
    }
    site.server.psql("CREATE TABLE bulk (n bigint, text text)").unwrap();
    let mut rows = 0_u64;
    for size in sizes {
        // About 340 bytes a row: hashes, so that little of it shrinks.
        let wanted = size / 340;
        site.server
            .psql(&format!(
                "INSERT INTO bulk SELECT n, (SELECT string_agg(md5((n * 10 + j)::text), '') FROM generate_series(1, 9) j)
                   FROM generate_series({rows} + 1, {wanted}) n"
            ))
            .unwrap();
        rows = wanted;
        let backup = peak_of(site.cli.start(&["--json", "backup", CLUSTER]).unwrap());
        let again = peak_of(site.cli.start(&["--json", "backup", CLUSTER]).unwrap());
        let verify =
            peak_of(site.cli.start(&["--json", "verify", CLUSTER, "--level", "pages"]).unwrap());
        let bytes = bytes_of(&site);
        eprintln!("{bytes} bytes: backup {backup} KiB, again {again} KiB, verify {verify} KiB");
        assert!(bytes >= size * 9 / 10, "{bytes}");
        assert!(backup <= BOUND_KIB, "backup of {bytes} bytes: {backup} KiB");
        assert!(again <= BOUND_KIB, "second backup of {bytes} bytes: {again} KiB");
        assert!(verify <= BOUND_KIB, "verification of {bytes} bytes: {verify} KiB");
    }
}

#[test]
fn memory_does_not_grow_with_the_number_of_files() {
    let site = Protected::new(TestServer::start(17).unwrap()).unwrap();
    // Each table of one row is two files, and its index two more.
    site.server
        .psql(
            "DO $$ BEGIN FOR i IN 1..3000 LOOP
               EXECUTE format('CREATE TABLE many_%s (n int PRIMARY KEY)', i);
               EXECUTE format('INSERT INTO many_%s VALUES (%s)', i, i);
               IF i % 200 = 0 THEN COMMIT; END IF;
             END LOOP; END $$",
        )
        .unwrap();
    let backup = peak_of(site.cli.start(&["--json", "backup", CLUSTER]).unwrap());
    eprintln!("backup {backup} KiB");
    assert!(backup <= BOUND_KIB, "{backup} KiB");
}
