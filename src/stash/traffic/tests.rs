use super::*;

fn kask(kask: u64) -> Counts {
    Counts { kask, ..Counts::default() }
}

/// One read a second, sampled each second, for `seconds`.
fn steady(seconds: u64) -> Traffic {
    let mut traffic = Traffic::new(0, Counts::default());
    (1..=seconds).for_each(|second| traffic.sample(second * 1_000, kask(second)));
    traffic
}

#[test]
fn a_window_is_as_long_as_asked_or_as_decant_has_run() {
    let traffic = steady(7_200);
    let (now, totals) = (7_205_000, kask(7_205));
    let windows = traffic.windows(now, totals);
    // Samples stand on whole slots: the window begins with the one before.
    assert_eq!(windows.minute, Window { over_ms: 65_000, counts: kask(65) });
    assert_eq!(windows.hour, Window { over_ms: 3_605_000, counts: kask(3_605) });
    assert_eq!(windows.day, Window { over_ms: 7_205_000, counts: kask(7_205) });
    assert_eq!(traffic.windows(7_200_000, kask(7_200)).minute, Window { over_ms: 60_000, counts: kask(60) });
    let young = steady(3).windows(4_000, kask(4));
    assert_eq!((young.minute, young.minute), (young.hour, young.day));
    assert_eq!(young.day, Window { over_ms: 4_000, counts: kask(4) });
}

#[test]
fn totals_before_the_start_do_not_count() {
    let traffic = Traffic::new(5_000, kask(100));
    assert_eq!(traffic.windows(6_000, kask(103)).day, Window { over_ms: 1_000, counts: kask(3) });
}

#[test]
fn nothing_grows_without_bound_and_a_day_is_kept() {
    let days = 3 * 24 * 3_600;
    let mut traffic = Traffic::new(0, Counts::default());
    (1..=days / 10).for_each(|slot| traffic.sample(slot * SLOT, kask(slot * 10)));
    assert_eq!((traffic.fine.samples.len(), traffic.coarse.samples.len()), (SLOTS + 1, COARSES + 1));
    let now = days * 1_000;
    let windows = traffic.windows(now, kask(days));
    assert_eq!((windows.hour.over_ms, windows.hour.counts), (HOUR, kask(3_600)));
    assert_eq!((windows.day.over_ms, windows.day.counts), (DAY, kask(86_400)));
    let slots = traffic.slots(now, kask(days));
    assert_eq!(slots.len(), SLOTS + 1);
    assert_eq!(slots.iter().map(|slot| slot.kask).sum::<u64>(), 3_600);
}

/// Stopped for an hour: what came then is told with the length of time that it took.
#[test]
fn a_sample_that_comes_late_loses_nothing() {
    let mut traffic = steady(30);
    traffic.sample(3_630_000, kask(500));
    let slots = traffic.slots(3_632_000, kask(502));
    let late = slots[slots.len() - 2];
    assert_eq!((late.over_ms, late.kask, late.ended_ms_ago), (3_600_000, 470, 2_000));
    assert_eq!(slots.last().map(|slot| (slot.over_ms, slot.kask)), Some((2_000, 2)));
    assert_eq!(traffic.windows(3_632_000, kask(502)).minute.over_ms, 3_602_000);
}

#[test]
fn totals_that_were_read_out_of_order_are_no_overflow() {
    let traffic = steady(20);
    assert_eq!(traffic.window(20_001, kask(5), 1).counts, Counts::default());
    assert_eq!(traffic.window(0, kask(20), u64::MAX).over_ms, 0);
}

#[test]
fn how_long_nothing_has_fallen_back() {
    let fell = |fallbacks| Counts { fallbacks, ..Counts::default() };
    let mut traffic = Traffic::new(1_000, fell(7));
    assert_eq!(traffic.without_fallback_ms(61_000, fell(7)), 60_000, "since counting began");
    assert_eq!(traffic.without_fallback_ms(61_000, fell(8)), 0, "known before it is sampled");
    traffic.sample(70_000, fell(8));
    assert_eq!(traffic.without_fallback_ms(75_000, fell(8)), 5_000);
    // Also long after its slot is forgotten.
    (1..=20_000).for_each(|slot| traffic.sample(70_000 + slot * SLOT, fell(8)));
    assert_eq!(traffic.without_fallback_ms(70_000 + 20_000 * SLOT, fell(8)), 20_000 * SLOT);
}

#[test]
fn shares_are_of_what_was_asked() {
    let counts = Counts { kask_requests: 200, kask_errors: 1, compared: 4, differing: 1, ..Counts::default() };
    assert_eq!((counts.kask_error_share(), counts.differing_share()), (Some(0.005), Some(0.25)));
    assert_eq!((Counts::default().kask_error_share(), Counts::default().differing_share()), (None, None));
}
