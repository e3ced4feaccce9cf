#!/usr/bin/env bash
# Set-up where needed, then style, types and tests. Arguments go to pytest, e.g. `bash tests/run.sh tests/test_crops.py`.
set -euo pipefail
cd "$(dirname "$0")/.."
. .ci/setup.sh
awares_setup dev
awares_browser
# Real servers belong to the whole suite only: their environment is large.
if [ $# = 0 ] && ! bash .ci/engine.sh; then
    echo "setup: vLLM could not be installed; the tests that serve with it will be skipped" >&2
fi
ruff check .
ruff format --check .
mypy
# In the order of collection, which begins with the longest files.
exec python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
