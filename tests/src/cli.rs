//! The built `holdfast` command, run as an operator's script would.

use crate::{wait_for, wait_for_value};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

/// At most so much of each output stream is kept.
const OUTPUT_CAP: u64 = 64 << 20;

/// How long a job may take to say what a test waits for.
const PATIENCE: Duration = Duration::from_mins(1);

/// Path of the `holdfast` program: `HOLDFAST_BIN`, else built once by this process into the
/// target directory that the running test stands in.
pub fn binary() -> io::Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    if let Some(given) = env::var_os("HOLDFAST_BIN") {
        return Ok(given.into());
    }
    BUILT.get_or_init(build).clone().map_err(io::Error::other)
}

fn build() -> Result<PathBuf, String> {
    // <target>/<profile>/deps/<test>, or <target>/<profile>/<program>.
    let own = env::current_exe().map_err(|error| error.to_string())?;
    let folder = own
        .ancestors()
        .skip(1)
        .find(|folder| folder.file_name() != Some(OsStr::new("deps")))
        .ok_or("the running test stands nowhere")?;
    let target = folder.parent().ok_or("the running test stands in no target directory")?;
    let own_crate = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build
        .args(["build", "--quiet", "--package", "holdfast-cli", "--bin", "holdfast"])
        .args(["--features", "development-host"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(own_crate);
    if folder.file_name() == Some(OsStr::new("release")) {
        build.arg("--release");
    }
    let told = build.output().map_err(|error| format!("cargo does not start: {error}"))?;
    if !told.status.success() {
        return Err(format!("holdfast-cli: {}", String::from_utf8_lossy(&told.stderr)));
    }
    Ok(folder.join("holdfast"))
}

/// How the command is to be run: environment, home, time limit.
#[derive(Clone, Debug)]
pub struct Cli {
    program: PathBuf,
    variables: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    timeout: Duration,
}

/// What a finished command left behind.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The exit code; 128 + number when a signal ended it, as shells say it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Cli {
    /// The command with `home` as its `HOLDFAST_HOME` and a clean environment: nothing of the
    /// operator's PostgreSQL, cloud or Holdfast settings.
    pub fn new(home: impl Into<PathBuf>) -> io::Result<Self> {
        Ok(Self::of(binary()?).env("HOLDFAST_HOME", home.into()))
    }

    /// Another program under the same conditions.
    pub fn of(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            variables: Vec::new(),
            folder: None,
            timeout: Duration::from_mins(3),
        }
    }

    /// Sets a variable for every run.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Sets several variables, such as [`crate::store::SeaweedFs::env`].
    #[must_use]
    pub fn envs<N: Into<OsString>, V: Into<OsString>>(
        mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.variables
            .extend(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// Runs in this folder.
    #[must_use]
    pub fn current_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Kills a run that takes longer; three minutes unless said otherwise.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in env::vars_os() {
            let foreign = name.to_str().is_none_or(|name| {
                let ours = name.starts_with("HOLDFAST_PG_BIN_") || name == "HOLDFAST_CACHE_DIR";
                ["PG", "AWS_", "GOOGLE_", "AZURE_", "HOLDFAST_"]
                    .iter()
                    .any(|prefix| name.starts_with(prefix))
                    && !ours
            });
            if foreign {
                command.env_remove(name);
            }
        }
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
            .args(arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            // A group of its own: a run that takes too long is ended with what it started.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the command to its end.
    ///
    /// # Errors
    /// When it does not start, or does not end in time: then with what it said so far.
    pub fn run(&self, arguments: &[&str]) -> io::Result<Finished> {
        self.run_with_input(arguments, b"")
    }

    /// Runs the command to its end with something on its standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> io::Result<Finished> {
        let mut command = self.command(arguments);
        if !input.is_empty() {
            command.stdin(Stdio::piped());
        }
        let mut running = Running::of(command)?;
        if let Some(mut pipe) = running.child.stdin.take() {
            pipe.write_all(input)?;
        }
        running.finish(self.timeout)
    }

    /// Runs with `--json` in front and returns the document on standard output.
    ///
    /// # Errors
    /// Also when the command does not exit with 0, or its output is not one JSON document.
    pub fn json(&self, arguments: &[&str]) -> io::Result<serde_json::Value> {
        let mut all = vec!["--json"];
        all.extend_from_slice(arguments);
        let finished = self.run(&all)?;
        if finished.code != 0 {
            return Err(io::Error::other(format!("{all:?} failed: {finished}")));
        }
        finished.json()
    }

    /// Starts a command that runs beside the test, such as `archive` or `agent`.
    pub fn start(&self, arguments: &[&str]) -> io::Result<Running> {
        Running::of(self.command(arguments))
    }

    /// The same for a command that runs a job: its progress is told as JSON.
    pub fn start_job(&self, arguments: &[&str]) -> io::Result<Running> {
        self.start(&[&["--json", "--progress", "json"], arguments].concat())
    }
}

impl Finished {
    /// Standard output as exactly one JSON document.
    pub fn json(&self) -> io::Result<serde_json::Value> {
        serde_json::from_str(&self.stdout)
            .map_err(|error| io::Error::other(format!("not one JSON document ({error}): {self}")))
    }

    /// The lines of standard error that are JSON objects (`--progress json`).
    pub fn progress(&self) -> Vec<serde_json::Value> {
        self.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, stdout, stderr, took } = self;
        write!(out, "exit {code} after {took:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

/// A command that runs; killed, with what it started in its process group, on drop.
#[derive(Debug)]
pub struct Running {
    child: Child,
    began: Instant,
    stdout: Kept,
    stderr: Kept,
    first_lines: mpsc::Receiver<String>,
    ended: Option<ExitStatus>,
}

/// An output stream, read to its end by a thread.
#[derive(Debug)]
struct Kept {
    text: Arc<Mutex<Vec<u8>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Kept {
    /// Keeps all that comes; each whole line also goes to `lines`.
    fn of(stream: impl Read + Send + 'static, lines: Option<mpsc::Sender<String>>) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&text);
        let thread = thread::spawn(move || {
            let mut stream = BufReader::new(stream.take(OUTPUT_CAP));
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&line);
                if let Some(lines) = &lines {
                    // Nobody may be listening; the text is kept all the same.
                    let _ = lines.send(String::from_utf8_lossy(&line).trim_end().to_owned());
                }
                line.clear();
            }
        });
        Self { text, thread: Some(thread) }
    }

    fn so_far(&self) -> String {
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Everything, once the stream has ended. A stream that a child of the command still holds
    /// open does not end: it is given a moment only.
    fn whole(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            let deadline = Instant::now() + Duration::from_secs(2);
            while !thread.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
        }
        self.so_far()
    }
}

impl Running {
    fn of(mut command: Command) -> io::Result<Self> {
        let mut child = command.spawn().map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("{} does not start: {error}", command.get_program().display()),
            )
        })?;
        let (lines, first_lines) = mpsc::channel();
        let missing = || io::Error::other("an output that was not piped");
        let stdout = Kept::of(child.stdout.take().ok_or_else(missing)?, Some(lines));
        let stderr = Kept::of(child.stderr.take().ok_or_else(missing)?, None);
        Ok(Self { child, began: Instant::now(), stdout, stderr, first_lines, ended: None })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of standard output.
    pub fn next_line(&mut self, timeout: Duration) -> io::Result<String> {
        self.first_lines.recv_timeout(timeout).map_err(|reason| {
            let kind = match reason {
                RecvTimeoutError::Timeout => io::ErrorKind::TimedOut,
                RecvTimeoutError::Disconnected => io::ErrorKind::UnexpectedEof,
            };
            io::Error::new(kind, format!("no line of output; stderr: {}", self.stderr()))
        })
    }

    /// Standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.so_far()
    }

    /// Standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.so_far()
    }

    /// The id of its job, once its progress names it ([`Cli::start_job`]).
    ///
    /// # Panics
    /// When no job is named within a minute.
    pub fn job(&self) -> String {
        wait_for_value("the first event", PATIENCE, || {
            let text = self.stderr();
            let line = text.lines().find(|line| line.starts_with('{'))?;
            let event: serde_json::Value = serde_json::from_str(line).ok()?;
            event["job"].as_str().map(str::to_owned)
        })
    }

    /// Waits until its job is in a phase ([`Cli::start_job`]); whether it came to that before it ended.
    ///
    /// # Panics
    /// When neither comes within a minute.
    pub fn reaches(&mut self, phase: &str) -> bool {
        let said = format!("\"phase\":\"{phase}\"");
        wait_for(phase, PATIENCE, || {
            self.stderr().contains(&said) || !self.is_running().unwrap_or(false)
        });
        self.stderr().contains(&said)
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> io::Result<bool> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended.is_none())
    }

    /// Sends a signal to the command alone, such as SIGTERM for an orderly end.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if self.is_running()? {
            kill_process(pid_of(&self.child)?, signal)?;
        }
        Ok(())
    }

    /// Kills the command alone (SIGKILL), as a crash would.
    pub fn kill(&mut self) -> io::Result<()> {
        self.signal(Signal::KILL)?;
        self.ended = Some(self.child.wait()?);
        Ok(())
    }

    /// Asks for an orderly end (SIGTERM) and waits for it.
    pub fn terminate(mut self, timeout: Duration) -> io::Result<Finished> {
        self.signal(Signal::TERM)?;
        self.finish(timeout)
    }

    /// Waits for its end.
    pub fn finish(mut self, timeout: Duration) -> io::Result<Finished> {
        let deadline = Instant::now() + timeout;
        while self.is_running()? {
            if Instant::now() > deadline {
                let said = format!("{}\n--- stderr\n{}", self.stdout(), self.stderr());
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("not finished after {timeout:?}:\n--- stdout\n{said}"),
                ));
            }
            thread::sleep(Duration::from_millis(2));
        }
        let status = self.ended.unwrap_or_default();
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        Ok(Finished {
            code: code.unwrap_or(-1),
            took: self.began.elapsed(),
            stdout: self.stdout.whole(),
            stderr: self.stderr.whole(),
        })
    }
}

fn pid_of(child: &Child) -> io::Result<Pid> {
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("a process id out of range"))
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_running().unwrap_or(true) {
            if let Ok(pid) = pid_of(&self.child) {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shell() -> Cli {
        Cli::of("/bin/sh")
    }

    #[test]
    fn returns_code_and_both_outputs() {
        let script = "cat; echo '{\"n\": 1}' >&2; exit 5";
        let finished = shell().run_with_input(&["-c", script], b"{\"a\": \"b\"}").unwrap();
        assert_eq!(finished.code, 5);
        assert_eq!(finished.json().unwrap()["a"], "b");
        assert_eq!(finished.progress()[0]["n"], 1);
    }

    #[test]
    fn ends_what_takes_too_long() {
        let cli = shell().timeout(Duration::from_millis(100));
        let error = cli.run(&["-c", "echo begun; sleep 1000"]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("begun"));
    }

    #[test]
    fn hands_over_lines_and_ends_in_order() {
        let script = "trap 'exit 8' TERM; echo one; while :; do sleep 0.01; done";
        let mut running = shell().start(&["-c", script]).unwrap();
        assert_eq!(running.next_line(Duration::from_secs(10)).unwrap(), "one");
        assert_eq!(running.terminate(Duration::from_secs(10)).unwrap().code, 8);
    }

    #[test]
    fn sees_a_kill_as_shells_do() {
        let mut running = shell().start(&["-c", "sleep 1000"]).unwrap();
        running.kill().unwrap();
        assert_eq!(running.finish(Duration::from_secs(10)).unwrap().code, 137);
    }
}
