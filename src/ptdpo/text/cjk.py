"""Chinese, Japanese and Korean: where their scripts meet others, and numbers written in them."""

import re

_HAN, _KANA, _HANGUL = "一-鿿㐀-䶿々〇", "ぁ-ゖァ-ヺー", "가-힣"
SCRIPTS = _HAN + _KANA + _HANGUL
_DIGITS = {
    char: n
    for n, chars in enumerate(("零〇", "一壱", "二两兩弐", "三参", "四", "五", "六", "七", "八", "九"))
    for char in chars
}
_UNITS = {"十": 10, "拾": 10, "百": 100, "千": 1000}
_LARGE = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
# Korean figures are syllables of many words: they count with a ten, a hundred ... among them, as words of their own.
_HANGUL_FIGURES = str.maketrans("영일이삼사오육칠팔구십백천만억", "零一二三四五六七八九十百千万億")
_NATIVE_TENS = {
    "열": 10, "스물": 20, "스무": 20, "서른": 30, "마흔": 40, "쉰": 50, "예순": 60, "일흔": 70, "여든": 80, "아흔": 90,
}  # fmt: skip
_NATIVE_ONES = {
    "하나": 1, "둘": 2, "셋": 3, "넷": 4, "다섯": 5, "여섯": 6, "일곱": 7, "여덟": 8, "아홉": 9,
    "한": 1, "두": 2, "세": 3, "네": 4,
}  # fmt: skip
_JAPANESE = {
    "ひとつ": 1, "ふたつ": 2, "みっつ": 3, "よっつ": 4, "いつつ": 5, "むっつ": 6, "ななつ": 7, "やっつ": 8,
    "ここのつ": 9, "ひとり": 1, "ふたり": 2,
}  # fmt: skip
_CHARS = "".join((*_DIGITS, *_UNITS, *_LARGE))
_END = rf"(?![{_CHARS}])"
_MEETS = re.compile(rf"(?<=[{SCRIPTS}])(?=[0-9A-Za-z])|(?<=[0-9A-Za-z])(?=[{SCRIPTS}])")
_PARTICLE = rf"(?=[은는이가을를의개명도원입살]|[^{_HANGUL}]|$)"
# What follows a figure that counts, and what says in Japanese and Korean that so many there are.
_MEASURE = "[個个条條只隻张張本人位名块塊根种種点點边邊つ枚匹台冊回箱羽頭杯辺角]"
_THERE_ARE = r"(?:が|は|も)?\s?(?:あり|ある|いる|い(?=ます)|です|だ[。\n]|である|になる|になり|となる|残)"
_COUNTER = r"\s?(?:개|명|마리|장|대|권|곳|송이|자루|그루|사람|살|번|점|변|각)"
_ARE_THERE = r"(?:가|이|은|는|만)?\s?(?:있|입니다|이다|이에요|예요|다[.\s]|뿐|남|된|됩)"
_NATIVE = "스무|한|두|세|네|다섯|여섯|일곱|여덟|아홉|열"
_NUMBERS = re.compile(
    "|".join(
        (
            rf"[{_CHARS}]{{2,12}}{_END}",
            # A single figure is part of many words: it counts only where it is said to be the result.
            rf"(?<=[是为為于於得即有＝=はが：:])[{_CHARS}]{_END}",
            rf"(?<=[共计計好刚剛仅僅只出到余剩成达達でど])[{_CHARS}](?={_MEASURE})",
            rf"(?<![{_CHARS}第])[{_CHARS}](?={_MEASURE}{_THERE_ARE})",
            rf"(?<![{_HANGUL}])(?:[일이삼사오육칠팔구]?[십백천만억])+[일이삼사오육칠팔구]?{_PARTICLE}",
            rf"(?<![{_HANGUL}])(?:{'|'.join(_NATIVE_TENS)})(?:{'|'.join(_NATIVE_ONES)}){_PARTICLE}",
            rf"(?<![{_HANGUL}])(?:둘|셋|넷|다섯|여섯|일곱|여덟|아홉){_PARTICLE}",
            rf"(?<![{_HANGUL}])(?:{_NATIVE})(?={_COUNTER}{_ARE_THERE})",
            rf"(?<![{_HANGUL}])[일이삼사오육칠팔구](?=입니다|이에요|예요|이다[.\s])",
            # One by one, the first: no count.
            rf"(?:{'|'.join(_JAPANESE)})(?!ずつ|目|め)",
        )
    )
)


def separated(text: str) -> str:
    """Return a text with spaces where these scripts meet Latin letters and figures, and their numbers in figures."""
    if not re.search(f"[{SCRIPTS}]", text):
        return text
    return _MEETS.sub(" ", _NUMBERS.sub(_in_figures, text))


def cjk_number(text: str) -> int | None:
    """Return the number that a whole text is: 十一, 二百零五, 一万二千, 십일, 열하나, みっつ; else ``None``."""
    if text in _JAPANESE:
        return _JAPANESE[text]
    for ten in sorted((*_NATIVE_TENS, ""), key=len, reverse=True):
        rest = text.removeprefix(ten)
        if ten != text[: len(ten)] or (rest and rest not in _NATIVE_ONES) or not text:
            continue
        return _NATIVE_TENS.get(ten, 0) + _NATIVE_ONES.get(rest, 0)
    text = text.translate(_HANGUL_FIGURES)
    if not text or any(char not in _CHARS for char in text):
        return None
    if all(char in _DIGITS for char in text):
        return int("".join(str(_DIGITS[char]) for char in text))
    return _positional(text)


def _positional(text: str) -> int | None:
    total = section = digit = 0
    for char in text:
        if char in _DIGITS:
            digit = _DIGITS[char]
        elif char in _UNITS:
            section += (digit or 1) * _UNITS[char]
            digit = 0
        else:
            total += (section + digit or 1) * _LARGE[char]
            section = digit = 0
    return total + section + digit


def _in_figures(found: re.Match[str]) -> str:
    value = cjk_number(found[0].strip())
    return found[0] if value is None else f" {value} "
