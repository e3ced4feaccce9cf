"""The configuration of a curated set: one YAML file, checked before anything loads."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from lmms_awares.crops import IOU_THRESHOLD
from lmms_awares.mini.demo import checkpoint
from lmms_awares.models.config import CommonArgs
from lmms_awares.yaml_settings import Strict, named_file, read_settings_file


class Served(Strict):
    """A model behind an OpenAI-compatible server.

    Attributes:
        base_url: up to and including `/v1`.
        model: its name there.
        api_key_env: the environment variable that holds the key; default: no key.
        concurrency: requests in flight at most; fewer where the server pushes back.
        request_timeout: seconds that one request may take.
        price: of a million input and a million output tokens, for `--dry-run`.
    """

    base_url: str
    model: str
    api_key_env: str | None = None
    concurrency: int = Field(default=32, ge=1, le=1024)
    request_timeout: float = Field(default=120.0, gt=0)
    price: tuple[float, float] | None = None


class Base(CommonArgs):
    """The model whose answers are compared: arguments of `--model_args`, and how it answers.

    `pretrained: mini` is the tiny checkpoint that ships.

    Attributes:
        device: default: the first GPU, else the CPU.
        batch_size: rows that answer together; 1 with a server, which makes its own batches.
        max_new_tokens: of an answer.
    """

    device: str | None = None
    batch_size: int = Field(default=1, ge=1)
    max_new_tokens: int = Field(default=128, ge=1)

    @field_validator("pretrained")
    @classmethod
    def _shipped(cls, name: str) -> str:
        return str(checkpoint()) if name == "mini" else name

    @model_validator(mode="after")
    def _own_settings(self) -> "Base":
        """Refuse what has no effect here."""
        for name in ("workers", "journal", "rev", "setup", "seed"):
            if name in self.model_fields_set:
                raise ValueError(f"{name} has no effect in curation; leave it out")
        if self.base_url is not None and {"batch_size", "device"} & self.model_fields_set:
            raise ValueError(
                "batch_size and device have no effect with base_url: they are the server's; leave them out"
            )
        return self


class LlmJudge(Served):
    """An LLM that compares both answers with the right ones (paper Supp. 12).

    Attributes:
        swap: ask twice, with the answers exchanged; a label needs both verdicts to agree, see docs/curation.md.
    """

    kind: Literal["llm"] = "llm"
    swap: bool = False


class MetricJudge(Strict):
    """A comparison of texts, which needs no server.

    Attributes:
        kind: `anls`, `exact`, `relaxed` (numbers within 5 %), or `metric`: the one that the row's source names.
        threshold: an answer with at least this score is right.
    """

    kind: Literal["anls", "exact", "relaxed", "metric"]
    threshold: float = Field(default=0.5, gt=0, le=1)


class LlmOracle(Served):
    """A VLM that says where question and answer stand in the image.

    Attributes:
        box: which box counts.
        tau: IoU at which a crop counts as a target (Eq. 3).
    """

    kind: Literal["llm"] = "llm"
    box: Literal["answer", "question", "union"] = "answer"
    tau: float = Field(default=IOU_THRESHOLD, gt=0, le=1)


class SourceOracle(Strict):
    """The source's own evidence box."""

    kind: Literal["source"]
    tau: float = Field(default=IOU_THRESHOLD, gt=0, le=1)


class Config(Strict):
    """A curated set.

    Attributes:
        sources: names of those that ship, or YAML files.
        data_root: folder of the files that sources that ship read: the mini suite, unpacked images.
        benchmarks: tasks whose images are left out, or groups of them, with commas between; null: none are.
        benchmark_hashes: what tells these images; default: `DIR/benchmarks.parquet`, made from the tasks' documents.
        rows, validation: of all sources together for validation, of each one for training.
        seed: of the sample.
        max_side: px; larger images are made smaller.
        shard_rows: rows that are held in memory at a time.
    """

    sources: list[str] = Field(min_length=1)
    data_root: Path | None = None
    benchmarks: str | None = "awares_suite"
    benchmark_hashes: Path | None = None
    rows: int = Field(default=10_000, ge=1)
    validation: int = Field(default=2_000, ge=0)
    seed: int = 0
    max_side: int = Field(default=2000, ge=28)
    shard_rows: int = Field(default=512, ge=1)
    base: Base
    judge: Annotated[LlmJudge | MetricJudge, Field(discriminator="kind")]
    oracle: Annotated[LlmOracle | SourceOracle, Field(discriminator="kind")]

    @model_validator(mode="after")
    def _hashes_of_something(self) -> "Config":
        if self.benchmarks is None and self.benchmark_hashes is not None:
            raise ValueError("benchmark_hashes has no effect with benchmarks: null; leave one out")
        return self

    @model_validator(mode="before")
    @classmethod
    def _kinds(cls, data: Any) -> Any:
        """`kind: llm` goes without saying."""
        if isinstance(data, dict):
            for name in ("judge", "oracle"):
                if isinstance(data.get(name), dict):
                    data = data | {name: {"kind": "llm"} | data[name]}
        return data


def read_config(file: Path) -> Config:
    """Read a configuration: a file, or one that ships, by name.

    Raises:
        ConfigError: no file, no YAML, or a setting that is unknown or cannot work; one line that names it.

    Example:
        config = read_config(Path("curation.yaml"))
    """
    return read_settings_file(named_file(file, Path(__file__).parent / "configs"), Config)
