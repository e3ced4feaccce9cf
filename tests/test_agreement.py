"""Agreement of two label sets: by hand, against scikit-learn, in the paper's numbers, and from files."""

import json
import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer import Typer
from typer.testing import CliRunner

from lmms_awares.cli.curate_agree import agree
from lmms_awares.curation import agreement
from lmms_awares.curation.rows import JUDGE, with_verdict, write_rows
from lmms_awares.errors import DataError, UserError
from lmms_awares.report.read.label_sets import read_label_set


def labels(table):
    """Two label sets with these counts."""
    counts = zip([("LR", "LR"), ("LR", "HR"), ("HR", "LR"), ("HR", "HR")], table[0] + table[1], strict=True)
    pairs = [pair for pair, count in counts for _ in range(count)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def test_by_hand():
    # 20 + 15 of 50 agree: 0.7. By chance: 25/50 * 30/50 + 25/50 * 20/50 = 0.5. (0.7 - 0.5) / (1 - 0.5) = 0.4
    found = agreement(*labels([[20, 5], [10, 15]]))
    assert found.table.tolist() == [[20, 5], [10, 15]]
    assert found.agreement == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)


def test_rows_are_the_first_sets():
    assert agreement(["LR", "LR", "HR"], ["HR", "HR", "HR"]).table.tolist() == [[0, 2], [0, 1]]


def test_table_2_of_the_paper():
    """Counts in hundredths of a percent. Kappa is not in the paper; by hand, in fractions."""
    rows = [[7801, 139], [173, 1887]]  # DeepSeek against LLaMA
    found = agreement(*labels(rows))
    assert found.agreement == pytest.approx(0.9688)
    observed = Fraction(7801 + 1887, 10000)
    chance = Fraction((7801 + 139) * (7801 + 173) + (173 + 1887) * (139 + 1887), 10000**2)
    assert found.kappa == pytest.approx(float((observed - chance) / (1 - chance)))
    anls = agreement(*labels([[6904, 919], [1069, 1107]]))
    assert anls.agreement == pytest.approx(0.8012, abs=2e-4)
    assert anls.kappa < found.kappa


@given(st.lists(st.tuples(st.sampled_from(["LR", "HR"]), st.sampled_from(["LR", "HR"])), min_size=1, max_size=40))
def test_against_scikit_learn(pairs):
    from sklearn.metrics import cohen_kappa_score, confusion_matrix

    a, b = zip(*pairs, strict=True)
    found = agreement(a, b)
    assert found.table.tolist() == confusion_matrix(a, b, labels=["LR", "HR"]).tolist()
    assert found.agreement == pytest.approx(np.mean([x == y for x, y in pairs]))
    if len({*a, *b}) == 1:
        assert math.isnan(found.kappa)
    else:
        assert found.kappa == pytest.approx(cohen_kappa_score(a, b), abs=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (["LR"], ["LR", "HR"], "1 and 2 labels"),
        ([], [], "no labels"),
        (["LR", "lr"], ["LR", "HR"], "'lr' is no label; expected LR or HR"),
        (["LR"], [""], "'' is no label"),
    ],
)
def test_what_cannot_be_compared(a, b, message):
    with pytest.raises(DataError, match=message):
        agreement(a, b)


def judged(folder, found):
    """A curated set's shards of the judge's stage, two rows each; None: a rejected row."""
    empty = {**dict.fromkeys(JUDGE), "reason": None, "detail": None}
    rows = [
        {"id": id, **empty, **({"label": label} if label else {"reason": "refusal", "detail": "no"})}
        for id, label in found.items()
    ]
    for n in range(0, len(rows), 2):
        write_rows(folder / "judge" / f"train-{n:05}.parquet", rows[n : n + 2], with_verdict(JUDGE))
    return folder


A = {"s/0": "LR", "s/1": "LR", "s/2": "HR", "s/3": "HR", "s/4": None, "s/5": "LR"}
B = {"s/5": "LR", "s/3": "LR", "s/2": "HR", "s/1": "LR", "s/0": "LR", "s/9": "HR"}


def run(*arguments):
    app = Typer()
    app.command()(agree)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_two_curated_sets(tmp_path):
    # s/0 s/1 s/5 both LR; s/2 both HR; s/3 HR and LR. 4 of 5 agree; chance 0.6 * 0.8 + 0.4 * 0.2 = 0.56
    result = run(judged(tmp_path / "a", A), judged(tmp_path / "b", B), "--format", "csv")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        f"{tmp_path / 'a'},{tmp_path / 'b'} LR,{tmp_path / 'b'} HR,agreement,kappa",
        "LR,60.00,0.00,80.00,0.545",
        "HR,20.00,20.00,,",
    ]
    text = run(tmp_path / "a", tmp_path / "b").output
    assert "5 rows" in text
    assert f"1 labelled by {tmp_path / 'b'} alone" in text and f"labelled by {tmp_path / 'a'} alone" not in text


def test_other_label_files(tmp_path):
    trajectories = tmp_path / "set" / "trajectories"
    trajectories.mkdir(parents=True)
    pd.DataFrame({"id": list(B), "label": list(B.values())}).to_parquet(trajectories / "train-00000-of-1.parquet")
    lines = [{"task": "t", "doc_id": n, "label": label, "targets": []} for n, label in enumerate(["LR", "HR"])]
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, lines)))
    ids = [{"id": f"s/{n}", "label": "HR"} for n in range(3)]
    (tmp_path / "ids.jsonl").write_text("\n".join(map(json.dumps, ids)))
    assert read_label_set(tmp_path / "set").to_dict() == B
    assert read_label_set(tmp_path / "labels.jsonl").to_dict() == {"t/0": "LR", "t/1": "HR"}
    assert read_label_set(tmp_path / "ids.jsonl").to_dict() == {f"s/{n}": "HR" for n in range(3)}
    assert read_label_set(trajectories / "train-00000-of-1.parquet").to_dict() == B
    both = run(tmp_path / "set", tmp_path / "ids.jsonl")
    assert both.exit_code == 0 and "3 rows" in both.output


def refused(message, *sets):
    with pytest.raises(UserError, match=message) as error:
        for one in sets:
            read_label_set(one)
        agree(*sets)
    assert "\n" not in str(error.value)


def test_sets_that_cannot_be_compared(tmp_path):
    good = judged(tmp_path / "a", A)
    (tmp_path / "empty").mkdir()
    refused("empty holds no labels; expected .*judge/\\*.parquet", tmp_path / "empty")
    refused("nothing is not there", tmp_path / "nothing")
    (tmp_path / "twice.jsonl").write_text('{"id": "s/0", "label": "LR"}\n{"id": "s/0", "label": "HR"}')
    refused("twice.jsonl labels s/0 twice", tmp_path / "twice.jsonl")
    (tmp_path / "odd.jsonl").write_text('{"id": "s/0", "label": "maybe"}')
    refused("odd.jsonl: 'maybe' is no label; expected LR or HR", tmp_path / "odd.jsonl")
    (tmp_path / "without.jsonl").write_text('{"id": "s/0"}')
    refused("without.jsonl", tmp_path / "without.jsonl")
    (tmp_path / "text.parquet").write_text("text")
    refused("text.parquet is not a readable parquet file", tmp_path / "text.parquet")
    (tmp_path / "other.jsonl").write_text('{"id": "t/0", "label": "LR"}')
    refused("no row has a label in both", good, tmp_path / "other.jsonl")
