//! Waiting for a condition instead of for a time.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// Time between two looks at a condition.
const POLL_EVERY: Duration = Duration::from_millis(10);

/// Blocks until `condition` holds.
///
/// # Panics
/// When it does not hold within `timeout`; `what` is in the message.
pub fn wait_for(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) {
    wait_for_value(what, timeout, || condition().then_some(()));
}

/// Blocks until `look` finds something and returns it.
///
/// # Panics
/// When there is nothing within `timeout`; `what` is in the message.
pub fn wait_for_value<T>(what: &str, timeout: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {timeout:?}: {what}");
        std::thread::sleep(POLL_EVERY);
    }
}

/// The same for asynchronous conditions; works on any executor and does not block it.
///
/// # Panics
/// When `condition` does not hold within `timeout`; `what` is in the message.
pub async fn eventually(what: &str, timeout: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + timeout;
    while !condition().await {
        assert!(Instant::now() < deadline, "not within {timeout:?}: {what}");
        Pause { until: Instant::now() + POLL_EVERY, timer_runs: false }.await;
    }
}

/// A timer without a runtime: a thread sleeps and wakes the task.
struct Pause {
    until: Instant,
    timer_runs: bool,
}

impl Future for Pause {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Poll::Ready(());
        }
        if !self.timer_runs {
            self.timer_runs = true;
            let waker = context.waker().clone();
            std::thread::spawn(move || {
                std::thread::sleep(left);
                waker.wake();
            });
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_what_was_found() {
        let mut looks = 0;
        let found = wait_for_value("three looks", Duration::from_secs(5), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found, 3);
    }

    #[test]
    #[should_panic(expected = "not within 20ms: never")]
    fn says_what_did_not_come() {
        wait_for("never", Duration::from_millis(20), || false);
    }
}
