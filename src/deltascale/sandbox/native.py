"""The other backends: a native Python shut in by bubblewrap, Docker or Podman; or only limited.

Every program gets fresh processes. In each the guest lowers its own limits before it reads code.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from deltascale.errors import Mistake
from deltascale.sandbox.running import Backend, Flood, Gone, Guest, Limits
from deltascale.sandbox.seccomp import filter_program

__all__ = ["find_bubblewrap", "find_container", "plain_subprocess"]

VARIABLE = "DELTASCALE_SANDBOX_IMAGE"
DEFAULT_IMAGE = "python:3.12-slim"
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "LC_ALL": "C.UTF-8"}
_BOOT_S = 60.0
_ASK_S = 20.0


# --- bubblewrap ----------------------------------------------------------------------------------


def find_bubblewrap() -> Backend | str:
    """The backend, or why there is none. Asks bubblewrap for its version and nothing else."""
    program = shutil.which("bwrap")
    if program is None:
        return "bwrap is not installed"
    if filter_program() is None:
        return f"no system call filter for {platform.machine()}"
    said = _asked([program, "--version"])
    if said is None:
        return "bwrap does not run"
    version = f"{said}, CPython {platform.python_version()}"
    return Backend("bubblewrap", version, functools.partial(_start_bubblewrap, program))


def _start_bubblewrap(program: str, _limits: Limits, n: int) -> tuple[Guest, ...]:
    python = Path(sys.executable).resolve()
    seen = dict.fromkeys(["/usr", "/lib", "/lib64", sys.base_prefix, str(python.parent)])
    binds = [part for place in seen for part in ("--ro-bind-try", place, place)]
    command = [
        program,
        *("--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"),
        *("--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts"),
        *("--unshare-cgroup-try", "--die-with-parent", "--new-session"),
        *(*binds, "--remount-ro", "/", "--chdir", "/", "--seccomp"),
    ]

    def launch(log: IO[bytes]) -> Guest:
        reader, writer = os.pipe()  # bubblewrap reads it to its end, so each start has its own
        os.write(writer, filter_program() or b"")
        os.close(writer)
        try:
            whole = [*command, str(reader), *_interpreter(str(python))]
            return _launched(whole, log, pass_fds=[reader])
        finally:
            os.close(reader)

    return _all_ready("bubblewrap", launch, n)


# --- Docker and Podman ---------------------------------------------------------------------------


def find_container(tool: str) -> Backend | str:
    """The backend for `docker` or `podman`, or why there is none. Downloads nothing."""
    program = shutil.which(tool)
    if program is None:
        return f"{tool} is not installed"
    image = os.environ.get(VARIABLE, DEFAULT_IMAGE)
    if _asked([program, "version", "--format", "{{.Client.Version}}"]) is None:
        return f"{tool} does not answer"
    digest = _asked([program, "image", "inspect", "--format", "{{.Id}}", image])
    if digest is None:
        return f"{tool} has no image {image} (`{tool} pull {image}`, or name one in {VARIABLE})"
    version = f"{tool}, {image}, {digest.removeprefix('sha256:')[:12]}"
    return Backend(tool, version, functools.partial(_start_container, program, image))


def _start_container(program: str, image: str, limits: Limits, n: int) -> tuple[Guest, ...]:
    # The guest's own limit is met first, so that a program sees a MemoryError and not a kill.
    memory = str(limits.memory_bytes + (64 << 20))
    variables = [part for name, value in _ENVIRONMENT.items() for part in ("-e", f"{name}={value}")]

    def launch(log: IO[bytes]) -> Guest:
        name = f"deltascale-{secrets.token_hex(8)}"
        command = [
            *(program, "run", "--rm", "--interactive", "--name", name, "--pull", "never"),
            *("--network", "none", "--read-only", "--cap-drop", "ALL"),
            *("--security-opt", "no-new-privileges", "--user", "65534:65534"),
            *("--memory", memory, "--memory-swap", memory, "--pids-limit", "16"),
            *("--ulimit", "nofile=64:64", "--ulimit", "nproc=512:512"),
            *("--log-driver", "none", "--workdir", "/", "--entrypoint", "python3", *variables),
            *(image, *_interpreter("python3")[1:]),
        ]

        def remove() -> None:
            # Ending the client leaves the container running.
            _asked([program, "rm", "--force", name])

        return _launched(command, log, env=dict(os.environ), afterwards=remove)

    return _all_ready(Path(program).name, launch, n)


# --- nothing but limits --------------------------------------------------------------------------


def plain_subprocess() -> Backend:
    """Programs run as this user, with limits on time, memory and file size, and nothing else.

    They can read and delete what this user can. Only for code that somebody has read.
    """
    version = f"CPython {platform.python_version()}"
    return Backend("unsafe", version, _start_plain, safe=False)


def _start_plain(_limits: Limits, n: int) -> tuple[Guest, ...]:
    command = _interpreter(sys.executable)
    return _all_ready("unsafe", lambda log: _launched(command, log, launcher=False), n)


# --- processes -----------------------------------------------------------------------------------


def _interpreter(python: str) -> list[str]:
    guest = Path(__file__).with_name("guest.py").read_text("utf-8")
    return [python, "-s", "-S", "-B", "-W", "ignore", "-c", guest]


def _asked(command: list[str]) -> str | None:
    """What the command prints, one line; None when it fails."""
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command of ours
            command, capture_output=True, text=True, timeout=_ASK_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _launched(
    command: list[str],
    log: IO[bytes],
    *,
    env: dict[str, str] = _ENVIRONMENT,
    pass_fds: Sequence[int] = (),
    launcher: bool = True,
    afterwards: Callable[[], None] | None = None,
) -> Guest:
    """Start the command. `launcher`: it is not the interpreter, and takes it along when it ends."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(  # noqa: S603 - the command is ours; the code comes later
                command,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=log,
                env=env,
                cwd=tempfile.gettempdir(),
                pass_fds=pass_fds,
                start_new_session=True,  # Ctrl-C is for us, and the whole group can be killed
            )
        except OSError:
            ours.close()
            raise

    def stop(patience_s: float) -> int:
        if launcher and patience_s:  # it reports how the interpreter ended
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(patience_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait()

    def stop_wholly(patience_s: float) -> int:
        try:
            return stop(patience_s)
        finally:
            if afterwards is not None:
                afterwards()

    return Guest(ours, stop_wholly)


def _all_ready(name: str, launch: Callable[[IO[bytes]], Guest], n: int) -> tuple[Guest, ...]:
    """n guests that have said that they stand ready."""
    guests: list[Guest] = []
    with tempfile.TemporaryFile() as log:
        try:
            guests += [launch(log) for _ in range(n)]
            until = time.monotonic() + _BOOT_S
            for guest in guests:
                guest.receive(until=until)
        except (OSError, Gone, Flood) as error:
            for guest in guests:
                guest.end(patience_s=0.25)
            log.seek(0)
            said = log.read(300).decode("utf-8", "replace").strip() or type(error).__name__
            raise Mistake(
                f"the sandbox {name} does not start a program: {' '.join(said.split())}",
                remedy="`deltascale doctor` tells which sandboxes work here",
            ) from error
    return tuple(guests)
