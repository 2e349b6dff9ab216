//! Where a base comes from and what happens meanwhile: a standby as the source, its promotion, tables
//! dropped and databases made while files are read, unlogged tables.
#![allow(clippy::unwrap_used)]

use holdfast_tests::{
    cli::Running,
    pg::TestServer,
    protected::{CLUSTER, Protected},
    proxy::FaultProxy,
    wait_for,
};
use serde_json::Value;
use std::{fs, time::Duration};

/// Slow enough that something can happen while a cluster of some thirty megabytes is copied.
const SLOW: u64 = 6 * 1024 * 1024;

fn psql(server: &TestServer, sql: &str) {
    for statement in sql.split(';').map(str::trim).filter(|s| !s.is_empty()) {
        server.psql(statement).unwrap();
    }
}

fn replayed(primary: &TestServer, standby: &TestServer) {
    let at = primary.psql("SELECT pg_current_wal_flush_lsn()").unwrap();
    wait_for("the standby", Duration::from_mins(1), || {
        let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{at}'");
        standby.psql(&sql).is_ok_and(|answer| answer == "t")
    });
}

/// Starts a backup through a slow network and waits until files are copied.
fn slow_backup(site: &Protected, proxy: &FaultProxy) -> Running {
    proxy.set_bandwidth(Some(SLOW));
    let backup = ["backup", CLUSTER, "--wire-compression", "none"];
    let running =
        site.cli.start(&[&["--json", "--progress", "json"], &backup[..]].concat()).unwrap();
    wait_for("copying", Duration::from_mins(1), || running.stderr().contains("\"copying\""));
    running
}

/// Backup and archive from a standby; consistent where the standby stood.
fn standby_as_source(major: u32) {
    let primary = TestServer::builder(major).config("autovacuum = off").start().unwrap();
    psql(&primary, "CREATE TABLE t AS SELECT n FROM generate_series(1, 5000) n");
    let standby = TestServer::standby_of(&primary, None).unwrap();
    let site = Protected::with(primary, &standby.dsn(), None, Vec::new()).unwrap();
    replayed(&site.server, &standby);
    let backup = site.backup().unwrap();
    psql(&site.server, "INSERT INTO t VALUES (0)");
    site.archive().unwrap();
    let base = site.restore("latest", "base", &["--fetch-only"]).unwrap().keep();
    site.server.verify_backup(&base, &["--no-parse-wal"]).unwrap();
    let label = fs::read_to_string(base.join("backup_label")).unwrap();
    assert!(label.contains("BACKUP FROM: standby"), "{label}");
    let copy = site.restore("latest", "copy", &["--start", "--at-target", "pause"]).unwrap();
    let sql = "SELECT count(*), sum(n) FROM t";
    assert_eq!(copy.psql(sql).unwrap(), site.server.psql(sql).unwrap());
    copy.discard().unwrap();
    let points = site.points().unwrap();
    assert_eq!(points["snapshots"][0]["id"], backup["snapshot"]["id"], "{points}");
}

#[test]
fn standby_as_source_on_14() {
    standby_as_source(14);
}

#[test]
fn standby_as_source_on_17() {
    standby_as_source(17);
}

/// A standby that is promoted while it is read gives no backup: nothing is listed.
#[test]
fn standby_promoted_during_the_backup_on_16() {
    let primary = TestServer::builder(16).config("autovacuum = off").start().unwrap();
    psql(&primary, "CREATE TABLE t AS SELECT n FROM generate_series(1, 5000) n");
    let standby = TestServer::standby_of(&primary, None).unwrap();
    let proxy = FaultProxy::start(standby.address()).unwrap();
    let dsn = standby.dsn_at("127.0.0.1", proxy.port());
    let site = Protected::with(primary, &dsn, None, Vec::new()).unwrap();
    replayed(&site.server, &standby);
    let running = slow_backup(&site, &proxy);
    standby.promote().unwrap();
    proxy.heal();
    let finished = running.finish(Duration::from_mins(3)).unwrap();
    assert_ne!(finished.code, 0, "{finished}");
    let error = finished.json().unwrap();
    let message = error["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("promoted"), "{error}");
    let points = site.points().unwrap();
    assert_eq!(points["snapshots"], Value::Array(Vec::new()), "{points}");
    // What it is now can be backed up.
    site.backup().unwrap();
}

/// A table dropped, one made and a database made while the files are read.
#[test]
fn tables_and_databases_come_and_go_during_the_backup_on_15() {
    let server = TestServer::builder(15).config("autovacuum = off").start().unwrap();
    psql(
        &server,
        "CREATE TABLE dropped AS SELECT n, repeat('x', 500) AS t FROM generate_series(1, 20000) n;
         CREATE TABLE kept AS SELECT n FROM generate_series(1, 5000) n;
         CREATE DATABASE goes;
         CHECKPOINT",
    );
    let proxy = FaultProxy::start(server.address()).unwrap();
    let dsn = server.dsn_at("127.0.0.1", proxy.port());
    let site = Protected::with(server, &dsn, None, Vec::new()).unwrap();
    let running = slow_backup(&site, &proxy);
    psql(
        &site.server,
        "DROP TABLE dropped;
         DROP DATABASE goes;
         CREATE TABLE arrives AS SELECT n FROM generate_series(1, 5000) n;
         CREATE DATABASE comes;
         DELETE FROM kept WHERE n > 4000;
         CHECKPOINT",
    );
    proxy.heal();
    let finished = running.finish(Duration::from_mins(3)).unwrap();
    assert_eq!(finished.code, 0, "{finished}");
    site.archive().unwrap();
    let copy = site.restore("latest", "copy", &["--start", "--at-target", "pause"]).unwrap();
    let sql = "SELECT (SELECT count(*) FROM kept), (SELECT count(*) FROM arrives), \
               to_regclass('dropped'), (SELECT string_agg(datname, ' ' ORDER BY datname) \
               FROM pg_database WHERE datname IN ('comes', 'goes'))";
    assert_eq!(copy.psql(sql).unwrap(), "4000|5000||comes");
    assert_eq!(copy.psql_in("comes", "SELECT 1").unwrap(), "1");
    copy.discard().unwrap();
}

/// Only the initial fork of an unlogged table is kept: it comes back empty and can be written.
#[test]
fn unlogged_relations_come_back_empty_on_18() {
    let server = TestServer::builder(18).start().unwrap();
    psql(
        &server,
        "CREATE UNLOGGED TABLE u (n int PRIMARY KEY);
         INSERT INTO u SELECT generate_series(1, 1000);
         CREATE UNLOGGED SEQUENCE s;
         CREATE TABLE t AS SELECT n FROM generate_series(1, 1000) n;
         CHECKPOINT",
    );
    let site = Protected::new(server).unwrap();
    site.backup().unwrap();
    site.archive().unwrap();
    let copy = site.restore("latest", "copy", &["--start", "--at-target", "promote"]).unwrap();
    assert_eq!(
        copy.psql("SELECT (SELECT count(*) FROM u), (SELECT count(*) FROM t)").unwrap(),
        "0|1000"
    );
    copy.psql("INSERT INTO u SELECT generate_series(1, 10)").unwrap();
    assert_eq!(copy.psql("SELECT count(*), nextval('s') FROM u").unwrap(), "10|1");
    copy.discard().unwrap();
}
