"""Where a server is and what it is, asked before the first sample: address, key, models, software."""

import json
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx2

from lmms_awares.errors import ConfigError

_UNKNOWN = "unknown"
_ASK_S = 10.0  # for a question about the server itself, from its start to its last byte
_MOST_BYTES = 16 * 2**20  # of an answer to one
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_TRANSFORMERS_PATH = "/load_model"  # nobody else's

# What a request says beyond the OpenAI fields. The checkpoint's sampling defaults must not act, and ids save guessing
# how the reply was tokenised. `transformers` refuses fields that it does not know.
_REQUESTS: dict[str, dict[str, Any]] = {
    "vllm": {"return_token_ids": True, "repetition_penalty": 1.0},
    "transformers": {},
    "openai": {},
}


@dataclass(frozen=True)
class Address:
    """A server that may answer.

    Attributes:
        base_url: up to and including `/v1`.
        key: sent as bearer token; None where the server asks for none.
    """

    base_url: str
    key: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, base_url: str, api_key_env: str | None) -> "Address":
        """Read the key from the environment.

        Raises:
            ConfigError: no URL of a web server, one that holds a password or more than an address, or a variable that
                is not set or holds what no header can.
        """
        _check_address(base_url)
        if api_key_env is None:
            return cls(base_url.rstrip("/"))
        key = os.environ.get(api_key_env, "").strip() if api_key_env.isprintable() else ""
        if not key:
            # Whoever gave the key itself must not see it printed.
            said = f"={api_key_env}" if _VARIABLE.fullmatch(api_key_env) else ""
            raise ConfigError(
                f"api_key_env{said} names an environment variable that is not set; export VARIABLE=KEY and give "
                "api_key_env=VARIABLE"
            )
        if not (key.isascii() and key.isprintable()):
            raise ConfigError(
                f"the key in the environment variable {api_key_env} holds a line break or another character that no "
                "header can hold; export it again"
            )
        return cls(base_url.rstrip("/"), key)

    @property
    def shown(self) -> str:
        """The address for a message, without a password."""
        return shown(self.base_url)

    @property
    def root(self) -> str:
        """The address without `/v1`, where servers answer about themselves."""
        return self.base_url.removesuffix("/v1")

    def get(self, url: str) -> tuple[int, Any]:
        """Ask once.

        Returns:
            status, and the JSON that came; None where it was none, or more than such an answer can hold.

        Raises:
            ConfigError: nobody answers in time.
        """
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        try:
            with httpx2.stream("GET", url, headers=headers, timeout=_ASK_S, follow_redirects=True) as response:
                return response.status_code, _parsed(_body(response))
        # A UnicodeError is a host's name that no name server can be asked for.
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
            reason = str(error) or type(error).__name__
            raise ConfigError(
                f"base_url={self.shown} does not answer ({reason}); start the server, or mend the address"
            ) from None


def _check_address(base_url: str) -> None:
    """Refuse what is no address of a server, or holds what a run would write down."""
    wanted = "give one such as http://127.0.0.1:8000/v1"
    try:
        parts = urlsplit(base_url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # a port that is no number, half a pair of brackets
        good = False
    if not good or not base_url.isprintable() or " " in base_url:
        # Nothing is known of its parts, and a password may be one of them.
        said = base_url if base_url.isprintable() and "@" not in base_url and "?" not in base_url else "..."
        raise ConfigError(f"base_url={said} is no address; {wanted}")
    if "@" in base_url:
        raise ConfigError(
            f"base_url={shown(base_url)} was given with a user or password, which a run's files would hold; leave them "
            "out and give the key with api_key_env=VARIABLE"
        )
    if parts.query or parts.fragment:
        raise ConfigError(f"base_url={shown(base_url)} was given with ?... or #...; {wanted}, which ends in /v1")


def _body(response: httpx2.Response) -> bytes:
    """All of an answer, within bounds of time and size."""
    body, until = b"", time.monotonic() + _ASK_S
    for piece in response.iter_bytes():
        body += piece
        if time.monotonic() > until:
            raise httpx2.ReadTimeout(f"no whole answer in {_ASK_S:g} s")
        if len(body) > _MOST_BYTES:
            return b""
    return body


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


@dataclass(frozen=True)
class Served:
    """What answers at an address.

    Attributes:
        model: the name that requests give.
        software: `vllm`, `transformers`, or `openai` for any other.
        version: of it; `unknown` where it does not say.
        context: tokens that it allows a conversation; None where it does not say.
    """

    model: str
    software: str
    version: str = _UNKNOWN
    context: int | None = None

    @property
    def request(self) -> dict[str, Any]:
        """What every request says beyond the OpenAI fields."""
        return _REQUESTS[self.software]

    @property
    def stream(self) -> dict[str, Any]:
        """What a request says besides where its reply comes in pieces; `transformers` tells usage unasked."""
        return {} if self.software == "transformers" else {"stream_options": {"include_usage": True}}

    @property
    def label(self) -> str:
        """As traces record the engine."""
        return f"{self.software} {self.version}"


def shown(base_url: str) -> str:
    """An address without user, password and query, for messages.

    Example:
        >>> shown("http://me:secret@host:8000/v1?key=secret")
        'http://host:8000/v1'
    """
    parts = urlsplit(base_url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def identify(address: Address, pretrained: str, served_model: str | None) -> Served:
    """Ask a server who it is and which of its models is `pretrained`.

    Args:
        pretrained: folder or hub id of the checkpoint that it should serve.
        served_model: its name there; default: the one model that the server holds, where that is `pretrained`.

    Raises:
        ConfigError: nobody answers, a wrong key, no list of models, or another model.
    """
    if _is_transformers(address):
        return Served(served_model or pretrained, "transformers")
    models = _models(address)
    return _served(address, models, _choose(address, models, pretrained, served_model))


def named(address: Address, model: str) -> Served:
    """Ask a server for a model by its name there.

    Raises:
        ConfigError: nobody answers, a wrong key, no list of models, or none of that name.
    """
    if _is_transformers(address):
        return Served(model, "transformers")
    models = _models(address)
    return _served(address, models, _named(address, models, "model", model))


def _is_transformers(address: Address) -> bool:
    """Whether it is `transformers serve`; what that lists is the hub's cache, and it loads what is asked for."""
    paths = _json(address, "/openapi.json").get("paths")
    return isinstance(paths, dict) and _TRANSFORMERS_PATH in paths


def _served(address: Address, models: list[dict[str, Any]], found: dict[str, Any]) -> Served:
    software, version = "openai", _UNKNOWN
    if any(model.get("owned_by") == "vllm" for model in models):
        software, version = "vllm", str(_json(address, "/version").get("version", _UNKNOWN))
    return Served(str(found["id"]), software, version, _context(found, models))


def _context(model: dict[str, Any], models: list[dict[str, Any]]) -> int | None:
    """Of a model, or of the one that it is an adapter of."""
    base = next((other for other in models if other["id"] == model.get("parent")), {})
    found = model.get("max_model_len") or base.get("max_model_len")
    return found if type(found) is int and found > 0 else None


def _models(address: Address) -> list[dict[str, Any]]:
    url = f"{address.base_url}/models"
    status, answer = address.get(url)
    if status in (401, 403):
        said = (
            "the key of api_key_env" if address.key else "a request without a key; name one with api_key_env=VARIABLE"
        )
        raise ConfigError(f"base_url={address.shown} refuses {said} (status {status})")
    models = answer.get("data") if status == 200 and isinstance(answer, dict) else None
    if not isinstance(models, list) or not all(isinstance(model, dict) and "id" in model for model in models):
        raise ConfigError(
            f"base_url={address.shown} is no OpenAI-compatible server: {shown(url)} gave status {status} and no list "
            "of models; the address usually ends in /v1"
        )
    return models


def _json(address: Address, path: str) -> dict[str, Any]:
    """What a server says about itself; nothing where it does not."""
    _, found = address.get(address.root + path)
    return found if isinstance(found, dict) else {}


def _choose(
    address: Address, models: list[dict[str, Any]], pretrained: str, served_model: str | None
) -> dict[str, Any]:
    if served_model is not None:
        return _named(address, models, "served_model", served_model)
    wanted = PurePath(pretrained).name
    for model in models:
        if wanted in (PurePath(str(model["id"])).name, PurePath(str(model.get("root"))).name):
            return model
    raise ConfigError(
        f"{address.shown} serves {_names(models)}, and pretrained={pretrained}; if one of them is that checkpoint, say "
        "served_model=NAME, otherwise serve the checkpoint"
    )


def _named(address: Address, models: list[dict[str, Any]], setting: str, name: str) -> dict[str, Any]:
    for model in models:
        if model["id"] == name:
            return model
    raise ConfigError(f"{setting}={name} is not served at {address.shown}; its models: {_names(models)}")


def _names(models: list[dict[str, Any]]) -> str:
    return ", ".join(str(model["id"]) for model in models) or "none"
