#!/usr/bin/env bash
# Set-up where needed, then style, types and tests. Arguments go to pytest, e.g. `bash tests/run.sh tests/test_crops.py`.
set -euo pipefail
cd "$(dirname "$0")/.."
. .ci/setup.sh
awares_setup dev
awares_browser
ruff check .
ruff format --check .
mypy
exec python -m pytest -n 2 --dist loadfile "$@"
