"""Benchmarks over real HTTP on loopback, as hosts send them: the data comes, or one clear line.

Every case goes through `datasets.load` or the command line; `test_fetch.py` has what lies below.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deltascale import datasets
from deltascale.datasets import Cache, gsm8k, hub, humaneval, mathbench, superglue, toolqa
from deltascale.datasets.fetch import Remote, fetch
from deltascale.datasets.toolqa import corpora
from deltascale.errors import DatasetMistake
from deltascale.records import DatasetSpec
from tests import corpus, wires
from tests.test_cli import deltascale

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
PAGE = b"<!DOCTYPE html><html><title>Quota exceeded</title></html>"
HUB = {"from": "hub"}
COFFEE = {"domains": "coffee", "difficulty": "easy", "python": "off"}


@dataclass(frozen=True)
class Wire:
    """A mirror, a cache before it, and how long was slept."""

    mirror: wires.Mirror
    cache: Cache
    slept: list[float]

    def load(self, name: str, *, offline: bool = False, **options: str) -> datasets.Loaded:
        cache = replace(self.cache, offline=offline)
        return datasets.load(DatasetSpec(name, options=options), items=None, seed=0, cache=cache)

    def told(self, name: str, *, offline: bool = False, **options: str) -> str:
        with pytest.raises(DatasetMistake) as caught:
            self.load(name, offline=offline, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)


def place(remote: Remote) -> str:
    """Where a mirror has a file."""
    parts = urlsplit(remote.url)
    return f"{parts.netloc}{parts.path}{'?' if parts.query else ''}{parts.query}"


@pytest.fixture
def wire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """Everything is there; what was made here has its own checksum in place of the published."""
    if not SHARED.exists():
        pytest.skip("the shared data is not beside this checkout")
    slept: list[float] = []
    monkeypatch.setitem(fetch.__kwdefaults__, "sleep", slept.append)
    mirror = wires.Mirror()
    for made in (_published, _zips, _copies):
        mirror.files |= {place(remote): data for remote, data in made(monkeypatch)}
    with wires.serving(mirror):
        yield Wire(mirror, Cache(tmp_path / "cache", mirror_base=mirror.base), slept)


def _published(_: pytest.MonkeyPatch) -> Iterator[tuple[Remote, bytes]]:
    questions = SHARED / "toolqa" / "questions" / "easy" / "coffee-easy.jsonl"
    yield gsm8k.TEST, (SHARED / "gsm8k" / "test.jsonl").read_bytes()
    yield humaneval.FILE, (SHARED / "humaneval" / "HumanEval.jsonl.gz").read_bytes()
    yield toolqa.remote("easy/coffee"), questions.read_bytes()


def _zips(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Remote, bytes]]:
    members = {"CB/train.jsonl": b"{}\n{}\n", "CB/test.jsonl": b"{}\n{}\n"}
    members["CB/val.jsonl"] = (SHARED / "superglue" / "CB" / "val.jsonl").read_bytes()
    data, task = wires.zipped(members), superglue.TASKS["CB"]
    remote = replace(task.remote, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    monkeypatch.setitem(superglue.TASKS, "CB", replace(task, remote=remote))
    yield remote, data
    data = _mathbench()
    remote = replace(mathbench.ZIP, md5=hashlib.md5(data).hexdigest())
    monkeypatch.setattr(mathbench, "ZIP", remote)
    yield remote, data


def _copies(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Remote, bytes]]:
    monkeypatch.setitem(hub.COPIES, "gsm8k", replace(hub.COPIES["gsm8k"], sha256=""))
    texts = {
        "gsm8k": SHARED / "gsm8k" / "test.jsonl",
        "CB": SHARED / "superglue" / "CB" / "val.jsonl",
        "MultiRC": SHARED / "superglue" / "MultiRC" / "val.jsonl",
        "WSC": SHARED / "superglue" / "WSC" / "val.jsonl",
    }
    for name, path in texts.items():
        yield hub.COPIES[name].remote, _copy(name, path)


@cache
def _copy(name: str, path: Path) -> bytes:
    """Made once: the same for every test."""
    return wires.parquet(name, path.read_text(encoding="utf-8"))


@cache
def _mathbench() -> bytes:
    folder = SHARED / "mathbench" / "handmade"
    members = {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*.jsonl")}
    members["__MACOSX/mathbench_v1/college/._single_choice_en.jsonl"] = b"no"
    return wires.zipped(members)


# --- the data ------------------------------------------------------------------------------------


def test_questions_are_counted_also_where_options_are_asked(wire: Wire) -> None:
    questions = wire.load("superglue-multirc", **HUB)
    options = wire.load("superglue-multirc", **HUB, multirc="options")
    assert len(questions.items) == questions.n_available == options.n_available == 953
    assert len(options.items) == 4848
    of_questions = [item.id for item in questions.items]
    assert list(dict.fromkeys(item.meta["unit"] for item in options.items)) == of_questions


@pytest.mark.parametrize(
    ("name", "options", "n_items"),
    [
        ("gsm8k", {}, 1319),
        ("gsm8k", HUB, 1319),
        ("humaneval", {}, 164),
        ("mathbench", {"counts": "any"}, 146),
        ("superglue-cb", {}, 56),
        ("superglue", {"tasks": "CB,WSC", **HUB}, 160),
        ("toolqa", COFFEE, 100),
    ],
)
def test_it_comes_once_and_then_from_the_cache(
    name: str, options: dict[str, str], n_items: int, wire: Wire
) -> None:
    loaded = wire.load(name, **options)
    assert loaded.n_available == n_items
    n_asked = len(wire.mirror.seen)
    assert 1 <= n_asked <= 2
    again = wire.load(name, offline=True, **options)
    assert (again.digest, again.source) == (loaded.digest, loaded.source)
    assert len(wire.mirror.seen) == n_asked
    assert wire.slept == []


def test_the_zip_and_the_parquet_of_a_task_hold_the_same(wire: Wire) -> None:
    release, copy = wire.load("superglue-cb"), wire.load("superglue-cb", **HUB)
    assert release.items == copy.items
    assert release.source != copy.source


def test_a_redirect_is_followed(wire: Wire) -> None:
    there = place(hub.COPIES["WSC"].remote)
    wire.mirror.files["cdn.example/a/b"] = wire.mirror.files.pop(there)
    wire.mirror.moved[there] = "cdn.example/a/b"
    assert wire.load("superglue-wsc", **HUB).n_available == 104


def test_a_transfer_that_breaks_off_is_resumed(wire: Wire) -> None:
    there = place(gsm8k.TEST)
    wire.mirror.cut[there] = [1000, 5000]
    assert wire.load("gsm8k").n_available == 1319
    assert wire.mirror.seen == [(there, ""), (there, "bytes=1000-"), (there, "bytes=6000-")]
    assert wire.slept == [1.0, 2.0]


@pytest.mark.parametrize(("name", "options"), [("gsm8k", HUB), ("superglue-cb", {})])
def test_a_warm_cache_that_is_read_only_is_enough(
    name: str, options: dict[str, str], wire: Wire
) -> None:
    loaded = wire.load(name, **options)
    inside = [path for path in wire.cache.directory.rglob("*") if path.is_dir()]
    folders = [wire.cache.directory, *inside]
    for folder in folders:
        folder.chmod(0o500)
    try:
        assert wire.load(name, **options) == loaded
    finally:
        for folder in folders:
            folder.chmod(0o700)


# --- one line ------------------------------------------------------------------------------------


def gone(mirror: wires.Mirror, there: str) -> None:
    del mirror.files[there]


def page(mirror: wires.Mirror, there: str) -> None:
    mirror.pages[there] = PAGE


def disguised(mirror: wires.Mirror, there: str) -> None:
    mirror.files[there] = b"\n " + PAGE


def cut(mirror: wires.Mirror, there: str) -> None:
    mirror.cut[there] = [10] * 4


def other(mirror: wires.Mirror, there: str) -> None:
    mirror.files[there] = mirror.files[there][:-1] + b"!"


def circling(mirror: wires.Mirror, there: str) -> None:
    mirror.moved |= {there: "cdn.example/x", "cdn.example/x": there}


BROKEN: list[tuple[Callable[[wires.Mirror, str], None], str]] = [
    (gone, "the server answered 404; check DELTASCALE_MIRROR"),
    (page, "a web page instead of the file"),
    (disguised, "a web page instead of the file"),
    (cut, "failed 4 times (it broke off after 40 bytes)"),
    (other, "the download is not the file it should be"),
    (circling, "more than 5 redirects"),
]


@pytest.mark.parametrize("number", range(len(BROKEN)))
@pytest.mark.parametrize("name", ["gsm8k", "superglue-cb"])
def test_a_release_that_can_not_be_had_names_the_other_source(
    name: str, number: int, wire: Wire
) -> None:
    broken, told = BROKEN[number]
    remote = gsm8k.TEST if name == "gsm8k" else superglue.TASKS["CB"].remote
    broken(wire.mirror, place(remote))
    text = wire.told(name)
    assert text.startswith(f"{wire.mirror.base}/{place(remote)}: ")
    assert told in text
    assert "{from: hub}" in text
    assert not wire.cache.path(remote).exists()
    assert wire.load(name, **HUB).n_available > 0


@pytest.mark.parametrize("number", range(4))
def test_a_copy_that_can_not_be_had_is_told_in_a_line(number: int, wire: Wire) -> None:
    broken, told = BROKEN[number]
    there = place(hub.COPIES["WSC"].remote)
    held = wire.mirror.files[there]
    broken(wire.mirror, there)
    text = wire.told("superglue-wsc", **HUB)
    assert text.startswith(f"{wire.mirror.base}/{there}: ")
    assert told in text
    assert "{from: hub}" not in text
    wire.mirror.files[there] = held
    wire.mirror.pages.clear()
    assert wire.load("superglue-wsc", **HUB).n_available == 104


def test_a_copy_that_changes_on_the_hub_is_not_taken_for_the_first(wire: Wire) -> None:
    copy = hub.COPIES["WSC"].remote
    wire.load("superglue-wsc", **HUB)
    path = wire.cache.path(copy)
    path.unlink()
    before = wire.mirror.files[place(copy)]
    wire.mirror.files[place(copy)] = before + b"more"
    text = wire.told("superglue-wsc", **HUB)
    assert f"{len(before) + 4} bytes instead of {len(before)}" in text
    assert "sha256.json" in text


@pytest.mark.parametrize("options", [{}, HUB])
def test_offline_and_cold_is_told_without_a_request(options: dict[str, str], wire: Wire) -> None:
    text = wire.told("gsm8k", offline=True, **options)
    assert "downloads are off" in text
    assert "from: hub" not in text
    assert wire.mirror.seen == []


def test_no_zip_in_the_place_of_a_zip(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    task = superglue.TASKS["CB"]
    remote = replace(task.remote, size=3, sha256=hashlib.sha256(b"no!").hexdigest())
    monkeypatch.setitem(superglue.TASKS, "CB", replace(task, remote=remote))
    wire.mirror.files[place(remote)] = b"no!"
    assert wire.told("superglue-cb").startswith("CB.zip: it can't be read (")


# --- ToolQA's corpora, from a drive that may show a page instead ------------------------------


def coffee_zip() -> bytes:
    path = SHARED / "toolqa" / "corpus_genuine" / "external_corpus" / "coffee" / "coffee_price.csv"
    return wires.zipped(
        {
            "external_corpus/coffee/coffee_price.csv": path.read_bytes(),
            "__MACOSX/external_corpus/coffee/._coffee_price.csv": b"no",
        }
    )


def tools(wire: Wire, *, offline: bool = False, **options: str) -> datasets.Tools:
    spec = DatasetSpec("toolqa", options={**COFFEE, **options})
    found = datasets.tools(spec, cache=replace(wire.cache, offline=offline))
    assert found is not None
    return found


@pytest.mark.parametrize("broken", [gone, page, disguised, cut])
def test_a_drive_that_sends_no_zip(broken: Callable[[wires.Mirror, str], None], wire: Wire) -> None:
    there = place(corpora.ARCHIVE)
    wire.mirror.files[there] = coffee_zip()
    broken(wire.mirror, there)
    with pytest.raises(DatasetMistake) as caught:
        tools(wire)
    text = str(caught.value)
    assert text.startswith(f"{wire.mirror.base}/drive.usercontent.google.com/download?id=")
    assert "option corpus" in text
    assert "\n" not in text
    assert not [*wire.cache.directory.rglob("*.json"), *wire.cache.directory.rglob("*.sqlite")]
    folder = str(SHARED / "toolqa" / "corpus_genuine")
    assert "5741 rows" in corpus.told(
        tools(wire, corpus=folder), "LoadDB[coffee]", "FilterDB[Open>=0]"
    )


def test_after_a_page_the_drive_is_asked_again_and_then_no_more(wire: Wire) -> None:
    there = place(corpora.ARCHIVE)
    wire.mirror.files[there] = coffee_zip()
    wire.mirror.pages[there] = PAGE
    with pytest.raises(DatasetMistake):
        tools(wire)
    wire.mirror.pages.clear()
    uses = "LoadDB[coffee]", "FilterDB[Date=2000-01-03]", "GetValue[Close]"
    said = corpus.told(tools(wire), *uses)
    assert float(said) > 0
    n_asked = len(wire.mirror.seen)
    assert corpus.told(tools(wire, offline=True), *uses) == said
    assert len(wire.mirror.seen) == n_asked


def test_a_zip_without_the_corpus_says_which_file_is_missing(wire: Wire) -> None:
    wire.mirror.files[place(corpora.ARCHIVE)] = wires.zipped({"readme.txt": b"see elsewhere"})
    with pytest.raises(DatasetMistake, match=r"there is no coffee/coffee_price\.csv in it"):
        tools(wire)


# --- the command line ----------------------------------------------------------------------------


def commanded(
    wire: Wire,
    *arguments: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> tuple[int, str, str]:
    monkeypatch.setenv("DELTASCALE_MIRROR", wire.mirror.base)
    monkeypatch.setenv("DELTASCALE_CACHE", str(wire.cache.directory))
    return deltascale("datasets", *arguments, monkeypatch=monkeypatch, capsys=capsys)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("gsm8k",), "gsm8k: 1319 items ready of 1319; openai/grade-school-math@3101c7d"),
        (
            ("gsm8k", "--option", "from=hub"),
            "gsm8k: 1319 items ready of 1319; Hugging Face hub: openai/gsm8k@740312a",
        ),
        (
            ("superglue", "--option", "from=hub", "--option", "tasks=CB, WSC", "--items", "20"),
            "superglue: 20 items ready of 160; Hugging Face hub: aps/super_glue@refs/convert",
        ),
    ],
)
def test_prepare(
    arguments: tuple[str, ...],
    told: str,
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = commanded(wire, "prepare", *arguments, monkeypatch=monkeypatch, capsys=capsys)
    assert (code, err) == (0, "")
    assert out.startswith(told)
    assert out.count("\n") == 1
    n_asked = len(wire.mirror.seen)
    monkeypatch.setenv("DELTASCALE_OFFLINE", "1")
    again = commanded(wire, "prepare", *arguments, monkeypatch=monkeypatch, capsys=capsys)
    assert again == (0, out, "")
    assert len(wire.mirror.seen) == n_asked


def test_prepare_makes_what_the_tools_read_ready_too(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wire.mirror.files[place(corpora.ARCHIVE)] = coffee_zip()
    questions = SHARED / "toolqa" / "questions" / "easy" / "coffee-easy.jsonl"
    wire.mirror.files[place(toolqa.remote("easy/coffee"))] = questions.read_bytes()
    settings = [f for key, value in COFFEE.items() for f in ("--option", f"{key}={value}")]
    said = commanded(wire, "prepare", "toolqa", *settings, monkeypatch=monkeypatch, capsys=capsys)
    assert said[0] == 0
    assert said[1].endswith("toolqa: tools ready\n")
    assert "5741 rows" in corpus.told(
        tools(wire, offline=True), "LoadDB[coffee]", "FilterDB[Open>=0]"
    )


@pytest.mark.parametrize(
    ("scorer", "answer", "told"),
    [("nemuric", "4", "numeric"), ("regex", "(a+)+", "can't be used")],
)
def test_show_refuses_what_could_not_be_judged(
    scorer: str,
    answer: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"question,answer,scorer\nq,{answer},{scorer}\n")
    code, out, err = deltascale(
        "datasets", "show", str(path), monkeypatch=monkeypatch, capsys=capsys
    )
    assert (code, out) == (2, "")
    assert told in err


def test_prepare_tells_of_the_other_source_and_show_takes_it(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone(wire.mirror, place(gsm8k.TEST))
    code, out, err = commanded(wire, "prepare", "gsm8k", monkeypatch=monkeypatch, capsys=capsys)
    assert (code, out) == (2, "")
    assert "{from: hub}" in err
    assert len(err.strip().splitlines()) == 1
    shown = ("show", "gsm8k", "--items", "1", "--option", "from=hub")
    code, out, err = commanded(wire, *shown, monkeypatch=monkeypatch, capsys=capsys)
    assert (code, err) == (0, "")
    assert "gsm8k/test/" in out


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("from", "--option: 'from' is no setting; write key=value"),
        ("=hub", "--option: '=hub' is no setting"),
        ("frm=hub", "unknown setting 'frm'; did you mean 'from'?"),
    ],
)
def test_an_option_that_can_not_be(
    option: str,
    told: str,
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ("prepare", "gsm8k", "--option", option)
    code, _, err = commanded(wire, *arguments, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 2
    assert told in err
