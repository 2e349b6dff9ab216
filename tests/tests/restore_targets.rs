//! Every kind of target, every ending, and what a copy must hold besides rows.
#![allow(clippy::unwrap_used)]

use holdfast_tests::{
    pg::{StopMode, TestServer},
    protected::{CLUSTER, Protected, failure, leftovers},
    wait_for,
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

const PAUSE: [&str; 3] = ["--start", "--at-target", "pause"];

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no text at {path} in {value}"))
}

fn number(value: &Value, path: &str) -> u64 {
    value
        .pointer(path)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("no number at {path} in {value}"))
}

/// A table with a row for each stage.
fn stages(server: &TestServer) {
    server.psql("CREATE TABLE stages (n int PRIMARY KEY)").unwrap();
}

fn stage(server: &TestServer, n: u32) {
    server.psql(&format!("INSERT INTO stages VALUES ({n})")).unwrap();
}

const STAGES: &str = "SELECT coalesce(string_agg(n::text, ' ' ORDER BY n), '') FROM stages";

fn now(server: &TestServer) -> String {
    server
        .psql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
        .unwrap()
}

fn every_kind_of_target(major: u32) {
    let site = Protected::new(TestServer::start(major).unwrap()).unwrap();
    stages(&site.server);
    let before_all = now(&site.server);
    stage(&site.server, 0);
    let first = site.backup().unwrap();
    let first = text(&first, "/snapshot/id").to_owned();
    stage(&site.server, 1);
    let between = now(&site.server);
    site.server.psql("SELECT pg_create_restore_point('before deploy')").unwrap();
    stage(&site.server, 2);
    let second = site.backup().unwrap();
    let second = text(&second, "/snapshot/id").to_owned();
    stage(&site.server, 3);
    site.archive().unwrap();

    let points = site.points().unwrap();
    assert_eq!(points["cluster"], CLUSTER);
    assert_eq!(points["snapshots"].as_array().unwrap().len(), 2, "{points}");
    assert!(
        points["snapshots"].as_array().unwrap().iter().all(|s| s["state"] == "stored"),
        "{points}"
    );
    assert_eq!(points["restore_points"][0]["name"], "before deploy");
    assert_eq!(points["windows"].as_array().unwrap().len(), 1, "{points}");

    let check = |target: &str, name: &str, more: &[&str], snapshot: &str, rows: &str| {
        let mut all = PAUSE.to_vec();
        all.extend_from_slice(more);
        let copy = site.restore(target, name, &all).unwrap();
        assert_eq!(copy.result["snapshot"], snapshot, "{target}: {}", copy.result);
        assert_eq!(copy.psql(STAGES).unwrap(), rows, "{target}: {}", copy.result);
        assert_eq!(copy.result["verified"], true);
        assert!(copy.result["port"].is_u64());
        copy.discard().unwrap();
    };
    check("latest", "latest", &[], &second, "0 1 2 3");
    check("latest", "latest-of-first", &["--snapshot", &first], &first, "0 1 2 3");
    check("immediate", "immediate", &[], &second, "0 1 2");
    check("immediate", "immediate-of-first", &["--snapshot", &first], &first, "0");
    check("name:before deploy", "name", &[], &first, "0 1");
    // Nothing ended while the second backup ran; it must not be taken for a time before it.
    check(&format!("time:{between}"), "time", &[], &first, "0 1");

    let points = site.points().unwrap();
    assert!(
        points["snapshots"].as_array().unwrap().iter().all(|s| s["state"] == "proven"),
        "{points}"
    );
    assert!(points["snapshots"][0]["proof"]["reached_lsn"].is_string(), "{points}");

    let refused = |target: &str, more: &[&str], want: (i32, &str)| {
        let (code, error) = site.refusal(target, &site.destination("never"), more).unwrap();
        assert_eq!((code, text(&error, "/code")), want, "{target}: {error}");
        assert!(!Path::new(&site.destination("never")).exists());
    };
    refused(&format!("time:{between}"), &["--snapshot", &second], (3, "target_too_early"));
    refused("name:before deploy", &["--snapshot", &second], (3, "target_too_early"));
    refused(&format!("time:{before_all}"), &[], (3, "target_too_early"));
    refused("latest", &["--snapshot", "00000000-0000-4000-8000-000000000000"], (4, "not_found"));
    refused("latest", &["--exclusive"], (2, "usage"));
}

#[test]
fn every_kind_of_target_on_15() {
    every_kind_of_target(15);
}

#[test]
fn every_kind_of_target_on_17() {
    every_kind_of_target(17);
}

#[test]
fn a_plan_runs_as_it_was_shown() {
    let site = Protected::new(TestServer::start(17).unwrap()).unwrap();
    stages(&site.server);
    site.backup().unwrap();
    stage(&site.server, 1);
    site.archive().unwrap();
    let destination = site.destination("planned");
    let plan_for = |target: &str| {
        site.cli
            .json(&["restore", "plan", CLUSTER, "--target", target, "--to", &destination])
            .unwrap()
    };
    let plan = plan_for("latest");
    assert!(!Path::new(&destination).exists(), "a plan writes nothing");
    assert_eq!(
        text(&plan, "/hash"),
        text(&plan_for("latest"), "/hash"),
        "the same inputs, the same hash"
    );
    // More is written and archived: the plan still means what it meant.
    stage(&site.server, 2);
    site.archive().unwrap();
    let hash = text(&plan, "/hash").to_owned();
    let with_hash = ["--start", "--at-target", "pause", "--plan-hash", &hash];
    let copy = site.restore("latest", "planned", &with_hash).unwrap();
    assert_eq!(text(&copy.result, "/plan_hash"), hash);
    assert_eq!(copy.psql(STAGES).unwrap(), "1");
    assert_eq!(copy.result["reached"]["xid"], plan["predicted"]["xid"]);
    assert_eq!(copy.result["snapshot"], plan["snapshot"]["id"]);
    copy.discard().unwrap();

    let drifted = |target: &str, destination: &str, hash: &str, more: &[&str]| {
        let mut all = vec!["--plan-hash", hash];
        all.extend_from_slice(more);
        let (code, error) = site.refusal(target, destination, &all).unwrap();
        assert_eq!((code, text(&error, "/code")), (3, "plan_drifted"), "{error}");
        assert!(!Path::new(destination).exists());
    };
    drifted("immediate", &destination, &hash, &[]);
    drifted("latest", &site.destination("elsewhere"), &hash, &[]);
    drifted("latest", &destination, &"0".repeat(64), &[]);
    drifted("latest", &destination, &hash, &["--snapshot", "00000000-0000-4000-8000-000000000000"]);
    let (code, error) = site.refusal("latest", &destination, &["--plan-hash", "nonsense"]).unwrap();
    assert_eq!((code, text(&error, "/code")), (2, "usage"), "{error}");

    // What the plan needs is not there any more.
    let hash = text(&plan_for("latest"), "/hash").to_owned();
    let repository = PathBuf::from(site.url());
    fs::rename(repository.join("slices"), repository.join("lost")).unwrap();
    drifted("latest", &destination, &hash, &[]);
}

#[test]
fn every_ending_at_the_target() {
    let site = Protected::new(TestServer::start(15).unwrap()).unwrap();
    stages(&site.server);
    site.backup().unwrap();
    stage(&site.server, 1);
    site.archive().unwrap();

    let (code, _) = failure(
        &site.cli,
        &[
            "restore",
            "run",
            CLUSTER,
            "--target",
            "latest",
            "--to",
            &site.destination("never"),
            "--at-target",
            "pause",
        ],
    )
    .unwrap();
    assert_eq!(code, 2, "a pause needs a server that runs");

    let copy =
        site.restore("latest", "shut-down", &["--start", "--at-target", "shutdown"]).unwrap();
    assert_eq!((&copy.result["running"], &copy.result["dsn"]), (&Value::Bool(false), &Value::Null));
    assert!(!copy.data().join("postmaster.pid").exists());
    let state = site.server.control_value(&copy.data(), "Database cluster state").unwrap();
    assert_eq!(state, "shut down in recovery");
    let job = copy.job().to_owned();
    let (code, error) = failure(&site.cli, &["restore", "promote", &job]).unwrap();
    assert_eq!((code, text(&error, "/code")), (3, "server_not_running"));
    copy.discard().unwrap();
    let (code, _) = failure(&site.cli, &["restore", "discard", &job]).unwrap();
    assert_eq!(code, 4, "it is discarded already");

    let copy = site.restore("latest", "paused", &PAUSE).unwrap();
    assert!(copy.psql("INSERT INTO stages VALUES (9)").is_err(), "a paused copy takes no writes");
    let promoted = site.cli.json(&["restore", "promote", copy.job()]).unwrap();
    assert_eq!(promoted["at_target"], "promote");
    copy.psql("INSERT INTO stages VALUES (9)").unwrap();
    assert_eq!(copy.psql(STAGES).unwrap(), "1 9");
    assert_eq!(copy.psql("SELECT timeline_id FROM pg_control_checkpoint()").unwrap(), "2");
    // Settings are ours: nothing leaves, nothing comes from elsewhere.
    for (name, value) in
        [("archive_mode", "off"), ("primary_conninfo", ""), ("listen_addresses", "127.0.0.1")]
    {
        assert_eq!(copy.psql(&format!("SHOW {name}")).unwrap(), value, "{name}");
    }
    copy.discard().unwrap();

    // Without --start the promoted copy is shut down cleanly, and any server starts it.
    let copy = site.restore("latest", "handed-over", &[]).unwrap();
    assert_eq!(copy.result["running"], false);
    assert_eq!(
        site.server.control_value(&copy.data(), "Database cluster state").unwrap(),
        "shut down"
    );
    assert!(!copy.data().join("recovery.signal").exists());
    assert_eq!(leftovers(&copy.data(), None), [copy.data().display().to_string()]);
    let data = copy.keep();
    let own = TestServer::builder(15).data_directory(&data).start().unwrap();
    assert_eq!(own.psql(STAGES).unwrap(), "1");
}

#[test]
fn fetched_files_pass_pg_verifybackup() {
    let site = Protected::new(TestServer::start(17).unwrap()).unwrap();
    site.server
        .psql(
            "CREATE TABLE big AS SELECT i, repeat(md5(i::text), 20) AS t FROM generate_series(1, 20000) i;
             CREATE TABLE empty (n int);
             CREATE UNLOGGED TABLE fleeting AS SELECT 1 AS n;
             CREATE INDEX ON big (i)",
        )
        .unwrap();
    let names = "SELECT string_agg(pg_relation_filepath(c::regclass), ' ' ORDER BY n)
                 FROM (VALUES (1, 'big'), (2, 'empty'), (3, 'fleeting')) v (n, c)";
    let names = site.server.psql(names).unwrap();
    let [big, empty, fleeting] = names.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let backup = site.backup().unwrap();
    let destination = PathBuf::from(site.destination("files"));
    let result = site
        .cli
        .json(&[
            "restore",
            "run",
            CLUSTER,
            "--target",
            "immediate",
            "--fetch-only",
            "--to",
            destination.to_str().unwrap(),
        ])
        .unwrap();
    assert_eq!(result["verified"], false, "nothing was replayed: {result}");
    assert_eq!((&result["running"], &result["dsn"]), (&Value::Bool(false), &Value::Null));
    site.server.verify_backup(&destination, &["-n", "--exit-on-error"]).unwrap();
    assert!(destination.join("backup_label").exists());
    assert_eq!(fs::metadata(destination.join(empty)).unwrap().len(), 0);
    assert!(fs::metadata(destination.join(big)).unwrap().len() > 10 << 20, "several extents");
    assert!(!destination.join(fleeting).exists());
    assert!(destination.join(format!("{fleeting}_init")).exists());
    let mode = {
        use std::os::unix::fs::PermissionsExt as _;
        fs::metadata(&destination).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode, 0o700);
    // A changed byte is found by the same check.
    let path = destination.join(big);
    let mut bytes = fs::read(&path).unwrap();
    bytes[70_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(site.server.verify_backup(&destination, &["-n"]).is_err());
    assert!(number(&backup, "/snapshot/bytes_logical") > 10 << 20);
}

#[test]
fn unlogged_tables_and_all_databases_come_back() {
    let site = Protected::new(TestServer::start(15).unwrap()).unwrap();
    site.server
        .psql("CREATE UNLOGGED TABLE fleeting (n int PRIMARY KEY); INSERT INTO fleeting VALUES (1)")
        .unwrap();
    for name in ["orders", "Weird \"name\" ü"] {
        site.server.psql(&format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""))).unwrap();
    }
    site.server
        .psql_in("orders", "CREATE TABLE lines AS SELECT g AS n FROM generate_series(1, 1000) g")
        .unwrap();
    let backup = site.backup().unwrap();
    assert_eq!(backup["warnings"].as_array().map(Vec::len), Some(0), "{backup}");
    site.server.psql_in("orders", "INSERT INTO lines VALUES (0)").unwrap();
    // A database made after the backup is made by replay, too.
    site.server.psql("CREATE DATABASE later").unwrap();
    site.server.psql_in("later", "CREATE TABLE t AS SELECT 7 AS n").unwrap();
    site.archive().unwrap();
    let copy = site.restore("latest", "all", &["--start"]).unwrap();
    assert_eq!(copy.psql("SELECT count(*) FROM fleeting").unwrap(), "0");
    copy.psql("INSERT INTO fleeting VALUES (2)").unwrap();
    assert_eq!(copy.psql_in("orders", "SELECT count(*) FROM lines").unwrap(), "1001");
    assert_eq!(copy.psql_in("later", "SELECT n FROM t").unwrap(), "7");
    assert_eq!(
        copy.psql("SELECT count(*) FROM pg_database WHERE datname = 'Weird \"name\" ü'").unwrap(),
        "1"
    );
    let opened = copy.result["checks"].as_array().unwrap();
    let opened =
        opened.iter().filter(|c| c["code"] == "database_opens" && c["severity"] == "ok").count();
    assert_eq!(opened, 5, "{}", copy.result);
    copy.discard().unwrap();
}

/// Every file below a folder with its size and time of change.
fn listing(folder: &Path) -> Vec<(PathBuf, u64, std::time::SystemTime)> {
    let mut list = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let facts = entry.metadata().unwrap();
        if facts.is_dir() {
            list.extend(listing(&entry.path()));
        } else {
            list.push((entry.path(), facts.len(), facts.modified().unwrap()));
        }
    }
    list.sort();
    list
}

fn tablespaces_stay_inside(major: u32) {
    let site = Protected::new(TestServer::start(major).unwrap()).unwrap();
    let space = site.server.new_folder("space").unwrap();
    site.server.psql(&format!("CREATE TABLESPACE space LOCATION '{}'", space.display())).unwrap();
    // psql runs what stands in a file statement by statement: a tablespace is made in no transaction.
    let script = site.root().join("inside.sql");
    fs::write(
        &script,
        "SET allow_in_place_tablespaces = on; CREATE TABLESPACE inside LOCATION '';",
    )
    .unwrap();
    let told = site.server.command("psql").arg("-Xqf").arg(&script).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    site.server
        .psql(
            "CREATE TABLE outer_rows TABLESPACE space AS SELECT g AS n FROM generate_series(1, 5000) g;
             CREATE TABLE inner_rows TABLESPACE inside AS SELECT g AS n FROM generate_series(1, 500) g",
        )
        .unwrap();
    let first = site.backup().unwrap();
    assert_eq!(first["warnings"].as_array().map(Vec::len), Some(0), "{first}");
    site.server
        .psql("INSERT INTO outer_rows VALUES (0); INSERT INTO inner_rows VALUES (0)")
        .unwrap();
    site.server.psql("CHECKPOINT").unwrap();
    site.archive().unwrap();
    let before = listing(&space);
    let copy = site.restore("latest", "copy", &["--start"]).unwrap();
    assert_eq!(copy.psql("SELECT count(*) FROM outer_rows").unwrap(), "5001");
    assert_eq!(copy.psql("SELECT count(*) FROM inner_rows").unwrap(), "501");
    copy.psql("INSERT INTO outer_rows SELECT generate_series(1, 1000); CHECKPOINT").unwrap();
    for entry in fs::read_dir(copy.data().join("pg_tblspc")).unwrap().flatten() {
        assert!(
            entry.file_type().unwrap().is_dir(),
            "{} leads out of the copy",
            entry.path().display()
        );
    }
    assert_eq!(listing(&space), before, "the source's tablespace was touched");
    copy.discard().unwrap();
    assert_eq!(site.server.psql("SELECT count(*) FROM outer_rows").unwrap(), "5001");

    // One that is made after the backup is replayed into the copy as well, not onto the source's own path.
    let later = site.server.new_folder("later").unwrap();
    site.server.psql(&format!("CREATE TABLESPACE later LOCATION '{}'", later.display())).unwrap();
    site.server
        .psql("CREATE TABLE later_rows TABLESPACE later AS SELECT 1 AS n; CHECKPOINT")
        .unwrap();
    site.archive().unwrap();
    let before = listing(&later);
    let copy = site.restore("latest", "later-inside", &["--start"]).unwrap();
    assert_eq!(copy.psql("SELECT count(*) FROM later_rows").unwrap(), "1");
    copy.psql("INSERT INTO later_rows SELECT generate_series(1, 1000); CHECKPOINT").unwrap();
    assert_eq!(listing(&later), before, "the source's tablespace was touched");
    copy.discard().unwrap();
    assert_eq!(site.server.psql("SELECT count(*) FROM later_rows").unwrap(), "1");
    site.backup().unwrap();
    site.server.psql("INSERT INTO later_rows VALUES (2)").unwrap();
    site.archive().unwrap();
    let copy = site.restore("latest", "with-later", &["--start"]).unwrap();
    assert_eq!(copy.psql("SELECT count(*) FROM later_rows").unwrap(), "2");
    copy.discard().unwrap();
}

#[test]
fn tablespaces_stay_inside_on_15() {
    tablespaces_stay_inside(15);
}

#[test]
fn tablespaces_stay_inside_on_17() {
    tablespaces_stay_inside(17);
}

#[test]
fn a_second_backup_adds_little() {
    let site = Protected::new(TestServer::start(17).unwrap()).unwrap();
    site.server.add_documents(20_000).unwrap();
    // Whoever reads a row first marks it on its page: that is to have happened before.
    site.server.psql("VACUUM (FREEZE, ANALYZE)").unwrap();
    let first = site.backup().unwrap();
    let ids: Vec<_> = (1..=10).map(|n| (n * 2000).to_string()).collect();
    let update = format!("UPDATE docs SET title = 'changed' WHERE id IN ({})", ids.join(", "));
    site.server.psql(&format!("SET enable_seqscan = off; {update}")).unwrap();
    let second = site.backup().unwrap();
    let [added_first, added] = [&first, &second].map(|b| number(b, "/snapshot/bytes_added"));
    assert!(
        added * 100 < added_first * 15,
        "the first added {added_first} bytes, the second {added}"
    );
    site.archive().unwrap();
    let copy = site.restore("latest", "copy", &PAUSE).unwrap();
    assert_eq!(copy.psql("SELECT count(*) FROM docs WHERE title = 'changed'").unwrap(), "10");
    let sums = "SELECT md5(string_agg(d::text, '' ORDER BY id)) FROM docs d";
    assert_eq!(copy.psql(sums).unwrap(), site.server.psql(sums).unwrap());
    copy.discard().unwrap();
}

fn other_segment_sizes(major: u32, mebibytes: u32) {
    let server = TestServer::builder(major).wal_segment_size(mebibytes).start().unwrap();
    let site = Protected::new(server).unwrap();
    stages(&site.server);
    site.backup().unwrap();
    site.server.add_documents(3000).unwrap();
    stage(&site.server, 1);
    site.server.psql("SELECT pg_create_restore_point('middle')").unwrap();
    site.server.psql("UPDATE docs SET title = 'x'").unwrap();
    stage(&site.server, 2);
    site.archive().unwrap();
    for (target, rows, changed) in [("latest", "1 2", "3000"), ("name:middle", "1", "0")] {
        let copy = site.restore(target, &target.replace(':', "-"), &PAUSE).unwrap();
        assert_eq!(copy.psql(STAGES).unwrap(), rows);
        assert_eq!(copy.psql("SELECT count(*) FROM docs WHERE title = 'x'").unwrap(), changed);
        copy.discard().unwrap();
    }
    let verified = site.cli.json(&["verify", CLUSTER]).unwrap();
    assert_eq!(verified["ok"], true, "{verified}");
}

#[test]
fn segments_of_1_mib_on_14() {
    other_segment_sizes(14, 1);
}

#[test]
fn segments_of_64_mib_on_14() {
    other_segment_sizes(14, 64);
}

#[test]
fn segments_of_1_mib_on_18() {
    other_segment_sizes(18, 1);
}

#[test]
fn segments_of_64_mib_on_18() {
    other_segment_sizes(18, 64);
}

/// Settings of the source must neither keep a copy from starting nor make it do anything.
#[test]
fn a_copy_does_nothing_that_the_source_was_told_to_do() {
    let server = TestServer::builder(17)
        .config("shared_preload_libraries = 'pg_stat_statements'")
        .config("max_connections = 150")
        .config("max_prepared_transactions = 7")
        .config("max_worker_processes = 11")
        .start()
        .unwrap();
    let sentinel = server.new_folder("sentinel").unwrap();
    let touch = |name: &str| format!("touch {}", sentinel.join(name).display());
    let site = Protected::new(server).unwrap();
    stages(&site.server);
    site.server.psql("CREATE EXTENSION pg_stat_statements").unwrap();
    // Read by nobody until the next start of the source, but part of its files.
    for (name, value) in [
        ("archive_mode", "on"),
        ("archive_command", &touch("archived")),
        ("restore_command", &touch("restored")),
        ("archive_cleanup_command", &touch("cleaned")),
        ("recovery_end_command", &touch("ended")),
        ("primary_conninfo", "host=127.0.0.1 port=1 user=nobody"),
        ("primary_slot_name", "elsewhere"),
        ("synchronous_standby_names", "*"),
        ("recovery_target_name", "another target"),
        ("recovery_target_action", "shutdown"),
        ("recovery_min_apply_delay", "1h"),
        ("shared_buffers", "4TB"),
        ("huge_pages", "on"),
        ("unix_socket_group", "no_such_group"),
        ("listen_addresses", "*"),
        ("log_directory", "/no/such/folder"),
        ("logging_collector", "on"),
    ] {
        site.server
            .psql(&format!("ALTER SYSTEM SET {name} = '{}'", value.replace('\'', "''")))
            .unwrap();
    }
    let main = site.server.data().join("postgresql.conf");
    let mut settings = fs::read_to_string(&main).unwrap();
    settings.push_str("\ninclude '/no/such/file.conf'\nno_such_setting = 1\n");
    fs::write(&main, settings).unwrap();
    site.backup().unwrap();
    stage(&site.server, 1);
    site.archive().unwrap();

    let copy = site.restore("latest", "copy", &["--start", "--at-target", "promote"]).unwrap();
    assert_eq!(copy.psql(STAGES).unwrap(), "1");
    copy.psql("INSERT INTO stages VALUES (2); SELECT pg_switch_wal(); CHECKPOINT").unwrap();
    copy.psql("SELECT count(*) FROM pg_stat_statements").unwrap();
    for (name, value) in [
        ("archive_mode", "off"),
        ("archive_command", ""),
        ("primary_conninfo", ""),
        ("primary_slot_name", ""),
        ("synchronous_standby_names", ""),
        ("listen_addresses", "127.0.0.1"),
        ("shared_preload_libraries", "pg_stat_statements"),
        ("logging_collector", "off"),
        ("max_logical_replication_workers", "0"),
    ] {
        // SHOW says "(disabled)" of a command that is not in use.
        let said =
            copy.psql(&format!("SELECT setting FROM pg_settings WHERE name = '{name}'")).unwrap();
        assert!(said == value || said == "(disabled)", "{name}: {said}");
    }
    assert_eq!(copy.psql("SELECT count(*) FROM pg_replication_slots").unwrap(), "0");
    copy.discard().unwrap();
    let touched: Vec<_> =
        fs::read_dir(&sentinel).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(touched.is_empty(), "{touched:?}");
}

#[test]
fn a_library_that_this_host_lacks_is_named_and_refused() {
    let mut server = TestServer::start(15).unwrap();
    // The server has the library while it runs; the host that restores does not.
    let folder = server.new_folder("lib").unwrap();
    let found = ["/usr/lib/postgresql/15/lib", "/usr/pgsql-15/lib"]
        .iter()
        .map(|f| Path::new(f).join("auto_explain.so"))
        .chain(server.binaries().folder().parent().map(|p| p.join("lib/auto_explain.so")))
        .find(|path| path.exists())
        .expect("auto_explain of PostgreSQL 15");
    fs::copy(found, folder.join("only_there.so")).unwrap();
    server
        .configure(&format!("shared_preload_libraries = '{}'", folder.join("only_there").display()))
        .unwrap();
    server.restart(StopMode::Fast).unwrap();
    let site = Protected::new(server).unwrap();
    stages(&site.server);
    site.backup().unwrap();
    stage(&site.server, 1);
    site.archive().unwrap();
    let (code, error) = site.refusal("latest", &site.destination("never"), &[]).unwrap();
    assert_eq!((code, text(&error, "/code")), (3, "host_differs"), "{error}");
    assert!(text(&error, "/message").contains("only_there"), "{error}");
    assert!(!Path::new(&site.destination("never")).exists());
    let copy =
        site.restore("latest", "accepted", &["--start", "--accept-host-differences"]).unwrap();
    assert_eq!(copy.psql(STAGES).unwrap(), "1");
    assert_eq!(copy.psql("SHOW shared_preload_libraries").unwrap(), "");
    copy.discard().unwrap();
}

/// A standby is backed up, with standby.signal and settings of a standby in its files.
#[test]
fn a_standby_is_backed_up_and_restored() {
    for major in [15, 17] {
        let primary = TestServer::start(major).unwrap();
        stages(&primary);
        primary.psql("SELECT pg_create_physical_replication_slot('s', true)").unwrap();
        let standby = TestServer::standby_of(&primary, Some("s")).unwrap();
        let site = Protected::with(primary, &standby.dsn(), None, Vec::new()).unwrap();
        let catch_up = || {
            let at = site.server.psql("SELECT pg_current_wal_flush_lsn()").unwrap();
            wait_for("the standby", Duration::from_mins(1), || {
                let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{at}'");
                standby.psql(&sql).is_ok_and(|answer| answer == "t")
            });
            at
        };
        stage(&site.server, 1);
        site.server.psql("CHECKPOINT").unwrap();
        catch_up();
        site.backup().unwrap();
        stage(&site.server, 2);
        let at = catch_up();
        site.archive_to(&at).unwrap();
        for (target, rows) in [("latest", "1 2"), ("immediate", "1")] {
            let copy = site.restore(target, target, &["--start"]).unwrap();
            assert_eq!(copy.psql(STAGES).unwrap(), rows, "PostgreSQL {major}");
            copy.psql("INSERT INTO stages VALUES (3)").unwrap();
            assert!(!copy.data().join("standby.signal").exists());
            copy.discard().unwrap();
        }
    }
}
