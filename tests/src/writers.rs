//! Clients that remember what the server told them to be committed.

use crate::pg::TestServer;
use std::{
    collections::HashSet,
    io::{self, BufRead, BufReader, Write},
    process::{Child, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

const WRITERS: u32 = 6;

/// Every row, one a line, as [`lost`] takes them.
pub const ROWS: &str = "SELECT writer, n FROM ledger";

/// Sessions that insert one row after the other, each a transaction, and keep what was acknowledged.
#[derive(Debug)]
pub struct Writers {
    sessions: Vec<Child>,
    acknowledged: Arc<Mutex<Vec<(u32, u64)>>>,
}

fn lock(mutex: &Mutex<Vec<(u32, u64)>>) -> MutexGuard<'_, Vec<(u32, u64)>> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writers {
    /// Makes the table they write to.
    pub fn prepare(server: &TestServer) -> io::Result<()> {
        server.psql("CREATE TABLE ledger (writer int, n bigint, PRIMARY KEY (writer, n))").map(drop)
    }

    /// Starts them; rows of another round have other numbers.
    pub fn start(server: &TestServer, round: u64) -> io::Result<Self> {
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let mut sessions = Vec::new();
        for writer in 0..WRITERS {
            let mut psql = server
                .command("psql")
                .args(["-XqAt", "-v", "ON_ERROR_STOP=1"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()?;
            let missing = || io::Error::other("a stream that was not piped");
            let mut input = psql.stdin.take().ok_or_else(missing)?;
            let mut output = BufReader::new(psql.stdout.take().ok_or_else(missing)?).lines();
            let acknowledged = Arc::clone(&acknowledged);
            thread::spawn(move || {
                for n in round * 1_000_000.. {
                    let sql = format!("INSERT INTO ledger VALUES ({writer}, {n});\n\\echo {n}\n");
                    if input.write_all(sql.as_bytes()).and_then(|()| input.flush()).is_err() {
                        return;
                    }
                    match output.next() {
                        Some(Ok(line)) if line == n.to_string() => {
                            lock(&acknowledged).push((writer, n));
                        }
                        _ => return,
                    }
                }
            });
            sessions.push(psql);
        }
        Ok(Self { sessions, acknowledged })
    }

    /// What was acknowledged so far.
    pub fn acknowledged(&self) -> Vec<(u32, u64)> {
        lock(&self.acknowledged).clone()
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        for session in &mut self.sessions {
            let _ = session.kill();
            let _ = session.wait();
        }
    }
}

/// The acknowledged rows that are not among `rows`, the answer to [`ROWS`].
pub fn lost(rows: &str, acknowledged: &[(u32, u64)]) -> Vec<(u32, u64)> {
    let rows: HashSet<&str> = rows.lines().collect();
    acknowledged
        .iter()
        .filter(|(writer, n)| !rows.contains(format!("{writer}|{n}").as_str()))
        .copied()
        .collect()
}
