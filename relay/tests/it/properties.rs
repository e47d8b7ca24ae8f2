//! Laws over worlds that nobody thought of. `Judged` holds INV-12 and the order of rows and actions after every step.

use autonomy_relay::{Config, Machine, Output, SuccessCondition};
use autonomy_schema::Name;
use proptest::prelude::*;

use crate::world::{Dice, Set, World, config, name};

fn peers_of(world: &World) -> Vec<Name> {
    world.nodes.keys().filter(|id| **id != name("a")).cloned().collect()
}

/// A star around `a`, with faults, cuts and deaths.
fn storm(seed: u64, faults: u64, success: SuccessCondition, reversed: bool) -> World {
    let mut order = vec!["b", "c", "d"];
    if reversed {
        order.reverse();
    }
    let centre = Config { success, ..config(&order) };
    let nodes = [("a", centre), ("b", config(&[])), ("c", config(&[])), ("d", config(&[]))];
    let mut world = World::new(seed, &nodes);
    world.faults = faults;
    let mut dice = Dice::new(seed.rotate_left(17));
    for serial in 1..4 {
        for stream in ["pier", "harbor"] {
            world.seed("a", &Set::new(stream, serial, 1 + u32::try_from(dice.below(20)).unwrap()));
        }
        for _ in 0..4 {
            let until = world.now + dice.below(4_000);
            world.run(until);
            match dice.below(5) {
                0 => world.cut("a", ["b", "c", "d"][usize::try_from(dice.below(3)).unwrap()]),
                1 => world.heal(),
                2 => world.crash("a"),
                _ => {}
            }
        }
    }
    world.heal();
    let until = world.now + 2_000_000;
    world.run(until);
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// INV-11: the same inputs, the same bytes; and the order in which peers are configured is no input.
    #[test]
    fn the_same_inputs_give_the_same_bytes_and_the_order_of_peers_is_none(seed in any::<u64>(), faults in 0u64..40) {
        let world = storm(seed, faults, SuccessCondition::AllPeers, false);
        let turned = storm(seed, faults, SuccessCondition::AllPeers, true);
        prop_assert_eq!(world.log("a"), turned.log("a"));
        // Without crashes the recording runs through one machine.
        let mut machine = Machine::new();
        let mut again = Machine::default();
        for (now, input, _) in &world.nodes[&name("a")].judged.log {
            prop_assert_eq!(machine.step(*now, input.clone()), again.step(*now, input.clone()));
        }
    }

    /// Everything ends: delivered, or a dead letter, and the condition is told at most once for a start.
    #[test]
    fn a_storm_ends_with_delivered_or_dead(seed in any::<u64>(), faults in 0u64..60, all in any::<bool>()) {
        let success = if all { SuccessCondition::AllPeers } else { SuccessCondition::OnePeer };
        let mut world = storm(seed, faults, success, false);
        world.faults = 0;
        let until = world.now + 2_000_000;
        world.run(until);
        let newest: Vec<Set> = world.sets.values().filter(|set| set.delivery.serial == 3).cloned().collect();
        prop_assert_eq!(newest.len(), 2);
        for set in newest {
            let ledger = &world.nodes[&name("a")].judged.ledger;
            let dead = |peer: &Name| ledger.iter().any(|(key, row)| {
                key.manifest == set.manifest() && key.peer == *peer && row.state == autonomy_relay::RowState::Deadletter
            });
            let served = |peer: &Name| world.has(peer, &set) || dead(peer);
            let peers = peers_of(&world);
            let (all_served, all_dead) = (peers.iter().all(served), peers.iter().all(dead));
            let one_has = peers.iter().any(|peer| world.has(peer, &set));
            prop_assert!(if all { all_served } else { one_has || all_dead }, "seed {}", seed);
        }
        prop_assert_eq!(world.nodes[&name("a")].judged.machine.next_due(), None);
    }

    /// A peer's quota is kept: nobody is ever told to come later.
    #[test]
    fn a_sender_stays_below_what_its_peers_announce(
        seed in any::<u64>(),
        rate in 20_000u64..200_000,
        burst in 66_000u64..300_000,
    ) {
        let nodes = [("a", config(&["b", "c"])), ("b", config(&[])), ("c", config(&[]))];
        let mut world = World::new(seed, &nodes);
        world.ingest = (rate, burst);
        let set = Set::new("harbor", 1, 60);
        world.seed("a", &set);
        world.run(600_000);
        for peer in peers_of(&world) {
            prop_assert!(world.has(&peer, &set));
        }
        let ledger = &world.nodes[&name("a")].judged.ledger;
        prop_assert!(ledger.values().all(|row| row.attempts == 1), "a pack was refused");
        prop_assert_eq!(world.count("a", |output| matches!(output, Output::Done { .. })), 1);
    }
}
