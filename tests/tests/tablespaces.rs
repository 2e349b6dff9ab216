//! Tablespaces of a copy: inside of it or where the operator says, never where the source has them.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use holdfast_tests::pg::TestServer;
use holdfast_tests::protected::{CLUSTER, Protected, failure};

/// Everything below a directory with its content.
fn content(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.insert(entry.path(), Vec::new());
            found.extend(content(&entry.path()));
        } else {
            found.insert(entry.path(), fs::read(entry.path()).unwrap());
        }
    }
    found
}

fn each(server: &TestServer, statements: &[&str]) {
    for statement in statements {
        server.psql(statement).unwrap();
    }
}

/// No link of a copy leads out of it, but those that were asked for.
fn assert_inside(copy: &Path, except: &[&Path]) {
    for entry in fs::read_dir(copy.join("pg_tblspc")).unwrap().flatten() {
        if entry.file_type().unwrap().is_symlink() {
            let target = fs::read_link(entry.path()).unwrap();
            assert!(
                except.contains(&target.as_path()),
                "{} leads to {}",
                entry.path().display(),
                target.display()
            );
        }
    }
}

fn catalogue_26_the_sources_tablespaces_stay_untouched(major: u32) {
    let server = TestServer::start(major).unwrap();
    let before = server.new_folder("before").unwrap();
    let since = server.new_folder("since").unwrap();
    each(
        &server,
        &[
            &format!("CREATE TABLESPACE before LOCATION '{}'", before.display()),
            "CREATE TABLE old_rows TABLESPACE before AS SELECT generate_series(1, 100) AS n",
        ],
    );
    let oid = server.psql("SELECT oid FROM pg_tablespace WHERE spcname = 'before'").unwrap();
    let site = Protected::new(server).unwrap();
    site.backup().unwrap();
    each(
        &site.server,
        &[
            "INSERT INTO old_rows VALUES (0)",
            &format!("CREATE TABLESPACE since LOCATION '{}'", since.display()),
            "CREATE TABLE new_rows TABLESPACE since AS SELECT generate_series(1, 10) AS n",
            "CHECKPOINT",
        ],
    );
    site.archive().unwrap();
    // The server goes on; nothing but itself may write there.
    for space in [&before, &since] {
        fs::write(space.join("sentinel"), "the source's").unwrap();
    }
    let seen = [content(&before), content(&since)];

    let own = PathBuf::from(site.destination("own"));
    let map = format!("{oid}={}", own.display());
    let copy = site.restore("latest", "copy", &["--tablespace", &map, "--start"]).unwrap();
    assert_eq!(copy.psql("SELECT count(*) FROM old_rows").unwrap(), "101");
    assert_eq!(copy.psql("SELECT count(*) FROM new_rows").unwrap(), "10");
    copy.psql("INSERT INTO old_rows SELECT 1; INSERT INTO new_rows SELECT 1; CHECKPOINT").unwrap();
    assert_inside(&copy.data(), &[&own]);
    assert!(!content(&own).is_empty(), "the tablespace is where it was asked for");
    assert_eq!([content(&before), content(&since)], seen, "the source's tablespaces were touched");
    copy.discard().unwrap();
    assert!(content(&own).is_empty());
    assert_eq!([content(&before), content(&since)], seen);

    // What cannot be is refused before anything is written.
    let to = site.destination("never");
    let refused = |map: &str| {
        let run =
            ["restore", "run", CLUSTER, "--target", "latest", "--to", &to, "--tablespace", map];
        let (code, error) = failure(&site.cli, &run).unwrap();
        assert!(!Path::new(&to).exists());
        (code, error["code"].as_str().unwrap().to_owned())
    };
    let unusable = (3, "tablespace_unusable".to_owned());
    assert_eq!(refused(&format!("99={}", own.display())), unusable, "no such tablespace");
    assert_eq!(refused(&format!("{oid}={}", before.display())), unusable, "in use");
    assert_eq!(refused(&format!("{oid}={to}/inside")), unusable, "in the copy");
    assert_eq!(refused("nonsense").0, 2);
    assert_eq!([content(&before), content(&since)], seen);
}

#[test]
fn catalogue_26_the_sources_tablespaces_stay_untouched_on_14() {
    catalogue_26_the_sources_tablespaces_stay_untouched(14);
}

#[test]
fn catalogue_26_the_sources_tablespaces_stay_untouched_on_17() {
    catalogue_26_the_sources_tablespaces_stay_untouched(17);
}

/// `033_replay_tsp_drops.pl`: databases and tablespaces that are made, moved and dropped in the replayed
/// WAL, whose files are gone by the time it is replayed.
fn recovery_033_replay_tsp_drops(major: u32) {
    let server = TestServer::start(major).unwrap();
    let folders: Vec<_> = ["source", "target", "dropped", "again"]
        .iter()
        .map(|name| (*name, server.new_folder(name).unwrap()))
        .collect();
    let made = |name: &str| {
        let (_, folder) = folders.iter().find(|(n, _)| *n == name).unwrap();
        format!("CREATE TABLESPACE {name} LOCATION '{}'", folder.display())
    };
    each(&server, &[&made("source")]);
    let site = Protected::new(server).unwrap();
    site.backup().unwrap();
    each(
        &site.server,
        &[
            &made("target"),
            &made("dropped"),
            "CREATE DATABASE template_db TABLESPACE source",
            "CREATE DATABASE moved_db TABLESPACE source",
            "ALTER DATABASE moved_db SET TABLESPACE target",
            "CREATE DATABASE dropped_db TABLESPACE dropped",
            "CREATE TABLE t TABLESPACE dropped AS SELECT 1 AS a",
        ],
    );
    let middle = site.server.psql("SELECT pg_create_restore_point('middle')").unwrap();
    each(
        &site.server,
        &[
            "CREATE DATABASE new_db TEMPLATE template_db TABLESPACE target",
            "DROP DATABASE template_db",
            "DROP DATABASE dropped_db",
            "DROP TABLE t",
            "DROP TABLESPACE dropped",
            "DROP TABLESPACE source",
            &made("again"),
            "CREATE TABLE kept TABLESPACE again AS SELECT 7 AS a",
            "CHECKPOINT",
        ],
    );
    site.archive().unwrap();
    let spaces: Vec<_> = folders.iter().map(|(_, folder)| content(folder)).collect();

    let copy = site.restore("latest", "latest", &["--start"]).unwrap();
    assert_eq!(copy.psql("SELECT a FROM kept").unwrap(), "7");
    let names = "SELECT string_agg(spcname, ' ' ORDER BY spcname) FROM pg_tablespace WHERE spcname !~ '^pg_'";
    assert_eq!(copy.psql(names).unwrap(), "again target");
    assert_eq!(copy.psql_in("moved_db", "SELECT 1").unwrap(), "1");
    assert_eq!(copy.psql_in("new_db", "SELECT 1").unwrap(), "1");
    assert_inside(&copy.data(), &[]);
    copy.discard().unwrap();
    let copy = site.restore("name:middle", "middle", &["--start"]).unwrap();
    assert_eq!(copy.psql("SELECT a FROM t").unwrap(), "1", "{middle}");
    assert_eq!(copy.psql_in("dropped_db", "SELECT 1").unwrap(), "1");
    assert_inside(&copy.data(), &[]);
    copy.discard().unwrap();
    let after: Vec<_> = folders.iter().map(|(_, folder)| content(folder)).collect();
    assert_eq!(after, spaces, "the source's tablespaces were touched");
}

#[test]
fn recovery_033_replay_tsp_drops_on_14() {
    recovery_033_replay_tsp_drops(14);
}

#[test]
fn recovery_033_replay_tsp_drops_on_17() {
    recovery_033_replay_tsp_drops(17);
}
