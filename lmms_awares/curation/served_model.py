"""A model behind a server that judges or points: found, and proven to answer, before the first row."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from lmms_awares.curation.asking import Asker, Log, Meter, Request, Said
from lmms_awares.curation.config import Served
from lmms_awares.curation.rows import Rejected
from lmms_awares.engine.server.address import Address, named
from lmms_awares.engine.server.client import Client
from lmms_awares.errors import ConfigError, UserError

Read = TypeVar("Read")
# Settings on which no reply depends.
_OF_THE_WAY = {"base_url", "api_key_env", "concurrency", "request_timeout", "price"}


class ServedModel:
    """A model that a stage asks; the base of what asks it.

    Args:
        settings: of the configuration's part.
        part: its name, `judge` or `oracle`.
        stage: the stage's name.
        version: hash of the prompt's wording.
        log, meter: finished requests, and what counts them.
        probe: content of a message that the model has to take; what it replies does not matter.
    """

    def __init__(  # noqa: PLR0917  # what a request depends on
        self, settings: Served, part: str, stage: str, version: str, log: Log, meter: Meter, probe: Any = "Hello?"
    ) -> None:
        self._settings, self._part, self._stage, self._version = settings, part, stage, version
        self._log, self._meter, self._probe = log, meter, probe
        self._asker: Asker | None = None

    def depends_on(self) -> dict[str, Any]:
        """Settings on which replies depend: not where and how fast they come."""
        return {self._part: self._settings.model_dump(mode="json", exclude=_OF_THE_WAY), "prompt": self._version}

    def open(self) -> None:
        """Find the model and let it say one token.

        Raises:
            ConfigError: nobody answers there, a wrong key, an unknown model, or one that cannot answer `probe`.
        """
        settings, client = self._settings, None
        try:
            address = Address.of(settings.base_url, settings.api_key_env)
            served = named(address, settings.model)
            client = Client(address, served, concurrency=settings.concurrency, timeout_s=settings.request_timeout)
            request = {"max_tokens": 1, "temperature": 0.0, "extra_body": dict(served.request)}
            client.begin(client.reply([{"role": "user", "content": self._probe}], request, stream=False)).result()
        except UserError as error:
            if client is not None:
                client.close()
            raise ConfigError(f"{self._part}: {error}") from None
        self._asker = Asker(client, self._log, self._stage, self._version, self._meter)

    def close(self) -> None:
        """End the connections."""
        if self._asker is not None:
            self._asker.client.close()
            self._asker = None

    def ask(self, requests: Sequence[Request], read: Callable[[str], Read]) -> list[Said[Read] | Rejected]:
        """See `Asker.ask`."""
        return self._open.ask(requests, read)

    @property
    def name(self) -> dict[str, Any]:
        """Who replies, as rows name it."""
        served = self._open.client.served
        return {"name": served.model, "revision": served.label, "prompt": self._version}

    @property
    def _open(self) -> Asker:
        assert self._asker is not None, "open() comes first"
        return self._asker
