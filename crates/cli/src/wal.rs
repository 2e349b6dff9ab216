//! `wal-get` and `wal-put`: PostgreSQL gives their exit codes a meaning of its own.
//!
//! A `restore_command` that ends with 1 to 125 says "there is no such file", and PostgreSQL comes up
//! without it; so everything but proof of that ends with 200. An `archive_command` above 125 would stop
//! the archiver.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use holdfast_engine::archive::{WalFiles, WalSpool};
use holdfast_engine::home::Home;
use holdfast_engine::{EngineError, Result};

use crate::arguments::{Arguments, WalGet, WalPlace, WalPut};
use crate::output::Output;
use crate::secrets;

/// The archive is proven not to have the file.
const ABSENT: u8 = 1;
/// Anything else that is not "served".
const FAILED_GET: u8 = 200;
const FAILED_PUT: u8 = 1;

/// What a failure of the command named on this line ends with, however early it fails; none for any
/// other command.
pub(crate) fn failure_code(mut arguments: impl Iterator<Item = String>) -> Option<u8> {
    arguments.find_map(|argument| match argument.as_str() {
        "wal-get" => Some(FAILED_GET),
        "wal-put" => Some(FAILED_PUT),
        _ => None,
    })
}

/// Serves one file.
pub(crate) async fn get(arguments: &Arguments, wanted: &WalGet, output: Output) -> ExitCode {
    match try_get(arguments, wanted).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(ABSENT),
        Err(error) => {
            output.error(&error);
            ExitCode::from(FAILED_GET)
        }
    }
}

async fn try_get(arguments: &Arguments, wanted: &WalGet) -> Result<bool> {
    let home = home(arguments)?;
    let directory = absolute(&wanted.place.data_directory)?;
    let spool = WalSpool::of(&home, wanted.place.repo.as_deref(), &directory)?;
    if wanted.ahead {
        let files = open(&home, arguments, &wanted.place, &directory).await?;
        files.fetch_ahead(&wanted.file, &spool).await?;
        return Ok(true);
    }
    let destination = absolute(&wanted.destination)?;
    let served = spool.take(&wanted.file, &destination) || {
        let files = open(&home, arguments, &wanted.place, &directory).await?;
        files.get(&wanted.file, &destination).await?
    };
    if served {
        fetch_ahead(arguments, wanted, &home);
    }
    Ok(served)
}

/// Fetches what follows while PostgreSQL replays: another process, since this one must end. It is no
/// loss when it cannot be started.
fn fetch_ahead(arguments: &Arguments, wanted: &WalGet, home: &Home) {
    let Ok(program) = std::env::current_exe() else { return };
    let mut command = Command::new(program);
    command.arg("--home").arg(home.root()).args(["wal-get", "--ahead"]);
    command.arg("--data-directory").arg(&wanted.place.data_directory);
    if let Some(repo) = &wanted.place.repo {
        command.args(["--repo", repo]);
    }
    for (option, path) in [
        ("--passphrase-file", &arguments.passphrase_file),
        ("--recovery-key-file", &arguments.recovery_key_file),
    ] {
        if let Some(path) = path {
            command.arg(option).arg(path);
        }
    }
    command.arg(&wanted.file).arg(&wanted.destination);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let _ = command.spawn();
}

/// Archives one file.
pub(crate) async fn put(arguments: &Arguments, given: &WalPut, output: Output) -> ExitCode {
    let stored = async {
        let home = home(arguments)?;
        let directory = absolute(&given.place.data_directory)?;
        let files = open(&home, arguments, &given.place, &directory).await?;
        files.put(&given.path).await
    };
    match stored.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::from(FAILED_PUT)
        }
    }
}

async fn open(
    home: &Home,
    arguments: &Arguments,
    place: &WalPlace,
    directory: &Path,
) -> Result<WalFiles> {
    WalFiles::open(home, &secrets::given(arguments)?, place.repo.as_deref(), directory).await
}

fn home(arguments: &Arguments) -> Result<Home> {
    let root = match &arguments.home {
        Some(home) => absolute(home)?,
        None => Home::default_root(|name| std::env::var(name).ok())?,
    };
    Home::open(root)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(EngineError::file("resolve", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_never_taken_for_absence() {
        let line = |text: &str| failure_code(text.split(' ').map(str::to_owned));
        assert_eq!(line("holdfast --home /x wal-get"), Some(200));
        assert_eq!(line("holdfast wal-put --nonsense"), Some(1));
        assert_eq!(line("holdfast backup"), None);
    }
}
