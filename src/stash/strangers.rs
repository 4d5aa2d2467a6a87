//! Who else writes to a Redis, by its CLIENT LIST: a write past decant is in no outbox, and Kask never gets it. Pure.

/// Commands that write, of those that a cache's or a session store's clients use. Not EVAL and EVALSHA, which decants write by.
const WRITES: &str = "set setex psetex setnx mset msetnx getset getdel getex append setrange incr incrby incrbyfloat decr decrby \
                      del unlink expire pexpire expireat pexpireat persist rename renamenx restore move copy exec flushdb flushall swapdb";

/// Clients of the database that wrote last, as `ADDRESS (COMMAND, N s ago)`. Not replicas, nor the link to a primary.
pub(super) fn writers(list: &str, db: i64) -> Vec<String> {
    list.lines().filter_map(|line| writer(line, db)).collect()
}

fn writer(line: &str, db: i64) -> Option<String> {
    let field = |name: &str| {
        line.split(' ').find_map(|pair| pair.split_once('=').filter(|(n, _)| *n == name)).map(|(_, value)| value.trim())
    };
    let command = field("cmd")?;
    let linked = field("flags").is_some_and(|flags| flags.contains(['M', 'S']));
    let everywhere = matches!(command, "flushall" | "swapdb");
    let here = everywhere || field("db").is_none_or(|number| number == db.to_string());
    if linked || !here || !WRITES.split(' ').any(|write| write == command) {
        return None;
    }
    Some(format!("{} ({command}, {} s ago)", field("addr").unwrap_or("?"), field("idle").unwrap_or("?")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_are_told_from_readers_replicas_decants_and_other_databases() {
        let list = "id=3 addr=10.0.0.1:5000 laddr=10.0.0.9:6379 fd=8 name= age=9 idle=7 flags=N db=0 cmd=set user=default\n\
                    id=4 addr=10.0.0.2:5000 fd=8 name=a age=9 idle=1 flags=N db=0 cmd=get user=default\n\
                    id=5 addr=10.0.0.3:5000 fd=8 name= age=9 idle=0 flags=N db=0 cmd=evalsha user=default\n\
                    id=6 addr=10.0.0.4:5000 fd=8 name= age=9 idle=0 flags=S db=0 cmd=set user=default\n\
                    id=7 addr=10.0.0.5:5000 fd=8 name= age=9 idle=0 flags=M db=0 cmd=set\n\
                    id=8 addr=10.0.0.6:5000 fd=8 name= age=9 idle=0 flags=N db=3 cmd=set\n\
                    id=9 addr=10.0.0.7:5000 fd=8 name= age=9 idle=2 flags=N db=3 cmd=flushall\n\
                    id=10 addr=/run/redis.sock:0 fd=8 name= age=9 idle=0 flags=U db=0 cmd=client|list\n\
                    id=11 addr=/run/redis.sock:0 fd=8 name= age=9 idle=3 flags=U db=0 cmd=exec\r\nnonsense\n\n";
        let expected =
            ["10.0.0.1:5000 (set, 7 s ago)", "10.0.0.7:5000 (flushall, 2 s ago)", "/run/redis.sock:0 (exec, 3 s ago)"];
        assert_eq!(writers(list, 0), expected);
    }
}
