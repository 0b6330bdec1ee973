"""MathBench: mathematics from arithmetic to college, in English and Chinese, applied and in theory.

Settings: `languages` (en, cn), `stages` (arithmetic, primary, middle, high, college), `parts`
(application, theory), each a list with commas; `circular: 4` asks every choice question in its
four rotations (four times the calls); `path` reads a folder or zip of one's own instead of the
download; `counts: any` accepts another number of questions than was published.

Source: Liu et al. 2024, arXiv 2405.12209.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from deltascale.datasets import Dataset, bundle, counts, prompts
from deltascale.datasets.fetch import Cache, Remote, fetch
from deltascale.errors import DatasetMistake
from deltascale.records import DatasetSpec, Item, Question

__all__ = ["MATHBENCH", "PATTERNS", "parse", "rotated"]

ZIP = Remote(
    "https://opencompass.oss-cn-shanghai.aliyuncs.com/datasets/data/mathbench_v1.zip",
    md5="50257a910ca43d1f61a610a79fdb16b5",
)
N_ITEMS = 3709

FILES = (
    "arithmetic/cloze_en",
    "primary/cloze_cn",
    "primary/cloze_en",
    *(
        f"{split}/single_choice_{language}"
        for split in (
            "middle",
            "high",
            "college",
            "primary_knowledge",
            "middle_knowledge",
            "high_knowledge",
            "college_knowledge",
        )
        for language in ("cn", "en")
    ),
)
"""The 17 files of the release, without their ending."""

PATTERNS = ("ABCD", "BCDA", "CDAB", "DABC")
"""The rotations of a choice question: which option stands first, second, third, fourth."""

LEAD = {"en": "Work it out step by step.", "cn": "请一步一步地推理。"}
LETTER = {
    "en": prompts.LETTER,
    "cn": "最后一行只写你选择的选项字母,格式为:答案:<字母>",
}
NUMBER = {
    "en": prompts.BOXED,
    "cn": "最后一行只写最终的数,放在 \\boxed{} 中",
}
_CHOSEN = {
    "languages": ("en", "cn"),
    "stages": ("arithmetic", "primary", "middle", "high", "college"),
    "parts": ("application", "theory"),
}


def parse(name: str, text: str, spec: DatasetSpec) -> Iterator[Item]:
    """Items of one file: `name` like `college/single_choice_en`, `text` its JSON lines.

    With `circular: 4` a choice question gives four items, which are drawn together (`meta["unit"]`)
    and share a cluster.

    Raises:
        DatasetMistake: a line is not a MathBench question.
    """
    circular = _circular(spec)
    for number, line in enumerate(text.split("\n")):
        if not line.strip():
            continue
        question, answer, options, topic = _fields(line, f"mathbench {name} line {number + 1}")
        meta = {"topic": topic} if topic else {}
        if errata := _errata(name, answer, options):
            meta["errata"] = errata
        item_id = f"mathbench/{name}/{number:04d}"
        if not options:
            yield _item(item_id, name, question, (), answer, meta, spec)
            continue
        options = options[:4]
        patterns = PATTERNS if circular and len(options) == 4 else PATTERNS[:1]
        for pattern in patterns:
            shown, gold = rotated(options, answer, pattern)
            variant = item_id if pattern == PATTERNS[0] else f"{item_id}#{pattern}"
            more = {"unit": item_id, "pattern": pattern} if circular else {}
            yield _item(variant, name, question, shown, gold, {**meta, **more}, spec)


def rotated(options: tuple[str, ...], answer: str, pattern: str) -> tuple[tuple[str, ...], str]:
    """The options in the order of the pattern, and the letter that the right one has there."""
    if pattern == PATTERNS[0]:
        return options, answer
    shown = tuple(options["ABCD".index(letter)] for letter in pattern)
    place = pattern.find(answer) if len(answer) == 1 else -1
    return shown, "ABCD"[place] if place >= 0 else answer


def _fields(line: str, where: str) -> tuple[str, str, tuple[str, ...], str]:
    try:
        record = json.loads(line)
        options = tuple(str(option).strip() for option in record.get("options") or ())
        topic = str(record.get("topic") or "")
        return str(record["question"]).strip(), str(record["answer"]).strip(), options, topic
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetMistake("this line is not a MathBench question", where=where) from error


def _errata(name: str, answer: str, options: tuple[str, ...]) -> str:
    """What is odd about the question; it is kept, and the tag is on record."""
    if not name.partition("/")[2].startswith("single_choice"):
        return ""
    odd = []
    if answer not in {"A", "B", "C", "D"}:
        odd.append("answer is no letter")
    if len(options) != 4:
        odd.append(f"{len(options)} options")
    if len(set(options)) < len(options):
        odd.append("options alike")
    return "; ".join(odd)


def _item(
    item_id: str,
    name: str,
    text: str,
    options: tuple[str, ...],
    target: str,
    meta: Mapping[str, str],
    spec: DatasetSpec,
) -> Item:
    language = name[-2:]
    asks = prompts.answer_format(spec, (LETTER if options else NUMBER)[language])
    question = Question(
        messages=prompts.opening(
            spec, text, asks=asks, lead=LEAD[language], choices=prompts.lettered(options)
        ),
        answer_format=asks,
        choices=options,
    )
    return Item(
        item_id,
        question,
        target,
        stratum=name,
        cluster=meta.get("unit", ""),
        meta=dict(meta),
        chance=1 / len(options) if options else 0.0,
    )


# --- which files, and from where -----------------------------------------------------------------


def _load(spec: DatasetSpec, cache: Cache) -> tuple[Item, ...]:
    prompts.only_options(spec, {*_CHOSEN, "circular", "path", "counts"})
    _circular(spec)
    wanted = _wanted(spec)
    own = spec.options.get("path", "")
    texts = _texts(bundle.own(own) if own else fetch(ZIP, cache), own or "mathbench")
    if not own:
        _check_counts(texts, spec)
    return tuple(item for name in wanted for item in parse(name, texts[name], spec))


def _circular(spec: DatasetSpec) -> bool:
    said = spec.options.get("circular", "none")
    if said not in {"none", "4"}:
        raise DatasetMistake(
            f"circular is {said!r}",
            where=f"dataset {spec.name!r} options",
            remedy="write 4 for all rotations, or none",
        )
    return said == "4"


def _wanted(spec: DatasetSpec) -> tuple[str, ...]:
    """The files that the settings choose."""
    chosen: dict[str, set[str]] = {}
    for key, known in _CHOSEN.items():
        said = [part.strip() for part in spec.options.get(key, ",".join(known)).split(",")]
        for part in said:
            if part not in known:
                raise DatasetMistake(
                    f"{key} has {part!r}",
                    where=f"dataset {spec.name!r} options",
                    remedy=f"known are {', '.join(known)}",
                )
        chosen[key] = set(said)
    names = tuple(
        name
        for name in FILES
        if name[-2:] in chosen["languages"]
        and name.partition("/")[0].partition("_")[0] in chosen["stages"]
        and ("theory" if "_knowledge/" in name else "application") in chosen["parts"]
    )
    if not names:
        raise DatasetMistake(
            "no file of the benchmark has this language, stage and part at once",
            where=f"dataset {spec.name!r} options",
        )
    return names


def _texts(path: Path, where: str) -> dict[str, str]:
    """The text of each of the 17 files, from a folder or a zip that holds them."""
    members = [f"{name}.jsonl" for name in FILES]
    found = bundle.texts(path, members, where=where)
    if any(f"/{place}".endswith("/college/cloze_en.jsonl") for place in bundle.listing(path)):
        raise DatasetMistake(
            "this is the layout from before the release",
            where=where,
            remedy="take mathbench_v1.zip of release v0.1.0",
        )
    return {name: found[member] for name, member in zip(FILES, members, strict=True)}


def _check_counts(texts: Mapping[str, str], spec: DatasetSpec) -> None:
    found = {name: sum(map(bool, map(str.strip, text.split("\n")))) for name, text in texts.items()}
    told = ", ".join(f"{name} {count}" for name, count in found.items())
    counts.check(spec, sum(found.values()), N_ITEMS, what="questions", told=told)


MATHBENCH = Dataset(
    name="mathbench",
    summary="mathematics by level, from arithmetic to college, English and Chinese",
    licence="Apache-2.0",
    homepage="https://github.com/open-compass/MathBench",
    scorer="mathbench",
    stratified="proportional",
    max_items=N_ITEMS,
    output_tokens=350,
    load=_load,
    source=f"mathbench_v1.zip md5 {ZIP.md5}",
)
"""`output_tokens`: a guess, half as much again as for GSM8K."""
