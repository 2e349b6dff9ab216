//! The scenarios of PostgreSQL's own `pg_verifybackup` tests (`src/bin/pg_verifybackup/t`), rebuilt on
//! Holdfast. Damage of stored objects is in `corruption.rs`.
#![allow(clippy::unwrap_used)]

use holdfast_postgres::BackupManifest;
use holdfast_tests::{
    pg::TestServer,
    protected::{CLUSTER, Protected, failure, leftovers},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// PostgreSQL's programs, with a `pg_verifybackup` that damages the directory before the real one looks
/// at it: what happens to a disk between the last write and the check.
struct Saboteur {
    bin: PathBuf,
    damage: PathBuf,
}

impl Saboteur {
    fn new(site: &Protected) -> Self {
        // Where the account that servers run under can reach it.
        let bin = site.server.new_folder("bin").unwrap();
        let real = site.server.pg_verifybackup();
        for entry in fs::read_dir(real.parent().unwrap()).unwrap().flatten() {
            if entry.file_name() != "pg_verifybackup" {
                symlink(entry.path(), bin.join(entry.file_name())).unwrap();
            }
        }
        let damage = site.root().join("damage");
        let script = bin.join("pg_verifybackup");
        fs::write(
            &script,
            format!(
                "#!/bin/sh\nfor last; do :; done\n[ -f '{damage}' ] && [ -d \"$last\" ] && (cd \"$last\" && . '{damage}')\n\
                 exec '{real}' \"$@\"\n",
                damage = damage.display(),
                real = real.display()
            ),
        )
        .unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        Self { bin, damage }
    }
}

/// Damage of a restored base is found by PostgreSQL's own verifier before anything is started: the
/// restore ends with an error of integrity, and nothing of it is left.
fn corruption(major: u32) {
    let site = Protected::new(TestServer::start(major).unwrap()).unwrap();
    let space = site.server.new_folder("space").unwrap();
    site.server.psql(&format!("CREATE TABLESPACE space LOCATION '{}'", space.display())).unwrap();
    site.server
        .psql("CREATE TABLE t TABLESPACE space AS SELECT generate_series(1, 5000) AS n")
        .unwrap();
    site.backup().unwrap();
    let saboteur = Saboteur::new(&site);
    let cli = site.cli.clone().env(format!("HOLDFAST_PG_BIN_{major}"), &saboteur.bin);
    let in_space = "f=$(find pg_tblspc -type f -size +8k | head -n 1)";
    for (name, damage) in [
        ("an extra file", "echo x > extra".to_owned()),
        ("an extra file in a tablespace", "echo x > \"$(echo pg_tblspc/*/PG_*)/extra\"".to_owned()),
        ("a missing file", "rm pg_xact/0000".to_owned()),
        ("a missing tablespace", "rm -r pg_tblspc/*".to_owned()),
        ("a longer file", "echo x >> global/pg_control".to_owned()),
        ("a shorter file", ": > pg_xact/0000".to_owned()),
        (
            "another content of the same length",
            format!("{in_space}; printf X | dd of=\"$f\" bs=1 seek=4000 conv=notrunc 2>/dev/null"),
        ),
        ("a damaged manifest", "printf x >> backup_manifest".to_owned()),
        ("a missing manifest", "rm backup_manifest".to_owned()),
    ] {
        fs::write(&saboteur.damage, damage).unwrap();
        let destination = site.destination("copy");
        let run =
            ["restore", "run", CLUSTER, "--target", "immediate", "--to", &destination, "--start"];
        let (code, error) = failure(&cli, &run).unwrap();
        assert_eq!(
            (code, error["code"].as_str()),
            (5, Some("fetched_files_differ")),
            "{name}: {error}"
        );
        let left = leftovers(Path::new(&destination), None);
        assert!(left.is_empty(), "{name}: {left:?}");
    }
    // The same programs without the damage.
    fs::remove_file(&saboteur.damage).unwrap();
    let more = ["--start", "--at-target", "pause"];
    let copy = site.restore_with(&cli, "immediate", "copy", &more).unwrap();
    assert_eq!(copy.psql("SELECT count(*) FROM t").unwrap(), "5000");
    copy.discard().unwrap();
}

#[test]
fn pg_verifybackup_003_corruption_of_a_restored_base_on_15() {
    corruption(15);
}

#[test]
fn pg_verifybackup_003_corruption_of_a_restored_base_on_17() {
    corruption(17);
}

#[test]
fn pg_verifybackup_003_corruption_of_a_restored_base_on_18() {
    corruption(18);
}

/// SHA-256 in hexadecimal, by the system's own program.
fn sha256(text: &str) -> String {
    let mut sum =
        Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    sum.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let told = sum.wait_with_output().unwrap();
    String::from_utf8_lossy(&told.stdout).split(' ').next().unwrap().to_owned()
}

/// A manifest as a server lays it out, with the checksum that belongs to it.
fn signed(manifest: &Value) -> String {
    // The version stands first.
    let version = "PostgreSQL-Backup-Manifest-Version";
    let mut lines = vec![format!("\"{version}\": {}", manifest[version])];
    for (name, value) in manifest.as_object().unwrap().iter().filter(|(name, _)| *name != version) {
        lines.push(format!("\"{name}\": {value}"));
    }
    let text = format!("{{ {},\n", lines.join(",\n"));
    let sum = sha256(&text);
    format!("{text}\"Manifest-Checksum\": \"{sum}\"}}\n")
}

/// What PostgreSQL's verifier refuses to read is refused here, too, for every way in which a manifest
/// can be malformed; what it accepts is accepted.
fn bad_manifest(major: u32) {
    let site = Protected::new(TestServer::start(major).unwrap()).unwrap();
    site.backup().unwrap();
    let data = PathBuf::from(site.destination("files"));
    site.cli
        .json(&[
            "restore",
            "run",
            CLUSTER,
            "--target",
            "immediate",
            "--fetch-only",
            "--to",
            data.to_str().unwrap(),
        ])
        .unwrap();
    let original = fs::read_to_string(data.join("backup_manifest")).unwrap();
    let mut good: Value = serde_json::from_str(&original).unwrap();
    good.as_object_mut().unwrap().remove("Manifest-Checksum");
    let path = data.join("backup_manifest");
    let both = |text: &str| {
        fs::write(&path, text).unwrap();
        let theirs = site.server.verify_backup(&data, &["-n", "-q"]);
        (theirs, BackupManifest::parse(text.as_bytes()))
    };
    for text in [&original, &signed(&good)] {
        let (theirs, ours) = both(text);
        theirs.unwrap();
        assert!(ours.is_ok_and(|manifest| manifest.files.len() > 500));
    }

    let with = |change: &dyn Fn(&mut Value)| {
        let mut manifest = good.clone();
        change(&mut manifest);
        signed(&manifest)
    };
    let file = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        with(&|manifest| change(manifest["Files"][0].as_object_mut().unwrap()))
    };
    let range = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        with(&|manifest| change(manifest["WAL-Ranges"][0].as_object_mut().unwrap()))
    };
    let set = |name: &'static str, value: Value| {
        move |object: &mut serde_json::Map<String, Value>| {
            object.insert(name.to_owned(), value.clone());
        }
    };
    let without = |name: &'static str| {
        move |object: &mut serde_json::Map<String, Value>| {
            object.remove(name);
        }
    };
    let cases: Vec<(&str, String)> = vec![
        ("no JSON", "no manifest at all\n".to_owned()),
        ("an array", "[]\n".to_owned()),
        ("an empty file", String::new()),
        ("cut in the middle", original[..original.len() / 2].to_owned()),
        (
            "an unknown version",
            with(&|m| m["PostgreSQL-Backup-Manifest-Version"] = json!(9_876_599)),
        ),
        ("a version that is text", with(&|m| m["PostgreSQL-Backup-Manifest-Version"] = json!("x"))),
        ("an unknown field", with(&|m| m["Oops"] = json!(1))),
        ("files that are no list", with(&|m| m["Files"] = json!(true))),
        ("a file that is no object", with(&|m| m["Files"][0] = json!(true))),
        ("a file without a path", file(&without("Path"))),
        ("a file with two paths", file(&set("Encoded-Path", json!("1234")))),
        (
            "an encoded path that is no hexadecimal",
            file(&|f| {
                f.remove("Path");
                f.insert("Encoded-Path".to_owned(), json!("123"));
            }),
        ),
        ("a file without a size", file(&without("Size"))),
        ("a size that is no number", file(&set("Size", json!("Oops")))),
        ("an unknown field of a file", file(&set("Oops", json!(1)))),
        ("a checksum without its algorithm", file(&without("Checksum-Algorithm"))),
        ("an unknown algorithm", file(&set("Checksum-Algorithm", json!("Oops")))),
        ("a checksum that is no hexadecimal", file(&set("Checksum", json!("NOT HEX")))),
        (
            "the same file twice",
            with(&|m| {
                let first = m["Files"][0].clone();
                m["Files"].as_array_mut().unwrap().push(first);
            }),
        ),
        ("ranges that are no list", with(&|m| m["WAL-Ranges"] = json!(true))),
        ("a range without its timeline", range(&without("Timeline"))),
        ("a range without its start", range(&without("Start-LSN"))),
        ("a range without its end", range(&without("End-LSN"))),
        ("an unknown field of a range", range(&set("Oops", json!(1)))),
        ("a timeline that is no number", range(&set("Timeline", json!("Oops")))),
        ("a start that is no position", range(&set("Start-LSN", json!("oops")))),
        ("an end that is no position", range(&set("End-LSN", json!("0/zz")))),
        (
            "no checksum",
            original.lines().take(original.lines().count() - 1).collect::<Vec<_>>().join("\n"),
        ),
        ("another checksum", {
            let (before, _) = original.rsplit_once("\"Manifest-Checksum\"").unwrap();
            format!("{before}\"Manifest-Checksum\": \"{}\"}}\n", "0".repeat(64))
        }),
        ("a checksum of the wrong length", {
            let (before, _) = original.rsplit_once("\"Manifest-Checksum\"").unwrap();
            format!("{before}\"Manifest-Checksum\": \"1234\"}}\n")
        }),
        ("one byte more in the middle", original.replacen("\"Size\": ", "\"Size\":  ", 1)),
    ];
    for (name, text) in &cases {
        let (theirs, ours) = both(text);
        assert!(theirs.is_err(), "{name}: pg_verifybackup of {major} accepts it");
        assert!(ours.is_err(), "{name}: it is accepted here");
    }
}

#[test]
fn pg_verifybackup_005_bad_manifest_on_14() {
    bad_manifest(14);
}

#[test]
fn pg_verifybackup_005_bad_manifest_on_15() {
    bad_manifest(15);
}

#[test]
fn pg_verifybackup_005_bad_manifest_on_17() {
    bad_manifest(17);
}

#[test]
fn pg_verifybackup_005_bad_manifest_on_18() {
    bad_manifest(18);
}
