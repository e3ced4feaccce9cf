"""Two runs on small data and their site, for the tests of the explorer."""

import io
import json
import re

import pandas as pd
from PIL import Image
from synthetic import rows, write_run
from typer.testing import CliRunner

from lmms_awares.cli import app

TASKS = {"awares_pope": "pope/test", "awares_chartqa": "chartqa/test"}
DOCUMENTS = 6


def data_file(root, task):
    return str(root / f"{TASKS[task]}-00000-of-00001.parquet")


def sizes(root, task):
    stored = pd.read_parquet(data_file(root, task))["image"]
    return [Image.open(io.BytesIO(image["bytes"])).size for image in stored]


def questions(root, task):
    return pd.read_parquet(data_file(root, task))["question"].tolist()


def write_traced(folder, root, answers):
    """A run on the smoke data. `answers`: per task (score, tool call as (status, ids), text) of each document."""
    samples = {}
    for task, given in answers.items():
        samples[task] = rows([score for score, _, _ in given])
        asked = zip(sizes(root, task), questions(root, task), strict=True)
        for row, (size, question), (score, call, text) in zip(samples[task], asked, given, strict=True):
            row["input"] = f"{question}\nAnswer in one word."
            if score is None:
                continue
            row["answer"] = text
            row["awares"]["image_size"] = size
            row["awares"]["turns"] = [{"text": text, "new_tokens": 4, "seconds": 0.5}]
            if call is not None:
                status, ids = call
                said = f"GET_CROPS: {list(ids)}"
                row["awares"]["tool_call"] = {"status": status, "ids": ids, "text": said}
                row["awares"]["crops"] = [{"id": id, "tokens": 12} for id in ids or ["all"]]
                row["awares"]["turns"].insert(0, {"text": said, "new_tokens": 9, "seconds": 0.25})
                row["awares"]["visual_tokens_processed"] = None  # as of a server that does not tell
    write_run(folder, samples)
    file = folder / "1_results.json"
    results = json.loads(file.read_text())
    for task in results["configs"]:
        split = TASKS[task].split("/")[1]
        results["configs"][task] |= {
            "task": task,
            "test_split": split,
            "dataset_path": "parquet",
            "dataset_kwargs": {"data_files": {split: [data_file(root, task)]}},
        }
    file.write_text(json.dumps(results))
    return folder


NASTY = "<script>document.title='hacked'</script> \ud800 </pre>"
FIRST = {
    "awares_pope": [
        (1.0, None, "yes"),
        (0.0, ("valid", ["3"]), "no"),
        (1.0, ("recovered", ["0", "5"]), "maybe"),
        (0.0, ("invalid", []), NASTY),
        (None, None, ""),
        (1.0, None, "yes"),
    ],
    "awares_chartqa": [(0.4, None, "17")] * DOCUMENTS,
}
SECOND = {
    "awares_pope": [
        (1.0, None, "yes"),
        (1.0, ("valid", ["2"]), "yes"),
        (0.0, None, "no"),
        (0.0, None, "no"),
        (1.0, None, "yes"),
        (1.0, None, "yes"),
    ],
    "awares_chartqa": [(0.6, None, "18")] * DOCUMENTS,
}


def write_site(folder, data_root):
    """The site of two runs, built by the command."""
    runs = [write_traced(folder / name, data_root, given) for name, given in (("one", FIRST), ("two", SECOND))]
    result = CliRunner().invoke(app, ["report", *map(str, runs), "-o", str(folder / "site")])
    assert result.exit_code == 0, result.output
    assert "warning" not in result.output
    return folder / "site"


def page_data(site_folder, name):
    text = (site_folder / "data" / f"{name}.js").read_text()
    return json.loads(re.fullmatch(r"awares\.\w+\((?:\d+, )?(.*)\);\n", text, re.DOTALL)[1])
