//! `holdfast repo keys` and `holdfast repo rekey`.

use std::fmt::Write as _;
use std::process::ExitCode;

use holdfast_engine::keys::{ListedSlot, NewKey, PublicKey, generate_key_pair};
use holdfast_engine::rekey::{RekeyRequest, RekeyResult};
use holdfast_engine::size::bytes;
use holdfast_engine::{Engine, EngineError, Result};
use serde_json::json;

use crate::arguments::{Keys, NewKeys};
use crate::output::Output;
use crate::secrets;
use crate::tables::{table, time};

pub(crate) async fn run(engine: &Engine, command: Keys, output: Output) -> Result<ExitCode> {
    match command {
        Keys::List { repo } => {
            let summary = engine.find_repository(repo.as_deref()).await?;
            let slots = engine.key_slots(&summary).await?;
            Ok(output.result(&json!({ "slots": slots }), |_| key_slots(&slots)))
        }
        Keys::Add { repo, key, keychain, label } => {
            let mut keys = new_keys(key).await?;
            if keychain {
                keys.push(NewKey::Keychain);
            }
            if keys.is_empty() {
                return Err(EngineError::usage(
                    "say which way in to add",
                    "Use --new-passphrase, --new-passphrase-file FILE, --recovery-key-out FILE, --keychain or \
                     --public-key FILE.",
                ));
            }
            let summary = engine.find_repository(repo.as_deref()).await?;
            let mut added: Vec<ListedSlot> = Vec::new();
            for key in &keys {
                added.push(engine.add_key_slot(&summary, key, label.as_deref()).await?);
            }
            Ok(output.result(&json!({ "added": added }), |_| key_slots(&added)))
        }
        Keys::Remove { id, repo, force } => {
            let summary = engine.find_repository(repo.as_deref()).await?;
            let removed = engine.remove_key_slot(&summary, &id, force).await?;
            Ok(output.result(&removed, |r| {
                format!("Key slot {} is removed. {}\n\n{}", r.removed, r.means, key_slots(&r.left))
            }))
        }
        Keys::Rotate { id, repo, key } => {
            let mut keys = new_keys(key).await?;
            let key = match (keys.pop(), keys.is_empty()) {
                (None, _) => NewKey::Keychain,
                (Some(key), true) => key,
                (Some(_), false) => {
                    return Err(EngineError::usage(
                        "a slot has one secret",
                        "Name one of --new-passphrase, --new-passphrase-file, --recovery-key-out and --public-key.",
                    ));
                }
            };
            let summary = engine.find_repository(repo.as_deref()).await?;
            let rotated = engine.rotate_key_slot(&summary, &id, &key).await?;
            Ok(output.result(&rotated, |r| {
                format!("Key slot {} is in the place of {}. {}", r.added.id, r.removed, r.means)
            }))
        }
        Keys::Generate { public_key_out, private_key_out } => {
            let made = generate_key_pair(&public_key_out, private_key_out.as_deref()).await?;
            Ok(output.result(&made, |made| {
                let place = made
                    .private_key_file
                    .as_ref()
                    .map_or_else(|| "the OS keychain".to_owned(), |f| f.display().to_string());
                format!(
                    "{}\nThe private key is in {place}. Hand out {}.",
                    made.public_key,
                    public_key_out.display()
                )
            }))
        }
    }
}

/// The secrets that were named, each of its kind.
async fn new_keys(named: NewKeys) -> Result<Vec<NewKey>> {
    let mut keys = Vec::new();
    if named.new_passphrase {
        keys.push(NewKey::Passphrase(secrets::new_passphrase().await?));
    }
    if let Some(path) = &named.new_passphrase_file {
        keys.push(NewKey::Passphrase(secrets::first_line(path)?));
    }
    if let Some(path) = named.recovery_key_out {
        keys.push(NewKey::RecoveryKey(path));
    }
    if let Some(path) = &named.public_key {
        let text = std::fs::read_to_string(path).map_err(EngineError::file("read", path))?;
        keys.push(NewKey::PublicKey(PublicKey::parse(&text).map_err(EngineError::from)?));
    }
    Ok(keys)
}

/// What `repo rekey` was asked for.
pub(crate) async fn rekey_request(
    to: String,
    repository: Option<String>,
    named: NewKeys,
    keychain: bool,
    force: bool,
) -> Result<RekeyRequest> {
    let (mut passphrase, mut recovery_key_file) = (None, None);
    for key in new_keys(named).await? {
        match key {
            NewKey::Passphrase(new) => passphrase = Some(new),
            NewKey::RecoveryKey(path) => recovery_key_file = Some(path),
            NewKey::PublicKey(_) | NewKey::Keychain => {
                return Err(EngineError::usage(
                    "a colleague is admitted to the new repository when it is made",
                    "Use `holdfast repo keys add --public-key FILE` afterwards.",
                ));
            }
        }
    }
    Ok(RekeyRequest { repository, to, passphrase, keychain, recovery_key_file, force })
}

/// What `repo rekey` has done.
pub(crate) fn rekeyed(result: &RekeyResult) -> String {
    let mut text = format!(
        "{} is carried into {}, which has a key of its own: {} snapshots and {} other objects now, {} before; {} read, \
         {:.1} s.\n\n{}",
        result.from,
        result.to,
        result.snapshots,
        result.objects,
        result.there,
        bytes(result.bytes_read),
        result.seconds,
        result.means
    );
    for held in &result.held_back {
        let _ = write!(text, "\nNOT carried: {}: {}", held.object, held.message);
    }
    for left in &result.left {
        let _ = write!(text, "\nleft, since it does not count: {}: {}", left.object, left.message);
    }
    if !result.agents.is_empty() {
        let agents = result.agents.join(", ");
        let _ = write!(text, "\nAgents to admit anew (`repo writers admit`): {agents}");
    }
    for replica in &result.replicas {
        let _ = write!(text, "\nA replica with the old key: {replica}");
    }
    text
}

fn key_slots(slots: &[ListedSlot]) -> String {
    let rows: Vec<_> = slots
        .iter()
        .map(|k| {
            let opened = if k.opened { "opened it now" } else { "" };
            let made = time(k.created_at);
            vec![k.id.to_string(), k.kind.name().into(), k.label.clone(), made, opened.into()]
        })
        .collect();
    table(&["key slot", "kind", "label", "made", ""], &rows)
}
