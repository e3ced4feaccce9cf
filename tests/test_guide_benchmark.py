"""docs/adding_a_benchmark.md, followed to the letter: one record, one YAML, and everything stays green."""

import re

import pytest
from guides import add_line, blocks, copy_of_repository, run

NAME = "infovqa_val"
(RECORD,) = blocks("adding_a_benchmark.md")
(YAML,) = blocks("adding_a_benchmark.md", "yaml")


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy in which a reader has added the guide's benchmark."""
    folder = copy_of_repository(tmp_path_factory.mktemp("guide") / "repository")
    add_line(folder / "tasks" / "benchmarks.py", RECORD, before="}")
    (folder / "tasks" / f"awares_{NAME}.yaml").write_text(YAML)
    return folder


def test_style_and_types(repository):
    run(repository, "ruff", "check", "--no-cache", "tasks")
    run(repository, "ruff", "format", "--check", "--no-cache", "tasks")
    run(repository, "mypy", "--cache-dir", "mypy", "tasks/benchmarks.py")


@pytest.mark.long
def test_the_shared_tests_take_it_up(repository):
    """Scores of lmms-eval's own evaluator, columns, files and groups; its smoke data pass the checks of values."""
    tests = ["tests/test_tasks.py", "tests/test_values.py"]
    words = f"{NAME} or what_is_there or suite or repeatable or stay_unread or mini_suite"
    printed = run(repository, "pytest", "-vv", "-p", "no:cacheprovider", *tests, "-k", words)
    for test in ("scores_are_lmms_evals_own", "a_sample_has_the_columns_that_its_record_names"):
        assert f"test_{test}[{NAME}] PASSED" in printed
    assert f"test_every_task_has_its_file[awares_{NAME}] PASSED" in printed


def test_what_lists_the_benchmarks_stays_green(repository):
    """Tables, figures, the committed run of the mini suite, the import stairs; and the command shows it."""
    tests = [f"tests/test_{name}.py" for name in ("compare", "plots", "mini_checkpoint", "imports")]
    words = "order or by_hand or paper or averages or committed or circle"
    run(repository, "pytest", "-q", "-p", "no:cacheprovider", *tests, "-k", words)
    listed = run(repository, "lmms_awares", "tasks", "list")
    assert re.search(rf"awares_{NAME} +validation +anls +columns: image, question, answers", listed)
    group = next(line for line in listed.splitlines() if line.startswith("awares_suite"))
    assert NAME not in group
