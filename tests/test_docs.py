"""README, CONTRIBUTING, CHANGELOG and docs: links lead somewhere, commands parse, numbers are the committed ones."""

import itertools
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import typer
from markdown_it import MarkdownIt
from typer.core import TyperGroup

from lmms_awares.cli import app
from lmms_awares.host_tasks import expand
from lmms_awares.mini.excerpt import WHAT, excerpt
from lmms_awares.models import MODELS
from lmms_awares.models.config import ARGS
from lmms_awares.plan import plan_of

ROOT = Path(__file__).parent.parent
RUN = ROOT / "results" / "runs" / "mini"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "results" / "paper").glob("*.md"),
        RUN / "README.md",
        ROOT / "lmms_awares" / "mini" / "checkpoint" / "README.md",
    ]
)
UsageError = typer.BadParameter.__base__  # click's, or that of the copy which newer versions of typer bring along
WIDTH = 122  # characters of a line that is no table, link or code


def named(page):
    return str(page.relative_to(ROOT))


def tokens(page):
    """All Markdown tokens of a page, inline ones after the block that holds them."""
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8")):
        yield token
        yield from token.children or []


def links(page):
    """Targets of a page's links and pictures."""
    for token in tokens(page):
        target = token.attrs.get({"link_open": "href", "image": "src"}.get(token.type, ""))
        if target is not None:
            yield target


def anchors(page):
    """Anchors that GitHub gives a page's headings."""
    before = None
    found = set()
    for token in tokens(page):
        if token.type == "inline" and before == "heading_open":
            text = "".join(child.content for child in token.children)
            found.add(re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-"))
        before = token.type
    return found


def broken(page):
    """Relative links of a page that lead nowhere."""
    for link in links(page):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


def commands(page):
    """Command lines of `awares` in a page's code blocks, as words."""
    for token in tokens(page):
        if token.type == "fence" and token.info == "bash":
            for line in token.content.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["awares"]:
                    stop = next((i for i, word in enumerate(words) if word in {">", "|", "&&"}), None)
                    yield words[1:stop]


def resolved(words):
    """The command that the first words name, and the words behind them.

    Raises:
        UsageError: there is no such command.
    """
    command = typer.main.get_command(app)
    while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            raise UsageError(f"no command {words[0]}")
        command, words = command.commands[words[0]], words[1:]
    return command, list(words)


def parse(words):
    """Parse a command line as `awares` would, without running it.

    Raises:
        UsageError: there is no such command or option, or a value that it does not take.
    """
    command, rest = resolved(words)
    command.make_context("awares", rest)


def check_command(words, added=frozenset()):
    """That `awares` takes these words: our own parser, and for `eval` also models, their arguments and tasks.

    `added`: tasks that the page itself shows how to add.
    """
    if words[0] != "eval":
        parse(words)
        return
    plan, _ = plan_of(words[1:])
    assert plan.model in MODELS, words
    given = {argument.partition("=")[0] for argument in plan.model_args.split(",") if argument}
    assert given <= ARGS[plan.model].model_fields.keys(), words
    assert plan.own_tasks or expand(plan) or set(plan.tasks.split(",")) <= added, words


def test_pages_are_found():
    assert {"README.md", "CONTRIBUTING.md", "docs/evaluating.md", "docs/methods/holov.md"} <= set(map(named, PAGES))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_relative_links_and_anchors_exist(page):
    assert list(broken(page)) == []


def test_a_broken_link_or_anchor_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two`, three\n\n[a](page.md#one-two-three) [b](#four) [c](gone.md) ![d](e.png) [f](https://x)\n"
    )
    assert list(broken(page)) == ["#four", "gone.md", "e.png"]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_line_names_a_registrys_host(page):
    hosts = r"pypi[.]org|pythonhosted[.]org|npmjs[.](org|com)|crates[.]io|proxy[.]golang[.]org|conda[.]anaconda[.]org"
    assert re.search(hosts, page.read_text(encoding="utf-8")) is None


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_are_the_programs_own(page):
    added = set(re.findall(r"^task: (\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE))
    for words in commands(page):
        check_command(words, added)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_named_in_the_text_exist(page):
    for token in tokens(page):
        if token.type == "code_inline" and token.content.startswith("awares "):
            names = itertools.takewhile(str.islower, token.content.split()[1:])
            resolved([name for name in names if name.isalpha()])


@pytest.mark.parametrize(
    "words",
    [["compare", "RUN", "--no-such-option"], ["compare", "--table", "none"], ["mini", "fly"], ["regress", "power"]],
)
def test_a_wrong_command_does_not_parse(words):
    with pytest.raises(UsageError):
        parse(words)


def test_the_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > WIDTH and not line.startswith("|")] == []


def test_the_readmes_table_is_the_committed_runs():
    shown = (ROOT / "README.md").read_text(encoding="utf-8")
    command = "python -m lmms_awares.mini.excerpt results/runs/mini/table.csv"
    block = re.search(rf"<!-- {re.escape(command)} -->\n(.*?)\n<!-- end -->", shown, re.DOTALL)[1]
    words = [sys.executable, *command.split()[1:]]
    printed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert block == printed.strip()
    cells = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in block.splitlines()]
    assert [len(row) for row in cells] == [6] * (2 + 8)
    # the averages that `awares compare` itself printed
    whole = pd.read_csv(RUN / "table_wide.csv").set_index("method")
    assert f"[All {len(whole)} rows" in shown
    for method, score, rtr, _, latency, _ in cells[2:]:
        printed = whole.loc[method, ["average score", "average RTR", "average latency s"]]
        assert abs(float(score) - printed.iloc[0]) < 0.06
        assert abs(float(rtr) - printed.iloc[1]) < 0.006
        assert abs(float(latency.removesuffix(" s")) - printed.iloc[2]) < 0.006
    shares = {row[0]: row[3] for row in cells[2:]}
    assert shares["qwen2_5_vl_full"] == "-" and re.fullmatch(r"\d+ %", shares["awares"])


def test_a_missing_row_is_named(tmp_path):
    table = pd.read_csv(RUN / "table.csv")
    table[table["method"] != "visionthink"].to_csv(tmp_path / "table.csv", index=False)
    with pytest.raises(ValueError, match="has no row visionthink; run"):
        excerpt(tmp_path / "table.csv")
    assert len(WHAT) == 8


def index_rows():
    """The paper index as (item, all cells) per line."""
    text = (ROOT / "docs" / "paper_index.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[2:]]
    return [(row[0], row) for row in rows]


def quoted(cell):
    return re.findall(r"`([^`]+)`", cell)


def test_the_index_has_every_equation_table_and_figure_once():
    numbered = {"Eq.": [], "Table": [], "Fig.": []}
    for item, _ in index_rows():
        kind, _, number = item.partition(" ")
        if kind in numbered:
            first, _, last = number.partition("-")
            numbered[kind] += range(int(first), int(last or first) + 1)
    assert numbered == {"Eq.": [*range(1, 10)], "Table": [*range(1, 12)], "Fig.": [*range(1, 16)]}


@pytest.mark.parametrize(("item", "row"), index_rows(), ids=lambda value: value if isinstance(value, str) else "")
def test_the_index_names_what_there_is(item, row):
    _, what, function, command, tests = row
    assert what
    dotted = [name for name in quoted(function) if name.startswith("lmms_awares.")]
    for name in dotted:
        pkgutil.resolve_name(name)
    assert dotted or re.match(r"not reproduced here: .{20}", function)
    assert bool(quoted(tests)) == bool(dotted), "what there is has a test"
    for name in quoted(tests):
        file, _, test = name.partition("::")
        assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), name
    for line in quoted(command):
        check_command(shlex.split(line)[1:])
