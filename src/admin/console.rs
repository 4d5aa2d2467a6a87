//! A page for a browser: what the probes and metrics tell, in words. No scripts, nothing from elsewhere.

use super::{text, views::StatusView};
use crate::{http::Reply, phase::record::State};
use http::{HeaderValue, Response, header};

/// Nothing but the page's own style is ever loaded, and no other page may frame it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'sha256-Q27bFjZg2qmvG/W/jVtyYzQlKBWIz3VsbDKb6Y9Fs3w='; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

const STYLE: &str = include_str!("console.css");

/// It is open to everybody who reaches the listener: it tells no more than `/readyz` and `/metrics` do.
pub(super) fn page(status: &StatusView) -> Response<Reply> {
    let mut answer = text("text/html; charset=utf-8", html(status));
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, POLICY);
    answer.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

fn html(status: &StatusView) -> String {
    let mut rows = String::new();
    for stash in &status.stashes {
        let (phase, state) = match &stash.record {
            None => ("not confirmed yet", ""),
            Some(record) if record.state == State::Moving => (record.phase.name(), "moving"),
            Some(record) => (record.phase.name(), "settled"),
        };
        let figures = &stash.figures;
        let up = figures.shards.iter().filter(|shard| shard.up).count();
        let redis = match (figures.redis_in_use, figures.shards.len()) {
            (false, _) => "not in use".to_owned(),
            (true, all) => format!("{up} of {all} shards up"),
        };
        rows.push_str(&format!(
            "<tr><td>{}<td>{phase}<td>{state}<td>{redis}<td>{}</tr>\n",
            escaped(&stash.name),
            figures.keys_pending
        ));
    }
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>decant</title>\n<style>{STYLE}</style>\n<h1>decant</h1>\n<p>{}, version {}, up for {} s.</p>\n\
         <table>\n<tr><th>Stash<th>Phase<th>Move<th>Redis<th>Keys pending</tr>\n{rows}</table>\n\
         <p><a href=\"/v1/status\">Status</a> · <a href=\"/readyz\">Readiness</a> · <a href=\"/metrics\">Metrics</a> · \
         <a href=\"/openapi\">API</a></p>\n</html>\n",
        if status.ready { "Ready" } else { "Not ready" },
        escaped(&status.version),
        status.uptime_s
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use sha2::Digest as _;

    #[test]
    fn the_policy_lets_the_pages_own_style_in_and_nothing_else() {
        let digest = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(STYLE));
        assert!(POLICY.to_str().unwrap().contains(&format!("style-src 'sha256-{digest}'")), "{digest}");
    }

    #[test]
    fn nothing_is_markup_that_was_none() {
        let status = StatusView {
            version: "<script>".into(),
            member: String::new(),
            uptime_s: 3,
            ready: false,
            stashes: Vec::new(),
        };
        let page = html(&status);
        assert!(page.contains("Not ready, version &lt;script&gt;, up for 3 s.") && !page.contains("<script"), "{page}");
    }
}
