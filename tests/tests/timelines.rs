//! Timelines: after a promotion archiving goes on, and both branches can be restored.
#![allow(clippy::unwrap_used)]

use holdfast_tests::{
    pg::{StopMode, TestServer},
    protected::{CLUSTER, Protected},
    wait_for,
};
use serde_json::Value;
use std::{path::PathBuf, time::Duration};

const PAUSE: [&str; 3] = ["--start", "--at-target", "pause"];
const ROWS: &str = "SELECT coalesce(string_agg(n::text, ' ' ORDER BY n), '') FROM t";

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no text at {path} in {value}"))
}

fn add(server: &TestServer, n: u32) {
    server.psql(&format!("INSERT INTO t VALUES ({n})")).unwrap();
}

fn flushed(server: &TestServer) -> String {
    server.psql("SELECT pg_current_wal_flush_lsn()").unwrap()
}

fn catch_up(primary: &TestServer, standby: &TestServer) {
    let at = flushed(primary);
    wait_for("the standby", Duration::from_mins(1), || {
        let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{at}'");
        standby.psql(&sql).is_ok_and(|answer| answer == "t")
    });
}

fn check(site: &Protected, name: &str, target: &str, timeline: &[&str], rows: &str, reached: u64) {
    let mut more = PAUSE.to_vec();
    more.extend_from_slice(timeline);
    let copy = site.restore(target, name, &more).unwrap();
    assert_eq!(copy.psql(ROWS).unwrap(), rows, "{name}: {}", copy.result);
    assert_eq!(copy.result["reached"]["timeline"], reached, "{name}: {}", copy.result);
    copy.discard().unwrap();
}

fn names_below(folder: PathBuf) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            names.extend(names_below(entry.path()));
        } else {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    names
}

/// A standby is promoted after the primary has gone; the address leads to it from then on. The
/// primary wrote and archived what the standby never got: that branch stays reachable.
fn a_standby_is_promoted(major: u32, segments_beyond: u32) {
    let primary = TestServer::builder(major).config("autovacuum = off").start().unwrap();
    primary.psql("CREATE TABLE t (n int)").unwrap();
    let standby = TestServer::standby_of(&primary, None).unwrap();
    let dsn = format!(
        "host=127.0.0.1,127.0.0.1 port={},{} user=postgres dbname=postgres target_session_attrs=read-write",
        primary.port(),
        standby.port()
    );
    let mut site = Protected::with(primary, &dsn, None, Vec::new()).unwrap();
    add(&site.server, 1);
    site.backup().unwrap();
    add(&site.server, 2);
    site.archive().unwrap();
    catch_up(&site.server, &standby);
    // The standby loses touch, then the primary goes.
    standby.psql("ALTER SYSTEM SET primary_conninfo = ''").unwrap();
    standby.psql("SELECT pg_reload_conf()").unwrap();
    wait_for("the standby to let go", Duration::from_mins(1), || {
        site.server.psql("SELECT count(*) FROM pg_stat_replication").is_ok_and(|n| n == "0")
    });
    add(&site.server, 3);
    for _ in 0..segments_beyond {
        site.server.psql("SELECT pg_switch_wal()").unwrap();
        site.server.psql("CREATE TABLE IF NOT EXISTS filler (n int)").unwrap();
        site.server.psql("INSERT INTO filler VALUES (1)").unwrap();
    }
    site.archive().unwrap();
    site.server.stop(StopMode::Immediate).unwrap();
    standby.promote().unwrap();
    add(&standby, 22);
    site.archive_to(&flushed(&standby)).unwrap();
    add(&standby, 23);
    standby.psql("SELECT pg_create_restore_point('on two')").unwrap();
    let archived = site.archive_to(&flushed(&standby)).unwrap();
    assert_eq!(archived["timeline"], 2);

    let repository = PathBuf::from(site.url());
    assert_eq!(names_below(repository.join("history")), ["00000002.history"]);
    let points = site.points().unwrap();
    let windows = points["windows"].as_array().unwrap();
    assert_eq!(
        windows.iter().map(|w| w["timeline"].as_u64()).collect::<Vec<_>>(),
        [Some(1), Some(2)],
        "{points}"
    );
    assert!(windows.iter().all(|w| w["gaps"].as_array().is_some_and(Vec::is_empty)), "{points}");

    check(&site, "latest", "latest", &[], "1 2 22 23", 2);
    check(&site, "named", "name:on two", &["--timeline", "2"], "1 2 22 23", 2);
    check(&site, "one", "latest", &["--timeline", "1"], "1 2 3", 1);
    check(&site, "current", "latest", &["--timeline", "current"], "1 2 3", 1);

    // A backup of the new primary, and a restore from it.
    site.cli.json(&["backup", CLUSTER]).unwrap();
    add(&standby, 24);
    site.archive_to(&flushed(&standby)).unwrap();
    check(&site, "from-new", "latest", &[], "1 2 22 23 24", 2);
    check(&site, "one-again", "latest", &["--timeline", "1"], "1 2 3", 1);
    let (code, error) =
        site.refusal("latest", &site.destination("never"), &["--timeline", "3"]).unwrap();
    assert_eq!((code, text(&error, "/code")), (3, "timeline_history_missing"), "{error}");
    let verified = site.cli.json(&["verify", CLUSTER]).unwrap();
    assert_eq!(verified["ok"], true, "{verified}");
}

#[test]
fn a_standby_is_promoted_in_the_same_segment() {
    a_standby_is_promoted(15, 0);
}

#[test]
fn a_standby_is_promoted_segments_behind() {
    a_standby_is_promoted(17, 3);
}

/// Restored, promoted, archived; and that again: the second generation of point-in-time recovery.
fn restored_copies_go_on_as_timelines_of_their_own(major: u32) {
    let server = TestServer::builder(major).config("autovacuum = off").start().unwrap();
    server.psql("CREATE TABLE t (n int)").unwrap();
    let mut site = Protected::new(server).unwrap();
    site.backup().unwrap();
    add(&site.server, 1);
    site.server.psql("SELECT pg_create_restore_point('p1')").unwrap();
    add(&site.server, 2);
    site.archive().unwrap();
    site.server.stop(StopMode::Fast).unwrap();

    // Generation two: everything up to p1, then a life of its own. It keeps the source's address.
    let dsn_of = |server: &TestServer| server.dsn();
    let data = site.restore("name:p1", "second", &[]).unwrap().keep();
    let second = TestServer::builder(major).data_directory(&data).start().unwrap();
    site.cli.json(&["cluster", "add", "second", "--dsn", &dsn_of(&second)]).unwrap();
    add(&second, 20);
    second.psql("SELECT pg_create_restore_point('p2')").unwrap();
    add(&second, 21);
    site.cli.json(&["archive", "second", "--once-to", &flushed(&second)]).unwrap();
    check(&site, "latest-1", "latest", &[], "1 20 21", 2);
    check(&site, "old-branch", "latest", &["--timeline", "1"], "1 2", 1);

    // Generation three leaves generation two at p2; generation four leaves timeline one again: it must
    // not take a number that is taken.
    let third = site.restore("name:p2", "third", &["--start", "--at-target", "promote"]).unwrap();
    assert_eq!(third.psql("SELECT timeline_id FROM pg_control_checkpoint()").unwrap(), "3");
    assert_eq!(third.psql(ROWS).unwrap(), "1 20");
    third.discard().unwrap();
    let fourth = site
        .restore("name:p1", "fourth", &["--timeline", "1", "--start", "--at-target", "promote"])
        .unwrap();
    let timeline = fourth.psql("SELECT timeline_id FROM pg_control_checkpoint()").unwrap();
    assert_eq!(timeline, "3", "timeline 2 is taken, and not by this copy");
    fourth.discard().unwrap();

    // A backup of the second generation, and further on from it.
    let backup = site.cli.json(&["backup", "second"]).unwrap();
    assert_eq!(backup["snapshot"]["timeline"], 2, "{backup}");
    add(&second, 22);
    site.cli.json(&["archive", "second", "--once-to", &flushed(&second)]).unwrap();
    let destination = site.destination("from-second");
    let result = site
        .cli
        .json(&["restore", "run", "second", "--target", "latest", "--to", &destination])
        .unwrap();
    assert_eq!(result["verified"], true, "{result}");
    assert_eq!(result["reached"]["timeline"], 2);
    let own = TestServer::builder(major).data_directory(&destination).start().unwrap();
    assert_eq!(own.psql(ROWS).unwrap(), "1 20 21 22");
    drop(own);

    // The first server comes back to its own timeline: nothing of either branch is disturbed.
    site.server.start_again().unwrap();
    add(&site.server, 3);
    let dsn = site.server.dsn();
    site.cli.json(&["cluster", "remove", CLUSTER]).unwrap();
    site.cli.json(&["cluster", "add", CLUSTER, "--dsn", &dsn]).unwrap();
    site.archive().unwrap();
    check(&site, "first-again", "latest", &["--timeline", "1"], "1 2 3", 1);
    check(&site, "second-still", "latest", &["--timeline", "2"], "1 20 21 22", 2);
}

#[test]
fn recovery_028_pitr_timelines_on_15() {
    restored_copies_go_on_as_timelines_of_their_own(15);
}

#[test]
fn recovery_028_pitr_timelines_on_17() {
    restored_copies_go_on_as_timelines_of_their_own(17);
}

/// The history of timeline 2 below a folder.
fn find(folder: &std::path::Path) -> Option<PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        if entry.path().is_dir() {
            return find(&entry.path());
        }
        (entry.file_name() == "00000002.history").then(|| entry.path())
    })
}

/// A primary whose standby took its place, with both timelines archived; and the file that holds the
/// new one's ancestry.
fn promoted(major: u32) -> (Protected, TestServer, PathBuf) {
    let primary = TestServer::builder(major).config("autovacuum = off").start().unwrap();
    primary.psql("CREATE TABLE t (n int)").unwrap();
    let standby = TestServer::standby_of(&primary, None).unwrap();
    let dsn = format!(
        "host=127.0.0.1,127.0.0.1 port={},{} user=postgres dbname=postgres target_session_attrs=read-write",
        primary.port(),
        standby.port()
    );
    let mut site = Protected::with(primary, &dsn, None, Vec::new()).unwrap();
    site.backup().unwrap();
    add(&site.server, 1);
    site.archive().unwrap();
    catch_up(&site.server, &standby);
    site.server.stop(StopMode::Immediate).unwrap();
    standby.promote().unwrap();
    add(&standby, 2);
    site.archive_to(&flushed(&standby)).unwrap();
    let history = find(&PathBuf::from(site.url()).join("history")).unwrap();
    (site, standby, history)
}

fn plan(site: &Protected, more: &[&str]) -> Value {
    let to = site.destination("planned");
    let mut all = vec!["--json", "restore", "plan", CLUSTER, "--target", "latest", "--to", &to];
    all.extend_from_slice(more);
    site.cli.run(&all).unwrap().json().unwrap()
}

/// Without its history PostgreSQL would take the newer timeline for one that does not exist, and stop
/// at the end of its parent without a word.
fn a_history_is_missing(major: u32) {
    let (site, standby, history) = promoted(major);
    assert_eq!(plan(&site, &[])["predicted"]["timeline"], 2);
    let kept = std::fs::read(&history).unwrap();
    std::fs::remove_file(&history).unwrap();
    for more in [&["--timeline", "latest"], &["--timeline", "2"]] {
        let (code, error) = site.refusal("latest", &site.destination("never"), more).unwrap();
        assert_eq!((code, text(&error, "/code")), (3, "timeline_history_missing"), "{error}");
    }
    // What was meant to end there can.
    assert_eq!(plan(&site, &["--timeline", "current"])["predicted"]["timeline"], 1);
    std::fs::write(&history, kept).unwrap();
    check(&site, "again", "latest", &[], "1 2", 2);
    drop(standby);
}

#[test]
fn catalogue_04_a_missing_history_is_not_passed_over_on_15() {
    a_history_is_missing(15);
}

#[test]
fn catalogue_04_a_missing_history_is_not_passed_over_on_17() {
    a_history_is_missing(17);
}

/// A history that was lost is fetched again the next time that WAL is archived.
fn a_history_is_fetched_again(major: u32) {
    let (site, standby, history) = promoted(major);
    std::fs::remove_file(&history).unwrap();
    add(&standby, 3);
    site.archive_to(&flushed(&standby)).unwrap();
    assert!(history.exists(), "the history was not fetched again");
    assert_eq!(plan(&site, &[])["predicted"]["timeline"], 2);
}

#[test]
fn catalogue_05_a_history_is_fetched_again_on_15() {
    a_history_is_fetched_again(15);
}

#[test]
fn catalogue_05_a_history_is_fetched_again_on_17() {
    a_history_is_fetched_again(17);
}

/// Two copies that were promoted to the same timeline: the second is not mixed into the first.
#[test]
fn a_second_claim_to_a_timeline_is_refused() {
    let server = TestServer::builder(15).config("autovacuum = off").start().unwrap();
    server.psql("CREATE TABLE t (n int)").unwrap();
    let site = Protected::new(server).unwrap();
    site.backup().unwrap();
    add(&site.server, 1);
    site.server.psql("SELECT pg_create_restore_point('p1')").unwrap();
    add(&site.server, 2);
    site.server.psql("SELECT pg_create_restore_point('p2')").unwrap();
    add(&site.server, 3);
    site.archive().unwrap();
    let servers = ["p1", "p2"].map(|point| {
        let data = site.restore(&format!("name:{point}"), point, &[]).unwrap().keep();
        let server = TestServer::builder(15).data_directory(&data).start().unwrap();
        site.cli.json(&["cluster", "add", point, "--dsn", &server.dsn()]).unwrap();
        add(&server, 50);
        server
    });
    site.cli.json(&["archive", "p1", "--once-to", &flushed(&servers[0])]).unwrap();
    let to = flushed(&servers[1]);
    let (code, error) =
        holdfast_tests::protected::failure(&site.cli, &["archive", "p2", "--once-to", &to])
            .unwrap();
    assert_eq!((code, text(&error, "/code")), (5, "timeline_differs"), "{error}");
    check(&site, "two", "latest", &[], "1 50", 2);
}
