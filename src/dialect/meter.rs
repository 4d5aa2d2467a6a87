//! Kask's two request metrics, under Kask's names, so that its alerts and dashboards keep working.

use http::Method;
use metrics::{Counter, Histogram};
use std::{sync::OnceLock, time::Duration};

/// Labels are from this list only: whatever a client sends as a method, the series stay few.
const METHODS: [&str; 10] = ["GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT", "other"];
/// The statuses that `respond` gives under a base URI.
const CODES: [u16; 10] = [200, 201, 204, 400, 404, 408, 412, 413, 500, 503];

type Cell = OnceLock<(Counter, Histogram)>;

/// `http_requests_total{code,method}` and `http_request_duration_seconds{code,method}`, their handles looked up once. To be made
/// after the recorder was installed.
#[derive(Default)]
pub struct Meter {
    cells: [[Cell; CODES.len()]; METHODS.len()],
}

impl Meter {
    pub fn new() -> Meter {
        metrics::describe_counter!(
            "http_requests_total",
            "Count of HTTP requests processed, partitioned by status code and HTTP method."
        );
        metrics::describe_histogram!(
            "http_request_duration_seconds",
            metrics::Unit::Seconds,
            "A histogram of latencies for requests, partitioned by status code and HTTP method."
        );
        Meter::default()
    }

    /// Counts one request that was answered.
    pub(super) fn count(&self, method: &Method, code: u16, took: Duration) {
        let row = METHODS.iter().position(|m| *m == method.as_str()).unwrap_or(METHODS.len() - 1);
        let Some(column) = CODES.iter().position(|c| *c == code) else { return };
        let (requests, durations) = self.cells[row][column].get_or_init(|| {
            let labels = [("code", code.to_string()), ("method", METHODS[row].to_owned())];
            (
                metrics::counter!("http_requests_total", &labels),
                metrics::histogram!("http_request_duration_seconds", &labels),
            )
        });
        requests.increment(1);
        durations.record(took);
    }
}
