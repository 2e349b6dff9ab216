//! Incremental backups of 17 and 18: what is kept is whole, byte for byte what PostgreSQL's own
//! `pg_combinebackup` makes, and where an incremental backup is not possible the reason is said.
//!
//! The names are those of the scenarios in `src/bin/pg_combinebackup/t` that are rebuilt.
#![allow(clippy::unwrap_used)]

use holdfast_tests::{
    pg::{StopMode, TestServer},
    protected::{CLUSTER, Protected, failure},
    wait_for,
};
use serde_json::Value;
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

const INCREMENTAL: [&str; 4] = ["backup", CLUSTER, "--incremental", "require"];
const AUTO: [&str; 4] = ["backup", CLUSTER, "--incremental", "auto"];

fn summarizing(major: u32) -> TestServer {
    TestServer::builder(major)
        .config("summarize_wal = on")
        .config("autovacuum = off")
        .config("max_slot_wal_keep_size = -1")
        .start()
        .unwrap()
}

fn run(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn psql(server: &TestServer, sql: &str) {
    for statement in sql.split(';').map(str::trim).filter(|s| !s.is_empty()) {
        server.psql(statement).unwrap();
    }
}

/// A table that grows, one that is truncated, one that shrinks, one that is dropped later, an unlogged
/// one and a database: what the scenarios of PostgreSQL change between two backups.
fn before(server: &TestServer) {
    psql(
        server,
        "CREATE TABLE grows AS SELECT n, repeat('x', 500) AS t FROM generate_series(1, 20000) n;
         CREATE INDEX ON grows (n);
         CREATE TABLE emptied AS SELECT n FROM generate_series(1, 20000) n;
         CREATE TABLE shrinks AS SELECT n, repeat('y', 500) AS t FROM generate_series(1, 20000) n;
         CREATE TABLE dropped AS SELECT n FROM generate_series(1, 20000) n;
         CREATE TABLE stays AS SELECT n, repeat('z', 500) AS t FROM generate_series(1, 20000) n;
         CREATE UNLOGGED TABLE unlogged AS SELECT n FROM generate_series(1, 1000) n;
         CREATE DATABASE goes;
         VACUUM FREEZE;
         CHECKPOINT",
    );
}

fn between(server: &TestServer) {
    psql(
        server,
        "UPDATE grows SET t = repeat('u', 500) WHERE n % 997 = 0;
         INSERT INTO grows SELECT n, 'new' FROM generate_series(20001, 20500) n;
         TRUNCATE emptied;
         INSERT INTO emptied VALUES (1);
         DELETE FROM shrinks WHERE n > 5000;
         VACUUM shrinks;
         DROP TABLE dropped;
         CREATE TABLE arrives AS SELECT n FROM generate_series(1, 5000) n;
         DROP DATABASE goes;
         CREATE DATABASE comes;
         VACUUM FREEZE grows;
         VACUUM FREEZE emptied;
         VACUUM FREEZE arrives;
         SELECT count(*) FROM stays;
         CHECKPOINT",
    );
}

/// The relation files of a data directory with their content.
fn relations(data: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let mut folders = vec![data.join("global")];
    folders.extend(fs::read_dir(data.join("base")).unwrap().map(|e| e.unwrap().path()));
    for folder in folders {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(data).unwrap().to_str().unwrap().to_owned();
            if holdfast_postgres::relation_file(&name).is_some() {
                found.push((name, path));
            }
        }
    }
    found.sort();
    found
}

/// Compares all relation files of two directories page by page; how many pages there were.
fn same_relations(ours: &Path, theirs: &Path) -> usize {
    let (ours, theirs) = (relations(ours), relations(theirs));
    let names = |files: &[(String, PathBuf)]| -> Vec<String> {
        files.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names(&ours), names(&theirs));
    let mut pages = 0;
    for ((name, ours), (_, theirs)) in ours.iter().zip(&theirs) {
        let (ours, theirs) = (fs::read(ours).unwrap(), fs::read(theirs).unwrap());
        assert_eq!(ours.len(), theirs.len(), "{name}");
        for (block, (our, their)) in ours.chunks(8192).zip(theirs.chunks(8192)).enumerate() {
            assert!(our == their, "{name} differs in block {block}");
            pages += 1;
        }
    }
    pages
}

/// Restores without replay; the directory is the base as it was kept.
fn fetched(site: &Protected, name: &str) -> PathBuf {
    site.restore("latest", name, &["--fetch-only"]).unwrap().keep()
}

/// Everything that PostgreSQL's own programs can say about a base.
fn is_a_whole_backup(site: &Protected, base: &Path) {
    site.server.verify_backup(base, &["--no-parse-wal"]).unwrap();
    let label = fs::read_to_string(base.join("backup_label")).unwrap();
    assert!(!label.contains("INCREMENTAL"), "{label}");
    let manifest = fs::read_to_string(base.join("backup_manifest")).unwrap();
    assert!(!manifest.contains("INCREMENTAL"));
}

/// A copy that was shut down has no page with a wrong checksum.
fn has_sound_pages(site: &Protected, name: &str) {
    let data = site.restore("latest", name, &["--at-target", "shutdown"]).unwrap().keep();
    run(site.server.command("pg_checksums").args(["--check", "--pgdata"]).arg(data));
}

/// What the copy says with `pg_dumpall`, `pg_amcheck` and its own tables.
fn is_sound(site: &Protected, name: &str) {
    let copy = site.restore("latest", name, &["--start", "--at-target", "promote"]).unwrap();
    let dsn = copy.dsn().unwrap().to_owned();
    copy.psql("CREATE EXTENSION amcheck").unwrap();
    run(site
        .server
        .command("pg_amcheck")
        .args(["--heapallindexed", "--database", "postgres", "--jobs", "2"])
        .env("PGHOST", value(&dsn, "host"))
        .env("PGPORT", value(&dsn, "port"))
        .env("PGUSER", value(&dsn, "user")));
    let dump = |command: &mut Command| {
        let done = command.args(["--no-sync", "--no-unlogged-table-data"]).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let text = String::from_utf8(done.stdout).unwrap();
        // Each dump of the newest versions has a random key in it.
        text.lines()
            .filter(|line| !line.is_empty() && !line.starts_with("--"))
            .filter(|line| !line.contains("restrict ") && !line.contains("amcheck"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let ours = dump(
        site.server
            .command("pg_dumpall")
            .env("PGHOST", value(&dsn, "host"))
            .env("PGPORT", value(&dsn, "port"))
            .env("PGUSER", value(&dsn, "user")),
    );
    assert_eq!(ours, dump(&mut site.server.command("pg_dumpall")));
    copy.discard().unwrap();
}

fn value(dsn: &str, key: &str) -> String {
    dsn.split_whitespace()
        .find_map(|part| part.strip_prefix(&format!("{key}=")))
        .unwrap_or_else(|| panic!("no {key} in {dsn}"))
        .to_owned()
}

fn is_incremental(result: &Value, basis: &Value) {
    assert_eq!(result["snapshot"]["kind"], "incremental", "{result}");
    assert_eq!(result["basis"], basis["snapshot"]["id"], "{result}");
    assert!(result["full_because"].is_null(), "{result}");
}

/// 002: two backups of the same moment, one of them put together from an incremental one, are the same.
/// All relation files (`base/*/*`, `global/*`, every fork) are compared page by page with what
/// `pg_combinebackup` makes of the server's own backups of the same moment.
fn compare_backups(major: u32) {
    let server = summarizing(major);
    before(&server);
    let site = Protected::new(server).unwrap();
    let full = site.backup().unwrap();
    assert_eq!(full["snapshot"]["kind"], "full", "{full}");
    let their_full = site.root().join("their-full");
    let their_new = site.root().join("their-incremental");
    let combined = site.root().join("combined");
    let base_backup = |to: &Path| {
        let mut command = site.server.command("pg_basebackup");
        command.args(["--checkpoint=fast", "--no-sync", "--wal-method=none", "--pgdata"]).arg(to);
        command
    };
    run(&mut base_backup(&their_full));
    between(&site.server);
    let new = site.cli.json(&INCREMENTAL).unwrap();
    is_incremental(&new, &full);
    run(base_backup(&their_new).arg("--incremental").arg(their_full.join("backup_manifest")));
    run(site
        .server
        .command("pg_combinebackup")
        .args(["--no-sync", "--output"])
        .arg(&combined)
        .args([&their_full, &their_new]));
    site.archive().unwrap();
    let base = fetched(&site, "base");
    is_a_whole_backup(&site, &base);
    let pages = same_relations(&base, &combined);
    assert!(pages > 3000, "{pages} pages");
    let (added, logical) = (&new["snapshot"]["bytes_added"], &new["snapshot"]["bytes_logical"]);
    eprintln!("{pages} pages are the same; {added} of {logical} bytes were added");

    // Once more, on the folded one; then everything PostgreSQL can check.
    psql(&site.server, "UPDATE stays SET t = 'w' WHERE n = 77; DELETE FROM grows WHERE n < 100");
    let newest = site.cli.json(&INCREMENTAL).unwrap();
    is_incremental(&newest, &new);
    site.archive().unwrap();
    is_a_whole_backup(&site, &fetched(&site, "newest"));
    is_sound(&site, "running");
    has_sound_pages(&site, "closed");
    let verified = site.cli.json(&["verify", CLUSTER]).unwrap();
    assert_eq!(verified["ok"], true, "{verified}");
}

#[test]
fn pg_combinebackup_002_compare_backups_on_17() {
    compare_backups(17);
}

#[test]
fn pg_combinebackup_002_compare_backups_on_18() {
    compare_backups(18);
}

/// 007: what was written under `wal_level = minimal` is in no summary: refused, or a full backup.
fn wal_level_minimal(major: u32) {
    let server = summarizing(major);
    psql(&server, "CREATE TABLE t AS SELECT n FROM generate_series(1, 1000) n");
    let mut site = Protected::new(server).unwrap();
    site.backup().unwrap();
    psql(&site.server, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots");
    let lines = ["wal_level = minimal", "max_wal_senders = 0", "summarize_wal = off"];
    for line in lines {
        site.server.configure(line).unwrap();
    }
    site.server.restart(StopMode::Fast).unwrap();
    psql(&site.server, "CREATE TABLE unseen AS SELECT n FROM generate_series(1, 1000) n");
    let lines = ["wal_level = replica", "max_wal_senders = 10", "summarize_wal = on"];
    for line in lines {
        site.server.configure(line).unwrap();
    }
    site.server.restart(StopMode::Fast).unwrap();
    let (code, error) = failure(&site.cli, &INCREMENTAL).unwrap();
    assert_eq!((code, &error["code"]), (3, &Value::from("wal_summaries_missing")), "{error}");
    let full = site.cli.json(&AUTO).unwrap();
    assert_eq!(full["snapshot"]["kind"], "full", "{full}");
    let because = full["full_because"].as_str().unwrap();
    assert!(because.contains("WAL summaries are required"), "{because}");
    // The full one is a basis again.
    psql(&site.server, "INSERT INTO unseen VALUES (0)");
    is_incremental(&site.cli.json(&INCREMENTAL).unwrap(), &full);
}

#[test]
fn pg_combinebackup_007_wal_level_minimal_on_17() {
    wal_level_minimal(17);
}

#[test]
fn pg_combinebackup_007_wal_level_minimal_on_18() {
    wal_level_minimal(18);
}

/// 008: an incremental backup after a promotion builds on one of the timeline before.
fn promote(major: u32) {
    let primary = summarizing(major);
    before(&primary);
    let standby = TestServer::standby_of(&primary, None).unwrap();
    let dsn = format!(
        "host=127.0.0.1,127.0.0.1 port={},{} user=postgres dbname=postgres target_session_attrs=read-write",
        primary.port(),
        standby.port()
    );
    let mut site = Protected::with(primary, &dsn, None, Vec::new()).unwrap();
    let full = site.backup().unwrap();
    psql(&site.server, "INSERT INTO emptied VALUES (-1)");
    site.archive().unwrap();
    let at = site.server.psql("SELECT pg_current_wal_flush_lsn()").unwrap();
    wait_for("the standby", Duration::from_mins(1), || {
        let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{at}'");
        standby.psql(&sql).is_ok_and(|answer| answer == "t")
    });
    site.server.stop(StopMode::Fast).unwrap();
    standby.promote().unwrap();
    between(&standby);
    let new = site.cli.json(&INCREMENTAL).unwrap();
    is_incremental(&new, &full);
    assert_eq!(new["snapshot"]["timeline"], 2, "{new}");
    let flushed = standby.psql("SELECT pg_current_wal_flush_lsn()").unwrap();
    site.archive_to(&flushed).unwrap();
    let base = fetched(&site, "base");
    is_a_whole_backup(&site, &base);
    let copy = site.restore("latest", "copy", &["--start", "--at-target", "pause"]).unwrap();
    for table in ["grows", "emptied", "shrinks", "stays", "arrives"] {
        let sql = format!("SELECT count(*), sum(hashtext(x::text)) FROM {table} x");
        assert_eq!(copy.psql(&sql).unwrap(), standby.psql(&sql).unwrap(), "{table}");
    }
    copy.discard().unwrap();
}

#[test]
fn pg_combinebackup_008_promote_on_17() {
    promote(17);
}

#[test]
fn pg_combinebackup_008_promote_on_18() {
    promote(18);
}

/// 27: a summarizer that is merely behind is waited for, and its warning relayed.
#[test]
fn catalogue_27_summaries_that_are_late_are_waited_for_on_17() {
    let server = summarizing(17);
    psql(&server, "CREATE TABLE t AS SELECT n FROM generate_series(1, 5000) n");
    let site = Protected::new(server).unwrap();
    let full = site.backup().unwrap();
    psql(&site.server, "INSERT INTO t VALUES (0)");
    let pid = site
        .server
        .psql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walsummarizer'")
        .unwrap();
    let signal = |name: &str| run(Command::new("kill").args([name, &pid]));
    signal("-STOP");
    let running =
        site.cli.start(&[&["--json", "--progress", "json"], &INCREMENTAL[..]].concat()).unwrap();
    wait_for("the server's warning", Duration::from_secs(45), || {
        running.stderr().contains("still waiting for WAL summarization")
    });
    signal("-CONT");
    let finished = running.finish(Duration::from_mins(2)).unwrap();
    let late = finished.json().unwrap();
    is_incremental(&late, &full);
}

/// Every reason that the server need not be asked for.
#[test]
fn an_incremental_backup_that_is_not_possible_is_refused_with_its_repair() {
    let refused = |site: &Protected| -> io::Result<String> {
        let (code, error) = failure(&site.cli, &INCREMENTAL)?;
        assert_eq!(code, 3, "{error}");
        assert!(error["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{error}");
        Ok(error["code"].as_str().unwrap_or_default().to_owned())
    };
    let site = Protected::new(TestServer::start(17).unwrap()).unwrap();
    assert_eq!(refused(&site).unwrap(), "wal_summaries_off");
    psql(&site.server, "ALTER SYSTEM SET summarize_wal = 'on'; SELECT pg_reload_conf()");
    wait_for("summarizing", Duration::from_secs(20), || {
        site.server.psql("SHOW summarize_wal").is_ok_and(|on| on == "on")
    });
    assert_eq!(refused(&site).unwrap(), "no_previous_snapshot");
    let first = site.cli.json(&AUTO).unwrap();
    assert!(first["full_because"].as_str().unwrap().contains("no snapshot"), "{first}");
    // Never means never, and says no reason.
    let never = site.cli.json(&["backup", CLUSTER, "--incremental", "never"]).unwrap();
    assert_eq!(never["snapshot"]["kind"], "full");
    assert!(never["full_because"].is_null(), "{never}");
    is_incremental(&site.cli.json(&AUTO).unwrap(), &never);

    let old = Protected::new(TestServer::start(16).unwrap()).unwrap();
    assert_eq!(refused(&old).unwrap(), "incremental_unsupported");
    let full = old.cli.json(&AUTO).unwrap();
    assert!(full["full_because"].as_str().unwrap().contains("17 and later"), "{full}");
}
