"""What people meet at the command line that no study is about: disks, narrow terminals, typos."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from deltascale import conduct
from deltascale.cli import cli
from deltascale.engine import Progress
from deltascale.report import terminal
from tests import worlds
from tests.test_cli import deltascale

QUESTIONS = "question,answer\n" + "".join(f"How many are {n} and {n}?,{2 * n}\n" for n in range(9))


def ran(*arguments: str, output: object = subprocess.PIPE, **environ: str) -> tuple[int, str]:
    """Exit code and complaints of a command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "deltascale", *arguments],
        stdout=output,  # type: ignore[call-overload]
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ) | environ,
    )
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run lies that simulated models could answer nothing of, and what it said."""
    folder = tmp_path_factory.mktemp("failed")
    (folder / "mine.csv").write_text(QUESTIONS)
    arguments = ["run", "--model", "simulated/sim-1b", "--dataset", str(folder / "mine.csv")]
    done = CliRunner().invoke(cli, [*arguments, "--scorer", "numeric", "--out", str(folder / "o")])
    assert done.exit_code == 1
    (folder / "said").write_text(f"{done.stdout}\n{done.exception}")
    return folder


MISTAKES = [
    (("run",), "no study is named; name its file"),
    (("init", "nowhere/mine"), "nowhere/mine.yaml: No such file or directory; check the path"),
    (("power", "--fixed", "nan", "--broken", "3"), "--fixed: nan is not a number"),
    (("power", "--fixed", "5", "--broken", "3", "--scatter", "inf"), "--scatter"),
    (("models", "--check"), "no key is set"),
    (("models", "--model", "gpt-4o-mni"), "did you mean"),
    (("estimate", "--model", "openai/m", "--price", "0", "--dataset", "demo-sums", "--base-url",
      "http://localhost:8000/v1/chat/completions"), "end it before /chat/completions"),
    (("run", "--model", "simulated/sim-1b", "--dataset", "demo-sums", "--out", os.devnull),
     "name a directory"),
    (("analyze", os.devnull), "name a directory"),
    (("estimate", "--model", "simulated/sim-1b", "--dataset", __file__), "save it as one of .csv"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "says"), MISTAKES)
def test_one_line_and_exit_code_2(
    arguments: tuple[str, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for key in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "REPLICATE_API_TOKEN"):
        monkeypatch.delenv(key, raising=False)
    code, out, err = deltascale(*arguments, monkeypatch=monkeypatch, capsys=capsys)
    assert (code, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1, err
    assert not list(tmp_path.iterdir()), "nothing is written"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        code, err = ran("models", output=full)
    assert (code, len(err.splitlines())) == (2, 1), err
    assert "make room on the disk" in err


def test_a_terminal_that_lacks_letters_still_shows_the_rest() -> None:
    assert ran("estimate", "--help", PYTHONIOENCODING="ascii") == (0, "")


def test_a_ledger_is_read_where_nothing_can_be_written(tmp_path: Path) -> None:
    from deltascale import ledger

    worlds.run(worlds.plan([worlds.model()]), tmp_path / "ledger.db", call=worlds.reply)
    os.chmod(tmp_path, 0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user may write everywhere")
        with ledger.read(tmp_path / "ledger.db") as book:
            assert book.spent().n_calls
    finally:
        os.chmod(tmp_path, 0o700)


# --- what a run says of itself -------------------------------------------------------------------


def test_a_failed_run_says_why_and_counts_nothing_as_done(failed: Path) -> None:
    said = (failed / "said").read_text()
    assert "0 of 9 samples, 9 missing, 0 calls bought" in said
    assert (
        "9 of 9 samples are missing because calls failed (mostly of sim-1b, bad request: " in said
    )
    assert "simulated models only answer the simulated datasets" in said
    assert "1 model: nothing is fitted below 4" in said or "1 models" not in said


def test_what_the_budget_left_out_is_still_to_do(tmp_path: Path) -> None:
    plan = worlds.plan([worlds.model()], n_items=6, names=("review",), budget_nusd=200_000)
    progress = worlds.run(plan, tmp_path / "ledger.db", call=worlds.reply)
    assert progress.budget_reached
    shown = Console(file=io.StringIO(), width=100)
    from deltascale import ledger

    with ledger.read(tmp_path / "ledger.db") as book:
        terminal.show_status(shown, plan.study, book.status())
    row = shown.file.getvalue().splitlines()[2].split()  # type: ignore[attr-defined]
    *_, n_done, n_to_do = map(int, row[4:])
    assert len(row) == 6, f"none is called failed: {row}"
    assert n_to_do
    assert n_done + n_to_do == 6


def test_progress_counts_only_what_was_answered() -> None:
    progress = Progress()
    progress.total = {("m", "d"): 5}
    progress.done, progress.missing = Counter({("m", "d"): 3}), Counter({("m", "d"): 2})
    line = terminal._line(progress, 1.0, None)
    assert line.startswith("1/5 samples, 2 missing, ")


def test_every_part_of_an_estimate_is_in_one_list(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "name: s\nmodels: [simulated/sim-1b]\ndatasets: [demo-sums]\nprotocols: [review]\n"
        "items: 4\nphases:\n  few: {items: 2}\n  whole: {}\n"
    )
    done = CliRunner().invoke(cli, ["estimate", str(file), "--phase", "all", "--json"])
    rows = json.loads(done.stdout)
    assert [(row["part"], row["samples"]) for row in rows] == [
        ("s, phase few", 2),
        ("s, phase whole", 4),
    ]
    words = ["--model", "simulated/sim-1b", "--dataset", "demo-sums", "--items", "2"]
    done = CliRunner().invoke(cli, ["estimate", *words, "--items", "3", "--json"])
    assert [row["samples"] for row in json.loads(done.stdout)] == [2, 3]


def test_calls_that_failed_most_are_named_in_a_short_line(failed: Path) -> None:
    assert len(conduct._commonest_failure(failed / "o")) < 250


def test_models_can_be_named_one_by_one() -> None:
    done = CliRunner().invoke(cli, ["models", "--model", "gpt-4o-mini", "--json"])
    assert [row["model"] for row in json.loads(done.stdout)] == ["openai/gpt-4o-mini"]


# --- tables that keep their numbers --------------------------------------------------------------


@pytest.mark.parametrize("width", [24, 40, 60, 80, 120])
def test_no_number_is_cut(width: int) -> None:
    numbers = ["41.7 50.0 45.0", "+3.3", "-13.5 to +20.0", "0.00329"]
    made = terminal.table("t", ["a model's name", "path", "delta", "interval", "extra"], left=1)
    made.add_row("a-model-with-a-long-name-1234567890", *numbers)
    made.add_section()
    shown = Console(file=io.StringIO(), width=width)
    terminal.show_table(shown, made, spare=("extra", "path"))
    lines = shown.file.getvalue().splitlines()  # type: ignore[attr-defined]
    said = " ".join(lines)
    assert "+3.3" in said
    assert "-13.5 to +20.0" in said
    for name, number in (("extra", "0.00329"), ("path", "41.7 50.0 45.0")):
        assert (number in said) != (f"no room here for: {name}" in said or f", {name}" in said)
    assert ("no room" not in said) == (width == 120)
    if width >= 40:
        assert max(map(len, lines)) <= width


def test_files_left_out_of_a_pack_are_named_by_reason(tmp_path: Path, failed: Path) -> None:
    out = tmp_path / "o"
    words = ["--model", "simulated/sim-1b", "--dataset", "demo-sums", "--items", "2"]
    assert CliRunner().invoke(cli, ["run", *words, "--out", str(out)]).exit_code == 0
    (out / "report").mkdir()
    for name in "abcd":
        (out / "report" / f"{name}.png").write_bytes(b"\x89PNG")
    done = CliRunner().invoke(cli, ["pack", str(out), "-o", str(tmp_path / "p.zip"), "--anonymous"])
    assert done.exit_code == 0, done.output
    (line,) = [one for one in done.output.splitlines() if "searched" in one]
    assert "report/a.png, report/b.png and 2 more: " in line
