//! The reaper: claims intents that nobody finished, and finishes them in their own direction.

use super::{
    Safeguard, Site, World,
    copy::{Copier, Ended},
    mirror::Mirror,
    world::{By, Claimed, Millis, Token},
};
use crate::codec::key::Key;
use std::collections::{BTreeMap, HashMap};

/// Since when this decant has seen each intent. Redis's clock alone does not decide: it may jump.
#[derive(Debug, Default)]
pub struct Watch {
    first_seen: HashMap<Token, Millis>,
}

impl Watch {
    /// Takes what the outbox holds now and answers what is expired by this decant's own clock, by key. What is gone is forgotten, so the
    /// table is never larger than `listed`.
    pub fn expired(&mut self, listed: &[(Token, Key)], lease: Millis, now: Millis) -> BTreeMap<Key, Vec<Token>> {
        let mut seen = HashMap::with_capacity(listed.len());
        let mut expired: BTreeMap<Key, Vec<Token>> = BTreeMap::new();
        for (token, key) in listed {
            let first = self.first_seen.get(token).copied().unwrap_or(now);
            seen.insert(*token, first);
            if now.saturating_sub(first) >= lease {
                expired.entry(key.clone()).or_default().push(*token);
            }
        }
        self.first_seen = seen;
        expired
    }
}

/// The lease that the reaper waits for.
pub fn lease<W: World>(site: &Site<W>) -> Millis {
    if site.rules.holds(Safeguard::Lease) { site.settings.lease } else { 0 }
}

/// Claims the expired intents of one key, all together, and finishes them.
pub async fn reap<W: World>(site: &Site<W>, key: &Key, expired: &[Token]) -> Ended {
    let deadline = site.world.now() + site.settings.copy_window;
    let intent = site.world.token();
    let own = site.own(key);
    let ended = match site.world.claim(key, expired, intent, deadline).await {
        Ok(Claimed::Nothing) => Ended::Lost,
        Ok(Claimed::ToKask { generation, held }) => {
            Copier { site, key, intent, deadline, by: By::Reaper }.copy(&held, generation).await
        }
        Ok(Claimed::ToRedis) => Mirror { site, key, intent, deadline, by: By::Reaper }.from_kask().await,
        Err(_) => Ended::Left,
    };
    if ended != Ended::Left {
        own.settled();
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_expires_only_after_this_decant_saw_it_for_a_lease() {
        let key = Key::from_bytes(&b"k"[..]);
        let mut watch = Watch::default();
        let listed = vec![(Token(1), key.clone()), (Token(2), key.clone())];
        assert!(watch.expired(&listed[..1], 100, 1_000_000).is_empty(), "first sight");
        assert!(watch.expired(&listed, 100, 1_000_099).is_empty());
        assert_eq!(watch.expired(&listed, 100, 1_000_100)[&key], vec![Token(1)]);
        assert!(watch.expired(&[], 100, 1_000_150).is_empty());
        assert!(
            watch.expired(&listed, 100, 1_000_200).is_empty(),
            "what was gone and came back is seen for the first time"
        );
    }
}
