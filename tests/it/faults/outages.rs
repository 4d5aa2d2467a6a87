//! A tier hangs for long under a steady load: what clients are told meanwhile, how long they wait, and what becomes of it afterwards. The
//! checker judges every answer, as it does in a storm. deploy/outages.sh runs it at full length and holds it to its times.

use super::{
    bench::{Bench, QUIET_WITHIN, Work},
    clients::Client,
    history::{Action, Nanos, Op, Told},
    proxy::Mode,
    report::Report,
    stage::{DECANTS, Make, Stage, Tier},
    storm::Fault,
};
use crate::whole::{intents, wait_until};
use std::{
    ops::Range,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

const KEYS: usize = 1_000;
/// Half of them are only read.
const READ: Range<usize> = 0..KEYS / 2;
/// Before the outage, and again after it.
const AROUND: Duration = Duration::from_secs(3);
/// One request's time, for all its steps.
const BUDGET: Duration = Duration::from_millis(2_500);
/// A write that cannot be done is refused so soon, and done again so soon after its tier is back.
const REFUSED_WITHIN: Duration = Duration::from_millis(500);
const BACK_WITHIN: Duration = Duration::from_secs(1);
/// A client has no need of more.
const STACK: usize = 256 * 1024;

/// How long, and how much of it. Times are held to only where it is for real: `cargo test` shares its processors with other tests.
#[derive(Clone, Copy)]
struct Scale {
    a_second: u64,
    kask: Duration,
    redis: Duration,
    /// As many requests as can wait at once.
    clients: usize,
    /// The default, or, beside other tests, as long as the budget allows.
    redis_timeout: Duration,
    strict: bool,
}

fn scale() -> Scale {
    let seconds = Duration::from_secs;
    let (full, short) = (Duration::from_millis(400), Duration::from_millis(650));
    match std::env::var("DECANT_OUTAGES").is_ok_and(|what| what == "full") {
        true => Scale {
            a_second: 500,
            kask: seconds(60),
            redis: seconds(30),
            clients: 900,
            redis_timeout: full,
            strict: true,
        },
        false => Scale {
            a_second: 80,
            kask: seconds(8),
            redis: seconds(6),
            clients: 200,
            redis_timeout: short,
            strict: false,
        },
    }
}

/// One request, and when it was due: who waits for a free client waits as well.
#[derive(Clone, Copy)]
struct Asked {
    op: Op,
    due: Nanos,
}

impl Asked {
    fn took(&self) -> Duration {
        Duration::from_nanos(self.op.ended.saturating_sub(self.due))
    }

    fn failed(&self) -> bool {
        matches!(self.op.told, Told::Unknown(_) | Told::Corrupt)
    }

    fn writes(&self) -> bool {
        self.op.action != Action::Get
    }
}

/// A steady load: each request has its time, whatever became of those before it.
struct Load<'a> {
    bench: &'a Bench,
    scale: Scale,
    /// Which are asked.
    decants: Range<usize>,
    /// Which keys are written; all are read.
    written: Range<usize>,
    /// `add` looks at both tiers before it is done: without Kask it is refused, and is not what is looked for.
    adds: bool,
    next: AtomicU64,
    deletes: AtomicBool,
    stop: AtomicBool,
}

impl<'a> Load<'a> {
    fn new(bench: &'a Bench, scale: Scale, decants: Range<usize>, written: Range<usize>) -> Load<'a> {
        let (next, deletes, stop) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
        Load { bench, scale, decants, written, adds: true, next, deletes, stop }
    }

    /// While `meanwhile` runs; what was asked, in the order of its times, and when `meanwhile` says that the outage was.
    fn run(&self, meanwhile: impl FnOnce() -> Outage) -> (Vec<Asked>, Outage) {
        let began = self.bench.stage.now();
        thread::scope(|scope| {
            let over = super::bench::Over(&self.stop);
            let spawn = |name| {
                let builder = thread::Builder::new().stack_size(STACK);
                builder.spawn_scoped(scope, move || self.client(name, began)).unwrap()
            };
            let clients: Vec<_> = (0..self.scale.clients).map(spawn).collect();
            let outage = meanwhile();
            drop(over);
            let mut asked: Vec<Asked> = clients.into_iter().flat_map(super::bench::join).collect();
            asked.sort_by_key(|asked| asked.due);
            (asked, outage)
        })
    }

    fn client(&self, name: usize, began: Nanos) -> Vec<Asked> {
        let stage = &self.bench.stage;
        let mut client = Client::new(stage, name);
        let mut asked = Vec::new();
        loop {
            let due = began + self.next.fetch_add(1, Ordering::Relaxed) * 1_000_000_000 / self.scale.a_second;
            thread::sleep(Duration::from_nanos(due.saturating_sub(stage.now())));
            if self.stop.load(Ordering::Relaxed) {
                return asked;
            }
            let (key, action) = self.draw();
            let (op, _) = client.ask(fastrand::usize(self.decants.clone()), key, action);
            asked.push(Asked { op, due });
        }
    }

    fn draw(&self) -> (usize, Action) {
        let write = |action| (fastrand::usize(self.written.clone()), action);
        let number = || self.bench.numbers.next();
        match fastrand::u8(..100) {
            0..60 => (fastrand::usize(..KEYS), Action::Get),
            // What was deleted long ago is known to nobody: an outage of Kask must be told, and is not what is looked for.
            60..70 if self.deletes.load(Ordering::Relaxed) => write(Action::Delete),
            70..75 if self.adds => write(Action::Add(number())),
            _ => write(Action::Set(number())),
        }
    }
}

/// When a tier was away, and what became of it then.
#[derive(Clone, Copy)]
struct Outage {
    from: Nanos,
    to: Nanos,
    /// What was left to be copied when the load ended.
    left: u64,
}

fn make(phase: &'static str, scale: Scale) -> Make<'static> {
    // As configured by default, but the lease: what is healed is waited for.
    let (kask_timeout, redis_timeout) = (Duration::from_millis(1_200), scale.redis_timeout);
    Make {
        decant: Path::new(super::DECANT),
        phase,
        lease: Duration::from_secs(5),
        kask_timeout,
        redis_timeout,
        fleet: false,
    }
}

/// One outage in the midst of a load, judged.
struct Trial {
    asked: Vec<Asked>,
    outage: Outage,
    /// From the end of the load until nothing was left to be copied.
    drained_in: Duration,
    violations: Vec<String>,
    operations: u64,
}

fn trial(
    phase: &'static str,
    scale: Scale,
    decants: Range<usize>,
    written: Range<usize>,
    adds: bool,
    outage: impl FnOnce(&Stage) -> Outage,
) -> Trial {
    let mut bench = Bench::of(make(phase, scale), KEYS, QUIET_WITHIN);
    let (mut report, mut result) = (Report::default(), None);
    bench.round(&mut report, |bench| {
        let stage = &bench.stage;
        let mut ops = seeded(bench);
        let load = Load { adds, ..Load::new(bench, scale, decants, written) };
        let (asked, mut outage) = load.run(|| {
            thread::sleep(AROUND);
            load.deletes.store(true, Ordering::Relaxed);
            let outage = outage(stage);
            thread::sleep(AROUND);
            outage
        });
        outage.left = outage.left.max(intents(&stage.redis()));
        let began = Instant::now();
        let clean = || stage.view(0).is_some_and(|view| view["alone"]["since"].is_null());
        while (intents(&stage.redis()) > 0 || !clean()) && began.elapsed() < QUIET_WITHIN {
            thread::sleep(Duration::from_millis(50));
        }
        let drained_in = began.elapsed();
        ops.extend(asked.iter().map(|asked| asked.op));
        let fault = Fault { from: outage.from, to: outage.to, kind: "outage".into(), whom: phase.into() };
        result = Some((asked, outage, drained_in));
        Work { ops, faults: vec![fault], ..Work::default() }
    });
    let (asked, outage, drained_in) = result.unwrap();
    let violations = report.violations.into_iter().map(|found| found.text).collect();
    Trial { asked, outage, drained_in, violations, operations: report.operations }
}

/// Every key is on both tiers, and nothing is under way.
fn seeded(bench: &Bench) -> Vec<Op> {
    const AT_ONCE: usize = 8;
    let ops = thread::scope(|scope| {
        let work = |of: usize| {
            let mut client = Client::new(&bench.stage, 10_000 + of);
            let keys = (of..KEYS).step_by(AT_ONCE);
            keys.map(|key| client.ask(0, key, Action::Set(bench.numbers.next())).0).collect::<Vec<Op>>()
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|of| scope.spawn(move || work(of))).collect();
        workers.into_iter().flat_map(super::bench::join).collect::<Vec<Op>>()
    });
    assert!(ops.iter().all(|op| op.told == Told::Done), "a key could not be set before the outage");
    wait_until("every key is on both tiers", || intents(&bench.stage.redis()) == 0);
    wait_until("no decant knows of pending keys", || {
        (0..DECANTS).all(|decant| bench.stage.view(decant).is_some_and(|view| view["in_flight"] == 0))
    });
    ops
}

impl Trial {
    fn during(&self) -> impl Iterator<Item = &Asked> {
        let Outage { from, to, .. } = self.outage;
        self.asked.iter().filter(move |asked| asked.op.ended >= from && asked.op.began <= to)
    }

    fn failures<'a>(&self, of: impl Iterator<Item = &'a Asked>) -> Vec<String> {
        let begun = |op: &Op| (op.began as f64 - self.outage.from as f64) / 1e9;
        let failed = of.filter(|asked| asked.failed());
        failed
            .map(|Asked { op, .. }| format!("{:+.3} s {:?} of {}: {:?}", begun(op), op.action, op.key, op.told))
            .collect()
    }

    fn assert_right(&self) {
        assert!(
            self.violations.is_empty(),
            "{}",
            self.violations.iter().take(3).cloned().collect::<Vec<_>>().join("\n\n")
        );
        assert!(self.drained_in < QUIET_WITHIN, "not drained: {} intents at first", self.outage.left);
    }

    fn tell(&self, what: &str, scale: Scale, more: &str) {
        let length = Duration::from_nanos(self.outage.to - self.outage.from);
        println!(
            "{what}, for {:.1} s at {} operations a second: {} operations; {more}; {} intents left, drained in {:.1} s; {} violations",
            length.as_secs_f64(),
            scale.a_second,
            self.operations,
            self.outage.left,
            self.drained_in.as_secs_f64(),
            self.violations.len(),
        );
    }
}

/// Of so many per thousand no one took longer.
fn within(times: &mut [Duration], per_mille: usize) -> Duration {
    times.sort_unstable();
    times.get((times.len() * per_mille / 1000).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn latencies(of: impl Iterator<Item = Asked>) -> (String, Duration, Duration) {
    let mut times: Vec<Duration> = of.map(|asked| asked.took()).collect();
    let [half, most, all] = [500, 990, 1000].map(|per_mille| within(&mut times, per_mille));
    (format!("p50 {} ms, p99 {} ms, longest {} ms", half.as_millis(), most.as_millis(), all.as_millis()), most, all)
}

#[test]
fn kask_in_a_black_hole() {
    let scale = scale();
    let trial = trial("kask-first", scale, 0..DECANTS, 0..KEYS, false, |stage| {
        let all = |mode| (0..DECANTS).for_each(|decant| stage.proxy(decant, Tier::Kask).set(mode, 100, 0));
        let from = stage.now();
        all(Mode::BlackHole);
        thread::sleep(scale.kask);
        let left = intents(&stage.redis());
        all(Mode::Pass);
        Outage { from, to: stage.now(), left }
    });
    let failures = trial.failures(trial.asked.iter());
    let (told, p99, _) = latencies(trial.during().copied());
    trial.tell("Kask in a black hole, kask-first", scale, &format!("{} client errors; {told}", failures.len()));
    trial.assert_right();
    assert!(failures.is_empty(), "{} client errors: {:#?}", failures.len(), &failures[..failures.len().min(10)]);
    assert!(trial.outage.left > 0, "Kask has got everything: it was not away");
    assert!(!scale.strict || p99 <= BUDGET, "p99 {p99:?} is over the budget, {BUDGET:?}");
}

fn redis_hangs(stage: &Stage, length: Duration) -> Outage {
    let from = stage.now();
    stage.redis().sigstop();
    thread::sleep(length);
    let to = stage.now();
    stage.redis().sigcont();
    Outage { from, to, left: 0 }
}

#[test]
fn redis_hangs_in_kask_first() {
    let scale = scale();
    let trial = trial("kask-first", scale, 0..DECANTS, READ.end..KEYS, true, |stage| redis_hangs(stage, scale.redis));
    let hits = || trial.during().filter(|asked| READ.contains(&asked.op.key));
    let unanswered = trial.failures(hits());
    let (from, to) = (trial.outage.from, trial.outage.to);
    let refused = || trial.asked.iter().filter(move |asked| asked.writes() && asked.failed());
    let (told, _, longest) = latencies(refused().copied());
    let back = refused().map(|asked| asked.op.ended.saturating_sub(to)).max().unwrap_or(0);
    let back = Duration::from_nanos(back);
    let more = format!(
        "{} hits, {} of them not answered; {} sets and deletes refused ({told}); done again {} ms after its return",
        hits().count(),
        unanswered.len(),
        refused().count(),
        back.as_millis()
    );
    trial.tell("Redis stopped, kask-first", scale, &more);
    trial.assert_right();
    assert!(
        unanswered.is_empty(),
        "{} hits not answered: {:#?}",
        unanswered.len(),
        &unanswered[..unanswered.len().min(10)]
    );
    assert!(refused().count() > 0, "Redis was not away");
    let odd: Vec<_> = refused().filter(|asked| asked.op.told != Told::Unknown(503)).map(|asked| asked.op).collect();
    assert!(odd.is_empty(), "{:?}", odd.first());
    let early = trial.asked.iter().find(|asked| asked.failed() && asked.op.ended < from);
    assert!(early.is_none(), "refused before anything was wrong: {:?}", early.map(|asked| asked.op));
    assert!(!scale.strict || longest <= REFUSED_WITHIN, "a write was refused after {longest:?}");
    assert!(!scale.strict || back <= BACK_WITHIN, "writes are done again {back:?} after Redis is back");
}

#[test]
fn redis_hangs_in_redis_standby() {
    let scale = scale();
    // The one that the fence names: others cannot go on alone.
    let trial = trial("redis-standby", scale, 0..1, 0..KEYS, true, |stage| redis_hangs(stage, scale.redis));
    let failures = trial.failures(trial.asked.iter());
    let (told, p99, _) = latencies(trial.during().copied());
    trial.tell("Redis stopped, redis-standby", scale, &format!("{} client errors; {told}", failures.len()));
    trial.assert_right();
    assert!(failures.is_empty(), "{} client errors: {:#?}", failures.len(), &failures[..failures.len().min(10)]);
    assert!(!scale.strict || p99 <= BUDGET, "p99 {p99:?} is over the budget, {BUDGET:?}");
}
