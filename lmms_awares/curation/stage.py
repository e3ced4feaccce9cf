"""The interface of a stage: what it adds to a row, what that depends on, and rows in, rows out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from datasets import Features

from lmms_awares.curation.asking import Log, Meter
from lmms_awares.curation.config import Config
from lmms_awares.curation.rows import Rejected, Row


class Stage(ABC):
    """One step from a row to a transcript. Runs in this process, or in any worker that has its configuration.

    Attributes:
        name: of its folder and its command.
        adds: columns that it gives to a row.
        uses_image: False where it never looks at the image, which is then not read.
    """

    name: ClassVar[str]
    adds: ClassVar[Features]
    uses_image: ClassVar[bool] = True

    @abstractmethod
    def __init__(self, config: Config, log: Log, meter: Meter) -> None:
        """Take what the configuration says; nothing is loaded yet."""

    @abstractmethod
    def depends_on(self) -> dict[str, Any]:
        """Settings, models and prompts on which its rows depend, as JSON; other ones give other rows."""

    def check(self) -> None:
        """Find out what would fail in every row, as `open` does, but without loading weights; raises as `open`."""
        self.open()
        self.close()

    def open(self) -> None:  # noqa: B027  # most stages need no preparation
        """Load what it needs, and find out now what would fail in every row.

        Raises:
            ConfigError: an address that nobody answers, a wrong key, an unknown model, a checkpoint that cannot load.
        """

    def close(self) -> None:  # noqa: B027
        """End what `open` began."""

    @abstractmethod
    def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        """Give each row's new columns, or why it is rejected; in order.

        Args:
            rows: with the columns of all earlier stages; images encoded.

        Raises:
            UserError: something that concerns every row; the run stops, and finished requests stay finished.
        """
