"""An adapter merged into its base, as a model of its own."""

from pathlib import Path

from ptdpo.folders import new_folder
from ptdpo.models.adapters import read_adapter
from ptdpo.models.loading import check_model, load_model, load_processor
from ptdpo.models.saving import saving


def save_merged(adapter: str | Path, out: Path) -> None:
    """Write the model and the processor that an adapter makes of its base; ``out`` appears when it is whole.

    Args:
        adapter: folder of an adapter.
        out: folder to write.

    Raises:
        ValueError: if there is no adapter, or it does not fit its base.
        OSError: if the base cannot be loaded, or ``out`` not written.
    """
    if read_adapter(adapter) is None:
        raise ValueError(f"{adapter}: no adapter there (adapter_config.json and its weights): nothing to merge")
    check_model(str(adapter))
    model, processor = load_model(str(adapter)), load_processor(str(adapter))
    with saving(out), new_folder(out) as partial:
        model.save_pretrained(partial)
        processor.save_pretrained(partial)
