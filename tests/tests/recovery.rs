//! The scenarios of PostgreSQL's own recovery tests (`src/test/recovery/t`), rebuilt on Holdfast:
//! each test is named after the file whose scenario it is. `docs/conformance.md` lists them.
#![allow(clippy::unwrap_used)]

use holdfast_tests::{
    pg::{StopMode, TestServer},
    protected::{CLUSTER, Protected, Restored},
    wait_for,
};
use serde_json::Value;
use std::{path::Path, time::Duration};

const PAUSE: [&str; 3] = ["--start", "--at-target", "pause"];
const ROWS: &str = "SELECT coalesce(string_agg(n::text, ' ' ORDER BY n), '') FROM t";

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no text at {path} in {value}"))
}

/// What PostgreSQL logged about its stop, as the restore reports it.
fn said(copy: &Restored) -> String {
    let checks = copy.result["checks"].as_array().unwrap();
    let stop = checks.iter().find(|check| check["code"] == "stop_as_predicted").unwrap();
    assert_eq!(stop["severity"], "ok", "{stop}");
    text(stop, "/message").trim_start_matches("PostgreSQL: ").to_owned()
}

fn nearest(error: &Value) -> Vec<&str> {
    let list = error["details"]["nearest"].as_array().unwrap_or_else(|| panic!("{error}"));
    list.iter().map(|near| text(near, "/target")).collect()
}

/// A transaction that has ended: its number, the time in its end's record, where that record ends.
#[derive(Debug)]
struct Ended {
    xid: String,
    time: String,
    end: String,
}

const UTC: &str = "'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'";

fn commit(server: &TestServer, n: u32) -> Ended {
    let sql = format!("INSERT INTO t VALUES ({n}) RETURNING pg_current_xact_id()");
    let xid = server.psql(&sql).unwrap();
    let time = server
        .psql(&format!(
            "SELECT to_char(pg_xact_commit_timestamp('{xid}'::xid) AT TIME ZONE 'UTC', {UTC})"
        ))
        .unwrap();
    Ended { xid, time, end: server.wal_position().unwrap() }
}

/// Rolls back what has written: PostgreSQL stops at such an end, too.
fn rollback(server: &TestServer) -> String {
    // psql leaves without a COMMIT. Up to 14 it shows the last result only.
    let xid = server.psql("BEGIN; INSERT INTO t VALUES (-1); SELECT pg_current_xact_id()").unwrap();
    wait_for("the transaction to be rolled back", Duration::from_mins(1), || {
        server.psql(&format!("SELECT pg_xact_status('{xid}')")).is_ok_and(|s| s == "aborted")
    });
    xid
}

fn source(major: u32) -> TestServer {
    let server = TestServer::builder(major)
        .config("track_commit_timestamp = on")
        .config("max_prepared_transactions = 5")
        .config("autovacuum = off")
        .start()
        .unwrap();
    server.psql("CREATE TABLE t (n int)").unwrap();
    server
}

/// Every kind of target, with and without the target itself. What the plan predicts is what the
/// restore reaches, what PostgreSQL logs about its stop is what its rules say, and the rows are those.
fn recovery_targets(major: u32, all: bool) {
    let site = Protected::new(source(major)).unwrap();
    let server = &site.server;
    let before = commit(server, 0);
    site.archive().unwrap();
    site.backup().unwrap();
    let one = commit(server, 1);
    let two = commit(server, 2);
    let undone = rollback(server);
    server.psql("SELECT pg_create_restore_point('between two and three')").unwrap();
    let three = commit(server, 3);
    let four = commit(server, 4);
    site.archive().unwrap();

    let check = |target: &str, exclusive: bool, rows: &str, log: &str, last: Option<&str>| {
        let mut more = Vec::new();
        if exclusive {
            more.push("--exclusive");
        }
        let to = site.destination("copy");
        let mut plan = vec!["restore", "plan", CLUSTER, "--target", target, "--to", &to];
        plan.extend_from_slice(&more);
        let plan = site.cli.json(&plan).unwrap();
        more.extend_from_slice(&PAUSE);
        let copy = site.restore(target, "copy", &more).unwrap();
        assert_eq!(copy.psql(ROWS).unwrap(), rows, "{target}, exclusive {exclusive}: {plan}");
        assert_eq!(plan["predicted"], copy.result["reached"], "{target}, exclusive {exclusive}");
        let said = said(&copy);
        assert!(said.starts_with(log), "{target}, exclusive {exclusive}: {said:?}, not {log:?}");
        assert_eq!(plan["predicted"]["xid"].as_str(), last, "{target}, exclusive {exclusive}");
        copy.discard().unwrap();
    };
    let stop = |how: &str, what: &str, xid: &str| {
        format!("recovery stopping {how} {what} of transaction {xid}, time ")
    };
    let time = |of: &Ended| format!("time:{}", of.time);
    check(
        &format!("xid:{}", two.xid),
        true,
        "0 1",
        &stop("before", "commit", &two.xid),
        Some(&one.xid),
    );
    check(&time(&two), false, "0 1 2", &stop("before", "abort", &undone), Some(&two.xid));
    check(
        "name:between two and three",
        false,
        "0 1 2",
        "recovery stopping at restore point \"between two and three\", time ",
        Some(&undone),
    );
    // An LSN is compared with where records start: the position behind a commit is where the first
    // record of the next transaction begins, its row and not yet its end.
    let lsn = format!("lsn:{}", three.end);
    let at = |how: &str| format!("recovery stopping {how} WAL location (LSN) \"{}\"", three.end);
    check(&lsn, true, "0 1 2 3", &at("before"), Some(&three.xid));
    if all {
        check("immediate", false, "0", "recovery stopping after reaching consistency", None);
        check(
            &format!("xid:{}", one.xid),
            false,
            "0 1",
            &stop("after", "commit", &one.xid),
            Some(&one.xid),
        );
        check(
            &format!("xid:{undone}"),
            false,
            "0 1 2",
            &stop("after", "abort", &undone),
            Some(&undone),
        );
        check(&time(&three), true, "0 1 2", &stop("before", "commit", &three.xid), Some(&undone));
        check(&lsn, false, "0 1 2 3", &at("after"), Some(&three.xid));
        check(
            "latest",
            false,
            "0 1 2 3 4",
            "recovery stopping after WAL location (LSN) ",
            Some(&four.xid),
        );
    }

    // What cannot be reached, or means two things, is refused before a byte is written.
    let refused = |target: &str, more: &[&str], want: (i32, &str)| {
        let destination = site.destination("never");
        let (code, error) = site.refusal(target, &destination, more).unwrap();
        assert_eq!((code, text(&error, "/code")), want, "{target}: {error}");
        assert!(!Path::new(&destination).exists(), "{target}: something was written");
        error
    };
    let error = refused(&time(&four), &[], (3, "target_not_reached"));
    assert!(nearest(&error).contains(&&*format!("xid:{}", four.xid)), "{error}");
    let error = refused("lsn:F/0", &[], (3, "target_not_reached"));
    assert!(nearest(&error).contains(&&*format!("xid:{}", four.xid)), "{error}");
    for target in [format!("xid:{}", before.xid), format!("lsn:{}", before.end)] {
        let error = refused(&target, &[], (3, "target_too_early"));
        assert!(nearest(&error).contains(&&*format!("xid:{}", one.xid)), "{error}");
    }
    let error = refused("xid:4000000000", &[], (3, "target_not_found"));
    assert_eq!(nearest(&error).len(), 2, "{error}");
    refused("name:no such point", &[], (3, "target_not_found"));
    // Two targets at once, and `inclusive` where it has no meaning: PostgreSQL refuses the first at
    // its start and ignores the second.
    let twice = site
        .cli
        .run(&[
            "--json",
            "restore",
            "run",
            CLUSTER,
            "--target",
            "latest",
            "--target",
            "immediate",
            "--to",
            "/nowhere",
        ])
        .unwrap();
    assert_eq!(twice.code, 2, "{twice}");
    refused("latest", &["--exclusive"], (2, "usage"));
    refused("immediate", &["--exclusive"], (2, "usage"));
    refused("name:between two and three", &["--exclusive"], (2, "usage"));
}

#[test]
fn recovery_003_recovery_targets_on_14() {
    recovery_targets(14, false);
}

#[test]
fn recovery_003_recovery_targets_on_15() {
    recovery_targets(15, true);
}

#[test]
fn recovery_003_recovery_targets_on_16() {
    recovery_targets(16, false);
}

#[test]
fn recovery_003_recovery_targets_on_17() {
    recovery_targets(17, true);
}

#[test]
fn recovery_003_recovery_targets_on_18() {
    recovery_targets(18, false);
}

/// A transaction that is prepared at the target is still there, can be committed on the new timeline,
/// and its commit is a target of its own: it stops at the number under which it was prepared.
fn prepared_transactions(major: u32) {
    let site = Protected::new(source(major)).unwrap();
    let server = &site.server;
    // One is prepared when the backup begins, one after it.
    let prepare = |n: u32| {
        let sql = format!("BEGIN; INSERT INTO t VALUES ({n}); PREPARE TRANSACTION 'p{n}'");
        server.psql(&sql).unwrap();
        let sql = format!("SELECT transaction FROM pg_prepared_xacts WHERE gid = 'p{n}'");
        server.psql(&sql).unwrap()
    };
    let first = prepare(1);
    site.backup().unwrap();
    let second = prepare(2);
    server.psql("INSERT INTO t VALUES (10)").unwrap();
    server.psql("SELECT pg_create_restore_point('both prepared')").unwrap();
    server.psql("COMMIT PREPARED 'p2'").unwrap();
    server.psql("ROLLBACK PREPARED 'p1'").unwrap();
    server.psql("INSERT INTO t VALUES (11)").unwrap();
    site.archive().unwrap();

    let prepared = "SELECT string_agg(gid, ' ' ORDER BY gid) FROM pg_prepared_xacts";
    let copy =
        site.restore("name:both prepared", "both", &["--start", "--at-target", "promote"]).unwrap();
    assert_eq!(copy.psql(ROWS).unwrap(), "10", "{}", copy.result);
    assert_eq!(copy.psql(prepared).unwrap(), "p1 p2");
    copy.psql("COMMIT PREPARED 'p1'").unwrap();
    copy.psql("ROLLBACK PREPARED 'p2'").unwrap();
    assert_eq!(copy.psql(ROWS).unwrap(), "1 10");
    copy.discard().unwrap();

    for (xid, exclusive, rows, left, log) in [
        (&second, false, "2 10", "p1", "after commit"),
        (&second, true, "10", "p1 p2", "before commit"),
        (&first, false, "2 10", "", "after abort"),
        (&first, true, "2 10", "p1", "before abort"),
    ] {
        // The list of prepared transactions can be seen once recovery has ended.
        let mut more = vec!["--start", "--at-target", "promote"];
        if exclusive {
            more.push("--exclusive");
        }
        let copy = site.restore(&format!("xid:{xid}"), "one", &more).unwrap();
        assert_eq!(copy.psql(ROWS).unwrap(), rows, "{xid}: {}", copy.result);
        assert_eq!(copy.psql(prepared).unwrap(), left, "{xid}: {}", copy.result);
        assert!(
            said(&copy)
                .starts_with(&format!("recovery stopping {log} of transaction {xid}, time "))
        );
        copy.discard().unwrap();
    }
}

#[test]
fn recovery_023_pitr_prepared_xact_on_14() {
    prepared_transactions(14);
}

#[test]
fn recovery_023_pitr_prepared_xact_on_15() {
    prepared_transactions(15);
}

#[test]
fn recovery_023_pitr_prepared_xact_on_17() {
    prepared_transactions(17);
}

#[test]
fn recovery_023_pitr_prepared_xact_on_18() {
    prepared_transactions(18);
}

/// The server ran with `wal_level = minimal` for a while: what it did then may have left no WAL, and
/// PostgreSQL refuses to replay past it. No target behind it is accepted, but with a later backup.
fn minimal_in_between(major: u32) {
    let mut site = Protected::new(source(major)).unwrap();
    site.backup().unwrap();
    let good = commit(&site.server, 1);
    site.archive().unwrap();
    site.server
        .psql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        .unwrap();
    site.server.configure("wal_keep_size = '1GB'").unwrap();
    site.server.configure("wal_level = minimal\nmax_wal_senders = 0").unwrap();
    site.server.restart(StopMode::Fast).unwrap();
    // Created and filled in one transaction: written to the table's file only, not to the WAL.
    site.server
        .psql("BEGIN; CREATE TABLE unlogged_in_effect AS SELECT generate_series(1, 5000) AS n; COMMIT")
        .unwrap();
    site.server.configure("wal_level = replica\nmax_wal_senders = 10").unwrap();
    site.server.restart(StopMode::Fast).unwrap();
    let beyond = commit(&site.server, 2);
    let last = commit(&site.server, 3);
    site.archive().unwrap();

    for target in [
        "latest".to_owned(),
        format!("xid:{}", beyond.xid),
        format!("time:{}", beyond.time),
        format!("lsn:{}", beyond.end),
    ] {
        let destination = site.destination("never");
        let (code, error) = site.refusal(&target, &destination, &[]).unwrap();
        assert_eq!((code, text(&error, "/code")), (3, "wal_level_minimal"), "{target}: {error}");
        assert!(nearest(&error).contains(&&*format!("xid:{}", good.xid)), "{error}");
        assert!(!Path::new(&destination).exists());
    }
    let copy = site.restore(&format!("xid:{}", good.xid), "before", &PAUSE).unwrap();
    assert_eq!(copy.psql(ROWS).unwrap(), "1");
    copy.discard().unwrap();

    // A backup taken since begins behind it.
    site.backup().unwrap();
    let after = commit(&site.server, 4);
    site.archive().unwrap();
    let copy = site.restore(&format!("xid:{}", after.xid), "since", &PAUSE).unwrap();
    assert_eq!(copy.psql(ROWS).unwrap(), "1 2 3 4");
    assert_eq!(copy.psql("SELECT count(*) FROM unlogged_in_effect").unwrap(), "5000");
    copy.discard().unwrap();
    let (_, error) =
        site.refusal(&format!("xid:{}", last.xid), &site.destination("never"), &[]).unwrap();
    assert_eq!(text(&error, "/code"), "wal_level_minimal", "{error}");
}

#[test]
fn recovery_024_archive_recovery_on_14() {
    minimal_in_between(14);
}

#[test]
fn recovery_024_archive_recovery_on_15() {
    minimal_in_between(15);
}

#[test]
fn recovery_024_archive_recovery_on_17() {
    minimal_in_between(17);
}

#[test]
fn recovery_024_archive_recovery_on_18() {
    minimal_in_between(18);
}

/// An archive that is fed by a standby of a standby does not stay on the old timeline when the one in
/// the middle is promoted: WAL and history of the new one are there, and it is what "latest" follows.
fn stuck_on_the_old_timeline(major: u32) {
    let primary = source(major);
    let middle = TestServer::standby_of(&primary, None).unwrap();
    let last = TestServer::standby_of(&middle, None).unwrap();
    let mut site = Protected::with(primary, &last.dsn(), None, Vec::new()).unwrap();
    let replayed = |at: &str| {
        wait_for("the last standby", Duration::from_mins(1), || {
            let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{at}'");
            last.psql(&sql).is_ok_and(|answer| answer == "t")
        });
    };
    let flushed = |server: &TestServer| server.psql("SELECT pg_current_wal_flush_lsn()").unwrap();
    site.server.psql("INSERT INTO t VALUES (1)").unwrap();
    site.server.psql("CHECKPOINT").unwrap();
    replayed(&flushed(&site.server));
    site.backup().unwrap();
    site.server.psql("INSERT INTO t VALUES (2)").unwrap();
    let at = flushed(&site.server);
    replayed(&at);
    site.archive_to(&at).unwrap();

    site.server.stop(StopMode::Immediate).unwrap();
    middle.promote().unwrap();
    middle.psql("INSERT INTO t VALUES (3)").unwrap();
    middle.psql("SELECT pg_switch_wal()").unwrap();
    middle.psql("INSERT INTO t VALUES (4)").unwrap();
    let at = flushed(&middle);
    replayed(&at);
    let archived = site.archive_to(&at).unwrap();
    assert_eq!(archived["timeline"], 2, "{archived}");

    let copy = site.restore("latest", "latest", &PAUSE).unwrap();
    assert_eq!(copy.psql(ROWS).unwrap(), "1 2 3 4", "{}", copy.result);
    assert_eq!(copy.result["reached"]["timeline"], 2);
    copy.discard().unwrap();
    let mut current = PAUSE.to_vec();
    current.extend_from_slice(&["--timeline", "current"]);
    let copy = site.restore("latest", "current", &current).unwrap();
    assert_eq!(copy.psql(ROWS).unwrap(), "1 2", "{}", copy.result);
    assert_eq!(copy.result["reached"]["timeline"], 1);
    copy.discard().unwrap();
}

#[test]
fn recovery_025_stuck_on_old_timeline_on_15() {
    stuck_on_the_old_timeline(15);
}

#[test]
fn recovery_025_stuck_on_old_timeline_on_17() {
    stuck_on_the_old_timeline(17);
}

#[test]
fn recovery_025_stuck_on_old_timeline_on_18() {
    stuck_on_the_old_timeline(18);
}
