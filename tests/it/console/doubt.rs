//! What the page does not know it does not claim: an order whose outcome is lost, and a history that cannot be read.

use super::{page, phase_on_page};
use crate::{console::browser::Browser, support::swallows_answers_to_moves};

/// In place of what decant would answer to an order; what is only read stays decant's.
fn answer_orders(browser: &Browser, status: u16, body: &str) {
    let stub = "window.fetched ??= window.fetch; \
        window.fetch = (path, options) => options.method === 'GET' ? window.fetched(path, options) : Promise.resolve(new Response(BODY, { status: STATUS }));";
    browser.script(&stub.replace("BODY", &format!("{body:?}")).replace("STATUS", &status.to_string()));
}

fn order(browser: &Browser) {
    browser.fill("#reason", "a test");
    browser.fill("#by", "Ada");
    browser.click("#move");
}

/// Only what decant says it has not done.
#[test]
fn what_may_have_been_done_is_not_called_refused() {
    let (_redis, whole, browser) = page("dual-write");
    browser.script(
        "const timeout = AbortSignal.timeout.bind(AbortSignal); \
         AbortSignal.timeout = (ms) => { window.patience = Math.max(window.patience ?? 0, ms); return timeout(ms); };",
    );
    for (status, kind, refused) in [
        (400, "bad-request", true),
        (409, "move-under-way", true),
        (422, "no-such-step", true),
        (503, "busy", true),
        (503, "etcd", true),
        (503, "move-unknown", false),
        (500, "server-error", false),
        // Of something in between, and not of decant.
        (409, "", false),
        (504, "", false),
    ] {
        let detail = match kind {
            "" => format!("decant answered {status}"),
            kind => format!("{kind} it is"),
        };
        let body = match kind {
            "" => "gone away".to_owned(),
            kind => format!(r#"{{"type":"urn:decant:problem:{kind}","status":{status},"detail":"{detail}"}}"#),
        };
        answer_orders(&browser, status, &body);
        order(&browser);
        browser.wait_text("#outcome", &detail);
        let begins = match refused {
            true => "Refused, nothing was done. ",
            false => "It is not known whether the move has begun: look at the phase above. ",
        };
        let outcome = browser.text("#outcome");
        assert!(outcome.starts_with(begins), "{status} {kind}: {outcome}");
    }
    assert_eq!(browser.script("return window.patience"), 60_000, "as long as decant phase set waits");

    // Of an answer that is lost on its way: the page goes on looking, and the move is seen.
    browser.open(&swallows_answers_to_moves(whole.admin));
    browser.wait("the page is drawn", |page| page.sees("#guards [data-guard]"));
    order(&browser);
    browser.wait_text("#outcome", "It is not known whether the move has begun");
    browser.wait("the move is seen", |page| phase_on_page(page) == "kask-first");
    browser.wait_text("#link", "live");
}

/// What was read before stays, and is told to be perhaps no longer all.
#[test]
fn a_history_that_cannot_be_read_now_is_kept_as_it_was() {
    let (_redis, whole, browser) = page("kask-first");
    browser.wait_text("#history li:first-child", "kask-first");
    browser.script(
        "window.fetched = window.fetch; \
         window.fetch = (path, options) => path.endsWith('/phase/history') \
           ? Promise.resolve(new Response('{\"detail\":\"etcd is away\"}', { status: 503 })) : window.fetched(path, options);",
    );
    whole.move_to("dual-write");
    browser.wait_text("#history-note", "The history cannot be read now, and may be longer than this: etcd is away");
    assert_eq!(phase_on_page(&browser), "dual-write");
    assert!(browser.text("#history li:first-child").contains("kask-first"));
    browser.script("window.fetch = window.fetched;");
    browser.wait_text("#history li:first-child", "dual-write");
    assert!(!browser.sees("#history-note"));
}
