"""Words: sets of them written as one text, and their stems."""

from functools import lru_cache

_IRREGULAR = {
    "leaves": "leaf", "halves": "half", "knives": "knife", "wolves": "wolf", "shelves": "shelf", "loaves": "loaf",
    "children": "child", "feet": "foot", "men": "man", "women": "woman", "teeth": "tooth", "mice": "mouse",
    "geese": "goose", "people": "person", "vertices": "vertex", "axes": "axis", "grey": "gray",
}  # fmt: skip


def vocabulary(text: str) -> frozenset[str]:
    """Return the words of a text, separated by white space."""
    return frozenset(text.split())


def stems(text: str) -> frozenset[str]:
    """Return the stems of the words of a text."""
    return frozenset(map(stem, text.split()))


@lru_cache(maxsize=4096)
def stem(word: str) -> str:
    """Return a rough stem: without plural and -ing, -ed, -en; grey is gray, triangular is triangle."""
    word = word.lower().removesuffix("'s")
    word = _IRREGULAR.get(word, word)
    if word.endswith("s") and not word.endswith("ss") and len(word) > 3:
        word = word[:-1]
    if word.endswith("ular"):
        word = word[:-4] + "l"
    for ending in ("ing", "ed", "en", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word.removesuffix(ending)
            break
    return word[:-1] + "i" if word.endswith("y") and len(word) > 3 else word
