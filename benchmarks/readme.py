"""Makes benchmarks/README.md from the files in benchmarks/results.

python benchmarks/readme.py            # writes it
python benchmarks/readme.py --check    # exits 1 where it would change
"""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tabulate import tabulate

HERE = Path(__file__).parent
RESULTS = HERE / "results"
HEAD = """# Benchmarks

Made by `python benchmarks/readme.py` from the files in `results/`; each section names the command that measured it.
Ways that are compared take turns on one machine, so that the ratios mean something; a ratio is the median of the
pairs', with quartiles. What is computed or printed only, the cost on the 7B among it:
[measurements](../docs/measurements.md).

Everything here ran on 2 CPU cores, beside other work, nothing on a GPU and nothing with published weights; the last
section is an estimate, and says so.
"""


def read(name: str) -> dict[str, Any]:
    """A result file."""
    return dict(json.loads((RESULTS / name).read_text(encoding="utf-8")))


def spread(value: dict[str, float], form: str = ".2f") -> str:
    """Median and quartiles."""
    return f"{value['median']:{form}} ({value['q1']:{form}} to {value['q3']:{form}})"


def table(headings: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table, the first column of text and the others of numbers."""
    alignment = ["left", *["right"] * (len(headings) - 1)]
    return tabulate(list(rows), headings, tablefmt="pipe", disable_numparse=True, colalign=alignment)


def setting(found: dict[str, Any]) -> str:
    """The command, and what the figures depend on."""
    of = found["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in of["versions"].items())
    return (
        f"`{found['command']}`\n\n{of['device']}, {of['threads']} threads, {of['attention']}, peak memory "
        f"{of['peak_mib']:,} MiB; {versions}; {found['repeats']} repeats."
    )


def kv_reuse() -> str:
    """Turn 2, and both turns, with and without reuse."""
    found = read("kv_reuse.json")
    rows = [
        [
            f"{row['image']}, crop {row['crops']}",
            spread({key: 1000 * value for key, value in row["turn2_reuse_s"].items()}, ".0f"),
            spread({key: 1000 * value for key, value in row["turn2_again_s"].items()}, ".0f"),
            spread(row["turn2_ratio"]),
            spread(row["both_ratio"]),
            f"{row['flops_ratio']:.2f}",
        ]
        for row in found["rows"]
    ]
    headings = ["image and call", "turn 2 with reuse, ms", "prefilled again, ms", "ratio", "both turns", "by FLOPs"]
    about = (
        f"A random Qwen2.5-VL of {found['parameters'] / 1e6:.0f} M parameters in {found['dtype']}. Turn 2: from its "
        "crops to its first token. Both turns: with 8 tokens of an answer. Ratios are prefilled again by reuse; by "
        "FLOPs is what [the cost model](../docs/counting.md#flops-and-kv-bytes) says of both turns."
    )
    return f"## KV reuse\n\n{setting(found)}\n\n{about}\n\n{table(headings, rows)}\n"


def against_full() -> str:
    """`awares` against lmms-eval's own model at full resolution."""
    found = read("against_full.json")

    def without_decoding(row: dict[str, Any]) -> float:
        return sum(value for part, value in row["ms"].items() if part != "decode_s")

    (full,) = (row for row in found["rows"] if row["way"] == "full")
    rows = [
        [
            "`qwen2_5_vl_full`" if row is full else f"`awares`, call rate {row['way']}",
            spread(row["time_ratio"]),
            f"{row['flops_ratio']:.2f}",
            f"{row['time_ratio']['median'] / row['flops_ratio']:.2f}",
            f"{without_decoding(row) / without_decoding(full):.2f}",
            *(f"{value:.0f}" for value in row["ms"].values()),
        ]
        for row in found["rows"]
    ]
    headings = ["way", "time by lmms-eval's", "FLOPs by full's", "time by FLOPs", "time without decoding, by full's"]
    headings += ["tower, ms", "prefill, ms", "decoding, ms", "rest, ms"]
    about = (
        f"{found['samples']} images of {found['size']} px, a random 150 M Qwen2.5-VL in {found['dtype']}, "
        "batch 1, answers of 8 tokens; a call is for one quadrant. Against lmms-eval's `qwen2_5_vl` in the same "
        "process. Decoding takes the same time whatever was seen, since each token reads all weights, and hardly any "
        "FLOPs: it is why time falls less than FLOPs do."
    )
    return f"## Against lmms-eval's own model\n\n{setting(found)}\n\n{about}\n\n{table(headings, rows)}\n"


def engines() -> str:
    """Samples per second, side by side."""
    found = read("engines.json")
    rows = [
        [row["way"], spread(row["samples_per_s"]), spread(row["gain"]), str(row["differing_answers"])]
        for row in found["rows"]
    ]
    about = (
        f"`awares` on {found['samples']} samples of the mini suite with the shipped checkpoint, one thread a process. "
        "Gain: against the first row, which is how the released adapter works. The server is vLLM 0.32 on the "
        "same CPU, with one thread of its own."
    )
    headings = ["way", "samples/s", "gain", "answers that differ"]
    return f"## Engines side by side\n\n{setting(found)}\n\n{about}\n\n{table(headings, rows)}\n"


def batches() -> str:
    """What batches gain."""
    parts = []
    for name in ("batches_awares.json", "batches_qwen2_5_vl_full.json"):
        found = read(name)
        rows = [
            [
                way,
                f"{row['samples_per_cpu_s']:.2f}",
                f"{row['gain']:.2f}",
                f"{row['gain_of_answering']:.2f}",
                f"{row['padding']:.1%}",
                str(row["differing_answers"]),
            ]
            for way, row in found["ways"].items()
        ]
        headings = ["way", "samples per CPU second", "gain", "of answering alone", "padding", "answers that differ"]
        command = f"python benchmarks/batches.py --model {found['model']} --samples {found['samples']}"
        parts.append(f"`{command} --repeats {found['repeats']}`\n\n{table(headings, rows)}\n")
    return "## Batches\n\n" + "\n".join(parts)


def ranks() -> str:
    """How evenly two ranks share."""
    found = read("ranks.json")
    rows = [
        [
            f"{run['layout']}, {run['split']}",
            *(f"{rank['visual_tokens']:,}" for rank in run["ranks"]),
            *(f"{rank['seconds']:.0f}" for rank in run["ranks"]),
        ]
        for run in found["runs"]
    ]
    headings = ["pages and split", "tokens, rank 0", "tokens, rank 1", "seconds, rank 0", "seconds, rank 1"]
    command = f"`python benchmarks/ranks.py --documents {found['documents']}`"
    return f"## Two processes\n\n{command}\n\n{table(headings, rows)}\n"


def curation() -> str:
    """What data curation costs besides its models."""
    found = read("curation.json")
    stages = list(next(iter(found["stages_ms"].values())))
    rows = [[title, *(f"{ms[stage]:.1f}" for stage in stages)] for title, ms in found["stages_ms"].items()]
    memory = found["resident_mib"]
    about = (
        f"A judge that replies at once: **{found['requests_per_s']:.0f} requests/s** over {found['rows']:,} rows, "
        "client and server on the same two cores. Resident memory: "
        f"{memory['after_2000_rows']:,.0f} MiB after 2,000 rows, {memory['at_the_end']:,.0f} at the end, "
        f"{found['mib_per_1000_rows']:+.3f} MiB per 1,000 rows. Time of a row in "
        "each stage without a model, in ms:"
    )
    return f"## Data curation\n\n{setting(found)}\n\n{about}\n\n{table(['image', *stages], rows)}\n"


def labels() -> str:
    """How far labels agree."""
    found = read("labels.json")
    rows = [[pair["a"], pair["b"], f"{100 * pair['agreement']:.1f}", f"{pair['kappa']:.3f}"] for pair in found["pairs"]]
    about = (
        f"{found['rows']:,} rows of the mini suite, labelled by what the shipped checkpoint answers on both views; the "
        f"whole of `awares curate run mini` took {found['whole_s']:.0f} s in it. As drawn: HR where halving leaves "
        "nothing of what is asked for. Where two answers are possible, half of the guesses on the low-res view are "
        "right, and no comparison of answers can tell a guess."
    )
    heading = table(["labels", "against", "% agree", "kappa"], rows)
    return f"## Labels from answers\n\n{setting(found)}\n\n{about}\n\n{heading}\n"


def training_cost() -> str:
    """What training the 7B takes, by a model."""
    found = read("training_cost.json")
    assumed = found["assumed"]
    rows = [
        [
            f"{row['stage']}, {row['image']}",
            *(f"{row[name]:,.1f}" for name in ("hours", "gpu_hours", "gb")),
            *(f"{row[f'{name}_gb']:.1f}" for name in ("weights", "optimizer", "activations", "logits", "kv")),
        ]
        for row in found["rows"]
    ]
    about = (
        "**An estimate, not a measurement**, of eight GPUs of "
        f"{assumed['peak'] / 1e12:.0f} TFLOP/s and {assumed['bandwidth'] / 1e12:.2f} TB/s, of which "
        f"{assumed['mfu']:.0%} and {assumed['bandwidth_share']:.0%} are assumed to be reached; "
        f"{assumed['rows']:,} rows. "
        "The model in words: [what training takes](../docs/training.md#what-it-takes)."
    )
    headings = ["stage and image", "hours", "GPU-hours", "GB per GPU", "weights", "optimizer", "activations"]
    made = table([*headings, "logits", "KV"], rows)
    return f"## Training the 7B, estimated\n\n`{found['command']}`\n\n{about}\n\n{made}\n"


SECTIONS: tuple[Callable[[], str], ...] = (
    kv_reuse,
    against_full,
    engines,
    batches,
    ranks,
    curation,
    labels,
    training_cost,
)


def readme() -> str:
    """The whole text."""
    return "\n".join([HEAD, *(section() for section in SECTIONS)])


if __name__ == "__main__":
    target = HERE / "README.md"
    if "--check" in sys.argv:
        sys.exit(target.read_text(encoding="utf-8") != readme())
    target.write_text(readme(), encoding="utf-8")
    print(f"wrote {target}")
