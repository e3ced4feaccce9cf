"""`awares eval`: lmms-eval with the task path set, a preflight, resume, real exit codes and a summary.

lmms-eval itself catches every exception and exits 0; checks that can be made early are made before it starts, and
what it catches later is recorded.
"""

import argparse
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from lmms_awares import host_arguments, host_tasks, ranks
from lmms_awares.engine.machine import check_machine
from lmms_awares.errors import ConfigError, UserError
from lmms_awares.journal import check_journal
from lmms_awares.labels import EVIDENCE
from lmms_awares.models import MODELS
from lmms_awares.models.config import AwaresArgs, CommonArgs, PruningArgs, parse_args
from lmms_awares.models.protocol_args import BoxArgs
from lmms_awares.models.server_args import check_batch_size
from lmms_awares.plan import LISTINGS, Plan, plan_of
from lmms_awares.quiet import plain_off_terminal, verbosity
from lmms_awares.stamps import unique_stamps
from lmms_awares.tasks import benchmarks, data, values
from lmms_awares.tasks.host_index import HOST_PREFIX

_OWN_TASKS = {*benchmarks.OWN_TASKS, *benchmarks.SUITES}


def preflight(plan: Plan, rest: Sequence[str]) -> None:
    """Find what would make the run fail, before anything heavy loads, and add our own settings to the plan.

    Raises:
        ConfigError: model arguments, checkpoint, tasks or folders.
        PruningError: a pruner that cannot serve the checkpoint.
        DataError: documents.
        PromptError: the system prompt.
    """
    _check_writable(Path(plan.output_path), "--output_path")
    wrapped = host_tasks.expand(plan)
    args = None
    if plan.model in MODELS:
        args = _check_model(plan)
    else:
        _check_host_model(plan.model)
    check_tasks(plan)
    oracle = isinstance(args, AwaresArgs | BoxArgs) and args.policy == "oracle"
    _check_data(plan, oracle=oracle)
    found = host_arguments.parse(_arguments(plan, rest))
    host_arguments.check(found)
    _check_offset(plan, found.offset)
    _check_writable(host_arguments.results_folder(found), "--output_path")
    if args is not None:
        from lmms_awares.engine.turns import Decoding

        Decoding.from_task(host_arguments.pairs(found.gen_kwargs, "--gen_kwargs"))
        check_machine(args, found.device)
    host_tasks.check(wrapped, plan.model, oracle=oracle, offset=found.offset)


def _check_model(plan: Plan) -> CommonArgs:
    from lmms_awares.engine.checkpoint import check_checkpoint, check_hashes, check_limits, fingerprint, setup_hash

    args = parse_args(plan.model, host_arguments.pairs(plan.model_args, "--model_args"))
    if not plan.batch_size.isdigit() or int(plan.batch_size) < 1:
        raise ConfigError(f"--batch_size {plan.batch_size} is not supported; give a number such as 1 or 8")
    check_batch_size(args, int(plan.batch_size))
    prompts = args.load_prompts()
    config = check_checkpoint(args.pretrained, args.adapter, args.families, weights=args.base_url is None)
    if isinstance(args, PruningArgs) and (pruner := args.make_pruner()) is not None:
        pruner.check_config(config)
    check_limits(args)
    if args.base_url is not None:
        if plan.use_cache:
            raise ConfigError(
                "--use_cache does not see what a server serves and might give another checkpoint's answers; leave it "
                "out, the journal resumes"
            )
        from lmms_awares.engine.server import ServerEngine

        ServerEngine.open(args).close()
    if args.journal is None:
        args.journal = Path(plan.output_path) / "journal.jsonl"
        plan.model_args += f",journal={args.journal}"
    check_journal(args.journal)
    if plan.use_cache:
        _check_writable(Path(plan.use_cache).absolute().parent, "--use_cache")
    if plan.use_cache or args.rev or args.setup:
        revision, setup = fingerprint(args.pretrained, args.adapter), setup_hash(prompts)
        check_hashes(args, revision, setup)
        # lmms-eval's response cache does not look at the content of checkpoint and prompt; as arguments their hashes
        # become part of its key, so that a retrained checkpoint at the same path gets no stale answers.
        missing = {"rev": revision} if args.rev is None else {}
        missing |= {"setup": setup} if args.setup is None else {}
        plan.model_args += "".join(f",{name}=sha-{value[:12]}" for name, value in missing.items())
    return args


def _check_host_model(name: str) -> None:
    from lmms_eval.models import MODEL_REGISTRY_V2

    try:
        MODEL_REGISTRY_V2.resolve(name)
    except ValueError:
        raise ConfigError(f"unknown model {name}; ours: {', '.join(MODELS)}; lmms-eval's: lmms-eval models") from None


def _foreign_tasks(plan: Plan) -> list[str]:
    return [name for name in plan.tasks.split(",") if name not in _OWN_TASKS and not name.startswith(HOST_PREFIX)]


def check_tasks(plan: Plan) -> None:
    """Refuse task names that neither we nor lmms-eval know.

    Raises:
        ConfigError: names the unknown tasks.
    """
    others = [name for name in _foreign_tasks(plan) if not os.path.exists(name)]  # noqa: PTH110
    if not others:
        return
    from lmms_eval.tasks import TaskManager
    from loguru import logger

    logger.disable("lmms_eval")  # it reports every YAML of its own that it cannot load
    manager = TaskManager("ERROR", include_path=plan.include_path)
    unknown = [name for name in others if not manager.match_tasks([name])]
    logger.enable("lmms_eval")
    if unknown:
        raise ConfigError(
            f"unknown task {', '.join(unknown)}; ours: {', '.join(sorted(_OWN_TASKS))}; "
            "lmms-eval's: lmms-eval tasks list"
        )


def _check_data(plan: Plan, *, oracle: bool) -> None:
    for task in plan.own_tasks:
        files = data.task_files(task)
        if files is None:
            data.check_hub(benchmarks.TASKS[task])
            continue
        if oracle:
            data.require_column(files, EVIDENCE, "policy=oracle")
        values.check_files(benchmarks.OWN_TASKS[task], files, oracle=oracle)


def _check_offset(plan: Plan, offset: int) -> None:
    for task in plan.own_tasks:
        files = data.task_files(task) if offset else None
        if files is not None and offset >= (rows := data.count_rows(files)):
            raise ConfigError(f"--offset {offset} leaves no document of {task}, which has {rows}")


def _check_writable(folder: Path, what: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:  # a name may hold what no file system takes
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConfigError(f"{what} {str(folder)!r} cannot be written: {reason}; give another folder") from None


def run(arguments: Sequence[str]) -> int:
    """Run one evaluation and print its summary. Returns the exit code: 0 fine, 1 failed."""
    plan, rest = plan_of(arguments)
    started = time.time()
    listing = plan.tasks in LISTINGS  # lmms-eval prints one with its log
    with plain_off_terminal(logs=sys.stdout if listing else sys.stderr), nullcontext() if listing else _joined(plan):
        if not listing:
            preflight(plan, rest)
        errors = _run_host(plan, rest)
    for error in errors:
        if isinstance(error, UserError):
            raise error  # one line says it, below lmms-eval's traceback
    if not _is_first():
        return 1 if errors else 0
    if listing:
        return 0
    return 1 if errors else _report(Path(plan.output_path), started)


def _joined(plan: Plan) -> AbstractContextManager[None]:
    """One of several processes, where a launcher started them."""
    again = "run the same command again to go on from the journal" if plan.model in MODELS else "run the command again"
    # A rank whose requests lmms-eval's cache can all answer does not ask its model, and so cannot share with others.
    return ranks.joined(share=plan.use_cache is None, hint=again)


def _arguments(plan: Plan, rest: Sequence[str]) -> list[str]:
    """lmms-eval's command line, without the include paths: it takes one there, and several in a namespace."""
    return [
        *("--model", plan.model),
        *("--model_args", plan.model_args),
        *("--tasks", plan.tasks),
        *("--output_path", plan.output_path),
        *("--batch_size", plan.batch_size),
        *(("--use_cache", plan.use_cache) if plan.use_cache else ()),
        "--log_samples",
        *([] if plan.tasks in LISTINGS else verbosity(rest)),
        *rest,
    ]


def _run_host(plan: Plan, rest: list[str]) -> list[Exception]:
    """lmms-eval's own command in this process; returns what it caught."""
    from lmms_eval import __main__ as host

    errors: list[Exception] = []
    evaluate = host.cli_evaluate_single

    def recorded(*args: Any, **kwargs: Any) -> Any:
        try:
            return evaluate(*args, **kwargs)
        except Exception as error:
            errors.append(error)
            if others := ranks.current():
                others.fail(error)
            raise

    arguments = _arguments(plan, rest)
    # lmms-eval's command hides failures (it logs them and exits 0): `recorded` keeps them. And it reads its 2,000 task
    # files in any case, which takes ten seconds that our own tasks do not need.
    tasks = partial(host.TaskManager, include_defaults=bool(_foreign_tasks(plan)))
    # Of several processes only the first writes; the others must not wait for seconds of their own.
    stamps = unique_stamps(Path(plan.output_path), host.utils.get_datetime_str) if _is_first() else nullcontext()
    with (
        host_tasks.written(host_tasks.expand(plan), plan.model) as folders,
        stamps as stamp,
        patch.object(host.utils, "get_datetime_str", stamp or host.utils.get_datetime_str),
        patch.object(host, "cli_evaluate_single", recorded),
        patch.object(host, "TaskManager", tasks),
        patch.object(sys, "argv", ["lmms-eval", *arguments]),
    ):
        if _is_first():
            paths = [part for path in [*plan.include_path, *folders] for part in ("--include_path", str(path))]
            print("+", shlex.join(["lmms-eval", *paths, *arguments]), flush=True)
        # On the command line lmms-eval takes one include path; in a namespace it takes several.
        host.cli_evaluate(argparse.Namespace(include_path=[*plan.include_path, *folders]))
    return errors


def _is_first() -> bool:
    """This process speaks for all: of several, the one of rank 0."""
    return int(os.environ.get("RANK", "0")) == 0


def _report(folder: Path, started: float) -> int:
    """Print the summary of what was just written."""
    from lmms_awares.report.read.folders import find_runs
    from lmms_awares.report.read.summary import summarize
    from lmms_awares.report.tables.run_summary import print_summary

    runs = find_runs(folder, newer_than=started - 1)
    if not runs:
        print(f"awares eval: error: lmms-eval wrote no results below {folder}", file=sys.stderr)
        return 1
    table = summarize(runs[-1])
    print_summary(table, runs[-1].path)
    nothing_left = table[(table["failed"] > 0) & (table["failed"] == table["n"])]
    return 1 if len(nothing_left) else 0
