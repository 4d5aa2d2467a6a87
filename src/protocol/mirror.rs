//! Copying to Redis while Kask is the sequencer.

use super::{
    Safeguard, Site, World,
    copy::Ended,
    world::{By, Content, Event, KaskGot, Millis, Owned, Token},
};
use crate::codec::key::Key;

/// One intent, on its way to Redis.
pub struct Mirror<'a, W> {
    pub site: &'a Site<W>,
    pub key: &'a Key,
    pub intent: Token,
    /// Never mirror or settle at or after this.
    pub deadline: Millis,
    pub by: By,
}

impl<W: World> Mirror<'_, W> {
    fn too_late(&self) -> bool {
        self.site.world.now() >= self.deadline
    }

    /// Reads Kask and mirrors that.
    pub async fn from_kask(&self) -> Ended {
        match self.kask_holds().await {
            Some(content) => self.run(content).await,
            None => Ended::Left,
        }
    }

    /// Puts `content` in Redis, reads Kask again, and goes on until the two are the same.
    pub async fn run(&self, mut content: Content) -> Ended {
        let world = &self.site.world;
        loop {
            if self.too_late() {
                return Ended::Left;
            }
            match world.mirror(self.key, self.intent, &content, self.deadline).await {
                Ok(Owned::Yes) => {}
                Ok(Owned::Lost) => return Ended::Lost,
                Err(_) => {
                    world.note(Event::MirrorFailed);
                    return Ended::Left;
                }
            }
            if self.site.rules.holds(Safeguard::Check) {
                let Some(now_held) = self.kask_holds().await else { return Ended::Left };
                if now_held != content {
                    content = now_held;
                    continue;
                }
            }
            return self.release().await;
        }
    }

    async fn kask_holds(&self) -> Option<Content> {
        match self.site.world.kask_get(self.key, self.deadline).await {
            KaskGot::Hit(body) => Some(Content::Body(body)),
            KaskGot::Miss => Some(Content::Nothing),
            KaskGot::Error(_) => None,
        }
    }

    /// Redis holds what Kask does, as far as this intent goes: removes it.
    pub(super) async fn release(&self) -> Ended {
        if self.too_late() {
            return Ended::Left;
        }
        match self.site.world.release(self.key, self.intent, self.deadline).await {
            Ok(Owned::Yes) => {
                self.site.world.note(Event::Settled(self.by));
                Ended::Settled { alone: false }
            }
            Ok(Owned::Lost) => Ended::Lost,
            Err(_) => Ended::Left,
        }
    }
}
