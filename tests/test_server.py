"""The server engine against a scripted server: the same answers and counts as in this process, whatever goes wrong."""

import asyncio
import json
import random
import re
import socket
import threading
import time

import pytest
from harness import answers, document, picture
from scripted_server import Script, serving
from tenacity import RetryCallState

import lmms_awares
from lmms_awares.engine.checkpoint import load
from lmms_awares.engine.conversation import Conversation
from lmms_awares.engine.server import client
from lmms_awares.engine.server.address import shown
from lmms_awares.engine.server.client import ATTEMPTS, ServerGoneError, TransientError
from lmms_awares.engine.server.completion import Completion, read_whole
from lmms_awares.engine.server.pace import Pace
from lmms_awares.errors import ConfigError
from lmms_awares.mini.demo import checkpoint as shipped
from lmms_awares.mini.suite import documents
from lmms_awares.models.awares import Awares
from lmms_awares.models.config import CommonArgs, parse_args
from lmms_awares.models.resolution import FullResolution, LowResolution
from lmms_awares.models.visionthink import VisionThink
from lmms_awares.protocol import format_call
from lmms_awares.pruning import VisionZip


def by_model(checkpoint, adapter=None):
    """Replies of the tiny checkpoint itself, turn by turn from nothing."""
    model, processor = load(
        CommonArgs(pretrained=str(checkpoint), dtype="float32", adapter=adapter and str(adapter)), "cpu"
    )
    from lmms_awares.engine.chat import ChatFormat

    chat, lock = ChatFormat(processor), threading.Lock()

    def reply(messages, images, request):
        with lock:
            segment = chat.segment(chat.render_messages(messages), images)
            talk = Conversation(model, [segment], end_ids=chat.end_ids, pad_token_id=chat.tokenizer.pad_token_id)
            suppressed = [int(id) for id in request.get("logit_bias", {})]
            (said,) = talk.generate(min(request["max_tokens"], 64), suppress_tokens=suppressed)
            return chat.decode(said.ids)

    return reply


@pytest.fixture(scope="module")
def docs():
    """Questions that the shipped checkpoint answers directly, and ones that it calls for."""
    made = [*documents("chartqa", "test", 6), *documents("pope", "test", 4)]
    return [{"images": [doc["image"]], "question": doc["question"]} for doc in made]


METHODS = {
    "full": (FullResolution, {}),
    "lowres": (LowResolution, {}),
    "awares": (Awares, {}),
    "never": (Awares, {"policy": "never"}),
    "always_full": (Awares, {"policy": "always_full"}),
    "random": (Awares, {"policy": "random"}),
    **{content: (Awares, {"crops": content}) for content in ("blank", "shuffled", "other")},
}
EQUAL = (
    "visual_tokens",
    "full_tokens",
    "lowres_tokens",
    "rtr",
    "crops",
    "tool_call",
    "view",
)


@pytest.fixture(scope="module")
def tiny():
    """The address of the shipped checkpoint, served, and its script."""
    script = Script(str(shipped()), by_model(shipped()))
    with serving(script) as address:
        yield address, script


@pytest.mark.parametrize(("kind", "arguments"), METHODS.values(), ids=METHODS)
def test_a_server_answers_as_this_process(tiny, docs, kind, arguments):
    address, _ = tiny
    here = answers(kind(pretrained=str(shipped()), dtype="float32", device="cpu", **arguments), docs, max_new_tokens=16)
    served = kind(pretrained=str(shipped()), base_url=address, served_model="tiny", concurrency=4, **arguments)
    there = answers(served, docs, max_new_tokens=16)
    assert [answer for answer, _ in there] == [answer for answer, _ in here]
    for (_, own), (_, trace) in zip(here, there, strict=True):
        assert {name: getattr(trace, name) for name in EQUAL} == {name: getattr(own, name) for name in EQUAL}
        assert [(t.text, t.new_tokens, t.prompt_tokens) for t in trace.turns] == [
            (t.text, t.new_tokens, t.prompt_tokens) for t in own.turns
        ]
        # What this server held is nothing, or whole prompts.
        assert own.visual_tokens_processed == own.visual_tokens
        assert trace.visual_tokens_processed in (trace.visual_tokens, trace.visual_tokens - trace.lowres_tokens, 0)
        assert trace.conditions.engine == "vllm 0.test"
        assert trace.conditions.device == trace.conditions.dtype == trace.conditions.attention == "unknown"
        assert trace.latency_s >= sum(turn.seconds for turn in trace.turns) > 0
        for turn in trace.turns:
            if turn.seconds:
                assert turn.vision_s is None
                assert turn.prefill_s + turn.decode_s == pytest.approx(turn.seconds)
    if kind is Awares and not arguments:
        called = [trace for _, trace in there if trace.tool_call]
        assert called and len(called) < len(docs)
        assert all(trace.turns[1].cached_tokens >= trace.turns[0].prompt_tokens for trace in called)


def numbered(count):
    """Documents that a reply can be told by."""
    return [document((280, 224), seed=number % 7, question=f"Number {number}?") for number in range(count)]


def by_number(messages, images, request):
    """A call for two crops where the number is even, else an answer; every text tells its question and its images."""
    if messages[0]["role"] == "user":
        return "yes"  # to the question before the first sample
    number = int(re.search(r"Number (\d+)", messages[1]["content"][-1]["text"])[1])
    if len(messages) > 2:
        assert messages[2]["content"][0]["text"] == format_call(("0", "3"))
        return f"second {number} {[image.size for image in images]}"
    return format_call(("0", "3")) if number % 2 == 0 else f"first {number} {images[0].size}"


FAULTS = ("429", "500", "stall", "cut", "html", "broken")


def faulty(number):
    """5 % each, the same ones in every run."""
    drawn = random.Random(number).random()
    return FAULTS[int(drawn / 0.05)] if drawn < 0.05 * len(FAULTS) and number else None


def test_a_thousand_samples_on_a_server_that_fails_in_every_way(tmp_path, monkeypatch):
    """Only what is planted decides: neither luck in a few requests nor a busy machine fails a sample."""
    # Of 16 requests, the planted 15 % are often 30 %: few would be in flight, and stalls would wait for each other. And
    # most answers take a tenth of the limit at most, so that a machine may be several times slower.
    monkeypatch.setattr("lmms_awares.engine.server.pace._WINDOW", 64)
    monkeypatch.setattr("lmms_awares.engine.server.client._TIMEOUTS", ATTEMPTS)
    docs = numbered(1000)
    script = Script(str(shipped()), by_number, fault=faulty, stall_s=60.0)
    with serving(script) as address:
        arguments = {"pretrained": str(shipped()), "base_url": address, "served_model": "tiny"}
        model = Awares(**arguments, concurrency=32, request_timeout=6.0, journal=str(tmp_path / "journal.jsonl"))
        found = answers(model, docs, max_new_tokens=40)
    assert len(found) == 1000
    for number, (answer, trace) in enumerate(found):
        assert trace.failed is None
        if number % 2:
            assert answer == f"first {number} (140, 112)"
            assert trace.crops == []
        else:
            assert answer == f"second {number} [(140, 112), (140, 112), (140, 112)]"
            assert [crop.id for crop in trace.crops] == ["0", "3"]
            assert trace.visual_tokens == 60
    count = script.next_number()
    assert {faulty(number) for number in range(count)} == {None, *FAULTS}
    assert count > 1501 + sum(faulty(number) is not None for number in range(1501)), "each fault cost a request"
    assert len((tmp_path / "journal.jsonl").read_text().splitlines()) == 1000
    assert 1 < script.most_in_flight <= 32


@pytest.fixture
def served():
    """Start a scripted server that answers by number; returns its model arguments."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(reply=by_number, **facts):
            script = Script(str(shipped()), reply, **facts)
            address = stack.enter_context(serving(script))
            return script, {"pretrained": str(shipped()), "base_url": address, "served_model": "tiny"}

        yield start


@pytest.mark.parametrize("told", [True, False], ids=["image tokens too", "tokens alone"])
def test_a_server_that_counts_otherwise_stops_the_run(served, told):
    _, arguments = served(extra_tokens=1, tells_cache=told)
    with pytest.raises(
        ConfigError, match=r"counts (\d+) tokens in a prompt of (\d+); .*--chat-template-content-format"
    ):
        Awares(**arguments)


def test_one_wrong_count_in_the_middle_stops_the_run_and_loses_nothing(served, tmp_path):
    script, arguments = served(fault=lambda number: "usage" if number == 100 else None)
    journal = tmp_path / "journal.jsonl"
    model = Awares(**arguments, concurrency=4, journal=str(journal))
    with pytest.raises(ConfigError, match="content format"):
        answers(model, numbered(200))
    kept = len(journal.read_text().splitlines())
    assert 40 < kept < 80
    before = script.next_number()
    again = Awares(**arguments, concurrency=4, journal=str(journal))
    found = answers(again, numbered(200))
    assert sum(trace.reused for _, trace in found) == kept
    assert script.next_number() - before < 2 + 1.5 * (200 - kept) + 2, "what is answered is not asked again"
    assert all(trace.failed is None for _, trace in found)


def test_a_server_that_shows_resized_images_is_named(served, monkeypatch):
    from lmms_awares.engine.server import messages

    send = messages.as_png_url
    monkeypatch.setattr(messages, "as_png_url", lambda image: send(image.resize((image.width * 2, image.height * 2))))
    _, arguments = served()
    with pytest.raises(ConfigError, match=r"counts \d+ image tokens in a prompt of \d+; the likely cause are resized"):
        FullResolution(**arguments)


def test_a_server_that_does_not_count_is_refused(served):
    _, arguments = served(tells_usage=False)
    with pytest.raises(ConfigError, match=r"does not tell usage.prompt_tokens"):
        FullResolution(**arguments)


def test_what_a_server_does_not_tell_stays_unknown(served):
    _, arguments = served(tells_cache=False)
    for _, trace in answers(Awares(**arguments), numbered(2)):
        assert all(turn.cached_tokens is None and turn.vision_s is None for turn in trace.turns)
        assert trace.visual_tokens_processed is None
        assert trace.rtr == trace.visual_tokens / trace.full_tokens


HELD = {  # what the cache held before turn 1 and turn 2, from the prompt's beginning: (named place, tokens behind it)
    "nothing": (("start", 0), ("start", 0), 20 + 60),
    "all of turn 1": (("start", 0), ("turn 1", 0), 20 + 40),
    "up to the view": (("view", 0), ("view", 0), 20 + 60),
    "the view's first token": (("view", 1), ("view", 1), 19 + 59),
    "the middle of the view": (("view", 7), ("view", 13), 13 + 47),
    "the view": (("view", 20), ("view", 20), 0 + 40),
    "up to the crops": (("start", 0), ("crops", 0), 20 + 40),
    "a token of the second crop": (("start", 0), ("crops", 20 + 2 + 1), 20 + 19),  # two control tokens between them
    "everything": (("end", 0), ("end", 0), 0 + 0),
    "unknown in turn 1": (None, ("view", 20), None),
    "unknown in turn 2": (("view", 20), None, None),
}


@pytest.mark.parametrize(("first", "second", "processed"), HELD.values(), ids=HELD)
def test_what_a_cache_held_is_not_counted_again(served, first, second, processed):
    """One view of 20 tokens, then two crops of 20 each."""

    def held(messages, count):
        if messages[0]["role"] == "user":
            return 0  # of the question before the first sample
        cached = first if len(messages) == 2 else second
        if cached is None:
            return None
        place, behind = cached
        text, pad = script.chat.render_messages(messages), "<|image_pad|>"
        views = text.split(pad)
        ahead = {"view": views[0], "crops": pad.join(views[:2]), "turn 1": script.chat.render_messages(messages[:2])}
        places = {name: script.chat.count(part, 20 * part.count(pad)) for name, part in ahead.items()}
        return ({"start": 0, "end": count} | places)[place] + behind

    script, arguments = served(held=held)
    ((_, trace),) = answers(Awares(**arguments), numbered(1), max_new_tokens=40)
    assert (trace.visual_tokens, trace.visual_tokens_processed) == (60, processed)
    assert trace.rtr == 60 / trace.full_tokens


@pytest.mark.parametrize(("cached", "processed"), [(0, 20 + 80), (10**6, 0), (None, None)])
def test_a_forced_call_is_prefilled_once(served, cached, processed):
    """The server sees one prompt, whose view nobody prefilled before."""

    def held(messages, count):
        return None if cached is None else min(cached, count)

    _, arguments = served(lambda *_: "yes", held=held)
    ((_, trace),) = answers(Awares(**arguments, policy="always_full"), numbered(1))
    assert trace.tool_call.forced
    assert trace.visual_tokens_processed == processed


ADDRESSES = {
    "nobody": ("http://127.0.0.1:{closed}/v1", "does not answer .*start the server"),
    "no address": ("127.0.0.1:8000/v1", "is no address; give one such as"),
    "no host": ("http:///v1", "is no address"),
    "without v1": ("{open}", "no list of models; the address usually ends in /v1"),
}


@pytest.mark.parametrize(("address", "message"), ADDRESSES.values(), ids=ADDRESSES)
def test_a_wrong_address_is_named_before_anything_runs(served, address, message):
    _, arguments = served()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = address.format(closed=free.getsockname()[1], open=arguments["base_url"].removesuffix("/v1"))
        with pytest.raises(ConfigError, match=message):
            FullResolution(**arguments | {"base_url": url})


def test_keys(served, monkeypatch, caplog):
    _, arguments = served(key="s3cret")
    with pytest.raises(ConfigError, match="refuses a request without a key; name one with api_key_env"):
        FullResolution(**arguments)
    with pytest.raises(ConfigError, match="api_key_env=NO_SUCH names an environment variable that is not set"):
        FullResolution(**arguments, api_key_env="NO_SUCH")
    monkeypatch.setenv("TINY_KEY", "wr0ng")
    with pytest.raises(ConfigError, match="refuses the key of api_key_env") as error:
        FullResolution(**arguments, api_key_env="TINY_KEY")
    assert "wr0ng" not in str(error.value)
    monkeypatch.setenv("TINY_KEY", "s3cret")
    model = FullResolution(**arguments, api_key_env="TINY_KEY")
    answers(model, numbered(1))
    assert "s3cret" not in repr(vars(model.engine.client)) + caplog.text


def test_other_models_are_refused_unless_named(served):
    _, arguments = served(served=[{"id": "other", "owned_by": "vllm", "root": "/models/other-7b"}])
    with pytest.raises(ConfigError, match="served_model=tiny is not served at .*; its models: other"):
        FullResolution(**arguments)
    del arguments["served_model"]
    with pytest.raises(ConfigError, match=r"serves other, and pretrained=.*; if one of them is that checkpoint, say"):
        FullResolution(**arguments)
    FullResolution(**arguments, served_model="other")


def test_the_served_checkpoint_is_found_by_its_folder(served):
    _, arguments = served(served=[{"id": "x", "owned_by": "vllm", "root": f"/elsewhere/{shipped().name}"}])
    del arguments["served_model"]
    assert FullResolution(**arguments).engine.client.served.model == "x"


REFUSED = {
    "pruner": ({"pruner": "visionzip", "retain_ratio": 0.5}, "acts inside the model, where a server lets nobody in"),
    "dtype": ({"dtype": "bfloat16"}, "dtype has no effect with base_url: it is the server's"),
    "adapter": ({"adapter": "a"}, "adapter has no effect with base_url"),
    "device_map": ({"device_map": "auto"}, "device_map has no effect"),
    "attention": ({"attn_implementation": "eager"}, "attn_implementation has no effect"),
    "reuse": ({"reuse_cache": True}, "reuse_cache has no effect"),
    "workers": ({"workers": 2}, "workers has no effect"),
    "concurrency": ({"concurrency": 0}, "concurrency"),
    "timeout": ({"request_timeout": 0}, "request_timeout"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_arguments_that_a_server_takes_no_notice_of(arguments, message):
    with pytest.raises(ConfigError, match=message):
        parse_args("awares", {"pretrained": "p", "base_url": "http://h/v1"} | arguments)


@pytest.mark.parametrize("name", ["served_model", "api_key_env", "concurrency", "request_timeout"])
def test_arguments_of_a_server_without_one(name):
    with pytest.raises(ConfigError, match=f"{name} needs base_url"):
        parse_args("awares", {"pretrained": "p", name: "1"})


def test_batches_are_the_servers(served):
    _, arguments = served()
    with pytest.raises(ConfigError, match=r"batch_size=8 has no effect with base_url.*concurrency=N"):
        FullResolution(**arguments, batch_size=8)


def test_a_request_that_the_server_refuses_fails_its_sample_alone(served):
    _, arguments = served(fault=lambda number: "400" if number == 3 else None)
    found = answers(FullResolution(**arguments, concurrency=1), numbered(6))
    failed = [trace.failed for _, trace in found if trace.failed]
    assert len(failed) == 1
    assert "ServerError: the server refuses it" in failed[0] and "no such thing" in failed[0]


def test_a_server_that_goes_away_stops_the_run_in_time(served, monkeypatch):
    monkeypatch.setattr("lmms_awares.engine.server.client.ATTEMPTS", 2)
    _, arguments = served(fault=lambda number: "500" if number > 20 else None)
    started = time.perf_counter()
    with pytest.raises(
        ServerGoneError, match=r"has failed the last \d+ requests \(.*oops.*\); mend the server and run"
    ):
        answers(LowResolution(**arguments, concurrency=2), numbered(500))
    assert time.perf_counter() - started < 60


def test_a_stalled_request_ends_at_its_limit(served, monkeypatch):
    monkeypatch.setattr("lmms_awares.engine.server.client._TIMEOUTS", 2)
    _, arguments = served(fault=lambda number: "stall" if number == 2 or number > 4 else None, stall_s=60.0)
    started = time.perf_counter()
    model = LowResolution(**arguments, concurrency=1, request_timeout=0.7)
    found = answers(model, numbered(4))
    assert [bool(trace.failed) for _, trace in found][:3] == [False, False, False], "a second attempt came through"
    assert "no answer in 0.7 s" in found[3][1].failed
    assert time.perf_counter() - started < 30
    assert found[1][1].latency_s < 0.7, "an attempt that failed is no part of the latency"


ENDS = {
    "it says so": {"busy": True, "refused": True},
    "it fails": {"busy": True},
    "it is slow": {"seconds": 2.8},  # a quarter of the time limit, and a tenth more
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_fewer_requests_where_the_server_is_busy_and_more_where_it_copes(end):
    async def run():
        pace = Pace(8, timeout_s=10.0)
        for _ in range(16):
            pace.record(**end)
        assert pace.limit == 4
        most = busy = 0

        async def request():
            nonlocal most, busy
            async with pace:
                busy += 1
                most = max(most, busy)
                await asyncio.sleep(0.01)
                busy -= 1

        await asyncio.gather(*(request() for _ in range(20)))
        assert most == 4
        for _ in range(16 * 8):
            pace.record(0.1)
        assert pace.limit == 8

    asyncio.run(run())


def test_a_control_token_in_a_question_is_not_sent(served):
    script, arguments = served()
    docs = [document((280, 224), question="Number 1? <|im_end|>"), *numbered(2)[1:]]
    found = answers(LowResolution(**arguments), docs)
    assert "control token" in found[0][1].failed
    assert found[1][1].failed is None
    assert len(script.requests) == 2, "the first question and the second document's"


def test_sampling_is_seeded_by_the_sample(served):
    script, arguments = served()
    for _ in range(2):
        answers(LowResolution(**arguments), numbered(2), temperature=0.7, top_p=0.9, top_k=5)
    seeds = [request["seed"] for _, _, request in script.requests if "seed" in request]
    assert len(seeds) == 4
    assert sorted(seeds[:2]) == sorted(seeds[2:])
    assert seeds[0] != seeds[1]
    last = script.requests[-1][2]
    assert (last["temperature"], last["top_p"], last["top_k"], last["repetition_penalty"]) == (0.7, 0.9, 5, 1.0)


def test_a_reply_never_asks_for_more_than_the_context(served):
    served_models = [{"id": "tiny", "owned_by": "vllm", "max_model_len": 100}]
    script, arguments = served(served=served_models)
    found = answers(LowResolution(**arguments), numbered(1), max_new_tokens=500)
    _, _, request = script.requests[-1]
    assert request["max_tokens"] + found[0][1].turns[0].prompt_tokens == 100
    found = answers(FullResolution(**arguments), [document((1200, 800), question="Number 1?")])
    assert "longer than the model's context of 100" in found[0][1].failed


def test_turn_two_begins_with_turn_one(served):
    script, arguments = served()
    answers(Awares(**arguments), numbered(1))
    first, second = [request["messages"] for _, _, request in script.requests[-2:]]
    assert json.dumps(second).startswith(json.dumps(first)[:-1])
    placeholders = set(script.requests[-2][2]["logit_bias"])
    assert placeholders and "logit_bias" not in script.requests[-1][2]


@pytest.mark.parametrize("adjacent", [False, True])
def test_rendered_turns_are_the_tokens_of_this_process(served, adjacent):
    """Also where a turn follows without the template's line break."""
    from lmms_awares.engine.local import LocalEngine
    from lmms_awares.engine.server import ServerEngine
    from lmms_awares.engine.turns import Opening, Turn
    from lmms_awares.views import plan_views, show

    _, arguments = served()
    image = picture((280, 224))
    plan = plan_views(*image.size)
    opening = Opening(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Number 2?"}]}],
        "Look.",
        [show(image, plan, "lowres")],
    )
    views = [show(image, plan, "0"), show(image, plan, "5")]
    turn = Turn([{"type": "image"}, {"type": "text", "text": "and"}, {"type": "image"}], views, adjacent=adjacent)
    local = LocalEngine.open(CommonArgs(pretrained=str(shipped()), dtype="float32"), "cpu")
    remote = ServerEngine.open(parse_args("awares", arguments))
    talks = []
    for engine in (local, remote):
        prompt = engine.prepare(opening)
        talk = engine.start([prompt])
        talk.say(["<tool_call>x</tool_call>"])
        talks.append((prompt, talk, talk.prepare(0, turn)))
    (prompt, _, after), (sent, _, whole) = talks
    assert (sent.length, whole.length) == (prompt.length, after.length)
    ids = [
        *prompt.segment.ids.tolist(),
        *local.chat.encode_reply("<tool_call>x</tool_call>"),
        *after.segment.ids.tolist(),
    ]
    pad = local.chat.vision_token_ids[0]
    once = [id for at, id in enumerate(ids) if id != pad or ids[at - 1] != pad]
    assert remote.chat.encode(remote.chat.render_messages(whole.local)) == once
    assert whole.total == len(ids)
    assert len(json.dumps(whole.sent).split("data:image/png")) == 4


def test_visionthink_on_a_server(served):
    """Two rounds with the original image, in our own words."""
    from lmms_awares.protocol import visionthink

    def reply(messages, images, request):
        calls = messages[0]["role"] == "system" and len(messages) == 2
        return visionthink.format_call() if calls else f"<answer>{[image.size for image in images]}</answer>"

    _, arguments = served(reply)
    ((answer, trace),) = answers(VisionThink(**arguments), numbered(1))
    assert answer == "[(140, 112), (280, 224)]"
    assert trace.visual_tokens == 20 + 80
    assert trace.tool_call.status == "valid"


def test_asking_from_python(served):
    _, arguments = served()
    chat = lmms_awares.load(arguments.pop("pretrained"), **arguments)
    reply = chat.ask(picture((280, 224)), "Number 4?")
    assert (reply.answer, reply.crops) == ("second 4 [(140, 112), (140, 112), (140, 112)]", ("0", "3"))
    with pytest.raises(ConfigError, match="acts inside the model"):
        chat.ask(picture((280, 224)), "Number 4?", pruner=VisionZip(0.5))
    with pytest.raises(ConfigError, match="device has no effect"):
        lmms_awares.load(str(shipped()), device="cpu", **arguments)


def test_addresses_are_shown_without_secrets():
    assert shown("https://me:pass@host:1/v1?token=t#x") == "https://host:1/v1"


def test_lmms_evals_cache_is_refused(served):
    from lmms_awares.evaluate import preflight
    from lmms_awares.plan import plan_of

    _, arguments = served()
    given = ",".join(f"{name}={value}" for name, value in arguments.items())
    plan, rest = plan_of(["--model", "awares", "--model_args", given, "--tasks", "awares_mini", "--use_cache", "c"])
    with pytest.raises(ConfigError, match="--use_cache does not see what a server serves"):
        preflight(plan, rest)


WHOLE = {
    "choices": [{"message": {"content": "2"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 1},
}
NONE = (
    {},
    [],
    "<html>",
    None,
    {"choices": []},
    {"choices": [{"message": {}}]},
    {"choices": [{"message": {"content": 2}}]},
)


def test_a_whole_reply():
    said = Completion()
    read_whole(said, json.dumps(WHOLE).encode())
    assert (said.text, said.finish, said.prompt_tokens, said.new_tokens) == ("2", "stop", 9, 1)
    said = Completion()
    without_text = {"choices": [{"message": {"content": None}, "finish_reason": "length"}], "usage": None}
    read_whole(said, json.dumps(without_text).encode())
    assert (said.text, said.finish, said.prompt_tokens) == ("", "length", None)
    for odd in NONE:
        said = Completion()
        read_whole(said, json.dumps(odd).encode())
        assert said.finish is None


def test_a_repetition_waits_as_long_as_the_server_asks():
    def waits(attempt, asked):
        state = RetryCallState(None, None, (), {})
        state.attempt_number = attempt
        state.set_exception((TransientError, TransientError("busy", wait_s=asked), None))
        return client._wait(state)

    assert all(waits(1, 5.0) == 5.0 for _ in range(50))
    assert all(waits(9, 900.0) == 20.0 for _ in range(50)), "but no longer than the longest wait"
    longer = [waits(9, 0.05) for _ in range(50)]
    assert min(longer) >= 0.05 and max(longer) > 1, "a server that says a short time again and again is not pressed"
