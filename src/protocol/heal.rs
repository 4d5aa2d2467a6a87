//! Healing of what was written to Kask alone: Redis is brought to what Kask holds.

use super::{
    Belief, Site, World,
    copy::Ended,
    mirror::Mirror,
    world::{By, Refusal},
};
use crate::codec::key::Key;

/// Heals one key: an intent as every write has one, then Kask is read and mirrored until the two are the same. To be called a lease after the
/// last write of the key to Kask alone, under the phase of that write; may be done again and again.
///
/// # Errors
/// The intent could not be made: the shard is away, its fence is another, or the key is in transit. Nothing was done, and more keys of the
/// shard will hardly fare better now.
pub async fn heal<W: World>(site: &Site<W>, key: &Key, belief: &Belief) -> Result<Ended, Refusal> {
    let deadline = site.world.now() + site.settings.copy_window;
    let intent = site.world.token();
    let own = site.own(key);
    if let Err(refusal) = site.world.mark(key, &belief.text, intent, deadline).await {
        if let Refusal::Fence(seen) = &refusal {
            site.learn(seen.as_ref());
        }
        if !matches!(refusal, Refusal::Unknown(_)) {
            own.settled();
        }
        return Err(refusal);
    }
    let ended = Mirror { site, key, intent, deadline, by: By::Reaper }.from_kask().await;
    if ended != Ended::Left {
        own.settled();
    }
    Ok(ended)
}
