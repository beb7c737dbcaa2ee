"""A LightningDataModule as data: its loaders, as a trainer of Lightning's asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regspec.language.registration import code_of_the_user
from regspec.text.problems import Problem, RegspecError

TRAINING, HELD_OUT, INPUTS = "train_dataloader", "val_dataloader", "predict_dataloader"


def is_module(data: Any) -> bool:
    """Whether something is one, of Lightning's old package or the new one."""
    return all(hasattr(data, name) for name in (TRAINING, HELD_OUT, "prepare_data", "setup"))


def loaders_of(module: Any, name: str, *, has_targets: bool) -> Any:
    """The loader to train on and the one held out; or that of what is to be predicted.

    Args:
        module: the data module, which prepares itself first.
        name: what messages call it.
        has_targets: whether targets are wanted, too.

    Raises:
        RegspecError: where it gives several loaders in place of one, or none.
    """
    with code_of_the_user(f"'{name}' does not prepare its data"):
        module.prepare_data()
        module.setup("fit" if has_targets else "predict")
    if not has_targets:
        return _loader(module, INPUTS, name)
    return _loader(module, TRAINING, name), _loader(module, HELD_OUT, name)


def _loader(module: Any, which: str, name: str) -> Any:
    with code_of_the_user(f"'{name}' has no {which}"):
        found = getattr(module, which)()
    if isinstance(found, (list, tuple)) and len(found) == 1:
        (found,) = found
    if found is None or isinstance(found, (list, tuple, Mapping)):
        count = "none" if not found else f"{len(found)} loaders"
        raise RegspecError(Problem(f"{which} of '{name}' gives {count}", "one is trained on, and one is held out"))
    return found
