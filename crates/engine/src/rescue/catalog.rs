//! What a server's catalogs say about tables, their keys and their foreign keys.
//!
//! Whoever may create something in a schema of the search path could put an operator or a function there
//! that fits better than PostgreSQL's own, and that would run with the rights of whoever rescues
//! (CVE-2018-1058). The catalogs are therefore asked with `pg_catalog` alone in sight ([`told`]), and
//! rows are compared by the operators of their keys.

use holdfast_wire::Connection;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{EngineError, Result};

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Table {
    pub(super) oid: u32,
    /// `schema.name`, quoted where SQL needs it.
    pub(super) sql: String,
    /// `r` table, `p` partitioned table, `m` materialized view.
    pub(super) kind: String,
    /// The root of the partitions it is one of, as [`Table::sql`].
    pub(super) root: Option<String>,
    /// In order.
    pub(super) columns: Vec<Column>,
    /// The columns that tell one row from another: the primary key, else a unique index whose columns
    /// are never null. Empty when there is none.
    pub(super) key: Vec<String>,
    /// `OPERATOR(…)` that tells whether two values of each of them are the same key.
    pub(super) key_operators: Vec<String>,
    /// Triggers of users that fire.
    pub(super) triggers: Vec<String>,
    /// Whether its rows are not in the WAL: a copy of another moment does not have them.
    pub(super) unlogged: bool,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Column {
    pub(super) name: String,
    /// Its name, quoted where SQL needs it.
    pub(super) sql: String,
    /// Its type, as PostgreSQL prints it.
    #[serde(rename = "type")]
    pub(super) type_name: String,
    pub(super) not_null: bool,
    /// Whether it has a default of any kind, an identity included.
    pub(super) default: bool,
    /// `GENERATED ALWAYS AS IDENTITY`: a later update cannot set it.
    pub(super) identity_always: bool,
    /// Worked out from other columns.
    pub(super) generated: bool,
}

impl Table {
    /// How a `FROM` names it: a partitioned table stands for its partitions, any other only for itself.
    pub(super) fn from(&self) -> String {
        if self.kind == "p" { self.sql.clone() } else { format!("ONLY {}", self.sql) }
    }

    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// The condition that the rows `one` and `other` have the same key.
    pub(super) fn same_key(&self, one: &str, other: &str) -> String {
        let pairs: Vec<_> = self
            .key
            .iter()
            .zip(&self.key_operators)
            .map(|(column, operator)| {
                format!("{one}.{0} {operator} {other}.{0}", identifier(column))
            })
            .collect();
        pairs.join(" AND ")
    }

    /// The columns that hold something of their own.
    pub(super) fn stored(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|c| !c.generated)
    }
}

/// A foreign key. Partitions are named by their root.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct ForeignKey {
    pub(super) name: String,
    /// Oid of the table that refers.
    pub(super) child: u32,
    /// Oid of the table that is referred to.
    pub(super) parent: u32,
    pub(super) child_columns: Vec<String>,
    pub(super) parent_columns: Vec<String>,
    /// `OPERATOR(…)` between a parent's and a child's column.
    pub(super) operators: Vec<String>,
    pub(super) deferrable: bool,
}

impl ForeignKey {
    /// The condition that a row `parent` is the one that a row `child` refers to.
    pub(super) fn joins(&self, parent: &str, child: &str) -> String {
        let pairs: Vec<_> = self
            .parent_columns
            .iter()
            .zip(&self.child_columns)
            .zip(&self.operators)
            .map(|((p, c), operator)| {
                format!("{parent}.{} {operator} {child}.{}", identifier(p), identifier(c))
            })
            .collect();
        pairs.join(" AND ")
    }
}

/// A name in quotes: right for every name.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string constant, whatever `standard_conforming_strings` says.
pub(super) fn literal(text: &str) -> String {
    if text.contains('\\') {
        format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

const TABLE: &str = "
SELECT json_build_object(
  'oid', c.oid::int8, 'sql', format('%I.%I', n.nspname, c.relname),
  'kind', c.relkind, 'unlogged', c.relpersistence <> 'p',
  'root', (SELECT format('%I.%I', rn.nspname, rc.relname)
             FROM pg_class rc JOIN pg_namespace rn ON rn.oid = rc.relnamespace
            WHERE rc.oid = pg_partition_root(c.oid) AND rc.oid <> c.oid),
  'columns', (SELECT coalesce(json_agg(json_build_object(
        'name', a.attname, 'sql', quote_ident(a.attname), 'type', format_type(a.atttypid, a.atttypmod),
        'not_null', a.attnotnull, 'default', a.atthasdef OR a.attidentity <> '',
        'identity_always', a.attidentity = 'a', 'generated', a.attgenerated <> '') ORDER BY a.attnum), '[]')
      FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  'key', coalesce(keys.names, '[]'), 'key_operators', coalesce(keys.operators, '[]'),
  'triggers', (SELECT coalesce(json_agg(DISTINCT t.tgname), '[]') FROM pg_trigger t
     WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND (t.tgtype & 20) <> 0
       AND (t.tgrelid = c.oid OR t.tgrelid IN (SELECT relid FROM pg_partition_tree(c.oid)))))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
LATERAL (SELECT json_agg(a.attname ORDER BY k.place) AS names,
      json_agg(format('OPERATOR(%I.%s)', o_n.nspname, o.oprname) ORDER BY k.place) AS operators
    FROM (SELECT i.indkey, i.indclass, i.indnkeyatts FROM pg_index i
           WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND NOT i.indisexclusion AND i.indpred IS NULL AND i.indexprs IS NULL
             AND NOT EXISTS (SELECT 1 FROM pg_attribute u
                              WHERE u.attrelid = c.oid AND NOT u.attnotnull
                                AND u.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
           ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid LIMIT 1) best,
         ROWS FROM (unnest(best.indkey::int2[]), unnest(best.indclass::oid[])) WITH ORDINALITY AS k (number, class, place)
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
    JOIN pg_opclass opc ON opc.oid = k.class
    JOIN pg_amop amop ON amop.amopfamily = opc.opcfamily AND amop.amoplefttype = opc.opcintype
                     AND amop.amoprighttype = opc.opcintype AND amop.amopstrategy = 3
    JOIN pg_operator o ON o.oid = amop.amopopr
    JOIN pg_namespace o_n ON o_n.oid = o.oprnamespace) keys
WHERE c.relkind IN ('r', 'p', 'm') AND c.oid = ";

const FOREIGN_KEYS: &str = "
SELECT coalesce(json_agg(json_build_object(
  'name', f.conname,
  'child', coalesce(pg_partition_root(f.conrelid)::oid, f.conrelid)::int8,
  'parent', coalesce(pg_partition_root(f.confrelid)::oid, f.confrelid)::int8,
  'child_columns', (SELECT json_agg(a.attname ORDER BY k.place)
     FROM unnest(f.conkey) WITH ORDINALITY AS k (number, place)
     JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.number),
  'parent_columns', (SELECT json_agg(a.attname ORDER BY k.place)
     FROM unnest(f.confkey) WITH ORDINALITY AS k (number, place)
     JOIN pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.number),
  'operators', (SELECT json_agg(format('OPERATOR(%I.%s)', n.nspname, o.oprname) ORDER BY k.place)
     FROM unnest(f.conpfeqop) WITH ORDINALITY AS k (operator, place)
     JOIN pg_operator o ON o.oid = k.operator
     JOIN pg_namespace n ON n.oid = o.oprnamespace),
  'deferrable', f.condeferrable) ORDER BY f.oid), '[]')
FROM pg_constraint f WHERE f.contype = 'f' AND f.conparentid = 0";

/// A sequence that gives a column its values.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Sequence {
    /// The column.
    pub(super) column: String,
    /// `schema.name`, quoted where SQL needs it.
    pub(super) name: String,
    ascending: bool,
}

impl Sequence {
    /// A query that sets it past the column's values in `rows`, never back; it gives the value that was
    /// set, or no row.
    pub(super) fn set_past(&self, rows: &str) -> String {
        let (most, beyond) = if self.ascending { ("max", ">") } else { ("min", "<") };
        format!(
            "SELECT pg_catalog.setval({}::regclass, m.value) FROM (SELECT {most}({}) AS value FROM {rows}) m, {} s \
             WHERE m.value {beyond} s.last_value OR m.value = s.last_value AND NOT s.is_called",
            literal(&self.name),
            identifier(&self.column),
            self.name
        )
    }
}

/// The sequences behind a table's columns: owned ones, identities, and those of defaults.
pub(super) async fn sequences_of(connection: &mut Connection, oid: u32) -> Result<Vec<Sequence>> {
    let sql = format!(
        "SELECT json_agg(json_build_object('column', a.attname, 'name', format('%I.%I', n.nspname, s.relname), \
           'ascending', q.seqincrement > 0)) \
         FROM (SELECT d.refobjid AS relation, d.refobjsubid AS number, d.objid AS sequence FROM pg_depend d \
                WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass \
                  AND d.deptype IN ('a', 'i') \
               UNION SELECT ad.adrelid, ad.adnum, d.refobjid FROM pg_attrdef ad JOIN pg_depend d \
                  ON d.classid = 'pg_attrdef'::regclass AND d.objid = ad.oid AND d.refclassid = 'pg_class'::regclass) u \
         JOIN pg_attribute a ON a.attrelid = u.relation AND a.attnum = u.number \
         JOIN pg_class s ON s.oid = u.sequence AND s.relkind = 'S' \
         JOIN pg_namespace n ON n.oid = s.relnamespace \
         JOIN pg_sequence q ON q.seqrelid = s.oid \
         WHERE u.relation = {oid} AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)"
    );
    told(connection, &sql).await?.map_or(Ok(Vec::new()), |text| read(&text))
}

/// The table that a name means to this session; none when there is none.
pub(super) async fn table(connection: &mut Connection, name: &str) -> Result<Option<Table>> {
    let sql = format!("SELECT pg_catalog.to_regclass({})::oid::int8", literal(name));
    match connection.query_value(&sql).await {
        Ok(Some(oid)) => table_of(connection, read(&oid)?).await,
        Ok(None) => Ok(None),
        // A name that SQL cannot read names nothing.
        Err(error) if error.sqlstate().is_some_and(|s| s.starts_with("42")) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The table with an oid.
pub(super) async fn table_of(connection: &mut Connection, oid: u32) -> Result<Option<Table>> {
    let told = told(connection, &format!("{TABLE} {oid}")).await?;
    told.map(|text| read(&text)).transpose()
}

/// All foreign keys of the database.
pub(super) async fn foreign_keys(connection: &mut Connection) -> Result<Vec<ForeignKey>> {
    told(connection, FOREIGN_KEYS).await?.map_or(Ok(Vec::new()), |text| read(&text))
}

/// The one value that a query of the catalogs gives, with no schema but PostgreSQL's own in sight. The
/// session's own search path comes back: names, conditions and triggers depend on it.
pub(super) async fn told(connection: &mut Connection, sql: &str) -> Result<Option<String>> {
    let alone = format!("SET search_path = pg_catalog; {sql}; RESET search_path");
    Ok(connection.query_value(&alone).await?)
}

/// A JSON document that a query gave.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|e| EngineError::Fault(format!("a catalog query gave {text:?}: {e}")))
}

/// Makes text mean the same in two sessions: dates, numbers, bytes and their encoding. In a transaction
/// the settings end with it: a session that a pooler lends must not keep them.
pub(super) async fn agree_on_text(
    connection: &mut Connection,
    encoding: &str,
    within_transaction: bool,
) -> Result<()> {
    let encoding = literal(encoding);
    let settings = [
        ("client_encoding", encoding.as_str()),
        ("datestyle", "'ISO, YMD'"),
        ("intervalstyle", "'postgres'"),
        ("extra_float_digits", "3"),
        ("bytea_output", "'hex'"),
        ("timezone", "'UTC'"),
        ("statement_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
        ("row_security", "off"),
    ];
    let local = if within_transaction { "LOCAL " } else { "" };
    let sql = settings.map(|(name, value)| format!("SET {local}{name} = {value}"));
    connection.query(&sql.join("; ")).await?;
    connection.set_silence_limit(None);
    Ok(())
}

/// The encoding in which rows cross unharmed: none is assumed where the database has none.
pub(super) async fn encoding_of(connection: &mut Connection) -> Result<String> {
    let server = connection.query_value("SHOW server_encoding").await?.unwrap_or_default();
    Ok(if server == "SQL_ASCII" { server } else { "UTF8".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_constants_are_quoted() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), " E'a\\\\''b'");
    }

    #[test]
    fn a_key_of_several_columns_joins_all_of_them() {
        let key = ForeignKey {
            name: "f".into(),
            child: 1,
            parent: 2,
            child_columns: vec!["a".into(), "B".into()],
            parent_columns: vec!["x".into(), "y".into()],
            operators: vec!["OPERATOR(pg_catalog.=)".into(); 2],
            deferrable: false,
        };
        assert_eq!(
            key.joins("p", "c"),
            "p.\"x\" OPERATOR(pg_catalog.=) c.\"a\" AND p.\"y\" OPERATOR(pg_catalog.=) c.\"B\""
        );
    }
}
