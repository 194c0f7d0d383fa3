"""Shape annotations: jaxtyping's where it is installed; without it they mean no more than ``Tensor``.

So that ``ptdpo.algo`` needs torch alone.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Shaped
else:
    try:
        from jaxtyping import Bool, Float, Int, Shaped
    except ModuleNotFoundError:

        class Shaped:
            """Stands for ``jaxtyping``'s annotations: ``Float[Tensor, "n v"]`` is ``Tensor``."""

            def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
                return item[0]

        Bool = Float = Int = Shaped

__all__ = ["Bool", "Float", "Int", "Shaped"]
