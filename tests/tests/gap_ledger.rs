//! The gap ledger: what was lost is recorded with both bounds and its cause, and nothing behind it is
//! offered before there is a new backup. The catalogue's numbers are those of failures that other tools
//! are known for.
#![allow(clippy::unwrap_used)]

use holdfast_tests::{
    cli::Finished,
    pg::{StopMode, TestServer},
    protected::{CLUSTER, Protected, failure},
    wait_for,
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_mins(2);
const ROWS: &str = "SELECT coalesce(string_agg(n::text, ' ' ORDER BY n), '') FROM t";
const PAUSE: [&str; 3] = ["--start", "--at-target", "pause"];

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no text at {path} in {value}"))
}

fn lsn(text: &str) -> u64 {
    let (high, low) = text.split_once('/').unwrap();
    u64::from_str_radix(high, 16).unwrap() << 32 | u64::from_str_radix(low, 16).unwrap()
}

/// A server with segments of 1 MiB that keeps no WAL beyond what it must.
fn server(major: u32) -> TestServer {
    let server = TestServer::builder(major)
        .wal_segment_size(1)
        .config("autovacuum = off")
        .config("wal_keep_size = 0")
        .config("min_wal_size = 2MB")
        .config("max_wal_size = 4MB")
        .start()
        .unwrap();
    server.psql("CREATE TABLE t (n int); CREATE TABLE filler (x text)").unwrap();
    server
}

fn add(server: &TestServer, n: u32) {
    server.psql(&format!("INSERT INTO t VALUES ({n})")).unwrap();
}

fn flushed(server: &TestServer) -> String {
    server.psql("SELECT pg_current_wal_flush_lsn()").unwrap()
}

fn slot(server: &TestServer) -> String {
    server.psql("SELECT slot_name FROM pg_replication_slots").unwrap()
}

fn drop_slot(server: &TestServer) -> String {
    let name = slot(server);
    server.psql(&format!("SELECT pg_drop_replication_slot('{name}')")).unwrap();
    name
}

/// Writes until the server has removed the WAL that it writes now.
fn lose_wal(server: &TestServer) {
    let file = server.psql("SELECT pg_walfile_name(pg_current_wal_lsn())").unwrap();
    wait_for("the server to remove WAL", PATIENCE, || {
        server
            .psql("INSERT INTO filler SELECT repeat('x', 500) FROM generate_series(1, 3000)")
            .unwrap();
        server.psql("SELECT pg_switch_wal()").unwrap();
        server.psql("CHECKPOINT").unwrap();
        !server.data().join("pg_wal").join(&file).exists()
    });
}

/// Sends the server onto a new timeline, as the end of an archive recovery does.
fn new_timeline(server: &mut TestServer) {
    server.stop(StopMode::Fast).unwrap();
    server.configure("restore_command = 'false'").unwrap();
    fs::write(server.data().join("recovery.signal"), "").unwrap();
    server.account().take_over(&server.data().join("recovery.signal")).unwrap();
    server.start_again().unwrap();
    wait_for("recovery to end", PATIENCE, || {
        server.psql("SELECT pg_is_in_recovery()").is_ok_and(|answer| answer == "f")
    });
}

fn windows(points: &Value) -> Vec<(u64, u64, u64)> {
    let bounds = |w: &Value| {
        (w["timeline"].as_u64().unwrap(), lsn(text(w, "/from_lsn")), lsn(text(w, "/to_lsn")))
    };
    points["windows"].as_array().unwrap().iter().map(bounds).collect()
}

/// Archives what is flushed now; the result, and the codes of the alerts it raised.
fn archive(site: &Protected, more: &[&str]) -> (Value, Vec<String>) {
    let to = flushed(&site.server);
    let mut arguments = vec!["--json", "--progress", "json", "archive", CLUSTER, "--once-to", &to];
    arguments.extend_from_slice(more);
    let finished = site.cli.run(&arguments).unwrap();
    assert_eq!(finished.code, 0, "{finished}");
    (finished.json().unwrap(), alerts(&finished))
}

fn alerts(finished: &Finished) -> Vec<String> {
    finished
        .progress()
        .iter()
        .filter(|event| event["kind"] == "alert")
        .map(|event| text(event, "/code").to_owned())
        .collect()
}

fn rows(site: &Protected, name: &str, more: &[&str]) -> String {
    let all = [&PAUSE[..], more].concat();
    let copy = site.restore("latest", name, &all).unwrap();
    let rows = copy.psql(ROWS).unwrap();
    copy.discard().unwrap();
    rows
}

fn objects(site: &Protected, below: &str) -> Vec<PathBuf> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                collect(&entry.path(), found);
            } else {
                found.push(entry.path());
            }
        }
    }
    let mut found = Vec::new();
    collect(&Path::new(site.url()).join(below), &mut found);
    found.sort();
    found
}

/// The stream begins before the backup: every byte that the backup needs is archived although nobody
/// archived before. Where such WAL is missing, the backup is not offered.
fn a_backup_is_covered_from_its_first_byte(major: u32) {
    let site = Protected::new(server(major)).unwrap();
    add(&site.server, 1);
    site.server
        .psql("INSERT INTO filler SELECT repeat('x', 500) FROM generate_series(1, 3000)")
        .unwrap();
    let snapshot = site.backup().unwrap()["snapshot"].clone();
    let points = site.points().unwrap();
    let (from, to) = (lsn(text(&snapshot, "/start_lsn")), lsn(text(&snapshot, "/stop_lsn")));
    let covered = windows(&points);
    assert!(covered.len() == 1 && covered[0].1 <= from && covered[0].2 >= to, "{points}");
    assert!(points["needs_snapshot"].is_null(), "{points}");

    let file =
        site.server.psql(&format!("SELECT pg_walfile_name('{}')", text(&snapshot, "/start_lsn")));
    let file = file.unwrap();
    for object in objects(&site, "wal").into_iter().chain(objects(&site, "slices")) {
        if object.to_string_lossy().contains(&file) {
            fs::remove_file(object).unwrap();
        }
    }
    let points = site.points().unwrap();
    assert_eq!(points["snapshots"][0]["state"], "broken", "{points}");
    assert_eq!(points["needs_snapshot"]["reason"], "no_whole_snapshot", "{points}");
    let (code, error) = site.refusal("latest", &site.destination("never"), &[]).unwrap();
    assert_eq!(code, 3, "{error}");
    assert!(!Path::new(&site.destination("never")).exists());
}

#[test]
fn catalogue_01_a_backup_is_covered_from_its_first_byte_on_15() {
    a_backup_is_covered_from_its_first_byte(15);
}

#[test]
fn catalogue_01_a_backup_is_covered_from_its_first_byte_on_17() {
    a_backup_is_covered_from_its_first_byte(17);
}

/// The slot is dropped, WAL is lost, and a slot of the same name is made by somebody else: the new one
/// holds WAL from later on. The gap begins where the archive ended, within a segment, and ends where it
/// goes on, not at "now"; what lies behind it is restorable only from a backup taken behind it.
fn a_recreated_slot_is_a_gap(major: u32) {
    let site = Protected::new(server(major)).unwrap();
    site.backup().unwrap();
    add(&site.server, 1);
    archive(&site, &[]);
    let before = windows(&site.points().unwrap());
    let name = drop_slot(&site.server);
    add(&site.server, 2);
    lose_wal(&site.server);
    site.server
        .psql(&format!("SELECT pg_create_physical_replication_slot('{name}', true)"))
        .unwrap();
    add(&site.server, 3);
    let (result, alerts) = archive(&site, &[]);
    assert!(alerts.contains(&"wal_gap".to_owned()), "{alerts:?}");
    let points = site.points().unwrap();
    let covered = windows(&points);
    assert_eq!(covered.len(), 2, "{points}");
    for gap in [&result["gaps"][0], &points["gaps"][0], &points["windows"][1]["gaps"][0]] {
        assert_eq!(text(gap, "/cause"), "slot_recreated", "{points}");
        assert_eq!(lsn(text(gap, "/from_lsn")), before[0].2, "{points}");
        assert_eq!(lsn(text(gap, "/to_lsn")), covered[1].1, "{points}");
        assert!(!text(gap, "/explanation").is_empty());
    }
    assert_eq!(covered[0], before[0]);
    assert_ne!(before[0].2 % (1 << 20), 0, "the gap begins within a segment");
    for needs in [&result["needs_snapshot"], &points["needs_snapshot"]] {
        assert_eq!(text(needs, "/reason"), "gap", "{points}");
        assert_eq!(text(needs, "/gap/cause"), "slot_recreated");
    }
    // The first backup leads up to the gap, and no further.
    assert_eq!(rows(&site, "before", &[]), "1");
    let target = format!("lsn:{}", text(&result, "/durable_lsn"));
    let (code, error) = site.refusal(&target, &site.destination("never"), &[]).unwrap();
    assert_eq!(code, 3, "{error}");

    // A second look finds the same gap, and a backup ends the need.
    let (again, _) = archive(&site, &[]);
    assert_eq!(again["gaps"], Value::Array(Vec::new()), "{again}");
    site.backup().unwrap();
    add(&site.server, 4);
    let (result, _) = archive(&site, &[]);
    assert!(result["needs_snapshot"].is_null(), "{result}");
    let points = site.points().unwrap();
    assert_eq!(points["gaps"].as_array().unwrap().len(), 1, "{points}");
    assert_eq!(rows(&site, "after", &[]), "1 2 3 4");
}

#[test]
fn catalogue_03_a_recreated_slot_is_a_gap_on_15() {
    a_recreated_slot_is_a_gap(15);
}

#[test]
fn catalogue_03_a_recreated_slot_is_a_gap_on_17() {
    a_recreated_slot_is_a_gap(17);
}

/// A slot that was made anew is no gap while the server still has the older WAL: it is asked for.
fn an_older_position_is_tried_first(major: u32) {
    let site =
        Protected::new(TestServer::builder(major).config("wal_keep_size = 1GB").start().unwrap())
            .unwrap();
    site.server.psql("CREATE TABLE t (n int)").unwrap();
    site.backup().unwrap();
    archive(&site, &[]);
    let name = drop_slot(&site.server);
    add(&site.server, 1);
    site.server.psql("SELECT pg_switch_wal()").unwrap();
    site.server.psql("CHECKPOINT").unwrap();
    site.server
        .psql(&format!("SELECT pg_create_physical_replication_slot('{name}', true)"))
        .unwrap();
    add(&site.server, 2);
    let (result, alerts) = archive(&site, &[]);
    assert_eq!(result["gaps"], Value::Array(Vec::new()), "{result}");
    assert!(result["needs_snapshot"].is_null() && alerts.is_empty(), "{result} {alerts:?}");
    assert_eq!(windows(&site.points().unwrap()).len(), 1);
    assert_eq!(rows(&site, "copy", &[]), "1 2");
}

#[test]
fn catalogue_03_an_older_position_is_tried_first_on_15() {
    an_older_position_is_tried_first(15);
}

#[test]
fn catalogue_03_an_older_position_is_tried_first_on_17() {
    an_older_position_is_tried_first(17);
}

/// The gap asks for a backup, and `--backup-on-gap` takes it; its bounds do not move when nobody looked
/// for a while. An archive that runs on takes it beside the stream.
fn a_gap_is_bounded_and_answered_with_a_backup(major: u32) {
    let site = Protected::new(server(major)).unwrap();
    site.backup().unwrap();
    add(&site.server, 1);
    archive(&site, &[]);
    drop_slot(&site.server);
    lose_wal(&site.server);
    let (result, _) = archive(&site, &["--backup-on-gap"]);
    let gap = result["gaps"][0].clone();
    assert!(result["needs_snapshot"].is_null(), "{result}");
    assert!(!text(&result, "/backup").is_empty());
    add(&site.server, 2);
    archive(&site, &[]);
    let points = site.points().unwrap();
    for bound in ["/from_lsn", "/to_lsn"] {
        assert_eq!(text(&points["gaps"][0], bound), text(&gap, bound), "{points}");
    }
    assert_eq!(rows(&site, "copy", &[]), "1 2");

    drop_slot(&site.server);
    lose_wal(&site.server);
    let running = site.cli.start(&["--json", "archive", CLUSTER, "--backup-on-gap"]).unwrap();
    wait_for("the second backup after a gap", PATIENCE, || {
        site.points().unwrap()["snapshots"].as_array().unwrap().len() == 3
    });
    let ended = running.terminate(PATIENCE).unwrap();
    assert_eq!(ended.code, 0, "{ended}");
    assert!(ended.json().unwrap()["needs_snapshot"].is_null(), "{ended}");
    let points = site.points().unwrap();
    assert_eq!(points["gaps"].as_array().unwrap().len(), 2, "{points}");
    assert!(points["needs_snapshot"].is_null(), "{points}");
}

#[test]
fn catalogue_02_a_gap_is_bounded_and_answered_with_a_backup_on_15() {
    a_gap_is_bounded_and_answered_with_a_backup(15);
}

#[test]
fn catalogue_02_a_gap_is_bounded_and_answered_with_a_backup_on_17() {
    a_gap_is_bounded_and_answered_with_a_backup(17);
}

/// A history file that is missing is noticed, not passed over: PostgreSQL would stop silently at the
/// parent's end. The next archive run fetches it again, with the ancestors' own.
fn missing_histories_are_noticed_and_fetched_again(major: u32) {
    let mut site = Protected::new(server(major)).unwrap();
    site.backup().unwrap();
    add(&site.server, 1);
    archive(&site, &[]);
    for n in [2, 3] {
        new_timeline(&mut site.server);
        add(&site.server, n);
        archive(&site, &[]);
    }
    let histories = objects(&site, "history");
    assert_eq!(histories.len(), 2, "the whole ancestry: {histories:?}");
    for history in &histories {
        fs::remove_file(history).unwrap();
    }
    let (code, error) = site.refusal("latest", &site.destination("never"), &[]).unwrap();
    assert_eq!((code, text(&error, "/code")), (3, "timeline_history_missing"), "{error}");
    let points = site.points().unwrap();
    assert_eq!(points["needs_snapshot"]["reason"], "timeline", "{points}");
    // The way along the first timeline is known without any.
    assert_eq!(rows(&site, "one", &["--timeline", "1"]), "1");
    archive(&site, &[]);
    assert_eq!(objects(&site, "history"), histories);
    assert_eq!(rows(&site, "three", &[]), "1 2 3");
    // An ancestor's alone: the child's lists it, and it comes back all the same.
    fs::remove_file(&histories[0]).unwrap();
    assert_eq!(rows(&site, "three-again", &[]), "1 2 3");
    archive(&site, &[]);
    assert_eq!(objects(&site, "history"), histories);
}

#[test]
fn catalogue_04_05_missing_histories_are_noticed_and_fetched_again_on_15() {
    missing_histories_are_noticed_and_fetched_again(15);
}

#[test]
fn catalogue_04_05_missing_histories_are_noticed_and_fetched_again_on_17() {
    missing_histories_are_noticed_and_fetched_again(17);
}

/// Continuity is one of bytes from the first record on: a record that crosses segments, the middle one
/// of which is missing, ends the way in front of it.
fn a_record_across_segments_needs_them_all(major: u32) {
    let site = Protected::new(server(major)).unwrap();
    site.backup().unwrap();
    add(&site.server, 1);
    // One record of 2.5 MiB: it fills at least one segment to the brim.
    let began = site.server.wal_position().unwrap();
    site.server.psql("SELECT pg_logical_emit_message(false, 'big', repeat('x', 2621440))").unwrap();
    add(&site.server, 2);
    archive(&site, &[]);
    assert_eq!(rows(&site, "whole", &[]), "1 2");
    let middle = format!("SELECT pg_walfile_name('{began}'::pg_lsn + 1048576)");
    let middle = site.server.psql(&middle).unwrap();
    let object =
        objects(&site, "wal").into_iter().find(|o| o.ends_with(&middle)).expect("a whole segment");
    fs::remove_file(object).unwrap();
    assert_eq!(rows(&site, "cut", &[]), "1");
    let points = site.points().unwrap();
    assert_eq!(points["windows"].as_array().unwrap().len(), 2, "{points}");
    assert_eq!(points["needs_snapshot"]["reason"], "missing_wal", "{points}");
    let verified = site.cli.run(&["--json", "verify", CLUSTER]).unwrap();
    assert_eq!(verified.code, 5, "a hole that nobody recorded is damage: {verified}");
}

#[test]
fn catalogue_06_a_record_across_segments_needs_them_all_on_15() {
    a_record_across_segments_needs_them_all(15);
}

#[test]
fn catalogue_06_a_record_across_segments_needs_them_all_on_17() {
    a_record_across_segments_needs_them_all(17);
}

/// Nobody archived while the server went on to another timeline: the parent's rest is fetched first.
fn a_promotion_nobody_saw_is_followed_from_the_parent(major: u32) {
    let mut site = Protected::new(server(major)).unwrap();
    site.backup().unwrap();
    add(&site.server, 1);
    archive(&site, &[]);
    add(&site.server, 2);
    for _ in 0..3 {
        site.server
            .psql("INSERT INTO filler SELECT repeat('x', 500) FROM generate_series(1, 3000)")
            .unwrap();
    }
    add(&site.server, 3);
    new_timeline(&mut site.server);
    add(&site.server, 4);
    let (result, _) = archive(&site, &[]);
    assert_eq!(result["timeline"], 2);
    assert_eq!(result["gaps"], Value::Array(Vec::new()), "{result}");
    assert!(result["needs_snapshot"].is_null(), "{result}");
    let points = site.points().unwrap();
    let covered = windows(&points);
    assert_eq!(covered.iter().map(|w| w.0).collect::<Vec<_>>(), [1, 2], "{points}");
    assert_eq!(rows(&site, "copy", &[]), "1 2 3 4");
}

#[test]
fn catalogue_07_a_promotion_nobody_saw_is_followed_from_the_parent_on_15() {
    a_promotion_nobody_saw_is_followed_from_the_parent(15);
}

#[test]
fn catalogue_07_a_promotion_nobody_saw_is_followed_from_the_parent_on_17() {
    a_promotion_nobody_saw_is_followed_from_the_parent(17);
}

/// WAL of two timelines is lost at once: each has its part of the gap.
fn a_gap_straddles_timelines(major: u32) {
    let mut site = Protected::new(server(major)).unwrap();
    site.backup().unwrap();
    add(&site.server, 1);
    archive(&site, &[]);
    let frontier = windows(&site.points().unwrap())[0].2;
    drop_slot(&site.server);
    lose_wal(&site.server);
    new_timeline(&mut site.server);
    let switched = site.server.data().join("pg_wal/00000002.history");
    let switched = fs::read_to_string(switched).unwrap();
    let switched = lsn(switched.split_whitespace().nth(1).unwrap());
    lose_wal(&site.server);
    add(&site.server, 2);
    let (result, alerts) = archive(&site, &["--backup-on-gap"]);
    assert_eq!(alerts.iter().filter(|code| *code == "wal_gap").count(), 2, "{alerts:?}");
    let points = site.points().unwrap();
    let gaps = points["gaps"].as_array().unwrap();
    let bounds: Vec<_> = gaps
        .iter()
        .map(|g| (g["timeline"].as_u64(), lsn(text(g, "/from_lsn")), lsn(text(g, "/to_lsn"))))
        .collect();
    let covered = windows(&points);
    let begins = covered.iter().find(|w| w.0 == 2).unwrap().1;
    assert_eq!(bounds, [(Some(1), frontier, switched), (Some(2), switched, begins)], "{points}");
    assert!(result["needs_snapshot"].is_null(), "{result}");
    assert_eq!(rows(&site, "after", &[]), "1 2");
    assert_eq!(rows(&site, "before", &["--timeline", "1"]), "1");
}

#[test]
fn catalogue_08_a_gap_straddles_timelines_on_15() {
    a_gap_straddles_timelines(15);
}

#[test]
fn catalogue_08_a_gap_straddles_timelines_on_17() {
    a_gap_straddles_timelines(17);
}

/// The old primary does not know of its successor and writes on: its WAL is kept as the branch that it
/// is, somebody is told, and the newest state stays the successor's.
fn a_demoted_primary_is_not_taken_for_the_newest_state(major: u32) {
    let site = Protected::new(server(major)).unwrap();
    site.backup().unwrap();
    add(&site.server, 1);
    archive(&site, &[]);
    let standby = TestServer::standby_of(&site.server, None).unwrap();
    standby.promote().unwrap();
    site.cli.json(&["cluster", "add", "successor", "--dsn", &standby.dsn()]).unwrap();
    add(&standby, 2);
    site.cli.json(&["archive", "successor", "--once-to", &flushed(&standby)]).unwrap();
    add(&site.server, 30);
    let (result, alerts) = archive(&site, &[]);
    assert_eq!(alerts, ["stale_timeline"], "{result}");
    assert_eq!(result["timeline"], 1);
    assert_eq!(rows(&site, "newest", &[]), "1 2");
    assert_eq!(rows(&site, "branch", &["--timeline", "1"]), "1 30");
}

#[test]
fn catalogue_09_a_demoted_primary_is_not_taken_for_the_newest_state_on_15() {
    a_demoted_primary_is_not_taken_for_the_newest_state(15);
}

#[test]
fn catalogue_09_a_demoted_primary_is_not_taken_for_the_newest_state_on_17() {
    a_demoted_primary_is_not_taken_for_the_newest_state(17);
}

/// Another system answers at the address: refused with both identifiers, and the ledger says since when.
fn another_system_is_refused(major: u32, other: u32, cause: &str) {
    let second = TestServer::start(other).unwrap();
    let first = server(major);
    let dsn = format!(
        "host=127.0.0.1,127.0.0.1 port={},{} user=postgres dbname=postgres",
        first.port(),
        second.port()
    );
    let mut site = Protected::with(first, &dsn, None, Vec::new()).unwrap();
    site.backup().unwrap();
    add(&site.server, 1);
    archive(&site, &[]);
    let covered = windows(&site.points().unwrap());
    let own = site.server.psql("SELECT system_identifier FROM pg_control_system()").unwrap();
    let found = second.psql("SELECT system_identifier FROM pg_control_system()").unwrap();
    site.server.stop(StopMode::Fast).unwrap();
    let commands: [&[&str]; 3] = [
        &["archive", CLUSTER, "--once-to", "0/1"],
        &["backup", CLUSTER],
        &["archive", CLUSTER, "--once-to", "0/1"],
    ];
    for command in commands {
        let (code, error) = failure(&site.cli, command).unwrap();
        assert_eq!((code, text(&error, "/code")), (3, "foreign_system_identifier"), "{error}");
        let message = text(&error, "/message");
        assert!(message.contains(&own) && message.contains(&found), "{message}");
    }
    let points = site.points().unwrap();
    let changes = points["system_changes"].as_array().unwrap();
    assert_eq!(changes.len(), 1, "noted once: {points}");
    assert_eq!(text(&changes[0], "/cause"), cause);
    assert_eq!(text(&changes[0], "/found"), found);
    assert_eq!(lsn(text(&changes[0], "/at_lsn")), covered[0].2, "{points}");
    assert_eq!(windows(&points), covered, "nothing of it was archived");
    assert_eq!(second.psql("SELECT count(*) FROM pg_replication_slots").unwrap(), "0");
    assert_eq!(rows(&site, "copy", &[]), "1");
}

#[test]
fn catalogue_10_a_server_that_was_initialised_anew_is_refused_on_15() {
    another_system_is_refused(15, 15, "re_init");
}

#[test]
fn catalogue_10_an_upgraded_server_is_refused_on_17() {
    another_system_is_refused(15, 17, "upgrade");
}

/// `restore_command` never serves another cluster's WAL: not by its name, and not when objects of two
/// clusters were exchanged in the store.
fn wal_of_another_cluster_is_never_served(major: u32) {
    let site = Protected::new(server(major)).unwrap();
    site.backup().unwrap();
    let second = server(major);
    site.cli.json(&["cluster", "add", "second", "--dsn", &second.dsn()]).unwrap();
    let whole = |server: &TestServer| {
        add(server, 1);
        server.psql("SELECT pg_walfile_name(pg_switch_wal())").unwrap()
    };
    let name = whole(&site.server);
    archive(&site, &[]);
    // The slot comes first: a checkpoint in between would have it begin behind that segment.
    let archive_second = || {
        site.cli.json(&["archive", "second", "--once-to", &flushed(&second)]).unwrap();
    };
    archive_second();
    while whole(&second) < name {}
    archive_second();
    let system = |server: &TestServer| {
        server.psql("SELECT system_identifier FROM pg_control_system()").unwrap()
    };
    let ask = |server: &TestServer, name: &str| {
        let data = server.data().display().to_string();
        let to = site.destination("served");
        let _ = fs::remove_file(&to);
        let _ = fs::remove_dir_all(site.root().join("home/wal"));
        let asked = site.cli.run(&["wal-get", "--data-directory", &data, name, &to]).unwrap();
        assert_eq!(asked.code == 0, Path::new(&to).exists(), "{asked}");
        asked.code
    };
    assert_eq!((ask(&site.server, &name), ask(&second, &name)), (0, 0));
    let wal = Path::new(site.url()).join("wal");
    let object = |server: &TestServer| wal.join(system(server)).join("00000001").join(&name);
    let kept = fs::read(object(&second)).unwrap();
    fs::copy(object(&site.server), object(&second)).unwrap();
    assert_eq!(ask(&second, &name), 200, "an object that was exchanged");
    fs::write(object(&second), kept).unwrap();
    assert_eq!(ask(&second, &name), 0);
    // A third cluster, of which nothing is archived here: proven absent, whatever others have.
    let third = server(major);
    assert_eq!(ask(&third, &name), 1);
}

#[test]
fn catalogue_29_wal_of_another_cluster_is_never_served_on_15() {
    wal_of_another_cluster_is_never_served(15);
}

#[test]
fn catalogue_29_wal_of_another_cluster_is_never_served_on_17() {
    wal_of_another_cluster_is_never_served(17);
}

/// Backups begin and end, archives stop and go on at any byte: nothing here may count on whole segments.
fn nothing_needs_whole_segments(major: u32) {
    let site = Protected::new(server(major)).unwrap();
    let mut expected = String::new();
    for n in 1..=4_u32 {
        add(&site.server, n * 10);
        let snapshot = site.backup().unwrap()["snapshot"].clone();
        let start = lsn(text(&snapshot, "/start_lsn"));
        assert_ne!(start % (1 << 20), 0, "it begins within a segment: {snapshot}");
        add(&site.server, n * 10 + 1);
        let (result, _) = archive(&site, &[]);
        assert_ne!(lsn(text(&result, "/durable_lsn")) % (1 << 20), 0);
        expected = format!("{expected}{}{} {}", if n == 1 { "" } else { " " }, n * 10, n * 10 + 1);
        assert_eq!(rows(&site, "copy", &[]), expected);
        let id = text(&snapshot, "/id").to_owned();
        assert_eq!(rows(&site, "from-it", &["--snapshot", &id]), expected);
    }
    let points = site.points().unwrap();
    assert_eq!(windows(&points).len(), 1, "{points}");
    assert!(points["gaps"].as_array().unwrap().is_empty());
}

#[test]
fn catalogue_30_nothing_needs_whole_segments_on_15() {
    nothing_needs_whole_segments(15);
}

#[test]
fn catalogue_30_nothing_needs_whole_segments_on_17() {
    nothing_needs_whole_segments(17);
}

/// PostgreSQL's own 019_replslot_limit, with the archive as the slot's reader: each state of the slot is
/// seen, a slot that can still be read loses nothing, and a lost one is a gap.
fn a_slots_states_are_watched(major: u32) {
    let site = Protected::new(server(major)).unwrap();
    site.backup().unwrap();
    let name = slot(&site.server);
    let status = || {
        let sql = format!("SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{name}'");
        site.server.psql(&sql).unwrap()
    };
    let advance = || {
        site.server
            .psql("INSERT INTO filler SELECT repeat('x', 500) FROM generate_series(1, 2000)")
            .unwrap();
        site.server.psql("SELECT pg_switch_wal()").unwrap();
    };
    archive(&site, &[]);
    assert_eq!(status(), "reserved");

    // Beyond max_wal_size, but without a limit: kept all the same.
    for _ in 0..6 {
        advance();
    }
    site.server.psql("CHECKPOINT").unwrap();
    assert_eq!(status(), "extended");
    add(&site.server, 1);
    let (result, _) = archive(&site, &[]);
    assert_eq!(result["gaps"], Value::Array(Vec::new()), "{result}");

    // With a limit that is passed while nothing was removed yet: still all there for whoever is quick.
    // No checkpoint comes by itself and removes it.
    site.server.configure("max_wal_size = 1GB").unwrap();
    site.server.configure("max_slot_wal_keep_size = 3MB").unwrap();
    for _ in 0..6 {
        advance();
    }
    assert_eq!(status(), "unreserved");
    add(&site.server, 2);
    let (result, _) = archive(&site, &[]);
    assert_eq!(result["gaps"], Value::Array(Vec::new()), "{result}");
    assert_eq!(rows(&site, "unreserved", &[]), "1 2");
    site.server.psql("CHECKPOINT").unwrap();

    // And lost.
    add(&site.server, 3);
    wait_for("the slot to be lost", PATIENCE, || {
        advance();
        site.server.psql("CHECKPOINT").unwrap();
        status() == "lost"
    });
    let (result, alerts) = archive(&site, &[]);
    assert!(alerts.contains(&"slot_lost".to_owned()), "{alerts:?}");
    assert_eq!(text(&result["gaps"][0], "/cause"), "slot_lost", "{result}");
    assert_eq!(text(&result, "/needs_snapshot/reason"), "gap");
    assert_eq!(rows(&site, "before", &[]), "1 2");
    let state = status();
    assert!(state == "reserved" || state == "extended", "the slot is made anew: {state}");
    // While it runs, the archive shows the slot's state.
    let running = site.cli.start(&["archive", CLUSTER]).unwrap();
    wait_for("the slot to be shown", PATIENCE, || {
        let points = site.points().unwrap();
        points["slot"]["name"] == name.as_str() && points["slot"]["held_bytes"].is_number()
    });
    running.terminate(PATIENCE).unwrap();
    site.backup().unwrap();
    add(&site.server, 4);
    archive(&site, &[]);
    assert_eq!(rows(&site, "after", &[]), "1 2 3 4");
}

#[test]
fn recovery_019_replslot_limit_on_15() {
    a_slots_states_are_watched(15);
}

#[test]
fn recovery_019_replslot_limit_on_17() {
    a_slots_states_are_watched(17);
}

/// A laptop slept for too long: rather a gap and a new backup than a server whose disk is full.
fn a_slot_that_holds_too_much_is_given_up(major: u32) {
    let site = Protected::new(server(major)).unwrap();
    site.backup().unwrap();
    add(&site.server, 1);
    archive(&site, &[]);
    let name = slot(&site.server);
    let restart =
        || lsn(&site.server.psql("SELECT restart_lsn FROM pg_replication_slots").unwrap());
    let held_from = restart();
    let fill = || {
        for _ in 0..6 {
            site.server
                .psql("INSERT INTO filler SELECT repeat('x', 500) FROM generate_series(1, 2000)")
                .unwrap();
        }
        site.server.psql("CHECKPOINT").unwrap();
    };
    fill();
    // Less than is allowed: read to the end.
    let (result, alerts) = archive(&site, &["--drop-slot-after", "1GB"]);
    assert_eq!(result["gaps"], Value::Array(Vec::new()), "{result} {alerts:?}");
    let frontier = windows(&site.points().unwrap())[0].2;
    fill();
    add(&site.server, 2);
    let (result, alerts) = archive(&site, &["--drop-slot-after", "2MB", "--backup-on-gap"]);
    assert!(alerts.contains(&"slot_dropped".to_owned()), "{alerts:?}");
    let gap = &result["gaps"][0];
    assert_eq!(text(gap, "/cause"), "slot_dropped", "{result}");
    assert_eq!(lsn(text(gap, "/from_lsn")), frontier);
    assert!(restart() > held_from && restart() >= lsn(text(gap, "/to_lsn")), "{result}");
    assert_eq!(slot(&site.server), name);
    assert!(result["needs_snapshot"].is_null(), "{result}");
    assert_eq!(rows(&site, "after", &[]), "1 2");
}

#[test]
fn a_slot_that_holds_too_much_is_given_up_on_15() {
    a_slot_that_holds_too_much_is_given_up(15);
}

#[test]
fn a_slot_that_holds_too_much_is_given_up_on_17() {
    a_slot_that_holds_too_much_is_given_up(17);
}

/// What a slot may cost is said with numbers before it is made; what is not known is null.
#[test]
fn the_cost_of_a_slot_is_told_before_it_is_made() {
    let site = Protected::new(server(17)).unwrap();
    assert_eq!(slot(&site.server), "", "not yet");
    let check = site.cli.json(&["cluster", "check", CLUSTER]).unwrap();
    let cost = &check["slot_cost"];
    assert!(cost["keep_limit_bytes"].is_null() && cost["hours_until_lost"].is_null(), "{check}");
    assert!(cost["wal_bytes"].as_u64().unwrap() >= 1 << 20, "{check}");
    assert!(cost["free_bytes"].as_u64().unwrap() > 0, "{check}");
    assert!(cost["wal_bytes_per_second"].is_number(), "{check}");
    let finding = |check: &Value, code: &str| {
        check["findings"]
            .as_array()
            .unwrap()
            .iter()
            .find(|f| f["code"] == code)
            .unwrap_or_else(|| panic!("no {code} in {check}"))
            .clone()
    };
    let told = finding(&check, "slot_may_fill_disk");
    assert!(text(&told, "/message").contains("free"), "{told}");
    // The first archive says it too, before it makes the slot.
    let to = flushed(&site.server);
    let first = site
        .cli
        .run(&["--json", "--progress", "json", "archive", CLUSTER, "--once-to", &to])
        .unwrap();
    assert!(
        first.progress().iter().any(|e| e["kind"] == "warning"
            && e["message"].as_str().is_some_and(|m| m.contains("max_slot_wal_keep_size"))),
        "{first}"
    );
    site.server.configure("max_slot_wal_keep_size = 64MB").unwrap();
    let check = site.cli.json(&["cluster", "check", CLUSTER]).unwrap();
    assert_eq!(check["slot_cost"]["keep_limit_bytes"], 64 << 20, "{check}");
    finding(&check, "slot_keeps_at_most");
}
