//! A bucket whose rule lets nobody remove what was put: SeaweedFS with object lock.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;

use chrono::{DateTime, TimeDelta, Utc};
use holdfast_repository::{DeviceId, ObjectKind, Repository, RepositoryUrl, Store, Unlock};
use holdfast_tests::pg::TestServer;
use holdfast_tests::protected::{CLUSTER, PASSPHRASE, Protected};
use holdfast_tests::store::SeaweedFs;
use serde_json::{Value, json};

const URL: &str = "s3://vault/shop";
/// A mark that is to be due at once.
const MARK: &str = "HOLDFAST_TEST_MARK";

fn apply(site: &Protected) -> Value {
    site.cli.json(&["retention", "apply", CLUSTER]).unwrap()
}

/// Marks once more what a mark names, without a delay: nobody can make a real store's objects older.
fn make_due(store: &SeaweedFs, mark: &Value) {
    // A store takes its settings from the environment.
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_mark_becomes_due", "--ignored", "--nocapture"])
        .envs(store.env())
        .env(MARK, mark.as_str().unwrap())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
#[ignore = "run by the test of a locked bucket, in a process with the store's settings"]
fn a_mark_becomes_due() {
    let mark = std::env::var(MARK).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = Store::open(&RepositoryUrl::parse(URL).unwrap()).await.unwrap();
        let secret = PASSPHRASE.into();
        let unlock = Unlock::Passphrase(&secret);
        let repository = Repository::open(store, DeviceId::generate(), unlock).await.unwrap();
        let path = format!("tombstones/{mark}");
        let mut body: Value = repository.get_document(&path, ObjectKind::Tombstone).await.unwrap();
        let id = "01900000-0000-7000-8000-000000000001";
        body["id"] = json!(id);
        body["delay_seconds"] = json!(0);
        let path = format!("tombstones/{id}");
        repository.put_document(&path, ObjectKind::Tombstone, &body).await.unwrap();
    });
}

#[test]
fn a_locked_bucket_keeps_what_is_needed_and_lets_go_of_nothing_early() {
    let store = SeaweedFs::start().unwrap();
    store.create_locked_bucket("vault").unwrap();
    let server = TestServer::start(17).unwrap();
    let dsn = server.dsn();
    let site = Protected::with(server, &dsn, Some(URL), store.env()).unwrap();
    let lock = || site.cli.json(&["repo", "status"]).unwrap()["store"]["lock"].clone();
    assert_eq!(lock(), json!({"kind": "no_rule"}));
    store.keep_for("vault", 1).unwrap();
    assert_eq!(lock(), json!({"kind": "rule", "mode": "compliance", "days": 1}));

    // Everything that a day brings works, though leases, marks and slices are locked like all the rest.
    site.server.psql("CREATE TABLE t AS SELECT generate_series(1, 1000) n").unwrap();
    let first = site.backup().unwrap()["snapshot"]["id"].as_str().unwrap().to_owned();
    site.server.psql("INSERT INTO t SELECT 1; SELECT pg_switch_wal()").unwrap();
    site.backup().unwrap();
    site.server.psql("INSERT INTO t SELECT 2").unwrap();
    site.archive().unwrap();
    let score = site.cli.json(&["replicate", CLUSTER, "--status"]).unwrap()["score"].clone();
    assert_eq!(score["immutable"], 1, "{score}");

    // What the policy lets go of waits for the end of its locks.
    let file = site.destination("policy.json");
    fs::write(&file, r#"{"format":1,"keep":{"hourly":"1h"}}"#).unwrap();
    site.cli.json(&["policy", "set", CLUSTER, &file]).unwrap();
    let applied = apply(&site);
    assert_eq!(applied["marked"]["snapshots"], json!([first]), "{applied:#}");
    make_due(&store, &applied["marked"]["id"]);
    let applied = apply(&site);
    assert_eq!(applied["removed"]["objects"], 0, "{applied:#}");
    let until: DateTime<Utc> = applied["locked"][0]["until"].as_str().unwrap().parse().unwrap();
    let left = until - Utc::now();
    assert!(left > TimeDelta::hours(23) && left <= TimeDelta::hours(24), "{applied:#}");
    assert_eq!(site.points().unwrap()["snapshots"].as_array().unwrap().len(), 2);

    // The rule was too short: what is needed is kept for longer, and what goes is not.
    let before = applied["locks"].clone();
    assert_eq!(
        (&before["days"], &before["renewed"], &before["refused"]),
        (&json!(1), &json!(0), &json!(0))
    );
    store.keep_for("vault", 30).unwrap();
    let applied = apply(&site);
    let renewed = applied["locks"]["renewed"].as_u64().unwrap();
    assert!(renewed > 5 && applied["locks"]["refused"] == 0, "{applied:#}");
    assert_eq!(
        applied["locked"][0]["until"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap(),
        until
    );
    let again = apply(&site);
    assert_eq!(again["locks"]["renewed"], 0, "{again:#}");

    // Until then it can be taken back.
    site.cli.json(&["retention", "undelete", CLUSTER]).unwrap();
    for (target, more, rows) in [
        ("latest", &["--start"][..], "1002"),
        ("immediate", &["--start", "--snapshot", &first], "1000"),
    ] {
        let copy = site.restore(target, target, more).unwrap();
        assert_eq!(copy.psql("SELECT count(*) FROM t").unwrap(), rows);
        copy.discard().unwrap();
    }
    let verified = site.cli.json(&["verify", CLUSTER]).unwrap();
    assert_eq!(verified["ok"], true, "{verified:#}");

    // A replica in a bucket of its own, with a rule that was too short as well.
    store.create_locked_bucket("second").unwrap();
    store.keep_for("second", 1).unwrap();
    let replicate = ["replicate", CLUSTER, "--to", "s3://second/shop"];
    let locks = |result: &Value| {
        let locks = &result["replicas"][0]["locks"];
        [&locks["days"], &locks["renewed"], &locks["refused"]].map(|n| n.as_u64().unwrap())
    };
    assert_eq!(locks(&site.cli.json(&replicate).unwrap()), [1, 0, 0]);
    store.keep_for("second", 30).unwrap();
    let [days, renewed, refused] = locks(&site.cli.json(&replicate).unwrap());
    assert!(days == 30 && renewed > 5 && refused == 0, "{days} {renewed} {refused}");
}
