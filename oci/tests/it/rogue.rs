//! Servers that misbehave, as no real one can be made to.

use std::io::{BufRead, BufReader, Cursor, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use autonomy_oci::spec::Descriptor;
use autonomy_oci::{FILE_TYPE, Reference, Registry, RegistryError, RegistryOptions};

/// Answers the n-th request with the n-th text and closes; gives back what was asked.
fn serve(answers: Vec<String>) -> (Registry, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = listener.local_addr().expect("an address").port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&asked);
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("accepts");
            let mut reader = BufReader::new(stream.try_clone().expect("clones"));
            let lines = reader.by_ref().lines();
            let head: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let length =
                head.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut body).expect("a body");
            kept.lock().expect("locks").push(head.join("\n"));
            let (answer, slow) = answer.strip_prefix("slow ").map_or((answer.as_str(), false), |rest| (rest, true));
            for byte in answer.bytes().collect::<Vec<_>>().chunks(if slow { 20 } else { 1 << 20 }) {
                let _gone = stream.write_all(byte);
                std::thread::sleep(Duration::from_millis(if slow { 100 } else { 0 }));
            }
        }
    });
    let reference: Reference = format!("oci://127.0.0.1:{port}/a:t").parse().expect("reads");
    let options = RegistryOptions {
        docker_config: Some(PathBuf::from("/nonexistent/config.json")),
        silence: Duration::from_secs(1),
        ..RegistryOptions::default()
    };
    (Registry::connect(&reference, options).expect("connects"), asked)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n{body}")
}

fn pull(bytes: &str, answers: Vec<String>) -> (Result<Vec<u8>, RegistryError>, Vec<String>) {
    let (registry, asked) = serve(answers);
    let folder = tempfile::tempdir().expect("a folder");
    let into = folder.path().join("blob");
    let done = registry.pull_blob(&Descriptor::of(FILE_TYPE, bytes.as_bytes()), &into, &|_| ());
    let asked = asked.lock().expect("locks").clone();
    (done.map(|()| std::fs::read(&into).expect("reads")), asked)
}

#[test]
fn a_body_that_breaks_off_is_resumed() {
    let first = answer("200 OK", "Content-Length: 10\r\n", "0123");
    let rest = answer("206 Partial Content", "Content-Length: 6\r\nContent-Range: bytes 4-9/10\r\n", "456789");
    let (done, asked) = pull("0123456789", vec![first, rest]);
    assert_eq!(done.expect("pulls"), b"0123456789");
    assert!(asked[1].contains("bytes=4-"), "{asked:?}");
}

#[test]
fn a_busy_server_is_asked_again_after_its_time() {
    let busy = answer("429 Too Many Requests", "Retry-After: 1\r\nContent-Length: 0\r\n", "");
    let since = std::time::Instant::now();
    let (done, _) = pull("0123", vec![busy, answer("200 OK", "Content-Length: 4\r\n", "0123")]);
    assert_eq!(done.expect("pulls"), b"0123");
    assert!(since.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_wrong_length_a_longer_body_and_other_bytes_are_refused() {
    let (done, _) = pull("0123", vec![answer("200 OK", "Content-Length: 5\r\n", "01234")]);
    assert!(matches!(done, Err(RegistryError::Size { .. })), "{done:?}");
    let (done, _) = pull("0123", vec![answer("200 OK", "", "0123456")]);
    assert!(matches!(done, Err(RegistryError::Size { .. })), "{done:?}");
    let (done, _) = pull("0123", vec![answer("200 OK", "Content-Length: 4\r\n", "abcd")]);
    assert!(matches!(done, Err(RegistryError::Digest { .. })), "{done:?}");
}

#[test]
fn a_trickle_ends() {
    let text = "x".repeat(900);
    let slow = format!("slow {}", answer("200 OK", "Content-Length: 900\r\n", &text));
    let (done, _) = pull(&text, vec![slow]);
    assert!(matches!(done, Err(RegistryError::Silent { .. })), "{done:?}");
}

#[test]
fn another_host_is_never_contacted() {
    let away = answer("307 Temporary Redirect", "Location: http://elsewhere.example/x?secret\r\n", "");
    let (done, _) = pull("0123", vec![away]);
    let Err(error @ RegistryError::Redirected { .. }) = done else { unreachable!("{done:?}") };
    assert!(error.to_string().contains("elsewhere.example") && !error.to_string().contains("secret"), "{error}");
    let realm = "WWW-Authenticate: Bearer realm=\"https://tokens.example/t\",service=\"s\"\r\n";
    let (done, _) = pull("0123", vec![answer("401 Unauthorized", realm, "")]);
    assert!(matches!(done, Err(RegistryError::RealmElsewhere { .. })), "{done:?}");
}

#[test]
fn a_manifest_beyond_the_cap_and_one_of_another_digest_are_refused() {
    let (registry, _) = serve(vec![answer("200 OK", "Content-Length: 4194305\r\n", "{}")]);
    assert!(matches!(registry.resolve(), Err(RegistryError::TooLarge { .. })));
    let said = format!("Content-Length: 2\r\nDocker-Content-Digest: sha256:{}\r\n", "0".repeat(64));
    let (registry, _) = serve(vec![answer("200 OK", &said, "{}")]);
    assert!(matches!(registry.resolve(), Err(RegistryError::Digest { .. })));
}

#[test]
fn a_blob_that_is_unknown_for_a_moment_is_waited_for() {
    let unknown = r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#;
    let unknown = answer("400 Bad Request", &format!("Content-Length: {}\r\n", unknown.len()), unknown);
    let done = answer("201 Created", "Content-Length: 0\r\n", "");
    let (registry, asked) = serve(vec![unknown.clone(), unknown.clone(), done]);
    registry.push_manifest("application/vnd.oci.image.manifest.v1+json", b"{}", "t").expect("pushes");
    assert_eq!(asked.lock().expect("locks").len(), 3);
    // It does not pass everywhere: then it is told.
    let (registry, _) = serve(vec![unknown; 5]);
    let refused = registry.push_manifest("application/vnd.oci.image.manifest.v1+json", b"{}", "t");
    assert!(matches!(refused, Err(RegistryError::LacksBlob { .. })), "{refused:?}");
    let invalid = answer("400 Bad Request", "Content-Length: 0\r\n", "");
    let (registry, asked) = serve(vec![invalid]);
    let refused = registry.push_manifest("application/vnd.oci.image.manifest.v1+json", b"{}", "t");
    assert!(matches!(refused, Err(RegistryError::Status { status: 400, .. })), "{refused:?}");
    assert_eq!(asked.lock().expect("locks").len(), 1);
}

#[test]
fn chunks_are_as_large_as_the_registry_asks_for_within_reason() {
    let bytes = vec![7; 10_000_000];
    let begun = |least: u64| {
        let headers =
            format!("Location: /v2/a/blobs/uploads/1\r\nOCI-Chunk-Min-Length: {least}\r\nContent-Length: 0\r\n");
        answer("202 Accepted", &headers, "")
    };
    let push = |answers: Vec<String>| {
        let (registry, asked) = serve(answers);
        let open = |at: u64| {
            let rest = bytes[usize::try_from(at).expect("small")..].to_vec();
            Ok(Box::new(Cursor::new(rest)) as Box<dyn Read>)
        };
        let done = registry.push_blob(&Descriptor::of(FILE_TYPE, &bytes), &open, &|_| ());
        let asked = asked.lock().expect("locks").clone();
        (done, asked)
    };
    let absent = answer("404 Not Found", "Content-Length: 0\r\n", "");
    let more = answer("202 Accepted", "Location: /v2/a/blobs/uploads/2\r\nContent-Length: 0\r\n", "");
    let done = answer("201 Created", "Content-Length: 0\r\n", "");
    let (pushed, asked) = push(vec![absent.clone(), begun(9_000_000), more.clone(), more, done]);
    pushed.expect("pushes");
    let ranges: Vec<&String> = asked.iter().filter(|head| head.starts_with("PATCH ")).collect();
    assert!(ranges[0].contains("0-8999999") && ranges[1].contains("9000000-9999999"), "{ranges:?}");
    let (refused, _) = push(vec![absent, begun(20_000_000)]);
    assert!(matches!(refused, Err(RegistryError::Malformed { .. })), "{refused:?}");
}
