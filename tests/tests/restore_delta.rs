//! Restoring over a data directory by content: whatever stands there, what comes out is the snapshot's.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use holdfast_tests::pg::{StopMode, TestServer};
use holdfast_tests::protected::{CLUSTER, Protected, failure};

/// A cluster with some data, a backup of it and WAL behind it; `target` is the WAL's end.
fn site() -> Protected {
    let server = TestServer::start(17).unwrap();
    server.add_documents(20_000).unwrap();
    // Whoever reads a row first marks it on its page: that is to have happened before the backup.
    server.psql("VACUUM (FREEZE) docs").unwrap();
    let site = Protected::new(server).unwrap();
    site.backup().unwrap();
    site.server.psql("CREATE TABLE later AS SELECT 1 AS n").unwrap();
    site.archive().unwrap();
    site
}

/// The largest relation files of a data directory, largest first.
fn relation_files(data: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(data.join("base"))
        .unwrap()
        .flatten()
        .flat_map(|database| fs::read_dir(database.path()).unwrap().flatten())
        .filter(|e| e.file_name().to_string_lossy().chars().all(|c| c.is_ascii_digit()))
        .map(|e| (e.metadata().unwrap().len(), e.path()))
        .collect();
    files.sort();
    files.into_iter().rev().map(|(_, path)| path).collect()
}

fn run<'a>(target: &'a str, to: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["restore", "run", CLUSTER, "--target", target, "--to", to][..], more].concat()
}

#[test]
fn a_delta_keeps_what_is_right_and_mends_everything_else() {
    let mut site = site();
    let rows =
        site.server.psql("SELECT md5(string_agg(d::text, '' ORDER BY id)) FROM docs d").unwrap();
    site.server.stop(StopMode::Fast).unwrap();
    let data = site.server.data().to_path_buf();
    let to = data.display().to_string();

    // Somebody else's files, which links in the directory lead to.
    let elsewhere = site.root().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let sentinel = elsewhere.join("sentinel");
    fs::write(&sentinel, "untouched").unwrap();

    let files = relation_files(&data);
    let [rotten, short, gone, linked, twin, long] = &files[..6] else { panic!("{files:?}") };
    // Same length, same time, one byte different: neither size nor time may be believed.
    let time = fs::metadata(rotten).unwrap().modified().unwrap();
    let mut bytes = fs::read(rotten).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xFF;
    fs::write(rotten, bytes).unwrap();
    fs::File::options().write(true).open(rotten).unwrap().set_modified(time).unwrap();
    fs::File::options().write(true).open(short).unwrap().set_len(8192).unwrap();
    let mut bytes = fs::read(long).unwrap();
    bytes.resize(bytes.len() + 100_000, 7);
    fs::write(long, bytes).unwrap();
    fs::remove_file(gone).unwrap();
    fs::remove_file(linked).unwrap();
    symlink(&sentinel, linked).unwrap();
    // A second name of a file elsewhere: writing into it would write there.
    let other_name = elsewhere.join("twin");
    fs::remove_file(twin).unwrap();
    fs::write(&other_name, vec![1; 16_384]).unwrap();
    fs::hard_link(&other_name, twin).unwrap();
    fs::set_permissions(&files[6], fs::Permissions::from_mode(0o644)).unwrap();
    // Directories that are links, stale WAL, and what is no part of a cluster.
    fs::remove_dir_all(data.join("pg_xact")).unwrap();
    symlink(&elsewhere, data.join("pg_xact")).unwrap();
    fs::write(data.join("pg_wal/000000010000000000000099"), vec![9; 1 << 20]).unwrap();
    symlink(&elsewhere, data.join("pg_tblspc/4711")).unwrap();
    fs::write(data.join("base/stray"), "x").unwrap();
    fs::create_dir(data.join("own")).unwrap();
    fs::write(data.join("own/notes"), "x").unwrap();

    let result =
        site.cli.json(&run("latest", &to, &["--delta", "--at-target", "shutdown"])).unwrap();
    assert_eq!(result["verified"], true, "{result:#}");
    let checks = result["checks"].as_array().unwrap();
    assert!(checks.iter().any(|c| c["code"] == "files_verified"), "{result:#}");
    let (reused, written) =
        (result["bytes_reused"].as_u64().unwrap(), result["bytes_written"].as_u64().unwrap());
    assert!(reused > 2 * written && written > 0, "{reused} reused, {written} written");

    assert_eq!(fs::read_to_string(&sentinel).unwrap(), "untouched");
    assert_eq!(fs::read(&other_name).unwrap(), vec![1; 16_384]);
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 2);
    for removed in ["pg_tblspc/4711", "base/stray", "own", "pg_wal/000000010000000000000099"] {
        assert!(fs::symlink_metadata(data.join(removed)).is_err(), "{removed}");
    }
    assert!(fs::symlink_metadata(data.join("pg_xact")).unwrap().is_dir());
    for file in [linked, &files[6]] {
        let found = fs::symlink_metadata(file).unwrap();
        assert!(found.is_file());
        assert_eq!(found.permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    assert!(site.cli.json(&["restore", "discard", result["job"].as_str().unwrap()]).is_err());

    // It starts as always and holds what it held.
    fs::remove_file(data.join("recovery.signal")).unwrap();
    site.server.start_again().unwrap();
    assert_eq!(
        site.server.psql("SELECT md5(string_agg(d::text, '' ORDER BY id)) FROM docs d").unwrap(),
        rows
    );
    assert_eq!(site.server.psql("SELECT n FROM later").unwrap(), "1");
}

#[test]
fn a_delta_is_refused_where_it_could_harm() {
    let mut site = site();
    let data = site.server.data().display().to_string();
    let cli = site.cli.clone();
    let refused = |to: &str, more: &[&str]| {
        let (code, error) = failure(&cli, &run("latest", to, more)).unwrap();
        (code, error["code"].as_str().unwrap().to_owned())
    };
    let unusable = (3, "destination_unusable".to_owned());
    assert_eq!(refused(&data, &["--delta"]), (3, "server_running".to_owned()));
    assert_eq!(refused(&data, &["--delta", "--in-place"]).0, 2);
    let empty = site.destination("empty");
    assert_eq!(refused(&empty, &["--delta"]), unusable, "there is nothing to overwrite");
    fs::create_dir(&empty).unwrap();
    assert_eq!(refused(&empty, &["--delta"]), unusable);
    let mut other = TestServer::start(17).unwrap();
    other.stop(StopMode::Fast).unwrap();
    let foreign = other.data().display().to_string();
    assert_eq!(refused(&foreign, &["--delta"]), unusable, "another cluster's");

    site.server.stop(StopMode::Fast).unwrap();
    let inner = site.server.data().join("backups");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("holdfast.json"), "{}").unwrap();
    assert_eq!(refused(&data, &["--delta"]), unusable, "a repository lies in it");
    fs::remove_dir_all(&inner).unwrap();
    let control = site.server.data().join("global/pg_control");
    let kept = fs::read(&control).unwrap();
    fs::write(&control, vec![0; kept.len()]).unwrap();
    assert_eq!(refused(&data, &["--delta"]), unusable, "nobody knows whose it is");
    fs::write(&control, kept).unwrap();
    // Nothing was changed by all this.
    site.server.start_again().unwrap();
    assert_eq!(site.server.psql("SELECT n FROM later").unwrap(), "1");
}
