//! A store that fails at any moment of a restore: every call of a small restore is made to fail in
//! every way. The restore then succeeds exactly, or ends with a clear error and leaves nothing, or what it
//! leaves is resumed to exactly the right copy; a server never comes up early. The same for `wal-get`.
//!
//! The ordinary run takes a sample; `cargo xtask prove failing_store` goes on for as long as it is told,
//! or until all have been tried. `HOLDFAST_SEED` repeats a sample.
#![allow(clippy::unwrap_used)]

use holdfast_tests::{
    cli::Cli,
    pg::TestServer,
    places::files_below,
    protected::{CLUSTER, PASSPHRASE, Protected, leftovers},
    prove_duration,
    random::Random,
    store::SeaweedFs,
    store_proxy::{Injection, STORE_FAULTS, StoreFault, StoreProxy},
    wait_for,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

const ROWS: &str = "SELECT count(*) || ' ' || sum(n) FROM t";

/// A cluster in a real store, with the failing proxy before it, and what a right restore gives.
struct Site {
    protected: Protected,
    proxy: StoreProxy,
    /// A home that knows the cluster and has not read the archive yet.
    template: PathBuf,
    environment: Vec<(&'static str, String)>,
    target: String,
    rows: String,
    _store: SeaweedFs,
}

impl Site {
    fn new() -> Self {
        let store = SeaweedFs::start().unwrap();
        store.create_bucket("backups").unwrap();
        let proxy = StoreProxy::start(store.address()).unwrap();
        let mut environment = store.env_at(&proxy.endpoint());
        environment.push(("HOLDFAST_STORE_PATIENCE", "1".to_owned()));
        let server = TestServer::builder(17).wal_segment_size(1).start().unwrap();
        let dsn = server.dsn();
        let site =
            Protected::with(server, &dsn, Some("s3://backups/shop"), environment.clone()).unwrap();
        let add = |from: u32, to: u32| {
            let sql = format!("INSERT INTO t SELECT generate_series({from}, {to})");
            site.server.psql(&sql).unwrap();
        };
        site.server.psql("CREATE TABLE t (n int)").unwrap();
        add(1, 1000);
        site.backup().unwrap();
        add(1001, 2000);
        site.archive().unwrap();
        // What the store had by now is what an old answer tells of.
        proxy.remember(true);
        site.cli
            .json(&["restore", "plan", CLUSTER, "--target", "latest", "--to", "/nowhere"])
            .unwrap();
        proxy.remember(false);
        for n in 0..3 {
            add(2001 + n * 1000, 3000 + n * 1000);
            site.server.psql("SELECT pg_switch_wal()").unwrap();
        }
        let target =
            site.server.psql("INSERT INTO t VALUES (0) RETURNING pg_current_xact_id()").unwrap();
        let rows = site.server.psql(ROWS).unwrap();
        add(5001, 6000);
        site.archive().unwrap();
        let template = site.root().join("template");
        copy_tree(&site.root().join("home"), &template);
        Self {
            protected: site,
            proxy,
            template,
            environment,
            target: format!("xid:{target}"),
            rows,
            _store: store,
        }
    }

    /// The command with a new home of its own.
    fn fresh(&self, name: &str) -> (Cli, PathBuf) {
        let home = self.protected.root().join(name);
        let _ = fs::remove_dir_all(&home);
        copy_tree(&self.template, &home);
        let cli = Cli::new(&home)
            .unwrap()
            .env("HOLDFAST_PASSPHRASE", PASSPHRASE)
            .envs(self.environment.iter().map(|(n, v)| (*n, v.clone())))
            .timeout(Duration::from_mins(2));
        (cli, home)
    }

    /// Restores with these faults; what came of it.
    fn restore(&self, injection: Option<Injection>, start: bool) -> Outcome {
        let (cli, _) = self.fresh("home-of-one");
        let destination = self.protected.destination("copy");
        let mut arguments = vec![
            "--json",
            "restore",
            "run",
            CLUSTER,
            "--target",
            &self.target,
            "--to",
            &destination,
        ];
        if start {
            arguments.extend(["--start", "--at-target", "pause"]);
        } else {
            arguments.push("--fetch-only");
        }
        self.proxy.arm(injection);
        let told = cli.run(&arguments).unwrap();
        let requests = self.proxy.requests();
        self.proxy.arm(None);
        let how = format!("{injection:?}: {}", what(&requests, injection));
        let mut document = told.json().unwrap_or_else(|e| panic!("{how}: {e}"));
        let mut refused = None;
        if told.code != 0 {
            let code = document["error"]["code"].as_str().unwrap_or_default().to_owned();
            let hint = document["error"]["hint"].as_str().unwrap_or_default().to_owned();
            assert!([3, 4, 5, 6, 7].contains(&told.code), "{how}: no clear error: {told}");
            assert!(!code.is_empty() && !hint.is_empty(), "{how}: {told}");
            let left = leftovers(Path::new(&destination), None);
            let runs = left.iter().any(|what| what.contains("postgres"));
            assert!(!runs, "{how}: a server is left: {left:?}\n{told}");
            refused = Some(code);
            // What was written may be kept for another try: then that gives the right copy.
            let Some(job) = hint.split("restore resume ").nth(1) else {
                assert!(left.is_empty(), "{how}: left {left:?}\n{told}");
                return Outcome::Refused(refused.unwrap_or_default());
            };
            let job = job.split('`').next().unwrap_or_default();
            document =
                cli.json(&["restore", "resume", job]).unwrap_or_else(|e| panic!("{how}: {e}"));
        }
        let files = if start {
            let dsn = document["dsn"].as_str().unwrap();
            let server = &self.protected.server;
            let rows = server.psql_at(dsn, ROWS).unwrap();
            let state = server.psql_at(dsn, "SELECT pg_is_in_recovery()").unwrap();
            assert_eq!((rows.as_str(), state.as_str()), (&*self.rows, "t"), "{how}: {told}");
            assert_eq!(document["verified"], true, "{how}: {told}");
            cli.json(&["restore", "discard", document["job"].as_str().unwrap()]).unwrap();
            Vec::new()
        } else {
            let files = digest(Path::new(&destination));
            fs::remove_dir_all(&destination).unwrap();
            files
        };
        let left = leftovers(Path::new(&destination), None);
        assert!(left.is_empty(), "{how}: left {left:?}\n{told}");
        match refused {
            None => Outcome::Exact(requests, files),
            Some(code) => Outcome::Resumed(code, files),
        }
    }
}

#[derive(Debug)]
enum Outcome {
    /// The requests, and the files of a fetch.
    Exact(Vec<String>, Vec<(PathBuf, u64, u32)>),
    /// An error, and nothing was left.
    Refused(String),
    /// An error, and another try went on from there.
    Resumed(String, Vec<(PathBuf, u64, u32)>),
}

fn what(requests: &[String], injection: Option<Injection>) -> String {
    injection.and_then(|i| requests.get(i.from)).cloned().unwrap_or_default()
}

fn copy_tree(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

/// Every file with its size and a sum of its bytes (FNV-1a): no more than equality is asked.
fn digest(folder: &Path) -> Vec<(PathBuf, u64, u32)> {
    let digest = |path: PathBuf| {
        let bytes = fs::read(folder.join(&path)).unwrap();
        let sum = bytes
            .iter()
            .fold(0x811c_9dc5_u32, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        (path, bytes.len() as u64, sum)
    };
    files_below(folder).unwrap().into_iter().map(digest).collect()
}

/// Faults at every call from `first` on: once, and from then on.
fn injections(first: usize, calls: usize) -> Vec<Injection> {
    let mut all = Vec::new();
    for from in first..calls {
        for fault in STORE_FAULTS {
            all.push(Injection { from, count: 1, fault });
        }
        for fault in [StoreFault::Unavailable, StoreFault::Cut] {
            all.push(Injection { from, count: usize::MAX, fault });
        }
    }
    all
}

/// All of them in random order, to be tried for so long; in the ordinary run the first few.
struct Trial {
    left: Vec<Injection>,
    all: usize,
    tried: usize,
    sample: usize,
    end: Instant,
}

impl Trial {
    fn of(mut left: Vec<Injection>, sample: usize, random: &mut Random) -> Self {
        for place in (1..left.len()).rev() {
            left.swap(place, usize::try_from(random.below(place as u64 + 1)).unwrap());
        }
        let all = left.len();
        Self { left, all, tried: 0, sample, end: Instant::now() + prove_duration(Duration::ZERO) }
    }
}

impl Iterator for Trial {
    type Item = Injection;

    fn next(&mut self) -> Option<Injection> {
        if self.tried >= self.sample && Instant::now() > self.end {
            return None;
        }
        self.tried += 1;
        self.left.pop()
    }
}

type Counts = BTreeMap<String, [u32; 2]>;

fn count(counts: &mut Counts, fault: StoreFault, exact: bool) {
    counts.entry(format!("{fault:?}")).or_default()[usize::from(exact)] += 1;
}

#[test]
fn a_failing_store_never_makes_a_wrong_restore() {
    let mut random = Random::announced("a_failing_store_never_makes_a_wrong_restore");
    let site = Site::new();
    let Outcome::Exact(fetching, files) = site.restore(None, false) else {
        panic!("a restore from a store that is well fails")
    };
    let Outcome::Exact(all, _) = site.restore(None, true) else {
        panic!("a restore from a store that is well fails")
    };
    assert!(files.len() > 500, "{} files", files.len());
    assert!(fetching.len() > 10 && all.len() > fetching.len(), "{fetching:#?} {all:#?}");
    let mut counts = Counts::new();
    let mut codes = BTreeMap::<String, u32>::new();
    // What touches no server is tried without one.
    let (mut number, mut possible) = (0, 0);
    for (start, from, to, sample) in
        [(true, fetching.len(), all.len(), 2), (false, 0, fetching.len(), 6)]
    {
        let mut trial = Trial::of(injections(from, to), sample, &mut random);
        possible += trial.all;
        for injection in &mut trial {
            number += 1;
            match site.restore(Some(injection), start) {
                Outcome::Exact(_, found) => {
                    assert!(start || found == files, "{injection:?}: other files");
                    count(&mut counts, injection.fault, true);
                }
                Outcome::Resumed(code, found) => {
                    assert!(start || found == files, "{injection:?}: other files when resumed");
                    *codes.entry(format!("{code}, resumed")).or_default() += 1;
                    count(&mut counts, injection.fault, false);
                }
                Outcome::Refused(code) => {
                    *codes.entry(code).or_default() += 1;
                    count(&mut counts, injection.fault, false);
                }
            }
        }
    }
    // Nothing of all that has harmed what is stored.
    assert!(matches!(site.restore(None, true), Outcome::Exact(..)));
    println!(
        "{number} of {possible} injections at {} calls ({} before replay); [refused, exact] by fault: {counts:?}; codes: {codes:?}",
        all.len(),
        fetching.len()
    );
}

/// Failure catalogue 16: the store takes the connection and never answers. Every command ends by itself with an
/// error that says so and may be tried again; with the store back it works, and nothing was harmed.
#[test]
fn catalogue_16_a_store_that_hangs_is_given_up_on_17() {
    let site = Site::new();
    let (copy, replica) =
        (site.protected.destination("copy"), site.protected.destination("replica"));
    let restore =
        ["restore", "run", CLUSTER, "--target", &site.target, "--to", &copy, "--fetch-only"];
    let commands: [&[&str]; 4] = [
        &["backup", CLUSTER],
        &restore,
        &["replicate", CLUSTER, "--to", &replica],
        &["verify", CLUSTER],
    ];
    for command in commands {
        // At its first request, and when it has begun.
        for from in [0, 8] {
            let (cli, _) = site.fresh("home-of-one");
            let hang = Injection { from, count: usize::MAX, fault: StoreFault::Hang };
            site.proxy.arm(Some(hang));
            let began = Instant::now();
            let told = cli.run(&[&["--json"], command].concat()).unwrap();
            let asked = site.proxy.requests().len();
            site.proxy.arm(None);
            let how = format!("{command:?}, {asked} requests, {:?}: {told}", began.elapsed());
            assert!(asked > from, "it hung nowhere: {how}");
            let error = told.json().unwrap_or_else(|e| panic!("{how}: {e}"))["error"].clone();
            assert_eq!((told.code, &error["retryable"]), (7, &Value::from(true)), "{how}");
            assert!(leftovers(Path::new(&copy), None).is_empty(), "{how}");
        }
    }
    for command in commands {
        let (cli, _) = site.fresh("home-of-one");
        cli.json(command).unwrap_or_else(|e| panic!("{command:?} with the store back: {e}"));
    }
}

/// With the wrong key nothing is restored, and nothing is left.
#[test]
fn a_wrong_key_opens_nothing() {
    let server = TestServer::start(15).unwrap();
    let site = Protected::new(server).unwrap();
    site.server.psql("CREATE TABLE t (n int)").unwrap();
    site.backup().unwrap();
    let destination = site.destination("copy");
    let wrong = site.cli.clone().env("HOLDFAST_PASSPHRASE", "another passphrase");
    let told = wrong
        .run(&["--json", "restore", "run", CLUSTER, "--target", "immediate", "--to", &destination])
        .unwrap();
    let error = told.json().unwrap()["error"].clone();
    assert_eq!((told.code, &error["code"]), (6, &Value::from("wrong_key")), "{told}");
    assert!(leftovers(Path::new(&destination), None).is_empty());
}

/// `wal-get` serves the very segment or ends with 200, which stops PostgreSQL; never with what it takes
/// for "there is no such file".
#[test]
fn a_failing_store_never_makes_wal_absent() {
    let mut random = Random::announced("a_failing_store_never_makes_wal_absent");
    let site = Site::new();
    let data = site.protected.destination("data");
    site.protected
        .cli
        .json(&["restore", "run", CLUSTER, "--target", "immediate", "--to", &data, "--fetch-only"])
        .unwrap();
    // A segment with archived ones on both sides.
    let wanted = site
        .protected
        .server
        .psql("SELECT pg_walfile_name(pg_current_wal_flush_lsn() - 2 * 1024 * 1024)");
    let wanted = wanted.unwrap();
    let expected = fs::read(site.protected.server.data().join("pg_wal").join(&wanted)).unwrap();
    let to = site.protected.root().join("served");
    let get = |injection: Option<Injection>| {
        let (cli, home) = site.fresh("home-of-one");
        let _ = fs::remove_file(&to);
        site.proxy.arm(injection);
        let told = cli
            .run(&["wal-get", &wanted, to.to_str().unwrap(), "--data-directory", &data])
            .unwrap();
        // What it fetches ahead afterwards is no part of it.
        let home = home.display().to_string();
        let requests = site.proxy.requests();
        wait_for("the fetch ahead", Duration::from_mins(1), || !runs_with(&home));
        (told, requests)
    };
    let (told, calls) = get(None);
    assert_eq!(told.code, 0, "{told}");
    assert_eq!(fs::read(&to).unwrap(), expected);
    let calls = calls.len();
    assert!(calls > 3, "{calls}");
    let mut counts = Counts::new();
    let mut trial = Trial::of(injections(0, calls), 2, &mut random);
    let (mut number, possible) = (0, trial.all);
    for injection in &mut trial {
        number += 1;
        let (told, requests) = get(Some(injection));
        let how = format!("{injection:?}: {}: {told}", what(&requests, Some(injection)));
        match told.code {
            0 => assert_eq!(fs::read(&to).unwrap(), expected, "{how}"),
            200 => assert!(!to.exists(), "{how}"),
            _ => panic!("{how}"),
        }
        count(&mut counts, injection.fault, told.code == 0);
    }
    println!(
        "{number} of {possible} injections at {calls} calls of wal-get; [200, served] by fault: {counts:?}"
    );
}

/// Whether a process has this text in its command line.
fn runs_with(text: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(text))
    })
}
