//! A network that fails: a TCP proxy on loopback with faults at exact bytes.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

/// Bytes moved at once.
const CHUNK: usize = 16 * 1024;
/// Chunks on their way in one direction; bounds memory, and the bandwidth under latency.
const IN_FLIGHT: usize = 256;

/// Which way bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the server to the client: what is downloaded.
    ToClient,
    /// From the client to the server: what is uploaded.
    ToServer,
}

/// What happens to a connection at its appointed byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Both sides see an orderly end (FIN).
    Cut,
    /// Both sides see a reset (RST).
    Reset,
    /// Only this direction ends; the other one goes on.
    HalfClose,
    /// The connection stays open and nothing passes in this direction any more.
    Stall,
    /// The next byte arrives with all its bits turned over; then everything goes on.
    Corrupt,
}

/// A fault with its place.
#[derive(Clone, Copy, Debug)]
pub struct Trigger {
    /// The direction whose bytes are counted.
    pub direction: Direction,
    /// So many bytes of each connection pass unharmed in that direction.
    pub after: u64,
    /// What happens then.
    pub fault: Fault,
    /// How many connections it still happens to; `u32::MAX` for all.
    pub times: u32,
}

/// A proxy in front of one server. Ends with all its connections on drop.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    behaviour: Mutex<Behaviour>,
    connections: Mutex<Vec<TcpStream>>,
    accepted: AtomicUsize,
    to_client: AtomicU64,
    to_server: AtomicU64,
    over: AtomicBool,
}

#[derive(Clone, Debug, Default)]
struct Behaviour {
    latency: Duration,
    bytes_per_second: Option<u64>,
    refuse: bool,
    stalled: bool,
    triggers: Vec<Trigger>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FaultProxy {
    /// A proxy on a free loopback port that passes everything on.
    pub fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream,
            behaviour: Mutex::default(),
            connections: Mutex::default(),
            accepted: AtomicUsize::new(0),
            to_client: AtomicU64::new(0),
            to_server: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let served = Arc::clone(&shared);
        thread::spawn(move || serve(&listener, &served));
        Ok(Self { address, shared })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port of [`Self::address`].
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Delays every byte by this much in each direction, from the next chunk on.
    pub fn set_latency(&self, latency: Duration) {
        lock(&self.shared.behaviour).latency = latency;
    }

    /// Limits each direction of each connection; `None` lifts the limit.
    pub fn set_bandwidth(&self, bytes_per_second: Option<u64>) {
        lock(&self.shared.behaviour).bytes_per_second = bytes_per_second;
    }

    /// Adds a fault; it applies to connections that have not passed its byte yet.
    pub fn add(&self, trigger: Trigger) {
        lock(&self.shared.behaviour).triggers.push(trigger);
    }

    /// The next connection that passes `after` bytes in this direction has the fault; the ones
    /// after it have not.
    pub fn once(&self, direction: Direction, after: u64, fault: Fault) {
        self.add(Trigger { direction, after, fault, times: 1 });
    }

    /// Black hole: open connections stay open and silent, and so do new ones, until set back.
    pub fn set_stalled(&self, stalled: bool) {
        lock(&self.shared.behaviour).stalled = stalled;
    }

    /// New connections are reset at once, until set back.
    pub fn set_refusing(&self, refuse: bool) {
        lock(&self.shared.behaviour).refuse = refuse;
    }

    /// Resets every open connection now.
    pub fn reset_all(&self) {
        for stream in lock(&self.shared.connections).drain(..) {
            reset(&stream);
        }
    }

    /// Forgets all faults, delays and limits; connections already harmed stay so.
    pub fn heal(&self) {
        *lock(&self.shared.behaviour) = Behaviour::default();
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Bytes passed on so far in one direction, over all connections.
    pub fn passed(&self, direction: Direction) -> u64 {
        self.shared.counter(direction).load(Ordering::SeqCst)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        for stream in lock(&self.shared.connections).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes the accepting thread, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn counter(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::ToClient => &self.to_client,
            Direction::ToServer => &self.to_server,
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// The nearest fault for a connection that has passed `passed` bytes.
    fn next_trigger(&self, direction: Direction, passed: u64) -> Option<Trigger> {
        lock(&self.behaviour)
            .triggers
            .iter()
            .filter(|trigger| trigger.direction == direction && trigger.times > 0)
            .filter(|trigger| trigger.after >= passed)
            .min_by_key(|trigger| trigger.after)
            .copied()
    }

    /// Takes one use of a fault; false when another connection was first.
    fn take(&self, wanted: &Trigger) -> bool {
        let mut behaviour = lock(&self.behaviour);
        let found = behaviour.triggers.iter_mut().find(|trigger| {
            (trigger.direction, trigger.after, trigger.fault)
                == (wanted.direction, wanted.after, wanted.fault)
                && trigger.times > 0
        });
        let Some(trigger) = found else { return false };
        if trigger.times != u32::MAX {
            trigger.times -= 1;
        }
        true
    }
}

fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.is_over() {
            return;
        }
        let Ok(client) = client else { continue };
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        if lock(&shared.behaviour).refuse {
            reset(&client);
            continue;
        }
        match TcpStream::connect(shared.upstream) {
            Ok(server) => {
                let _ = connect(shared, client, server);
            }
            // The server does not listen: the client sees that as far as a proxy can show it.
            Err(_) => reset(&client),
        }
    }
}

fn connect(shared: &Arc<Shared>, client: TcpStream, server: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    lock(&shared.connections).extend([client.try_clone()?, server.try_clone()?]);
    for (direction, from, to) in [
        (Direction::ToServer, client.try_clone()?, server.try_clone()?),
        (Direction::ToClient, server, client),
    ] {
        let (sender, receiver) = sync_channel(IN_FLIGHT);
        let (incoming, reader_shared) = (from.try_clone()?, Arc::clone(shared));
        thread::spawn(move || read(incoming, &reader_shared, &sender));
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            let mut pipe = Pipe { shared, direction, from, to, passed: 0 };
            pipe.run(&receiver);
        });
    }
    Ok(())
}

/// Reads one side and stamps what it reads with the time it may arrive.
fn read(mut from: TcpStream, shared: &Shared, sender: &SyncSender<(Instant, Vec<u8>)>) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let due = Instant::now() + lock(&shared.behaviour).latency;
        let Some(bytes) = buffer.get(..count) else { return };
        if sender.send((due, bytes.to_vec())).is_err() {
            return;
        }
    }
}

/// What goes on with a direction after some bytes.
enum Next {
    Continue,
    End,
}

struct Pipe {
    shared: Arc<Shared>,
    direction: Direction,
    from: TcpStream,
    to: TcpStream,
    passed: u64,
}

impl Pipe {
    fn run(&mut self, receiver: &Receiver<(Instant, Vec<u8>)>) {
        for (due, bytes) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            match self.pass(bytes) {
                Ok(Next::Continue) => {}
                Ok(Next::End) => return,
                Err(_) => {
                    let _ = self.from.shutdown(Shutdown::Both);
                    return;
                }
            }
        }
        let _ = self.to.shutdown(Shutdown::Write);
    }

    fn pass(&mut self, mut bytes: Vec<u8>) -> io::Result<Next> {
        self.wait_while_stalled()?;
        let mut start = 0;
        while start < bytes.len() {
            let ahead = u64::try_from(bytes.len() - start).unwrap_or(u64::MAX);
            let trigger = self
                .shared
                .next_trigger(self.direction, self.passed)
                .filter(|trigger| trigger.after < self.passed + ahead);
            let Some(trigger) = trigger else {
                self.write(bytes.get(start..).unwrap_or_default())?;
                break;
            };
            let unharmed = usize::try_from(trigger.after - self.passed).unwrap_or(usize::MAX);
            self.write(bytes.get(start..start + unharmed).unwrap_or_default())?;
            start += unharmed;
            if !self.shared.take(&trigger) {
                continue;
            }
            match trigger.fault {
                Fault::Corrupt => {
                    if let Some(byte) = bytes.get_mut(start) {
                        *byte = !*byte;
                    }
                    self.write(bytes.get(start..=start).unwrap_or_default())?;
                    start += 1;
                }
                Fault::Cut => {
                    self.to.shutdown(Shutdown::Both)?;
                    self.from.shutdown(Shutdown::Both)?;
                    return Ok(Next::End);
                }
                Fault::Reset => {
                    reset(&self.to);
                    reset(&self.from);
                    return Ok(Next::End);
                }
                Fault::HalfClose => {
                    self.to.shutdown(Shutdown::Write)?;
                    return Ok(Next::End);
                }
                Fault::Stall => {
                    while !self.shared.is_over() {
                        thread::sleep(Duration::from_millis(20));
                    }
                    return Ok(Next::End);
                }
            }
        }
        Ok(Next::Continue)
    }

    fn wait_while_stalled(&self) -> io::Result<()> {
        while lock(&self.shared.behaviour).stalled {
            if self.shared.is_over() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.to.write_all(bytes)?;
        self.passed += count;
        self.shared.counter(self.direction).fetch_add(count, Ordering::SeqCst);
        let rate = lock(&self.shared.behaviour).bytes_per_second;
        if let Some(rate) = rate {
            let micros = count.saturating_mul(1_000_000) / rate.max(1);
            thread::sleep(Duration::from_micros(micros));
        }
        Ok(())
    }
}

/// Ends a connection with RST: lingering for no time throws away what is unsent. The socket is
/// shared with the reading thread, so it is disconnected rather than only closed.
fn reset(stream: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
    let _ = rustix::net::connect_unspec(stream);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A server that sends `payload` to everyone, then echoes.
    fn server(payload: Vec<u8>) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let payload = payload.clone();
                thread::spawn(move || {
                    stream.write_all(&payload)?;
                    let mut input = stream.try_clone()?;
                    io::copy(&mut input, &mut stream)
                });
            }
        });
        address
    }

    fn client(proxy: &FaultProxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn payload() -> Vec<u8> {
        (0..100_000_u32).map(|number| u8::try_from(number % 251).unwrap()).collect()
    }

    #[test]
    fn passes_everything_both_ways() {
        let proxy = FaultProxy::start(server(payload())).unwrap();
        let mut stream = client(&proxy);
        let mut got = vec![0; payload().len()];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(got, payload());
        stream.write_all(b"echo").unwrap();
        let mut echo = [0; 4];
        stream.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"echo");
        // What has passed is counted a moment after it was passed on.
        crate::wait_for("the count", Duration::from_secs(20), || {
            proxy.passed(Direction::ToServer) == 4
        });
        assert_eq!(proxy.accepted(), 1);
    }

    #[test]
    fn cuts_once_after_the_given_byte() {
        let proxy = FaultProxy::start(server(payload())).unwrap();
        proxy.once(Direction::ToClient, 12_345, Fault::Cut);
        let mut got = Vec::new();
        client(&proxy).read_to_end(&mut got).unwrap();
        assert_eq!(got, payload()[..12_345]);
        let mut whole = vec![0; payload().len()];
        client(&proxy).read_exact(&mut whole).unwrap();
        assert_eq!(whole, payload());
    }

    #[test]
    fn resets_are_resets() {
        let proxy = FaultProxy::start(server(payload())).unwrap();
        proxy.once(Direction::ToClient, 0, Fault::Reset);
        let error = client(&proxy).read(&mut [0; 10]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

        let mut stream = client(&proxy);
        let mut whole = vec![0; payload().len()];
        stream.read_exact(&mut whole).unwrap();
        proxy.reset_all();
        let error = stream.read(&mut [0; 10]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn turns_one_byte_over() {
        let proxy = FaultProxy::start(server(payload())).unwrap();
        proxy.once(Direction::ToClient, 50_000, Fault::Corrupt);
        let mut got = vec![0; payload().len()];
        client(&proxy).read_exact(&mut got).unwrap();
        let mut expected = payload();
        expected[50_000] = !expected[50_000];
        assert_eq!(got, expected);
    }

    #[test]
    fn stalls_without_closing() {
        let proxy = FaultProxy::start(server(payload())).unwrap();
        proxy.once(Direction::ToClient, 1_000, Fault::Stall);
        let mut stream = client(&proxy);
        let mut got = vec![0; 1_000];
        stream.read_exact(&mut got).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let error = stream.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn half_close_leaves_the_other_direction() {
        let proxy = FaultProxy::start(server(payload())).unwrap();
        proxy.once(Direction::ToClient, 10, Fault::HalfClose);
        let mut stream = client(&proxy);
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        assert_eq!(got.len(), 10);
        stream.write_all(b"still heard").unwrap();
        crate::wait_for("the bytes at the server", Duration::from_secs(10), || {
            proxy.passed(Direction::ToServer) == 11
        });
    }

    #[test]
    fn latency_delays() {
        let proxy = FaultProxy::start(server(Vec::new())).unwrap();
        proxy.set_latency(Duration::from_millis(60));
        let mut stream = client(&proxy);
        let began = Instant::now();
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        assert!(began.elapsed() >= Duration::from_millis(120));
    }

    #[test]
    fn refuses_until_healed() {
        let proxy = FaultProxy::start(server(b"x".to_vec())).unwrap();
        proxy.set_refusing(true);
        assert!(client(&proxy).read_exact(&mut [0]).is_err());
        proxy.heal();
        client(&proxy).read_exact(&mut [0]).unwrap();
    }
}
