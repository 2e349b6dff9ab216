//! What cannot work is refused before a byte is written, and says what would work instead.
#![allow(clippy::unwrap_used)]

use holdfast_tests::{
    pg::TestServer,
    protected::{CLUSTER, Protected, failure},
    wait_for,
};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path, time::Duration};

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no text at {path} in {value}"))
}

/// Everything below a folder, with contents.
fn tree(folder: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(tree(&path));
            all.insert(path.display().to_string(), None);
        } else {
            all.insert(path.display().to_string(), Some(fs::read(&path).unwrap()));
        }
    }
    all
}

/// Refuses a target, by `plan` and by `run`, and leaves everything around the destination alone.
struct Refuser<'a> {
    site: &'a Protected,
    around: std::path::PathBuf,
}

impl<'a> Refuser<'a> {
    fn new(site: &'a Protected) -> Self {
        let around = site.root().join("around");
        fs::create_dir(&around).unwrap();
        Self { site, around }
    }

    fn refuse(&self, target: &str, destination: &Path, more: &[&str], want: (i32, &str)) -> Value {
        let before = tree(&self.around);
        let destination = destination.display().to_string();
        let (code, error) = self.site.refusal(target, &destination, more).unwrap();
        assert_eq!((code, text(&error, "/code")), want, "{target}: {error}");
        assert_eq!(tree(&self.around), before, "{target}: something was written");
        if more.is_empty() {
            let plan = ["restore", "plan", CLUSTER, "--target", target, "--to", &destination];
            let (code, planned) = failure(&self.site.cli, &plan).unwrap();
            assert_eq!((code, &planned["code"]), (want.0, &error["code"]), "{planned}");
            assert_eq!(tree(&self.around), before, "{target}: a plan wrote something");
        }
        error
    }

    fn target(&self, target: &str, want: (i32, &str)) -> Value {
        self.refuse(target, &self.around.join("new"), &[], want)
    }
}

fn nearest(error: &Value) -> Vec<String> {
    error["details"]["nearest"]
        .as_array()
        .unwrap_or_else(|| panic!("no nearest in {error}"))
        .iter()
        .map(|n| text(n, "/target").to_owned())
        .collect()
}

fn committed(server: &TestServer, n: u32) -> (String, String) {
    let sql = format!("BEGIN; INSERT INTO t VALUES ({n}); SELECT pg_current_xact_id(); COMMIT");
    let xid = server.psql(&sql).unwrap();
    let time = server
        .psql(&format!(
            "SELECT to_char(pg_xact_commit_timestamp('{xid}'::xid) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
        ))
        .unwrap();
    (xid, time)
}

fn server(major: u32) -> TestServer {
    let server = TestServer::builder(major)
        .config("track_commit_timestamp = on")
        .config("autovacuum = off")
        .start()
        .unwrap();
    server.psql("CREATE TABLE t (n int)").unwrap();
    server
}

#[test]
fn targets_that_cannot_be_reached() {
    let site = Protected::new(server(17)).unwrap();
    let refuser = Refuser::new(&site);
    let error = refuser.target("latest", (3, "no_snapshot"));
    assert!(text(&error, "/hint").contains("holdfast backup"), "{error}");

    // Archived, but before the first backup.
    let (early, early_time) = committed(&site.server, 1);
    site.server.psql("SELECT pg_create_restore_point('early')").unwrap();
    let early_lsn = site.archive().unwrap();
    site.backup().unwrap();
    let (first, first_time) = committed(&site.server, 2);
    let (last, last_time) = committed(&site.server, 3);
    site.archive().unwrap();

    for target in ["time:2200-01-01T00:00:00Z".to_owned(), format!("time:{last_time}")] {
        let error = refuser.target(&target, (3, "target_not_reached"));
        assert!(nearest(&error).contains(&format!("xid:{last}")), "{error}");
        assert!(text(&error, "/hint").contains(&last), "{error}");
    }
    // The last commit itself is reached as a transaction, or as a time that leaves it out.
    let plan = |target: &str, more: &[&str]| {
        let destination = refuser.around.join("new").display().to_string();
        let mut all = vec!["restore", "plan", CLUSTER, "--target", target, "--to", &destination];
        all.extend_from_slice(more);
        site.cli.json(&all).unwrap()
    };
    assert_eq!(plan(&format!("xid:{last}"), &[])["predicted"]["xid"], last);
    assert_eq!(plan(&format!("time:{last_time}"), &["--exclusive"])["predicted"]["xid"], first);
    assert_eq!(plan(&format!("time:{first_time}"), &[])["predicted"]["xid"], first);

    let error = refuser.target("xid:4000000000", (3, "target_not_found"));
    assert_eq!(nearest(&error), [format!("xid:{first}"), format!("xid:{last}")], "{error}");
    refuser.target("name:no such point", (3, "target_not_found"));
    for target in [
        format!("xid:{early}"),
        "name:early".to_owned(),
        format!("lsn:{early_lsn}"),
        "time:2001-01-01T00:00:00Z".to_owned(),
    ] {
        let error = refuser.target(&target, (3, "target_too_early"));
        assert!(nearest(&error).contains(&format!("xid:{first}")), "{error}");
    }
    // Nothing ended between that transaction and the backup: its own time can be reached, but not
    // without it.
    refuser.refuse(
        &format!("time:{early_time}"),
        &refuser.around.join("new"),
        &["--exclusive"],
        (3, "target_too_early"),
    );
    assert_eq!(plan(&format!("time:{early_time}"), &[])["predicted"]["xid"], Value::Null);
    refuser.target("lsn:FF/0", (3, "target_not_reached"));

    // As written they make no sense.
    for target in
        ["time:2026-06-14 09:30:00", "time:2026-06-14T09:30:00", "soon", "xid:-1", "lsn:x", "name:"]
    {
        refuser.target(target, (2, "usage"));
    }
    let error = refuser.target("time:2026-06-14T09:30:00", (2, "usage"));
    assert!(text(&error, "/hint").contains("2026-06-14T09:30:00Z"), "{error}");
    let new = refuser.around.join("new");
    refuser.refuse("latest", &new, &["--plan-hash", "nonsense"], (2, "usage"));
    refuser.refuse("latest", &new, &["--timeline", "7"], (3, "timeline_history_missing"));
    refuser.refuse("latest", &new, &["--timeline", "soon"], (2, "usage"));
    refuser.refuse("latest", &new, &["--snapshot", "not-an-id"], (4, "not_found"));
    let (code, error) = failure(
        &site.cli,
        &["restore", "run", "nobody", "--target", "latest", "--to", &site.destination("new")],
    )
    .unwrap();
    assert_eq!((code, text(&error, "/code")), (4, "not_found"));
    let (code, _) = failure(&site.cli, &["restore", "run", CLUSTER, "--to", "/tmp/x"]).unwrap();
    assert_eq!(code, 2, "a target is needed");
}

#[test]
fn destinations_that_are_in_use() {
    let site = Protected::new(server(15)).unwrap();
    site.backup().unwrap();
    committed(&site.server, 1);
    site.archive().unwrap();
    let refuser = Refuser::new(&site);
    let full = refuser.around.join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("precious"), "the only copy").unwrap();
    let file = refuser.around.join("file");
    fs::write(&file, "also precious").unwrap();
    refuser.refuse("latest", &full, &[], (3, "destination_not_empty"));
    refuser.refuse("latest", &file, &[], (3, "destination_not_empty"));
    refuser.refuse("latest", &file.join("below"), &[], (3, "destination_unusable"));
    // The source's own data directory is not empty, whatever else it is.
    refuser.refuse("latest", site.server.data(), &[], (3, "destination_not_empty"));
    assert_eq!(site.server.psql("SELECT count(*) FROM t").unwrap(), "1");

    // An empty directory will do, also one at the end of a link, and one below what does not exist.
    let empty = refuser.around.join("empty");
    fs::create_dir(&empty).unwrap();
    let link = refuser.around.join("link");
    std::os::unix::fs::symlink(&empty, &link).unwrap();
    for name in ["around/empty", "around/link", "around/not/yet/there"] {
        let copy = site.restore("latest", name, &["--start", "--at-target", "pause"]).unwrap();
        assert_eq!(copy.psql("SELECT count(*) FROM t").unwrap(), "1", "{name}");
        drop(copy);
        fs::create_dir_all(&empty).unwrap();
    }
}

/// Archiving stops, the slot goes, the server removes WAL: what happened in between is gone, and
/// nothing that lies in it is offered.
fn a_gap_is_named(major: u32, invalidated: bool) {
    let site = Protected::new(server(major)).unwrap();
    site.server.configure("wal_keep_size = 0").unwrap();
    site.server.configure("max_wal_size = 32MB").unwrap();
    site.server.configure("min_wal_size = 32MB").unwrap();
    site.backup().unwrap();
    let (before, _) = committed(&site.server, 1);
    committed(&site.server, 2);
    let last_archived = site.archive().unwrap();

    if invalidated {
        site.server.configure("max_slot_wal_keep_size = 16MB").unwrap();
    } else {
        site.server
            .psql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
            .unwrap();
    }
    let (lost, lost_time) = committed(&site.server, 3);
    let lost_lsn = site.server.wal_position().unwrap();
    site.server.psql("SELECT pg_create_restore_point('lost')").unwrap();
    let file = site.server.psql(&format!("SELECT pg_walfile_name('{lost_lsn}')")).unwrap();
    wait_for("the server to remove WAL", Duration::from_mins(2), || {
        site.server
            .psql("INSERT INTO t SELECT 100 FROM generate_series(1, 10000); SELECT pg_switch_wal()")
            .unwrap();
        site.server.psql("CHECKPOINT").unwrap();
        !site.server.data().join("pg_wal").join(&file).exists()
    });
    site.server.configure("max_slot_wal_keep_size = -1").unwrap();
    let backup = site.backup().unwrap();
    let (after, after_time) = committed(&site.server, 4);
    committed(&site.server, 5);
    site.archive().unwrap();

    let points = site.points().unwrap();
    let windows = points["windows"].as_array().unwrap();
    assert_eq!(windows.len(), 2, "{points}");
    let gap = &windows[0]["gaps"][0];
    assert_eq!(text(gap, "/from_lsn"), text(&windows[0], "/to_lsn"), "{points}");
    assert_eq!(text(gap, "/to_lsn"), text(&windows[1], "/from_lsn"), "{points}");
    assert!(!text(gap, "/cause").is_empty());

    let refuser = Refuser::new(&site);
    for target in [format!("time:{lost_time}"), format!("lsn:{lost_lsn}")] {
        let error = refuser.target(&target, (3, "target_in_gap"));
        let near = nearest(&error);
        assert!(near.iter().any(|n| *n == format!("xid:{after}")), "{error}");
        assert_eq!(error["details"]["gaps"].as_array().map(Vec::len), Some(1), "{error}");
    }
    refuser.target(&format!("xid:{lost}"), (3, "target_not_found"));
    refuser.target("name:lost", (3, "target_not_found"));

    // Both sides of it work; the older backup's window ends where the archive did.
    let copy = site
        .restore(&format!("xid:{before}"), "before", &["--start", "--at-target", "pause"])
        .unwrap();
    assert_eq!(copy.psql("SELECT string_agg(n::text, ' ' ORDER BY n) FROM t").unwrap(), "1");
    copy.discard().unwrap();
    let copy = site
        .restore(&format!("time:{after_time}"), "after", &["--start", "--at-target", "pause"])
        .unwrap();
    assert_eq!(copy.result["snapshot"], backup["snapshot"]["id"]);
    assert_eq!(
        copy.psql("SELECT max(n) FILTER (WHERE n < 100), count(*) FILTER (WHERE n < 100) FROM t")
            .unwrap(),
        "4|4"
    );
    copy.discard().unwrap();
    let first = points["snapshots"][0]["id"].as_str().unwrap();
    let copy = site
        .restore(
            "latest",
            "end-of-first",
            &["--start", "--at-target", "pause", "--snapshot", first],
        )
        .unwrap();
    assert_eq!(copy.psql("SELECT string_agg(n::text, ' ' ORDER BY n) FROM t").unwrap(), "1 2");
    let reached = text(&copy.result, "/reached/lsn").to_owned();
    assert!(!reached.is_empty() && !last_archived.is_empty());
    copy.discard().unwrap();
}

#[test]
fn a_gap_after_a_dropped_slot() {
    a_gap_is_named(15, false);
}

#[test]
fn a_gap_after_an_invalidated_slot() {
    a_gap_is_named(17, true);
}
