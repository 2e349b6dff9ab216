//! A restore that is paused at its target: look, step forward, promote.

#![allow(clippy::unwrap_used, reason = "a test")]

use holdfast_tests::pg::TestServer;
use holdfast_tests::protected::{CLUSTER, Protected, Restored, failure};
use serde_json::Value;

/// A server whose table holds one row a transaction, and the transactions.
fn rows_by_transaction(major: u32) -> (Protected, Vec<String>) {
    let server = TestServer::start(major).unwrap();
    server.psql("CREATE TABLE t (n int)").unwrap();
    let site = Protected::new(server).unwrap();
    site.backup().unwrap();
    let xids = (1..=4).map(|n| insert(&site, n)).collect();
    site.archive().unwrap();
    (site, xids)
}

/// Inserts a row in a transaction of its own, behind one that is rolled back.
fn insert(site: &Protected, n: u32) -> String {
    site.server.psql(&format!("BEGIN; INSERT INTO t VALUES (-{n}); ROLLBACK")).unwrap();
    let sql = format!("INSERT INTO t VALUES ({n}) RETURNING pg_current_xact_id()");
    site.server.psql(&sql).unwrap().trim().to_owned()
}

fn inspect(site: &Protected, job: &str, sql: &str) -> Value {
    site.cli.json(&["restore", "inspect", job, "--sql", sql]).unwrap()
}

#[track_caller]
fn refused(site: &Protected, arguments: &[&str], code: i32, name: &str) -> Value {
    let (found, error) = failure(&site.cli, arguments).unwrap();
    assert_eq!((found, error["code"].as_str().unwrap()), (code, name), "{arguments:?}: {error}");
    error
}

fn rows(site: &Protected, copy: &Restored) -> Vec<String> {
    let seen = inspect(site, copy.job(), "SELECT n FROM t ORDER BY n");
    let rows = seen["rows"].as_array().unwrap();
    rows.iter().map(|row| row[0].as_str().unwrap().to_owned()).collect()
}

fn a_paused_copy_goes_forward_commit_by_commit(major: u32) {
    let (site, xids) = rows_by_transaction(major);
    let target = format!("xid:{}", xids[1]);
    let copy =
        site.restore(&target, "copy", &["--exclusive", "--start", "--at-target", "pause"]).unwrap();
    let job = copy.job().to_owned();
    assert_eq!(rows(&site, &copy), ["1"]);
    let dsn = copy.dsn().unwrap().to_owned();

    // The transaction that was left out is the next one.
    let stepped = site.cli.json(&["restore", "step", &job]).unwrap();
    assert_eq!(stepped["reached"]["xid"], xids[1].as_str(), "{stepped:#}");
    assert_eq!(stepped["verified"], true, "{stepped:#}");
    assert_eq!(stepped["running"], true);
    assert_eq!(stepped["dsn"], dsn.as_str(), "the way to the copy stays");
    assert_eq!(rows(&site, &copy), ["1", "2"]);
    let shown = site.cli.json(&["jobs", "show", &job]).unwrap();
    assert_eq!(shown["result"]["reached"], stepped["reached"]);
    assert_eq!(shown["job"]["state"], "succeeded");

    refused(&site, &["restore", "step", &job, "0"], 2, "usage");
    let error = refused(&site, &["restore", "step", &job, "-1"], 3, "step_backwards");
    assert!(error["hint"].as_str().unwrap().contains("restore run"), "{error}");
    let error = refused(&site, &["restore", "step", &job, "3"], 3, "archive_ends");
    assert_eq!(error["details"]["commits"], 2, "{error}");
    assert_eq!(rows(&site, &copy), ["1", "2"], "a refusal changes nothing");

    let stepped = site.cli.json(&["restore", "step", &job, "2"]).unwrap();
    assert_eq!(stepped["reached"]["xid"], xids[3].as_str(), "{stepped:#}");
    assert!(stepped["stopped_before"].is_null(), "{stepped:#}");
    let error = refused(&site, &["restore", "step", &job], 3, "archive_ends");
    assert!(error["hint"].as_str().unwrap().contains("holdfast archive"), "{error}");

    // What is archived meanwhile can be reached as well, segments beyond the plan's too.
    site.server.psql("SELECT pg_switch_wal()").unwrap();
    let later = [insert(&site, 5), insert(&site, 6)];
    site.archive().unwrap();
    let stepped = site.cli.json(&["restore", "step", &job, "2"]).unwrap();
    assert_eq!(stepped["reached"]["xid"], later[1].as_str(), "{stepped:#}");
    assert_eq!(stepped["verified"], true, "{stepped:#}");
    assert_eq!(rows(&site, &copy), ["1", "2", "3", "4", "5", "6"]);

    let promoted = site.cli.json(&["restore", "promote", &job]).unwrap();
    assert_eq!(promoted["at_target"], "promote");
    copy.psql("INSERT INTO t VALUES (7)").unwrap();
    refused(&site, &["restore", "step", &job], 3, "not_paused");
    copy.discard().unwrap();
}

#[test]
fn a_paused_copy_goes_forward_commit_by_commit_on_17() {
    a_paused_copy_goes_forward_commit_by_commit(17);
}

#[test]
fn a_paused_copy_goes_forward_commit_by_commit_on_14() {
    a_paused_copy_goes_forward_commit_by_commit(14);
}

#[test]
fn a_look_into_the_copy_only_reads() {
    let server = TestServer::start(17).unwrap();
    server
        .psql(
            "CREATE TABLE guarded (n int); INSERT INTO guarded VALUES (1), (2);
             ALTER TABLE guarded ENABLE ROW LEVEL SECURITY",
        )
        .unwrap();
    server.psql("CREATE DATABASE other").unwrap();
    let site = Protected::new(server).unwrap();
    site.backup().unwrap();
    let copy = site.restore("latest", "copy", &["--start", "--at-target", "pause"]).unwrap();
    let job = copy.job().to_owned();

    let seen = inspect(&site, &job, "SELECT n, NULL AS nothing FROM guarded ORDER BY n;");
    assert_eq!(seen["columns"], serde_json::json!(["n", "nothing"]));
    assert_eq!(seen["rows"], serde_json::json!([["1", null], ["2", null]]), "no row is hidden");
    assert_eq!(seen["truncated"], false);
    assert_eq!(seen["replayed_to"], copy.result["reached"]["lsn"]);

    let many = ["restore", "inspect", &job, "--rows", "10", "--sql"];
    let many = site.cli.json(&[&many[..], &["SELECT generate_series(1, 1000)"]].concat()).unwrap();
    assert_eq!((many["rows"].as_array().unwrap().len(), &many["truncated"]), (10, &true.into()));
    let wide = "SELECT repeat('x', 100000) FROM generate_series(1, 5000)";
    let wide = inspect(&site, &job, wide);
    assert_eq!(wide["truncated"], true, "bytes are limited too");
    assert!(wide["rows"].as_array().unwrap().len() < 1000);
    let empty = inspect(&site, &job, "SELECT n FROM guarded WHERE n > 5");
    assert_eq!((empty["rows"].as_array().unwrap().len(), &empty["columns"][0]), (0, &"n".into()));
    let other =
        ["restore", "inspect", &job, "--database", "other", "--sql", "SELECT current_database()"];
    assert_eq!(site.cli.json(&other).unwrap()["rows"][0][0], "other");

    for (sql, code) in [
        ("DELETE FROM guarded", 3),
        ("SELECT 1; SELECT pg_promote()", 3),
        ("SELECT pg_promote()", 6),
        ("SELECT pg_wal_replay_resume()", 6),
        ("SELECT pg_read_file('postgresql.conf')", 6),
        ("COPY (SELECT 1) TO PROGRAM 'true'", 3),
        ("SELECT FROM nowhere", 3),
    ] {
        let (found, error) =
            failure(&site.cli, &["restore", "inspect", &job, "--sql", sql]).unwrap();
        assert_eq!(found, code, "{sql}: {error}");
    }
    assert_eq!(copy.psql("SELECT pg_get_wal_replay_pause_state()").unwrap(), "paused");
    copy.discard().unwrap();
    refused(&site, &["restore", "inspect", &job, "--sql", "SELECT 1"], 4, "not_found");
    assert!(site.cli.json(&["points", CLUSTER]).is_ok());
}
