//! Incremental backups of 17 and 18: what is kept is whole, byte for byte what PostgreSQL's own
//! `pg_combinebackup` makes, and where an incremental backup is not possible the reason is said.
//!
//! The names are those of the scenarios in `src/bin/pg_combinebackup/t` that are rebuilt.
#![allow(clippy::unwrap_used)]

use holdfast_tests::{
    pg::{StopMode, TestServer},
    protected::{CLUSTER, Protected, Restored, failure},
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

/// The process of this type that a server runs.
fn process(server: &TestServer, backend_type: &str) -> String {
    let sql = format!("SELECT pid FROM pg_stat_activity WHERE backend_type = '{backend_type}'");
    server.psql(&sql).unwrap()
}

fn signal(name: &str, process: &str) {
    run(Command::new("kill").args([name, process]));
}

/// Waits until a standby has replayed WAL up to `lsn`.
fn replayed(standby: &TestServer, lsn: &str) {
    wait_for("the standby", Duration::from_mins(1), || {
        let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{lsn}'");
        standby.psql(&sql).is_ok_and(|answer| answer == "t")
    });
}

/// Compares tables by their rows.
fn same_rows(copy: &Restored, server: &TestServer, tables: &[&str]) {
    for table in tables {
        let sql = format!("SELECT count(*), sum(hashtext(x::text)) FROM {table} x");
        assert_eq!(copy.psql(&sql).unwrap(), server.psql(&sql).unwrap(), "{table}");
    }
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

/// 008: an incremental backup after a promotion builds on one of the timeline before. One table is
/// truncated before the promotion and grows after it.
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
    psql(
        &site.server,
        "DELETE FROM stays WHERE n > 200; VACUUM stays; INSERT INTO emptied VALUES (-1)",
    );
    let at = site.archive().unwrap();
    replayed(&standby, &at);
    site.server.stop(StopMode::Fast).unwrap();
    standby.promote().unwrap();
    between(&standby);
    psql(&standby, "INSERT INTO stays SELECT n, 'new' FROM generate_series(1, 20000) n");
    let new = site.cli.json(&INCREMENTAL).unwrap();
    is_incremental(&new, &full);
    assert_eq!(new["snapshot"]["timeline"], 2, "{new}");
    let flushed = standby.psql("SELECT pg_current_wal_flush_lsn()").unwrap();
    site.archive_to(&flushed).unwrap();
    let base = fetched(&site, "base");
    is_a_whole_backup(&site, &base);
    let copy = site.restore("latest", "copy", &["--start", "--at-target", "pause"]).unwrap();
    same_rows(&copy, &standby, &["grows", "emptied", "shrinks", "stays", "arrives"]);
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

/// 003: a backup of an abandoned branch is no basis; one of the common past is. The twin leaves the primary
/// in the middle of a WAL page, or where a segment begins: there 17.11 and 18.6 write no summary of the
/// page's header, and ask for it for ever.
fn timeline(major: u32, at_page_start: bool) {
    let server = summarizing(major);
    psql(&server, "CREATE TABLE t AS SELECT n FROM generate_series(1, 5000) n");
    let mut twin = TestServer::standby_of(&server, None).unwrap();
    let mut site = Protected::new(server).unwrap();
    let common = site.backup().unwrap();
    // It writes WAL of its own every fifteen seconds.
    let writer = process(&site.server, "background writer");
    signal("-STOP", &writer);
    psql(&site.server, "INSERT INTO t VALUES (-1)");
    if at_page_start {
        psql(&site.server, "SELECT pg_switch_wal()");
    }
    let at = site.archive().unwrap();
    // The twin goes its own way from here on.
    replayed(&twin, &at);
    psql(&twin, "ALTER SYSTEM SET primary_conninfo = ''; SELECT pg_reload_conf()");
    wait_for("the twin to let go", Duration::from_mins(1), || {
        site.server.psql("SELECT count(*) FROM pg_stat_replication").is_ok_and(|n| n == "0")
    });
    signal("-CONT", &writer);
    psql(&site.server, "INSERT INTO t VALUES (-2)");
    let abandoned = site.cli.json(&INCREMENTAL).unwrap();
    is_incremental(&abandoned, &common);
    site.server.stop(StopMode::Fast).unwrap();
    twin.promote().unwrap();
    psql(&twin, "INSERT INTO t VALUES (-3); CHECKPOINT");
    site.cli.json(&["cluster", "remove", CLUSTER]).unwrap();
    site.cli.json(&["cluster", "add", CLUSTER, "--dsn", &twin.dsn()]).unwrap();
    if at_page_start {
        let (code, error) = failure(&site.cli, &INCREMENTAL).unwrap();
        assert_eq!((code, &error["code"]), (3, &Value::from("wal_summaries_missing")), "{error}");
        let full = site.cli.json(&AUTO).unwrap();
        assert_eq!(full["snapshot"]["kind"], "full", "{full}");
        psql(&twin, "INSERT INTO t VALUES (-4)");
        is_incremental(&site.cli.json(&INCREMENTAL).unwrap(), &full);
    } else {
        is_incremental(&site.cli.json(&INCREMENTAL).unwrap(), &common);
    }
    let flushed = twin.psql("SELECT pg_current_wal_flush_lsn()").unwrap();
    site.archive_to(&flushed).unwrap();
    let copy = site.restore("latest", "copy", &["--start", "--at-target", "pause"]).unwrap();
    same_rows(&copy, &twin, &["t"]);
    copy.discard().unwrap();
    twin.stop(StopMode::Fast).unwrap();
}

#[test]
fn pg_combinebackup_003_timeline_on_17() {
    timeline(17, false);
}

#[test]
fn pg_combinebackup_003_timeline_on_18() {
    timeline(18, false);
}

#[test]
fn a_promotion_at_the_start_of_a_wal_page_takes_one_full_backup_on_18() {
    timeline(18, true);
}

/// 011: relations that were truncated between the backups, and such as grew again since: row by row in
/// another checkpoint's WAL, and by `COPY`, which leaves pages behind that no WAL tells of. Of the last
/// two PostgreSQL's own incremental backups bring deleted rows back and lose new ones (17.11, 18.6).
fn truncation(major: u32) {
    let server = summarizing(major);
    let regrown: Vec<String> = (1..=6).map(|n| format!("regrown_{n}")).collect();
    let mut tables = vec!["shrunk", "loaded"];
    tables.extend(regrown.iter().map(String::as_str));
    for table in &tables {
        psql(
            &server,
            &format!(
                "CREATE TABLE {table} AS SELECT n, repeat('x', 500) AS t FROM generate_series(1, 20000) n;
                 VACUUM {table}"
            ),
        );
    }
    let site = Protected::new(server).unwrap();
    let full = site.backup().unwrap();
    for table in &tables {
        psql(
            &site.server,
            &format!("DELETE FROM {table} WHERE n > 200; VACUUM {table}; CHECKPOINT"),
        );
        if table.starts_with("regrown") {
            psql(
                &site.server,
                &format!(
                    "INSERT INTO {table} SELECT n, repeat('y', 500) FROM generate_series(100001, 101000) n;
                     CHECKPOINT"
                ),
            );
        }
    }
    let copied = r"for n in $(seq 100001 101000); do printf '%s\t%0500d\n' $n 1; done";
    let copied = copied.replace('\'', "''");
    site.server.psql(&format!("COPY loaded FROM PROGRAM '{copied}'")).unwrap();
    psql(&site.server, "CHECKPOINT");
    let path = site.server.psql("SELECT pg_relation_filepath('loaded')").unwrap();
    let loaded = fs::read(site.server.data().join(path)).unwrap();
    assert!(loaded.chunks(8192).any(|page| page.iter().all(|byte| *byte == 0)), "no page of zeros");

    let new = site.cli.json(&INCREMENTAL).unwrap();
    is_incremental(&new, &full);
    site.archive().unwrap();
    is_a_whole_backup(&site, &fetched(&site, "base"));
    let copy = site.restore("latest", "copy", &["--start", "--at-target", "pause"]).unwrap();
    same_rows(&copy, &site.server, &tables);
    copy.discard().unwrap();
}

#[test]
fn pg_combinebackup_011_ib_truncation_on_17() {
    truncation(17);
}

#[test]
fn pg_combinebackup_011_ib_truncation_on_18() {
    truncation(18);
}

/// 27: a summarizer that is merely behind is waited for, and its warning relayed. What it then says was
/// truncated is read whole.
#[test]
fn catalogue_27_summaries_that_are_late_are_waited_for_on_17() {
    let server = summarizing(17);
    psql(&server, "CREATE TABLE t AS SELECT n FROM generate_series(1, 5000) n; VACUUM t");
    let site = Protected::new(server).unwrap();
    let full = site.backup().unwrap();
    let summarizer = process(&site.server, "walsummarizer");
    signal("-STOP", &summarizer);
    psql(&site.server, "DELETE FROM t WHERE n > 100; VACUUM t; INSERT INTO t VALUES (0)");
    let running =
        site.cli.start(&[&["--json", "--progress", "json"], &INCREMENTAL[..]].concat()).unwrap();
    wait_for("the server's warning", Duration::from_secs(45), || {
        running.stderr().contains("still waiting for WAL summarization")
    });
    signal("-CONT", &summarizer);
    let finished = running.finish(Duration::from_mins(2)).unwrap();
    assert!(finished.stderr.contains("begun anew"), "{finished}");
    is_incremental(&finished.json().unwrap(), &full);
    site.archive().unwrap();
    let copy = site.restore("latest", "copy", &["--start", "--at-target", "pause"]).unwrap();
    same_rows(&copy, &site.server, &["t"]);
    copy.discard().unwrap();
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
