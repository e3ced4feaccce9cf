"""What a set would take: rows, requests, tokens, cost and time of each stage, before anything is sent."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image
from tabulate import tabulate

from lmms_awares.curation import grounding, judging
from lmms_awares.curation.config import Config, LlmJudge, LlmOracle, Served
from lmms_awares.curation.rows import Row
from lmms_awares.curation.sampling import collect
from lmms_awares.curation.shards import SOURCES, file_of, shard_names
from lmms_awares.engine import checkpoint
from lmms_awares.engine.chat import ChatFormat
from lmms_awares.families import FAMILIES
from lmms_awares.views import plan_views

LOOKED_AT = 256  # rows whose tokens are counted; the others are taken to be like them
HR_SHARE = 0.2  # of rows, for the oracle's part: the paper's Table 2
ORACLE_REPLY = 64  # tokens
REQUEST_S = 1.0  # nobody knows before the first one


@dataclass(frozen=True)
class Need:
    """What a stage takes.

    Attributes:
        stage: its name.
        rows: that it gets.
        requests: that it sends, or answers that it generates here.
        input_tokens, output_tokens: of all of them.
        concurrency: requests in flight at most; None where this process answers.
        price: of a million input and output tokens; None where it is not given.
    """

    stage: str
    rows: int
    requests: int
    input_tokens: int
    output_tokens: int
    concurrency: int | None
    price: tuple[float, float] | None = None

    @property
    def cost(self) -> float | None:
        """In the currency of `price`; None where no price is given."""
        if self.price is None:
            return None
        of_input, of_output = self.price
        return (self.input_tokens * of_input + self.output_tokens * of_output) / 1e6

    @property
    def hours(self) -> float | None:
        """At `REQUEST_S` a request and full concurrency; None in this process."""
        return None if self.concurrency is None else self.requests * REQUEST_S / self.concurrency / 3600


def estimate(config: Config, folder: Path) -> str:
    """Read the sources, which is kept, and say what the other stages would take if nothing of them were done.

    Raises:
        ConfigError, DataError: sources or a checkpoint that cannot be read.
    """
    collect(config, folder)
    rows = sum(pq.read_metadata(file_of(folder, SOURCES, shard)).num_rows for shard in shard_names(folder))
    return render(needs(config, rows, _looked_at(folder, rows)))


def _looked_at(folder: Path, rows: int) -> Iterator[Row]:
    """Up to `LOOKED_AT` rows, evenly over the set."""
    step, seen = max(1, -(-rows // LOOKED_AT)), 0
    for shard in shard_names(folder):
        for row in pq.read_table(file_of(folder, SOURCES, shard)).to_pylist():
            if seen % step == 0:
                yield row
            seen += 1


def needs(config: Config, rows: int, examples: Iterator[Row]) -> list[Need]:
    """Count the tokens of example rows with the base model's tokenizer and image grid, and scale them up."""
    architecture, processor = checkpoint.load_format(config.base)
    chat, side = ChatFormat(processor), FAMILIES[architecture.model_type].token_side
    low, high = chat.pixel_limits
    count = answer = answers = judge = oracle = 0
    for row in examples:
        count += 1
        width, height = Image.open(io.BytesIO(row["image"]["bytes"])).size
        plan = plan_views(width, height, min_pixels=low, max_pixels=high, token_side=side)
        content = [{"type": "image"}, {"type": "text", "text": row["question"]}]
        text = len(chat.encode(chat.render([{"role": "user", "content": content}], None)))
        answer += 2 * text + plan.lowres_tokens + plan.full_tokens
        answers += 2 * (len(chat.encode(row["answers"][0])) + 1)
        judge += len(
            chat.encode(judging.PROMPT + row["question"] + "\n- ".join([*row["answers"], *row["answers"][:1] * 2]))
        )
        oracle += len(chat.encode(grounding.PROMPT + row["question"])) + plan.full_tokens
    concurrency = config.base.concurrency if config.base.base_url else None
    scale, found = rows / max(count, 1), []
    found.append(Need("answer", rows, 2 * rows, round(answer * scale), round(answers * scale), concurrency))
    if isinstance(config.judge, LlmJudge):
        times = 2 if config.judge.swap else 1
        requests = times * rows
        found.append(Need("judge", rows, requests, round(times * judge * scale), requests, *_pace(config.judge)))
    if isinstance(config.oracle, LlmOracle):
        asked = round(HR_SHARE * rows)
        found.append(
            Need("ground", asked, asked, round(HR_SHARE * oracle * scale), asked * ORACLE_REPLY, *_pace(config.oracle))
        )
    return found


def _pace(served: Served) -> tuple[int, tuple[float, float] | None]:
    return served.concurrency, served.price


def render(found: list[Need]) -> str:
    """The table, and what it takes for granted."""
    table = [
        [
            need.stage,
            f"{need.rows:,}",
            f"{need.requests:,}",
            f"{need.input_tokens:,}",
            f"{need.output_tokens:,}",
            "-" if need.cost is None else f"{need.cost:,.2f}",
            "-" if need.hours is None else f"{need.hours:.1f}",
        ]
        for need in found
    ]
    headings = ["stage", "rows", "requests", "input tokens", "output tokens", "cost", "hours"]
    return (
        tabulate(table, headings, disable_numparse=True, colalign=["left", *["right"] * 6])
        + f"\nAn estimate: tokens as the base model counts them, of up to {LOOKED_AT} rows; replies as long as the "
        f"right answers, 1 token (judge), {ORACLE_REPLY} tokens (oracle); {HR_SHARE:.0%} of the rows HR; equal "
        f"answers, which nobody is asked about, counted in; hours at {REQUEST_S:g} s a request and full concurrency."
    )
