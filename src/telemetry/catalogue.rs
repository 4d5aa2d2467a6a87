//! Every metric there is: name, kind, labels, help. Dashboards and alerts rely on these names.
//!
//! To add a metric: a line here, and `metrics::counter!` (or its like) beside the code that moves it.

use ::metrics::Unit;

/// Kask's own buckets, in seconds, so that its dashboards keep working.
const HTTP_BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];
/// The same, and the 2.5 s in which a request must end.
const TIER_BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MetricKind {
    Counter,
    Gauge,
    /// Upper bounds of the buckets, rising, without +Inf.
    Histogram(&'static [f64]),
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: MetricKind,
    pub unit: Unit,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Counter, unit: Unit::Count, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Gauge, unit: Unit::Count, labels, help }
}

const fn seconds(
    name: &'static str,
    buckets: &'static [f64],
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: MetricKind::Histogram(buckets), unit: Unit::Seconds, labels, help }
}

const STASH: &[&str] = &["stash"];

pub const METRICS: &[Metric] = &[
    counter("http_requests_total", &["code", "method"], "Requests answered on the data listener, as Kask counts them."),
    seconds(
        "http_request_duration_seconds",
        HTTP_BUCKETS,
        &["code", "method"],
        "Time from the head of a request to its answer, as Kask measures it.",
    ),
    gauge("decant_phase", &["stash", "phase"], "1 for the phase in force, 0 for the others."),
    gauge(
        "decant_phase_ahead",
        &["stash", "phase"],
        "1 for the phase of keys that are one phase ahead, 0 for the others.",
    ),
    Metric {
        unit: Unit::Seconds,
        ..gauge("decant_phase_since_timestamp_seconds", STASH, "When the last move began, in seconds since 1970.")
    },
    gauge("decant_move_under_way", STASH, "1 from the beginning of a move until it has settled."),
    gauge(
        "decant_fleet_members",
        &["stash", "standing"],
        "Decants of the fleet, as this one knows them: follows, behind or silent; with fleet.store = \"file\" the others are seen.",
    ),
    gauge(
        "decant_record_confirmed",
        STASH,
        "1 while the phase record is known to be the one in force; 0 while starting, or with etcd out of reach.",
    ),
    gauge("decant_keys_pending", STASH, "Keys that are read with care because their tiers may differ."),
    counter("decant_writes_waited_total", STASH, "Writes that waited for a key in transit during a move."),
    gauge("decant_shard_up", &["stash", "shard"], "1 while this Redis answers."),
    gauge(
        "decant_shard_intents",
        &["stash", "shard"],
        "The part of decant_outbox_intents that this Redis last showed.",
    ),
    gauge("decant_shard_suspect", &["stash", "shard"], "1 where a Redis came back without its latest writes."),
    gauge(
        "decant_shard_evicted_keys",
        &["stash", "shard"],
        "Keys that this Redis has evicted since kask-first began: dual-write would miss them.",
    ),
    counter(
        "decant_doubtful_reads_total",
        &["stash", "outcome"],
        "Reads that only such a Redis had a value for: served or held.",
    ),
    gauge(
        "decant_mirror_unclean",
        STASH,
        "1 where Redis may lack writes that Kask has, so that the way back loses them.",
    ),
    counter(
        "decant_reads_total",
        &["stash", "served_by", "ahead"],
        "Reads by the tier that answered: kask, redis or none; and by whether the key is one phase ahead.",
    ),
    counter(
        "decant_writes_total",
        &["stash", "outcome", "ahead"],
        "Sets and deletes by what the client was told: done, refused or failed; and by whether the key is one phase ahead.",
    ),
    seconds(
        "decant_operation_duration_seconds",
        TIER_BUCKETS,
        &["stash", "op", "ahead"],
        "Time until a client's read or write was answered, by whether its key is one phase ahead.",
    ),
    counter(
        "decant_fallback_hits_total",
        STASH,
        "Reads that Kask missed and Redis answered: what is left to be copied.",
    ),
    counter("decant_tier_requests_total", &["stash", "tier", "op", "outcome"], "Requests to a tier by their outcome."),
    seconds(
        "decant_tier_request_duration_seconds",
        TIER_BUCKETS,
        &["stash", "tier", "op"],
        "Time that a tier took for one request.",
    ),
    gauge("decant_tier_up", &["stash", "tier"], "1 while a tier answers."),
    gauge(
        "decant_breaker",
        &["stash", "tier", "shard", "state"],
        "1 for where a tier's circuit breaker stands: closed, open or half-open.",
    ),
    counter(
        "decant_breaker_opened_total",
        &["stash", "tier", "shard"],
        "How often a tier was found away, and was not asked any more.",
    ),
    counter("decant_repairs_total", &["stash", "outcome"], "Copies to Kask that a fallback read caused."),
    gauge("decant_outbox_intents", STASH, "Writes and copies that are not yet proven equal in both tiers."),
    Metric {
        unit: Unit::Seconds,
        ..gauge("decant_outbox_oldest_seconds", STASH, "Age of the oldest intent in the outbox.")
    },
    counter(
        "decant_outbox_settled_total",
        &["stash", "by"],
        "Intents proven equal, by who did: writer, repair, backfill or reaper.",
    ),
    gauge("decant_damaged_intents", STASH, "Intents given up on, which wait for an operator."),
    counter(
        "decant_untranscodable_total",
        &["stash", "direction", "reason"],
        "Values that the other tier's format cannot carry.",
    ),
    counter(
        "decant_shadow_reads_total",
        &["stash", "result"],
        "Sampled comparisons of both tiers: match, mismatch, missing or error.",
    ),
    counter("decant_backfill_keys_total", &["stash", "outcome"], "Keys that the backfill has handled."),
    gauge("decant_backfill_progress_ratio", STASH, "Share of the keyspace that the backfill has scanned, 0 to 1."),
    counter("decant_backfill_bytes_total", STASH, "Bytes of the values that the backfill has copied."),
    gauge("decant_backfill_running", STASH, "1 while a backfill is at work."),
    gauge("decant_backfill_paused", STASH, "1 while a backfill is paused: it goes on when it is resumed."),
    gauge("decant_backfill_held", &["stash", "by"], "1 for what holds the backfill back at the moment."),
    gauge(
        "decant_backfill_braked_keys_per_second",
        STASH,
        "What the brake holds the backfill to; 0: it does not brake.",
    ),
    Metric {
        unit: Unit::Seconds,
        ..gauge("decant_backfill_left_seconds", STASH, "About how long the backfill has to go; 0: nobody can tell yet.")
    },
    counter("decant_verify_keys_total", &["stash", "result"], "Keys that verify has compared."),
    gauge(
        "decant_verify_progress_ratio",
        STASH,
        "Share of the names that the verify under way, or the last, has walked past, 0 to 1.",
    ),
    counter("decant_mirror_failures_total", STASH, "Writes that Kask took and Redis, as mirror, did not at once."),
    counter("decant_log_lines_dropped_total", &[], "Log lines lost because standard output did not take them in time."),
    gauge("decant_build_info", &["version", "rustc"], "Always 1; the labels tell the build."),
];

/// The metric of a name.
pub fn find(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len(), "a name stands twice");
        for metric in METRICS {
            assert!(metric.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", metric.name);
            assert_eq!(metric.kind == MetricKind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
            assert_eq!(metric.unit == Unit::Seconds, metric.name.ends_with("_seconds"), "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
            if let MetricKind::Histogram(buckets) = metric.kind {
                assert!(buckets.is_sorted_by(|a, b| a < b), "{}", metric.name);
            }
        }
    }

    #[test]
    fn no_label_can_hold_a_person() {
        let allowed = [
            "ahead",
            "by",
            "code",
            "direction",
            "method",
            "op",
            "outcome",
            "phase",
            "reason",
            "result",
            "rustc",
            "served_by",
            "shard",
            "standing",
            "stash",
            "state",
            "tier",
            "version",
        ];
        for metric in METRICS {
            assert!(metric.labels.iter().all(|label| allowed.contains(label)), "{}", metric.name);
        }
    }
}
