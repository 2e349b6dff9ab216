//! Results, errors and progress as they are printed.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use holdfast_engine::jobs::{JobEvent, JobEventKind, ProgressListener};
use holdfast_engine::size::bytes;
use holdfast_engine::{EngineError, Outcome};
use serde::Serialize;
use serde_json::json;

use crate::arguments::Progress;

/// How this run prints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    progress: Progress,
}

impl Output {
    pub(crate) fn new(json: bool, progress: Progress) -> Self {
        Self { json, progress }
    }

    /// Prints a result: JSON as it is, else what `text` makes of it.
    pub(crate) fn result<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> ExitCode {
        let printed = if self.json {
            serde_json::to_string_pretty(value).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}"))
        } else {
            text(value)
        };
        print_line(&printed);
        ExitCode::SUCCESS
    }

    /// Prints an error and gives its exit code.
    pub(crate) fn error(self, error: &EngineError) -> ExitCode {
        let object = error.to_object();
        if self.json {
            print_line(
                &serde_json::to_string_pretty(&json!({ "error": object })).unwrap_or_default(),
            );
        } else {
            eprintln!("error: {}", object.message);
            if let Some(hint) = object.hint.filter(|h| !h.is_empty()) {
                eprintln!("  {}", hint.replace('\n', "\n  "));
            }
        }
        ExitCode::from(error.outcome().exit_code())
    }

    /// What hears the events of every job.
    pub(crate) fn listener(self) -> Option<ProgressListener> {
        match self.progress {
            Progress::None => None,
            Progress::Json => Some(Arc::new(|event: &JobEvent| {
                let line = json!({
                    "job": event.job, "seq": event.seq, "phase": event.phase, "kind": event.kind,
                    "done": event.done, "total": event.total, "unit": event.unit, "rate": event.rate,
                    "replayed_to": event.replayed_to, "replayed_lsn": event.replayed_lsn,
                    "target": event.target, "target_lsn": event.target_lsn, "message": event.message,
                    "code": event.code,
                });
                let _ = writeln!(std::io::stderr().lock(), "{line}");
            })),
            Progress::Auto if std::io::stderr().is_terminal() => {
                let last = Mutex::new(String::new());
                Some(Arc::new(move |event: &JobEvent| terminal_line(&last, event)))
            }
            Progress::Auto => Some(Arc::new(|event: &JobEvent| {
                if matches!(event.kind, JobEventKind::Warning | JobEventKind::Alert)
                    && let Some(message) = &event.message
                {
                    eprintln!("warning: {message}");
                }
            })),
        }
    }
}

/// Usage errors of the parser: exit 2, as JSON when that was asked for.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if std::env::args_os().any(|a| a == "--json") {
        let message = match error.kind() {
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                "a command is missing".to_owned()
            }
            _ => usage_message(&error.render().to_string()),
        };
        let object = json!({ "error": {
            "code": "usage", "message": message, "hint": "Run the command with --help.", "retryable": false, "details": null,
        }});
        print_line(&serde_json::to_string_pretty(&object).unwrap_or_default());
    } else {
        let _ = error.print();
    }
    ExitCode::from(Outcome::Usage.exit_code())
}

/// The parser's first paragraph as one line: which arguments are missing stands below its first line.
fn usage_message(text: &str) -> String {
    let lines: Vec<_> = text.lines().take_while(|l| !l.trim().is_empty()).map(str::trim).collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}

/// A reader that went away is no reason to panic.
fn print_line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out
        .write_all(text.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
}

/// One line that is rewritten in place; phases and warnings get lines of their own.
fn terminal_line(last: &Mutex<String>, event: &JobEvent) {
    let mut err = std::io::stderr().lock();
    let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let clear = "\r\x1b[2K";
    match event.kind {
        JobEventKind::PhaseStarted => {
            if !last.is_empty() {
                let _ = writeln!(err);
            }
            event.phase.clone_into(&mut last);
            let _ = write!(err, "{clear}{}", event.phase);
        }
        JobEventKind::Progress => {
            let _ = write!(err, "{clear}{}", progress_text(event));
        }
        JobEventKind::Log | JobEventKind::Warning | JobEventKind::Alert => {
            let mark = match event.kind {
                JobEventKind::Warning => "warning: ",
                JobEventKind::Alert => "ALERT: ",
                _ => "",
            };
            let _ =
                writeln!(err, "{clear}  {mark}{}", event.message.as_deref().unwrap_or_default());
        }
        JobEventKind::Finished | JobEventKind::Failed | JobEventKind::Cancelled => {
            last.clear();
            let _ = writeln!(err);
        }
    }
    let _ = err.flush();
}

fn progress_text(event: &JobEvent) -> String {
    let amount = |n: u64| match event.unit.as_deref() {
        Some("bytes") => bytes(n),
        Some(unit) => format!("{n} {unit}"),
        None => n.to_string(),
    };
    let mut text = event.phase.clone();
    if let Some(done) = event.done {
        text.push_str(&format!("  {}", amount(done)));
        if let Some(total) = event.total {
            text.push_str(&format!(" of {}", amount(total)));
        }
    }
    if let Some(to) = event.replayed_to {
        text.push_str(&format!(
            "  replayed to {}",
            to.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
        ));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate for people")]
    if let (Some(rate), Some("bytes")) = (event.rate, event.unit.as_deref()) {
        text.push_str(&format!("  {}/s", bytes(rate.max(0.0) as u64)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_messages_name_what_is_missing() {
        let text = "error: the following required arguments were not provided:\n  --to <DIR>\n\nUsage: holdfast\n";
        assert_eq!(
            usage_message(text),
            "the following required arguments were not provided: --to <DIR>"
        );
    }
}
