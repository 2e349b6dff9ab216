//! Names of relation files in a data directory (`relpath.c`, `reinit.c`).

use std::fmt;

use serde::{Deserialize, Serialize};

/// One of the parallel files of a relation.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fork {
    /// The data itself; no suffix.
    Main,
    /// The free space map, `_fsm`.
    Fsm,
    /// The visibility map, `_vm`.
    Vm,
    /// What an unlogged relation is reset to, `_init`.
    Init,
}

/// A file of a permanent or unlogged relation.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct RelationFile {
    /// The number in the file's name, `pg_class.relfilenode` or the relation map's.
    pub relfilenode: u32,
    /// Which fork.
    pub fork: Fork,
    /// The segment, from 0; of 1 GiB unless the server was built otherwise.
    pub segment: u32,
}

/// Reads a path relative to the data directory.
///
/// Relation files stand in `global/`, `base/<database>/` and
/// `pg_tblspc/<tablespace>/PG_<version>/<database>/`. `None` for all else: `pg_control`, relation
/// maps, `PG_VERSION`, temporary relations (`t3_123`), sort files, incremental files.
#[must_use]
pub fn relation_file(path: &str) -> Option<RelationFile> {
    let mut parts = path.split('/');
    let name = match parts.next()? {
        "global" => parts.next()?,
        "base" => {
            number(parts.next()?)?;
            parts.next()?
        }
        "pg_tblspc" => {
            number(parts.next()?)?;
            parts.next()?.strip_prefix("PG_")?;
            number(parts.next()?)?;
            parts.next()?
        }
        _ => return None,
    };
    if parts.next().is_some() {
        return None;
    }
    let (stem, segment) = match name.split_once('.') {
        Some((stem, digits)) => (stem, number(digits)?),
        None => (name, 0),
    };
    let (digits, fork) = match stem.split_once('_') {
        None => (stem, Fork::Main),
        Some((digits, "fsm")) => (digits, Fork::Fsm),
        Some((digits, "vm")) => (digits, Fork::Vm),
        Some((digits, "init")) => (digits, Fork::Init),
        Some(_) => return None,
    };
    Some(RelationFile { relfilenode: number(digits)?, fork, segment })
}

/// A positive number without sign or leading zeros, as PostgreSQL writes and expects it.
fn number(digits: &str) -> Option<u32> {
    if digits.starts_with('0') {
        return None;
    }
    crate::text::decimal(digits).and_then(|number| u32::try_from(number).ok())
}

impl fmt::Display for RelationFile {
    /// The file's name without its folder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = match self.fork {
            Fork::Main => "",
            Fork::Fsm => "_fsm",
            Fork::Vm => "_vm",
            Fork::Init => "_init",
        };
        write!(f, "{}{suffix}", self.relfilenode)?;
        if self.segment > 0 {
            write!(f, ".{}", self.segment)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn knows_every_place() {
        let file = |relfilenode, fork, segment| Some(RelationFile { relfilenode, fork, segment });
        assert_eq!(relation_file("base/5/1259.1"), file(1259, Fork::Main, 1));
        assert_eq!(relation_file("global/1262_vm"), file(1262, Fork::Vm, 0));
        assert_eq!(
            relation_file("pg_tblspc/16400/PG_15_202209061/5/1234_fsm.2"),
            file(1234, Fork::Fsm, 2)
        );
        assert_eq!(relation_file("base/5/16384_init"), file(16384, Fork::Init, 0));
    }

    #[test]
    fn leaves_everything_else() {
        for path in [
            "global/pg_control",
            "global/pg_filenode.map",
            "base/5/pg_filenode.map",
            "base/5/PG_VERSION",
            "base/5/t3_123",
            "base/5/t3_123_fsm.1",
            "base/5/pg_internal.init",
            "base/pgsql_tmp/pgsql_tmp5.0",
            "base/5/INCREMENTAL.1259",
            "base/5/1259.0",
            "base/5/1259.",
            "base/5/01259",
            "base/5/1259_",
            "base/5/1259_vm_fsm",
            "base/5/4294967296",
            "base/5/1/2",
            "base/5",
            "base/05/1259",
            "pg_tblspc/16400/5/1234",
            "pg_tblspc/16400/PG_15_1/x/1234",
            "pg_xact/0000",
            "pg_multixact/offsets/1",
            "1259",
            "",
        ] {
            assert_eq!(relation_file(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn names_round_trip(relfilenode in 1u32.., segment: u32, fork in 0..4) {
            let fork = [Fork::Main, Fork::Fsm, Fork::Vm, Fork::Init][usize::try_from(fork).unwrap_or(0)];
            let file = RelationFile { relfilenode, fork, segment };
            let path = format!("base/5/{file}");
            prop_assert_eq!(relation_file(&path), Some(file));
        }

        #[test]
        fn random_paths_never_panic(path in "\\PC{0,60}") {
            let _ = relation_file(&path);
        }
    }
}
