"""No two runs of a folder write the same files."""

from concurrent.futures import ThreadPoolExecutor

from lmms_awares.stamps import unique_stamps


def clock(stamps):
    """A `get_datetime_str` that stands still for a while."""
    left = iter(stamps)
    return lambda timezone="UTC": next(left)


def test_two_runs_of_one_second_get_two_stamps(tmp_path):
    with (
        unique_stamps(tmp_path, clock(["20260101_000000"])) as first,
        unique_stamps(tmp_path, clock(["20260101_000000", "20260101_000000", "20260101_000001"])) as second,
    ):
        assert first(timezone="UTC") == "20260101_000000"
        assert second(timezone="UTC") == "20260101_000001"
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_results_that_are_there_are_not_overwritten(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "20260101_000000_results.json").touch()
    (tmp_path / "20260101_000001_samples_x.jsonl").touch()
    stamps = clock([f"20260101_00000{second}" for second in "012"])
    with unique_stamps(tmp_path, stamps) as stamp:
        assert stamp() == "20260101_000002"


def test_many_at_once(tmp_path):
    def run(_):
        ticks = iter(range(100))
        with unique_stamps(tmp_path / "new", lambda: f"20260101_{next(ticks):06}") as stamp:
            found = stamp()
            (tmp_path / "new" / f"{found}_results.json").touch(exist_ok=False)
            return found

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(run, range(8)))) == 8
