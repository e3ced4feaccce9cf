"""`awares doctor`: what on this machine would make a run fail, and what to do about it."""

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.table import Table

from lmms_awares.errors import ConfigError, UserError

if TYPE_CHECKING:
    from lmms_awares.engine.server import ServerEngine

State = Literal["ok", "warn", "fail"]

# The floors that the code relies on; transformers' is the first with `mm_encoder_outputs`.
FLOORS = {
    "lmms-eval": (0, 7, 3),
    "torch": (2, 6),
    "transformers": (5, 20),
    "peft": (0, 21),
    "accelerate": (1, 10),
    "datasets": (4, 0),
    "pillow": (11,),
}
# The newest versions that .ci/ends.sh has passed with, as far as what comes after may well break something.
NEWEST = {"lmms-eval": (0, 7, 3), "transformers": (5, 24, 0), "peft": (0, 21, 2), "datasets": (5, 2, 0)}
_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    subject: str
    state: State
    detail: str


def run(
    pretrained: str | None = None,
    adapter: str | None = None,
    *,
    base_url: str | None = None,
    served_model: str | None = None,
    api_key_env: str | None = None,
) -> int:
    """Print the report. Returns 1 where something would make a run fail, else 0.

    Raises:
        ConfigError: a server without the checkpoint that it serves, or an option that has no effect.
    """
    if base_url is not None and pretrained is None:
        raise ConfigError("--base-url needs --pretrained: the checkpoint that is served, for its tokenizer")
    if base_url is not None and adapter is not None:
        raise ConfigError("--adapter has no effect with --base-url: it is the server's; leave it out")
    for option, given in (("--served-model", served_model), ("--api-key-env", api_key_env)):
        if base_url is None and given is not None:
            raise ConfigError(f"{option} needs --base-url http://HOST:PORT/v1")
    findings = list(examine(pretrained, adapter, weights=base_url is None))
    if base_url is not None:
        assert pretrained is not None
        findings += server(pretrained, base_url=base_url, served_model=served_model, api_key_env=api_key_env)
    table = Table("subject", "state", "detail")
    for finding in findings:
        table.add_row(finding.subject, f"[{_STYLES[finding.state]}]{finding.state}[/]", finding.detail)
    Console().print(table)
    return 1 if any(finding.state == "fail" for finding in findings) else 0


def examine(pretrained: str | None, adapter: str | None, *, weights: bool = True) -> Iterator[Finding]:
    """Every check of this machine in turn."""
    for name, floor in FLOORS.items():
        yield package(name, floor)
    yield torchvision_pairing()
    yield _device()
    yield hub()
    yield _plugin()
    yield _tasks()
    yield from _data()
    if pretrained and weights:
        yield checkpoint(pretrained, adapter)


def package(name: str, floor: tuple[int, ...]) -> Finding:
    """Whether a package is there, and in a version between the floor and the newest tested."""
    wanted = ".".join(map(str, floor))
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(name, "fail", f"missing; pip install '{name}>={wanted}'")
    numbers = tuple(int(part) for part in found.split("+")[0].split(".") if part.isdigit())
    if numbers < floor:
        return Finding(name, "fail", f"{found} is older than {wanted}; pip install -U '{name}>={wanted}'")
    newest = NEWEST.get(name, numbers)
    if numbers > newest:
        tested = ".".join(map(str, newest))
        return Finding(
            name,
            "warn",
            f"{found} is newer than {tested}, the newest tested; where it fails: pip install '{name}<={tested}'",
        )
    return Finding(name, "ok", found)


def torchvision_pairing() -> Finding:
    """Without an importable torchvision, transformers cannot build the Qwen2.5-VL processor."""
    try:
        import torchvision
    except ImportError:
        return Finding("torchvision", "fail", "missing; pip install torchvision")
    except RuntimeError as error:
        return Finding(
            "torchvision",
            "fail",
            f"does not fit torch {version('torch')} ({error}); on a CPU-only torch: pip install --no-deps "
            "torchvision==0.16.2, whose Python parts suffice",
        )
    return Finding("torchvision", "ok", f"{torchvision.__version__} imports with torch {version('torch')}")


def _device() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("device", "warn", f"no CUDA device: CPU, {torch.get_num_threads()} threads; slow for 7B")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Finding("device", "ok", ", ".join(names))


def hub() -> Finding:
    """Whether the model hub answers; only a warning, since local folders need none."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return Finding("hub", "warn", "HF_HUB_OFFLINE is set: only local folders and cached files")
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        with urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=5):
            return Finding("hub", "ok", f"{endpoint} answers")
    except (urllib.error.URLError, OSError, ValueError) as error:
        return Finding("hub", "warn", f"{endpoint} does not answer ({error}); use local folders or its cache")


def _plugin() -> Finding:
    found = [point for point in entry_points(group="lmms_eval.models") if point.name == "lmms_awares"]
    if not found:
        return Finding("plugin", "fail", "lmms-eval does not see it; pip install lmms-awares into this environment")
    ids = [manifest.model_id for manifest in found[0].load()()]
    return Finding("plugin", "ok", f"models: {', '.join(ids)}")


def _tasks() -> Finding:
    from lmms_awares.plugin import tasks_dir

    folder = Path(tasks_dir())
    count = len(list(folder.glob("awares_*.yaml")))
    state: State = "ok" if count else "fail"
    return Finding("tasks", state, f"{count} task files in {folder}")


def _data() -> Iterator[Finding]:
    from lmms_awares.errors import DataError
    from lmms_awares.tasks.benchmarks import SUITES
    from lmms_awares.tasks.data import DATA_ROOT, local_files

    root = os.environ.get(DATA_ROOT)
    if not root:
        yield Finding("data", "ok", f"from the hub; set {DATA_ROOT}=DIR for local files")
        return
    for name in SUITES["awares_suite"].values():
        try:
            files = local_files(name) or []
            yield Finding(f"data {name}", "ok", f"{len(files)} file(s) in {root}/{name}")
        except DataError as error:
            yield Finding(f"data {name}", "warn", str(error))


def checkpoint(pretrained: str, adapter: str | None) -> Finding:
    """Whether a checkpoint can be used, and its content hash, which `--model_args rev=` takes."""
    from lmms_awares.engine.checkpoint import check_checkpoint, fingerprint

    try:
        check_checkpoint(pretrained, adapter)
        revision = fingerprint(pretrained, adapter)
        if not Path(pretrained).is_dir():
            check_checkpoint(pretrained, adapter)  # the weights of a hub id are here only now
    except ConfigError as error:
        return Finding("checkpoint", "fail", str(error))
    return Finding("checkpoint", "ok", f"{pretrained}: rev=sha-{revision[:12]}")


def server(pretrained: str, **arguments: str | None) -> Iterator[Finding]:
    """Whether a server can be used: address, key, model, counts of a prompt, and one sample of two turns.

    Args:
        arguments: `base_url`, `served_model` and `api_key_env` as model arguments.
    """
    from lmms_awares.engine.server import ServerEngine
    from lmms_awares.models.config import parse_args

    given = {name: value for name, value in arguments.items() if value is not None}
    try:
        engine = ServerEngine.open(parse_args("awares", {"pretrained": pretrained, **given}))
    except ConfigError as error:
        yield Finding("server", "fail", str(error))
        return
    served = engine.client.served
    yield Finding("server", "ok", f"{served.label} serves {served.model}; it counts a prompt as {pretrained} does")
    try:
        yield _two_turns(engine)
    except UserError as error:
        yield Finding("two turns", "fail", str(error))
    finally:
        engine.close()


def _two_turns(engine: "ServerEngine") -> Finding:
    """One sample with a call put into the model's mouth, so that there is a second turn."""
    from PIL import Image

    from lmms_awares.engine.crop_turns import crop_turn
    from lmms_awares.engine.turns import Decoding, Opening
    from lmms_awares.protocol import ToolCall, format_call
    from lmms_awares.protocol.prompts import load_prompt
    from lmms_awares.views import plan_views, show

    image = Image.linear_gradient("L").resize((896, 672)).convert("RGB")
    low, high = engine.pixel_limits
    plan = plan_views(*image.size, min_pixels=low, max_pixels=high, token_side=engine.family.token_side)
    content = [{"type": "image"}, {"type": "text", "text": "Which side is brighter?"}]
    opening = Opening([{"role": "user", "content": content}], load_prompt("own").text, [show(image, plan, "lowres")])
    talk = engine.start([engine.prepare(opening)])
    talk.generate(Decoding(1))
    call = ToolCall(("0",), "valid", format_call(("0",)))
    talk.say([call.text])
    talk.continue_rows([0], [talk.prepare(0, crop_turn(image, plan, call))])
    (reply,) = talk.generate(Decoding(1))
    if reply.cached_tokens is None:
        return Finding("two turns", "warn", f"{reply.prompt_tokens} tokens as planned; it does not say what is cached")
    state: State = "ok" if reply.cached_tokens else "warn"
    detail = f"{reply.prompt_tokens} tokens in turn 2 as planned, {reply.cached_tokens} of them from its cache"
    hint = "" if reply.cached_tokens else "; is prefix caching on, and are its blocks short? (docs/serving.md)"
    return Finding("two turns", state, detail + hint)
