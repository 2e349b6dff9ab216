//! What is kept and why, through the command; and whether what a plan keeps is enough to restore.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use holdfast_tests::pg::TestServer;
use holdfast_tests::protected::{CLUSTER, Protected, failure};
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
