//! Requests that make no sense as written, and things that do not exist.

use super::{fails, unlocked};

#[test]
fn a_wrong_command_line_is_one_document_and_exit_2() {
    let home = tempfile::tempdir().unwrap();
    let cli = unlocked(home.path());
    let lines: &[&[&str]] = &[
        &[],
        &["frobnicate"],
        &["repo"],
        &["repo", "create"],
        &["repo", "create", "/tmp/x", "--colour", "blue"],
        &["backup"],
        &["backup", "shop", "extra"],
        &["--progress", "loud", "jobs", "list"],
        &["cluster", "add", "shop"],
        &["cluster", "add", "shop", "--dsn", "host=x", "--mode", "magic"],
        &["restore", "plan", "shop", "--to", "/tmp/x"],
        &["restore", "run", "shop", "--target", "latest"],
        &["restore", "run", "shop", "--target", "latest", "--to", "/tmp/x", "--at-target", "sing"],
        &["jobs", "attach", "x", "--from-seq", "-1"],
        &["hold", "add", "shop", "--reason", "x"],
        &["hold", "add", "shop", "--from", "2026-06-01T00:00:00Z", "--reason", "x"],
    ];
    for line in lines {
        fails(&cli, line, 2, "usage");
    }
    // What is missing stands in the message, not only that something is.
    let error = fails(&cli, &["restore", "run", "shop", "--target", "latest"], 2, "usage");
    assert!(error["message"].as_str().unwrap().contains("--to"), "{error}");
    // The place of --json does not matter.
    let told = cli.run(&["backup", "--json"]).unwrap();
    assert_eq!((told.code, told.json().unwrap()["error"]["code"].as_str()), (2, Some("usage")));
    // Without --json standard output stays empty.
    let told = cli.run(&["frobnicate"]).unwrap();
    assert_eq!((told.code, told.stdout.as_str()), (2, ""), "{told}");
    assert!(told.stderr.contains("frobnicate"));
}

#[test]
fn values_are_checked_before_anything_is_asked() {
    let home = tempfile::tempdir().unwrap();
    let cli = unlocked(home.path());
    fails(&cli, &["points", "shop", "--from", "2026-06-14T09:30:00"], 2, "usage");
    fails(&cli, &["points", "shop", "--to", "yesterday"], 2, "usage");
    fails(&cli, &["archive", "shop", "--once-to", "12345"], 2, "usage");
    fails(&cli, &["verify", "--level", "vibes"], 2, "usage");
    for target in ["yesterday", "time:2026-06-14T09:30:00", "xid:many", "lsn:0", "name:", "near:x"]
    {
        fails(&cli, &["restore", "plan", "shop", "--target", target, "--to", "/tmp/x"], 2, "usage");
    }
    fails(
        &cli,
        &["restore", "plan", "shop", "--target", "latest", "--to", "/tmp/x", "--timeline", "old"],
        2,
        "usage",
    );
    fails(&cli, &["repo", "create", "ftp://example.org/x"], 2, "invalid_url");
    let policy = home.path().join("policy.json").display().to_string();
    std::fs::write(&policy, r#"{"format":1,"keep":{"dayly":"30d"}}"#).unwrap();
    let error = fails(&cli, &["policy", "set", "shop", &policy], 2, "usage");
    assert!(error["message"].as_str().unwrap().contains("dayly"), "{error}");
    fails(&cli, &["policy", "simulate", "shop", "--at", "2036-06-14T09:30:00"], 2, "usage");
    fails(&cli, &["cluster", "add", "a/b", "--dsn", "host=127.0.0.1"], 2, "usage");
}

#[test]
fn what_does_not_exist_is_exit_4() {
    let home = tempfile::tempdir().unwrap();
    let cli = unlocked(home.path());
    for line in [
        &["backup", "shop"][..],
        &["archive", "shop"],
        &["points", "shop"],
        &["verify", "shop"],
        &["retention", "plan", "shop"],
        &["policy", "show", "shop"],
        &["hold", "list", "shop"],
        &["verify"],
        &["repo", "status"],
        &["cluster", "check", "shop"],
        &["cluster", "remove", "shop"],
        &["restore", "plan", "shop", "--target", "latest", "--to", "/tmp/nowhere"],
        &["restore", "discard", "0198f0a0-0000-7000-8000-000000000000"],
        &["restore", "promote", "0198f0a0-0000-7000-8000-000000000000"],
    ] {
        fails(&cli, line, 4, "not_found");
    }
    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().display().to_string();
    fails(&cli, &["repo", "attach", &empty], 4, "not_a_repository");
    let missing = home.path().join("missing").display().to_string();
    fails(&cli, &["repo", "create", &missing, "--passphrase-file", &missing], 4, "file_failed");
}
