//! The layers and the dependencies: which crate may know of which, and what may be in the
//! product at all.

use crate::{Fault, licenses, process, workspace::Workspace};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

/// Each of our crates, and those of ours that it may use. Arrows point downwards only.
const LAYERS: &[(&str, &[&str])] = &[
    ("holdfast-postgres", &[]),
    ("holdfast-repository", &[]),
    ("holdfast-wire", &["holdfast-postgres"]),
    ("holdfast-engine", &["holdfast-postgres", "holdfast-wire", "holdfast-repository"]),
    ("holdfast-api", &["holdfast-engine", "holdfast-postgres"]),
    ("holdfast-cli", &["holdfast-api", "holdfast-engine"]),
    ("holdfast-desktop", &["holdfast-api", "holdfast-engine"]),
    (
        "holdfast-fuzz",
        &["holdfast-postgres", "holdfast-wire", "holdfast-repository", "holdfast-engine"],
    ),
    // The test ground is used by tests only and stands outside.
    ("holdfast-tests", &[]),
    ("xtask", &["holdfast-tests"]),
];

/// Crates that never come in, with the reason.
const BANNED: &[(&str, &str)] = &[
    ("aws-lc-rs", "ring is the one cryptographic provider"),
    ("aws-lc-sys", "ring is the one cryptographic provider"),
    ("native-tls", "TLS is rustls, the same on every platform"),
    ("openssl", "TLS is rustls, the same on every platform"),
    ("openssl-sys", "TLS is rustls, the same on every platform"),
];

/// What a crate must not reach, however deep.
const UNREACHABLE: &[(&str, &[&str], &str)] = &[
    (
        "holdfast-postgres",
        &["tokio", "async-trait", "futures-util", "futures-core", "object_store", "mio"],
        "PostgreSQL's formats are pure: no I/O, no async",
    ),
    (
        "holdfast-cli",
        &["tauri", "wry", "tao", "gtk", "webkit2gtk", "webkit2gtk-sys", "javascriptcore-rs"],
        "everything but the desktop shell builds without WebKit",
    ),
    ("holdfast-tests", &["tauri", "wry", "gtk", "webkit2gtk"], "tests build without WebKit"),
];

/// What the sources of holdfast-postgres do not contain outside of their tests.
const IMPURE: &[&str] =
    &["std::fs", "std::net", "std::process", "std::env", "SystemTime::now", "Instant::now"];

/// Checks everything; the error lists all violations.
pub(crate) fn check(workspace: &Workspace) -> Result<String, Fault> {
    let host = process::answer(std::process::Command::new("rustc").args(["--print", "host-tuple"]));
    let mut metadata = workspace.cargo();
    metadata.args(["metadata", "--format-version", "1", "--quiet"]);
    if let Some(host) = &host {
        metadata.args(["--filter-platform", host]);
    }
    let told = metadata.output()?;
    if !told.status.success() {
        return Err(String::from_utf8_lossy(&told.stderr).into_owned().into());
    }
    let graph = Graph::read(&serde_json::from_slice(&told.stdout)?)?;
    let mut violations = graph.violations();
    violations.extend(impurities(&workspace.root.join("crates/postgres/src"))?);
    if violations.is_empty() {
        return Ok(format!("{} crates", graph.packages.len()));
    }
    Err(violations.join("\n").into())
}

struct Package {
    name: String,
    license: Option<String>,
    /// `None` for our own.
    source: Option<String>,
    /// Ids of what it uses, without what only its tests use.
    uses: Vec<String>,
}

struct Graph {
    packages: BTreeMap<String, Package>,
}

impl Graph {
    /// Reads the answer of `cargo metadata`.
    fn read(metadata: &Value) -> Result<Self, Fault> {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let mut packages = BTreeMap::new();
        for package in list(&metadata["packages"]) {
            let (Some(id), Some(name)) = (text(&package["id"]), text(&package["name"])) else {
                return Err("cargo metadata has a package without a name".into());
            };
            let (license, source) = (text(&package["license"]), text(&package["source"]));
            packages.insert(id, Package { name, license, source, uses: Vec::new() });
        }
        let nodes = list(&metadata["resolve"]["nodes"]);
        let resolved: BTreeSet<String> =
            nodes.iter().filter_map(|node| text(&node["id"])).collect();
        packages.retain(|id, _| resolved.contains(id));
        for node in nodes {
            let Some(package) = node["id"].as_str().and_then(|id| packages.get_mut(id)) else {
                continue;
            };
            for used in list(&node["deps"]) {
                let only_tests = list(&used["dep_kinds"]).iter().all(|kind| kind["kind"] == "dev");
                if let (false, Some(id)) = (only_tests, text(&used["pkg"])) {
                    package.uses.push(id);
                }
            }
        }
        Ok(Self { packages })
    }

    fn named(&self, name: &str) -> Option<&String> {
        self.packages.iter().find(|(_, package)| package.name == name).map(|(id, _)| id)
    }

    fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        for package in self.packages.values() {
            let name = &package.name;
            match &package.source {
                None => found.extend(self.layer_violations(package)),
                Some(source) if source.starts_with("registry+") => {}
                Some(source) => found.push(format!("{name} comes from {source}, no registry")),
            }
            if let Some((_, why)) = BANNED.iter().find(|(banned, _)| banned == name) {
                found.push(format!("{name} is in the tree: {why}"));
            }
            match &package.license {
                Some(license) if licenses::is_allowed(license) => {}
                Some(license) => found.push(format!("{name} has the licence {license}")),
                None => found.push(format!("{name} names no licence")),
            }
        }
        for (from, forbidden, why) in UNREACHABLE {
            for name in *forbidden {
                if let Some(path) = self.path(from, name) {
                    found.push(format!("{}: {why}", path.join(" -> ")));
                }
            }
        }
        found
    }

    fn layer_violations(&self, package: &Package) -> Vec<String> {
        let name = &package.name;
        let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| layer == name) else {
            return vec![format!("{name} has no place among the layers (boundaries.rs)")];
        };
        package
            .uses
            .iter()
            .filter_map(|id| self.packages.get(id))
            .filter(|used| used.source.is_none() && !allowed.contains(&used.name.as_str()))
            .map(|used| format!("{name} -> {}: arrows only point downwards", used.name))
            .collect()
    }

    /// The shortest way from one crate to another, if there is one.
    fn path(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let start = self.named(from)?;
        let mut came_from: BTreeMap<&String, &String> = BTreeMap::new();
        let mut border = vec![start];
        while !border.is_empty() {
            let mut next = Vec::new();
            for id in border {
                let package = self.packages.get(id)?;
                if package.name == to && id != start {
                    let mut path = vec![to.to_owned()];
                    let mut at = id;
                    while let Some(before) = came_from.get(at) {
                        path.push(self.packages.get(*before)?.name.clone());
                        at = before;
                    }
                    path.reverse();
                    return Some(path);
                }
                for used in &package.uses {
                    if used != start && !came_from.contains_key(used) {
                        came_from.insert(used, id);
                        next.push(used);
                    }
                }
            }
            border = next;
        }
        None
    }
}

/// I/O in the sources of a pure crate. Test modules may do what they like.
fn impurities(folder: &Path) -> Result<Vec<String>, Fault> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(impurities(&path)?);
            continue;
        }
        if path.file_stem().is_some_and(|stem| stem.to_string_lossy().contains("test")) {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim_start().starts_with("#[cfg(test)]") {
                break;
            }
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                let mut violation = String::new();
                let _ = write!(violation, "{}:{number}: {word} in a pure crate", path.display());
                found.push(violation);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn graph(uses: &[(&str, &str, &str)]) -> Graph {
        let mut names: Vec<&str> = uses.iter().flat_map(|(from, to, _)| [*from, *to]).collect();
        names.sort_unstable();
        names.dedup();
        let source = |name: &str| {
            let own = name == "xtask" || name.starts_with("holdfast-");
            if own { Value::Null } else { json!("registry+x") }
        };
        let packages: Vec<Value> = names
            .iter()
            .map(|n| json!({"id": n, "name": n, "license": "MIT", "source": source(n)}))
            .collect();
        let nodes: Vec<Value> = names
            .iter()
            .map(|name| {
                let deps: Vec<Value> = uses
                    .iter()
                    .filter(|(from, ..)| from == name)
                    .map(|(_, to, kind)| {
                        let kind = if *kind == "dev" { json!("dev") } else { Value::Null };
                        json!({"pkg": to, "dep_kinds": [{"kind": kind}]})
                    })
                    .collect();
                json!({"id": name, "deps": deps})
            })
            .collect();
        let metadata = json!({"packages": packages, "resolve": {"nodes": nodes}});
        Graph::read(&metadata).unwrap_or(Graph { packages: BTreeMap::new() })
    }

    #[test]
    fn arrows_point_downwards() {
        let good = graph(&[
            ("holdfast-cli", "holdfast-api", ""),
            ("holdfast-api", "holdfast-engine", ""),
            ("holdfast-repository", "holdfast-postgres", "dev"),
        ]);
        assert_eq!(good.violations(), Vec::<String>::new());
        let bad = graph(&[
            ("holdfast-repository", "holdfast-postgres", ""),
            ("holdfast-new", "holdfast-api", ""),
        ]);
        assert_eq!(bad.violations().len(), 2);
    }

    #[test]
    fn forbidden_crates_are_found_with_their_way() {
        let found = graph(&[
            ("holdfast-postgres", "innocent", ""),
            ("innocent", "tokio", ""),
            ("holdfast-wire", "native-tls", ""),
        ])
        .violations();
        assert!(
            found.iter().any(|text| text.starts_with("holdfast-postgres -> innocent -> tokio"))
        );
        assert!(found.iter().any(|text| text.starts_with("native-tls is in the tree")));
    }
}
