"""The scripts in benchmarks/ still run, at their smallest; what they measure there means nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SMALLEST = {
    "against_full.py": (["--samples", "2", "--size", "112x84", "--repeats", "1", "--rates", "1"], "call rate    1"),
    "batches.py": (["--samples", "12", "--batch-size", "4", "--repeats", "1"], "0 answers differ"),
    "engines.py": (["--samples", "6", "--repeats", "1"], "0 answers differ"),
    "overhead.py": (["--samples", "6"], "generate and encode"),
    "report_scale.py": (["--runs", "2", "--share", "0.01"], "2 runs"),
    "regress_rates.py": (["--repeats", "2", "--documents", "100"], "2.00 |"),
    "kv_reuse.py": (["--repeats", "1", "--images", "chart", "--crops", "0"], "chart 850x600"),
    "decontaminate.py": (["--documents", "2"], "others: pairs of short letters"),
    "cost_table.py": ([], "low-res + quadrant, prefilled again"),
    "training_cost.py": ([], "Estimate, not measured, of 8 GPUs"),
    "curated_scale.py": (["--rows", "6"], "6 rows"),
    "curation.py": (["--rows", "600", "--timed", "1"], "requests/s over 600 rows"),
    "labels.py": (["--rows", "2", "--validation", "2"], "14 rows"),
    "ranks.py": (["--documents", "8", "--layouts", "regular"], "balanced"),
    "pruning.py": (["--repeats", "1", "--side", "4", "--memory-side", "8"], "sparsevlm"),
}


def test_every_script_is_run():
    scripts = {file.name for file in (ROOT / "benchmarks").glob("*.py")}
    assert scripts - {"measuring.py", "readme.py"} == SMALLEST.keys()


def test_the_readme_is_made_from_the_results():
    """Where this fails: python benchmarks/readme.py."""
    command = [sys.executable, ROOT / "benchmarks" / "readme.py", "--check"]
    assert subprocess.run(command, check=False).returncode == 0


# Half a minute each, and more.
LONGER = ("ranks.py", "engines.py", "decontaminate.py", "curation.py", "pruning.py", "curated_scale.py")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in LONGER else []) for name in SMALLEST]
)
def test_it_runs(name, small_checkpoint):
    arguments, words = SMALLEST[name]
    if name in ("against_full.py", "kv_reuse.py", "pruning.py"):
        arguments = [*arguments, "--pretrained", str(small_checkpoint)]
    if name in ("kv_reuse.py", "pruning.py"):
        arguments = [*arguments, "--dtype", "float32"]
    command = [sys.executable, ROOT / "benchmarks" / name, *arguments]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert words in result.stdout
