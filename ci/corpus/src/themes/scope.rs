//! Sets that are good, for somebody else.

use serde_json::{Value, json};

use crate::Made;
use crate::case::{Case, attack, control};
use crate::world::World;

pub(crate) fn cases(world: &World) -> Made<Vec<Case>> {
    let next = &world.next;
    let scope = |name, story, change: &dyn Fn(&mut Value)| -> Made<Case> {
        let set = world.doctored(|m| change(&mut m["spec"]["scope"]))?;
        Ok(attack(name, 3, &["scope_mismatch"], story).set(next, set))
    };
    Ok(vec![
        scope("another-fleet", "A set of another fleet with the same signers.", &|scope| {
            scope["fleet"] = json!("wharf");
        })?,
        scope("another-node", "A set for another node.", &|scope| scope["nodes"] = json!(["node-b"]))?,
        scope("another-hardware", "A set for another processor.", &|scope| scope["hardware"] = json!(["riscv64"]))?,
        scope("another-site", "A set for another site.", &|scope| scope["matchLabels"] = json!({ "site": "pier-9" }))?,
        scope("label-that-the-node-lacks", "A set for nodes with a label that this node does not have.", &|scope| {
            scope["matchLabels"] = json!({ "site": "pier-7", "ring": "canary" });
        })?,
        scope("label-by-prefix", "A label whose value only begins like the node's.", &|scope| {
            scope["matchLabels"] = json!({ "site": "pier" });
        })?,
        control("scope-by-name", "A set for several nodes, this one among them.")
            .set(next, world.doctored(|m| m["spec"]["scope"]["nodes"] = json!(["node-a", "node-b"]))?),
    ])
}
