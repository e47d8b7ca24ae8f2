//! INV-11: recorded inputs give the recorded output, byte for byte. `AUTONOMY_UPDATE=1` records anew.

use std::path::PathBuf;

use autonomy_relay::{Config, Input, Machine, SuccessCondition};
use serde::{Deserialize, Serialize};

use crate::world::{Set, World, config};

#[derive(Serialize, Deserialize)]
struct Step<T> {
    at: u64,
    #[serde(flatten)]
    what: T,
}

#[derive(Serialize, Deserialize)]
struct Recorded {
    input: Input,
}

#[derive(Serialize)]
struct Told {
    output: autonomy_relay::Output,
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/recorded").join(name)
}

fn line<T: Serialize>(at: u64, what: T) -> String {
    serde_json::to_string(&Step { at, what }).unwrap() + "\n"
}

/// What a machine tells, as text.
fn replayed(inputs: &str) -> String {
    let mut machine = Machine::new();
    let mut told = String::new();
    for text in inputs.lines() {
        let Step { at, what: Recorded { input } } = serde_json::from_str(text).unwrap();
        for output in machine.step(at, input) {
            told.push_str(&line(at, Told { output }));
        }
    }
    told
}

/// Node `a` of a small fleet in which requests fail and a wire is cut.
fn story(success: SuccessCondition) -> World {
    let centre = Config { success, max_attempts: 3, bytes_per_second: 40_000, ..config(&["c", "b", "d"]) };
    let nodes = [("a", centre), ("b", config(&[])), ("c", config(&[])), ("d", config(&[]))];
    let mut world = World::new(7, &nodes);
    world.faults = 20;
    world.seed("a", &Set::new("harbor", 1, 9));
    world.run(700);
    world.cut("a", "b");
    world.seed("a", &Set::new("harbor", 2, 12));
    world.run(9_000);
    world.heal();
    world.run(200_000);
    world
}

fn judge(name: &str, success: SuccessCondition) {
    let (inputs, outputs) = (file(&format!("{name}.jsonl")), file(&format!("{name}.output.jsonl")));
    if std::env::var_os("AUTONOMY_UPDATE").is_some() {
        let world = story(success);
        let log = &world.nodes[&crate::world::name("a")].judged.log;
        let recorded: String = log.iter().map(|(at, input, _)| line(*at, Recorded { input: input.clone() })).collect();
        std::fs::write(&outputs, replayed(&recorded)).unwrap();
        std::fs::write(&inputs, recorded).unwrap();
    }
    let recorded = std::fs::read_to_string(inputs).unwrap();
    let expected = std::fs::read_to_string(outputs).unwrap();
    assert!(expected.lines().count() > 20, "a recording that says something");
    for run in 0..2 {
        similar_bytes(&replayed(&recorded), &expected, run);
    }
}

fn similar_bytes(told: &str, expected: &str, run: u32) {
    for (at, (told, expected)) in told.lines().zip(expected.lines()).enumerate() {
        assert_eq!(told, expected, "line {} of run {run}", at + 1);
    }
    assert_eq!(told.len(), expected.len(), "run {run}");
}

#[test]
fn the_recorded_inputs_of_all_peers_give_the_recorded_output() {
    judge("all_peers", SuccessCondition::AllPeers);
}

#[test]
fn the_recorded_inputs_of_one_peer_give_the_recorded_output() {
    judge("one_peer", SuccessCondition::OnePeer);
}
