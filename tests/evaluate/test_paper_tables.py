"""The averaging code against what the paper prints."""

from decimal import Decimal

from ptdpo.evaluate.averages import GENERAL, PAPER, VISION
from ptdpo.evaluate.paper_tables import (
    average_mismatches,
    change_mismatches,
    change_sources,
    impossible_counts,
    paper_rows,
    printed_tables,
    report,
)


def test_every_row_is_there():
    counted = {table: sum(row.table == table for row in paper_rows()) for table in (1, 2, 4)}
    assert counted == {1: 18, 2: 17, 4: 6}
    assert all(list(row.columns) == list(PAPER) for row in paper_rows())
    assert (len(GENERAL), len(VISION)) == (5, 4)


def test_exactly_one_printed_average_does_not_follow_from_its_columns():
    """622.86 / 9 = 69.2067, printed as 69.20; all other 122 averages are reproduced."""
    (wrong,) = average_mismatches()
    assert wrong.row.place == "table 1, Qwen3-VL-4B-Thinking, PAPO"
    assert (wrong.cell, str(wrong.printed)) == ("AVG Overall", "69.20")
    assert wrong.computed == Decimal("622.86") / 9
    assert wrong.within_rounding


def test_every_printed_relative_change_follows_from_the_columns_or_from_the_printed_averages():
    assert change_mismatches() == []
    assert change_sources() == (45, 35, 27)


def test_cells_are_whole_numbers_of_right_responses_at_8_samples():
    """The paper does not state the number of samples; the row counts of the nine splits and 8 samples explain it."""
    odd = [(row.table, row.model.split("-")[2], row.name, name, str(row.columns[name]))
           for row, name in impossible_counts(8)]  # fmt: skip
    assert odd == [
        (1, "2B", "PAPO", "geo3k", "44.64"),
        (1, "2B", "PAPO", "logicvista", "43.70"),
        (1, "4B", "PAPO", "logicvista", "58.91"),
        (1, "8B", "OPSD", "logicvista", "45.52"),
        (1, "8B", "PAPO", "geo3k", "62.53"),
        (2, "4B", "+PTD (w/o Structured Hint Design)", "geo3k", "60.03"),
    ]
    assert len(impossible_counts(4)) == 110
    assert len(impossible_counts(1)) == 315


def test_tables_agree_where_they_show_the_same_run():
    rows = {(row.table, row.model, row.name): row for row in paper_rows()}
    for mine, other in (("PTD-PO + GRPO", "+PTD (thr 1.0)"), ("GRPO", "GRPO")):
        model = "Qwen3-VL-4B-Thinking"
        assert rows[4, model, mine].columns == rows[2, model, other].columns


def test_a_wrong_cell_is_reported(monkeypatch):
    """The checks can fail: one changed column breaks two averages and the changes that rest on them."""
    from dataclasses import replace

    from ptdpo.evaluate import paper_tables

    rows = list(paper_rows())
    number = next(n for n, row in enumerate(rows) if row.table == 2 and row.base)
    rows[number] = replace(rows[number], columns={**rows[number].columns, "mmk12": Decimal("46.34")})
    monkeypatch.setattr(paper_tables, "paper_rows", lambda: tuple(rows))
    assert [m.cell for m in average_mismatches() if m.row is rows[number]] == ["AVG General", "AVG Overall"]
    assert not any(m.within_rounding for m in average_mismatches() if m.row is rows[number])
    monkeypatch.setattr(paper_tables, "_from_averages", lambda *_: Decimal("0"))
    assert {m.cell for m in change_mismatches() if m.row is rows[number]} == {
        "change of AVG General", "change of AVG Overall",
    }  # fmt: skip


def test_the_report_names_what_does_not_add_up():
    told = "\n".join(report())
    assert "1 of 123 printed averages" in told
    assert "PAPO: AVG Overall printed 69.20, from its columns 69.2067" in told
    tables = dict(printed_tables())
    assert list(tables) == [
        "Table 1: Comparison of different training methods",
        "Table 2: Ablation study for PTD-PO",
        "Table 4: PTD with different RLVR optimizers",
    ]
    cells = [cell for table in tables.values() for row in table.rows for cell in row]
    assert sum("printed" in cell for cell in cells) == 1
