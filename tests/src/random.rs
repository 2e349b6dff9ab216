//! Chance that can be repeated.

/// Small, repeatable and good enough to choose with (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// With a seed of its own.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed is `HOLDFAST_SEED`, or a new one each time; it is printed for the failing run to be
    /// repeated.
    pub fn announced(test: &str) -> Self {
        let seed = std::env::var("HOLDFAST_SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                now.map_or(1, |passed| u64::from(passed.subsec_nanos()) ^ passed.as_secs())
            });
        eprintln!("{test}: HOLDFAST_SEED={seed}");
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 when that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next_u64().checked_rem(limit).unwrap_or(0)
    }
}
