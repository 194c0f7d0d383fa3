"""Weights on a disk that takes no more: one error that names the folder, and what was there stays."""

import errno
import resource

import pytest

from ptdpo.models.merging import save_merged
from ptdpo.models.saving import saving


@pytest.fixture
def small_files():
    """Let this process write no file above a limit, as ``ulimit -f`` and full disks do."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


# The configuration, the weights, the tokenizer: each is written by another library.
@pytest.mark.parametrize("size", [100, 10_000, 100_000])
def test_a_model_that_cannot_be_saved_is_one_error_that_names_its_folder(tmp_path, model, small_files, size):
    small_files(size)
    with pytest.raises(OSError, match="File too large") as caught, saving(tmp_path / "out"):
        model.save_pretrained(tmp_path / "out")
    assert str(tmp_path / "out") in str(caught.value)


def test_an_archive_of_torch_that_is_cut_off_is_one_too(tmp_path, model, small_files):
    import torch

    small_files(100_000)
    with pytest.raises(OSError, match="only a part could be written") as caught, saving(tmp_path / "out"):
        torch.save(model.state_dict(), tmp_path / "a.pt")
    assert caught.value.filename == str(tmp_path / "out")


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), OSError(errno.ENOENT, "No such file", "mine")])
def test_other_errors_stay_as_they_are(error):
    with pytest.raises(type(error)) as caught, saving("out"):
        raise error
    assert caught.value is error


def test_a_merged_model_that_cannot_be_saved_is_not_there(tmp_path, tiny_path, small_files, monkeypatch):
    monkeypatch.setattr("ptdpo.models.merging.read_adapter", lambda _: object())
    small_files(100_000)
    with pytest.raises(OSError, match=r"File too large.*merged"):
        save_merged(tiny_path, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
