//! The demo, headless: exact row counts, and nothing left behind.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use holdfast_tests::cli::Cli;
use serde_json::Value;

#[test]
fn the_demo_restores_every_row_and_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("demo");
    let cli = Cli::new(place.path().join("unused")).unwrap().timeout(Duration::from_mins(4));
    let result = cli.json(&["demo", "--headless", "--dir", directory.to_str().unwrap()]).unwrap();
    assert_eq!(result["verified"], true, "{result:#}");
    assert_eq!(result["restore"]["verified"], true);
    let tables = result["tables"].as_array().unwrap();
    for table in tables {
        assert_eq!(table["restored"], table["at_target"], "{table}");
    }
    let items = tables.iter().find(|t| t["table"] == "timeline_items").unwrap();
    assert_eq!(items["after_disaster"], 0);
    assert_eq!(items["restored"], 82_800);
    let messages = tables.iter().find(|t| t["table"] == "messages").unwrap();
    assert!(
        messages["after_disaster"].as_u64() > messages["at_target"].as_u64(),
        "good writes went on"
    );
    assert!(result["seconds"].as_object().is_some_and(|s| s.values().all(Value::is_f64)));
    assert!(!directory.exists(), "files were left behind");
    let gone = std::process::Command::new("pgrep")
        .args(["-f", directory.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(
        gone.stdout.is_empty(),
        "processes were left behind: {}",
        String::from_utf8_lossy(&gone.stdout)
    );
}

#[test]
fn a_directory_in_use_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let workspace = place.path().join("workspace");
    std::fs::create_dir(&workspace).unwrap();
    std::fs::write(workspace.join("mine"), "precious").unwrap();
    let cli = Cli::new(place.path().join("unused")).unwrap();
    let finished = cli
        .run(&["--json", "demo", "--headless", "--dir", place.path().to_str().unwrap()])
        .unwrap();
    assert_eq!(finished.code, 3, "{finished}");
    assert_eq!(finished.json().unwrap()["error"]["code"], "destination_not_empty");
    assert_eq!(std::fs::read_to_string(workspace.join("mine")).unwrap(), "precious");
}
