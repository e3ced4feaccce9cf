"""The journal: what was finished is found again after any kill, across ranks; keys tell all inputs apart."""

import shutil
from pathlib import Path

import pytest
from harness import CONDITIONS
from hypothesis import given, settings
from hypothesis import strategies as st

from lmms_awares.journal import Entry, Journal, digest
from lmms_awares.trace import SCHEMA_VERSION, Trace, TurnTrace


def make_entry(key: str, answer: str = "5", failed: str | None = None) -> Entry:
    return Entry(
        key=key,
        task="awares_chartqa",
        split="test",
        doc_id=7,
        answer=answer,
        input_tokens=120,
        output_tokens=3,
        trace=Trace(
            model="awares",
            method="awares",
            view="lowres",
            prompt="own",
            turns=[TurnTrace(text=answer, new_tokens=3, seconds=0.1)],
            failed=failed,
            conditions=CONDITIONS,
        ),
    )


def journal_with(path: Path, *entries: Entry, rank: int = 0) -> Journal:
    journal = Journal(path, rank)
    for entry in entries:
        journal.add(entry)
    return journal


# ---------------------------------------------------------------- add, get, resume


def test_added_entry_is_found(tmp_path: Path) -> None:
    journal = journal_with(tmp_path / "j.jsonl", make_entry("a", "yes"))
    assert journal.get("a") == make_entry("a", "yes")
    assert journal.get("b") is None


def test_new_journal_is_empty(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    assert journal.reusable == 0
    assert journal.get("") is None


def test_each_entry_is_on_disk_at_once(tmp_path: Path) -> None:
    """A kill gives no chance to close the file, so the file is read while the writer is still alive."""
    path = tmp_path / "j.jsonl"
    writer = Journal(path)
    for count, key in enumerate("abc", start=1):
        writer.add(make_entry(key))
        assert len(path.read_bytes().split(b"\n")) == count + 1
        assert Journal(path).get(key) == make_entry(key)


def test_resume(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal_with(path, make_entry("a", "1"), make_entry("b", "2"))
    second = Journal(path)
    assert second.reusable == 2
    assert second.get("a") == make_entry("a", "1")
    second.add(make_entry("c", "3"))
    third = Journal(path)
    assert third.reusable == 3
    assert [third.get(key) for key in "abc"] == [make_entry("a", "1"), make_entry("b", "2"), make_entry("c", "3")]


def test_resume_does_not_touch_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal_with(path, make_entry("a"))
    before = path.read_bytes()
    Journal(path)
    assert path.read_bytes() == before


def test_latest_entry_of_a_key_counts(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = journal_with(path, make_entry("a", "old"), make_entry("a", "new"))
    assert journal.get("a") == Journal(path).get("a") == make_entry("a", "new")
    assert Journal(path).reusable == 1


ODD_TEXTS = {
    "newlines": "a\nb\r\nc\rd",
    "control characters": "\0\x01\x0b\x0c\x1c\x1d\x1e\x1f",
    "next line": "a\x85b",
    "line separator": "a\u2028b",
    "paragraph separator": "a\u2029b",
    "unicode": "答案 🔍 é\u0301 \ufeff",
    "quotes": "\"'\\",
    "empty": "",
}


@pytest.mark.parametrize("answer", ODD_TEXTS.values(), ids=ODD_TEXTS)
def test_resume_with_any_answer(tmp_path: Path, answer: str) -> None:
    path = tmp_path / "j.jsonl"
    journal_with(path, make_entry("a", answer), make_entry("b"))
    assert Journal(path).get("a") == make_entry("a", answer)
    assert Journal(path).get("b") == make_entry("b")


@given(answer=st.text())
@settings(deadline=None, max_examples=50)
def test_resume_with_text(tmp_path_factory: pytest.TempPathFactory, answer: str) -> None:
    path = tmp_path_factory.mktemp("journal") / "j.jsonl"
    journal_with(path, make_entry("a", answer))
    assert Journal(path).get("a") == make_entry("a", answer)


# ---------------------------------------------------------------- torn files


def test_last_line_torn_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal_with(path, make_entry("a", "1"), make_entry("b", "2"))
    kept = path.read_bytes()
    journal_with(path, make_entry("torn", "答案 é 🔍"))  # so that some cuts fall inside a character
    whole = path.read_bytes()
    for length in range(len(kept), len(whole) + 1):
        path.write_bytes(whole[:length])
        resumed = Journal(path)
        assert resumed.get("a") == make_entry("a", "1")
        assert resumed.get("b") == make_entry("b", "2")
        # Only the line feed may be missing from a line that is read.
        assert (resumed.get("torn") is not None) == (length >= len(whole) - 1), length
        resumed.add(make_entry("c", "3"))
        again = Journal(path)
        assert [again.get(key) for key in "abc"] == [make_entry("a", "1"), make_entry("b", "2"), make_entry("c", "3")]
        assert again.get("torn") == resumed.get("torn")


def test_several_torn_lines(tmp_path: Path) -> None:
    """A run that is killed again and again."""
    path = tmp_path / "j.jsonl"
    for key in "abc":
        journal_with(path, make_entry(key), make_entry("torn"))
        path.write_bytes(path.read_bytes()[:-20])
    journal = Journal(path)
    assert journal.reusable == 3
    assert all(journal.get(key) == make_entry(key) for key in "abc")


@pytest.mark.parametrize(
    "garbage",
    [b"\n", b"\n\n", b"not json\n", b"{}\n", b"[]\n", b"\xff\xfe\n", b"\0" * 64 + b"\n", b'{"key": "a"}\n'],
    ids=["blank", "blanks", "text", "object", "list", "no utf-8", "zeros", "short"],
)
def test_unreadable_lines_are_skipped(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "j.jsonl"
    journal_with(path, make_entry("a"))
    path.write_bytes(garbage + path.read_bytes() + garbage)
    journal_with(path, make_entry("b"))
    assert Journal(path).reusable == 2
    assert Journal(path).get("a") == make_entry("a")


def test_entry_of_another_schema_version_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal_with(path, make_entry("a"), make_entry("b"))
    lines = path.read_text().splitlines()
    field = f'"schema_version":{SCHEMA_VERSION}'
    lines[0] = lines[0].replace(field, f'{field},"field_of_the_future":0')
    path.write_text("\n".join(lines) + "\n")
    assert Journal(path).get("a") is None
    assert Journal(path).get("b") == make_entry("b")


# ---------------------------------------------------------------- failed samples


def test_failed_entry_is_recorded_and_never_reused(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = journal_with(path, make_entry("a"), make_entry("bad", "", failed="out of memory"))
    assert journal.get("bad") is None
    resumed = Journal(path)
    assert resumed.get("bad") is None
    assert resumed.reusable == 1
    assert "out of memory" in path.read_text()


def test_failed_sample_that_works_later_is_reused(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal_with(path, make_entry("a", "", failed="out of memory"))
    journal_with(path, make_entry("a", "5"))
    assert Journal(path).get("a") == make_entry("a", "5")
    assert Journal(path).reusable == 1


def test_failure_on_another_rank_does_not_hide_a_later_success(tmp_path: Path) -> None:
    """Two ranks, one sample fails on rank 1; the resumed run has one rank, which answers it."""
    path = tmp_path / "j.jsonl"
    journal_with(path, make_entry("a", "", failed="out of memory"), rank=1)
    journal_with(path, make_entry("a", "5"), rank=0)
    assert Journal(path).get("a") == make_entry("a", "5")


# ---------------------------------------------------------------- ranks and places


def test_ranks_write_their_own_files_and_read_all(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    ranks = [Journal(path, rank) for rank in range(3)]
    for rank, journal in enumerate(ranks):
        journal.add(make_entry(f"k{rank}", str(rank)))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["j.jsonl", "j.rank1.jsonl", "j.rank2.jsonl"]
    assert all(len(file.read_text().splitlines()) == 1 for file in tmp_path.iterdir())
    for rank in range(4):  # also one that did not run before
        resumed = Journal(path, rank)
        assert resumed.reusable == 3
        assert [resumed.get(f"k{k}") for k in range(3)] == [make_entry(f"k{k}", str(k)) for k in range(3)]


def test_torn_line_of_one_rank_costs_only_that_line(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal_with(path, make_entry("a"))
    journal_with(path, make_entry("b"), make_entry("torn"), rank=1)
    other = tmp_path / "j.rank1.jsonl"
    other.write_bytes(other.read_bytes()[:-9])
    journal_with(path, make_entry("c"))
    journal_with(path, make_entry("d"), rank=1)
    resumed = Journal(path)
    assert [resumed.get(key) is not None for key in ("a", "b", "torn", "c", "d")] == [True, True, False, True, True]


def test_unrelated_journals_in_the_same_folder_are_not_read(tmp_path: Path) -> None:
    journal_with(tmp_path / "j.jsonl", make_entry("a"))
    journal_with(tmp_path / "other.jsonl", make_entry("b"))
    journal_with(tmp_path / "j2.jsonl", make_entry("c"), rank=1)
    assert Journal(tmp_path / "j.jsonl").reusable == 1


def test_folder_as_path(tmp_path: Path) -> None:
    journal_with(tmp_path, make_entry("a"))
    journal_with(tmp_path, make_entry("b"), rank=1)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["journal.jsonl", "journal.rank1.jsonl"]
    assert Journal(tmp_path).reusable == 2
    assert Journal(tmp_path / "journal.jsonl").get("b") == make_entry("b")


@pytest.mark.parametrize(
    "name", ["j", "a.b.jsonl", "with blank.jsonl", "run[1].jsonl", "a*b.jsonl", "what?.jsonl", "größe.jsonl"]
)
def test_any_file_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    journal_with(path, make_entry("a"))
    journal_with(path, make_entry("b"), rank=1)
    assert path.is_file()
    assert Journal(path).reusable == 2


def test_missing_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deeper" / "j.jsonl"
    journal_with(path, make_entry("a"))
    assert Journal(path).get("a") == make_entry("a")


def test_moved_journal_still_works(tmp_path: Path) -> None:
    journal_with(tmp_path / "j.jsonl", make_entry("a"))
    shutil.copytree(tmp_path, tmp_path / "copy")
    assert Journal(tmp_path / "copy" / "j.jsonl").get("a") == make_entry("a")


def test_unwritable_place_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "j.jsonl", tmp_path / "file" / "deeper" / "j.jsonl"):
        with pytest.raises(OSError, match="file"):
            Journal(path)


# ---------------------------------------------------------------- digest

json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def test_digest_is_hex_sha256_and_stable() -> None:
    assert digest() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert digest("a", b"b", {"c": [1, 2.5, None]}) == digest("a", b"b", {"c": [1, 2.5, None]})
    assert len(digest("a")) == 64


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})


PARTS = ("chartqa", 7, b"pixels", {"prompt": "own", "limits": [4, 16], "seed": None}, True, 0.5)
CHANGES = {
    "text": ("chartqb", *PARTS[1:]),
    "case": ("Chartqa", *PARTS[1:]),
    "number": (*PARTS[:1], 8, *PARTS[2:]),
    "number as text": (*PARTS[:1], "7", *PARTS[2:]),
    "bytes": (*PARTS[:2], b"pixel\0", *PARTS[3:]),
    "bytes longer": (*PARTS[:2], b"pixels\0", *PARTS[3:]),
    "no bytes": (*PARTS[:2], b"", *PARTS[3:]),
    "value in a mapping": (*PARTS[:3], {"prompt": "own", "limits": [4, 16], "seed": 0}, *PARTS[4:]),
    "order in a list": (*PARTS[:3], {"prompt": "own", "limits": [16, 4], "seed": None}, *PARTS[4:]),
    "key dropped": (*PARTS[:3], {"prompt": "own", "limits": [4, 16]}, *PARTS[4:]),
    "flag": (*PARTS[:4], False, *PARTS[5:]),
    "flag as number": (*PARTS[:4], 1, *PARTS[5:]),
    "fraction": (*PARTS[:5], 0.25),
    "part dropped": PARTS[:-1],
    "part added": (*PARTS, None),
    "parts swapped": (PARTS[1], PARTS[0], *PARTS[2:]),
}


@pytest.mark.parametrize("changed", CHANGES.values(), ids=CHANGES)
def test_digest_changes_with_any_part(changed: tuple) -> None:
    assert digest(*changed) != digest(*PARTS)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((b"ab", b"c"), (b"a", b"bc")),
        ((b"ab", b"c"), (b"abc",)),
        ((b"abc", b""), (b"abc",)),
        ((b"", b"abc"), (b"abc", b"")),
        (("ab", "c"), ("a", "bc")),
        (("a", "b"), (["a", "b"],)),
        ((1, 2), (12,)),
        ((), (b"",)),
    ],
    ids=str,
)
def test_digest_keeps_parts_apart(first: tuple, second: tuple) -> None:
    assert digest(*first) != digest(*second)


@given(st.lists(st.binary(max_size=6), max_size=4), st.lists(st.binary(max_size=6), max_size=4))
def test_digest_of_bytes_is_equal_only_for_equal_parts(first: list[bytes], second: list[bytes]) -> None:
    assert (digest(*first) == digest(*second)) == (first == second)


@given(st.binary(), st.data())
def test_digest_sees_where_bytes_are_cut(blob: bytes, data: st.DataObject) -> None:
    one, two = (data.draw(st.integers(0, len(blob))) for _ in range(2))
    same = digest(blob[:one], blob[one:]) == digest(blob[:two], blob[two:])
    assert same == (one == two)


def canonical(value: object) -> object:
    """The value with its types: == alone takes True for 1."""
    if isinstance(value, dict):
        return frozenset((key, canonical(inner)) for key, inner in value.items())
    if isinstance(value, list):
        return tuple(canonical(inner) for inner in value)
    return type(value), value


@given(json_value, json_value)
@settings(deadline=None)
def test_digest_of_json_values_is_equal_only_for_equal_values(first: object, second: object) -> None:
    assert (digest(first) == digest(second)) == (canonical(first) == canonical(second))
    assert digest(first, second) != digest([first, second])
