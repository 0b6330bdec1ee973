"""Packs of studies of code and of tools: they verify, and tell nobody where a user's files lay."""

from __future__ import annotations

import gzip
import json
import shutil
import zipfile
from datetime import date
from pathlib import Path

import pytest
from msgspec.structs import replace

from deltascale import assess, conduct, datasets, study
from deltascale.archive import container, identity, lock
from deltascale.archive import pack as packing
from deltascale.archive.verify import Report
from deltascale.datasets import Cache, humaneval, toolqa
from deltascale.engine import Progress
from deltascale.errors import Mistake
from deltascale.records import DatasetSpec, Study
from deltascale.sandbox import try_backend
from deltascale.testing import FaultServer
from tests import archives, corpus
from tests.test_five_benchmarks import ENVIRON, script, served

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
WAYS = ("below", "home", "short")
OWNER, LAB = "arthurdentx", "Guide Office"
"""Parts of the places where the user's files lie; the second has a blank in it."""

COFFEE = {"domains": "coffee", "difficulty": "easy", "python": "off", "dialect": "react"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return corpus.warm(
        tmp_path_factory.mktemp("cache"),
        (humaneval.FILE, SHARED / "humaneval" / "HumanEval.jsonl.gz"),
        (
            toolqa.remote("easy/coffee"),
            SHARED / "toolqa" / "questions" / "easy" / "coffee-easy.jsonl",
        ),
    )


def lay_out(home: Path) -> tuple[DatasetSpec, ...]:
    """The user's own files below `home`, and the datasets that name them: each in another way."""
    lab = home / OWNER / LAB
    shutil.copytree(
        SHARED / "toolqa" / "corpus_genuine" / "external_corpus" / "coffee",
        lab / "corpora" / "external_corpus" / "coffee",
    )
    (lab / "glue" / "CB").mkdir(parents=True)
    shutil.copyfile(SHARED / "superglue" / "CB" / "val.jsonl", lab / "glue" / "CB" / "val.jsonl")
    packed = gzip.decompress((SHARED / "humaneval" / "HumanEval.jsonl.gz").read_bytes())
    task = json.loads(packed.splitlines()[157])
    task |= {"base_input": [[3, 4, 5]], "plus_input": [[5, 4, 3], [1, 1, 1]], "atol": 0}
    (lab / "plus.jsonl").write_text(json.dumps(task))
    rows = [f"What is {n} + {n}?,{2 * n}" for n in range(7, 12)]
    (lab / "my survey.csv").write_text("\n".join(["question,answer", *rows]) + "\n")
    return (
        DatasetSpec("humaneval", options={"plus": str(lab / "plus.jsonl")}),
        DatasetSpec("toolqa", options={**COFFEE, "corpus": f"{lab}/../{LAB}/corpora"}),
        DatasetSpec("superglue", options={"tasks": "CB", "path": str(lab / "glue")}),
        DatasetSpec("mine", file=str(lab / "my survey.csv"), scorer="numeric"),
    )


def run(directory: Path, cache: Cache, specs: tuple[DatasetSpec, ...], *, asks: bool) -> Path:
    """The study, run by a model that knows the golds (or found on record), and analysed."""
    known = script(tuple(spec for spec in specs if not spec.file), cache)
    own = {
        item.question.messages[0].content: item.target
        for spec in specs
        if spec.file
        for item in datasets.load(spec, items=3, seed=0, cache=cache).items
    }

    def reply(body: dict[str, object]) -> str:
        messages = body["messages"]
        assert isinstance(messages, list)
        target = own.get(messages[0]["content"])
        return known.reply(body) if target is None else f"So\n#### {target}"

    with served(FaultServer(reply)) as url:
        # The address of the server is part of what the lock holds, not of what is asked.
        model = f"{{id: openai/gold, base_url: '{url}', parameters: 1e9, price: 0}}"
        text = f"name: packed\nmodels: [{model}]\ndatasets: [demo-sums]\nprotocols: [review]\n"
        wanted = study.parse(
            f"{text}turns: 2\nitems: 3\nmax_tokens: 1024\n", file="study.yaml", on=date(2026, 11, 1)
        )
        found = lock.read(directory)
        if found is not None:
            wanted = replace(wanted, models=found.study.models)
        progress = Progress()
        conduct.run(
            replace(wanted, datasets=specs),
            directory,
            cache=cache,
            environ=ENVIRON,
            progress=progress,
            tell=lambda _: None,
        )
    assert (progress.n_calls > 0) == asks
    assess.analyze(directory, settings=archives.FEW)
    return directory


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def directory(home: Path, cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of code and tools whose directory lies elsewhere than the files it was run on."""
    if isinstance(reason := try_backend("wasm"), str):
        pytest.skip(reason)
    specs = lay_out(home)
    made = run(tmp_path_factory.mktemp("runs") / "study", cache, specs, asks=True)
    (made / "report").mkdir()
    told = [text for spec in specs for text in (spec.file, *spec.options.values())]
    told += [str(home / OWNER / LAB / "corpora" / "external_corpus" / "coffee")]
    (made / "report" / "note.md").write_text("\n".join(told))
    return made


def packed(directory: Path, target: Path, cache: Cache, **options: object) -> Path:
    """The pack; what would not verify is not written."""
    packing.pack(
        directory,
        target,
        analyze=assess.analyze,
        cache=cache,
        environ={},
        **options,  # type: ignore[arg-type]
    )
    return target


def unpacked(path: Path, folder: Path) -> Study:
    """The study of a pack, unpacked here."""
    folder.mkdir()
    container.unpack(path, folder)
    return study.load(folder / "study.yaml", on=date(2026, 11, 1))


def names(report: Report, state: str) -> set[str]:
    return {check.name for check in report.checks if check.state == state}


@pytest.fixture(scope="module")
def plain(directory: Path, cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(directory, tmp_path_factory.mktemp("plain") / "plain.zip", cache, check=False)


@pytest.fixture(scope="module")
def blind(directory: Path, cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("blind") / "blind.zip"
    return packed(directory, target, cache, anonymous=True, check=False)


def test_they_verify_and_programs_run_again(plain: Path, blind: Path) -> None:
    for path in (plain, blind):
        report = archives.proved(path)
        assert report.holds, report
        assert names(report, "proved") >= {"items", "calls", "samples", "verdicts", "tables"}
        assert "12 of 12 planned samples" in str(report)


def shown(path: Path, folder: Path) -> str:
    """Every text in a pack, in lower case; what is compressed in its ledger too."""
    return archives.contents(path, folder).lower()


def test_a_blind_pack_says_nowhere_where_files_lay(
    plain: Path, blind: Path, home: Path, tmp_path: Path
) -> None:
    there, texts = shown(plain, tmp_path), shown(blind, tmp_path)
    assert OWNER in there  # or nothing is shown by its absence
    assert LAB.lower() in there
    assert "observation: " in texts
    told = [part for part in (OWNER, LAB, home.name, str(home.parent)) if part.lower() in texts]
    assert told == []
    by_name = {spec.name: spec.options for spec in unpacked(blind, tmp_path / "x").datasets}
    for name, key in (("humaneval", "plus"), ("toolqa", "corpus"), ("superglue", "path")):
        assert by_name[name][key].startswith("/path-")
    assert by_name["toolqa"]["domains"] == "coffee"


@pytest.mark.parametrize("anonymous", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_without_text_no_row_of_a_corpus_and_no_question_is_in_it(
    directory: Path, plain: Path, cache: Cache, tmp_path: Path, anonymous: bool
) -> None:
    without = {"anonymous": anonymous, "without_text": True, "check": False}
    mute = packed(directory, tmp_path / "mute.zip", cache, **without)
    report = archives.proved(mute)
    assert report.holds, report
    said = [check.detail for check in report.checks if check.state == "not proved"]
    for name in ("toolqa", "superglue", "mine"):
        assert f"{name}: its text is left out" in said
    texts = {path: shown(path, tmp_path) for path in (plain, mute)}
    for text in ("Observation: ", "coffee price", "What is 7 +", "By this text", "FilterDB["):
        assert text.lower() in texts[plain], text
        assert text.lower() not in texts[mute], text
    assert "def right_angle_triangle" in texts[mute]  # HumanEval's licence lets it be given on
    assert (OWNER in texts[mute]) == (not anonymous)


def test_the_pack_says_which_files_repeating_needs(plain: Path, blind: Path) -> None:
    for path in (plain, blind):
        with zipfile.ZipFile(path) as archive:
            text = archive.read("README.md").decode()
        for name, key in (("humaneval", "plus"), ("toolqa", "corpus"), ("superglue", "path")):
            assert f"- {name}: what its option {key} names" in text


def moved(directory: Path, home: Path, target: Path) -> tuple[Path, Path]:
    """A copy of the study whose files were there when it ran and are not any more."""
    other = target / "study"
    shutil.copytree(directory, other)
    found = lock.read(other)
    assert found is not None
    gone = target / "gone"

    def there(text: str) -> str:
        return text.replace(str(home), str(gone))

    specs = tuple(
        replace(
            spec,
            file=there(spec.file),
            options={key: there(value) for key, value in spec.options.items()},
        )
        for spec in found.study.datasets
    )
    lock.write(other, replace(found, study=replace(found.study, datasets=specs)))
    return other, gone


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("humaneval", "what its option plus names, {path}/plus.jsonl, is not there any more; "),
        ("superglue", "what its option path names, {path}/glue, is not there any more; "),
        ("mine", "its file {path}/my survey.csv is not there any more; "),
    ],
)
def test_files_that_are_gone_are_told_in_one_line(
    name: str, told: str, directory: Path, home: Path, cache: Cache, tmp_path: Path
) -> None:
    other, gone = moved(directory, home, tmp_path)
    if name != "humaneval":
        shutil.copytree(home, gone)
        shutil.rmtree(gone / OWNER / LAB / "glue")
    if name == "mine":
        shutil.copytree(home / OWNER / LAB / "glue", gone / OWNER / LAB / "glue")
        (gone / OWNER / LAB / "my survey.csv").unlink()
    with pytest.raises(Mistake) as refused:
        packed(other, tmp_path / "x.zip", cache)
    text = str(refused.value)
    assert text.startswith(f"dataset {name}: {told.format(path=gone / OWNER / LAB)}")
    assert "run the study again" in text
    assert "\n" not in text
    assert not list(tmp_path.glob("x.zip*"))


def test_a_corpus_that_is_gone_does_not_stop_a_pack(
    directory: Path, home: Path, cache: Cache, tmp_path: Path
) -> None:
    """What tools gave is on record."""
    other, gone = moved(directory, home, tmp_path)
    shutil.copytree(home, gone)
    shutil.rmtree(gone / OWNER / LAB / "corpora")
    packed(other, tmp_path / "x.zip", cache, check=False)


@pytest.mark.slow
def test_after_a_run_with_the_new_places_it_can_be_packed_and_nothing_is_asked(
    directory: Path, home: Path, cache: Cache, tmp_path: Path
) -> None:
    other, _ = moved(directory, home, tmp_path)
    found = lock.read(directory)
    assert found is not None
    run(other, cache, found.study.datasets, asks=False)
    packed(other, tmp_path / "x.zip", cache, anonymous=True)


@pytest.mark.parametrize(
    "way", ["beside", *(pytest.param(way, marks=pytest.mark.slow) for way in WAYS)]
)
def test_a_path_may_be_written_in_any_way(
    way: str, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative to where one stands, and to one's home."""
    lab = tmp_path / OWNER / "glue"
    (lab / "CB").mkdir(parents=True)
    shutil.copyfile(SHARED / "superglue" / "CB" / "val.jsonl", lab / "CB" / "val.jsonl")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here" if way == "beside" else lab.parent)
    if way == "short":
        monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = {
        "below": "./glue",
        "beside": f"../{OWNER}/glue",
        "home": f"~/{OWNER}/glue",
        "short": f"{OWNER}/glue",
    }[way]
    spec = DatasetSpec("superglue", options={"tasks": "CB", "path": path})
    made = run(tmp_path / "runs" / "study", cache, (spec,), asks=True)
    (made / "report").mkdir()
    written = path if path.startswith(("~", "..")) else "there"  # else it tells of nobody
    (made / "report" / "note.md").write_text(f"read from {written}, that is {lab}\n")
    blind = packed(made, tmp_path / "blind.zip", cache, anonymous=True, check=False)
    assert OWNER not in shown(blind, tmp_path)
    with zipfile.ZipFile(blind) as archive:
        assert "/path-" in archive.read("study.yaml").decode()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"corpus": "coffee", "path": "x.zip", "plus": "p.gz"}, {"corpus", "path", "plus"}),
        ({"prompt": "/think/well/{question}", "format": "~/a/b"}, set()),
        ({"prefix": "/no_think", "tasks": "CB,RTE", "from": "hub", "ratio": "1/2"}, set()),
        ({"a": "/srv/lab/x", "b": "../x/y", "c": "C:\\lab\\x", "d": "~rita/x/y"}, {*"abcd"}),
        ({"where": "/tmp", "path": ""}, {"where"}),
        ({"text": "/a/b\n/c"}, set()),
    ],
)
def test_which_options_name_places(options: dict[str, str], named: set[str]) -> None:
    assert identity.places(DatasetSpec("x", options=options)).keys() == named
