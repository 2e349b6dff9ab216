//! A private PostgreSQL server: started by us, configured by us, reachable from this machine only.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use holdfast_wire::{Connection, Dsn, SessionKind};
use serde::{Deserialize, Serialize};

use super::binaries::ServerBinaries;
use super::identity::RunAs;
use crate::error::{EngineError, Result};

/// How a private server is found again by a later command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServerLocation {
    /// Its data directory.
    pub data_directory: PathBuf,
    /// The private directory of its Unix socket.
    pub socket_directory: PathBuf,
    /// Its port, on the socket and on loopback.
    pub port: u16,
    /// Its bootstrap superuser.
    pub superuser: String,
    /// Which server programs run it.
    pub binaries: ServerBinaries,
    /// Where it logs.
    pub log: PathBuf,
}

impl ServerLocation {
    /// A connection string for whoever runs Holdfast, as superuser, through the private socket.
    pub fn dsn(&self, database: &str) -> String {
        format!(
            "host={} port={} user={} dbname={}",
            quote(&self.socket_directory.to_string_lossy()),
            self.port,
            quote(&self.superuser),
            quote(database)
        )
    }

    /// Connects as superuser.
    ///
    /// # Errors
    /// [`EngineError::Wire`] while the server does not accept connections.
    pub async fn connect(&self, database: &str) -> Result<Connection> {
        let dsn = Dsn::parse(&self.dsn(database), &|_| None)?;
        Ok(Connection::connect(&dsn, None, SessionKind::Sql).await?)
    }

    /// Whether its process is there.
    pub fn is_running(&self) -> bool {
        server_runs_in(&self.data_directory)
    }

    /// Stops it and waits until it is gone, with the directory of its socket; nothing to do when it
    /// does not run.
    ///
    /// # Errors
    /// [`EngineError::Program`] when it does not stop.
    pub async fn stop(&self, run_as: &RunAs) -> Result<()> {
        self.halt(run_as).await?;
        if let Err(error) = std::fs::remove_dir_all(&self.socket_directory)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.socket_directory.display(), %error, "socket directory was left behind");
        }
        Ok(())
    }

    /// Stops it without a shutdown checkpoint, whoever started it. Blocks.
    ///
    /// # Errors
    /// [`EngineError::Program`] when it does not stop.
    pub fn stop_at_once(&self, run_as: &RunAs) -> Result<()> {
        if !self.is_running() {
            return Ok(());
        }
        let mut command = run_as.command(
            &self.binaries.program("pg_ctl"),
            &[self.data_directory.join("PG_VERSION").as_path()],
        );
        command.args(["stop", "-w", "-t", "60", "-m", "immediate", "-D"]).arg(&self.data_directory);
        match run(&mut command, "pg_ctl stop") {
            // It may have ended by itself in between.
            Err(error) if self.is_running() => Err(error),
            _ => Ok(()),
        }
    }

    /// Stops it and waits until it is gone; it may be started again at the same place.
    ///
    /// # Errors
    /// [`EngineError::Program`] when it does not stop.
    pub async fn halt(&self, run_as: &RunAs) -> Result<()> {
        if self.is_running() {
            let location = self.clone();
            let run_as = run_as.clone();
            blocking(move || {
                let mut command = run_as.command(
                    &location.binaries.program("pg_ctl"),
                    &[location.data_directory.join("PG_VERSION").as_path()],
                );
                command
                    .args(["stop", "-w", "-t", "60", "-m", "fast", "-D"])
                    .arg(&location.data_directory);
                let outcome = run(&mut command, "pg_ctl stop");
                if outcome.is_err() { location.stop_at_once(&run_as) } else { Ok(()) }
            })
            .await?;
        }
        Ok(())
    }
}

/// Whether a PostgreSQL server runs in a data directory, whoever started it.
pub fn server_runs_in(data_directory: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(data_directory.join("postmaster.pid")) else {
        return false;
    };
    let Some(pid) = text.lines().next().and_then(|l| l.trim().parse::<u32>().ok()) else {
        return false;
    };
    if cfg!(target_os = "linux") {
        // Another program may have got the number since: only a postgres counts.
        return std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|c| c.trim() == "postgres");
    }
    true
}

/// Ends a server whose starter died: its standard input is a pipe that the starter holds. It is told the
/// server's number, and at last that the server is on its own; when the pipe ends before, nobody is
/// there any more. A starter that died before it could tell the number leaves a server that writes it
/// into its data directory, which is `$1`, a moment later. The file `$2` holds the mark `$3` until somebody
/// else starts a server there: that one is watched by another.
#[cfg(unix)]
const WATCH: &str = r#"trap '' HUP INT TERM
pid=
while read -r word; do
  [ "$word" = keep ] && exit 0
  pid=$word
done
tries=0
while [ -z "$pid" ] && [ "$tries" -lt 50 ]; do
  sleep 0.2
  tries=$((tries + 1))
  [ "$(cat "$2" 2>/dev/null)" = "$3" ] || exit 0
  found=$(head -n 1 "$1/postmaster.pid" 2>/dev/null)
  [ -n "$found" ] || continue
  case $(cat "/proc/$found/comm" 2>/dev/null || ps -o comm= -p "$found" 2>/dev/null) in
    *postgres*) pid=$found ;;
  esac
done
[ -n "$pid" ] || exit 0
kill -QUIT "$pid" 2>/dev/null
tries=0
while kill -0 "$pid" 2>/dev/null && [ "$tries" -lt 100 ]; do tries=$((tries + 1)); sleep 0.1; done
kill -KILL "$pid" 2>/dev/null"#;

/// A small process of its own that outlives this one, to take its server with it.
#[derive(Debug)]
struct Watch(Option<std::process::Child>);

impl Watch {
    /// Begins before the server is started: there is no moment in which nobody watches.
    fn over(location: &ServerLocation) -> Self {
        #[cfg(unix)]
        {
            use std::os::unix::process::CommandExt as _;
            let mark = uuid::Uuid::new_v4().to_string();
            let file = location.log.with_extension("watch");
            if let Err(error) = std::fs::write(&file, &mark) {
                tracing::warn!(%error, "a private server may be watched over too shortly");
            }
            let started = std::process::Command::new("/bin/sh")
                .args(["-c", WATCH, "holdfast-watch"])
                .arg(&location.data_directory)
                .arg(&file)
                .arg(&mark)
                .process_group(0)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            if let Err(error) = &started {
                tracing::warn!(%error, "a private server is not watched over");
            }
            Self(started.ok())
        }
        #[cfg(not(unix))]
        {
            let _ = location;
            Self(None)
        }
    }

    fn tell(&mut self, word: &str) {
        if let Some(pipe) = self.0.as_mut().and_then(|child| child.stdin.as_mut()) {
            let _ = std::io::Write::write_all(pipe, format!("{word}\n").as_bytes());
        }
    }

    /// The server is on its own from now on. Blocks until the watch has gone.
    fn dismiss(&mut self) {
        self.tell("keep");
        if let Some(mut child) = self.0.take() {
            let _ = child.wait();
        }
    }
}

/// A started server whose process this program is the parent of. When it is dropped, or this process
/// dies, the server is stopped at once.
#[derive(Debug)]
pub struct PrivateServer {
    /// How it is found.
    pub location: ServerLocation,
    child: std::process::Child,
    watch: Watch,
}

impl PrivateServer {
    /// Starts `postgres` on `location` with `settings` given on its command line, where nothing in
    /// the data directory can override them.
    ///
    /// # Errors
    /// [`EngineError::File`] when the program or its log cannot be opened.
    pub fn start(
        location: ServerLocation,
        settings: &[(String, String)],
        run_as: &RunAs,
    ) -> Result<Self> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&location.log)
            .map_err(EngineError::file("create", &location.log))?;
        let also = log.try_clone().map_err(EngineError::file("open", &location.log))?;
        let program = location.binaries.program("postgres");
        let mut command =
            run_as.command(&program, &[location.data_directory.join("PG_VERSION").as_path()]);
        command.arg("-D").arg(&location.data_directory);
        for (name, value) in settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        // Its own process group: a Ctrl-C at the terminal is ours to handle, not the server's.
        #[cfg(unix)]
        {
            use std::os::unix::process::CommandExt as _;
            command.process_group(0);
        }
        command.env_remove("PGDATA").env("LC_MESSAGES", "C");
        let mut watch = Watch::over(&location);
        let started =
            command.stdin(Stdio::null()).stdout(Stdio::from(log)).stderr(Stdio::from(also)).spawn();
        if started.is_err() {
            watch.dismiss();
        }
        let child = started.map_err(EngineError::file("start", &program))?;
        watch.tell(&child.id().to_string());
        Ok(Self { location, child, watch })
    }

    /// Whether the process has ended; reaps it.
    pub fn has_exited(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Waits until it accepts connections.
    ///
    /// # Errors
    /// [`EngineError::Program`] with the end of its log when it exits instead or takes longer than `limit`.
    pub async fn wait_ready(&mut self, limit: Duration) -> Result<Connection> {
        let began = Instant::now();
        loop {
            if let Ok(connection) = self.location.connect("postgres").await {
                return Ok(connection);
            }
            if self.has_exited() || began.elapsed() > limit {
                return Err(self.failed());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Lets it run on by itself. This process still waits for its end, so that it never stays a zombie.
    pub fn let_go(mut self) {
        self.watch.dismiss();
        std::thread::spawn(move || {
            let _ = self.child.wait();
        });
    }

    /// The server's failure, with what it last said.
    pub fn failed(&self) -> EngineError {
        EngineError::Program {
            program: "the private PostgreSQL server".to_owned(),
            output: log_tail(&self.location.log),
        }
    }

    /// Stops it, waits for its end and reaps it.
    ///
    /// # Errors
    /// [`EngineError::Program`] when it does not stop.
    pub async fn stop(mut self, run_as: &RunAs) -> Result<()> {
        if !self.has_exited() && !self.location.is_running() {
            // It was started this moment and has not written its pid file.
            let _ = self.child.kill();
        }
        let stopped = self.location.stop(run_as).await;
        let _ = tokio::task::spawn_blocking(move || {
            let _ = self.child.wait();
            // The number may be another process's from now on.
            self.watch.dismiss();
        })
        .await;
        stopped
    }
}

/// The last lines of a server log, most telling first when it died.
pub fn log_tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    // What a command of the server's said of a full disk is the cause of what the server says then.
    let telling = ["FATAL:", "PANIC:", "No space left on device"];
    let fatal: Vec<_> =
        lines.iter().filter(|line| telling.iter().any(|t| line.contains(t))).copied().collect();
    let chosen = if fatal.is_empty() {
        &lines[lines.len().saturating_sub(8)..]
    } else {
        &fatal[fatal.len().saturating_sub(3)..]
    };
    chosen.join("\n")
}

/// Runs a PostgreSQL program to its end.
///
/// # Errors
/// [`EngineError::Program`] with what it printed.
pub fn run(command: &mut std::process::Command, name: &str) -> Result<String> {
    output_of(command.stdin(Stdio::null()).output(), name)
}

/// What a program printed that has ended well.
///
/// # Errors
/// [`EngineError::Program`] with what it printed, or why it did not start.
pub fn output_of(ended: std::io::Result<std::process::Output>, name: &str) -> Result<String> {
    let output = ended
        .map_err(|e| EngineError::Program { program: name.to_owned(), output: e.to_string() })?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let mut text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.push_str(&stdout);
    Err(EngineError::Program {
        program: name.to_owned(),
        output: text.chars().take(4000).collect(),
    })
}

/// Runs blocking work off the async runtime.
///
/// # Errors
/// What the work fails with; a panic in it is a fault.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| EngineError::Fault(format!("a worker thread failed: {e}")))?
}

/// A free TCP port on loopback, as far as one can know.
///
/// # Errors
/// [`EngineError::File`] when none can be bound.
pub fn free_port() -> Result<u16> {
    std::net::TcpListener::bind(("127.0.0.1", 0))
        .and_then(|l| l.local_addr())
        .map(|a| a.port())
        .map_err(EngineError::file("bind a port on", "127.0.0.1"))
}

/// A value of a libpq key=value connection string.
fn quote(value: &str) -> String {
    if !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c)) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_string_values_are_quoted_when_they_must_be() {
        assert_eq!(quote("/tmp/a-b"), "/tmp/a-b");
        assert_eq!(quote("it's"), "'it\\'s'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn a_fatal_line_is_what_a_dead_server_says() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = dir.path().join("log");
        std::fs::write(&log, "LOG: a\nFATAL:  b\nLOG: c\n").expect("a written log");
        assert_eq!(log_tail(&log), "FATAL:  b");
    }
}
