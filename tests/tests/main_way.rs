//! The main way through the command, as somebody at a terminal goes it.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Command;

use holdfast_tests::cli::Cli;
use holdfast_tests::pg::TestServer;

/// Rows of a query on a restored copy.
fn rows(server: &TestServer, dsn: &str, sql: &str) -> String {
    let out =
        Command::new(server.binaries().program("psql")).args(["-XAtc", sql, dsn]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

fn goes_the_main_way(major: u32) {
    let server = TestServer::start(major).unwrap();
    server.psql("CREATE TABLE items (id int PRIMARY KEY, note text)").unwrap();
    server
        .psql("INSERT INTO items SELECT n, repeat('x', 100) FROM generate_series(1, 5000) AS n")
        .unwrap();
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name).display().to_string();
    let cli = Cli::new(path("home")).unwrap().env("HOLDFAST_PASSPHRASE", "correct horse battery");

    let key = path("recovery-key.txt");
    cli.json(&["repo", "create", &path("repository"), "--recovery-key-out", &key]).unwrap();
    assert!(std::fs::read_to_string(&key).unwrap().contains("recovery key"));
    let added = cli.json(&["cluster", "add", "shop", "--dsn", &server.dsn_socket()]).unwrap();
    assert_eq!(added["mode"], "physical");
    let check = cli.json(&["cluster", "check", "shop"]).unwrap();
    assert_eq!(check["reachable"], true);
    assert_eq!(cli.json(&["cluster", "list"]).unwrap()["clusters"].as_array().unwrap().len(), 1);

    let backup = cli.json(&["backup", "shop", "--reason", "a test"]).unwrap();
    assert_eq!(backup["snapshot"]["reason"], "a test");
    server.psql("UPDATE items SET note = 'good' WHERE id <= 10").unwrap();
    server.psql("SELECT pg_create_restore_point('before-release')").unwrap();
    let sql = "WITH gone AS (DELETE FROM items RETURNING 1) SELECT pg_current_xact_id(), count(*) FROM gone";
    let disaster = server.psql(sql).unwrap();
    let xid = disaster.split('|').next().unwrap().trim().to_owned();
    server.psql("INSERT INTO items VALUES (9999, 'after')").unwrap();
    let end = server.wal_position().unwrap();
    cli.json(&["archive", "shop", "--once-to", &end]).unwrap();

    let points = cli.json(&["points", "shop"]).unwrap();
    assert_eq!(points["restore_points"][0]["name"], "before-release");
    assert_eq!(points["snapshots"][0]["state"], "stored");
    assert_eq!(points["windows"].as_array().unwrap().len(), 1);

    // Plan, then exactly that plan; paused at the target, promoted by hand.
    let to = path("restored");
    let target = format!("xid:{xid}");
    let plan = cli
        .json(&["restore", "plan", "shop", "--target", &target, "--exclusive", "--to", &to])
        .unwrap();
    assert_eq!(plan["stops_before"]["xid"], xid.as_str());
    assert_eq!(plan["loss"]["transactions"], 2);
    assert!(!std::path::Path::new(&to).exists(), "a plan writes nothing");
    let hash = plan["hash"].as_str().unwrap().to_owned();
    let run = ["restore", "run", "shop", "--target", &target, "--exclusive", "--to", &to];
    let mut paused = run.to_vec();
    paused.extend(["--start", "--at-target", "pause", "--plan-hash", &hash]);
    let restored = cli.json(&paused).unwrap();
    assert_eq!(restored["verified"], true, "{restored:#}");
    assert_eq!(restored["plan_hash"], hash.as_str());
    assert_eq!(restored["reached"]["lsn"], plan["predicted"]["lsn"]);
    let dsn = restored["dsn"].as_str().unwrap().to_owned();
    assert_eq!(rows(&server, &dsn, "SELECT count(*) FROM items"), "5000");
    assert_eq!(rows(&server, &dsn, "SELECT count(*) FROM items WHERE note = 'good'"), "10");
    assert_eq!(rows(&server, &dsn, "SELECT pg_is_in_recovery()"), "t");
    let job = restored["job"].as_str().unwrap().to_owned();
    assert_eq!(cli.json(&["restore", "promote", &job]).unwrap()["at_target"], "promote");
    assert_eq!(
        rows(&server, &dsn, "INSERT INTO items VALUES (10000, 'new') RETURNING id").lines().next(),
        Some("10000")
    );

    let points = cli.json(&["points", "shop"]).unwrap();
    assert_eq!(points["snapshots"][0]["state"], "proven", "a proven restore is on record");
    cli.json(&["restore", "discard", &job]).unwrap();
    assert!(!std::path::Path::new(&to).exists());
    assert_eq!(cli.run(&["restore", "discard", &job]).unwrap().code, 4);

    // Other targets, and what is refused.
    let latest = cli
        .json(&["restore", "run", "shop", "--target", "latest", "--to", &to, "--start"])
        .unwrap();
    let dsn = latest["dsn"].as_str().unwrap();
    assert_eq!(rows(&server, dsn, "SELECT string_agg(note, ',') FROM items"), "after");
    cli.json(&["restore", "discard", latest["job"].as_str().unwrap()]).unwrap();
    let named = [
        "restore",
        "run",
        "shop",
        "--target",
        "name:before-release",
        "--to",
        &to,
        "--at-target",
        "shutdown",
    ];
    assert_eq!(cli.json(&named).unwrap()["verified"], true);
    let again =
        cli.run(&["--json", "restore", "plan", "shop", "--target", "latest", "--to", &to]).unwrap();
    assert_eq!(again.code, 3);
    assert_eq!(again.json().unwrap()["error"]["code"], "destination_not_empty");
    let future = cli
        .run(&[
            "--json",
            "restore",
            "plan",
            "shop",
            "--target",
            "time:2099-01-01T00:00:00Z",
            "--to",
            &path("other"),
        ])
        .unwrap();
    assert_eq!(future.code, 3, "{future}");
    let error = &future.json().unwrap()["error"];
    assert_eq!(error["code"], "target_not_reached");
    assert!(error["details"]["nearest"].as_array().is_some_and(|n| !n.is_empty()), "{error:#}");

    // A second backup of a little-changed database adds little.
    server.psql("UPDATE items SET note = 'changed'").unwrap();
    let second = cli.json(&["backup", "shop"]).unwrap();
    let added = |b: &serde_json::Value| b["snapshot"]["bytes_added"].as_u64().unwrap();
    assert!(added(&second) * 4 < added(&backup), "{} then {}", added(&backup), added(&second));

    assert_eq!(cli.json(&["verify", "shop"]).unwrap()["ok"], true);
    assert_eq!(cli.json(&["repo", "check"]).unwrap()["ok"], true);
    assert_eq!(cli.json(&["repo", "status"]).unwrap()["store"]["put_if_absent"], true);

    // A new machine knows everything from the repository and the recovery kit alone, and restores.
    let kit = path("kit.txt");
    cli.json(&["repo", "recovery-kit", "--out", &kit]).unwrap();
    let other = Cli::new(path("other-home")).unwrap();
    let attached =
        other.json(&["repo", "attach", &path("repository"), "--recovery-key-file", &kit]).unwrap();
    assert_eq!(attached["clusters"][0]["name"], "shop");
    let seen = other.json(&["points", "shop", "--recovery-key-file", &kit]).unwrap();
    assert_eq!(seen["snapshots"].as_array().unwrap().len(), 2);
    let restore = ["restore", "run", "shop", "--target", "immediate", "--to", &path("from-kit")];
    let mut restore = restore.to_vec();
    restore.extend(["--recovery-key-file", &kit]);
    assert_eq!(other.json(&restore).unwrap()["verified"], true);

    // Slots come and go; the last one stays.
    let slots = cli.json(&["repo", "keys", "list"]).unwrap();
    assert_eq!(slots["slots"].as_array().unwrap().len(), 3);
    cli.json(&[
        "repo",
        "keys",
        "add",
        "--recovery-key-out",
        &path("second-key.txt"),
        "--label",
        "safe",
    ])
    .unwrap();
    for slot in cli.json(&["repo", "keys", "list"]).unwrap()["slots"].as_array().unwrap() {
        if slot["kind"] == "recovery-key" {
            cli.json(&["repo", "keys", "remove", slot["id"].as_str().unwrap()]).unwrap();
        }
    }
    let last =
        cli.json(&["repo", "keys", "list"]).unwrap()["slots"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(cli.run(&["repo", "keys", "remove", &last]).unwrap().code, 3);

    // Without --json people can read it.
    for command in [
        &["points", "shop"][..],
        &["repo", "status"],
        &["repo", "list"],
        &["cluster", "list"],
        &["cluster", "check", "shop"],
        &["jobs", "list"],
        &["verify", "shop"],
        &["server", "binaries"],
        &["restore", "plan", "shop", "--target", &target, "--to", &path("third")],
        &["restore", "run", "shop", "--target", "immediate", "--to", &path("fourth")],
        &["backup", "shop"],
    ] {
        let finished = cli.run(command).unwrap();
        assert_eq!(finished.code, 0, "{command:?}: {finished}");
        assert!(
            !finished.stdout.trim().is_empty() && !finished.stdout.starts_with('{'),
            "{command:?}: {finished}"
        );
    }
    let removed = cli.json(&["cluster", "remove", "shop"]).unwrap();
    assert_eq!(removed["removed"], "shop");
    assert_eq!(server.psql("SELECT count(*) FROM pg_replication_slots").unwrap().trim(), "0");
}

#[test]
fn the_main_way_on_15() {
    goes_the_main_way(15);
}

#[test]
fn the_main_way_on_17() {
    goes_the_main_way(17);
}

#[test]
fn the_main_way_on_14() {
    goes_the_main_way(14);
}

#[test]
fn the_main_way_on_16() {
    goes_the_main_way(16);
}

#[test]
fn the_main_way_on_18() {
    goes_the_main_way(18);
}
