"""What other packages say while a command runs."""

import os
import warnings

import pytest

from ptdpo.commands.screen import quiet_screen


@pytest.fixture(autouse=True)
def _shown():
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        yield


def test_a_warning_about_the_future_is_one_line_once_whatever_filters_do(capsys):
    with quiet_screen():
        for _ in range(3):
            warnings.warn("`a` is deprecated,\n  use `b`", FutureWarning, stacklevel=1)
            warnings.simplefilter("always")  # Python forgets what it has shown.
        warnings.warn("another", DeprecationWarning, stacklevel=1)
    assert capsys.readouterr().err.splitlines() == [
        "FutureWarning: `a` is deprecated, use `b`", "DeprecationWarning: another"
    ]  # fmt: skip


def test_other_warnings_are_shown_as_before():
    with warnings.catch_warnings(record=True) as said, quiet_screen():
        for _ in range(2):
            warnings.warn("a number looks odd", UserWarning, stacklevel=1)
    assert len(said) == 2


def test_of_several_processes_the_first_speaks_of_the_future(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with quiet_screen():
        warnings.warn("later", FutureWarning, stacklevel=1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("terminal", "asked"), [(True, None), (False, "1")])
def test_bars_are_for_terminals(terminal, asked, monkeypatch):
    for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    drawn = []
    monkeypatch.setattr("transformers.utils.logging.disable_progress_bar", lambda: drawn.append("none"))
    with quiet_screen():
        assert os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS") == asked
    assert drawn == ([] if terminal else ["none"])
