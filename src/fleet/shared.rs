//! The record in etcd, shared by the decants of a fleet: what this one knows of it, and how it changes it.

use super::{
    keys::Keys,
    on_disk, unix_ms,
    view::{Kept, Report, View},
};
use crate::{
    etcd::{Client, ClientSettings, Fault, Txn},
    phase::{
        file::{HISTORY_LINES_MAX, RecordFault, RecordFile},
        record::{Line, PhaseRecord},
    },
};
use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::sync::watch;

/// How this decant belongs to the fleet.
#[derive(Clone, Debug)]
pub struct SharedSettings {
    /// Asked in turn: another one when this one fails.
    pub endpoints: Vec<String>,
    pub client: ClientSettings,
    /// Before every key.
    pub prefix: String,
    /// A member that says nothing for so long is silent.
    pub lease: Duration,
    /// This decant's name, which is that of its state_dir.
    pub member: String,
}

/// A session with etcd: from the registration until something goes wrong.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub client: Client,
    pub lease: i64,
    /// The revision at which this decant came to belong to the fleet.
    pub registered: i64,
}

/// What this decant knows.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub view: View,
    /// Why the view may be out of date; none: it is watched, and this decant is alive in it.
    pub trouble: Option<String>,
    /// Since when a member has been silent, in ms since 1970, where this decant saw it fall silent.
    pub silent_since: BTreeMap<String, u64>,
    /// This decant was declared gone, or another goes by its name: the fleet does not wait for it any more.
    pub ousted: bool,
    /// The trouble was told of.
    told: bool,
    session: Option<Session>,
}

impl Known {
    /// etcd was tried, in vain.
    pub fn has_failed(&self) -> bool {
        self.told
    }

    /// The view is what etcd holds, but for what is on its way.
    pub fn is_confirmed(&self) -> bool {
        self.session.is_some()
    }

    pub fn record(&self) -> Option<&Kept<PhaseRecord>> {
        self.view.record.as_ref()
    }
}

/// What a member says of itself, asked for now and then.
pub type Reporter = Box<dyn Fn() -> Report + Send + Sync>;

/// The shared record of one stash.
pub struct Shared {
    pub(super) settings: SharedSettings,
    pub keys: Keys,
    /// Of this process.
    pub(super) process: String,
    known: watch::Sender<Arc<Known>>,
    pub(super) reporter: OnceLock<Reporter>,
    /// This decant's own copy: what is left where etcd loses the record. Never enough to act upon alone.
    pub(super) copy: RecordFile,
}

/// The record is not there, or not to be had.
#[derive(Debug, thiserror::Error)]
pub enum HistoryFault {
    #[error("etcd: {0}")]
    Etcd(#[from] Fault),
    #[error("no connection to etcd: {0}")]
    Away(String),
    #[error(transparent)]
    File(#[from] RecordFault),
}

impl Shared {
    pub fn new(settings: SharedSettings, stash: &str, copy: RecordFile) -> Arc<Shared> {
        let waiting = Known { trouble: Some("no connection to etcd yet".into()), ..Known::default() };
        Arc::new(Shared {
            keys: Keys::new(&settings.prefix, stash),
            settings,
            process: format!("{:016x}", fastrand::u64(..)),
            known: watch::Sender::new(Arc::new(waiting)),
            reporter: OnceLock::new(),
            copy,
        })
    }

    pub fn member(&self) -> &str {
        &self.settings.member
    }

    pub fn lease(&self) -> Duration {
        self.settings.lease
    }

    /// Who tells what this decant says of itself; the first call counts.
    pub fn report_by(&self, reporter: Reporter) {
        let _ = self.reporter.set(reporter);
    }

    pub fn known(&self) -> Arc<Known> {
        self.known.borrow().clone()
    }

    pub fn watch(&self) -> watch::Receiver<Arc<Known>> {
        self.known.subscribe()
    }

    pub(super) fn learned(&self, view: View, session: &Session) {
        let before = self.known();
        let silent = view.members.iter().filter(|(_, member)| member.report.is_none());
        let since = silent.filter_map(|(name, _)| {
            let known = before.silent_since.get(name).copied();
            let was_alive = || before.view.members.get(name).is_some_and(|member| member.report.is_some());
            Some((name.clone(), known.or_else(|| was_alive().then(unix_ms))?))
        });
        let silent_since = since.collect();
        let session = Some(session.clone());
        let known = Known { view, trouble: None, silent_since, ousted: false, told: false, session };
        self.known.send_replace(Arc::new(known));
    }

    /// What was known stays, and is not confirmed any more. Whether that is news.
    pub(super) fn lost(&self, trouble: String, ousted: bool) -> bool {
        let before = self.known();
        let news = before.session.is_some() || before.trouble.is_none() || !before.told;
        let ousted = ousted || before.ousted;
        let known = Known { trouble: Some(trouble), ousted, told: true, session: None, ..(*before).clone() };
        self.known.send_replace(Arc::new(known));
        news
    }

    /// Makes a change; whether its conditions held. `change` is given the lease of this decant's session.
    pub async fn commit(&self, change: impl FnOnce(i64) -> Txn) -> Result<bool, Fault> {
        let known = self.known();
        let Some(session) = &known.session else {
            let why = known.trouble.as_deref().unwrap_or("it is not reached");
            return Err(Fault::Refused(format!("no connection to etcd: {why}")));
        };
        session.client.commit(&change(session.lease)).await
    }

    /// Waits until what is known fits; none: not within that time.
    pub async fn until<T>(&self, at_most: Duration, mut fits: impl FnMut(&Known) -> Option<T>) -> Option<T> {
        let mut known = self.watch();
        let seen = async {
            loop {
                let found = fits(&known.borrow_and_update().clone());
                if found.is_some() || known.changed().await.is_err() {
                    return found;
                }
            }
        };
        tokio::time::timeout(at_most, seen).await.ok().flatten()
    }

    /// This decant ends. With `clean` Redis lacks nothing that it wrote, and it leaves the fleet; else it stays in it, silent.
    pub async fn end(&self, clean: bool) -> Result<(), Fault> {
        let known = self.known();
        let Some(session) = &known.session else { return Err(Fault::Refused("no connection to etcd".into())) };
        self.lost("this decant ends".into(), false);
        if clean {
            session.client.commit(&self.keys.leave(self.member(), session.registered)).await?;
        }
        session.client.revoke(session.lease).await
    }

    /// Oldest first, at most [`HISTORY_LINES_MAX`] of the newest. etcd keeps them all.
    pub async fn history(&self) -> Result<Vec<Line>, HistoryFault> {
        let lines = self.reached()?.client.last(self.keys.history(), HISTORY_LINES_MAX).await?;
        Ok(lines.iter().rev().filter_map(|line| serde_json::from_slice(&line.value).ok()).collect())
    }

    pub(super) fn reached(&self) -> Result<Session, HistoryFault> {
        let known = self.known();
        known.session.clone().ok_or_else(|| HistoryFault::Away(known.trouble.clone().unwrap_or_default()))
    }

    /// Blocks on the disk.
    pub fn copy(&self) -> Result<Option<PhaseRecord>, RecordFault> {
        self.copy.load()
    }

    pub async fn keep_copy(&self, record: &PhaseRecord) -> Result<(), RecordFault> {
        let record = record.clone();
        on_disk(&self.copy, move |file| file.store(&record)).await
    }
}
