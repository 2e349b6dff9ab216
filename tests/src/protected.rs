//! A server that Holdfast looks after, driven through the command and its JSON only: a private
//! home, a repository, one cluster, and restored copies that go away with their test.

use crate::{
    cli::{Cli, Finished},
    pg::TestServer,
    places::files_below,
    wait_for,
};
use serde_json::Value;
use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// What the cluster is called in every test.
pub const CLUSTER: &str = "shop";
/// What unlocks the repositories of the tests.
pub const PASSPHRASE: &str = "one passphrase for every test";

/// A running server, its cluster's name in a home of its own, and a repository.
#[derive(Debug)]
pub struct Protected {
    /// The server.
    pub server: TestServer,
    /// The command with its home and passphrase.
    pub cli: Cli,
    url: String,
    root: TempDir,
}

impl Protected {
    /// Creates a repository in a folder and adds the server to it.
    pub fn new(server: TestServer) -> io::Result<Self> {
        let dsn = server.dsn();
        Self::with(server, &dsn, None, Vec::new())
    }

    /// The same with another way to the server, another repository (a URL), and more environment.
    pub fn with(
        server: TestServer,
        dsn: &str,
        url: Option<&str>,
        environment: Vec<(&str, String)>,
    ) -> io::Result<Self> {
        let root = crate::places::temporary("hf-site-")?;
        let url =
            url.map_or_else(|| root.path().join("repository").display().to_string(), str::to_owned);
        // Both ways of copying are in use: older servers send their files, newer ones are read beside.
        let local_files = if server.binaries().major() <= 15 { "never" } else { "auto" };
        let cli = Cli::new(root.path().join("home"))?
            .env("HOLDFAST_PASSPHRASE", PASSPHRASE)
            .env("HOLDFAST_LOCAL_FILES", local_files)
            .envs(environment.into_iter().map(|(n, v)| (OsString::from(n), OsString::from(v))));
        cli.json(&["repo", "create", &url])?;
        cli.json(&["cluster", "add", CLUSTER, "--dsn", dsn])?;
        Ok(Self { server, cli, url, root })
    }

    /// The folder of this test: home, repository, and whatever the test puts there.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Where the repository is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A path for a restore that does not exist yet.
    pub fn destination(&self, name: &str) -> String {
        self.root.path().join(name).display().to_string()
    }

    /// Takes a backup; its result.
    pub fn backup(&self) -> io::Result<Value> {
        self.cli.json(&["backup", CLUSTER])
    }

    /// Archives everything that the server has flushed; gives how far that is.
    pub fn archive(&self) -> io::Result<String> {
        let flushed = self.server.psql("SELECT pg_current_wal_flush_lsn()")?;
        self.archive_to(&flushed)?;
        Ok(flushed)
    }

    /// Archives up to an LSN.
    pub fn archive_to(&self, lsn: &str) -> io::Result<Value> {
        self.cli.json(&["archive", CLUSTER, "--once-to", lsn])
    }

    /// What the repository, a folder, has of leases of jobs, held or run out.
    pub fn leases(&self) -> io::Result<Vec<PathBuf>> {
        let folder = Path::new(&self.url).join("leases");
        let mut found = if folder.exists() { files_below(&folder)? } else { Vec::new() };
        // The series of whoever removes things always keeps its newest. A clock is no lease, nor is what a folder has
        // of an object that was never put in its place.
        found.retain(|path| {
            let whole = path.extension().is_some_and(|extension| extension == "json");
            whole && !path.starts_with("collection") && !path.starts_with(".clock")
        });
        Ok(found)
    }

    /// What can be restored.
    pub fn points(&self) -> io::Result<Value> {
        self.cli.json(&["points", CLUSTER])
    }

    /// Runs `restore run` with a target into the new folder `name`, with further arguments.
    pub fn restore(&self, target: &str, name: &str, more: &[&str]) -> io::Result<Restored> {
        self.restore_with(&self.cli, target, name, more)
    }

    /// The same with another home or environment.
    pub fn restore_with(
        &self,
        cli: &Cli,
        target: &str,
        name: &str,
        more: &[&str],
    ) -> io::Result<Restored> {
        let destination = self.destination(name);
        let mut arguments =
            vec!["restore", "run", CLUSTER, "--target", target, "--to", &destination];
        arguments.extend_from_slice(more);
        let result = cli.json(&arguments)?;
        Ok(Restored {
            result,
            cli: cli.clone(),
            psql: self.server.binaries().program("psql"),
            gone: false,
        })
    }

    /// Runs `restore run` that is to fail: its exit code and the error object.
    pub fn refusal(
        &self,
        target: &str,
        destination: &str,
        more: &[&str],
    ) -> io::Result<(i32, Value)> {
        let mut arguments =
            vec!["restore", "run", CLUSTER, "--target", target, "--to", destination, "--start"];
        arguments.extend_from_slice(more);
        failure(&self.cli, &arguments)
    }
}

/// Runs a command with `--json` that is to fail: its exit code and the error object.
///
/// # Errors
/// When it succeeds, or does not print exactly one document with an error.
pub fn failure(cli: &Cli, arguments: &[&str]) -> io::Result<(i32, Value)> {
    let mut all = vec!["--json"];
    all.extend_from_slice(arguments);
    let finished: Finished = cli.run(&all)?;
    let error = finished.json()?["error"].clone();
    if finished.code == 0 || !error.is_object() {
        return Err(io::Error::other(format!("{all:?} was to fail: {finished}")));
    }
    for field in ["code", "message", "hint", "retryable", "details"] {
        if error.get(field).is_none() {
            return Err(io::Error::other(format!("the error has no {field}: {error}")));
        }
    }
    Ok((finished.code, error))
}

/// A restored copy; discarded when the test ends, however it ends.
#[derive(Debug)]
pub struct Restored {
    /// The result of `restore run`.
    pub result: Value,
    cli: Cli,
    psql: PathBuf,
    gone: bool,
}

impl Restored {
    /// The job.
    pub fn job(&self) -> &str {
        self.result["job"].as_str().unwrap_or_default()
    }

    /// The copy's data directory.
    pub fn data(&self) -> PathBuf {
        PathBuf::from(self.result["data_directory"].as_str().unwrap_or_default())
    }

    /// The printed connection string of a copy that runs.
    pub fn dsn(&self) -> io::Result<&str> {
        self.result["dsn"]
            .as_str()
            .ok_or_else(|| io::Error::other(format!("no dsn in {}", self.result)))
    }

    /// Runs SQL on the copy with PostgreSQL's own client, through the printed connection string.
    pub fn psql(&self, sql: &str) -> io::Result<String> {
        self.psql_in("postgres", sql)
    }

    /// The same in another database.
    pub fn psql_in(&self, database: &str, sql: &str) -> io::Result<String> {
        let dsn = format!("{} dbname={database}", self.dsn()?);
        let mut command = Command::new(&self.psql);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("PG")) {
                command.env_remove(name);
            }
        }
        let told = command
            .args([
                "--no-psqlrc",
                "--quiet",
                "--no-align",
                "--tuples-only",
                "--set=ON_ERROR_STOP=1",
            ])
            .args(["--command", sql, "--dbname", &dsn])
            .stdin(Stdio::null())
            .output()?;
        if !told.status.success() {
            return Err(io::Error::other(format!(
                "{sql} on the copy: {}",
                String::from_utf8_lossy(&told.stderr)
            )));
        }
        Ok(String::from_utf8_lossy(&told.stdout).trim_end_matches('\n').to_owned())
    }

    /// Keeps the copy as it is: somebody else takes care of it.
    pub fn keep(mut self) -> PathBuf {
        self.gone = true;
        self.data()
    }

    /// `restore discard`, and a look whether really nothing is left.
    ///
    /// # Errors
    /// When the command fails, or a process or a file is left.
    pub fn discard(mut self) -> io::Result<()> {
        self.gone = true;
        let job = self.job().to_owned();
        self.cli.json(&["restore", "discard", &job])?;
        let left = leftovers(&self.data(), self.dsn().ok());
        if left.is_empty() {
            return Ok(());
        }
        Err(io::Error::other(format!("restore discard left {left:?}")))
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        if !self.gone {
            let job = self.job().to_owned();
            if let Err(error) = self.cli.json(&["restore", "discard", &job]) {
                eprintln!("a copy could not be discarded: {error}");
            }
        }
    }
}

/// Waits until no server of a copy runs: whoever started it is dead.
///
/// # Panics
/// When one still runs after a minute.
pub fn no_server_of(data: &Path) {
    wait_for("the private server to end", Duration::from_mins(1), || {
        !leftovers(data, None).iter().any(|left| left.contains("postgres"))
    });
}

/// What there still is of a restore into `data`: processes, the directory, working files beside
/// it, the socket's directory.
pub fn leftovers(data: &Path, dsn: Option<&str>) -> Vec<String> {
    let mut left = Vec::new();
    if data.exists() {
        left.push(data.display().to_string());
    }
    let own = format!(".{}.holdfast-", data.file_name().unwrap_or_default().to_string_lossy());
    for entry in data.parent().and_then(|p| fs::read_dir(p).ok()).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&own) {
            left.push(entry.path().display().to_string());
        }
    }
    let socket = dsn.and_then(|d| d.split_whitespace().find_map(|part| part.strip_prefix("host=")));
    if let Some(folder) = socket.filter(|folder| Path::new(folder).exists()) {
        left.push(folder.to_owned());
    }
    let named = data.display().to_string();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains("postgres") && line.split(' ').any(|word| word == named) {
            left.push(line);
        }
    }
    left
}
