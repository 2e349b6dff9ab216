//! What the finder counts against what the server itself counts (`pg_stat_xact_user_tables`), on every
//! major version: rows written several at a time, updates in place on the page and elsewhere, row locks,
//! large values, moves between partitions, subtransactions that were taken back, prepared transactions.

#![allow(clippy::unwrap_used, reason = "a test")]

use holdfast_tests::pg::TestServer;
use holdfast_tests::protected::{CLUSTER, Protected};
use serde_json::Value;

/// What one transaction does, and to which table.
const WORK: &[(&str, &str)] = &[
    ("plain", "INSERT INTO plain SELECT n, 0, 'x' FROM generate_series(1, 500) AS n"),
    ("plain", "COPY plain FROM PROGRAM 'seq 501 900 | sed \"s/$/,0,y/\"' (FORMAT csv)"),
    // On the same page, and elsewhere because a column of an index changes.
    ("plain", "UPDATE plain SET note = 'z' WHERE id <= 50"),
    ("plain", "UPDATE plain SET place = place + 1 WHERE id <= 60"),
    (
        "plain",
        "SELECT count(*) FROM (SELECT 1 FROM plain WHERE id <= 70 FOR UPDATE) AS locked; DELETE FROM plain WHERE id <= 5",
    ),
    (
        "plain",
        "INSERT INTO plain VALUES (6, 0, 'there'), (2, 0, 'gone') ON CONFLICT (id) DO UPDATE SET note = 'met'",
    ),
    (
        "large",
        "INSERT INTO large SELECT n, (SELECT string_agg(md5(n::text || k), '') FROM generate_series(1, 900) AS k) FROM generate_series(1, 20) AS n",
    ),
    ("large", "UPDATE large SET body = body || 'more' WHERE id <= 7"),
    ("large", "DELETE FROM large WHERE id > 15"),
    ("low", "INSERT INTO parted SELECT n FROM generate_series(1, 30) AS n"),
    ("high", "UPDATE parted SET id = id + 100 WHERE id <= 8"),
];

fn counts(event: &Value) -> String {
    let rows = &event["rows"];
    format!("{}|{}|{}", rows["inserted"], rows["updated"], rows["deleted"])
}

fn counts_are_the_servers_own(major: u32) {
    let server =
        TestServer::builder(major).config("max_prepared_transactions = 4").start().unwrap();
    for statement in [
        "CREATE TABLE plain (id int PRIMARY KEY, place int, note text) WITH (fillfactor = 50)",
        "CREATE INDEX ON plain (place)",
        "CREATE TABLE large (id int PRIMARY KEY, body text)",
        "ALTER TABLE large ALTER body SET STORAGE EXTERNAL",
        "CREATE TABLE parted (id int) PARTITION BY RANGE (id)",
        "CREATE TABLE low PARTITION OF parted FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE high PARTITION OF parted FOR VALUES FROM (100) TO (1000)",
    ] {
        server.psql(statement).unwrap();
    }
    let site = Protected::new(server).unwrap();
    site.backup().unwrap();
    let server = &site.server;
    let mut expected = Vec::new();
    for (table, work) in WORK {
        let told = server
            .psql(&format!(
                "{work}; SELECT 'told ' || pg_current_xact_id() || ' ' || n_tup_ins || '|' || n_tup_upd || '|' || n_tup_del \
                 FROM pg_stat_xact_user_tables WHERE relname = '{table}'"
            ))
            .unwrap();
        let line = told.lines().find_map(|l| l.strip_prefix("told ")).unwrap().to_owned();
        let (xid, counts) = line.split_once(' ').unwrap();
        expected.push((*table, xid.to_owned(), counts.to_owned(), *work));
    }
    // Statement by statement in one session: older clients show only the last result of several.
    let transaction = |statements: &[&str]| {
        let mut psql = server.command("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
        for statement in ["BEGIN", "SELECT pg_current_xact_id()"].iter().chain(statements) {
            psql.args(["-c", statement]);
        }
        let told = psql.output().unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        String::from_utf8(told.stdout).unwrap().trim().to_owned()
    };
    // What was taken back to a savepoint does not count, what was released does.
    let saved = transaction(&[
        "SAVEPOINT a",
        "DELETE FROM plain WHERE id BETWEEN 100 AND 300",
        "ROLLBACK TO a",
        "SAVEPOINT b",
        "DELETE FROM plain WHERE id BETWEEN 100 AND 120",
        "RELEASE b",
        "COMMIT",
    ]);
    expected.push(("plain", saved, "0|0|21".to_owned(), "savepoints"));
    let prepared = transaction(&[
        "SAVEPOINT a",
        "DELETE FROM plain WHERE id BETWEEN 200 AND 240",
        "RELEASE a",
        "PREPARE TRANSACTION 'later'",
    ]);
    let undone = transaction(&["DELETE FROM large", "PREPARE TRANSACTION 'never'"]);
    server.psql("COMMIT PREPARED 'later'").unwrap();
    server.psql("ROLLBACK PREPARED 'never'").unwrap();
    expected.push(("plain", prepared, "0|0|41".to_owned(), "prepared"));
    site.archive().unwrap();

    for (table, xid, wanted, work) in expected {
        let found = site.cli.json(&["find", CLUSTER, "--xid", &xid]).unwrap();
        let events = found["events"].as_array().unwrap();
        let of_table: Vec<_> =
            events.iter().filter(|e| e["relation"] == format!("public.{table}")).collect();
        assert_eq!(of_table.len(), 1, "{work}: {found:#}");
        assert_eq!(counts(of_table[0]), wanted, "{work}: {found:#}");
        let toast = |e: &&Value| e["relation"].as_str().is_some_and(|r| r.starts_with("pg_toast"));
        assert_eq!(events.iter().filter(toast).count(), 0, "{work}: {found:#}");
    }
    let found = site.cli.json(&["find", CLUSTER, "--xid", &undone]).unwrap();
    assert_eq!(found["events"][0]["outcome"], "aborted", "{found:#}");
}

#[test]
fn counts_are_the_servers_own_on_14() {
    counts_are_the_servers_own(14);
}

#[test]
fn counts_are_the_servers_own_on_15() {
    counts_are_the_servers_own(15);
}

#[test]
fn counts_are_the_servers_own_on_16() {
    counts_are_the_servers_own(16);
}

#[test]
fn counts_are_the_servers_own_on_17() {
    counts_are_the_servers_own(17);
}

#[test]
fn counts_are_the_servers_own_on_18() {
    counts_are_the_servers_own(18);
}
