"""Evaluating the policy while it trains: numbers to the trainer's log, samples to look at, the best checkpoint.

OUTPUT_DIR/validation/step-20.json            numbers of all rows and of each source, and every row's outcome
OUTPUT_DIR/validation/step-20/samples.md      a handful with pictures
OUTPUT_DIR/best                               where `best` is set
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lmms_awares.engine.chat import ChatFormat
from lmms_awares.errors import ConfigError
from lmms_awares.training.answers import Answered
from lmms_awares.training.best import BestFolder, plain
from lmms_awares.training.evaluation import Evaluation, Result, evaluate, validation_rows
from lmms_awares.training.samples import write_samples
from lmms_awares.training.settings import Best, EvaluationSettings

FOLDER = "validation"
_OF_SOURCES = ("score", "rtr", "call_rate")  # what the log says of each source; the file says all


class EvaluationCallback(TrainerCallback):
    """Evaluates every so many steps, at step 0 and at the end, on the main process; the others wait.

    It changes nothing of the training: see `undisturbed`. A run that goes on from a checkpoint does not evaluate the
    checkpoint's step again, which was done before it was saved.

    Args:
        trainer: whose model is evaluated, and whose log gets the numbers as `validation/score` and so on.
        rows: see `validation_rows`.
        every: steps between two evaluations.
        best: rule of `OUTPUT_DIR/best`.

    Raises:
        ConfigError: a model that no process has whole (FSDP, DeepSpeed).

    Example:
        trainer.add_callback(EvaluationCallback(trainer, rows, every=100, best=Best.parse("score@rtr<=0.4")))
    """

    def __init__(
        self, trainer: Trainer, rows: Sequence[Mapping[str, Any]], *, every: int, best: Best | None = None
    ) -> None:
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            raise ConfigError("eval_every needs a process that has the whole model; set it to 0 with FSDP or DeepSpeed")
        self._trainer, self._rows, self._every, self._rule = trainer, rows, every, best
        self._output = Path(str(trainer.args.output_dir))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Evaluate what the training starts from."""
        if state.global_step == 0:
            self._evaluate(state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Evaluate where it is time, and behind the last step."""
        if state.global_step % self._every == 0 or control.should_training_stop:
            wanted = control.should_log
            self._evaluate(state.global_step)
            control.should_log = wanted  # the evaluation's entry does not stand for the training's own

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say so where no checkpoint was good enough to be kept."""
        rule = self._rule
        if rule is None or not state.is_world_process_zero or BestFolder(self._output, rule).known():
            return
        name = f"{FOLDER}/{rule.limited}"
        seen = [(entry[name], entry["step"]) for entry in state.log_history if name in entry]
        told = "; the lowest was {:.3f}, at step {}".format(*min(seen)) if seen else ""
        words = f"no evaluation had {rule.limited}<={rule.limit:g}, so that there is no best checkpoint{told}"
        print(f"awares train: {words}", file=sys.stderr)

    def _evaluate(self, step: int) -> None:
        trainer = self._trainer
        if trainer.is_world_process_zero():
            found = evaluate(
                trainer.model, trainer.processing_class, self._rows, batch_size=trainer.args.per_device_eval_batch_size
            )
            self._write(step, found)
            if self._rule is not None:
                BestFolder(self._output, self._rule).offer(step, found.summary, self._save)
            # Trainers of TRL add what they have collected of the training, and forget it; that is the next entry's.
            Trainer.log(trainer, entry(found))
        trainer.accelerator.wait_for_everyone()

    def _save(self, folder: Path) -> None:
        self._trainer.save_model(str(folder), _internal_call=True)  # else it may go to a hub

    def _write(self, step: int, found: Evaluation) -> None:
        folder = self._output / FOLDER / f"step-{step}"
        chat = ChatFormat(self._trainer.processing_class)
        write_samples(folder, found.results, pixel_limits=chat.pixel_limits, token_side=chat.token_side)
        told = {
            "step": step,
            "summary": plain(found.summary),
            "sources": {name: plain(numbers) for name, numbers in found.by_source.items()},
            "rows": [told_of(result) for result in found.results],
        }
        file = folder.with_name(f"{folder.name}.json")
        unfinished = file.with_suffix(".tmp")
        unfinished.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        unfinished.replace(file)


def rows_to_evaluate(settings: EvaluationSettings, curated: Path) -> list[dict[str, Any]]:
    """Return the rows that settings ask for, before anything loads; none where they say never.

    Raises:
        DataError: see `validation_rows`.
    """
    return validation_rows(curated, settings.eval_rows) if settings.eval_every else []


def add_evaluation(trainer: Trainer, settings: EvaluationSettings, rows: Sequence[Mapping[str, Any]]) -> None:
    """Let a trainer evaluate as its settings say; nothing where they say never.

    Args:
        rows: of `rows_to_evaluate`.

    Raises:
        ConfigError: see `EvaluationCallback`.
    """
    if settings.eval_every:
        best = Best.parse(settings.best) if settings.best else None
        trainer.add_callback(EvaluationCallback(trainer, rows, every=settings.eval_every, best=best))


def entry(found: Evaluation) -> dict[str, float]:
    """Return the numbers for the trainer's log, by name; those that are not known are left out.

    Example:
        entry(evaluation)["validation/score"]
    """
    told = {f"{FOLDER}/{name}": value for name, value in found.summary.items()}
    for source, numbers in found.by_source.items():
        told |= {f"{FOLDER}/{source}/{name}": numbers[name] for name in _OF_SOURCES}
    return {name: value for name, value in told.items() if not math.isnan(value)}


def told_of(result: Result) -> dict[str, Any]:
    """Return a row's outcome without its image."""
    row, said = result.row, result.outcome
    about = {name: row[name] for name in ("id", "source", "label", "targets")}
    if not isinstance(said, Answered):
        return about | {"failed": str(said)}
    return about | {
        "turns": list(said.turns),
        "answer": said.answer,
        "status": said.status,
        "asked": list(said.asked),
        "crops": list(said.crops),
        "visual_tokens": said.visual_tokens,
        "full_tokens": said.full_tokens,
        "score": said.score,
    }


def last_evaluation(output: Path) -> dict[str, Any] | None:
    """Return what the newest evaluation of a training wrote; None where there is none."""
    files = (output / FOLDER).glob("step-*.json")
    newest = max(files, key=lambda file: int(file.stem.rpartition("-")[2]), default=None)
    return None if newest is None else json.loads(newest.read_text(encoding="utf-8"))
