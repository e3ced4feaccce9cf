"""Result folders and their summaries, the stable import for programs outside of this package."""

from lmms_awares.report.read.folders import find_runs, newest_run
from lmms_awares.report.read.results import Run
from lmms_awares.report.read.samples import RunError
from lmms_awares.report.read.summary import COLUMNS, summarize

__all__ = ["COLUMNS", "Run", "RunError", "find_runs", "newest_run", "summarize"]
