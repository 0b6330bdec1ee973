"""GSM8K: 1319 school mathematics word problems whose answers are integers, and its revision.

Settings: `from: hub` reads the copy on the Hugging Face hub instead of the release; `counts: any`
accepts another number of problems than was published. Source: Cobbe et al. 2021, arXiv 2110.14168.

GSM8K-Platinum is the same test without the questions that its revisers found badly put, and with
the answers that they found right. Its items have the ids of GSM8K's, so that the two can be set
side by side, and a study of both pays once for a question. Source: Vendrow et al. 2025, arXiv
2502.03461.
"""

from __future__ import annotations

import json
from dataclasses import replace

from deltascale.datasets import Dataset, counts, hub, prompts
from deltascale.datasets.fetch import Cache, Remote, fetch
from deltascale.errors import DatasetMistake
from deltascale.records import DatasetSpec, Item, Question

__all__ = ["GSM8K", "PLATINUM", "parse"]

TEST = Remote(
    "https://raw.githubusercontent.com/openai/grade-school-math/"
    "3101c7d5072418e28b9008a6636bde82a006892c/grade_school_math/data/test.jsonl",
    size=749_738,
    sha256="3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
    instead=hub.INSTEAD,
)
N_ITEMS = 1319
N_PLATINUM = 1209
LEAD = "Work it out step by step."

# Disputed by corrections that upstream never merged; kept as they are, and named in the record.
DISPUTED = {
    119: "label disputed upstream (pull request 19)",
    749: "label disputed upstream (pull request 18)",
}


def parse(lines: str, spec: DatasetSpec) -> tuple[Item, ...]:
    """Items from the text of the benchmark's JSON lines, in the order of the file.

    Raises:
        DatasetMistake: a line is not a problem with exactly one `####`.
    """
    asks = prompts.answer_format(spec, prompts.NUMBER)
    return tuple(
        _item(index, line, asks, spec) for index, line in enumerate(lines.rstrip("\n").split("\n"))
    )


def _item(index: int, line: str, asks: str, spec: DatasetSpec) -> Item:
    try:
        record = json.loads(line)
        question, answer = str(record["question"]), str(record["answer"])
        solution, gold = answer.split("####")
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetMistake(
            "this line is not a GSM8K problem",
            where=f"gsm8k line {index + 1}",
            remedy="delete the cached file and prepare the dataset again",
        ) from error
    n_steps = len(solution.strip().split("\n"))
    meta = {"disputed": DISPUTED[index]} if index in DISPUTED else {}
    return Item(
        id=f"gsm8k/test/{index:04d}",
        question=Question(
            messages=prompts.opening(spec, question, asks=asks, lead=LEAD),
            answer_format=asks,
        ),
        target=gold.strip().replace(",", ""),
        stratum=f"steps{n_steps}" if n_steps < 7 else "steps7+",
        meta=meta,
    )


def _load_platinum(spec: DatasetSpec, cache: Cache) -> tuple[Item, ...]:
    prompts.only_options(spec, ("counts",))
    original = parse(fetch(TEST, cache).read_text(encoding="utf-8"), spec)
    by_question = {item.question.messages: item for item in original}
    items = tuple(
        _revised(item, by_question.get(item.question.messages))
        for item in parse(hub.lines("gsm8k-platinum", cache), spec)
    )
    counts.check(spec, len(items), N_PLATINUM, what="problems")
    return items


def _revised(item: Item, original: Item | None) -> Item:
    """The item under the id that its question has in GSM8K."""
    if original is None:
        raise DatasetMistake(
            f"a question that is not in GSM8K: {item.question.messages[-1].content[:60]!r}",
            where="gsm8k-platinum",
            remedy="the copy on the hub was changed: leave the dataset out, and report it",
        )
    meta = {}
    if item.target != original.target:
        meta = {"revised": f"the answer was {original.target} in GSM8K"}
    return replace(item, id=original.id, stratum=original.stratum, meta=meta)


def _load(spec: DatasetSpec, cache: Cache) -> tuple[Item, ...]:
    prompts.only_options(spec, ("from", "counts"))
    if hub.chosen(spec):
        items = parse(hub.lines("gsm8k", cache), spec)
    else:
        items = parse(fetch(TEST, cache).read_text(encoding="utf-8"), spec)
    counts.check(spec, len(items), N_ITEMS, what="problems")
    return items


def _source(spec: DatasetSpec, cache: Cache) -> str:
    return hub.source(["gsm8k"], cache) if hub.chosen(spec) else GSM8K.source


GSM8K = Dataset(
    name="gsm8k",
    summary="school mathematics in words, an integer each",
    licence="MIT",
    homepage="https://github.com/openai/grade-school-math",
    scorer="gsm8k",
    stratified="proportional",
    max_items=N_ITEMS,
    output_tokens=200,
    load=_load,
    source=f"openai/grade-school-math@3101c7d test.jsonl sha256 {TEST.sha256}",
    source_of=_source,
)
"""`output_tokens`: a gold solution is 63 tokens on average (four characters a token), and chat
models write about three times as much."""

PLATINUM = Dataset(
    name="gsm8k-platinum",
    summary="GSM8K without its badly put questions, wrong answers corrected",
    licence="MIT; the corrections CC BY-SA 4.0",
    homepage="https://huggingface.co/datasets/madrylab/gsm8k-platinum",
    scorer="gsm8k",
    stratified="proportional",
    max_items=N_PLATINUM,
    output_tokens=200,
    load=_load_platinum,
    source="madrylab/gsm8k-platinum on the Hugging Face hub",
    source_of=lambda _, cache: hub.source(["gsm8k-platinum"], cache),
    part_of="gsm8k",
)
