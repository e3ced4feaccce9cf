"""A scripted OpenAI-compatible server for judge and oracle: replies are functions of requests, faults are seeded.

In a test: `with serving(Script(...)) as (address, script)`. As a process of its own, which outlives a killed client:

    python tests/curation_server.py PORT --faults 0.05

`GET /record` says what was asked: see `Record`. `tests/scripted_server.py` counts tokens as a checkpoint does; this one
needs none, and answers thousands of requests a second.
"""

import argparse
import asyncio
import hashlib
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Queue
from threading import Thread
from typing import Any

from aiohttp import web

REFUSAL = "I'm sorry, but I cannot help with that."
PROSE = "Well, response 1 says more, but response 2 may be read as right by 7 of 10 people."
# What a reply says instead; the same request gets the same one.
IN_REPLIES = {
    "prose": lambda model: PROSE,
    "refusal": lambda model: REFUSAL,
    "range": lambda model: '{"answer": [100, 100, 1400, 300]}' if model == "oracle" else "7",
    "inverted": lambda model: '{"answer": [300, 100, 100, 300]}' if model == "oracle" else "",
}
# What becomes of a request; the next attempt may fare better.
ON_THE_WAY = ("storm", "500", "stall", "cut", "json", "html")
FAULTS = (*IN_REPLIES, *ON_THE_WAY)
_STORM, _STORM_S = 12, 1.0  # requests that a storm of 429 refuses, and how long it lasts at most

Body = dict[str, Any]


def text_of(body: Body) -> str:
    """The user's text."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def tagged(text: str, tag: str) -> str:
    """What stands in a prompt's tag."""
    return re.search(f"<{tag}>\n(.*?)\n</{tag}>", text, re.DOTALL)[1].strip()


def judge(body: Body) -> str:
    """The better of two responses, by equality with a right answer."""
    text = text_of(body)
    right = [line.removeprefix("- ").strip().lower() for line in tagged(text, "right_answers").splitlines()]
    first, second = (tagged(text, f"response_{n}").lower().rstrip(".") in right for n in (1, 2))
    return "0" if first == second else "1" if first else "2"


def first_judge(body: Body) -> str:
    """A judge that likes what it reads first."""
    return judge(body).replace("0", "1")


def oracle(body: Body) -> str:
    """Boxes that depend on image, question and answer."""
    draw = random.Random(digest(body | {"seed": 0, "temperature": 0, "stream": False, "stream_options": None}))
    left, top = draw.randrange(0, 900), draw.randrange(0, 900)
    box = [left, top, draw.randrange(left + 10, 1001), draw.randrange(top + 10, 1001)]
    return json.dumps({"question": [[0, 0, 1000, 100]], "answer": [box]})


MODELS: dict[str, Callable[[Body], str]] = {
    "judge": judge,
    "first-judge": first_judge,
    "oracle": oracle,
    "null": lambda body: "0",
}


def digest(body: Body) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


@dataclass
class Record:
    """What was asked. A question that a client asks before the first row (`max_tokens` 1) is left out.

    Attributes:
        requests, finished: how many came, and how many got a whole reply.
        faults: how often each happened.
        again: [hash, when it finished, when it was asked again] of each finished request that came again.
    """

    requests: int = 0
    finished: int = 0
    probes: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    again: list[tuple[str, float, float]] = field(default_factory=list)


@dataclass
class Script:
    """What the server does.

    Attributes:
        models: replies by the model's name.
        faults: share of requests that each fault happens to.
        only: the faults that happen.
        key: the only bearer token that it takes; None takes any.
        stall_s: how long it says nothing where it stalls.
        delay_s: before each reply.
        blind: whether it refuses images.
        listed: names in its list of models; default: all.
    """

    models: dict[str, Callable[[Body], str]] = field(default_factory=lambda: dict(MODELS))
    faults: float = 0.0
    only: tuple[str, ...] = FAULTS
    seed: int = 0
    key: str | None = None
    stall_s: float = 30.0
    delay_s: float = 0.0
    blind: bool = False
    listed: tuple[str, ...] | None = None
    record: Record = field(default_factory=Record)
    bodies: list[Body] | None = None  # a list keeps them
    _seen: Counter[str] = field(default_factory=Counter)
    _done: dict[str, float] = field(default_factory=dict)
    _storm: int = 0
    _storm_ends: float = 0.0

    def drawn(self, names: tuple[str, ...], *which: object) -> str | None:
        """The fault of a request, if any."""
        if not self.faults or "null" in which:
            return None
        place = random.Random("/".join(map(str, (self.seed, *which)))).random() / self.faults
        name = names[int(place)] if place < len(names) else None
        if name == "storm" and place * _STORM >= 1:
            return None  # the share is that of refused requests
        return name if name in self.only else None

    async def models_list(self, request: web.Request) -> web.Response:
        self.check_key(request)
        names = self.models if self.listed is None else self.listed
        return web.json_response({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})

    def check_key(self, request: web.Request) -> None:
        if self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}":
            raise web.HTTPUnauthorized(text=json.dumps({"error": {"message": "wrong key"}}))

    async def said(self, request: web.Request) -> web.Response:
        return web.json_response(vars(self.record))

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.check_key(request)
        if body["model"] not in self.models:
            return error(404, f"no model {body['model']}")
        if self.blind and not isinstance(body["messages"][-1]["content"], str):
            return error(400, "this model takes no image")
        if body["max_tokens"] == 1:
            self.record.probes += 1
            return await answered(request, body, "0")
        key = digest(body)
        self._seen[key] += 1
        self.record.requests += 1
        if self.bodies is not None:
            self.bodies.append(body)
        if key in self._done:
            self.record.again.append((key, self._done[key], time.time()))
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        failed = await self.failed(request, key)
        if failed is not None:
            return failed
        reply = self.models[body["model"]](body)
        fault = self.drawn(tuple(IN_REPLIES), key)
        if fault is not None:
            self.record.faults[fault] += 1
            reply = IN_REPLIES[fault](body["model"])
        response = await answered(request, body, reply)
        if request.transport is not None and not request.transport.is_closing():
            self._done[key] = time.time()
            self.record.finished += 1
        return response

    async def failed(self, request: web.Request, key: str) -> web.StreamResponse | None:
        """What comes instead of a reply."""
        if self._storm and time.monotonic() < self._storm_ends:
            self._storm -= 1
            return error(429, "slow down", {"Retry-After": "0.05"})
        fault = self.drawn(ON_THE_WAY, key, self._seen[key])
        if fault is None:
            return None
        self.record.faults[fault] += 1
        if fault == "cut":
            response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "9999"})
            await response.prepare(request)
            await response.write(b'{"id": "1", "choices": [{"del')
            request.transport.abort()
            return response
        if fault == "stall":
            await asyncio.sleep(self.stall_s)
        if fault == "storm":
            self._storm, self._storm_ends = _STORM - 1, time.monotonic() + _STORM_S
        return {
            "storm": error(429, "slow down", {"Retry-After": "0.05"}),
            "500": error(500, "oops"),
            "stall": error(500, "nobody waited"),
            "json": web.Response(text='{"choices": [{"mess', content_type="application/json"),
            "html": web.Response(text="<html><body>a proxy's page</body></html>", content_type="text/html"),
        }[fault]

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2**27)
        app.router.add_get("/v1/models", self.models_list)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_get("/record", self.said)
        return app


def error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=status, headers=headers)


async def answered(request: web.Request, body: Body, text: str) -> web.StreamResponse:
    """Send a reply, in pieces where the client wants it so, to its last byte."""
    usage = {"prompt_tokens": len(text_of(body)) // 4, "completion_tokens": len(text) // 4 + 1}
    usage["total_tokens"] = sum(usage.values())
    whole = {"id": "1", "created": 0, "model": body["model"], "usage": usage}
    choice = {"index": 0, "finish_reason": "stop"}
    if not body.get("stream"):
        message = {"role": "assistant", "content": text}
        data = json.dumps({**whole, "object": "chat.completion", "choices": [{**choice, "message": message}]}).encode()
        kind = "application/json"
    else:
        delta = {"role": "assistant", "content": text}
        pieces = [{"choices": [{**choice, "delta": delta}], "usage": None}, {"choices": []}]
        lines = [json.dumps({**whole, "object": "chat.completion.chunk", **piece}) for piece in pieces]
        data = "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode()
        kind = "text/event-stream"
    response = web.StreamResponse(headers={"Content-Type": kind, "Content-Length": str(len(data))})
    await response.prepare(request)
    await response.write_eof(data)
    return response


async def run(script: Script, port: int, ready: Callable[[int, Callable[[], object]], object]) -> None:
    """Serve until what `ready` got with the port is called."""
    loop, until = asyncio.get_running_loop(), asyncio.Event()
    runner = web.AppRunner(script.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    ready(runner.addresses[0][1], lambda: loop.call_soon_threadsafe(until.set))
    await until.wait()
    await runner.cleanup()


@contextmanager
def serving(script: Script):
    """Serve from a thread; yields the address."""
    started: Queue = Queue()
    thread = Thread(target=asyncio.run, args=(run(script, 0, lambda *about: started.put(about)),), daemon=True)
    thread.start()
    port, stop = started.get(timeout=30)
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        stop()
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int, help="0 takes a free one; the first line of output says which")
    parser.add_argument("--faults", type=float, default=0.0, help="share of requests, of each kind")
    parser.add_argument("--only", nargs="*", default=FAULTS, choices=FAULTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stall", type=float, default=30.0, help="s")
    parser.add_argument("--delay", type=float, default=0.0, help="s before each reply")
    parser.add_argument("--key")
    args = parser.parse_args()
    script = Script(
        faults=args.faults,
        only=tuple(args.only),
        seed=args.seed,
        stall_s=args.stall,
        delay_s=args.delay,
        key=args.key,
    )
    asyncio.run(run(script, args.port, lambda port, stop: print(port, flush=True)))


if __name__ == "__main__":
    main()
