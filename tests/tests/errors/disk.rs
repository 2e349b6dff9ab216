//! Disks that are full: of the repository, of the restored copy, of the home.

use super::{fails, unlocked};
use holdfast_tests::{
    disk::SmallDisk,
    pg::TestServer,
    protected::{CLUSTER, Protected, leftovers},
};
use std::{fs, path::Path};

/// Fills a disk up to its last byte; the file can be removed again.
fn fill(disk: &Path) -> std::path::PathBuf {
    let file = disk.join("filler");
    let mut chunk = 1 << 20;
    let mut out = fs::File::create(&file).unwrap();
    while chunk > 0 {
        if std::io::Write::write_all(&mut out, &vec![1; chunk]).is_err() {
            chunk /= 2;
        }
    }
    file
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn a_full_repository_keeps_what_it_has() {
    let Some(disk) = SmallDisk::new(24) else {
        return SmallDisk::skipped("a_full_repository_keeps_what_it_has");
    };
    let server = TestServer::start(17).unwrap();
    let dsn = server.dsn();
    let url = disk.path().join("repository").display().to_string();
    let site = Protected::with(server, &dsn, Some(&url), Vec::new()).unwrap();
    site.backup().unwrap();
    site.server
        .psql("CREATE TABLE noise AS SELECT gen_random_uuid() a, gen_random_uuid() b FROM generate_series(1, 900000)")
        .unwrap();
    let before = site.points().unwrap()["snapshots"].clone();
    let packs = || {
        let mut packs = files(&disk.path().join("repository/packs"));
        packs.sort();
        packs
    };
    let packs_before = packs();
    let error = fails(&site.cli, &["backup", CLUSTER], 3, "disk_full");
    assert!(error["hint"].as_str().unwrap().contains("space"), "{error}");
    assert_eq!(site.points().unwrap()["snapshots"].as_array().unwrap().len(), 1);
    assert_eq!(site.points().unwrap()["snapshots"], before);
    // Nothing half-written stays: every object is whole.
    let verified = site.cli.json(&["verify", CLUSTER]).unwrap();
    assert!(
        verified["findings"].as_array().unwrap().iter().all(|f| f["severity"] == "info"),
        "{verified}"
    );
    let odd: Vec<_> =
        files(disk.path()).into_iter().filter(|f| f.to_string_lossy().contains('#')).collect();
    assert!(odd.is_empty(), "{odd:?}");
    // What could not become a backup does not take the room of the next one; WAL that was archived stays.
    assert_eq!(packs(), packs_before);
    // What was stored before still restores.
    let copy = site.restore("immediate", "copy", &["--start"]).unwrap();
    assert_eq!(copy.psql("SELECT 1").unwrap(), "1");
}

#[test]
fn an_archive_on_a_full_disk_acknowledges_nothing_more() {
    let Some(disk) = SmallDisk::new(24) else {
        return SmallDisk::skipped("an_archive_on_a_full_disk_acknowledges_nothing_more");
    };
    let server = TestServer::start(17).unwrap();
    let dsn = server.dsn();
    let url = disk.path().join("repository").display().to_string();
    let site = Protected::with(server, &dsn, Some(&url), Vec::new()).unwrap();
    site.backup().unwrap();
    site.server
        .psql("CREATE TABLE noise AS SELECT gen_random_uuid() a, gen_random_uuid() b FROM generate_series(1, 700000)")
        .unwrap();
    let target = site.server.psql("SELECT pg_current_wal_flush_lsn()").unwrap();
    fails(&site.cli, &["archive", CLUSTER, "--once-to", &target], 3, "disk_full");
    let points = site.points().unwrap();
    let durable = points["windows"][0]["to_lsn"].as_str().unwrap().to_owned();
    let held = site.server.psql("SELECT restart_lsn FROM pg_replication_slots").unwrap();
    let ahead =
        site.server.psql(&format!("SELECT '{held}'::pg_lsn > '{durable}'::pg_lsn")).unwrap();
    assert_eq!(
        ahead, "f",
        "the server may remove WAL up to {held}, the archive has it up to {durable}"
    );
}

#[test]
fn a_destination_that_is_too_small() {
    let Some(disk) = SmallDisk::new(24) else {
        return SmallDisk::skipped("a_destination_that_is_too_small");
    };
    let site = Protected::new(TestServer::start(17).unwrap()).unwrap();
    site.server.add_documents(30_000).unwrap();
    site.backup().unwrap();
    let destination = disk.path().join("copy");
    let to = destination.display().to_string();
    // Known before a byte is written.
    let run = ["restore", "run", CLUSTER, "--target", "latest", "--to", &to];
    fails(&site.cli, &run, 3, "too_little_disk");
    assert!(leftovers(&destination, None).is_empty());
    let plan = site.cli.json(&["restore", "plan", CLUSTER, "--target", "latest", "--to", &to]);
    drop(plan);

    // A disk that fills up while the copy is written.
    let disk = SmallDisk::new(400).unwrap();
    let destination = disk.path().join("copy");
    let to = destination.display().to_string();
    let run = [
        "--json",
        "--progress",
        "json",
        "restore",
        "run",
        CLUSTER,
        "--target",
        "latest",
        "--to",
        &to,
    ];
    let running = site.cli.start(&run).unwrap();
    holdfast_tests::wait_for("the plan is made", std::time::Duration::from_mins(1), || {
        running.stderr().contains("\"phase\":\"fetching\"")
    });
    fill(disk.path());
    let ended = running.finish(std::time::Duration::from_mins(2)).unwrap();
    assert_eq!(
        (ended.code, ended.json().unwrap()["error"]["code"].as_str()),
        (3, Some("disk_full")),
        "{ended}"
    );
    assert!(leftovers(&destination, None).is_empty(), "{:?}", leftovers(&destination, None));
    assert_eq!(files(disk.path()).len(), 1, "{:?}", files(disk.path()));
}

#[test]
fn a_home_that_is_full() {
    let Some(disk) = SmallDisk::new(8) else {
        return SmallDisk::skipped("a_home_that_is_full");
    };
    let place = tempfile::tempdir().unwrap();
    let server = TestServer::start(17).unwrap();
    let home = disk.path().join("home");
    // Not even the home can be made.
    let filler = fill(disk.path());
    let cli = unlocked(&home);
    let repository = place.path().join("repository");
    let url = repository.display().to_string();
    fails(&cli, &["repo", "create", &url], 3, "disk_full");
    assert!(!repository.exists());
    fs::remove_file(&filler).unwrap();

    cli.json(&["repo", "create", &url]).unwrap();
    cli.json(&["cluster", "add", CLUSTER, "--dsn", &server.dsn()]).unwrap();
    cli.json(&["backup", CLUSTER]).unwrap();
    let jobs = files(&home.join("jobs")).len();
    for line in [&["backup", CLUSTER][..], &["verify"]] {
        // What the one before gave back is taken, too: the catalog's log goes with its process.
        let filler = fill(disk.path());
        fails(&cli, line, 3, "disk_full");
        assert_eq!(files(&home.join("jobs")).len(), jobs, "a job that never was left files");
        fs::remove_file(&filler).unwrap();
    }
    // Nothing is lost.
    cli.json(&["backup", CLUSTER]).unwrap();
    assert_eq!(cli.json(&["points", CLUSTER]).unwrap()["snapshots"].as_array().unwrap().len(), 2);
}
