#!/usr/bin/env bash
# Shows the backfill at work: a real Redis with two million values as MediaWiki's RedisBagOStuff writes them, a Kask of its own
# process, and decant between them. It migrates under live load, is killed with kill -9 twice, goes on where it was, and in the end
# nothing may be missing or different. Ends with status 1 where something was wrong.
#
#   deploy/demo-backfill.sh                    two million values; builds decant for release first
#   deploy/demo-backfill.sh --keys 500000      so many: the memory at most must be about the same
#   deploy/demo-backfill.sh --sizes 500000,2000000  one after the other: the memory at most must be the same within 20 %
#   deploy/demo-backfill.sh --rate 400         requests a second of the live load, instead of 200; 0: none
#   deploy/demo-backfill.sh --disk             Kask's file on the disk, not in memory
#   deploy/demo-backfill.sh --binary FILE      this binary instead of building one
#
# Before the migration it measures, with nothing else going on, three rates of the same run: of the backfill over a tenth of the keys, of
# a plain SCAN with a pipelined GET and PTTL of each key, and of POSTs that the same Kask takes from wrk.
# Kask's file is in memory where there is room for it: Kask on Cassandra too answers a write before a disk has it, and it is decant that is
# shown here, not the disk. With --disk the embedded Kask waits for the disk at each write, clients become slower, and the brake shows.
# Loopback only, on free ports, in a directory of its own; everything it started is gone when it ends.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repository"

keys=2000000 rate=200 binary='' disk=0 sizes='' passed=()
while [ $# -gt 0 ]; do
    case "$1" in
    -h | --help) exec sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$repository/deploy/demo-backfill.sh" ;;
    --keys)
        [[ "${2:-}" =~ ^[1-9][0-9]{3,7}$ ]] || die "--keys takes a number from 1000 to 99999999, not '${2:-}'"
        keys="$2" && shift 2 ;;
    --sizes)
        [[ "${2:-}" =~ ^[1-9][0-9]{3,7},[1-9][0-9]{3,7}$ ]] || die "--sizes takes two numbers as --keys, with a comma between, not '${2:-}'"
        sizes="$2" && shift 2 ;;
    --rate)
        [[ "${2:-}" =~ ^(0|[1-9][0-9]{0,4})$ ]] || die "--rate takes a number from 0 to 99999, not '${2:-}'"
        rate="$2" passed+=(--rate "$2") && shift 2 ;;
    --disk) disk=1 passed+=(--disk) && shift ;;
    --binary)
        [ -x "${2:-}" ] || die "--binary takes a decant binary, and '${2:-}' is none"
        binary="$(realpath "$2")" && shift 2 ;;
    *) die "'$1' is not known: see deploy/demo-backfill.sh --help" ;;
    esac
done

need_redis_server
need php-cli "writes values as MediaWiki does, and is the clients" has_command php
need php-redis "PHP talks to Redis with it" has_php_extension redis
need php-curl "PHP talks to decant with it" has_php_extension curl
need wrk "measures how many POSTs Kask takes" has_command wrk
need curl "asks decant how it is doing" has_command curl
need jq "reads what it answers" has_command jq
[ -n "$binary" ] || need_build_tools
install_missing
if [ -z "$binary" ]; then
    need_cargo
    say "building decant for release"
    cargo build --release --locked
    binary="${CARGO_TARGET_DIR:-$repository/target}/release/decant"
fi

# A number with a unit's decimals: calc 'EXPRESSION' FORMAT
calc() { awk "BEGIN { printf \"$2\", $1 }"; }

# The run of each size is one of its own; what decant needed at most is read from what it prints.
if [ -n "$sizes" ]; then
    peaks=()
    for keys in "${sizes%,*}" "${sizes#*,}"; do
        told="$(mktemp)"
        deploy/demo-backfill.sh --keys "$keys" --binary "$binary" "${passed[@]}" | tee "$told"
        peaks+=("$(sed -n 's/^peak memory of decant  *\([0-9.]*\) MiB.*/\1/p' "$told")")
        rm -f "$told"
    done
    ratio="$(calc "${peaks[1]} / ${peaks[0]}" %.2f)"
    awk -v r="$ratio" 'BEGIN { exit !(r >= 1 / 1.2 && r <= 1.2) }' ||
        die "peak memory is ${peaks[0]} MiB of ${sizes%,*} keys and ${peaks[1]} MiB of ${sizes#*,}: by $ratio, and not the same within 20 %"
    say "peak memory: ${peaks[0]} MiB of ${sizes%,*} keys, ${peaks[1]} MiB of ${sizes#*,}: $ratio times as much"
    exit
fi
unset "${!DECANT_@}" # the caller's environment configures another decant, not this one

work="$(mktemp -d "${TMPDIR:-/tmp}/decant-demo-backfill.XXXXXX")"
# Far above what the file takes of a key, values and room for changes together.
kask_bytes_per_key=2048
kask_dir="$work"
if [ "$disk" -eq 0 ]; then
    if [ "$(df --output=avail -B1 /dev/shm 2>/dev/null | tail -n 1)" -gt $((keys * kask_bytes_per_key)) ] 2>/dev/null; then
        kask_dir="$(mktemp -d /dev/shm/decant-demo-backfill.XXXXXX)"
    else
        say "there is no room in memory for Kask's file: it is on the disk"
    fi
fi
pids=()
clean_up() {
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$work" "$kask_dir"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

wrong() {
    printf 'WRONG: %s\n' "$*" >&2
    [ ! -s "$work/decant.log" ] || tail -n 10 "$work/decant.log" >&2
    exit 1
}

# Starts a command in the background, its output added to $work/NAME.log, and remembers it for the end.
start() {
    local name="$1"
    shift
    "$@" >>"$work/$name.log" 2>&1 &
    started=$!
    pids+=("$started")
    # It may be killed on purpose, and nobody is to be told of that.
    disown "$started"
}

# until_so SECONDS WHAT COMMAND...
until_so() {
    local until=$((SECONDS + $1)) what="$2"
    shift 2
    until "$@"; do
        [ "$SECONDS" -lt "$until" ] || wrong "not so after a long time: $what"
        sleep 0.1
    done
}

base=/echoseen/v1/
redis_port="$(free_port)" kask_port="$(free_port)" data_port="$(free_port)" admin_port="$(free_port)"
kask="http://127.0.0.1:$kask_port$base" data="http://127.0.0.1:$data_port$base"
export DECANT_ADMIN="http://127.0.0.1:$admin_port"
php_part() { php -d memory_limit=1G deploy/demo-backfill.php "$@"; }
answers() { case "$(curl -s -o /dev/null -w '%{http_code}' --max-time 5 "$1")" in 200 | 404) ;; *) return 1 ;; esac }
# What the backfill tells of itself, by a filter of jq.
told() { curl -sS --fail --max-time 20 "$DECANT_ADMIN/v1/stashes/echoseen/backfill" | jq -r "$1"; }
# Nothing is on its way between the tiers; what the load's last writes left is settled, and what a kill left is healed.
is_drained() {
    curl -sS --fail --max-time 20 "$DECANT_ADMIN/v1/stashes/echoseen/outbox" | jq -e '.to_kask + .to_redis + .damaged == 0' >/dev/null
}
state_is() { [ "$(told .state)" = "$1" ]; }
seconds() { date +%s.%N; }

start redis redis-server --port "$redis_port" --bind 127.0.0.1 --save '' --appendonly no --dir "$work"
start kask "$binary" kask --listen "127.0.0.1:$kask_port" --data "$kask_dir/kask.redb" --base-uri "$base"
redis_answers() { redis-cli -p "$redis_port" ping >/dev/null 2>&1; }
until_so 30 "Redis answers" redis_answers
until_so 30 "Kask answers" answers "${kask}there"

cat >"$work/proxy.toml" <<END
listen = "127.0.0.1:$data_port"
state_dir = "$work/state"
[admin]
listen = "127.0.0.1:$admin_port"
[stash.echoseen]
base_uri = "$base"
phase = "redis-only"
serialization = "json"
default_ttl = 31536000
[stash.echoseen.kask]
url = "$kask"
[stash.echoseen.redis]
url = "redis://127.0.0.1:$redis_port/0"
END

decant_pid='' memory_kib=0
# Peak resident memory so far, over every life of decant.
note_memory() {
    local kib
    kib="$(sed -n 's/^VmHWM:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$decant_pid/status" 2>/dev/null || true)"
    [ "${kib:-0}" -le "$memory_kib" ] || memory_kib="$kib"
}
serve() {
    start decant "$binary" serve --config "$work/proxy.toml"
    decant_pid=$started
    until_so 60 "decant is ready" answers "$DECANT_ADMIN/readyz"
}

now="$(date +%s)"
say "seeding Redis with $keys values"
read -r odd locks < <(php_part seed "$redis_port" "$keys" "$now")
say "$keys values, $odd keys that Kask cannot have (objects, hashes, lists, slashes), $locks locks: $(redis-cli -p "$redis_port" info memory | tr -d '\r' | sed -n 's/^used_memory_human://p') of memory"

is_moved() { "$binary" phase set "$1" --reason "to copy what nobody reads" >"$work/moved" 2>&1; }
is_settled() { curl -sS --fail --max-time 20 "$DECANT_ADMIN/v1/stashes/echoseen" | jq -e '.state == "settled"' >/dev/null; }
serve
for phase in dual-write kask-first; do
    until_so 60 "the phase is settled" is_settled
    is_moved "$phase" || wrong "the move to $phase: $(cat "$work/moved")"
done
until_so 60 "the phase is settled" is_settled

say "measuring with nothing else going on"
read -r walked walk_s < <(php_part walk "$redis_port")
posts="$(timeout 30 wrk -t 1 -c 64 -d 5s -s deploy/measure.lua "$kask" -- POST 1000 'JSON.."20260101000000"' | grep '^MEASURED')" ||
    wrong "wrk could not measure Kask"
read -r _ posts_n posts_us _ _ posts_bad <<<"$posts"
[ "$posts_bad" -eq 0 ] || wrong "$posts_bad of $posts_n POSTs to Kask failed"
tenth=$((keys / 10))
began="$(seconds)"
"$binary" --json backfill start --limit "$tenth" >/dev/null || true
took="$(calc "$(seconds) - $began" %.2f)"
[ "$(told .keys.copied)" -eq "$tenth" ] || wrong "it copied $(told .keys.copied) keys instead of $tenth"
alone="$(calc "$tenth / $took" %.0f)"
walk_rate="$(calc "$walked / $walk_s" %.0f)" post_rate="$(calc "$posts_n * 1e6 / $posts_us" %.0f)"

if [ "$rate" -gt 0 ]; then
    say "live load: $rate requests a second, reads, writes and deletes of the same keys"
    php_part load "$data" "$keys" "$now" "$rate" "$work" >"$work/load" 2>"$work/load.log" &
    load_pid=$!
    pids+=("$load_pid")
    # What is usual for clients is measured before anything is copied.
    sleep 10
    : >"$work/during"
fi

say "migrating"
began="$(seconds)" down_s=0 killed=0
"$binary" backfill start --detach >/dev/null
kill_9() {
    local at walked before
    at="$(seconds)" before="$(told .begun_unix_ms)"
    # No more than what is on disk counts.
    walked="$(jq '[.shards[].tally.walked.names] | add' "$work/state/echoseen.backfill.json")"
    note_memory
    kill -9 "$decant_pid"
    until_so 10 "decant is gone" test ! -e "/proc/$decant_pid"
    serve
    down_s="$(calc "$down_s + $(seconds) - $at" %.3f)"
    [ "$(told .begun_unix_ms)" = "$before" ] || wrong "it is another run after kill -9"
    [ "$(told .walked.names)" -ge "$walked" ] || wrong "it began again after kill -9: $(told .walked.names) names, and $walked were written down"
    killed=$((killed + 1))
    say "killed with kill -9, and goes on from $walked names"
}
last_line=0
while [ "$(told .state)" = running ]; do
    note_memory
    share="$(told '.share * 1000 | floor')"
    if [ "$killed" -lt 2 ] && [ "$share" -ge $((300 * (killed + 1))) ]; then kill_9; fi
    if [ $((SECONDS - last_line)) -ge 15 ]; then
        last_line=$SECONDS
        printf '   %s\n' "$(told '"\(.share * 1000 | floor / 10) %, \(.keys_per_s | round) keys/s, \(.left_s // "?") s left, held by \(.held_by.what // "nothing")"')"
    fi
    sleep 0.5
done
note_memory
took="$(calc "$(seconds) - $began - $down_s" %.1f)"
state_is finished || wrong "the backfill is $(told '.state + ": " + (.why // "")')"
[ "$killed" -eq 2 ] || wrong "it was killed $killed times, not twice: give it more keys"
met="$(told '[.keys[]] | add')"

if [ "$rate" -gt 0 ]; then
    : >"$work/stop"
    wait "$load_pid" || wrong "the load ended badly: $(tail -n 3 "$work/load.log")"
    read -r ops bad unanswered p50_before p99_before p50_during p99_during <"$work/load"
    [ "$bad" -eq 0 ] || wrong "$bad of $ops answers were not what they must be: $(head -n 3 "$work/load.log")"
fi

say "verifying"
until_so 120 "nothing is under way" is_drained
stayed="$(told .not_moved)"
[ "$stayed" -eq "$odd" ] || wrong "$stayed keys stayed behind, and Kask cannot have $odd"
# Its status is 1, as keys that Kask cannot have are no proof that everything arrived.
"$binary" --json verify >"$work/verify.json" || true
copying_kib="$memory_kib"
note_memory
jq -e '(.last // .).complete' "$work/verify.json" >/dev/null || wrong "verify is not complete: $(jq -c '(.last // .).incomplete' "$work/verify.json")"
report() { jq -r "(.last // .).keys | $1" "$work/verify.json"; }
equal="$(report .equal)" off="$(report '.missing + .different + .tombstone + .pending + .unknown')"
uncarried="$(report '[.untranscodable[], .unstorable[]] | add // 0')"
[ "$off" = 0 ] || wrong "verify: $(jq -r '(.last // .).summary' "$work/verify.json")"
[ "$uncarried" -eq "$odd" ] || wrong "verify found $uncarried keys that Kask cannot have instead of $odd"
read -r sampled different < <(php_part sample "$redis_port" "$kask" "$keys" 5000)
[ "$different" -eq 0 ] || wrong "$different of $sampled keys that PHP read from both are different"

cat <<END

keys                           $keys, and $odd that Kask cannot have: all of those listed, nothing else
decant verify                  $equal keys equal in both tiers, 0 missing, 0 different; PHP itself compared $sampled of them
killed with kill -9            twice; what was met again is in the $met keys that were met
backfill beside the load       $(calc "$met / $took" %.0f) keys/s, $took s
backfill alone                 $alone keys/s, over $tenth keys
SCAN, GET and PTTL of the same $walk_rate keys/s; the backfill alone by that: $(calc "$alone / $walk_rate" %.3f)
POSTs that the same Kask takes $post_rate /s; the backfill alone by that: $(calc "$alone / $post_rate" %.3f)
peak memory of decant          $(calc "$memory_kib / 1024" %.1f) MiB, verify included; copying alone $(calc "$copying_kib / 1024" %.1f)
END
if [ "$rate" -gt 0 ]; then
    cat <<END
clients                        $ops requests, 0 wrong answers, $unanswered without one (decant was killed twice)
  before the migration         p50 $p50_before ms, p99 $p99_before ms
  during                       p50 $p50_during ms, p99 $p99_during ms
END
fi
