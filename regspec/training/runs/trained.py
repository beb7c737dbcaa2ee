"""A run that was trained: its model, its history, and what it says of other data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from regspec.graph.loading import graph_of, load
from regspec.modules.building import build
from regspec.report.runs import METRICS, read_metrics
from regspec.specs.model import ModelSpec
from regspec.text.problems import Problem, RegspecError
from regspec.training.data import load_data
from regspec.training.data.division import Fold
from regspec.training.data.examples import Data, Examples
from regspec.training.data.known import load_inputs, load_known
from regspec.training.data.targets import as_before
from regspec.training.measures.objective import Objective
from regspec.training.options.columns import columns_said
from regspec.training.options.options import IN_MEMORY, Options
from regspec.training.options.outputs import outputs_said
from regspec.training.runs.folder import Folder
from regspec.training.runs.predicting import Prediction, predictions
from regspec.training.runs.restoring import columns_of, load_kept, objective_of

if TYPE_CHECKING:
    from regspec.keras.training.compiling import Compiled
    from regspec.training.exporting.exported import Exported
    from regspec.training.runs.evaluating import Evaluation


@dataclass(frozen=True)
class Run:
    """What a training made: its folder, the model of its best epoch in evaluation mode, and that epoch's metrics.

    Example:
        >>> import regspec, tempfile
        >>> spec = {"inputs": {"x": {"shape": [4]}}, "layers": [{"Dense": {"units": 3}}]}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = regspec.train(spec, "iris", epochs=2, folder=f"{folder}/run", quiet=True)
        ...     said = run.predict([[5.1, 3.5, 1.4, 0.2], [5.9, 3.0, 5.1, 1.8]])
        ...     print(said.classes, said.probabilities.shape, len(run.history["held_out_loss"]))
        ('setosa', 'versicolor', 'virginica') (2, 3) 2
    """

    folder: Path
    model: nn.Module
    metrics: Mapping[str, float]
    in_memory: Examples | None = field(default=None, repr=False, compare=False)
    """What was held out of data in memory, which the folder does not keep, or by a fold: until it is loaded again."""

    @cached_property
    def spec(self) -> ModelSpec:
        """What was trained, with the values that its parameters had."""
        return load(Folder(self.folder).spec)

    @property
    def history(self) -> dict[str, list[float]]:
        """The metrics of all epochs, a list for each, by name; NaN where an epoch has none.

        Frames are made of it, ``polars.DataFrame(run.history)``, and curves: ``plot(run.history["held_out_loss"])``.
        """
        return {name: values.tolist() for name, values in read_metrics(self.folder / METRICS).items()}

    def predict(self, x: Any) -> Prediction | dict[str, Prediction]:
        """What the model says of examples, in their order: a `Prediction`; of several outputs, by their names.

        Args:
            x: The inputs: an array, a tensor or a frame; several in a list or by their names; or a source of data as
                the command line has it, ``new.csv``. Of a table the columns count that were inputs in training,
                whatever their order.

        Raises:
            RegspecError: where they do not fit the model.

        Example:
            ``run.predict(x).values`` are the classes as the targets had them, or the quantities, one for each example.
        """
        found = self.predictions(self.inputs_of(x))
        return next(iter(found.values())) if len(found) == 1 else found

    def inputs_of(self, x: Any) -> Examples:
        """The inputs that `predict` takes, fitted to the model. Raises `RegspecError`."""
        return load_inputs(x, graph_of(self.spec), columns_of(Folder(self.folder).facts()))

    def predictions(self, inputs: Examples) -> dict[str, Prediction]:
        """What the model says of examples, by the outputs' names, however many there are."""
        facts, objective = self.known()
        with evaluating(self.model):
            return predictions(self.model, objective, inputs, Options.of(facts["options"]).batch_size)

    def evaluate(self, data: Any = None) -> Evaluation:
        """How well the model does on data, beside what a constant answer would do.

        Args:
            data: Inputs with their targets, as `regspec.train` takes them; where they hold some out themselves, these.
                What the run held out when absent; of data in memory, this run alone knows it, and none that is loaded.

        Raises:
            RegspecError: where they do not fit the model, or have a class that training did not have.

        Example:
            ``run.evaluate("test.csv").outputs["price"].metrics["mae"]``
        """
        from regspec.training.runs.evaluating import (
            evaluation,
        )  # torchmetrics takes a second, which predictions do not need

        facts, objective = self.known()
        if data is None:
            examples = self.held_out
        else:
            targets = [loss.target for loss in objective]
            examples = load_known(data, graph_of(self.spec), targets, columns_of(facts))
        with evaluating(self.model):
            return evaluation(self.model, objective, examples, Options.of(facts["options"]).batch_size)

    def export(
        self,
        path: str | Path | None = None,
        *,
        format: str | None = None,  # noqa: A002  # as the command has it
        lossy: bool = False,
        force: bool = False,
    ) -> Exported:
        """Writes the model as others load it, for batches of any size, in evaluation mode, and compares it again.

        Args:
            path: The file, whose ending tells the format: ``.onnx``, ``.pt2``, ``.safetensors``, ``.keras``, or ``.py``
                for a class that needs torch alone, with its weights beside it. In this folder by the spec's name when
                absent.
            format: ``onnx``, ``pt2``, ``safetensors``, ``source``, ``keras`` or ``keras-source``, in place of the
                ending.
            lossy: Whether penalties that Keras has no counterpart of are left out of its formats, and listed; else they
                are refused.
            force: Whether files that are there and hold something else may be written over.

        Raises:
            RegspecError: where the format can't hold the model, or what is loaded again gives something else.

        Example:
            >>> import regspec, tempfile
            >>> spec = {"inputs": {"x": {"shape": [4]}}, "layers": [{"Dense": {"units": 3}}]}
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     run = regspec.train(spec, "iris", epochs=2, folder=f"{folder}/run", quiet=True)
            ...     exported = run.export(f"{folder}/net.safetensors")
            ...     print(exported.format, exported.difference, *exported.about["outputs"]["dense"]["classes"])
            safetensors 0.0 setosa versicolor virginica
        """
        from regspec.training.exporting.about import about
        from regspec.training.exporting.exported import export
        from regspec.training.exporting.naming import path_of

        place, form = path_of(None if path is None else Path(path), format, self.spec.name)
        facts, objective = self.known()
        said = about(facts, graph_of(self.spec), objective, int(self.metrics["epoch"]))
        compiled = self.compiled if "keras" in form else None
        return export(self.model, self.spec, said, place, form, compiled=compiled, lossy=lossy, force=force)

    @property
    def compiled(self) -> Compiled:
        """How it was trained, as Keras compiles a model, and what of it Keras can't say."""
        from regspec.training.runs.compiling import compiled_run

        return compiled_run(*self.known())

    @property
    def held_out(self) -> Examples:
        """The examples that it held out. Raises `RegspecError` where the data are no longer those of the training."""
        return held_out(self.known()[0], self.spec) if self.in_memory is None else self.in_memory

    def losses(self) -> Iterator[Tensor]:
        """The loss of each batch of what it was trained on, in evaluation mode, from which gradients go back.

        Raises:
            RegspecError: where the data are no longer those of the training, or lay in memory.
        """
        from regspec.training.runs.evaluating import losses_on

        facts, objective = self.known()
        with evaluating(self.model):
            examples = data_of(facts, self.spec).train
            yield from losses_on(self.model, objective, examples, Options.of(facts["options"]).batch_size)

    def known(self) -> tuple[dict[str, Any], Objective]:
        """What its folder says of it, and what its outputs have learned."""
        facts = Folder(self.folder).facts()
        return facts, objective_of(facts, graph_of(self.spec))

    def _repr_html_(self) -> str | None:
        """The run as a notebook shows it; None where there is nothing to draw with."""
        try:
            from regspec.report.notebook import shown
        except ImportError:
            return None
        return shown(self.folder)


def load_run(folder: str | Path) -> Run:
    """The run in a folder that `regspec train` or `regspec.train` wrote, with the model of its best epoch.

    Raises:
        RegspecError: where the folder holds no run, no epoch of it is done, or a file of it can't be read.

    Example:
        >>> import regspec, tempfile
        >>> spec = {"inputs": {"x": {"shape": [4]}}, "layers": [{"Dense": {"units": 3}}]}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     made = regspec.train(spec, "iris", epochs=2, folder=f"{folder}/run", quiet=True)
        ...     run = regspec.load_run(f"{folder}/run")
        ...     print(run.spec.name, run.model.training, run.metrics == made.metrics)
        model False True
    """
    place = Folder(Path(folder))
    place.facts()
    spec = load(place.spec)
    epoch = place.weights().epoch
    rows = read_metrics(place.path / METRICS)
    if epoch not in rows.get("epoch", ()):
        raise RegspecError(Problem(f"has no epoch {epoch}, of which the weights are", path=str(place.path / METRICS)))
    row = [*rows["epoch"]].index(epoch)
    metrics = {name: values[row].item() for name, values in rows.items()}
    return Run(place.path, load_kept(build(spec), place), metrics)


def held_out(facts: Mapping[str, Any], spec: ModelSpec) -> Examples:
    """The examples that a run held out. Raises `RegspecError` where the data are no longer those of the training."""
    return data_of(facts, spec).held_out


def data_of(facts: Mapping[str, Any], spec: ModelSpec) -> Data:
    """What a run was trained on, and held out. Raises `RegspecError` where the data are no longer the same."""
    options = Options.of(facts["options"])
    if options.data == IN_MEMORY:
        what = "the run was trained on data in memory, which its folder does not keep"
        raise RegspecError(Problem(what, "say what to evaluate: run.evaluate((x, y)), or --data FILE"))
    said = outputs_said(options.outputs)
    data = load_data(
        options.data,
        graph_of(spec),
        validation=options.validation,
        target=options.target,
        outputs=said,
        columns=columns_said(options.columns),
        seed=options.seed,
        batch_size=options.batch_size,
        fold=Fold.of(options.folds, options.fold),
    )
    now = {target.name: target.as_dict() for target in data.targets}
    before = {
        name: {key: each[key] for key in each if key in now.get(name, {})} for name, each in facts["outputs"].items()
    }
    if (len(data.train), len(data.held_out)) != (facts["examples"], facts["held_out"]) or as_before(
        now, before
    ) != before:
        what = f"'{options.data}' is not what the run was trained on: what it held out is not known"
        raise RegspecError(Problem(what, "--data says what to evaluate"))
    return data


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, and then as it was."""
    was = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was)
