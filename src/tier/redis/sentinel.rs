//! Redis Sentinel: which Redis is the primary now.
//!
//! All are asked at once, and most voices count: one that was cut off from the others goes on naming a primary that they have replaced.

use super::{dial::tcp, link::handshake, tls::Tls, value};
use redis::{RedisConnectionInfo, RedisError, Value};
use std::{future, io, sync::Arc, time::Duration};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

/// One Sentinel is given up on after this. The connection to the primary has the rest of a second.
const ASK_TIMEOUT: Duration = Duration::from_millis(300);
/// How often they are asked while the connection works: a primary that was cut off from them does not tell that it is none any more.
const WATCH_EVERY: Duration = Duration::from_secs(5);

/// Host and port.
pub(super) type Address = (String, u16);

/// The Sentinels of one Redis.
pub(super) struct Sentinels {
    list: Vec<Address>,
    /// The name that they watch it under.
    pub(super) master: String,
    hello: RedisConnectionInfo,
    tls: Option<Arc<Tls>>,
}

impl Sentinels {
    pub(super) fn new(
        list: Vec<Address>,
        master: String,
        hello: RedisConnectionInfo,
        tls: Option<Arc<Tls>>,
    ) -> Sentinels {
        Sentinels { list, master, hello, tls }
    }

    /// The primary, as most of them say.
    pub(super) async fn primary(self: &Arc<Sentinels>) -> Result<Address, RedisError> {
        let mut asked = JoinSet::new();
        for index in 0..self.list.len() {
            let all = self.clone();
            asked.spawn(async move {
                let answer = timeout(ASK_TIMEOUT, all.ask(index)).await;
                let late = || Err(format!("no answer within {} ms", ASK_TIMEOUT.as_millis()));
                (index, answer.unwrap_or_else(|_| late()))
            });
        }
        let mut answers = asked.join_all().await;
        answers.sort_by_key(|(index, _)| *index);
        let named: Vec<&Address> = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).collect();
        if let Some(primary) = most_named(&named) {
            return Ok(primary.clone());
        }
        let why = |(index, answer): &(usize, Result<Address, String>)| {
            let (host, port) = &self.list[*index];
            answer.as_ref().err().map(|why| format!("{host}:{port}: {why}"))
        };
        let why: Vec<String> = answers.iter().filter_map(why).collect();
        let text = format!("no Sentinel names a primary for {:?}: {}", self.master, why.join("; "));
        Err(io::Error::other(text).into())
    }

    async fn ask(&self, index: usize) -> Result<Address, String> {
        let (host, port) = &self.list[index];
        let reply = async {
            let stream = tcp(host, *port, self.tls.as_deref()).await?;
            let (mut connection, driver) = handshake(&self.hello, stream).await?;
            let mut get = redis::cmd("SENTINEL");
            get.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master);
            tokio::select! {
                reply = connection.send_packed_command(&get) => reply?.extract_error(),
                () = driver => Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
            }
        };
        let reply = reply.await.map_err(|error: RedisError| error.to_string())?;
        address(&reply).ok_or_else(|| "it watches nothing of that name".to_owned())
    }

    /// Ends when they name another primary than this one. While they name none nothing is known, and nothing is done.
    pub(super) async fn replaced(self: &Arc<Sentinels>, now: &Address) {
        loop {
            sleep(WATCH_EVERY).await;
            if self.primary().await.is_ok_and(|named| named != *now) {
                return;
            }
        }
    }
}

/// Of as many voices for two, the first named counts.
fn most_named<'a>(named: &[&'a Address]) -> Option<&'a Address> {
    let voices = |one: &Address| named.iter().filter(|other| **other == one).count();
    // The last of equal ones is `max_by_key`'s.
    named.iter().rev().max_by_key(|one| voices(one)).copied()
}

fn address(reply: &Value) -> Option<Address> {
    let items = value::as_array(reply).ok()?;
    let text = |index| std::str::from_utf8(value::as_bytes(value::element(items, index).ok()?).ok()?).ok();
    Some((text(0)?.to_owned(), text(1)?.parse().ok()?))
}

/// Never ends where no Sentinels are.
pub(super) async fn replaced(sentinels: Option<(&Arc<Sentinels>, &Address)>) {
    match sentinels {
        Some((sentinels, now)) => sentinels.replaced(now).await,
        None => future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_voices_count_and_of_equal_ones_the_first() {
        let (a, b, c) = (("a".to_owned(), 1), ("b".to_owned(), 1), ("a".to_owned(), 2));
        assert_eq!(most_named(&[]), None);
        assert_eq!(most_named(&[&a]), Some(&a));
        assert_eq!(most_named(&[&a, &b, &b]), Some(&b));
        assert_eq!(most_named(&[&a, &b]), Some(&a));
        assert_eq!(most_named(&[&b, &a, &c]), Some(&b));
    }

    #[test]
    fn an_address_is_host_and_port() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        assert_eq!(address(&Value::Array(vec![bulk("::1"), bulk("6379")])), Some(("::1".into(), 6379)));
        for odd in [Value::Nil, Value::Array(vec![]), Value::Array(vec![bulk("a"), bulk("x")])] {
            assert_eq!(address(&odd), None);
        }
    }
}
