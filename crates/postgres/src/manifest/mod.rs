//! `backup_manifest` (`backup_manifest.c`, `parse_manifest.c`).
//!
//! The file is JSON with a checksum of its own: the last line carries the SHA-256 of all lines before
//! it. A manifest may list millions of files, so [`ManifestReader`] reads it as a stream;
//! [`BackupManifest`] keeps everything.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::lsn::Lsn;
use crate::system::SystemIdentifier;
use crate::timeline::TimelineId;

mod reader;
mod token;
mod writer;

pub use reader::{ManifestReader, ManifestSummary};
pub use writer::ManifestWriter;

/// A whole manifest in memory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BackupManifest {
    /// 1 up to major 16, 2 from 17 on.
    pub version: u32,
    /// The cluster; only version 2 names it.
    pub system_identifier: Option<SystemIdentifier>,
    /// All files, in the manifest's order.
    pub files: Vec<ManifestFile>,
    /// The WAL needed to make the backup consistent, newest timeline first.
    pub wal_ranges: Vec<WalRange>,
}

/// One file of a backup.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct ManifestFile {
    /// Where it stands, relative to the data directory.
    pub path: ManifestPath,
    /// Bytes.
    pub size: u64,
    /// Last change, `YYYY-MM-DD HH:MM:SS GMT`.
    pub last_modified: String,
    /// Checksum of the bytes as they were sent, unless the client asked for none.
    pub checksum: Option<FileChecksum>,
}

/// A relative path with `/` between parts, in the server's bytes, which need not be UTF-8. Never
/// empty or absolute, never leads upwards, never contains a NUL.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct ManifestPath(Vec<u8>);

impl ManifestPath {
    /// The path of these bytes, `None` when it could lead out of the data directory.
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        let safe = !bytes.contains(&0)
            && bytes.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."));
        safe.then_some(ManifestPath(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path as text, `None` when it is no UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Display for ManifestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from_utf8_lossy(&self.0))
    }
}

/// How a file's checksum was computed.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ChecksumAlgorithm {
    /// Not at all.
    None,
    /// CRC-32C, the server's default.
    Crc32c,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl ChecksumAlgorithm {
    /// The algorithm of that name in any case, as `pg_checksum_parse_type` has it.
    pub fn of_name(name: &str) -> Option<Self> {
        [
            ChecksumAlgorithm::None,
            ChecksumAlgorithm::Crc32c,
            ChecksumAlgorithm::Sha224,
            ChecksumAlgorithm::Sha256,
            ChecksumAlgorithm::Sha384,
            ChecksumAlgorithm::Sha512,
        ]
        .into_iter()
        .find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// The name as manifests and `MANIFEST_CHECKSUMS` write it.
    pub fn name(self) -> &'static str {
        match self {
            ChecksumAlgorithm::None => "NONE",
            ChecksumAlgorithm::Crc32c => "CRC32C",
            ChecksumAlgorithm::Sha224 => "SHA224",
            ChecksumAlgorithm::Sha256 => "SHA256",
            ChecksumAlgorithm::Sha384 => "SHA384",
            ChecksumAlgorithm::Sha512 => "SHA512",
        }
    }

    /// Bytes of a checksum.
    pub fn length(self) -> usize {
        match self {
            ChecksumAlgorithm::None => 0,
            ChecksumAlgorithm::Crc32c => 4,
            ChecksumAlgorithm::Sha224 => 28,
            ChecksumAlgorithm::Sha256 => 32,
            ChecksumAlgorithm::Sha384 => 48,
            ChecksumAlgorithm::Sha512 => 64,
        }
    }
}

impl fmt::Display for ChecksumAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A file's checksum.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct FileChecksum {
    /// How it was computed.
    pub algorithm: ChecksumAlgorithm,
    /// The value, as long as [`ChecksumAlgorithm::length`] says; a CRC-32C stands there in
    /// [the server's byte order](crc32c_manifest_bytes).
    pub value: Vec<u8>,
}

/// WAL of one timeline that a backup needs.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct WalRange {
    /// The timeline.
    pub timeline: TimelineId,
    /// First byte.
    pub start: Lsn,
    /// First byte no longer needed.
    pub end: Lsn,
}

/// Why bytes are no manifest this product accepts.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ManifestError {
    /// It is no JSON, or not of a manifest's shape.
    #[error("the backup manifest is malformed at byte {offset}: {what}")]
    Syntax {
        /// Where the offending part ends.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A text or number longer than any a server writes.
    #[error("the backup manifest has an overlong value at byte {offset}")]
    TooLong {
        /// Where the limit was passed.
        offset: u64,
    },
    /// A version other than 1 and 2.
    #[error("the backup manifest has version {version}, which is not supported")]
    Version {
        /// The version read.
        version: u64,
    },
    /// A path that is empty, absolute, leads upwards or contains a NUL.
    #[error("the backup manifest lists {path:?}, which leads out of the data directory")]
    UnsafePath {
        /// The path, bytes that are no UTF-8 replaced.
        path: String,
    },
    /// A file that is listed more than once.
    #[error("the backup manifest lists {path:?} twice")]
    ListedTwice {
        /// The file.
        path: String,
    },
    /// A checksum of unknown algorithm, of wrong length or no hexadecimal number.
    #[error("the backup manifest has an unusable checksum for {path:?}")]
    FileChecksum {
        /// The file.
        path: String,
    },
    /// The manifest's own checksum does not match.
    #[error("the backup manifest is damaged: its checksum is {stored}, its content's {computed}")]
    Checksum {
        /// What the last line says, hexadecimal.
        stored: String,
        /// What the lines before amount to, hexadecimal.
        computed: String,
    },
    /// It ends too early.
    #[error("the backup manifest ends early, at byte {offset}")]
    Truncated {
        /// How many bytes there were.
        offset: u64,
    },
}

impl BackupManifest {
    /// Reads a whole manifest and verifies its checksum.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn parse(content: &[u8]) -> Result<Self, ManifestError> {
        let mut files = Vec::new();
        let mut reader = ManifestReader::new();
        reader.push(content, &mut |file| files.push(file))?;
        let summary = reader.finish()?;
        // Twice the same would make up for one that is not listed where files are counted.
        let mut paths: Vec<_> = files.iter().map(|file| &file.path).collect();
        paths.sort_unstable();
        if let Some(pair) = paths.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ManifestError::ListedTwice { path: pair[0].to_string() });
        }
        Ok(BackupManifest {
            version: summary.version,
            system_identifier: summary.system_identifier,
            files,
            wal_ranges: summary.wal_ranges,
        })
    }
}

/// The bytes a manifest shows for a CRC-32C: as a little-endian server keeps the number in memory.
pub fn crc32c_manifest_bytes(crc: u32) -> [u8; 4] {
    crc.to_le_bytes()
}

#[cfg(test)]
mod tests;
