//! A stash's shards, and an operator's word on one that lost writes.

use super::{
    moves,
    problem::Problem,
    views::{LossAcceptedView, ShardsView},
};
use crate::{
    codec::show::rfc3339,
    outbox::Accepted,
    stash::{Stash, mover::unix_ms},
};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use std::time::Duration;
use tokio::time::Instant;

/// The shard is asked for so long.
const SHARD_TIMEOUT: Duration = Duration::from_secs(2);

/// The body of a `POST`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    reason: String,
    #[serde(default)]
    by: Option<String>,
}

pub(super) fn view(stash: &Stash) -> ShardsView {
    ShardsView { stash: stash.name.clone(), after_loss: stash.after_loss().to_owned(), shards: stash.figures().shards }
}

/// What is lost is lost: what the shard holds counts again.
pub(super) async fn accept_loss(stash: &Stash, name: &str, body: &[u8]) -> Result<LossAcceptedView, Problem> {
    let Body { reason, by } = serde_json::from_slice(body).map_err(|fault| {
        let detail =
            format!("the body is not what is taken here: {fault}; send {{\"reason\": TEXT}} and, as wanted, by");
        Problem::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    })?;
    let by = moves::who(by);
    moves::one_line(&reason, &by)?;
    if reason.trim().is_empty() {
        let detail = "a loss is accepted for a reason, which stays with the shard: give one";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad-request", detail));
    }
    let known = stash.site.world.outbox.as_deref();
    let found = known.and_then(|outbox| Some((outbox, outbox.shards().iter().position(|shard| shard.name == name)?)));
    let Some((outbox, shard)) = found else {
        let detail = "there is no shard of this name; /v1/stashes/STASH/shards lists them";
        return Err(Problem::new(StatusCode::NOT_FOUND, "no-such-shard", detail));
    };
    let told = format!("{} by {by}: {reason}", rfc3339(unix_ms()));
    let accepted = outbox.accept_loss(shard, &told, Instant::now() + SHARD_TIMEOUT).await;
    match accepted.map_err(|fault| Problem::busy(format!("shard {name} could not be asked: {fault}")))? {
        Accepted::Done => {
            tracing::warn!(
                stash = stash.name,
                shard = name,
                by,
                reason,
                "an operator accepted that this Redis lost writes"
            );
            Ok(LossAcceptedView { shard: name.to_owned(), accepted: told })
        }
        Accepted::Nothing => Err(Problem::new(
            StatusCode::CONFLICT,
            "not-suspect",
            format!("shard {name} is not known to have lost writes; there is nothing to accept"),
        )),
        Accepted::Early(ms) => {
            let seconds = ms.div_ceil(1_000);
            let detail = format!(
                "what was on its way to Kask when shard {name} came back may still arrive, for {seconds} s: try again then"
            );
            let after = HeaderValue::from(seconds);
            Err(Problem::new(StatusCode::CONFLICT, "too-early", detail).with_header(header::RETRY_AFTER, after))
        }
    }
}
