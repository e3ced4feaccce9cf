"""The version has one source, the changelog knows it, and the release workflow builds what that version's tag names."""

import re
import subprocess
import sys
import tomllib
import zipfile
from datetime import date
from pathlib import Path

import pytest
import yaml

from lmms_awares import __version__

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / ".ci" / "release.py"
STEPS = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]["build"]["steps"]
RUNS = {step["name"]: step["run"] for step in STEPS if "name" in step}


def check(*words):
    """Exit code, and what it prints, of the workflow's own checks."""
    done = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


def test_the_version_has_one_source():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "lmms_awares.__version__"}
    command = [sys.executable, "-m", "lmms_awares", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"lmms-awares {__version__}\n"


def test_the_changelog_has_the_version_and_its_order():
    sections = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert sections[0] == "Unreleased"
    released = [section.split(" - ") for section in sections[1:]]
    assert released[0][0] == __version__
    numbers = [tuple(map(int, version.split("."))) for version, _ in released]
    days = [date.fromisoformat(day) for _, day in released]
    assert numbers == sorted(set(numbers), reverse=True)
    assert days == sorted(days, reverse=True)


def test_the_workflow_runs_on_tags_and_checks_before_it_builds():
    content = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    assert content[True] == {"push": {"tags": ["v*"]}}  # YAML reads the key `on` as true
    assert list(RUNS) == ["the tag is the version", "build", "the wheel is whole", "the wheel runs"]
    assert RUNS["the tag is the version"] == 'python .ci/release.py tag "$GITHUB_REF_NAME"'
    assert RUNS["the wheel is whole"] == "python .ci/release.py wheel dist/*.whl"
    assert "twine check --strict dist/*" in RUNS["build"]
    assert 'cd "$RUNNER_TEMP"' in RUNS["the wheel runs"] and "awares --version" in RUNS["the wheel runs"]
    assert not any("publish" in step.get("uses", "") or "twine upload" in step.get("run", "") for step in STEPS)


@pytest.mark.parametrize("step", RUNS)
def test_every_step_is_a_script_that_bash_can_read(step):
    assert subprocess.run(["bash", "-n", "-c", RUNS[step]], check=False).returncode == 0


def test_a_tag_of_another_version_is_refused():
    assert check("tag", f"v{__version__}") == (0, f"v{__version__} is the version, and CHANGELOG.md has it")
    for tag in (__version__, "v9.9.9", f"v{__version__}rc1"):
        code, said = check("tag", tag)
        assert code == 1
        assert said == f"tag {tag} is not v{__version__}, the version in lmms_awares/__init__.py; change one of them"


def test_a_version_without_a_section_is_refused(tmp_path):
    for name in (".ci/release.py", "lmms_awares/__init__.py", "CHANGELOG.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text().replace(f"## {__version__} - ", "## 0.0.0 - "))
    words = [sys.executable, tmp_path / ".ci" / "release.py", "tag", f"v{__version__}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"CHANGELOG.md has no section ## {__version__} - YYYY-MM-DD")


@pytest.mark.parametrize("lost", [None, "tasks/awares_suite.yaml", "report/__init__.py", "report/paper/table1.csv"])
def test_a_wheel_that_lacks_a_file_is_refused(tmp_path, lost):
    """Links are followed: the tasks and the published tables lie outside the package."""
    files = [path for path in (ROOT / "lmms_awares").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    names = {path.relative_to(ROOT).as_posix() for path in files}
    names |= {f"lmms_awares/tasks/{path.name}" for path in (ROOT / "tasks").iterdir() if path.is_file()}
    names |= {f"lmms_awares/suites/configs/{path.name}" for path in (ROOT / "suites").glob("*.yaml")}
    names |= {f"lmms_awares/report/paper/{path.name}" for path in (ROOT / "results" / "paper").glob("*.csv")}
    wheel = tmp_path / "x.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in names - {f"lmms_awares/{lost}"}:
            archive.writestr(name, "")
    code, said = check("wheel", wheel)
    if lost is None:
        assert (code, said) == (0, f"{wheel} holds the {len(names)} files of the package")
    else:
        assert (code, said) == (1, f"{wheel} lacks lmms_awares/{lost}; see [tool.setuptools] in pyproject.toml")
