#!/usr/bin/env bash
# Makes .venv with everything installed; quick when nothing changed. From the project's root:
#   . .ci/setup.sh; awares_setup [extra]...
# Afterwards the environment is active. AWARES_PYTHON chooses the interpreter (default python3; 3.11 or newer).

# What an installation depends on; the stamp of one holds a copy.
awares_recipe() {
    cat pyproject.toml constraints.txt .ci/setup.sh
}

awares_setup() {
    local extras python=${AWARES_PYTHON:-python3} stamp
    extras=$(IFS=,; echo "$*")
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "setup: $python is older than Python 3.11; set AWARES_PYTHON to a newer one" >&2
        return 1
    }
    [ -x .venv/bin/python ] || "$python" -m venv .venv || return 1
    . .venv/bin/activate
    # An installation with extras serves without them too.
    for stamp in .venv/.installed-${extras:-*}; do
        if awares_recipe | cmp -s - "$stamp"; then
            return 0
        fi
    done
    echo "setup: installing into .venv (minutes the first time)" >&2
    # torch first and pinned: asked for by another package, pip would take the newest build instead.
    pip install --quiet --disable-pip-version-check -c constraints.txt torch || return 1
    pip install --quiet --disable-pip-version-check -c constraints.txt -e ".${extras:+[$extras]}" || return 1
    # torchvision's wheel holds CUDA code and fails to import beside a CPU-only torch ("operator torchvision::nms does
    # not exist"), and without torchvision transformers cannot build the Qwen2.5-VL processor. This older release
    # falls back to its Python parts, which are all that is used.
    if ! python -c 'import torchvision' 2>/dev/null; then
        echo "setup: torchvision does not fit this torch; installing 0.16.2 for its Python parts" >&2
        pip install --quiet --disable-pip-version-check --no-deps torchvision==0.16.2 || return 1
    fi
    awares_recipe > ".venv/.installed-${extras:-none}"
}

# The tests of `awares report` drive a browser; without one they are skipped.
awares_browser() {
    local name
    for name in chromium chromium-browser google-chrome chrome; do
        if command -v "$name" > /dev/null; then
            return 0
        fi
    done
    if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
        echo "setup: installing Chromium for the report's tests" >&2
        { apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium; } > /dev/null && return 0
    fi
    echo "setup: no Chromium or Chrome found; the tests that click through the report will be skipped" >&2
}
