//! A repository whose objects are damaged, cut, gone or exchanged: verification names them, and a
//! restore never gives wrong data.
//!
//! Every object of a small repository is damaged in turn, and repaired afterwards.
//! `HOLDFAST_SEED` repeats a run.
#![allow(clippy::unwrap_used)]

use holdfast_tests::{
    cli::Finished,
    pg::TestServer,
    places::files_below,
    protected::{CLUSTER, Protected, leftovers},
    random::Random,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Rows of the sample table, and their sum: what a right copy holds.
const ROWS: u64 = 4000;

/// A repository with one of everything: two snapshots, sealed WAL, slices, a timeline's history, a
/// proof.
fn site() -> Protected {
    let server = TestServer::builder(17).wal_segment_size(1).start().unwrap();
    let site = Protected::new(server).unwrap();
    let sql = |sql: &str| site.server.psql(sql).unwrap();
    sql("CREATE TABLE sample (n int PRIMARY KEY, text text)");
    sql(&format!(
        "INSERT INTO sample SELECT n, md5(n::text) FROM generate_series(1, {}) n",
        ROWS / 2
    ));
    site.backup().unwrap();
    sql(&format!(
        "INSERT INTO sample SELECT n, md5(n::text) FROM generate_series({}, {ROWS}) n",
        ROWS / 2 + 1
    ));
    site.archive().unwrap();
    sql("SELECT pg_switch_wal()");
    sql("CREATE TABLE filler AS SELECT n, md5(n::text) FROM generate_series(1, 20000) n");
    site.archive().unwrap();
    site.restore("latest", "proof", &["--start"]).unwrap().discard().unwrap();
    site
}

fn folder(site: &Protected) -> PathBuf {
    PathBuf::from(site.url())
}

/// Every object with its content, by its path in the repository.
fn objects(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = files_below(root).unwrap();
    let content = |path: &PathBuf| fs::read(root.join(path)).unwrap();
    files.iter().map(|path| (path.to_str().unwrap().to_owned(), content(path))).collect()
}

/// An object that is something else for as long as this lives.
struct Damage {
    path: PathBuf,
    content: Vec<u8>,
}

impl Damage {
    fn new(root: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let path = root.join(name);
        let content = fs::read(&path).unwrap();
        let mut changed = content.clone();
        change(&mut changed);
        assert_ne!(changed, content, "{name} was not changed");
        fs::write(&path, changed).unwrap();
        Self { path, content }
    }

    fn removed(root: &Path, name: &str) -> Self {
        let path = root.join(name);
        let content = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        Self { path, content }
    }
}

impl Drop for Damage {
    fn drop(&mut self) {
        let _ = fs::create_dir_all(self.path.parent().unwrap());
        fs::write(&self.path, &self.content).unwrap();
    }
}

fn verify(site: &Protected) -> Finished {
    site.cli.run(&["--json", "verify", CLUSTER]).unwrap()
}

/// Whether opening alone fails, naming the object; the root and the only way in are such.
fn refused_naming(told: &Finished, name: &str) -> bool {
    let error = &told.json().unwrap()["error"];
    error.is_object()
        && [3, 4, 5, 6].contains(&told.code)
        && (error.to_string().contains(name)
            || (name.starts_with("keys/") && error["code"] == "wrong_key"))
}

/// Verification must exit with 5 and name the object in a finding of severity error that says what
/// follows from it.
#[track_caller]
fn must_be_named(told: &Finished, name: &str, how: &str) {
    if refused_naming(told, name) {
        assert!(name == "holdfast.json" || name.starts_with("keys/"), "{name}, {how}: {told}");
        return;
    }
    assert_eq!(told.code, 5, "{name}, {how}: {told}");
    let result = told.json().unwrap();
    assert_eq!(result["ok"], false);
    let findings = result["findings"].as_array().unwrap();
    let mut errors = findings.iter().filter(|f| f["severity"] == "error");
    // What is not there is named by what needs it.
    let named = errors.clone().find(|f| f["object"] == name).or_else(|| {
        errors.find(|f| f["message"].as_str().is_some_and(|message| message.contains(name)))
    });
    let named = named.unwrap_or_else(|| panic!("{name}, {how}: {told}"));
    assert!(consequence(named), "{name}, {how}: {named}");
}

/// A message says what is wrong, and then what that means.
fn consequence(finding: &Value) -> bool {
    finding["message"].as_str().unwrap().split_once("; ").is_some_and(|(_, then)| then.len() > 10)
        || finding["message"].as_str().unwrap().contains(": ")
}

#[track_caller]
fn must_be_clean(site: &Protected) {
    let told = verify(site);
    assert_eq!(told.code, 0, "{told}");
    let result = told.json().unwrap();
    assert!(
        result["findings"].as_array().unwrap().iter().all(|f| f["severity"] == "info"),
        "{told}"
    );
}

/// A device's certificate follows from the repository key: whoever opens the repository with that
/// key makes a damaged one again, so that there is nothing left to find.
fn made_again(name: &str) -> bool {
    name.starts_with("keys/writers/")
}

#[test]
fn pg_verifybackup_003_corruption_by_one_bit_on_17() {
    let site = site();
    let root = folder(&site);
    let mut random = Random::announced("pg_verifybackup_003_corruption_by_one_bit_on_17");
    must_be_clean(&site);
    let objects = objects(&root);
    let kinds: std::collections::BTreeSet<_> =
        objects.keys().filter_map(|name| name.split('/').next()).collect();
    for kind in [
        "holdfast.json",
        "index",
        "keys",
        "packs",
        "policies",
        "proofs",
        "slices",
        "snapshots",
        "wal",
    ] {
        assert!(kinds.contains(kind), "the repository has no {kind}: {kinds:?}");
    }
    for (name, content) in objects.iter().filter(|(name, _)| !made_again(name)) {
        let length = content.len() as u64;
        let places = [0, length / 2, length - 1, random.below(length)];
        for place in places {
            let bit = random.below(8);
            let _damage = Damage::new(&root, name, |bytes| {
                bytes[usize::try_from(place).unwrap()] ^= 1 << bit;
            });
            must_be_named(&verify(&site), name, &format!("bit {bit} of byte {place} of {length}"));
        }
    }
    must_be_clean(&site);
}

#[test]
fn pg_verifybackup_003_corruption_by_cuts_and_losses_on_17() {
    let site = site();
    let root = folder(&site);
    let mut random = Random::announced("pg_verifybackup_003_corruption_by_cuts_and_losses_on_17");
    must_be_clean(&site);
    let objects = objects(&root);
    for (name, content) in objects.iter().filter(|(name, _)| !made_again(name)) {
        for keep in
            [content.len() - 1, usize::try_from(random.below(content.len() as u64)).unwrap(), 0]
        {
            let _damage = Damage::new(&root, name, |bytes| bytes.truncate(keep));
            must_be_named(&verify(&site), name, &format!("cut to {keep} of {}", content.len()));
        }
        let _damage = Damage::new(&root, name, |bytes| bytes.push(0));
        must_be_named(&verify(&site), name, "longer by a byte");
    }

    for name in objects.keys().filter(|name| !made_again(name)) {
        let _damage = Damage::removed(&root, name);
        let told = verify(&site);
        if name == "holdfast.json" {
            assert_eq!(
                (told.code, told.json().unwrap()["error"]["code"].as_str()),
                (4, Some("not_a_repository"))
            );
        } else if name.starts_with("keys/writers/") {
            // Opening certifies this device anew: nothing is lost.
            assert_eq!(told.code, 0, "{name}: {told}");
        } else if name.starts_with("keys/") {
            assert_eq!(told.code, 6, "{name}: {told}");
        } else if name.starts_with("slices/") {
            // Slices are superseded; the WAL that is not there is not claimed.
            assert!(told.code == 0 || told.code == 5, "{name}: {told}");
        } else if name.starts_with("policies/") {
            assert_eq!(told.code, 5, "{name}: {told}");
            assert!(told.stdout.contains("policies/clusters/"), "{name}: {told}");
        } else if name.starts_with("index/") {
            // Packs tell themselves what they hold: nothing is lost, and the loss is told.
            assert_eq!(told.code, 0, "{name}: {told}");
            assert!(told.stdout.contains("no index names this pack"), "{name}: {told}");
        } else {
            must_be_named(&told, name, "removed");
        }
    }

    // Two objects of one kind exchanged: each is whole, and in the wrong place.
    let names: Vec<_> = objects.keys().collect();
    let mut exchanged = 0;
    for pair in names.windows(2) {
        let kind = |name: &str| name.rsplit_once('/').map(|(folder, _)| folder.to_owned());
        let alike =
            kind(pair[0]).is_some() && pair[0].split('/').next() == pair[1].split('/').next();
        if !alike || objects[pair[0]] == objects[pair[1]] {
            continue;
        }
        let _one = Damage::new(&root, pair[0], |bytes| bytes.clone_from(&objects[pair[1]]));
        let _two = Damage::new(&root, pair[1], |bytes| bytes.clone_from(&objects[pair[0]]));
        let told = verify(&site);
        if !refused_naming(&told, pair[0]) && !refused_naming(&told, pair[1]) {
            must_be_named(&told, pair[0], &format!("exchanged with {}", pair[1]));
            must_be_named(&told, pair[1], &format!("exchanged with {}", pair[0]));
        }
        exchanged += 1;
    }
    assert!(exchanged > 3);
    must_be_clean(&site);
}

/// A restore with a damaged object succeeds with right data, or fails and leaves nothing.
#[track_caller]
fn restore_is_right_or_not_at_all(site: &Protected, name: &str, how: &str) -> bool {
    let destination = site.destination("copy");
    let told = site
        .cli
        .run(&[
            "--json",
            "restore",
            "run",
            CLUSTER,
            "--target",
            "latest",
            "--to",
            &destination,
            "--start",
        ])
        .unwrap();
    let document = told.json().unwrap();
    if told.code != 0 {
        assert!([3, 4, 5, 6].contains(&told.code), "{name}, {how}: {told}");
        assert!(document["error"]["code"].is_string());
        let left = leftovers(Path::new(&destination), None);
        assert!(left.is_empty(), "{name}, {how}: {left:?}");
        return false;
    }
    let dsn = document["dsn"].as_str().unwrap();
    let psql = site.server.binaries().program("psql");
    let sum =
        "SELECT count(*) || ' ' || sum(n) || ' ' || bool_and(text = md5(n::text)) FROM sample";
    let said =
        std::process::Command::new(psql).args(["-XAtq", "-d", dsn, "-c", sum]).output().unwrap();
    let right = format!("{ROWS} {} true", ROWS * (ROWS + 1) / 2);
    let said = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    site.cli.json(&["restore", "discard", document["job"].as_str().unwrap()]).unwrap();
    assert_eq!(said, right, "{name}, {how}");
    true
}

#[test]
fn pg_verifybackup_003_corruption_is_never_restored_on_17() {
    let site = site();
    let root = folder(&site);
    let mut random = Random::announced("pg_verifybackup_003_corruption_is_never_restored_on_17");
    let mut outcomes = BTreeMap::<String, [u32; 2]>::new();
    let mut seen = BTreeMap::<String, u32>::new();
    for (name, content) in objects(&root) {
        let kind = name.split('/').next().unwrap().to_owned();
        // Two of each kind: the first and the last are what a restore reads or does not read.
        let count = seen.entry(kind.clone()).or_default();
        *count += 1;
        if *count > 2 && kind != "packs" {
            continue;
        }
        let place = random.below(content.len() as u64);
        let bit = random.below(8);
        let how = format!("bit {bit} of byte {place} of {}", content.len());
        let damage =
            Damage::new(&root, &name, |bytes| bytes[usize::try_from(place).unwrap()] ^= 1 << bit);
        let good = restore_is_right_or_not_at_all(&site, &name, &how);
        outcomes.entry(kind).or_default()[usize::from(good)] += 1;
        drop(damage);
    }
    eprintln!("failed and succeeded restores by kind of the damaged object: {outcomes:?}");
    assert_eq!(outcomes["packs"][1], 0, "a restore that needs no pack");
    assert_eq!(outcomes["holdfast.json"][1], 0);
    assert!(restore_is_right_or_not_at_all(&site, "", "nothing"));
}

/// The open segment is stored as slices. One is missing in the middle: what stands behind it is not put
/// where the missing one was, nor padded; it is not offered at all.
fn a_slice_is_missing(major: u32) {
    let site = Protected::new(TestServer::start(major).unwrap()).unwrap();
    site.server.psql("CREATE TABLE t (n int)").unwrap();
    site.backup().unwrap();
    let mut xids = Vec::new();
    for n in 1..=3 {
        let sql = format!("INSERT INTO t VALUES ({n}) RETURNING pg_current_xact_id()");
        xids.push(site.server.psql(&sql).unwrap());
        site.archive().unwrap();
    }
    let root = folder(&site);
    let slices: Vec<_> =
        objects(&root).into_keys().filter(|name| name.starts_with("slices/")).collect();
    assert!(slices.len() >= 3, "{slices:?}");
    let _damage = Damage::removed(&root, &slices[slices.len() - 2]);
    let never = site.destination("never");
    for xid in &xids[1..] {
        let (code, error) = site.refusal(&format!("xid:{xid}"), &never, &[]).unwrap();
        assert_eq!(code, 3, "{error}");
        assert!(!Path::new(&never).exists());
    }
    let copy = site.restore("latest", "copy", &["--start", "--at-target", "pause"]).unwrap();
    assert_eq!(copy.psql("SELECT string_agg(n::text, ' ') FROM t").unwrap(), "1");
    assert_eq!(copy.result["reached"]["xid"].as_str(), Some(&*xids[0]), "{}", copy.result);
    copy.discard().unwrap();
}

#[test]
fn catalogue_23_a_missing_slice_is_no_list_on_15() {
    a_slice_is_missing(15);
}

#[test]
fn catalogue_23_a_missing_slice_is_no_list_on_17() {
    a_slice_is_missing(17);
}
