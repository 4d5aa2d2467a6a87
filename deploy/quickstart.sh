#!/usr/bin/env bash
# Shows a migration from Redis to Kask: a real Redis, a Kask inside decant, and a thousand values as MediaWiki wrote them.
# From a fresh clone on Debian, `deploy/quickstart.sh` is all that is needed: it installs what is missing, and says what
# and why. Every step is checked; a wrong answer ends it with status 1 and says what was wrong.
#
#   deploy/quickstart.sh           shows everything, then leaves decant serving until Ctrl-C
#   deploy/quickstart.sh --exit    shows everything, and ends: status 0, or 1 where something was wrong
#
# It takes free ports of 127.0.0.1, or those of QUICKSTART_DATA_PORT, QUICKSTART_ADMIN_PORT, QUICKSTART_REDIS_PORT. Outside
# target/ it writes only a temporary folder. That folder and the two processes that it starts are gone when it ends.
# shellcheck disable=SC2317 # functions that only traps and "within" call
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repository"

case "${1:-}" in
"" | --exit) ;;
-h | --help) exec sed -n '2,/^set /{/^set /d;/shellcheck/d;s/^# \{0,1\}//;p}' "$repository/deploy/quickstart.sh" ;;
*) die "unknown argument '$1': the only one is --exit" ;;
esac

# --- telling and checking

steps=0
step() { printf '\n%d. %s\n' "$((++steps))" "$*"; }
tell() { printf '   %s\n' "$@"; }
show() { sed 's/^/   | /'; }

wrong() {
    printf '\nWRONG: %s\n' "$@" >&2
    [ ! -s "$dir/decant.log" ] || { echo "The end of decant's log:" && tail -n 15 "$dir/decant.log"; } >&2
    exit 1
}

# expect WHAT WANTED FOUND
expect() { [ "$3" = "$2" ] || wrong "$1 should be '$2', and is '$3'"; }

# within SECONDS WHAT COMMAND...: until the command succeeds.
within() {
    local seconds="$1" what="$2" end=$((SECONDS + $1))
    shift 2
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || wrong "after $seconds s still not so: $what"
        sleep 0.05
    done
}

# --- processes and ports

pids=()
dir=""

# start LOG COMMAND...: its pid is in $started.
start() {
    # In a session of its own, so that Ctrl-C reaches it through cleanup alone; told to end even if this script is killed.
    setsid setpriv --pdeathsig TERM "${@:2}" >"$1" 2>&1 &
    started=$!
    pids+=("$started")
}

stop() {
    local pid="$1" end=$((SECONDS + 20))
    kill -TERM "$pid" 2>/dev/null || return 0
    while kill -0 "$pid" 2>/dev/null && [ "$SECONDS" -lt "$end" ]; do sleep 0.05; done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
}

cleanup() {
    local status=$? pid
    trap - EXIT
    trap '' INT TERM HUP
    for pid in ${pids[@]+"${pids[@]}"}; do stop "$pid"; done
    [ -z "$dir" ] || rm -rf "$dir"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# port_of VARIABLE: the port that it asks for, or a free one.
port_of() {
    local port="${!1:-}"
    if [ -z "$port" ]; then
        free_port
    elif ! [[ $port =~ ^[1-9][0-9]{0,4}$ ]]; then
        die "$1=$port is no port"
    elif (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        die "port $port is taken: give $1 another, or leave it out for any free one"
    else
        echo "$port"
    fi
}

# --- what is needed

need_build_tools
need_redis_server
need redis-tools "redis-cli, to look into Redis past decant" has_command redis-cli
need curl "asks decant as MediaWiki would" has_command curl
install_missing
need_cargo

say "building decant, unoptimised because that is ready soonest: a minute or two the first time, seconds later"
cargo build --locked --quiet --profile quick --bin decant
binary="${CARGO_TARGET_DIR:-$repository/target}/quick/decant"
decant() { "$binary" "$@"; }

unset "${!DECANT_@}" # the caller's environment configures another decant, not this one
dir="$(mktemp -d "${TMPDIR:-/tmp}/decant-quickstart.XXXXXX")"
redis_port="$(port_of QUICKSTART_REDIS_PORT)"
data_port="$(port_of QUICKSTART_DATA_PORT)"
admin_port="$(port_of QUICKSTART_ADMIN_PORT)"
data="http://127.0.0.1:$data_port/echoseen/v1"
export DECANT_ADMIN="http://127.0.0.1:$admin_port"

redis() { redis-cli -p "$redis_port" "$@"; }

# ask METHOD KEY [BODY]: $status, the body in $answer, who answered in $tier.
ask() {
    status="$(curl -sS -o "$dir/body" -D "$dir/head" -w '%{http_code}' -X "$1" ${3+--data-binary "$3"} "$data/${2//:/%3A}")" ||
        wrong "decant did not answer $1 $2"
    answer="$(cat "$dir/body")"
    tier="$(sed -n 's/^decant-tier: *\([a-z]*\).*/\1/Ip' "$dir/head")"
}

# A line a value: key, TTL in seconds (0: none), what RedisBagOStuff writes, what RESTBagOStuff is to read.
thousand() {
    local n ttl time
    for ((n = 1; n <= 900; n++)); do
        # Echo's seen times; its older versions gave them no TTL.
        ((n % 3)) && ttl=31536000 || ttl=0
        printf -v time '202601%02d%02d%02d%02d' $((n % 28 + 1)) $((n % 24)) $((n % 60)) $((n * 7 % 60))
        printf 'enwiki:echo:seen:alert:time:%d\t%d\ts:14:"%s";\tJSON.."%s"\n' "$n" "$ttl" "$time" "$time"
    done
    for ((n = 1; n <= 50; n++)); do
        printf 'enwiki:quickstart:count:%d\t86400\t%d\tJSON..%d\n' "$n" $((n * 7)) $((n * 7))
        printf 'enwiki:quickstart:page:%d\t0\ta:2:{s:2:"id";i:%d;s:5:"title";s:4:"Main";}\tJSON..{"id":%d,"title":"Main"}\n' \
            "$n" "$n" "$n"
    done
}

# Reads every key through decant and compares every answer; how many came from where: $by_redis, $by_kask, $missing.
read_all() {
    awk -F'\t' '{ print $4 "\t" ($4 == "" ? 404 : 200) }' "$dir/thousand" >"$dir/expected"
    # curl's status is not looked at: a miss may be among the answers, and what else can go wrong shows in the comparison.
    cut -f1 "$dir/thousand" | sed "s|:|%3A|g; s|.*|url = \"$data/&\"|" |
        curl -sf --globoff --config - -w '\t%{http_code} %header{decant-tier}\n' >"$dir/answers" || true
    sed 's/ [a-z]*$//' "$dir/answers" >"$dir/found"
    cmp -s "$dir/expected" "$dir/found" ||
        wrong "not every answer is as it should be (expected <, found >):" "$(diff "$dir/expected" "$dir/found" | head -n 8)"
    by_redis="$(grep -c ' redis$' "$dir/answers")" || true
    by_kask="$(grep -c ' kask$' "$dir/answers")" || true
    missing="$(grep -c '404 $' "$dir/answers")" || true
}

# from_now_on KEY BODY: what read_all is to find under KEY; nothing for an empty BODY.
from_now_on() {
    awk -F'\t' -v OFS='\t' -v key="$1" -v body="$2" '$1 == key { $4 = body } 1' "$dir/thousand" >"$dir/changed"
    mv "$dir/changed" "$dir/thousand"
}

move() {
    tell "\$ decant phase set $1 --reason '$2'"
    decant phase set "$1" --reason "$2" 2>&1 | show || wrong "the move to $1 did not come about"
}

redis_answers() { [ "$(redis INFO server 2>/dev/null | sed -n 's/^process_id:\([0-9]*\).*/\1/p')" = "$redis_pid" ]; }
decant_is_ready() { kill -0 "$decant_pid" && decant phase show 2>/dev/null | grep -qE '^state +settled$'; }
redis_holds() { [ "$(redis GET "$1")" = "$2" ]; }
tiers_are() { decant inspect "$1" >"$dir/inspected" && grep -qE "^tiers +$2\$" "$dir/inspected"; }
repaired() { ask GET "$1" && [ "$tier" = kask ]; }

# --- the steps

step "A Redis of its own on 127.0.0.1:$redis_port, with a thousand values as MediaWiki's RedisBagOStuff writes them."
start "$dir/redis.log" redis-server --port "$redis_port" --bind 127.0.0.1 --dir "$dir" --save '' --appendonly no
redis_pid=$started
within 10 "the Redis that was started answers on port $redis_port" redis_answers
thousand >"$dir/thousand"
awk -F'\t' '{ gsub(/"/, "\\\"", $3); print "SET", $1, "\"" $3 "\"" ($2 ? " EX " $2 : "") }' "$dir/thousand" |
    redis >"$dir/seeded"
expect "the number of keys in Redis" 1000 "$(redis DBSIZE)"
for key in enwiki:echo:seen:alert:time:7 enwiki:quickstart:count:7 enwiki:quickstart:page:7; do
    printf '%-32s %s  (TTL %s)\n' "$key" "$(redis GET "$key")" "$(redis TTL "$key")"
done | show

step "decant in front of it, in the phase redis-only: data on 127.0.0.1:$data_port, admin on 127.0.0.1:$admin_port."
cat >"$dir/proxy.toml" <<TOML
listen = "127.0.0.1:$data_port"
state_dir = "$dir/state"
[admin]
listen = "127.0.0.1:$admin_port"
[stash.echoseen]
base_uri = "/echoseen/v1/"
phase = "redis-only"
serialization = "json"
default_ttl = 31536000
[stash.echoseen.kask]
embedded = true
[stash.echoseen.redis]
url = "redis://127.0.0.1:$redis_port/0"
TOML
start "$dir/decant.log" "$binary" serve --config "$dir/proxy.toml" --log-format text
decant_pid=$started
within 15 "decant is ready" decant_is_ready
ask GET enwiki:echo:seen:alert:time:7
expect "the tier that answered" redis "$tier"
tell "MediaWiki asks over HTTP, as it asks Kask, and reads its own value: $answer (Decant-Tier: $tier)"

step "The first move: from now on every write goes to both tiers, to Redis first."
move dual-write "Kask is up"
key=enwiki:echo:seen:alert:time:1 body='JSON.."20261231235959"'
ask POST "$key" "$body"
expect "the status of the write" 201 "$status"
expect "what Redis holds" 's:14:"20261231235959";' "$(redis GET "$key")"
within 5 "both tiers hold the new value of $key" tiers_are "$key" equal
from_now_on "$key" "$body"
tell "POST $key: $status. \$ redis-cli GET: $(redis GET "$key")" "\$ decant inspect $key"
show <"$dir/inspected"

step "The second move: Kask is read first. What it does not have is answered from Redis, and copied."
move kask-first "writes reach both tiers"
key=enwiki:echo:seen:alert:time:7
ask GET "$key"
expect "the tier that answered" redis "$tier"
tell "GET $key: $answer (Decant-Tier: $tier)"
within 5 "the same read is answered by Kask" repaired "$key"
expect "what Kask answers after the copy" 'JSON.."20260108070749"' "$answer"
tell "and again: $answer (Decant-Tier: $tier)"

step "A deleted value stays deleted, though Redis had it and Kask never did."
key=enwiki:echo:seen:alert:time:2
ask DELETE "$key"
expect "the status of the delete" 204 "$status"
within 5 "neither tier holds $key" tiers_are "$key" "in neither"
ask GET "$key"
expect "the status of a read after the delete" 404 "$status"
expect "EXISTS in Redis" 0 "$(redis EXISTS "$key")"
from_now_on "$key" ""
tell "DELETE: 204. Then GET: $status, redis-cli EXISTS: 0, decant inspect: in neither."

step "Too early: nothing shows that what nobody reads is in Kask, so decant refuses the move that would stop reading Redis."
tell "\$ decant phase set redis-standby --reason 'in a hurry'"
if decant phase set redis-standby --reason "in a hurry" >"$dir/refused" 2>&1; then
    wrong "decant moved to redis-standby although Kask lacks most values"
fi
show <"$dir/refused"
for guard in backfill_finished verified; do
    grep -q "FAIL *$guard" "$dir/refused" || wrong "the move was refused, but not by the guard $guard"
done

step "So everything is compared: most values are in Redis only."
tell "\$ decant verify"
if decant verify >"$dir/compared" 2>&1; then
    wrong "decant verify says that everything arrived although Kask lacks most values"
fi
show <"$dir/compared"

step "And copied, beside clients: the backfill goes through every key of Redis."
tell "\$ decant backfill start"
decant backfill start >"$dir/copied" 2>&1 || wrong "the backfill did not finish" "$(cat "$dir/copied")"
show <"$dir/copied"

step "Now every key is in both tiers, with the same value."
tell "\$ decant verify"
decant verify >"$dir/compared" 2>&1 || wrong "something is missing or different" "$(cat "$dir/compared")"
show <"$dir/compared"
read_all
tell "$by_redis values from Redis, $by_kask from Kask, $missing deleted: each of the thousand answers is right."
expect "values that Kask answers" 999 "$by_kask"
tell "\$ decant status"
decant status >"$dir/status" || wrong "decant status failed"
show <"$dir/status"

step "The third move, with its guards: Kask decides, and Redis only mirrors it, as a way back."
move redis-standby "verify found every value in Kask"
key=enwiki:echo:seen:alert:time:4 body='JSON.."20261224180000"'
ask POST "$key" "$body"
expect "the status of the write" 201 "$status"
within 5 "Redis mirrors the write of $key" redis_holds "$key" 's:14:"20261224180000";'
from_now_on "$key" "$body"
tell "POST $key: $status. \$ redis-cli GET: $(redis GET "$key")"

step "The last move: Redis is not asked any more."
move kask-only "the way back is not needed"

step "Redis is stopped."
stop "$redis_pid"
redis PING >/dev/null 2>&1 && wrong "Redis still answers"
read_all
expect "values that Kask answers without Redis" 999 "$by_kask"
ask POST enwiki:echo:seen:alert:time:3 'JSON.."20270101000000"'
expect "the status of a write without Redis" 201 "$status"
tell "All thousand answers are still right ($by_kask values, $missing deleted), and a write is answered $status." \
    "\$ decant phase history"
decant phase history | show

if [ "${1:-}" = --exit ]; then
    printf '\nEverything was as it should be. Without --exit decant goes on serving, with its console at %s/\n' "$DECANT_ADMIN"
    exit 0
fi
cat <<END

Everything was as it should be, and decant goes on serving until Ctrl-C. In another terminal:

  curl -i $data/enwiki%3Aecho%3Aseen%3Aalert%3Atime%3A7
  curl -i -d 'JSON.."20270202020202"' $data/enwiki%3Aecho%3Aseen%3Aalert%3Atime%3A8
  export DECANT_ADMIN=$DECANT_ADMIN
  $binary status
  $binary inspect enwiki:echo:seen:alert:time:7

The console, in a browser: $DECANT_ADMIN/   Metrics: $DECANT_ADMIN/metrics   Log: $dir/decant.log
END
trap 'printf "\ndecant drains, and everything is tidied up.\n" && exit 0' INT TERM
wait "$decant_pid" || wrong "decant ended by itself, with status $?"
wrong "decant ended by itself"
