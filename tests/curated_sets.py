"""A small whole curated set: pictures of the mini suite, outcomes by hand, rows set aside in every stage."""

import json
from unittest.mock import patch

from lmms_awares.crops import target_crops
from lmms_awares.curation.rows import ANSWER, BUILD, GROUND, JUDGE, REJECTED, SOURCE, with_verdict, write_rows
from lmms_awares.engine.checkpoint import format_fingerprint
from lmms_awares.journal import digest
from lmms_awares.labels import EVIDENCE
from lmms_awares.mini import suite
from lmms_awares.protocol import GetCrops, format_call
from lmms_awares.views import plan_views, show

BENCHMARKS = ("chartqa", "docvqa_val", "vstar_bench")
SHARDS = {"train-00000": range(6), "train-00001": range(6, 10), "validation-00000": range(10, 12)}  # rows per benchmark
BASE = {"name": "tiny", "revision": "sha-1234", "prompt": "own 5f2c"}
JUDGE_MODEL = {"name": "big-judge", "revision": None, "prompt": "judge 77aa"}
ORACLE = {"name": "big-oracle", "revision": None, "prompt": "oracle 90bc"}
NEVER = [  # rows that never were in sources/
    {"id": "chartqa/900", "source": "chartqa", "split": "train", "stage": "sources", "reason": "corrupt image"},
    {"id": "docvqa_val/901", "source": "docvqa_val", "split": "train", "stage": "sources", "reason": "in a benchmark"},
]
NASTY = "<script>document.title='hacked'</script> \u2028 </pre>"
ASIDE = {  # by position in the list of all rows
    1: ("answer", "cannot be answered", "the image leaves 20 px"),
    5: ("judge", "no verdict in the reply", "3 replies, the last one: 'Both look fine to me'"),
    8: ("judge", "no reply", "the server gave status 500"),
    12: ("judge", "the swapped verdict differs", "2 and 1"),
    15: ("ground", "no box in the reply", "3 replies, the last one: 'at the top'"),
    17: ("ground", "a box outside the image", "[0, 0, 1200, 40]"),
    34: ("build", "too long", "9000 of 8192 tokens"),
}


def evidence(drawn, position):
    """The drawn box; of two rows one with several targets, and one that leaves the image."""
    width, height = drawn["image"].size
    wide = {0: (0, 0, width, int(0.6 * height)), 2: (width - 10, height - 10, width + 5, height + 5)}
    return wide.get(position, drawn[EVIDENCE])


def clear(benchmark, index):
    """A training document with clear print, so that its label is known by construction."""
    with patch.object(suite, "GRADED", ()):
        return suite.document(benchmark, "train", index)


def sources(questions):
    """All rows by shard. `questions`: by position, in place of those that were drawn."""
    made, position = {}, 0
    for shard, indices in SHARDS.items():
        rows = []
        for index in indices:
            for benchmark in BENCHMARKS:
                drawn = clear(benchmark, index)
                right = drawn.get("answers") or [drawn.get("answer") or drawn["label"]]
                rows.append(
                    {
                        "id": f"{benchmark}/{index}",
                        "source": benchmark,
                        "split": shard.split("-")[0],
                        "image": drawn["image"],
                        "question": questions.get(position) or drawn.get("question") or drawn["text"],
                        "answers": right if isinstance(right, list) else [right],
                        "evidence_box": evidence(drawn, position),
                        "metric": "exact",
                    }
                )
                position += 1
        made[shard] = rows
    return made


def answered(row, position):
    hard = row["evidence_box"] is not None
    low = f"not {row['answers'][0]}" if hard else row["answers"][0]
    low = NASTY if position == 3 else low
    return {"lowres_answer": low, "fullres_answer": row["answers"][0], "base_model": BASE}


def judged(row, position):
    """Every seventh HR row: the judge prefers what stands second, both times."""
    verdict = 2 if row["evidence_box"] is not None else 0
    swapped = 1 if verdict == 2 and position % 7 == 0 else verdict
    said = {"verdict": verdict, "swapped": swapped, "replies": [str(verdict), "1"], "scores": None}
    return {"label": "HR" if verdict == 2 else "LR", "judge": said, "judge_model": JUDGE_MODEL}


def grounded(row, label):
    if label == "LR":
        empty = {"question": [], "answer": []}
        return {"boxes": empty, "targets": [], "rule": None, "grounding": None, "oracle_model": ORACLE}
    width, height = row["image"].size
    ids, rule = target_crops(row["evidence_box"], (width, height))
    left, top, right, bottom = row["evidence_box"]
    box = [1000 * left / width, 1000 * top / height, 1000 * right / width, 1000 * bottom / height]
    box = [min(1000.0, side) for side in box]
    said = {"boxes": {"question": [[0.0, 0.0, 1000.0, 200.0]], "answer": [box]}, "targets": list(ids), "rule": rule}
    return said | {"grounding": json.dumps(box), "oracle_model": ORACLE}


def part(kind, text=None):
    return {"type": kind, "text": text}


def built(row, targets):
    plan = plan_views(*row["image"].size)
    images = [show(row["image"], plan, "lowres").image]
    messages = [
        {"role": "system", "content": [part("text", "Look first, then answer.")]},
        {"role": "user", "content": [part("image"), part("text", row["question"])]},
    ]
    if targets:
        seen = plan.requested(tuple(targets))
        images += [show(row["image"], plan, id).image for id in seen]
        messages.append({"role": "assistant", "content": [part("text", format_call(targets))]})
        messages.append({"role": "user", "content": [part("image") for _ in seen]})
    messages.append({"role": "assistant", "content": [part("text", row["answers"][0])]})
    return {"messages": messages, "images": images}


def write(folder, upto="build", *, keep_stages=True, questions=None):
    """Write the set as the pipeline does. `upto`: the last stage; `keep_stages`: False leaves trajectories alone.

    Returns:
        all rows with the columns of all stages that they passed, by id.
    """
    features = {"answer": ANSWER, "judge": JUDGE, "ground": GROUND, "build": BUILD}
    done = list(features)[: list(features).index(upto) + 1]
    everything, rejected, kept = {}, [dict(row, detail="") for row in NEVER], {}
    position = 0
    for shard, rows in sources(questions or {}).items():
        written = {stage: [] for stage in done}
        for row in rows:
            whole = dict(row)
            make = {
                "answer": lambda row=row, at=position: answered(row, at),
                "judge": lambda row=row, at=position: judged(row, at),
                "ground": lambda row=row, whole=whole: grounded(row, whole["label"]),
                "build": lambda row=row, whole=whole: built(row, whole["targets"]),
            }
            aside = ASIDE.get(position)
            for stage in done:
                if aside and aside[0] == stage:
                    reason = {"reason": aside[1], "detail": aside[2]}
                    written[stage].append({"id": row["id"], **dict.fromkeys(features[stage]), **reason})
                    rejected.append({name: row[name] for name in ("id", "source", "split")} | {"stage": stage} | reason)
                    break
                added = make[stage]()
                whole |= added
                written[stage].append({"id": row["id"], **added, "reason": None, "detail": None})
            else:
                if upto == "build":
                    kept.setdefault(row["split"], []).append(whole)
            everything[row["id"]] = whole
            position += 1
        if keep_stages:
            write_rows(folder / "sources" / f"{shard}.parquet", rows, SOURCE)
            for stage in done:
                write_rows(folder / stage / f"{shard}.parquet", written[stage], with_verdict(features[stage]))
    if upto == "build":
        columns = type(SOURCE)({**SOURCE, **ANSWER, **JUDGE, **GROUND, **BUILD})
        for split, rows in kept.items():
            write_rows(folder / "trajectories" / f"{split}-00000-of-1.parquet", rows, columns)
        write_rows(folder / "rejected.parquet", rejected, REJECTED)
        (folder / "provenance.json").write_text(json.dumps(provenance()))
    return everything


def fit(folder, checkpoint, **changes):
    """Let a set say that its transcripts were made for a checkpoint, but for `changes`."""
    built = {
        "prompt": digest(GetCrops.own["system"]),
        "format": format_fingerprint(str(checkpoint)),
        **{"min_pixels": None, "max_pixels": None, "lowres_base": "processed"},
    }
    (folder / "provenance.json").write_text(json.dumps({"stages": {"build": built | changes}}))
    return folder


def provenance():
    judge = {"requests": 61, "input_tokens": 9000, "output_tokens": 80}
    base = {"pretrained": "tiny", "min_pixels": None, "max_pixels": None, "lowres_base": "processed"}
    return {"config": {"base": base, "seed": 0}, "requests": {"judge": judge}}
