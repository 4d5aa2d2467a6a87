//! Moves that this decant made before it shared the record: only its own disk tells of them, until etcd does.

use super::{
    HistoryFault, on_disk,
    shared::{Session, Shared},
};
use crate::phase::{
    file::{HISTORY_LINES_MAX, RecordFile},
    record::PhaseRecord,
};
use std::collections::BTreeSet;

/// Lines of one change: etcd takes 128 operations, and 1.5 MiB.
const LINES_AT_ONCE: usize = 32;

impl Shared {
    /// Tells etcd of the moves that this decant's own history has and etcd's lacks, and of `last` where that is a move it lacks; how many
    /// those were. What etcd has is never written over. Of the moves of others this history says only what their fences said, and whoever
    /// made them says more: each tells of its own.
    pub async fn tell_past(&self, last: Option<&PhaseRecord>) -> Result<usize, HistoryFault> {
        let mut moves = on_disk(&self.copy, RecordFile::history).await?;
        moves.retain(|made| made.member == self.member());
        moves.extend(last.filter(|last| moves.iter().all(|made| made.version != last.version)).cloned());
        if moves.is_empty() {
            return Ok(0);
        }
        let session = self.reached()?;
        let there = session.client.last(self.keys.history(), HISTORY_LINES_MAX).await?;
        let there: BTreeSet<&str> = there.iter().map(|line| line.key.as_str()).collect();
        moves.retain(|made| !there.contains(self.keys.moved(made.version).as_str()));
        let mut told = 0;
        for some in moves.chunks(LINES_AT_ONCE) {
            told += self.tell(&session, some).await?;
        }
        Ok(told)
    }

    /// One by one where another has told of one of them meanwhile, or long ago.
    async fn tell(&self, session: &Session, moves: &[PhaseRecord]) -> Result<usize, HistoryFault> {
        if session.client.commit(&self.keys.tell(moves)).await? {
            return Ok(moves.len());
        }
        let mut told = 0;
        for one in moves.chunks(1) {
            told += usize::from(session.client.commit(&self.keys.tell(one)).await?);
        }
        Ok(told)
    }
}
