//! Keys that are wrong or missing.

use super::{cli, fails, unlocked};

#[test]
fn a_repository_opens_with_its_key_only() {
    let home = tempfile::tempdir().unwrap();
    let right = unlocked(home.path());
    let repository = home.path().join("repository").display().to_string();
    right.json(&["repo", "create", &repository]).unwrap();
    right.json(&["repo", "status"]).unwrap();

    let none = cli(home.path());
    let wrong = cli(home.path()).env("HOLDFAST_PASSPHRASE", "not this one");
    let file = home.path().join("passphrase");
    std::fs::write(&file, "not this one either\n").unwrap();
    let from_file = file.display().to_string();
    for line in [&["repo", "status"][..], &["repo", "keys", "list"], &["verify"]] {
        fails(&none, line, 6, "key_required");
        fails(&wrong, line, 6, "wrong_key");
        let mut with_file = vec!["--passphrase-file", &from_file];
        with_file.extend_from_slice(line);
        fails(&right, &with_file, 6, "wrong_key");
    }
    // A file wins over the environment, and only its first line counts.
    std::fs::write(&file, format!("{}\nsomething else\n", holdfast_tests::protected::PASSPHRASE))
        .unwrap();
    wrong.json(&["--passphrase-file", &from_file, "repo", "status"]).unwrap();
    std::fs::write(&file, "\n").unwrap();
    fails(&right, &["--passphrase-file", &from_file, "repo", "status"], 2, "usage");
    std::fs::write(&file, "AAAA-BBBB").unwrap();
    fails(&none, &["--recovery-key-file", &from_file, "repo", "status"], 6, "invalid_recovery_key");
    fails(&none, &["repo", "attach", &repository], 6, "key_required");
    fails(&wrong, &["repo", "attach", &repository], 6, "wrong_key");
    fails(&right, &["repo", "create", &repository], 3, "repository_already_exists");
}

#[test]
fn without_a_keychain_nothing_is_made() {
    let home = tempfile::tempdir().unwrap();
    let none = cli(home.path());
    let repository = home.path().join("repository");
    let url = repository.display().to_string();
    fails(&none, &["repo", "create", &url], 6, "keychain_unavailable");
    assert!(!repository.exists());
    fails(
        &unlocked(home.path()),
        &["repo", "create", &url, "--keychain"],
        6,
        "keychain_unavailable",
    );
    assert!(!repository.exists());

    unlocked(home.path()).json(&["repo", "create", &url]).unwrap();
    let slots = || {
        let listed = unlocked(home.path()).json(&["repo", "keys", "list"]).unwrap();
        listed["slots"].as_array().unwrap().len()
    };
    fails(
        &unlocked(home.path()),
        &["repo", "keys", "add", "--keychain"],
        6,
        "keychain_unavailable",
    );
    fails(
        &unlocked(home.path()),
        &["repo", "attach", &url, "--keychain"],
        6,
        "keychain_unavailable",
    );
    assert_eq!(slots(), 1, "a slot that nothing opens was left");
}

#[test]
fn a_recovery_key_that_cannot_be_written_down_opens_nothing() {
    let home = tempfile::tempdir().unwrap();
    let cli = unlocked(home.path());
    let repository = home.path().join("repository");
    let url = repository.display().to_string();
    let at = |name: &str| home.path().join(name).display().to_string();

    fails(
        &cli,
        &["repo", "create", &url, "--recovery-key-out", &at("no/such/folder/key")],
        4,
        "file_failed",
    );
    assert!(!repository.exists(), "a repository whose recovery key nobody has");
    std::fs::write(at("taken"), "mine").unwrap();
    fails(&cli, &["repo", "create", &url, "--recovery-key-out", &at("taken")], 3, "file_exists");
    assert_eq!(std::fs::read_to_string(at("taken")).unwrap(), "mine");
    assert!(!repository.exists());

    cli.json(&["repo", "create", &url, "--recovery-key-out", &at("key")]).unwrap();
    let sheet = std::fs::read_to_string(at("key")).unwrap();
    let id = cli.json(&["repo", "status"]).unwrap()["id"].as_str().unwrap().to_owned();
    assert!(sheet.contains(&id) && !sheet.contains("00000000-0000"), "{sheet}");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(at("key")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    // A creation that fails takes the sheet back: its key opens nothing.
    fails(
        &cli,
        &["repo", "create", &url, "--recovery-key-out", &at("second")],
        3,
        "repository_already_exists",
    );
    assert!(!std::path::Path::new(&at("second")).exists());

    let second = tempfile::tempdir().unwrap();
    let other = super::cli(second.path());
    other.json(&["--recovery-key-file", &at("key"), "repo", "attach", &url]).unwrap();
    other.json(&["--recovery-key-file", &at("key"), "repo", "status"]).unwrap();
    fails(&other, &["repo", "status"], 6, "key_required");
}

#[test]
fn key_slots_come_and_go_but_never_the_last() {
    let home = tempfile::tempdir().unwrap();
    let cli = unlocked(home.path());
    let at = |name: &str| home.path().join(name).display().to_string();
    cli.json(&["repo", "create", &at("repository")]).unwrap();
    let slots =
        || cli.json(&["repo", "keys", "list"]).unwrap()["slots"].as_array().unwrap().clone();
    let first = slots()[0]["id"].as_str().unwrap().to_owned();
    fails(&cli, &["repo", "keys", "remove", &first], 3, "last_key_slot");
    fails(&cli, &["repo", "keys", "add"], 2, "usage");
    fails(&cli, &["repo", "keys", "remove", "nonsense"], 4, "not_found");
    fails(
        &cli,
        &["repo", "keys", "remove", "0198f0a0-0000-7000-8000-000000000000"],
        4,
        "object_not_found",
    );

    std::fs::write(at("new"), "another passphrase\n").unwrap();
    let added = cli
        .json(&["repo", "keys", "add", "--new-passphrase-file", &at("new"), "--label", "second"])
        .unwrap();
    assert_eq!(added["added"][0]["label"], "second");
    cli.json(&["repo", "keys", "add", "--recovery-key-out", &at("key")]).unwrap();
    assert_eq!(slots().len(), 3);
    cli.json(&["repo", "keys", "remove", &first]).unwrap();
    fails(&cli, &["repo", "status"], 6, "wrong_key");
    let other = super::cli(home.path());
    other.json(&["--passphrase-file", &at("new"), "repo", "status"]).unwrap();
    other.json(&["--recovery-key-file", &at("key"), "repo", "status"]).unwrap();
}
