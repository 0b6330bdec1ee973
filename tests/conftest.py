"""No test reaches past this machine."""

from __future__ import annotations

import os
import socket

import pytest
from hypothesis import settings

# Property tests share two cores with everything else: fewer examples, and no stopwatch.
settings.register_profile("here", max_examples=25, deadline=None)
settings.load_profile("here")


# Workers fill the cores already: a second thread of BLAS would only spin beside them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

_PLACES = {
    "--chinchilla": "DELTASCALE_CHINCHILLA_CSV",
    "--obs-scaling": "DELTASCALE_OBS_SCALING_DIR",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--chinchilla", metavar="CSV", help="points to replicate the fit of Chinchilla"
    )
    parser.addoption("--obs-scaling", metavar="DIR", help="observational scaling's two CSV files")


def pytest_configure(config: pytest.Config) -> None:
    """Through the environment, so that workers in other processes have it too."""
    for option, variable in _PLACES.items():
        if place := config.getoption(option):
            os.environ[variable] = str(place)


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting to anything but loopback is an error, and so is looking up a name."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = address[0] if isinstance(address, tuple) else address
            if host not in ("127.0.0.1", "::1", "localhost"):
                raise AssertionError(f"a test connects to {host}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)
    for name in ("OPENAI", "ANTHROPIC", "REPLICATE"):
        for suffix in ("API_KEY", "API_TOKEN", "BASE_URL"):
            monkeypatch.delenv(f"{name}_{suffix}", raising=False)
