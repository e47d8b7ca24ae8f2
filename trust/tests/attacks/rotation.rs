//! Roots before the pinned one, revocation lists by themselves, role `offline`, and policy overrides.

use autonomy_schema::manifest::Revoked;
use autonomy_schema::policy_override::PolicyOverride;
use autonomy_schema::revocation::Revocation;
use autonomy_schema::root::{Role, TrustRoot};
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Blake3, Code, Document as _, Reasons, Sha256};
use autonomy_trust::{Context, PinnedRoot, Purpose, Signed, Verified, verify_override, verify_revocation};
use serde_json::json;

use crate::support::{
    Key, World, artifact_keys, codes, lines, manifest_keys, offline_keys, p256_key, pin, role, root_keys, signed_root,
    time, trust_root,
};

/// Version 4: other manifest keys; the rest as in version 3.
fn without_manifest_keys() -> TrustRoot {
    let mut root = trust_root();
    let new = [p256_key(41), p256_key(42)];
    root.version = 4;
    root.keys.extend(new.iter().map(|key| (key.id(), key.pem())));
    root.roles.insert(Role::Manifest, role(&new, 2));
    root
}

/// Version 4 is pinned, and version 3 came before it.
fn rotated() -> PinnedRoot {
    let (bytes, signatures) = signed_root(&without_manifest_keys(), &root_keys());
    let old = pin(&trust_root(), &root_keys()).expect("pinned");
    old.successor(Signed { bytes: &bytes, signatures: &signatures }).expect("signed by both")
}

/// The verdict on the world's manifest, of serial 41 as it was seen, under this root.
fn under(root: &PinnedRoot, world: &World) -> Vec<Code> {
    let bytes = world.bytes();
    let signatures = lines(&world.signers, &bytes);
    let signed = Signed { bytes: &bytes, signatures: &signatures };
    world.with_context(|context| codes(autonomy_trust::verify_manifest(signed, &Context { root, ..*context })))
}

#[test]
fn an_earlier_root_vouches_for_what_was_admitted_and_for_no_change() {
    let root = rotated();
    let mut world = World::new();
    for purpose in [Purpose::Repair, Purpose::Rollback, Purpose::Recover] {
        world.purpose = purpose;
        assert!(under(&root, &world).is_empty(), "{purpose:?}");
    }
    for purpose in [Purpose::Change, Purpose::Relay] {
        world.purpose = purpose;
        assert_eq!(under(&root, &world), [Code::BelowThreshold], "{purpose:?}");
    }
    // One signature too few is too few under every root.
    world.signers.pop();
    world.purpose = Purpose::Recover;
    assert_eq!(under(&root, &world), [Code::BelowThreshold]);
    // A key that is revoked signs no return, under whatever root it counted once.
    let mut world = World::new();
    world.floors.revoked.keys.push(manifest_keys()[0].id());
    world.purpose = Purpose::Rollback;
    assert_eq!(under(&root, &world), [Code::Revoked]);
    world.purpose = Purpose::Recover;
    assert!(under(&root, &world).is_empty(), "an interrupted change ends whatever was revoked meanwhile");
}

#[test]
fn a_root_that_is_read_back_brings_only_the_ones_that_lead_to_it() {
    let (bytes, signatures) = signed_root(&without_manifest_keys(), &root_keys());
    let pinned = || PinnedRoot::pinned(Signed { bytes: &bytes, signatures: &signatures }).expect("pinned");
    let precede = |root: &TrustRoot, signers: &[Key]| {
        let (bytes, signatures) = signed_root(root, signers);
        let mut pinned = pinned();
        let result = pinned.preceded_by(Signed { bytes: &bytes, signatures: &signatures });
        (result, pinned)
    };
    let (result, root) = precede(&trust_root(), &root_keys());
    assert!(result.is_ok());
    assert_eq!(root.earlier().len(), 1);
    assert!(root.continues(&pin(&trust_root(), &root_keys()).expect("pinned")) && root.continues(&root));
    assert!(!pinned().continues(&root.earlier()[0]), "nothing is known of it there");
    assert_eq!(root.of_version(3).map(PinnedRoot::fingerprint), Some(root.earlier()[0].fingerprint()));
    assert!(root.of_version(2).is_none());

    assert_eq!(codes(precede(&trust_root(), &root_keys()[..1]).0), [Code::RootSignature], "not even its own keys");
    for version in [1, 2, 4, 5] {
        let mut other = trust_root();
        other.version = version;
        assert_eq!(codes(precede(&other, &root_keys()).0), [Code::RootGap], "{version}");
    }
    assert_eq!(codes(precede(&without_manifest_keys(), &root_keys()).0), [Code::RootGap], "itself");
    // A stranger's root of the right version, whose keys signed nothing here.
    let strangers = [p256_key(51), p256_key(52)];
    let mut forged = trust_root();
    forged.keys.extend(strangers.iter().map(|key| (key.id(), key.pem())));
    forged.roles.insert(Role::Root, role(&strangers, 2));
    let (result, root) = precede(&forged, &strangers);
    assert_eq!(codes(result), [Code::RootSignature]);
    assert!(root.earlier().is_empty());
}

#[test]
fn successors_keep_the_whole_chain() {
    let four = rotated();
    let mut five = without_manifest_keys();
    five.version = 5;
    let (bytes, signatures) = signed_root(&five, &root_keys());
    let five = four.successor(Signed { bytes: &bytes, signatures: &signatures }).expect("signed");
    let versions: Vec<u64> = five.earlier().iter().map(|root| root.document().version).collect();
    assert_eq!(versions, [4, 3]);
    assert!(five.earlier().iter().all(|root| root.earlier().is_empty()));
    let again = five.successor(Signed { bytes: &bytes, signatures: &signatures }).expect("the same");
    assert_eq!(again.earlier().len(), 2);
}

#[test]
fn role_offline_alone_brings_no_revocations() {
    let mut world = World::new();
    world.signers = offline_keys();
    let verified = world.verify().expect("the same list as the node has");
    assert!(verified.is_offline() && verified.roles() == [Role::Offline]);
    world.manifest["spec"]["revoked"] = json!({ "number": 5, "keys": [manifest_keys()[2].id()] });
    assert_eq!(world.codes(), [Code::RoleMismatch]);
    world.manifest["spec"]["revoked"] = json!({ "number": 3 });
    assert_eq!(world.codes(), [Code::RevocationNumberLowered]);
    // With the manifest keys beside them it is the manifest keys that bring it.
    world.manifest["spec"]["revoked"] = json!({ "number": 5, "keys": [manifest_keys()[2].id()] });
    world.signers = [&offline_keys()[..], &manifest_keys()[..2]].concat();
    let verified = world.verify().expect("both roles");
    assert!(!verified.is_offline());
    assert_eq!(verified.roles(), [Role::Manifest, Role::Offline]);
    world.signers = manifest_keys()[..2].to_vec();
    assert!(!world.verify().expect("manifest keys").is_offline());
}

fn list(number: u64, manifests: Vec<Blake3>, keys: Vec<Sha256>) -> Revocation {
    let revoked = Revoked { number, manifests, keys };
    Revocation { api_version: ApiVersion::default(), kind: Kind::Revocation, revoked, reason: String::new() }
}

fn revoke(world: &World, list: &Revocation, signers: &[Key]) -> Result<Verified<Revocation>, Reasons> {
    let bytes = list.to_canonical().expect("canonical");
    let signatures = lines(signers, &bytes);
    world.with_context(|context| verify_revocation(Signed { bytes: &bytes, signatures: &signatures }, context))
}

#[test]
fn a_revocation_list_is_signed_by_manifest_or_root_keys_and_by_nobody_else() {
    let world = World::new();
    let five = list(5, vec![Blake3::of(b"x")], Vec::new());
    assert!(revoke(&world, &five, &manifest_keys()[1..]).is_ok());
    assert!(revoke(&world, &five, &root_keys()[1..]).is_ok());
    let one_of_each = [manifest_keys()[0].clone(), root_keys()[0].clone()];
    for signers in [&manifest_keys()[..1], &root_keys()[..1], &one_of_each, &offline_keys(), &artifact_keys(), &[]] {
        assert_eq!(codes(revoke(&world, &five, signers)), [Code::BelowThreshold]);
    }
}

#[test]
fn the_number_of_a_list_only_rises() {
    let mut world = World::new();
    let signers = &manifest_keys()[..2];
    for number in [1, 3] {
        let lower = list(number, Vec::new(), Vec::new());
        assert_eq!(codes(revoke(&world, &lower, signers)), [Code::RevocationNumberLowered], "{number}");
    }
    assert!(revoke(&world, &list(4, Vec::new(), Vec::new()), signers).is_ok(), "the very list again");
    let other = list(4, vec![Blake3::of(b"x")], Vec::new());
    assert_eq!(codes(revoke(&world, &other, signers)), [Code::RevocationNumberLowered]);
    assert_eq!(codes(revoke(&world, &list(0, Vec::new(), Vec::new()), signers)), [Code::BadValue]);
    let floors = world.floors.revoking(&list(5, vec![Blake3::of(b"x")], Vec::new()).revoked);
    assert_eq!((floors.revoked.number, floors.revoked.manifests.len()), (5, 1));
    assert_eq!(floors.revoking(&Revoked { number: 5, ..Revoked::default() }), floors);
    world.floors = floors;
    assert!(revoke(&world, &list(6, Vec::new(), Vec::new()), signers).is_ok());
}

#[test]
fn a_list_is_not_signed_by_keys_that_it_revokes_or_that_were_revoked_save_root_keys() {
    let mut world = World::new();
    let (manifest, root) = (manifest_keys(), root_keys());
    let own = list(5, Vec::new(), vec![manifest[0].id()]);
    assert_eq!(codes(revoke(&world, &own, &manifest[..2])), [Code::Revoked]);
    assert!(revoke(&world, &own, &manifest[1..]).is_ok());
    let roots = list(5, Vec::new(), root.iter().map(Key::id).collect());
    assert!(revoke(&world, &roots, &root[..2]).is_ok(), "a list binds no root key");
    world.floors.revoked.keys = vec![manifest[0].id()];
    let five = list(5, Vec::new(), Vec::new());
    assert_eq!(codes(revoke(&world, &five, &manifest[..2])), [Code::Revoked], "it does not lift its own revocation");
    assert!(revoke(&world, &five, &manifest[1..]).is_ok());
}

#[test]
fn the_number_of_a_list_steps_no_further_than_the_root_says() {
    let mut world = World::new();
    world.root.max_serial_step = 10;
    let signers = &manifest_keys()[..2];
    let by_itself = |world: &World, number: u64| codes(revoke(world, &list(number, Vec::new(), Vec::new()), signers));
    let in_manifest = |world: &mut World, number: u64| {
        world.manifest["spec"]["revoked"] = json!({ "number": number });
        world.codes()
    };
    assert!(by_itself(&world, 14).is_empty() && in_manifest(&mut world, 14).is_empty(), "ten above the fourth");
    assert_eq!(by_itself(&world, 15), [Code::SerialStep]);
    assert_eq!(in_manifest(&mut world, 15), [Code::SerialStep]);
    // What is only passed on raises no floor.
    world.purpose = Purpose::Relay;
    assert!(world.codes().is_empty());
    world.purpose = Purpose::Change;
    // A node that has seen nothing takes what its fleet has come to; one that has seen either does not.
    let streams = std::mem::take(&mut world.floors.streams);
    assert_eq!(by_itself(&world, 15), [Code::SerialStep], "a list was seen");
    world.floors.revoked.number = 0;
    assert!(by_itself(&world, 1_000_000).is_empty() && in_manifest(&mut world, 1_000_000).is_empty());
    world.floors.streams = streams;
    assert_eq!(by_itself(&world, 11), [Code::SerialStep], "a serial was seen");
    assert!(by_itself(&world, 10).is_empty());
}

fn overriding(manifest: Blake3) -> PolicyOverride {
    PolicyOverride {
        api_version: ApiVersion::default(),
        kind: Kind::PolicyOverride,
        manifest,
        reason: "wedged".to_owned(),
        issued_at: time("2026-11-20T09:00:00Z"),
        expires_at: time("2026-11-27T09:00:00Z"),
    }
}

fn overrides(world: &World, document: &PolicyOverride, signers: &[Key]) -> Vec<Code> {
    let bytes = document.to_canonical().expect("canonical");
    let signatures = lines(signers, &bytes);
    let signed = Signed { bytes: &bytes, signatures: &signatures };
    world.with_context(|context| codes(verify_override(signed, Blake3::of(b"manifest"), context)))
}

#[test]
fn an_override_is_signed_by_root_keys_for_this_manifest_and_this_time() {
    let mut world = World::new();
    let good = overriding(Blake3::of(b"manifest"));
    assert!(overrides(&world, &good, &root_keys()[..2]).is_empty());
    for signers in [&root_keys()[..1], &manifest_keys(), &offline_keys(), &[]] {
        assert_eq!(overrides(&world, &good, signers), [Code::BelowThreshold]);
    }
    let other = overriding(Blake3::of(b"another"));
    assert_eq!(overrides(&world, &other, &root_keys()), [Code::ScopeMismatch]);
    let future = PolicyOverride {
        issued_at: time("2030-01-01T00:00:00Z"),
        expires_at: time("2030-02-01T00:00:00Z"),
        ..good.clone()
    };
    assert_eq!(overrides(&world, &future, &root_keys()), [Code::IssuedInFuture]);
    world.clock = time("2026-11-27T08:59:59Z");
    assert!(overrides(&world, &good, &root_keys()).is_empty());
    world.clock = time("2026-11-27T09:00:00Z");
    assert_eq!(overrides(&world, &good, &root_keys()), [Code::Expired]);
    world.clock = time("2001-01-01T00:00:00Z");
    world.floors.time_mark = Some(time("2026-12-01T00:00:00Z"));
    assert_eq!(overrides(&world, &good, &root_keys()), [Code::Expired], "a clock set back revives nothing");
    let silent = PolicyOverride { reason: " ".to_owned(), ..good };
    assert_eq!(overrides(&World::new(), &silent, &root_keys()), [Code::BadValue]);
}

#[test]
fn floors_rise_under_a_newer_root_and_its_reset_of_the_mark_happens_once() {
    let mut root = without_manifest_keys();
    root.reset_time_mark = Some(time("2026-11-01T00:00:00Z"));
    let world = World::new();
    let mut poisoned = world.floors.clone();
    poisoned.time_mark = Some(time("2090-01-01T00:00:00Z"));
    let reset = poisoned.under(&root);
    assert_eq!((reset.root_version, reset.time_mark), (4, Some(time("2026-11-01T00:00:00Z"))));
    // The mark rises again from what is admitted, and the same root does not bring it down a second time.
    let mut later = reset.clone();
    later.time_mark = Some(time("2027-06-01T00:00:00Z"));
    assert_eq!(later.under(&root), later);
    // A reset does not lift a mark, and an older root changes nothing.
    assert_eq!(world.floors.under(&root).time_mark, world.floors.time_mark);
    assert_eq!(reset.under(&trust_root()), reset);
    assert_eq!(reset.streams, world.floors.streams, "nothing else moves");
}
