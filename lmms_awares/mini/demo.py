"""The demonstration: every registered method on the mini suite with the tiny checkpoint, one table at the end.

As many processes as there are cores, up to four, share the methods: small matrices do not keep two threads busy, and
Python, torch and lmms-eval are loaded once per process. Latencies are measured while other methods run.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from multiprocessing import get_context
from pathlib import Path

import torch
from tqdm import tqdm

from lmms_awares.errors import ConfigError
from lmms_awares.models import MODELS
from lmms_awares.pruning import PRUNERS

BATCH_SIZE = 16
_WORKERS = 4  # each takes up to a gigabyte


@dataclass(frozen=True)
class Method:
    """One row of the table: lmms-eval's model id, and model arguments besides the checkpoint.

    Attributes:
        adapter: name of an adapter beside the checkpoint.
    """

    model: str
    arguments: str = ""
    adapter: str = ""

    @property
    def folder(self) -> str:
        """Name of the method's output folder."""
        return f"{self.model},{self.arguments}".strip(",").replace("=", "-").replace(",", "_")


_RATIOS = ("retain_ratio=0.7", "retain_ratio=0.5")
METHODS: tuple[Method, ...] = (
    Method("qwen2_5_vl_full"),
    *(
        Method(pruner, ratio) if pruner in MODELS else Method("pruned", f"pruner={pruner},{ratio}")
        for pruner in PRUNERS
        for ratio in _RATIOS
    ),
    Method("visionthink", adapter="visionthink"),
    Method("qwen2_5_vl_lowres"),
    Method("awares"),
    *(Method("awares", f"policy={policy}") for policy in ("never", "always_full", "oracle", "random")),
    Method("awares", "pruner=visionzip,retain_ratio=0.7"),
)


def checkpoint() -> Path:
    """Return the folder of the tiny checkpoint that ships with the package."""
    return Path(str(files("lmms_awares.mini") / "checkpoint"))


def command(method: Method, pretrained: Path, root: Path) -> list[str]:
    """Return lmms-eval's arguments for a method."""
    adapter = method.adapter and f"adapter={pretrained / method.adapter}"
    arguments = ",".join(filter(None, (f"pretrained={pretrained}", adapter, method.arguments)))
    return [
        *("--model", method.model, "--model_args", arguments, "--tasks", "awares_mini"),
        *("--batch_size", str(BATCH_SIZE), "--device", "cpu", "--output_path", str(root / method.folder)),
    ]


def run_all(pretrained: Path, root: Path) -> list[Path]:
    """Run every method of `METHODS` below `root`; lmms-eval's output goes to `<method>.log` there.

    Returns:
        the result folders, in the order of `METHODS`.

    Raises:
        ConfigError: a method failed; the message names its log.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Said by torchvision when a worker starts; see `lmms_awares.cli.awares.main`.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:Failed to load image Python extension")
    root.mkdir(parents=True, exist_ok=True)
    cores = torch.get_num_threads()
    workers = min(_WORKERS, cores)
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (cores // workers,)) as pool:
        tasks = [pool.submit(_run, command(method, pretrained, root), root / method.folder) for method in METHODS]
        try:
            for method, task in zip(METHODS, tqdm(tasks, desc="methods", unit="method", disable=None), strict=True):
                if task.result():
                    raise ConfigError(f"{method.folder} failed; the whole log is {root / method.folder}.log")
        finally:
            pool.shutdown(cancel_futures=True)
    return [root / method.folder for method in METHODS]


def _run(arguments: Sequence[str], folder: Path) -> int:
    """Run lmms-eval afresh into a folder, in this process; return its exit code."""
    shutil.rmtree(folder, ignore_errors=True)  # its journal would answer in the model's place
    with _into(folder.with_name(f"{folder.name}.log")):
        from lmms_awares.evaluate import run

        return run(arguments)


@contextlib.contextmanager
def _into(log: Path) -> Iterator[None]:
    """Redirect the output of this process to a file."""
    with log.open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        yield
