//! A real S3 store: SeaweedFS, private to one test.

use crate::{guard::Guard, places};
use std::{
    ffi::OsStr,
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const ACCESS_KEY: &str = "holdfast-test";
const SECRET_KEY: &str = "holdfast-test-secret-key";

/// How long the store may take until it serves.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running SeaweedFS with its S3 gateway; killed and removed on drop.
#[derive(Debug)]
pub struct SeaweedFs {
    weed: PathBuf,
    server: Child,
    ports: Ports,
    home: TempDir,
    _guard: Guard,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    master: u16,
    master_grpc: u16,
    volume: u16,
    volume_grpc: u16,
    filer: u16,
    filer_grpc: u16,
    s3: u16,
    s3_grpc: u16,
}

impl Ports {
    fn free() -> io::Result<Self> {
        let [master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3, s3_grpc] =
            places::free_ports()?;
        Ok(Self { master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3, s3_grpc })
    }
}

/// The `weed` program: `HOLDFAST_WEED`, `PATH`, or what `cargo xtask setup` fetched.
pub fn find_weed() -> io::Result<PathBuf> {
    let cache = places::cache().join("seaweedfs");
    std::env::var_os("HOLDFAST_WEED")
        .map(PathBuf::from)
        .into_iter()
        .chain(places::on_path("weed"))
        .chain([cache.join("venv/bin/weed"), cache.join("bin/weed")])
        .find(|candidate| places::is_program(candidate))
        .ok_or_else(|| io::Error::other("no SeaweedFS on this machine: run `cargo xtask setup`"))
}

impl SeaweedFs {
    /// Starts a store with one pair of credentials and no buckets, and waits until it takes
    /// writes.
    pub fn start() -> io::Result<Self> {
        let weed = find_weed()?;
        let home = places::temporary("hf-s3-")?;
        let ports = Ports::free()?;
        let identities = serde_json::json!({"identities": [{
            "name": "test",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }]});
        fs::write(home.path().join("s3.json"), identities.to_string())?;
        fs::create_dir(home.path().join("data"))?;
        let log = fs::File::create(home.path().join("log"))?;
        let server = Command::new(&weed)
            .arg("server")
            .arg(format!("-dir={}", home.path().join("data").display()))
            .args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"])
            .arg(format!("-master.port={}", ports.master))
            .arg(format!("-master.port.grpc={}", ports.master_grpc))
            // Small volumes: each is allocated beforehand in numbers.
            .args(["-master.volumeSizeLimitMB=128", "-volume.max=64"])
            .arg(format!("-volume.port={}", ports.volume))
            .arg(format!("-volume.port.grpc={}", ports.volume_grpc))
            .arg(format!("-filer.port={}", ports.filer))
            .arg(format!("-filer.port.grpc={}", ports.filer_grpc))
            .arg(format!("-s3.port={}", ports.s3))
            .arg(format!("-s3.port.grpc={}", ports.s3_grpc))
            // Servers of their own, on ports that every instance would share.
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
            .arg(format!("-s3.config={}", home.path().join("s3.json").display()))
            .current_dir(home.path())
            .env_remove("AWS_CA_BUNDLE")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let pid = server.id().to_string();
        let guard = Guard::new(
            "kill -KILL \"$1\"; sleep 0.2; rm -rf -- \"$2\"",
            &[OsStr::new(&pid), home.path().as_os_str()],
        );
        let mut store = match guard {
            Ok(guard) => Self { weed, server, ports, home, _guard: guard },
            Err(error) => {
                let mut server = server;
                let _ = server.kill();
                return Err(error);
            }
        };
        store.wait_until_ready()?;
        Ok(store)
    }

    fn wait_until_ready(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.server.try_wait()? {
                return Err(io::Error::other(format!("weed ended ({status}):\n{}", self.log())));
            }
            // The master can place objects, the filer lists, and the gateway knows its identities
            // (it answers a request without a signature with a refusal).
            let ready = get(self.ports.master, "/dir/assign")
                .is_ok_and(|answer| answer.contains("\"fid\""))
                && get(self.ports.filer, "/").is_ok_and(|answer| answer.contains(" 200 "))
                && get(self.ports.s3, "/").is_ok_and(|answer| answer.contains(" 403 "));
            if ready {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("SeaweedFS is not ready after {PATIENCE:?}:\n{}", self.log()),
                ));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Creates a bucket.
    pub fn create_bucket(&self, name: &str) -> io::Result<()> {
        self.shell(&format!("s3.bucket.create -name {name}"))
    }

    /// Creates a bucket with versioning and object lock.
    pub fn create_locked_bucket(&self, name: &str) -> io::Result<()> {
        self.shell(&format!("s3.bucket.create -name {name} -withLock"))
    }

    /// Gives a locked bucket a rule: nobody removes within so many days what is put from now on.
    pub fn keep_for(&self, bucket: &str, days: u32) -> io::Result<()> {
        let rule = format!(
            "<ObjectLockConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>COMPLIANCE</Mode>\
             <Days>{days}</Days></DefaultRetention></Rule></ObjectLockConfiguration>"
        );
        let told = Command::new("curl")
            .args(["--silent", "--show-error", "--fail-with-body", "--max-time", "30"])
            .args(["--aws-sigv4", "aws:amz:us-east-1:s3"])
            .args(["--user", &format!("{ACCESS_KEY}:{SECRET_KEY}")])
            .args(["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"])
            .args(["--request", "PUT", "--data", &rule])
            .arg(format!("{}/{bucket}?object-lock=", self.endpoint()))
            .output()?;
        if told.status.success() {
            return Ok(());
        }
        let said = [told.stdout, told.stderr].concat();
        Err(io::Error::other(format!("a rule for {bucket}: {}", String::from_utf8_lossy(&said))))
    }

    /// Runs one command of `weed shell`.
    pub fn shell(&self, line: &str) -> io::Result<()> {
        let mut shell = Command::new(&self.weed)
            .arg("shell")
            .arg(format!("-master=127.0.0.1:{}.{}", self.ports.master, self.ports.master_grpc))
            .arg(format!("-filer=127.0.0.1:{}.{}", self.ports.filer, self.ports.filer_grpc))
            .current_dir(self.home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut input) = shell.stdin.take() {
            writeln!(input, "{line}")?;
        }
        let told = shell.wait_with_output()?;
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&told.stdout),
            String::from_utf8_lossy(&told.stderr)
        );
        // The shell ends well even when a command in it failed.
        if told.status.success() && !said.contains("error") {
            return Ok(());
        }
        Err(io::Error::other(format!("weed shell, {line}: {said}")))
    }

    /// The gateway's address, `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.s3)
    }

    /// Where the gateway listens: for a [`crate::proxy::FaultProxy`] in front of it.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports.s3).into()
    }

    /// Environment variables with which a client finds the store.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        self.env_at(&self.endpoint())
    }

    /// The same with another endpoint in front of the store.
    pub fn env_at(&self, endpoint: &str) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_ENDPOINT_URL", endpoint.to_owned()),
            ("AWS_ENDPOINT", endpoint.to_owned()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }

    /// What the store has logged.
    pub fn log(&self) -> String {
        fs::read(self.home.path().join("log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

impl Drop for SeaweedFs {
    fn drop(&mut self) {
        // An orderly end takes up to ten seconds and saves nothing that is kept.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A plain HTTP GET of a local server: head and body, at most 64 KiB.
fn get(port: u16, path: &str) -> io::Result<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(64 * 1024).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn store_serves_buckets_and_refuses_strangers() {
        let store = SeaweedFs::start().unwrap();
        store.create_bucket("backups").unwrap();
        store.create_locked_bucket("locked").unwrap();
        // A stranger is refused, which also shows that the gateway knows whom to let in.
        assert!(get(store.ports.s3, "/backups").unwrap().contains(" 403 "));
        let listed = get(store.ports.filer, "/buckets/").unwrap();
        assert!(listed.contains("backups") && listed.contains("locked"), "{listed}");
    }
}
