//! The main way on an object store: SeaweedFS, through its S3 gateway.
#![allow(clippy::unwrap_used)]

use holdfast_tests::{
    cli::Cli,
    pg::TestServer,
    protected::{CLUSTER, Protected, failure},
    store::SeaweedFs,
};
use serde_json::Value;
use std::fs;

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no text at {path} in {value}"))
}

fn slots(value: &Value) -> Vec<(String, String)> {
    value["slots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| (text(s, "/kind").to_owned(), text(s, "/id").to_owned()))
        .collect()
}

#[test]
fn the_main_way_and_a_second_machine() {
    let store = SeaweedFs::start().unwrap();
    store.create_bucket("backups").unwrap();
    let server = TestServer::start(17).unwrap();
    let url = "s3://backups/shop/eu";
    let dsn = server.dsn();
    let site = Protected::with(server, &dsn, Some(url), store.env()).unwrap();
    let environment = store.env();

    let status = site.cli.json(&["repo", "status"]).unwrap();
    assert_eq!(status["url"], url);
    assert_eq!(
        (&status["store"]["put_if_absent"], &status["store"]["range_get"]),
        (&Value::Bool(true), &Value::Bool(true))
    );
    let (code, error) = failure(&site.cli, &["repo", "create", url]).unwrap();
    assert_eq!(code, 3, "there is one already: {error}");

    site.server.add_documents(2000).unwrap();
    let backup = site.backup().unwrap();
    site.server.psql("UPDATE docs SET title = 'good' WHERE id <= 100").unwrap();
    let bad =
        site.server.psql("BEGIN; DELETE FROM docs; SELECT pg_current_xact_id(); COMMIT").unwrap();
    site.server.psql("CREATE TABLE after_it (n int)").unwrap();
    site.archive().unwrap();
    let target = format!("xid:{bad}");
    let more = ["--exclusive", "--start", "--at-target", "promote"];
    let copy = site.restore(&target, "copy", &more).unwrap();
    assert_eq!(
        copy.psql("SELECT count(*), count(*) FILTER (WHERE title = 'good') FROM docs").unwrap(),
        "2000|100"
    );
    assert_eq!(copy.psql("SELECT to_regclass('after_it') IS NULL").unwrap(), "t");
    assert_eq!(copy.result["stopped_before"]["xid"], bad);
    copy.discard().unwrap();
    let verified = site.cli.json(&["verify", CLUSTER]).unwrap();
    assert_eq!(verified["ok"], true, "{verified}");

    // Another way in, and with it another machine: the catalog comes from the repository alone.
    let key = site.root().join("recovery-key.txt");
    let key_text = key.display().to_string();
    site.cli
        .json(&["repo", "keys", "add", "--recovery-key-out", &key_text, "--label", "in the safe"])
        .unwrap();
    let (code, error) =
        failure(&site.cli, &["repo", "keys", "add", "--recovery-key-out", &key_text]).unwrap();
    assert_ne!(code, 0, "a key never overwrites a file: {error}");
    let other = Cli::new(site.root().join("other-home")).unwrap().envs(environment.clone());
    let (code, error) = failure(&other, &["repo", "attach", url]).unwrap();
    assert_eq!((code, text(&error, "/code")), (6, "key_required"), "{error}");
    let wrong = other.clone().env("HOLDFAST_PASSPHRASE", "not the passphrase");
    let (code, _) = failure(&wrong, &["repo", "attach", url]).unwrap();
    assert_eq!(code, 6);
    let attached = other.json(&["repo", "attach", url, "--recovery-key-file", &key_text]).unwrap();
    assert_eq!(attached["clusters"][0]["name"], CLUSTER, "{attached}");
    let with_key = ["--recovery-key-file", key_text.as_str()];
    let points = other.json(&["points", CLUSTER, with_key[0], with_key[1]]).unwrap();
    assert_eq!(points["snapshots"][0]["id"], backup["snapshot"]["id"], "{points}");
    assert_eq!(points["snapshots"][0]["state"], "proven", "{points}");
    let mut all = more.to_vec();
    all.extend_from_slice(&with_key);
    // The other machine's key is given with every command of its own.
    let with_environment =
        other.clone().env("HOLDFAST_PASSPHRASE", holdfast_tests::protected::PASSPHRASE);
    let copy = site.restore_with(&with_environment, &target, "elsewhere", &all).unwrap();
    assert_eq!(copy.psql("SELECT count(*) FROM docs").unwrap(), "2000");
    copy.discard().unwrap();

    // Keys come and go; the last way in stays.
    let new = site.root().join("new-passphrase");
    fs::write(&new, "a second passphrase\n").unwrap();
    let new_text = new.display().to_string();
    site.cli
        .json(&["repo", "keys", "add", "--new-passphrase-file", &new_text, "--label", "colleague"])
        .unwrap();
    let second = other.clone().env("HOLDFAST_PASSPHRASE", "a second passphrase");
    let listed = slots(&second.json(&["repo", "keys", "list"]).unwrap());
    assert_eq!(listed.len(), 3, "{listed:?}");
    let recovery = &listed.iter().find(|(kind, _)| kind.contains("recovery")).unwrap().1;
    site.cli.json(&["repo", "keys", "remove", recovery]).unwrap();
    let third = Cli::new(site.root().join("third-home")).unwrap().envs(environment);
    let (code, error) =
        failure(&third, &["repo", "attach", url, with_key[0], with_key[1]]).unwrap();
    assert_eq!(code, 6, "the key was removed: {error}");
    let left: Vec<_> = slots(&site.cli.json(&["repo", "keys", "list"]).unwrap());
    assert_eq!(left.len(), 2);
    second.json(&["repo", "keys", "remove", &left[0].1]).unwrap();
    let (_, last) = &left[1];
    let cli = [&site.cli, &second]
        .into_iter()
        .find(|c| c.json(&["repo", "keys", "list"]).is_ok())
        .unwrap();
    let (code, error) = failure(cli, &["repo", "keys", "remove", last]).unwrap();
    assert_eq!(code, 3, "the last way in was removed: {error}");
    let (code, _) = failure(cli, &["repo", "keys", "remove", recovery]).unwrap();
    assert_eq!(code, 4);
    cli.json(&["points", CLUSTER]).unwrap();
}
