"""A pruner that takes its process with it, as the kernel does where memory ends."""

import os
import signal
from typing import ClassVar

from lmms_awares.pruning.random import Random


class Fatal(Random):
    """Kills the process when it is asked to choose for the first time."""

    name: ClassVar[str] = "fatal"

    def score(self, image):
        os.kill(os.getpid(), signal.SIGKILL)
