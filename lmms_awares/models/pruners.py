"""Between the models and `lmms_awares.pruning`: arguments to a pruner, views to smaller ones, counts to the trace."""

from collections.abc import Callable, Sequence
from statistics import fmean

from PIL import Image

from lmms_awares.engine.chat import ChatFormat
from lmms_awares.engine.conversation import Segment
from lmms_awares.errors import ConfigError
from lmms_awares.families import Model
from lmms_awares.models.config import CommonArgs, PruningArgs
from lmms_awares.models.sample import check_grids
from lmms_awares.pruning import Pruner, PruningError
from lmms_awares.tokens import VisualTokens, grid_size
from lmms_awares.trace import PruningTrace


def build_pruner(args: CommonArgs, model: Model) -> Pruner | None:
    """The pruner that `args` ask for, checked against the loaded model; None where they ask for none.

    Raises:
        ConfigError: the pruner cannot serve the model.
    """
    if not isinstance(args, PruningArgs):
        return None
    try:
        pruner = args.make_pruner()
        if pruner is not None:
            pruner.check(model)
    except PruningError as error:
        raise ConfigError(str(error)) from None
    return pruner


def segment_of(
    make: Callable[..., Segment],
    views: Sequence[Image.Image],
    tokens: Sequence[int],
    pruner: Pruner | None,
    chat: ChatFormat,
) -> Segment:
    """The segment that `make` makes of `views`, at the sizes that the pruner gives them.

    Args:
        make: takes the views, and `at_grid=True` where their sizes are final.
        tokens: visual tokens of each view as planned.

    Raises:
        RuntimeError: the image processor counts other tokens.
    """
    if pruner is None or not pruner.resizes:
        segment = make(views)
    else:
        small = [_resized(view, pruner, chat) for view in views]
        segment = make(small, at_grid=True)
        tokens = [view.width * view.height // chat.token_side**2 for view in small]
    check_grids(segment, tokens)
    return segment


def _resized(view: Image.Image, pruner: Pruner, chat: ChatFormat) -> Image.Image:
    side = chat.token_side
    width, height = grid_size(*view.size, *chat.pixel_limits, token_side=side)
    columns, rows = pruner.grid(width // side, height // side)
    return view.resize((columns * side, rows * side), Image.Resampling.LANCZOS)


def pruning_trace(pruner: Pruner | None, visual: VisualTokens) -> PruningTrace | None:
    """What the trace records about a sample that was answered with `pruner`."""
    if pruner is None:
        return None
    return PruningTrace(
        pruner=pruner.name,
        retain_ratio=pruner.retain_ratio,
        encoded_tokens=visual.encoded,
        entering_tokens=visual.entering[0],
        mean_post=fmean(visual.leaving),
        mean_input=fmean(visual.entering),
        final_tokens=visual.leaving[-1],
        kv_lengths=list(visual.cached),
    )
