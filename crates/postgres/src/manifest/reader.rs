//! Reading a manifest as a stream.

use data_encoding::HEXLOWER_PERMISSIVE;
use ring::digest::{Context, SHA256};

use super::token::{Token, Tokenizer};
use super::{ChecksumAlgorithm, FileChecksum, ManifestError, ManifestFile, ManifestPath, WalRange};
use crate::system::SystemIdentifier;
use crate::timeline::TimelineId;

/// No cluster has lived through more timelines.
const WAL_RANGES_MAX: usize = 65_536;

/// What a manifest says apart from its files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ManifestSummary {
    /// 1 up to major 16, 2 from 17 on.
    pub version: u32,
    /// The cluster; only version 2 names it.
    pub system_identifier: Option<SystemIdentifier>,
    /// How many files were listed.
    pub files: u64,
    /// The sum of their sizes in bytes.
    pub bytes: u64,
    /// The WAL needed to make the backup consistent, newest timeline first.
    pub wal_ranges: Vec<WalRange>,
    /// The manifest's verified checksum.
    pub checksum: [u8; 32],
}

/// Reads a manifest given in pieces of any size.
///
/// Keeps one file's entry at a time and no value longer than 16 KiB. Files are handed out as they
/// come; that the manifest is undamaged is known only after [`finish`](Self::finish).
#[derive(Debug)]
pub struct ManifestReader {
    tokens: Tokenizer,
    digest: LineDigest,
    expect: Expect,
    entry: Entry,
    version: Option<u32>,
    system_identifier: Option<SystemIdentifier>,
    seen: Vec<TopKey>,
    files: u64,
    bytes: u64,
    wal_ranges: Vec<WalRange>,
    checksum: Option<String>,
}

/// Keys of the manifest itself.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum TopKey {
    Version,
    SystemIdentifier,
    Files,
    WalRanges,
    Checksum,
}

/// The two lists.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum List {
    Files,
    WalRanges,
}

/// Keys of a file or WAL range; an entry keeps one value for each.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Key {
    Path,
    EncodedPath,
    Size,
    LastModified,
    Algorithm,
    Checksum,
    Timeline,
    StartLsn,
    EndLsn,
}

/// What comes next.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Expect {
    Start,
    TopKey,
    TopColon(TopKey),
    TopValue(TopKey),
    TopComma,
    /// An entry, or the end of a list that is empty.
    FirstEntry(List),
    Entry(List),
    EntryComma(List),
    Key(List),
    Colon(List, Key),
    Value(List, Key),
    Comma(List),
    Nothing,
}

/// The values of a file or WAL range read so far.
#[derive(Debug, Default)]
struct Entry {
    path: Option<String>,
    encoded_path: Option<String>,
    size: Option<u64>,
    last_modified: Option<String>,
    algorithm: Option<String>,
    checksum: Option<String>,
    timeline: Option<u64>,
    start_lsn: Option<String>,
    end_lsn: Option<String>,
}

impl Default for ManifestReader {
    fn default() -> Self {
        ManifestReader::new()
    }
}

impl ManifestReader {
    /// A reader at the start of a manifest.
    #[must_use]
    pub fn new() -> Self {
        ManifestReader {
            tokens: Tokenizer::default(),
            digest: LineDigest::new(),
            expect: Expect::Start,
            entry: Entry::default(),
            version: None,
            system_identifier: None,
            seen: Vec::new(),
            files: 0,
            bytes: 0,
            wal_ranges: Vec::new(),
            checksum: None,
        }
    }

    /// Takes the next bytes and hands out the files they complete.
    ///
    /// # Errors
    /// See [`ManifestError`]. The reader is of no use afterwards.
    pub fn push(
        &mut self,
        bytes: &[u8],
        sink: &mut impl FnMut(ManifestFile),
    ) -> Result<(), ManifestError> {
        self.digest.update(bytes);
        let mut rest = bytes;
        while let Some(token) = self.tokens.next(&mut rest)? {
            self.expect = self.accept(token, sink)?;
        }
        Ok(())
    }

    /// Confirms that the manifest is whole and its checksum right.
    ///
    /// # Errors
    /// [`ManifestError::Truncated`], [`ManifestError::Checksum`], or a part that is missing.
    pub fn finish(self) -> Result<ManifestSummary, ManifestError> {
        let offset = self.tokens.offset();
        if self.expect != Expect::Nothing || self.tokens.in_token() {
            return Err(ManifestError::Truncated { offset });
        }
        let missing = |what| ManifestError::Syntax { offset, what };
        let stored = self.checksum.ok_or(missing("the checksum is missing"))?;
        let version = self.version.ok_or(missing("the version is missing"))?;
        if !self.seen.contains(&TopKey::Files) || !self.seen.contains(&TopKey::WalRanges) {
            return Err(missing("the files or the WAL ranges are missing"));
        }
        if version > 1 && self.system_identifier.is_none() {
            return Err(missing("the system identifier is missing"));
        }
        let computed = self.digest.finish().ok_or(missing("the last line does not end"))?;
        if HEXLOWER_PERMISSIVE.decode(stored.as_bytes()).ok().as_deref() != Some(&computed[..]) {
            let computed = HEXLOWER_PERMISSIVE.encode(&computed);
            // Longer than a checksum it is not worth showing.
            return Err(ManifestError::Checksum {
                stored: stored.chars().take(64).collect(),
                computed,
            });
        }
        Ok(ManifestSummary {
            version,
            system_identifier: self.system_identifier,
            files: self.files,
            bytes: self.bytes,
            wal_ranges: self.wal_ranges,
            checksum: computed,
        })
    }

    fn syntax(&self, what: &'static str) -> ManifestError {
        self.tokens.syntax(what)
    }

    fn accept(
        &mut self,
        token: Token,
        sink: &mut impl FnMut(ManifestFile),
    ) -> Result<Expect, ManifestError> {
        Ok(match (self.expect, token) {
            (Expect::TopKey, Token::Text(name)) => Expect::TopColon(self.top_key(&name)?),
            (Expect::TopColon(key), Token::Colon) => Expect::TopValue(key),
            (Expect::TopValue(TopKey::Files), Token::ArrayStart) => Expect::FirstEntry(List::Files),
            (Expect::TopValue(TopKey::WalRanges), Token::ArrayStart) => {
                Expect::FirstEntry(List::WalRanges)
            }
            (Expect::TopValue(key), token) => {
                self.top_value(key, token)?;
                Expect::TopComma
            }
            (Expect::Start, Token::ObjectStart) | (Expect::TopComma, Token::Comma) => {
                Expect::TopKey
            }
            (Expect::TopComma, Token::ObjectEnd) => Expect::Nothing,
            (Expect::FirstEntry(list) | Expect::Entry(list), Token::ObjectStart) => {
                Expect::Key(list)
            }
            (Expect::FirstEntry(_) | Expect::EntryComma(_), Token::ArrayEnd) => Expect::TopComma,
            (Expect::EntryComma(list), Token::Comma) => Expect::Entry(list),
            (Expect::Key(list), Token::Text(name)) => Expect::Colon(list, self.key(list, &name)?),
            (Expect::Colon(list, key), Token::Colon) => Expect::Value(list, key),
            (Expect::Value(list, key), token) => {
                self.value(key, token)?;
                Expect::Comma(list)
            }
            (Expect::Comma(list), Token::Comma) => Expect::Key(list),
            (Expect::Comma(list), Token::ObjectEnd) => {
                let entry = std::mem::take(&mut self.entry);
                match list {
                    List::Files => {
                        let file = self.file(entry)?;
                        self.files += 1;
                        self.bytes = self.bytes.saturating_add(file.size);
                        sink(file);
                    }
                    List::WalRanges => self.wal_range(&entry)?,
                }
                Expect::EntryComma(list)
            }
            _ => return Err(self.syntax("not where this belongs")),
        })
    }

    fn top_key(&mut self, name: &str) -> Result<TopKey, ManifestError> {
        let key = match name {
            "PostgreSQL-Backup-Manifest-Version" => TopKey::Version,
            "System-Identifier" => TopKey::SystemIdentifier,
            "Files" => TopKey::Files,
            "WAL-Ranges" => TopKey::WalRanges,
            "Manifest-Checksum" => TopKey::Checksum,
            _ => return Err(self.syntax("an unknown key")),
        };
        if self.seen.contains(&key) {
            return Err(self.syntax("a key for the second time"));
        }
        // The version decides how to read what follows.
        if key != TopKey::Version && self.version.is_none() {
            return Err(self.syntax("the version does not stand first"));
        }
        self.seen.push(key);
        Ok(key)
    }

    fn top_value(&mut self, key: TopKey, token: Token) -> Result<(), ManifestError> {
        match (key, token) {
            (TopKey::Version, Token::Number(version)) => {
                self.version = match version {
                    1 => Some(1),
                    2 => Some(2),
                    _ => return Err(ManifestError::Version { version }),
                };
            }
            (TopKey::SystemIdentifier, Token::Number(number)) => {
                self.system_identifier = Some(SystemIdentifier(number));
            }
            (TopKey::Checksum, Token::Text(text)) => self.checksum = Some(text),
            _ => return Err(self.syntax("a value of the wrong kind")),
        }
        Ok(())
    }

    fn key(&self, list: List, name: &str) -> Result<Key, ManifestError> {
        Ok(match (list, name) {
            (List::Files, "Path") => Key::Path,
            (List::Files, "Encoded-Path") => Key::EncodedPath,
            (List::Files, "Size") => Key::Size,
            (List::Files, "Last-Modified") => Key::LastModified,
            (List::Files, "Checksum-Algorithm") => Key::Algorithm,
            (List::Files, "Checksum") => Key::Checksum,
            (List::WalRanges, "Timeline") => Key::Timeline,
            (List::WalRanges, "Start-LSN") => Key::StartLsn,
            (List::WalRanges, "End-LSN") => Key::EndLsn,
            _ => return Err(self.syntax("an unknown key")),
        })
    }

    fn value(&mut self, key: Key, token: Token) -> Result<(), ManifestError> {
        let entry = &mut self.entry;
        let repeated = match (key, token) {
            (Key::Size, Token::Number(number)) => entry.size.replace(number).is_some(),
            (Key::Timeline, Token::Number(number)) => entry.timeline.replace(number).is_some(),
            (Key::Path, Token::Text(text)) => entry.path.replace(text).is_some(),
            (Key::EncodedPath, Token::Text(text)) => entry.encoded_path.replace(text).is_some(),
            (Key::LastModified, Token::Text(text)) => entry.last_modified.replace(text).is_some(),
            (Key::Algorithm, Token::Text(text)) => entry.algorithm.replace(text).is_some(),
            (Key::Checksum, Token::Text(text)) => entry.checksum.replace(text).is_some(),
            (Key::StartLsn, Token::Text(text)) => entry.start_lsn.replace(text).is_some(),
            (Key::EndLsn, Token::Text(text)) => entry.end_lsn.replace(text).is_some(),
            _ => return Err(self.syntax("a value of the wrong kind")),
        };
        if repeated { Err(self.syntax("a key for the second time")) } else { Ok(()) }
    }

    fn file(&self, entry: Entry) -> Result<ManifestFile, ManifestError> {
        let bytes = match (entry.path, entry.encoded_path) {
            (Some(path), None) => path.into_bytes(),
            (None, Some(path)) => HEXLOWER_PERMISSIVE
                .decode(path.as_bytes())
                .map_err(|_| self.syntax("an encoded path that is not hexadecimal"))?,
            _ => return Err(self.syntax("a file without one path")),
        };
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let path =
            ManifestPath::new(bytes).ok_or(ManifestError::UnsafePath { path: shown.clone() })?;
        let checksum = match (entry.algorithm, entry.checksum) {
            (None, None) => None,
            (Some(name), Some(hex)) => {
                Some(checksum(&name, &hex).ok_or(ManifestError::FileChecksum { path: shown })?)
            }
            _ => return Err(ManifestError::FileChecksum { path: shown }),
        };
        Ok(ManifestFile {
            path,
            size: entry.size.ok_or_else(|| self.syntax("a file without size"))?,
            last_modified: entry.last_modified.unwrap_or_default(),
            checksum,
        })
    }

    fn wal_range(&mut self, entry: &Entry) -> Result<(), ManifestError> {
        let range = (|| {
            let timeline = u32::try_from(entry.timeline?).ok().and_then(TimelineId::new)?;
            let start = entry.start_lsn.as_ref()?.parse().ok()?;
            let end = entry.end_lsn.as_ref()?.parse().ok()?;
            (start <= end).then_some(WalRange { timeline, start, end })
        })();
        if self.wal_ranges.len() >= WAL_RANGES_MAX {
            return Err(self.syntax("too many WAL ranges"));
        }
        self.wal_ranges.push(range.ok_or_else(|| self.syntax("an unusable WAL range"))?);
        Ok(())
    }
}

fn checksum(name: &str, hex: &str) -> Option<FileChecksum> {
    let algorithm = ChecksumAlgorithm::of_name(name)?;
    let value = HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok()?;
    (value.len() == algorithm.length()).then_some(FileChecksum { algorithm, value })
}

/// SHA-256 over all lines but the last, which is only known at the end.
struct LineDigest {
    all: Context,
    /// The digest's state at the last line break, and at the one before.
    breaks: [Option<Context>; 2],
    ends_with_break: bool,
}

impl std::fmt::Debug for LineDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineDigest").finish_non_exhaustive()
    }
}

impl LineDigest {
    fn new() -> Self {
        LineDigest { all: Context::new(&SHA256), breaks: [None, None], ends_with_break: false }
    }

    fn update(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.all.update(piece);
            self.ends_with_break = piece.ends_with(b"\n");
            if self.ends_with_break {
                let [last, _] = std::mem::take(&mut self.breaks);
                self.breaks = [Some(self.all.clone()), last];
            }
        }
    }

    /// `None` when there are not two lines, or the last one does not end in a line break.
    fn finish(self) -> Option<[u8; 32]> {
        let [_, last_but_one] = self.breaks;
        let digest = last_but_one.filter(|_| self.ends_with_break)?.finish();
        digest.as_ref().try_into().ok()
    }
}
