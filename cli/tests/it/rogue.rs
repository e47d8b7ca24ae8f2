//! A server before a real registry that passes most requests on and spoils some, as no real one can be made to; and the
//! same as a proxy.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What is done with a request.
pub(crate) enum Act {
    /// It is passed on, and so is the answer.
    Pass,
    /// This is the answer, byte for byte.
    Answer(String),
    /// The answer of the registry ends after so many bytes of its body.
    Cut(usize),
    /// This is the answer, a few bytes a second.
    Trickle(String),
    /// The connection is closed.
    Close,
}

/// The server. Its threads end with the test.
pub(crate) struct Rogue {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Rogue {
    /// Starts one before the server on `to`; `act` is told the head of each request.
    pub(crate) fn start(to: u16, act: impl Fn(&str) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let port = listener.local_addr().expect("address").port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (act, log) = (Arc::new(act), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (act, log) = (Arc::clone(&act), Arc::clone(&log));
                std::thread::spawn(move || serve(&stream, to, &*act, &log).ok());
            }
        });
        Self { port, asked }
    }

    /// `oci://127.0.0.1:PORT/fleet/harbor`, to which a tag or a digest is added.
    pub(crate) fn repository(&self) -> String {
        format!("oci://127.0.0.1:{}/fleet/harbor", self.port)
    }

    /// The heads of all requests so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("locks").clone()
    }
}

/// An answer with a body.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Act {
    Act::Answer(text(status, headers, body))
}

/// Its bytes.
pub(crate) fn text(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n{body}")
}

fn serve(
    stream: &TcpStream,
    to: u16,
    act: &(dyn Fn(&str) -> Act + Send + Sync),
    log: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    log.lock().expect("locks").push(head.clone());
    if head.starts_with("CONNECT ") {
        return tunnel(stream, to);
    }
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let mut back = stream.try_clone()?;
    match act(&head) {
        Act::Pass => pass(&head, &body, to)?.read_to_end_into(&mut back, usize::MAX)?,
        Act::Cut(bytes) => pass(&head, &body, to)?.read_to_end_into(&mut back, bytes)?,
        Act::Answer(answer) => back.write_all(answer.as_bytes())?,
        Act::Trickle(answer) => {
            for piece in answer.as_bytes().chunks(40) {
                back.write_all(piece)?;
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        Act::Close => {}
    }
    back.shutdown(Shutdown::Both)
}

struct Passed(BufReader<TcpStream>);

/// Passes a request on; its `Host` stays, so that the registry's answers lead back here.
fn pass(head: &str, body: &[u8], to: u16) -> io::Result<Passed> {
    let mut registry = TcpStream::connect(("127.0.0.1", to))?;
    let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    registry.write_all(head.as_bytes())?;
    registry.write_all(body)?;
    Ok(Passed(BufReader::new(registry)))
}

impl Passed {
    fn read_to_end_into(&mut self, back: &mut TcpStream, most: usize) -> io::Result<()> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && self.0.read_line(&mut head)? > 0 {}
        back.write_all(head.as_bytes())?;
        io::copy(&mut self.0.by_ref().take(most as u64), back)?;
        back.flush()
    }
}

/// What a proxy does with `CONNECT`: bytes both ways.
fn tunnel(stream: &TcpStream, to: u16) -> io::Result<()> {
    let registry = TcpStream::connect(("127.0.0.1", to))?;
    stream.try_clone()?.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (mut up, mut there) = (stream.try_clone()?, registry.try_clone()?);
    std::thread::spawn(move || {
        io::copy(&mut up, &mut there).ok();
        there.shutdown(Shutdown::Write).ok();
    });
    io::copy(&mut &registry, &mut &*stream)?;
    stream.shutdown(Shutdown::Both)
}
