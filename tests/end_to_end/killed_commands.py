"""``curate`` commands that are killed at a file event of theirs, quickly one after another.

A server process imports everything once, and forks a process for each command. That one
counts its file events: files opened to be written, writes, syncs, new names, links,
deletions, folders, and transactions of Dagster's records. It kills itself by SIGKILL before
one of them, or in the midst of a write; the server kills whatever it started.
"""

import builtins
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SECONDS = 180
"""After which a command counts as one that waits for something."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_AUDITED = {
    "os.rename": "rename",
    "os.link": "link",
    "os.symlink": "link",
    "os.remove": "delete",
    "os.rmdir": "delete",
    "os.mkdir": "folder",
    "os.truncate": "write",
}
"""Kinds of events that an audit hook is told of."""
_WORKED_WITH = ("jobs.app", "jobs.cli", "jobs.sqlite_storage", "jobs.run_queue")
"""Modules that are imported at once; what else commands import is imported after them."""


@dataclass(frozen=True)
class Moment:
    """When a process is killed: before an event of a kind, the first of which has 1."""

    kind: str
    number: int


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int | None
    """None if it was killed, or did not end."""
    moment: str
    """The event that it was killed at; empty if it was not."""
    events: Mapping[str, int] = field(default_factory=dict)
    """How many of each kind there were, if it ended."""
    told: str = ""
    """What it said."""

    @property
    def was_killed(self) -> bool:
        return bool(self.moment)


class Commands:
    """Executes commands, in the folder that a server works in."""

    def __init__(self, server: "subprocess.Popen[str]") -> None:
        self._server = server

    def execute(self, arguments: Sequence[str], dies: Moment | None = None) -> Ended:
        """Execute one command.

        Args:
            arguments: Of ``curate``.
            dies: When it is killed, if it comes so far; by default not at all.
        """
        assert self._server.stdin
        assert self._server.stdout
        asked = {"arguments": arguments, "dies": asdict(dies) if dies else None}
        print(json.dumps(asked), file=self._server.stdin, flush=True)
        return Ended(**json.loads(self._server.stdout.readline()))


@contextmanager
def serve_commands(folder: Path) -> Iterator[Commands]:
    """Start a server for commands that work in a folder, with Dagster's records there."""
    environment = os.environ | {
        "DAGSTER_HOME": str(folder / "home"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    with subprocess.Popen(
        [sys.executable, "-m", __name__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as server:
        yield Commands(server)
        assert server.stdin
        server.stdin.close()


def serve(folder: Path) -> None:
    """Execute what standard input asks for, line by line, and answer each with a line."""
    for name in _WORKED_WITH:
        importlib.import_module(name)
    for line in sys.stdin:
        asked = json.loads(line)
        dies = Moment(**asked["dies"]) if asked["dies"] else None
        print(json.dumps(asdict(_execute(folder, asked["arguments"], dies))), flush=True)
        _import_what_was_imported(folder)


def _import_what_was_imported(folder: Path) -> None:
    """Import what the last command did, so that the next one finds it there."""
    imported = folder / "log" / "modules"
    if imported.exists():
        for name in imported.read_text().split():
            if name not in sys.modules:
                with suppress(Exception):
                    importlib.import_module(name)


def _execute(folder: Path, arguments: Sequence[str], dies: Moment | None) -> Ended:
    log = folder / "log"
    log.mkdir(exist_ok=True)
    for name in ("told", "moment", "events"):
        (log / name).unlink(missing_ok=True)
    child = os.fork()
    if not child:
        _become(folder, arguments, dies)
    _, status = os.waitpid(child, 0)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it started
    moment, events = log / "moment", log / "events"
    return Ended(
        code=os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
        moment=moment.read_text() if moment.exists() else "",
        events=json.loads(events.read_text()) if events.exists() else {},
        told=(log / "told").read_text(errors="replace"),
    )


def _become(folder: Path, arguments: Sequence[str], dies: Moment | None) -> None:
    """Be the process of a command; this does not return."""
    code = 1
    try:
        os.setsid()
        signal.alarm(SECONDS)
        told = os.open(folder / "log" / "told", os.O_WRONLY | os.O_CREAT)
        os.dup2(told, 1)
        os.dup2(told, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(folder)
        watch = _Watch(folder, dies)
        watch.begin()
        code = _curate(arguments)
        watch.end()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _curate(arguments: Sequence[str]) -> int:
    from jobs.cli import main

    try:
        main(list(arguments))
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


class _Watch:
    """Counts this process's file events, and kills it at one.

    Those of processes that it starts are not counted: they are killed with it.
    """

    def __init__(self, folder: Path, dies: Moment | None) -> None:
        self._folder, self._dies = str(folder), dies
        self._counts: Counter[str] = Counter()
        self._lock = threading.RLock()
        self._is_on = False

    def begin(self) -> None:
        """Count from now on; all calls are replaced that no audit hook is told of."""
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        for name in ("fsync", "fdatasync", "sendfile", "posix_fallocate"):
            kind = "write" if name in ("sendfile", "posix_fallocate") else "sync"
            setattr(os, name, self._watched(kind, name, getattr(os, name)))
        builtins.open = io.open = self._open  # type: ignore[assignment]
        event.listen(Engine, "commit", self._commit)
        sys.addaudithook(self._audit)
        self._is_on = True

    def end(self) -> None:
        """Count no more, and tell what was counted."""
        self._is_on = False
        (Path(self._folder) / "log" / "events").write_text(json.dumps(self._counts))
        (Path(self._folder) / "log" / "modules").write_text("\n".join(sys.modules))

    def happens(
        self, kind: str, what: str, half: Callable[[], object] | None = None
    ) -> None:
        """Count an event before it happens, or be killed then, or when half of it did."""
        if not self._is_on:
            return
        with self._lock:
            self._counts[kind] += 1
            if self._dies == Moment(kind, self._counts[kind]):
                self._is_on = False
                if half:
                    half()
                text = f"{kind} {self._counts[kind]}: {what}"
                (Path(self._folder) / "log" / "moment").write_text(text)
                os.kill(os.getpid(), signal.SIGKILL)

    def _commit(self, connection: Any) -> None:
        if connection.connection.dbapi_connection.in_transaction:  # it changes something
            self.happens("commit", "records")

    def _watched(
        self, kind: str, name: str, call: Callable[..., Any]
    ) -> Callable[..., Any]:
        def watched(*arguments: Any) -> Any:
            self.happens(kind, name)
            return call(*arguments)

        return watched

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._is_on or not arguments:
            return
        path = str(arguments[0])
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING:
            if path.startswith(self._folder):
                self.happens("open", path)
        elif event in _AUDITED and path.startswith(self._folder):
            self.happens(_AUDITED[event], " -> ".join(map(str, arguments[:2])))

    def _open(
        self, file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **named: Any
    ) -> Any:
        is_text = "b" not in mode or not set(mode) & set("wxa+")
        if is_text or not buffering or isinstance(file, int) or rest or named:
            return _real_open(file, mode, buffering, *rest, **named)
        raw = _Raw(file, mode.replace("b", ""))
        raw.watch = self
        kind = io.BufferedRandom if "+" in mode else io.BufferedWriter
        return kind(raw, buffering if buffering > 0 else io.DEFAULT_BUFFER_SIZE)


_real_open = open


class _Raw(io.FileIO):
    """A file whose writes are events."""

    watch: _Watch

    def write(self, data: Any) -> int:
        whole = memoryview(data).cast("B")
        half = whole[: len(whole) // 2]
        self.watch.happens("write", str(self.name), lambda: super(_Raw, self).write(half))
        return super().write(data)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
