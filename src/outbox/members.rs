//! Who is at work on a shard: each decant says so now and then, in one small hash.

use super::{Outbox, ShardFault, scripts};
use crate::tier::redis::value::{as_array, as_bytes};
use std::{str::FromStr, time::Duration};
use tokio::time::Instant;

/// Names kept on a shard: more decants than anybody runs over one Redis.
const NAMES_MAX: usize = 64;
/// A name is dropped this long after it was last heard of.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// What a decant says of itself. On the shard it is `<ms> <version> <store> <decant's own version>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The version of the phase that it believes in.
    pub version: u64,
    /// Where it keeps the record: `file` or `etcd`.
    pub store: String,
    /// Its build.
    pub decant: String,
}

/// A decant that has said that it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    pub member: String,
    /// Before the answer, by the shard's clock.
    pub ms_ago: u64,
    pub says: Announcement,
}

impl Announcement {
    fn to_text(&self) -> String {
        format!("{} {} {}", self.version, self.store, self.decant)
    }

    fn parse<'a>(mut fields: impl Iterator<Item = &'a str>) -> Option<Announcement> {
        let (version, store, decant) = (fields.next()?.parse().ok()?, fields.next()?, fields.next()?);
        Some(Announcement { version, store: store.to_owned(), decant: decant.to_owned() })
    }
}

impl Outbox {
    /// Says that `member` is there, and answers who is, itself included, the latest first.
    pub async fn announce(
        &self,
        shard: usize,
        member: &str,
        says: &Announcement,
        until: Instant,
    ) -> Result<Vec<Announced>, ShardFault> {
        let (text, most, after) = (says.to_text(), NAMES_MAX.to_string(), FORGOTTEN_AFTER.as_millis().to_string());
        let args: [&[u8]; 4] = [member.as_bytes(), text.as_bytes(), most.as_bytes(), after.as_bytes()];
        let keys: [&[u8]; 1] = [&self.names.members];
        let reply = self.shards[shard].script(&scripts::ANNOUNCE, &keys, &args, until).await?;
        let fields = as_array(&reply.value)?.iter().map(as_bytes).collect::<Result<Vec<_>, _>>()?;
        let now = fields.first().and_then(|now| number(now)).unwrap_or_default();
        // What a newer decant says in another way is not understood, and left out.
        Ok(fields
            .get(1..)
            .unwrap_or_default()
            .chunks_exact(2)
            .filter_map(|pair| parse(pair[0], pair[1], now))
            .collect())
    }
}

fn number<T: FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

fn parse(member: &[u8], told: &[u8], now: u64) -> Option<Announced> {
    let mut fields = std::str::from_utf8(told).ok()?.split(' ');
    let stamp: u64 = fields.next()?.parse().ok()?;
    Some(Announced {
        member: std::str::from_utf8(member).ok()?.to_owned(),
        ms_ago: now.saturating_sub(stamp),
        says: Announcement::parse(fields)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_is_understood_and_nothing_else() {
        let says = Announcement { version: 7, store: "file".into(), decant: "0.1.0".into() };
        let told = format!("1000 {}", says.to_text());
        let announced = parse(b"m-1", told.as_bytes(), 3_500).unwrap();
        assert_eq!(announced, Announced { member: "m-1".into(), ms_ago: 2_500, says });
        for odd in ["", "1000", "x 7 file 0.1.0", "1000 seven file 0.1.0", "1000 7 file"] {
            assert_eq!(parse(b"m-1", odd.as_bytes(), 3_500), None, "{odd}");
        }
        assert!(parse(b"m-1", format!("{told} and more").as_bytes(), 3_500).is_some(), "a newer decant may say more");
    }
}
