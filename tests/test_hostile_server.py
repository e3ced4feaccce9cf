"""Addresses, keys and answers that nobody should send: one line each, in bounded time, and no key in it."""

import contextlib
import json
import time

import pytest
from harness import answers, document
from scripted_server import Handler, Script, listening, opened

from lmms_awares.engine.server import address as asking
from lmms_awares.engine.server import client
from lmms_awares.engine.server.address import Address
from lmms_awares.errors import ConfigError
from lmms_awares.mini.demo import checkpoint as shipped
from lmms_awares.models.resolution import LowResolution

KEY = "s3cret-key"
ADDRESSES = {
    "half a bracket": ("http://[::1/v1", r"base_url=http://\[::1/v1 is no address"),
    "no port": ("http://127.0.0.1:port/v1", "is no address"),
    "no such port": ("http://127.0.0.1:99999/v1", "is no address"),
    "blanks": (" http://127.0.0.1:1/v1", "is no address"),
    "a line break": ("http://127.0.0.1:1/v1\n", r"base_url=\.\.\. is no address"),
    "a host that cannot be": (f"http://{'a' * 300}/v1", "does not answer"),
    "a password": (f"http://me:{KEY}@127.0.0.1:1/v1", "a user or password, which a run's files would hold"),
    "a password with a slash": (f"http://me:{KEY}/x@127.0.0.1:1/v1", r"base_url=\.\.\. is no address"),
    "a query": (f"http://127.0.0.1:1/v1?key={KEY}", r"was given with \?\.\.\. or #"),
}


@pytest.mark.parametrize(("url", "message"), ADDRESSES.values(), ids=ADDRESSES)
def test_addresses(url, message):
    with pytest.raises(ConfigError, match=message) as error:
        LowResolution(pretrained=str(shipped()), base_url=url)
    assert KEY not in str(error.value)


@pytest.mark.parametrize("key", [f"{KEY}\nx", f"{KEY}\r", f"{KEY}é", f"{KEY}\udcff", f"{KEY}\x01x"])
def test_keys_that_no_header_can_hold(monkeypatch, key):
    monkeypatch.setenv("ODD_KEY", key)
    if key.strip() == KEY:  # a line break at the end, as a file leaves it
        assert Address.of("http://127.0.0.1:1/v1", "ODD_KEY").key == KEY
        return
    with pytest.raises(ConfigError, match="variable ODD_KEY holds a line break or another character") as error:
        Address.of("http://127.0.0.1:1/v1", "ODD_KEY")
    assert KEY not in str(error.value)


@pytest.mark.parametrize("name", [KEY, "", "A=B", "A\0B"])
def test_a_key_in_the_place_of_its_variable_is_not_printed(name):
    with pytest.raises(
        ConfigError, match="^api_key_env names an environment variable that is not set; export"
    ) as error:
        Address.of("http://127.0.0.1:1/v1", name)
    assert KEY not in str(error.value)


@pytest.fixture(scope="module")
def script():
    return Script(str(shipped()), lambda *_: "yes")


@pytest.fixture
def hostile(script, monkeypatch):
    """Start a server whose handler has some methods of its own; returns a model's arguments."""
    monkeypatch.setattr(client, "ATTEMPTS", 2)
    monkeypatch.setenv("GOOD_KEY", KEY)
    with contextlib.ExitStack() as stack:

        def start(**methods):
            url = stack.enter_context(listening(type("Hostile", (Handler,), {"script": script, **methods})))
            return {"pretrained": str(shipped()), "base_url": url, "served_model": "tiny", "api_key_env": "GOOD_KEY"}

        yield start


def listed(**facts):
    """Answers about the server: one model with these facts."""

    def do_get(handler):
        handler.send(200, json.dumps({"data": [{"id": "tiny", "owned_by": "vllm", **facts}], "paths": 5}))

    return do_get


@pytest.mark.parametrize("length", ["x", [1], -5, True, 2.5])
def test_a_context_that_is_no_number_is_none(hostile, length):
    model = LowResolution(**hostile(do_GET=listed(max_model_len=length)))
    assert model.engine.context == 8192, "the checkpoint's own"


def dripping(handler):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b" ")
        time.sleep(0.05)


def flooding(handler):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b" " * 100_000)


def nested(handler):
    handler.send(200, "[" * 100_000)


LISTS = {
    "drips": (dripping, "does not answer .no whole answer in 1 s"),
    "floods": (flooding, "no list of models"),
    "nests": (nested, "no list of models"),
}


def until_gone(method):
    """A handler's method that takes it that the client goes away."""

    def quietly(handler):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            method(handler)

    return quietly


@pytest.mark.parametrize(("list_models", "message"), LISTS.values(), ids=LISTS)
def test_a_list_of_models_without_end(hostile, monkeypatch, list_models, message):
    monkeypatch.setattr(asking, "_ASK_S", 1.0)
    monkeypatch.setattr(asking, "_MOST_BYTES", 10**6)
    started = time.perf_counter()
    with pytest.raises(ConfigError, match=message):
        LowResolution(**hostile(do_GET=until_gone(list_models)))
    assert time.perf_counter() - started < 20


@pytest.mark.parametrize("status", [400, 404, 418, 500])
def test_a_server_that_repeats_the_key(hostile, status):
    def do_post(handler):
        said = handler.headers["Authorization"]
        handler.send(status, json.dumps({"error": {"message": f"you sent {said}"}}))

    with pytest.raises(ConfigError, match=r"you sent Bearer \.\.\.") as error:
        LowResolution(**hostile(do_POST=do_post))
    assert KEY not in str(error.value)


def piece(content="yes", finish="stop", **more):
    return {"id": "1", "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish, **more}]}


USAGE = {"prompt_tokens_details": {"cached_tokens": 0}}
PIECES = {
    "a number": 5,
    "null": None,
    "a list": [],
    "choices are text": {"choices": "x"},
    "a choice is null": {"choices": [None]},
    "text is a number": piece(5),
    "text is a list": piece(["yes"]),
    "usage is a list": piece() | {"usage": [1]},
    "a count is text": piece() | {"usage": {"prompt_tokens": "40"}},
    "details are text": piece() | {"usage": {"prompt_tokens_details": "x"}},
    "a cache below nothing": piece() | {"usage": {"prompt_tokens_details": {"cached_tokens": -5}}},
    "a cache beyond the prompt": piece()
    | {"usage": {"prompt_tokens": 40, "prompt_tokens_details": {"cached_tokens": 41}}},
    "a cache in parts": piece() | {"usage": {"prompt_tokens_details": {"cached_tokens": 1.5}}},
    "image tokens are a list": piece() | {"usage": {"prompt_tokens_details": {"multimodal_tokens": [1]}}},
    "image tokens are text": piece() | {"usage": {"prompt_tokens_details": {"multimodal_tokens": {"image": "1"}}}},
    "ids are a number": piece(token_ids=5),
    "ids are text": piece(token_ids="abc"),
    "an id below nothing": piece(token_ids=[-1]),
    "an id without end": piece(token_ids=[2**70]),
    "an id is null": piece(token_ids=[None]),
    "aborted": piece("ye", "abort"),
    "filtered": piece("ye", "content_filter"),
}


def streaming(script, what, times):
    """Answer well, but send `what` to the second to so-many-th request."""
    count = 0

    def do_post(handler):
        nonlocal count
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        count += 1
        pieces = [what] if 1 < count <= times else [piece(), {"choices": [], "usage": None}]
        if len(pieces) == 2:
            pieces[1]["usage"] = script.usage(*opened(body["messages"]), "yes")
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        for one in pieces:
            handler.wfile.write(f"data: {json.dumps(one)}\n\n".encode())
        handler.wfile.write(b"data: [DONE]\n\n")

    return do_post


@pytest.mark.parametrize("what", PIECES.values(), ids=PIECES)
def test_json_of_another_form_is_asked_for_again(hostile, script, what):
    model = LowResolution(**hostile(do_POST=streaming(script, what, times=2)))
    ((answer, trace),) = answers(model, [document((280, 224))])
    assert (answer, trace.failed) == ("yes", None)


def test_it_fails_its_sample_alone_where_it_stays_so(hostile, script):
    model = LowResolution(**hostile(do_POST=streaming(script, 5, times=3)), concurrency=1)
    found = answers(model, [document((280, 224)), document((280, 224))])
    assert "no chat completion" in found[0][1].failed
    assert (found[1][0], found[1][1].failed) == ("yes", None)


@pytest.mark.parametrize(("said", "answer"), [(piece("a\ud800b"), "a?b"), (piece("yes", token_ids=[]), "yes")])
def test_text_that_is_all_there_is(hostile, script, tmp_path, said, answer):
    """Half a pair of surrogates, and ids that are none."""
    usage = script.usage

    def do_post(handler):
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        handler.send_response(200)
        handler.end_headers()
        counted = said | {"usage": usage(*opened(body["messages"]), "yes")}
        handler.wfile.write(f"data: {json.dumps(counted)}\n\n".encode())

    journal = tmp_path / "journal.jsonl"
    model = LowResolution(**hostile(do_POST=do_post), journal=str(journal))
    ((found, trace),) = answers(model, [document((280, 224))])
    assert (found, trace.failed) == (answer, None)
    assert json.loads(journal.read_text())["answer"] == answer


def test_a_connection_that_is_dropped_is_told_from_others(hostile):
    with pytest.raises(ConfigError, match="gives no reply: .* disconnected without sending a response"):
        LowResolution(**hostile(do_POST=lambda handler: None))
