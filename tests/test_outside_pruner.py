"""`pruner=MODULE:CLASS`: a pruner from outside the package, its options, its errors, and its code in the journal."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import answers, document

from lmms_awares.errors import ConfigError
from lmms_awares.journal import Journal
from lmms_awares.mini import smoke_data
from lmms_awares.models.awares import Awares
from lmms_awares.models.config import parse_args
from lmms_awares.models.pruned import Pruned
from lmms_awares.report.runs import find_runs

BIN = Path(sys.executable).parent
SOURCE = """
from dataclasses import dataclass

import torch

from lmms_awares.pruning import Pruner
from lmms_awares.pruning.base import EncodedImage, Kept
from lmms_awares.pruning.scored import ScoredPruner


@dataclass
class Every(Pruner):
    '''Every so many tokens.'''

    name = "every"

    step: int = 2

    def keep(self, image: EncodedImage) -> Kept:
        return Kept.of(image, torch.arange(0, len(image.embeds), self.step))


class Claiming(Every):
    name = "visionzip"


class Unfinished(ScoredPruner):
    name = "unfinished"


class Nameless(Pruner):
    pass


class NoPruner:
    pass
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module of one's own where Python finds it."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(name, source=SOURCE):
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write


def test_it_prunes_and_takes_its_options(module, small_checkpoint):
    name = module("own_pruners")
    settings = {"pretrained": str(small_checkpoint), "device": "cpu", "retain_ratio": 0.5, "pruner": f"{name}:Every"}
    for step, kept in ((2, 54), (4, 27)):
        model = Pruned(**settings, **({"step": step} if step != 2 else {}))
        ((_, trace),) = answers(model, [document((336, 252))])
        assert (trace.full_tokens, trace.visual_tokens, trace.pruning.pruner) == (108, kept, "every")
    both = Awares(**settings, policy="always_full")
    ((_, trace),) = answers(both, [document((336, 252))])
    assert trace.pruning.encoded_tokens == trace.lowres_tokens + 108
    assert trace.visual_tokens == -(-trace.lowres_tokens // 2) + 54


BAD = {
    ":Every": "must read pruner=MODULE:CLASS",
    "own_pruners:": "must read pruner=MODULE:CLASS",
    "no_such_module:Every": "there is no module no_such_module; install it, or put its folder into PYTHONPATH",
    "own_pruners.inner:Every": "there is no module own_pruners.inner",
    "own_pruners:Evry": "own_pruners holds no Evry; its pruners: Pruner, ScoredPruner, Every, Claiming, Unfinished",
    "json:Every": "json holds no Every; it holds no pruner at all",
    "own_pruners:NoPruner": "NoPruner must be a subclass of lmms_awares.pruning.Pruner",
    "own_pruners:torch": "torch must be a subclass of lmms_awares.pruning.Pruner",
    "own_pruners:Unfinished": "Unfinished is abstract; it must define score",
    "own_pruners:Nameless": 'Nameless has no name; give it one, such as name = "Nameless"',
    "own_pruners:Claiming": "its name 'visionzip' is that of a built-in pruner; give it another",
    "raising:Every": "importing raising failed with ZeroDivisionError: division by zero",
    "misspelt:Every": "importing misspelt failed with SyntaxError: '(' was never closed",
    "leaving:Every": "importing leaving failed with SystemExit: 3",
    "lacking:Every": "importing lacking failed with ModuleNotFoundError: No module named 'no_such_package'",
}
BROKEN = {
    "raising": "1 / 0",
    "misspelt": "print(",
    "leaving": "raise SystemExit(3)",
    "lacking": "import no_such_package",
}


@pytest.mark.parametrize("place", BAD)
def test_a_place_without_a_pruner(module, place):
    module("own_pruners")
    for name, source in BROKEN.items():
        module(name, source)
    with pytest.raises(ConfigError) as caught:
        parse_args("pruned", {"pretrained": "x", "pruner": place, "retain_ratio": 0.5})
    message = str(caught.value)
    assert message.startswith(f"model arguments of pruned: pruner={place}")
    assert BAD[place] in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"step": "two"}, "model argument step of pruned: .*integer.* 'two'"),
        ({"stop": 2}, "unknown model argument stop for pruned; known: .*, step$"),
        ({"whole_layers": 2}, "whole_layers is no option of pruner=own_pruners:Every but of fastv"),
        ({"retain_ratio": 2}, "retain_ratio of pruned: .*less than or equal to 1"),
    ],
)
def test_its_options_are_checked_like_any_other(module, arguments, words):
    place = f"{module('own_pruners')}:Every"
    with pytest.raises(ConfigError, match=words):
        parse_args("pruned", {"pretrained": "x", "pruner": place, "retain_ratio": 0.5, **arguments})


# As a user runs it ----------------------------------------------------------------------------------------------------


@pytest.fixture
def evaluate(small_checkpoint, tmp_path):
    """`awares eval` with a folder of one's own on Python's path."""
    folder = tmp_path / "mine"
    folder.mkdir()
    environment = os.environ | {
        "AWARES_DATA_ROOT": str(smoke_data.write(tmp_path / "data", documents=2)),
        "AWARES_CACHE": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "1",
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # an edit within a second must not meet the old bytecode
        "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }

    def run(source, pruner="mine:Every"):
        (folder / "mine.py").write_text(source)
        command = [BIN / "awares", "eval", "--model", "pruned", "--tasks", "awares_pope", "--device", "cpu"]
        command += ["--model_args", f"pretrained={small_checkpoint},pruner={pruner},retain_ratio=0.5"]
        command += ["--output_path", str(tmp_path / "out")]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    return run


def traces(folder):
    return [row["awares"] for row, _ in find_runs(folder)[-1].samples("awares_pope")]


def test_an_edited_source_gets_no_old_answers(evaluate, tmp_path):
    """Through the command: the same source resumes, another one starts anew."""
    found = []
    for source in (SOURCE, SOURCE, SOURCE.replace("step: int = 2", "step: int = 4")):
        result = evaluate(source)
        assert result.returncode == 0, result.stderr
        assert "pruned+every@0.5" in result.stdout
        found.append(traces(tmp_path / "out"))
    assert [[trace["reused"] for trace in run] for run in found] == [[False] * 2, [True] * 2, [False] * 2]
    for step, run in zip((2, 2, 4), found, strict=True):
        assert all(trace["visual_tokens"] == -(-trace["full_tokens"] // step) for trace in run)
    assert Journal(tmp_path / "out" / "journal.jsonl").reusable == 4
    first, _, edited = (run[0]["conditions"]["code"] for run in found)
    assert first != edited


@pytest.mark.parametrize(("source", "words"), [("1 / 0", "division by zero"), ("", "mine holds no Every")])
def test_the_command_refuses_it_in_one_line(evaluate, source, words):
    result = evaluate(source)
    assert result.returncode == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("awares: error:")]
    assert words in line
    assert "Traceback" not in result.stderr
