"""`awares doctor` on versions: the floors and the tested range, which pyproject.toml and CI hold too."""

import re
import tomllib
from pathlib import Path

import pytest

from lmms_awares import doctor
from lmms_awares.errors import ConfigError

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("found", "state", "words"),
    [
        ("5.19.0", "fail", "older than 5.20"),
        ("5.20.0", "ok", "5.20.0"),
        ("5.24.0", "ok", "5.24.0"),
        ("5.24.1", "warn", "newer than 5.24.0, the newest tested"),
        ("6.0.0.dev0", "warn", "pip install 'transformers<=5.24.0'"),
    ],
)
def test_versions_outside_the_tested_range(found, state, words, monkeypatch):
    monkeypatch.setattr(doctor, "version", lambda name: found)
    finding = doctor.package("transformers", doctor.FLOORS["transformers"])
    assert finding.state == state
    assert words in finding.detail


def test_one_truth_about_the_lowest_versions():
    """pyproject.toml's floors, doctor's, and those that CI installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    floors = dict(re.match(r"([\w-]+)>=([\d.]+)", line).groups() for line in project if ">=" in line)
    lowest = dict(line.split("==") for line in (ROOT / ".ci/lowest.txt").read_text().splitlines() if "==" in line)
    for name, floor in doctor.FLOORS.items():
        assert tuple(map(int, floors[name].split("."))) == floor
        if name != "torch":  # an old torch has no wheel for every machine
            assert lowest[name].startswith(floors[name])
    for name, newest in doctor.NEWEST.items():
        pinned = re.search(rf"^{name.replace('-', '[-_]')}==(.*)$", (ROOT / "constraints.txt").read_text(), re.M)
        assert tuple(map(int, pinned[1].split("."))) <= newest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "http://h/v1"}, "--base-url needs --pretrained"),
        ({"base_url": "http://h/v1", "pretrained": "p", "adapter": "a"}, "--adapter has no effect with --base-url"),
        ({"served_model": "m"}, "--served-model needs --base-url"),
        ({"pretrained": "p", "api_key_env": "K"}, "--api-key-env needs --base-url"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    with pytest.raises(ConfigError, match=message):
        doctor.run(**options)
