//! A server below the level of any HTTP library, so that it can misbehave at every byte and counts what really arrived.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// Path and query, not decoded.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Requests that came before it on the same connection.
    pub earlier_on_connection: usize,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

type Write1 = Box<dyn FnOnce(&mut TcpStream) -> std::io::Result<()> + Send>;

/// What the server does once a request has arrived.
pub enum Reply {
    /// Writes these bytes and waits for the next request.
    Bytes(Vec<u8>),
    /// Writes these bytes and closes the connection.
    Last(Vec<u8>),
    /// Writes what this writes and closes the connection.
    Write(Write1),
}

impl Reply {
    pub fn new(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        Self::Bytes(response(status, headers, body))
    }

    pub fn json(status: u16, body: &str) -> Self {
        let headers = [("Content-Type", "application/json"), ("X-Request-Id", "request-1")];
        Self::new(status, &headers, body.as_bytes())
    }

    pub fn error(status: u16, code: &str, message: &str) -> Self {
        Self::json(
            status,
            &serde_json::json!({"error_code": code, "error_msg": message}).to_string(),
        )
    }

    pub fn close() -> Self {
        Self::Last(Vec::new())
    }
}

pub fn response(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let start = format!("HTTP/1.1 {status} Some\r\nContent-Length: {}\r\n", body.len());
    let lines: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    [start.as_bytes(), lines.concat().as_bytes(), b"\r\n", body].concat()
}

/// Listens on loopback until the test process ends.
pub struct Server {
    pub origin: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Every request gets the reply that `reply` makes for it.
    pub fn start(reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        let reply = Arc::new(reply);
        Self::listen(seen, move |stream| {
            let (record, reply) = (Arc::clone(&record), Arc::clone(&reply));
            // A connection that the client cut is the client's business.
            let _ = serve(stream, &record, &*reply);
        })
    }

    /// Every connection is closed as soon as it is there.
    pub fn closing_at_once() -> Self {
        Self::listen(Arc::default(), drop)
    }

    /// Every connection is held open and gets nothing but `bytes`.
    pub fn saying(bytes: &'static [u8]) -> Self {
        Self::listen(Arc::default(), move |mut stream| {
            let _ = stream.write_all(bytes);
            let _ = stream.read_to_end(&mut Vec::new());
        })
    }

    /// Every connection is given to `serve`, which may add to `seen`.
    pub fn listen(seen: Arc<Mutex<Vec<Seen>>>, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(stream));
            }
        });
        Self {
            origin,
            seen,
            connections,
        }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The only request that arrived.
    pub fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }

    pub fn count(&self, method: &str) -> usize {
        self.seen().iter().filter(|seen| seen.method == method).count()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// An origin where nobody listens.
    pub fn nowhere() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    }
}

fn serve(stream: TcpStream, record: &Mutex<Vec<Seen>>, reply: &dyn Fn(&Seen) -> Reply) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    for earlier in 0.. {
        let Some(seen) = read_request(&mut reader, earlier)? else {
            return Ok(());
        };
        record.lock().unwrap().push(seen.clone());
        match reply(&seen) {
            Reply::Bytes(bytes) => writer.write_all(&bytes)?,
            Reply::Last(bytes) => {
                writer.write_all(&bytes)?;
                return Ok(());
            }
            Reply::Write(write) => return write(&mut writer),
        }
    }
    Ok(())
}

pub fn read_request(reader: &mut impl BufRead, earlier: usize) -> std::io::Result<Option<Seen>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut seen = Seen {
        method,
        target,
        headers,
        body: Vec::new(),
        earlier_on_connection: earlier,
    };
    let length = seen
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    seen.body = vec![0; length];
    reader.read_exact(&mut seen.body)?;
    Ok(Some(seen))
}
