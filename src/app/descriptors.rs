//! File descriptors. Each connection takes one, and so do those to the tiers: clients alone must never have all of them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For each stash: as many connections to Kask as there may be, twice where it is embedded, and the shards'.
const EACH_STASH: usize = 640;
/// The admin listener's, files, the log.
const THE_REST: usize = 128;
/// Even where there is room for none.
const AT_LEAST: usize = 64;

/// Raises how many files the process may open as far as it may, which is what systemd and others leave to a process to do. Answers for
/// how many of the `wanted` connections there is room beside everything else.
pub fn for_connections(wanted: usize, stashes: usize) -> usize {
    let Rlimit { maximum, current } = getrlimit(Resource::Nofile);
    let raised = current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    let may = if raised { maximum } else { current };
    let room = room(may, stashes);
    if room < wanted {
        tracing::warn!(
            "limits.connections_max is {wanted}, but the process may open {} files: {room} connections are taken. Raise LimitNOFILE or `ulimit -n`",
            may.unwrap_or(u64::MAX)
        );
    }
    wanted.min(room)
}

fn room(may: Option<u64>, stashes: usize) -> usize {
    let may = may.map_or(usize::MAX, |may| usize::try_from(may).unwrap_or(usize::MAX));
    may.saturating_sub(stashes.saturating_mul(EACH_STASH)).saturating_sub(THE_REST).max(AT_LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tiers_connections_come_first() {
        assert_eq!(room(Some(20_000), 1), 20_000 - EACH_STASH - THE_REST);
        assert_eq!((room(Some(1_000), 3), room(Some(0), 0)), (AT_LEAST, AT_LEAST));
        assert!(room(None, 1) > 1_000_000);
    }
}
