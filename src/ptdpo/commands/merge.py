"""``ptdpo merge``."""

from pathlib import Path
from typing import Annotated

import typer

from ptdpo.commands.outputs import refuse_unwritable_folder
from ptdpo.commands.printing import out


def merge(
    adapter: Annotated[Path, typer.Argument(help="Folder of a LoRA adapter, as `ptdpo train` with lora leaves it.")],
    folder: Annotated[Path, typer.Option("--out", help="Where the whole model is saved; must be new or empty.")],
) -> None:
    """Merge a LoRA adapter into its base: a model with its processor, for engines that read no adapters.

    Example: `ptdpo merge runs/qwen3_vl_lora --out runs/qwen3_vl_merged`
    """
    from ptdpo.models.merging import save_merged

    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"--out {folder}: there is something in it; name a new folder")
    refuse_unwritable_folder("--out", folder)
    save_merged(adapter, folder)
    out.print(f"saved to {folder}", highlight=False)
