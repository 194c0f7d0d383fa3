"""The hidden board: what it rewards, what its hints say, and that a transcript is put together as rollouts are."""

from tests.boards.world import CELLS, END, SECRET, Board, encoded, found, make_rows, make_tokenizer, transcript


def played(row, cell, answer):
    board = Board()
    assert board.reset(**row) == f" There are {CELLS} cells."
    assert board.look(cell) == row["board"][cell]
    return found([[{"role": "assistant", "content": answer}]], [board])


def test_only_the_right_colour_of_a_cell_that_was_looked_at_is_rewarded():
    (row,) = make_rows(1, seed=0)
    colour, other = row["board"][row["secret"]], (row["secret"] + 1) % CELLS
    assert played(row, row["secret"], colour) == [1.0]
    assert played(row, row["secret"], "no colour") == [0.0]
    assert played(row, other, colour) == [0.0]


def test_hints_name_the_cell_of_the_name_and_questions_do_not():
    for row in make_rows(20, seed=1):
        name = row["prompt"][0]["content"].removeprefix("Where is ").removesuffix("?")
        assert row["hint"]["look"] == f"ask for cell {SECRET[name]}"
        assert str(row["secret"]) not in row["prompt"][0]["content"]
    assert len({*SECRET.values()}) == len(SECRET)


def test_only_what_the_policy_writes_is_learnt():
    rows = make_rows(40, seed=2)
    tokenizer = make_tokenizer([Board().look], rows)
    ids, labels = encoded(transcript(rows[0], 3, [Board().look], tokenizer, hinted=True), tokenizer)
    learnt = tokenizer.decode(labels[labels != -100])
    assert (
        learnt
        == f'<tool_call>\n{{"name": "look", "arguments": {{"cell": 3}}}}\n</tool_call>{END}{rows[0]["board"][3]}{END}'
    )
    assert "Hint. Look: ask for cell" in tokenizer.decode(ids)
