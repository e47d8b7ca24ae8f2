//! Peers that answer what they like: an error each time, never a hang.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use autonomy_edge::wire::{Client, Connection, Timeouts, Tls, WireError};
use autonomy_schema::{Blake3, Code};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use super::frames::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, SETTINGS, accept, fields, frame, read_frame, say};
use super::{quick, send};
use crate::world::{World, name};

struct Liar {
    world: World,
    listener: Arc<TcpListener>,
    client: Client,
    place: PathBuf,
}

impl Liar {
    async fn new() -> Self {
        let world = World::new();
        let (_, a) = (world.machine("node-b"), world.machine("node-a"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let timeouts = Timeouts { answer: Duration::from_secs(2), ..quick() };
        let client = Client::new(Tls::open(a.root()).expect("certificates"), Arc::default(), timeouts);
        let place = world.path("node-b/identity/node");
        Self { world, listener: Arc::new(listener), client, place }
    }

    /// A connection to a peer that answers the first request with these frames, and then is silent.
    async fn answering(&self, frames: Vec<u8>) -> Connection {
        let (listener, place) = (Arc::clone(&self.listener), self.place.clone());
        tokio::spawn(async move {
            let mut stream = accept(&listener, &place).await;
            stream.read_exact(&mut [0; 24]).await.expect("preface");
            say(&mut stream, &[frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, 1, 0, &[])].concat()).await;
            while let Some((kind, ..)) = read_frame(&mut stream).await {
                if kind == HEADERS {
                    say(&mut stream, &frames).await;
                }
            }
        });
        let address = self.listener.local_addr().expect("address").to_string();
        self.client.connect(&name("node-b"), &address).await.expect("connects")
    }
}

fn reply(status: &str, more: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let head = [&[(":status", status)], more].concat();
    let mut frames = frame(HEADERS, END_HEADERS, 1, &fields(&head));
    for piece in body.chunks(16_384) {
        frames.extend(frame(DATA, 0, 1, piece));
    }
    frames.extend(frame(DATA, END_STREAM, 1, &[]));
    frames
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_none_are_errors() {
    let liar = Liar::new().await;
    let health = async |frames: Vec<u8>| liar.answering(frames).await.health().await.map(drop);
    let good = br#"{"node":"node-b","fleet":"harbor","quota":{"bytesPerSecond":0,"burstBytes":0,"availableBytes":0},"draining":false}"#;
    assert_eq!(health(reply("200", &[], good)).await, Ok(()), "the liar can speak");
    for (what, body) in [
        ("no JSON", &b"<html>"[..]),
        ("another document", b"{}"),
        ("a name that is a path", br#"{"node":"../x","fleet":"harbor","quota":{"bytesPerSecond":0,"burstBytes":0,"availableBytes":0},"draining":false}"#),
        ("a deep one", &[b'['; 9000]),
        ("a long one", &vec![b' '; 20_000]),
    ] {
        let found = health(reply("200", &[], body)).await;
        assert!(matches!(found, Err(WireError::Answer(_))), "{what}: {found:?}");
    }
    let throttled = |seconds, status| Err(WireError::Throttled { seconds, status });
    assert_eq!(health(reply("429", &[("retry-after", "7")], b"")).await, throttled(7, 429));
    assert_eq!(health(reply("429", &[("retry-after", "99999999999")], b"")).await, throttled(3600, 429));
    assert_eq!(health(reply("503", &[("retry-after", "soon")], b"")).await, throttled(5, 503));
    let told = br#"{"reasons":[{"code":"scope_mismatch","message":"not\u001b[2J you","remedy":"go"}]}"#;
    match health(reply("403", &[], told)).await {
        Err(WireError::Refused { status: 403, reasons: Some(reasons) }) => {
            assert!(reasons.has(Code::ScopeMismatch) && !reasons.one_line().contains('\u{1b}'), "{reasons}");
        }
        other => panic!("{other:?}"),
    }
    let strange = health(reply("418", &[], br#"{"reasons":[{"code":"new_in_2040","message":"","remedy":""}]}"#)).await;
    assert_eq!(strange, Err(WireError::Refused { status: 418, reasons: None }));
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_garbage_and_endless_answers_end() {
    let liar = Liar::new().await;
    let health = async |frames: Vec<u8>| {
        let connection = liar.answering(frames).await;
        tokio::time::timeout(Duration::from_secs(15), connection.health()).await.expect("no hang").map(drop)
    };
    let head = frame(HEADERS, END_HEADERS, 1, &fields(&[(":status", "200")]));
    let cases: &[(&str, Vec<u8>)] = &[
        ("silence", Vec::new()),
        ("headers that never end", frame(HEADERS, 0, 1, &fields(&[(":status", "200")]))),
        ("a body that never ends", [head.clone(), frame(DATA, 0, 1, b"{")].concat()),
        ("a frame of no stream", frame(DATA, 0, 0, b"x")),
        ("garbage", vec![0xff; 4096]),
        ("goodbye", frame(GOAWAY, 0, 0, &[0; 8])),
        ("an answer to nothing", frame(HEADERS, END_HEADERS, 99, &fields(&[(":status", "200")]))),
        ("headers that are none", frame(HEADERS, END_HEADERS, 1, &[0xff; 64])),
    ];
    for (what, frames) in cases {
        let found = health(frames.clone()).await;
        assert!(matches!(found, Err(WireError::Lost(_))), "{what}: {found:?}");
    }
    let endless = [head, vec![frame(DATA, 0, 1, &[b' '; 16_384]); 3].concat()].concat();
    let found = health(endless).await;
    assert!(matches!(found, Err(WireError::Answer(_))), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn results_and_progress_must_be_about_what_was_asked() {
    let liar = Liar::new().await;
    let (x, y) = (Blake3::of(b"x"), Blake3::of(b"y"));
    let results = |ids: &[Blake3]| {
        let results: Vec<_> = ids.iter().map(|id| serde_json::json!({ "id": id, "status": "stored" })).collect();
        reply("200", &[], serde_json::json!({ "results": results }).to_string().as_bytes())
    };
    let pack: &[&[u8]] = &[b"x", b"y"];
    let good = send(&liar.answering(results(&[x, y])).await, pack).await;
    assert_eq!(good, Ok(vec![(x, Ok(())), (y, Ok(()))]));
    for wrong in [&[x][..], &[y, x], &[x, x], &[x, y, y], &[]] {
        let found = send(&liar.answering(results(wrong)).await, pack).await;
        assert!(matches!(found, Err(WireError::Answer(_))), "{wrong:?}: {found:?}");
    }
    let ask = async |manifest: Blake3, ranges: &str| {
        let body = format!(
            r#"{{"manifest":"{manifest}","state":"receiving","missing":[{{"artifact":"agent","segments":{ranges}}}],"more":false,"receipts":[]}}"#
        );
        liar.answering(reply("200", &[], body.as_bytes())).await.ask(x).await.map(|found| found.is_some())
    };
    assert_eq!(ask(x, "[[0,3]]").await, Ok(true));
    for (manifest, ranges) in [(y, "[[0,3]]"), (x, "[[3,3]]"), (x, "[[4,3]]"), (x, "[[0,99999]]"), (x, "[[-1,3]]")] {
        let found = ask(manifest, ranges).await;
        assert!(matches!(found, Err(WireError::Answer(_))), "{ranges}: {found:?}");
    }
    let unknown = liar.answering(reply("404", &[], b"")).await.ask(x).await;
    assert_eq!(unknown, Ok(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_where_nobody_is_are_told_apart() {
    let liar = Liar::new().await;
    let call = async |address: String| liar.client.connect(&name("node-b"), &address).await.map(drop);
    let free = TcpListener::bind("127.0.0.1:0").await.expect("binds").local_addr().expect("address");
    for nobody in [free.to_string(), "no-such-name.invalid:1".to_owned(), "no port".to_owned()] {
        let found = call(nobody.clone()).await;
        assert!(matches!(found, Err(WireError::Unreachable(_))), "{nobody}: {found:?}");
    }
    // It takes the connection, and nothing comes of it.
    let mute = liar.listener.local_addr().expect("address").to_string();
    assert_eq!(call(mute).await, Err(WireError::Tls("handshake_timeout".to_owned())));
    assert!(liar.world.path("node-b").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_as_long_as_announced_is_no_request() {
    let liar = Liar::new().await;
    let connection = liar.answering(Vec::new()).await;
    let short = connection.offer(Blake3::of(b"x"), 10, super::chunks(b"123")).await;
    assert!(matches!(short, Err(WireError::Lost(_))), "{short:?}");
    let connection = liar.answering(Vec::new()).await;
    let long = connection.offer(Blake3::of(b"x"), 2, super::chunks(b"123")).await;
    assert!(matches!(long, Err(WireError::Lost(_))), "{long:?}");
}
