//! Running programs with their output kept.

use crate::Fault;
use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// So many last lines of a failed program are shown; the whole output is in its log.
const SHOWN: usize = 120;

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Whether it ended with 0.
    pub(crate) success: bool,
    /// Standard output and error in the order in which they came, without colours.
    pub(crate) text: String,
    /// Where the same is kept.
    pub(crate) log: PathBuf,
    status: String,
}

impl Ended {
    /// The end of the output and the place of the rest, for a report of a failure.
    pub(crate) fn story(&self) -> String {
        let lines: Vec<&str> = self.text.lines().collect();
        let shown = lines.get(lines.len().saturating_sub(SHOWN)..).unwrap_or_default();
        let cut = if shown.len() < lines.len() { "…\n" } else { "" };
        format!("{}\n{cut}{}\n(all of it: {})", self.status, shown.join("\n"), self.log.display())
    }

    /// The output, or the story as a fault.
    pub(crate) fn expect_success(self) -> Result<String, Fault> {
        if self.success { Ok(self.text) } else { Err(self.story().into()) }
    }
}

/// Runs a program to its end; its output goes into the log file `<logs>/<name>.log`.
pub(crate) fn run(logs: &Path, name: &str, command: &mut Command) -> Result<Ended, Fault> {
    fs::create_dir_all(logs)?;
    let log = logs.join(format!("{}.log", name.replace([' ', '/', ':', ','], "-")));
    let file = fs::File::create(&log)?;
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let program = program.display().to_string();
    let status = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .map_err(|error| format!("{program} does not start: {error}"))?;
    let mut text = String::new();
    for line in BufReader::new(fs::File::open(&log)?).split(b'\n') {
        text.push_str(&without_colours(&String::from_utf8_lossy(&line?)));
        text.push('\n');
    }
    Ok(Ended { success: status.success(), text, log, status: format!("{program}: {status}") })
}

/// What a program answers on standard output, if it can be started and ends with 0.
pub(crate) fn answer(command: &mut Command) -> Option<String> {
    let told = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    told.status.success().then(|| String::from_utf8_lossy(&told.stdout).trim().to_owned())
}

/// Removes terminal escape sequences (CSI … letter).
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        let end = after.find(|letter: char| letter.is_ascii_alphabetic());
        rest = end.and_then(|end| after.get(end + 1..)).unwrap_or_default();
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_go() {
        assert_eq!(without_colours("\u{1b}[1;31merror\u{1b}[0m: x"), "error: x");
        assert_eq!(without_colours("plain"), "plain");
    }

    #[test]
    fn output_is_kept_and_shown() -> Result<(), Fault> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let ended = run(folder.path(), "a step", &mut command)?;
        assert!(!ended.success);
        assert_eq!(ended.text, "out\nerr\n");
        assert!(ended.story().contains("exit status: 3"));
        assert!(folder.path().join("a-step.log").exists());
        Ok(())
    }
}
