"""Every test computes on one thread of the CPU with fixed seeds; Keras is the reference, on its torch backend."""

import os

os.environ["KERAS_BACKEND"] = "torch"
os.environ["OMP_NUM_THREADS"] = "1"  # of this process and of those that tests start: nothing here is large

import gc
import random
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from regspec.language.sorts import FAMILIES
from regspec.layers import KINDS

torch.set_num_threads(1)  # where something has imported torch before


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--everything", action="store_true", help="run what the gate leaves out, too: tests/README.md")
    parser.addoption("--device", default="cpu", help="where tensors are made that name no device: cuda")
    parser.addoption("--seeds", help="how many random models are ported, or which: 100-200")


def pytest_configure(config: pytest.Config) -> None:
    """Hypothesis draws the same in each run; more of it with ``--everything``. No GPU is seen that is not asked for."""
    if (device := config.getoption("--device")) == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    else:
        torch.set_default_device(device)
    slow = [HealthCheck.too_slow]
    settings.register_profile(
        "gate", max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=slow
    )
    settings.register_profile("everything", settings.get_profile("gate"), max_examples=200)
    settings.load_profile("everything" if config.getoption("--everything") else "gate")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The gate leaves out what is marked with ``everything``."""
    if not config.getoption("--everything"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("everything")])
        items[:] = [item for item in items if not item.get_closest_marker("everything")]


def pytest_collection_finish() -> None:
    """Python's collector passes over what was imported until now; Keras calls it often, and each time it takes long."""
    gc.collect()
    gc.freeze()


def pytest_collectstart() -> None:
    """What a module of tests draws while it is imported, Keras's seeds among it, is the same in each run."""
    torch.manual_seed(0)
    random.seed(0)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.default_generator.manual_seed(0)  # torch.manual_seed notes where it is called, too, which takes longer
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(0)
    if keras := sys.modules.get("keras"):
        keras.utils.clear_session(free_memory=False)  # whose names for layers are numbered anew


@pytest.fixture
def _registry() -> Iterator[None]:
    """Takes back what a test registers; a module that was imported for it can be imported again."""
    tables: list[dict[str, Any]] = [KINDS, *(each.members for each in FAMILIES.values())]
    kept, imported = [dict(each) for each in tables], {*sys.modules}
    yield
    for table, before in zip(tables, kept, strict=True):
        for name in table.keys() - before.keys():
            if (module := table[name].__module__) not in imported:
                sys.modules.pop(module, None)
        table.clear()
        table.update(before)
