//! How deep a verification looks, what it says of snapshots, and bundles that are verified and restored from
//! with nothing else at hand.
#![allow(clippy::unwrap_used)]

use holdfast_repository::{
    DeviceId, EntryKind, FileEntry, ObjectKind, Repository, RepositoryUrl, Store, Unlock,
};
use holdfast_tests::{
    cli::Cli,
    pg::TestServer,
    places::files_below,
    protected::{CLUSTER, PASSPHRASE, Protected, failure},
};
use serde_json::Value;
use std::{fs, path::Path};

fn sum(values: &Value, field: &str) -> u64 {
    values[field].as_u64().unwrap()
}

/// The states of the snapshots, oldest first.
fn states(site: &Protected) -> Vec<String> {
    let points = site.points().unwrap();
    let snapshots = points["snapshots"].as_array().unwrap();
    snapshots.iter().map(|s| s["state"].as_str().unwrap().to_owned()).collect()
}

/// Two snapshots with WAL behind them.
fn site() -> Protected {
    let server = TestServer::builder(17).wal_segment_size(1).start().unwrap();
    let site = Protected::new(server).unwrap();
    let sql = |sql: &str| site.server.psql(sql).unwrap();
    sql("CREATE TABLE sample AS SELECT n, md5(n::text) AS text FROM generate_series(1, 4000) n");
    site.backup().unwrap();
    sql("UPDATE sample SET text = md5(text) WHERE n % 7 = 0");
    site.backup().unwrap();
    sql("INSERT INTO sample SELECT n, 'later' FROM generate_series(4001, 20000) n");
    sql("SELECT pg_switch_wal()");
    sql("INSERT INTO sample VALUES (0, 'last')");
    site.archive().unwrap();
    site
}

#[test]
fn catalogue_24_what_is_left_out_is_told_and_never_passes_on_17() {
    let site = site();
    let verify = |more: &[&str]| {
        let line = [&["--json", "verify", CLUSTER][..], more].concat();
        let told = site.cli.run(&line).unwrap();
        (told.code, told.json().unwrap())
    };

    // References alone say nothing of the bytes.
    let (code, told) = verify(&["--level", "structure"]);
    assert_eq!((code, &told["ok"]), (0, &Value::Bool(true)), "{told}");
    assert_eq!(states(&site), ["stored", "stored"]);
    let (_, told) = verify(&[]);
    assert_eq!(told["level"], "data");
    assert_eq!(sum(&told["checked"], "files"), 0);
    assert_eq!(states(&site), ["verified", "verified"]);

    let (code, told) = verify(&["--level", "pages"]);
    assert_eq!((code, &told["ok"]), (0, &Value::Bool(true)), "{told}");
    let checked = &told["checked"];
    assert!(sum(checked, "files") > 1800, "{checked}");
    assert!(sum(checked, "pages") > 2000, "{checked}");
    assert!(sum(checked, "wal_records") > 16_000, "{checked}");
    assert_eq!(told["snapshots"].as_array().unwrap().len(), 2);
    assert_eq!(told["skipped"]["objects"], 0);
    assert!(!told["not_shown"].as_array().unwrap().is_empty());

    // Parts make up the whole, and none of them passes for it.
    let whole = sum(checked, "objects");
    let mut files = 0;
    for part in ["1/3", "2/3", "3/3"] {
        let (code, told) = verify(&["--level", "cluster", "--sample", part]);
        assert_eq!(code, 0, "{told}");
        let left_out = sum(&told["skipped"], "objects");
        assert!(left_out > 0, "{told}");
        assert!(sum(&told["checked"], "objects") + left_out >= whole, "{told}");
        files += sum(&told["checked"], "files");
    }
    let (_, told) = verify(&["--level", "cluster"]);
    assert_eq!(files, sum(&told["checked"], "files"));

    // One snapshot, and what it needs.
    let points = site.points().unwrap();
    let first = points["snapshots"][0]["id"].as_str().unwrap().to_owned();
    let (code, told) = verify(&["--level", "pages", "--snapshot", &first]);
    assert_eq!(code, 0, "{told}");
    assert_eq!(told["snapshots"].as_array().unwrap().len(), 1);
    assert!(sum(&told["skipped"], "objects") > 0, "{told}");
    let unknown = "00000000-0000-7000-8000-000000000000";
    for (wrong, code) in [(&["--snapshot", unknown], 4), (&["--sample", "8/7"], 2)] {
        assert_eq!(verify(wrong).0, code, "{wrong:?}");
    }

    // What is damaged is not green, and the repaired one is again once somebody has looked.
    let root = Path::new(site.url());
    let pack = files_below(root).unwrap().into_iter().find(|p| p.starts_with("packs")).unwrap();
    let good = fs::read(root.join(&pack)).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 3] ^= 1;
    fs::write(root.join(&pack), &bad).unwrap();
    let (code, told) = verify(&["--level", "cluster"]);
    assert_eq!(code, 5, "{told}");
    assert!(states(&site).contains(&"broken".to_owned()), "{:?}", states(&site));
    fs::write(root.join(&pack), &good).unwrap();
    assert!(states(&site).contains(&"broken".to_owned()));
    assert_eq!(verify(&[]).0, 0);
    assert_eq!(states(&site), ["verified", "verified"]);

    // Authentic, whole, and wrong all the same: only putting the files together tells.
    lie(&site);
    assert_eq!(verify(&[]).0, 0);
    let (code, told) = verify(&["--level", "cluster"]);
    assert_eq!(code, 5, "{told}");
    assert!(told.to_string().contains("is not the one that its manifest lists"), "{told}");
    assert_eq!(states(&site).last().unwrap(), "broken");
}

/// Puts a snapshot into the repository in which two files have changed places, with all signatures right.
fn lie(site: &Protected) {
    let points = site.points().unwrap();
    let newest = points["snapshots"][1]["id"].as_str().unwrap().to_owned();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let url = RepositoryUrl::parse(site.url()).unwrap();
        let store = Store::open(&url).await.unwrap();
        let secret = PASSPHRASE.into();
        let repository = Repository::open(store, DeviceId::generate(), Unlock::Passphrase(&secret))
            .await
            .unwrap();
        let listed = repository.list("snapshots").await.unwrap();
        let path = listed.iter().find(|e| e.path.ends_with(&newest)).unwrap().path.clone();
        let mut snapshot: Value =
            repository.get_document(&path, ObjectKind::Snapshot).await.unwrap();
        let reference = serde_json::from_value(snapshot["file_table"].clone()).unwrap();
        let mut reader = repository.read_file_table(&reference).await.unwrap();
        let mut entries: Vec<FileEntry> = Vec::new();
        while let Some(entry) = reader.next().await.unwrap() {
            entries.push(entry);
        }
        let of_one_page = |entry: &&mut FileEntry| {
            entry.kind == EntryKind::File && entry.size == 8192 && entry.path.starts_with("base/")
        };
        let mut alike: Vec<_> = entries.iter_mut().filter(of_one_page).collect();
        let other = alike.iter().position(|e| e.extents != alike[0].extents).unwrap();
        let (first, rest) = alike.split_at_mut(other);
        std::mem::swap(&mut first[0].extents, &mut rest[0].extents);
        std::mem::swap(&mut first[0].crc32c, &mut rest[0].crc32c);
        let id = "ffffffff-0000-7000-8000-000000000001";
        let place = path.replace(&newest, id);
        let ingest = repository.begin_ingest().await.unwrap();
        let mut table = ingest.begin_file_table().await.unwrap();
        for entry in &entries {
            table.add(entry).await.unwrap();
        }
        ingest.flush().await.unwrap();
        let table = table.finish(&format!("{place}.files")).await.unwrap();
        snapshot["id"] = id.into();
        snapshot["file_table"] = serde_json::to_value(&table).unwrap();
        repository.put_document(&place, ObjectKind::Snapshot, &snapshot).await.unwrap();
    });
}

#[test]
fn a_bundle_is_verified_and_restored_from_with_nothing_else_at_hand() {
    let site = site();
    let count = "SELECT count(*), max(n) FROM sample";
    let expected = site.server.psql(count).unwrap();
    let folder = site.destination("bundle");
    let file = site.destination("bundle.tar");
    for to in [&folder, &file] {
        let made = site.cli.json(&["bundle", "export", CLUSTER, "--to", to]).unwrap();
        assert_eq!(made["path"], **to);
        assert!(sum(&made, "objects") > 5, "{made}");
        let (code, told) = failure(&site.cli, &["bundle", "export", CLUSTER, "--to", to]).unwrap();
        assert_eq!((code, told["code"].as_str()), (3, Some("destination_not_empty")));
    }

    // Another machine: no server, no catalog, no home.
    let away = tempfile::tempdir().unwrap();
    let nowhere = away.path().join("none");
    let knowing = |home: &Path| Cli::new(home).unwrap().env("HOLDFAST_PASSPHRASE", PASSPHRASE);
    let stranger = knowing(&nowhere);
    let before = files_below(Path::new(&folder)).unwrap();
    for place in [&folder, &file, &site.url().to_owned()] {
        let told = stranger.json(&["verify", "--bundle", place, "--level", "pages"]).unwrap();
        assert_eq!(told["ok"], true, "{told}");
        assert!(sum(&told["checked"], "files") > 900, "{told}");
        assert!(sum(&told["checked"], "wal_records") > 10_000, "{told}");
    }
    assert_eq!(files_below(Path::new(&folder)).unwrap(), before, "it is not written to");
    assert!(!nowhere.join("catalog.db").exists(), "no home is opened");
    let locked = Cli::new(&nowhere).unwrap().env("HOLDFAST_PASSPHRASE", "wrong");
    let (code, told) = failure(&locked, &["verify", "--bundle", &file]).unwrap();
    assert_eq!((code, told["code"].as_str()), (6, Some("wrong_key")), "{told}");
    let (code, _) = failure(&stranger, &["verify", "--bundle", "/nowhere/at/all"]).unwrap();
    assert_eq!(code, 4);

    // Restored from the file alone.
    let drill = knowing(&away.path().join("home"));
    drill.json(&["repo", "attach", &file]).unwrap();
    let copy = away.path().join("copy").display().to_string();
    let line = ["restore", "run", CLUSTER, "--target", "latest", "--to", &copy, "--start"];
    let restored = drill.json(&line).unwrap();
    assert_eq!(restored["verified"], true, "{restored}");
    let dsn = restored["dsn"].as_str().unwrap();
    assert_eq!(site.server.psql_at(dsn, count).unwrap(), expected);
    drill.json(&["restore", "discard", restored["job"].as_str().unwrap()]).unwrap();

    // Part of a bundle is told from a whole one, and damage is named.
    let root = Path::new(&folder);
    let wal: Vec<_> =
        before.iter().filter(|p| p.starts_with("wal") || p.starts_with("slices")).collect();
    let last = root.join(wal.last().unwrap());
    let content = fs::read(&last).unwrap();
    fs::remove_file(&last).unwrap();
    let told = stranger.run(&["--json", "verify", "--bundle", &folder]).unwrap();
    assert_eq!(told.code, 5, "{told}");
    assert!(told.stdout.contains("part of the bundle is missing"), "{told}");
    let mut bad = content.clone();
    bad[content.len() / 2] ^= 1;
    fs::write(&last, bad).unwrap();
    let told = stranger.run(&["--json", "verify", "--bundle", &folder]).unwrap();
    assert_eq!(told.code, 5, "{told}");
    fs::write(&last, content).unwrap();

    // Up to a time: what comes after it is left out, and what is not there is refused.
    let early = site.destination("early.tar");
    let through = |time: &str, to: &str| {
        let line = ["--json", "bundle", "export", CLUSTER, "--through", time, "--to", to];
        let told = site.cli.run(&line).unwrap();
        (told.code, told.json().unwrap())
    };
    let newest = || site.points().unwrap()["windows"][0]["to"].as_str().unwrap().to_owned();
    let moment = newest();
    let (code, told) = through(&moment, &early);
    assert_eq!((code, told["error"]["code"].as_str()), (3, Some("target_not_reached")), "{told}");
    assert!(!Path::new(&early).exists());
    for n in 1..4 {
        site.server.psql(&format!("INSERT INTO sample VALUES (-{n}, 'after the moment')")).unwrap();
        site.server.psql("SELECT pg_switch_wal()").unwrap();
    }
    site.archive().unwrap();
    let (code, made) = through(&moment, &early);
    assert_eq!(code, 0, "{made}");
    let last = made["last_commit"].as_str().unwrap();
    assert!(last > moment.as_str() && last < newest().as_str(), "{moment}, {made}");
    assert_eq!(stranger.json(&["verify", "--bundle", &early]).unwrap()["ok"], true);
}
