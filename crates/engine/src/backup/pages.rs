//! Page checksums as the server would check them, wherever the pages are read.

use holdfast_postgres::{Lsn, PageFinding, RelationFile, check_page};

use crate::snapshot::PageMismatch;

/// At most this many wrong pages are listed; all are counted.
const LISTED_PAGES: usize = 100;

/// Sizes the server was built with.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Bytes of a page.
    pub(crate) block_size: u32,
    /// Pages of a segment of a relation: a gigabyte's unless built otherwise.
    pub(crate) segment_blocks: u32,
}

/// Looks at pages of one copy.
#[derive(Clone, Copy)]
pub(crate) struct PageCheck {
    pub(crate) shape: Shape,
    /// Where the copy began: what changed since then may be torn, and replay writes it anew.
    pub(crate) start_lsn: Lsn,
}

impl PageCheck {
    /// One page, by its number within the segment file; what is wrong with it. Checksums count through all
    /// segments of a relation.
    pub(crate) fn page(
        self,
        path: &str,
        relation: RelationFile,
        number: u64,
        page: &[u8],
    ) -> Option<PageMismatch> {
        let before = u64::from(relation.segment) * u64::from(self.shape.segment_blocks);
        let block = u32::try_from(before + number).unwrap_or(u32::MAX);
        match check_page(page, block, self.start_lsn) {
            PageFinding::Mismatch { stored, computed } => {
                Some(PageMismatch { path: path.to_owned(), block, stored, computed })
            }
            _ => None,
        }
    }
}

/// Wrong pages: the first of them, and how many there are.
#[derive(Debug, Default)]
pub(crate) struct PageMismatches {
    pub(crate) listed: Vec<PageMismatch>,
    pub(crate) total: u64,
}

impl Extend<PageMismatch> for PageMismatches {
    fn extend<T: IntoIterator<Item = PageMismatch>>(&mut self, found: T) {
        for page in found {
            self.total += 1;
            if self.listed.len() < LISTED_PAGES {
                self.listed.push(page);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use holdfast_postgres::{page_checksum, relation_file};

    use super::*;

    /// Files larger than a segment: block numbers go on from segment to segment.
    #[test]
    fn checksums_count_through_the_segments_of_a_relation() {
        let shape = Shape { block_size: 8192, segment_blocks: 131_072 };
        let mut page = vec![0; 8192];
        page[12..16].copy_from_slice(&[24, 0, 0, 32]);
        let sum = page_checksum(&page, 2 * 131_072 + 5);
        page[8..10].copy_from_slice(&sum.to_le_bytes());
        let wrong = |segment: u32, number: u64| {
            let check = PageCheck { shape, start_lsn: Lsn(1) };
            let path = format!("base/5/16384.{segment}");
            let relation = relation_file(&path)?;
            check.page(&path, relation, number, &page)
        };
        assert_eq!(wrong(2, 5), None);
        assert!(wrong(1, 5).is_some());
        assert!(wrong(2, 6).is_some());
    }

    #[test]
    fn all_wrong_pages_are_counted_and_the_first_are_listed() {
        let page =
            |block| PageMismatch { path: "base/5/1".to_owned(), block, stored: 1, computed: 2 };
        let mut wrong = PageMismatches::default();
        wrong.extend((0..250).map(page));
        assert_eq!((wrong.listed.len(), wrong.total), (LISTED_PAGES, 250));
    }
}
