//! What is asked of a whole shard: its fence, its outbox, its damaged intents.

use super::{
    Outbox,
    reply::{Reply, parse_member},
    scripts,
    witness::Suspect,
};
use crate::{
    codec::key::Key,
    protocol::{
        Fence,
        pending::Look,
        world::{Direction, Token},
    },
    tier::{
        breaker::Asker,
        redis::{
            RedisFailure,
            value::{OddReply, as_array, as_bytes, element},
        },
    },
};
use tokio::time::Instant;

/// A shard could not be asked, or answered in a shape that no script of decant's has.
#[derive(Debug, thiserror::Error)]
pub enum ShardFault {
    #[error(transparent)]
    Redis(#[from] RedisFailure),
    #[error("Redis answered a script in a shape it does not have: {0}")]
    Odd(#[from] OddReply),
}

/// One look at a shard's outbox.
#[derive(Debug)]
pub struct ShardLook {
    pub fence: Option<Fence>,
    pub to_kask: u64,
    pub to_redis: u64,
    /// Intents that are of the phase before the fence's; none: without a fence, or with too many to list, nobody knows.
    pub of_before: Option<u64>,
    pub damaged: u64,
    /// Age of the oldest intent that is not damaged, by Redis's clock.
    pub oldest_ms: Option<u64>,
    pub keys: Look,
    /// Every intent that is not damaged; empty where there are too many to list.
    pub intents: Vec<(Token, Key)>,
    /// Writes, intents and fences since the shard was first used, as far as its data knows.
    pub writes: u64,
    /// The shard is in another life than this decant was accepted in, or has counted less than it has seen.
    pub must_compare: bool,
    /// Nothing is copied from what the server held before, for so many ms from now.
    pub quiet_ms: u64,
    pub suspect: Option<Suspect>,
    /// Who accepted the last loss, when and why.
    pub accepted: Option<String>,
    /// When a loss was accepted in a phase in which Redis is a mirror: it lacks writes since, until it is written first again.
    pub mirror_lost_unix_ms: Option<u64>,
    /// Keys that it has evicted since `kask-first` began, when that was last asked.
    pub evicted: u64,
}

/// What accepting a loss came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Accepted {
    Done,
    /// The shard is not suspect.
    Nothing,
    /// What was on its way to Kask when the server came back may still arrive, for so many ms.
    Early(u64),
}

/// What raising a fence came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Raised {
    Done,
    /// The shard has one of this version or a newer; none: one that this decant cannot read.
    Refused(Option<Fence>),
}

/// An intent that was given up on.
#[derive(Debug, PartialEq, Eq)]
pub struct Damaged {
    pub token: Token,
    pub key: Key,
    pub since_unix_ms: u64,
    pub tries: u32,
    pub direction: Direction,
    pub reason: String,
}

impl Outbox {
    /// A look that finds something missing ends the connection: a new one is compared before it is used.
    pub async fn look(&self, shard: usize, until: Instant) -> Result<ShardLook, ShardFault> {
        let names = &self.names;
        let keys: [&[u8]; 6] =
            [&names.to_kask, &names.to_redis, &names.damaged, &names.fence, &names.generation, &names.life];
        let most = self.settings.look_max.to_string();
        let asked = self.witnesses[shard].known();
        // The one that goes on asking while Redis counts as away, so that it is known at once when it is back.
        let args: [&[u8]; 1] = [most.as_bytes()];
        let reply = Reply::new(self.shards[shard].script_as(Asker::Eager, &scripts::LOOK, &keys, &args, until).await?)?;
        let fields = reply.list(7)?.iter().map(as_bytes).collect::<Result<Vec<_>, _>>()?;
        let members = || fields.chunks_exact(2).filter_map(|pair| Some((parse_member(pair[0])?, pair[1])));
        let is_listed = reply.int(6)? == 1;
        let keys = match is_listed {
            true => Look::Keys(members().map(|((_, key), _)| own_key(key)).collect()),
            false => Look::Everything,
        };
        let (to_kask, to_redis) = (reply.int(1)?.max(0) as u64, reply.int(2)?.max(0) as u64);
        let fence = Fence::parse(reply.text(0)?).ok();
        // Those to Kask stand first.
        let direction = |at: usize| if (at as u64) < to_kask { Direction::ToKask } else { Direction::ToRedis };
        let directed: Vec<(Key, Direction)> = match &fence {
            Some(Fence { ahead: Some(_), .. }) if is_listed => {
                let placed = fields.chunks_exact(2).enumerate();
                placed.filter_map(|(at, pair)| Some((own_key(parse_member(pair[0])?.1), direction(at)))).collect()
            }
            _ => Vec::new(),
        };
        let listed = is_listed.then(|| directed.iter().map(|(key, direction)| (key, *direction)));
        let of_before = fence.as_ref().and_then(|fence| fence.of_before(to_kask, to_redis, listed));
        let intents =
            members().filter(|(_, score)| *score != b"inf").map(|((token, key), _)| (token, own_key(key))).collect();
        let (oldest, now) = (reply.text(4)?.parse::<f64>().ok(), reply.number(5)?);
        let (own, writes, witness) = (reply.int(8)? == 1, reply.number(9)?, &self.witnesses[shard]);
        let must_compare = witness.must_compare(&reply.life, own, writes, &asked);
        if must_compare {
            // Whoever connects is compared.
            self.shards[shard].renew(&reply.life);
        } else {
            witness.saw(&reply.life, writes);
        }
        Ok(ShardLook {
            fence,
            to_kask,
            to_redis,
            of_before,
            damaged: reply.int(3)?.max(0) as u64,
            oldest_ms: oldest.map(|stamp| now.saturating_sub(stamp as u64)),
            keys,
            intents,
            writes,
            must_compare,
            quiet_ms: reply.number(10)?.saturating_sub(now),
            suspect: Suspect::parse(reply.text(11)?),
            accepted: Some(reply.text(12)?.to_owned()).filter(|text| !text.is_empty()),
            mirror_lost_unix_ms: Some(reply.number(13)?).filter(|at| *at > 0),
            evicted: reply.number(14)?,
        })
    }

    /// An operator's word on a suspect shard: what is lost is lost, and what it holds counts again. `told`: who, when and why.
    pub async fn accept_loss(&self, shard: usize, told: &str, until: Instant) -> Result<Accepted, ShardFault> {
        let keys: [&[u8]; 3] = [&self.names.life, &self.names.generation, &self.names.fence];
        let reply = Reply::new(self.shards[shard].script(&scripts::ACCEPT, &keys, &[told.as_bytes()], until).await?)?;
        Ok(match reply.text(0)? {
            "accepted" => {
                self.witnesses[shard].saw(&reply.life, reply.number(1)?);
                Accepted::Done
            }
            "early" => Accepted::Early(reply.number(1)?),
            _ => Accepted::Nothing,
        })
    }

    /// Keys that the shard has evicted since `kask-first` began, as far as anybody has asked before it restarted.
    pub async fn evicted(&self, shard: usize, until: Instant) -> Result<u64, ShardFault> {
        let keys: [&[u8]; 1] = [&self.names.life];
        let reply = Reply::new(self.shards[shard].script(&scripts::EVICTED, &keys, &[], until).await?)?;
        Ok(reply.number(1)?)
    }

    /// The oldest intents past the lease by Redis's clock, at most `most` a direction.
    pub async fn expired(
        &self,
        shard: usize,
        lease_ms: u64,
        most: usize,
        until: Instant,
    ) -> Result<Vec<(Token, Key)>, ShardFault> {
        let (lease, most) = (lease_ms.to_string(), most.to_string());
        let keys: [&[u8]; 2] = [&self.names.to_kask, &self.names.to_redis];
        let reply =
            self.shards[shard].script(&scripts::EXPIRED, &keys, &[lease.as_bytes(), most.as_bytes()], until).await?;
        let members = as_array(&reply.value)?.iter().map(as_bytes).collect::<Result<Vec<_>, _>>()?;
        Ok(members.into_iter().filter_map(parse_member).map(|(token, key)| (token, own_key(key))).collect())
    }

    /// The fence as it stands, as text: `None` where the shard has none.
    pub async fn fence(&self, shard: usize, until: Instant) -> Result<Option<Fence>, ShardFault> {
        // Not by GET: a CLIENT LIST would show this decant as a client that reads.
        let mut get = redis::cmd("GETRANGE");
        get.arg(self.names.fence.as_slice()).arg(0).arg(-1);
        let value = self.shards[shard].command(get, until).await?;
        Ok(Fence::parse(std::str::from_utf8(as_bytes(&value)?).unwrap_or("")).ok())
    }

    /// `settled`: the move to this fence is over, and nothing of before it is left to arrive in Kask.
    pub async fn raise(
        &self,
        shard: usize,
        fence: &Fence,
        settled: bool,
        until: Instant,
    ) -> Result<Raised, ShardFault> {
        let (text, version, lease) = (fence.to_text(), fence.version.to_string(), self.settings.lease_ms.to_string());
        let keys: [&[u8]; 3] = [&self.names.fence, &self.names.generation, &self.names.life];
        let state: &[u8] = if settled { b"settled" } else { b"moving" };
        let args: [&[u8]; 4] = [text.as_bytes(), version.as_bytes(), lease.as_bytes(), state];
        let reply = Reply::new(self.shards[shard].script(&scripts::RAISE, &keys, &args, until).await?)?;
        if reply.text(0)? != "raised" {
            return Ok(Raised::Refused(Fence::parse(reply.text(1)?).ok()));
        }
        self.witnesses[shard].saw(&reply.life, reply.number(1)?);
        Ok(Raised::Done)
    }

    /// Damaged intents of the shard, about `most` of them in no order: a step more may come, never all of a huge hash at once.
    pub async fn damaged(&self, shard: usize, most: usize, until: Instant) -> Result<Vec<Damaged>, ShardFault> {
        let mut damaged = Vec::new();
        let mut cursor = b"0".to_vec();
        loop {
            let mut scan = redis::cmd("HSCAN");
            scan.arg(self.names.damaged.as_slice()).arg(cursor.as_slice()).arg("COUNT").arg(DAMAGED_STEP);
            let reply = self.shards[shard].command(scan, until).await?;
            let items = as_array(&reply)?;
            let fields = as_array(element(items, 1)?)?.iter().map(as_bytes).collect::<Result<Vec<_>, _>>()?;
            damaged.extend(fields.chunks_exact(2).filter_map(|pair| parse_damaged(pair[0], pair[1])));
            cursor = as_bytes(element(items, 0)?)?.to_vec();
            if cursor == b"0" || damaged.len() >= most {
                damaged.truncate(most);
                return Ok(damaged);
            }
        }
    }
}

/// Damaged intents asked for in one step.
const DAMAGED_STEP: usize = 250;

/// Scripts are given the client's key beside the prefixed one, so that what comes back needs no stripping.
pub(super) fn own_key(key: &[u8]) -> Key {
    Key::from_bytes(key.to_vec())
}

pub(super) fn parse_damaged(token: &[u8], told: &[u8]) -> Option<Damaged> {
    let token = Token(u128::from_str_radix(std::str::from_utf8(token).ok()?, 16).ok()?);
    let newline = told.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&told[..newline]).ok()?;
    let mut fields = head.splitn(4, ' ');
    Some(Damaged {
        token,
        key: own_key(&told[newline + 1..]),
        since_unix_ms: fields.next()?.parse().ok()?,
        tries: fields.next()?.parse().ok()?,
        direction: if fields.next()? == "kask" { Direction::ToKask } else { Direction::ToRedis },
        reason: fields.next()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_intent_is_read_back_whatever_its_key_holds() {
        let told = b"1700000000000 5 kask Kask refused: 400 \nwiki:a b\nc\xff";
        let damaged = parse_damaged(b"0000000000000000000000000000000a", told).unwrap();
        assert_eq!(damaged.key.as_bytes(), b"wiki:a b\nc\xff");
        assert_eq!((damaged.token, damaged.tries, damaged.reason.as_str()), (Token(10), 5, "Kask refused: 400 "));
        assert_eq!(parse_damaged(b"zz", told), None);
        assert_eq!(parse_damaged(b"0a", b"1 2 kask no newline"), None);
    }
}
