//! One Redis (a shard): one multiplexed connection, kept up in the background, and calls with exact outcomes.
//!
//! A call never waits past its deadline, and is never sent twice, except a script that Redis said it does not know. While no
//! connection is up calls are turned away at once, apart from those that find the very first attempt, or the one after a
//! connection that had lived well, under way: they wait for it within their deadline. A Redis that takes connections and says nothing
//! would cost each call its whole deadline; there a breaker turns them away as soon as a few have waited in vain.
mod dial;
mod greeter;
pub mod info;
mod life;
mod link;
mod reply;
mod script;
mod sentinel;
mod target;
mod tls;
mod url;
pub mod value;

use super::breaker::{Asker, LiveBreaker, Outcome, Rules, Standing};
use super::metrics::OpMetrics;
pub use greeter::{Greeter, Greeting, Newcomer};
use link::{Link, State};
use redis::{Cmd, Pipeline, RedisError, Value};
use reply::Reply;
pub use script::Script;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::{borrow::Cow, fmt, future::Future, time::Duration};
pub use target::{Target, TargetFault};
pub use tls::TlsFault;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
pub use url::{RedisUrl, RedisUrlFault};

/// Calls under way on one shard at once; one more is turned away.
pub const IN_FLIGHT_MAX: usize = 1024;
/// So much of a server's error text is kept, in characters.
const DETAIL_CHARS_MAX: usize = 200;
/// One thread answers all keys, in order: whoever waits in vain waits for what all wait for. A healthy Redis's longest pauses are shorter
/// than this silence, and a probe comes with every look at the outbox.
const AWAY: Rules =
    Rules { subjects: 3, subjects_if_mixed: 3, silence: Duration::from_millis(300), wait: Duration::from_millis(100) };
/// Why a connection was given up.
const REPLICA: &str = "it is a replica now, and takes no writes";
/// The metric labels of [`RedisFailure`], and of success.
const OUTCOMES: [&str; 5] = ["ok", "refused", "timeout", "away", "lost"];

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisFailure {
    /// Surely not sent: there is no connection, too many calls are under way, or the deadline had passed.
    #[error("Redis was not asked: {detail}")]
    Away { detail: String },
    /// Sent, and not answered before the deadline: it may have been done, or may be done later.
    #[error("Redis did not answer in time")]
    Timeout,
    /// The connection broke under the call: it may have been done.
    #[error("the connection to Redis broke: {detail}")]
    Lost { detail: String },
    /// Redis answered with an error. A single command was not done; nor was a script all of whose checks come before its first write.
    /// `code` is the error's first word: OOM, WRONGTYPE, READONLY, LOADING, ERR, …
    #[error("Redis refused: {code} {detail}")]
    Refused { code: String, detail: String },
}

impl RedisFailure {
    /// Of an error that stands in a pipeline in place of a reply.
    pub fn refused(error: &redis::ServerError) -> RedisFailure {
        refused(Some(error.code()), error.details())
    }
}

/// A script's reply, and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub value: Value,
    /// Of the connection, as its greeter called it; empty where nobody greets.
    pub name: Arc<str>,
}

/// One Redis of a stash.
pub struct Shard {
    /// The name in the config.
    pub name: String,
    target: Target,
    stash: String,
    state: Arc<watch::Sender<State>>,
    greeter: OnceLock<Arc<dyn Greeter>>,
    /// Ends the keeper of the connection; `None` while closed.
    keeper: Mutex<Option<CancellationToken>>,
    places: Semaphore,
    breaker: Arc<LiveBreaker>,
    /// Tells calls apart, for the breaker.
    calls: AtomicU64,
    /// Made when a script is first called; a stash has about a dozen, and scripts are static, so this does not grow.
    scripts: arc_swap::ArcSwap<Vec<(&'static str, Arc<OpMetrics>)>>,
    command: OpMetrics,
    pipeline: OpMetrics,
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("name", &self.name).field("target", &self.target).finish_non_exhaustive()
    }
}

impl Shard {
    /// A shard without a connection: call [`Shard::open`]. `stash` is a metric label.
    pub fn new(name: &str, target: impl Into<Target>, stash: &str) -> Shard {
        let of = |op| OpMetrics::new(stash, "redis", op, &OUTCOMES);
        Shard {
            name: name.to_owned(),
            target: target.into(),
            stash: stash.to_owned(),
            state: Arc::new(watch::Sender::new(State::Closed)),
            greeter: OnceLock::new(),
            keeper: Mutex::default(),
            places: Semaphore::new(IN_FLIGHT_MAX),
            breaker: Arc::new(LiveBreaker::new(AWAY, stash, Some(name))),
            calls: AtomicU64::new(0),
            scripts: arc_swap::ArcSwap::default(),
            command: of("command"),
            pipeline: of("pipeline"),
        }
    }

    /// Every connection made from now on is greeted by it first. One shard, one greeter: a second is not taken.
    pub fn greet_with(&self, greeter: Arc<dyn Greeter>) {
        let _ = self.greeter.set(greeter);
    }

    /// Starts connecting in the background, on the current Tokio runtime; nothing happens if it is open already.
    pub fn open(&self) {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if keeper.is_none() {
            let closed = CancellationToken::new();
            self.state.send_replace(State::Connecting);
            let (name, target, greeter) = (self.name.clone(), self.target.clone(), self.greeter.get().cloned());
            let (state, breaker) = (self.state.clone(), self.breaker.clone());
            tokio::spawn(link::keep(name, target, greeter, state, breaker, closed.clone()));
            *keeper = Some(closed);
        }
    }

    /// Ends the connection of this name, under which calls under way end as [`RedisFailure::Lost`], so that another is made and greeted.
    pub fn renew(&self, name: &str) {
        if let Some(link) = self.state.borrow().live().filter(|link| *link.name == *name) {
            link.renew();
        }
    }

    /// Drops the connection, under which calls under way end as [`RedisFailure::Lost`], and stops reconnecting.
    pub fn close(&self) {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(closed) = keeper.take() {
            closed.cancel();
            self.state.send_replace(State::Closed);
        }
    }

    /// Whether there is a connection that answered when it was made and has not been found dead since.
    pub fn is_up(&self) -> bool {
        self.state.borrow().live().is_some()
    }

    /// Whether there is a connection, and Redis does not count as away.
    pub fn answers(&self) -> bool {
        self.is_up() && self.breaker.standing() == Standing::Closed
    }

    /// Whether Redis counts as away.
    pub fn breaker(&self) -> &LiveBreaker {
        &self.breaker
    }

    /// Why there is no connection; `None` while there is one. For people.
    pub fn why_down(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Up(_) => None,
            State::Closed => Some("closed".into()),
            State::Connecting => Some("connecting".into()),
            State::Down(why) => Some(why.to_string()),
        }
    }

    /// Waits until the connection is up, or the deadline. Returns whether it is up.
    pub async fn wait_up(&self, deadline: Instant) -> bool {
        self.wait(deadline, |state| state.live().is_some()).await
    }

    /// Waits until the connection is not up, or the deadline. Returns whether it is down.
    pub async fn wait_down(&self, deadline: Instant) -> bool {
        self.wait(deadline, |state| state.live().is_none()).await
    }

    async fn wait(&self, deadline: Instant, until: impl FnMut(&State) -> bool) -> bool {
        let mut state = self.state.subscribe();
        timeout_at(deadline, state.wait_for(until)).await.is_ok_and(|seen| seen.is_ok())
    }

    /// Where it is, without credentials; of a primary that Sentinels name, also where that was found.
    pub fn address(&self) -> String {
        let address = self.target.address();
        match self.state.borrow().live() {
            Some(link) if self.target.is_by_sentinels() => format!("{address} at {}", link.socket),
            _ => address,
        }
    }

    /// The number of the database.
    pub fn db(&self) -> i64 {
        self.target.hello.db()
    }

    /// One command, and its reply; an error reply is [`RedisFailure::Refused`].
    pub async fn command(&self, cmd: Cmd, deadline: Instant) -> Result<Value, RedisFailure> {
        let begun = Instant::now();
        let result = self.send(Asker::Reluctant, deadline, |_| Cow::Borrowed(&cmd)).await.map(|told| told.value);
        self.command.record(outcome(&result), begun.elapsed());
        result
    }

    /// Several commands in one go, and one reply for each. An error reply stands in its place as [`Value::ServerError`]: the others
    /// were done all the same. Of a transaction (`Pipeline::atomic`) the replies are those that the redis crate keeps.
    pub async fn pipeline(&self, cmds: Pipeline, deadline: Instant) -> Result<Vec<Value>, RedisFailure> {
        if cmds.is_empty() {
            return Ok(Vec::new());
        }
        let begun = Instant::now();
        let (offset, count) = if cmds.is_transaction() { (cmds.len() + 1, 1) } else { (0, cmds.len()) };
        let result = self
            .call(Asker::Reluctant, deadline, async |link| {
                link.connection.clone().send_packed_commands(&cmds, offset, count).await
            })
            .await;
        self.pipeline.record(outcome(&result), begun.elapsed());
        result
    }

    /// A script by its SHA. Where Redis does not know it, it surely did not run: then it is loaded and called once more.
    /// Its last argument, after `args`, is the name of its connection. The reply may hold several; see [`value`].
    pub async fn script(
        &self,
        script: &'static Script,
        keys: &[&[u8]],
        args: &[&[u8]],
        deadline: Instant,
    ) -> Result<Told, RedisFailure> {
        self.script_as(Asker::Reluctant, script, keys, args, deadline).await
    }

    /// As [`Shard::script`], for who can afford to find out that Redis is still away.
    pub async fn script_as(
        &self,
        asker: Asker,
        script: &'static Script,
        keys: &[&[u8]],
        args: &[&[u8]],
        deadline: Instant,
    ) -> Result<Told, RedisFailure> {
        let begun = Instant::now();
        // Boxed: the future is large, and every read holds a place for it, though most never come here.
        let result = Box::pin(self.evalsha(asker, script, keys, args, deadline)).await;
        self.metrics_of(script.name).record(outcome(&result), begun.elapsed());
        result
    }

    /// A script for several keys in one go, and one result for each call, given as KEYS and ARGV. As with [`Shard::script`]
    /// only those that surely did not run are sent once more.
    pub async fn script_many<K: AsRef<[u8]>, const N: usize>(
        &self,
        script: &'static Script,
        calls: Vec<([K; N], Vec<Vec<u8>>)>,
        deadline: Instant,
    ) -> Result<Vec<Result<Told, RedisFailure>>, RedisFailure> {
        // An empty pipeline would end the connection.
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let all: Vec<usize> = (0..calls.len()).collect();
        let mut answers = self.send_many(script, &calls, &all, deadline).await?;
        let unknown = |answer: &Result<Told, RedisFailure>| matches!(answer, Err(RedisFailure::Refused { code, .. }) if code == "NOSCRIPT");
        let again: Vec<usize> = (0..answers.len()).filter(|i| unknown(&answers[*i])).collect();
        if again.is_empty() {
            return Ok(answers);
        }
        let late = match self.load(Asker::Reluctant, script, deadline).await {
            Ok(()) => self.send_many(script, &calls, &again, deadline).await,
            Err(failure) => Err(failure),
        };
        let late = late.unwrap_or_else(|failure| vec![Err(failure); again.len()]);
        for (i, answer) in again.into_iter().zip(late) {
            answers[i] = answer;
        }
        Ok(answers)
    }

    /// Those of `calls` that `which` names.
    async fn send_many<K: AsRef<[u8]>, const N: usize>(
        &self,
        script: &'static Script,
        calls: &[([K; N], Vec<Vec<u8>>)],
        which: &[usize],
        deadline: Instant,
    ) -> Result<Vec<Result<Told, RedisFailure>>, RedisFailure> {
        let begun = Instant::now();
        let result = self.call(Asker::Reluctant, deadline, async |link| {
            let mut asked = Pipeline::with_capacity(which.len());
            for (keys, args) in which.iter().map(|i| &calls[*i]) {
                let (keys, args) = (keys.each_ref().map(AsRef::as_ref), args.iter().map(Vec::as_slice));
                asked.add_command(script.call(&keys, &args.collect::<Vec<_>>(), &link.name));
            }
            let answers = link.connection.clone().send_packed_commands(&asked, 0, which.len()).await?;
            let told = |value| done(value).map(|value| Told { value, name: link.name.clone() });
            Ok(answers.into_iter().map(told).collect())
        });
        let result = result.await;
        self.pipeline.record(outcome(&result), begun.elapsed());
        result
    }

    async fn evalsha(
        &self,
        asker: Asker,
        script: &Script,
        keys: &[&[u8]],
        args: &[&[u8]],
        deadline: Instant,
    ) -> Result<Told, RedisFailure> {
        // Each time by the name of the connection that is there then.
        let call = |name: &str| Cow::Owned(script.call(keys, args, name));
        match self.send(asker, deadline, call).await {
            Err(RedisFailure::Refused { code, .. }) if code == "NOSCRIPT" => {}
            result => return result,
        }
        self.load(asker, script, deadline).await?;
        self.send(asker, deadline, call).await
    }

    /// Makes a script known. Whatever becomes of this, the script itself was not sent.
    async fn load(&self, asker: Asker, script: &Script, deadline: Instant) -> Result<(), RedisFailure> {
        match self.send(asker, deadline, |_| Cow::Owned(script.load())).await {
            Ok(_) => Ok(()),
            Err(refused @ RedisFailure::Refused { .. }) => Err(refused),
            Err(failure) => Err(RedisFailure::Away { detail: format!("the script could not be loaded: {failure}") }),
        }
    }

    /// `cmd` is made from the name of the connection that it goes out on.
    async fn send<'c>(
        &self,
        asker: Asker,
        deadline: Instant,
        cmd: impl Fn(&str) -> Cow<'c, Cmd>,
    ) -> Result<Told, RedisFailure> {
        let sent = self.call(asker, deadline, async |link| {
            let value = link.connection.clone().send_packed_command(&cmd(&link.name)).await?;
            Ok(Told { value, name: link.name.clone() })
        });
        match sent.await? {
            Told { value: Value::ServerError(error), .. } => Err(RedisFailure::refused(&error)),
            told => Ok(told),
        }
    }

    /// The bounds and the outcomes that all calls share.
    async fn call<T, F>(
        &self,
        asker: Asker,
        deadline: Instant,
        send: impl FnOnce(Arc<Link>) -> F,
    ) -> Result<T, RedisFailure>
    where
        T: Reply,
        F: Future<Output = Result<T, RedisError>>,
    {
        let away = |detail: &str| RedisFailure::Away { detail: detail.to_owned() };
        let _place = self.places.try_acquire().map_err(|_| away("too many calls are under way"))?;
        let Some(pass) = self.breaker.ask(self.calls.fetch_add(1, Ordering::Relaxed), asker) else {
            return Err(away(&self.why_down().unwrap_or_else(|| "it does not answer".to_owned())));
        };
        let link = match self.link(deadline).await {
            Ok(link) => link,
            Err(failure) => {
                let retired = matches!(*self.state.borrow(), State::Closed);
                pass.tell(if retired { Outcome::Nothing } else { Outcome::Failed });
                return Err(failure);
            }
        };
        if Instant::now() >= deadline {
            return Err(away("the deadline had passed"));
        }
        let waiting = link.waiting();
        let ended = match timeout_at(deadline, send(link.clone())).await {
            Ok(Ok(value)) => {
                waiting.answered();
                if value.refuses_as_replica() {
                    link.give_up(REPLICA);
                }
                Ok(value)
            }
            // The crate gives error replies as values, except for a transaction that Redis refused.
            Ok(Err(error)) if error.code().is_some() => {
                waiting.answered();
                Err(refused(error.code(), error.detail()))
            }
            // This is about the connection, or about bytes that are no reply. The crate does not tell a call that was never
            // written from one that was.
            Ok(Err(error)) => Err(RedisFailure::Lost { detail: error.category().to_owned() }),
            Err(_) => Err(RedisFailure::Timeout),
        };
        let answered = matches!(ended, Ok(_) | Err(RedisFailure::Refused { .. }));
        pass.tell(if answered { Outcome::Answered } else { Outcome::Failed });
        ended
    }

    async fn link(&self, deadline: Instant) -> Result<Arc<Link>, RedisFailure> {
        let away = |detail: &str| RedisFailure::Away { detail: detail.to_owned() };
        if let Some(link) = self.state.borrow().live() {
            return Ok(link.clone());
        }
        let mut state = self.state.subscribe();
        let is_settled = |state: &State| match state {
            State::Connecting => false,
            State::Up(_) => state.live().is_some(),
            State::Down(_) | State::Closed => true,
        };
        let settled = timeout_at(deadline, state.wait_for(is_settled)).await;
        match settled {
            Err(_) => Err(away("still connecting at the deadline")),
            Ok(Err(_)) => Err(away("closed")), // cannot be: the sender lives as long as the shard
            Ok(Ok(state)) => match &*state {
                State::Up(link) => Ok(link.clone()),
                State::Down(why) => Err(away(why)),
                State::Closed | State::Connecting => Err(away("closed")),
            },
        }
    }

    fn metrics_of(&self, op: &'static str) -> Arc<OpMetrics> {
        let known = |list: &[(&'static str, Arc<OpMetrics>)]| {
            list.iter().find(|(name, _)| *name == op).map(|(_, metrics)| metrics.clone())
        };
        if let Some(metrics) = known(&self.scripts.load()) {
            return metrics;
        }
        let made = Arc::new(OpMetrics::new(&self.stash, "redis", op, &OUTCOMES));
        self.scripts.rcu(|list| {
            let mut longer = Vec::clone(list);
            if known(list).is_none() {
                longer.push((op, made.clone()));
            }
            longer
        });
        made
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.close();
    }
}

fn refused(code: Option<&str>, detail: Option<&str>) -> RedisFailure {
    let bounded = |text: Option<&str>| text.unwrap_or_default().chars().take(DETAIL_CHARS_MAX).collect();
    RedisFailure::Refused { code: bounded(code), detail: bounded(detail) }
}

/// An error in a pipeline stands in its answer's place.
fn done(value: Value) -> Result<Value, RedisFailure> {
    match value {
        Value::ServerError(error) => Err(RedisFailure::refused(&error)),
        value => Ok(value),
    }
}

fn outcome<T>(result: &Result<T, RedisFailure>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(RedisFailure::Refused { .. }) => "refused",
        Err(RedisFailure::Timeout) => "timeout",
        Err(RedisFailure::Away { .. }) => "away",
        Err(RedisFailure::Lost { .. }) => "lost",
    }
}
