"""Which of lmms-eval's tasks can be wrapped: read from its files, in seconds, without running them."""

import subprocess
import sys

import pytest
from host_data import HOST

from lmms_awares.errors import ConfigError
from lmms_awares.tasks import host_index, host_source, host_survey
from lmms_awares.tasks.host_index import Function, installed, tasks_of
from lmms_awares.tasks.host_survey import Wrapped, survey, wrapped

REFUSED = {
    "mvbench_action_count": "video",
    "clotho_aqa_test": "audio",
    "omni_bench": "audio",
    "arc_agi_1": "several images per document",
    "gsm8k_cot": "no images",
    "mmvet": r"an external judge \(its scorer uses lmms_eval\.llm_judge",
    "mmbench_en_dev": r"an external judge \(its scorer uses requests\)",
    "worldvqa_mc_ppl": r"log-likelihoods \(multiple_choice\)",
    "ovo_forward": r"rounds of its own \(generate_until_multi_round\)",
    "mmmu_val_pass64": r"several answers per document \(repeats: 64\)",
    "vstat": "it is a Python class of its own",
    "pointbench": r"a judge of its own \(its scorer loads from huggingface_hub\)",
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name):
    with pytest.raises(ConfigError, match=rf"^awares:{name} cannot be wrapped: {REFUSED[name]}") as caught:
        wrapped(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", HOST)
def test_what_can_be(name):
    facts = survey(name)
    assert isinstance(facts, Wrapped)
    assert facts.split == HOST[name].split
    assert facts.one_image == (name not in ("mmmu_val", "scienceqa_img"))


def test_headlines_and_scales():
    """The first metric that every document gets; in percent only where that was read in the source."""
    assert survey("hrbench4k").headline == "average"  # `single` and `cross` come first in its list
    assert survey("chartqa").headline == "relaxed_overall"
    assert survey("mme").scored == "mme_perception_score 0..1"
    assert survey("mathvision_testmini").scored == "mathvision_standard_eval 0..100"
    assert survey("olympiadbench_math_en").scale is None  # something is multiplied by 100 there


def test_names_that_lmms_eval_does_not_have():
    with pytest.raises(ConfigError, match="lmms-eval has no task 'infovqa_vall'; near: infovqa_val"):
        wrapped("infovqa_vall")


def test_groups_and_tags():
    assert [facts.name for facts in wrapped("hrbench")] == ["hrbench4k", "hrbench8k"]
    assert "infovqa_test" in tasks_of("infovqa")
    with pytest.raises(ConfigError, match=r"awares:mvbench cannot be wrapped: it holds mvbench_\w+ \(video\), .* more"):
        wrapped("mvbench")


def test_it_needs_neither_lmms_eval_nor_torch():
    code = (
        "import sys; from lmms_awares.tasks.host_survey import survey; survey('infovqa_val'); "
        "sys.exit('torch' in sys.modules or 'lmms_eval' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_index_is_lmms_evals_own():
    """The same tasks in the same files; groups and tags of the same names."""
    from lmms_eval.tasks import TaskManager

    names = ("mmmu", "hrbench", "infovqa")
    manager = TaskManager("ERROR", include_path=[str(host_index.root() / "tasks" / name) for name in names],
                          include_defaults=False)  # fmt: skip
    index = installed()
    for name, entry in manager.task_index.items():
        if entry["type"] == "task":
            assert str(index.files[name]) == entry["yaml_path"]
        else:
            assert name in index.collections


SOURCE = '''
import os
from PIL import Image
if os.environ.get("X"):
    import video_reader
KEY = make()


def make():
    """Speaks of video and audio, and does nothing with them."""
    return service.ask


def one(doc):
    image = doc["image"].convert("RGB")  # no video
    return [image]


def two(doc):
    return [doc["a"], doc["b"]]


def grown(doc):
    images = []
    for one in doc["images"]:
        images.append(one)
    return images


def maybe(doc):
    if doc["image"] is None:
        return []
    return handed(doc)


def handed(doc):
    return [doc["image"]]


def results(doc, answers):
    score = 100 * (answers[0] == doc["answer"])
    return {"overall": score, doc["kind"]: score}


def results_plain(doc, answers):
    return {doc["kind"]: 1, "overall": 1}
'''


@pytest.fixture
def source(tmp_path):
    (tmp_path / "utils.py").write_text(SOURCE)
    return lambda name: Function(f"utils.{name}", tmp_path)


def test_images_by_return(source):
    counts = {name: {*host_source.visuals(source(name))} for name in ("one", "two", "grown", "maybe")}
    assert counts == {"one": {"one"}, "two": {"several"}, "grown": {"some"}, "maybe": {"none", "one"}}


def test_what_functions_reach(source):
    assert not host_survey._VIDEO.search(host_source.reach(source("one")).words)
    assert host_source.reach(source("gone")).missing == {"gone"}
    assert "PIL" in host_source.needed(source("one").module)
    assert "video_reader" not in host_source.needed(source("one").module), "only below an `if`"


def test_metrics_for_all_and_hundreds(source):
    assert host_source.given_to_all(source("results")) == {"overall"}
    assert host_source.names_hundred(host_source.reach(source("results")))
    assert not host_source.names_hundred(host_source.reach(source("results_plain")))


def test_list_host():
    from typer.testing import CliRunner

    from lmms_awares.cli.tasks import app

    lines = CliRunner().invoke(app, ["list", "--host"]).output.splitlines()
    assert next(line for line in lines if line.startswith("awares:infovqa_val ")).split()[1:] == [
        *("validation", "anls", "0..1", "one", "image"),
    ]
    assert next(line for line in lines if line.startswith("mvbench_action_count ")).endswith("no: video")
    assert (
        lines[-1]
        == f"{sum(line.startswith('awares:') for line in lines)} of {len(lines) - 1} tasks can be run as awares:NAME"
    )
