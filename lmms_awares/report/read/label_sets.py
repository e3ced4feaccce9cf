"""Label sets to compare: curated sets, and files of labels."""

from pathlib import Path

import pandas as pd

from lmms_awares.report.read.resolution_labels import label_rows, read_labels
from lmms_awares.report.read.samples import RunError

_STAGES = ("judge", "trajectories")  # of a curated set; the first that is there knows all labels


def read_label_set(path: Path) -> "pd.Series[str]":
    """Read the labels of a curated set, or of a file.

    Args:
        path: a curated set's folder; or JSON lines or parquet with `id` and `label`, or with the fields of `Label`.

    Returns:
        `LR` or `HR` by the row's id, `<task>/<doc_id>` where the file has these; rows without a label left out.

    Raises:
        RunError: nothing there, an unreadable file, another label, a row labelled twice.
    """
    frame = pd.concat([_read(file) for file in _files(path)], ignore_index=True).dropna(subset="label")
    odd = frame[~frame["label"].isin(["LR", "HR"])]
    if len(odd):
        raise RunError(f"{path}: {odd['label'].iloc[0]!r} is no label; expected LR or HR")
    twice = frame[frame.duplicated("id")]
    if len(twice):
        raise RunError(f"{path} labels {twice['id'].iloc[0]} twice")
    return frame.set_index("id")["label"]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise RunError(f"{path} is not there; give a curated set's folder, or a .jsonl or .parquet file of labels")
    for stage in _STAGES:
        files = sorted((path / stage).glob("*.parquet"))
        if files:
            return files
    raise RunError(f"{path} holds no labels; expected {' or '.join(f'{path / stage}/*.parquet' for stage in _STAGES)}")


def _read(file: Path) -> pd.DataFrame:
    rows = label_rows(file, ["id", "label"])
    if rows and all(isinstance(row, dict) and {"id", "label"} <= row.keys() for row in rows):
        return pd.DataFrame([(row["id"], row["label"]) for row in rows], columns=["id", "label"])
    if rows and isinstance(rows[0], dict) and rows[0].keys().isdisjoint({"task", "label"}):
        raise RunError(f"{file} has no id and label (nor task, doc_id and label); its rows have {', '.join(rows[0])}")
    labels = read_labels(file)
    ids = labels["task"] + "/" + labels["doc_id"].astype(str)
    return pd.DataFrame({"id": ids, "label": labels["hr"].map({True: "HR", False: "LR"})})
