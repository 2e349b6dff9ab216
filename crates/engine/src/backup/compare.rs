//! What arrived against what the server says it sent, file by file.

use holdfast_postgres::{
    BackupManifest, ChecksumAlgorithm, FileChecksum, Lsn, ManifestPath, ManifestWriter, TimelineId,
    crc32c_manifest_bytes, incremental_target,
};

use super::files::{Checks, path_key};
use crate::error::{EngineError, Result};

/// Compares every file; gives the manifest that was read.
///
/// # Errors
/// Integrity, naming the first file that differs, is missing or is not listed.
pub(super) fn with_manifest(
    manifest: &[u8],
    received: &Checks,
    timeline: TimelineId,
    start: Lsn,
    stop: Lsn,
) -> Result<BackupManifest> {
    let manifest = BackupManifest::parse(manifest)
        .map_err(|e| differs(format!("the server's manifest cannot be read: {e}")))?;
    let mut listed = 0_u64;
    for file in &manifest.files {
        let name = file.path.to_string();
        let Some((size, crc)) = received.get(&path_key(file.path.as_bytes())) else {
            return Err(differs(format!("the server lists {name}, but did not send it")));
        };
        if *size != file.size {
            return Err(differs(format!(
                "{name}: the server lists {} bytes, {size} arrived",
                file.size
            )));
        }
        if let Some(checksum) = &file.checksum
            && checksum.algorithm == ChecksumAlgorithm::Crc32c
            && checksum.value != crc32c_manifest_bytes(*crc)
        {
            return Err(differs(format!(
                "{name}: its CRC-32C is not the one that the server lists"
            )));
        }
        listed += 1;
    }
    let received_count = received.len() as u64;
    if listed != received_count {
        return Err(differs(format!("the server lists {listed} files, {received_count} arrived")));
    }
    let covers = manifest
        .wal_ranges
        .iter()
        .any(|r| r.timeline == timeline && r.start <= start && r.end >= stop);
    if !covers {
        return Err(differs(format!(
            "the server's manifest does not list the WAL from {start} to {stop} on timeline {timeline}"
        )));
    }
    Ok(manifest)
}

/// The manifest of the whole files, where the server's is that of what it sent: as `pg_combinebackup`
/// writes it, so that `pg_verifybackup` accepts what is restored. `changed` has size and checksum of
/// what is kept otherwise than it arrived.
pub(super) fn of_whole_files(manifest: BackupManifest, changed: &Checks) -> Vec<u8> {
    let mut writer = ManifestWriter::new(manifest.version, manifest.system_identifier);
    let mut text = Vec::new();
    for mut file in manifest.files {
        if let Some((size, crc)) = changed.get(&path_key(file.path.as_bytes())) {
            let whole = file.path.as_str().and_then(incremental_target);
            if let Some(path) = whole.and_then(|path| ManifestPath::new(path.into_bytes())) {
                file.path = path;
            }
            file.size = *size;
            file.checksum = Some(FileChecksum {
                algorithm: ChecksumAlgorithm::Crc32c,
                value: crc32c_manifest_bytes(*crc).to_vec(),
            });
        }
        writer.file(&file);
        text.append(&mut writer.take());
    }
    text.append(&mut writer.finish(&manifest.wal_ranges));
    text
}

fn differs(message: String) -> EngineError {
    EngineError::integrity(
        "manifest_mismatch",
        message,
        "The copy is not what the server sent. Nothing of it was kept; run the backup again and look at the network and \
         this machine's memory if it goes on.",
    )
}
