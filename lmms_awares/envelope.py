"""The envelope that carries a trace through lmms-eval: behind the answer, between two markers."""

from lmms_awares.trace import Trace, parse_trace

_OPEN = "<|awares-trace|>"
_CLOSE = "<|/awares-trace|>"


def seal(answer: str, trace: Trace) -> str:
    """Append the trace to `answer`, for tasks that ask for traces.

    The JSON holds no `<`: lmms-eval removes reasoning tags from the whole response before scoring, and a tag inside
    the trace would take the answer with it. So the last opening marker is always the real one, too.
    """
    payload = trace.model_dump_json().replace("<", r"\u003c")
    return f"{answer}{_OPEN}{payload}{_CLOSE}"


def unseal(response: str) -> tuple[str, Trace | None]:
    """Split a response into answer and trace; (response, None) for the response of a model that sends no trace.

    Raises:
        TraceError: an envelope whose trace cannot be read.

    Example:
        >>> unseal("42")
        ('42', None)
    """
    answer, envelope = envelope_of(response)
    return answer, parse_trace(envelope.removeprefix(_OPEN).removesuffix(_CLOSE)) if envelope else None


def envelope_of(response: str) -> tuple[str, str]:
    """Split a response into its answer and the text behind it that holds the trace, '' where there is none.

    Example:
        >>> envelope_of("42")
        ('42', '')
    """
    body = response.rstrip()
    answer, marker, payload = body.rpartition(_OPEN)
    return (answer, f"{marker}{payload}") if marker and body.endswith(_CLOSE) else (response, "")
