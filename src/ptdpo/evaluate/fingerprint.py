"""Content hashes of data and models, and the versions of what computed a result."""

import hashlib
import importlib.metadata
from collections.abc import Iterable
from pathlib import Path

from ptdpo.records import Problem

PACKAGES = ("ptdpo", "torch", "transformers", "datasets", "pillow", "openai", "mathruler", "math-verify")
_LENGTH = 32
# What lies beside a model after training without deciding its answers.
_BYSTANDERS = {"training_args.bin", "trainer_state.json", "optimizer.bin", "scheduler.bin"}
_SUFFIXES = {".safetensors", ".bin", ".json", ".jinja", ".txt", ".model"}


def data_fingerprint(problems: Iterable[Problem]) -> str:
    """Return a hash of ids, questions, answers and the bytes of the images, in order; paths do not enter."""
    seen: dict[str, bytes] = {}
    digest = hashlib.sha256()
    for problem in problems:
        for text in (problem.id, problem.problem, problem.answer):
            digest.update(hashlib.sha256(text.encode()).digest())
        for path in problem.images:
            if path not in seen:
                seen[path] = hashlib.sha256(Path(path).read_bytes()).digest()
            digest.update(seen[path])
        digest.update(b"end of problem")
    return digest.hexdigest()[:_LENGTH]


def folder_fingerprint(folder: Path) -> str:
    """Return a hash of what decides a model's answers: weights, configuration, tokenizer, templates."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in _SUFFIXES and path.name not in _BYSTANDERS:
            digest.update(path.name.encode())
            with path.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:_LENGTH]


def model_fingerprint(name: str) -> str:
    """Return ``folder_fingerprint`` of a model; of an adapter, a hash of its own and its base's. "": none is known.

    Nothing is known of a model of the hub here: its commit decides.
    """
    folder = Path(name)
    if not folder.is_dir():
        return ""
    # Whoever asks an endpoint loads no torch.
    from ptdpo.models.adapters import read_adapter

    own, adapter = folder_fingerprint(folder), read_adapter(folder)
    if adapter is None:
        return own
    base = model_fingerprint(adapter.base) or f"{adapter.base} {adapter.base_revision}"
    return hashlib.sha256(f"{own} {base}".encode()).hexdigest()[:_LENGTH]


def package_versions() -> dict[str, str]:
    """Return the installed version of every package that can change a number."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
