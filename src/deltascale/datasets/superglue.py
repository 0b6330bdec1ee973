"""SuperGLUE: eight tasks of language understanding, asked of the validation sets.

`superglue` mixes them in equal shares; each task is also a dataset of its own (`superglue-boolq`).
A question's options say how it is answered: bare words are the words to choose from, lettered ones
want a letter, numbered ones want the numbers of all that are right. Settings: `tasks`, a list with
commas; `path`, a folder with `BoolQ/val.jsonl` and so on, or a zip of it, instead of the download;
`multirc: options` asks of each option of MultiRC apart whether it is right, instead of once for all
that are (five times the calls; the options of a question are drawn and scored together);
`from: hub` reads the copies on the Hugging Face hub; `counts: any` accepts other numbers of items.

Source: Wang et al. 2019, arXiv 1905.00537.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from deltascale.datasets import Dataset, bundle, counts, hub, prompts, subsets
from deltascale.datasets.fetch import Cache, Remote, fetch
from deltascale.errors import DatasetMistake
from deltascale.records import DatasetSpec, Item, Question

__all__ = [
    "BOOLQ",
    "CB",
    "COPA",
    "MULTIRC",
    "RECORD",
    "RTE",
    "SUPERGLUE",
    "TASKS",
    "WIC",
    "WSC",
    "parse",
]

Record: TypeAlias = "dict[str, Any]"
"""A line of a task's file; every task has fields of its own, read in this module alone."""

_BASE = "https://dl.fbaipublicfiles.com/glue/superglue/data/v2"


@dataclass(frozen=True, slots=True)
class _Draft:
    """What a task makes of a line: an item but for the opening message."""

    id: str
    question: str
    choices: tuple[str, ...]
    answers: tuple[str, ...]
    shared: str = ""
    """What items of one cluster have in common; empty: nothing."""
    unit: str = ""
    """The question of which this is one option; empty: it is a question of its own."""


@dataclass(frozen=True, slots=True)
class _Task:
    remote: Remote
    n_items: int
    summary: str
    asks: str
    read: Callable[[Record], Iterator[_Draft]]


YES_NO = 'Finish with the line "Answer: yes" or "Answer: no"'
TRUE_FALSE = 'Finish with the line "Answer: true" or "Answer: false"'
THREE_WAY = 'Finish with the line "Answer: true", "Answer: false" or "Answer: neither"'
NUMBERS = (
    "Finish with the numbers of all options that are right on the last line, written as: "
    "Answer: <numbers with commas> (Answer: 0 if none is right)"
)
ENTITY = "Finish with one of these names on the last line, written as: Answer: <name>"


def parse(name: str, text: str, spec: DatasetSpec) -> Iterator[Item]:
    """Items of one task: its name, and the text of its `val.jsonl`.

    Raises:
        DatasetMistake: a line is not a labelled example of the task.
    """
    task = TASKS[name]
    apart = name == "MultiRC" and _asks_options(spec)
    read, asks = (_multirc_options, YES_NO) if apart else (task.read, task.asks)
    asks = prompts.answer_format(spec, asks)
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            drafts = list(read(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise DatasetMistake(
                "this line is not a labelled example", where=f"superglue {name} line {number}"
            ) from error
        for draft in drafts:
            yield _item(name, draft, asks, spec)


def _item(task: str, draft: _Draft, asks: str, spec: DatasetSpec) -> Item:
    marked = bool(draft.choices) and draft.choices[0][:3] in {"A. ", "1. "}
    listed = "\n".join(draft.choices) if marked else ""
    if task == "ReCoRD":
        listed = "Names:\n" + "\n".join(f"- {name}" for name in draft.choices)
    shared = hashlib.sha256(draft.shared.encode()).hexdigest()[:16]
    return Item(
        id=f"superglue/{task}/{draft.id}",
        question=Question(
            messages=prompts.opening(spec, draft.question, asks=asks, choices=listed),
            answer_format=asks,
            choices=draft.choices,
        ),
        target=draft.answers[0],
        aliases=draft.answers[1:],
        stratum=task,
        cluster=f"{task}/{shared}" if draft.shared else "",
        meta={"unit": f"superglue/{task}/{draft.unit}"} if draft.unit else {},
        chance=1 / len(draft.choices) if task != "MultiRC" and draft.choices else 0.0,
    )


# --- the tasks -----------------------------------------------------------------------------------


def _truth(label: object) -> bool:
    """Labels are booleans in the release and words in a copy of it."""
    if label in (True, "true", "True"):
        return True
    if label in (False, "false", "False"):
        return False
    raise ValueError(f"{label!r} is neither true nor false")


def _yes_no(label: object) -> tuple[str, ...]:
    return ("yes" if _truth(label) else "no",)


def _boolq(line: Record) -> Iterator[_Draft]:
    passage, question = line["passage"].strip(), line["question"].strip().rstrip("?")
    text = f"{passage}\n\nBy this passage: {question}?"
    yield _Draft(str(line["idx"]), text, ("yes", "no"), _yes_no(line["label"]), passage)


def _entailed(line: Record, labels: Mapping[str, str]) -> Iterator[_Draft]:
    premise, hypothesis = line["premise"].strip(), line["hypothesis"].strip()
    words = tuple(dict.fromkeys(labels.values()))
    asked = (
        "true? What does not follow from the text counts as false."
        if len(words) == 2
        else "true, false, or neither of the two?"
    )
    text = f"{premise}\n\nBy this text, is the following statement {asked}\n{hypothesis}"
    yield _Draft(str(line["idx"]), text, words, (labels[line["label"]],), premise)


def _cb(line: Record) -> Iterator[_Draft]:
    labels = {"entailment": "true", "contradiction": "false", "neutral": "neither"}
    return _entailed(line, labels)


def _rte(line: Record) -> Iterator[_Draft]:
    return _entailed(line, {"entailment": "true", "not_entailment": "false"})


def _copa(line: Record) -> Iterator[_Draft]:
    asked = {
        "cause": "What was the cause of this?",
        "effect": "What happened as an effect of this?",
    }
    text = f"{line['premise'].strip()}\n\n{asked[line['question']]}"
    choices = (f"A. {line['choice1'].strip()}", f"B. {line['choice2'].strip()}")
    yield _Draft(str(line["idx"]), text, choices, ("AB"[int(line["label"])],))


def _multirc(line: Record) -> Iterator[_Draft]:
    passage = line["passage"]["text"].strip()
    for question in line["passage"]["questions"]:
        choices = tuple(
            f"{number}. {answer['text'].strip()}"
            for number, answer in enumerate(question["answers"], start=1)
        )
        right = [
            str(number)
            for number, answer in enumerate(question["answers"], start=1)
            if int(answer["label"])
        ]
        text = f"{passage}\n\n{question['question'].strip()}\nAny number of options may be right."
        name = f"{line['idx']}-{question['idx']}"
        yield _Draft(name, text, choices, (",".join(right) or "0",), passage)


def _multirc_options(line: Record) -> Iterator[_Draft]:
    passage = line["passage"]["text"].strip()
    for question in line["passage"]["questions"]:
        unit = f"{line['idx']}-{question['idx']}"
        for number, answer in enumerate(question["answers"], start=1):
            text = (
                f"{passage}\n\n{question['question'].strip()}\nSuggested answer: "
                f"{answer['text'].strip()}\n\nIs the suggested answer right?"
            )
            right = ("yes" if int(answer["label"]) else "no",)
            yield _Draft(f"{unit}-{number}", text, ("yes", "no"), right, passage, unit)


def _asks_options(spec: DatasetSpec) -> bool:
    said = spec.options.get("multirc", "questions")
    if said not in {"questions", "options"}:
        raise DatasetMistake(
            f"multirc is {said!r}",
            where=f"dataset {spec.name!r} options",
            remedy="write options to ask for each apart, or questions",
        )
    return said == "options"


def _record(line: Record) -> Iterator[_Draft]:
    passage = line["passage"]["text"]
    names = {passage[e["start"] : e["end"] + 1].strip() for e in line["passage"]["entities"]}
    shown = passage.replace("\n@highlight\n", "\n- ")
    for query in line["qas"]:
        # Sorted, as in the copies on the hub, so that both sources give the same target.
        gold = tuple(sorted({answer["text"].strip() for answer in query["answers"]}))
        text = (
            f"{shown}\n\nWhich name belongs in the place of @placeholder?\n{query['query'].strip()}"
        )
        yield _Draft(str(query["idx"]), text, tuple(sorted(names - {""})), gold, passage)


def _wic(line: Record) -> Iterator[_Draft]:
    word = line["sentence1"][line["start1"] : line["end1"]]
    text = (
        f"1: {line['sentence1'].strip()}\n2: {line['sentence2'].strip()}\n\n"
        f'Has the word "{word}" the same meaning in both sentences?'
    )
    yield _Draft(str(line["idx"]), text, ("yes", "no"), _yes_no(line["label"]), line["word"])


def _wsc(line: Record) -> Iterator[_Draft]:
    words, target = line["text"].split(" "), line["target"]
    place = _place(words, target["span2_text"].split(" "), target["span2_index"])
    noun_place = _place(words, target["span1_text"].split(" "), target["span1_index"])
    n_words = len(target["span1_text"].split(" "))
    noun = " ".join(words[noun_place : noun_place + n_words]).rstrip(".")
    pronoun = words[place]
    words[place] = f"*{pronoun}*"
    text = (
        f"{' '.join(words)}\n\n"
        f'Does the pronoun "{pronoun}" between the asterisks refer to "{noun}"?'
    )
    yield _Draft(str(line["idx"]), text, ("yes", "no"), _yes_no(line["label"]), line["text"])


def _place(words: Sequence[str], span: Sequence[str], index: int) -> int:
    """Where the span stands: at its index, case and end marks aside, or next to it.

    In one example of the validation set the index points at the word before the pronoun, in eight
    the span is written with a capital that the text lacks.
    """
    plain = [word.rstrip(".,;").casefold() for word in words]
    wanted = [word.rstrip(".,;").casefold() for word in span]
    for near in (index, index + 1, index - 1):
        if near >= 0 and plain[near : near + len(wanted)] == wanted:
            return near
    raise ValueError(f"{span} is not at word {index}")


def _remote(task: str, size: int, sha256: str) -> Remote:
    return Remote(f"{_BASE}/{task}.zip", size=size, sha256=sha256, instead=hub.INSTEAD)


TASKS: Mapping[str, _Task] = {
    "BoolQ": _Task(
        _remote(
            "BoolQ", 4118001, "853fbe7922f70c59629f06a39e8d9ca440c3d740e760fd3b87a5ddf3dcba2436"
        ),
        3270,
        "yes or no, by a passage",
        YES_NO,
        _boolq,
    ),
    "CB": _Task(
        _remote("CB", 75482, "8d641383298d54554066ba1c93f56ae7410af75df621b90c63028806bbbbb535"),
        56,
        "does a text commit its writer to a statement",
        THREE_WAY,
        _cb,
    ),
    "COPA": _Task(
        _remote("COPA", 43986, "405906cddac74bc1e1ce8220f1107d1025b66a25ef10149d91b10bb30651125f"),
        100,
        "the likelier cause or effect of two",
        prompts.LETTER,
        _copa,
    ),
    "MultiRC": _Task(
        _remote(
            "MultiRC", 1116225, "b3cd440856e72eb166b2edcd37b798455f1ebd51f2c3de64c0c2a4e1971d2737"
        ),
        953,
        "all right options, by a passage",
        NUMBERS,
        _multirc,
    ),
    "ReCoRD": _Task(
        _remote(
            "ReCoRD", 51757880, "30c7b651ab21b8bf8fab986495cd1084333010e040548f861b839eec0044ac18"
        ),
        10000,
        "the name that is missing, by a news text",
        ENTITY,
        _record,
    ),
    "RTE": _Task(
        _remote("RTE", 750920, "6310aab3f000424c9d0318a1ff20692e07c7f4aa15e8f17a5972ea0a35c398b9"),
        277,
        "does a text entail a statement",
        TRUE_FALSE,
        _rte,
    ),
    "WiC": _Task(
        _remote("WiC", 396213, "ee7e67f4ae9eafbf533780faa198e62167f3cda54256cdf261877be3c0e90900"),
        638,
        "has a word the same meaning twice",
        YES_NO,
        _wic,
    ),
    "WSC": _Task(
        _remote("WSC", 32751, "2ed6dfa94556b4a128ff0441efe365b2e883124e7e6aa00fb8d3a6cb1fd520a9"),
        104,
        "whom or what a pronoun means",
        YES_NO,
        _wsc,
    ),
}


# --- the datasets --------------------------------------------------------------------------------

_OPTIONS = ("path", "from", "counts")


def _load(spec: DatasetSpec, cache: Cache, tasks: Sequence[str]) -> tuple[Item, ...]:
    own = spec.options.get("path", "")
    from_hub = hub.chosen(spec)
    items: list[Item] = []
    for name in tasks:
        if from_hub:
            text = hub.lines(name, cache)
        else:
            place = bundle.own(own) if own else fetch(TASKS[name].remote, cache)
            member = f"{name}/val.jsonl"
            text = bundle.texts(place, [member], where=own or f"{name}.zip")[member]
        found = tuple(parse(name, text, spec))
        if not own:
            n_units = len({subsets.unit(item) for item in found})
            counts.check(spec, n_units, TASKS[name].n_items, what=f"items of {name}")
        items += found
    return tuple(items)


def _load_all(spec: DatasetSpec, cache: Cache) -> tuple[Item, ...]:
    prompts.only_options(spec, ("tasks", "multirc", *_OPTIONS))
    return _load(spec, cache, _chosen(spec))


def _chosen(spec: DatasetSpec) -> Sequence[str]:
    """The tasks that the setting names, by name."""
    chosen = [name.strip() for name in spec.options.get("tasks", ",".join(TASKS)).split(",")]
    by_lower = {name.lower(): name for name in TASKS}
    for name in chosen:
        if name.lower() not in by_lower:
            raise DatasetMistake(
                f"unknown task {name!r}",
                where=f"dataset {spec.name!r} options",
                remedy=f"known are {', '.join(TASKS)}",
            )
    return sorted({by_lower[name.lower()] for name in chosen})


def _source_of_all(spec: DatasetSpec, cache: Cache) -> str:
    return hub.source(_chosen(spec), cache) if hub.chosen(spec) else SUPERGLUE.source


def _of_task(name: str) -> Dataset:
    def load(spec: DatasetSpec, cache: Cache) -> tuple[Item, ...]:
        prompts.only_options(spec, (*_OPTIONS, "multirc") if name == "MultiRC" else _OPTIONS)
        return _load(spec, cache, (name,))

    def source_of(spec: DatasetSpec, cache: Cache) -> str:
        return hub.source([name], cache) if hub.chosen(spec) else source

    task = TASKS[name]
    source = f"{name}.zip sha256 {task.remote.sha256}"
    return Dataset(
        name=f"superglue-{name.lower()}",
        summary=f"SuperGLUE {name}: {task.summary}",
        licence=_LICENCES.get(name, "research use"),
        homepage="https://super.gluebenchmark.com",
        scorer="superglue",
        stratified="equal",
        max_items=task.n_items,
        output_tokens=_OUTPUT_TOKENS,
        load=load,
        source=source,
        source_of=source_of,
        part_of="superglue",
    )


_OUTPUT_TOKENS = 120
"""A guess: a few sentences of reasoning and the answer."""

_LICENCES = {
    "BoolQ": "CC BY-SA 3.0",
    "COPA": "BSD-2-Clause",
    "ReCoRD": "Apache-2.0",
    "WSC": "CC BY 4.0",
    "WiC": "CC BY-NC 4.0",
}

BOOLQ, CB, COPA, MULTIRC = map(_of_task, ("BoolQ", "CB", "COPA", "MultiRC"))
RECORD, RTE, WIC, WSC = map(_of_task, ("ReCoRD", "RTE", "WiC", "WSC"))

SUPERGLUE = Dataset(
    name="superglue",
    summary="eight tasks of language understanding, in equal shares",
    licence="by task; research use",
    homepage="https://super.gluebenchmark.com",
    scorer="superglue",
    stratified="equal",
    max_items=sum(task.n_items for task in TASKS.values()),
    output_tokens=_OUTPUT_TOKENS,
    load=_load_all,
    source="SuperGLUE v2 validation sets: "
    + ", ".join(f"{name}.zip sha256 {task.remote.sha256}" for name, task in TASKS.items()),
    source_of=_source_of_all,
)
