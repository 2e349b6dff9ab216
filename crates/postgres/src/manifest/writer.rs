//! Writing a manifest, for a backup that is put together on this side.

use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use ring::digest::{Context, SHA256};

use super::{ManifestFile, WalRange};
use crate::system::SystemIdentifier;

/// Writes a manifest as the server and `pg_combinebackup` write it (`backup_manifest.c`,
/// `write_manifest.c`), in pieces that the caller takes away.
pub struct ManifestWriter {
    text: String,
    digest: Context,
    first: bool,
}

impl std::fmt::Debug for ManifestWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ManifestWriter({} bytes waiting)", self.text.len())
    }
}

impl ManifestWriter {
    /// Begins a manifest. Version 2 names the cluster.
    #[must_use]
    pub fn new(version: u32, system: Option<SystemIdentifier>) -> Self {
        let mut text = format!("{{ \"PostgreSQL-Backup-Manifest-Version\": {version},\n");
        if let Some(system) = system {
            // Writing to a string cannot fail, here and below.
            let _ = writeln!(text, "\"System-Identifier\": {system},");
        }
        text.push_str("\"Files\": [");
        Self { text, digest: Context::new(&SHA256), first: true }
    }

    /// Adds a file.
    pub fn file(&mut self, file: &ManifestFile) {
        self.text.push_str(if self.first { "\n" } else { ",\n" });
        self.first = false;
        if let Some(path) = file.path.as_str() {
            self.text.push_str("{ \"Path\": ");
            quoted(&mut self.text, path);
        } else {
            let encoded = HEXLOWER.encode(file.path.as_bytes());
            let _ = write!(self.text, "{{ \"Encoded-Path\": \"{encoded}\"");
        }
        let _ = write!(self.text, ", \"Size\": {}, \"Last-Modified\": ", file.size);
        quoted(&mut self.text, &file.last_modified);
        if let Some(checksum) = &file.checksum {
            let _ = write!(
                self.text,
                ", \"Checksum-Algorithm\": \"{}\", \"Checksum\": \"{}\"",
                checksum.algorithm,
                HEXLOWER.encode(&checksum.value)
            );
        }
        self.text.push_str(" }");
    }

    /// What was written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        let text = std::mem::take(&mut self.text);
        self.digest.update(text.as_bytes());
        text.into_bytes()
    }

    /// Ends the manifest with the WAL it needs and its checksum; gives what was not taken yet.
    #[must_use]
    pub fn finish(mut self, ranges: &[WalRange]) -> Vec<u8> {
        self.text.push_str("\n],\n\"WAL-Ranges\": [");
        for (n, range) in ranges.iter().enumerate() {
            self.text.push_str(if n == 0 { "\n" } else { ",\n" });
            let _ = write!(
                self.text,
                "{{ \"Timeline\": {}, \"Start-LSN\": \"{}\", \"End-LSN\": \"{}\" }}",
                range.timeline, range.start, range.end
            );
        }
        self.text.push_str("\n],\n");
        let mut rest = self.take();
        let checksum = HEXLOWER.encode(self.digest.finish().as_ref());
        rest.extend_from_slice(format!("\"Manifest-Checksum\": \"{checksum}\"}}\n").as_bytes());
        rest
    }
}

/// Appends a JSON string.
fn quoted(text: &mut String, value: &str) {
    text.push('"');
    for character in value.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::super::{BackupManifest, ChecksumAlgorithm, FileChecksum, ManifestPath};
    use super::*;
    use crate::lsn::Lsn;
    use crate::timeline::TimelineId;

    fn file(path: Vec<u8>, size: u64, checksum: Option<[u8; 4]>) -> Option<ManifestFile> {
        Some(ManifestFile {
            path: ManifestPath::new(path)?,
            size,
            last_modified: "2026-03-01 10:11:12 GMT".to_owned(),
            checksum: checksum.map(|value| FileChecksum {
                algorithm: ChecksumAlgorithm::Crc32c,
                value: value.to_vec(),
            }),
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            files in proptest::collection::vec(
                (proptest::collection::vec(any::<u8>(), 1..12), any::<u64>(), any::<Option<[u8; 4]>>()),
                0..6,
            ),
            system in any::<Option<u64>>(),
            ranges in proptest::collection::vec((1u32.., any::<u64>(), any::<u64>()), 0..3),
        ) {
            // The reader sums sizes up and takes JSON's whole numbers up to 63 bits.
            let files: Vec<_> =
                files.into_iter().filter_map(|(path, size, sum)| file(path, size >> 8, sum)).collect();
            let system = system.map(|number| number.to_string().parse::<SystemIdentifier>().unwrap());
            let wal_ranges: Vec<_> = ranges
                .into_iter()
                .map(|(timeline, one, other)| WalRange {
                    timeline: TimelineId::new(timeline).unwrap(),
                    start: Lsn(one.min(other)),
                    end: Lsn(one.max(other)),
                })
                .collect();
            let version = if system.is_some() { 2 } else { 1 };
            let mut writer = ManifestWriter::new(version, system);
            let mut text = Vec::new();
            for file in &files {
                writer.file(file);
                text.extend(writer.take());
            }
            text.extend(writer.finish(&wal_ranges));
            let read = BackupManifest::parse(&text).unwrap();
            prop_assert_eq!(read, BackupManifest { version, system_identifier: system, files, wal_ranges });
        }
    }
}
