#!/usr/bin/env bash
# Shows, on real processes and at full length, what clients notice while a tier is away and while other clients mean no good:
#
#   Kask in a black hole for 60 s under 500 operations a second (kask-first): no client error, p99 within the budget; then a drain
#   Redis stopped for 30 s: in kask-first hits are answered and writes refused within 0.5 s, and done again within a second of its return;
#   in redis-standby no client error, then a clean mirror. No violation in any of them
#   10,000 stalled connections, 50 MB bodies, 1 MB headers and a slowloris at once: bounded memory, and others are served
#
#   deploy/outages.sh            all of them, one after the other: about five minutes
#   deploy/outages.sh kask       those with "kask" in their name: kask_in_a_black_hole, redis_hangs_in_kask_first; also: standby, stalled
#
# It prints the figures of each, and ends with status 1 if one is not as it must be. `cargo test` runs each of them for a few seconds. It
# needs a Redis server on PATH and uses no port and no service of the machine's own.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repository"

case "${1:-}" in
-h | --help) exec sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$repository/deploy/outages.sh" ;;
-*) die "what is '$1'? It takes a part of a name, or nothing" ;;
esac

need_build_tools
need_redis_server
install_missing
need_cargo

# Clients and decant have a descriptor each for every connection.
ulimit -n "$(ulimit -Hn)"
[ "$(ulimit -n)" = unlimited ] || [ "$(ulimit -n)" -ge 12000 ] || die "12,000 open files are needed, and 'ulimit -Hn' is $(ulimit -Hn)"

say "building ($(rustc --version))"
cargo test --locked --release --test it --no-run
export DECANT_OUTAGES=full RUST_BACKTRACE=1
failed=()
ran=0
for show in \
    faults::outages::kask_in_a_black_hole \
    faults::outages::redis_hangs_in_kask_first \
    faults::outages::redis_hangs_in_redis_standby \
    crowd::stalled_and_oversized_clients_do_not_fill_the_memory_and_others_are_served; do
    [[ "$show" == *"${1:-}"* ]] || continue
    ran=$((ran + 1))
    say "$show"
    # What the servers log is not what this is about.
    cargo test --locked --release --quiet --test it "$show" -- --exact --nocapture 2>&1 |
        grep --line-buffered -v -e '^decant: ' -e 'decant::kask_server::file' -e '^$' || [ "${PIPESTATUS[0]}" -eq 0 ] || failed+=("$show")
done
[ "$ran" -gt 0 ] || die "none of them has '$1' in its name"
[ "${#failed[@]}" -eq 0 ] || die "not as it must be: ${failed[*]}; see above"
say "all as it must be"
