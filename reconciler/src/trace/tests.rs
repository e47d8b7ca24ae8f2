use autonomy_schema::version::{ApiVersion, Kind};
use proptest::prelude::*;

use super::*;

fn manifest() -> Blake3 {
    Blake3::of(b"the set")
}

fn name(text: &str) -> Name {
    text.parse().expect("name")
}

/// `node:result:from:counter:second`, and a `?` at the end where no key is known.
fn witness(text: &str) -> Witness {
    let (text, key) = match text.strip_suffix('?') {
        Some(text) => (text, None),
        None => (text, Some(Sha256::of(b"key"))),
    };
    let parts: Vec<&str> = text.split(':').collect();
    let [node, result, from, counter, second] = parts.as_slice() else { panic!("{text}") };
    let receipt = Receipt {
        api_version: ApiVersion::default(),
        kind: Kind::Receipt,
        node_id: name(node),
        manifest: manifest(),
        result: if *result == "active" { ReceiptResult::Active } else { ReceiptResult::Stored },
        from: (!from.is_empty()).then(|| name(from)),
        boot_epoch: 1,
        counter: counter.parse().expect("counter"),
        time: Time::from_unix(1_800_000_000 + second.parse::<i64>().expect("second")),
    };
    Witness { receipt, key }
}

fn chain(receipts: &[&str]) -> Chain {
    Chain::of(manifest(), None, receipts.iter().map(|text| witness(text)).collect())
}

fn stops(chain: &Chain) -> Vec<(&str, Option<usize>)> {
    chain.stops.iter().map(|stop| (stop.node.as_str(), stop.hop)).collect()
}

fn hops(chain: &Chain) -> Vec<String> {
    chain.hops.iter().map(|hop| format!("{}>{}", hop.from, hop.to)).collect()
}

#[test]
fn a_line_of_relays_is_one_hop_longer_at_each_node() {
    let chain = chain(&[
        "c:stored:b:1:30",
        "a:stored::1:10",
        "b:active::2:25",
        "a:active::2:15",
        "b:stored:a:1:20",
        "c:active::2:35",
    ]);
    assert_eq!(stops(&chain), [("a", Some(0)), ("b", Some(1)), ("c", Some(2))]);
    assert_eq!(hops(&chain), ["a>b", "b>c"]);
    assert_eq!(chain.gaps, Vec::<String>::new());
    assert!(chain.stops.iter().all(|stop| stop.is_verified() && stop.active().is_some()));
}

#[test]
fn what_no_receipt_says_is_a_gap_and_nothing_is_guessed() {
    let told = Told { stream: name("s"), serial: 1, release: "1.0.0".to_owned(), peers: vec![name("b"), name("d")] };
    let witnesses = ["b:stored:a:1:20?", "c:stored:b:1:10"].map(witness).to_vec();
    let chain = Chain::of(manifest(), Some(told), witnesses);
    assert_eq!(stops(&chain), [("a", Some(0)), ("b", Some(1)), ("c", Some(2))]);
    assert_eq!(
        chain.gaps,
        [
            "a gave it to b, and no receipt of a is here: how it came there is not known",
            "no key of b is known: what it says is not verified",
            "no receipt says that b runs it",
            "no receipt says that c runs it",
            "c has it from b at 2027-01-15T08:00:10Z, and b says that it had it at 2027-01-15T08:00:20Z: a clock is wrong",
            "d is a peer of this release, and no receipt of it is here",
        ]
    );
}

#[test]
fn receipts_that_go_in_a_circle_have_no_hop() {
    let chain = chain(&["a:stored:b:1:10", "b:stored:a:1:10", "c:stored:b:1:11"]);
    assert_eq!(stops(&chain), [("a", None), ("b", None), ("c", None)]);
    assert!(
        chain.gaps.iter().any(|gap| gap.starts_with("a has it from nodes that have it from a: ")),
        "{:?}",
        chain.gaps
    );
}

#[test]
fn a_node_that_a_medium_reached_as_well_is_where_it_came_in() {
    let chain = chain(&["a:stored::1:10", "b:stored:a:1:20", "b:stored::2:21"]);
    assert_eq!(stops(&chain), [("a", Some(0)), ("b", Some(0))]);
    assert_eq!(hops(&chain), ["a>b"]);
}

#[test]
fn receipts_for_another_manifest_are_no_part_of_it() {
    let mut other = witness("b:stored:a:1:20");
    other.receipt.manifest = Blake3::of(b"another");
    let chain = Chain::of(manifest(), None, vec![witness("a:stored::1:10"), other]);
    assert_eq!(stops(&chain), [("a", Some(0))]);
}

proptest! {
    /// In whatever order receipts are found, the chain is the same; every node that is named stands in it once.
    #[test]
    fn law_the_order_in_which_receipts_are_found_does_not_matter(
        pairs in proptest::collection::vec((0..6_usize, proptest::option::of(0..6_usize), any::<bool>()), 0..12),
        turn in 0..12_usize,
    ) {
        let nodes = ["a", "b", "c", "d", "e", "f"];
        let receipts: Vec<Witness> = pairs.iter().enumerate().map(|(n, (node, from, active))| {
            let from = from.map_or("", |from| nodes[from]);
            let result = if *active { "active" } else { "stored" };
            witness(&format!("{}:{result}:{from}:{}:{n}", nodes[*node], n + 1))
        }).collect();
        let mut turned = receipts.clone();
        if !turned.is_empty() {
            let by = turn % turned.len();
            turned.rotate_left(by);
        }
        let whole = Chain::of(manifest(), None, receipts);
        prop_assert_eq!(&whole, &Chain::of(manifest(), None, turned));
        let named: BTreeSet<&Name> = whole.stops.iter().map(|stop| &stop.node).collect();
        prop_assert_eq!(named.len(), whole.stops.len());
        prop_assert!(whole.hops.iter().all(|hop| named.contains(&hop.from) && named.contains(&hop.to)));
    }
}
