//! A push reader: WAL bytes of any size in, checked records out (`xlogreader.c`).

use super::error::{WalReadError, WalReadErrorKind as Kind};
use super::page_header::{self, PageHeader};
use super::record::{RECORD_ALIGNMENT, RECORD_HEADER_SIZE, RECORD_SIZE_MAX, RecordSpan, WalRecord};
use super::segment::{SegmentNo, WalSegmentSize};
use crate::lsn::Lsn;
use crate::system::{SystemIdentifier, Xid};
use crate::timeline::TimelineId;

/// What the stream must turn out to be. A `None` is not unchecked: the first value seen then has to
/// hold for the rest.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct WalExpectations {
    /// The cluster that wrote the WAL, checked on each segment's first page.
    pub system_identifier: Option<SystemIdentifier>,
    /// The timeline. Pages of older timelines are accepted only in the segment the reader starts in,
    /// since the first segment of a timeline begins with its parent's pages.
    pub timeline: Option<TimelineId>,
    /// The magic of the major version, see [`crate::version::VersionTraits`].
    pub wal_magic: Option<u16>,
}

/// Reads a contiguous stream of one timeline's WAL, from a page boundary onwards.
///
/// Every page's magic, flags, address and timeline are checked, every segment's cluster and sizes,
/// every record's length, place in the chain and CRC-32C. Memory is bounded by the longest record
/// ([`RECORD_SIZE_MAX`]) and grows only as its bytes arrive.
///
/// After an error that is the end of the WAL ([`WalReadError::is_end_of_wal`]) the reader stands at
/// that end, and the bytes that belong there may be pushed later. Every other error is final: further
/// pushes return it again.
#[derive(Debug)]
pub struct WalStreamReader {
    segment_size: WalSegmentSize,
    /// Bytes of a page; zero until the first page of a segment has said it.
    block_size: u64,
    expected: WalExpectations,
    start: Lsn,
    position: Lsn,
    /// Timeline of the last page; never decreases.
    page_timeline: u32,
    page_header: [u8; page_header::LONG],
    page_header_length: usize,
    state: State,
    record: Partial,
    last: Option<RecordSpan>,
    failure: Option<WalReadError>,
}

/// What the byte at the reader's position is.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum State {
    /// Part of a page's header; the record state behind it follows.
    PageHeader(Body),
    Body(Body),
    /// Unused, up to the next segment.
    Unused {
        until: Lsn,
    },
}

/// What stands on a page behind its header.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Body {
    /// The stream's first page: whatever it continues has a head nobody saw.
    First,
    /// A record, perhaps its first byte.
    Record,
    /// The rest of a record whose head nobody saw, so many bytes.
    Headless(u32),
    /// Filling up to the alignment, so many bytes.
    Padding { left: u64, after: After },
}

/// What to do once the alignment is reached.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum After {
    Emit,
    Nothing,
}

/// A record of which not all bytes have arrived. The length is known once the header is whole.
#[derive(Debug, Default)]
struct Partial {
    start: Lsn,
    header: [u8; RECORD_HEADER_SIZE],
    header_length: usize,
    body: Vec<u8>,
}

impl Partial {
    fn length(&self) -> usize {
        self.header_length + self.body.len()
    }

    /// `N` bytes of the header; all offsets asked for are constants inside it.
    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.header[at..at + N]);
        bytes
    }

    fn total_length(&self) -> u32 {
        u32::from_le_bytes(self.field(0))
    }

    fn xid(&self) -> Xid {
        Xid(u32::from_le_bytes(self.field(4)))
    }

    fn prev(&self) -> Lsn {
        Lsn(u64::from_le_bytes(self.field(8)))
    }

    fn crc(&self) -> u32 {
        u32::from_le_bytes(self.field(20))
    }

    fn clear(&mut self) {
        *self = Partial::default();
    }
}

/// Whether PostgreSQL can be built with WAL pages of so many bytes (`XLOG_BLCKSZ`).
fn is_block_size(bytes: u32) -> bool {
    bytes.is_power_of_two() && (1024..=65_536).contains(&bytes)
}

impl WalStreamReader {
    /// A reader whose first byte is the one at `start`, a page boundary and preferably a segment's.
    ///
    /// A page that begins with the rest of a record is fine there: that rest is skipped. A `start` or
    /// `wal_block_size` that PostgreSQL could not have makes the first [`push`](Self::push) fail.
    #[must_use]
    pub fn new(
        start: Lsn,
        segment_size: WalSegmentSize,
        wal_block_size: u32,
        expected: WalExpectations,
    ) -> Self {
        let block_size = u64::from(wal_block_size);
        let failure = if !is_block_size(wal_block_size) {
            Some(WalReadError::new(start, Kind::BlockSize { bytes: wal_block_size }))
        } else if !start.0.is_multiple_of(block_size) {
            Some(WalReadError::new(start, Kind::NotAPageStart))
        } else {
            None
        };
        // A failed reader never divides by it, but nothing below should have to know that.
        Self::with(start, segment_size, block_size.max(1), expected, failure)
    }

    /// A reader whose first byte is the first of a segment: that segment's first page says how large
    /// pages are. A `start` elsewhere makes the first [`push`](Self::push) fail.
    #[must_use]
    pub fn at_segment(start: Lsn, segment_size: WalSegmentSize, expected: WalExpectations) -> Self {
        let failure = (segment_size.offset_in(start) != 0)
            .then(|| WalReadError::new(start, Kind::NotAPageStart));
        Self::with(start, segment_size, 0, expected, failure)
    }

    fn with(
        start: Lsn,
        segment_size: WalSegmentSize,
        block_size: u64,
        expected: WalExpectations,
        failure: Option<WalReadError>,
    ) -> Self {
        WalStreamReader {
            segment_size,
            block_size,
            expected,
            start,
            position: start,
            page_timeline: 0,
            page_header: [0; page_header::LONG],
            page_header_length: 0,
            state: State::PageHeader(Body::First),
            record: Partial::default(),
            last: None,
            failure,
        }
    }

    /// The position of the next byte to push.
    pub fn position(&self) -> Lsn {
        self.position
    }

    /// Where the last complete record stands.
    pub fn last_record(&self) -> Option<RecordSpan> {
        self.last
    }

    /// Bytes of one WAL page; none before the first page of a reader that finds it out there.
    pub fn wal_block_size(&self) -> Option<u32> {
        u32::try_from(self.block_size).ok().filter(|bytes| *bytes > 0)
    }

    /// Whether a record has begun that is not complete yet.
    pub fn in_record(&self) -> bool {
        self.record.header_length > 0
    }

    /// Takes the bytes at [`position`](Self::position) and appends the records they complete to `out`.
    ///
    /// # Errors
    /// The first thing wrong. Records before it were appended to `out` all the same.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<WalRecord>) -> Result<(), WalReadError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let result = self.consume(bytes, out);
        if let Err(error) = &result
            && !error.is_end_of_wal()
        {
            self.failure = Some(error.clone());
            self.record.body = Vec::new();
        }
        result
    }

    fn consume(&mut self, mut bytes: &[u8], out: &mut Vec<WalRecord>) -> Result<(), WalReadError> {
        while !bytes.is_empty() {
            match self.state {
                State::Unused { until } => {
                    self.take(&mut bytes, until.distance_from(self.position));
                    if self.position == until {
                        self.state = State::PageHeader(Body::Record);
                    }
                }
                State::PageHeader(body) => self.read_page_header(&mut bytes, body)?,
                State::Body(body) => self.read_body(&mut bytes, body, out)?,
            }
        }
        Ok(())
    }

    /// Moves over up to `wanted` bytes and returns them.
    fn take<'a>(&mut self, bytes: &mut &'a [u8], wanted: u64) -> &'a [u8] {
        let count = usize::try_from(wanted).unwrap_or(usize::MAX).min(bytes.len());
        let (taken, rest) = bytes.split_at(count);
        *bytes = rest;
        self.position = self.position.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        taken
    }

    /// Whether the position is a page boundary: the page before is full.
    fn at_page_start(&self) -> bool {
        self.position.0.is_multiple_of(self.block_size)
    }

    fn left_on_page(&self) -> u64 {
        self.block_size - self.position.0 % self.block_size
    }

    fn error(lsn: Lsn, kind: Kind) -> WalReadError {
        WalReadError::new(lsn, kind)
    }

    /// Continues with `body`, behind the next page's header if this page is full.
    fn proceed(&mut self, body: Body) {
        self.state = if self.at_page_start() { State::PageHeader(body) } else { State::Body(body) };
    }

    fn read_page_header(&mut self, bytes: &mut &[u8], body: Body) -> Result<(), WalReadError> {
        let wanted = if self.page_header_length < page_header::SHORT {
            page_header::SHORT
        } else {
            page_header::LONG
        };
        let taken = self.take(bytes, (wanted - self.page_header_length) as u64);
        let from = self.page_header_length;
        self.page_header_length += taken.len();
        self.page_header[from..self.page_header_length].copy_from_slice(taken);
        if self.page_header_length < page_header::SHORT {
            return Ok(());
        }
        let mut short = [0; page_header::SHORT];
        short.copy_from_slice(&self.page_header[..page_header::SHORT]);
        if PageHeader::is_long(&short) && self.page_header_length < page_header::LONG {
            return Ok(());
        }
        let page = Lsn(self.position.0 - self.page_header_length as u64);
        self.page_header_length = 0;
        if short == [0; page_header::SHORT] {
            self.position = page;
            return Err(Self::error(page, Kind::NeverWritten));
        }
        let header = PageHeader::read(&self.page_header);
        self.check_page(page, &header).map_err(|kind| Self::error(page, kind))?;
        let body = self.enter_page(&header, body).map_err(|kind| Self::error(page, kind))?;
        self.proceed(body);
        Ok(())
    }

    fn check_page(&mut self, page: Lsn, header: &PageHeader) -> Result<(), Kind> {
        let expected = *self.expected.wal_magic.get_or_insert(header.magic);
        if header.magic != expected {
            return Err(Kind::Magic { found: header.magic, expected });
        }
        let first_of_segment = self.segment_size.offset_in(page) == 0;
        if !header.flags_are_possible() || (first_of_segment && header.segment.is_none()) {
            return Err(Kind::PageFlags { flags: header.flags });
        }
        if header.address != page {
            return Err(Kind::PageAddress { found: header.address });
        }
        if let Some(segment) = header.segment {
            let expected =
                *self.expected.system_identifier.get_or_insert(segment.system_identifier);
            if segment.system_identifier != expected {
                return Err(Kind::System { found: segment.system_identifier, expected });
            }
            if self.block_size == 0 {
                if !is_block_size(segment.block_size) {
                    return Err(Kind::BlockSize { bytes: segment.block_size });
                }
                self.block_size = segment.block_size.into();
            }
            if u64::from(segment.segment_size) != self.segment_size.bytes()
                || u64::from(segment.block_size) != self.block_size
            {
                return Err(Kind::Geometry {
                    segment_size: segment.segment_size,
                    block_size: segment.block_size,
                });
            }
        }
        let found = header.timeline;
        if found < self.page_timeline.max(1) {
            return Err(Kind::Timeline { found, expected: self.page_timeline.max(1) });
        }
        if let Some(expected) = self.expected.timeline.map(TimelineId::get) {
            let inherited = self.segment_of(page) == self.segment_of(self.start);
            if found > expected || (found < expected && !inherited) {
                return Err(Kind::Timeline { found, expected });
            }
        }
        self.page_timeline = found;
        Ok(())
    }

    fn segment_of(&self, lsn: Lsn) -> SegmentNo {
        self.segment_size.segment_of(lsn)
    }

    /// Reconciles what the page says it begins with and what has to come.
    fn enter_page(&mut self, header: &PageHeader, body: Body) -> Result<Body, Kind> {
        let continues = header.has(page_header::FIRST_IS_CONTINUATION);
        let found = if continues { header.continuation } else { 0 };
        if continues && found == 0 {
            return Err(Kind::Continuation { found, expected: self.still_missing(body) });
        }
        if header.has(page_header::FIRST_IS_OVERWRITE) {
            // The server crashed before the record was whole and started over: nothing of it counts,
            // and the next record follows the last complete one.
            self.record.clear();
            return Ok(Body::Record);
        }
        if body == Body::First {
            return Ok(if continues { Body::Headless(found) } else { Body::Record });
        }
        let expected = self.still_missing(body);
        if found == expected { Ok(body) } else { Err(Kind::Continuation { found, expected }) }
    }

    /// Bytes the record in progress lacks at a page's start; zero when there is none.
    fn still_missing(&self, body: Body) -> u32 {
        match body {
            Body::Headless(left) => left,
            Body::Record if self.in_record() => {
                let length = u32::try_from(self.record.length()).unwrap_or(u32::MAX);
                self.record.total_length().saturating_sub(length)
            }
            Body::First | Body::Record | Body::Padding { .. } => 0,
        }
    }

    fn read_body(
        &mut self,
        bytes: &mut &[u8],
        body: Body,
        out: &mut Vec<WalRecord>,
    ) -> Result<(), WalReadError> {
        match body {
            Body::Headless(left) => {
                let taken = self.take(bytes, u64::from(left).min(self.left_on_page())).len();
                let left = left.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
                if left > 0 {
                    self.proceed(Body::Headless(left));
                } else {
                    self.align(After::Nothing, out)?;
                }
            }
            Body::Padding { left, after } => {
                let taken = self.take(bytes, left).len() as u64;
                if taken == left {
                    self.complete(after, out)?;
                } else {
                    self.state = State::Body(Body::Padding { left: left - taken, after });
                }
            }
            Body::First | Body::Record => self.read_record(bytes, out)?,
        }
        Ok(())
    }

    fn read_record(
        &mut self,
        bytes: &mut &[u8],
        out: &mut Vec<WalRecord>,
    ) -> Result<(), WalReadError> {
        if !self.in_record() {
            self.record.start = self.position;
        }
        let left_on_page = self.left_on_page();
        if self.record.header_length < RECORD_HEADER_SIZE {
            let had = self.record.header_length;
            let taken = self.take(bytes, left_on_page.min((RECORD_HEADER_SIZE - had) as u64));
            let has = had + taken.len();
            self.record.header[had..has].copy_from_slice(taken);
            self.record.header_length = has;
            // The length is judged only with the rest of the header, or of the page: a zero length
            // means the end of the WAL only among zeros.
            let page_is_full = self.at_page_start();
            if has < RECORD_HEADER_SIZE && !page_is_full {
                return Ok(());
            }
            self.check_length(has)?;
            if has == RECORD_HEADER_SIZE {
                self.check_chain()?;
            }
        } else {
            let wanted = u64::from(self.record.total_length()) - self.record.length() as u64;
            let taken = self.take(bytes, wanted.min(left_on_page));
            self.record.body.extend_from_slice(taken);
        }
        let complete = self.record.header_length == RECORD_HEADER_SIZE
            && self.record.length() as u64 == u64::from(self.record.total_length());
        if complete {
            self.align(After::Emit, out)?;
        } else {
            self.proceed(Body::Record);
        }
        Ok(())
    }

    fn check_length(&mut self, has: usize) -> Result<(), WalReadError> {
        let found = self.record.total_length();
        if self.record.header[..has].iter().all(|byte| *byte == 0) {
            let start = self.record.start;
            self.record.clear();
            self.position = start;
            self.proceed(Body::Record);
            return Err(Self::error(start, Kind::NeverWritten));
        }
        if u64::from(found) < RECORD_HEADER_SIZE as u64 || found > RECORD_SIZE_MAX {
            return Err(Self::error(self.record.start, Kind::RecordLength { found }));
        }
        Ok(())
    }

    fn check_chain(&self) -> Result<(), WalReadError> {
        let found = self.record.prev();
        let start = self.record.start;
        let follows = match self.last {
            Some(last) => found == last.start,
            // Nothing is known of the record before but that it is before.
            None => found < start,
        };
        if follows {
            return Ok(());
        }
        let expected = self.last.map_or(start, |last| last.start);
        Err(Self::error(start, Kind::PreviousRecord { found, expected }))
    }

    /// Moves on to the next multiple of [`RECORD_ALIGNMENT`], which is never on another page.
    fn align(&mut self, after: After, out: &mut Vec<WalRecord>) -> Result<(), WalReadError> {
        let left = self.position.0.wrapping_neg() % RECORD_ALIGNMENT;
        if left > 0 {
            self.state = State::Body(Body::Padding { left, after });
            return Ok(());
        }
        self.complete(after, out)
    }

    fn complete(&mut self, after: After, out: &mut Vec<WalRecord>) -> Result<(), WalReadError> {
        self.proceed(Body::Record);
        match after {
            After::Emit => self.emit(out),
            After::Nothing => Ok(()),
        }
    }

    fn emit(&mut self, out: &mut Vec<WalRecord>) -> Result<(), WalReadError> {
        let partial = std::mem::take(&mut self.record);
        let stored = partial.crc();
        let computed = crc32c::crc32c_append(
            crc32c::crc32c(&partial.body),
            &partial.header[..RECORD_HEADER_SIZE - 4],
        );
        if stored != computed {
            return Err(Self::error(partial.start, Kind::Crc { stored, computed }));
        }
        let mut record = WalRecord {
            span: RecordSpan { start: partial.start, end: self.position },
            prev: partial.prev(),
            xid: partial.xid(),
            rmgr: partial.header[17],
            info: partial.header[16],
            data: partial.body,
        };
        if record.is_switch() && self.segment_size.offset_in(self.position) != 0 {
            let until = self.segment_size.end_of(self.segment_of(self.position));
            record.span.end = until;
            self.state = State::Unused { until };
        }
        self.last = Some(record.span);
        out.push(record);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
