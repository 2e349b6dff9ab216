//! Agents: what a machine with a writer's key can do, and that nothing that decides or reads is among it.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_tests::cli::Cli;
use holdfast_tests::pg::TestServer;
use holdfast_tests::places::files_below;
use holdfast_tests::protected::{CLUSTER, Protected, failure};
use holdfast_tests::wait_for;

struct Site {
    protected: Protected,
    agent: Cli,
    key: PathBuf,
}

impl Site {
    /// A protected server, and beside it an agent that holds nothing but its key.
    fn new(server: TestServer) -> Self {
        let protected = Protected::new(server).unwrap();
        let key = protected.root().join("shop.key");
        let path = key.display().to_string();
        let mut admit = vec!["repo", "writers", "admit", "--name", "beside shop"];
        admit.extend(["--cluster", CLUSTER, "--key-out", &path]);
        let admitted = protected.cli.json(&admit).unwrap();
        assert_eq!(admitted["role"], "agent");
        assert_eq!(admitted["clusters"], serde_json::json!([CLUSTER]));
        assert!(admitted["means"].as_str().unwrap().contains("opens nothing"));
        let agent = Cli::new(protected.root().join("agent"))
            .unwrap()
            .env("HOLDFAST_WRITER_KEY_FILE", &path)
            .env("HOLDFAST_LOCAL_FILES", "never");
        let attached = agent.json(&["repo", "attach", protected.url()]).unwrap();
        assert_eq!(attached["clusters"][0]["name"], CLUSTER, "{attached}");
        Self { protected, agent, key }
    }

    fn sql(&self, sql: &str) -> String {
        self.protected.server.psql(sql).unwrap()
    }

    /// The agent archives what the server has flushed, in a process of its own.
    fn archive(&self) -> String {
        let flushed = self.sql("SELECT pg_current_wal_flush_lsn()");
        self.agent.json(&["archive", CLUSTER, "--once-to", &flushed]).unwrap();
        flushed
    }
}

/// The agent stops and goes on in the middle of segments and behind them: what it cannot read, it asks the server for.
/// An operator then reads all of it, record by record, and restores.
fn an_agent_adds_and_an_operator_restores(major: u32) {
    let site = Site::new(TestServer::builder(major).wal_segment_size(1).start().unwrap());
    site.sql("CREATE TABLE t (n int, filler text)");
    let backup = site.agent.json(&["backup", CLUSTER]).unwrap();
    assert_eq!(backup["snapshot"]["kind"], "full", "{backup}");
    for round in 0..6 {
        for _ in 0..5 {
            site.sql(&format!(
                "INSERT INTO t SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, {}) n",
                50 + 90 * round
            ));
        }
        if round % 2 == 1 {
            site.sql("SELECT pg_switch_wal()");
        }
        site.archive();
    }
    site.sql("SELECT pg_create_restore_point('all')");
    let xid = site.sql("INSERT INTO t VALUES (0, 'last') RETURNING txid_current()");
    let expected =
        site.sql("SELECT count(*), sum(n), md5(string_agg(filler, '' ORDER BY n, filler)) FROM t");
    site.sql("DELETE FROM t");
    site.archive();
    // Nothing changed: nothing is stored twice, although nothing can be read.
    let again = site.agent.json(&["backup", CLUSTER]).unwrap();
    let (logical, added) = (&again["snapshot"]["bytes_logical"], &again["snapshot"]["bytes_added"]);
    assert!(
        added.as_u64().unwrap() * 4 < logical.as_u64().unwrap(),
        "it shares with itself: {again}"
    );

    // Whoever reads finds every record in the index, those that cross segments too.
    let verified = site.protected.cli.json(&["verify", CLUSTER, "--level", "pages"]).unwrap();
    assert_eq!(verified["ok"], true, "{verified:#}");
    assert_eq!(verified["findings"], serde_json::json!([]), "{verified:#}");
    let copy = site
        .protected
        .restore(&format!("xid:{xid}"), "copy", &["--start", "--at-target", "pause"])
        .unwrap();
    let restored = copy
        .psql("SELECT count(*), sum(n), md5(string_agg(filler, '' ORDER BY n, filler)) FROM t")
        .unwrap();
    assert_eq!(restored, expected);
    copy.discard().unwrap();
    assert!(site.protected.leases().unwrap().is_empty());
}

#[test]
fn an_agent_adds_and_an_operator_restores_on_14() {
    an_agent_adds_and_an_operator_restores(14);
}

#[test]
fn an_agent_adds_and_an_operator_restores_on_18() {
    an_agent_adds_and_an_operator_restores(18);
}

/// A long commit record that begins in one segment and ends in the next. The agent has archived its end as a part of an
/// open segment, comes back, and seals that segment: the record is in its index only when the agent has asked the server
/// for the segment before.
#[test]
fn a_commit_that_crosses_segments_is_in_an_agents_index() {
    let server =
        TestServer::builder(17).wal_segment_size(1).config("max_prepared_transactions = 1");
    let site = Site::new(server.start().unwrap());
    site.sql("CREATE TABLE t (n int)");
    site.agent.json(&["backup", CLUSTER]).unwrap();
    // Four bytes in the record for each subtransaction: 600 kB. Prepared, so that where it begins can be chosen.
    site.sql(
        "BEGIN; DO $$ BEGIN FOR i IN 1..150000 LOOP BEGIN INSERT INTO t VALUES (i); \
         EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$; PREPARE TRANSACTION 'long'",
    );
    let xid = site.sql("SELECT transaction FROM pg_prepared_xacts");
    site.sql(
        "SELECT pg_logical_emit_message(false, 'fill', repeat('x', \
         ((1048576 + 700000 - (pg_current_wal_insert_lsn() - '0/0') % 1048576) % 1048576)::int))",
    );
    let segment = || site.sql("SELECT pg_walfile_name(pg_current_wal_insert_lsn())");
    let first = segment();
    site.sql("COMMIT PREPARED 'long'");
    let last = segment();
    assert_ne!(first, last, "it crosses the border");
    site.archive();
    site.sql("DELETE FROM t");
    site.sql("SELECT pg_switch_wal()");
    site.archive();
    let wal = files_below(&Path::new(site.protected.url()).join("wal")).unwrap();
    assert!(wal.iter().any(|path| path.ends_with(&last)), "{last} is whole, and stored as one");
    let copy = site.protected.restore(&format!("xid:{xid}"), "copy", &["--start"]).unwrap();
    assert_eq!(copy.psql("SELECT count(*) FROM t").unwrap(), "150000");
    copy.discard().unwrap();
}

/// The server keeps WAL from the slot on: the segment before may be gone when the agent comes back. It goes on, and
/// what it archives is whole.
#[test]
fn an_agent_goes_on_where_the_segment_before_is_gone() {
    let site = Site::new(TestServer::builder(17).wal_segment_size(1).start().unwrap());
    site.sql("CREATE TABLE t (n int, filler text)");
    site.agent.json(&["backup", CLUSTER]).unwrap();
    for round in 0..3 {
        site.sql(
            "INSERT INTO t SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 3000) n",
        );
        let at = site.archive();
        let before = site.sql(&format!("SELECT pg_walfile_name('{at}'::pg_lsn - 1048576)"));
        let file = site.protected.server.data().join("pg_wal").join(before);
        wait_for("the segment before to be recycled", Duration::from_mins(1), || {
            site.sql("CHECKPOINT");
            !file.exists()
        });
        site.sql(&format!("INSERT INTO t VALUES ({round}, 'last of a round')"));
    }
    site.archive();
    let expected = site.sql("SELECT count(*), sum(n) FROM t");
    let copy = site.protected.restore("latest", "copy", &["--start"]).unwrap();
    assert_eq!(copy.psql("SELECT count(*), sum(n) FROM t").unwrap(), expected);
    copy.discard().unwrap();
}

#[test]
fn an_agent_reads_removes_and_admits_nothing() {
    let site = Site::new(TestServer::start(16).unwrap());
    site.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) n");
    site.agent.json(&["backup", CLUSTER]).unwrap();
    let place = |name: &str| site.protected.root().join(name).display().to_string();
    let (copy, bundle, key, kit) =
        (place("copy"), place("bundle"), place("key"), place("kit.html"));
    let policy = place("policy.json");
    fs::write(&policy, r#"{"format":1,"keep":{"daily":"7d"}}"#).unwrap();
    let dsn = site.protected.server.dsn();
    let refused: &[&[&str]] = &[
        &["restore", "plan", CLUSTER, "--target", "latest", "--to", &copy],
        &["restore", "run", CLUSTER, "--target", "latest", "--to", &copy],
        &["verify", CLUSTER],
        &["repo", "check"],
        &["bundle", "export", CLUSTER, "--to", &bundle],
        &["retention", "apply", CLUSTER],
        &["policy", "set", CLUSTER, &policy],
        &["replicate", CLUSTER, "--to", &copy],
        &["repo", "rekey", "--to", &copy, "--recovery-key-out", &key],
        &["repo", "keys", "add", "--recovery-key-out", &key],
        &["repo", "recovery-kit", "--out", &kit],
        &["repo", "writers", "admit", "--name", "another", "--key-out", &key],
        &["cluster", "add", "another", "--dsn", &dsn],
        &["backup", CLUSTER, "--incremental", "require"],
    ];
    for arguments in refused {
        let (code, error) = failure(&site.agent, arguments).unwrap();
        let expected = if arguments[0] == "backup" { 3 } else { 6 };
        assert_eq!(code, expected, "{arguments:?}: {error}");
        assert!(error["hint"].as_str().unwrap().len() > 10, "{error}");
    }
    for left in [&copy, &bundle, &key, &kit] {
        assert!(!Path::new(left).exists(), "{left}");
    }
    // What it may do besides adding: look.
    let points = site.agent.json(&["points", CLUSTER]).unwrap();
    assert_eq!(points["snapshots"].as_array().unwrap().len(), 1);
    let writers = site.agent.json(&["repo", "writers", "list"]).unwrap();
    let own = writers["writers"].as_array().unwrap();
    assert!(own.iter().any(|w| w["this_device"] == true && w["label"] == "beside shop"));
}

#[test]
fn a_writers_key_is_for_one_repository_and_whole() {
    let site = Site::new(TestServer::start(16).unwrap());
    assert_eq!(fs::metadata(&site.key).unwrap().permissions().mode() & 0o777, 0o600);
    // A name is taken once, and a file is never overwritten.
    let path = site.key.display().to_string();
    let other = site.protected.root().join("other.key").display().to_string();
    for (name, file, code) in
        [("beside shop", &other, "agent_exists"), ("another", &path, "file_exists")]
    {
        let admit = ["repo", "writers", "admit", "--name", name, "--key-out", file];
        let (exit, error) = failure(&site.protected.cli, &admit).unwrap();
        assert_eq!((exit, &error["code"]), (3, &code.into()), "{error}");
    }
    assert!(!Path::new(&other).exists());
    // Another repository.
    let elsewhere = site.protected.root().join("elsewhere").display().to_string();
    site.protected.cli.json(&["repo", "create", &elsewhere]).unwrap();
    let (exit, error) = failure(&site.agent, &["repo", "attach", &elsewhere]).unwrap();
    assert_eq!((exit, &error["code"]), (6, &"wrong_key".into()), "{error}");
    // A changed character.
    let text = fs::read_to_string(&site.key).unwrap();
    let changed = text.replacen("holdfast-writer-key ", "holdfast-writer-key 0", 1);
    fs::write(&other, changed).unwrap();
    let cli = Cli::new(site.protected.root().join("home")).unwrap();
    let (exit, error) = failure(&cli, &["--writer-key-file", &other, "repo", "list"]).unwrap();
    assert_eq!((exit, &error["code"]), (2, &"invalid_key_text".into()), "{error}");
}

/// `archive_command` with an agent's key: what is there already is recognised without being read.
#[test]
fn an_agent_puts_single_files() {
    let site = Site::new(TestServer::start(17).unwrap());
    site.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) n");
    let name = site.sql("SELECT pg_walfile_name(pg_switch_wal())");
    let data = site.protected.server.data();
    let agent = site.agent.clone().current_dir(data);
    let put = |path: &str| agent.run(&["wal-put", path]).unwrap();
    let path = format!("pg_wal/{name}");
    for _ in 0..2 {
        let done = put(&path);
        assert_eq!(done.code, 0, "{done}");
    }
    let elsewhere = site.protected.root().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let mut changed = fs::read(data.join(&path)).unwrap();
    let end = changed.len() - 1;
    changed[end] ^= 1;
    let other = elsewhere.join(&name);
    fs::write(&other, changed).unwrap();
    let done = put(&other.display().to_string());
    assert_eq!(done.code, 1, "{done}");
    // A timeline's history is no secret from whoever archives.
    let history = elsewhere.join("00000002.history");
    fs::write(&history, "1\t0/3000000\tno recovery target specified\n").unwrap();
    for (text, code) in [
        ("1\t0/3000000\tno recovery target specified\n", 0),
        ("1\t0/3000000\tno recovery target specified\n", 0),
        ("1\t0/4000000\tno recovery target specified\n", 1),
    ] {
        fs::write(&history, text).unwrap();
        let done = put(&history.display().to_string());
        assert_eq!(done.code, code, "{done}");
    }
}
