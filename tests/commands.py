"""The command line: in this process, where most is tested, and in processes of its own, which begin at once.

A new process takes seven seconds to import torch and Lightning. So a server imports them once, and each process is a
fork of it: of something that has no threads, as these tests do have.
"""

from __future__ import annotations

import faulthandler
import io
import multiprocessing
import os
import runpy
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TextIO

import pytest

ROOT = Path(__file__).parent.parent
PATIENCE = 120  # seconds for a process to end, on a machine that has much else to do

PROCESSES = multiprocessing.get_context("forkserver")
PRELOADED = [
    "torch.distributed.fsdp",
    "torch.distributed.tensor.parallel",
    "torch.distributed.tensor.debug",
    "sklearn.datasets",
    "regspec.cli.checking",
    "regspec.cli.training",
    "regspec.cli.using",
    "regspec.training.loop.run",
    "regspec.training.tuning.search",
]
PROCESSES.set_forkserver_preload(PRELOADED)


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


def command(*arguments: str, cwd: Path = ROOT) -> Done:
    """What a command prints and exits with; in this process. An error that it does not answer for comes out."""
    from regspec.cli import main

    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        patch.setenv("COLUMNS", "100")
        patch.setattr(sys, "argv", ["regspec", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    assert code is None or isinstance(code, int)
    return Done(code or 0, out.getvalue(), err.getvalue())


class Started:
    """A function that runs in a process of its own, which prints into a pipe."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        ours, theirs = PROCESSES.Pipe(duplex=False)
        self.process = PROCESSES.Process(target=_run, args=(theirs, function, arguments), daemon=True)
        self.process.start()
        theirs.close()  # so that the pipe ends where the process does
        self.lines: TextIO = os.fdopen(os.dup(ours.fileno()), encoding="utf-8", errors="replace")
        ours.close()

    def ended(self) -> Done:
        """Waits for its end."""
        printed = "".join(self.lines)
        self.process.join(PATIENCE)
        code = self.process.exitcode
        assert code is not None, printed
        return Done(code, printed, "")


@contextmanager
def started(function: Callable[..., Any], *arguments: Any) -> Iterator[Started]:
    """A process, of which nothing is left behind."""
    made = Started(function, *arguments)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.join()
        made.lines.close()


def as_torchrun(size: int, function: Callable[..., Any], *arguments: Any) -> list[Done]:
    """What so many processes that torchrun would start come to; each gets its variables before the arguments."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    shared = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    shared |= {"TORCHELASTIC_RUN_ID": "tests", "GROUP_RANK": 0, "GLOO_SOCKET_IFNAME": loopback}
    with ExitStack() as stack:
        ranks = []
        for rank in range(size):
            variables = {name: str(value) for name, value in {**shared, "RANK": rank, "LOCAL_RANK": rank}.items()}
            ranks.append(stack.enter_context(started(function, variables, *arguments)))
        return [each.ended() for each in ranks]


def _run(output: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    output.close()
    faulthandler.dump_traceback_later(PATIENCE, exit=True)  # where it hangs, and nobody waits for ever
    function(*arguments)


def command_apart(*arguments: str, cwd: Path = ROOT) -> Done:
    """What a command prints and exits with, in a process of its own, where it may import and register what it likes."""
    with started(run_command, cwd, [*arguments]) as process:
        return process.ended()


def run_rank(variables: dict[str, str], cwd: Path, arguments: list[str]) -> None:
    """The command line, in one of several processes that work together."""
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    os.environ.update(variables)
    rank_zero_only.rank = int(variables["RANK"])  # which Lightning reads when it is imported, as it is already here
    run_command(cwd, arguments)


def run_and_tell(cwd: Path, arguments: list[str], modules: list[str]) -> None:
    """The command line where nothing says what Keras runs on; then which of some modules it has imported."""
    del os.environ["KERAS_BACKEND"]
    assert not {*modules} & {*sys.modules}
    try:
        run_command(cwd, arguments)
    finally:
        print("IMPORTED", [each for each in modules if sys.modules.get(each)])


def run_without(absent: str, cwd: Path, arguments: list[str]) -> None:
    """The command line where a package is not installed."""
    sys.modules[absent] = None  # type: ignore[assignment]  # its import fails then
    run_command(cwd, arguments)


def run_script(variables: dict[str, str], cwd: Path, path: Path) -> None:
    """A script, with variables of the environment; its warnings are errors."""
    os.chdir(cwd)
    os.environ.update(variables)
    warnings.simplefilter("error")
    runpy.run_path(str(path), run_name="__main__")


def run_module(cwd: Path, arguments: list[str]) -> None:
    """``python -m regspec``, which may start others of the kind: Lightning asks the main module what to start."""
    os.chdir(cwd)
    sys.argv = ["regspec", *arguments]
    runpy.run_module("regspec", run_name="__main__", alter_sys=True)


def run_command(cwd: Path, arguments: list[str]) -> None:
    """The command line, in a process that has been started for it."""
    from regspec.cli import main

    os.chdir(cwd)
    sys.argv = ["regspec", *arguments]
    main()
