"""A terminal that cannot show a character, or that is gone, ends nothing."""

import errno
import os
import subprocess
import sys

import pytest
from report_runs import CHART, POPE, sample, write

from lmms_awares.mini import smoke_data
from lmms_awares.report.read.folders import find_runs

AWARES = [sys.executable, "-m", "lmms_awares"]
ASCII = os.environ | {"PYTHONIOENCODING": "ascii", "COLUMNS": "20"}
PRINTING = "import sys; from lmms_awares.streams import steady_streams; steady_streams(); "


@pytest.fixture
def runs(tmp_path):
    """Two runs, the second with a name that ASCII lacks."""
    made = []
    for index, name in enumerate(("plain", "größer → 好 $x")):
        rows = [sample(i % 2, rtr=0.25 * (index + 1)) for i in range(4)]
        made.append(str(write(tmp_path / name, {POPE: rows, CHART: rows})))
    return made


@pytest.mark.parametrize("form", ["terminal", "markdown", "csv", "json", "latex", "html"])
def test_tables_on_an_ascii_terminal(runs, form):
    result = subprocess.run([*AWARES, "compare", *runs, "--format", form], env=ASCII, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.isascii()
    assert b"POPE" in result.stdout
    said = rb"gr\u00f6\u00dfer" if form == "json" else b"gr??er"  # JSON says every character in ASCII
    assert said in (result.stdout if form == "json" else result.stdout.replace(b"\\", b""))


def test_errors_on_an_ascii_terminal(tmp_path):
    result = subprocess.run([*AWARES, "compare", str(tmp_path / "weiß")], env=ASCII, capture_output=True, check=False)
    assert result.returncode == 2
    assert b"awares: error: " in result.stderr
    assert b"wei\\xdf" in result.stderr


def without_reader(command, **options):
    """Run a command whose output nobody reads: the pipe is closed before anything comes."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False, **options)
    finally:
        os.close(writer)


def test_a_reader_that_left(runs):
    result = without_reader([*AWARES, "compare", *runs])
    assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.parametrize("closing", [">&-", "2>&-", ">&- 2>&-"])
def test_streams_that_were_closed(runs, closing):
    command = ["sh", "-c", f'exec "$@" {closing}', "sh", *AWARES, "compare", *runs]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_full_disk_is_still_an_error():
    with open("/dev/full", "w") as full:  # noqa: PTH123
        script = PRINTING + "print('x' * 100_000); sys.stdout.flush()"
        result = subprocess.run([sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, check=False)
    assert result.returncode == 1
    assert os.strerror(errno.ENOSPC).encode() in result.stderr


def test_what_fits_comes_through_as_it_is():
    script = PRINTING + "print('→ ±'); print('é', file=sys.stderr); sys.stdout.buffer.write(b'raw')"
    result = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONIOENCODING": "utf-8"}, capture_output=True, check=True
    )
    assert (result.stdout.decode(), result.stderr.decode()) == ("→ ±\nraw", "é\n")


def test_an_evaluation_ends_well_whatever_becomes_of_its_terminal(small_checkpoint, tmp_path):
    """lmms-eval's own tables hold ± and arrows; here they meet ASCII, 20 columns, and nobody who reads."""
    data = smoke_data.write(tmp_path / "data", documents=2)
    command = [*AWARES, "eval", "--model", "qwen2_5_vl_lowres", "--tasks", "awares_pope", "--device", "cpu"]
    command += ["--model_args", f"pretrained={small_checkpoint}", "--output_path", str(tmp_path / "out")]
    environment = ASCII | {"AWARES_DATA_ROOT": str(data), "ACCELERATE_USE_CPU": "true"}
    result = without_reader(command, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]
    assert len(find_runs(tmp_path / "out")) == 1
    seen = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert seen.returncode == 0, seen.stderr[-3000:]
    assert seen.stdout.isascii()
    assert b"pope_accuracy" in seen.stdout
