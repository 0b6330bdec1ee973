"""ToolQA: questions that need tools over given corpora, 8 easy domains and 7 hard ones.

Settings: `domains` and `difficulty` (easy, hard) choose, each a list with commas; `filter` leaves
faulty questions out (`none`, `no_gold`, `clean`); `dialect` is `react` (actions as text, for any
model) or `native` (the provider's tool calls); `steps` is the most replies of one attempt; `corpus`
is a folder or zip with upstream's `external_corpus` instead of the download; `python: off` does
without the sandbox; `compat: upstream` has the tools fail as the originals do.

Source: Zhuang et al. 2023, arXiv 2306.13304. The tools are ours: same names, arguments and corpora,
without the defects of the originals, so scores are not comparable with published ones.

With `compat: upstream` the score is upstream's own comparison (`others` has ours as `em_fixed`) and
the tools return what upstream's return: FilterDB compares texts, parts at every `, `, knows no `!=`
and no spaces around a sign, ignores what has no sign, and keeps what came before a broken
condition; an unknown database after a good one is a success that changes nothing; values are read
as they were written; graphs load by the name dblp alone, names must be exact and can't hold a
comma, a paper shows what it cites and not what cites it, a neighbour outside of the index is an
error, and an edge of authors can be looked at once; SQL sees texts cut at 250 characters, `---` for
nothing and Airbnb's columns by odd names; Python loses its line ends and gives `ans`, or 0. The
module `compat` lists what is not upstream's even so: among it the prompt, how an action is read,
Calculate, the retrieval, and SQL's dialect.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping

from deltascale.datasets import Dataset, prompts
from deltascale.datasets.fetch import Cache, Remote, fetch
from deltascale.datasets.toolqa import agent, errata
from deltascale.errors import DatasetMistake
from deltascale.records import DatasetSpec, Item, Question, Sample, UseTool

__all__ = ["TOOLQA", "parse"]

_BASE = (
    "https://raw.githubusercontent.com/night-chen/ToolQA/"
    "acf55534d6dcd81df84df7b5d01ebdd14508367a/data/questions"
)
FILES: Mapping[str, tuple[str, str]] = {
    "easy/agenda": (
        "agenda-easy",
        "c4ac502984207af7f20949197f83d67224c559f9103c87b963161ec97b382c82",
    ),
    "easy/airbnb": (
        "airbnb-easy",
        "a36f836cf40a2cb47177b61e482c1cbb0ccde636d4807a011964f7af4d722a25",
    ),
    "easy/coffee": (
        "coffee-easy",
        "a79b132c1c2f802efcc149713babc0dbbbfeff76e365eb187c02209ce85e4dc7",
    ),
    "easy/dblp": (
        "dblp-easy",
        "a709ad18a023b971e37c6f68073f8636a81bd8959aa1a8708c0429b33e396143",
    ),
    "easy/flight": (
        "flight-easy",
        "5e839ff74fd36c4146a6b795f244c28ca92d78a1a1d4ffbc2a24690b92c8e7e6",
    ),
    "easy/gsm8k": (
        "gsm8k-easy",
        "074d2f6a206b5798031d043f047818293a2a1124a37059e0978c7cffd02af4f7",
    ),
    "easy/scirex": (
        "scirex-easy",
        "83c4fd4f0e2ba3b35aba2d427907823e1b6d2bddb9ccc86bd974a51ef4626f87",
    ),
    "easy/yelp": (
        "yelp-easy",
        "f0feb46921b1a38858f6850a71028c3685d8543dddf19e5491e6894fb435cf51",
    ),
    "hard/agenda": (
        "genda-hard",
        "98e7e944dde023123d390de69b4fbb52abbc758e156892fe61f3fa8bb3e49338",
    ),
    "hard/airbnb": (
        "airbnb-hard",
        "8b1950050a69d7e2c874a72a70f35800eee6b6a96ec44cd5b44564779240df57",
    ),
    "hard/coffee": (
        "coffee-hard",
        "b77e1a6adacdb99eb1b25e045f7976f74b83780fa75c481439913941376c8f53",
    ),
    "hard/dblp": (
        "dblp-hard",
        "f08a33161c9dd1d59c6419fee7058c4ea405b0076b1d67ad5435ffee1fb70953",
    ),
    "hard/flight": (
        "flight-hard",
        "48969a369a3274db40fcd02b02c0a49679ddb329ce466f919e6a5b11dfb80dfb",
    ),
    "hard/scirex": (
        "scirex-hard",
        "e8a75061c877b33796efb334f54c527f80d18a85b27bd135e5867d0bdc70e9d2",
    ),
    "hard/yelp": (
        "yelp-hard",
        "efbf432b30215a807b0e5231164825d61a9b7ac663cfc4e26185f79f0ed871a6",
    ),
}
"""By part, the name of upstream's file (one lacks a letter) and its checksum."""

DOMAINS = ("agenda", "airbnb", "coffee", "dblp", "flight", "gsm8k", "scirex", "yelp")
N_ITEMS = 1521
_OPTIONS = ("domains", "difficulty", "filter", "dialect", "steps", "corpus", "python", "compat")
COMPAT = ("fixed", "upstream")
_MOST_STEPS = 100


def remote(part: str) -> Remote:
    """Where the questions of a part such as `hard/coffee` are published."""
    name, sha256 = FILES[part]
    return Remote(f"{_BASE}/{part.partition('/')[0]}/{name}.jsonl", sha256=sha256)


def parse(part: str, text: str, spec: DatasetSpec) -> tuple[Item, ...]:
    """Items of one part, `hard/coffee`, from the text of its JSON lines; the filter is applied.

    Raises:
        DatasetMistake: a line is not a question with an id and an answer, or a setting is wrong.
    """
    chosen = _one_of(spec, "filter", errata.FILTERS, "no_gold")
    items = []
    for number, line in enumerate(text.rstrip("\n").split("\n")):
        try:
            # Numbers stay as they are written; two golds are a bare NaN.
            record = json.loads(line, parse_float=str, parse_int=str, parse_constant=str)
            name, question = str(record["qid"]), str(record["question"])
            answer = str(record["answer"]).strip()
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetMistake(
                "this line is not a ToolQA question", where=f"toolqa {part} line {number + 1}"
            ) from error
        fault = errata.fault(part, number)
        if errata.keeps(chosen, fault):
            items.append(_item(part, number, name, question, answer, fault, spec))
    return tuple(items)


def _item(
    part: str,
    number: int,
    name: str,
    question: str,
    answer: str,
    fault: str | None,
    spec: DatasetSpec,
) -> Item:
    dialect = _one_of(spec, "dialect", tuple(agent.DIALECTS), "react")
    native = dialect == "native"
    asks = prompts.answer_format(spec, agent.NATIVE_FORMAT if native else agent.REACT_FORMAT)
    shown = question if native else f"{agent.react_lead()}\n\nQuestion: {question}"
    # Each ten of a part comes from one template; the gsm8k part is GSM8K's own questions.
    meta = {"fault": fault} if fault else {}
    if _one_of(spec, "compat", COMPAT, "fixed") == "upstream":
        meta["compat"] = "upstream"
    template = "" if part == "easy/gsm8k" else f"toolqa/{part}/{number // 10}"
    return Item(
        id=f"toolqa/{part}/{name}",
        question=Question(
            messages=prompts.opening(spec, shown, asks=asks),
            answer_format=asks,
            tools=agent.schema() if native else (),
            attempt=agent.DIALECTS[dialect](_steps(spec)),
        ),
        target=answer,
        stratum=part,
        cluster=template,
        meta=meta,
    )


def _steps(spec: DatasetSpec) -> int:
    said = spec.options.get("steps", "20")
    if not said.isascii() or not said.isdigit() or not 1 <= int(said) <= _MOST_STEPS:
        raise DatasetMistake(
            f"steps is {said!r}",
            where=f"dataset {spec.name!r} options",
            remedy=f"write a number from 1 to {_MOST_STEPS}",
        )
    return int(said)


def _one_of(spec: DatasetSpec, key: str, known: tuple[str, ...], default: str) -> str:
    (found,) = _some_of(spec, key, known, default, most=1)
    return found


def _some_of(
    spec: DatasetSpec, key: str, known: tuple[str, ...], default: str, *, most: int = 99
) -> tuple[str, ...]:
    said = tuple(dict.fromkeys(p.strip() for p in spec.options.get(key, default).split(",")))
    for part in said:
        if part not in known or len(said) > most:
            raise DatasetMistake(
                f"{key} is {spec.options.get(key, default)!r}",
                where=f"dataset {spec.name!r} options",
                remedy=f"known are {', '.join(known)}",
            )
    return said


def _parts(spec: DatasetSpec) -> tuple[str, ...]:
    domains = _some_of(spec, "domains", DOMAINS, ",".join(DOMAINS))
    difficulty = _some_of(spec, "difficulty", ("easy", "hard"), "easy,hard")
    parts = tuple(p for p in FILES if p.split("/")[0] in difficulty and p.split("/")[1] in domains)
    if not parts:
        raise DatasetMistake("gsm8k has no hard questions", where=f"dataset {spec.name!r} options")
    return parts


def _load(spec: DatasetSpec, cache: Cache) -> tuple[Item, ...]:
    prompts.only_options(spec, _OPTIONS)
    return tuple(
        item
        for part in _parts(spec)
        for item in parse(part, fetch(remote(part), cache).read_text(encoding="utf-8"), spec)
    )


def _tools(
    spec: DatasetSpec, cache: Cache
) -> Callable[[Sample, tuple[UseTool, ...]], Awaitable[str]]:
    """The tools over the corpora of the chosen domains, which are made ready first.

    Raises:
        DatasetMistake: the corpora can't be had.
        MissingExtra: there is no sandbox for Python, and it is not off.
    """
    from deltascale.datasets.toolqa import corpora, tools
    from deltascale.sandbox import choose_backend

    prompts.only_options(spec, _OPTIONS)
    python = _one_of(spec, "python", ("on", "off"), "on")
    domains = sorted({part.split("/")[1] for part in _parts(spec)})
    needed = [domain for domain in domains if domain in corpora.DOMAINS]
    ready = (
        corpora.prepare(needed, path=spec.options.get("corpus", ""), cache=cache)
        if needed
        else corpora.Corpora({})
    )
    upstream = _one_of(spec, "compat", COMPAT, "fixed") == "upstream"
    backend = choose_backend() if python == "on" else None
    return tools.runner(tools.Toolbox(ready, backend, upstream=upstream))


TOOLQA = Dataset(
    name="toolqa",
    summary="questions that need tools over tables, texts and a citation network",
    licence="Apache-2.0; corpora under their own terms",
    homepage="https://github.com/night-chen/ToolQA",
    scorer="toolqa",
    stratified="proportional",
    max_items=N_ITEMS,
    output_tokens=75,
    load=_load,
    source="night-chen/ToolQA@acf5553 data/questions, sha256 "
    + ", ".join(f"{part} {sha256}" for part, (_, sha256) in FILES.items()),
    tools=_tools,
    typical=agent.typical,
)
"""`output_tokens`: a guess, a thought of two sentences and an action."""
