"""MathBench from hand-made files in the layout of the release: never real results."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltascale import scorers
from deltascale.datasets import Cache, load, mathbench, subsets
from deltascale.datasets.fetch import Remote
from deltascale.errors import DatasetMistake
from deltascale.records import DatasetSpec, Item, Question
from deltascale.scorers import benchmark
from deltascale.scorers.mathbench import MATHBENCH, opencompass_cloze

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
HANDMADE = SHARED / "mathbench" / "handmade" / "mathbench_v1"
CHOICE = {"question": " Which? ", "options": ["w", "x", "y", "z"], "answer": "B"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if not HANDMADE.exists():
        pytest.skip("the hand-made MathBench files are not beside this checkout")
    return Path(shutil.copytree(HANDMADE, tmp_path / "mathbench_v1", copy_function=shutil.copyfile))


def chosen(folder: Path, options: dict[str, str], items: int | None = None) -> tuple[Item, ...]:
    spec = DatasetSpec("mathbench", options={"path": str(folder), **options})
    return load(spec, items=items, seed=0, cache=Cache(folder.parent, offline=True)).items


def take(folder: Path, items: int | None = None, **options: str) -> tuple[Item, ...]:
    return chosen(folder, options, items)


def told(folder: Path, **options: str) -> str:
    with pytest.raises(DatasetMistake) as caught:
        chosen(folder, options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_file_and_line_is_an_item(folder: Path) -> None:
    items = take(folder)
    assert len(items) == len({item.id for item in items}) == 146
    assert set(Counter(item.stratum for item in items)) == set(mathbench.FILES)
    assert len(mathbench.FILES) == 17
    scorer = scorers.find("mathbench")
    for item in items:
        chinese = "_cn/" in item.id
        reply = f"答案:{item.target}。" if chinese else f"The answer is {item.target}."
        answer = scorer.extract(item.question, reply)
        assert answer is not None
        assert scorer.judge(item, answer, reply).value == 1.0
        (message,) = item.question.messages
        assert message.content.endswith(item.question.answer_format)
        assert ("\nA. " in message.content) == bool(item.question.choices)
        assert chinese == any("\u4e00" <= letter <= "\u9fff" for letter in message.content)


def test_the_languages_stages_and_parts_that_were_chosen(folder: Path) -> None:
    def files(**options: str) -> set[str]:
        return {item.stratum for item in chosen(folder, options)}

    assert len(files(languages="en")) == 9
    assert files(stages="arithmetic") == {"arithmetic/cloze_en"}
    assert len(files(stages="college, high", parts="theory")) == 4
    assert files(stages="primary", languages="cn") == {
        "primary/cloze_cn",
        "primary_knowledge/single_choice_cn",
    }


def test_rotations_are_the_same_question_with_the_right_letter_moved(folder: Path) -> None:
    plain = {item.id: item for item in take(folder)}
    items = take(folder, circular="4")
    choice = [item for item in items if item.question.choices]
    assert len(choice) == 4 * sum(bool(item.question.choices) for item in plain.values())
    for item in choice:
        original = plain[item.meta["unit"]]
        assert item.cluster == original.id
        assert sorted(item.question.choices) == sorted(original.question.choices)
        right = original.question.choices["ABCD".index(original.target)]
        assert item.question.choices["ABCD".index(item.target)] == right
        if item.meta["pattern"] == "ABCD":
            assert item.id == original.id
            assert item.question == original.question
    assert len({item.id for item in items}) == len(items)


def test_a_circular_subset_counts_questions_and_keeps_rotations_together(folder: Path) -> None:
    items = take(folder, items=20, circular="4", parts="theory")
    units = Counter(item.meta["unit"] for item in items)
    assert set(units.values()) == {4}
    assert len(units) == 20
    assert set(units) == {item.id for item in take(folder, items=20, parts="theory")}


@pytest.mark.parametrize("letter", "ABCD")
@pytest.mark.parametrize("pattern", mathbench.PATTERNS)
def test_rotation_and_its_inverse(letter: str, pattern: str) -> None:
    options = ("w", "x", "y", "z")
    shown, gold = mathbench.rotated(options, letter, pattern)
    assert shown["ABCD".index(gold)] == options["ABCD".index(letter)]
    assert pattern["ABCD".index(gold)] == letter


@pytest.mark.parametrize(
    ("more", "errata", "n_options", "n_items"),
    [
        ({}, None, 4, 4),
        ({"options": ["w", "x", "y", "z", "v"]}, "5 options", 4, 4),
        ({"options": ["w", "x", "y"]}, "3 options", 3, 1),
        ({"options": ["w", "x", "y", "x"]}, "options alike", 4, 4),
        ({"answer": "E"}, "answer is no letter", 4, 4),
        ({"answer": ""}, "answer is no letter", 4, 4),
    ],
)
def test_odd_questions_are_kept_and_tagged(
    more: dict[str, object], errata: str | None, n_options: int, n_items: int
) -> None:
    spec = DatasetSpec("mathbench", options={"circular": "4"})
    line = json.dumps({**CHOICE, **more})
    items = list(mathbench.parse("college/single_choice_en", f"\n{line}\n", spec))
    assert len(items) == n_items
    assert items[0].id == "mathbench/college/single_choice_en/0001"
    assert {item.meta.get("errata") for item in items} == {errata}
    assert {len(item.question.choices) for item in items} == {n_options}


def test_a_zip_is_read_where_it_lies(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(folder.rglob("*.jsonl")):
            name = path.relative_to(folder).as_posix()
            archive.write(path, f"mathbench_v1/mathbench_v1/{name}")
            archive.writestr(f"../{name}", "junk")
            archive.writestr(f"/{name}", "junk")
            archive.writestr(f"__MACOSX/mathbench_v1/{name}", "junk")
            archive.writestr(f"mathbench_v1/{name.replace('/', '/._', 1)}", "junk")
    data = packed.getvalue()
    monkeypatch.setattr(
        mathbench, "ZIP", Remote(mathbench.ZIP.url, md5=hashlib.md5(data).hexdigest())
    )
    cache = Cache(folder.parent / "cache", offline=True)
    path = cache.path(mathbench.ZIP)
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    spec = DatasetSpec("mathbench")
    with pytest.raises(DatasetMistake, match=r"146 questions instead of 3709 \(arithmetic/cloze_"):
        load(spec, items=None, seed=0, cache=cache)
    spec = DatasetSpec("mathbench", options={"counts": "any"})
    assert load(spec, items=None, seed=0, cache=cache).items == take(folder)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"circular": "2"}, "circular is '2'; write 4 for all rotations, or none"),
        ({"languages": "de"}, "languages has 'de'; known are en, cn"),
        ({"stages": "colege"}, "stages has 'colege'"),
        ({"parts": "theory", "stages": "arithmetic"}, "no file of the benchmark has"),
        ({"language": "en"}, "unknown setting 'language'; did you mean 'languages'?"),
    ],
)
def test_settings_that_can_not_be(folder: Path, options: dict[str, str], expected: str) -> None:
    assert expected in told(folder, **options)


def test_folders_that_are_not_the_release(folder: Path, tmp_path: Path) -> None:
    assert "it can't be read" in told(tmp_path / "nowhere")
    broken = folder / "college" / "single_choice_en.jsonl"
    broken.write_text('{"question": "q"}')
    assert "mathbench college/single_choice_en line 1: this line is not" in told(folder)
    (folder / "college" / "cloze_en.jsonl").write_text("{}")
    assert "the layout from before the release" in told(folder)
    broken.unlink()
    assert "there is no college/single_choice_en.jsonl in it" in told(folder)
    (tmp_path / "no.zip").write_text("no zip")
    assert "it can't be read" in told(tmp_path / "no.zip")


def test_files_of_ones_own_are_known_by_what_was_read(folder: Path) -> None:
    def source() -> str:
        spec = DatasetSpec("mathbench", options={"path": str(folder)})
        return load(spec, items=5, seed=0, cache=Cache(folder, offline=True)).source

    before = source()
    assert before == source()
    assert mathbench.ZIP.md5 not in before
    file = folder / "college" / "single_choice_en.jsonl"
    file.write_text(file.read_text(encoding="utf-8").replace('"A"', '"C"', 1), encoding="utf-8")
    assert source() != before


def test_two_kinds_of_answers_in_one_scorer() -> None:
    scorer = scorers.find("mathbench")
    letters, number = Question((), "", choices=("1", "2", "3", "4")), Question((), "")
    assert scorer.extract(letters, "The answer is 2") == "B"
    assert scorer.extract(number, "The answer is 2") == "2"
    score = scorer.judge(Item("mathbench/primary/cloze_en/0", number, "9"), "9", "It is 9.0")
    assert (score.value, score.others) == (1.0, {"opencompass_cloze": 0.0})
    assert scorer.judge(Item("i", letters, "B"), "B", "").others == {}


@pytest.mark.parametrize(
    ("text", "chinese", "found"),
    [
        ("3 and 4", False, "4"),
        ("The answer is 1,234 of 5", False, "1234"),
        ("答案是 7 个, 共 8", True, "7"),
        ("The answer is 7, 8", True, "8"),
        ("none", False, "none"),
    ],
)
def test_the_rule_of_opencompass(text: str, chinese: bool, found: str) -> None:
    assert opencompass_cloze(text, chinese=chinese) == found


def answered(
    letters: str, gold: str = "A", *, file: str = "college/single_choice_en", name: str = "q"
) -> list[tuple[Item, str | None]]:
    """One question, its answers in the order of the rotations (`-`: none)."""
    asked = Question((), "", choices=("1", "2", "3", "4"))
    return [
        (
            Item(
                f"{file}/{name}#{pattern}",
                asked,
                "ABCD"[pattern.index(gold)],
                stratum=file,
                meta={"unit": f"{file}/{name}", "pattern": pattern},
            ),
            None if letter == "-" else letter,
        )
        for pattern, letter in zip(mathbench.PATTERNS, letters, strict=False)
    ]


def test_circular_scores_by_hand() -> None:
    always_right = answered("ADCB", name="1")
    always_a = answered("AAAA", name="2")
    twice_right = answered("AD--", name="3")
    scores = benchmark.scores(MATHBENCH, [*always_right, *always_a, *twice_right])
    file = "college/single_choice_en"
    assert scores[file, "acc_1"] == 1.0
    assert scores[file, "acc_4"] == pytest.approx(7 / 12)
    assert scores[file, "perf_4"] == pytest.approx(1 / 3)
    assert scores[file, "more_4_1"] == 1.0
    assert scores[file, "more_4_2"] == pytest.approx(2 / 3)
    assert scores[file, "more_4_3"] == pytest.approx(1 / 3)
    assert scores[file, "vote_4"] == 1.0  # the tie of AAAA over four options goes to the first
    assert scores["college", "circular evaluation"] == pytest.approx(1 / 3)
    assert scores["", "prior A"] == pytest.approx(6 / 12)
    assert scores["", "prior none"] == pytest.approx(2 / 12)
    wrong = benchmark.scores(MATHBENCH, answered("AAAA", gold="B"))
    assert wrong[file, "vote_4"] == 0.0
    assert wrong[file, "acc_4"] == 0.25


@given(st.lists(st.tuples(st.text("ABCD-", min_size=4, max_size=4), st.sampled_from("ABCD"))))
def test_circular_scores_are_those_of_plain_loops(questions: list[tuple[str, str]]) -> None:
    """An independent telling of the published rules, question by question."""
    held, n_perfect, n_voted, n_first, n_right = [], 0, 0, 0, 0
    for number, (letters, gold) in enumerate(questions):
        held += answered(letters, gold, name=str(number))
        options = [
            None if letter == "-" else pattern["ABCD".index(letter)]
            for pattern, letter in zip(mathbench.PATTERNS, letters, strict=True)
        ]
        n_perfect += all(option == gold for option in options)
        n_first += options[0] == gold
        n_right += options.count(gold)
        said = sorted({option for option in options if option})
        n_voted += bool(said) and max(said, key=options.count) == gold
    scores, n, file = benchmark.scores(MATHBENCH, held), len(questions), "college/single_choice_en"
    if not questions:
        assert scores == {}
        return
    assert scores[file, "perf_4"] == pytest.approx(n_perfect / n)
    assert scores[file, "acc_1"] == pytest.approx(n_first / n)
    assert scores[file, "acc_4"] == pytest.approx(n_right / n / 4)
    assert scores[file, "vote_4"] == pytest.approx(n_voted / n)


def test_a_question_without_one_of_its_rotations_counts_for_none() -> None:
    whole, part = answered("ADCB", name="1"), answered("ADC", name="2")
    file = "college/single_choice_en"
    assert benchmark.scores(MATHBENCH, [*whole, *part])[file, "perf_4"] == 1.0
    assert benchmark.scores(MATHBENCH, part)[file, "accuracy"] == 1.0


def test_stages_are_means_of_languages_and_parts_means_of_stages() -> None:
    def item(file: str, number: int) -> Item:
        return Item(f"{file}/{number}", Question((), ""), "7", stratum=file)

    # Of different lengths, so that a mean over items would be another.
    held: list[tuple[Item, str | None]] = [
        (item(file, number), "7" if number == 0 else None)
        for place, file in enumerate(mathbench.FILES)
        for number in range(2 + place % 3)
    ]
    accuracy = {file: 1 / (2 + place % 3) for place, file in enumerate(mathbench.FILES)}
    found = benchmark.scores(MATHBENCH, held)
    of_stage = {}
    for stage in {file.partition("/")[0] for file in mathbench.FILES}:
        own = [x for file, x in accuracy.items() if file.startswith(f"{stage}/")]
        of_stage[stage] = sum(own) / len(own)
        assert found[stage, "accuracy"] == pytest.approx(of_stage[stage])
    theory = [x for stage, x in of_stage.items() if stage.endswith("_knowledge")]
    applied = [x for stage, x in of_stage.items() if not stage.endswith("_knowledge")]
    both = (sum(theory) / 4 + sum(applied) / 5) / 2
    assert found["theory", "accuracy"] == pytest.approx(sum(theory) / 4)
    assert found["", "accuracy, mean of both parts"] == pytest.approx(both)
    lacking = [pair for pair in held if "arithmetic" not in pair[0].id]
    less = benchmark.scores(MATHBENCH, lacking)
    assert ("application", "accuracy") not in less
    assert ("theory", "accuracy") in less
    assert not [name for name in less if not name[0]]


def test_the_order_is_pinned(folder: Path) -> None:
    assert subsets.digest(take(folder, items=30)) == (
        "f40353e565df117e60dd28416f284b61e40fba498eb668820f5cc57351d524d8"
    )
    assert len({item.stratum for item in take(folder, items=30)}) >= 15
