//! Restoring in place: the old directory is kept, can be put back, and goes only when told.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;

use holdfast_tests::pg::{StopMode, TestServer};
use holdfast_tests::protected::{CLUSTER, Protected, failure};

#[test]
fn a_directory_changes_places_and_back() {
    let server = TestServer::start(17).unwrap();
    server.psql("CREATE TABLE t (n int)").unwrap();
    let mut site = Protected::new(server).unwrap();
    site.backup().unwrap();
    site.server.psql("INSERT INTO t VALUES (1)").unwrap();
    let xid = site.server.psql("DELETE FROM t; SELECT pg_current_xact_id()").unwrap();
    let xid = xid.lines().last().unwrap().trim().to_owned();
    site.archive().unwrap();

    let data = site.server.data().display().to_string();
    let target = format!("xid:{xid}");
    let run = [
        "restore",
        "run",
        CLUSTER,
        "--target",
        &target,
        "--exclusive",
        "--to",
        &data,
        "--in-place",
    ];
    let cli = site.cli.clone();
    let refused = |arguments: &[&str]| {
        let (code, error) = failure(&cli, arguments).unwrap();
        (code, error["code"].as_str().unwrap().to_owned())
    };
    assert_eq!(refused(&run), (3, "server_running".to_owned()));
    let empty = site.destination("nothing");
    fs::create_dir(&empty).unwrap();
    let elsewhere = [&run[..7], &[&empty, "--in-place"]].concat();
    assert_eq!(refused(&elsewhere), (3, "destination_unusable".to_owned()));
    let started = [&run[..], &["--start"]].concat();
    assert_eq!(refused(&started), (2, "usage".to_owned()));

    site.server.stop(StopMode::Fast).unwrap();
    fs::write(site.server.data().join("mark"), "the old one").unwrap();
    let result = site.cli.json(&run).unwrap();
    assert_eq!(result["verified"], true, "{result:#}");
    assert_eq!(result["data_directory"], data.as_str());
    let job = result["job"].as_str().unwrap();
    assert!(!site.server.data().join("mark").exists());
    let parent = site.server.data().parent().unwrap().to_owned();
    let aside = || {
        let entries = fs::read_dir(&parent).unwrap().flatten();
        let names = entries.map(|e| e.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.contains(".holdfast-")).collect::<Vec<_>>()
    };
    assert_eq!(aside().len(), 1, "{:?}", aside());
    assert!(aside()[0].contains("-old-"), "{:?}", aside());
    let (code, error) = failure(&site.cli, &["restore", "discard", job]).unwrap();
    assert_eq!((code, error["code"].as_str().unwrap()), (3, "restored_in_place"));

    // The server starts as always, and has what the target had.
    site.server.start_again().unwrap();
    assert_eq!(site.server.psql("SELECT n FROM t").unwrap(), "1");
    assert_eq!(refused(&["restore", "swap-back", job]), (3, "server_running".to_owned()));
    site.server.stop(StopMode::Fast).unwrap();
    let swapped = site.cli.json(&["restore", "swap-back", job]).unwrap();
    assert_eq!(swapped["data_directory"], data.as_str());
    assert_eq!(fs::read_to_string(site.server.data().join("mark")).unwrap(), "the old one");
    assert_eq!(refused(&["restore", "swap-back", job]), (3, "already_swapped_back".to_owned()));
    site.server.start_again().unwrap();
    assert_eq!(site.server.psql("SELECT count(*) FROM t").unwrap(), "0");

    // Now only the copy is left to remove.
    assert!(aside()[0].contains("-copy-"), "{:?}", aside());
    let purged = site.cli.json(&["restore", "purge", job]).unwrap();
    assert_eq!(purged["removed"], swapped["set_aside"]);
    assert!(aside().is_empty(), "{:?}", aside());
    assert_eq!(refused(&["restore", "purge", job]).0, 4);
    // The directory that is in use now is nobody's to remove.
    assert_eq!(refused(&["restore", "discard", job]), (3, "restored_in_place".to_owned()));
    assert_eq!(site.server.psql("SELECT count(*) FROM t").unwrap(), "0");
}
