#!/usr/bin/env bash
# The regression gate on the mini suite: scores the shipped checkpoint on the CPU and compares it with the committed
# baseline. `bash .ci/mini.sh save` makes this run the new baseline. Exits as `awares regress` does; 2 also where the
# evaluation fails. For other runs than this one (a test gates one benchmark, and a checkpoint that is worse):
#   AWARES_MINI_CHECKPOINT  what is scored
#   AWARES_MINI_TASKS       those of the baseline
#   AWARES_MINI_BASELINE    file of `awares regress save`
#   AWARES_MINI_WORK        folder for run, log and reports
set -euo pipefail
cd "$(dirname "$0")/.."
. .ci/setup.sh
awares_setup
checkpoint=${AWARES_MINI_CHECKPOINT:-lmms_awares/mini/checkpoint}
tasks=${AWARES_MINI_TASKS:-awares_mini}
baseline=${AWARES_MINI_BASELINE:-results/baselines/mini.json.gz}
work=${AWARES_MINI_WORK:-results/runs/mini-gate}

rm -rf "$work/run" # an old journal would answer in this run's place
mkdir -p "$work"
HF_HUB_OFFLINE=1 awares eval --model awares --model_args "pretrained=$checkpoint" --tasks "$tasks" --device cpu \
    --batch_size 4 --output_path "$work/run" > "$work/eval.log" 2>&1 || {
    tail -n 20 "$work/eval.log" >&2
    echo "mini.sh: the evaluation failed; the whole log is $work/eval.log" >&2
    exit 2
}
if [ "${1:-}" = save ]; then
    exec awares regress save "$work/run" --output "$baseline"
fi
exec awares regress --baseline "$baseline" --candidate "$work/run" \
    --markdown "$work/regress.md" --junit "$work/regress.xml" --json "$work/regress.json"
