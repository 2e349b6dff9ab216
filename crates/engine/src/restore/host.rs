//! Whether this host can run a copy of the source, and what would differ.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use holdfast_postgres::ServerVersion;
use serde_json::json;

use crate::error::{EngineError, Result};
use crate::server::binaries::ServerBinaries;
use crate::snapshot::{DatabaseFacts, SourceFacts};
use crate::{Finding, Severity};

/// Looks at everything that would differ. A finding of severity error refuses the restore.
pub(super) fn check(
    source: &SourceFacts,
    version: ServerVersion,
    binaries: Option<&ServerBinaries>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    match binaries {
        None => findings.push(Finding::new(
            Severity::Error,
            "no_server_of_this_major",
            format!("no PostgreSQL {} server can be started on this machine", version.major()),
            Some(install_hint(version.major())),
        )),
        Some(b) => {
            if b.minor() < version.minor() {
                findings.push(Finding::new(
                    Severity::Warning,
                    "older_minor_version",
                    format!("the source ran PostgreSQL {version}, this machine has {}", b.version),
                    Some(format!("Update PostgreSQL {} on this machine.", b.major)),
                ));
            } else {
                findings.push(Finding::new(
                    Severity::Ok,
                    "server_found",
                    format!("PostgreSQL {} from {}", b.version, b.bin_directory.display()),
                    None,
                ));
            }
            libraries(source, b, &mut findings);
        }
    }
    architecture(source, &mut findings);
    locales(&source.databases, &mut findings);
    collations(&source.databases, &mut findings);
    findings
}

/// Refuses what cannot run here, and what would differ unless that is accepted.
pub(super) fn refuse(findings: &[Finding], accepted: bool) -> Result<()> {
    let blocking: Vec<_> = findings
        .iter()
        .filter(|f| f.severity == Severity::Error)
        .filter(|f| {
            !accepted
                || ["no_server_of_this_major", "other_architecture", "locale_missing"]
                    .contains(&f.code.as_str())
        })
        .collect();
    let Some(first) = blocking.first() else { return Ok(()) };
    Err(EngineError::Refused {
        code: "host_differs",
        message: format!(
            "this host cannot run the copy as it is: {}",
            blocking.iter().map(|f| f.message.as_str()).collect::<Vec<_>>().join("; ")
        ),
        hint: first.repair.clone().unwrap_or_default(),
        details: json!({ "findings": findings }),
    })
}

fn install_hint(major: u32) -> String {
    if cfg!(target_os = "macos") {
        format!("brew install postgresql@{major}")
    } else {
        format!(
            "apt-get install postgresql-{major}   (or set HOLDFAST_PG_BIN_{major} to a directory that has postgres)"
        )
    }
}

/// A data directory is laid out for one kind of processor.
fn architecture(source: &SourceFacts, findings: &mut Vec<Finding>) {
    let Some(platform) =
        source.version_text.split(" on ").nth(1).and_then(|p| p.split([',', ' ']).next())
    else {
        return;
    };
    let theirs = platform.split('-').next().unwrap_or_default();
    let same = match std::env::consts::ARCH {
        "x86_64" => ["x86_64", "amd64"].contains(&theirs),
        "aarch64" => ["aarch64", "arm64"].contains(&theirs),
        other => theirs == other,
    };
    if !same {
        findings.push(Finding::new(
            Severity::Error,
            "other_architecture",
            format!("the source runs on {theirs}, this machine is {}", std::env::consts::ARCH),
            Some("Restore on a machine of the source's architecture.".to_owned()),
        ));
    }
}

fn libraries(source: &SourceFacts, binaries: &ServerBinaries, findings: &mut Vec<Finding>) {
    let directory = library_directory(binaries);
    for library in &source.shared_preload_libraries {
        let name = Path::new(library)
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        let there = directory.as_ref().is_some_and(|d| {
            ["so", "dylib", "dll"].iter().any(|e| {
                d.join(&name).with_extension(e).is_file() || d.join(format!("{name}.{e}")).is_file()
            })
        });
        if !there {
            findings.push(Finding::new(
                Severity::Error,
                "preload_library_missing",
                format!("the source loads {library} at start (shared_preload_libraries); this machine does not have it"),
                Some(format!(
                    "Install the extension for PostgreSQL {}. Without it WAL of its own kind cannot be replayed, and its \
                     functions are missing; --accept-host-differences starts without it.",
                    binaries.major
                )),
            ));
        }
    }
}

/// The libraries of the source that this machine has.
pub(super) fn loadable_libraries(source: &SourceFacts, findings: &[Finding]) -> Vec<String> {
    let missing: BTreeSet<_> = findings
        .iter()
        .filter(|f| f.code == "preload_library_missing")
        .map(|f| f.message.clone())
        .collect();
    source
        .shared_preload_libraries
        .iter()
        .filter(|l| !missing.iter().any(|m| m.contains(&format!("loads {l} at"))))
        .cloned()
        .collect()
}

fn library_directory(binaries: &ServerBinaries) -> Option<PathBuf> {
    if let Some(program) = binaries.optional_program("pg_config")
        && let Ok(output) = Command::new(program).arg("--pkglibdir").output()
        && output.status.success()
    {
        let directory = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        if directory.is_dir() {
            return Some(directory);
        }
    }
    let parent = binaries.bin_directory.parent()?;
    [parent.join("lib/postgresql"), parent.join("lib")].into_iter().find(|d| d.is_dir())
}

fn locales(databases: &[DatabaseFacts], findings: &mut Vec<Finding>) {
    let Some(have) = installed_locales() else {
        findings.push(Finding::new(
            Severity::Warning,
            "locales_unknown",
            "the locales of this machine could not be listed",
            None,
        ));
        return;
    };
    let wanted: BTreeSet<_> = databases.iter().flat_map(|d| [&d.collate, &d.ctype]).collect();
    for locale in wanted {
        if !is_built_in(locale) && !have.contains(&normalised(locale)) {
            findings.push(Finding::new(
                Severity::Error,
                "locale_missing",
                format!("a database of the source uses the locale {locale}; this machine does not have it"),
                Some(format!(
                    "Generate it (Debian: sed -i 's/^# *{locale}/{locale}/' /etc/locale.gen && locale-gen). Without it \
                     nobody can connect to that database."
                )),
            ));
        }
    }
}

fn installed_locales() -> Option<BTreeSet<String>> {
    let output = Command::new("locale").arg("-a").output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).lines().map(normalised).collect())
}

fn is_built_in(locale: &str) -> bool {
    matches!(normalised(locale).as_str(), "c" | "posix" | "c.utf8" | "")
}

/// "en_US.UTF-8" and "en_US.utf8" are one locale.
fn normalised(locale: &str) -> String {
    let lower = locale.trim().to_lowercase();
    match lower.split_once('.') {
        Some((name, codeset)) => format!("{name}.{}", codeset.replace(['-', '_'], "")),
        None => lower,
    }
}

fn collations(databases: &[DatabaseFacts], findings: &mut Vec<Finding>) {
    let Some(here) = libc_version() else { return };
    let theirs: BTreeSet<_> = databases
        .iter()
        .filter(|d| d.provider == "c" && !is_built_in(&d.collate))
        .filter_map(|d| d.actual_version.as_deref().or(d.collation_version.as_deref()))
        .collect();
    for version in theirs {
        if version != here {
            findings.push(Finding::new(
                Severity::Error,
                "collation_version_differs",
                format!("the source sorts text with glibc {version}, this machine with {here}"),
                Some(
                    "Indexes over text may be in another order here and miss rows until they are rebuilt (REINDEX). Restore on \
                     a machine with the same glibc, or pass --accept-host-differences and reindex before use."
                        .to_owned(),
                ),
            ));
        }
    }
}

fn libc_version() -> Option<String> {
    let output = Command::new("getconf")
        .arg("GNU_LIBC_VERSION")
        .output()
        .ok()
        .filter(|o| o.status.success())?;
    String::from_utf8_lossy(&output.stdout).trim().strip_prefix("glibc ").map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(collate: &str, version: Option<&str>) -> DatabaseFacts {
        DatabaseFacts {
            name: "app".into(),
            collate: collate.into(),
            ctype: collate.into(),
            provider: "c".into(),
            collation_version: version.map(Into::into),
            actual_version: version.map(Into::into),
        }
    }

    #[test]
    fn locale_names_compare_as_the_system_means_them() {
        assert_eq!(normalised("en_US.UTF-8"), normalised("en_US.utf8"));
        assert!(is_built_in("C.UTF-8") && is_built_in("POSIX") && !is_built_in("de_DE.UTF-8"));
    }

    #[test]
    fn a_missing_locale_is_named() {
        let mut findings = Vec::new();
        locales(&[database("xx_YY.UTF-8", None)], &mut findings);
        assert!(findings.iter().any(|f| f.severity >= Severity::Warning
            && (f.message.contains("xx_YY") || f.code == "locales_unknown")));
    }

    #[test]
    fn another_collation_version_refuses() {
        let mut findings = Vec::new();
        collations(&[database("en_US.UTF-8", Some("1.0"))], &mut findings);
        if libc_version().is_some() {
            assert_eq!(findings.first().map(|f| f.severity), Some(Severity::Error));
        }
        findings.clear();
        collations(&[database("C.UTF-8", Some("1.0"))], &mut findings);
        assert!(findings.is_empty());
    }

    #[test]
    fn a_missing_server_is_an_error_with_the_way_to_get_one() {
        let findings = check(&SourceFacts::default(), ServerVersion(170_011), None);
        assert!(findings.iter().any(|f| f.code == "no_server_of_this_major" && f.repair.is_some()));
    }
}
