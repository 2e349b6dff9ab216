//! Backups beside the server: its files are read here, and what is kept is what it would have sent.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use holdfast_tests::cli::{self, Cli};
use holdfast_tests::pg::{StopMode, TestServer};
use holdfast_tests::protected::{CLUSTER, PASSPHRASE, Protected, failure};
use holdfast_tests::proxy::FaultProxy;
use holdfast_tests::random::Random;
use holdfast_tests::writers::{self, Writers};
use holdfast_tests::{prove_runs, wait_for};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_mins(1);
const HERE: [&str; 2] = ["--local-files", "require"];
const SENT: [&str; 2] = ["--local-files", "never"];

fn backup(site: &Protected, more: &[&str]) -> Value {
    site.cli.json(&[&["backup", CLUSTER], more].concat()).unwrap()
}

fn id(result: &Value) -> &str {
    result["snapshot"]["id"].as_str().unwrap()
}

/// Fetches a snapshot; PostgreSQL's own verifier compares it with its manifest.
fn fetch(site: &Protected, result: &Value, name: &str) -> String {
    let to = site.destination(name);
    let run = ["restore", "run", CLUSTER, "--target", "immediate", "--to", &to, "--fetch-only"];
    site.cli.json(&[&run[..], &["--snapshot", id(result)]].concat()).unwrap();
    site.server.verify_backup(Path::new(&to), &["-n"]).unwrap();
    to
}

/// Mode, size and content of a file or directory.
type Kept = (u32, u64, Vec<u8>);

/// Every directory and file of a copy, with the content of what a server that is only asked does not change: reading a
/// catalog may set hint bits in it.
fn content(copy: &str) -> BTreeMap<String, Kept> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, Kept>) {
        use std::os::unix::fs::PermissionsExt as _;
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let metadata = entry.metadata().unwrap();
            let changes = ["backup_label", "backup_manifest", "global/pg_control"];
            let number = path.file_name().unwrap().to_str().unwrap().split(['_', '.']).next();
            let of_catalog = number.unwrap().parse().is_ok_and(|number: u32| number < 16384);
            let (mut size, mut bytes) = (metadata.len(), Vec::new());
            if metadata.is_dir() {
                walk(root, &path, found);
                size = 0;
            } else if changes.contains(&name.as_str()) {
                size = 0;
            } else if !of_catalog {
                bytes = fs::read(&path).unwrap();
            }
            // The map of tablespaces is not restored.
            if name != "tablespace_map" {
                found.insert(name, (metadata.permissions().mode(), size, bytes));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(Path::new(copy), Path::new(copy), &mut found);
    found
}

/// What is read is, file by file, what the server sends: unlogged and temporary relations, tablespaces, directories
/// that are emptied.
fn what_is_read_is_what_is_sent(major: u32) {
    let server = TestServer::builder(major).config("autovacuum = off").start().unwrap();
    let space = server.new_folder("space").unwrap();
    for sql in [
        &format!("CREATE TABLESPACE space LOCATION '{}'", space.display()),
        "CREATE DATABASE second",
        "CREATE TABLE elsewhere TABLESPACE space AS SELECT generate_series(1, 3000) AS n",
        "CREATE UNLOGGED TABLE unlogged AS SELECT generate_series(1, 3000) AS n",
        "CREATE UNLOGGED TABLE unlogged_there TABLESPACE space AS SELECT generate_series(1, 3000) AS n",
        "CREATE TABLE dropped AS SELECT generate_series(1, 3000) AS n",
        "DROP TABLE dropped",
        "VACUUM",
    ] {
        server.psql(sql).unwrap();
    }
    server.add_documents(3_000).unwrap();
    // Of another major version, in the same place.
    fs::create_dir_all(space.join("PG_9.6_201608131/5")).unwrap();
    fs::write(space.join("PG_9.6_201608131/5/16400"), "another server's").unwrap();
    let mut holder = server
        .command("psql")
        .args([
            "-Xqc",
            "CREATE TEMP TABLE t AS SELECT generate_series(1, 3000) AS n; SELECT pg_sleep(600)",
        ])
        .spawn()
        .unwrap();
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)' AND wait_event = 'PgSleep'";
    wait_for("a temporary table", PATIENCE, || server.psql(sleeping).unwrap() == "1");
    let site = Protected::new(server).unwrap();
    site.server.psql("CHECKPOINT").unwrap();

    let here = backup(&site, &HERE);
    assert_eq!(here["transfer"]["from"], "files", "{here}");
    assert_eq!(here["snapshot"]["manifest_by"], "holdfast", "{here}");
    let sent = backup(&site, &SENT);
    assert_eq!(sent["transfer"]["from"], "server", "{sent}");
    assert_eq!(sent["snapshot"]["manifest_by"], "server", "{sent}");
    let added = |result: &Value| result["snapshot"]["bytes_added"].as_u64().unwrap();
    assert!(added(&sent) * 10 < added(&here), "{} and {}", added(&here), added(&sent));
    let copies = [fetch(&site, &here, "here"), fetch(&site, &sent, "sent")].map(|to| content(&to));
    let names = |copy: &BTreeMap<String, _>| copy.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&copies[0]), names(&copies[1]));
    for (name, file) in &copies[0] {
        assert!(copies[1][name] == *file, "{name} is another one");
    }
    holder.kill().unwrap();
    holder.wait().unwrap();

    // And a restore of what was read is proven.
    let rows = "SELECT count(*), md5(string_agg(title, '' ORDER BY id)) FROM docs";
    site.server.psql("UPDATE docs SET title = title || '!' WHERE id % 7 = 0").unwrap();
    site.archive().unwrap();
    let more = ["--start", "--snapshot", id(&here)];
    let copy = site.restore("latest", "proven", &more).unwrap();
    assert_eq!(copy.psql(rows).unwrap(), site.server.psql(rows).unwrap());
    assert_eq!(copy.psql("SELECT count(*) FROM elsewhere").unwrap(), "3000");
    copy.discard().unwrap();
    let verified = site.cli.json(&["verify", CLUSTER, "--level", "pages"]).unwrap();
    assert_eq!(verified["ok"], true, "{verified:#}");
}

#[test]
fn what_is_read_is_what_is_sent_on_14() {
    what_is_read_is_what_is_sent(14);
}

#[test]
fn what_is_read_is_what_is_sent_on_15() {
    what_is_read_is_what_is_sent(15);
}

#[test]
fn what_is_read_is_what_is_sent_on_18() {
    what_is_read_is_what_is_sent(18);
}

/// While everything is written to, made, dropped, truncated: `HOLDFAST_PROVE_RUNS` lengthens it.
#[test]
fn a_busy_server_is_read_exactly_on_17() {
    let server = TestServer::builder(17).config("shared_buffers = '2MB'").start().unwrap();
    Writers::prepare(&server).unwrap();
    server.add_documents(20_000).unwrap();
    let site = Protected::new(server).unwrap();
    for round in 1..=u64::from(prove_runs(2)) {
        let writers = Writers::start(&site.server, round).unwrap();
        wait_for("rows", PATIENCE, || !writers.acknowledged().is_empty());
        // Pages are written all the time: the buffers are small, and the checkpointer helps.
        let script = site.root().join("busy.sql");
        let busy = "UPDATE docs SET title = md5(random()::text) WHERE id % 50 = (random() * 50)::int;
                    CREATE TABLE IF NOT EXISTS comes (n int); INSERT INTO comes SELECT generate_series(1, 5000);
                    TRUNCATE comes; DROP TABLE comes; CHECKPOINT;\n";
        fs::write(&script, busy.repeat(2000)).unwrap();
        let mut others = site.server.command("psql").arg("-Xqf").arg(&script).spawn().unwrap();
        let result = backup(&site, &HERE);
        let acknowledged = writers.acknowledged();
        others.kill().unwrap();
        others.wait().unwrap();
        drop(writers);
        // What their sessions had begun goes on to its end without them.
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
                        AND pid <> pg_backend_pid()";
        wait_for("the sessions' end", PATIENCE, || site.server.psql(sessions).unwrap() == "0");
        assert_eq!(result["page_findings"], Value::Array(Vec::new()), "{result}");
        site.archive().unwrap();
        let more = ["--start", "--snapshot", id(&result)];
        let copy = site.restore("latest", "copy", &more).unwrap();
        let lost = writers::lost(&copy.psql(writers::ROWS).unwrap(), &acknowledged);
        assert!(lost.is_empty(), "{lost:?}");
        let all = "SELECT (SELECT count(*) FROM ledger), (SELECT md5(string_agg(d::text, '' ORDER BY id)) FROM docs d)";
        assert_eq!(copy.psql(all).unwrap(), site.server.psql(all).unwrap());
        copy.psql("CREATE EXTENSION amcheck").unwrap();
        copy.psql(
            "SELECT bt_index_check(c.oid, true) FROM pg_class c JOIN pg_am a ON a.oid = c.relam
             WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence = 'p'",
        )
        .unwrap();
        copy.discard().unwrap();
    }
}

/// The server takes Holdfast's manifest for its own when it builds an incremental backup on it.
#[test]
fn an_incremental_backup_builds_on_what_was_read_on_17() {
    let server = TestServer::builder(17)
        .config("summarize_wal = on")
        .config("max_slot_wal_keep_size = -1")
        .start()
        .unwrap();
    server.add_documents(5_000).unwrap();
    let site = Protected::new(server).unwrap();
    let full = backup(&site, &HERE);
    site.server.psql("UPDATE docs SET title = title || '!' WHERE id % 10 = 0").unwrap();
    let second = backup(&site, &["--incremental", "require"]);
    assert_eq!(second["basis"], full["snapshot"]["id"], "{second}");
    fetch(&site, &second, "second");
    let rows = "SELECT count(*), md5(string_agg(title, '' ORDER BY id)) FROM docs";
    let expected = site.server.psql(rows).unwrap();
    site.archive().unwrap();
    let more = ["--start", "--snapshot", id(&second)];
    let copy = site.restore("latest", "copy", &more).unwrap();
    assert_eq!(copy.psql(rows).unwrap(), expected);
    copy.discard().unwrap();
    let both = ["backup", CLUSTER, "--incremental", "require", "--local-files", "require"];
    let (code, error) = failure(&site.cli, &both).unwrap();
    assert_eq!(code, 2, "{error}");
}

/// Where the server may be another one, or the role may not, the server sends its files; whoever insists is told why.
#[test]
fn where_it_cannot_be_the_server_sends_its_files_on_15() {
    let refused = |site: &Protected, why: &str| {
        let (code, error) =
            failure(&site.cli, &[&["backup", CLUSTER], &HERE[..]].concat()).unwrap();
        assert_eq!((code, &error["code"]), (3, &"local_files_unavailable".into()), "{error}");
        assert!(error["message"].as_str().unwrap().contains(why), "{error}");
        let auto = backup(site, &["--local-files", "auto"]);
        assert_eq!(auto["transfer"]["from"], "server", "{why}");
    };
    // A way to a server, which may be anywhere.
    let server = TestServer::start(15).unwrap();
    let proxy = FaultProxy::start(server.address()).unwrap();
    let dsn = server.dsn_at("127.0.0.1", proxy.port());
    let site = Protected::with(server, &dsn, None, Vec::new()).unwrap();
    refused(&site, "is not the server itself");

    // A role that may replicate, and nothing else.
    let server = TestServer::start(15).unwrap();
    server.psql("CREATE ROLE copier LOGIN REPLICATION; GRANT pg_monitor TO copier").unwrap();
    let dsn = format!("{} user=copier", server.dsn_socket());
    let site = Protected::with(server, &dsn, None, Vec::new()).unwrap();
    refused(&site, "may not execute pg_catalog.pg_backup_start");
    for function in ["pg_backup_start(text, boolean)", "pg_backup_stop(boolean)"] {
        site.server.psql(&format!("GRANT EXECUTE ON FUNCTION {function} TO copier")).unwrap();
    }
    assert_eq!(backup(&site, &HERE)["transfer"]["from"], "files");

    // A standby.
    let mut site = site;
    let standby = TestServer::standby_of(&site.server, None).unwrap();
    let dsn = standby.dsn();
    let second = Protected::with(standby, &dsn, None, Vec::new()).unwrap();
    refused(&second, "a standby");
    site.server.stop(StopMode::Fast).unwrap();
}

/// A page that is wrong and stays it is damage, as when the server finds it: nothing is kept.
#[test]
fn damaged_pages_are_found_and_nothing_is_kept_on_15() {
    let mut server = TestServer::builder(15).checksums(true).start().unwrap();
    server.add_documents(3_000).unwrap();
    let path = server.psql("SELECT pg_relation_filepath('docs')").unwrap();
    server.stop(StopMode::Fast).unwrap();
    let file =
        fs::OpenOptions::new().read(true).write(true).open(server.data().join(&path)).unwrap();
    let mut random = Random::announced("damaged_pages_are_found_and_nothing_is_kept_on_15");
    let pages = file.metadata().unwrap().len() / 8192;
    let block = random.below(pages);
    let place = block * 8192 + 4096 + random.below(4000);
    let mut byte = [0];
    file.read_exact_at(&mut byte, place).unwrap();
    file.write_all_at(&[byte[0] ^ 4], place).unwrap();
    server.start_again().unwrap();
    let site = Protected::new(server).unwrap();
    let (code, error) = failure(&site.cli, &[&["backup", CLUSTER], &HERE[..]].concat()).unwrap();
    assert_eq!((code, &error["code"]), (5, &"page_checksum_failure".into()), "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(&format!("{path} block {block}")), "{message}");
    assert_eq!(site.points().unwrap()["snapshots"], Value::Array(Vec::new()));
    let (code, _) = failure(&site.cli, &[&["backup", CLUSTER], &SENT[..]].concat()).unwrap();
    assert_eq!(code, 5, "the server finds it as well");
}

/// The server forgets a backup with its session: a copy that goes on without it is not kept.
#[test]
fn a_session_that_is_lost_ends_it_on_17() {
    let site = Protected::new(TestServer::start(17).unwrap()).unwrap();
    site.server.add_documents(40_000).unwrap();
    let mut running = site.cli.start_job(&[&["backup", CLUSTER], &HERE[..]].concat()).unwrap();
    assert!(running.reaches("copying"), "{}", running.stderr());
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE query LIKE '%pg_tablespace_databases%' AND pid <> pg_backend_pid()";
    assert_eq!(site.server.psql(ended).unwrap(), "1");
    let ended = running.finish(PATIENCE).unwrap();
    assert_ne!(ended.code, 0, "{ended}");
    assert!(!ended.json().unwrap()["error"]["hint"].as_str().unwrap().is_empty(), "{ended}");
    assert_eq!(site.points().unwrap()["snapshots"], Value::Array(Vec::new()));
    backup(&site, &HERE);
}

/// Where the directory that the server names is another server's here.
#[test]
fn another_servers_directory_is_not_taken_for_its_own_on_16() {
    let site = Protected::new(TestServer::start(16).unwrap()).unwrap();
    let pid_file = site.server.data().join("postmaster.pid");
    let kept = fs::read_to_string(&pid_file).unwrap();
    let mut lines: Vec<&str> = kept.lines().collect();
    lines[3] = "1";
    fs::write(&pid_file, lines.join("\n")).unwrap();
    let (code, error) = failure(&site.cli, &[&["backup", CLUSTER], &HERE[..]].concat()).unwrap();
    fs::write(&pid_file, kept).unwrap();
    assert_eq!((code, &error["code"]), (3, &"local_files_unavailable".into()), "{error}");
    assert!(error["message"].as_str().unwrap().contains("is another one"), "{error}");
    assert_eq!(backup(&site, &HERE)["transfer"]["from"], "files");
}

/// A tablespace that the server has and this process does not see, as in a container that has the data directory alone,
/// is not left out.
#[test]
fn a_tablespace_out_of_sight_is_not_left_out_on_17() {
    let allowed = Command::new("unshare").args(["-m", "true"]).status();
    if !allowed.is_ok_and(|status| status.success()) {
        eprintln!("skipped: mount namespaces are not allowed here");
        return;
    }
    let server = TestServer::start(17).unwrap();
    let space = server.new_folder("space").unwrap();
    server.psql(&format!("CREATE TABLESPACE space LOCATION '{}'", space.display())).unwrap();
    server.psql("CREATE TABLE t TABLESPACE space AS SELECT generate_series(1, 10) AS n").unwrap();
    let site = Protected::new(server).unwrap();
    // The command alone sees an empty directory there.
    let elsewhere = Cli::of("unshare")
        .env("HOLDFAST_HOME", site.root().join("home"))
        .env("HOLDFAST_PASSPHRASE", PASSPHRASE);
    let run = |more: &[&str]| {
        let script = format!(
            "mount -t tmpfs none '{}' && exec '{}' --json backup {CLUSTER} {}",
            space.display(),
            cli::binary().unwrap().display(),
            more.join(" ")
        );
        elsewhere.run(&["-m", "sh", "-c", &script]).unwrap()
    };
    let told = run(&HERE);
    let error = &told.json().unwrap()["error"];
    assert_eq!((told.code, &error["code"]), (3, &"local_files_unavailable".into()), "{told}");
    assert!(error["message"].as_str().unwrap().contains("cannot be seen here"), "{told}");
    let told = run(&[]);
    assert_eq!(told.code, 0, "{told}");
    assert_eq!(told.json().unwrap()["transfer"]["from"], "server", "{told}");
    site.archive().unwrap();
    let copy = site.restore("latest", "copy", &["--start"]).unwrap();
    assert_eq!(copy.psql("SELECT count(*) FROM t").unwrap(), "10");
    copy.discard().unwrap();
}

/// A link that leads out of the data directory is passed over, as by the server, and this is said.
#[test]
fn a_link_that_is_passed_over_is_told_on_17() {
    let site = Protected::new(TestServer::start(17).unwrap()).unwrap();
    symlink("/nowhere/at/all", site.server.data().join("base/link")).unwrap();
    let result = backup(&site, &HERE);
    let warnings = result["warnings"].to_string();
    assert!(warnings.contains("base/link is a symbolic link"), "{warnings}");
}

/// Killed, it holds nothing on the server: that forgets the backup with its session.
#[test]
fn a_killed_one_holds_nothing_on_15() {
    let site = Protected::new(TestServer::start(15).unwrap()).unwrap();
    site.server.add_documents(20_000).unwrap();
    let mut random = Random::announced("a_killed_one_holds_nothing_on_15");
    for phase in
        ["waiting for the server's checkpoint", "copying", "ending the backup on the server"]
    {
        let mut running = site.cli.start_job(&[&["backup", CLUSTER], &HERE[..]].concat()).unwrap();
        if running.reaches(phase) {
            // Where in the phase the kill comes is chance.
            std::thread::sleep(Duration::from_micros(random.below(50_000)));
        }
        running.kill().unwrap();
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
                        AND pid <> pg_backend_pid()";
        wait_for("the session's end", PATIENCE, || site.server.psql(sessions).unwrap() == "0");
    }
    let result = backup(&site, &HERE);
    fetch(&site, &result, "copy");
    assert!(site.leases().unwrap().is_empty());
}
