//! What is deployed agrees with what is built: alerts name metrics that exist, and each has its section in the runbook.

use std::collections::BTreeSet;
use std::fs;

use tests::root;

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every metric a text names.
fn metrics(text: &str) -> BTreeSet<&str> {
    let joins = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.split(|c| !joins(c)).filter(|word| word.starts_with("drumbeat_")).collect()
}

fn alerts(rules: &str) -> BTreeSet<&str> {
    rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect()
}

#[test]
fn alerts_name_metrics_that_exist() {
    let rules = read("deploy/alerts.yml");
    let source = read("crates/daemon/src/metrics.rs");
    let built = metrics(&source);
    let unknown: Vec<&str> = metrics(&rules).difference(&built).copied().collect();
    assert!(
        unknown.is_empty(),
        "deploy/alerts.yml: no such metrics in crates/daemon/src/metrics.rs: {unknown:?}"
    );
    assert!(!metrics(&rules).is_empty());
}

#[test]
fn each_alert_has_its_section_in_the_runbook() {
    let (rules, runbook) = (read("deploy/alerts.yml"), read("deploy/README.md"));
    let sections: BTreeSet<&str> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .filter(|title| title.starts_with("Drumbeat"))
        .collect();
    assert_eq!(alerts(&rules), sections, "deploy/alerts.yml against deploy/README.md");
}

#[test]
fn the_unit_runs_the_daemon_without_privileges() {
    let unit = read("deploy/drumbeat.service");
    for line in [
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "ProtectSystem=strict",
        "DynamicUser=yes",
        "UMask=0077",
    ] {
        assert!(unit.lines().any(|there| there == line), "{line}");
    }
    assert!(unit.contains("ExecStart=/usr/bin/drumbeat -C /etc/drumbeat/project --env prod run\n"));
}
