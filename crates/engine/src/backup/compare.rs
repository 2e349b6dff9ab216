//! What arrived against what the server says it sent, file by file.

use std::collections::HashMap;

use holdfast_postgres::{
    BackupManifest, ChecksumAlgorithm, FileChecksum, Lsn, ManifestFile, ManifestPath,
    ManifestWriter, TimelineId, WalRange, crc32c_manifest_bytes, incremental_target,
};

use crate::error::{EngineError, Result};

/// Size and CRC-32C of one file, by the hash of its path.
pub(crate) type Checks = HashMap<[u8; 16], (u64, u32)>;

/// The key of a path in [`Checks`].
pub(crate) fn path_key(path: &[u8]) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(&blake3::hash(path).as_bytes()[..16]);
    key
}

/// What a manifest says of one file, in little room: there may be millions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listed {
    size: u64,
    /// None where it is a checksum of another kind, which Holdfast never asks a server for.
    crc: Option<u32>,
}

impl Listed {
    pub(crate) fn of(file: &ManifestFile) -> Self {
        let crc = file
            .checksum
            .as_ref()
            .filter(|checksum| checksum.algorithm == ChecksumAlgorithm::Crc32c)
            .and_then(|checksum| checksum.value.as_slice().try_into().ok())
            .map(u32::from_le_bytes);
        Self { size: file.size, crc }
    }

    /// What is wrong with a file of `size` bytes and this CRC-32C.
    pub(crate) fn difference(self, size: u64, crc: u32) -> Option<String> {
        if size != self.size {
            return Some(format!("its manifest lists {} bytes, there are {size}", self.size));
        }
        let other = self.crc.is_some_and(|listed| listed != crc);
        other.then(|| "its CRC-32C is not the one that its manifest lists".to_owned())
    }
}

/// Whether these ranges hold the WAL from `start` to `stop`.
pub(crate) fn covers(ranges: &[WalRange], timeline: TimelineId, start: Lsn, stop: Lsn) -> bool {
    ranges.iter().any(|r| r.timeline == timeline && r.start <= start && r.end >= stop)
}

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
        if let Some(wrong) = Listed::of(file).difference(*size, *crc) {
            return Err(differs(format!("{name}: {wrong}")));
        }
        listed += 1;
    }
    let received_count = received.len() as u64;
    if listed != received_count {
        return Err(differs(format!("the server lists {listed} files, {received_count} arrived")));
    }
    if !covers(&manifest.wal_ranges, timeline, start, stop) {
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
