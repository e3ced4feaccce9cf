"""One document as several runs answered it (Figs. 9-15): question, calls, low-res view, crops, answers."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from lmms_awares.errors import DataError
from lmms_awares.report.explorer import documents
from lmms_awares.report.explorer.page_data import RIGHT, Sample, score
from lmms_awares.report.explorer.pictures import limits_of
from lmms_awares.report.figures.looks import drawable, literally
from lmms_awares.report.read.content import seen_by
from lmms_awares.report.read.lineup import Lineup, Source
from lmms_awares.report.read.samples import RunError
from lmms_awares.tasks.benchmarks import PREFIX
from lmms_awares.trace import Conditions, Trace
from lmms_awares.views import LOWRES, View, ViewPlan, plan_views, show

_WIDTH, _TEXT = 7.2, 2.9  # inches: of the figure, and of the column with the words
_CHARS = 46  # of a line in that column
_LONGEST = 320  # characters of a text that are shown
_LINE, _PICTURE = 0.165, 1.75  # inches: height of a line of text, and of a row with pictures
_RIGHT, _WRONG = "#116329", "#a40e26"


@dataclass(frozen=True)
class Answer:
    """What one run made of the document; `sample` is None where the run does not have it."""

    row: str
    sample: Sample | None
    trace: Trace | None


def address(text: str, lineup: Lineup) -> tuple[str, int]:
    """Read TASK/ID; the task with or without `awares_`, as the explorer's pages show it.

    Raises:
        RunError: another form, or a task of none of the runs.

    Example:
        address("pope/3", lineup)  # ("awares_pope", 3)
    """
    task, _, number = text.rpartition("/")
    if not task or not number.isdecimal():
        raise RunError(f"--sample {text} must read TASK/ID, such as {lineup.tasks[0].removeprefix(PREFIX)}/0")
    found = next((name for name in (task, f"{PREFIX}{task}") if name in lineup.tasks), None)
    if found is None:
        raise RunError(f"--sample {text}: no run holds {task}; their tasks: {', '.join(lineup.tasks)}")
    return found, int(number)


@literally
def draw_sample(lineup: Lineup, task: str, doc_id: int) -> Figure:
    """Draw a document: the question with the view of the first turn, and for each run its call, crops and answer.

    Raises:
        RunError: no run has the document, or the data do not hold what a run saw.
        DataError: the documents cannot be had.
    """
    answers = [_answer(row, source, task, doc_id) for row, source in lineup.named if task in source.frames]
    known = [answer for answer in answers if answer.sample is not None]
    if not known:
        raise RunError(f"no run has document {doc_id} of {task}")
    document, image = _document(lineup, task, doc_id, known)
    traced = [answer.trace for answer in known if answer.trace is not None]
    first = next((trace for trace in traced if trace.view == "lowres"), traced[0] if traced else None)
    shown = {answer.row: _crops(image, answer.trace) for answer in answers}
    words = {answer.row: _words(answer) for answer in answers}
    heights = [2.4, *(max(_LINE * (len(words[row]) + 1), _PICTURE if shown[row] else 0) for row in words)]
    figure = Figure(figsize=(_WIDTH, sum(heights) + 0.15 * len(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    text, picture = parts[0].subplots(1, 2, width_ratios=[_TEXT, _WIDTH - _TEXT])
    question = document.question or str((known[0].sample or {}).get("input", ""))
    asked = [*_wrapped(f"{task.removeprefix(PREFIX)}/{doc_id}"), "", *_wrapped(question), ""]
    _write(text, [(line, "k", "normal") for line in [*asked, *_wrapped(f"expected: {_target(known[0])}")]])
    _show(picture, *_first_view(image, first))
    for part, answer in zip(parts[1:], answers, strict=True):
        crops = shown[answer.row]
        columns = part.subplots(1, 1 + max(1, len(crops)), squeeze=False, width_ratios=[_TEXT, *_shares(crops)])[0]
        _write(columns[0], words[answer.row])
        for axes in columns[1 + len(crops) :]:
            axes.set_axis_off()
        for axes, (name, view) in zip(columns[1:], crops.items(), strict=False):
            _show(axes, name, view.image)
    return figure


def _answer(row: str, source: Source, task: str, doc_id: int) -> Answer:
    found = ((sample, trace) for sample, trace in source.run.samples(task) if sample["doc_id"] == doc_id)
    return Answer(row, *next(found, (None, None)))


def _document(lineup: Lineup, task: str, doc_id: int, known: list[Answer]) -> tuple[documents.Document, Image.Image]:
    """Return the document and its picture, which must be what every run saw."""
    source = next(source for source in lineup.sources if task in source.frames)
    stream = enumerate(documents.read(source.run.config(task)))
    document = next((found for number, found in stream if number == doc_id), None)
    if document is None:
        raise DataError(f"the data of {task} hold no document {doc_id}")
    try:
        image = document.picture()
    except OSError as error:
        raise DataError(f"document {doc_id} of {task}: {str(error).splitlines()[0]}") from None
    content = document.content(image)
    for answer in known:
        if other := content.not_asked_by(seen_by(answer.sample or {}, answer.trace)):
            raise RunError(f"document {doc_id} of {task} in the data is not what {answer.row} saw: {other}")
    return document, image


def _plan(image: Image.Image, conditions: Conditions | None) -> ViewPlan:
    return plan_views(*image.size, **(limits_of(conditions) if conditions else {}))


def _first_view(image: Image.Image, trace: Trace | None) -> tuple[str, Image.Image]:
    """Return what the first turn of `trace` showed, with its name; the image itself without a trace."""
    if trace is None:
        return f"the image, {image.width}×{image.height} px", image
    name = "low-res view" if trace.view == LOWRES else "full view"
    view = show(image, _plan(image, trace.conditions), trace.view)
    return f"{name}, {view.image.width}×{view.image.height} px, {view.tokens} tokens", view.image


def _crops(image: Image.Image, trace: Trace | None) -> dict[str, View]:
    """Return the crops that a run saw, by their captions."""
    if trace is None:
        return {}
    plan = _plan(image, trace.conditions)
    return {f"crop {crop.id}, {crop.tokens} tokens": show(image, plan, crop.id) for crop in trace.crops}


def _shares(crops: Mapping[str, View]) -> list[float]:
    """Return the width of each crop's column in inches: by their shapes, all in one row."""
    room = _WIDTH - _TEXT
    aspects = [view.image.width / view.image.height for view in crops.values()]
    return [room * aspect / sum(aspects) for aspect in aspects] or [room]


Line = tuple[str, str, str]  # text, colour, weight


def _words(answer: Answer) -> list[Line]:
    """Return what is said of a run: its name, call, answer and cost."""
    lines: list[Line] = [(line, "k", "bold") for line in _wrapped(answer.row)]
    if answer.sample is None:
        return [*lines, ("not in this run", "0.4", "normal")]
    trace = answer.trace
    if trace is not None and trace.failed is not None:
        return [*lines, *((line, _WRONG, "normal") for line in _wrapped(f"failed: {trace.failed}"))]
    if trace is not None and trace.tool_call is not None:
        call = trace.tool_call
        said = f"{'call' if call.status == 'valid' else f'{call.status} call'}: {call.text.strip()}"
        lines += [(line, "0.25", "normal") for line in _wrapped(said + (" (forced)" if call.forced else ""))]
    lines += _verdict(answer.sample)
    if trace is not None and trace.rtr is not None:
        lines.append((f"RTR {trace.rtr:.2f}, {trace.visual_tokens:g} of {trace.full_tokens} tokens", "0.4", "normal"))
    return lines


def _verdict(sample: Sample) -> list[Line]:
    """Return the answer in lines: a tick and green, or a cross and red."""
    points = score(sample)
    said = str(sample.get("answer", ""))
    if points is None:
        return [(line, "k", "normal") for line in _wrapped(said)]
    mark, colour = ("✓", _RIGHT) if points >= RIGHT else ("✗", _WRONG)
    partly = f" ({points:g})" if 0 < points < 1 else ""
    return [(line, colour, "bold") for line in _wrapped(f"{mark} {said}{partly}")]


def _target(answer: Answer) -> str:
    return str((answer.sample or {}).get("target", ""))


def _wrapped(text: str) -> list[str]:
    """Break a text into lines of the words' column; a long one is cut."""
    short = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
    lines = [part for line in short.splitlines() for part in textwrap.wrap(line, _CHARS) or [""]]
    return list(map(drawable, lines)) or [""]


def _write(axes: Axes, lines: list[Line]) -> None:
    """Write lines from the top of `axes` down."""
    axes.set_axis_off()
    for number, (line, colour, weight) in enumerate(lines):
        axes.annotate(
            line,
            (0, 1),
            (0, -72 * _LINE * number),
            xycoords="axes fraction",
            textcoords="offset points",
            va="top",
            color=colour,
            fontweight=weight,
            fontsize=8.5,
            annotation_clip=False,
        )


def _show(axes: Axes, caption: str, image: Image.Image) -> None:
    axes.imshow(image, interpolation="nearest")
    axes.set_anchor("NW")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(caption, fontsize=8)
