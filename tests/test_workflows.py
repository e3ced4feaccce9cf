"""The GitHub workflows: their steps are run here as a runner would run them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from synthetic import paired_scores, rows, write_run

from lmms_awares.mini.demo import checkpoint
from lmms_awares.report.gate.baseline import load, save

ROOT = Path(__file__).parent.parent
WORKFLOWS = ROOT / ".github" / "workflows"
TASK = "awares_chartqa"
MINI = "awares_mini_realworldqa"


def workflow(name):
    """A workflow's inputs and its only job. YAML reads the key `on` as true."""
    content = yaml.safe_load((WORKFLOWS / name).read_text())
    (job,) = content["jobs"].values()
    trigger = content[True]
    return trigger["workflow_dispatch"]["inputs"] if "workflow_dispatch" in trigger else {}, job


def run_step(name, step, folder, **inputs):
    """Run one step's script in `folder`, with the job's environment made from defaults and `inputs`."""
    declared, job = workflow(name)
    values = {key: str(value.get("default", "")) for key, value in declared.items()} | inputs
    environment = {
        key: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda match: values[match[1]], str(value))
        for key, value in job["env"].items()
    }
    (script,) = (s["run"] for s in job["steps"] if s.get("name") == step)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | environment | {"PATH": path, "GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(("drop", "code"), [(0.0, 0), (0.05, 1)])
def test_the_gate_of_a_scored_checkpoint(drop, code, tmp_path):
    baseline, candidate = paired_scores(2500, churn=0.06, drop=drop)
    write_run(tmp_path / "baseline", {TASK: rows(baseline)})
    write_run(tmp_path / "out" / "run", {TASK: rows(candidate)})
    result = run_step("score-checkpoint.yml", "gate", tmp_path, baseline="baseline")
    assert result.returncode == code, result.stderr
    for name in ("regress.md", "regress.xml", "regress.json"):
        assert (tmp_path / "out" / name).stat().st_size > 100
    assert (tmp_path / "summary.md").read_text() == (tmp_path / "out" / "regress.md").read_text()


def test_a_missing_baseline_fails_before_the_scoring(tmp_path):
    inputs, job = workflow("score-checkpoint.yml")
    assert not inputs["baseline"]["default"], "a repository has no baseline until one is saved"
    names = [step.get("name") for step in job["steps"]]
    assert names.index("baseline is there") < names.index("install") < names.index("score")
    result = run_step("score-checkpoint.yml", "baseline is there", tmp_path, baseline="none.json.gz")
    assert result.returncode == 2
    assert "none.json.gz is not in the repository" in result.stdout
    (tmp_path / "some.json.gz").touch()
    assert run_step("score-checkpoint.yml", "baseline is there", tmp_path, baseline="some.json.gz").returncode == 0


def test_samples_are_shown_only_where_there_are_some():
    _, job = workflow("score-checkpoint.yml")
    (step,) = (step for step in job["steps"] if step.get("name") == "sample explorer")
    assert "hashFiles('out/run/**/*_results.json') != ''" in step["if"]


@pytest.mark.parametrize("file", sorted(WORKFLOWS.glob("*.yml")), ids=lambda file: file.name)
def test_workflows_read_only_cache_what_they_install_and_do_not_run_twice(file):
    content = yaml.safe_load(file.read_text())
    assert content["permissions"] == {"contents": "read"}
    (job,) = content["jobs"].values()
    assert "permissions" not in job
    group = content["concurrency"]["group"]
    assert "${{ github.workflow }}" in group
    scoring = file.name == "score-checkpoint.yml"
    # A push replaces an older one of its branch; hours of scoring are not thrown away for another checkpoint.
    assert content["concurrency"]["cancel-in-progress"] is not scoring
    assert ("${{ github.ref }}" in group) is not scoring
    assert not scoring or set(re.findall(r"inputs\.(\w+)", group)) == {"model", "pretrained", "model_args", "tasks"}
    (python,) = (step["with"] for step in job["steps"] if step.get("uses", "").startswith("actions/setup-python@"))
    assert python["cache"] == "pip"
    if file.name == "versions.yml":  # installs without constraints.txt
        assert python["cache-dependency-path"].split() == ["pyproject.toml", ".ci/lowest.txt"]
        assert set(job["strategy"]["matrix"]["versions"]) == {"lowest", "highest"}
        return
    # what .ci/setup.sh installs depends on (`awares_recipe`)
    recipe = re.search(r"awares_recipe\(\) \{\n    cat (.*)\n", (ROOT / ".ci" / "setup.sh").read_text())[1]
    assert python["cache-dependency-path"].split() == recipe.split()


def test_inputs_reach_commands_through_the_environment_only():
    """An input pasted into a script would be run as part of it."""
    inputs, job = workflow("score-checkpoint.yml")
    assert not any("${{" in step.get("run", "") for step in job["steps"])
    used = set(re.findall(r"inputs\.(\w+)", str(job)))
    assert used == set(inputs)


@pytest.fixture
def mini_gate(tmp_path):
    """`.ci/mini.sh` on one benchmark of the committed baseline; exit code and Markdown of a checkpoint's run."""
    recipe = b"".join((ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt", ".ci/setup.sh"))
    if not any(stamp.read_bytes() == recipe for stamp in (ROOT / ".venv").glob(".installed-*")):
        pytest.skip(".venv is not what .ci/setup.sh makes: mini.sh would install")
    whole = load(ROOT / "results" / "baselines" / "mini.json.gz")
    one = save(whole.model_copy(update={"tasks": {MINI: whole.tasks[MINI]}}), tmp_path / "one.json.gz")

    def run(name, pretrained):
        work = tmp_path / name
        knobs = {"CHECKPOINT": pretrained, "TASKS": MINI, "BASELINE": one, "WORK": work}
        environment = os.environ | {f"AWARES_MINI_{knob}": str(value) for knob, value in knobs.items()}
        environment["GITHUB_STEP_SUMMARY"] = str(tmp_path / "summary.md")
        command = ["bash", ROOT / ".ci" / "mini.sh"]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_the_mini_gate_passes_the_shipped_checkpoint(mini_gate):
    code, output = mini_gate("shipped", checkpoint())
    assert code == 0, output
    assert "No regression found" in output


def test_the_mini_gate_stops_a_checkpoint_that_knows_nothing(mini_gate, small_checkpoint):
    code, output = mini_gate("random", small_checkpoint)
    assert code == 1, output
    assert f"Regression: {MINI} score" in output


def test_the_mini_workflow_runs_a_script_that_is_there():
    _, job = workflow("mini.yml")
    (script,) = (step["run"].split()[1] for step in job["steps"] if "run" in step)
    assert os.access(ROOT / script, os.X_OK)
    assert subprocess.run(["bash", "-n", ROOT / script], check=False).returncode == 0
