"""The pages in examples/: their numbers are those of the scripts that made them, and their code runs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

from .test_examples import FOLDER

SCRIPTS = FOLDER / "pages"


def page(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="torch was built without gloo")
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_many_gpus(processes: int, tmp_path: Path) -> None:
    """What the processes count is as on paper, and stands in the page."""
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    run = subprocess.run(
        [*command, str(SCRIPTS / "many_gpus.py")],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env={**os.environ, "GLOO_SOCKET_IFNAME": loopback, "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    rows = run.stdout.splitlines()
    assert len(rows) == 7
    assert all(row in page("many_gpus").splitlines() for row in rows)
