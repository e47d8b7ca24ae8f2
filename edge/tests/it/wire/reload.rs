//! Certificates that change and a daemon that stops, while connections stand.

use std::time::Duration;

use autonomy_edge::wire::WireError;
use autonomy_schema::Code;

use super::{Station, chunks, quick, two};
use crate::world::{World, write};

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_closes_the_connection_of_a_peer_that_was_revoked() {
    let world = World::new();
    let (b, a, c) = (world.machine("node-b"), world.machine("node-a"), world.machine("node-c"));
    let station = Station::open("node-b", &b).await;
    let (bad, good) = (station.called_by(&a).await.expect("connects"), station.called_by(&c).await.expect("connects"));
    bad.health().await.expect("health");
    good.health().await.expect("health");
    assert!(!station.tls.reload().expect("the same files"));

    world.revoke(&a.serial);
    world.renew_list(&b);
    assert!(station.tls.reload().expect("a new list"));
    tokio::time::timeout(Duration::from_secs(5), bad.closed()).await.expect("it is closed at once");
    assert!(bad.health().await.is_err());
    good.health().await.expect("the other peer keeps its connection");
    station.rejects("revoked", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_ends_our_own_connections_to_a_revoked_peer() {
    let (world, station, _) = two().await;
    let c = world.machine("node-c");
    let tls = autonomy_edge::wire::Tls::open(c.root()).expect("certificates");
    let client = autonomy_edge::wire::Client::new(tls.clone(), std::sync::Arc::default(), quick());
    let connection = client.connect(&station.id, &station.address.to_string()).await.expect("connects");
    connection.health().await.expect("health");
    let serial = world.machine("node-z").serial;
    world.revoke(&serial);
    world.renew_list(&c);
    assert!(tls.reload().expect("reloads"));
    connection.health().await.expect("node-b is not the one that was revoked");
    let b =
        autonomy_trust::describe_certificates(&std::fs::read(world.path("node-b/identity/node.crt")).expect("file"));
    world.revoke(&b.expect("certificate")[0].serial);
    world.renew_list(&c);
    assert!(tls.reload().expect("reloads"));
    let why = tokio::time::timeout(Duration::from_secs(5), connection.closed()).await.expect("it is closed at once");
    assert!(why.contains("revoked"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_files_are_found_and_broken_ones_change_nothing() {
    let world = World::new();
    let (b, a) = (world.machine("node-b"), world.machine("node-a"));
    let station = Station::open("node-b", &b).await;
    let follower = tokio::spawn(station.tls.clone().follow(Duration::from_millis(50)));
    let connection = station.called_by(&a).await.expect("connects");
    connection.health().await.expect("health");

    let list = std::fs::read(b.file("crl.pem")).expect("list");
    write(&b.file("crl.pem"), b"no list");
    assert!(station.tls.reload().expect_err("refused").has(Code::CrlUnreadable));
    tokio::time::sleep(Duration::from_millis(200)).await;
    connection.health().await.expect("the old certificates stay");
    write(&b.file("crl.pem"), &list);

    world.revoke(&a.serial);
    world.renew_list(&b);
    tokio::time::timeout(Duration::from_secs(5), connection.closed()).await.expect("the new list is found");
    follower.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_stops_ends_what_is_under_way_and_takes_nothing_new() {
    let (world, station, a) = two().await;
    let connection = station.called_by(&a).await.expect("connects");
    connection.health().await.expect("health");
    // A body is under way when the drain begins; it is refused for what it is, and not cut off.
    let (give, take) = tokio::sync::mpsc::channel(1);
    let upload = async {
        let set = world.set(1, 1000);
        connection.offer(set.fingerprint, 4, take).await
    };
    let steer = station.steer.clone();
    let drain = async move {
        give.send(bytes::Bytes::from_static(b"ab")).await.expect("sent");
        tokio::time::sleep(Duration::from_millis(300)).await;
        steer.drain();
        tokio::time::sleep(Duration::from_millis(300)).await;
        give.send(bytes::Bytes::from_static(b"cd")).await.expect("sent");
    };
    let (uploaded, ()) = tokio::join!(upload, drain);
    assert!(matches!(uploaded, Err(WireError::Refused { status: 422, .. })), "{uploaded:?}");
    tokio::time::timeout(Duration::from_secs(5), station.running).await.expect("it ends").expect("and well");
    let late = connection.offer(world.set(1, 1000).fingerprint, 1, chunks(b"x")).await;
    assert!(matches!(late, Err(WireError::Lost(_))), "{late:?}");
}
