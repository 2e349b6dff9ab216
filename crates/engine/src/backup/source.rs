//! What a restore on another host must know about the source.

use std::collections::BTreeMap;

use holdfast_wire::Connection;

use super::configuration;
use crate::error::Result;
use crate::snapshot::{DatabaseFacts, SourceFacts};

/// Settings whose values may hold secrets or addresses of other machines.
const PRIVATE_SETTINGS: [&str; 4] =
    ["primary_conninfo", "ssl_passphrase_command", "archive_command", "restore_command"];

/// Asks an ordinary session; what the role may not see is left empty, not guessed.
pub(super) async fn look(connection: &mut Connection) -> Result<SourceFacts> {
    let major = connection.facts().version.major();
    let mut facts = SourceFacts {
        superuser: connection
            .catalog_value("SELECT rolname FROM pg_catalog.pg_roles WHERE oid = 10")
            .await?
            .unwrap_or_else(|| "postgres".to_owned()),
        version_text: connection
            .catalog_value("SELECT pg_catalog.version()")
            .await?
            .unwrap_or_default(),
        data_checksums: connection.show("data_checksums").await?.eq("on"),
        ..SourceFacts::default()
    };
    if let Ok(libraries) = connection.show("shared_preload_libraries").await {
        facts.shared_preload_libraries = split_libraries(&libraries);
    }
    let versions = if major >= 15 {
        "datlocprovider, datcollversion, pg_catalog.pg_database_collation_actual_version(oid)"
    } else {
        "'c', NULL, NULL"
    };
    let sql = format!(
        "SELECT datname, datcollate, datctype, {versions} FROM pg_catalog.pg_database ORDER BY oid"
    );
    for row in connection.catalog_rows(&sql).await? {
        let mut cells = row.into_iter();
        let mut cell = || cells.next().flatten();
        facts.databases.push(DatabaseFacts {
            name: cell().unwrap_or_default(),
            collate: cell().unwrap_or_default(),
            ctype: cell().unwrap_or_default(),
            provider: cell().unwrap_or_default(),
            collation_version: cell(),
            actual_version: cell(),
        });
    }
    let sql = "SELECT name, setting FROM pg_catalog.pg_settings WHERE source NOT IN ('default', 'override', 'client')";
    facts.settings = connection
        .catalog_rows(sql)
        .await?
        .into_iter()
        .filter_map(|row| {
            let mut cells = row.into_iter();
            Some((cells.next()??, cells.next()??))
        })
        .filter(|(name, _)| !PRIVATE_SETTINGS.contains(&name.as_str()))
        .collect::<BTreeMap<_, _>>();
    match configuration::read_outside(connection).await? {
        Some(files) => facts.configuration = files,
        None => facts.configuration_hidden = true,
    }
    Ok(facts)
}

/// Splits a list of libraries as PostgreSQL does: commas, optional double quotes.
fn split_libraries(text: &str) -> Vec<String> {
    text.split(',')
        .map(|l| l.trim().trim_matches('"').to_owned())
        .filter(|l| !l.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_a_comma_separated_list() {
        assert_eq!(
            split_libraries("pg_stat_statements, \"auto_explain\""),
            ["pg_stat_statements", "auto_explain"]
        );
        assert!(split_libraries("").is_empty());
    }
}
