//! A row that changed costs its bytes, not an extent; and what is stored as a difference comes back whatever became
//! of the snapshot that it differs from.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use holdfast_tests::pg::TestServer;
use holdfast_tests::places::{age, files_below};
use holdfast_tests::protected::{CLUSTER, Protected};
use serde_json::Value;

const TABLE: &str = "CREATE TABLE wedding WITH (fillfactor = 90) AS \
    SELECT n, md5(n::text) || md5((n * 7)::text) || repeat(md5((n + 1)::text), 8) AS plan \
    FROM generate_series(1, 40000) n";

fn server(major: u32) -> TestServer {
    let server = TestServer::builder(major).config("autovacuum = off");
    let server = match major {
        17.. => server.config("summarize_wal = on"),
        _ => server,
    };
    let server = server.start().unwrap();
    server.psql(TABLE).unwrap();
    server.psql("VACUUM FREEZE wedding").unwrap();
    server.psql("CHECKPOINT").unwrap();
    server
}

/// Another one, which comes later and is dropped at the end: what it changes from is needed no longer then.
const GUESTS: &str = "CREATE TABLE guest WITH (fillfactor = 90) AS \
    SELECT n, md5(n::text) || repeat(md5((n * 3)::text), 8) AS plan FROM generate_series(1, 3000) n";

/// Changes a row in one page of a hundred; how many rows.
fn change(site: &Protected, table: &str, round: u32) -> u64 {
    let sql = format!(
        "WITH changed AS (UPDATE {table} SET plan = 'round {round}' || plan WHERE n % 2003 = {} RETURNING 1) \
         SELECT count(*) FROM changed",
        round * 17
    );
    let rows = site.server.psql(&sql).unwrap().parse().unwrap();
    site.server.psql("CHECKPOINT").unwrap();
    rows
}

const SUM: &str = "SELECT count(*), sum(hashtext(plan)::bigint) FROM wedding";

fn id(backup: &Value) -> String {
    backup["snapshot"]["id"].as_str().unwrap().to_owned()
}

fn bytes(backup: &Value, field: &str) -> u64 {
    backup["snapshot"][field].as_u64().unwrap()
}

fn packs(site: &Protected) -> usize {
    files_below(&Path::new(site.url()).join("packs")).unwrap().len()
}

/// Restored to the end of a snapshot, with what PostgreSQL's own programs say about it.
fn restores(site: &Protected, snapshot: &str, expected: &str, when: &str) {
    let base = format!("base-{snapshot}-{when}");
    let more = ["--fetch-only", "--snapshot", snapshot];
    let data = site.restore("latest", &base, &more).unwrap().keep();
    site.server.verify_backup(&data, &["--no-parse-wal"]).unwrap();
    let more = ["--start", "--snapshot", snapshot];
    let copy = site.restore("immediate", &format!("copy-{snapshot}-{when}"), &more).unwrap();
    assert_eq!(copy.psql(SUM).unwrap(), expected);
    copy.psql("CREATE EXTENSION amcheck").unwrap();
    copy.psql("SELECT * FROM verify_heapam('wedding')").unwrap();
    copy.discard().unwrap();
}

fn a_row_costs_its_bytes(major: u32, backup: &[&str]) {
    let site = Protected::new(server(major)).unwrap();
    // The server lists its files in another order than Holdfast does: of two manifests by the same, most is shared, and
    // no pack is needed for the sake of a manifest.
    let sent = ["--local-files", "never"];
    let alike = if backup.contains(&"--incremental") { &sent[..] } else { &[] };
    let first = site.cli.json(&[&["backup", CLUSTER], alike].concat()).unwrap();
    let mut sums = BTreeMap::from([(id(&first), site.server.psql(SUM).unwrap())]);
    for round in 1..=3 {
        let rows = change(&site, "wedding", round);
        assert!((15..=25).contains(&rows), "{rows}");
        let next = site.cli.json(backup).unwrap();
        let (added, logical) = (bytes(&next, "bytes_added"), bytes(&next, "bytes_logical"));
        println!("{major}, round {round}: {rows} rows changed, {added} bytes added of {logical}");
        // Each of those rows lies in an extent of its own, which compresses to half its 64 KiB. The list of
        // files and the WAL of the backup's own are in it, too.
        assert!(added < rows * 32 * 1024 / 2, "{added} bytes for {rows} rows");
        sums.insert(id(&next), site.server.psql(SUM).unwrap());
    }
    // Differences of both tables are in one pack now; then nobody needs those of the second.
    for statement in [GUESTS, "VACUUM FREEZE guest", "CHECKPOINT"] {
        site.server.psql(statement).unwrap();
    }
    let guests = site.cli.json(backup).unwrap();
    sums.insert(id(&guests), site.server.psql(SUM).unwrap());
    assert_eq!(change(&site, "guest", 1) + change(&site, "wedding", 5), 22);
    let both = site.cli.json(backup).unwrap();
    assert!(bytes(&both, "bytes_added") < bytes(&guests, "bytes_added") / 2, "{both:#} {guests:#}");
    sums.insert(id(&both), site.server.psql(SUM).unwrap());
    site.server.psql("DROP TABLE guest").unwrap();
    site.server.psql("CHECKPOINT").unwrap();
    let newest = id(&site.cli.json(backup).unwrap());
    sums.insert(newest.clone(), site.server.psql(SUM).unwrap());
    site.archive().unwrap();
    let verified = site.cli.json(&["verify", CLUSTER, "--level", "pages"]).unwrap();
    assert_eq!(verified["ok"], true, "{verified:#}");
    for (snapshot, sum) in &sums {
        restores(&site, snapshot, sum, "first");
    }

    // In a bundle of the newest is what it differs from.
    let bundle = site.destination("bundle.tar");
    site.cli.json(&["bundle", "export", CLUSTER, "--to", &bundle]).unwrap();
    let told = site.cli.json(&["verify", "--bundle", &bundle, "--level", "pages"]).unwrap();
    assert_eq!(told["ok"], true, "{told:#}");

    // The snapshots before it go; what it differs from stays.
    let file = site.destination("policy.json");
    fs::write(&file, r#"{"format":1,"keep":{"weekly":"2w"}}"#).unwrap();
    site.cli.json(&["policy", "set", CLUSTER, &file]).unwrap();
    let apply = || site.cli.json(&["retention", "apply", CLUSTER]).unwrap();
    let marked = apply();
    assert_eq!(marked["marked"]["snapshots"].as_array().unwrap().len(), 6, "{marked:#}");
    // A backup meanwhile builds on the newest, and keeps what that differs from.
    change(&site, "wedding", 4);
    let meanwhile = site.cli.json(backup).unwrap();
    sums.insert(id(&meanwhile), site.server.psql(SUM).unwrap());
    age(&Path::new(site.url()).join("tombstones"), Duration::from_hours(24 * 14)).unwrap();
    let before = packs(&site);
    let done = apply();
    assert_eq!(done["removed"]["snapshots"].as_array().unwrap().len(), 6, "{done:#}");
    assert!(packs(&site) < before, "packs that nobody needs went");
    let verified = site.cli.json(&["verify", CLUSTER, "--level", "pages"]).unwrap();
    assert_eq!(verified["ok"], true, "{verified:#}");
    for snapshot in [newest, id(&meanwhile)] {
        restores(&site, &snapshot, &sums[&snapshot], "then");
    }
}

#[test]
fn a_row_costs_its_bytes_in_a_full_backup_on_15() {
    a_row_costs_its_bytes(15, &["backup", CLUSTER]);
}

#[test]
fn a_row_costs_its_bytes_in_an_incremental_backup_on_17() {
    a_row_costs_its_bytes(17, &["backup", CLUSTER, "--incremental", "require"]);
}
