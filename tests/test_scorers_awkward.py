"""Replies as models really write them, and what a careful reader takes for their answer."""

import pytest

from deltascale import scorers
from deltascale.datasets.toolqa import agent
from deltascale.records import Item, Question

NUMBERS = [
    # signs, and numbers as other countries write them
    ("\\boxed{-\\frac{3}{4}}", "-3/4"),
    ("It is $-\\dfrac{1}{2}$", "-1/2"),
    ("It takes $2\\frac{1}{2}$ hours", "5/2"),
    ("The answer is minus 3.", "-3"),
    ("#### \u00bd", "1/2"),
    ("#### 4\u00bd", "9/2"),
    ("#### 1 234", "1234"),
    ("#### 1'234'567", "1234567"),
    ("#### 1\u2019234", "1234"),
    ("The answer is 1 234 567.", "1234567"),
    ("\\boxed{1 234}", "1234"),
    ("#### 3,5", "7/2"),
    ("#### 1.234,50 \u20ac", "2469/2"),
    ("Answer: 1 234,50", "2469/2"),
    ("#### 1,234", "1234"),
    ("Rooms 12 and 100 200", "200"),
    ("答案：－７２。", "-72"),
    ("所以答案是１，２３４元，每天3元。", "1234"),
    # a sum ends with its result
    ("#### 9*2 = 18", "18"),
    ("#### $9 \\times 2 = 18$", "18"),
    ("#### 16 - 3 - 4 = 9.", "9"),
    ("#### 18 = 9*2", "18"),
    ("#### 18 apples, x = 5", "18"),
    ("#### 7 no, #### 8", "8"),
    # which answer is meant
    ("The previous answer was 20. I was wrong: it is 18", "18"),
    ("My original answer was 20. I checked it by 3 ways.", "20"),
    ("The answer is not 20 but 18.", "18"),
    ("<answer>18</answer>\nConfidence: 95", "18"),
    ("**72** is the final answer to this 3-part question.", "72"),
    ("Final Answer: 18\n\nExplanation: 16 - 3 - 4 = 9; 9 * 2 = 18, in 2 steps.", "18"),
    ("#### 72\r\nThanks for the 5 hints", "72"),
    ("18\n\nShe sells 9 eggs at $2.", "18"),
    ("16\n- 3\n= 13", "13"),
    ("| item | n |\n|---|---|\n| eggs | 12 |\n| total | 18 |", "18"),
]


@pytest.mark.parametrize("name", ["numeric", "gsm8k"])
@pytest.mark.parametrize(("text", "answer"), NUMBERS)
def test_a_number(name: str, text: str, answer: str) -> None:
    assert scorers.find(name).extract(Question((), ""), text) == answer


FOUR = Question((), "", choices=("$\\frac{1}{2}$", "12 apples", "a train", "none of the above"))
LETTERS = [
    ("\\boxed{\\textbf{(B) }12}", "B"),
    ("\\boxed{\\text{(B) } 12}", "B"),
    ("\\boxed{B: 12}", "B"),
    ("\\boxed{\\text{12 apples}}", "B"),
    ("\\boxed{B + C}", None),
    ("Answer: <B>", "B"),
    ("the correct answer is option 'B'.", "B"),
    ("Answer: B's case is strong", None),
    ("`B`", "B"),
    ("B: 12 apples", "B"),
    ("<answer>B</answer>\nI am sure.", "B"),
    ("B\n\nThis is because A is too small.", "B"),
    ("I think of A\n\nand more.", None),
    ("Ans: B", "B"),
    ("Answer - B", "B"),
    ("Answer: I think it's B", "B"),
    ("B is the correct answer.", "B"),
    ("So B is correct.", "B"),
    ("Point B is right of C.", None),
    ("I would choose B.", "B"),
    ("B选项正确", "B"),
    ("B是正确答案", "B"),
    ("A选项不正确", None),
    # The article is no letter.
    ("The answer is A train", "C"),
    ("The answer is A because B is red.", "A"),
    # what is said in later turns
    ("My answer remains B.", "B"),
    ("The answer is still (B).", "B"),
    ("I change my answer from A to B.", "B"),
    ("I'll stick with B.", "B"),
    ("My answer of B is correct.", "B"),
    ("My previous answer was A. I was wrong; it should be B.", "B"),
    ("My previous answer was A, and it holds.", "A"),
    ("Answer: B\nThe other answers: A is too small.", "B"),
    ("Answer: A is wrong, B is right", None),
]


@pytest.mark.parametrize(("text", "letter"), LETTERS)
def test_a_letter(text: str, letter: str | None) -> None:
    assert scorers.find("choice").extract(FOUR, text) == letter


YES_NO, TRUE_FALSE = ("yes", "no"), ("true", "false")
SEVEN = tuple(
    f"{number}. {name}"
    for number, name in enumerate(["red", "blue", "a,b", "tan", "oak", "elm", "fir"], 1)
)
NAMES = ("Barack Obama", "Obama", "Washington, D.C.")
LABELS = [
    (YES_NO, "\\boxed{yes}", "yes"),
    (YES_NO, "Answer: $\\boxed{\\text{no}}$", "no"),
    (YES_NO, "<answer>yes</answer>\nSure.", "yes"),
    (YES_NO, "My answer remains yes.", "yes"),
    (YES_NO, "The answer is definitely yes", "yes"),
    (YES_NO, "Answer: - yes", "yes"),
    (YES_NO, "Answer: yes\n\nThis answer is based on the passage.", "yes"),
    (YES_NO, "Answer: yes\nAnswer: maybe", None),
    (YES_NO, "Answer: no one knows", None),
    (YES_NO, "My previous answer was yes. That was wrong.\nno", "no"),
    (TRUE_FALSE, "Answer: not-entailment", "false"),
    (TRUE_FALSE, "Answer: The statement is false.", "false"),
    (("true", "false", "neither"), "Neither of the two.", "neither"),
    (("true", "false", "neither"), "Answer: not true", None),
    (SEVEN, "Answer: (1), (4)", "1,4"),
    (SEVEN, "Answer: **1**, **4**", "1,4"),
    (SEVEN, "Answer: {1, 4}", "1,4"),
    (SEVEN, "Answer: 1、4", "1,4"),
    (SEVEN, "Answer: Options 1, 4 are right", "1,4"),
    (SEVEN, "Answer: 1-3", "1,2,3"),
    (SEVEN, "Answer: only 4", "4"),
    (SEVEN, "\\boxed{1, 4}", "1,4"),
    (SEVEN, "Answer:\n1\n4", "1,4"),
    (SEVEN, "Answer:\n- 1\n- 4", "1,4"),
    (SEVEN, "Answer: 1. red, 4. tan", "1,4"),
    (SEVEN, "Answer: 1 (red), 3 (a,b)", "1,3"),
    (SEVEN, "Answer: 1. red, 4. pink", None),
    (SEVEN, "Answer: none of them is right.", "0"),
    (SEVEN, "Answer: all of the above", "1,2,3,4,5,6,7"),
    (SEVEN, "Answer: 1 or 4", None),
    (NAMES, "\\boxed{Obama}", "Obama"),
    (NAMES, "Answer: Obama, because he said so.", "Obama"),
    (NAMES, "Answer: Washington, D.C., since it says so", "Washington, D.C."),
    (NAMES, "Answer: Barack Obama (the president)", "Barack Obama"),
]


@pytest.mark.parametrize(("choices", "text", "label"), LABELS)
def test_a_label(choices: tuple[str, ...], text: str, label: str | None) -> None:
    assert scorers.find("superglue").extract(Question((), "", choices=choices), text) == label


WORDS = [
    ("exact", "Answer: \\boxed{Paris}", "Paris", 1),
    ("exact", "<answer>Paris</answer>", "Paris", 1),
    ("exact", "```\nParis\n```", "Paris", 1),
    ("exact", "My answer remains Paris.", "Paris", 1),
    ("exact", "Answer: Paris\n\nThis answer is based on the map.", "Paris", 1),
    ("exact", "The answer is incorrect.", "incorrect", 1),
    ("exact", "Answer: McDonald\u2019s", "McDonald's", 1),
    ("contains", "It is 3.5", "3", 0),
    ("contains", "It is 1,300", "300", 0),
    ("contains", "It is -3", "3", 0),
    ("contains", "It is 3.", "3", 1),
    ("contains", "It is page-3", "3", 1),
    ("toolqa", "Thought: I know it. Action: Finish[147]", "147", 1),
    ("toolqa", "action: finish[147]", "147", 1),
    ("toolqa", "Action：Finish[147]", "147", 1),
    ("toolqa", "Action: Finish[<answer>147</answer>]", "147", 1),
    ("toolqa", "Action: Finish[8 PM]", "8:00 PM", 1),
    ("toolqa", "Action: Finish[8 PM]", "8:00 AM", 0),
    ("toolqa", "Action: Finish[147 papers]", "147", 1),
    ("toolqa", "Action: Finish[147 hours]", "147.0", 0),
]


@pytest.mark.parametrize(("name", "text", "target", "right"), WORDS)
def test_words(name: str, text: str, target: str, right: int) -> None:
    scorer, item = scorers.find(name), Item("i", Question((), ""), target)
    answer = scorer.extract(item.question, text)
    assert (answer is not None and scorer.judge(item, answer, text).value) == right


@pytest.mark.parametrize(
    ("text", "name", "held"),
    [
        ("Thought: I load it. Action: LoadDB[coffee]", "LoadDB", "coffee"),
        ("action: loaddb[coffee]", "LoadDB", "coffee"),
        ("Action：GetValue[Close]", "GetValue", "Close"),
        ("Action: NodeCheck[PaperNet, On [x], y]", "NodeCheck", "PaperNet, On [x], y"),
        ("Action: Fly[home]", "Fly", "home"),
    ],
)
def test_an_action(text: str, name: str, held: str) -> None:
    taken = agent.action(text)
    assert taken is not None
    assert (taken.name, taken.text) == (name, held)


@pytest.mark.parametrize("tag", ["{.python}", "python:solution.py", "ipython", 'py title="a"'])
def test_the_language_of_a_block(tag: str) -> None:
    asked = "```python\ndef add(a, b):\n    pass\n```"
    from deltascale.scorers.code import CodeProblem, extract_code, shown_prompt

    problem = CodeProblem(shown_prompt(asked) or "", "add", "")
    code = "def add(a, b):\n    return a + b\n"
    assert extract_code(f"```{tag}\n{code}```", problem) == code
