//! Copying to Kask, and settling: shared by writer, read-repair, backfill and reaper.

use super::{
    Safeguard, Site, World,
    world::{By, Content, Digest, Direction, Event, Held, KaskGot, KaskPut, Millis, Settled, Token},
};
use crate::codec::key::Key;

/// How a copier ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The tiers agree as far as this intent goes; `alone`: the key has no intent left.
    Settled { alone: bool },
    /// Another claimed the intent, and finishes it.
    Lost,
    /// The intent stays for the reaper.
    Left,
}

/// One intent, on its way to Kask.
pub struct Copier<'a, W> {
    pub site: &'a Site<W>,
    pub key: &'a Key,
    pub intent: Token,
    /// Never send or settle at or after this.
    pub deadline: Millis,
    pub by: By,
}

impl<W: World> Copier<'_, W> {
    pub(super) fn too_late(&self) -> bool {
        self.site.world.now() >= self.deadline
    }

    /// Brings Kask to what Redis holds, then settles.
    pub async fn copy(&self, held: &Held, generation: u64) -> Ended {
        if !self.send_held(held).await {
            return Ended::Left;
        }
        self.settle(generation).await
    }

    /// Kask holds the write of `generation`: removes the intent, or copies what is newer until it can.
    pub async fn settle(&self, mut generation: u64) -> Ended {
        loop {
            if self.too_late() {
                return Ended::Left;
            }
            match self.site.world.settle(self.key, self.intent, generation, self.deadline).await {
                Ok(Settled::Gone { alone }) => {
                    self.site.world.note(Event::Settled(self.by));
                    return Ended::Settled { alone };
                }
                Ok(Settled::Lost) => return Ended::Lost,
                Ok(Settled::Kept) => return Ended::Left,
                Ok(Settled::Newer { generation: newer, held }) => {
                    if !self.send_held(&held).await {
                        return Ended::Left;
                    }
                    generation = newer;
                }
                Err(_) => return Ended::Left,
            }
        }
    }

    /// Whether Kask surely holds it now.
    async fn send_held(&self, held: &Held) -> bool {
        match held {
            Held::Is(content) => self.send(content).await,
            Held::Evicted(digest) => self.send_evicted(*digest).await,
            Held::Unknown => true,
            Held::Untranscodable(reason) => {
                self.site.world.note(Event::Untranscodable(Direction::ToKask, reason));
                self.give_up(reason).await;
                false
            }
        }
    }

    /// Redis lost the value: Kask keeps it if it is the one that the record remembers; else a miss is better than an older value.
    async fn send_evicted(&self, digest: Digest) -> bool {
        if !self.site.rules.holds(Safeguard::Digest) {
            return true;
        }
        match self.site.world.kask_get(self.key, self.deadline).await {
            KaskGot::Hit(body) if Digest::of(&body) == digest => true,
            KaskGot::Hit(_) => self.send(&Content::Nothing).await,
            KaskGot::Miss => true,
            KaskGot::Error(_) => false,
        }
    }

    /// Sends once. A request whose outcome is unknown is neither sent again nor settled here.
    async fn send(&self, content: &Content) -> bool {
        if self.too_late() {
            return false;
        }
        match self.site.world.kask_put(self.key, content, self.deadline).await {
            KaskPut::Done => true,
            KaskPut::Refused(why) => {
                self.give_up(&why).await;
                false
            }
            KaskPut::NotSent(_) => false,
            KaskPut::Unknown(_) if self.site.rules.holds(Safeguard::NoResend) => false,
            KaskPut::Unknown(_) => self.site.world.kask_put(self.key, content, self.deadline).await == KaskPut::Done,
        }
    }

    /// Counts a try that will not do better next time. Unheard, it simply does not count.
    pub(super) async fn give_up(&self, why: &str) {
        if !self.too_late() {
            let _ = self.site.world.give_up(self.key, self.intent, why, self.deadline).await;
        }
    }
}
