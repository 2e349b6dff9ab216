//! Re-encryption: a repository carried into one with another key, cut off, damaged, and gone on with.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use holdfast_tests::cli::Cli;
use holdfast_tests::pg::TestServer;
use holdfast_tests::places::{age, files_below};
use holdfast_tests::protected::{CLUSTER, Protected, failure};
use serde_json::Value;

const NEW: &str = "a passphrase that nobody has had";

struct Site {
    protected: Protected,
    /// Opens the new repository.
    new: Cli,
    url: String,
    /// After this transaction the table is destroyed.
    xid: String,
    expected: String,
}

const LOOK: &str = "SELECT count(*), sum(n), md5(string_agg(filler, '' ORDER BY n, filler)) FROM t";

impl Site {
    /// Two backups that have most in common, WAL before, between and behind them, a hold, a policy, an agent.
    fn new(major: u32) -> Self {
        let server = TestServer::builder(major).wal_segment_size(1).start().unwrap();
        let protected = Protected::new(server).unwrap();
        let sql = |sql: &str| protected.server.psql(sql).unwrap();
        sql(
            "CREATE TABLE t AS SELECT n, repeat(md5(n::text), 10) AS filler FROM generate_series(1, 9000) n",
        );
        let first = protected.backup().unwrap();
        sql("UPDATE t SET filler = 'changed' WHERE n % 500 = 0");
        protected.backup().unwrap();
        sql("INSERT INTO t SELECT n, repeat(md5(n::text), 30) FROM generate_series(1, 3000) n");
        let xid = sql("INSERT INTO t VALUES (0, 'last') RETURNING txid_current()");
        let expected = sql(LOOK);
        sql("DELETE FROM t");
        protected.archive().unwrap();
        let id = first["snapshot"]["id"].as_str().unwrap();
        protected
            .cli
            .json(&["hold", "add", CLUSTER, "--snapshot", id, "--reason", "legal"])
            .unwrap();
        let policy = protected.root().join("policy.json");
        fs::write(&policy, r#"{"format":1,"keep":{"daily":"9d"}}"#).unwrap();
        protected.cli.json(&["policy", "set", CLUSTER, &policy.display().to_string()]).unwrap();
        let key = protected.root().join("agent.key").display().to_string();
        let admit = ["repo", "writers", "admit", "--name", "old agent", "--key-out", &key];
        protected.cli.json(&admit).unwrap();
        let url = protected.root().join("rekeyed").display().to_string();
        let new = protected.cli.clone().env("HOLDFAST_PASSPHRASE", NEW);
        Self { protected, new, url, xid, expected }
    }

    /// The command that carries; the old passphrase opens the old one, the new one is for the new.
    fn cli(&self) -> Cli {
        self.protected.cli.clone().env("HOLDFAST_NEW_PASSPHRASE", NEW)
    }

    fn arguments(&self) -> Vec<&str> {
        vec!["repo", "rekey", "--to", &self.url, "--new-passphrase"]
    }

    /// What was promised before is held by the new repository, and archiving goes on in it.
    fn assert_goes_on(&self, before: &Value) {
        let after = self.new.json(&["points", CLUSTER]).unwrap();
        assert_eq!(after["windows"], before["windows"]);
        let ids = |points: &Value| -> Vec<Value> {
            points["snapshots"].as_array().unwrap().iter().map(|s| s["id"].clone()).collect()
        };
        assert_eq!(ids(&after), ids(before));
        for snapshot in after["snapshots"].as_array().unwrap() {
            assert_eq!(snapshot["proof"], Value::Null, "nothing of it has been shown to restore");
        }
        let verified = self.new.json(&["verify", CLUSTER, "--level", "pages"]).unwrap();
        assert_eq!(verified["ok"], true, "{verified:#}");
        for (n, snapshot) in ids(before).iter().enumerate() {
            let copy = self
                .protected
                .restore_with(
                    &self.new,
                    &format!("xid:{}", self.xid),
                    &format!("copy-{n}"),
                    &["--snapshot", snapshot.as_str().unwrap(), "--start"],
                )
                .unwrap();
            assert_eq!(copy.psql(LOOK).unwrap(), self.expected);
            copy.discard().unwrap();
        }
        self.protected.server.psql("INSERT INTO t VALUES (1, 'later')").unwrap();
        let flushed = self.protected.server.psql("SELECT pg_current_wal_flush_lsn()").unwrap();
        self.new.json(&["archive", CLUSTER, "--once-to", &flushed]).unwrap();
        let copy =
            self.protected.restore_with(&self.new, "latest", "latest", &["--start"]).unwrap();
        assert_eq!(copy.psql("SELECT n, filler FROM t").unwrap(), "1|later");
        copy.discard().unwrap();
    }
}

#[test]
fn everything_goes_on_under_another_key() {
    let site = Site::new(17);
    let before = site.protected.points().unwrap();
    let old = files_below(Path::new(site.protected.url())).unwrap().len();
    let done = site.cli().json(&site.arguments()).unwrap();
    assert_eq!(done["ok"], true, "{done:#}");
    assert_eq!(done["switched"], true);
    assert_eq!(done["snapshots"], 2);
    assert_eq!(done["agents"], serde_json::json!(["old agent"]));
    let logical: u64 = before["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["bytes_logical"].as_u64().unwrap())
        .sum();
    assert!(
        done["bytes_read"].as_u64().unwrap() < logical * 7 / 10,
        "what is common is read once: {done}"
    );
    assert_eq!(files_below(Path::new(site.protected.url())).unwrap().len(), old, "it is as it was");

    // The old passphrase opens nothing of it.
    let (code, error) = failure(&site.protected.cli, &["points", CLUSTER]).unwrap();
    assert_eq!((code, &error["code"]), (6, &"wrong_key".into()), "{error}");
    site.assert_goes_on(&before);
    let plan = site.new.json(&["retention", "plan", CLUSTER]).unwrap();
    assert!(plan.to_string().contains("legal"), "the hold is there: {plan}");
    let writers = site.new.json(&["repo", "writers", "list", "--repo", &site.url]).unwrap();
    assert_eq!(writers["writers"].as_array().unwrap().len(), 1, "{writers}");

    // Another machine, with nothing but the place and the new passphrase.
    let elsewhere =
        Cli::new(site.protected.root().join("elsewhere")).unwrap().env("HOLDFAST_PASSPHRASE", NEW);
    let attached = elsewhere.json(&["repo", "attach", &site.url]).unwrap();
    assert_eq!(attached["clusters"][0]["name"], CLUSTER);
    // Once more: there is nothing to carry.
    let again = site.cli().json(&site.arguments()).unwrap();
    assert_eq!((&again["snapshots"], &again["objects"]), (&0.into(), &0.into()), "{again}");
    assert!(again["there"].as_u64().unwrap() > 10, "{again}");

    // The old one is forgotten, and then no command needs to be told which.
    let old = site.protected.url();
    let (code, error) = failure(&site.new, &["repo", "detach", &site.url]).unwrap();
    assert_eq!((code, &error["code"]), (3, &"repository_has_clusters".into()), "{error}");
    let (code, _) = failure(&site.new, &["repo", "detach"]).unwrap();
    assert_eq!(code, 2, "there are two");
    let gone = site.new.json(&["repo", "detach", old]).unwrap();
    assert_eq!(gone["detached"]["url"], old);
    let (code, _) = failure(&site.new, &["repo", "detach", old]).unwrap();
    assert_eq!(code, 4);
    assert_eq!(site.new.json(&["repo", "status"]).unwrap()["url"], site.url.as_str());
    let writers = site.new.json(&["repo", "writers", "list"]).unwrap();
    assert_eq!(
        writers["writers"].as_array().unwrap().len(),
        2,
        "with the other machine: {writers}"
    );
}

#[test]
fn what_retention_has_removed_since_does_not_come_back() {
    let site = Site::new(17);
    site.cli().json(&site.arguments()).unwrap();
    let new = |arguments: &[&str]| site.new.json(arguments).unwrap();
    let held = new(&["hold", "list", CLUSTER])["holds"][0]["id"].as_str().unwrap().to_owned();
    new(&["hold", "remove", CLUSTER, &held]);
    let marked = new(&["retention", "apply", CLUSTER])["marked"].clone();
    assert_eq!(marked["snapshots"].as_array().unwrap().len(), 1, "{marked}");
    age(&Path::new(&site.url).join("tombstones"), Duration::from_hours(8 * 24)).unwrap();
    let applied = new(&["retention", "apply", CLUSTER]);
    assert_eq!(applied["removed"]["snapshots"], marked["snapshots"], "{applied:#}");
    let before = new(&["points", CLUSTER]);
    assert_eq!(before["snapshots"].as_array().unwrap().len(), 1);

    let arguments = [&site.arguments()[..], &["--repo", site.protected.url()]].concat();
    let again = site.cli().json(&arguments).unwrap();
    assert_eq!((&again["ok"], &again["snapshots"]), (&true.into(), &0.into()), "{again:#}");
    let after = new(&["points", CLUSTER]);
    assert_eq!(
        (&after["snapshots"], &after["windows"]),
        (&before["snapshots"], &before["windows"])
    );
}

/// Killed in each phase: the same command goes on, and nothing is half there.
#[test]
fn a_killed_run_goes_on() {
    let site = Site::new(15);
    let before = site.protected.points().unwrap();
    for phase in ["opening", "carrying WAL and policies", "carrying snapshots", "carrying clusters"]
    {
        let mut running = site.cli().start_job(&site.arguments()).unwrap();
        if running.reaches(phase) {
            running.kill().unwrap();
        }
        let _ = running.finish(Duration::from_mins(1));
        // What is named is whole, and this machine goes on with the old one.
        site.protected.points().unwrap();
        if Path::new(&site.url).join("holdfast.json").exists() {
            let check = Cli::new(site.protected.root().join(format!("check {phase}")))
                .unwrap()
                .env("HOLDFAST_PASSPHRASE", NEW);
            check.json(&["repo", "attach", &site.url]).unwrap();
            let checked = check.json(&["repo", "check"]).unwrap();
            assert_eq!(checked["ok"], true, "{phase}: {checked:#}");
        }
    }
    let done = site.cli().json(&site.arguments()).unwrap();
    assert_eq!((&done["ok"], &done["switched"]), (&true.into(), &true.into()), "{done:#}");
    site.assert_goes_on(&before);
    let leases = Path::new(&site.url).join("leases");
    let left = if leases.exists() { files_below(&leases).unwrap() } else { Vec::new() };
    let left: Vec<_> =
        left.iter().filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    assert!(left.iter().all(|path| path.to_string_lossy().contains("clock")), "{left:?}");
}

#[test]
fn what_is_damaged_stays_behind_and_is_told() {
    let site = Site::new(16);
    let before = site.protected.points().unwrap();
    // Somebody else's file does not count, and holds nothing up.
    fs::write(Path::new(site.protected.url()).join("README"), "not ours").unwrap();
    // The newest whole segment: both snapshots are without damage.
    let folder = Path::new(site.protected.url()).join("wal");
    let damaged = files_below(&folder).unwrap().into_iter().max().unwrap();
    let mut bytes = fs::read(folder.join(&damaged)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(folder.join(&damaged), bytes).unwrap();
    let finished = site.cli().run(&[&["--json"][..], &site.arguments()].concat()).unwrap();
    assert_eq!(finished.code, 5, "{finished}");
    let done = finished.json().unwrap();
    assert_eq!((&done["ok"], &done["switched"]), (&false.into(), &false.into()), "{done:#}");
    let held = done["held_back"].as_array().unwrap();
    assert_eq!(held.len(), 1, "{done:#}");
    assert_eq!(held[0]["object"], format!("wal/{}", damaged.display()), "{done:#}");
    assert_eq!(done["snapshots"], 2);
    assert_eq!(done["left"][0]["object"], "README", "{done:#}");
    // The clusters are where they were.
    assert_eq!(site.protected.points().unwrap()["windows"], before["windows"]);
    let mut forced = site.arguments();
    forced.push("--force");
    let finished = site.cli().run(&[&["--json"][..], &forced].concat()).unwrap();
    assert_eq!(finished.code, 5, "what is missing is told every time: {finished}");
    assert_eq!(finished.json().unwrap()["switched"], true);
    assert_eq!(
        site.new.json(&["points", CLUSTER]).unwrap()["snapshots"].as_array().unwrap().len(),
        2
    );
}

#[test]
fn it_goes_nowhere_else() {
    let site = Site::new(18);
    let place = |name: &str| site.protected.root().join(name).display().to_string();
    let old = site.protected.url();
    let refused = |arguments: &[&str], code: i32, name: &str| {
        let (exit, error) = failure(&site.cli(), arguments).unwrap();
        assert_eq!((exit, &error["code"]), (code, &name.into()), "{arguments:?}: {error}");
    };
    refused(&["repo", "rekey", "--to", &site.url], 2, "usage");
    refused(&["repo", "rekey", "--to", old, "--new-passphrase"], 2, "usage");
    let inside = format!("{old}/new");
    refused(&["repo", "rekey", "--to", &inside, "--new-passphrase"], 2, "usage");
    let other = place("other");
    site.new.json(&["repo", "create", &other]).unwrap();
    site.new
        .json(&["cluster", "add", "other", "--dsn", &site.protected.server.dsn(), "--repo", &other])
        .unwrap();
    refused(
        &["repo", "rekey", "--repo", old, "--to", &other, "--new-passphrase"],
        3,
        "place_occupied",
    );
    // With a third repository the old one has to be named. While this machine archives into it, its clusters stay there.
    refused(&site.arguments(), 2, "usage");
    let mut arguments = site.arguments();
    arguments.extend(["--repo", old]);
    let mut archiving = site.protected.cli.start_job(&["archive", CLUSTER]).unwrap();
    assert!(archiving.reaches("streaming"));
    refused(&arguments, 3, "repository_in_use");
    archiving.terminate(Duration::from_mins(1)).unwrap();
    let done = site.cli().json(&arguments).unwrap();
    assert_eq!((&done["ok"], &done["snapshots"]), (&true.into(), &0.into()), "{done:#}");
}
