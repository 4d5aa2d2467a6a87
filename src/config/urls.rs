//! Where the tiers are: URLs taken apart, checked and put together again. Pure; nothing is resolved or dialled.

use super::model::RedisUrl;
use url::Url;
use zeroize::Zeroizing;

/// (what is wrong, what to do). Neither ever holds a credential.
type UrlFault = (String, String);

fn fault<T>(what: impl Into<String>, todo: impl Into<String>) -> Result<T, UrlFault> {
    Err((what.into(), todo.into()))
}

/// A Kask's base URL, normalised to end with `/`.
pub(super) fn kask_url(text: &str) -> Result<Url, UrlFault> {
    let example = "write it as \"http://kask.example:8081/echoseen/v1/\"";
    let Ok(mut url) = Url::parse(text) else { return fault("is no URL", example) };
    match url.scheme() {
        "http" => {}
        "https" => {
            return fault(
                "is an https URL, and decant speaks plain HTTP to Kask",
                "name the local TLS proxy (such as Envoy) that stands before Kask, by its http URL",
            );
        }
        other => return fault(format!("has the scheme \"{other}\""), example),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return fault(
            "holds a user name or password, which Kask has no use for",
            "remove what stands before the \"@\"",
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return fault("has a \"?\" or \"#\" part", "end it with the base URI; keys are appended to it");
    }
    if url.host_str().is_none_or(str::is_empty) {
        return fault("names no host", example);
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

/// What is put together to a [`RedisUrl`].
pub(super) struct RedisParts<'a> {
    pub url: &'a str,
    pub username: Option<&'a str>,
    pub password: Option<&'a str>,
    /// Whether `url` itself may hold a password: it did not come from the configuration file.
    pub credentials_allowed: bool,
}

pub(super) fn redis_url(parts: &RedisParts<'_>) -> Result<RedisUrl, UrlFault> {
    let example = "write it as \"redis://127.0.0.1:6379/0\", \"rediss://…\" or \"unix:///run/redis.sock?db=0\"";
    let Ok(url) = Url::parse(parts.url) else { return fault("is no URL", example) };
    let unix = match url.scheme() {
        "redis" | "rediss" => false,
        "unix" => true,
        other => return fault(format!("has the scheme \"{other}\""), example),
    };
    let password_inside = has_password(&url);
    if password_inside && !parts.credentials_allowed {
        return fault(
            "holds a password, in the configuration file",
            "move the password to a file and name that as password_file, or move the whole URL to url_file",
        );
    }
    if password_inside && parts.password.is_some() {
        return fault("holds a password, and there is another beside it", "leave one of them out");
    }
    if url.fragment().is_some() {
        return fault("has a \"#\" part", "remove it");
    }
    if unix { unix_url(url, parts) } else { tcp_url(url, parts) }
}

fn has_password(url: &Url) -> bool {
    url.password().is_some() || url.query_pairs().any(|(name, _)| name == "pass" || name == "password")
}

/// Whether a URL says who decant is.
pub(super) fn has_login(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        has_password(&url) || !url.username().is_empty() || url.query_pairs().any(|(n, _)| n == "user")
    })
}

/// `host:port`, where a literal IPv6 address stands in brackets.
pub(super) fn host_and_port(text: &str, default_port: u16) -> Option<(String, u16)> {
    // Neither is a scheme of its own, so that this takes what stands after "//" for host and port, and nothing else.
    let url = Url::parse(&format!("redis://{text}")).ok()?;
    let bare = url.username().is_empty() && url.password().is_none() && url.path().is_empty();
    let host =
        url.host_str().filter(|host| !host.is_empty() && bare && url.query().is_none() && url.fragment().is_none())?;
    Some((host.trim_matches(['[', ']']).to_owned(), url.port().unwrap_or(default_port)))
}

fn tcp_url(mut url: Url, parts: &RedisParts<'_>) -> Result<RedisUrl, UrlFault> {
    if url.query().is_some() {
        return fault("has a \"?\" part", "remove it; the number of the database stands after the last \"/\"");
    }
    let host = match url.host_str() {
        Some(host) if !host.is_empty() => host.to_owned(),
        _ => return fault("names no host", "write it as \"redis://127.0.0.1:6379/0\""),
    };
    let database = url.path().trim_start_matches('/').to_owned();
    let database = match (database.as_str(), database.parse::<u32>()) {
        ("", _) => 0,
        (_, Ok(number)) => number,
        (_, Err(_)) => return fault("names no database by its number", "end it with \"/0\""),
    };
    let (scheme, port) = (url.scheme().to_owned(), url.port().unwrap_or(6379));
    if let Some(username) = parts.username
        && url.set_username(username).is_err()
    {
        return fault("can hold no user name", "leave username out");
    }
    if url.set_password(parts.password.or(url.password().map(str::to_owned).as_deref())).is_err() {
        return fault("can hold no password", "leave the password out");
    }
    let full = Zeroizing::new(String::from(url));
    Ok(RedisUrl::new(&full, format!("{scheme}://{host}:{port}/{database}")))
}

fn unix_url(mut url: Url, parts: &RedisParts<'_>) -> Result<RedisUrl, UrlFault> {
    let path = url.path().to_owned();
    if url.host_str().is_some_and(|host| !host.is_empty()) || path.len() < 2 || !url.username().is_empty() {
        return fault("names no absolute path of a socket", "write it as \"unix:///run/redis.sock?db=0\"");
    }
    let mut database = 0_u32;
    for (name, value) in url.query_pairs() {
        match (name.as_ref(), value.parse()) {
            ("db", Ok(number)) => database = number,
            ("db", Err(_)) => return fault("names no database by its number", "end it with \"?db=0\""),
            ("user" | "pass", _) => {}
            _ => return fault("has an unknown part after the \"?\"", "leave there only \"db\""),
        }
    }
    if let Some(username) = parts.username {
        url.query_pairs_mut().append_pair("user", username);
    }
    if let Some(password) = parts.password {
        url.query_pairs_mut().append_pair("pass", password);
    }
    let full = Zeroizing::new(String::from(url));
    Ok(RedisUrl::new(&full, format!("unix://{path}?db={database}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts<'a>(url: &'a str, username: Option<&'a str>, password: Option<&'a str>) -> RedisParts<'a> {
        RedisParts { url, username, password, credentials_allowed: true }
    }

    #[test]
    fn redis_urls_reach_the_client_whole_and_people_without_credentials() {
        let secret = "p@ss/wörd?&+% ";
        for (url, username, password, shown) in [
            ("redis://cache:6380/2", Some("dec:ant"), Some(secret), "redis://cache:6380/2"),
            ("redis://cache", None, Some(secret), "redis://cache:6379/0"),
            ("rediss://cache/1", None, Some(secret), "rediss://cache:6379/1"),
            ("redis://:p%40ss%2Fw%C3%B6rd%3F&+%25%20@[::1]/1", None, None, "redis://[::1]:6379/1"),
            ("unix:///run/redis.sock", Some("dec:ant"), Some(secret), "unix:///run/redis.sock?db=0"),
            ("unix:///run/redis.sock?db=3", None, Some(secret), "unix:///run/redis.sock?db=3"),
        ] {
            let made = redis_url(&parts(url, username, password)).unwrap();
            assert_eq!(made.to_string(), shown);
            assert!(!format!("{made:?}").contains("rd"), "{made:?}");
            let plain = made.expose().replacen("rediss:", "redis:", 1);
            let info = redis::IntoConnectionInfo::into_connection_info(plain.as_str()).unwrap();
            assert_eq!(info.redis_settings().password(), Some(secret), "{url}");
            assert_eq!(info.redis_settings().username(), username, "{url}");
        }
    }

    #[test]
    fn redis_urls_that_cannot_work_are_refused_without_showing_them() {
        for url in [
            "cache:6379",
            "hunter2",
            "rediss://:hunter2@cache/#insecure",
            "http://:hunter2@cache/",
            "redis:///0",
            "redis://:hunter2@cache/zero",
            "redis://:hunter2@cache/0?protocol=resp3",
            "redis://:hunter2@cache/#x",
            "unix://run/redis.sock?pass=hunter2",
            "unix:///run/redis.sock?pass=hunter2&db=x",
            "unix:///run/redis.sock?pass=hunter2&x=y",
        ] {
            let (what, todo) = redis_url(&parts(url, None, None)).unwrap_err();
            assert!(!what.contains("hunter2") && !todo.contains("hunter2"), "{what} {todo}");
        }
        assert!(redis_url(&parts("redis://:a@cache/", None, Some("b"))).is_err());
        let in_file = RedisParts { credentials_allowed: false, ..parts("unix:///s?pass=a", None, None) };
        assert!(redis_url(&in_file).is_err());
    }

    #[test]
    fn sentinels_are_hosts_and_ports_and_nothing_else() {
        for (text, host, port) in [
            ("10.0.0.1:26380", "10.0.0.1", 26_380),
            ("sentinel.example", "sentinel.example", 7),
            ("[::1]:1", "::1", 1),
            ("[::1]", "::1", 7),
        ] {
            assert_eq!(host_and_port(text, 7), Some((host.to_owned(), port)), "{text}");
        }
        for text in ["", ":1", "redis://a:1", "a:b", "u@a:1", "a:1/0", "a:1?x", "a:99999", "a b"] {
            assert_eq!(host_and_port(text, 7), None, "{text}");
        }
    }

    #[test]
    fn kask_urls_end_with_a_slash() {
        assert_eq!(kask_url("http://kask:8081/echoseen/v1").unwrap().as_str(), "http://kask:8081/echoseen/v1/");
        for url in [
            "kask:8081",
            "https://kask/a/",
            "ftp://kask/",
            "http://u@kask/",
            "http://:p@kask/",
            "http://kask/?a",
            "http://kask/#a",
        ] {
            assert!(kask_url(url).is_err(), "{url}");
        }
    }
}
