#!/usr/bin/env bash
# Takes out of decant, one after the other, what it relies on (the files of tests/mutations/), builds each under target/, and sets the fault
# bench on it. Tells for each what caught it; ends with status 1 if one was not caught, or does not fit the sources any more.
#
#   deploy/mutations.sh                      all of them: a few minutes, most of it the first build
#   deploy/mutations.sh no-fence no-token    these
#
# It needs a Redis server and an etcd on PATH and uses no port and no service of the machine's own.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repository"

case "${1:-}" in
-h | --help) exec sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$repository/deploy/mutations.sh" ;;
"") DECANT_MUTATIONS=all ;;
*)
    for name in "$@"; do
        [ -f "tests/mutations/$name.toml" ] || die "there is no tests/mutations/$name.toml"
    done
    DECANT_MUTATIONS="$(IFS=, && printf '%s' "$*")"
    ;;
esac
export DECANT_MUTATIONS

need_build_tools
need_redis_server
need_etcd
install_missing
need_cargo

run_bench_test faults::mutations::each_mutation_is_caught "mutations: $DECANT_MUTATIONS" "a mutation was not caught, or does not fit any more: see above"
say "every mutation was caught"
