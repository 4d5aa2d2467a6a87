#!/usr/bin/env bash
# How fast decant is, and what it costs: GETs and POSTs of small values through decant in kask-first, straight to the same
# Kask, and through nginx as the yardstick of what a proxy costs at the least. About two minutes after the build.
#
#   deploy/measure.sh                      everything; builds decant for release first
#   deploy/measure.sh --rounds 9           more rounds than 5, for steadier medians
#   deploy/measure.sh --seconds 5          longer runs than 3 s
#   deploy/measure.sh --against FILE       another decant binary beside it: before and after a change, in the same rounds
#   deploy/measure.sh --binary FILE        this binary instead of building one
#
# Every round runs every target once, one after the other, so that a busy machine is busy for all of them; what is told are
# medians of the rounds, and ratios taken within each round. CPU time is what the kernel counted for the process (/proc), user
# and system, divided by the requests answered: for a proxy its own, without the Kask behind it.
# Loopback only, on free ports, in a directory of its own; everything it started is gone when it ends.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repository"

rounds=5 seconds=3 binary='' against=''
keys=1000 connections=32 body='JSON.."20260101000000"'
# No run may hang: the load itself, and then some.
grace=20

while [ $# -gt 0 ]; do
    case "$1" in
    -h | --help) exec sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$repository/deploy/measure.sh" ;;
    --rounds | --seconds)
        [[ "${2:-}" =~ ^[1-9][0-9]{0,2}$ ]] || die "$1 takes a number from 1 to 999, not '${2:-}'"
        printf -v "${1#--}" '%s' "$2" && shift 2 ;;
    --binary | --against)
        [ -x "${2:-}" ] || die "$1 takes a decant binary, and '${2:-}' is none"
        printf -v "${1#--}" '%s' "$(realpath "$2")" && shift 2 ;;
    *) die "'$1' is not known: see deploy/measure.sh --help" ;;
    esac
done

need_redis_server
need wrk "sends the load" has_command wrk
need curl "asks whether decant is ready" has_command curl
command -v nginx >/dev/null || PATH="$PATH:/usr/sbin"
# Only the program: Debian's service is neither used nor touched by what follows.
need nginx-light "the yardstick: a proxy that is known to be cheap" has_command nginx
[ -n "$binary" ] || need_build_tools
install_missing
if [ -z "$binary" ]; then
    need_cargo
    say "building decant for release"
    cargo build --release --locked
    binary="${CARGO_TARGET_DIR:-$repository/target}/release/decant"
fi

work="$(mktemp -d "${TMPDIR:-/tmp}/decant-measure.XXXXXX")"
pids=()
clean_up() {
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# Starts a command in the background, its output in $work/NAME.log, and remembers it for the end.
start() {
    local name="$1"
    shift
    "$@" >"$work/$name.log" 2>&1 &
    pids+=($!)
    started=$!
}

until_answered() {
    local what="$1" url="$2" pid="$3"
    for _ in $(seq 200); do
        kill -0 "$pid" 2>/dev/null || die "$what ended: $(tail -n 5 "$work/$what.log")"
        case "$(curl -s -o "$work/answer" -w '%{http_code}' --max-time 2 "$url" || true)" in 200 | 404) return 0 ;; esac
        sleep 0.05
    done
    die "$what did not answer at $url within ten seconds: $(tail -n 5 "$work/$what.log")"
}

base=/echoseen/v1/
redis_port="$(free_port)" kask_port="$(free_port)" nginx_port="$(free_port)"

start redis redis-server --port "$redis_port" --bind 127.0.0.1 --save '' --appendonly no --dir "$work"
start kask "$binary" kask --listen "127.0.0.1:$kask_port" --data "$work/kask.redb" --base-uri "$base"
kask_pid=$started
until_answered kask "http://127.0.0.1:$kask_port${base}there" "$kask_pid"

# Each decant has a Redis database and a state of its own, and all share the Kask.
start_decant() {
    local name="$1" program="$2" db="$3" port
    port="$(free_port)"
    mkdir "$work/$name"
    cat >"$work/$name/proxy.toml" <<END
listen = "127.0.0.1:$port"
state_dir = "$work/$name/state"
[admin]
listen = "127.0.0.1:0"
[stash.echoseen]
base_uri = "$base"
phase = "kask-first"
serialization = "json"
default_ttl = 0
[stash.echoseen.kask]
url = "http://127.0.0.1:$kask_port$base"
[stash.echoseen.redis]
url = "redis://127.0.0.1:$redis_port/$db"
END
    start "$name" "$program" serve --config "$work/$name/proxy.toml"
    declare -g "${name}_pid=$started" "${name}_port=$port"
    until_answered "$name" "http://127.0.0.1:$port${base}there" "$started"
}
start_decant decant "$binary" 0
[ -z "$against" ] || start_decant other "$against" 1

cat >"$work/nginx.conf" <<END
daemon off;
pid $work/nginx.pid;
error_log $work/nginx-error.log;
worker_processes $(nproc);
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path $work/nginx-body;
    proxy_temp_path $work/nginx-proxy;
    fastcgi_temp_path $work/nginx-fastcgi;
    uwsgi_temp_path $work/nginx-uwsgi;
    scgi_temp_path $work/nginx-scgi;
    keepalive_requests 100000000;
    upstream kask { server 127.0.0.1:$kask_port; keepalive 64; keepalive_requests 100000000; }
    server {
        listen 127.0.0.1:$nginx_port;
        location / { proxy_pass http://kask; proxy_http_version 1.1; proxy_set_header Connection ""; }
    }
}
END
start nginx nginx -c "$work/nginx.conf" -p "$work"
nginx_pid=$started
until_answered nginx "http://127.0.0.1:$nginx_port${base}there" "$nginx_pid"

# CPU time of a process and its children, in microseconds.
cpu_us() {
    local pid stat fields total=0
    for pid in "$1" $(cat "/proc/$1/task/$1/children"); do
        stat="$(cat "/proc/$pid/stat")"
        # After the name, which may hold anything: user and system time are the 12th and 13th.
        read -ra fields <<<"${stat##*) }"
        total=$((total + fields[11] + fields[12]))
    done
    echo $((total * 1000000 / $(getconf CLK_TCK)))
}

rss_mib() {
    local pid
    for pid in "$1" $(cat "/proc/$1/task/$1/children"); do sed -n 's/^VmRSS:[[:space:]]*//p' "/proc/$pid/status"; done |
        awk '{ kib += $1 } END { printf "%.1f", kib / 1024 }'
}

# One run. A line in $work/runs: target round req/s p50_us p99_us own_cpu_us kask_cpu_us
run() {
    local target="$1" method="$2" pid="$3" port="$4" round="$5" own kask line requests took_us p50_us p99_us faults
    own="$(cpu_us "$pid")" kask="$(cpu_us "$kask_pid")"
    line="$(timeout $((seconds + grace)) wrk -t 1 -c "$connections" -d "${seconds}s" -s deploy/measure.lua \
        "http://127.0.0.1:$port$base" -- "$method" "$keys" "$body" 2>&1 | grep '^MEASURED')" ||
        die "wrk failed at $target: its output had no result"
    own=$(($(cpu_us "$pid") - own)) kask=$(($(cpu_us "$kask_pid") - kask))
    read -r _ requests took_us p50_us p99_us faults <<<"$line"
    [ "$faults" -eq 0 ] || die "$target: $faults of $requests requests failed: $(tail -n 3 "$work/${target%-*}.log")"
    echo "$target $round $requests $took_us $p50_us $p99_us $own $kask" |
        awk '{ printf "%s %d %.1f %d %d %.2f %.2f\n", $1, $2, $3 * 1e6 / $4, $5, $6, $7 / $3, $8 / $3 }' >>"$work/runs"
}

# A target a line: name, method, pid, port.
targets=("kask-GET GET $kask_pid $kask_port" "nginx-GET GET $nginx_pid $nginx_port" "decant-GET GET $decant_pid $decant_port")
[ -z "$against" ] || targets+=("other-GET GET $other_pid $other_port")
targets+=("kask-POST POST $kask_pid $kask_port" "decant-POST POST $decant_pid $decant_port")
[ -z "$against" ] || targets+=("other-POST POST $other_pid $other_port")

say "filling Kask with $keys values, and warming up"
for target in "kask-POST POST $kask_pid $kask_port" "${targets[@]}"; do
    # shellcheck disable=SC2086 # a target is four words
    seconds=1 run $target 0
done
[ "$(curl -s "http://127.0.0.1:$decant_port${base}measured%3A1")" = "$body" ] || die "decant does not answer what was written"
: >"$work/runs"
say "$rounds rounds of ${#targets[@]} runs of $seconds s, $connections connections, values of ${#body} bytes, $(nproc) processors"
for round in $(seq "$rounds"); do
    # shellcheck disable=SC2086 # a target is four words
    for target in "${targets[@]}"; do run $target "$round"; done
done

column() { awk -v target="$1" -v column="$2" '$1 == target { print $column }' "$work/runs"; }
median() { sort -g | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

# Median over the rounds of one target's column by another's.
ratio() { paste <(column "$1" "$3") <(column "$2" "$3") | awk '$2 > 0 { printf "%.3f\n", $1 / $2 }' | median; }

printf '\n%-12s %9s %9s %9s %14s %14s\n' target 'req/s' 'p50 us' 'p99 us' 'own CPU us/req' 'Kask us/req'
for target in "${targets[@]}"; do
    name="${target%% *}"
    printf '%-12s %9.0f %9.0f %9.0f %14.1f' "$name" "$(column "$name" 3 | median)" "$(column "$name" 4 | median)" \
        "$(column "$name" 5 | median)" "$(column "$name" 6 | median)"
    case "$name" in kask-*) printf ' %14s\n' '' ;; *) printf ' %14.1f\n' "$(column "$name" 7 | median)" ;; esac
done
printf '\nresident memory after the runs: decant %s MiB' "$(rss_mib "$decant_pid")"
[ -z "$against" ] || printf ', the other decant %s MiB' "$(rss_mib "$other_pid")"
printf ', Kask %s MiB, nginx %s MiB\n\nratios (medians of the rounds)\n' "$(rss_mib "$kask_pid")" "$(rss_mib "$nginx_pid")"
tell() { printf '  %-44s %6.2f\n' "$1" "$(ratio "$2" "$3" "$4")"; }
tell 'GET: own CPU a request, decant / nginx' decant-GET nginx-GET 6
tell 'GET: req/s, decant / nginx' decant-GET nginx-GET 3
tell 'GET: req/s, decant / Kask itself' decant-GET kask-GET 3
tell 'GET: p50, decant / nginx' decant-GET nginx-GET 4
tell 'GET: p99, decant / nginx' decant-GET nginx-GET 5
tell 'POST: req/s, decant / Kask itself' decant-POST kask-POST 3
tell 'POST: p50, decant / Kask itself' decant-POST kask-POST 4
if [ -n "$against" ]; then
    tell 'GET: own CPU a request, decant / other' decant-GET other-GET 6
    tell 'GET: req/s, decant / other' decant-GET other-GET 3
    tell 'POST: own CPU a request, decant / other' decant-POST other-POST 6
    tell 'POST: req/s, decant / other' decant-POST other-POST 3
fi
