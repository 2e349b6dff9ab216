//! Secrets that the caller brings: from the environment or from files, never from the command line.

use std::path::Path;

use holdfast_engine::secrets::GivenSecrets;
use holdfast_engine::{EngineError, Result};
use secrecy::SecretString;

use crate::arguments::Arguments;

/// Reads what was brought.
pub(crate) fn given(arguments: &Arguments) -> Result<GivenSecrets> {
    let passphrase = match &arguments.passphrase_file {
        Some(path) => Some(first_line(path)?),
        None => std::env::var("HOLDFAST_PASSPHRASE")
            .ok()
            .filter(|p| !p.is_empty())
            .map(SecretString::from),
    };
    let recovery_key = match &arguments.recovery_key_file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(EngineError::file("read", path))?;
            Some(holdfast_engine::repository::recovery_key_from_text(&text))
        }
        None => None,
    };
    Ok(GivenSecrets { passphrase, recovery_key })
}

/// A passphrase is the first line of its file.
pub(crate) fn first_line(path: &Path) -> Result<SecretString> {
    let text = std::fs::read_to_string(path).map_err(EngineError::file("read", path))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(SecretString::from(line.to_owned())),
        _ => Err(EngineError::usage(
            format!("{} has no passphrase on its first line", path.display()),
            "Put the passphrase on the first line of the file.",
        )),
    }
}
