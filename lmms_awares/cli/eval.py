"""`awares eval`."""

import typer

_HELP = """Usage: awares eval [lmms-eval's arguments]

Runs lmms-eval in this process, plus:
  - our tasks are found (--include_path is set; yours is kept beside it), and --tasks awares:NAME is the task NAME of
    lmms-eval with tokens and traces (awares tasks list --host)
  - a preflight fails before the model loads: arguments, checkpoint, prompt, tasks, data, folders
  - a journal (<output_path>/journal.jsonl unless --model_args journal=FILE) resumes a run that died
  - --log_samples is on; --output_path defaults to results/runs
  - exit code 0 fine, 1 the run failed, 2 bad input
  - off a terminal: no colours, no progress bars, and warnings and errors only, on stderr
  - a summary from the written files

Example:
  awares eval --model awares --model_args pretrained=Kimhi/AWARES-Qwen2.5-VL-7B,prompt=awares-adapter \\
      --tasks awares_suite --batch_size 1

All models and their --model_args: awares models
All arguments of lmms-eval: lmms-eval eval --help"""


def evaluate(context: typer.Context) -> None:
    """Run lmms-eval with our tasks: preflight, resume, real exit codes, a summary.

    Takes lmms-eval's arguments, e.g. `awares eval --model awares --model_args pretrained=DIR --tasks awares_suite`.
    """
    if {"--help", "-h"} & set(context.args):
        typer.echo(_HELP)
        return
    from lmms_awares.evaluate import run

    raise typer.Exit(run(context.args))
