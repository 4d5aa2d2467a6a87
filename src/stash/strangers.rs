//! Who else uses a Redis, by its CLIENT LIST: a write past decant is in no outbox, and Kask never gets it; who still reads there once Redis is
//! retired reads what nobody writes any more. Pure.

/// Commands that write data, as Redis counts them. Not EVAL and EVALSHA, which decants write by.
const WRITES: &str = "\
    set setex psetex setnx mset msetnx append setrange setbit bitfield bitop getset getdel getex \
    incr incrby incrbyfloat decr decrby \
    del unlink expire pexpire expireat pexpireat persist rename renamenx restore restore-asking move copy migrate sort \
    hset hsetnx hmset hdel hincrby hincrbyfloat hexpire hpexpire hexpireat hpexpireat hpersist hgetdel hgetex hsetex \
    lpush lpushx rpush rpushx lpop rpop lmpop linsert lset lrem ltrim lmove rpoplpush \
    blpop brpop blmpop blmove brpoplpush \
    sadd srem spop smove sinterstore sunionstore sdiffstore \
    zadd zincrby zrem zremrangebyrank zremrangebyscore zremrangebylex zpopmin zpopmax zmpop bzpopmin bzpopmax bzmpop \
    zunionstore zinterstore zdiffstore zrangestore \
    xadd xdel xtrim xgroup xreadgroup xack xclaim xautoclaim xsetid \
    geoadd georadius georadiusbymember geosearchstore pfadd pfmerge \
    exec fcall flushdb flushall swapdb";

/// What monitoring, Sentinels, replicas and people say who only want to know how Redis fares: it gives no data.
const ADMINISTRATIVE: &str = "\
    acl asking auth bgrewriteaof bgsave client cluster command config dbsize debug echo failover function hello info \
    lastsave latency lolwut memory module monitor ping psync quit readonly readwrite replconf replicaof reset role save \
    script select shutdown slaveof slowlog sync time wait waitaof \
    subscribe psubscribe ssubscribe unsubscribe punsubscribe sunsubscribe publish spublish pubsub";

/// What decants read by, beside what is above: no client of a cache does. They read the fence by GETRANGE for that.
const DECANTS: &str = "eval evalsha scan strlen pttl getrange hget hscan zscan";

/// Clients of the database that are no decants, each as `ADDRESS (COMMAND, N s ago)`. Not replicas, nor the link to a primary.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Strangers {
    /// Those whose last command wrote.
    pub writers: Vec<String>,
    /// Those whose last command was another one that a client gives.
    pub readers: Vec<String>,
}

pub(super) fn strangers(list: &str, db: i64) -> Strangers {
    let mut all = Strangers::default();
    for line in list.lines() {
        let field = |name: &str| {
            let mut pairs = line.split(' ').filter_map(|pair| pair.split_once('='));
            pairs.find(|(found, _)| *found == name).map(|(_, value)| value.trim())
        };
        // Redis 7 tells a subcommand too; a connection that has said nothing yet has NULL.
        let Some(told) = field("cmd").filter(|told| *told != "NULL") else { continue };
        let command = told.split('|').next().unwrap_or(told);
        let is_of = |commands: &str| commands.split_ascii_whitespace().any(|one| one == command);
        // A primary, a replica, and who watches by MONITOR.
        let linked = field("flags").is_some_and(|flags| flags.contains(['M', 'S', 'O']));
        let everywhere = matches!(command, "flushall" | "swapdb");
        let here = everywhere || field("db").is_none_or(|number| number == db.to_string());
        if linked || !here {
            continue;
        }
        let named = || format!("{} ({told}, {} s ago)", field("addr").unwrap_or("?"), field("idle").unwrap_or("?"));
        if is_of(WRITES) {
            all.writers.push(named());
        } else if !is_of(ADMINISTRATIVE) && !is_of(DECANTS) {
            all.readers.push(named());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_and_readers_are_told_from_replicas_decants_and_other_databases() {
        let list = "id=3 addr=10.0.0.1:5000 laddr=10.0.0.9:6379 fd=8 name= age=9 idle=7 flags=N db=0 cmd=set user=default\n\
                    id=4 addr=10.0.0.2:5000 fd=8 name=a age=9 idle=1 flags=N db=0 cmd=get user=default\n\
                    id=5 addr=10.0.0.3:5000 fd=8 name= age=9 idle=0 flags=N db=0 cmd=evalsha user=default\n\
                    id=6 addr=10.0.0.4:5000 fd=8 name= age=9 idle=0 flags=S db=0 cmd=set user=default\n\
                    id=7 addr=10.0.0.5:5000 fd=8 name= age=9 idle=0 flags=M db=0 cmd=set\n\
                    id=8 addr=10.0.0.6:5000 fd=8 name= age=9 idle=0 flags=N db=3 cmd=set\n\
                    id=9 addr=10.0.0.7:5000 fd=8 name= age=9 idle=2 flags=N db=3 cmd=flushall\n\
                    id=10 addr=/run/redis.sock:0 fd=8 name= age=9 idle=0 flags=U db=0 cmd=client|list\n\
                    id=11 addr=/run/redis.sock:0 fd=8 name= age=9 idle=3 flags=U db=0 cmd=exec\r\nnonsense\n\n\
                    id=12 addr=10.0.0.8:5000 fd=8 name= age=9 idle=4 flags=N db=0 cmd=xgroup|create\n\
                    id=13 addr=10.0.0.9:5000 fd=8 name= age=9 idle=5 flags=N db=3 cmd=mget\n\
                    id=14 addr=10.0.0.10:5000 fd=8 name= age=9 idle=6 flags=N db=0 cmd=mget\n\
                    id=15 addr=10.0.0.11:5000 fd=8 name= age=9 idle=6 flags=N db=0 cmd=NULL\n\
                    id=16 addr=10.0.0.12:5000 fd=8 name= age=9 idle=6 flags=O db=0 cmd=monitor\n";
        let writers = [
            "10.0.0.1:5000 (set, 7 s ago)",
            "10.0.0.7:5000 (flushall, 2 s ago)",
            "/run/redis.sock:0 (exec, 3 s ago)",
            "10.0.0.8:5000 (xgroup|create, 4 s ago)",
        ];
        let readers = ["10.0.0.2:5000 (get, 1 s ago)", "10.0.0.10:5000 (mget, 6 s ago)"];
        let expected =
            Strangers { writers: writers.map(str::to_owned).into(), readers: readers.map(str::to_owned).into() };
        assert_eq!(strangers(list, 0), expected);
    }

    #[test]
    fn every_command_is_of_one_kind() {
        let kind = |command: &str| {
            let all = strangers(&format!("id=1 addr=a:1 idle=0 flags=N db=0 cmd={command}"), 0);
            (all.writers.len(), all.readers.len())
        };
        let write = "hset hdel lpush rpush lpop sadd srem zadd xadd setbit incrby decr getset getdel getex append setrange restore rename copy \
                     move flushdb persist pexpire unlink blpop spop zincrby pfadd geoadd fcall";
        let read = "get mget exists ttl type keys hgetall hmget lrange smembers zrange xread randomkey touch dump getbit watch multi \
                    eval_ro evalsha_ro fcall_ro";
        let neither = "info ping client|setname config|get slowlog|get hello auth command|docs latency|latest select replconf psync \
                       script|load evalsha eval scan getrange subscribe publish dbsize";
        for (commands, expected) in [(write, (1, 0)), (read, (0, 1)), (neither, (0, 0))] {
            for command in commands.split_ascii_whitespace() {
                assert_eq!(kind(command), expected, "{command}");
            }
        }
    }
}
