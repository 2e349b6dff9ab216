//! Names of relations as the catalogs had them at each moment: the catalog pages of a snapshot, and
//! what the WAL did to them since.

use std::collections::HashMap;

use holdfast_postgres::heap::{self, ClassRow, RowChange};
use holdfast_postgres::{BlockReference, Fork, Lsn, WalChange, WalRecord, page_lsn, relation_file};
use holdfast_repository::Repository;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::snapshot::Snapshot;
use crate::snapshot::contents::read_files;

/// Oids of the catalogs that are read; `pg_class` and `pg_database` are found through the relation
/// maps, `pg_namespace` through `pg_class`.
const PG_CLASS: u32 = 1259;
const PG_NAMESPACE: u32 = 2615;
const PG_DATABASE: u32 = 1262;
/// Catalogs of one database that are larger are not held in memory: names stay unknown then.
const CATALOG_BYTES_MAX: u64 = 256 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Catalog {
    Class,
    Namespace,
    Database,
}

/// A file of a database: the database's oid (0 for what is shared), its relfilenode.
type File = (u32, u32);

/// What happened to a row of `pg_class`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ClassChange {
    /// The relation is there now, like this.
    Put(u32, ClassRow),
    /// This version of it went.
    Removed(u32, ClassRow),
}

/// The catalogs at the place in the WAL that was read last, with every earlier version of a name.
#[derive(Debug)]
pub(crate) struct Names {
    major: u32,
    page_size: usize,
    catalogs: HashMap<File, Catalog>,
    mapped: HashMap<File, u32>,
    rows: HashMap<(File, u32), HashMap<u16, Vec<u8>>>,
    pages: HashMap<(File, u32), Lsn>,
    relations: HashMap<File, Vec<(Lsn, ClassRow)>>,
    by_oid: HashMap<(u32, u32), Vec<(Lsn, ClassRow)>>,
    namespaces: HashMap<(u32, u32), Vec<(Lsn, String)>>,
    databases: HashMap<u32, String>,
}

impl Names {
    /// Knows nothing yet.
    pub(super) fn none(major: u32, page_size: usize) -> Self {
        Self {
            major,
            page_size,
            catalogs: HashMap::new(),
            mapped: HashMap::new(),
            rows: HashMap::new(),
            pages: HashMap::new(),
            relations: HashMap::new(),
            by_oid: HashMap::new(),
            namespaces: HashMap::new(),
            databases: HashMap::new(),
        }
    }

    /// Reads the catalogs out of a snapshot. Its pages are of different moments: the WAL from the
    /// snapshot's start on must follow.
    pub(super) async fn of_snapshot(
        repository: &Repository,
        snapshot: &Snapshot,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let page_size = usize::try_from(snapshot.block_size).unwrap_or(8192);
        let mut names = Self::none(snapshot.server_version.major(), page_size);
        let limit = CATALOG_BYTES_MAX;
        let maps = read_files(repository, snapshot, cancel, limit, |entry| {
            entry.path.ends_with("/pg_filenode.map")
        })
        .await?
        .unwrap_or_default();
        for (path, bytes) in maps {
            names.map(database_of(&path).unwrap_or(0), &bytes);
        }
        // pg_class first: it tells where pg_namespace is.
        for wanted in [&[Catalog::Class, Catalog::Database][..], &[Catalog::Namespace]] {
            let files = read_files(repository, snapshot, cancel, limit, |entry| {
                names.catalog_at(&entry.path).is_some_and(|(_, c)| wanted.contains(&c))
            })
            .await?
            .unwrap_or_default();
            for (path, bytes) in files {
                names.load(&path, &bytes);
            }
        }
        Ok(names)
    }

    /// Lets go of the pages: what follows in the WAL is not read.
    pub(super) fn settle(&mut self) {
        self.rows = HashMap::new();
        self.pages = HashMap::new();
    }

    fn catalog_at(&self, path: &str) -> Option<(File, Catalog)> {
        let file = relation_file(path).filter(|file| file.fork == Fork::Main)?;
        let key = (database_of(path)?, file.relfilenode);
        self.catalogs.get(&key).map(|catalog| (key, *catalog))
    }

    /// Takes over a relation map.
    fn map(&mut self, database: u32, bytes: &[u8]) {
        for (oid, relfilenode) in heap::relation_map(bytes).unwrap_or_default() {
            self.mapped.insert((database, relfilenode), oid);
            match oid {
                PG_CLASS => self.catalogs.insert((database, relfilenode), Catalog::Class),
                PG_DATABASE => self.catalogs.insert((database, relfilenode), Catalog::Database),
                _ => None,
            };
        }
    }

    fn load(&mut self, path: &str, bytes: &[u8]) {
        let Some((file, catalog)) = self.catalog_at(path) else { return };
        let segment = relation_file(path).map_or(0, |f| f.segment);
        // RELSEG_SIZE of all common builds: 1 GiB.
        let per_segment = u32::try_from((1usize << 30) / self.page_size).unwrap_or(0);
        for (n, page) in (0u32..).zip(bytes.chunks(self.page_size)) {
            let block = segment * per_segment + n;
            self.pages.insert((file, block), page_lsn(page));
            let mut tuples: Vec<_> = heap::tuples(page).collect();
            // Of several versions the current one comes last, and counts.
            tuples.sort_by_key(|(_, tuple)| heap::is_current(tuple));
            for (line, tuple) in tuples {
                self.rows.entry((file, block)).or_default().insert(line, tuple.to_vec());
                self.note(file.0, catalog, Lsn::INVALID, tuple);
            }
        }
    }

    /// Remembers what a row of a catalog says from `at` on.
    fn note(&mut self, database: u32, catalog: Catalog, at: Lsn, tuple: &[u8]) -> Option<ClassRow> {
        match catalog {
            Catalog::Class => {
                let row = heap::class_row(tuple, self.major)?;
                if row.oid == PG_NAMESPACE {
                    self.catalogs.insert((database, row.relfilenode), Catalog::Namespace);
                }
                let mut lists = vec![self.by_oid.entry((database, row.oid)).or_default()];
                if row.relfilenode != 0 {
                    lists.push(self.relations.entry((database, row.relfilenode)).or_default());
                }
                for list in lists {
                    if list.last().is_none_or(|(_, last)| *last != row) {
                        list.push((at, row.clone()));
                    }
                }
                Some(row)
            }
            Catalog::Namespace => {
                let (oid, name) = heap::named_row(tuple)?;
                self.namespaces.entry((database, oid)).or_default().push((at, name));
                None
            }
            Catalog::Database => {
                let (oid, name) = heap::named_row(tuple)?;
                self.databases.insert(oid, name);
                None
            }
        }
    }

    /// Follows one record; gives what it did to `pg_class`.
    pub(super) fn follow(
        &mut self,
        record: &WalRecord,
        blocks: &[BlockReference<'_>],
        main: &[u8],
        change: Option<&WalChange>,
    ) -> Vec<ClassChange> {
        match change {
            Some(WalChange::MapUpdated { database, map }) => self.map(*database, map),
            Some(WalChange::DatabaseCreated { database, template: Some(template) }) => {
                self.copy_database(*template, *database);
            }
            _ => {}
        }
        let mut told = Vec::new();
        let tracked = |b: &&BlockReference<'_>| {
            b.fork == 0
                && self.catalogs.contains_key(&(b.relation.database, b.relation.relfilenode))
        };
        let Some(first) = blocks.iter().find(tracked) else { return told };
        let file = (first.relation.database, first.relation.relfilenode);
        let Some(catalog) = self.catalogs.get(&file).copied() else { return told };
        let current =
            |block: u32| self.pages.get(&(file, block)).is_some_and(|at| *at >= record.span.end);
        if blocks.iter().filter(|b| b.fork == 0).all(|b| current(b.block)) {
            return told;
        }
        let known = |block: u32, line: u16| {
            self.rows.get(&(file, block)).and_then(|rows| rows.get(&line)).cloned()
        };
        let changes = heap::row_changes(record, blocks, main, known).unwrap_or_default();
        let at = record.span.start;
        for change in changes {
            match change {
                RowChange::Removed { block, line } => {
                    // The row stays known: a page keeps it until it is pruned, and a rollback brings it back.
                    let row = self.rows.get(&(file, block)).and_then(|rows| rows.get(&line));
                    if let (Catalog::Class, Some(row)) =
                        (catalog, row.and_then(|row| heap::class_row(row, self.major)))
                    {
                        told.push(ClassChange::Removed(file.0, row));
                    }
                }
                RowChange::Put { block, line, tuple } => {
                    told.extend(
                        self.note(file.0, catalog, at, &tuple)
                            .map(|row| ClassChange::Put(file.0, row)),
                    );
                    self.rows.entry((file, block)).or_default().insert(line, tuple);
                }
            }
        }
        for block in blocks.iter().filter(|b| b.fork == 0) {
            self.pages.insert((file, block.block), record.span.end);
            let Some(page) = block.image.and_then(|image| image.page(self.page_size)) else {
                continue;
            };
            for (line, tuple) in heap::tuples(&page) {
                let rows = self.rows.entry((file, block.block)).or_default();
                let before = rows.insert(line, tuple.to_vec());
                let body = |t: &[u8]| t.get(24..).map(<[u8]>::to_vec);
                if before.as_deref().and_then(body) == body(tuple) {
                    continue;
                }
                told.extend(
                    self.note(file.0, catalog, at, tuple).map(|row| ClassChange::Put(file.0, row)),
                );
            }
        }
        told
    }

    /// A database that was copied file by file has the names of its template.
    fn copy_database(&mut self, from: u32, to: u32) {
        copy_keys(&mut self.catalogs, from, to);
        copy_keys(&mut self.mapped, from, to);
        copy_keys(&mut self.relations, from, to);
        copy_keys(&mut self.by_oid, from, to);
        copy_keys(&mut self.namespaces, from, to);
        let rows: Vec<_> = self.rows.iter().filter(|((file, _), _)| file.0 == from).collect();
        let rows: Vec<_> = rows
            .into_iter()
            .map(|((file, block), rows)| (((to, file.1), *block), rows.clone()))
            .collect();
        self.rows.extend(rows);
    }

    /// What a relation's file was at a moment.
    pub(super) fn relation(&self, database: u32, relfilenode: u32, at: Lsn) -> Option<&ClassRow> {
        as_of(self.relations.get(&(database, relfilenode))?, at)
    }

    /// The oid of a catalog that is found through the relation map: `pg_class` does not know its file.
    pub(super) fn mapped(&self, database: u32, relfilenode: u32) -> Option<u32> {
        self.mapped.get(&(database, relfilenode)).copied()
    }

    /// The relation with an oid at a moment.
    pub(super) fn by_oid(&self, database: u32, oid: u32, at: Lsn) -> Option<&ClassRow> {
        as_of(self.by_oid.get(&(database, oid))?, at)
    }

    /// Where in the WAL a relation was made; [`Lsn::INVALID`] for one that was there before.
    pub(super) fn first_seen(&self, database: u32, oid: u32) -> Option<Lsn> {
        Some(self.by_oid.get(&(database, oid))?.first()?.0)
    }

    /// `schema.name` of a relation at a moment; without the schema where that is not known.
    pub(super) fn qualified(&self, database: u32, row: &ClassRow, at: Lsn) -> String {
        let schema = self.namespaces.get(&(database, row.namespace)).and_then(|s| as_of(s, at));
        schema.map_or_else(|| row.name.clone(), |schema| format!("{schema}.{}", row.name))
    }

    /// The name of a database.
    pub(super) fn database(&self, oid: u32) -> Option<&str> {
        self.databases.get(&oid).map(String::as_str)
    }

    /// Whether names of a database's relations are known at all.
    pub(super) fn knows(&self, database: u32) -> bool {
        self.catalogs.contains_key(&(database, PG_CLASS))
            || self.catalogs.iter().any(|((d, _), c)| *d == database && *c == Catalog::Class)
    }
}

/// Repeats everything of one database for another.
fn copy_keys<V: Clone>(map: &mut HashMap<(u32, u32), V>, from: u32, to: u32) {
    let copies: Vec<_> = map
        .iter()
        .filter(|((database, _), _)| *database == from)
        .map(|((_, key), value)| ((to, *key), value.clone()))
        .collect();
    map.extend(copies);
}

/// The newest version that was there at `at`; a relation made in the same transaction is known from
/// its first version on.
fn as_of<T>(versions: &[(Lsn, T)], at: Lsn) -> Option<&T> {
    let known = versions.iter().rev().find(|(from, _)| *from <= at).or(versions.first())?;
    Some(&known.1)
}

/// The oid of the database that a file belongs to; 0 for what all share.
fn database_of(path: &str) -> Option<u32> {
    let mut parts = path.split('/');
    match parts.next()? {
        "global" => Some(0),
        "base" => parts.next()?.parse().ok(),
        "pg_tblspc" => parts.nth(2)?.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_the_moment_counts() {
        let versions = [(Lsn(10), "old"), (Lsn(20), "new")];
        assert_eq!(as_of(&versions, Lsn(9)), Some(&"old"));
        assert_eq!(as_of(&versions, Lsn(19)), Some(&"old"));
        assert_eq!(as_of(&versions, Lsn(20)), Some(&"new"));
        assert_eq!(as_of::<u8>(&[], Lsn(20)), None);
    }

    #[test]
    fn a_path_tells_its_database() {
        assert_eq!(database_of("base/5/1259"), Some(5));
        assert_eq!(database_of("global/1262"), Some(0));
        assert_eq!(database_of("pg_tblspc/16400/PG_15_202209061/7/1259"), Some(7));
        assert_eq!(database_of("pg_xact/0000"), None);
    }
}
