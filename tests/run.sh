#!/usr/bin/env bash
# Set-up where needed, then style, types and tests. Arguments go to pytest, e.g. `bash tests/run.sh tests/test_crops.py`.
set -euo pipefail
cd "$(dirname "$0")/.."
. .ci/setup.sh
# Real servers belong to the whole suite only: their environment is large. It is made beside everything else.
if [ $# = 0 ]; then
    bash .ci/engine.sh &
    servers=$!
fi
awares_setup dev
awares_browser
ruff check .
ruff format --check .
mypy
if [ $# = 0 ] && ! wait "$servers"; then
    echo "setup: vLLM could not be installed; the tests that serve with it will be skipped" >&2
fi
# In the order of collection, which begins with the longest files.
exec python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
