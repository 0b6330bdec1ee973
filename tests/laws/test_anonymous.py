"""A blind pack tells nobody who made it: canaries planted everywhere are nowhere in it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from deltascale import ledger
from deltascale.archive import lock
from deltascale.archive.scrub import Scrub
from deltascale.errors import Mistake
from deltascale.providers import CallFailed
from deltascale.records import DatasetSpec, Failure, Reply, Request, Usage, digest
from tests import archives, worlds

USER, HOST = "zaphodbx", "heartofgold7"
FULL_NAME = "Tricia Macmillan"
EMAIL = "zaphod.b@magrathea.example"
SERVER = "gpu7.magrathea.example"
KEYS = {
    "OPENAI_API_KEY": "sk-proj-Canary1Canary2Canary3",
    "ANTHROPIC_API_KEY": "sk-ant-api03-Canary4Canary5-xyz",
    "REPLICATE_API_TOKEN": "r8_Canary6Canary7Canary8abcd",
    "OPENROUTER_API_KEY": "sk-or-v1-0123canary456789abcdef",
    "GROQ_API_KEY": "gsk_Canary9Canary0Canary1abcd",
    "XAI_API_KEY": "xai-Canary2Canary3Canary4abcd",
    "MISTRAL_API_KEY": "Canary0plain0of0no0known0shape",
    "HF_TOKEN": "hf_Canary5Canary6Canary7abcd",
    "GOOGLE_API_KEY": "AIzaCanary01234567890123456789abcdef",
}
ENVIRON = {"USER": USER, "HOSTNAME": HOST, "HOME": f"/home/{USER}", **KEYS}
IDS = ("org-Canary1234567abcd", "req_011CSCanary42xyz", "chatcmpl-Canary77abcdef12")
ELSEWHERE = (f"/home/{USER}/secret-project", "/Users/slartibartfast", "10.11.12.13")
LISTED = "Infinite Improbability Lab"
ZONE = "2026-11-21T10:11:12+05:30"

IDENTITY = (
    USER, HOST, FULL_NAME, "Macmillan", EMAIL, SERVER, "magrathea", "team-ursa", *IDS,
    "slartibartfast", "10.11.12.13", "secret-project", LISTED, "+05:30", "Canary9Org",
)  # fmt: skip
SECRETS = tuple(KEYS.values())
ANY = " | ".join(
    (*IDENTITY[:5], *IDS, *ELSEWHERE, LISTED, ZONE, "ft:gpt-4o:Canary9Org:x:9", *SECRETS)
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of one's own file on a private server, with canaries wherever a text can be."""
    home = tmp_path_factory.mktemp(USER)
    lines = ["question,answer"]
    lines += [f"What is {n} + {n}? ({ANY if n == 3 else EMAIL}),{2 * n}" for n in range(1, 6)]
    (home / "survey.csv").write_text("\n".join(lines).replace(", ", "; ") + "\n")
    spec = DatasetSpec(f"{USER}-survey", file=str(home / "survey.csv"), scorer="numeric")
    wanted = replace(
        archives.simulated(protocols=("review", "vote"), items=5),
        name=f"study-of-{USER}",
        datasets=(spec,),
        system=f"You work for {FULL_NAME} ({EMAIL}).",
        models=(
            worlds.model("toy", base_url=f"https://{SERVER}:8443/team-ursa/v1"),
            worlds.model("other", base_url=f"http://{SERVER}/v1"),
        ),
    )

    async def call(request: Request) -> Reply:
        asked = request.messages[1].content
        if "What is 5 +" in asked and request.model == "other":
            raise CallFailed(Failure("bad_request", f"refused for {ANY}"))
        found = re.search(r"What is (\d+)", asked)
        assert found is not None
        drawn = hashlib.sha256(digest(request)).digest()[0]
        answer = 2 * int(found[1]) + (drawn < 100)
        text = f"Dear {USER} on {HOST}, says {ANY}, it is\n#### {answer}"
        return Reply(
            text, "stop", Usage(20, 9), model_served=f"toy-1@{SERVER}", raw=json.dumps(ANY).encode()
        )

    directory = archives.had(wanted, home / "study", call=call, environ=ENVIRON)
    (directory / ".env").write_text("LAB_PASSPHRASE='dont panic and bring 1 towel'\n")
    (directory / "CITATION.cff").write_text(f"authors:\n  - name: {FULL_NAME}\n")
    (directory / "report").mkdir()
    (directory / "report" / "index.html").write_text(
        f"<p>by {ANY}: dont panic and bring 1 towel</p>"
    )
    (directory / "report" / "figure.pdf").write_bytes(f"/Author ({USER})".encode())
    return directory


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("list") / "list.txt"
    path.write_text(f"# who we are\n{LISTED}\n\n{FULL_NAME}\nMacmillan\n")
    return path


@pytest.fixture(scope="module")
def blind(study: Path, listed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("blind") / "blind.zip"
    return archives.packed(study, place, environ=ENVIRON, anonymous=True, also=listed, check=True)


def test_no_canary_is_in_a_blind_pack(blind: Path, tmp_path: Path) -> None:
    texts = archives.contents(blind, tmp_path).lower()
    there = [text for text in (*IDENTITY, *SECRETS) if text.lower() in texts]
    assert not there
    assert "towel" not in texts
    names = {platform.node(), str(Path.home())} - {"", "/root"}
    assert not [name for name in names if len(name) > 5 and name.lower() in texts]


def test_a_blind_pack_verifies_and_names_stay_apart(blind: Path, tmp_path: Path) -> None:
    report = archives.proved(blind)
    assert report.holds, report
    assert "20 of 20 planned samples" in str(report)
    texts = archives.contents(blind, tmp_path)
    assert "endpoint-1.invalid" in texts
    assert "user-1" in texts
    with ledger.read(tmp_path / "ledger.db") as book:
        assert all(call.at % 86_400 == 0 for call in book.calls())
        servers = {call.request.endpoint for call in book.calls()}
    assert len(servers) == 2
    assert all(".invalid" in server for server in servers)


def test_the_numbers_of_a_blind_pack_are_the_studys(
    study: Path, blind: Path, tmp_path: Path
) -> None:
    from deltascale.archive import container

    container.unpack(blind, tmp_path)
    ours = (study / "results" / "deltas.csv").read_text()
    theirs = (tmp_path / "results" / "deltas.csv").read_text()
    assert ours.replace(f"{USER}-survey", "user-1-survey") == theirs


def test_keys_are_in_no_pack_at_all(study: Path, tmp_path: Path) -> None:
    plain = archives.packed(study, tmp_path / "plain.zip", environ=ENVIRON, check=True)
    texts = archives.contents(plain, tmp_path)
    assert not [key for key in SECRETS if key in texts]
    assert "towel" not in texts
    assert FULL_NAME in texts, "only a blind pack hides who made it"


def test_keys_that_are_in_no_variable_are_known_by_their_shape(study: Path, tmp_path: Path) -> None:
    plain = archives.packed(study, tmp_path / "plain.zip", environ={})
    texts = archives.contents(plain, tmp_path)
    shaped = [key for name, key in KEYS.items() if name != "MISTRAL_API_KEY"]
    assert not [key for key in shaped if key in texts]


def test_the_repository_it_lies_in_is_not_told(study: Path, tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    directory = tmp_path / "study"
    shutil.copytree(study, directory)
    for words in (
        ("init", "-q"),
        ("config", "user.name", "Arthur Dentworth"),
        ("config", "user.email", "arthur@dent.example"),
        ("remote", "add", "origin", "git@github.com:dentworthlab/towels.git"),
    ):
        subprocess.run(["git", "-C", str(directory), *words], check=True, capture_output=True)
    (directory / "report" / "index.html").write_text(
        "Arthur Dentworth, Dentworth, github.com/dentworthlab/towels, dentworthlab"
    )
    archives.packed(directory, tmp_path / "blind.zip", environ=ENVIRON, anonymous=True)
    assert "dentworth" not in archives.contents(tmp_path / "blind.zip", tmp_path).lower()


def test_what_is_still_there_is_refused(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A replacement that fails to replace must not go unseen.
    monkeypatch.setattr(Scrub, "_stand_in", lambda self, kind, match: match.group())
    with pytest.raises(Mistake, match="is still in the pack") as refused:
        archives.packed(study, tmp_path / "blind.zip", environ=ENVIRON, anonymous=True)
    assert USER not in str(refused.value)
    assert not (tmp_path / "blind.zip").exists()


@settings(max_examples=60)
@given(
    st.lists(
        st.sampled_from(
            [*IDENTITY, *SECRETS, *ELSEWHERE, " ", ", ", "seed", "\n", "the", "(", ")", "="]
        ),
        max_size=12,
    )
)
def test_replacing_once_is_replacing_for_good(parts: list[str]) -> None:
    names = {USER: "user", HOST: "host", FULL_NAME: "name", SERVER: "endpoint", LISTED: "listed"}
    scrub = Scrub(secrets=SECRETS, names=names, anonymous=True)
    once = scrub.text(" ".join(parts))
    assert scrub.text(once) == once
    assert not list(scrub.found(once))


def test_field_names_are_nobodys() -> None:
    found = archives.simulated()
    scrub = Scrub(names={"seed": "user", "turns": "user"}, anonymous=True)
    assert scrub.value(found) == found
    assert scrub.value({"seed": "turns"}) == {"user-1": "user-2"}


def test_the_lock_names_no_machine_and_no_person(study: Path) -> None:
    found = lock.read(study)
    assert found is not None
    (environment,) = found.environments
    said = repr(environment)
    assert platform.node() not in said or len(platform.node()) < 4
    assert str(Path.home()) not in said.replace("/root", "")
    assert environment.platform == f"{platform.system()} {platform.machine()}"
    assert asyncio.iscoroutinefunction(worlds.reply)
