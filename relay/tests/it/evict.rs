//! What goes first.

use autonomy_relay::evict::{Evictable, Protection, Standing, order};
use proptest::prelude::*;

use crate::world::id;

fn one(text: &str, standing: Standing, serial: u64) -> Evictable {
    Evictable { id: id(text), bytes: 10, standing, serial, protected: None }
}

#[test]
fn what_nobody_names_goes_first_and_what_still_comes_in_goes_last() {
    let expected = vec![
        one("d", Standing::Orphaned, 0),
        one("c", Standing::Superseded, 4),
        one("b", Standing::Superseded, 5),
        one("a", Standing::Relayed, 2),
        one("e", Standing::Receiving, 1),
    ];
    let mut shuffled = expected.clone();
    shuffled.sort_by_key(|one| one.id);
    assert_ne!(shuffled, expected);
    assert_eq!(order(shuffled), expected);
}

#[test]
fn what_is_protected_is_never_among_it() {
    for why in [Protection::Active, Protection::LastKnownGood, Protection::Pinned, Protection::Unrelayed] {
        let kept = Evictable { protected: Some(why), ..one("a", Standing::Orphaned, 0) };
        assert_eq!(order(vec![kept, one("b", Standing::Receiving, 9)]), [one("b", Standing::Receiving, 9)], "{why:?}");
    }
}

proptest! {
    /// In whatever order a folder lists them, the same go first.
    #[test]
    fn the_order_of_the_listing_does_not_matter(
        serials in prop::collection::vec((0u64..3, 0usize..4), 0..20),
        seed in any::<u64>(),
    ) {
        let standings = [Standing::Orphaned, Standing::Superseded, Standing::Relayed, Standing::Receiving];
        let listed: Vec<Evictable> = serials
            .iter()
            .enumerate()
            .map(|(at, (serial, standing))| one(&at.to_string(), standings[*standing], *serial))
            .collect();
        let mut dice = crate::world::Dice::new(seed);
        let mut shuffled = listed.clone();
        for at in (1..shuffled.len()).rev() {
            shuffled.swap(at, usize::try_from(dice.below(at as u64 + 1)).unwrap());
        }
        prop_assert_eq!(order(listed), order(shuffled));
    }
}
