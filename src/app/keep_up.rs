//! Tasks that must not end unnoticed.

use std::{future::Future, time::Duration};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Before a task that panicked begins again: no loop of panics.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Runs a task until it returns. One that panics, which is a fault of decant's, is told of and begun again: without it nothing would be
/// healed any more, or no move ever settle, while requests are answered as if all were well.
pub async fn keep_up<F>(
    what: &'static str,
    stash: String,
    stop: CancellationToken,
    begin: impl Fn() -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    while let Err(ended) = tokio::spawn(begin()).await {
        if !ended.is_panic() {
            return;
        }
        tracing::error!(stash, what, fault = %ended, "a background task panicked and begins again; please report this");
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(AGAIN_AFTER) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    #[tokio::test]
    async fn what_panics_begins_again_and_what_returns_does_not() {
        let begun = Arc::new(AtomicU32::new(0));
        let count = begun.clone();
        let work = move || {
            let nth = count.fetch_add(1, Ordering::Relaxed);
            async move { assert!(nth == 2, "a panic on purpose") }
        };
        keep_up("test", "s".into(), CancellationToken::new(), work).await;
        assert_eq!(begun.load(Ordering::Relaxed), 3);
    }
}
