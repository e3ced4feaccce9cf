#!/usr/bin/env bash
# Makes .venv with everything installed; quick when nothing changed. From the project's root:
#   . .ci/setup.sh; awares_setup [extra]...
# Afterwards the environment is active. AWARES_PYTHON chooses the interpreter (default python3; 3.11 or newer).

# What an installation depends on; the stamp of one holds a copy.
awares_recipe() {
    cat pyproject.toml constraints.txt .ci/setup.sh
}

# One line on stderr that says what is wrong and what to do. Always fails.
awares_fail() {
    echo "setup: $1" >&2
    return 1
}

awares_install() {
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@" ||
        awares_fail "pip could not install ${*: -1} (its own words are above); it needs a package index: check the network, or name a mirror with PIP_INDEX_URL"
}

awares_setup() {
    local extras python=${AWARES_PYTHON:-python3} stamp
    extras=$(IFS=,; echo "$*")
    command -v "$python" > /dev/null ||
        awares_fail "there is no $python; install Python 3.11 or newer, or name one with AWARES_PYTHON" || return 1
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        awares_fail "$python is older than Python 3.11; name a newer one with AWARES_PYTHON" || return 1
    if [ ! -e .venv ] && ! "$python" -m venv .venv; then
        rm -rf .venv # what is left of it would pass for an environment the next time
        awares_fail "$python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"
        return 1
    fi
    .venv/bin/python -m pip --version > /dev/null 2>&1 ||
        awares_fail ".venv has no working pip; remove it (rm -r .venv) and run this again" || return 1
    . .venv/bin/activate
    # An installation with extras serves without them too.
    for stamp in .venv/.installed-${extras:-*}; do
        if awares_recipe | cmp -s - "$stamp"; then
            return 0
        fi
    done
    echo "setup: installing into .venv (minutes the first time)" >&2
    # torch first and pinned: asked for by another package, pip would take the newest build instead.
    awares_install -c constraints.txt torch || return 1
    awares_install -c constraints.txt -e ".${extras:+[$extras]}" || return 1
    # torchvision's wheel holds CUDA code and fails to import beside a CPU-only torch ("operator torchvision::nms does
    # not exist"), and without torchvision transformers cannot build the Qwen2.5-VL processor. This older release
    # falls back to its Python parts, which are all that is used.
    if ! python -c 'import torchvision' 2>/dev/null; then
        echo "setup: torchvision does not fit this torch; installing 0.16.2 for its Python parts" >&2
        awares_install --no-deps torchvision==0.16.2 || return 1
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
