//! What is kept and why, through the command; and whether what a plan keeps is enough to restore.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_tests::pg::TestServer;
use holdfast_tests::places::age;
use holdfast_tests::protected::{CLUSTER, Protected, failure};
use holdfast_tests::wait_for;
use rustix::process::Signal;
use serde_json::{Value, json};

fn words(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

fn kept(list: &Value) -> Vec<bool> {
    list.as_array().unwrap().iter().map(|entry| entry["kept"].as_bool().unwrap()).collect()
}

/// Every file below a folder whose name begins so.
fn named(folder: &Path, start: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(named(&entry, start));
        } else if entry.file_name().unwrap().to_str().unwrap().starts_with(start) {
            found.push(entry);
        }
    }
    found
}

/// Takes away what a plan does not keep.
fn take_away(site: &Protected, plan: &Value) -> usize {
    let repository = Path::new(site.url());
    let mut gone = Vec::new();
    for snapshot in plan["snapshots"].as_array().unwrap() {
        if snapshot["kept"] == false {
            let id = snapshot["id"].as_str().unwrap();
            gone.extend(named(&repository.join("snapshots"), id));
        }
    }
    for wal in plan["wal"].as_array().unwrap() {
        for number in 0..wal["segments"].as_u64().unwrap() {
            if wal["kept"] == false {
                // Of a boundary the server names the segment before it.
                let at = format!(
                    "SELECT pg_walfile_name('{}'::pg_lsn + {number} * 16777216::numeric + 1)",
                    wal["from_lsn"].as_str().unwrap()
                );
                gone.extend(named(&repository.join("wal"), &site.server.psql(&at).unwrap()));
            }
        }
    }
    for path in &gone {
        fs::remove_file(path).unwrap();
    }
    gone.len()
}

#[test]
fn what_a_plan_keeps_is_enough() {
    let server = TestServer::start(17).unwrap();
    server.psql("CREATE TABLE t AS SELECT generate_series(1, 1000) n").unwrap();
    let site = Protected::new(server).unwrap();
    let shown = site.cli.json(&["policy", "show", CLUSTER]).unwrap();
    assert_eq!((&shown["version"], &shown["policy"]["keep"]["daily"]), (&json!(0), &json!("30d")));
    let mut snapshots = Vec::new();
    for _ in 0..3 {
        snapshots.push(site.backup().unwrap()["snapshot"]["id"].as_str().unwrap().to_owned());
        site.server.psql("INSERT INTO t SELECT 1; SELECT pg_switch_wal()").unwrap();
    }
    site.server.psql("SELECT pg_switch_wal(); INSERT INTO t SELECT 2").unwrap();
    site.archive().unwrap();

    // Nobody keeps the older snapshots of an hour; all WAL is inside the window.
    let points = site.points().unwrap();
    let by: Vec<_> =
        (0..3).map(|n| words(&points["snapshots"][n]["retained_by"])).collect::<Vec<_>>();
    assert!(by[2].contains(&"newest") && by[2].contains(&"hourly"), "{by:?}");
    assert!(by[0].contains(&"window") && !by[0].contains(&"newest"), "{by:?}");
    let plan = site.cli.json(&["retention", "plan", CLUSTER]).unwrap();
    assert!(kept(&plan["wal"]).iter().all(|kept| *kept), "{plan:#}");
    assert_eq!(plan["snapshots"].as_array().unwrap().len(), 3);

    // A policy that keeps little, and a hold on the first snapshot.
    let file = site.destination("policy.json");
    fs::write(&file, r#"{"format":1,"keep":{"weekly":"2w"}}"#).unwrap();
    let set = site.cli.json(&["policy", "set", CLUSTER, &file]).unwrap();
    assert_eq!(set["version"], 1);
    let reason = ["--reason", "case 12"];
    let mut line = vec!["hold", "add", CLUSTER, "--snapshot", &snapshots[0]];
    line.extend(reason);
    let hold = site.cli.json(&line).unwrap();
    let hold = hold["id"].as_str().unwrap();
    let held = site.cli.json(&["hold", "list", CLUSTER]).unwrap();
    assert_eq!(held["holds"][0]["on"]["snapshot"], snapshots[0].as_str());
    let at = (chrono::Utc::now() + chrono::TimeDelta::days(400)).to_rfc3339();
    let simulate = ["policy", "simulate", CLUSTER, "--at", &at];
    let plan = site.cli.json(&simulate).unwrap();
    assert_eq!(kept(&plan["snapshots"]), [true, false, true], "{plan:#}");
    assert_eq!(plan["snapshots"][0]["reasons"][0]["code"], "hold");
    assert_eq!(plan["snapshots"][1]["reasons"][0]["code"], "expired");
    assert!(kept(&plan["wal"]).contains(&false), "{plan:#}");

    // Without all that it does not keep, every kept snapshot restores and the newest leads to the end.
    assert!(take_away(&site, &plan) >= 3);
    let copy = site.restore("latest", "newest", &["--start"]).unwrap();
    assert_eq!(copy.psql("SELECT count(*) FROM t").unwrap(), "1004");
    copy.discard().unwrap();
    let more = ["--start", "--snapshot", &snapshots[0]];
    let copy = site.restore("immediate", "held", &more).unwrap();
    assert_eq!(copy.psql("SELECT count(*) FROM t").unwrap(), "1000");
    copy.discard().unwrap();
    // What is left is what is planned again.
    let again = site.cli.json(&simulate).unwrap();
    assert!(kept(&again["snapshots"]).iter().chain(&kept(&again["wal"])).all(|kept| *kept));

    // Lifted, the hold keeps nothing.
    site.cli.json(&["hold", "remove", CLUSTER, hold]).unwrap();
    assert_eq!(site.cli.json(&["hold", "list", CLUSTER]).unwrap()["holds"], json!([]));
    let plan = site.cli.json(&simulate).unwrap();
    assert_eq!(kept(&plan["snapshots"]), [false, true], "{plan:#}");
    let (code, error) = failure(&site.cli, &["hold", "remove", CLUSTER, hold]).unwrap();
    assert_eq!((code, error["code"].as_str()), (4, Some("not_found")));
    let past = ["policy", "simulate", CLUSTER, "--at", "2026-01-01T00:00:00Z"];
    assert_eq!(failure(&site.cli, &past).unwrap().0, 2);
}

const WEEK: Duration = Duration::from_hours(7 * 24);

/// A server with three snapshots, of which a policy keeps the newest.
fn three_snapshots() -> (Protected, Vec<String>) {
    let server = TestServer::start(17).unwrap();
    server.psql("CREATE TABLE t AS SELECT generate_series(1, 1000) n").unwrap();
    let site = Protected::new(server).unwrap();
    let mut snapshots = Vec::new();
    for n in 0..3 {
        snapshots.push(site.backup().unwrap()["snapshot"]["id"].as_str().unwrap().to_owned());
        let sql = format!(
            "CREATE TABLE of_{n} AS SELECT md5(random()::text || g) FROM generate_series(1, 30000) g; INSERT INTO t SELECT 1"
        );
        site.server.psql(&sql).unwrap();
    }
    site.archive().unwrap();
    let file = site.destination("policy.json");
    fs::write(&file, r#"{"format":1,"keep":{"weekly":"2w"}}"#).unwrap();
    site.cli.json(&["policy", "set", CLUSTER, &file]).unwrap();
    (site, snapshots)
}

/// Marked, taken back, marked again, held, removed once due, whole afterwards.
#[test]
fn what_is_marked_can_be_taken_back_until_it_is_due() {
    let (site, snapshots) = three_snapshots();
    let tombstones = Path::new(site.url()).join("tombstones");
    let apply = || site.cli.json(&["retention", "apply", CLUSTER]).unwrap();
    let marked = apply();
    assert_eq!(words(&marked["marked"]["snapshots"]), [&snapshots[0], &snapshots[1]], "{marked:#}");
    assert_eq!(marked["removed"]["objects"], 0);
    let queue = site.cli.json(&["retention", "queue", CLUSTER]).unwrap();
    assert_eq!(queue["queue"], marked["queue"]);

    // What is marked is still there, and can be restored.
    let copy =
        site.restore("immediate", "marked", &["--start", "--snapshot", &snapshots[0]]).unwrap();
    assert_eq!(copy.psql("SELECT count(*) FROM t").unwrap(), "1000");
    copy.discard().unwrap();
    let undone = site.cli.json(&["retention", "undelete", CLUSTER]).unwrap();
    assert_eq!(undone["undeleted"][0]["id"], marked["marked"]["id"]);
    let (code, error) = failure(&site.cli, &["retention", "undelete", CLUSTER]).unwrap();
    assert_eq!((code, error["code"].as_str()), (4, Some("not_found")));
    assert!(error["hint"].as_str().unwrap().contains("retention queue"), "{error:#}");
    age(&tombstones, WEEK * 2).unwrap();
    let again = apply();
    assert_eq!(again["removed"]["objects"], 0, "it was taken back");
    assert_eq!(words(&again["marked"]["snapshots"]).len(), 2);

    // A hold that was placed since keeps it; the other one goes. A backup meanwhile shares with neither.
    let hold = ["hold", "add", CLUSTER, "--snapshot", &snapshots[0], "--reason", "case 12"];
    site.cli.json(&hold).unwrap();
    let newer = site.backup().unwrap()["snapshot"]["id"].as_str().unwrap().to_owned();
    age(&tombstones, WEEK * 2).unwrap();
    // Due, but not gone yet: nobody may begin to rely on it.
    let due = site.destination("due");
    let (code, error) = site.refusal("immediate", &due, &["--snapshot", &snapshots[1]]).unwrap();
    assert_eq!((code, error["code"].as_str()), (3, Some("marked_for_removal")), "{error:#}");
    let done = apply();
    assert_eq!(words(&done["removed"]["snapshots"]), [&snapshots[1]], "{done:#}");
    assert_eq!(words(&done["spared"]), [&snapshots[0]]);
    let points = site.points().unwrap();
    let left: Vec<_> =
        points["snapshots"].as_array().unwrap().iter().map(|s| s["id"].as_str().unwrap()).collect();
    assert_eq!(left, [&snapshots[0], &snapshots[2], &newer]);

    // Everything that is left is whole, for this home and for a new one.
    let verified = site.cli.json(&["verify", CLUSTER, "--level", "pages"]).unwrap();
    assert_eq!(verified["ok"], true, "{verified:#}");
    for (snapshot, rows) in [(&snapshots[0], "1000"), (&snapshots[2], "1002"), (&newer, "1003")] {
        let more = ["--start", "--snapshot", snapshot];
        let copy = site.restore("immediate", &format!("left-{rows}"), &more).unwrap();
        assert_eq!(copy.psql("SELECT count(*) FROM t").unwrap(), rows);
        copy.discard().unwrap();
    }
    let copy = site.restore("latest", "newest", &["--start"]).unwrap();
    assert_eq!(copy.psql("SELECT count(*) FROM of_2").unwrap(), "30000");
    copy.discard().unwrap();
    assert!(named(&Path::new(site.url()).join("leases"), "").len() <= 1, "no lease is left");
}

/// What a backup has taken over while it was under way is not removed under it, though everything else that held it
/// was marked meanwhile.
#[test]
fn catalogue_11_a_backup_under_way_keeps_what_it_takes_over_on_17() {
    let (site, snapshots) = three_snapshots();
    let tombstones = Path::new(site.url()).join("tombstones");
    // Enough to be met on the way.
    let big =
        "CREATE TABLE big AS SELECT md5(random()::text || g) FROM generate_series(1, 400000) g";
    site.server.psql(big).unwrap();
    let mut backup = site.cli.start_job(&["backup", CLUSTER]).unwrap();
    assert!(backup.reaches("copying"), "{}", backup.stderr());
    backup.signal(Signal::STOP).unwrap();
    let marked = site.cli.json(&["retention", "apply", CLUSTER]).unwrap();
    assert_eq!(words(&marked["marked"]["snapshots"]).len(), 2, "{marked:#}");
    // Due after the backup has begun, and soon.
    age(&tombstones, WEEK.saturating_sub(Duration::from_secs(3))).unwrap();
    let mut applied = Value::Null;
    wait_for("the removal to be due", Duration::from_mins(1), || {
        applied = site.cli.json(&["retention", "apply", CLUSTER]).unwrap();
        applied["waiting"] != json!([]) || applied["removed"]["objects"] != 0
    });
    assert_eq!(applied["removed"]["objects"], 0, "{applied:#}");
    let holder = applied["waiting"][0]["holder"].as_str().unwrap();
    assert!(holder.starts_with("backup "), "{holder}");
    backup.signal(Signal::CONT).unwrap();
    let done = backup.finish(Duration::from_mins(2)).unwrap().json().unwrap();
    let newest = done["snapshot"]["id"].as_str().unwrap();
    let applied = site.cli.json(&["retention", "apply", CLUSTER]).unwrap();
    let removed = words(&applied["removed"]["snapshots"]);
    assert!(removed.contains(&snapshots[0].as_str()), "{applied:#}");
    let more = ["--start", "--snapshot", newest];
    let copy = site.restore("immediate", "taken-over", &more).unwrap();
    assert_eq!(copy.psql("SELECT count(*) FROM of_2").unwrap(), "30000");
    copy.discard().unwrap();
    assert_eq!(site.cli.json(&["verify", CLUSTER, "--level", "pages"]).unwrap()["ok"], true);
}

/// A held snapshot that was taken as an incremental one outlives the one it was built on.
#[test]
fn catalogue_18_a_hold_keeps_all_that_an_incremental_snapshot_needs_on_17() {
    let server = TestServer::builder(17).config("summarize_wal = on").start().unwrap();
    server
        .psql("CREATE TABLE t AS SELECT g, md5(g::text) FROM generate_series(1, 20000) g")
        .unwrap();
    let site = Protected::new(server).unwrap();
    let id = |result: Value| result["snapshot"]["id"].as_str().unwrap().to_owned();
    let full = id(site.backup().unwrap());
    site.server.psql("UPDATE t SET md5 = 'x' WHERE g = 7").unwrap();
    let require = ["backup", CLUSTER, "--incremental", "require"];
    let held = id(site.cli.json(&require).unwrap());
    site.server.psql("UPDATE t SET md5 = 'y' WHERE g = 8").unwrap();
    let newest = id(site.cli.json(&require).unwrap());
    site.archive().unwrap();
    let file = site.destination("policy.json");
    fs::write(&file, r#"{"format":1,"keep":{"weekly":"2w"}}"#).unwrap();
    site.cli.json(&["policy", "set", CLUSTER, &file]).unwrap();
    let hold = ["hold", "add", CLUSTER, "--snapshot", &held, "--reason", "case 12"];
    site.cli.json(&hold).unwrap();
    site.cli.json(&["retention", "apply", CLUSTER]).unwrap();
    age(&Path::new(site.url()).join("tombstones"), WEEK * 2).unwrap();
    let done = site.cli.json(&["retention", "apply", CLUSTER]).unwrap();
    assert_eq!(words(&done["removed"]["snapshots"]), [&full], "{done:#}");
    for (snapshot, seen) in [(&held, "1"), (&newest, "2")] {
        let more = ["--start", "--snapshot", snapshot];
        let copy = site.restore("immediate", &format!("held-{seen}"), &more).unwrap();
        let changed = "SELECT count(*) FROM t WHERE md5 IN ('x', 'y')";
        assert_eq!(copy.psql(changed).unwrap(), seen);
        assert_eq!(copy.psql("SELECT count(*) FROM t").unwrap(), "20000");
        copy.discard().unwrap();
    }
}

/// What somebody may be reading stays. One who was killed reads nothing more: where this is known, nobody waits for
/// the end of the lease.
#[test]
fn a_removal_waits_for_whoever_holds_a_lease() {
    let (site, snapshots) = three_snapshots();
    let repository = Path::new(site.url());
    site.cli.json(&["retention", "apply", CLUSTER]).unwrap();
    let replica = site.destination("replica");
    let slowly = ["replicate", CLUSTER, "--to", &replica, "--limit-rate", "100kB"];
    let mut replication = site.cli.start_job(&slowly).unwrap();
    assert!(replication.reaches("copying"), "{}", replication.stderr());
    age(&repository.join("tombstones"), WEEK * 2).unwrap();
    let leases = named(&repository.join("leases"), "");
    let of_it: Vec<_> =
        leases.iter().filter(|p| p.to_str().unwrap().contains("replication-")).collect();
    assert_eq!(of_it.len(), 1, "{leases:?}");
    let waiting = site.cli.json(&["retention", "apply", CLUSTER]).unwrap();
    assert_eq!(waiting["removed"]["objects"], 0, "{waiting:#}");
    let holder = waiting["waiting"][0]["holder"].as_str().unwrap();
    assert!(holder.starts_with("replication "), "{holder}");
    replication.kill().unwrap();
    // Another machine cannot know.
    let other = site.cli.clone().env("HOLDFAST_HOME", site.destination("elsewhere"));
    other.json(&["repo", "attach", site.url()]).unwrap();
    let waiting = other.json(&["retention", "apply", CLUSTER]).unwrap();
    assert_eq!(waiting["waiting"][0]["holder"], holder, "{waiting:#}");
    assert!(of_it[0].exists());
    let done = site.cli.json(&["retention", "apply", CLUSTER]).unwrap();
    assert_eq!(words(&done["removed"]["snapshots"]), [&snapshots[0], &snapshots[1]], "{done:#}");
    assert!(!of_it[0].exists(), "nothing of the lease is left");
    // The replica is brought up to date and lets go of the same.
    let result = site.cli.json(&["replicate", CLUSTER, "--to", &replica]).unwrap();
    let replicated = &result["replicas"][0];
    assert_eq!((&replicated["ok"], &replicated["ahead"]), (&json!(true), &json!(0)), "{result:#}");
    let manifests = |folder: &Path| {
        let all = named(&folder.join("snapshots"), "");
        all.iter().filter(|path| path.extension().is_none()).count()
    };
    assert_eq!((manifests(Path::new(&replica)), manifests(repository)), (1, 1));
}
