#!/usr/bin/env bash
# Runs every test of decant. From a fresh clone on Debian, `deploy/test.sh` is all that is needed: it installs what is
# missing, and says what and why. It asks nothing, and uses no port and no service of the machine's own.
#
#   deploy/test.sh                       all tests
#   deploy/test.sh mediawiki             the tests whose name has "mediawiki" in it
#   deploy/test.sh --lib codec           anything that `cargo test` takes
#   DECANT_TEST_SECONDS=300 deploy/test.sh   a shorter bound on the run (the build is not counted)
#
# Where tests live: unit tests beside the code in src/; everything that needs a Redis, a Kask, MediaWiki or a running
# decant in tests/it/, one module a subject, one binary. A test that draws random numbers prints its seed. A change comes
# with a test that fails without it, and passes .ci/run, which is this script after fmt, clippy and cargo-deny.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repository"

# Above the longest full run that was seen on two cores, several times over.
build_seconds=2400
test_seconds="${DECANT_TEST_SECONDS:-1500}"

case "${1:-}" in -h | --help) exec sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$repository/deploy/test.sh" ;; esac

need_build_tools
need_redis_server
need_redis_sentinel
need_etcd
need_mediawiki
need prometheus "runs the alerts and the dashboard's queries over what decant exports, on a port of its own" has_command promtool
need nutcracker "places keys on several Redis, as decant must" has_command nutcracker
need_browser
need curl "asks decant as a person would" has_command curl
install_missing
fetch_axe
need_cargo

bounded() {
    local seconds="$1" status=0 pid
    shift
    # timeout ends the whole process group, and with it the servers that the tests started. As the group is not the
    # terminal's, Ctrl-C is passed on.
    timeout --kill-after=20 "$seconds" "$@" &
    pid=$!
    trap 'kill -TERM "$pid" 2>/dev/null; wait "$pid" || true; exit 130' INT TERM
    wait "$pid" || status=$?
    trap - INT TERM
    [ "$status" -ne 124 ] || die "'$*' was not done after $seconds s and was stopped"
    return "$status"
}

say "building the tests ($(rustc --version))"
bounded "$build_seconds" cargo test --locked --no-run "$@"
say "running the tests (at most $test_seconds s)"
export RUST_BACKTRACE=1
# Most of the time tests wait for leases, time-outs and servers: two more at once than there are processors.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-$(($(nproc) + 2))}"
bounded "$test_seconds" cargo test --locked "$@"
say "all tests passed"
