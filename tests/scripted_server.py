"""An OpenAI-compatible server for tests: it counts as the checkpoint does, replies as told, and fails as told."""

import base64
import io
import json
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

from PIL import Image
from transformers import AutoProcessor

from lmms_awares.engine.chat import ChatFormat
from lmms_awares.tokens import count_visual_tokens

Seen = tuple[list[dict], list[Image.Image], dict]  # messages as the template takes them, images, request


@dataclass
class Script:
    """What the server does.

    Attributes:
        reply: text of a reply to (messages, images, request).
        fault: name of what goes wrong with the so-many-th request, or None; see `Handler.fail`.
        served: entries of its list of models.
        stall_s: how long it says nothing where it stalls.
        key: the only bearer token that it takes; None takes any.
        tells_usage, tells_cache: whether it counts, and whether it says what its cache held.
        held: what it says, of (messages, prompt tokens); None says the longest conversation so far that this one begins
            with.
        extra_tokens: that it counts too many, in every prompt.
    """

    checkpoint: str
    reply: Callable[[list[dict], list[Image.Image], dict], str]
    fault: Callable[[int], str | None] = lambda number: None
    served: list[dict] = field(default_factory=lambda: [{"id": "tiny", "object": "model", "owned_by": "vllm"}])
    stall_s: float = 3.0
    key: str | None = None
    tells_usage: bool = True
    tells_cache: bool = True
    held: Callable[[list[dict], int], int | None] | None = None
    extra_tokens: int = 0
    requests: list[Seen] = field(default_factory=list)
    most_in_flight: int = 0
    _in_flight: int = 0
    _number: int = 0
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self.chat = ChatFormat(AutoProcessor.from_pretrained(self.checkpoint))
        self._past: dict[str, int] = {}

    def next_number(self) -> int:
        with self._lock:
            self._number += 1
            return self._number - 1

    def entered(self, by: int) -> None:
        with self._lock:
            self._in_flight += by
            self.most_in_flight = max(self.most_in_flight, self._in_flight)

    def usage(self, messages: list[dict], images: Sequence[Image.Image], reply: str) -> dict:
        text = self.chat.render_messages(messages)
        visual = sum(count_visual_tokens(*image.size, *self.chat.pixel_limits) for image in images)
        count = self.chat.count(text, visual) + self.extra_tokens
        details = {"cached_tokens": 0, "multimodal_tokens": {"image": visual}} if self.tells_cache else None
        with self._lock:
            if details is not None and self.held is not None:
                details["cached_tokens"] = self.held(messages, count)
            elif details is not None:
                details["cached_tokens"] = max(
                    (n for past, n in self._past.items() if text.startswith(past)), default=0
                )
            self._past[text] = count
        said = len(self.chat.encode_reply(reply))
        return {
            "prompt_tokens": count,
            "completion_tokens": said,
            "total_tokens": count + said,
            "prompt_tokens_details": details,
        }


def opened(messages: list[dict]) -> tuple[list[dict], list[Image.Image]]:
    """Messages as the template takes them, and their images."""
    images: list[Image.Image] = []

    def part(of: dict) -> dict:
        if of["type"] == "text":
            return of
        head, _, data = of["image_url"]["url"].partition(",")
        assert head == "data:image/png;base64"
        images.append(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
        return {"type": "image"}

    return [
        {
            "role": message["role"],
            "content": [{"type": "text", "text": message["content"]}]
            if isinstance(message["content"], str)
            else [part(of) for of in message["content"]],
        }
        for message in messages
    ], images


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    script: Script

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if not self.allowed():
            return
        bodies = {"/v1/models": {"object": "list", "data": self.script.served}, "/version": {"version": "0.test"}}
        if self.path in bodies:
            self.send(200, json.dumps(bodies[self.path]))
        else:
            self.send(404, "<html>not here</html>", "text/html")

    def allowed(self) -> bool:
        if self.script.key is None or self.headers.get("Authorization") == f"Bearer {self.script.key}":
            return True
        self.send(401, json.dumps({"error": {"message": "wrong key"}}))
        return False

    def send(self, status: int, body: str, kind: str = "application/json", **headers: str) -> None:
        data = body.encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.allowed():
            return
        self.script.entered(1)
        try:
            self.answer(body)
        except BrokenPipeError:
            pass  # the client had enough
        finally:
            self.script.entered(-1)

    def answer(self, body: dict) -> None:
        script = self.script
        messages, images = opened(body["messages"])
        fault = script.fault(script.next_number())
        if fault is not None and self.fail(fault):
            return
        script.requests.append((messages, images, body))
        reply = script.reply(messages, images, body)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        middle = len(reply) // 2
        self.piece({"delta": {"role": "assistant", "content": reply[:middle]}})
        if fault == "cut":
            return
        if fault == "broken":
            self.wfile.write(b'data: {"choices": [{"del\n\n')
            return
        if fault == "stall":
            script.entered(-1)  # the client will have gone long before
            time.sleep(script.stall_s)
            script.entered(1)
            return
        self.piece({"delta": {"content": reply[middle:]}, "finish_reason": "stop"})
        if script.tells_usage:
            usage = script.usage(messages, images, reply)
            usage["prompt_tokens"] += fault == "usage"
            self.piece(None, usage=usage)
        self.wfile.write(b"data: [DONE]\n\n")

    def piece(self, choice: dict | None, **more: dict) -> None:
        choices = [] if choice is None else [{"index": 0, "finish_reason": None, **choice}]
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "tiny", "choices": choices}
        self.wfile.write(f"data: {json.dumps(chunk | more)}\n\n".encode())
        self.wfile.flush()

    def fail(self, fault: str) -> bool:
        """Send what is no stream at all. Returns whether that was it."""
        match fault:
            case "429":
                self.send(429, json.dumps({"error": {"message": "slow down"}}), Retry_After="0.05")
            case "500":
                self.send(500, json.dumps({"error": {"message": "oops"}}))
            case "400":
                self.send(400, json.dumps({"error": {"message": "no such thing"}}))
            case "html":
                self.send(200, "<html><body>a proxy's page</body></html>", "text/html")
            case _:
                return False
        return True


@contextmanager
def serving(script: Script):
    """Serve; yields the address."""
    with listening(type("Scripted", (Handler,), {"script": script})) as address:
        yield address


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]):
    """Let a handler answer; yields the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
