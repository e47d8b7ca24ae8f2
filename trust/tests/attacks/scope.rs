//! Whom a manifest is for.

use autonomy_schema::Code;
use serde_json::{Value, json};

use crate::support::World;

fn reasons_for(scope: Value) -> usize {
    let mut world = World::new();
    world.manifest["spec"]["scope"] = scope;
    let codes = world.codes();
    assert!(codes.iter().all(|code| *code == Code::ScopeMismatch), "{codes:?}");
    codes.len()
}

#[test]
fn a_wrong_fleet_is_refused() {
    assert_eq!(reasons_for(json!({"fleet": "inland"})), 1);
}

#[test]
fn a_wrong_node_is_refused() {
    assert_eq!(reasons_for(json!({"fleet": "harbor", "nodes": ["node-b", "node-c"]})), 1);
}

#[test]
fn wrong_hardware_is_refused() {
    assert_eq!(reasons_for(json!({"fleet": "harbor", "hardware": ["aarch64", "riscv64"]})), 1);
}

#[test]
fn a_wrong_or_missing_label_is_refused() {
    assert_eq!(reasons_for(json!({"fleet": "harbor", "matchLabels": {"site": "pier-9"}})), 1);
    assert_eq!(reasons_for(json!({"fleet": "harbor", "matchLabels": {"ring": "first", "site": "pier-7"}})), 1);
    assert_eq!(reasons_for(json!({"fleet": "harbor", "matchLabels": {"ring": "first", "site": "pier-9"}})), 2);
}

#[test]
fn a_scope_that_fits_passes_and_empty_lists_match_all() {
    for scope in [
        json!({"fleet": "harbor"}),
        json!({"fleet": "harbor", "nodes": ["node-b", "node-a"]}),
        json!({"fleet": "harbor", "hardware": ["aarch64", "x86_64"], "matchLabels": {"site": "pier-7"}}),
    ] {
        assert_eq!(reasons_for(scope), 0);
    }
}

#[test]
fn away_from_any_node_the_scope_is_not_judged() {
    let mut world = World::new();
    world.manifest["spec"]["scope"] = json!({"fleet": "inland", "nodes": ["node-z"]});
    world.node = None;
    assert!(world.verify().is_ok());
}
