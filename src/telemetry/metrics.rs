//! The metrics registry of the process and its text.

use super::catalogue::{METRICS, MetricKind};
use super::process;
use ::metrics::{Recorder, counter, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::{sync::OnceLock, time::Duration};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often histogram samples are moved into their buckets. Between two times they wait in memory, 8 bytes each.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

static HANDLE: OnceLock<MetricsHandle> = OnceLock::new();

/// Renders what the `metrics` macros recorded. Cheap to clone.
#[derive(Clone)]
pub struct MetricsHandle {
    prometheus: PrometheusHandle,
}

/// Installs the process's recorder; again and again gives the same one. Where another recorder is already installed
/// (only a test could) the handle renders nothing but the process's own figures.
pub fn install() -> MetricsHandle {
    HANDLE.get_or_init(create).clone()
}

fn create() -> MetricsHandle {
    let builder = METRICS.iter().fold(PrometheusBuilder::new(), |builder, metric| match metric.kind {
        // `set_buckets_for_metric` refuses only an empty list, and takes the builder with it; a test holds the table to that.
        MetricKind::Histogram(buckets) => builder
            .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)
            .unwrap_or_else(|_| PrometheusBuilder::new()),
        MetricKind::Counter | MetricKind::Gauge => builder,
    });
    let recorder = builder.build_recorder();
    let handle = MetricsHandle { prometheus: recorder.handle() };
    for metric in METRICS {
        let (name, unit) = (metric.name.into(), Some(metric.unit));
        match metric.kind {
            MetricKind::Counter => recorder.describe_counter(name, unit, metric.help.into()),
            MetricKind::Gauge => recorder.describe_gauge(name, unit, metric.help.into()),
            MetricKind::Histogram(_) => recorder.describe_histogram(name, unit, metric.help.into()),
        }
    }
    if ::metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("another metrics recorder is installed: decant's metrics are not to be seen");
    }
    // From nothing on, so that the first increase shows as one.
    for metric in METRICS.iter().filter(|metric| metric.kind == MetricKind::Counter && metric.labels.is_empty()) {
        counter!(metric.name).increment(0);
    }
    gauge!("decant_build_info", "version" => env!("CARGO_PKG_VERSION"), "rustc" => env!("BUILD_RUSTC")).set(1.0);
    handle
}

impl MetricsHandle {
    /// The exposition text of everything, with figures of the process read now.
    pub fn render(&self) -> String {
        let mut text = self.prometheus.render();
        process::render(&mut text);
        text
    }
}

/// Keeps the registry from growing between scrapes, until `stop`.
pub async fn upkeep(handle: MetricsHandle, stop: CancellationToken) {
    let mut ticks = interval(UPKEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        handle.prometheus.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::metrics::histogram;

    #[test]
    fn histograms_have_kasks_buckets_and_every_metric_its_help() {
        let handle = install();
        histogram!("http_request_duration_seconds", "code" => "200", "method" => "GET").record(0.002);
        histogram!("decant_tier_request_duration_seconds", "stash" => "buckets", "tier" => "kask", "op" => "get")
            .record(2.0);
        counter!("decant_reads_total", "stash" => "buckets", "served_by" => "kask", "ahead" => "false").increment(3);
        let text = install().render();
        for line in [
            "# TYPE http_request_duration_seconds histogram",
            "http_request_duration_seconds_bucket{code=\"200\",method=\"GET\",le=\"0.001\"} 0",
            "http_request_duration_seconds_bucket{code=\"200\",method=\"GET\",le=\"0.0025\"} 1",
            "http_request_duration_seconds_bucket{code=\"200\",method=\"GET\",le=\"1\"} 1",
            "decant_tier_request_duration_seconds_bucket{stash=\"buckets\",tier=\"kask\",op=\"get\",le=\"1\"} 0",
            "decant_tier_request_duration_seconds_bucket{stash=\"buckets\",tier=\"kask\",op=\"get\",le=\"2.5\"} 1",
            "decant_reads_total{stash=\"buckets\",served_by=\"kask\",ahead=\"false\"} 3",
            "# HELP decant_reads_total Reads by the tier that answered: kask, redis or none; and by whether the key is one phase ahead.",
            "# TYPE process_resident_memory_bytes gauge",
        ] {
            assert!(text.lines().any(|have| have == line), "no line {line}\n{text}");
        }
        let build = format!("decant_build_info{{version=\"{}\",rustc=\"", env!("CARGO_PKG_VERSION"));
        assert!(text.contains(&build) && !text.contains("quantile"), "{text}");
        drop(handle);
    }

    #[tokio::test]
    async fn upkeep_ends_when_it_is_told_to() {
        let stop = CancellationToken::new();
        let task = tokio::spawn(upkeep(install(), stop.clone()));
        tokio::task::yield_now().await;
        assert!(!task.is_finished());
        stop.cancel();
        task.await.unwrap();
    }
}
