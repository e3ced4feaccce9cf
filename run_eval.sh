#!/usr/bin/env bash
# The main job, set-up included. Without arguments: a smoke run of every registered method on a tiny random checkpoint,
# on the CPU, without a hub. With arguments: `awares eval` with these arguments.
set -euo pipefail
cd "$(dirname "$0")"

usage() {
    cat <<'TEXT'
Usage: ./run_eval.sh [--model ID --pretrained CHECKPOINT [--tasks NAMES] [any argument of lmms-eval]]

  (no argument)   Sets up .venv where needed, builds a tiny checkpoint with random weights and a few synthetic
                  documents per benchmark, runs qwen2_5_vl_full, qwen2_5_vl_lowres and awares on all six tasks, and
                  prints one table. Random weights answer nothing right: the scores mean nothing, the token counts
                  are real.
  --model ID      awares, qwen2_5_vl_full, qwen2_5_vl_lowres, or any model of lmms-eval
  --pretrained P  folder or hub id of the checkpoint; put into --model_args
  --tasks NAMES   default: awares_suite
  --help          this text

Prints the lmms-eval command that it runs. Results go to results/runs.
TEXT
}

case " $* " in *" --help "* | *" -h "*)
    usage
    exit 0
    ;;
esac

. .ci/setup.sh
awares_setup

# Prints the command, and the plain lmms-eval command behind it.
announce() {
    local shown
    shown=$(printf ' %q' "$@")
    echo "+ awares eval$shown"
    echo "  which runs: lmms-eval$shown --include_path $(awares tasks path) --log_samples"
}

if [ $# -eq 0 ]; then
    work=results/runs/smoke
    mkdir -p "$work"
    python -m lmms_awares.mini.random_checkpoint "$work/tiny-random" 2>/dev/null
    python -m lmms_awares.mini.smoke_data "$work/data" 2>/dev/null
    export AWARES_DATA_ROOT="$PWD/$work/data" HF_HUB_OFFLINE=1
    for model in qwen2_5_vl_full qwen2_5_vl_lowres awares; do
        model_args="pretrained=$work/tiny-random"
        # A random checkpoint never asks for crops by itself; policy=random does it in its place.
        [ "$model" != awares ] || model_args+=",policy=random"
        command=(--model "$model" --model_args "$model_args" --tasks awares_suite --batch_size 4 --device cpu
            --output_path "$work/$model")
        announce "${command[@]}"
        awares eval "${command[@]}" > "$work/$model.log" 2>&1 || {
            tail -n 20 "$work/$model.log" >&2
            echo "run_eval.sh: $model failed; the whole log is $work/$model.log" >&2
            exit 1
        }
    done
    awares compare "$work/qwen2_5_vl_full" "$work/qwen2_5_vl_lowres" "$work/awares"
    echo "Tiny checkpoint with RANDOM weights: scores mean nothing; tokens, RTR and times are measured."
    exit 0
fi

args=() model_args='' tasks=awares_suite
while [ $# -gt 0 ]; do
    case $1 in
        --pretrained=* | --model_args=* | --tasks=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" && continue ;;
        --pretrained | --model_args | --tasks)
            [ $# -gt 1 ] || { echo "run_eval.sh: $1 needs a value; see --help" >&2 && exit 2; }
            ;;&
        --pretrained) model_args="pretrained=$2${model_args:+,$model_args}" && shift 2 ;;
        --model_args) model_args="${model_args:+$model_args,}$2" && shift 2 ;;
        --tasks) tasks=$2 && shift 2 ;;
        *) args+=("$1") && shift ;;
    esac
done
command=("${args[@]}" --model_args "$model_args" --tasks "$tasks")
announce "${command[@]}"
exec awares eval "${command[@]}"
