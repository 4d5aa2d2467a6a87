//! Calls to a running decant's admin listener.

use super::{Exit, Failure, Global};
use crate::admin::views::StatusView;
use anyhow::Context as _;
use reqwest::{Method, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{error::Error as _, future::Future, path::Path, time::Duration};

/// The variable that holds the token, where no file is named.
const TOKEN_VARIABLE: &str = "DECANT_ADMIN_TOKEN";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A move is answered after its guards have compared a sample of keys, for at most 20 s.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The largest answer, in bytes: a long history.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The admin listener.
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

/// An answer that is no success: RFC 9457.
pub(super) struct Refusal {
    pub status: StatusCode,
    pub problem: Value,
}

impl Refusal {
    /// Why, for a person.
    pub(super) fn detail(&self) -> String {
        let detail = self.problem.get("detail").and_then(Value::as_str);
        detail.map_or_else(|| format!("the admin listener answered {}", self.status), str::to_owned)
    }
}

impl Client {
    pub(super) fn new(global: &Global) -> Result<Client, Failure> {
        let base = global.admin.trim_end_matches('/').to_owned();
        if !base.starts_with("http://") {
            return Err(Failure::usage(format!(
                "the admin listener's URL is {base}; it must begin with http:// (set --admin or DECANT_ADMIN)"
            )));
        }
        let token = match &global.token_file {
            Some(path) => Some(token_of(path)?),
            None => std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty()),
        };
        let http = reqwest::Client::builder()
            // The token is for the listener alone: no proxy of the environment is asked, no redirect followed.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Client { http, base, token })
    }

    /// One request. The inner `Err` is what decant itself refused; 401 and what is no decant's answer fail at once.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Result<Value, Refusal>, Failure> {
        let reading = method == Method::GET;
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let mut answer = request.send().await.map_err(|error| self.unreachable(&error, reading))?;
        let status = answer.status();
        let mut text = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.unreachable(&error, reading))? {
            text.extend_from_slice(&chunk);
            if text.len() > ANSWER_BYTES_MAX {
                return Err(self.strange(status));
            }
        }
        let document: Value = serde_json::from_slice(&text).map_err(|_| self.strange(status))?;
        match status {
            StatusCode::UNAUTHORIZED => Err(Failure {
                exit: Exit::Failed,
                message: format!(
                    "the admin listener at {} wants a token: set {TOKEN_VARIABLE} or --token-file to that of admin.token_file",
                    self.base
                ),
            }),
            status if status.is_success() => Ok(Ok(document)),
            status => Ok(Err(Refusal { status, problem: document })),
        }
    }

    /// A page that must be there.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<(Value, T), Failure> {
        let document = match self.call(Method::GET, path, None).await? {
            Ok(document) => document,
            Err(refusal) => return Err(Failure { exit: Exit::Failed, message: refusal.detail() }),
        };
        let typed = self.typed(path, document.clone())?;
        Ok((document, typed))
    }

    /// A document as this decant knows it.
    pub(super) fn typed<T: DeserializeOwned>(&self, path: &str, document: Value) -> Result<T, Failure> {
        let typed = serde_json::from_value(document).with_context(|| {
            format!("{}{path} is not as this decant knows it; is the other one of another version?", self.base)
        })?;
        Ok(typed)
    }

    /// The stash that is meant: the named one, or the only one.
    pub(super) async fn stash(&self, named: Option<&str>) -> Result<String, Failure> {
        let (_, status): (_, StatusView) = self.get("/v1/status").await?;
        let names: Vec<String> = status.stashes.into_iter().map(|stash| stash.name).collect();
        let known = names.join(", ");
        match (named, names.as_slice()) {
            (Some(named), names) if names.iter().any(|name| name == named) => Ok(named.to_owned()),
            (Some(named), _) => Err(Failure::usage(format!("there is no stash {named}; this decant has {known}"))),
            (None, [only]) => Ok(only.clone()),
            (None, _) => Err(Failure::usage(format!("which stash? Name one with --stash: {known}"))),
        }
    }

    /// `reading`: nothing can have been done by it.
    fn unreachable(&self, error: &reqwest::Error, reading: bool) -> Failure {
        // reqwest's own text says that a request failed; what is behind it says why.
        let mut why = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            why = inner.to_string();
            cause = inner.source();
        }
        let base = &self.base;
        let unsent = reading || error.is_connect();
        let message = match unsent {
            // A connection that stood, and an answer that did not come: the order may have been carried out.
            false => format!(
                "decant's admin listener at {base} did not answer: {why}; it is not known whether this was done: look before you try again"
            ),
            true if error.is_timeout() && !error.is_connect() => {
                format!("decant's admin listener at {base} did not answer in time: {why}")
            }
            true => format!(
                "cannot reach decant's admin listener at {base}: {why}; is decant running? Set --admin or DECANT_ADMIN"
            ),
        };
        Failure { exit: Exit::Failed, message }
    }

    fn strange(&self, status: StatusCode) -> Failure {
        let message = format!(
            "{} answered {status} with what is no answer of decant's admin listener; is it the data listener? Set --admin or DECANT_ADMIN",
            self.base
        );
        Failure { exit: Exit::Failed, message }
    }
}

fn token_of(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|fault| Failure::usage(format!("the token file {} cannot be read: {fault}", path.display())))?;
    let token = text.trim();
    if token.is_empty() || token.chars().any(|c| c.is_control()) {
        return Err(Failure::usage(format!(
            "the token file {} holds no token: it is one line of text",
            path.display()
        )));
    }
    Ok(token.to_owned())
}

/// Who runs this, also through sudo.
pub(super) fn user() -> String {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    set("SUDO_USER").or_else(|| set("USER")).or_else(|| set("LOGNAME")).unwrap_or_else(|| "the command line".to_owned())
}

/// Runs a command's calls on this thread.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(work)
}
