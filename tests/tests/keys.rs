//! Ways into a repository through the command: added, replaced, removed; a colleague's; a recovery kit.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use holdfast_tests::cli::Cli;
use serde_json::Value;

struct Place(tempfile::TempDir);

impl Place {
    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn cli(&self, home: &str) -> Cli {
        Cli::new(self.path(home)).unwrap()
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o777
    }
}

fn refused(cli: &Cli, arguments: &[&str], code: i32, name: &str) {
    let mut all = vec!["--json"];
    all.extend(arguments);
    let finished = cli.run(&all).unwrap();
    assert_eq!(finished.code, code, "{finished}");
    assert_eq!(finished.json().unwrap()["error"]["code"], name, "{finished}");
}

fn slots(cli: &Cli) -> Vec<Value> {
    cli.json(&["repo", "keys", "list"]).unwrap()["slots"].as_array().unwrap().clone()
}

fn id(slot: &Value) -> String {
    slot["id"].as_str().unwrap().to_owned()
}

#[test]
fn slots_are_added_replaced_and_removed() {
    let place = Place(tempfile::tempdir().unwrap());
    let old = place.cli("home").env("HOLDFAST_PASSPHRASE", "old");
    let url = place.path("repository");
    old.json(&["repo", "create", &url, "--recovery-key-out", &place.path("key")]).unwrap();
    let [first, second] = &slots(&old)[..] else { panic!("two slots") };
    let opened: Vec<_> = [first, second].into_iter().filter(|s| s["opened"] == true).collect();
    assert_eq!((opened.len(), &opened[0]["kind"]), (1, &Value::from("passphrase")));
    let passphrase = id(opened[0]);
    let recovery = id(if first["opened"] == true { second } else { first });

    // Replaced: the new one opens, the old one no more.
    let rotate = ["repo", "keys", "rotate", &passphrase, "--new-passphrase"];
    refused(&old, &rotate, 2, "usage");
    refused(&old.clone().env("HOLDFAST_NEW_PASSPHRASE", "old"), &rotate, 2, "usage");
    let wrong_kind = ["repo", "keys", "rotate", &recovery, "--new-passphrase"];
    refused(&old.clone().env("HOLDFAST_NEW_PASSPHRASE", "new"), &wrong_kind, 2, "usage");
    let rotated = old.clone().env("HOLDFAST_NEW_PASSPHRASE", "new").json(&rotate).unwrap();
    assert_eq!(rotated["removed"], passphrase.as_str());
    assert!(rotated["means"].as_str().unwrap().contains("copy of that key"));
    refused(&old, &["repo", "keys", "list"], 6, "wrong_key");
    let cli = place.cli("home").env("HOLDFAST_PASSPHRASE", "new");
    let passphrase = id(&rotated["added"]);
    assert!(slots(&cli).iter().any(|s| id(s) == passphrase && s["opened"] == true));

    // A colleague's public key, and a private key that only she has.
    let (public, private) = (place.path("anna.pub"), place.path("anna.key"));
    let pair = ["repo", "keys", "generate", "--public-key-out", &public];
    let mut pair = pair.to_vec();
    pair.extend(["--private-key-out", &private]);
    let made = place.cli("anna").json(&pair).unwrap();
    assert_eq!(place.mode("anna.key"), 0o600);
    refused(&place.cli("anna"), &pair, 3, "file_exists");
    let add = ["repo", "keys", "add", "--public-key", &public, "--label", "anna"];
    let anna = cli.json(&add).unwrap()["added"][0].clone();
    assert!(made["public_key"].as_str().unwrap().contains(anna["public_key"].as_str().unwrap()));
    fs::write(place.path("bad.pub"), made["public_key"].as_str().unwrap().replace('a', "b"))
        .unwrap();
    refused(
        &cli,
        &["repo", "keys", "add", "--public-key", &place.path("bad.pub")],
        2,
        "invalid_key_text",
    );
    let hers = place.cli("anna");
    refused(&hers, &["repo", "attach", &url], 6, "key_required");
    hers.json(&["repo", "attach", &url, "--private-key-file", &private]).unwrap();
    let seen = hers.json(&["repo", "keys", "list", "--private-key-file", &private]).unwrap();
    let opened = seen["slots"].as_array().unwrap().iter().find(|s| s["opened"] == true).unwrap();
    assert_eq!(opened["label"], "anna");

    // What is left must work without her.
    cli.json(&["repo", "keys", "remove", &recovery]).unwrap();
    refused(&cli, &["repo", "keys", "remove", &passphrase], 3, "last_portable_key_slot");
    cli.json(&["repo", "keys", "remove", &passphrase, "--force"]).unwrap();
    refused(&cli, &["repo", "keys", "list"], 6, "wrong_key");
    let last = ["repo", "keys", "remove", &id(&anna), "--force", "--private-key-file", &private];
    refused(&hers, &last, 3, "last_key_slot");
}

#[test]
fn a_kit_is_a_way_in_of_its_own() {
    let place = Place(tempfile::tempdir().unwrap());
    let cli = place.cli("home").env("HOLDFAST_PASSPHRASE", "secret");
    let url = place.path("repository");
    cli.json(&["repo", "create", &url]).unwrap();
    for name in ["kit.txt", "kit.html"] {
        let kit = cli.json(&["repo", "recovery-kit", "--out", &place.path(name)]).unwrap();
        assert_eq!(place.mode(name), 0o600);
        refused(&cli, &["repo", "recovery-kit", "--out", &place.path(name)], 3, "file_exists");
        let slot = kit["slot"].as_str().unwrap();
        let page = fs::read_to_string(place.path(name)).unwrap();
        assert!(page.contains(slot) && page.contains(&url), "{page}");
        let listed = slots(&cli);
        let listed = listed.iter().find(|s| id(s) == slot).unwrap();
        assert!(listed["label"].as_str().unwrap().starts_with("Recovery kit of "), "{listed}");
        let other = place.cli(&format!("home-of-{name}"));
        other.json(&["repo", "attach", &url, "--recovery-key-file", &place.path(name)]).unwrap();
    }
    // No kit is left where it could not be written, and no slot.
    let before = slots(&cli).len();
    let nowhere = place.path("absent/kit.html");
    refused(&cli, &["repo", "recovery-kit", "--out", &nowhere], 4, "file_failed");
    assert_eq!(slots(&cli).len(), before);
}
