//! Secrets that the caller brings: from the environment or from files, never from the command line.

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;

use holdfast_engine::secrets::{GivenSecrets, PrivateKey, WriterKey};
use holdfast_engine::{EngineError, Result};
use secrecy::{ExposeSecret as _, SecretString};

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
    let private_key = match &arguments.private_key_file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(EngineError::file("read", path))?;
            Some(Arc::new(PrivateKey::parse(&text).map_err(EngineError::from)?))
        }
        None => None,
    };
    // What is said on the command line goes before what stands in the environment.
    let named = arguments.passphrase_file.is_some()
        || arguments.recovery_key_file.is_some()
        || arguments.private_key_file.is_some();
    let of_environment = || {
        std::env::var_os("HOLDFAST_WRITER_KEY_FILE")
            .filter(|file| !file.is_empty() && !named)
            .map(Into::into)
    };
    let writer_key_file = arguments.writer_key_file.clone().or_else(of_environment);
    let writer_key = match &writer_key_file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(EngineError::file("read", path))?;
            Some(Arc::new(WriterKey::parse(&text).map_err(EngineError::from)?))
        }
        None => None,
    };
    Ok(GivenSecrets { passphrase, recovery_key, private_key, writer_key })
}

/// A new passphrase: `HOLDFAST_NEW_PASSPHRASE`, else asked for twice on the terminal.
pub(crate) async fn new_passphrase() -> Result<SecretString> {
    let set = std::env::var("HOLDFAST_NEW_PASSPHRASE").ok().filter(|p| !p.is_empty());
    if let Some(passphrase) = set {
        return Ok(SecretString::from(passphrase));
    }
    if !std::io::stdin().is_terminal() {
        return Err(EngineError::usage(
            "no new passphrase was given",
            "Set HOLDFAST_NEW_PASSPHRASE, or pass --new-passphrase-file FILE.",
        ));
    }
    tokio::task::spawn_blocking(|| {
        let ask = |prompt| {
            rpassword::prompt_password(prompt)
                .map(SecretString::from)
                .map_err(EngineError::file("read", "the terminal"))
        };
        let (first, second) = (ask("New passphrase: ")?, ask("Once more: ")?);
        if first.expose_secret() != second.expose_secret() {
            return Err(EngineError::usage("the two differ", "Type the same passphrase twice."));
        }
        Ok(first)
    })
    .await
    .map_err(|e| EngineError::Fault(format!("asking on the terminal: {e}")))?
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
