"""The interface of a stage: what it adds to a row, what that depends on, and rows in, rows out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from datasets import Features

from lmms_awares.curation.rows import Rejected, Row


class Stage(ABC):
    """One step from a row to a transcript. Runs in this process, or in any worker that has its configuration.

    Attributes:
        name: of its folder and its command.
        adds: columns that it gives to a row.
    """

    name: ClassVar[str]
    adds: ClassVar[Features]

    @abstractmethod
    def depends_on(self) -> dict[str, Any]:
        """Settings, models and prompts on which its rows depend, as JSON; other ones give other rows."""

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
