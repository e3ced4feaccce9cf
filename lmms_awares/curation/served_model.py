"""A model behind a server that judges or points: found, and proven to answer, before the first row."""

from typing import Any

from lmms_awares.curation.asking import Asker, Log, Meter
from lmms_awares.curation.config import Served
from lmms_awares.engine.server.address import Address, named
from lmms_awares.engine.server.client import Client
from lmms_awares.errors import ConfigError, UserError

# Settings on which no reply depends.
_OF_THE_WAY = {"base_url", "api_key_env", "concurrency", "request_timeout", "price"}


def open_asker(
    settings: Served, part: str, version: str, log: Log, meter: Meter, *, probe: Any = "Is anybody there?"
) -> Asker:
    """Find a model and let it say one token.

    Args:
        part: of the configuration, for messages: `judge` or `oracle`.
        version: hash of the prompt's wording.
        probe: content of the message that it replies to; its reply does not matter.

    Raises:
        ConfigError: nobody answers there, a wrong key, an unknown model, or one that cannot answer `probe`.
    """
    client = None
    try:
        address = Address.of(settings.base_url, settings.api_key_env)
        served = named(address, settings.model)
        client = Client(address, served, concurrency=settings.concurrency, timeout_s=settings.request_timeout)
        request = {"max_tokens": 1, "temperature": 0.0, "extra_body": dict(served.request)}
        client.begin(client.reply([{"role": "user", "content": probe}], request, stream=False)).result()
    except UserError as error:
        if client is not None:
            client.close()
        raise ConfigError(f"{part}: {error}") from None
    return Asker(client, log, version, meter)


def lasting(settings: Served) -> dict[str, Any]:
    """Settings on which replies depend: not where and how fast they come."""
    return settings.model_dump(mode="json", exclude=_OF_THE_WAY)


def model_of(asker: Asker) -> dict[str, Any]:
    """Who replied, as rows name it."""
    served = asker.client.served
    return {"name": served.model, "revision": served.label, "prompt": asker.version}
