//! Being a member: registers, watches the record, says again and again that it is alive, and begins anew when any of that fails.

use super::{
    shared::{Session, Shared},
    steps::MEMBERS_MAX,
    unix_ms,
    view::{Entries, Registration, Report, View},
};
use crate::etcd::{Client, Fault, Watch};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How often a member says what it does, and how often where nothing has changed. Seldom: etcd keeps what was said before until it is
/// compacted.
const REPORT_EVERY: Duration = Duration::from_secs(10);
const REPEAT_EVERY: Duration = Duration::from_secs(60);
/// How often it looks whether it has something to say that others wait for.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A registration is seen at once, or etcd does not answer.
const SEEN_WITHIN: Duration = Duration::from_secs(3);
/// Before the next endpoint is tried; doubled with each failure.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(2);

/// Why a session ended, or never began.
#[derive(Debug, thiserror::Error)]
pub enum SessionFault {
    #[error(transparent)]
    Etcd(#[from] Fault),
    #[error("its lease ran out")]
    LeaseOver,
    #[error("this decant was declared gone, and belongs to the fleet anew")]
    Forgotten,
    #[error("the registration was overtaken by another change; it is tried again")]
    Overtaken,
    #[error("a move is being made: this decant joins the fleet after it")]
    Moving,
    #[error("{name} is at work in another process with a copy of this state_dir; give each decant its own")]
    Twin { name: String },
    #[error("the fleet has {MEMBERS_MAX} decants, and no room for another; decant fleet show lists them")]
    Full,
}

impl Shared {
    /// Until stopped.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let (mut nth, mut pause) = (0, AGAIN_AFTER);
        // Another process of this very state_dir: it is waited for.
        let mut twin: Option<String> = None;
        while !stop.is_cancelled() {
            let endpoint = self.settings.endpoints[nth % self.settings.endpoints.len()].clone();
            let begun = Instant::now();
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = self.session(&endpoint, &mut twin) => ended,
            };
            let Err(fault) = ended;
            self.ended(&endpoint, &fault);
            if begun.elapsed() > AGAIN_AFTER_MAX {
                (pause, nth) = (AGAIN_AFTER, nth + 1);
            } else {
                (pause, nth) = ((pause * 2).min(AGAIN_AFTER_MAX), nth + 1);
            }
            tokio::select! { () = stop.cancelled() => return, () = sleep(pause) => {} }
        }
    }

    /// Told once: when the session that was is over, or the first could not begin.
    fn ended(&self, endpoint: &str, fault: &SessionFault) {
        let why = format!("{endpoint}: {fault}");
        let ousted = matches!(fault, SessionFault::Forgotten | SessionFault::Twin { .. });
        if self.lost(why.clone(), ousted) {
            tracing::warn!(
                member = self.member(),
                why,
                "the record in etcd is not confirmed any more: this decant serves in the phase that it has, and tries again"
            );
        }
    }

    async fn session(
        &self,
        endpoint: &str,
        twin: &mut Option<String>,
    ) -> Result<std::convert::Infallible, SessionFault> {
        let client = Client::connect(endpoint, &self.settings.client).await?;
        let lease = client.grant(self.settings.lease.as_secs()).await?;
        let snapshot = client.range(self.keys.root()).await?;
        let mut entries = Entries::new(snapshot.entries);
        let view = entries.view(&self.keys);
        self.may_register(&view, twin.as_deref())?;
        let registration = self.registration(&view);
        let member = view.members.get(self.member());
        let txn = self.keys.register(self.member(), member, &registration, &self.says(), lease);
        if !client.commit(&txn).await? {
            return Err(SessionFault::Overtaken);
        }
        let watch = client.watch(self.keys.root(), snapshot.revision + 1).await?;
        // Known only once the registration is seen: a proposal that was made before it is seen then as well.
        let mut session = Session { client, lease, registered: 0 };
        let seen = timeout(SEEN_WITHIN, self.seen_registered(watch, &mut entries, &mut session)).await;
        let watch = seen.map_err(|_| Fault::Unanswered("the registration is not seen".into()))??;
        tracing::info!(
            member = self.member(),
            endpoint,
            "the record is watched, and this decant is a member of the fleet"
        );
        tokio::select! {
            ended = self.follow(watch, entries, &session, twin) => ended,
            ended = self.pulse(&session) => ended,
        }
    }

    fn may_register(&self, view: &View, twin: Option<&str>) -> Result<(), SessionFault> {
        let name = || self.member().to_owned();
        let Some(member) = view.members.get(self.member()) else {
            return match &view.proposal {
                _ if view.members.len() >= MEMBERS_MAX => Err(SessionFault::Full),
                Some(_) => Err(SessionFault::Moving),
                None => Ok(()),
            };
        };
        match &member.report {
            // Of this state_dir, which this process holds alone: it is what was here before, unless the folder was copied.
            Some(report) if twin == Some(report.is.process.as_str()) => Err(SessionFault::Twin { name: name() }),
            _ => Ok(()),
        }
    }

    fn registration(&self, view: &View) -> Registration {
        let before = view.members.get(self.member()).map(|member| member.registration.is.clone());
        let new = Registration { since_unix_ms: unix_ms(), ..Registration::default() };
        Registration { decant: env!("CARGO_PKG_VERSION").to_owned(), ..before.unwrap_or(new) }
    }

    /// What this decant says of itself now.
    pub fn says(&self) -> Report {
        let report = self.reporter.get().map(|reporter| reporter()).unwrap_or_default();
        Report { process: self.process.clone(), at_unix_ms: unix_ms(), ..report }
    }

    async fn seen_registered(
        &self,
        mut watch: Watch,
        entries: &mut Entries,
        session: &mut Session,
    ) -> Result<Watch, SessionFault> {
        loop {
            entries.apply(watch.next().await?);
            let view = entries.view(&self.keys);
            let Some(member) = view.members.get(self.member()) else { continue };
            if member.report.as_ref().is_some_and(|report| report.is.process == self.process) {
                session.registered = member.registration.created;
                self.learned(view, session);
                return Ok(watch);
            }
        }
    }

    /// Keeps what is known up to date.
    async fn follow(
        &self,
        mut watch: Watch,
        mut entries: Entries,
        session: &Session,
        twin: &mut Option<String>,
    ) -> Result<std::convert::Infallible, SessionFault> {
        loop {
            let events = watch.next().await?;
            if events.is_empty() {
                continue;
            }
            entries.apply(events);
            let view = entries.view(&self.keys);
            let Some(me) = view.members.get(self.member()) else { return Err(SessionFault::Forgotten) };
            match &me.report {
                None => return Err(SessionFault::LeaseOver),
                Some(report) if report.is.process != self.process => {
                    *twin = Some(report.is.process.clone());
                    return Err(SessionFault::Twin { name: self.member().to_owned() });
                }
                Some(_) => *twin = None,
            }
            self.learned(view, session);
        }
    }

    /// Keeps the lease, and says what this decant does: what others wait for at once, figures now and then.
    async fn pulse(&self, session: &Session) -> Result<std::convert::Infallible, SessionFault> {
        let keep_every = self.settings.lease / 3;
        let (mut kept, mut said, mut last) = (Instant::now(), Instant::now(), self.says());
        loop {
            sleep(LOOK_EVERY.min(keep_every)).await;
            if kept.elapsed() >= keep_every {
                if !session.client.keep_alive(session.lease).await? {
                    return Err(SessionFault::LeaseOver);
                }
                kept = Instant::now();
            }
            let report = self.says();
            let said_before = Report { at_unix_ms: report.at_unix_ms, ..last.clone() };
            let pause = match report == said_before {
                true => REPEAT_EVERY,
                false if report.differs_in_word(&last) => Duration::ZERO,
                false => REPORT_EVERY,
            };
            if said.elapsed() < pause {
                continue;
            }
            (said, last) = (Instant::now(), report.clone());
            let txn = self.keys.report(self.member(), session.registered, &report, session.lease);
            if !session.client.commit(&txn).await? {
                return Err(SessionFault::Forgotten);
            }
        }
    }
}
