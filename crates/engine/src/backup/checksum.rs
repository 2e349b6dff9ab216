//! The CRC-32C of a file out of those of its extents, without reading any.

/// Joins CRC-32Cs of extents that all have the same length, but for the last.
pub(crate) struct ChecksumJoiner {
    /// Bytes.
    extent_size: u64,
    /// What a whole extent that follows does to a checksum, for each byte of it: appending bytes is
    /// linear in the checksum of what came before.
    shift: [[u32; 256]; 4],
}

impl ChecksumJoiner {
    /// A joiner for extents of `extent_size` bytes.
    pub(crate) fn new(extent_size: usize) -> Self {
        let mut bits = [0_u32; 32];
        for (n, bit) in bits.iter_mut().enumerate() {
            *bit = crc32c::crc32c_combine(1 << n, 0, extent_size);
        }
        let mut shift = [[0; 256]; 4];
        for (byte, table) in shift.iter_mut().enumerate() {
            for (value, entry) in table.iter_mut().enumerate() {
                for (bit, effect) in bits.iter().skip(byte * 8).take(8).enumerate() {
                    if value >> bit & 1 == 1 {
                        *entry ^= effect;
                    }
                }
            }
        }
        Self { extent_size: extent_size as u64, shift }
    }

    /// The checksum of a file of `size` bytes, whose extents have `sums`.
    pub(crate) fn join(&self, sums: &[u32], size: u64) -> u32 {
        let mut whole = 0_u32;
        let mut left = size;
        for sum in sums {
            if left >= self.extent_size {
                let moved = whole
                    .to_le_bytes()
                    .iter()
                    .zip(&self.shift)
                    .fold(0, |moved, (byte, table)| moved ^ table[usize::from(*byte)]);
                whole = moved ^ sum;
                left -= self.extent_size;
            } else {
                whole = crc32c::crc32c_combine(
                    whole,
                    *sum,
                    usize::try_from(left).unwrap_or(usize::MAX),
                );
                left = 0;
            }
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn joined_checksums_are_the_files(
            bytes in proptest::collection::vec(any::<u8>(), 0..6000),
            whole_extents in 0_usize..4,
            extent_size in prop_oneof![1_usize..700, Just(512), Just(4096)],
        ) {
            let joiner = ChecksumJoiner::new(extent_size);
            // Also where the last extent is a whole one.
            for length in [bytes.len(), (whole_extents * extent_size).min(bytes.len())] {
                let bytes = &bytes[..length];
                let sums: Vec<u32> = bytes.chunks(extent_size).map(crc32c::crc32c).collect();
                prop_assert_eq!(joiner.join(&sums, length as u64), crc32c::crc32c(bytes));
            }
        }
    }
}
