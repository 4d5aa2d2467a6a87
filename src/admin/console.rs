//! The operator's page, and what it is made of: files of `console/`, served as they stand.
//!
//! They are open to everybody who reaches the listener, and show nothing: the page asks the API, with the token where one is wanted.
//! No other origin's script, style or picture is ever loaded, nothing inline runs, and no page may frame this one.

use super::text;
use crate::http::Reply;
use http::{HeaderValue, Response, header};

const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
);

/// One file of the page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asset {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const ASSETS: [Asset; 12] = [
    Asset { path: "/", content_type: HTML, text: include_str!("console/index.html") },
    Asset {
        path: "/console/console.css",
        content_type: "text/css; charset=utf-8",
        text: include_str!("console/console.css"),
    },
    Asset { path: "/console/icon.svg", content_type: "image/svg+xml", text: include_str!("console/icon.svg") },
    Asset { path: "/console/console.js", content_type: SCRIPT, text: include_str!("console/console.js") },
    Asset { path: "/console/api.js", content_type: SCRIPT, text: include_str!("console/api.js") },
    Asset { path: "/console/chart.js", content_type: SCRIPT, text: include_str!("console/chart.js") },
    Asset { path: "/console/dom.js", content_type: SCRIPT, text: include_str!("console/dom.js") },
    Asset { path: "/console/goal.js", content_type: SCRIPT, text: include_str!("console/goal.js") },
    Asset { path: "/console/phases.js", content_type: SCRIPT, text: include_str!("console/phases.js") },
    Asset { path: "/console/stash.js", content_type: SCRIPT, text: include_str!("console/stash.js") },
    Asset { path: "/console/switch.js", content_type: SCRIPT, text: include_str!("console/switch.js") },
    Asset { path: "/console/text.js", content_type: SCRIPT, text: include_str!("console/text.js") },
];

pub(super) fn asset(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

pub(super) fn answer(asset: &Asset) -> Response<Reply> {
    let mut answer = text(asset.content_type, asset.text.to_owned());
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, POLICY);
    answer.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `"/console/x.js"` of the page, `'./x.js'` of a script.
    fn named(text: &str) -> Vec<String> {
        let quoted = text.split(['"', '\'']).skip(1).step_by(2);
        quoted
            .filter_map(|name| name.strip_prefix("./").or(name.strip_prefix("/console/")))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn all_that_the_page_asks_for_is_there_and_nothing_is_from_elsewhere() {
        let scripts = ASSETS.iter().filter(|asset| asset.path.ends_with(".js"));
        let mut asked: Vec<String> = scripts
            .flat_map(|script| script.text.lines().filter(|line| line.starts_with("import ")).flat_map(named))
            .collect();
        asked.extend(named(ASSETS[0].text));
        assert!(asked.len() >= 10, "{asked:?}");
        for name in asked {
            assert!(asset(&format!("/console/{name}")).is_some(), "{name} is not served");
        }
        for asset in &ASSETS {
            // The namespace of SVG is a name, not an address.
            let elsewhere = asset.text.replace("http://www.w3.org/2000/svg", "");
            assert!(!elsewhere.contains("http://") && !elsewhere.contains("https://"), "{}", asset.path);
        }
    }

    /// What the policy would refuse, and what could turn text into markup.
    #[test]
    fn nothing_is_inline_and_no_text_becomes_markup() {
        let page = ASSETS[0].text;
        let handlers = page.split_whitespace().filter(|word| word.starts_with("on") && word.contains('=')).count();
        assert!(!page.contains("style=") && !page.contains("<style") && handlers == 0, "inline style or handler");
        assert!(page.matches("<script").count() == 1 && page.contains("></script>"), "inline script");
        for asset in &ASSETS {
            for trap in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "localStorage",
            ] {
                assert!(!asset.text.contains(trap), "{} uses {trap}", asset.path);
            }
        }
    }
}
