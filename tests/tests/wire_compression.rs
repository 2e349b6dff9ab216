//! A server that compresses what it sends: where the network is slow, or when it is told to. What is kept is the same.
#![allow(clippy::unwrap_used)]

use holdfast_tests::{
    pg::TestServer,
    protected::{CLUSTER, Protected, failure},
    proxy::{Direction, FaultProxy},
};
use serde_json::Value;

const ROWS: &str =
    "SELECT count(*) || ' ' || md5(string_agg(d::text, ',' ORDER BY d.id)) FROM docs d";

fn backup(site: &Protected, more: &[&str]) -> Value {
    site.cli.json(&[&["backup", CLUSTER], more].concat()).unwrap()
}

/// Restores the newest snapshot by itself, proven, and compares the rows.
fn assert_exact(site: &Protected, name: &str) {
    let rows = site.server.psql(ROWS).unwrap();
    site.archive().unwrap();
    let copy = site.restore("latest", name, &["--start", "--at-target", "promote"]).unwrap();
    assert_eq!(copy.psql(ROWS).unwrap(), rows);
    copy.discard().unwrap();
}

fn a_slow_network_is_found_out(major: u32) {
    let server = TestServer::start(major).unwrap();
    server.add_documents(5_000).unwrap();
    let proxy = FaultProxy::start(server.address()).unwrap();
    let dsn = server.dsn_at("127.0.0.1", proxy.port());
    let site = Protected::with(server, &dsn, None, Vec::new()).unwrap();
    proxy.set_bandwidth(Some(20 << 20));
    let passed = |more: &[&str]| {
        let before = proxy.passed(Direction::ToClient);
        let result = backup(&site, more);
        (result, proxy.passed(Direction::ToClient) - before)
    };

    let (packed, over_network) = passed(&[]);
    let transfer = &packed["transfer"];
    assert_eq!(transfer["zstd"], true, "{packed}");
    let speed = transfer["link_bytes_per_second"].as_u64().unwrap();
    assert!((1 << 20..40 << 20).contains(&speed), "{speed}");
    let logical = packed["snapshot"]["bytes_logical"].as_u64().unwrap();
    let bytes = transfer["bytes"].as_u64().unwrap();
    assert!(bytes * 10 < logical * 9, "{bytes} of {logical}");
    assert_exact(&site, "packed");

    proxy.set_bandwidth(None);
    let (plain, as_it_is) = passed(&["--wire-compression", "none"]);
    let transfer = &plain["transfer"];
    assert_eq!(
        (&transfer["zstd"], &transfer["link_bytes_per_second"]),
        (&false.into(), &Value::Null)
    );
    assert!(transfer["bytes"].as_u64().unwrap() >= logical, "{plain}");
    assert!(over_network * 10 < as_it_is * 9, "{over_network} of {as_it_is}");
    // Extent by extent the same: what the server did not change meanwhile is not stored again.
    let added = plain["snapshot"]["bytes_added"].as_u64().unwrap();
    assert!(added * 5 < packed["snapshot"]["bytes_added"].as_u64().unwrap(), "{plain}");
}

#[test]
fn a_slow_network_is_found_out_on_15() {
    a_slow_network_is_found_out(15);
}

#[test]
fn a_slow_network_is_found_out_on_18() {
    a_slow_network_is_found_out(18);
}

/// With a tablespace, which has an archive of its own, and what has changed since.
#[test]
fn an_incremental_backup_is_compressed_too_on_17() {
    let server = TestServer::builder(17)
        .config("summarize_wal = on")
        .config("max_slot_wal_keep_size = -1")
        .start()
        .unwrap();
    let elsewhere = server.new_folder("elsewhere").unwrap();
    server
        .psql(&format!("CREATE TABLESPACE elsewhere LOCATION '{}'", elsewhere.display()))
        .unwrap();
    server.add_documents(2_000).unwrap();
    let site = Protected::new(server).unwrap();
    let zstd = ["--wire-compression", "zstd"];
    let full = backup(&site, &zstd);
    assert_eq!(full["transfer"]["zstd"], true);
    site.server.psql("ALTER TABLE docs SET TABLESPACE elsewhere").unwrap();
    site.server.psql("UPDATE docs SET title = title || '!' WHERE id % 10 = 0").unwrap();
    let incremental = [&["--incremental", "require"], &zstd[..]].concat();
    let second = backup(&site, &incremental);
    assert_eq!(
        (&second["transfer"]["zstd"], &second["basis"]),
        (&true.into(), &full["snapshot"]["id"])
    );
    let rows = site.server.psql(ROWS).unwrap();
    site.archive().unwrap();
    let copy = site.restore("latest", "copy", &["--start", "--at-target", "promote"]).unwrap();
    assert_eq!(copy.psql(ROWS).unwrap(), rows);
    copy.discard().unwrap();
}

#[test]
fn a_server_that_cannot_is_told_on_14() {
    let site = Protected::new(TestServer::start(14).unwrap()).unwrap();
    let (code, error) =
        failure(&site.cli, &["backup", CLUSTER, "--wire-compression", "zstd"]).unwrap();
    assert_eq!((code, &error["code"]), (3, &"wire_compression_unavailable".into()), "{error}");
    let plain = backup(&site, &[]);
    assert_eq!(plain["transfer"]["zstd"], false);
}
