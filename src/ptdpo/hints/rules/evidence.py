"""Does a hint name visual evidence: a region, an object, a relation that can be seen?"""

import re
from collections.abc import Sequence
from itertools import pairwise

from ptdpo.hints.rules.cjk_verdict import content_of
from ptdpo.hints.rules.question import Question
from ptdpo.text.tokens import Token
from ptdpo.text.words import stem, stems, vocabulary

# "Look at the picture carefully" names nothing: containers of evidence are not evidence.
_SEEN = vocabulary(
    """
    left right top bottom upper lower middle centre center corner edge side border boundary outline background
    foreground front row column cell tile grid line curve bar slice wedge axis axes label labelled legend gridline
    tick dot point marker marked arrow arc angle vertex triangle circle square rectangle polygon segment diagonal
    radius diameter height base dashed shaded bold colour color hue fill red green blue yellow black white gray
    brown orange purple teal pink silver shape surface face fold pattern region area horizontal vertical parallel
    perpendicular slope steep peak summit trough crest valley intercept origin coordinate graph plot table map
    needle dial hand clock sign symbol letter number image-edge figure-edge photo-edge ray lens mirror beam spring
    wire battery resistor bulb lamp switch branch loop circuit block pulley ramp lever pivot ball string wave node
    table header entry person people man woman boy girl child animal head face arm hand foot leg body tree house
    building window door car bus bicycle wheel road street sky ground table chair cup plate tallest shortest largest
    smallest nearest farthest overlap stacked layer cube cone cylinder sphere box pie chart histogram scatter
    transversal tangent chord hypotenuse perimeter sector midpoint bond atom molecule ring organ leaf stem root
    """
)
_EVIDENCE = frozenset(stem(word) for word in _SEEN) - {stem(w) for w in ("number", "area", "graph", "chart", "table")}
_GENERIC = stems(
    """
    look image picture figure photo diagram chart graph table question problem answer value number total sum detail
    read think consider carefully close closely everything information relevant important need find give take time
    what which how many much is are was the a an of in on at to and or for with from by this that these those it its
    all each every you your must can be do does not no more less than word reply say see visible matter here there
    same amount result calculate compute formula theorem law rule method standard known unknown area perimeter
    volume length distance average mean median ratio percentage percent share probability shape object part parts
    thing scene show shown visible solid contain contains data chart charts relate related
    """
)


_ANCHORS = vocabulary(
    """
    the both all each two three four five six its his her their this that these those one every only which whose
    where left right top bottom upper lower middle centre center central inner outer first last
    """
)
_REACH = 4
# "The bench, the wall" is evidence though neither word is known; "the conditions, the unknown" is not.
_ABSTRACT = stems(
    """
    principle concept idea step operation approach condition relationship relation situation context order unknown
    quantity surroundings details option choice candidate equation expression definition property properties term
    following first second next last right wrong correct best given whole rest other same
    """
)
_FEWEST_UNKNOWN = 2
_GENERIC_CJK = frozenset("画像問題题目答案数數値值求多少几幾何大小最高低一二三表示正求形") | {
    "그림",
    "문제",
    "다음",
    "몇",
    "답",
}
# Things and places in Chinese, Japanese and Korean; the image itself is none.
_SEEN_CJK = re.compile(
    "[左右上下角边邊辺行列格线線圆圓円点點轴軸柱形色红紅赤绿綠緑蓝藍青黄黑黒白灰橙紫峰谷人手车車房树樹针針前后後奥裏隅側侧]|中央|中心|中间|间隔|"
    "扇|标签|標籤|ラベル|图例|圖例|凡例|箭头|箭頭|矢印|왼|오른|가운데|모서리|사각|삼각|막대|빨간|파란|초록|노란|검은|흰|"
    r"화살표|눈금|모양|사람|(?<![가-힣])(?:위|아래|앞|뒤|옆|안|밖|변|선|원|점|축|행|열|칸|색)(?=[은는이가을를의과와에쪽들,.\s]|$)"
)


def names_evidence(look: Sequence[Token], question: Question) -> bool:
    """Return whether the hint points at something definite: "the tallest bar", "left column", "angle ABC".

    A word for something visible counts only where it is pointed at: "charts show data" names nothing.
    """
    things = {stem(t.low) for t in question.tokens if t.kind == "word" and len(t.low) > 3} - _GENERIC
    for at, token in enumerate(look):
        if token.kind == "label" or (token.text.isupper() and token.text not in ("A", "I")):
            return True
        if stem(token.low) in _EVIDENCE | things and _is_anchored(look, at):
            return True
    return len(_named_things(look)) >= _FEWEST_UNKNOWN or _names_cjk_evidence(look, question)


def _names_cjk_evidence(look: Sequence[Token], question: Question) -> bool:
    """Return whether a text in these scripts names a place or a thing, or one that the question names."""
    text = " ".join(t.text for t in look)
    asked = content_of(" ".join(t.text for t in question.tokens)) - _GENERIC_CJK
    return _SEEN_CJK.search(text) is not None or bool(asked & content_of(text))


def _named_things(look: Sequence[Token]) -> set[str]:
    """Return the words that follow "the" and are neither generic nor abstract."""
    named = {stem(b.low) for a, b in pairwise(look) if a.low == "the" and b.kind == "word"}
    return named - _GENERIC - _ABSTRACT


def _is_anchored(look: Sequence[Token], at: int) -> bool:
    return any(t.low in _ANCHORS for t in look[max(0, at - _REACH) : at] if t.sentence == look[at].sentence)
