"""Agreement of two label sets, in the shape of the paper's Table 2."""

from pathlib import Path

from lmms_awares.curation import agreement
from lmms_awares.report.read.label_sets import read_label_set
from lmms_awares.report.read.samples import RunError
from lmms_awares.report.tables.table import Table, cell, frame_of


def agreement_table(a: Path, b: Path) -> Table:
    """Compare two label sets, row by row of the same id.

    Args:
        a, b: see `read_label_set`; `a` gives the table's rows, `b` its columns.

    Returns:
        a table with the share of rows in percent, the sum of the diagonal, and Cohen's kappa.

    Raises:
        RunError: see `read_label_set`; also where no row has a label in both.
    """
    first, second = read_label_set(a), read_label_set(b)
    both = first.index.intersection(second.index)
    if both.empty:
        raise RunError(f"no row has a label in both {a} and {b}; are they of the same sources?")
    found = agreement(first[both].tolist(), second[both].tolist())
    shares = found.table / found.table.sum() * 100
    rows = [
        {
            (str(a), ""): label,
            (str(b), "LR"): cell(share[0], 2),
            (str(b), "HR"): cell(share[1], 2),
            ("agreement", ""): agreed,
            ("kappa", ""): kappa,
        }
        for label, share, agreed, kappa in (
            ("LR", shares[0], cell(found.agreement * 100, 2), cell(found.kappa, 3)),
            ("HR", shares[1], "", ""),
        )
    ]
    notes = [f"% of {len(both)} rows; agreement: the sum of the diagonal; kappa: Cohen's"]
    for name, own in ((a, first), (b, second)):
        if len(own) > len(both):
            notes.append(f"{len(own) - len(both)} labelled by {name} alone")
    return Table("Agreement on the label", frame_of(rows), notes)
