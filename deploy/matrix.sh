#!/usr/bin/env bash
# Measures what clients are answered in each phase under each fault, and what heals afterwards, on real processes, and writes it into
# ARCHITECTURE.md. `cargo test` measures it as well, and fails where ARCHITECTURE.md says something else.
#
#   deploy/matrix.sh          measures each row until two measurements agree, and writes: a few minutes
#   deploy/matrix.sh --check  only compares
#
# It needs a Redis server on PATH and uses no port and no service of the machine's own.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repository"

case "${1:-}" in
"") export DECANT_MATRIX=write ;;
--check) ;;
-h | --help) exec sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$repository/deploy/matrix.sh" ;;
*) die "what is '$1'? It takes --check" ;;
esac

need_build_tools
need_redis_server
install_missing
need_cargo

run_bench_test faults::matrix::the_matrix_in_the_document_is_what_is_measured "measuring" "see above"
say "ARCHITECTURE.md says what was measured"
