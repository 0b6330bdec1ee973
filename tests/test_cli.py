"""The command line as a person uses it: exit codes, one-line mistakes, tables and JSON."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from deltascale.cli import cli, main

COMMANDS = tuple(sorted(cli.commands))


def deltascale(
    *arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    """Exit code, output and complaints of one command, in this process."""
    monkeypatch.setattr(sys, "argv", ["deltascale", *arguments])
    code = 0
    try:
        main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "demo"
    done = CliRunner().invoke(cli, ["demo", "--items", "12", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "simulated models only" in done.output
    assert "upper bound (oracle)" in done.output
    assert "intervals hold the simulation's true delta" in done.output.splitlines()[-1]
    assert max(len(line.rstrip()) for line in done.output.splitlines()) <= 100
    return out


OPTIONS = {"--dataset": "demo-sums", "--turns": "2", "--items": "12"}
SMALL = [word for pair in OPTIONS.items() for word in pair]
SMALL += ["--model", "simulated/sim-1b", "--model", "simulated/sim-8b"]
SMALL += ["--protocol", "review", "--protocol", "oracle"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of four cells, run and analysed."""
    out = tmp_path_factory.mktemp("small") / "out"
    done = CliRunner().invoke(cli, ["run", *SMALL, "--out", str(out)])
    assert done.exit_code == 0, done.output
    return out


def test_the_demo_leaves_a_whole_directory(demo: Path) -> None:
    assert {"ledger.db", "lock.json", "results"} <= {path.name for path in demo.iterdir()}
    with (demo / "results" / "deltas.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7 * 2 * 5
    for row in rows:
        if row["regime"] != "verdict":
            continue
        assert row["p_value"] == "", "an oracle is not tested"
        assert row["broken"] == "0"
    assert {row["parameters_source"] for row in rows} == {"simulated"}
    for row in rows:
        delta = (int(row["fixed"]) - int(row["broken"])) / int(row["n_items"])
        assert float(row["delta"]) == pytest.approx(delta)
        assert float(row["acc_last"]) - float(row["acc_first"]) == pytest.approx(delta)
        assert float(row["ci_low"]) <= delta <= float(row["ci_high"])


def test_the_deltas_have_the_promised_columns(demo: Path) -> None:
    promised = (
        "model,parameters,parameters_source,provider,dataset,protocol,regime,temperature,turns,"
        "n_items,n_missing,acc_first,acc_last,delta,ci_low,ci_high,fixed,broken,p_value,p_holm,"
        "no_answer_first,no_answer_last,truncated_first,truncated_last,cost_usd,cost_extra_usd,"
        "tokens_in,tokens_out"
    )
    assert (demo / "results" / "deltas.csv").read_text().startswith(promised)


def test_json_is_the_same_table(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = deltascale(
        "analyze", str(small), "--json", monkeypatch=monkeypatch, capsys=capsys
    )
    rows = json.loads(out)
    assert code == 0
    with (small / "results" / "deltas.csv").open() as file:
        for row, kept in zip(rows, csv.DictReader(file), strict=True):
            assert {
                name: "" if value is None else str(value) for name, value in row.items()
            } == kept


def test_running_again_buys_nothing(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (small / "results" / "deltas.csv").read_bytes()
    code, out, _ = deltascale(
        "run", *SMALL, "--out", str(small), monkeypatch=monkeypatch, capsys=capsys
    )
    assert code == 0
    assert " 0 calls bought" in out
    assert (small / "results" / "deltas.csv").read_bytes() == before


@pytest.mark.parametrize("command", ["status", "doctor", "models", "datasets"])
@pytest.mark.parametrize("as_json", [False, True])
def test_commands_that_look(
    small: Path,
    command: str,
    as_json: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-" + "s3cret" * 6)
    arguments = [command, *([str(small)] if command == "status" else []), *["--json"] * as_json]
    code, out, err = deltascale(*arguments, monkeypatch=monkeypatch, capsys=capsys)
    assert (code, err) == (0, "")
    assert "s3cret" not in out
    if as_json:
        assert json.loads(out)
    else:
        assert max(len(line.rstrip()) for line in out.splitlines()) <= 100


MISTAKES = [
    (("run", "--dataset", "demo-sums"), "--model"),
    (("run", "nowhere.yaml"), "nowhere.yaml"),
    (("run", "--modle", "x"), "--model"),
    (("rnu",), "run"),
    (("run", "--model", "openai/gpt-4o-mni", "--dataset", "gsm8k"), "did you mean"),
    (("run", "--model", "simulated/sim-1b", "--dataset", "demo-sum"), "did you mean"),
    (("run", "--model", "simulated/sim-1b", "--dataset", "nowhere.csv", "--scorer", "exact"),
     "nowhere.csv"),
    (("run", "--model", "simulated/sim-1b", "--dataset", "demo-sums", "--turns", "x"), "turns"),
    (("run", "--model", "simulated/sim-1b", "--dataset", "demo-sums", "--phase", "1"), "--phase"),
    (("estimate", "--model", "openai/gpt-4o-mini", "--dataset", "demo-sums", "--protocol", "revue"),
     "did you mean 'review'"),
    (("run", "--model", "openai/gpt-4o-mini", "--dataset", "demo-sums"), "OPENAI_API_KEY"),
    (("status", "nowhere"), "run the study first"),
    (("analyze", "nowhere"), "run one with --out"),
    (("datasets", "show", "gsm9k"), "did you mean"),
    (("models", "pull", "gpt-4"), "smollm2-135m"),
    (("models", "--check", "--model", "openai/gpt-4o-mni"), "did you mean"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "says"), MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = deltascale(*arguments, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 2
    assert says in err
    assert sum(not line.startswith("warning: ") for line in err.splitlines()) == 1, err
    assert "Traceback" not in err + out
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_a_study_file_and_its_options_do_not_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert deltascale("init", "mine", monkeypatch=monkeypatch, capsys=capsys)[0] == 0
    code, _, err = deltascale(
        "run", "mine.yaml", "--items", "3", monkeypatch=monkeypatch, capsys=capsys
    )
    assert code == 2
    assert "--items can't be given with a study file" in err
    code, _, err = deltascale("init", "mine", monkeypatch=monkeypatch, capsys=capsys)
    assert code == 2
    assert "already" in err


def test_an_ad_hoc_run_of_ones_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = ["question,answer", *(f"Compute {n} * 3 + 100.,{3 * n + 100}" for n in range(11, 31))]
    Path("mine.csv").write_text("\n".join(lines) + "\n")
    options = "--model simulated/sim-8b --dataset mine.csv --scorer numeric --protocol review"
    arguments = [*options.split(), "--turns", "3", "--items", "20", "--out", "out"]
    code, out, _ = deltascale("estimate", *arguments, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0
    assert "60" in out
    assert not Path("out").exists(), "estimating writes nothing"
    code, out, err = deltascale("run", *arguments, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0, err
    assert "sim-8b" in out
    with Path("out/results/deltas.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["n_items"] == "20"


def test_a_study_of_another_meaning_is_refused(
    demo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (demo / "ledger.db").read_bytes()
    code, _, err = deltascale(
        "demo", "--seed", "1", "--out", str(demo), monkeypatch=monkeypatch, capsys=capsys
    )
    assert code == 2
    assert "another meaning" in err
    assert len(err.strip().splitlines()) == 1
    assert (demo / "ledger.db").read_bytes() == before


def test_help_is_there_and_imports_nothing_heavy() -> None:
    """Of every command, in one fresh process: what one imports is still there after the next."""
    code = (
        "import sys; from deltascale.cli import cli\n"
        f"for command in {['', *COMMANDS]!r}:\n"
        "    try: cli.main([command, '--help'] if command else ['--help'])\n"
        "    except SystemExit as ended: assert not ended.code, command\n"
        "    heavy = {'numpy', 'scipy', 'aiohttp', 'pydantic', 'msgspec', 'rich', 'genai_prices',"
        " 'ruamel.yaml'} & set(sys.modules)\n"
        "    assert not heavy, (command, heavy)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage:") == 1 + len(COMMANDS)
