//! What a server's bytes go through, without a server: for the fuzzer. Not part of the interface.

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use secrecy::SecretString;

use crate::authentication::Authenticator;
use crate::dsn::Dsn;
use crate::error::ServerError;
use crate::frame::{FRAME_CAP, Framed};
use crate::message::{self, tag};
use crate::{base_backup, wal_stream};

/// Cuts `bytes` into frames, gives each body to every parser of its kind, and answers the messages
/// of an authentication; the number of frames.
pub fn frames(bytes: &[u8]) -> usize {
    let mut framed = Framed::new(tokio::io::join(bytes, tokio::io::sink()));
    framed.set_cap(FRAME_CAP);
    let Ok(dsn) = Dsn::parse("host=/tmp user=u dbname=d", &|_| None) else { return 0 };
    let password = SecretString::from("p");
    let mut authenticator = Authenticator::new(&dsn, Some(&password), true, false, None);
    let mut count = 0;
    // Bytes in memory are always there: nothing waits.
    while let Some(Ok(frame)) = framed.next("fuzzing").now_or_never() {
        count += 1;
        if frame.tag == tag::AUTHENTICATION {
            let _ = authenticator.step(&frame.body, &mut BytesMut::new());
        }
        body(&frame.body);
    }
    count
}

/// Gives the body of one message to every parser, whatever its tag says.
fn body(body: &Bytes) {
    let _ = ServerError::parse(body);
    let _ = message::column_names(body);
    let _ = message::command_tag(body);
    let _ = message::parameter(body);
    if let Ok(cells) = message::row_cells(body) {
        let _ = base_backup::tablespace(&cells);
        let _ = base_backup::position(&[cells]);
    }
    let _ = base_backup::demultiplex(body.clone());
    let _ = wal_stream::copied(body.clone());
}
