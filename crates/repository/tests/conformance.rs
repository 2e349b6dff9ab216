//! One suite for every store: in memory, a local directory, SeaweedFS over S3, Azurite for Azure's blobs.
//!
//! A server's part runs when its program is found: `HOLDFAST_WEED` and `HOLDFAST_AZURITE`, the cache of the
//! test tools, or `PATH`.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fixture::{add, assert_clean, assert_fetches, memory, noise, open, passphrase};
use holdfast_repository::{
    IngestOptions, Lease, LeaseError, NewSlot, ObjectKind, PutKind, Repository, RepositoryError,
    RepositoryUrl, Store, StoreLock, StoreProbe,
};

const GOOD: StoreProbe = StoreProbe {
    put_if_absent: true,
    list_after_write: true,
    range_get: true,
    lock: StoreLock::Unknown,
};

/// Everything the layers above ask of a store.
async fn suite(store: Store) {
    let probe = store.probe().await.unwrap();
    assert_eq!(StoreProbe { lock: GOOD.lock, ..probe }, GOOD);
    assert!(matches!(probe.lock, StoreLock::None | StoreLock::Unknown), "{probe:?}");
    assert!(store.list("").await.unwrap().is_empty(), "a probe leaves nothing");

    // Objects.
    assert!(matches!(store.get("a/b").await, Err(RepositoryError::NotFound { .. })));
    store.delete("a/b").await.unwrap();
    store.put_new("a/b", noise(1, 100)).await.unwrap();
    store.put_new("a/b", noise(1, 100)).await.unwrap();
    let other = store.put_new("a/b", noise(2, 100)).await;
    assert!(matches!(other, Err(RepositoryError::AlreadyExists { .. })), "{other:?}");
    store.put_replacing("a/b", noise(2, 50)).await.unwrap();
    store.put_new("ab/c", noise(3, 1)).await.unwrap();
    assert_eq!(store.get("a/b").await.unwrap(), noise(2, 50));
    let listed: Vec<(String, u64)> =
        store.list("a").await.unwrap().into_iter().map(|e| (e.path, e.size)).collect();
    assert_eq!(listed, [("a/b".to_owned(), 50)], "a prefix ends at a slash");
    store.delete("a/b").await.unwrap();
    store.delete("ab/c").await.unwrap();

    // Larger than one request, both ways of putting.
    let large = noise(4, 21 * 1024 * 1024);
    store.put_new("large/new", large.clone()).await.unwrap();
    store.put_replacing("large/replaced", large.clone()).await.unwrap();
    for path in ["large/new", "large/replaced"] {
        assert!(store.get(path).await.unwrap() == large, "{path}");
        store.delete(path).await.unwrap();
    }

    // A repository.
    let secret = passphrase();
    let slots = [NewSlot::Passphrase(&secret)];
    let repository = Repository::create(store.clone(), fixture::DEVICE, &slots, fixture::options())
        .await
        .unwrap();
    let extents: Vec<Bytes> = (0..700).map(|n| noise(n, 8192)).collect();
    let options = IngestOptions::default().with_pack_size(1024 * 1024);
    let (ids, _) = add(&repository, &extents, options.clone()).await.unwrap();
    let again = open(store.clone()).await.unwrap();
    let (_, second) = add(&again, &extents, options).await.unwrap();
    assert_eq!(second.bytes_stored, 0);
    assert_fetches(&again, &ids, &extents).await;
    again.put_document("snapshots/1", ObjectKind::Snapshot, &ids.len()).await.unwrap();
    again
        .put_sealed("wal/1", ObjectKind::WalSegment, large.clone(), &7, PutKind::CreateOnly)
        .await
        .unwrap();
    let (content, told): (Bytes, u32) =
        repository.get_sealed("wal/1", ObjectKind::WalSegment).await.unwrap();
    assert!(content == large && told == 7);
    let told: u32 = repository.get_sealed_metadata("wal/1", ObjectKind::WalSegment).await.unwrap();
    assert_eq!(told, 7);
    let hour = Duration::from_hours(1);
    let mut lease = Lease::acquire(&repository, "x", hour, "one").await.unwrap();
    lease.renew().await.unwrap();
    let held = Lease::acquire(&again, "x", hour, "two").await;
    assert!(matches!(held, Err(LeaseError::Held { .. })));
    lease.release().await.unwrap();
    assert_clean(&again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_memory_at_the_root_and_below_a_prefix() {
    suite(Store::from_object_store(memory(), "")).await;
    suite(Store::from_object_store(memory(), "deep/down")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_directory_that_does_not_exist_yet() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("not yet/there");
    let url = RepositoryUrl::parse(root.to_str().unwrap()).unwrap();
    let store = Store::open(&url).await.unwrap();
    assert!(matches!(open(store).await, Err(RepositoryError::NotARepository { .. })));
    assert!(!root.exists(), "opening makes nothing");
    suite(Store::open(&url).await.unwrap()).await;
    let file_url = reqwest::Url::from_directory_path(&root).unwrap();
    let again = RepositoryUrl::parse(file_url.as_str()).unwrap();
    open(Store::open(&again).await.unwrap()).await.unwrap();
}

/// A program: from the variable, below the cache, or on the path.
fn find(variable: &str, cached: &str, name: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Some(PathBuf::from(path));
    }
    let cached = std::env::home_dir()?.join(".cache/holdfast").join(cached);
    let on_path = || {
        std::env::split_paths(&std::env::var_os("PATH")?)
            .map(|folder| folder.join(name))
            .find(|candidate| candidate.is_file())
    };
    if cached.is_file() { Some(cached) } else { on_path() }
}

/// A server of its own, killed at the end.
struct Server {
    child: Child,
    port: u16,
    _data: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ports whose twin 10000 above is free too: the server takes that one for itself.
fn free_port() -> u16 {
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port = if port > 50_000 { port - 20_000 } else { port };
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(port) && free(port + 10_000) {
            return port;
        }
    }
}

impl Server {
    fn seaweedfs(program: PathBuf) -> Self {
        let data = tempfile::tempdir().unwrap();
        let [master, volume, filer, s3] = std::array::from_fn(|_| free_port());
        let child = Command::new(program)
            .arg("server")
            .arg(format!("-dir={}", data.path().display()))
            .args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"])
            .args(["-master.volumeSizeLimitMB=64", "-volume.max=30", "-master.telemetry=false"])
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
            .arg(format!("-master.port={master}"))
            .arg(format!("-volume.port={volume}"))
            .arg(format!("-filer.port={filer}"))
            .arg(format!("-s3.port={s3}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { child, port: s3, _data: data };
        server.wait_until("the master gives ids", || {
            http(master, "GET", "/dir/assign", "").is_some_and(|answer| answer.contains("\"fid\""))
        });
        server.wait_until("the bucket is made", || {
            http(s3, "PUT", "/holdfast", "").is_some_and(|answer| answer.contains(" 200 "))
        });
        server
    }

    /// Azurite with its well-known account, and one container.
    fn azurite(program: PathBuf) -> Self {
        let data = tempfile::tempdir().unwrap();
        let port = free_port();
        let child = Command::new(program)
            .args(["--silent", "--disableTelemetry", "--skipApiVersionCheck"])
            .args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()])
            .arg("--location")
            .arg(data.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { child, port, _data: data };
        let path = format!("/{AZURITE_ACCOUNT}/holdfast?restype=container");
        server.wait_until("the container is made", || {
            http(port, "PUT", &path, &authorized("holdfast\nrestype:container"))
                .is_some_and(|answer| answer.contains(" 201 "))
        });
        server
    }

    /// Also ends when the server does: then its port may have been taken by somebody else.
    fn wait_until(&mut self, what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{what}: the server ended with {ended:?}");
            assert!(start.elapsed() < Duration::from_mins(2), "{what}: not within two minutes");
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
}

/// The account and the key that every Azurite has.
const AZURITE_ACCOUNT: &str = "devstoreaccount1";
const AZURITE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Headers of a PUT without a body, signed with the account's key ("Authorize with Shared Key").
fn authorized(resource: &str) -> String {
    let now = chrono::Utc::now().format("%a, %d %b %Y %H:%M:%S GMT");
    let signed = format!(
        "PUT{}x-ms-date:{now}\nx-ms-version:2021-08-06\n/{AZURITE_ACCOUNT}/{AZURITE_ACCOUNT}/{resource}",
        "\n".repeat(12)
    );
    let key = data_encoding::BASE64.decode(AZURITE_KEY.as_bytes()).unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
    let tag = data_encoding::BASE64.encode(ring::hmac::sign(&key, signed.as_bytes()).as_ref());
    format!(
        "x-ms-date: {now}\r\nx-ms-version: 2021-08-06\r\n\
         Authorization: SharedKey {AZURITE_ACCOUNT}:{tag}\r\n"
    )
}

/// One request without a client library, which would need a runtime.
fn http(port: u16, method: &str, path: &str, headers: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\n\
         {headers}Connection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// A store takes its settings from the environment, so the suite runs in a child of its own.
fn suite_with(url: &str, environment: &[(&str, &str)]) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store_of_the_environment", "--ignored", "--nocapture"])
        .envs(environment.iter().copied())
        .env("HOLDFAST_TEST_STORE", url)
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn seaweedfs_over_s3() {
    let Some(program) = find("HOLDFAST_WEED", "seaweedfs/venv/bin/weed", "weed") else {
        eprintln!("skipped: weed was not found (set HOLDFAST_WEED)");
        return;
    };
    let server = Server::seaweedfs(program);
    let endpoint = format!("http://127.0.0.1:{}", server.port);
    let environment = [
        ("AWS_ENDPOINT", endpoint.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "any"),
        ("AWS_SECRET_ACCESS_KEY", "any"),
        ("AWS_REGION", "us-east-1"),
        // A certificate bundle that does not exist must not disturb plain http.
        ("AWS_CA_BUNDLE", "/does/not/exist.pem"),
    ];
    suite_with("s3://holdfast/some/prefix", &environment);
}

#[test]
fn azurite_for_azure_blobs() {
    let cached = "azurite/node_modules/.bin/azurite-blob";
    let Some(program) = find("HOLDFAST_AZURITE", cached, "azurite-blob") else {
        eprintln!("skipped: azurite-blob was not found (set HOLDFAST_AZURITE)");
        return;
    };
    let server = Server::azurite(program);
    let endpoint = format!("http://127.0.0.1:{}", server.port);
    let environment = [
        ("AZURE_STORAGE_USE_EMULATOR", "true"),
        ("AZURITE_BLOB_STORAGE_URL", endpoint.as_str()),
        ("AZURE_ALLOW_HTTP", "true"),
    ];
    suite_with("az://holdfast/some/prefix", &environment);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run with a server by the test of that server"]
async fn store_of_the_environment() {
    let url = std::env::var("HOLDFAST_TEST_STORE").unwrap();
    let url = RepositoryUrl::parse(&url).unwrap();
    suite(Store::open(&url).await.unwrap()).await;
}
