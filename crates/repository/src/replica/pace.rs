//! How fast may be sent.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A limit of bytes a second over everything that is sent, or none.
pub(super) struct Pace {
    bytes_per_second: Option<NonZeroU64>,
    /// When the line is free again.
    free_at: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(bytes_per_second: Option<NonZeroU64>) -> Self {
        Self { bytes_per_second, free_at: Mutex::new(Instant::now()) }
    }

    /// Waits until `bytes` may be sent.
    pub(super) async fn wait_for(&self, bytes: u64) {
        let begins = self.begins(bytes, Instant::now());
        tokio::time::sleep_until(begins.into()).await;
    }

    /// When they may be sent; whoever asks next comes after them. A pause is not saved up.
    fn begins(&self, bytes: u64, now: Instant) -> Instant {
        let Some(rate) = self.bytes_per_second else { return now };
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(rate.get());
        let takes = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = (*free_at).max(now);
        *free_at = begins.checked_add(takes).unwrap_or(begins);
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_keeps_to_the_limit() {
        let pace = Pace::new(NonZeroU64::new(1000));
        let now = Instant::now() + Duration::from_secs(1);
        let begins: Vec<_> =
            (0..4).map(|_| pace.begins(500, now).duration_since(now).as_millis()).collect();
        assert_eq!(begins, [0, 500, 1000, 1500]);
        let later = now + Duration::from_mins(1);
        assert_eq!(pace.begins(500, later), later);
        assert_eq!(pace.begins(500, later).duration_since(later).as_millis(), 500);
        assert_eq!(Pace::new(None).begins(u64::MAX, now), now);
    }
}
