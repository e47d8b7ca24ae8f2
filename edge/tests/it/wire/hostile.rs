//! Peers with a good certificate and bad manners: each harms itself alone.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::frames::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, connect, fields, frame, hello,
    read_frame, request, say, until_closed,
};
use super::{pack_of, send, two};

/// Above every wait of `quick`.
const PATIENCE: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn garbage_silence_and_slow_headers_end_the_connection() {
    let (world, station, a) = two().await;
    let me = world.path("node-a/identity/node");
    // No TLS, and nothing at all.
    let mut plain = TcpStream::connect(station.address).await.expect("connects");
    say(&mut plain, b"GET /v1/health HTTP/1.1\r\n\r\n").await;
    station.rejects("not_tls", 1).await;
    let mut silent = TcpStream::connect(station.address).await.expect("connects");
    station.rejects("handshake_timeout", 1).await;
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap_or_default(), 0);
    // TLS, and then no HTTP/2.
    let mut garbage = connect(&station, &me).await;
    say(&mut garbage, &[0x16; 4096]).await;
    until_closed(&mut garbage, PATIENCE).await;
    // Half a preface; and nothing after a whole one.
    for begin in [&PREFACE[..9], &hello()] {
        let mut half = connect(&station, &me).await;
        say(&mut half, begin).await;
        until_closed(&mut half, PATIENCE).await;
    }
    // Headers that never end.
    let mut slow = connect(&station, &me).await;
    let block = fields(&request("GET", "/v1/health"));
    say(&mut slow, &[hello(), frame(SETTINGS, 1, 0, &[]), frame(HEADERS, END_STREAM, 1, &block)].concat()).await;
    until_closed(&mut slow, PATIENCE).await;
    // Frames that are none.
    let mut broken = connect(&station, &me).await;
    say(&mut broken, &[hello(), frame(DATA, 0, 0, &[1; 64])].concat()).await;
    assert!(until_closed(&mut broken, PATIENCE).await.iter().any(|(kind, ..)| *kind == GOAWAY));
    station.counts("autonomy_edge_connections 0").await;
    station.still_serves(&a).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_headers_than_any_request_has_are_refused() {
    let (world, station, a) = two().await;
    let mut stream = connect(&station, &world.path("node-a/identity/node")).await;
    let value = "x".repeat(120);
    let mut large = request("GET", "/v1/health");
    large.extend((0..110).map(|_| ("x-large", value.as_str())));
    let block = fields(&large);
    assert!(block.len() < 16_384, "one frame");
    say(&mut stream, &[hello(), frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)].concat()).await;
    let refused = async {
        while let Some((kind, id, payload)) = read_frame(&mut stream).await {
            if id == 1 || kind == GOAWAY {
                return (kind, payload);
            }
        }
        (GOAWAY, Vec::new())
    };
    let (kind, payload) = tokio::time::timeout(PATIENCE, refused).await.expect("an answer");
    // `:status` 431, in the code of HPACK.
    assert_eq!((kind, payload.as_slice()), (HEADERS, &[0x48, 0x83, 0x69, 0x90, 0xff][..]));
    assert!(!station.metrics.text().expect("text").contains("requests_total"), "no handler saw it");
    station.still_serves(&a).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_pack_and_then_silence_is_ended_and_harms_nobody() {
    let (world, station, a) = two().await;
    let (_, packed) = pack_of(&[&vec![7; 40_000]]);
    world.machine("node-c");
    let mut stream = connect(&station, &world.path("node-c/identity/node")).await;
    let mut head = request("POST", "/v1/packs");
    head.push(("content-type", "application/vnd.autonomy.pack.v1"));
    say(&mut stream, &[hello(), frame(HEADERS, END_HEADERS, 1, &fields(&head))].concat()).await;
    say(&mut stream, &frame(DATA, 0, 1, &packed[..16_000])).await;
    station.still_serves(&a).await;
    // It answers pings, so only the body is what does not move.
    let (mut reads, mut writes) = tokio::io::split(stream);
    tokio::spawn(async move {
        while let Some((kind, _, payload)) = read_frame(&mut reads).await {
            if kind == PING {
                say(&mut writes, &frame(PING, 1, 0, &payload)).await;
            }
        }
    });
    station.counts("autonomy_edge_requests_total{code=\"408\"} 1").await;
    station.still_serves(&a).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_with_a_wrong_name_is_refused_and_the_rest_of_the_pack_is_not() {
    let (world, station, a) = two().await;
    let set = world.set(1, 200_000);
    let connection = station.called_by(&a).await.expect("connects");
    super::offer(&connection, &set).await.expect("accepted");
    let (mut ids, mut packed) = pack_of(&set.segments.iter().map(Vec::as_slice).collect::<Vec<_>>());
    // The last byte of the first segment.
    packed[36 + set.segments[0].len() - 1] ^= 1;
    let taken = connection.send_pack(&ids, packed.len() as u64, super::chunks(&packed)).await.expect("an answer");
    assert_eq!(taken[0], (ids[0], Err("digest_mismatch".to_owned())));
    assert!(taken[1..].iter().all(|(_, result)| result.is_ok()), "{taken:?}");
    let progress = connection.ask(set.fingerprint).await.expect("answer").expect("known");
    assert_eq!(progress.missing[0].segments, [(0, 1)]);
    ids.truncate(1);
    assert!(send(&connection, &[&set.segments[0]]).await.expect("answer")[0].1.is_ok());
    station.counts("autonomy_edge_segments_total{status=\"refused\"} 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_body_is_cut_off_at_the_cap() {
    let (world, station, a) = two().await;
    let mut stream = connect(&station, &world.path("node-a/identity/node")).await;
    let mut head = request("PUT", "/v1/segments/x");
    let path = format!("/v1/segments/{}", autonomy_schema::Blake3::of(b"x"));
    head[3].1 = &path;
    say(&mut stream, &hello()).await;
    // The window is below the cap until the server knows that its settings are known.
    while read_frame(&mut stream).await.is_some_and(|(kind, ..)| kind != SETTINGS) {}
    say(&mut stream, &[frame(SETTINGS, 1, 0, &[]), frame(HEADERS, END_HEADERS, 1, &fields(&head))].concat()).await;
    for _ in 0..5 {
        say(&mut stream, &frame(DATA, 0, 1, &[9; 16_384])).await;
    }
    station.counts("autonomy_edge_requests_total{code=\"413\"} 1").await;
    station.still_serves(&a).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_tiny_streams_and_rapid_resets_end_only_their_connection() {
    let (world, station, a) = two().await;
    let me = world.path("node-a/identity/node");
    let block = fields(&request("GET", "/v1/health"));
    for is_reset in [false, true] {
        let stream = connect(&station, &me).await;
        let (mut reads, mut writes) = tokio::io::split(stream);
        let reading = tokio::spawn(async move {
            let mut ended = false;
            while let Some((kind, ..)) = read_frame(&mut reads).await {
                ended |= kind == GOAWAY;
            }
            ended
        });
        let mut is_open = say(&mut writes, &hello()).await;
        for at in 0..10_000_u32 {
            let id = at * 2 + 1;
            let mut burst = frame(HEADERS, END_HEADERS | END_STREAM, id, &block);
            if is_reset {
                burst.extend(frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()));
            }
            is_open = is_open && say(&mut writes, &burst).await;
        }
        drop(writes);
        let told = tokio::time::timeout(PATIENCE, reading).await;
        station.still_serves(&a).await;
        if is_reset {
            assert!(
                !is_open || told.is_ok_and(|told| told.is_ok_and(|ended| ended)),
                "rapid reset ends the connection"
            );
        }
    }
    station.still_serves(&a).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_has_four_connections_and_no_more() {
    let (world, station, a) = two().await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let connection = station.called_by(&a).await.expect("connects");
        connection.health().await.expect("health");
        held.push(connection);
    }
    let fifth = station.called_by(&a).await;
    let fifth = match fifth {
        Ok(connection) => connection.health().await.map(drop),
        Err(error) => Err(error),
    };
    assert!(fifth.is_err(), "{fifth:?}");
    station.rejects("too_many_connections_of_peer", 1).await;
    station.still_serves(&world.machine("node-c")).await;
    held.pop();
    station.counts("autonomy_edge_connections 3").await;
    station.still_serves(&a).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn load_is_shed_when_memory_is_short() {
    let world = crate::world::World::new();
    let (b, a) = (world.machine("node-b"), world.machine("node-a"));
    // Smaller than any process.
    let station = super::Station::with("node-b", &b, super::UNLIMITED, super::quick(), 1 << 20).await;
    let connection = station.called_by(&a).await.expect("connects");
    connection.health().await.expect("who asks is answered");
    let sent = send(&connection, &[b"x"]).await;
    assert_eq!(sent, Err(autonomy_edge::wire::WireError::Throttled { seconds: 5, status: 503 }));
    station.counts("autonomy_edge_shed_total 1").await;
}
