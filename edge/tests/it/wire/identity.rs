//! Who is let in, and who lets us in (INV-09).

use std::path::Path;
use std::process::{Command, Stdio};

use autonomy_edge::wire::{Tls, WireError};
use autonomy_schema::Code;

use super::{Station, two};
use crate::world::{World, ago, days, name, now, write};

/// What the other end says when it refuses our certificate.
fn refused(result: Result<impl std::fmt::Debug, WireError>, alert: &str) {
    match result {
        Err(WireError::Tls(why)) if why.contains(alert) => {}
        // The alert and the end of the connection race; the count at the other end tells which certificate it was.
        Err(WireError::Lost(_)) => {}
        other => panic!("expected {alert}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_the_fleet_is_known_by_its_certificate() {
    let (_world, mut station, a) = two().await;
    let connection = station.called_by(&a).await.expect("connects");
    let health = connection.health().await.expect("health");
    assert_eq!((health.node, health.fleet, health.draining), (name("node-b"), name("harbor"), false));
    assert_eq!(station.seen.recv().await, Some(name("node-a")), "the driver is told whom it can dial");
    station.counts("autonomy_edge_connections 1").await;
    station.counts("autonomy_edge_requests_total{code=\"200\"} 1").await;
    drop(connection);
    station.counts("autonomy_edge_connections 0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fi_transport_revoked_cert_rejected() {
    let world = World::new();
    let (b, a) = (world.machine("node-b"), world.machine("node-a"));
    world.revoke(&a.serial);
    world.renew_list(&b);
    let station = Station::open("node-b", &b).await;
    // The revoked node has the old list and thinks well of itself; the other end knows better.
    let health = match station.called_by(&a).await {
        Ok(connection) => connection.health().await,
        Err(error) => Err(error),
    };
    refused(health, "CertificateRevoked");
    station.rejects("revoked", 1).await;
    // And the other way round: nothing is sent to a revoked peer.
    world.renew_list(&a);
    assert!(Tls::open(a.root()).expect_err("its own list names it").has(Code::CertificateRevoked));
    let c = world.machine("node-c");
    world.revoke(&b.serial);
    world.renew_list(&c);
    assert_eq!(station.called_by(&c).await.map(drop), Err(WireError::Tls("revoked".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_unknown_and_strange_certificates_end_the_handshake() {
    let (world, station, a) = two().await;
    let issued = world.ca.issue(&name("harbor"), &name("node-x"), ago(2), days(1)).expect("certificate");
    let expired = world.path("expired");
    pair(&expired, &issued.certificate_pem, &issued.private_pem);
    s_client(&station, &world, &expired, &[]);
    station.rejects("expired", 1).await;

    let other = World::new();
    let stranger = other.ca.issue(&name("harbor"), &name("node-a"), ago(1), days(9)).expect("certificate");
    let unknown = world.path("unknown");
    pair(&unknown, &stranger.certificate_pem, &stranger.private_pem);
    s_client(&station, &world, &unknown, &[]);
    station.rejects("unknown_ca", 1).await;

    let rsa = world.path("rsa");
    openssl_leaf(&world, &rsa, &["-newkey", "rsa:2048"], "URI:spiffe://harbor/domains/harbor/peers/node-r");
    s_client(&station, &world, &rsa, &[]);
    // The server offers no scheme that an RSA key could sign with, so openssl sends none, or its chain is refused.
    let text = station.metrics.text().expect("text");
    assert!(!text.contains("edge_requests"), "{text}");

    let nameless = world.path("nameless");
    openssl_leaf(&world, &nameless, EC, "URI:spiffe://harbor/peers/../node-n");
    s_client(&station, &world, &nameless, &[]);
    station.rejects("wrong_peer", 1).await;
    station.still_serves(&a).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_or_with_tls_1_2_nobody_gets_in() {
    let (world, station, a) = two().await;
    s_client(&station, &world, Path::new(""), &[]);
    station.rejects("no_certificate", 1).await;
    let good = world.path("node-a/identity/node");
    let said = s_client(&station, &world, &good, &["-tls1_2"]);
    assert!(said.contains("protocol version"), "{said}");
    station.rejects("incompatible", 1).await;
    // An old session opens nothing: none is given, and with a whole conversation openssl would show it.
    let said = s_client(&station, &world, &good, &["-alpn", "h2"]);
    assert!(said.contains("TLSv1.3") && !said.contains("Session Ticket"), "{said}");
    assert!(said.contains("Verification: OK") && !said.contains("Early data was accepted"), "{said}");
    // Only HTTP/2 is spoken.
    s_client(&station, &world, &good, &["-alpn", "http/1.1"]);
    station.rejects("no_http2", 1).await;
    station.still_serves(&a).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_fleet_is_answered_403_everywhere() {
    let (world, station, _) = two().await;
    let issued = world.ca.issue(&name("quarry"), &name("node-q"), ago(1), days(9)).expect("certificate");
    let place = world.path("quarry");
    pair(&place, &issued.certificate_pem, &issued.private_pem);
    for path in ["/v1/health", "/v1/packs", "/v1/manifests/x", "/"] {
        let (status, said) = super::curl::ask(&station, &world, &place, &[], path);
        assert_eq!(status, 403, "{path}: {said}");
        assert!(said.contains("\"scope_mismatch\""), "{said}");
    }
    station.rejects("wrong_fleet", 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_other_authorities_count_when_there_is_no_uri() {
    let (world, station, _) = two().await;
    let dns = world.path("dns");
    openssl_leaf(&world, &dns, EC, "DNS:node-d,DNS:node-e");
    let (status, said) = super::curl::ask(&station, &world, &dns, &[], "/v1/health");
    assert_eq!(status, 200, "{said}");
    let text = station.metrics.text().expect("text");
    assert!(text.contains("autonomy_edge_sent_bytes_total{peer=\"node-d\"}"), "{text}");
    let common = world.path("common");
    openssl_leaf(&world, &common, EC, "");
    let (status, said) = super::curl::ask(&station, &world, &common, &[], "/v1/health");
    assert_eq!(status, 200, "{said}");
    let text = station.metrics.text().expect("text");
    assert!(text.contains("autonomy_edge_sent_bytes_total{peer=\"node-o\"}"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_takes_nobody_but_the_peer_it_called() {
    let (world, mut station, a) = two().await;
    station.id = name("node-c");
    assert_eq!(station.called_by(&a).await.map(drop), Err(WireError::WrongPeer));
    station.id = name("node-b");
    station.still_serves(&a).await;
    // A list of revocations that is past its time lets nobody in.
    let late = world.machine("node-l");
    world.list(&late, ago(3), days(1));
    assert!(Tls::open(late.root()).expect_err("too old").has(Code::CrlExpired));
    assert!(now() > ago(1));
}

pub(super) const EC: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// Certificate and key beside each other.
fn pair(place: &Path, certificate: &str, key: &str) {
    write(&place.with_extension("crt"), certificate.as_bytes());
    write(&place.with_extension("key"), key.as_bytes());
}

/// A certificate of the fleet's CA, made by openssl.
fn openssl_leaf(world: &World, place: &Path, key: &[&str], names: &str) {
    let ca = world.path("ca");
    pair(&ca, &world.pair.certificate_pem, &world.pair.private_pem);
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-nodes", "-days", "9", "-subj", "/CN=node-o"]).args(key);
    command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    if !names.is_empty() {
        command.args(["-addext", &format!("subjectAltName={names}")]);
    }
    command.args(["-addext", "extendedKeyUsage=clientAuth,serverAuth"]);
    command.arg("-CA").arg(ca.with_extension("crt")).arg("-CAkey").arg(ca.with_extension("key"));
    command.arg("-out").arg(place.with_extension("crt")).arg("-keyout").arg(place.with_extension("key"));
    let ran = command.output().expect("openssl runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// What openssl says when it connects as `place`.
fn s_client(station: &Station, world: &World, place: &Path, arguments: &[&str]) -> String {
    let ca = world.path("ca.crt");
    write(&ca, world.pair.certificate_pem.as_bytes());
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &station.address.to_string()]).args(arguments).stdin(Stdio::null());
    if place != Path::new("") {
        command.arg("-cert").arg(place.with_extension("crt")).arg("-key").arg(place.with_extension("key"));
        command.arg("-CAfile").arg(&ca);
    }
    let ran = command.output().expect("openssl runs");
    String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned()
}
