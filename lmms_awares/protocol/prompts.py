"""System prompts: our own, the chat template's, a file's, or one that the authors of a checkpoint published.

A published checkpoint must see the prompt it was trained with, byte for byte, and that text is not ours to ship:
`import_prompts` takes it out of the authors' own pinned file without running that file, checks its sha256, and stores
it in the user's cache, where `load_prompt` finds it.
"""

import hashlib
import http.client
import json
import os
import re
import tempfile
import urllib.request
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from lmms_awares.cache import cache_home
from lmms_awares.errors import UserError
from lmms_awares.protocol.get_crops import OWN_PROMPT
from lmms_awares.protocol.published import LiteralError, extract_constant, first_python_block


class PromptError(UserError):
    """A prompt that cannot be loaded; the message is one line that names the prompt and the fix."""


@dataclass(frozen=True)
class Prompt:
    """A system prompt: the label that results record, and the text (None: the chat template's own)."""

    label: str
    text: str | None


@dataclass(frozen=True)
class Source:
    """Place of one published prompt text, and the sha256 of its UTF-8 string."""

    repository: str
    commit: str
    file: str  # python, or .md: then the first python block in it
    constant: str  # a module's, or `Class.method.variable`
    sha256: str

    @property
    def url(self) -> str:
        """The pinned file's address."""
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{self.file}"


_AWARES = "NimrodShabtay/AwaRes", "2121cde328830e8c682d539c3fe40831d8e39cf3"
_THINK = "dvlab-research/VisionThink", "42afd8c34a4efffeb9811368469d3d890efdedf3", "scripts/vllm_tool.py"
_ADAPT = "AdaptVision/AdaptVision", "9b7d57c0df97e7ff2da849f43e8fc816e2aa43b0", "scripts/vllm_adaptvision.py"
_ERGO = "nota-github/ERGO", "c6d67421415fe0c3f78cc96f8290d0e65fa8c68a", "src/ergo/const.py"
# Set name -> part name -> source. All parts of a set sit in one file. TRUN is the authors' own spelling.
# fmt: off
PUBLISHED: dict[str, dict[str, Source]] = {
    "awares-adapter": {
        "system": Source(*_AWARES, "lmms_eval/qwen2_5_vl_awares.py", "VISION_MODEL_SHORT_SYSTEM_PROMPT",
                         "3255294cb5a1c7bae35c2cbed675988fad30727161cae64dce273f59bd61a487"),
    },
    "awares-readme": {
        "system": Source(*_AWARES, "README.md", "SYSTEM_PROMPT",
                         "dfb5d88bc6228dce3e363f2bfec9ab5865f8421bb001db4e42a7676d26365bf7"),
    },
    "visionthink": {
        "system": Source(*_THINK, "TOOL_CALL_SYSTEM_PROMPT",
                         "e730df60665863e39ad32375eb0392f6a1f781ec09c27b8dad9cc0010b3702c0"),
        "turn2": Source(*_THINK, "TOOL_CALL_MULTI_TRUN_PROMPT",
                        "bd6ca92d47a119b54add3225e9ba4e275a779fa17c65ca8e4bbf17b91b7aa2bd"),
        "error": Source(*_THINK, "ERROR_INFO_MULTI_TURN_PROMPT",
                        "45cd090790afb463c38487c608fa1945ea99815480fb2bbc02c1af5cc327b290"),
        # Not constants of the module, but the checkpoint was trained with them all the same.
        "instruction": Source(*_THINK, "VLLM_TOOL.generate_until.prompt_template",
                              "e8102dcc323c249fba717804dfc9877380d14f0764593180caac442aa547e11c"),
        "result": Source(*_THINK, "VLLM_TOOL.generate_until.tool_call_prompt_message",
                         "414f96654eaf5f4fba6daa73ba15d4380963be36beffa62fc3520301f23159c2"),
    },
    "adaptvision": {
        "system": Source(*_ADAPT, "IMAGE_CROP_SYSTEM_PROMPT",
                         "8e71740ce41d2b0fb248419af39149e36025a4c8774b161a978800e9eebd9f3e"),
        "turn2": Source(*_ADAPT, "IMAGE_CROP_TOOL_CALL_MULTI_TRUN_PROMPT",
                        "e0f6e21381e456caf2a239376b815bd04f8de7dc162eafb174e099750914a97d"),
        "error": Source(*_ADAPT, "ERROR_INFO_MULTI_TURN_PROMPT",
                        "45cd090790afb463c38487c608fa1945ea99815480fb2bbc02c1af5cc327b290"),
        "instruction": Source(*_ADAPT, "VLLM_AdaptVision.generate_until.prompt_template",
                              "e47022ad9c3921492009303e7c197b24d671e7c1e1dc27871fadef54eb0183f0"),
        "result": Source(*_ADAPT, "VLLM_AdaptVision.generate_until.tool_call_prompt_message",
                         "371f9a8892eadc7c37d0fa141a8da5cac30f0d797efcec5fd19f7e8749ead91a"),
    },
    "ergo": {
        "system": Source(*_ERGO, "SYSTEM_PROMPT",
                         "aadd6aafb8d7b1e39fe47bd1bd7dabe505032db276f6f4fa7c38d53c6083a502"),
        "turn1": Source(*_ERGO, "QUESTION_TEMPLATE1",
                        "ad26f1bff9cab251e7308f5f2140e3cb7f28ceb9c4ea4567476942b231226c8e"),
        "turn2": Source(*_ERGO, "QUESTION_TEMPLATE2",
                        "37fe6eabcccfcace13e3d11eb81f2c786c5cde444b556c423ea08f3af39a49c7"),
    },
}
# fmt: on
_PROMPT_OF = {
    "kimhi/awares-qwen2.5-vl-7b": "awares-adapter",
    "senqiao/visionthink-efficient": "visionthink",
    "adaptvision/adaptvision-7b": "adaptvision",
    "nota-ai/ergo-7b": "ergo",
}


def _digest(text: str) -> str:
    # surrogatepass: a lone surrogate in someone's literal should end in a wrong digest, not in a traceback
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _read_text(source: str) -> str:
    """Read the text at a http(s) URL or a path.

    Raises:
        PromptError: it cannot be read as UTF-8.
    """
    try:
        if re.match(r"https?://", source, re.IGNORECASE):
            with urllib.request.urlopen(source, timeout=30) as reply:
                return str(reply.read(), "utf-8-sig")
        return str(Path(source).expanduser().read_bytes(), "utf-8-sig")
    except (OSError, ValueError, RuntimeError, http.client.HTTPException) as error:  # RuntimeError: no such ~user
        raise PromptError(f"cannot read {source} ({' '.join(str(error).split())})") from None


def _take(content: str, source: Source) -> str:
    """Take the constant out of a file's text.

    Raises:
        PromptError: the constant is missing or has another sha256.
    """
    try:
        code = first_python_block(content) if source.file.endswith(".md") else content
        text = extract_constant(code, source.constant)
    except LiteralError as error:
        raise PromptError(str(error)) from None
    if (found := _digest(text)) != source.sha256:
        raise PromptError(f"sha256 of {source.constant} should be {source.sha256[:12]}, found {found[:12]}")
    return text


def import_prompts(name: str, source: str | None = None, cache_dir: Path | None = None) -> Path:
    """Copy a published set of prompts from the authors' file into the cache; return the path of its JSON file.

    Args:
        name: key of `PUBLISHED`.
        source: path or http(s) URL of the authors' file; default: the pinned one.
        cache_dir: default: `lmms_awares.cache.cache_home`.

    Raises:
        PromptError: unknown name, unreadable source, missing constant, wrong sha256, cache not writable.
    """
    if name not in PUBLISHED:
        raise PromptError(f"no published prompt is called {name!r}: choose from {', '.join(PUBLISHED)}")
    pinned = next(iter(PUBLISHED[name].values())).url
    origin = pinned if source is None else source
    try:
        content = _read_text(origin)
        texts = {part: _take(content, wanted) for part, wanted in PUBLISHED[name].items()}
    except PromptError as error:
        raise PromptError(f"{name}: {error}; download the file {pinned} and pass --from FILE") from None
    digests = {part: _digest(text) for part, text in texts.items()}
    record = json.dumps({"name": name, "origin": origin, "texts": texts, "sha256": digests}, indent=2)
    path = (cache_dir or cache_home()) / "prompts" / f"{name}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # same disk, so the move is atomic
            temporary = Path(folder, path.name)
            temporary.write_text(record, encoding="utf-8")
            temporary.replace(path)
    except OSError as error:
        raise PromptError(f"cannot write {path} ({error.strerror}): point AWARES_CACHE elsewhere") from None
    return path


def _cached(name: str, cache_dir: Path | None) -> tuple[dict[str, str], str]:
    """Return texts and origin of an imported set.

    Raises:
        PromptError: the set is absent, damaged or changed.
    """
    path = (cache_dir or cache_home()) / "prompts" / f"{name}.json"
    fix = f"run `awares prompts import {name}`"
    try:
        stored = json.loads(path.read_bytes())
        texts = {part: str(stored["texts"][part]) for part in PUBLISHED[name]}
        origin = str(stored["origin"])
    except FileNotFoundError:
        raise PromptError(f"prompt {name} is not imported yet: {fix}") from None
    except (OSError, ValueError, LookupError, TypeError):
        raise PromptError(f"{path} is damaged: {fix} again") from None
    if any(_digest(texts[part]) != wanted.sha256 for part, wanted in PUBLISHED[name].items()):
        raise PromptError(f"{path} is not the published text any more (sha256 differs): {fix} again")
    return texts, origin


def load_prompt(
    spec: str,
    part: str = "system",
    cache_dir: Path | None = None,
    own: Mapping[str, str] = MappingProxyType({"system": OWN_PROMPT}),
) -> Prompt:
    """Load the prompt named `spec`: `own`, `default`, a key of `PUBLISHED`, or the path of a text file.

    Args:
        spec: the name or path.
        part: part of a set, such as `system`.
        cache_dir: where imported sets lie; default: `lmms_awares.cache.cache_home`.
        own: texts of the prompt `own`, by part; default: our prompt for AwaRes.

    Raises:
        PromptError: no such prompt or part, unreadable file, published prompt not intact in the cache.

    Example:
        >>> load_prompt("default")
        Prompt(label='default', text=None)
    """
    if spec == "default":
        return Prompt("default", None)
    if spec in PUBLISHED:
        _require(part, spec, PUBLISHED[spec])
        return Prompt(spec, _cached(spec, cache_dir)[0][part])
    if spec == "own":
        label, texts = spec, own
    # not pathlib: it raises for a whole prompt given in place of a path
    elif os.path.isfile(os.path.expanduser(spec)):  # noqa: PTH111, PTH113
        text = re.sub(r"\r?\n\Z", "", _read_text(spec))
        if not text.strip():
            raise PromptError(f"the prompt file {spec} is empty: write a prompt there, or choose default for none")
        label, texts = f"file:{Path(spec).name}:{_digest(text)[:12]}", {"system": text}
    else:
        choices = ", ".join(("own", "default", *PUBLISHED, "or a text file's path"))
        raise PromptError(f"no prompt {spec[:80]!r}: choose from {choices}")
    _require(part, spec, texts)
    return Prompt(label, texts[part])


def _require(part: str, spec: str, parts: Collection[str]) -> None:
    if part not in parts:
        raise PromptError(f"prompt {spec} has no part {part!r}: it has {', '.join(parts)}")


def published_prompt_for(checkpoint: str) -> str | None:
    """Return the published set that a checkpoint (hub id, or a folder of that name) was trained with, if known.

    Example:
        >>> published_prompt_for("Kimhi/AWARES-Qwen2.5-VL-7B")
        'awares-adapter'
    """
    folder = Path(checkpoint).absolute().name if Path(checkpoint).is_dir() else ""
    for known, name in _PROMPT_OF.items():
        if checkpoint.lower() == known or folder.lower() == known.rpartition("/")[2]:
            return name
    return None


def foreign_prompt(pretrained: str, adapter: str | None, prompt: Prompt) -> str | None:
    """Return a warning where a published checkpoint gets another prompt than the one of its training; else None."""
    published = published_prompt_for(adapter or "") or published_prompt_for(pretrained)
    if published is None or prompt.label == published:
        return None
    return (
        f"{pretrained} was trained with a prompt of its authors; this run uses '{prompt.label}' and its scores will "
        f"suffer. Run `awares prompts import {published}` and pass prompt={published}."
    )


def list_prompts(cache_dir: Path | None = None) -> list[tuple[str, str, str]]:
    """List the prompts: name, `built in` | `imported` | `not imported`, and the origin of the text."""
    rows = [("own", "built in", "lmms-awares"), ("default", "built in", "the checkpoint's chat template")]
    for name, parts in PUBLISHED.items():
        try:
            rows.append((name, "imported", _cached(name, cache_dir)[1]))
        except PromptError:
            rows.append((name, "not imported", next(iter(parts.values())).url))
    return rows
