//! Deltas: an extent as what differs from another one, its base, page by page.
//!
//! A delta is a list of pages in order: the page's number as a little-endian `u16`, how it is kept as one byte
//! (0 as it is, 1 exclusive or with the base's page), and its bytes. The last page of an extent may be shorter
//! than others. What the list leaves out is the base's. Where the base is shorter than the extent its bytes are
//! zeros, where it is longer they do not count. Differences are mostly zeros, which the frame's compression takes
//! away.

use crate::container::MAX_FRAME_RAW;

/// Bytes of a page. A server's blocks of another size cost more, or less, and lose nothing.
const PAGE_BYTES: usize = 8192;
/// A whole page compresses to about a third: so much are its bytes worth beside those of a difference.
const WHOLE_PAGE_SHARE: usize = 3;
/// A delta that is worth more than this part of the extent is none: the extent becomes a base of its own.
const WORTH_SHARE: usize = 6;

const AS_IT_IS: u8 = 0;
const DIFFERENCE: u8 = 1;

/// What makes `new` out of `base`; none when that would not be worth it, or longer than a frame may be: a page
/// that differs in one byte takes all its bytes here.
pub(crate) fn encode(base: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    let mut delta = Vec::new();
    let mut worth = 0;
    for (number, page) in (0u16..).zip(new.chunks(PAGE_BYTES)) {
        let old = page_of(base, number);
        if page == &old[..page.len()] {
            continue;
        }
        let differing = page.iter().zip(&old).filter(|(new, old)| new != old).count();
        delta.extend_from_slice(&number.to_le_bytes());
        if differing <= page.len() / WHOLE_PAGE_SHARE {
            worth += differing;
            delta.push(DIFFERENCE);
            delta.extend(page.iter().zip(&old).map(|(new, old)| new ^ old));
        } else {
            worth += page.len() / WHOLE_PAGE_SHARE;
            delta.push(AS_IT_IS);
            delta.extend_from_slice(page);
        }
        if worth > new.len() / WORTH_SHARE {
            return None;
        }
    }
    // A difference of nothing: the two differ in length, or not at all.
    Some(delta).filter(|delta| !delta.is_empty() && delta.len() <= MAX_FRAME_RAW)
}

/// What `delta` makes out of `base`, `length` bytes; none when it makes no sense.
pub(crate) fn apply(base: &[u8], delta: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut new = Vec::with_capacity(length);
    new.extend_from_slice(&base[..base.len().min(length)]);
    new.resize(length, 0);
    let mut rest = delta;
    let mut next = 0;
    while !rest.is_empty() {
        let ([low, high, how], bytes) = rest.split_first_chunk::<3>()?;
        let number = usize::from(u16::from_le_bytes([*low, *high]));
        if number < next {
            return None;
        }
        next = number + 1;
        let start = number * PAGE_BYTES;
        let page = new.get_mut(start..length.min(start + PAGE_BYTES)).filter(|p| !p.is_empty())?;
        let (bytes, after) = bytes.split_at_checked(page.len())?;
        match *how {
            AS_IT_IS => page.copy_from_slice(bytes),
            DIFFERENCE => page.iter_mut().zip(bytes).for_each(|(page, byte)| *page ^= byte),
            _ => return None,
        }
        rest = after;
    }
    Some(new)
}

/// A page of the base, whose missing bytes are zeros.
fn page_of(base: &[u8], number: u16) -> [u8; PAGE_BYTES] {
    let mut page = [0; PAGE_BYTES];
    let start = (usize::from(number) * PAGE_BYTES).min(base.len());
    let there = &base[start..base.len().min(start + PAGE_BYTES)];
    page[..there.len()].copy_from_slice(there);
    page
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn content(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn a_row_costs_its_bytes_and_much_costs_an_extent() {
        let base = content(1, 8 * PAGE_BYTES);
        let mut new = base.clone();
        new[3 * PAGE_BYTES + 100..][..40].fill(7);
        let delta = encode(&base, &new).unwrap();
        assert_eq!(delta.len(), 3 + PAGE_BYTES);
        assert!(delta[3..].iter().filter(|byte| **byte != 0).count() <= 40);
        new[..5 * PAGE_BYTES].copy_from_slice(&content(2, 5 * PAGE_BYTES));
        assert!(encode(&base, &new).is_none());
        assert!(encode(&base, &base).is_none());
    }

    #[test]
    fn a_delta_fits_into_a_frame() {
        let base = content(1, MAX_FRAME_RAW);
        let mut new = base.clone();
        let pages = MAX_FRAME_RAW / PAGE_BYTES;
        for page in 1..pages {
            new[page * PAGE_BYTES] ^= 1;
        }
        assert!(encode(&base, &new).is_some_and(|delta| delta.len() <= MAX_FRAME_RAW));
        new[0] ^= 1;
        assert!(encode(&base, &new).is_none(), "one byte of every page of the longest extent");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let base = content(1, PAGE_BYTES + 10);
        let page = |number: u8, how: u8, length: usize| {
            [vec![number, 0, how], content(3, length)].concat()
        };
        let length = base.len();
        assert!(apply(&base, &page(1, 0, 10), length).is_some());
        assert!(apply(&base, &page(1, 0, 9), length).is_none(), "cut short");
        assert!(apply(&base, &page(2, 0, 10), length).is_none(), "behind the end");
        assert!(apply(&base, &page(0, 2, PAGE_BYTES), length).is_none(), "of an unknown kind");
        let twice = [page(1, 1, 10), page(1, 1, 10)].concat();
        assert!(apply(&base, &twice, length).is_none(), "not in order");
    }

    proptest! {
        #[test]
        fn a_delta_makes_what_it_was_made_from(
            old in 0..6 * PAGE_BYTES,
            new in 1..6 * PAGE_BYTES,
            edits in proptest::collection::vec((any::<prop::sample::Index>(), 1usize..900, any::<u64>()), 0..6),
        ) {
            let base = content(1, old);
            let mut bytes = base.clone();
            bytes.resize(new, 0);
            for (at, length, seed) in edits {
                let at = at.index(new);
                let end = new.min(at + length);
                bytes[at..end].copy_from_slice(&content(seed, end - at));
            }
            if let Some(delta) = encode(&base, &bytes) {
                prop_assert_eq!(apply(&base, &delta, new).unwrap(), bytes);
            }
        }

        #[test]
        fn whatever_is_read_does_no_harm(delta in proptest::collection::vec(any::<u8>(), 0..200), length in 0usize..20_000) {
            let made = apply(&content(1, 9000), &delta, length);
            prop_assert!(made.is_none_or(|made| made.len() == length));
        }
    }
}
