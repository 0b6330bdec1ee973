"""The part that runs inside the sandbox. It knows no path, no secret and no other module of ours.

Its text is handed to a Python interpreter that is already shut in; nothing here keeps anything in,
it only talks: one JSON text a line, read from descriptor 0 and written to descriptor 1. The first
line is the job, and its `role` says what this interpreter is for:

- `program` runs code nobody trusts, then answers calls of its function with the values returned;
- `tests` runs a dataset's tests; the function under test is a stand-in that asks the other side;
- `script` runs code nobody trusts and returns what it printed and its variable `ans`.

The program and its tests never share an interpreter. Only plain values cross: a number, a text, a
list, tuple, dict or set of such. So a program can't patch `print`, forge `==`, find the tests in a
frame, or say that it passed: it can only return values, and the tests compare those.
"""

import builtins
import gc
import io
import json
import os
import random
import sys
from types import CodeType, ModuleType
from typing import Any

__all__: list[str] = []

WARM = "typing math re collections itertools functools string heapq bisect copy datetime decimal "
WARM += "fractions statistics operator hashlib dataclasses enum textwrap contextlib cmath"
DENIED_EVENTS = (
    *("socket.", "subprocess.", "ctypes.", "shutil.", "tempfile.", "pty.", "ftplib.", "http."),
    *("urllib.", "smtplib.", "webbrowser.", "sqlite3.", "mmap.", "signal.", "syslog.", "msvcrt."),
    *("_thread.start_", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.kill"),
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"),
    *("os.chmod", "os.chown", "os.utime", "os.setxattr", "os.chdir", "resource.", "fcntl."),
)
LOOKING_EVENTS = ("open", "os.listdir", "os.scandir", "os.walk")
MOST_ITEMS = 1_000_000
MOST_DETAIL = 400
TROUBLES = ("exception", "blocked", "memory", "syntax_error")


class CannotCrossError(Exception):
    """A value that can't cross: it is of a type that is not plain."""


class Foreign:
    """Stands in the tests for a returned value that could not cross; equal to nothing."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}>"


class ProgramError(Exception):
    """Stands in the tests for an exception of a type that only the program knows."""


class Left(BaseException):
    """The program ended, or raised what `except Exception` does not catch."""


# --- values as JSON ------------------------------------------------------------------------------


def pack(value: object) -> object:
    """The value as JSON data: itself, or a one-key object that names the type."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if -(2**53) < value < 2**53 else {"int": hex(value)}
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)  # a subclass may print itself otherwise
    if isinstance(value, list):
        return [pack(part) for part in value]
    if isinstance(value, tuple):
        return {"tuple": [pack(part) for part in value]}
    if isinstance(value, dict):
        return {"dict": [[pack(key), pack(part)] for key, part in value.items()]}
    if isinstance(value, (set, frozenset)):
        name = "set" if isinstance(value, set) else "frozenset"
        return {name: [pack(part) for part in value]}
    return pack_rare(value)


def pack_rare(value: Any) -> object:
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, range):
        return {"range": [pack(value.start), pack(value.stop), pack(value.step)]}
    if type(value).__module__ in ("fractions", "decimal"):
        return {type(value).__name__: str(value)}
    if hasattr(type(value), "__next__"):
        parts: list[object] = []
        for part in value:
            if len(parts) == MOST_ITEMS:
                raise CannotCrossError(type(value).__name__)
            parts.append(pack(part))
        return {"iterator": parts}
    raise CannotCrossError(type(value).__name__)


def unpack(data: Any) -> object:
    """The inverse of `pack`. Whatever the data, the result is made of plain values only."""
    if isinstance(data, list):
        return [unpack(part) for part in data]
    if not isinstance(data, dict):
        return data
    if len(data) != 1:
        raise ValueError("not a packed value")
    ((name, body),) = data.items()
    if name == "int":
        return int(body, 16)
    if name == "dict":
        return {unpack(key): unpack(part) for key, part in body}
    if name == "bytes":
        return bytes.fromhex(body)
    if name == "complex":
        return complex(*body)
    if name in ("Fraction", "Decimal"):
        return getattr(__import__(name.lower() + "s" * (name == "Fraction")), name)(str(body))
    if name == "foreign":
        return Foreign(str(body))
    makers: dict[str, Any] = {"tuple": tuple, "set": set, "frozenset": frozenset, "iterator": iter}
    parts: list[Any] = [unpack(part) for part in body]
    return range(*parts) if name == "range" else makers[name](parts)


# --- talking -------------------------------------------------------------------------------------


class Channel:
    """Lines over descriptors 0 and 1, past whatever becomes of `sys.stdin` and `sys.stdout`."""

    def __init__(self) -> None:
        self.rest = b""

    def read(self) -> Any:
        while b"\n" not in self.rest:
            chunk = os.read(0, 1 << 16)
            if not chunk:
                os._exit(0)
            self.rest += chunk
        line, self.rest = self.rest.split(b"\n", 1)
        return json.loads(line)

    def write(self, data: object, before: str = "") -> None:
        text = memoryview((before + json.dumps(data) + "\n").encode())
        while text:
            text = text[os.write(1, text) :]


class Kept(io.BufferedIOBase):
    """A standard output that keeps the first `most` bytes and forgets the rest."""

    name = "<output>"

    def __init__(self, most: int) -> None:
        self.most = most
        self.bytes = bytearray()
        self.cut = False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = bytes(data)
        self.cut = self.cut or len(self.bytes) + len(view) > self.most
        self.bytes += view[: max(0, self.most - len(self.bytes))]
        return len(view)

    def text(self) -> str:
        return self.bytes.decode("utf-8", "replace")


def redirect(most: int) -> Kept:
    """Give the code an empty standard input and an output that is kept up to `most` bytes."""
    kept = Kept(most)
    streams: Any = sys
    streams.stdin = streams.__stdin__ = io.TextIOWrapper(io.BytesIO(b""), "utf-8")
    streams.stdout = streams.__stdout__ = written(kept)
    streams.stderr = streams.__stderr__ = written(Kept(0))
    return kept


def written(kept: Kept) -> io.TextIOWrapper:
    return io.TextIOWrapper(kept, "utf-8", "backslashreplace", write_through=True)


# --- refusing ------------------------------------------------------------------------------------


class Watch:
    """Refuses what the sandbox withholds, with the same words everywhere, and remembers it.

    Only a label: a program may get round it and meets the sandbox itself, which withholds the same.
    """

    def __init__(self) -> None:
        self.refused = ""
        roots = {sys.prefix, sys.base_prefix, os.path.dirname(os.__file__), *sys.path}
        self.roots = tuple(root.rstrip("/") + "/" for root in roots if len(root) > 1)

    def hook(self, event: str, args: tuple[object, ...]) -> None:
        if event in LOOKING_EVENTS:
            place = args[0] if args else None
            reading = event != "open" or not (set(str(args[1] or "r")) & set("wax+"))
            if reading and isinstance(place, str) and (place + "/").startswith(self.roots):
                return  # an import reads the standard library
        elif not event.startswith(DENIED_EVENTS):
            return
        self.refused = self.refused or event
        raise PermissionError(f"{event} is not possible in the sandbox")


def limit(job: dict[str, Any]) -> None:
    """Lower this process's own limits, where the system has such; the host sets its own besides."""
    try:
        import resource
    except ImportError:
        return
    wanted = {"AS": job["memory_bytes"], "CPU": job["cpu_s"], "FSIZE": 0, "CORE": 0, "NPROC": 0}
    for name, most in wanted.items():
        which = getattr(resource, f"RLIMIT_{name}", None)
        if which is None:
            continue
        hard = most + 1 if name == "CPU" else most  # the soft one says by its signal what it was
        try:
            resource.setrlimit(which, (most, hard))
        except (OSError, ValueError):
            continue  # macOS knows RLIMIT_AS but does not let it be lowered


# --- the three roles -----------------------------------------------------------------------------


def last_line(error: BaseException, name: str) -> int:
    """The last line of the source called `name` that the error passed through; 0: none."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == name:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def plain(text: str) -> str:
    """The text without lone surrogates, which no reader of strict UTF-8 takes."""
    return text.encode("utf-8", "backslashreplace").decode()


def describe(error: BaseException, name: str) -> str:
    try:
        said = error.msg if isinstance(error, SyntaxError) else str(error)
    except BaseException:  # a program's own exception may fail to say what it is
        said = ""
    line = error.lineno or 0 if isinstance(error, SyntaxError) else last_line(error, name)
    where = f" (line {line} of the {name})" if line else ""
    return plain(f"{type(error).__name__}: {said[:MOST_DETAIL]}{where}")


def trouble(error: BaseException, watch: Watch) -> dict[str, object]:
    """What the host and the tests are told of an exception in the program."""
    status = "exception"
    if watch.refused:
        status = "blocked"
    elif isinstance(error, MemoryError):
        status = "memory"
    kinds = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins"]
    return {"status": status, "kinds": kinds, "detail": describe(error, "program")}


def run(code: CodeType) -> dict[str, Any]:
    """Run the program in a module of its own. `__name__` is not `__main__`: what stands under that
    guard is a program's own trial run and stays out."""
    module = ModuleType("program")
    sys.modules["program"] = module
    exec(code, module.__dict__)  # noqa: S102 - running it is what this process is for
    return module.__dict__


def start_program(job: dict[str, Any], watch: Watch) -> tuple[dict[str, Any], dict[str, object]]:
    """(the program's names, its trouble); the trouble is empty when it ran to its end."""
    try:
        code = compile(job["source"], "program", "exec", dont_inherit=True)
    except BaseException as error:  # a text may fail to compile in more ways than SyntaxError
        return {}, {**trouble(error, watch), "status": "syntax_error"}
    sys.addaudithook(watch.hook)
    try:
        return run(code), {}
    except BaseException as error:  # whatever a program raises is an answer about the program
        return {}, trouble(error, watch)


def be_program(job: dict[str, Any], channel: Channel) -> None:
    redirect(job["output_bytes"])
    watch = Watch()
    names, report = start_program(job, watch)
    function = names.get(job["entry_point"])
    if not report and not callable(function):
        detail = f"NameError: the program defines no function {job['entry_point']}"
        report = {"status": "exception", "kinds": ["NameError"], "detail": detail}
    channel.write(report or {"status": "loaded"})
    while not report:
        args, keywords = channel.read()
        channel.write(answer(function, args, keywords, watch))


def answer(function: Any, args: Any, keywords: Any, watch: Watch) -> dict[str, object]:
    """Call the program's function: its value, or its trouble."""
    try:
        named = {name: unpack(value) for name, value in keywords.items()}
        value = function(*[unpack(arg) for arg in args], **named)
        try:
            return {"value": pack(value)}
        except (CannotCrossError, RecursionError):
            return {"value": {"foreign": type(value).__name__}}
    except BaseException as error:  # whatever a program raises is an answer about the program
        return trouble(error, watch)


class Candidate:
    """The function under test, as the tests see it: every call is answered by the other side."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.error: BaseException | None = None
        self.verdict: dict[str, object] = {}

    def __call__(self, *args: object, **keywords: object) -> object:
        packed = {name: pack(arg) for name, arg in keywords.items()}
        self.channel.write([[pack(arg) for arg in args], packed])
        answer = self.channel.read()
        if "value" in answer:
            return unpack(answer["value"])
        # The program writes this: it may name a way to fail, never one to pass.
        status = answer.get("status")
        status = status if status in TROUBLES else "exception"
        self.verdict = {"status": status, "detail": str(answer.get("detail"))}
        self.error = self.as_exception(answer)
        raise self.error

    @staticmethod
    def as_exception(answer: dict[str, Any]) -> BaseException:
        """The nearest built-in exception, so that tests which expect one can catch it."""
        detail = str(answer.get("detail"))
        for name in answer.get("kinds") or ():
            kind = getattr(builtins, str(name), None)
            if not (isinstance(kind, type) and issubclass(kind, BaseException)):
                continue
            if not issubclass(kind, Exception):
                return Left(detail)
            try:
                return kind(detail)
            except TypeError:
                continue  # some need more than one argument; their parents don't
        return ProgramError(detail)


def be_tests(job: dict[str, Any], channel: Channel) -> None:
    redirect(0)
    candidate = Candidate(channel)
    names: dict[str, Any] = {"__name__": "tests"}
    verdict: dict[str, object] = {"status": "passed", "detail": ""}
    try:
        setup = compile(job["setup"], "setup", "exec", dont_inherit=True)
        tests = compile(job["tests"], "tests", "exec", dont_inherit=True)
        exec(setup, names)  # noqa: S102 - running them is what this process is for
        names[job["entry_point"]] = candidate
        exec(tests, names)  # noqa: S102
        if callable(names.get("check")):
            names["check"](candidate)
    except BaseException as error:  # every way for tests to end is a verdict
        if error is candidate.error:
            verdict = candidate.verdict
        elif isinstance(error, AssertionError):
            detail = f"the assert on line {last_line(error, 'tests')} of the tests"
            verdict = {"status": "failed_assert", "detail": detail}
        else:
            verdict = {"status": "exception", "detail": describe(error, "tests")}
    channel.write(verdict, before="!" + job["marker"])


def be_script(job: dict[str, Any], channel: Channel) -> None:
    most = job["output_bytes"]
    kept = redirect(most)
    watch = Watch()
    names, report = start_program(job, watch)
    ans: str | None = None
    try:
        ans = plain(str(names["ans"])[:most]) if "ans" in names else None
    except BaseException as error:  # a program's own value may fail to say what it is
        report = trouble(error, watch)
    report = report or {"status": "ran", "detail": ""}
    channel.write({**report, "output": kept.text(), "cut": kept.cut, "ans": ans})


def main() -> None:
    sys.path[:] = [entry for entry in sys.path if entry]
    if "warm" in sys.argv:
        for name in WARM.split():
            __import__(name)
        gc.freeze()  # the forks that follow need not look through, and copy, what is here already
    channel = Channel()
    channel.write("ready")
    job = channel.read()
    random.seed(0)
    limit(job)
    {"program": be_program, "tests": be_tests, "script": be_script}[job["role"]](job, channel)
    os._exit(0)


if __name__ == "__main__":
    main()
