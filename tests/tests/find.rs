//! The incident finder against real servers: what happened, when, in which transaction, to which
//! table, as it was called then.

#![allow(clippy::unwrap_used, reason = "a test")]

use holdfast_tests::pg::TestServer;
use holdfast_tests::protected::{CLUSTER, Protected, failure};
use serde_json::Value;

fn transaction(server: &TestServer, statements: &str) -> String {
    let told =
        server.psql(&format!("{statements}; SELECT 'xid=' || pg_current_xact_id()")).unwrap();
    told.lines().find_map(|line| line.trim().strip_prefix("xid=")).unwrap().to_owned()
}

/// The events of a search, as (kind, transaction, relation).
fn told(found: &Value) -> Vec<(String, String, String)> {
    let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
    found["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (text(e, "kind"), text(e, "xid"), text(e, "relation")))
        .collect()
}

fn finds_what_happened(major: u32, settings: &[&str]) {
    let mut builder = TestServer::builder(major);
    for setting in settings {
        builder = builder.config(*setting);
    }
    let server = builder.start().unwrap();
    for statement in [
        "CREATE SCHEMA plans",
        "CREATE TABLE plans.items (id int PRIMARY KEY, note text)",
        "INSERT INTO plans.items SELECT n, 'note ' || n FROM generate_series(1, 1000) AS n",
        "CREATE TABLE guests (id int, name text)",
        "INSERT INTO guests SELECT n, 'guest ' || n FROM generate_series(1, 300) AS n",
        "CREATE TABLE old_prices AS SELECT * FROM generate_series(1, 50) AS price",
        "ANALYZE",
    ] {
        server.psql(statement).unwrap();
    }
    let site = Protected::new(server).unwrap();
    site.backup().unwrap();
    let server = &site.server;
    let find = |arguments: &[&str]| {
        let line = [&["find", CLUSTER][..], arguments].concat();
        site.cli.json(&line).unwrap()
    };

    let few = transaction(server, "DELETE FROM plans.items WHERE id <= 3");
    let many = transaction(
        server,
        "DO $$ BEGIN BEGIN DELETE FROM plans.items WHERE id <= 500; EXCEPTION WHEN others THEN NULL; END; \
         DELETE FROM plans.items; END $$",
    );
    server.psql("BEGIN; DELETE FROM guests; ROLLBACK").unwrap();
    let truncate = transaction(server, "TRUNCATE guests");
    server.psql("VACUUM FULL old_prices").unwrap();
    let renamed = transaction(server, "ALTER TABLE old_prices RENAME TO prices_2025");
    let drop = transaction(server, "DROP TABLE prices_2025");
    // Made after the snapshot: the names are in the WAL alone.
    server.psql("CREATE SCHEMA \"Later\"").unwrap();
    server
        .psql("CREATE TABLE \"Later\".made AS SELECT * FROM generate_series(1, 200) AS n")
        .unwrap();
    let later = transaction(server, "DELETE FROM \"Later\".made");
    server.psql("CREATE VIEW seen AS SELECT 1").unwrap();
    let view = transaction(server, "DROP VIEW seen");
    server.psql("CREATE TEMPORARY TABLE brief AS SELECT 1").unwrap();
    server.psql("BEGIN; CREATE TABLE never (id int); DROP TABLE never; COMMIT").unwrap();
    server.psql("CREATE DATABASE gone").unwrap();
    server.psql("DROP DATABASE gone").unwrap();
    site.archive().unwrap();

    let deletes = find(&["--mass-deletes"]);
    assert_eq!(
        told(&deletes),
        [
            ("delete".into(), many.clone(), "plans.items".into()),
            ("delete".into(), later, "Later.made".into())
        ],
        "{deletes:#}"
    );
    assert_eq!(deletes["events"][0]["rows"]["deleted"], 997);
    assert_eq!(deletes["events"][0]["database"], "postgres");
    assert_eq!(deletes["events"][0]["outcome"], "committed");
    let lower = find(&["--mass-deletes", "--rows", "3"]);
    assert_eq!(told(&lower)[0], ("delete".into(), few.clone(), "plans.items".into()));

    let truncates = find(&["--truncates"]);
    assert_eq!(
        told(&truncates),
        [("truncate".into(), truncate.clone(), "public.guests".into())],
        "{truncates:#}"
    );
    assert_eq!(truncates["events"][0]["rows_estimate"], 300);

    let drops = find(&["--drops"]);
    let kinds = told(&drops);
    assert_eq!(kinds[0], ("drop".into(), drop.clone(), "public.prices_2025".into()), "{drops:#}");
    assert_eq!(drops["events"][0]["rows_estimate"], 50);
    assert_eq!(kinds[1], ("drop".into(), view, "public.seen".into()), "{drops:#}");
    assert_eq!(kinds[2].0, "drop_database", "{drops:#}");
    assert_eq!(drops["events"][2]["database"], "gone");
    assert_eq!(kinds.len(), 3, "{drops:#}");

    // The same in the index beside the WAL, under the names that a snapshot knows.
    let points = site.cli.json(&["points", CLUSTER, "--markers"]).unwrap();
    let markers = &points["markers"];
    let marked: Vec<_> = markers["markers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|m| m["relation"].is_string() || m["kind"] == "drop_database")
        .map(|m| {
            let text = |name: &str| m[name].as_str().unwrap_or_default().to_owned();
            (text("kind"), text("relation"), m["rows"].as_u64())
        })
        .collect();
    let of = |kind: &str, relation: &str, rows| (kind.to_owned(), relation.to_owned(), rows);
    assert!(
        marked.ends_with(&[
            of("delete", "plans.items", Some(997)),
            of("truncate", "public.guests", None),
            of("rewrite", "public.old_prices", None),
            of("drop", "public.old_prices", None),
            of("drop_database", "", None),
        ]),
        "{markers:#}"
    );
    let unnamed: Vec<_> =
        markers["markers"].as_array().unwrap().iter().filter(|m| m["rows"] == 200).collect();
    assert_eq!(unnamed.len(), 1, "made after the snapshot: {markers:#}");
    assert!(unnamed[0]["relation"].is_null());
    assert_eq!(markers["unknown"], serde_json::json!([]));

    // One table's whole story, under the names it had.
    let items = find(&["--table", "plans.items"]);
    let xids = |found: &Value| told(found).into_iter().map(|(_, xid, _)| xid).collect::<Vec<_>>();
    // WAL from before the snapshot may be archived, too.
    assert!(xids(&items).ends_with(&[few, many.clone()]), "{items:#}");
    let guests = find(&["--table", "guests"]);
    let outcomes: Vec<_> = guests["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["outcome"].as_str().unwrap())
        .collect();
    assert!(outcomes.ends_with(&["aborted", "committed"]), "{guests:#}");
    let kinds: Vec<_> = told(&find(&["--table", "old_prices"])).into_iter().map(|e| e.0).collect();
    assert!(kinds.contains(&"rewrite".to_owned()), "{kinds:?}");
    assert_eq!(told(&find(&["--table", "prices_2025"])).len(), 1);

    // One transaction, and one that never was.
    let one = find(&["--xid", &many]);
    assert_eq!(one["events"].as_array().unwrap().len(), 1, "{one:#}");
    assert_eq!(one["events"][0]["target"], format!("xid:{many}"));
    let catalogs_only = find(&["--xid", &renamed]);
    assert!(catalogs_only["events"].as_array().unwrap().is_empty(), "{catalogs_only:#}");
    let (code, error) = failure(&site.cli, &["find", CLUSTER, "--xid", "4000000000"]).unwrap();
    assert_eq!((code, error["code"].as_str().unwrap()), (4, "not_found"));
    let (code, _) = failure(&site.cli, &["find", CLUSTER]).unwrap();
    assert_eq!(code, 2);

    // A stretch of time.
    let from = truncates["events"][0]["commit_time"].as_str().unwrap();
    let late = find(&["--mass-deletes", "--from", from]);
    assert_eq!(told(&late).len(), 1, "{late:#}");
    assert_eq!(told(&find(&["--mass-deletes", "--to", from])).len(), 1);

    // What going back would discard, table by table.
    let to = site.destination("planned");
    let target = format!("xid:{many}");
    let plan = [
        &["restore", "plan", CLUSTER, "--target", &target, "--exclusive", "--to", &to][..],
        &["--whole-loss"],
    ]
    .concat();
    let plan = site.cli.json(&plan).unwrap();
    let changes = &plan["loss"]["changes"];
    let lost = |relation: &str| {
        let relations = changes["relations"].as_array().unwrap();
        relations.iter().find(|r| r["relation"] == relation).map(|r| r["rows"].clone())
    };
    assert_eq!(changes["complete"], true, "{changes:#}");
    assert_eq!(changes["lower_bound"], false);
    let rows = |inserted: u64, deleted: u64| {
        Some(serde_json::json!({ "inserted": inserted, "updated": 0, "deleted": deleted }))
    };
    assert_eq!(lost("plans.items"), rows(0, 997), "{changes:#}");
    assert_eq!(lost("Later.made"), rows(200, 200), "{changes:#}");
    assert_eq!(lost("public.guests"), None, "a rolled-back deletion: {changes:#}");
    let events: Vec<_> = changes["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["kind"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(events, ["truncate", "rewrite", "drop", "drop", "drop_database"], "{changes:#}");
    assert!(changes["schema_changes"].as_u64().unwrap() >= 5, "{changes:#}");

    // What was found is where to go back to.
    let copy = site
        .restore(
            &format!("xid:{many}"),
            "before",
            &["--exclusive", "--start", "--at-target", "pause"],
        )
        .unwrap();
    assert_eq!(copy.psql("SELECT count(*) FROM plans.items").unwrap(), "997");
}

#[test]
fn finds_what_happened_on_14() {
    finds_what_happened(14, &["wal_compression = on"]);
}

#[test]
fn finds_what_happened_on_15() {
    finds_what_happened(15, &["wal_compression = lz4"]);
}

#[test]
fn finds_what_happened_on_16() {
    finds_what_happened(16, &["wal_compression = zstd"]);
}

#[test]
fn finds_what_happened_on_17() {
    finds_what_happened(17, &["wal_level = logical"]);
}

#[test]
fn finds_what_happened_on_18() {
    finds_what_happened(18, &[]);
}
