//! What agents may send to get past the runtime, and what its tools may be talked into: each refused.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::node::Site;
use crate::runtime::{Answer, Runtime, records, site};

/// Allows every tool: what refuses is the tool itself.
const OPEN: &str = "package autonomy.tool\n\nallow := true\n";

fn is(answer: &Answer, code: u16, reason: &str) {
    assert_eq!((answer.code, answer.codes()), (code, vec![reason]), "{}", answer.body);
}

#[test]
fn requests_that_are_none_are_refused_before_the_policy_is_asked() {
    let site = site(OPEN);
    let runtime = Runtime::start(&site, "");
    // 10 MiB of parameters, told and untold.
    let large = json!({ "kind": "tool.echo", "params": { "message": "x".repeat(10 << 20) } }).to_string();
    is(&runtime.post(large.as_bytes()), 413, "document_too_large");
    let head = format!(
        "POST /v1/tool HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        runtime.at
    );
    let chunks = format!("10000\r\n{}\r\n", "x".repeat(0x10000)).repeat(40);
    is(&runtime.raw(&[head.as_bytes(), chunks.as_bytes(), b"0\r\n\r\n"].concat()), 413, "document_too_large");
    let fits = json!({ "kind": "tool.echo", "params": { "message": "x".repeat((1 << 20) - 100) } }).to_string();
    assert_eq!(runtime.post(fits.as_bytes()).code, 200);
    // Bytes that are no text, text that is no call.
    is(&runtime.post(b"{\"kind\":\"tool.echo\",\"params\":{\"message\":\"\xff\xfe\"}}"), 400, "not_utf8");
    let nested = |levels: usize| {
        format!(r#"{{"kind":"tool.echo","params":{{"message":{}{}}}}}"#, "[".repeat(levels), "]".repeat(levels))
    };
    for body in [
        nested(65),
        nested(200_000),
        "{".repeat(500_000),
        String::new(),
        "null".to_owned(),
        r#"{"kind":"tool.shell","kind":"tool.echo"}"#.to_owned(),
        r#"{"kind":"tool.echo","params":{"message":"a","message":"b"}}"#.to_owned(),
        r#"{"kind":"tool.echo","params":{"message":"a"},"decision":"allow"}"#.to_owned(),
        r#"{"kind":"tool.echo","params":"message"}"#.to_owned(),
        r#"{"kind":{"$ne":null},"params":{}}"#.to_owned(),
        format!(r#"{{"kind":"{}"}}"#, "a".repeat(100_000)),
    ] {
        is(&runtime.post(body.as_bytes()), 400, "bad_request");
    }
    // None of it came to a decision.
    assert_eq!(records(&site.world.path("node"), "tool.decision").len(), 1);
}

#[test]
fn methods_types_paths_hosts_and_names_are_taken_exactly() {
    let site = site(OPEN);
    let runtime = Runtime::start(&site, "");
    // Methods, types, paths, hosts.
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let answer = runtime.request(method, "/v1/tool", "", b"");
        is(&answer, 405, "bad_request");
        assert!(answer.head.contains("allow: post"), "{}", answer.head);
    }
    let body = br#"{"kind":"tool.echo","params":{"message":"x"}}"#;
    for kind in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/jsonp\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
    ] {
        is(&runtime.request("POST", "/v1/tool", kind, body), 415, "bad_request");
    }
    assert_eq!(
        runtime.request("POST", "/v1/tool", "Content-Type: Application/JSON; charset=utf-8\r\n", body).code,
        200
    );
    for path in ["/v1/tool/", "/v1//tool", "/v2/tool", "/../v1/tool", "/v1/tool%2f", "/metrics/../v1/tool"] {
        assert_eq!(runtime.request("POST", path, "Content-Type: application/json\r\n", body).code, 404, "{path}");
    }
    let rebound = "POST /v1/tool HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    is(&runtime.raw(rebound.as_bytes()), 400, "bad_request");
    for junk in [&b"\0\0\0\0\r\n\r\n"[..], b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
        let code = runtime.raw(&[junk, b"\r\n\r\n"].concat()).code;
        assert!(matches!(code, 0 | 400), "{code}");
    }
    let huge = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(1 << 20));
    let code = runtime.raw(huge.as_bytes()).code;
    assert!(matches!(code, 0 | 400 | 431), "{code}");
    // Names that look like a tool's.
    for kind in [
        "TOOL.ECHO",
        "tool.echo ",
        "tool.echo\0",
        "tool.\u{435}cho",
        "tool/echo",
        "../tool.echo",
        "tool.echo;tool.shell",
        "mcp.tool.echo",
        "",
    ] {
        is(&runtime.call(kind, &json!({ "message": "x" })), 403, "unknown_tool");
    }
    // Nothing of all that is on record but what came to a decision.
    let decided = records(&site.world.path("node"), "tool.decision");
    let told: Vec<_> = decided.iter().filter_map(|record| record["body"]["decision"].as_str()).collect();
    assert_eq!(told.iter().filter(|told| **told == "allow").count(), 1);
    assert_eq!(told.len(), 10);
}

#[test]
fn more_calls_than_the_rate_wait() {
    let site = site(OPEN);
    let runtime = Runtime::start(&site, "--rate 3");
    let codes: Vec<u16> = (0..12).map(|_| runtime.call("tool.echo", &json!({ "message": "x" })).code).collect();
    let served = codes.iter().filter(|code| **code == 200).count();
    let waits = codes.iter().filter(|code| **code == 429).count();
    assert!(served >= 3 && waits >= 1 && served + waits == 12, "{codes:?}");
    let answer =
        (0..20).map(|_| runtime.call("tool.echo", &json!({ "message": "x" }))).find(|answer| answer.code == 429);
    let answer = answer.expect("one is over the rate");
    assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
    assert_eq!(answer.codes(), ["quota_exceeded"]);
    assert_eq!(runtime.get("/healthz").code, 200, "the rate is that of calls");
}

#[test]
fn paths_do_not_leave_the_folder() {
    let site = site(OPEN);
    std::fs::create_dir_all(site.world.path("files/below")).expect("folder");
    site.world.write("secret", "s3cret");
    site.world.write("files/hello", "ahoy");
    let link = |to: &str, at: &str| std::os::unix::fs::symlink(to, site.world.path(at)).expect("link");
    link("../secret", "files/link");
    link("..", "files/up");
    link("/etc", "files/etc");
    link("below", "files/inside");
    assert!(Command::new("mkfifo").arg(site.world.path("files/pipe")).status().expect("mkfifo").success());
    let runtime = Runtime::start(&site, "--files files");
    let read = |path: &str| runtime.call("tool.file_read", &json!({ "path": path }));
    let write = |path: &str| runtime.call("tool.file_write", &json!({ "path": path, "content": "x" }));
    assert_eq!(read("hello").body["result"], json!({ "path": "hello", "size": 4, "content": "ahoy" }));
    let began = Instant::now();
    for path in [
        "../secret",
        "/etc/passwd",
        "below/../../secret",
        "..",
        ".",
        "",
        "a\0b",
        "below//x",
        "\u{202e}x",
        "./hello",
        "a\\..\\b",
    ] {
        for answer in [read(path), write(path)] {
            assert_eq!((answer.code, answer.body["decision"].as_str()), (400, Some("allow")), "{path:?}");
            assert_eq!(answer.codes(), ["unsafe_path"], "{path:?}: {}", answer.body);
        }
    }
    for path in ["link", "up/secret", "etc/passwd", "inside/x", "pipe", "below"] {
        for answer in [read(path), write(path)] {
            assert_eq!(answer.code, 400, "{path}: {}", answer.body);
            assert!(matches!(answer.codes()[..], ["symlink_refused" | "tool_failed"]), "{path}: {}", answer.body);
            assert!(!answer.body.to_string().contains("s3cret"));
        }
    }
    assert!(began.elapsed() < Duration::from_secs(20), "a pipe is not waited for");
    assert_eq!(site.world.read("secret"), b"s3cret");
    assert!(!site.world.has("files/below/x"));
    // What is written is whole, private, and replaces regular files alone.
    let written = runtime.call("tool.file_write", &json!({ "path": "below/note", "content_base64": "AP8=" }));
    assert_eq!(written.body["result"], json!({ "path": "below/note", "size": 2 }), "{}", written.body);
    assert_eq!(site.world.read("files/below/note"), [0, 0xff]);
    let mode = std::fs::metadata(site.world.path("files/below/note")).expect("there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(read("below/note").body["result"]["content_base64"], "AP8=");
    // Caps, both ways.
    std::fs::write(site.world.path("files/large"), vec![b'x'; (1 << 20) + 1]).expect("writes");
    is(&read("large"), 400, "tool_failed");
    std::fs::File::create(site.world.path("files/endless")).expect("file").set_len(1 << 40).expect("sparse");
    is(&read("endless"), 400, "tool_failed");
    is(&runtime.call("tool.file_write", &json!({ "path": "x" })), 400, "tool_failed");
    is(
        &runtime.call("tool.file_write", &json!({ "path": "x", "content": "a", "content_base64": "" })),
        400,
        "tool_failed",
    );
    is(&runtime.call("tool.file_write", &json!({ "path": "x", "content": "a", "mode": "0777" })), 400, "bad_request");
    // The state root is no folder for tools.
    for folder in ["node", "node/objects", "."] {
        site.world.run(&format!("runtime start --state-root node --files {folder}")).exits(64).warns("state root");
    }
}

/// A server of pages that answers each path as it is told, on this address.
fn pages(at: &str, answer: impl Fn(&str) -> String + Send + 'static) -> (String, TcpListener) {
    let listener = TcpListener::bind(at).expect("binds");
    let address = listener.local_addr().expect("address").to_string();
    let own = listener.try_clone().expect("clone");
    std::thread::spawn(move || {
        for stream in own.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = [0; 4096];
            let read = stream.read(&mut head).unwrap_or(0);
            let text = String::from_utf8_lossy(&head[..read]).into_owned();
            let path = text.split(' ').nth(1).unwrap_or_default();
            stream.write_all(answer(path).as_bytes()).ok();
        }
    });
    (address, listener)
}

fn page(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

#[test]
fn a_page_comes_from_allowed_hosts_and_judged_addresses_alone() {
    let site = site(OPEN);
    let (elsewhere, _listener) = pages("127.0.0.1:0", |_| page("internal"));
    let beyond = elsewhere.clone();
    let (at, _listener) = pages("127.0.0.1:0", move |path| match path {
        "/" => page("ahoy"),
        "/large" => page(&"x".repeat((1 << 20) + 1)),
        "/endless" => format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "x".repeat(3 << 20)),
        "/off" => redirect(&format!("http://{beyond}/")),
        "/file" => redirect("file:///etc/passwd"),
        "/metadata" => redirect("http://169.254.169.254/latest/meta-data/"),
        "/loop" => redirect("/loop"),
        "/once" => redirect("/"),
        "/gone" => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
        "/gzip" => "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\nConnection: close\r\n\r\n\u{1f}x"
            .to_owned(),
        _ => String::new(),
    });
    let port = at.rsplit_once(':').expect("port").1;
    let other = elsewhere.rsplit_once(':').expect("port").1;
    let hosts = [format!("localhost:{port}"), at.clone(), "169.254.169.254".to_owned(), format!("[::1]:{port}")];
    let allowed = hosts.map(|host| format!("--allow-domain {host}")).join(" ");
    let get = |runtime: &Runtime, url: &str| runtime.call("tool.http_get", &json!({ "url": url }));
    // Loopback is nobody's page: neither by name nor written out, however it is spelled.
    {
        let runtime = Runtime::start(&site, &allowed);
        for url in [
            format!("http://localhost:{port}/"),
            format!("http://{at}/"),
            format!("http://127.1:{port}/"),
            format!("http://0x7f000001:{port}/"),
            format!("http://2130706433:{port}/"),
            format!("http://0177.0.0.1:{port}/"),
            format!("http://[::1]:{port}/"),
            format!("http://[::ffff:127.0.0.1]:{port}/"),
            format!("http://LOCALHOST:{port}/"),
            "http://169.254.169.254/".to_owned(),
            "http://[fd00:ec2::254]/".to_owned(),
            "http://[64:ff9b::7f00:1]/".to_owned(),
            "http://[2002:7f00:1::]/".to_owned(),
            "http://0/".to_owned(),
            "file:///etc/passwd".to_owned(),
            "gopher://localhost/".to_owned(),
            format!("http://user:pass@localhost:{port}/"),
            format!("http://localhost:{port}@169.254.169.254/"),
        ] {
            is(&get(&runtime, &url), 400, "address_refused");
        }
        is(&get(&runtime, "not an address"), 400, "tool_failed");
        is(&runtime.call("tool.http_get", &json!({ "url": "http://x/", "method": "POST" })), 400, "bad_request");
    }
    // What the operator opens is open, and no more than that.
    let runtime =
        Runtime::start(&site, &format!("{allowed} --allow-address 127.0.0.0/8 --allow-address 169.254.0.0/16"));
    let url = |path: &str| format!("http://{at}{path}");
    let answer = get(&runtime, &url("/"));
    assert_eq!((answer.code, answer.body["result"]["body"].as_str()), (200, Some("ahoy")), "{}", answer.body);
    assert_eq!(get(&runtime, &format!("http://127.1:{port}/")).code, 200, "the same address in another spelling");
    assert_eq!(get(&runtime, &url("/once")).body["result"]["body"], "ahoy");
    assert_eq!(get(&runtime, &url("/gone")).body["result"]["status"], 404);
    assert_eq!(get(&runtime, &url("/gzip")).body["result"]["body"], "\u{1f}x", "nothing is unpacked");
    for path in ["/off", "/file", "/metadata"] {
        is(&get(&runtime, &url(path)), 400, "address_refused");
    }
    for path in ["/loop", "/large", "/endless", "/nothing"] {
        is(&get(&runtime, &url(path)), 400, "tool_failed");
    }
    is(&get(&runtime, &format!("http://127.0.0.1:{other}/")), 400, "address_refused");
    is(&get(&runtime, &format!("http://[::1]:{port}/")), 400, "address_refused");
    // A proxy of the environment would be asked instead of the address that was judged.
    let mut command = site.world.command("runtime start --state-root node --listen 127.0.0.1:0 --output json");
    command.args(format!("{allowed} --allow-address 127.0.0.0/8").split(' '));
    let proxied = Runtime::spawn(&site, command.env("http_proxy", format!("http://{elsewhere}")));
    assert_eq!(get(&proxied, &url("/")).body["result"]["body"], "ahoy");
}

#[test]
fn a_page_that_does_not_end_is_given_up() {
    let site = site(OPEN);
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let at = listener.local_addr().expect("address");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accepts");
        assert!(stream.read(&mut [0; 4096]).expect("reads") > 0, "a request comes first");
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok();
        // A byte now and then is no end.
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    let runtime = Runtime::start(&site, &format!("--allow-domain {at} --allow-address 127.0.0.0/8"));
    let began = Instant::now();
    let answer = runtime.call("tool.http_get", &json!({ "url": format!("http://{at}/") }));
    is(&answer, 400, "tool_failed");
    let took = began.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(14)).contains(&took), "{took:?}");
}

/// A folder for commands, of a user that is not root.
fn jail(site: &Site) {
    std::fs::create_dir(site.world.path("jail")).expect("folder");
    if is_root() {
        assert!(
            Command::new("chown").args(["65534:65534"]).arg(site.world.path("jail")).status().expect("chown").success()
        );
    }
}

fn is_root() -> bool {
    let ran = Command::new("id").arg("-u").output().expect("id");
    String::from_utf8_lossy(&ran.stdout).trim() == "0"
}

fn shell(runtime: &Runtime, argv: &[&str]) -> Answer {
    runtime.call("tool.shell", &json!({ "argv": argv }))
}

#[test]
fn a_command_is_a_list_of_arguments_in_a_folder_of_its_own() {
    let site = site(OPEN);
    jail(&site);
    site.world.write("outside", "s3cret");
    let runtime = Runtime::start(&site, "--shell jail");
    let said = |argv: &[&str]| {
        let answer = shell(&runtime, argv);
        assert_eq!(answer.code, 200, "{argv:?}: {}", answer.body);
        answer.body["result"].clone()
    };
    let text = |value: &Value| value["stdout"].as_str().expect("stdout").to_owned();
    // No shell reads it.
    assert_eq!(text(&said(&["echo", "$(id)", "; rm -rf /", "`x`", "*"])), "$(id) ; rm -rf / `x` *\n");
    assert_eq!(
        said(&["/bin/sh", "-c", "echo out; echo err >&2; exit 3"]),
        json!({ "exit_code": 3, "stdout": "out\n", "stderr": "err\n", "truncated": false })
    );
    // An empty environment, no input, its own folder and nothing outside.
    let env = text(&said(&["/usr/bin/env"]));
    assert!(!env.contains("COSIGN_PASSWORD") && env.contains("PATH=/usr/local/bin:/usr/bin:/bin"), "{env}");
    assert_eq!(text(&said(&["cat"])), "");
    assert_eq!(
        text(&said(&["/bin/sh", "-c", "pwd; echo x > note; cat note"])),
        format!("{}\nx\n", site.world.path("jail").canonicalize().expect("path").display())
    );
    if is_root() {
        assert_eq!(text(&said(&["id", "-u"])), "65534\n", "never as root");
    }
    for argv in [
        vec!["cat", "../outside"],
        vec!["cat", "../node/trust/root.json"],
        vec!["cat", "../node/identity/attest.key"],
        vec!["ls", ".."],
        vec!["/bin/sh", "-c", "echo x > ../escaped"],
        vec!["/bin/sh", "-c", "echo x > /tmp/escaped"],
        vec!["cat", "/proc/1/environ"],
        vec!["/bin/sh", "-c", "ls /proc/[0-9]*"],
    ] {
        let result = said(&argv);
        assert_ne!(result["exit_code"], 0, "{argv:?}: {result}");
        assert!(!result.to_string().contains("s3cret"));
    }
    assert!(!site.world.has("escaped") && !std::path::Path::new("/tmp/escaped").exists());
    // No network.
    let probe = format!("exec 3<>/dev/tcp/127.0.0.1/{}", runtime.at.rsplit_once(':').expect("port").1);
    assert_ne!(said(&["/bin/bash", "-c", &probe])["exit_code"], 0);
    // What is no command.
    for argv in [vec![], vec![""], vec!["a\0b"], vec!["/nowhere/at/all"]] {
        is(&shell(&runtime, &argv), 400, "tool_failed");
    }
    is(&runtime.call("tool.shell", &json!({ "argv": "id; id" })), 400, "bad_request");
    is(&runtime.call("tool.shell", &json!({ "command": "id" })), 400, "bad_request");
    is(&shell(&runtime, &vec!["x"; 300]), 400, "tool_failed");
}

/// Processes whose command line has this word.
fn running(word: &str) -> usize {
    let ran = Command::new("pgrep").args(["-f", "-c", word]).output().expect("pgrep");
    String::from_utf8_lossy(&ran.stdout).trim().parse().unwrap_or(0)
}

#[test]
fn a_command_that_takes_too_much_is_ended_with_everything_that_it_started() {
    let site = site(OPEN);
    jail(&site);
    let runtime = Runtime::start(&site, "--shell jail");
    // A fork bomb.
    let began = Instant::now();
    let bomb = shell(&runtime, &["/bin/bash", "-c", "bomb() { bomb | bomb & }; bomb; sleep 71.3; sleep 71.3"]);
    assert!(bomb.code == 400 || bomb.body["result"]["exit_code"] != 0, "{}", bomb.body);
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    // What forks away is found, in whatever session.
    let away = shell(&runtime, &["/bin/bash", "-c", "setsid nohup sleep 72.4 >/dev/null 2>&1 & disown; echo gone"]);
    assert_eq!(away.body["result"]["stdout"], "gone\n", "{}", away.body);
    // Time.
    let began = Instant::now();
    let slow = shell(&runtime, &["/bin/sh", "-c", "sleep 73.5 & sleep 73.5"]);
    is(&slow, 400, "tool_failed");
    assert!(slow.body.to_string().contains("longer than 10 s"), "{}", slow.body);
    assert!(began.elapsed() < Duration::from_secs(20));
    for word in ["sleep 71.3", "sleep 72.4", "sleep 73.5"] {
        assert_eq!(running(word), 0, "{word} is left");
    }
    // Output: what is too much is cut, and the command still ends.
    let loud = shell(&runtime, &["/bin/sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo >&2 end"]);
    let result = &loud.body["result"];
    assert_eq!((result["stdout"].as_str().map(str::len), result["truncated"].as_bool()), (Some(256 << 10), Some(true)));
    // Memory of one process, and files.
    let hungry = shell(&runtime, &["/bin/bash", "-c", "x=$(head -c 900000000 /dev/zero | tr '\\0' x); echo ${#x}"]);
    assert!(hungry.code == 400 || hungry.body["result"]["exit_code"] != 0, "{}", hungry.body);
    let full = shell(&runtime, &["/bin/sh", "-c", "head -c 100000000 /dev/zero > large; wc -c < large"]);
    let written = std::fs::metadata(site.world.path("jail/large")).expect("file").len();
    assert!(written <= 16 << 20, "{written}: {}", full.body);
    assert_eq!(runtime.call("tool.echo", &json!({ "message": "still here" })).code, 200);
}

#[test]
fn what_is_not_configured_says_how_it_is() {
    let site = site(OPEN);
    let runtime = Runtime::start(&site, "");
    for (kind, params, flag) in [
        ("tool.http_get", json!({ "url": "http://example.org/" }), "--allow-domain"),
        ("tool.shell", json!({ "argv": ["id"] }), "--shell"),
        ("tool.file_read", json!({ "path": "x" }), "--files"),
        ("tool.file_write", json!({ "path": "x", "content": "" }), "--files"),
    ] {
        let answer = runtime.call(kind, &params);
        is(&answer, 400, "tool_unconfigured");
        assert_eq!(answer.body["decision"], "allow");
        assert!(answer.body["reasons"][0]["message"].as_str().expect("message").contains(flag));
    }
}
