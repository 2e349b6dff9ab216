//! A throwaway PostgreSQL server.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use holdfast_wire::{Connection, Dsn, SessionKind, WireError};
use secrecy::SecretString;
use tempfile::TempDir;

/// The binaries of one major version.
#[derive(Clone)]
pub(crate) struct Installation {
    pub(crate) major: u32,
    bin: PathBuf,
    /// Whom to run as: postgres refuses root.
    run_as: Option<(u32, u32)>,
}

impl Installation {
    /// Looks in `HOLDFAST_PG_BIN_<major>`, the project's cache, and Debian's place.
    pub(crate) fn find(major: u32) -> Option<Self> {
        let named = std::env::var_os(format!("HOLDFAST_PG_BIN_{major}")).map(PathBuf::from);
        let cached = std::env::var_os("HOME")
            .map(|home| Path::new(&home).join(format!(".cache/holdfast/postgresql/{major}/bin")));
        let debian = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
        let bin = [named, cached, Some(debian)]
            .into_iter()
            .flatten()
            .find(|bin| bin.join("postgres").exists())?;
        let run_as = rootless_user();
        let installation = Self { major, bin, run_as };
        Some(if installation.is_reachable() { installation } else { installation.copied() })
    }

    /// As [`Installation::find`], for the majors that must be there.
    pub(crate) fn required(major: u32) -> Self {
        Self::find(major).unwrap_or_else(|| {
            panic!("no PostgreSQL {major}: set HOLDFAST_PG_BIN_{major} to the directory of its programs")
        })
    }

    fn is_reachable(&self) -> bool {
        self.command("postgres").arg("--version").output().is_ok_and(|out| out.status.success())
    }

    /// Copies the whole tree to where the other user can read it; once for all tests.
    fn copied(self) -> Self {
        let root = self.bin.parent().expect("a bin directory has a parent");
        let target = std::env::temp_dir().join(format!("holdfast-test-postgresql-{}", self.major));
        if !target.join("bin/postgres").exists() {
            let fresh = tempfile::tempdir().unwrap();
            make_readable(fresh.path());
            let copy = fresh.path().join("tree");
            let done = Command::new("cp").arg("-a").arg(root).arg(&copy).status().unwrap();
            assert!(done.success());
            // Another test may have been quicker: its copy is as good.
            let _ = fs::rename(&copy, &target);
        }
        Self { bin: target.join("bin"), ..self }
    }

    /// A program of this version, run as a user that postgres accepts, without this process's `PG…`.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
            command.env_remove(name);
        }
        command.env("LC_ALL", "C").current_dir("/").stdin(Stdio::null());
        #[cfg(unix)]
        if let Some((uid, gid)) = self.run_as {
            use std::os::unix::process::CommandExt as _;
            command.uid(uid).gid(gid);
        }
        command
    }

    fn give(&self, path: &Path) {
        if let Some((uid, gid)) = self.run_as {
            std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
        }
    }
}

/// The user `postgres`, when this process is root.
fn rootless_user() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt as _;
    let probe = tempfile::tempfile().unwrap();
    if probe.metadata().unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn make_readable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn run(command: &mut Command) -> String {
    let out = command.output().unwrap();
    assert!(
        out.status.success(),
        "{command:?}\n{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// What a new server is like.
#[derive(Default, Clone)]
pub(crate) struct Setup {
    /// Lines of `pg_hba.conf`, after those for the administrator's socket.
    pub(crate) hba: Vec<String>,
    /// Lines of `postgresql.conf`.
    pub(crate) conf: Vec<String>,
    pub(crate) initdb: Vec<String>,
    /// `ssl_cert_file`, `ssl_key_file`, and perhaps `ssl_ca_file`.
    pub(crate) tls: Option<(PathBuf, PathBuf, Option<PathBuf>)>,
}

impl Setup {
    pub(crate) fn hba(lines: &[&str]) -> Self {
        Self { hba: lines.iter().map(|line| (*line).to_owned()).collect(), ..Self::default() }
    }

    pub(crate) fn conf(mut self, line: &str) -> Self {
        self.conf.push(line.to_owned());
        self
    }

    pub(crate) fn initdb(mut self, argument: &str) -> Self {
        self.initdb.push(argument.to_owned());
        self
    }
}

pub(crate) struct Server {
    pub(crate) installation: Installation,
    pub(crate) port: u16,
    running: bool,
    folder: TempDir,
}

impl Server {
    pub(crate) fn start(major: u32, setup: &Setup) -> Self {
        Self::start_with(Installation::required(major), setup)
    }

    pub(crate) fn start_with(installation: Installation, setup: &Setup) -> Self {
        let mut server = Self::empty(installation);
        let data = server.data();
        run(server
            .installation
            .command("initdb")
            .args(["-D", path(&data), "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8"])
            .args(["--locale=C"])
            .args(&setup.initdb));
        server.configure(setup);
        server.run();
        server
    }

    /// A directory for a server that does not exist yet.
    pub(crate) fn empty(installation: Installation) -> Self {
        let folder = tempfile::Builder::new().prefix("hf").tempdir().unwrap();
        make_readable(folder.path());
        installation.give(folder.path());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { installation, port, running: false, folder }
    }

    pub(crate) fn configure(&self, setup: &Setup) {
        let mut hba = String::from("local all postgres trust\nlocal replication postgres trust\n");
        for line in &setup.hba {
            hba.push_str(line);
            hba.push('\n');
        }
        fs::write(self.data().join("pg_hba.conf"), hba).unwrap();
        let mut conf = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\nfsync = off\n\
             shared_buffers = '16MB'\nmax_wal_senders = 5\nautovacuum = off\n",
            self.port,
            path(self.folder.path())
        );
        if let Some((certificate, key, authority)) = &setup.tls {
            conf.push_str("ssl = on\n");
            let mut put = |setting: &str, file: &Path, mode: u32| {
                use std::os::unix::fs::PermissionsExt as _;
                let target = self.data().join(file.file_name().unwrap());
                fs::copy(file, &target).unwrap();
                fs::set_permissions(&target, fs::Permissions::from_mode(mode)).unwrap();
                self.installation.give(&target);
                writeln!(conf, "{setting} = '{}'", path(&target)).unwrap();
            };
            put("ssl_cert_file", certificate, 0o644);
            put("ssl_key_file", key, 0o600);
            if let Some(authority) = authority {
                put("ssl_ca_file", authority, 0o644);
            }
        }
        for line in &setup.conf {
            conf.push_str(line);
            conf.push('\n');
        }
        let file = self.data().join("postgresql.conf");
        let old = fs::read_to_string(&file).unwrap();
        fs::write(&file, old + "\n" + &conf).unwrap();
    }

    pub(crate) fn run(&mut self) {
        let (data, log) = (self.data(), self.log());
        let started = self
            .installation
            .command("pg_ctl")
            .args(["-D", path(&data), "-l", path(&log), "-w", "-t", "60", "start"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(started.success(), "{}", fs::read_to_string(log).unwrap_or_default());
        self.running = true;
    }

    pub(crate) fn stop(&mut self, mode: &str) {
        let data = self.data();
        run(self.installation.command("pg_ctl").args([
            "-D",
            path(&data),
            "-m",
            mode,
            "-w",
            "stop",
        ]));
        self.running = false;
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The directory of the socket.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A new directory that the server may write to.
    pub(crate) fn make_folder(&self, path: &Path) {
        fs::create_dir(path).unwrap();
        self.installation.give(path);
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// A program of the server's version with its output.
    pub(crate) fn tool(&self, program: &str, arguments: &[&str]) -> String {
        run(self.installation.command(program).args(arguments))
    }

    /// `host=… port=…` of the Unix socket, and `more`.
    pub(crate) fn socket(&self, more: &str) -> Dsn {
        dsn(&format!("host={} port={} {more}", path(self.folder.path()), self.port))
    }

    /// `hostaddr=127.0.0.1 port=…`, and `more`.
    pub(crate) fn tcp(&self, more: &str) -> Dsn {
        dsn(&format!("hostaddr=127.0.0.1 port={} {more}", self.port))
    }

    /// The administrator's session of a kind.
    pub(crate) async fn admin(&self, kind: SessionKind) -> Connection {
        let dsn = self.socket("user=postgres dbname=postgres");
        Connection::connect(&dsn, None, kind).await.unwrap()
    }

    /// Runs statements as the administrator.
    pub(crate) async fn sql(&self, sql: &str) -> Option<String> {
        let mut admin = self.admin(SessionKind::Sql).await;
        let value = admin.query_value(sql).await.unwrap();
        admin.close().await;
        value
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.running {
            let data = self.data();
            let _ = self
                .installation
                .command("pg_ctl")
                .args(["-D", path(&data), "-m", "immediate", "-w", "stop"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
    }
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

pub(crate) fn dsn(text: &str) -> Dsn {
    Dsn::parse(text, &|_| None).unwrap()
}

pub(crate) fn secret(text: &str) -> SecretString {
    SecretString::from(text.to_owned())
}

/// The code of the failure to connect, or `ok`.
pub(crate) async fn outcome(dsn: &Dsn, password: Option<&str>, kind: SessionKind) -> &'static str {
    let password = password.map(secret);
    match Connection::connect(dsn, password.as_ref(), kind).await {
        Ok(connection) => {
            connection.close().await;
            "ok"
        }
        Err(error) => {
            assert!(!error.hint().is_empty());
            error.code()
        }
    }
}

pub(crate) fn error_of<T>(result: Result<T, WireError>) -> WireError {
    match result {
        Ok(_) => panic!("this should have failed"),
        Err(error) => error,
    }
}
