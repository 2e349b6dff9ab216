//! An object store that fails: a proxy in front of a real one that understands HTTP, counts the
//! requests, and answers chosen ones wrongly.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// The longest message that is passed on; a pack has 16 MiB.
const LONGEST: u64 = 64 << 20;
/// Looks at whether the proxy is over come this often while it hangs.
const TICK: Duration = Duration::from_millis(20);

/// How the store answers wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFault {
    /// `503 Slow Down`.
    Unavailable,
    /// `500 Internal Error` after the request has been carried out.
    ErrorAfterwards,
    /// The connection stays open and nothing comes.
    Hang,
    /// The connection ends in the middle of the body.
    Cut,
    /// Half of the body, as if that were all.
    Short,
    /// One bit of the body is another.
    Flipped,
    /// What the same request was answered when [`StoreProxy::remember`] was on; what was not there
    /// then is not there.
    Old,
    /// The body of another object.
    Exchanged,
}

/// Every fault there is.
pub const STORE_FAULTS: [StoreFault; 8] = [
    StoreFault::Unavailable,
    StoreFault::ErrorAfterwards,
    StoreFault::Hang,
    StoreFault::Cut,
    StoreFault::Short,
    StoreFault::Flipped,
    StoreFault::Old,
    StoreFault::Exchanged,
];

/// Which requests are answered wrongly: `count` of them from number `from` on.
#[derive(Clone, Copy, Debug)]
pub struct Injection {
    /// The first, counted from 0 since [`StoreProxy::arm`].
    pub from: usize,
    /// How many; `usize::MAX` for all that follow.
    pub count: usize,
    /// How.
    pub fault: StoreFault,
}

/// A proxy in front of one store. Ends with its connections on drop.
#[derive(Debug)]
pub struct StoreProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    state: Mutex<State>,
    over: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    requests: Vec<String>,
    injection: Option<Injection>,
    remembering: bool,
    /// Answers by request line and range.
    remembered: BTreeMap<String, Answer>,
    /// Bodies of objects that were read, by request.
    bodies: BTreeMap<String, Vec<u8>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StoreProxy {
    /// A proxy on a free loopback port that passes everything on.
    pub fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared =
            Arc::new(Shared { upstream, state: Mutex::default(), over: AtomicBool::new(false) });
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                if served.over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(client) = client else { continue };
                let served = Arc::clone(&served);
                thread::spawn(move || served.serve(client));
            }
        });
        Ok(Self { address, shared })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Counts from 0 again, and answers as told.
    pub fn arm(&self, injection: Option<Injection>) {
        let mut state = lock(&self.shared.state);
        state.requests.clear();
        state.injection = injection;
    }

    /// From now on answers are kept for [`StoreFault::Old`], or no longer.
    pub fn remember(&self, on: bool) {
        lock(&self.shared.state).remembering = on;
    }

    /// The requests since [`Self::arm`]: method and path with query.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared.state).requests.clone()
    }
}

impl Drop for StoreProxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

/// A message: its first lines and its whole body.
#[derive(Clone, Debug)]
struct Answer {
    head: Vec<String>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn status(&self) -> &str {
        self.head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default()
    }

    fn error(status: &str, code: &str) -> Self {
        let body = format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>injected</Message></Error>"
        );
        Self {
            head: vec![format!("HTTP/1.1 {status}"), "Content-Type: application/xml".to_owned()],
            body: body.into_bytes(),
        }
    }

    /// Writes it with the length that `declared` gives its body, and ends the connection.
    fn write(&self, to: &mut TcpStream, declared: usize) -> io::Result<()> {
        let mut text = String::new();
        for line in self.head.iter().filter(|line| !framing(line)) {
            text.push_str(line);
            text.push_str("\r\n");
        }
        text.push_str(&format!("Content-Length: {declared}\r\nConnection: close\r\n\r\n"));
        to.write_all(text.as_bytes())?;
        to.write_all(&self.body)?;
        to.flush()
    }
}

/// Headers that say how the message travels: they are written anew.
fn framing(line: &str) -> bool {
    let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
    ["content-length", "transfer-encoding", "connection", "keep-alive"].contains(&name.as_str())
}

/// Reads a message; none at the end of the connection.
fn read(from: &mut impl BufRead, bodiless: bool) -> io::Result<Option<Answer>> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        head.push(line);
    }
    let mut message = Answer { head, body: Vec::new() };
    let chunked =
        message.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
    let length = message.header("content-length").and_then(|v| v.parse::<u64>().ok());
    if bodiless {
        return Ok(Some(message));
    }
    if chunked {
        loop {
            let mut line = String::new();
            from.read_line(&mut line)?;
            let size = line.trim().split(';').next().unwrap_or_default();
            let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
            from.by_ref().take(size.min(LONGEST)).read_to_end(&mut message.body)?;
            line.clear();
            from.read_line(&mut line)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = length {
        from.by_ref().take(length.min(LONGEST)).read_to_end(&mut message.body)?;
    }
    Ok(Some(message))
}

impl Shared {
    /// One request of one connection; the answer ends the connection.
    fn serve(&self, client: TcpStream) {
        let _ = self.exchange(client);
    }

    fn exchange(&self, mut client: TcpStream) -> io::Result<()> {
        let Some(request) = read(&mut BufReader::new(client.try_clone()?), false)? else {
            return Ok(());
        };
        let line = request.head.first().cloned().unwrap_or_default();
        let line = line.trim_end_matches(" HTTP/1.1").to_owned();
        let key = format!("{line} {}", request.header("range").unwrap_or_default());
        let (fault, remembering) = {
            let mut state = lock(&self.state);
            let number = state.requests.len();
            state.requests.push(line.clone());
            let fault = state
                .injection
                .and_then(|i| (number >= i.from && number - i.from < i.count).then_some(i.fault));
            (fault, state.remembering)
        };
        match fault {
            Some(StoreFault::Unavailable) => {
                let answer = Answer::error("503 Service Unavailable", "SlowDown");
                return answer.write(&mut client, answer.body.len());
            }
            Some(StoreFault::Hang) => {
                // Until the client lets go.
                client.set_read_timeout(Some(TICK))?;
                while !self.over.load(Ordering::SeqCst) {
                    match client.read(&mut [0; 64]) {
                        Ok(0) => break,
                        Err(e)
                            if !matches!(
                                e.kind(),
                                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                            ) =>
                        {
                            break;
                        }
                        _ => {}
                    }
                }
                return Ok(());
            }
            Some(StoreFault::Old) => {
                let old = lock(&self.state).remembered.get(&key).cloned();
                let answer = old.unwrap_or_else(|| Answer::error("404 Not Found", "NoSuchKey"));
                let head = line.starts_with("HEAD ");
                let declared = answer.header("content-length").and_then(|l| l.parse().ok());
                let length = declared.filter(|_| head).unwrap_or(answer.body.len());
                let body = if head { Vec::new() } else { answer.body.clone() };
                return Answer { body, ..answer }.write(&mut client, length);
            }
            _ => {}
        }
        let head = line.starts_with("HEAD ");
        let mut upstream = TcpStream::connect(self.upstream)?;
        let mut text = request.head.join("\r\n");
        text.push_str("\r\n\r\n");
        upstream.write_all(text.as_bytes())?;
        upstream.write_all(&request.body)?;
        let Some(mut answer) = read(&mut BufReader::new(upstream.try_clone()?), head)? else {
            return Ok(());
        };
        let _ = upstream.shutdown(Shutdown::Both);
        if remembering {
            lock(&self.state).remembered.insert(key.clone(), answer.clone());
        }
        let object = line.starts_with("GET ")
            && answer.status().starts_with('2')
            && !line.contains("list-type");
        let declared = answer.header("content-length").and_then(|l| l.parse().ok());
        let mut length = declared.filter(|_| head).unwrap_or(answer.body.len());
        match fault {
            Some(StoreFault::ErrorAfterwards) => {
                answer = Answer::error("500 Internal Server Error", "InternalError");
                length = answer.body.len();
            }
            Some(StoreFault::Cut) => answer.body.truncate(answer.body.len() / 2),
            Some(StoreFault::Short) => {
                answer.body.truncate(answer.body.len() / 2);
                length = answer.body.len();
            }
            Some(StoreFault::Flipped) => {
                let middle = answer.body.len() / 2;
                if let Some(byte) = answer.body.get_mut(middle) {
                    *byte ^= 0x10;
                }
            }
            Some(StoreFault::Exchanged) if object => {
                let state = lock(&self.state);
                let other =
                    state.bodies.iter().find(|(of, body)| **of != key && **body != answer.body);
                if let Some((_, body)) = other {
                    answer.body.clone_from(body);
                    length = answer.body.len();
                }
            }
            None if object => {
                lock(&self.state).bodies.insert(key, answer.body.clone());
            }
            _ => {}
        }
        answer.write(&mut client, length)
    }
}
