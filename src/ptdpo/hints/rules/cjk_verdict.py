"""Does a hint in Chinese, Japanese or Korean say yes or no, or state or deny what the question asks?"""

import re
from collections.abc import Iterator

from ptdpo.text.cjk import SCRIPTS

_WORDS = {
    True: "是的|是|对的|對的|对|對|正确的?|正確的?|肯定的?|成立|会|能|有|はい|そう|正しい|真|예|네|그렇다|맞다|"
    "맞습니다|옳다|참|yes|true",
    False: "否定的?|否|不是|不对的?|不對的?|错误的?|錯誤的?|错的?|錯的?|不正确的?|不成立|不会|不能|没有|沒有|无|"
    "いいえ|違う|正しくない|間違い|間違っている|誤り|偽|아니오|아니요|아니다|아닙니다|틀리다|틀렸다|틀렸습니다|거짓|"
    "no|false",
}
_ENGLISH = {"yes": True, "true": True, "correct": True, "no": False, "false": False, "incorrect": False}
# A verdict ends there: 是 also begins "is ...".
_END = rf"(?![A-Za-z{SCRIPTS}])|(?=(?:です|である|だ|입니다|이다|的)(?![{SCRIPTS}]))"
# A verdict on what the question claims.
_CLAIM = (
    r"(?:说法|說法|命题|命題|陈述|陳述|叙述|敘述|描述|论断|論断|判断|句话|句話|结论|等式|记述|記述|主張|この文|これ|それ|문장|주장|진술|설명|명제)"
    r"(?:就|确实|確實)?(?:是|为|為|は|が|은|는|이|가)?\s*"
)
# A verdict, and then that it is the answer or how one answers.
_AFTER = (
    r"\s*[」』”\"']?\s*(?:と(?:答え|回答|言|判断|なる|する)|が(?:正解|答え|正しい)"
    r"|(?:이)?라고\s?(?:답|대답|말|하)|(?:이|가)\s?(?:정답|답))"
)
# What leaves a verdict open.
_OPEN = re.compile(
    "是否(?!定)|是不是|有没有|有沒有|对不对|對不對|还是|還是|如果|若|要是|否则|否則|的话|吗|嗎|かどうか|ならば|なら|れば|場合|か[。、?？]|인지|는지|"
    "은지|까[?？]?$|나요|라면|이면|으면|경우|또는|혹은|[?？]"
)
# A command to look is no statement.
_COMMAND = re.compile(
    "看(?!到|见|見|出)|找|数|數|比较|比較|判断|判斷|检查|檢查|查|观察|觀察|注意|确认|確認|考虑|考え|見(?!え|れば)|探|数え|比べ|確か|読|보세요|보라|찾|세어|세세|세요|비교|확인|"
    "하세요|십시오|하라"
)
_STATES = re.compile(
    "是|不|没|比|更|沒|无|無|有|在|确|確|です|でしょう|である|だ|ない|ません|ある|あり|いる|います|입니다|이다|아닙|아니|있|없|다$|ㅂ니다|습니다"
)
# Characters and words of grammar: they say nothing of what is asked.
_GRAMMAR = re.compile(
    "[的是吗嗎在有没沒不了吧呢么麼个個这那這図图圖中里裡请請问問和与跟为為哪否对對上吧]|[ぁ-ゖー]|"
    "(?:입니까|습니까|인가요|인가|니까|까요|나요|있|없|이다|입니다|아닙니다|습니다)"
)
_PARTICLES = re.compile("(?:은|는|이|가|을|를|에|의|도|에서|으로|로|와|과)$")
_LEAST_ASKED = 2
# Korean verbs change their endings: 평행하다, 평행하지.
_STEM = 2


def verdict_leaks(answer: str, text: str, question: str, leads: str) -> Iterator[str]:
    """Yield where a verdict that is the answer is said, or what the question asks is stated or denied.

    Args:
        answer: as verified.
        text: of the hint.
        question: without its options.
        leads: pattern of what comes before a conclusion.
    """
    said = _verdict(answer)
    if said is None:
        return
    words = rf"(?:{_WORDS[said]})"
    pattern = re.compile(rf"(?:{leads}|{_CLAIM}){words}(?:{_END})|{words}{_AFTER}|{_CLAIM}{words}", re.IGNORECASE)
    asked = content_of(question)
    for sentence in re.split(r"(?<=[。.!?！？；;\n])", text):
        if _OPEN.search(sentence):
            continue
        for one in pattern.finditer(sentence):
            yield sentence[max(0, one.start() - 8) : one.end() + 8].strip()
        stated = _STATES.search(sentence.rstrip("。.!；; \n")) and not _COMMAND.search(sentence)
        if len(asked) >= _LEAST_ASKED and stated and asked <= content_of(sentence):
            yield sentence.strip()


def _verdict(answer: str) -> bool | None:
    """Return whether an answer says yes or no, ``None`` if it says neither."""
    if answer.lower() in _ENGLISH:
        return _ENGLISH[answer.lower()]
    for said, words in _WORDS.items():
        if re.fullmatch(words, answer, re.IGNORECASE):
            return said
    return None


def content_of(text: str) -> set[str]:
    """Return what a text is about: its characters, in Korean its words, without those of grammar."""
    words = {_PARTICLES.sub("", _GRAMMAR.sub("", word))[:_STEM] for word in re.findall("[가-힣]+", text)}
    characters = set(re.findall(f"[{SCRIPTS}]", _GRAMMAR.sub("", re.sub("[가-힣]+", "", text))))
    return {one for one in words | characters if one}
