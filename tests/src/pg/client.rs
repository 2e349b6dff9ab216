//! Talking to a test server with PostgreSQL's own programs, independent of the product.

use super::{TestServer, template::run};
use std::{
    env,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Separators and the mark of NULL in psql's output: control characters that no test data has.
const FIELD: char = '\u{1f}';
const RECORD: char = '\u{1e}';
const NULL: &str = "\u{1d}";

impl TestServer {
    /// A client program of this version, connected over the socket as the superuser through the
    /// environment; nothing else of libpq's environment is inherited.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.program(program));
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("PG")) {
                command.env_remove(name);
            }
        }
        command
            .env("PGHOST", &self.socket_folder)
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", "postgres")
            .env("PGCONNECT_TIMEOUT", "30")
            .env("PGAPPNAME", "holdfast-tests");
        if let Some(password) = &self.password {
            command.env("PGPASSWORD", password);
        }
        command
    }

    /// Runs SQL in the database `postgres`: the values of the rows, `|` between fields, without
    /// headings and trailing newline. Stops at the first error and returns it.
    pub fn psql(&self, sql: &str) -> io::Result<String> {
        self.psql_in("postgres", sql)
    }

    /// [`Self::psql`] in another database.
    pub fn psql_in(&self, database: &str, sql: &str) -> io::Result<String> {
        self.psql_at(&format!("dbname='{}'", database.replace('\'', "\\'")), sql)
    }

    /// [`Self::psql`] elsewhere, such as on a restored copy: what the connection string does not say is
    /// that of this server's superuser.
    pub fn psql_at(&self, dsn: &str, sql: &str) -> io::Result<String> {
        let mut command = self.quiet_psql();
        command.args(["--dbname", dsn, "--command", sql]);
        let told = run(&mut command)?;
        Ok(String::from_utf8_lossy(&told.stdout).trim_end_matches('\n').to_owned())
    }

    /// Runs one query: rows of fields, `None` for NULL.
    pub fn query(&self, sql: &str) -> io::Result<Vec<Vec<Option<String>>>> {
        let mut command = self.quiet_psql();
        command
            .arg(format!("--field-separator={FIELD}"))
            .arg(format!("--record-separator={RECORD}"))
            .arg(format!("--pset=null={NULL}"))
            .args(["--command", sql]);
        let told = run(&mut command)?;
        let text = String::from_utf8_lossy(&told.stdout);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let field = |text: &str| (text != NULL).then(|| text.to_owned());
        Ok(text.split(RECORD).map(|row| row.split(FIELD).map(field).collect()).collect())
    }

    fn quiet_psql(&self) -> Command {
        let mut command = self.command("psql");
        command
            .args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"])
            .arg("--set=ON_ERROR_STOP=1");
        command
    }

    /// Creates pgbench's tables; scale 1 is about 15 MB.
    pub fn pgbench_init(&self, scale: u32) -> io::Result<()> {
        let mut command = self.command("pgbench");
        command.args(["--initialize", "--quiet", "--scale", &scale.to_string()]);
        run(&mut command).map(|_| ())
    }

    /// Runs pgbench to its end with these arguments, such as `["-t", "100"]`. pgbench draws from
    /// a fixed seed unless told otherwise.
    pub fn pgbench(&self, arguments: &[&str]) -> io::Result<String> {
        let mut command = self.command("pgbench");
        command.args(["--no-vacuum", "--random-seed=7"]).args(arguments);
        Ok(String::from_utf8_lossy(&run(&mut command)?.stdout).into_owned())
    }

    /// pgbench to be started beside the test: spawn it, and end it yourself.
    pub fn pgbench_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command("pgbench");
        command.args(["--no-vacuum", "--random-seed=7"]).args(arguments);
        command
    }

    /// The current WAL insert position, such as `0/1A2B3C8`.
    pub fn wal_position(&self) -> io::Result<String> {
        self.psql("SELECT pg_current_wal_insert_lsn()")
    }

    /// Connection text in libpq's `key=value` form over TCP, without a password.
    pub fn dsn(&self) -> String {
        self.dsn_at("127.0.0.1", self.port)
    }

    /// The same over the socket.
    pub fn dsn_socket(&self) -> String {
        self.dsn_at(&self.socket_folder.display().to_string(), self.port)
    }

    /// The same to another address, such as a [`crate::proxy::FaultProxy`] in front of it.
    pub fn dsn_at(&self, host: &str, port: u16) -> String {
        format!("host={host} port={port} user=postgres dbname=postgres")
    }

    /// Where it listens.
    pub fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The path of `pg_verifybackup`.
    pub fn pg_verifybackup(&self) -> PathBuf {
        self.binaries.program("pg_verifybackup")
    }

    /// The path of `pg_waldump`.
    pub fn pg_waldump(&self) -> PathBuf {
        self.binaries.program("pg_waldump")
    }

    /// The path of `pg_controldata`.
    pub fn pg_controldata(&self) -> PathBuf {
        self.binaries.program("pg_controldata")
    }

    /// Checks a plain backup with PostgreSQL's own verifier; the error holds its findings.
    pub fn verify_backup(&self, folder: &Path, arguments: &[&str]) -> io::Result<()> {
        self.offline("pg_verifybackup", arguments, folder).map(|_| ())
    }

    /// One value of pg_controldata, such as `Database system identifier`.
    pub fn control_value(&self, folder: &Path, label: &str) -> io::Result<String> {
        let told = self.offline("pg_controldata", &[], folder)?;
        let text = String::from_utf8_lossy(&told.stdout).into_owned();
        text.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.trim() == label)
            .map(|(_, value)| value.trim().to_owned())
            .ok_or_else(|| io::Error::other(format!("pg_controldata shows no {label}")))
    }

    fn offline(&self, program: &str, arguments: &[&str], folder: &Path) -> io::Result<Output> {
        let mut command = Command::new(self.binaries.program(program));
        command.args(arguments).arg(OsStr::new(folder)).env("LC_ALL", "C");
        run(&mut command)
    }

    /// Adds a table of documents (text and JSON with repetitions and noise, as real ones have;
    /// about 1.2 kB a row with its indexes), `rows` rows, the same for the same number.
    pub fn add_documents(&self, rows: u32) -> io::Result<()> {
        self.psql(&format!(
            "CREATE TABLE docs (id bigint PRIMARY KEY, title text NOT NULL, body text NOT NULL,
                                facts jsonb NOT NULL, at timestamptz NOT NULL);
             INSERT INTO docs
             SELECT i, 'Document ' || i,
                    (SELECT string_agg(md5((i * 31 + j)::text) || ' remains to be settled with ' ||
                                       substr(md5((i % 997 + j)::text), 1, 12), '. ')
                       FROM generate_series(1, 8) j),
                    jsonb_build_object('number', i, 'place', md5((i % 211)::text),
                                       'tags', jsonb_build_array(i % 7, i % 13, md5((i % 53)::text))),
                    timestamptz '2026-01-01 00:00:00+00' + i * interval '1 minute'
               FROM generate_series(1, {rows}) i;
             CREATE INDEX docs_at ON docs (at);
             CREATE INDEX docs_facts ON docs USING gin (facts jsonb_path_ops);"
        ))
        .map(|_| ())
    }
}
