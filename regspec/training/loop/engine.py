"""Lightning's trainer for a run: devices, strategy, precision, loggers, and faults where these are not available."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.plugins.precision import HalfPrecision
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor

from regspec.text import files
from regspec.text.problems import Problem, RegspecError
from regspec.training.options.options import Options
from regspec.training.runs.folder import Folder


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its place, and then puts it there: a kill leaves the one before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        files.write(Path(path), content.getvalue())

    def load_checkpoint(self, path: Any, *arguments: Any, **keywords: Any) -> dict[str, Any]:
        try:
            return super().load_checkpoint(path, *arguments, **keywords)
        except (UnpicklingError, EOFError, RuntimeError, KeyError):  # which torch raises for a file that is cut off
            raise RegspecError(Problem("is damaged, and the run can't go on", path=str(path))) from None


class HalfModel(HalfPrecision):
    """Half precision of the model and its inputs: targets, and what they are scaled by, would be others when rounded.

    Args:
        precision: Lightning's, ``bf16-true`` or ``16-true``.
        inputs: how many the model has, with which a batch begins.
    """

    def __init__(self, precision: Any, inputs: int) -> None:
        super().__init__(precision)
        self.inputs = inputs

    def convert_module(self, module: Any) -> Any:
        super().convert_module(module.model)
        return module

    def convert_input(self, data: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (*super().convert_input(data[: self.inputs]), *data[self.inputs :])


def trainer_of(
    options: Options, folder: Folder, callbacks: Sequence[Callback], *, inputs: int, shows_progress: bool
) -> lightning.Trainer:
    """The trainer of a run, of a model with so many inputs.

    Raises:
        RegspecError: where a device or a strategy is asked for that is not there.
    """
    devices, nodes = _devices(options)
    half = [HalfModel(options.precision, inputs)] if options.precision in ("bf16-true", "16-true") else []
    with faults((MisconfigurationException, ValueError, TypeError, ModuleNotFoundError)):
        return lightning.Trainer(
            max_epochs=options.epochs,
            accelerator=options.accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy=_strategy(options, devices, nodes),
            precision=None if half else options.precision,  # type: ignore[arg-type]  # which Lightning checks
            plugins=[WholeFiles(), *half],
            gradient_clip_val=options.clip_gradients,
            gradient_clip_algorithm="value" if options.clip_by == "value" else "norm",
            accumulate_grad_batches=options.accumulate,
            logger=_logger(options, folder),
            callbacks=[*callbacks],
            enable_progress_bar=shows_progress,
            enable_checkpointing=True,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )


@contextmanager
def faults(kinds: tuple[type[Exception], ...] = (MisconfigurationException,)) -> Iterator[None]:
    """Makes what Lightning says of devices, strategies and precisions a fault of the options."""
    try:
        yield
    except kinds as error:  # others are of the user's code, once that runs
        hint = "--accelerator, --devices, --strategy and --precision say where and how"
        raise RegspecError(Problem(" ".join(str(error).split()), hint)) from None


def _devices(options: Options) -> tuple[Any, int]:
    """How many devices on each machine, and machines; `torchrun` says so by variables."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return int(options.devices) if options.devices.isdecimal() else options.devices, 1
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    return local, int(os.environ["WORLD_SIZE"]) // local


def _strategy(options: Options, devices: Any, nodes: int) -> Any:
    if options.strategy != "fsdp":
        return options.strategy
    on_cpu = options.accelerator == "cpu" or (options.accelerator == "auto" and not torch.cuda.is_available())
    if not isinstance(devices, int):
        devices = os.cpu_count() if on_cpu else torch.cuda.device_count()
    # FSDP2; Lightning's own FSDPStrategy is the first one, and takes GPUs only
    return ModelParallelStrategy(
        data_parallel_size=int(devices or 1) * nodes,
        tensor_parallel_size=1,
        save_distributed_checkpoint=False,
        process_group_backend="gloo" if on_cpu else None,
    )


def _logger(options: Options, folder: Folder) -> Any:
    if options.logger != "tensorboard":
        return False
    from lightning.pytorch.loggers import TensorBoardLogger

    try:
        return TensorBoardLogger(folder.path, name="", version="tensorboard")
    except ModuleNotFoundError:
        raise RegspecError(Problem("--logger tensorboard needs tensorboard", "pip install tensorboard")) from None


def quiet() -> None:
    """Silences Lightning's remarks on machines and loaders, which don't help with small models."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
