//! The ingest quota of each peer (INV-13): a breach is an answer, and nobody else's matter.

use std::time::{Duration, Instant};

use autonomy_edge::wire::{Connection, WireError};
use autonomy_schema::relay::IngestQuota;

use super::{Station, quick, send};
use crate::world::World;

const KIB: u64 = 1 << 10;

/// A pack of about `kib` KiB.
async fn send_kib(connection: &Connection, kib: usize) -> Result<(), WireError> {
    let segment = vec![5_u8; 32 << 10];
    send(connection, &vec![&segment[..]; kib / 32]).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn fi_quota_enforced_per_peer() {
    let world = World::new();
    let (b, a, c) = (world.machine("node-b"), world.machine("node-a"), world.machine("node-c"));
    let quota = IngestQuota { bytes_per_second: 64 * KIB, burst_bytes: 256 * KIB };
    let station = Station::with("node-b", &b, quota, quick(), 0).await;
    let connection = station.called_by(&a).await.expect("connects");
    let announced = connection.health().await.expect("health").quota;
    assert_eq!((announced.bytes_per_second, announced.burst_bytes), (64 * KIB, 256 * KIB));
    assert_eq!(announced.available_bytes, 256 * KIB);

    let began = Instant::now();
    send_kib(&connection, 192).await.expect("within the burst");
    let over = send_kib(&connection, 192).await;
    let Err(WireError::Throttled { seconds, status: 429 }) = over else { panic!("{over:?}") };
    assert!((1..=3).contains(&seconds), "about 128 KiB are missing: {seconds}");
    // The connection is kept, on which everything else goes on.
    let left = connection.health().await.expect("the same connection").quota.available_bytes;
    assert!(left < 192 * KIB, "{left}");
    // Others have their own.
    let other = station.called_by(&c).await.expect("connects");
    send_kib(&other, 192).await.expect("its own quota");
    station.counts("autonomy_edge_throttled_total{peer=\"node-a\"} 1").await;
    assert!(!station.metrics.text().expect("text").contains("throttled_total{peer=\"node-c\"}"));

    // However it tries, no more comes in than burst and rate give.
    let mut accepted = 192 * KIB;
    while began.elapsed() < Duration::from_secs(3) {
        if send_kib(&connection, 64).await.is_ok() {
            accepted += 64 * KIB;
        }
    }
    let most = 256 * KIB + 64 * KIB * (began.elapsed().as_secs() + 1);
    assert!(accepted <= most, "{accepted} of {most}");
    assert!(accepted > 256 * KIB, "and what it may send comes in: {accepted}");

    station.steer.set_quota(super::UNLIMITED);
    send_kib(&connection, 1024).await.expect("no limit any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_above_the_burst_comes_in_at_the_rate() {
    let world = World::new();
    let (b, a) = (world.machine("node-b"), world.machine("node-a"));
    let quota = IngestQuota { bytes_per_second: 512 * KIB, burst_bytes: 64 * KIB };
    let station = Station::with("node-b", &b, quota, quick(), 0).await;
    let connection = station.called_by(&a).await.expect("connects");
    let began = Instant::now();
    send_kib(&connection, 1088).await.expect("it is taken, slowly");
    assert!(began.elapsed() >= Duration::from_millis(1900), "1024 KiB above the burst: {:?}", began.elapsed());
}

/// Sends `packs` of 128 KiB as fast as the quota lets it; gives how long it took.
async fn work(connection: &Connection, packs: u32) -> Duration {
    let began = Instant::now();
    for _ in 0..packs {
        while let Err(error) = send_kib(connection, 128).await {
            assert!(matches!(error, WireError::Throttled { status: 429, .. }), "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fi_quota_peer_isolation() {
    let world = World::new();
    let (b, a, c) = (world.machine("node-b"), world.machine("node-a"), world.machine("node-c"));
    let quota = IngestQuota { bytes_per_second: 1024 * KIB, burst_bytes: 128 * KIB };
    let station = Station::with("node-b", &b, quota, quick(), 0).await;
    let honest = station.called_by(&a).await.expect("connects");
    // The same work, bound by the same quota, alone and beside a flood: what differs is the flood. A machine that is busy
    // with something else may spoil one round.
    let mut ratios = Vec::new();
    for _ in 0..3 {
        let alone = work(&honest, 16).await;
        let mut flood = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let flooding = std::sync::Arc::new(station.called_by(&c).await.expect("connects"));
            for _ in 0..8 {
                let flooding = std::sync::Arc::clone(&flooding);
                flood.spawn(async move {
                    loop {
                        send_kib(&flooding, 128).await.ok();
                    }
                });
            }
        }
        let beside = work(&honest, 16).await;
        flood.shutdown().await;
        ratios.push(alone.as_secs_f64() / beside.as_secs_f64());
        if ratios.last().is_some_and(|ratio| *ratio >= 0.9) {
            break;
        }
    }
    assert!(ratios.last().is_some_and(|ratio| *ratio >= 0.9), "share of the throughput beside a flood: {ratios:?}");
    let text = station.metrics.text().expect("text");
    assert!(text.contains("throttled_total{peer=\"node-c\"}"), "the flood was throttled: {text}");
}
