//! Fleets of machines: chain, star, and a graph in two parts that is healed later. All end with the newest serial.

use autonomy_relay::{Config, Output, SuccessCondition};

use crate::world::{Set, World, config, name};

fn seed() -> u64 {
    let seed = match std::env::var("RELAY_SEED") {
        Ok(text) => text.parse().expect("RELAY_SEED is a number"),
        Err(_unset) => u64::from(std::process::id()),
    };
    println!("RELAY_SEED={seed}");
    seed
}

fn all_have(world: &World, set: &Set) -> bool {
    world.nodes.keys().all(|node| world.has(node, set))
}

const CHAIN: [(&str, &[&str]); 5] = [("a", &["b"]), ("b", &["c"]), ("c", &["d"]), ("d", &["e"]), ("e", &[])];
const STAR: [(&str, &[&str]); 5] = [("a", &["b", "c", "d", "e"]), ("b", &[]), ("c", &[]), ("d", &[]), ("e", &[])];
const GRAPH: [(&str, &[&str]); 5] =
    [("a", &["b", "c"]), ("b", &["a", "c"]), ("c", &["a", "b", "d"]), ("d", &["c", "e"]), ("e", &["d"])];

fn fleet(seed: u64, graph: &[(&str, &[&str])]) -> World {
    let nodes: Vec<(&str, Config)> = graph.iter().map(|(id, peers)| (*id, config(peers))).collect();
    World::new(seed, &nodes)
}

#[test]
fn a_chain_and_a_star_end_with_the_newest_serial() {
    let seed = seed();
    for graph in [&CHAIN, &STAR] {
        let mut world = fleet(seed, graph);
        let set = Set::new("harbor", 1, 20);
        world.seed("a", &set);
        world.run(60_000);
        assert!(all_have(&world, &set));
        let peers = graph[0].1.len();
        assert_eq!(world.count("a", |output| matches!(output, Output::Delivered { .. })), peers);
        assert_eq!(world.count("a", |output| matches!(output, Output::Done { .. })), 1);
        assert!(world.nodes.values().all(|node| node.judged.machine.next_due().is_none()), "nothing is left to do");
    }
}

#[test]
fn a_partition_that_is_healed_later_ends_with_the_newest_serial_everywhere() {
    let mut world = fleet(seed(), &GRAPH);
    world.faults = 10;
    let (first, second) = (Set::new("harbor", 1, 20), Set::new("harbor", 2, 25));
    world.cut("c", "d");
    world.seed("a", &first);
    world.run(200_000);
    assert!(["a", "b", "c"].into_iter().all(|node| world.has(&name(node), &first)));
    assert!(["d", "e"].into_iter().all(|node| !world.has(&name(node), &first)));
    world.seed("b", &second);
    // A day apart: no contact is no attempt, so nothing is used up.
    world.run(86_400_000);
    world.heal();
    world.faults = 0;
    world.run(86_400_000 + 200_000);
    assert!(all_have(&world, &second), "all are to have the newest");
    assert!(!world.has(&name("e"), &first), "and nobody sends the old one any more");
}

#[test]
fn a_wire_that_is_cut_in_the_middle_goes_on_with_what_is_lacking() {
    let mut world = fleet(seed(), &[("a", &["b"]), ("b", &[])]);
    world.ingest = (50_000, 100_000);
    let set = Set::new("harbor", 1, 100);
    world.seed("a", &set);
    world.run(3_000);
    let before = world.nodes[&name("b")].holds[&set.manifest()].len();
    assert!(before > 0 && before < 100, "{before} of 100");
    world.cut("a", "b");
    world.run(10_000_000);
    world.heal();
    world.run(20_000_000);
    assert!(all_have(&world, &set));
    let rows = world.nodes[&name("a")].judged.ledger.values();
    let twice = rows.filter(|row| row.attempts > 1).count();
    assert!(twice <= 100 - before, "{twice} went twice, and {before} were there");
}

#[test]
fn a_node_that_dies_at_any_moment_goes_on_where_its_ledger_stands() {
    for moment in (0..2_000).step_by(97) {
        let mut world = fleet(seed(), &[("a", &["b"]), ("b", &["c"]), ("c", &[])]);
        let set = Set::new("harbor", 1, 30);
        world.seed("a", &set);
        world.run(moment);
        world.crash("a");
        world.run(moment + 50);
        world.crash("b");
        world.run(1_000_000);
        assert!(all_have(&world, &set), "died at {moment}");
    }
}

#[test]
fn one_peer_is_enough_where_that_is_the_condition() {
    let one = |peers: &[&str]| Config { success: SuccessCondition::OnePeer, ..config(peers) };
    let nodes = [("a", one(&["b", "c", "d"])), ("b", one(&[])), ("c", one(&[])), ("d", one(&[]))];
    let mut world = World::new(seed(), &nodes);
    world.cut("a", "b");
    let set = Set::new("harbor", 1, 10);
    world.seed("a", &set);
    world.run(1_000_000);
    let have: Vec<&str> = ["b", "c", "d"].into_iter().filter(|node| world.has(&name(node), &set)).collect();
    assert_eq!(have, ["c"]);
}
