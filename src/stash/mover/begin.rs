//! A move from an operator's question to the record that says it has begun.

use super::{MoveFault, MoveRequest, Moved, Mover, Store, unix_ms};
use crate::{
    fleet::FileStore,
    phase::{
        Phase,
        guard::{self, Figures, Guard},
        record::{Made, PhaseRecord},
        step::{NoStep, Step, step},
    },
    stash::alone::Promise,
};
use std::time::Duration;
use tokio::time::Instant;

impl Mover {
    /// Begins a move, or says why not. It is settled later: see [`Mover::shown`].
    pub async fn move_to(&self, request: MoveRequest) -> Result<Moved, MoveFault> {
        let _one = self.changing.lock().await;
        match &self.store {
            Store::File(store) => self.move_alone(store, request).await,
            Store::Fleet(joined) => self.move_fleet(joined, request).await,
        }
    }

    async fn move_alone(&self, store: &FileStore, request: MoveRequest) -> Result<Moved, MoveFault> {
        let record = &*store.record().filter(|_| self.shown().is_some()).ok_or(MoveFault::Starting)?;
        self.may_move(record, &request)?;
        let mut figures = self.figures(record, &request).await?;
        let (mut guards, mut next) = self.weigh(record, &request, &figures)?;
        if request.dry_run {
            return Ok(Moved { record: next, guards, dry_run: true });
        }
        let promise = self.promise_not_alone(record).await?;
        if promise.is_some() {
            // What was written alone while the guards were measured counts as well.
            figures.written_alone = self.stash.site.world.alone.why_unclean();
            (guards, next) = self.weigh(record, &request, &figures)?;
        }
        store.begin(next.clone()).await?;
        tracing::info!(
            stash = self.stash.name,
            from = record.told(),
            to = next.told(),
            version = next.version,
            by = next.by,
            forced = next.forced,
            "a move has begun"
        );
        self.believe(&next);
        if let Some(promise) = promise {
            promise.keep();
        }
        self.stash.open_shards();
        self.begun.notify_one();
        Ok(Moved { record: next, guards, dry_run: false })
    }

    pub(super) fn weigh(
        &self,
        record: &PhaseRecord,
        request: &MoveRequest,
        figures: &Figures,
    ) -> Result<(Vec<Guard>, PhaseRecord), MoveFault> {
        let step = step_of(record, request)?;
        let guards = guard::guards_of(record, &step, figures);
        let passed = guards.iter().all(|g| g.ok);
        if !passed && !request.force {
            return Err(MoveFault::Guarded { record: Box::new(record.clone()), guards });
        }
        let made = Made {
            by: &request.by,
            reason: &request.reason,
            member: &self.member,
            now_unix_ms: unix_ms(),
            alone_since_unix_ms: self.stash.site.world.alone.since_unix_ms(),
        };
        let next = record.after(&step, &made, &guards);
        Ok((guards, next))
    }

    /// Before the fence is raised: it cannot stop a decant that cannot reach Redis.
    async fn promise_not_alone(&self, record: &PhaseRecord) -> Result<Option<Promise>, MoveFault> {
        if !record.has(Phase::RedisStandby) {
            return Ok(None);
        }
        let until = Instant::now() + Duration::from_millis(self.stash.site.settings.budget);
        let promised = self.stash.site.world.alone.promise(record.version, until).await;
        promised.map(Some).map_err(MoveFault::LoneWrites)
    }

    pub(super) fn may_move(&self, record: &PhaseRecord, request: &MoveRequest) -> Result<(), MoveFault> {
        if matches!(self.store, Store::File(_)) && record.member != self.member {
            return Err(MoveFault::NotOwner { own: self.member.clone(), named: record.member.clone() });
        }
        if let Some(expected) = request.from.filter(|from| *from != record.phase) {
            return Err(MoveFault::Stale { expected, now: Box::new(record.clone()) });
        }
        if !record.is_settled() {
            return Err(MoveFault::UnderWay(Box::new(record.clone())));
        }
        let step = step_of(record, request).map_err(|why| match why.holds_already() {
            true => MoveFault::There { why, now: Box::new(record.clone()) },
            false => MoveFault::NoStep(why),
        })?;
        if step.to.uses_redis() && self.stash.site.world.outbox.is_none() {
            return Err(MoveFault::NoRedis);
        }
        if request.reason.trim().is_empty() && !request.dry_run {
            return Err(MoveFault::NoReason);
        }
        Ok(())
    }
}

/// The step that is asked for, from where the stash is.
pub(super) fn step_of(record: &PhaseRecord, request: &MoveRequest) -> Result<Step, NoStep> {
    step(record.phase, record.ahead.as_ref(), &request.goal)
}
