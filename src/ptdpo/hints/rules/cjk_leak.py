"""Does a hint in Chinese, Japanese or Korean name the answer? Their words have no spaces between them."""

import re
from collections.abc import Iterator

from ptdpo.hints.rules.answers import Answer
from ptdpo.hints.rules.cjk_verdict import verdict_leaks
from ptdpo.hints.rules.question import Question
from ptdpo.records import Hint
from ptdpo.text.cjk import SCRIPTS, cjk_number

# What comes before a conclusion, and what may stand between.
LEAD = (
    r"(?:答案|结果|結果|答え|答|正解|結論|结论|정답|답|결과|所以|因此|故|于是|よって|따라서)"
    r"(?:就|应该|應該|应|應)?(?:是|为|為|等于|選|选|は|が|은|는|이|:|：|,|，)?\s*[「『“\"']?"
)
CHOOSE = r"(?:选择|選擇|选|選|回答|判断为|判斷為|判断是|判定为)\s*[「『“\"']?"
# An option's text or a name, and then that it is right, or is to be chosen.
_CHOSEN = (
    r"[」』”\"']?\s*(?:项|項|点|を|が|은|는|이|가|을|를)?\s*"
    r"(?:是?正确|是?正確|是?对的|是?對的|符合|正しい|正解|選ぶ|選択|当てはまる|맞|옳|고르|선택|정답)"
)
_OPTIONS = r"(?:个|個)?(?:选项|選項|项|項|選択肢|보기|선택지|항목|답지)"
_LAST = r"(?:最后|最後|마지막)(?:一)?(?:の\s*)?"
_NATIVE_PLACES = ("첫", "두", "세", "네", "다섯", "여섯", "일곱", "여덟")
_FIGURES = "一二三四五六七八"
_RULED_OUT = re.compile(
    "排除|除外|消去|除去|去掉|淘汰|都不|不对|不對|不正|不符|错误|錯誤|有误|违背|誤り|間違|当てはまら|제외|소거|제거|틀리|틀렸|아니|아닙"
)
_LETTER = re.compile(r"(?<![A-Za-z])[A-HＡ-Ｈ](?![A-Za-z])")


def cjk_leaks(answer: Answer, hint: Hint, question: Question) -> Iterator[str]:
    """Yield where a verdict, an option, or an answer written in one of these scripts, is said to be the answer."""
    text = f"{hint.look}\n{hint.reason}"
    if not re.search(f"[{SCRIPTS}]", text):
        return
    yield from verdict_leaks(answer.text.strip(), text, answer.stem, f"(?:{LEAD}|{CHOOSE})")
    if answer.letter:
        yield from _option_leaks(answer, text)
    said = answer.text.strip()
    if re.search(f"[{SCRIPTS}]", said) and cjk_number(said) is None:
        asked = said in answer.stem or any(token.text == said for token in question.tokens)
        yield from found(rf"(?:{LEAD}|{CHOOSE}){re.escape(said)}|{re.escape(said)}{_CHOSEN}", text)
        # A longer answer that the question does not name gives itself away anywhere.
        if len(said) >= 2 and not asked:
            yield from found(re.escape(said), text)


def _option_leaks(answer: Answer, text: str) -> Iterator[str]:
    """Yield where the right option is told by its place, or by ruling out all others."""
    place, count = ord(answer.letter) - ord("A"), len(answer.options)
    names = []
    if place < len(_FIGURES):
        names = [rf"第{_FIGURES[place]}{_OPTIONS}", rf"第\s?{place + 1}\s?{_OPTIONS}"]
        names += [rf"(?:{_FIGURES[place]}|{place + 1})\s?(?:番目|つ目)の?{_OPTIONS}"]
        names += [rf"(?:{_NATIVE_PLACES[place]}|{place + 1})\s?번째?\s?{_OPTIONS}"]
    if place == count - 1:
        names.append(rf"{_LAST}\s?{_OPTIONS}")
    if names:
        yield from found("|".join(names), text)
    others = set(answer.options) - {answer.letter}
    for sentence in re.split(r"[。.!?！？；;\n]", text):
        named = {letter.translate(_NARROW) for letter in _LETTER.findall(sentence)}
        if count > 2 and named == others and _RULED_OUT.search(sentence):
            yield sentence.strip()


_NARROW = str.maketrans("ＡＢＣＤＥＦＧＨ", "ABCDEFGH")


def found(pattern: str, text: str) -> Iterator[str]:
    """Yield each match of a pattern, with some characters around it."""
    for one in re.finditer(pattern, text, re.IGNORECASE):
        yield text[max(0, one.start() - 8) : one.end() + 8].strip()
