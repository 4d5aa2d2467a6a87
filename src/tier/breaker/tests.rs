use super::*;

const RULES: Rules = Rules {
    subjects: 5,
    subjects_if_mixed: 12,
    silence: Duration::from_millis(1_000),
    wait: Duration::from_millis(500),
};

/// A breaker and its clock, in milliseconds.
struct Bench {
    breaker: Breaker,
    zero: Instant,
}

impl Bench {
    fn new() -> Bench {
        Bench { breaker: Breaker::new(RULES), zero: Instant::now() }
    }

    fn at(&self, ms: u64) -> Instant {
        self.zero + Duration::from_millis(ms)
    }

    /// Asked and heard, the breaker being closed.
    fn ends(&mut self, subject: u64, asked: u64, ended: u64, outcome: Outcome) -> Change {
        let leave = Leave { subject, asked: self.at(asked), probe: false };
        self.breaker.heard(leave, outcome, self.at(ended))
    }

    fn fails(&mut self, subject: u64, asked: u64, ended: u64) -> Change {
        self.ends(subject, asked, ended, Outcome::Failed)
    }

    fn ask(&mut self, at: u64) -> Option<Leave> {
        let now = self.at(at);
        self.breaker.ask(0, Asker::Eager, now)
    }

    /// Five keys time out at 1200 ms.
    fn opened() -> Bench {
        let mut bench = Bench::new();
        let changes: Vec<Change> = (0..5).map(|key| bench.fails(key, key, 1_200 + key)).collect();
        assert_eq!(changes, [Change::None, Change::None, Change::None, Change::None, Change::Opened]);
        bench
    }
}

#[test]
fn a_run_of_different_keys_opens_it_as_soon_as_they_time_out() {
    let mut bench = Bench::opened();
    assert_eq!(bench.breaker.standing(), Standing::Open);
    assert_eq!(bench.ask(1_300), None);
    assert_eq!(bench.fails(9, 100, 1_300), Change::None, "asked before it opened");
}

#[test]
fn one_key_never_opens_it_however_often_it_fails() {
    let mut bench = Bench::new();
    for n in 0..10_000 {
        assert_eq!(bench.fails(7, n * 10, n * 10 + 1_200), Change::None);
    }
    assert_eq!(bench.breaker.standing(), Standing::Closed);
}

#[test]
fn quick_failures_must_last_as_long_as_a_request_may_take() {
    let mut bench = Bench::new();
    for key in 0..100 {
        assert_eq!(bench.fails(key, 10 * key, 10 * key + 1), Change::None, "{key}");
    }
    assert_eq!(bench.fails(100, 999, 1_000), Change::Opened);
}

/// Every third key fails, at 500 requests a second for an hour, some at once and some by a time-out.
#[test]
fn a_tier_that_fails_for_a_part_of_its_keys_stays_closed() {
    let mut bench = Bench::new();
    let mut random = fastrand::Rng::with_seed(1);
    let mut ends: Vec<(u64, u64, u64)> = (0..1_800_000u64)
        .map(|n| (n * 2, random.u64(..10_000)))
        .map(|(asked, key)| {
            let took = if key % 3 == 0 { [3, 1_200][(key / 3 % 2) as usize] } else { 3 };
            (asked + took, asked, key)
        })
        .collect();
    ends.sort_unstable();
    for (ended, asked, key) in ends {
        let outcome = if key % 3 == 0 { Outcome::Failed } else { Outcome::Answered };
        assert_eq!(bench.ends(key, asked, ended, outcome), Change::None, "at {ended} ms");
    }
}

/// With few requests chance makes runs, and they last: where answers came in between lately, a run must be longer.
#[test]
fn where_some_are_answered_a_run_must_be_longer() {
    let mut bench = Bench::new();
    bench.fails(1, 0, 10);
    bench.ends(2, 10, 20, Outcome::Answered);
    for key in 0..11 {
        assert_eq!(bench.fails(key, 1_000 * key + 30, 1_000 * key + 40), Change::None, "{key}");
    }
    assert_eq!(bench.fails(11, 11_000, 11_010), Change::Opened);
    // A minute later that is forgotten, and what an outage was is not held against the tier.
    let mut bench = Bench::opened();
    bench.breaker.answered(bench.at(2_000));
    let changes: Vec<Change> = (0..5).map(|key| bench.fails(key, 2_001, 3_200)).collect();
    assert_eq!(changes.last(), Some(&Change::Opened));
}

#[test]
fn an_answer_ends_the_run_whoever_got_it() {
    let mut bench = Bench::new();
    assert!((0..4).all(|key| bench.fails(key, 0, 1_200) == Change::None));
    bench.ends(100, 1_190, 1_201, Outcome::Answered);
    assert_eq!(bench.fails(4, 0, 1_202), Change::None, "asked before that answer");
    for key in 5..30 {
        assert_eq!(bench.fails(key, 10, 9_000), Change::None, "the slow ones of a burst");
    }
}

#[test]
fn exactly_one_probes_and_its_answer_decides() {
    let mut bench = Bench::opened();
    assert_eq!(bench.ask(1_703), None, "too early");
    let probe = bench.ask(1_704).unwrap();
    assert_eq!((bench.breaker.standing(), bench.ask(1_704), bench.ask(9_999)), (Standing::HalfOpen, None, None));
    let (failed_at, answered_at) = (bench.at(2_904), bench.at(3_410));
    assert_eq!(bench.breaker.heard(probe, Outcome::Failed, failed_at), Change::None);
    assert_eq!(bench.ask(3_403), None);
    let probe = bench.ask(3_404).unwrap();
    assert_eq!(bench.breaker.heard(probe, Outcome::Answered, answered_at), Change::Closed);
    assert!((0..100).all(|_| bench.ask(3_411).is_some_and(|leave| !leave.probe)));
}

#[test]
fn a_probe_that_learned_nothing_leaves_its_place_to_the_next() {
    let mut bench = Bench::opened();
    let probe = bench.ask(2_000).unwrap();
    let over = bench.at(2_001);
    assert_eq!(bench.breaker.heard(probe, Outcome::Nothing, over), Change::None);
    assert!(bench.ask(2_001).is_some_and(|leave| leave.probe));
}

#[test]
fn a_late_answer_closes_it() {
    let mut bench = Bench::opened();
    assert_eq!(bench.ends(9, 0, 1_300, Outcome::Answered), Change::Closed);
    let mut bench = Bench::opened();
    let probe = bench.ask(1_704).unwrap();
    assert_eq!(bench.ends(9, 0, 1_800, Outcome::Answered), Change::Closed);
    let late = bench.at(2_904);
    assert_eq!(bench.breaker.heard(probe, Outcome::Failed, late), Change::None, "and the probe is one of many now");
    assert_eq!(bench.breaker.standing(), Standing::Closed);
}

#[test]
fn who_cannot_afford_it_probes_only_where_nobody_else_comes() {
    let bench = Bench::opened();
    let refuses = |asker, ms| bench.breaker.refuses(asker, bench.at(ms));
    assert_eq!((refuses(Asker::Eager, 1_703), refuses(Asker::Eager, 1_704)), (true, false));
    assert_eq!((refuses(Asker::Reluctant, 2_703), refuses(Asker::Reluctant, 2_704)), (true, false));
}
