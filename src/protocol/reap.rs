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
    ///
    /// Who was seen first comes first. A claim makes a new intent, so a key that Kask stays silent on goes behind all that were due before
    /// its next turn: whoever takes only the first of them gets to every key.
    pub fn expired(&mut self, listed: &[(Token, Key)], lease: Millis, now: Millis) -> Vec<(Key, Vec<Token>)> {
        let mut seen = HashMap::with_capacity(listed.len());
        let mut expired: BTreeMap<&Key, (Millis, Vec<Token>)> = BTreeMap::new();
        for (token, key) in listed {
            let first = self.first_seen.get(token).copied().unwrap_or(now);
            seen.insert(*token, first);
            if now.saturating_sub(first) >= lease {
                let (oldest, tokens) = expired.entry(key).or_insert((first, Vec::new()));
                *oldest = first.min(*oldest);
                tokens.push(*token);
            }
        }
        self.first_seen = seen;
        let mut expired: Vec<_> = expired.into_iter().collect();
        expired.sort_by_key(|(_, (oldest, _))| *oldest);
        expired.into_iter().map(|(key, (_, tokens))| (key.clone(), tokens)).collect()
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
        assert_eq!(watch.expired(&listed, 100, 1_000_100), [(key, vec![Token(1)])]);
        assert!(watch.expired(&[], 100, 1_000_150).is_empty());
        assert!(
            watch.expired(&listed, 100, 1_000_200).is_empty(),
            "what was gone and came back is seen for the first time"
        );
    }

    /// Kask answers nothing for many keys, all of which sort before the one that it would answer for.
    #[test]
    fn keys_that_cannot_be_healed_starve_no_other() {
        const BATCH: usize = 10;
        const LEASE: Millis = 100;
        let silent = (0..3 * BATCH).map(|n| Key::from_bytes(format!("a{n:02}").into_bytes()));
        let healthy = Key::from_bytes(&b"z"[..]);
        let keys: Vec<Key> = silent.chain([healthy.clone()]).collect();
        let mut outbox: Vec<(Token, Key)> = (1..).map(Token).zip(keys).collect();
        let (mut watch, mut next) = (Watch::default(), 1_000);
        watch.expired(&outbox, LEASE, 0);
        for batch in 1..=4 {
            // By the end of each batch the first of it are due again.
            let due = watch.expired(&outbox, LEASE, batch * LEASE);
            if due.iter().take(BATCH).any(|(key, _)| *key == healthy) {
                return;
            }
            for (key, _) in &due[..BATCH] {
                next += 1;
                outbox.iter_mut().find(|(_, of)| of == key).unwrap().0 = Token(next);
            }
            watch.expired(&outbox, LEASE, batch * LEASE);
        }
        panic!("the healthy key had no turn in as many batches as there are keys for");
    }
}
