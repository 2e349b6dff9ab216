//! Checksums of data pages (`checksum_impl.h`, `bufpage.h`, `basebackup.c`).

use serde::{Deserialize, Serialize};

use crate::lsn::Lsn;

/// The page size of a server built without `--with-blocksize`, in bytes.
pub const PAGE_SIZE_DEFAULT: usize = 8192;

/// Bytes of a page's fixed header, `SizeOfPageHeaderData`.
const PAGE_HEADER: usize = 24;
/// How many sums run side by side; each takes every 32nd word.
const LANES: usize = 32;
/// FNV-1a's 32-bit prime.
const PRIME: u32 = 16_777_619;
/// The word that holds `pd_checksum` in its lower half, at byte 8.
const CHECKSUM_WORD: usize = 2;

/// What each lane starts from; part of the on-disk format.
const LANE_OFFSETS: [u32; LANES] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

/// What a look at one page found.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum PageFinding {
    /// The stored checksum is the computed one.
    Ok,
    /// A page never initialised (`pd_upper` is zero); it carries no checksum.
    New,
    /// Changed since the given position, or too short to be a page: replay rewrites it, so a torn
    /// copy is legitimate.
    NotVerifiable,
    /// The page does not match its checksum.
    Mismatch {
        /// What the page says.
        stored: u16,
        /// What its content amounts to.
        computed: u16,
    },
}

/// The checksum of a page, never zero, with `pd_checksum` taken as zero.
///
/// `block_number` counts from the start of the relation fork, through all its segment files. The
/// page's length is a multiple of 128 bytes, as all block sizes of 1 to 32 KiB are; a remainder does
/// not count.
#[must_use]
pub fn page_checksum(page: &[u8], block_number: u32) -> u16 {
    let mut sums = LANE_OFFSETS;
    let mut rows = page.as_chunks::<{ LANES * 4 }>().0.iter();
    if let Some(first) = rows.next() {
        let mut words = words_of(first);
        words[CHECKSUM_WORD] &= 0xFFFF_0000;
        mix(&mut sums, &words);
    }
    for row in rows {
        mix(&mut sums, &words_of(row));
    }
    for _ in 0..2 {
        mix(&mut sums, &[0; LANES]);
    }
    let folded = sums.iter().fold(0, |folded, sum| folded ^ sum) ^ block_number;
    // At most 65535, so the conversion cannot fail.
    u16::try_from(folded % 65_535 + 1).unwrap_or(u16::MAX)
}

/// Compares a page with its own checksum.
///
/// `skip_from_lsn` is where the backup began: a page changed at or after it is not judged. Meaningful
/// only in a cluster with data checksums, and for files that [`crate::relation::relation_file`]
/// recognises.
#[must_use]
pub fn check_page(page: &[u8], block_number: u32, skip_from_lsn: Lsn) -> PageFinding {
    let Some((header, _)) = page.split_first_chunk::<PAGE_HEADER>() else {
        return PageFinding::NotVerifiable;
    };
    let upper = u16::from_le_bytes([header[14], header[15]]);
    if upper == 0 {
        return PageFinding::New;
    }
    if page_lsn(page) >= skip_from_lsn {
        return PageFinding::NotVerifiable;
    }
    let stored = u16::from_le_bytes([header[8], header[9]]);
    let computed = page_checksum(page, block_number);
    if stored == computed { PageFinding::Ok } else { PageFinding::Mismatch { stored, computed } }
}

/// The end of the WAL record that last changed the page (`pd_lsn`: high half first, each half in the
/// server's byte order, little endian); [`Lsn::INVALID`] for fewer than eight bytes.
#[must_use]
pub fn page_lsn(page: &[u8]) -> Lsn {
    let Some((bytes, _)) = page.split_first_chunk::<8>() else { return Lsn::INVALID };
    Lsn(u64::from_le_bytes(*bytes).rotate_left(32))
}

fn words_of(row: &[u8; LANES * 4]) -> [u32; LANES] {
    let mut words = [0; LANES];
    for (word, bytes) in words.iter_mut().zip(row.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

/// One row into the lanes; written so that the compiler makes vector instructions of it.
fn mix(sums: &mut [u32; LANES], words: &[u32; LANES]) {
    for (sum, word) in sums.iter_mut().zip(words) {
        let mixed = *sum ^ word;
        *sum = mixed.wrapping_mul(PRIME) ^ (mixed >> 17);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The first pages of a `pg_class` written by a server with data checksums.
    const RELATION: &[u8] = include_bytes!("../testdata/relation");

    #[test]
    fn agrees_with_the_servers_pages() {
        for (block, page) in (0u32..).zip(RELATION.chunks(PAGE_SIZE_DEFAULT)) {
            assert_eq!(check_page(page, block, Lsn(u64::MAX)), PageFinding::Ok, "block {block}");
            let other = check_page(page, block + 1, Lsn(u64::MAX));
            assert!(matches!(other, PageFinding::Mismatch { .. }), "transposed page {block}");
            assert_eq!(check_page(page, block, page_lsn(page)), PageFinding::NotVerifiable);
        }
    }

    #[test]
    fn new_and_short_pages_are_not_judged() {
        assert_eq!(check_page(&[0; PAGE_SIZE_DEFAULT], 0, Lsn(9)), PageFinding::New);
        assert_eq!(check_page(&[1; 23], 0, Lsn(9)), PageFinding::NotVerifiable);
        assert_eq!(page_lsn(&[1; 7]), Lsn::INVALID);
    }

    #[test]
    fn the_high_half_of_the_position_stands_first() {
        assert_eq!(page_lsn(&[1, 0, 0, 0, 2, 0, 0, 0]), Lsn(0x1_0000_0002));
    }

    /// Sixteen bits cannot tell every change: one flip in 65,535 goes unseen. Of these none does.
    #[test]
    fn a_flipped_bit_changes_the_checksum() {
        let mut page = RELATION[..PAGE_SIZE_DEFAULT].to_vec();
        let before = page_checksum(&page, 0);
        // pd_checksum itself does not count.
        for bit in (0..PAGE_SIZE_DEFAULT * 8).step_by(97).filter(|bit| !(64..80).contains(bit)) {
            page[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(page_checksum(&page, 0), before, "bit {bit}");
            page[bit / 8] ^= 1 << (bit % 8);
        }
    }

    proptest! {
        #[test]
        fn random_pages_never_panic(page in proptest::collection::vec(any::<u8>(), 0..300), block: u32) {
            prop_assert_ne!(page_checksum(&page, block), 0);
            let _ = check_page(&page, block, Lsn(u64::MAX));
        }
    }
}
