# Shared by the scripts beside it: sourced, never run. Needs bash.
#
#   say TEXT...                   a line of what happens
#   die TEXT...                   a line of what failed and what to do, then status 1
#   need PACKAGE WHY CHECK...     remembers the Debian package if the command CHECK fails
#   install_missing               installs what was remembered, and says what and why; nothing where nothing is missing
#   need_cargo                    puts a Rust toolchain that is new enough on PATH, or says how to get one
#   free_port                     prints a TCP port of 127.0.0.1 that nobody listens on
#
# Nothing here asks a question, starts or stops a service, or installs anything where it is already there.

# No terminal is needed, and none is waited for.
exec </dev/null

repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

say() { printf '== %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

missing_packages=()
missing_reasons=()

need() {
    local package="$1" why="$2"
    shift 2
    "$@" >/dev/null 2>&1 && return 0
    missing_packages+=("$package")
    missing_reasons+=("$package: $why")
}

has_command() { command -v "$1"; }

has_php_extension() { php -r 'exit(extension_loaded($argv[1]) ? 0 : 1);' "$1"; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        # -n: without a terminal nobody can type a password.
        if [ -t 2 ]; then sudo "$@"; else sudo -n "$@"; fi
    else
        die "root is needed for '$*', and there is no sudo: run that command as root, then this script again"
    fi
}

install_missing() {
    [ "${#missing_packages[@]}" -gt 0 ] || return 0
    say "installing what is missing (apt-get):"
    printf '     %s\n' "${missing_reasons[@]}"
    command -v apt-get >/dev/null ||
        die "there is no apt-get here: install the equivalents of ${missing_packages[*]}, then run this script again"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q ||
        say "apt-get update failed: going on with the package lists that are there"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing_packages[@]}" ||
        die "apt-get could not install ${missing_packages[*]}: see above; install them, then run this script again"
    missing_packages=()
    missing_reasons=()
}

# What every build needs, whatever it is for.
need_build_tools() {
    need build-essential "the C compiler and linker that cargo calls" has_command cc
    need ca-certificates "cargo fetches crates over TLS" test -e /etc/ssl/certs/ca-certificates.crt
}

need_redis_server() {
    # Debian may start a service of its own on port 6379: nothing here uses it or stops it.
    need redis-server "a real Redis to work with, on a port or socket of its own" has_command redis-server
}

# Debian may start a service of its own on port 26379: nothing here uses it or stops it.
need_redis_sentinel() {
    need redis-sentinel "real Sentinels that name the primary, on ports of their own" has_command redis-sentinel
}

# Debian may start a service of its own on ports 2379 and 2380: nothing here uses it or stops it.
need_etcd() {
    need etcd-server "a real etcd for the fleets of the tests, on ports of its own" has_command etcd
    need etcd-client "etcdctl, which looks at what decant wrote there" has_command etcdctl
}

# MediaWiki's own store classes as a client.
need_mediawiki() {
    need php-cli "runs MediaWiki's store classes" has_command php
    need php-redis "MediaWiki's RedisBagOStuff talks to Redis with it" has_php_extension redis
    need php-curl "MediaWiki's RESTBagOStuff talks to decant with it" has_php_extension curl
    need mediawiki-classes "RedisBagOStuff and RESTBagOStuff themselves" \
        test -e "${MEDIAWIKI_INCLUDES:-/usr/share/mediawiki/includes}/libs/objectcache/RESTBagOStuff.php"
}

# The browser that the console is tested in, its driver, and the accessibility checker that runs in it. Its licence (MPL-2.0) is its own: it is
# fetched, never kept in the repository.
axe_version=4.14.1
axe_sha512=1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b734f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5
axe_dir="$repository/target/axe-core-$axe_version"

need_browser() {
    need chromium "shows decant's console, without a window" has_command chromium
    need chromium-driver "drives Chromium" has_command chromedriver
    [ -e "$axe_dir/axe.min.js" ] || need npm "fetches axe-core, which checks the console's accessibility" has_command npm
}

fetch_axe() {
    [ ! -e "$axe_dir/axe.min.js" ] || return 0
    say "fetching axe-core $axe_version into target/ (npm pack), to check the console's accessibility"
    local work="$axe_dir.partial"
    rm -rf "$work" && mkdir -p "$work"
    (cd "$work" && npm pack --silent "axe-core@$axe_version" >/dev/null) || die "npm could not fetch axe-core@$axe_version: see above"
    (cd "$work" && printf '%s  axe-core-%s.tgz\n' "$axe_sha512" "$axe_version" | sha512sum --check --quiet) ||
        die "axe-core-$axe_version.tgz is not what it was when it was chosen: do not use it"
    tar -xzf "$work/axe-core-$axe_version.tgz" -C "$work" package/axe.min.js package/LICENSE
    mkdir -p "$axe_dir" && mv "$work"/package/* "$axe_dir/" && rm -rf "$work"
}

need_cargo() {
    command -v cargo >/dev/null || PATH="$HOME/.cargo/bin:$PATH"
    local how wanted found
    how="install a toolchain with rustup (https://rustup.rs, or 'apt-get install rustup && rustup default stable' from Debian 13 on)"
    wanted="$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$repository/Cargo.toml")"
    command -v cargo >/dev/null || die "cargo is neither on PATH nor in ~/.cargo/bin: $how"
    found="$(rustc --version | cut -d' ' -f2)" || die "cargo is there, but rustc is not: $how"
    if [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n1)" != "$wanted" ]; then
        die "Rust $found is too old, $wanted is needed: 'rustup update stable', or $how"
    fi
    export PATH
}

free_port() {
    local port try
    for try in $(seq 50); do
        # Below the ports that the kernel gives to outgoing connections, so that none of them takes it in between.
        port=$((20000 + RANDOM % 10000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return 0
        fi
    done
    die "no free port was found between 20000 and 29999 in $try tries"
}

# Builds the fault bench, and runs the one test of it that is named. Says `$2` first; dies with `$3` where the test fails.
run_bench_test() {
    local status=0
    say "building the bench ($(rustc --version))"
    cargo test --locked --test it --no-run
    say "$2"
    # What the servers log is not what this is about.
    cargo test --locked --quiet --test it "$1" -- --exact --nocapture 2>&1 |
        grep --line-buffered -v -e '^decant: ' -e 'decant::kask_server::file' || status="${PIPESTATUS[0]}"
    [ "$status" -eq 0 ] || die "$3"
}
