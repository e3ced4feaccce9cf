"""Where a server is and what it is, asked before the first sample: address, key, models, software."""

import os
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx2

from lmms_awares.errors import ConfigError

_UNKNOWN = "unknown"
_ASK_S = 10.0  # for a question about the server itself
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
            ConfigError: no URL of a web server, or a variable that is not set.
        """
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"base_url={shown(base_url)} is no address; give one such as http://127.0.0.1:8000/v1")
        if api_key_env is None:
            return cls(base_url.rstrip("/"))
        key = os.environ.get(api_key_env, "").strip()
        if not key:
            raise ConfigError(
                f"api_key_env={api_key_env} names an environment variable that is not set; export {api_key_env}=..."
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

    def get(self, url: str) -> httpx2.Response:
        """Ask once.

        Raises:
            ConfigError: nobody answers.
        """
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        try:
            return httpx2.get(url, headers=headers, timeout=_ASK_S, follow_redirects=True)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise ConfigError(
                f"base_url={self.shown} does not answer ({reason}); start the server, or mend the address"
            ) from None


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
    return _TRANSFORMERS_PATH in _json(address, "/openapi.json").get("paths", {})


def _served(address: Address, models: list[dict[str, Any]], found: dict[str, Any]) -> Served:
    software, version = "openai", _UNKNOWN
    if any(model.get("owned_by") == "vllm" for model in models):
        software, version = "vllm", str(_json(address, "/version").get("version", _UNKNOWN))
    return Served(str(found["id"]), software, version, _context(found, models))


def _context(model: dict[str, Any], models: list[dict[str, Any]]) -> int | None:
    """Of a model, or of the one that it is an adapter of."""
    base = next((other for other in models if other["id"] == model.get("parent")), {})
    found = model.get("max_model_len") or base.get("max_model_len")
    return int(found) if found else None


def _models(address: Address) -> list[dict[str, Any]]:
    url = f"{address.base_url}/models"
    response = address.get(url)
    if response.status_code in (401, 403):
        said = (
            "the key of api_key_env" if address.key else "a request without a key; name one with api_key_env=VARIABLE"
        )
        raise ConfigError(f"base_url={address.shown} refuses {said} (status {response.status_code})")
    try:
        models = response.json()["data"] if response.status_code == 200 else None
    except (ValueError, KeyError, TypeError):
        models = None
    if not isinstance(models, list) or not all(isinstance(model, dict) and "id" in model for model in models):
        raise ConfigError(
            f"base_url={address.shown} is no OpenAI-compatible server: {shown(url)} gave status "
            f"{response.status_code} and no list of models; the address usually ends in /v1"
        )
    return models


def _json(address: Address, path: str) -> dict[str, Any]:
    """What a server says about itself; nothing where it does not."""
    response = address.get(address.root + path)
    try:
        found = response.json()
    except ValueError:
        return {}
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
