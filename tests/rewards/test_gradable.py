from ptdpo.records import Problem
from ptdpo.rewards.gradable import find_ungradable

CHOICE = "Which?\n(A) 3 cm\n(B) 4 cm\n(C) 5 cm"


def found(answer: str, question: str = "How much?") -> str:
    (*faults,) = find_ungradable([Problem("p", (), question, answer)])
    return faults[0].reason if faults else ""


def test_usual_answers_are_gradable():
    answers = [
        "5", "12,600", "\\frac{1}{2}", "3\\sqrt{2}", "15 cm", "40%", "3:4", "4:20", "7:45 PM", "10-20", "(1,2]",
        "\\{1,2\\}",
        "1, 3, 9", "x=2 or x=-5", "(3,-4)", "y=2x+1", "x>2", "3.2\\times10^8", "H_2SO_4", "Yes", "red car", "A", "AC",
        "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "(x+1)(x-2)", "65^\\circ", "\\$45", "$12$", "**12**", "\\boxed{7}",
        "三角形", "None", "\\int_0^1 x^2 dx", "\\binom{5}{2}", "[1,3)", "]1,3[", "\\{1,2\\}",
    ]  # fmt: skip
    assert {answer: found(answer) for answer in answers} == dict.fromkeys(answers, "")
    assert found("B", CHOICE) == found("4 cm", CHOICE) == found("B. 4 cm", CHOICE) == ""
    # Parts of a question are no options.
    assert found("6 cm", "Do both. (a) Measure AB. (b) Measure CD.") == ""


def test_what_cannot_be_graded_is_named_with_the_reason():
    assert "longer than 256" in found("x" * 300)
    assert "the answer is D, and there are 3 options" in found("D", CHOICE)
    assert "option B is" in found("B. 7 cm", CHOICE)
    assert "cannot be told apart" in found("A", "Which?\n(A) 3\n(B) 3.0")
    assert "read as a text" in found("\\mathcal{F} = \\weird{x}")
    assert "not right against itself" in found("**")
    assert "not right against itself in brackets" in found("\\int_C \\weird{x}")
    assert "placeholder" in found("?")
    assert "placeholder" in found("see solution")
    assert "none of the 3 options" in found("6 cm", CHOICE)
    assert "never closes" in found("(1, 3")
    assert "never closes" in found("\\frac{3}{")


def test_order_is_kept_and_good_ones_are_left_out():
    problems = [Problem(str(n), (), CHOICE, answer) for n, answer in enumerate(["A", "E", "B", "F"])]
    assert [one.id for one in find_ungradable(problems)] == ["1", "3"]
