"""What a prompt holds, token by token, and what of it a server prefilled."""

from collections.abc import Sequence


def positions(ids: Sequence[int], placeholder: int, tokens: Sequence[int]) -> tuple[tuple[range, ...], int]:
    """Lay a prompt out as the language model gets it: every image's placeholder repeated once per visual token.

    Args:
        ids: of the rendered text, one placeholder per image.
        placeholder: its id.
        tokens: visual tokens of each image, in order.

    Returns:
        the positions of each image's visual tokens, and the tokens of the whole prompt.

    Raises:
        ValueError: not one placeholder per image.

    Example:
        >>> positions([5, 9, 5, 9, 5], 9, [4, 2])
        ((range(1, 5), range(6, 8)), 9)
    """
    places = [place for place, id in enumerate(ids) if id == placeholder]
    images, longer = [], 0  # by how much the images so far made the prompt longer than its text
    for place, count in zip(places, tokens, strict=True):
        images.append(range(place + longer, place + longer + count))
        longer += count - 1
    return tuple(images), len(ids) + longer


def prefilled(images: Sequence[range], cached: int | None) -> int | None:
    """Count the visual tokens of a prompt that a prefix cache had not: those behind its first `cached` tokens.

    Args:
        images: positions, see `positions`.
        cached: tokens of the prompt's beginning that the cache held; None where the server does not tell.

    Returns:
        None where that is unknown.

    Example:
        >>> prefilled([range(1, 5), range(6, 8)], 3)
        4
    """
    if cached is None:
        return None
    return sum(len(range(max(image.start, cached), image.stop)) for image in images)


def cause(what: str, difference: int) -> str:
    """Name the likely reason why a server counts `difference` more of `what` than planned.

    Example:
        >>> cause("tokens", 1).partition(",")[0]
        'the likely cause is the content format'
    """
    if what == "image tokens" or abs(difference) > 8:
        return (
            "the likely cause are resized images: serve with the checkpoint's own min_pixels and max_pixels, or pass "
            "its limits as model arguments"
        )
    return (
        "the likely cause is the content format, a line break between image and text (vLLM: "
        "--chat-template-content-format openai), or another chat template than the one of pretrained"
    )
