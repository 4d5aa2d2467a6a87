#!/usr/bin/env bash
# Runs the fault bench for long: two decants on a real Redis and a Kask of its own process, under faults drawn from a seed, while
# clients work and phases change. Prints operations, faults and violations after every round, and ends with status 1 on any violation.
#
#   deploy/soak.sh                          10 minutes, a seed of its own
#   deploy/soak.sh --minutes 60 --seed 7    for so long, drawn from that seed
#
# It needs a Redis server on PATH and uses no port and no service of the machine's own.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repository"

minutes=10
seed=$((RANDOM * 32768 + RANDOM))
while [ $# -gt 0 ]; do
    case "$1" in
    --minutes | --seed)
        [[ "${2:-}" =~ ^[0-9]+$ ]] || die "$1 takes a whole number, as in '$1 5'"
        if [ "$1" = --minutes ]; then minutes="$2"; else seed="$2"; fi
        shift 2
        ;;
    -h | --help) exec sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$repository/deploy/soak.sh" ;;
    *) die "what is '$1'? It takes --minutes N and --seed S" ;;
    esac
done

need_build_tools
need_redis_server
install_missing
need_cargo

say "building ($(rustc --version))"
cargo test --locked --release --test it --no-run
say "soaking for $minutes minutes with seed $seed"
export DECANT_SOAK_MINUTES="$minutes" DECANT_FAULT_SEED="$seed" RUST_BACKTRACE=1
status=0
# What the servers log is not what this is about. What a round found is printed whole.
cargo test --locked --release --quiet --test it faults::faults_lose_nothing -- --exact --nocapture 2>&1 |
    grep --line-buffered -v -e '^decant: ' -e 'decant::kask_server::file' || status="${PIPESTATUS[0]}"
[ "${status:-0}" -eq 0 ] || die "violations, or the bench could not run: see above; --seed $seed draws the same schedule again"
say "$minutes minutes without a violation (seed $seed)"
