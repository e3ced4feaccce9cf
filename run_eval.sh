#!/usr/bin/env bash
# The main job, set-up included. Without arguments: every registered method on the mini suite with the tiny checkpoint,
# on the CPU, without a hub. With arguments: `awares eval` with these arguments.
set -euo pipefail
from=$PWD
cd "$(dirname "$0")"

usage() {
    cat <<'TEXT'
Usage: ./run_eval.sh [--model ID --pretrained CHECKPOINT [--tasks NAMES] [any argument of lmms-eval]]

  (no argument)   The demonstration: sets up .venv where needed, then runs every registered method on the mini suite
                  (awares_mini: six small synthetic benchmarks) with the tiny checkpoint that ships with the project,
                  on the CPU, without a hub, and prints one table; table.md and table.csv are in results/runs/demo,
                  which git ignores (results/runs/mini holds the committed ones).
                  A demonstration, not a result.
  --model ID      any registered model: `awares`, its baselines (see docs/evaluating.md), or any model of lmms-eval
  --pretrained P  folder or hub id of the checkpoint; put into --model_args
  --tasks NAMES   default: awares_suite
  --help          this text

With arguments it prints the lmms-eval command that it runs. Results go to results/runs of the project; a relative path
in any other argument than --pretrained is meant from the project's folder.
TEXT
}

case " $* " in *" --help "* | *" -h "*)
    usage
    exit 0
    ;;
esac

. .ci/setup.sh
awares_setup

if [ $# -eq 0 ]; then
    awares suite run mini -o results/runs/demo
    cat <<'TEXT'

Compare with the committed table; scores and token counts repeat, latencies (left out here) do not:
  diff <(cut -d, -f1-6,8 results/runs/mini/table.csv) <(cut -d, -f1-6,8 results/runs/demo/table.csv) && echo the same
TEXT
    exit
fi

args=() model_args='' tasks=''
while [ $# -gt 0 ]; do
    case $1 in
        --pretrained=* | --model_args=* | --tasks=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" && continue ;;
        --pretrained | --model_args | --tasks)
            [ $# -gt 1 ] || { echo "run_eval.sh: $1 needs a value; see --help" >&2 && exit 2; }
            ;;&
        --pretrained)
            [ ! -d "$from/$2" ] || set -- "$1" "$from/$2" "${@:3}" # a folder is meant from where the user stands
            model_args="pretrained=$2${model_args:+,$model_args}" && shift 2
            ;;
        --model_args) model_args="${model_args:+$model_args,}$2" && shift 2 ;;
        --tasks) tasks=$2 && shift 2 ;;
        *) args+=("$1") && shift ;;
    esac
done
# A --config file may name both; what is given here counts more.
case " ${args[*]} " in
    *" --config "* | *" --config="*) ;;
    *) tasks=${tasks:-awares_suite} ;;
esac
command=("${args[@]}" ${model_args:+--model_args "$model_args"} ${tasks:+--tasks "$tasks"})
echo "+ awares eval$(printf ' %q' "${command[@]}")"
exec awares eval "${command[@]}"
