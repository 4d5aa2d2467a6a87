//! The pages a listener has beside its stores: `/healthz`, `/metrics`, `/openapi`.

use super::Mount;
use std::sync::Arc;

/// How this program was built, as `/healthz` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    pub version: String,
    pub build_date: String,
    pub build_host: String,
    pub rustc: String,
}

impl About {
    /// This very program. What its builder did not say is "unknown".
    pub fn this_build() -> About {
        let said = |said: Option<&str>| said.unwrap_or("unknown").to_owned();
        About {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build_date: said(option_env!("BUILD_SOURCE_DATE")),
            build_host: said(option_env!("BUILD_HOST")),
            rustc: said(option_env!("BUILD_RUSTC")),
        }
    }
}

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    pub about: About,
    /// Prometheus' text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

impl Pages {
    /// Kask's shape and its lack of a last newline.
    pub(super) fn health(&self) -> String {
        let About { version, build_date, build_host, rustc } = &self.about;
        let about = serde_json::json!(
            { "version": version, "build_date": build_date, "build_host": build_host, "rustc": rustc });
        about.to_string()
    }
}

const OPENAPI_HEAD: &str = include_str!("openapi/head.yaml");
const OPENAPI_PATH: &str = include_str!("openapi/path.yaml");
const OPENAPI_COMPONENTS: &str = include_str!("openapi/components.yaml");

/// The API description of all mounts. Its x-amples are what Wikimedia's service checker tries.
pub(super) fn openapi(mounts: &[Mount], put_and_head: bool) -> String {
    let mut yaml = OPENAPI_HEAD.to_owned();
    for mount in mounts {
        yaml.push_str(&OPENAPI_PATH.replace("{{base_uri}}", mount.base_uri.as_str()));
        if put_and_head {
            yaml.push_str("    put:\n      description: The same as post\n      responses:\n        201:\n          description: Created\n");
            yaml.push_str("    head:\n      description: The same as get, without the value\n      responses:\n        200:\n          description: Success\n");
        }
    }
    yaml.push_str(OPENAPI_COMPONENTS);
    yaml
}
