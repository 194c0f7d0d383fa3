"""Does a hint in Chinese, Japanese or Korean name the answer? Their words have no spaces between them."""

import re
from collections.abc import Iterator

from ptdpo.hints.rules.answers import Answer
from ptdpo.hints.rules.question import Question
from ptdpo.records import Hint
from ptdpo.text.cjk import SCRIPTS

# What comes before a conclusion, and what may stand between.
_LEAD = (
    r"(?:答案|结果|結果|答え|答|正解|結論|结论|정답|답|결과|所以|因此|故|于是|よって|따라서)"
    r"(?:就|应该|應該|应|應)?(?:是|为|為|等于|選|选|は|が|은|는|이|:|：|,|，)?\s*[「『“\"']?"
)
_CHOOSE = r"(?:选择|選擇|选|選|回答|判断为|判斷為|判断是|判定为)\s*[「『“\"']?"
_VERDICTS = {
    "yes": "是的|是|对|對|正确|正確|会|能|はい|正しい|예|네|맞다|맞습니다|그렇다|yes|true",
    "no": "否|不是|不对|不對|错误|錯誤|错|錯|不正确|不会|不能|いいえ|正しくない|間違い|아니오|아니요|아니다|틀리다"
    "|틀렸다|no|false",
}
_VERDICTS |= {"true": _VERDICTS["yes"], "false": _VERDICTS["no"]}
# A verdict ends there: 是 also begins "is ...".
_END = rf"(?![A-Za-z{SCRIPTS}])|(?=(?:です|である|だ|입니다|이다)(?![{SCRIPTS}]))"


def cjk_leaks(answer: Answer, hint: Hint, question: Question) -> Iterator[str]:
    """Yield where a verdict, or an answer written in one of these scripts, is said to be the answer."""
    text = f"{hint.look}\n{hint.reason}"
    if not re.search(f"[{SCRIPTS}]", text):
        return
    said = answer.text.strip()
    verdict = _VERDICTS.get(said.lower()) or next(
        (words for words in _VERDICTS.values() if said in words.split("|")), None
    )
    if verdict:
        yield from _found(rf"(?:{_LEAD}|{_CHOOSE})(?:{verdict})(?:{_END})", text)
    elif re.search(f"[{SCRIPTS}]", said):
        asked = any(token.text == said for token in question.tokens)
        yield from _found(rf"(?:{_LEAD}|{_CHOOSE}){re.escape(said)}", text)
        # A longer answer that the question does not name gives itself away anywhere.
        if len(said) >= 2 and not asked and said not in "".join(token.text for token in question.tokens):
            yield from _found(re.escape(said), text)


def _found(pattern: str, text: str) -> Iterator[str]:
    for found in re.finditer(pattern, text, re.IGNORECASE):
        yield text[max(0, found.start() - 8) : found.end() + 8].strip()
