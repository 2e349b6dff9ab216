//! What differs between the supported major versions, in one table.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::system::IdentifierParseError;
use crate::text::decimal;

/// A server's `server_version_num`, such as 170011 for 17.11.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerVersion(pub u32);

/// How a walsender wants the options of `BASE_BACKUP` written (`repl_gram.y`).
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum BackupGrammar {
    /// Keywords with blanks between: `BASE_BACKUP LABEL 'x' FAST`. The only form up to 14.
    Keywords,
    /// A list in parentheses: `BASE_BACKUP (LABEL 'x', CHECKPOINT 'fast')`. The only form from 15.
    Parenthesised,
}

/// What a major version speaks and writes.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct VersionTraits {
    /// The major version.
    pub major: u32,
    /// `XLOG_PAGE_MAGIC` of `xlog_internal.h`, the first two bytes of each WAL page.
    pub wal_magic: u16,
    /// `PG_CONTROL_VERSION` of `pg_control.h`.
    pub control_version: u32,
    /// The grammar of `BASE_BACKUP`.
    pub backup_grammar: BackupGrammar,
    /// Whether all archives and the manifest share one COPY with a type byte per message.
    pub multiplexed_copy: bool,
    /// Whether the server compresses its archives when asked to.
    pub server_compression: bool,
    /// Whether `UPLOAD_MANIFEST` and `INCREMENTAL` exist.
    pub incremental: bool,
    /// The manifest version the server writes.
    pub manifest_version: u32,
    /// Whether `READ_REPLICATION_SLOT` exists.
    pub read_replication_slot: bool,
}

/// Oldest first; the only place that knows these numbers.
const VERSIONS: [VersionTraits; 5] = [
    VersionTraits {
        major: 14,
        wal_magic: 0xD10D,
        control_version: 1300,
        backup_grammar: BackupGrammar::Keywords,
        multiplexed_copy: false,
        server_compression: false,
        incremental: false,
        manifest_version: 1,
        read_replication_slot: false,
    },
    VersionTraits {
        major: 15,
        wal_magic: 0xD110,
        control_version: 1300,
        backup_grammar: BackupGrammar::Parenthesised,
        multiplexed_copy: true,
        server_compression: true,
        incremental: false,
        manifest_version: 1,
        read_replication_slot: true,
    },
    VersionTraits {
        major: 16,
        wal_magic: 0xD113,
        control_version: 1300,
        backup_grammar: BackupGrammar::Parenthesised,
        multiplexed_copy: true,
        server_compression: true,
        incremental: false,
        manifest_version: 1,
        read_replication_slot: true,
    },
    VersionTraits {
        major: 17,
        wal_magic: 0xD116,
        control_version: 1700,
        backup_grammar: BackupGrammar::Parenthesised,
        multiplexed_copy: true,
        server_compression: true,
        incremental: true,
        manifest_version: 2,
        read_replication_slot: true,
    },
    VersionTraits {
        major: 18,
        wal_magic: 0xD118,
        control_version: 1800,
        backup_grammar: BackupGrammar::Parenthesised,
        multiplexed_copy: true,
        server_compression: true,
        incremental: true,
        manifest_version: 2,
        read_replication_slot: true,
    },
];

impl ServerVersion {
    /// The major version; of servers before 10 the first two parts (906), none of which is supported.
    pub fn major(self) -> u32 {
        if self.0 >= 100_000 { self.0 / 10_000 } else { self.0 / 100 }
    }

    /// The minor version.
    pub fn minor(self) -> u32 {
        if self.0 >= 100_000 { self.0 % 10_000 } else { self.0 % 100 }
    }

    /// The row of the version table; `None` for a major this product does not support.
    pub fn traits(self) -> Option<&'static VersionTraits> {
        VersionTraits::of_major(self.major())
    }
}

impl VersionTraits {
    /// All supported majors, oldest first.
    pub fn all() -> &'static [VersionTraits] {
        &VERSIONS
    }

    /// The row of a major version.
    pub fn of_major(major: u32) -> Option<&'static VersionTraits> {
        VERSIONS.iter().find(|row| row.major == major)
    }

    /// The row of the major version that writes WAL pages with this magic.
    pub fn of_wal_magic(magic: u16) -> Option<&'static VersionTraits> {
        VERSIONS.iter().find(|row| row.wal_magic == magic)
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >= 100_000 {
            write!(f, "{}.{}", self.major(), self.minor())
        } else {
            write!(f, "{}.{}.{}", self.0 / 10_000, self.0 / 100 % 100, self.0 % 100)
        }
    }
}

impl FromStr for ServerVersion {
    type Err = IdentifierParseError;

    /// Reads `server_version_num`, decimal.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        decimal(text)
            .and_then(|number| u32::try_from(number).ok())
            .map(ServerVersion)
            .ok_or_else(|| IdentifierParseError::new("server version", text))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn reads_and_prints_versions() {
        let version: ServerVersion = "170011".parse().unwrap();
        assert_eq!((version.major(), version.minor()), (17, 11));
        assert_eq!(version.to_string(), "17.11");
        assert_eq!(ServerVersion(90624).to_string(), "9.6.24");
        assert_eq!((ServerVersion(90624).major(), ServerVersion(90624).minor()), (906, 24));
        assert!("17.11".parse::<ServerVersion>().is_err());
        assert_eq!(serde_json::to_string(&version).unwrap(), "170011");
    }

    #[test]
    fn the_table_is_ordered_and_complete() {
        let majors: Vec<u32> = VersionTraits::all().iter().map(|row| row.major).collect();
        assert_eq!(majors, [14, 15, 16, 17, 18]);
        assert!(VersionTraits::all().is_sorted_by_key(|row| row.wal_magic));
        assert_eq!(ServerVersion(130_000).traits(), None);
        assert_eq!(ServerVersion(190_000).traits(), None);
        let row = ServerVersion(140_023).traits().unwrap();
        assert_eq!(row.backup_grammar, BackupGrammar::Keywords);
        assert!(!row.multiplexed_copy && !row.incremental && !row.read_replication_slot);
        assert_eq!(VersionTraits::of_wal_magic(0xD116).unwrap().major, 17);
        assert_eq!(VersionTraits::of_wal_magic(0), None);
    }
}
