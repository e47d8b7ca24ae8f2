//! Documents, links and generations of a state root.

use autonomy_schema::floors::Floors;
use autonomy_schema::journal::{Journal, Phase};
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Blake3, Code, Mode};
use autonomy_stateroot::{Disk as _, Link, durable, layout};

use crate::fixture::{Release, name, rel, sim_root};

fn journal() -> Journal {
    Journal {
        api_version: ApiVersion::default(),
        kind: Kind::Journal,
        operation: autonomy_schema::journal::Operation::Apply,
        phase: Phase::Intent,
        plan_id: Blake3::of(b"plan"),
        manifest: Blake3::of(b"manifest"),
        stream: name("stream"),
        serial: 1,
        generation: name("1-abc-1"),
        previous: None,
        rebuild: 0,
        rebuilt: 0,
        created: Vec::new(),
        services: Vec::new(),
        services_done: 0,
        health: None,
        confirm: None,
        waiting: None,
        supersedes: None,
        leaves: None,
        boots: None,
        relay: false,
        failure: None,
    }
}

#[test]
fn documents_come_back_as_they_were_written() {
    let (_, root) = sim_root();
    assert_eq!(root.journal().expect("read"), None);
    root.write_journal(&journal()).expect("written");
    assert_eq!(root.journal().expect("read"), Some(journal()));
    let floors = Floors { promoted: true, ..root.floors().expect("read").expect("init wrote them") };
    root.write_floors(&floors).expect("written");
    assert_eq!(root.floors().expect("read"), Some(floors));
    assert!(root.pinned().expect("read").is_empty());
    let pinned = [Blake3::of(b"a"), Blake3::of(b"b")].into();
    root.write_pinned(&pinned).expect("written");
    assert_eq!(root.pinned().expect("read"), pinned);
    root.disk().mkdir(&layout::outbox_entry(Blake3::of(b"a"))).expect("made");
    root.disk().mkdir(&rel("outbox/.tmp-b")).expect("made");
    assert_eq!(root.outbox().expect("listed"), [Blake3::of(b"a")].into());
}

#[test]
fn damage_has_a_name() {
    let (disk, root) = sim_root();
    let damage = |path| durable::replace(&disk, &path, b"{ damaged", Mode::PRIVATE).expect("damaged");
    damage(layout::journal());
    assert!(root.journal().expect_err("refused").has(Code::CorruptState));
    damage(layout::pins());
    assert!(root.pinned().expect_err("refused").has(Code::CorruptState));
    durable::replace(&disk, &layout::pins(), b"{\"manifests\": []}", Mode::PRIVATE).expect("not canonical");
    assert!(root.pinned().expect_err("refused").has(Code::CorruptState));
    damage(layout::floors());
    let reasons = root.floors().expect_err("refused");
    assert!(reasons.has(Code::FloorsUnreadable) && reasons.exit() == 11, "{reasons}");
    disk.remove(&layout::trust_root()).expect("removed");
    assert!(root.trust_root_bytes().expect_err("refused").has(Code::CorruptState));
    damage(layout::node_yaml());
    assert!(root.node().is_err());
}

#[test]
fn floors_may_be_missing_only_before_the_first_generation() {
    let (disk, root) = sim_root();
    disk.remove(&layout::floors()).expect("removed");
    assert_eq!(root.floors().expect("none yet"), None);
    disk.mkdir(&rel("generations/1-abc-1")).expect("made");
    assert!(root.floors().expect_err("refused").has(Code::FloorsUnreadable));
    disk.remove(&rel("generations/1-abc-1")).expect("removed");
    durable::point(&disk, &layout::current(), "generations/1-abc-1").expect("pointed");
    assert!(root.floors().expect_err("refused").has(Code::FloorsUnreadable));
}

#[test]
fn links_name_generations_and_nothing_else() {
    let (disk, root) = sim_root();
    assert_eq!((root.current().expect("none"), root.lkg().expect("none")), (None, None));
    durable::point(&disk, &layout::lkg(), &layout::generation_link(&name("7-abc-1"))).expect("pointed");
    assert_eq!(root.lkg().expect("read"), Some(name("7-abc-1")));
    for bad in ["/etc", "generations", "generations/", "generations/../etc", "generations/a/b", "7-abc-1"] {
        durable::point(&disk, &layout::current(), bad).expect("pointed");
        assert!(root.current().expect_err(bad).has(Code::CorruptState));
    }
    disk.remove(&layout::current()).expect("removed");
    disk.mkdir(&layout::current()).expect("made");
    assert!(root.current().expect_err("a folder").has(Code::CorruptState));
}

#[test]
fn generations_are_counted_and_sorted_by_number() {
    let (disk, root) = sim_root();
    let manifest = Blake3::of(b"m");
    let short = manifest.short();
    assert_eq!(root.next_generation_name(9, manifest).expect("a name"), name(&format!("9-{short}-1")));
    for generation in [&format!("10-{short}-1"), &format!("9-{short}-10"), &format!("9-{short}-9"), ".staging"] {
        disk.mkdir(&layout::generations().join(&rel(generation))).expect("made");
    }
    disk.link(Link::Symbolic { target: "x", at: &rel("generations/link") }).expect("linked");
    let expected = [format!("9-{short}-9"), format!("9-{short}-10"), format!("10-{short}-1")];
    assert_eq!(root.generations().expect("listed"), expected.map(|text| name(&text)));
    assert_eq!(root.next_generation_name(9, manifest).expect("a name"), name(&format!("9-{short}-11")));
    assert_eq!(root.next_generation_name(1, manifest).expect("a name"), name(&format!("1-{short}-1")));
}

#[test]
fn trees_are_removed_whole_and_links_are_not_followed() {
    let (disk, root) = sim_root();
    let generation = Release::small(1).activate(&root);
    disk.link(Link::Symbolic { target: "../../trust", at: &layout::in_generation(&generation, &rel("out")) })
        .expect("linked");
    durable::remove_tree(&disk, &layout::generation(&generation)).expect("removed");
    durable::remove_tree(&disk, &layout::generation(&generation)).expect("an absent one is fine");
    assert!(root.generations().expect("listed").is_empty());
    assert!(root.trust_root_bytes().is_ok());
}
