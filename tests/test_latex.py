"""Tables in LaTeX: names, marks, captions, panels; and that pdflatex sets them without an overfull box."""

import os
import re
import shutil
import subprocess

import pandas as pd
import pytest
from report_runs import CHART, POPE, awares, pope, sample, write
from test_docs import RUN

from lmms_awares.report.tables import render
from lmms_awares.report.tables.columns import average_first, chosen, transposed
from lmms_awares.report.tables.latex import latex
from lmms_awares.report.tables.names import display_names
from lmms_awares.report.tables.paper import TITLES, paper_table
from lmms_awares.report.tables.ranks import BEST, SECOND, ranks
from lmms_awares.report.tables.table import Table, frame_of

KINDS = ("main", "latency", "length", "cost", "calls", "format", "hard")
MEASURES = ("nominal", "latency s", "score", "F1", "RTR")


def full_table():
    """The committed table of the demonstration, all its rows, with what stands below it."""
    frame = pd.read_csv(RUN / "table_wide.csv", dtype=str, keep_default_na=False)
    ends = [next((name for name in MEASURES if heading.endswith(f" {name}")), heading) for heading in frame.columns]
    pairs = [(heading.removesuffix(end).strip(), end) for heading, end in zip(frame.columns, ends, strict=True)]
    frame.columns = pd.MultiIndex.from_tuples(pairs)
    lines = [line[2:] for line in (RUN / "table.md").read_text(encoding="utf-8").splitlines() if line.startswith("- ")]
    return average_first(Table("Score (0-100) and RTR per benchmark", frame, [], lines, "main"))


def compiled(text, folder, document="{article}"):
    """The log of pdflatex on a document with this text, each line whole."""
    pdflatex = shutil.which("pdflatex")
    if pdflatex is None:
        pytest.skip("pdflatex is not installed (Debian: texlive-latex-base and texlive-latex-recommended)")
    lines = [rf"\documentclass{document}", r"\usepackage{booktabs,graphicx}", r"\begin{document}", text, "Text."]
    (folder / "paper.tex").write_text("\n".join([*lines, r"\end{document}"]), encoding="utf-8")
    command = [pdflatex, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    subprocess.run(command, cwd=folder, capture_output=True, check=False, env=os.environ | {"max_print_line": "10000"})
    return (folder / "paper.log").read_text(encoding="latin-1")


def complaints(log):
    """What is wrong with a compiled document."""
    lines = re.findall(
        r"^(?:Overfull|!|LaTeX Warning: (?!Label\(s\)|.*may have changed)|Missing character).*", log, re.M
    )
    return lines if "Output written" in log else ["no output", *lines]


@pytest.mark.parametrize("document", ["{article}", "[twocolumn]{article}", "[a5paper,11pt]{article}"])
def test_the_full_table_fits_the_line(document, tmp_path):
    table = full_table()
    assert len(table.frame) == 25
    text = latex(table)
    if "twocolumn" in document:
        text = text.replace("{table}", "{table*}").replace(r"\addtocounter{table*}", r"\addtocounter{table}")
    short = latex(chosen(table, ["average", "chartqa score"])).replace("tab:main", "tab:short")
    log = compiled(f"{text}\n{short}\nTable~\\ref{{tab:main}}", tmp_path, document)
    wrong = [line for line in complaints(log) if "undefined" not in line]  # which a second run would mend
    assert [line for line in wrong if not ("a5paper" in document and "Float too large" in line)] == []


def test_an_overfull_box_would_be_found(tmp_path):
    text = latex(full_table()).replace(r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}", r"\mbox")
    assert any("Overfull" in line for line in complaints(compiled(text.replace(r"\scriptsize", ""), tmp_path)))


def test_every_published_table_compiles(tmp_path):
    text = "\n\n".join(latex(paper_table(name)) for name in TITLES)
    assert complaints(compiled(text + r"\clearpage", tmp_path)) == []


def test_every_kind_and_every_name_compiles(pair, tmp_path):
    hostile = write(tmp_path / "größer → 好 $x_1 & 50% #^~\\{}\n", {POPE: [pope("yes", "no")], CHART: [sample()]})
    runs = [*pair, hostile]
    texts = [awares("compare", *runs, "--table", kind, "--format", "latex").stdout for kind in KINDS]
    texts.append(awares("compare", *runs, "--transpose", "--ci", "--format", "latex").stdout)
    texts[-1] = texts[-1].replace("tab:main", "tab:transposed")
    assert complaints(compiled("\n".join(texts) + r"\clearpage", tmp_path)) == []


def rows_of(text):
    """The body's rows of a LaTeX table, by the method's name; all panels together."""
    found = {}
    for line in re.findall(r"^(.*) \\\\$", text, re.M):
        name, *cells = line.split(" & ")
        if cells and not line.startswith(r"\multicolumn"):
            found.setdefault(name, []).extend(cells)
    return found


def test_no_cell_is_lost_between_panels():
    table = full_table()
    text = latex(table)
    found = rows_of(text)
    assert text.count(r"\begin{tabular}") > 1
    assert text.count(r"\label{tab:main}") == 1
    assert text.count("(continued)") == text.count(r"\begin{table}") - 1
    names = display_names(table.frame["", "method"])
    for row in table.frame.to_numpy().tolist():
        bare = [
            re.sub(r"\\(?:textbf|underline)\{(.*)\}", r"\1", cell) for cell in found[names[row[0]].replace("%", r"\%")]
        ]
        assert bare == row[1:], row
    assert found["Method"][:4] == ["Nominal", "Score", "RTR", "Latency (s)"]  # the average first


def marked(rows, measures):
    frame = frame_of([{("", "method"): row} | dict(zip(measures, cells, strict=True)) for row, cells in rows.items()])
    return Table("T", frame)


SOME = {
    "awares": ("90.00", "0.30", "-", "0.7"),
    "visionzip@0.5": ("95.00*", "0.50", "2.00", "0.1"),
    "holov@0.5": ("90.00", "0.5", "3.00", "0.2"),
    "sparsevlm@0.5": ("80.50", "0.70", "2.0", "0.2"),
    "awares:oracle": ("99.00", "0.10", "1.00", "0.2"),
    "AwaRes [paper]": ("99.90", "0.01", "0.50", "0.1"),
}
COLUMNS = (("POPE", "score"), ("POPE", "RTR"), ("average", "latency s"), ("", "area"))


def test_best_and_second_by_hand():
    """Ties are all marked; stars, controls and published rows are not; nothing is better about an area."""
    table = marked(SOME, COLUMNS)
    best = {"awares": [BEST, BEST, "", ""], "visionzip@0.5": ["", SECOND, BEST, ""]}
    best |= {"holov@0.5": [BEST, SECOND, SECOND, ""], "sparsevlm@0.5": [SECOND, "", BEST, ""]}
    found = ranks(table.frame).set_axis(table.frame["", "method"], axis="index").iloc[:, 1:]
    for row in SOME:
        assert found.loc[row].tolist() == best.get(row, [""] * 4), row
    turned = ranks(transposed(table).frame)
    assert turned.iloc[:, 2:].to_numpy().T.tolist() == found.to_numpy().tolist()
    text = latex(table)
    assert r"AwaRes & \textbf{90.00} & \textbf{0.30} & - & 0.7 \\" in text
    assert r"Holo-V (50\%) & \textbf{90.00} & \underline{0.5} & \underline{3.00} & 0.2 \\" in text
    assert "Best in bold, second best underlined, controls and published rows aside." in text


def test_what_is_not_an_alternative_is_not_ranked():
    benchmarks = frame_of([{("", "benchmark"): name, ("", "F1"): cell} for name, cell in (("a", "1"), ("b", "2"))])
    assert not (ranks(benchmarks) != "").any(axis=None)
    assert not (ranks(marked({"awares": ("1", "1")}, COLUMNS[:2]).frame) != "").any(axis=None)  # one row alone
    settings = frame_of([{("", "LR"): rate, ("", "method"): name} for name, rate in (("a", "1e-4"), ("b", "1"))])
    assert not (ranks(settings) != "").any(axis=None)


def test_names_of_a_paper():
    shown = display_names(["awares", "awares:always_full", "pruned+random@0.7", "visionzip@0.5", "mine@0.5", "x (a/b)"])
    assert list(shown.values()) == [
        "AwaRes",
        "AwaRes (always full)",
        "Random (70%)",
        "VisionZip (50%)",
        "mine@0.5",
        "x (a/b)",
    ]
    assert display_names(["awares (runs/a_1)"])["awares (runs/a_1)"] == "AwaRes (runs/a_1)"
    assert display_names(["pruned+holov@0.5", "holov@0.5"]) == {
        name: name for name in ("pruned+holov@0.5", "holov@0.5")
    }
    committed = full_table().frame["", "method"]
    assert all(name != method for method, name in display_names(committed).items())


def test_the_caption_says_under_which_conditions(pair, tmp_path):
    rows = {CHART: [sample()] * 3, POPE: [pope("yes", "yes")] * 2}
    other = write(tmp_path / "other", rows, model="visionthink", conditions={"dtype": "float16"})
    text = awares("compare", *pair, other, "--format", "latex").stdout
    caption = next(line for line in text.splitlines() if line.startswith(r"\caption"))
    assert "Same in all rows: revision x, attention x" in caption
    assert "Warning: rows differ in dtype, so scores and RTR do not compare." in caption
    assert "prompt" not in caption  # differs between methods on purpose
    assert "% prompt: default (qwen2_5_vl_lowres)" in text
    assert r"\label{tab:main}" in text
    mini = write(tmp_path / "mini", {"awares_mini_pope": [sample()]})
    text = awares("compare", mini, "--format", "latex").stdout
    assert "All benchmarks: synthetic suite and tiny checkpoint, a demonstration, not a result." in text
    assert r"{POPE}" in text and "POPE (mini)" not in text


def test_blocks_of_an_ablation(pair, tmp_path):
    file = tmp_path / "ablation.csv"
    file.write_text(f"run,block,traj\n{pair[1]},trained,v\n{pair[0]},baseline,x\n")
    text = awares("compare", "--group", file, "--table", "calls", "--format", "latex").stdout
    assert r"\multicolumn{6}{l}{trained} \\" in text
    assert r"v & AwaRes & \textbf{83.33}" in text


def test_labels_tell_tables_apart():
    assert r"\label{tab:paper-5}" in render.document([paper_table(5)], "latex")
    assert r"\label{tab:calls-of-a-b-at-50}" in latex(Table("Calls of a_b, at 50%", full_table().frame))
