"""A verification in a process of its own, so that a crash of Keras, TensorFlow or torch in it loses nothing.

Keras's backends run native code that may end a process without an exception: oneDNN does so in torch 2.13, in the
backward of some convolutions with strides and channels last, on processors with AVX-512. Then it runs once more without
these instructions, and what happened is said.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from regspec.text.problems import RegspecError

if TYPE_CHECKING:
    from regspec.keras.porting.porting import Port
    from regspec.keras.verification.verifying import Verification

COMMAND = (sys.executable, "-P", "-c", "from regspec.keras.verification.apart import answer; answer()")
WITHOUT_AVX_512 = {"ONEDNN_MAX_CPU_ISA": "AVX2"}


@dataclass(frozen=True)
class Request:
    """What is to be ported once more, and verified."""

    file: Path
    options: Mapping[str, Any]  # of `port`
    imports: Sequence[str]  # what `--import` was given
    tolerance: float


class CrashError(Exception):
    """A process ended before it had an answer; its text says how."""


def verified_apart(port: Port, request: Request) -> Verification:
    """What `Port.verify` gives of a port, from another process; a crash of that is a verification that failed.

    Raises:
        RegspecError: where the port can't be made again.
    """
    from regspec.keras.verification.verifying import without_comparison

    try:
        return _answer_of(request, {})
    except CrashError as crash:
        first = str(crash)
    advice = "it is a fault of that library"
    if request.options.get("data_format") != "channels_first":
        advice += ", which a port with --data-format channels_first does not meet where it lies in a convolution"
    try:
        found = _answer_of(request, WITHOUT_AVX_512)
    except CrashError:
        what = f"the process in which both ran was ended by {first}, in a library that it uses; the port is written"
        return without_comparison(port, request.tolerance, crash=f"{what}; {advice}")
    what = f"how both run with AVX-512: there, {first} ended the process, in a library that it uses, so that they ran"
    return replace(found, left_out=(*found.left_out, f"{what} with ONEDNN_MAX_CPU_ISA=AVX2; {advice}"))


def _answer_of(request: Request, environment: Mapping[str, str]) -> Verification:
    """The answer of a process. Raises `CrashError` where it gives none."""
    with TemporaryDirectory(prefix="regspec-") as folder:
        question, answer = Path(folder) / "question", Path(folder) / "answer"
        question.write_bytes(pickle.dumps(request))
        paths = os.pathsep.join([str(Path(__file__).parents[3]), *filter(None, sys.path)])
        variables = {**os.environ, **environment, "PYTHONPATH": paths}
        code = subprocess.run([*COMMAND, str(question), str(answer)], env=variables, check=False).returncode
        if not answer.exists():
            raise CrashError(_how(code))
        found: Verification | RegspecError = pickle.loads(answer.read_bytes())  # that this package has written just now
    if isinstance(found, RegspecError):
        raise found
    return found


def _how(code: int) -> str:
    """What ended a process."""
    names = {-each.value: each.name for each in signal.Signals}
    return names.get(code, f"exit code {code}")


def answer() -> None:
    """What the process does: it reads a request, verifies, and writes what came of it."""
    question, path = map(Path, sys.argv[-2:])
    request: Request = pickle.loads(question.read_bytes())
    found: Verification | RegspecError
    try:
        found = _verified(request)
    except RegspecError as error:
        found = error
    written = path.with_suffix(".part")
    written.write_bytes(pickle.dumps(found))
    written.replace(path)  # so that it is there whole, or not at all


def _verified(request: Request) -> Verification:
    from regspec.keras.porting.porting import port
    from regspec.layers.registration import imported

    for each in request.imports:
        imported(each)
    return port(request.file, **request.options).verify(tolerance=request.tolerance)
