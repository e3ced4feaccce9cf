"""Prompts: taking published texts out of a file without running it, the cache, and our own prompt.

The fixtures are made up; no published text is in this repository.
"""

import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmms_awares.cache import cache_home
from lmms_awares.crops import CROPS
from lmms_awares.protocol import parse_reply, prompts
from lmms_awares.protocol.get_crops import OWN_PROMPT
from lmms_awares.protocol.prompts import PromptError, Source
from lmms_awares.protocol.published import LiteralError, extract_constant, first_python_block

MODULE = """
import sys
open("x", "w")
PLACES = {"a": "north", "b": ["south", 2]}
TOOL = "LOOK"
SYSTEM = f"Call {TOOL} on {PLACES}."
SECOND = ("Now " "answer " + "briefly.")
"""
TEXTS = {"system": "Call LOOK on {'a': 'north', 'b': ['south', 2]}.", "turn2": "Now answer briefly."}
MARKDOWN = "Intro\n```bash\nls\n```\n```python\nGUIDE = 'Read the map.'\n```\n```python\nGUIDE = 'no'\n```\n"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture(autouse=True)
def made_up_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two published sets of our own, an empty cache, a working directory that would show side effects."""
    pinned = ("someone/thing", "c0ffee")
    sets = {
        "made-up": {
            "system": Source(*pinned, "a/b.py", "SYSTEM", sha256(TEXTS["system"])),
            "turn2": Source(*pinned, "a/b.py", "SECOND", sha256(TEXTS["turn2"])),
        },
        "made-up-readme": {"system": Source(*pinned, "README.md", "GUIDE", sha256("Read the map."))},
    }
    monkeypatch.setattr(prompts, "PUBLISHED", sets)
    monkeypatch.setenv("AWARES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "b.py"
    path.write_text(MODULE)
    return path


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a web server on this machine that offers `tmp_path`."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def translate_path(self, path: str) -> str:
            return str(tmp_path / path.lstrip("/"))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def one_line(error: pytest.ExceptionInfo[ValueError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("X = 'plain'", "plain"),
        ('X = """two\nlines"""', "two\nlines"),
        ("X: str = 'annotated'", "annotated"),
        ("X = 'implicit ' 'join'", "implicit join"),
        ("X = (\n    'in '\n    'parentheses'\n)", "in parentheses"),
        ("X = 'a' + ('b' + 'c')", "abc"),
        ("X = f'no names'", "no names"),
        ("N = 'b'\nX = f'a {N} c {{}}'", "a b c {}"),
        ("N = 'b'\nX = 'a' f'{N}' + 'c'", "abc"),
        ("N = 'b'\nX = f'{N!s}'", "b"),
        (
            "D = {'0': 'x', 'k': [1, None, (2.5, True)]}\nX = f'{D}'",
            "{'0': 'x', 'k': [1, None, (2.5, True)]}",
        ),
        ("N = -3\nX = f'{N}{4}'", "-34"),
        ("N = 'b'\nM = f'<{N}>'\nX = f'{M}'", "<b>"),
        ("X = 'first'\nX = 'last'", "last"),
        ("N = 'old'\nX = f'{N}'\nN = 'new'", "old"),
        ("F = True\nif F:\n    X = 'yes'\nelse:\n    X = 'no'", "yes"),
        ("F = False\nif F:\n    X = 'yes'\nelif F:\n    X = 'maybe'\nelse:\n    X = 'no'", "no"),
        ("F = True\nif F:\n    N = 'in'\nX = f'{N}side'", "inside"),
        ("def f():\n    X = 'local'\nX = 'global'\nclass C:\n    X = 'member'", "global"),
        ("try:\n    import thing\nexcept ImportError:\n    thing = None\nX = 'after'", "after"),
        ("P = '\\d'\nX = 'stray escape before'", "stray escape before"),
        ("X = 'a\\r\\nb'\r\n", "a\r\nb"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_extract_constant(source: str, text: str) -> None:
    assert extract_constant(source, "X") == text


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("Y = 'other'", "no such constant"),
        ("def f():\n    X = 'local'", "no such constant"),
        ("X = str('a')", "Call `str('a')`"),
        ("X = 'a'.upper()", "Call `'a'.upper()`"),
        ("import os\nX = os.sep", "Attribute `os.sep`"),
        ("X = f'{missing}'", "unknown name missing"),
        ("X = f'{later}'\nlater = 'a'", "unknown name later"),
        ("N = open('x', 'w')\nX = f'{N}'", "Call `open('x', 'w')`"),
        ("X = f'{len([1])}'", "Call `len([1])`"),
        ("X = f'{PLACES.keys()}'", "Call `PLACES.keys()`"),
        ("D = {'a': open('x', 'w')}\nX = f'{D}'", "open('x', 'w')"),
        ("N = 'a'\nX = f'{N:>9}'", ":>9"),
        ("N = 'a'\nX = f'{N!r}'", "!r"),
        ("X = 'a' + 1", "BinOp `'a' + 1`"),
        ("X = 'a' * 3", "BinOp `'a' * 3`"),
        ("X = 'a'\nX += 'b'", "AugAssign in line 2"),
        ("X = 'a'\ndel X", "Delete in line 2"),
        ("X, Y = 'a', 'b'", "Assign in line 1"),
        ("D = {}\nD['a'] = open('x', 'w')\nX = f'{D}'", "Assign in line 2"),
        ("try:\n    X = 'a'\nexcept OSError:\n    X = 'b'", "Try in line 1"),
        ("for X in ('a', 'b'):\n    pass", "For in line 1"),
        ("from thing import X", "ImportFrom in line 1"),
        ("import X.part", "Import in line 1"),
        ("def X():\n    return 'a'", "FunctionDef in line 1"),
        ("if open('x', 'w'):\n    X = 'a'", "If in line 1"),
        ("F = 1\nif F:\n    X = 'a'", "If in line 2"),
        ("X = 3", "int is not a string"),
        ("X = b'bytes'", "bytes is not a string"),
        ("X = {[]: 1}", "Dict"),
        ("X = 'a", "not Python"),
        ("X = 'a'\0", "not Python"),
        ("X = " + "(" * 5000, "not Python"),
        ("X = 'a'" + " + 'a'" * 5000, "not Python"),
    ],
)
def test_extract_constant_refuses(source: str, named: str) -> None:
    with pytest.raises(LiteralError) as error:
        extract_constant(source, "X")
    assert "constant X" in one_line(error)
    assert named in one_line(error)
    assert list(Path().iterdir()) == []  # nothing was run


LOCALS = """
N = 'b'
class A:
    X = 'member'
    def f(self):
        if self.x:
            X = 'a ' + N
        else:
            X = self.x
        X += 'c'
        Y = self.y
"""


@pytest.mark.parametrize(("name", "text"), [("A.f.X", "a b"), ("A.X", "member")])
def test_extract_a_local_constant(name: str, text: str) -> None:
    assert extract_constant(LOCALS, name) == text


@pytest.mark.parametrize(
    ("name", "named"),
    [("A.f.Z", "no such"), ("A.g.X", "no such"), ("f.X", "no such"), ("A.f.Y", "Attribute `self.y`")],
)
def test_extract_a_local_constant_refuses(name: str, named: str) -> None:
    with pytest.raises(LiteralError) as error:
        extract_constant(LOCALS, name)
    assert f"constant {name}" in one_line(error)
    assert named in one_line(error)


def test_first_python_block() -> None:
    assert first_python_block(MARKDOWN) == "GUIDE = 'Read the map.'\n"
    assert first_python_block("```python\r\na = 1\r\n```\r\n") == "a = 1\n"
    for without in ("", "```\na = 1\n```\n", "```python\nnot closed\n", "text ```python\na\n```\n"):
        with pytest.raises(LiteralError, match="no ```python block"):
            first_python_block(without)


def test_import_writes_every_part(module: Path, tmp_path: Path) -> None:
    path = prompts.import_prompts("made-up", str(module))
    assert path == tmp_path / "cache" / "prompts" / "made-up.json"
    assert json.loads(path.read_text()) == {
        "name": "made-up",
        "origin": str(module),
        "texts": TEXTS,
        "sha256": {part: sha256(text) for part, text in TEXTS.items()},
    }
    assert list(path.parent.iterdir()) == [path]  # no temporary file is left
    assert list(Path().iterdir()) == []  # the module's open("x", "w") was not run
    for part, text in TEXTS.items():
        assert prompts.load_prompt("made-up", part) == prompts.Prompt("made-up", text)


def test_import_from_markdown_into_a_given_cache(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"\xef\xbb\xbf" + MARKDOWN.replace("\n", "\r\n").encode())
    path = prompts.import_prompts("made-up-readme", str(tmp_path / "README.md"), tmp_path / "other")
    assert path.parent.parent == tmp_path / "other"
    prompt = prompts.load_prompt("made-up-readme", cache_dir=tmp_path / "other")
    assert prompt.text == "Read the map."
    with pytest.raises(PromptError, match="not imported yet"):
        prompts.load_prompt("made-up-readme")


def test_import_from_a_url(module: Path, web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts.import_prompts("made-up", f"{web}/{module.name}")
    assert prompts.load_prompt("made-up").text == TEXTS["system"]
    with pytest.raises(PromptError, match=r"404.*--from FILE"):
        prompts.import_prompts("made-up", f"{web}/absent.py")
    monkeypatch.setattr(Source, "url", f"{web}/{module.name}")
    assert json.loads(prompts.import_prompts("made-up").read_text())["origin"] == f"{web}/{module.name}"


def test_pinned_url() -> None:
    source = prompts.PUBLISHED["made-up"]["system"]
    assert source.url == "https://raw.githubusercontent.com/someone/thing/c0ffee/a/b.py"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (MODULE.replace("briefly", "shortly"), ["sha256", "SECOND", sha256(TEXTS["turn2"])[:12]]),
        (MODULE.replace("SECOND", "THIRD"), ["constant SECOND", "no such constant"]),
        ("<!DOCTYPE html>", ["not Python"]),
        ("SYSTEM = '\\ud800'", ["sha256", "SYSTEM"]),
    ],
)
def test_import_of_another_file_writes_nothing(module: Path, tmp_path: Path, content: str, said: list[str]) -> None:
    module.write_text(content)
    with pytest.raises(PromptError) as error:
        prompts.import_prompts("made-up", str(module))
    for words in ("made-up", "--from FILE", prompts.PUBLISHED["made-up"]["system"].url, *said):
        assert words in one_line(error)
    assert not (tmp_path / "cache").exists()


def test_sha256_mismatch_names_both_digests_and_keeps_the_old_import(module: Path) -> None:
    path = prompts.import_prompts("made-up", str(module))
    before = path.read_bytes()
    module.write_text(MODULE.replace("Now ", "Then "))
    with pytest.raises(PromptError) as error:
        prompts.import_prompts("made-up", str(module))
    assert sha256(TEXTS["turn2"])[:12] in one_line(error)
    assert sha256("Then answer briefly.")[:12] in one_line(error)
    assert path.read_bytes() == before


def test_import_errors(tmp_path: Path, module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PromptError, match="'nothing': choose from made-up, made-up-readme") as error:
        prompts.import_prompts("nothing")
    one_line(error)
    latin = tmp_path / "latin.py"
    latin.write_bytes("SYSTEM = 'é'".encode("latin-1"))
    unreadable = (
        "http://127.0.0.1:9/x",
        "http://bad host/x",
        str(tmp_path / "absent.py"),
        str(tmp_path),
        str(latin),
    )
    for source in unreadable:
        with pytest.raises(PromptError, match="--from FILE") as error:
            prompts.import_prompts("made-up", source)
        assert source in one_line(error)
    monkeypatch.setenv("AWARES_CACHE", str(module))  # a file, not a folder
    with pytest.raises(PromptError, match="AWARES_CACHE") as error:
        prompts.import_prompts("made-up", str(module))
    one_line(error)


def test_load_rechecks_the_cache(module: Path) -> None:
    with pytest.raises(PromptError, match="awares prompts import made-up"):
        prompts.load_prompt("made-up")
    path = prompts.import_prompts("made-up", str(module))
    good = path.read_text()
    changed = good.replace("LOOK", "PEEK")
    # A changed text is refused even when the digest beside it was changed too.
    forged = changed.replace(sha256(TEXTS["system"]), sha256(TEXTS["system"].replace("LOOK", "PEEK")))
    for content in (
        changed,
        forged,
        "{",
        "[]",
        '{"texts": {}}',
        '{"texts": {"system": 1, "turn2": 2}, "origin": ""}',
    ):
        path.write_text(content)
        with pytest.raises(PromptError, match="awares prompts import made-up") as error:
            prompts.load_prompt("made-up")
        one_line(error)
    path.write_text(good)
    assert prompts.load_prompt("made-up").text == TEXTS["system"]


def test_load_a_file(tmp_path: Path) -> None:
    path = tmp_path / "my prompt.txt"
    for stored, text in (
        ("hi\n", "hi"),
        ("hi", "hi"),
        ("hi\n\n", "hi\n"),
        ("a\r\nb\r\n", "a\r\nb"),
    ):
        path.write_bytes(stored.encode())
        prompt = prompts.load_prompt(str(path))
        assert prompt == prompts.Prompt(f"file:my prompt.txt:{sha256(text)[:12]}", text)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(PromptError, match="cannot read"):
        prompts.load_prompt(str(path))


def test_load_builtin_and_unknown(tmp_path: Path, module: Path) -> None:
    assert prompts.load_prompt("own") == prompts.Prompt("own", OWN_PROMPT)
    assert prompts.load_prompt("default") == prompts.Prompt("default", None)
    for spec in ("nothing", str(tmp_path), "You are\n" + "a long text given by mistake " * 50, "~nobody/x"):
        with pytest.raises(PromptError, match=r"own, default, made-up, made-up-readme, .*file") as error:
            prompts.load_prompt(spec)
        assert len(one_line(error)) < 200
    prompts.import_prompts("made-up", str(module))
    for spec in ("own", "made-up", str(module)):
        with pytest.raises(PromptError, match="no part 'nothing': it has system"):
            prompts.load_prompt(spec, "nothing")


def test_cache_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("AWARES_CACHE", "/mine")
    assert cache_home() == Path("/mine")
    monkeypatch.delenv("AWARES_CACHE")
    assert cache_home() == Path("/xdg/lmms-awares")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_home() == Path.home() / ".cache" / "lmms-awares"


def test_published_prompt_for(tmp_path: Path) -> None:
    assert prompts.published_prompt_for("Kimhi/AWARES-Qwen2.5-VL-7B") == "awares-adapter"
    assert prompts.published_prompt_for("senqiao/visionthink-efficient") == "visionthink"
    assert prompts.published_prompt_for("AdaptVision/AdaptVision-7B") == "adaptvision"
    assert prompts.published_prompt_for("nota-ai/ERGO-7B") == "ergo"
    assert prompts.published_prompt_for("Qwen/Qwen2.5-VL-7B-Instruct") is None
    assert prompts.published_prompt_for("someone/AWARES-Qwen2.5-VL-7B") is None
    folder = tmp_path / "awares-qwen2.5-vl-7b"
    assert prompts.published_prompt_for(str(folder)) is None  # no such folder
    folder.mkdir()
    assert prompts.published_prompt_for(f"{folder}/") == "awares-adapter"
    assert prompts.published_prompt_for(str(tmp_path)) is None


def test_list_prompts(module: Path) -> None:
    prompts.import_prompts("made-up", str(module))
    rows = {name: (status, origin) for name, status, origin in prompts.list_prompts()}
    assert list(rows) == ["own", "default", "made-up", "made-up-readme"]
    assert rows["own"][0] == rows["default"][0] == "built in"
    assert rows["made-up"] == ("imported", str(module))
    assert rows["made-up-readme"] == ("not imported", prompts.PUBLISHED["made-up-readme"]["system"].url)


def test_own_prompt_states_the_protocol() -> None:
    regions = OWN_PROMPT.rpartition("Regions")[2]
    for crop in CROPS.values():
        assert re.search(rf"\b{crop.id} {'the whole image' if crop.id == 'all' else crop.name}\b", regions)
    call = parse_reply(OWN_PROMPT.splitlines()[1])
    assert call is not None
    assert (call.status, call.ids) == ("valid", ("0", "5"))


def test_the_real_registry_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    parts = {name: list(texts) for name, texts in prompts.PUBLISHED.items()}
    assert parts == {
        "awares-adapter": ["system"],
        "awares-readme": ["system"],
        "visionthink": ["system", "turn2", "error", "instruction", "result"],
        "adaptvision": ["system", "turn2", "error", "instruction", "result"],
        "ergo": ["system", "turn1", "turn2"],
    }
    for texts in prompts.PUBLISHED.values():
        assert len({source.url for source in texts.values()}) == 1
        for source in texts.values():
            assert re.fullmatch("[0-9a-f]{64}", source.sha256)
            assert re.fullmatch("[0-9a-f]{40}", source.commit)
    assert set(prompts._PROMPT_OF.values()) <= set(prompts.PUBLISHED)
