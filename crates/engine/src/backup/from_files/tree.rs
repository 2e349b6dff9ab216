//! What belongs to a copy of a data directory: what the server itself would send (`basebackup.c`: `sendDir`,
//! `sendTablespace`, `excludeDirContents`, `excludeFiles`).

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use holdfast_postgres::{Fork, relation_file};
use rustix::fs::{Access, access};

use crate::error::{EngineError, Result};

/// Directories that are kept without what is in them, wherever they are.
const EMPTIED: [&str; 7] = [
    "pg_dynshmem",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
];
/// Files that are left out, wherever they are.
const LEFT_OUT: [&str; 8] = [
    ".DS_Store",
    "backup_label",
    "backup_manifest",
    "current_logfiles.tmp",
    "postgresql.auto.conf.tmp",
    "postmaster.opts",
    "postmaster.pid",
    "tablespace_map",
];
/// What begins with one of these is left out too.
const LEFT_OUT_PREFIXES: [&str; 2] = ["pg_internal.init", "pgsql_tmp"];
/// The file that says where replay begins; it is read last, by itself.
pub(super) const CONTROL: &str = "global/pg_control";
const WAL: &str = "pg_wal";
const TABLESPACES: &str = "pg_tblspc";

/// A data directory.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) root: PathBuf,
    /// What a tablespace's directory has for this server: `PG_15_202209061`.
    pub(super) version_directory: String,
    /// What is in `pg_wal` beside segments.
    pub(super) wal_directories: &'static [&'static str],
}

/// Something in a data directory.
pub(super) struct Found {
    /// Where it is in the copy.
    pub(super) path: String,
    pub(super) kind: FoundKind,
    /// Permission bits.
    pub(super) mode: u32,
    /// Last change, seconds since 1970.
    pub(super) mtime: i64,
}

pub(super) enum FoundKind {
    Directory,
    /// A file, where it can be read, and how long it was when it was found.
    File(PathBuf, u64),
    /// A symbolic link that is not copied, since it leads out of the data directory; as the server passes it over.
    Link,
}

type Visit<'a> = dyn FnMut(Found) -> Result<()> + 'a;

impl Tree {
    /// Visits everything but the control file, in an order that stays the same. What goes away meanwhile is passed
    /// over: replay does the same to the copy.
    pub(super) fn walk(&self, visit: &mut Visit<'_>) -> Result<()> {
        self.directory("", &self.root, visit)
    }

    /// Bytes of all files; an error where one of them may not be read.
    pub(super) fn readable_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        self.walk(&mut |found| {
            if let FoundKind::File(source, size) = found.kind {
                there(access(&source, Access::READ_OK).map_err(io::Error::from), &source)?;
                bytes += size;
            }
            Ok(())
        })?;
        Ok(bytes)
    }

    fn directory(&self, path: &str, source: &Path, visit: &mut Visit<'_>) -> Result<()> {
        let Some(names) = names_in(source)? else { return Ok(()) };
        let of_tablespace = path.strip_prefix(TABLESPACES).is_some_and(|rest| {
            rest.strip_prefix('/').is_some_and(|oid| !oid.is_empty() && !oid.contains('/'))
        });
        for name in names {
            let inner = join(path, &name);
            // Another server, of another version, may have its files in the same tablespace.
            let of_another = of_tablespace && name != self.version_directory;
            if of_another || is_left_out(&name) || inner == CONTROL {
                continue;
            }
            if holds_relations(path) {
                // Of an unlogged relation only what it is reset to is copied. Asked when its turn has come: the file
                // that says so may be made after the names were read.
                let unlogged =
                    relation_file(&inner).filter(|r| r.fork != Fork::Init).is_some_and(|r| {
                        source.join(format!("{}_init", r.relfilenode)).symlink_metadata().is_ok()
                    });
                if unlogged || is_temporary(&name) {
                    continue;
                }
            }
            self.entry(&inner, &name, &source.join(&name), visit)?;
        }
        Ok(())
    }

    fn entry(&self, path: &str, name: &str, source: &Path, visit: &mut Visit<'_>) -> Result<()> {
        let Some(own) = there(source.symlink_metadata(), source)? else { return Ok(()) };
        let found = |path: &str, kind, metadata: &Metadata| Found {
            path: path.to_owned(),
            kind,
            mode: metadata.mode() & 0o7777,
            mtime: metadata.mtime(),
        };
        let emptied = EMPTIED.contains(&name) || path == WAL;
        if emptied && (own.is_dir() || own.is_symlink()) {
            // A link becomes a directory, whatever it leads to.
            let directory = |path: &str| Found {
                mode: if own.is_dir() { own.mode() & 0o7777 } else { 0o700 },
                ..found(path, FoundKind::Directory, &own)
            };
            visit(directory(path))?;
            let inner = if path == WAL { self.wal_directories } else { &[] };
            return inner.iter().try_for_each(|name| visit(directory(&join(WAL, name))));
        }
        let in_tablespaces = path.strip_prefix(TABLESPACES).is_some_and(|r| r.starts_with('/'));
        let metadata = if own.is_symlink() {
            if !(in_tablespaces && path.matches('/').count() == 1) {
                return visit(found(path, FoundKind::Link, &own));
            }
            let Some(followed) = there(source.metadata(), source)? else { return Ok(()) };
            followed
        } else {
            own
        };
        if metadata.is_dir() {
            visit(found(path, FoundKind::Directory, &metadata))?;
            return self.directory(path, source, visit);
        }
        if metadata.is_file() {
            let kind = FoundKind::File(source.to_owned(), metadata.len());
            return visit(found(path, kind, &metadata));
        }
        // A socket or a pipe.
        Ok(())
    }
}

/// Whether relations of a database are in a directory.
fn holds_relations(path: &str) -> bool {
    relation_file(&join(path, "1")).is_some() && path != "global"
}

/// Names of temporary relations: `t3_16384`, with a fork and a segment perhaps (`relfilenode.c`,
/// `looks_like_temp_rel_name`).
fn is_temporary(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((backend, rest)) = name.strip_prefix('t').and_then(|rest| rest.split_once('_')) else {
        return false;
    };
    let (stem, segment) = rest.split_once('.').map_or((rest, None), |(s, n)| (s, Some(n)));
    let (number, fork) = stem.split_once('_').map_or((stem, None), |(n, f)| (n, Some(f)));
    digits(backend)
        && digits(number)
        && fork.is_none_or(|fork| ["fsm", "vm", "init"].contains(&fork))
        && segment.is_none_or(digits)
}

fn is_left_out(name: &str) -> bool {
    LEFT_OUT.contains(&name) || LEFT_OUT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

/// The names in a directory, in order; none when it has gone.
fn names_in(directory: &Path) -> Result<Option<Vec<String>>> {
    let Some(entries) = there(std::fs::read_dir(directory), directory)? else { return Ok(None) };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(EngineError::file("read", directory))?.file_name();
        let name = name.into_string().map_err(|name| {
            let path = directory.join(name);
            EngineError::refused(
                "file_name_unusable",
                format!("the name of {} is not UTF-8", path.display()),
                "PostgreSQL makes no such file. Move it out of the data directory.",
            )
        })?;
        names.push(name);
    }
    names.sort_unstable();
    Ok(Some(names))
}

/// What was found; none when it has gone.
pub(super) fn there<T>(outcome: io::Result<T>, path: &Path) -> Result<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(EngineError::file("read", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory with these files; a path that ends with a slash is a directory.
    fn tree(paths: &[&str]) -> (tempfile::TempDir, Tree) {
        let root = tempfile::tempdir().unwrap();
        for path in paths {
            let whole = root.path().join(path);
            fs::create_dir_all(whole.parent().unwrap()).unwrap();
            if path.ends_with('/') {
                fs::create_dir_all(&whole).unwrap();
            } else {
                fs::write(&whole, path).unwrap();
            }
        }
        let tree = Tree {
            root: root.path().to_owned(),
            version_directory: "PG_17_202406281".to_owned(),
            wal_directories: &["archive_status", "summaries"],
        };
        (root, tree)
    }

    fn paths(tree: &Tree) -> Vec<String> {
        let mut paths = Vec::new();
        tree.walk(&mut |found| {
            let end = match found.kind {
                FoundKind::Directory => "/",
                FoundKind::File(..) => "",
                FoundKind::Link => "@",
            };
            paths.push(format!("{}{end}", found.path));
            Ok(())
        })
        .unwrap();
        paths
    }

    #[test]
    fn what_the_server_does_not_send_is_left_out() {
        let (_root, tree) = tree(&[
            "PG_VERSION",
            "postmaster.pid",
            "postmaster.opts",
            "backup_label",
            "backup_label.old",
            "backup_manifest",
            "current_logfiles",
            "current_logfiles.tmp",
            "global/pg_control",
            "global/1262",
            "global/pg_internal.init",
            "global/pg_internal.init.771",
            "base/pgsql_tmp/pgsql_tmp7.0",
            "base/5/1259",
            "base/5/pgsql_tmp",
            "pg_stat_tmp/db_0.stat",
            "pg_replslot/one/state",
            "pg_subtrans/0000",
            "pg_wal/000000010000000000000001",
            "pg_wal/archive_status/000000010000000000000001.done",
            "pg_xact/0000",
        ]);
        assert_eq!(
            paths(&tree),
            [
                "PG_VERSION",
                "backup_label.old",
                "base/",
                "base/5/",
                "base/5/1259",
                "current_logfiles",
                "global/",
                "global/1262",
                "pg_replslot/",
                "pg_stat_tmp/",
                "pg_subtrans/",
                "pg_wal/",
                "pg_wal/archive_status/",
                "pg_wal/summaries/",
                "pg_xact/",
                "pg_xact/0000",
            ]
        );
        let bytes: usize = paths(&tree).iter().filter(|p| !p.ends_with('/')).map(String::len).sum();
        assert_eq!(tree.readable_bytes().unwrap(), bytes as u64);
    }

    #[test]
    fn of_an_unlogged_relation_only_its_init_fork_is_copied() {
        let (_root, tree) = tree(&[
            "base/5/16384",
            "base/5/16384.1",
            "base/5/16384_fsm",
            "base/5/16384_init",
            "base/5/163840",
            "base/6/16384",
            "base/5/t3_16390",
            "base/5/t3_16390_fsm.1",
            "base/5/t3x_16390",
            "t3_16390",
        ]);
        assert_eq!(
            paths(&tree),
            [
                "base/",
                "base/5/",
                "base/5/163840",
                "base/5/16384_init",
                "base/5/t3x_16390",
                "base/6/",
                "base/6/16384",
                "t3_16390",
            ]
        );
    }

    #[test]
    fn links_are_followed_to_tablespaces_only() {
        let (root, tree) = tree(&["base/5/1", "pg_tblspc/9/PG_17_202406281/5/2", "pg_tblspc/x"]);
        let elsewhere = tempfile::tempdir().unwrap();
        for path in ["PG_17_202406281/5/16400", "PG_16_202307071/5/16400", "notes"] {
            let whole = elsewhere.path().join(path);
            fs::create_dir_all(whole.parent().unwrap()).unwrap();
            fs::write(whole, "x").unwrap();
        }
        symlink(elsewhere.path(), root.path().join("pg_tblspc/16384")).unwrap();
        symlink(elsewhere.path(), root.path().join("base/link")).unwrap();
        symlink("/nowhere/at/all", root.path().join("pg_wal")).unwrap();
        symlink("/nowhere/at/all", root.path().join("pg_tblspc/16385")).unwrap();
        assert_eq!(
            paths(&tree),
            [
                "base/",
                "base/5/",
                "base/5/1",
                "base/link@",
                "pg_tblspc/",
                "pg_tblspc/16384/",
                "pg_tblspc/16384/PG_17_202406281/",
                "pg_tblspc/16384/PG_17_202406281/5/",
                "pg_tblspc/16384/PG_17_202406281/5/16400",
                "pg_tblspc/9/",
                "pg_tblspc/9/PG_17_202406281/",
                "pg_tblspc/9/PG_17_202406281/5/",
                "pg_tblspc/9/PG_17_202406281/5/2",
                "pg_tblspc/x",
                "pg_wal/",
                "pg_wal/archive_status/",
                "pg_wal/summaries/",
            ]
        );
    }
}
