"""The published numbers: complete, parsable, and printed as published."""

import pytest
from report_runs import awares

from lmms_awares.report.tables.paper import paper_table

# The paper's own lines, to hold against what is printed.
TABLE_1 = """
Qwen2.5-VL-7B | 79.80 | 1.00 | 94.00 | 1.00 | 81.10 | 1.00 | 87.87 | 1.00 | 68.80 | 1.00 | 71.20 | 1.00 | 80.46 | 1.00
Qwen2.5-VL-7B-LR | 65.00 | 0.25 | 91.00 | 0.25 | 70.70 | 0.25 | 84.41 | 0.25 | 66.00 | 0.25 | 63.20 | 0.25 | 73.39 | 0.25
Holo-V (50%) | 62.04 | 0.50 | 70.77 | 0.50 | 68.20 | 0.50 | 86.54 | 0.50 | 67.19 | 0.50 | 64.40 | 0.50 | 69.86 | 0.50
Holo-V (70%) | 69.32 | 0.70 | 76.40 | 0.70 | 72.40 | 0.70 | 87.37 | 0.70 | 68.89 | 0.70 | 69.11 | 0.70 | 73.92 | 0.70
SparseVLM (50%) | 73.20 | 0.50 | 83.60 | 0.50 | 75.60 | 0.50 | 85.50 | 0.50 | 68.40 | 0.50 | 54.45 | 0.50 | 73.46 | 0.50
SparseVLM (70%) | 75.80 | 0.70 | 87.20 | 0.70 | 79.30 | 0.70 | 85.40 | 0.70 | 68.50 | 0.70 | 54.45 | 0.70 | 75.11 | 0.70
VisionZIP (50%) | 74.76 | 0.50 | 89.39 | 0.50 | 69.20 | 0.50 | 87.56 | 0.50 | 66.01 | 0.50 | 66.49 | 0.50 | 75.57 | 0.50
VisionZIP (70%) | 76.72 | 0.70 | 90.75 | 0.70 | 72.70 | 0.70 | 87.86 | 0.70 | 64.84 | 0.70 | 65.97 | 0.70 | 76.47 | 0.70
VisionThink | 79.90 | 1.15 | 90.35 | 0.32 | 80.10 | 0.83 | 86.70 | 0.34 | 66.60 | 0.55 | 71.73 | 0.49 | 79.23 | 0.61
AwaRes | 80.64 | 0.32 | 94.43 | 0.28 | 81.30 | 0.42 | 85.73 | 0.27 | 68.50 | 0.43 | 71.20 | 0.42 | 80.30 | 0.36
"""  # noqa: E501
# number: (rows, columns, (row, heading, cell) ...)
SHAPES = {
    2: (4, 4, (1, ("", "LLaMA HR"), "18.87"), (2, ("", "LLaMA LR"), "69.04")),
    3: (7, 18, (6, ("OCRBench", "RTR"), "0.61"), (4, ("Average", "Acc"), "75.43")),
    4: (7, 15, (1, ("V* Bench", "Acc"), "67.02"), (6, ("V* Bench", "RTR"), "0.41")),
    5: (2, 15, (0, ("ChartQA", "WC"), "4.32"), (1, ("Average", "Metric"), "80.47")),
    6: (6, 5, (3, ("", "Samples"), "9000"), (0, ("", "VisionThink"), "")),
    7: (3, 8, (1, ("", "Call Prec."), "48.75"), (2, ("", "Avg. area"), "0.463")),
    8: (5, 9, (3, ("", "Call rate"), "23.0%"), (2, ("", "RTR"), "0.49")),
    9: (3, 5, (0, ("", "Incorrect"), "5.48"), (2, ("", "Valid parse (%)"), "100.00")),
    10: (2, 15, (0, ("DocVQA", "Acc"), "93.6"), (1, ("Average", "RTR"), "0.49")),
    11: (22, 4, (3, ("", "Tool Optimization (GRPO)"), "5e-5"), (18, ("", "Cold-Start (SFT)"), "–")),
}


def test_awares_paper_prints_table_1_as_published():
    lines = awares("paper", "1", "--format", "markdown").stdout.splitlines()
    printed = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    published = [[cell.strip() for cell in line.split("|")] for line in TABLE_1.strip().splitlines()]
    assert printed[2:] == published
    assert printed[0][:3] == ["Model", "ChartQA Acc", "ChartQA RTR"]
    assert printed[0][-2:] == ["Average Acc", "Average RTR"]
    assert any("not measured here" in line for line in lines)
    spaced = [" ".join(line.split()) for line in awares("paper", "1").stdout.splitlines()]
    for row in published:
        assert " ".join(row) in spaced


@pytest.mark.parametrize("number", SHAPES)
def test_tables_are_whole(number):
    rows, columns, *cells = SHAPES[number]
    frame = paper_table(number).frame
    assert frame.shape == (rows, columns)
    for row, heading, text in cells:
        assert frame[heading].iloc[row] == text
    empty = int((frame == "").sum(axis=None))
    assert empty == (18 if number == 6 else 0)  # the values of Table 6 are lost in the text, nothing else is


def test_averages_that_do_not_follow():
    """Exactly those that results/paper/README.md names."""
    found = set()
    for number in (1, 3, 4, 5, 10):
        frame = paper_table(number).frame
        for measures in (("Acc", "ANLS", "Metric"), ("RTR",), ("WC",)):
            columns = [column for column in frame.columns if column[1] in measures]
            if not columns:
                continue
            assert len(columns) == 7
            values = frame[columns].astype(float)
            means, printed = values.iloc[:, :6].mean(axis="columns"), values.iloc[:, 6]
            for row in frame.index[(means - printed).abs() > 0.00501]:
                found.add((number, row, measures[0], printed[row], round(means[row], 4)))
    assert found == {
        (3, 4, "RTR", 0.33, 0.3417),
        (4, 1, "RTR", 0.31, 0.32),
        (4, 4, "Acc", 79.96, 79.9667),
        (4, 4, "RTR", 0.37, 0.3633),
        (10, 0, "Acc", 75.9, 75.95),
    }


def test_published_shares_fit_together():
    """Table 7's F1 follows from its precision and recall; each block of Table 2 sums to all samples."""
    frame = paper_table(7).frame.set_index(("", "Model")).astype(float)
    precision, recall = frame["", "Call Prec."], frame["", "Call Rec."]
    assert (2 * precision * recall / (precision + recall)).tolist() == pytest.approx(frame["", "Call F1"], abs=0.02)
    cells = paper_table(2).frame[[("", "LLaMA LR"), ("", "LLaMA HR")]].astype(float).sum(axis="columns")
    assert (cells[0] + cells[1], cells[2] + cells[3]) == pytest.approx((100, 99.99))


def test_figure_5_of_the_text():
    frame = paper_table("fig5").frame.set_index(("", "Stage")).astype(float)
    assert frame.loc["GRPO"].tolist() == [72.2, 4.9]
    assert frame.loc["Oracle GT", ("", "LR (no call)")] == 80.8
