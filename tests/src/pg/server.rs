//! A server's life: made, started, stopped, started again, promoted, gone.

use super::{Account, Binaries, TestCa, template, template::Layout};
use crate::{
    guard::Guard,
    places::{self, free_port},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    ffi::OsStr,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long a server may take to start or stop. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_mins(1);

/// The files that say how a server works.
const CONFIGURATION: [&str; 3] = ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"];

/// How a server is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Waits for clients (SIGTERM).
    Smart,
    /// Disconnects clients and writes a shutdown checkpoint (SIGINT).
    Fast,
    /// As after a crash: recovery at the next start (SIGQUIT).
    Immediate,
}

/// What a new server is to be like.
#[derive(Clone, Debug)]
pub struct Builder {
    major: u32,
    layout: Layout,
    configuration: Vec<String>,
    access: Vec<String>,
    tls: bool,
    password: Option<String>,
    adopted: Option<PathBuf>,
    outside: bool,
}

impl Builder {
    fn new(major: u32) -> Self {
        Self {
            major,
            layout: Layout { checksums: true, wal_segment_size: 16 },
            configuration: Vec::new(),
            access: Vec::new(),
            tls: false,
            password: None,
            adopted: None,
            outside: false,
        }
    }

    /// Keeps the configuration files outside the data directory, as Debian does.
    #[must_use]
    pub fn configuration_outside(mut self) -> Self {
        self.outside = true;
        self
    }

    /// Adds a line to `postgresql.conf`, such as `wal_level = logical`.
    #[must_use]
    pub fn config(mut self, line: impl Into<String>) -> Self {
        self.configuration.push(line.into());
        self
    }

    /// Adds a line to `pg_hba.conf`. With any such line given, none of the usual ones for TCP
    /// (trust from loopback) remain; the socket stays open to the tests.
    #[must_use]
    pub fn hba(mut self, line: impl Into<String>) -> Self {
        self.access.push(line.into());
        self
    }

    /// Data checksums, on unless said otherwise.
    #[must_use]
    pub fn checksums(mut self, on: bool) -> Self {
        self.layout.checksums = on;
        self
    }

    /// WAL segment size in MiB: a power of two from 1 to 1024, usually 16.
    #[must_use]
    pub fn wal_segment_size(mut self, mebibytes: u32) -> Self {
        self.layout.wal_segment_size = mebibytes;
        self
    }

    /// Takes TLS connections, with a certificate for `localhost` and the loopback addresses from
    /// an authority of its own ([`TestServer::ca`]).
    #[must_use]
    pub fn ssl(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Gives the superuser `postgres` a password. Whether it is asked for is a matter of
    /// [`Self::hba`].
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Runs an existing data directory (a restored or copied one) instead of a new one. It is
    /// handed to the server account and stays in place when the server is dropped. Lines of
    /// configuration and access are added to what it has.
    #[must_use]
    pub fn data_directory(mut self, data: impl Into<PathBuf>) -> Self {
        self.adopted = Some(data.into());
        self
    }

    /// Makes the server and waits until it takes connections.
    pub fn start(self) -> io::Result<TestServer> {
        let mut server = self.prepare()?;
        server.start_again()?;
        if let Some(password) = &self.password {
            let quoted = password.replace('\'', "''");
            server.psql(&format!("ALTER ROLE postgres PASSWORD '{quoted}'"))?;
        }
        Ok(server)
    }

    /// Makes everything but does not start the server: for directories that are to fail.
    pub fn prepare(&self) -> io::Result<TestServer> {
        let account = Account::for_servers()?;
        let binaries = Binaries::find(self.major)?.reachable_for(&account)?;
        let home = places::temporary("hf-pg-")?;
        // Readable for all: a client of another account must reach the socket.
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755))?;
        let socket_folder = home.path().join("s");
        fs::create_dir(&socket_folder)?;
        account.take_over(home.path())?;

        let data = self.adopted.clone().unwrap_or_else(|| home.path().join("data"));
        if self.adopted.is_some() {
            account.take_over(&data)?;
            fs::set_permissions(&data, fs::Permissions::from_mode(0o700))?;
        } else {
            template::create(&binaries, &account, self.layout, &data)?;
        }
        let mut server = TestServer {
            binaries,
            account,
            configuration: data.clone(),
            data,
            socket_folder,
            port: free_port()?,
            tls: None,
            password: self.password.clone(),
            running: None,
            home,
        };
        self.configure(&mut server)?;
        Ok(server)
    }

    fn configure(&self, server: &mut TestServer) -> io::Result<()> {
        let mut configuration = String::new();
        if self.tls {
            let folder = server.home.path().join("tls");
            let ca = TestCa::new(&folder)?;
            let (certificate, key) =
                ca.issue("localhost", &["DNS:localhost", "IP:127.0.0.1", "IP:0:0:0:0:0:0:0:1"])?;
            fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
            server.account.take_over(&folder)?;
            let certificate = certificate.display();
            let (key, authority) = (key.display(), ca.certificate());
            let _ = writeln!(
                configuration,
                "ssl = on\nssl_cert_file = '{certificate}'\nssl_key_file = '{key}'\n\
                 ssl_ca_file = '{}'",
                authority.display()
            );
            server.tls = Some(ca);
        }
        for line in &self.configuration {
            configuration.push_str(line);
            configuration.push('\n');
        }
        append(&server.data.join("postgresql.conf"), &configuration)?;

        let access = server.data.join("pg_hba.conf");
        if !self.access.is_empty() {
            let lines = self.access.join("\n");
            let socket = "local all all trust\nlocal replication all trust\n";
            fs::write(access, format!("{socket}{lines}\n"))?;
        }
        if self.outside {
            let folder = server.home.path().join("etc");
            fs::create_dir(&folder)?;
            for name in CONFIGURATION {
                fs::rename(server.data.join(name), folder.join(name))?;
            }
            server.account.take_over(&folder)?;
            server.configuration = folder;
        }
        Ok(())
    }
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    write!(fs::OpenOptions::new().append(true).open(path)?, "\n{text}")
}

/// A private PostgreSQL server. Stopped (immediately) and removed on drop.
#[derive(Debug)]
pub struct TestServer {
    pub(super) binaries: Binaries,
    account: Account,
    data: PathBuf,
    /// Where its configuration files are.
    configuration: PathBuf,
    pub(super) socket_folder: PathBuf,
    pub(super) port: u16,
    tls: Option<TestCa>,
    pub(super) password: Option<String>,
    running: Option<Running>,
    // Last: the folder goes when nothing runs in it any more.
    pub(super) home: TempDir,
}

#[derive(Debug)]
struct Running {
    postmaster: Child,
    _guard: Guard,
}

/// How one attempt to start ended.
enum Attempt {
    Ready,
    PortTaken,
}

impl TestServer {
    /// A server of a major version with everything as usual.
    pub fn start(major: u32) -> io::Result<Self> {
        Self::builder(major).start()
    }

    /// A server to be described further.
    pub fn builder(major: u32) -> Builder {
        Builder::new(major)
    }

    /// A streaming standby of `primary`, following it through the slot `slot` if one is named.
    pub fn standby_of(primary: &Self, slot: Option<&str>) -> io::Result<Self> {
        let mut standby = Self {
            binaries: primary.binaries.clone(),
            account: primary.account.clone(),
            data: PathBuf::new(),
            configuration: PathBuf::new(),
            socket_folder: PathBuf::new(),
            port: free_port()?,
            tls: None,
            password: primary.password.clone(),
            running: None,
            home: places::temporary("hf-pg-")?,
        };
        fs::set_permissions(standby.home.path(), fs::Permissions::from_mode(0o755))?;
        standby.socket_folder = standby.home.path().join("s");
        standby.data = standby.home.path().join("data");
        standby.configuration.clone_from(&standby.data);
        fs::create_dir(&standby.socket_folder)?;
        let mut copy = primary.command("pg_basebackup");
        copy.arg("--pgdata").arg(&standby.data);
        copy.args(["--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf"]);
        copy.arg("--no-sync");
        if let Some(slot) = slot {
            copy.args(["--slot", slot]);
        }
        template::run(&mut copy)?;
        standby.account.take_over(standby.home.path())?;
        standby.start_again()?;
        Ok(standby)
    }

    /// Starts a stopped server and waits until it takes connections (of readers only, when it is
    /// a standby).
    pub fn start_again(&mut self) -> io::Result<()> {
        for _ in 0..5 {
            match self.attempt()? {
                Attempt::Ready => return Ok(()),
                Attempt::PortTaken => self.port = free_port()?,
            }
        }
        Err(io::Error::other("five free ports were all taken by others"))
    }

    fn attempt(&mut self) -> io::Result<Attempt> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let log_began = log.metadata()?.len();
        let mut command = Command::new(self.binaries.program("postgres"));
        // Addresses, and what only makes tests slow, stand on the command line: a copy of the
        // data directory does not inherit them.
        command
            .arg("-D")
            .arg(&self.data)
            .args(["-p", &self.port.to_string()])
            .args(["-c", "listen_addresses=127.0.0.1"])
            .args(["-c", &format!("unix_socket_directories={}", self.socket_folder.display())])
            .args(["-c", "fsync=off", "-c", "shared_buffers=32MB", "-c", "logging_collector=off"])
            .args(["-c", "log_destination=stderr", "-c", "log_timezone=UTC"])
            .current_dir(self.home.path())
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        if self.configuration != self.data {
            for (setting, name) in
                ["config_file", "hba_file", "ident_file"].iter().zip(CONFIGURATION)
            {
                let file = self.configuration.join(name);
                command.args(["-c", &format!("{setting}={}", file.display())]);
            }
        }
        if let Some(libraries) = self.binaries.own_libraries() {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        self.account.apply(&mut command);
        let postmaster = command.spawn()?;
        let pid = postmaster.id().to_string();
        let guard = Guard::new(
            "kill -QUIT \"$1\"; i=0; while kill -0 \"$1\" && [ $i -lt 50 ]; do sleep 0.1; \
             i=$((i+1)); done; kill -KILL \"$1\"; rm -rf -- \"$2\"",
            &[OsStr::new(&pid), self.home.path().as_os_str()],
        )?;
        self.running = Some(Running { postmaster, _guard: guard });

        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.says_ready(&pid) {
                return Ok(Attempt::Ready);
            }
            if let Some(status) = self.exited()? {
                let log = fs::read(self.log_path())?;
                let said = String::from_utf8_lossy(
                    log.get(usize::try_from(log_began).unwrap_or(0)..).unwrap_or_default(),
                )
                .into_owned();
                if said.contains("could not bind") {
                    return Ok(Attempt::PortTaken);
                }
                return Err(io::Error::other(format!("postgres ended ({status}):\n{said}")));
            }
            if Instant::now() > deadline {
                self.kill()?;
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("postgres is not ready after {PATIENCE:?}:\n{}", self.log()),
                ));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The postmaster writes its state into the eighth line of its lock file
    /// (src/include/utils/pidfile.h): `ready`, or `standby` when it serves readers.
    fn says_ready(&self, pid: &str) -> bool {
        let Ok(text) = fs::read_to_string(self.data.join("postmaster.pid")) else { return false };
        let mut lines = text.lines();
        lines.next().map(str::trim) == Some(pid)
            && matches!(lines.nth(6).map(str::trim), Some("ready" | "standby"))
    }

    fn exited(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some(running) = &mut self.running else { return Ok(None) };
        let status = running.postmaster.try_wait()?;
        if status.is_some() {
            self.running = None;
        }
        Ok(status)
    }

    /// Stops the server and waits until it is gone. Nothing happens when it does not run.
    pub fn stop(&mut self, mode: StopMode) -> io::Result<()> {
        self.signal(match mode {
            StopMode::Smart => Signal::TERM,
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        })?;
        self.wait_until_gone()
    }

    /// Waits until the server has ended by itself (or by [`Self::signal`]).
    pub fn wait_until_gone(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.running.is_some() && self.exited()?.is_none() {
            if Instant::now() > deadline {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("postgres does not stop:\n{}", self.log()),
                ));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Sends a signal to the postmaster and does not wait.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let Some(running) = &self.running else { return Ok(()) };
        let pid = i32::try_from(running.postmaster.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("a process id out of range"))?;
        Ok(kill_process(pid, signal)?)
    }

    /// Kills the postmaster (SIGKILL); its children notice and end.
    pub fn kill(&mut self) -> io::Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        running.postmaster.kill()?;
        running.postmaster.wait().map(|_| ())
    }

    /// Stops and starts.
    pub fn restart(&mut self, mode: StopMode) -> io::Result<()> {
        self.stop(mode)?;
        self.start_again()
    }

    /// Makes a standby a primary and waits for it.
    pub fn promote(&self) -> io::Result<()> {
        match self.psql("SELECT pg_promote(true, 60)")?.as_str() {
            "t" => Ok(()),
            other => Err(io::Error::other(format!("pg_promote answered {other}:\n{}", self.log()))),
        }
    }

    /// The folder of its configuration files: the data directory, unless they were put elsewhere.
    pub fn configuration(&self) -> &Path {
        &self.configuration
    }

    /// Adds a line to `postgresql.conf` and has it read again. Some settings want a restart.
    pub fn configure(&self, line: &str) -> io::Result<()> {
        append(&self.configuration.join("postgresql.conf"), &format!("{line}\n"))?;
        if self.is_running() {
            self.psql("SELECT pg_reload_conf()")?;
        }
        Ok(())
    }

    /// Whether it was started and not stopped since.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The postmaster's process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.postmaster.id())
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The folder of this server alone; what a test puts there goes with it. Belongs to the
    /// server account: for tablespaces and archives.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A new folder under [`Self::home`] that the server may write: for a tablespace or archive.
    pub fn new_folder(&self, name: &str) -> io::Result<PathBuf> {
        let folder = self.home.path().join(name);
        fs::create_dir(&folder)?;
        self.account.take_over(&folder)?;
        Ok(folder)
    }

    /// Its programs.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The account it runs under.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The TCP port on 127.0.0.1, also part of the socket's name.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the socket: a host name for libpq.
    pub fn socket_folder(&self) -> &Path {
        &self.socket_folder
    }

    /// The authority behind the server's certificate, with [`Builder::ssl`].
    pub fn ca(&self) -> Option<&TestCa> {
        self.tls.as_ref()
    }

    fn log_path(&self) -> PathBuf {
        self.home.path().join("server.log")
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        fs::read(self.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if self.stop(StopMode::Immediate).is_err() {
            let _ = self.kill();
        }
    }
}
