"""A Keras model in a file, as a spec and its weights."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from dataclasses import replace as changed
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from regspec.code.shapes import DataFormat
from regspec.graph.loading import graph_of, loads
from regspec.graph.network import Graph
from regspec.keras.arrays.files import Account
from regspec.keras.arrays.groups import NO_WEIGHTS
from regspec.keras.arrays.matching import WeightPath, arrays_of, constants_of, parameters_of
from regspec.keras.arrays.sizes import with_sizes
from regspec.keras.configs.dialect import Dialect
from regspec.keras.configs.models import Model, layers_in, with_configs
from regspec.keras.configs.notes import Notes
from regspec.keras.configs.replacing import Replacements
from regspec.keras.configs.values import UnportedError
from regspec.keras.conversion.converting import Wanted, converted
from regspec.keras.formats import reading
from regspec.keras.formats.archive import Archive
from regspec.keras.older import keras1, keras2, legacy, theano
from regspec.keras.older.composed import composed
from regspec.keras.porting import TOLERANCE
from regspec.keras.porting.live import LiveModel, saved
from regspec.keras.porting.ported import PortedModel, Provenance
from regspec.keras.porting.states import stored_state
from regspec.keras.reading import masks, ranks
from regspec.keras.reading.distributed import distributed
from regspec.keras.reading.reader import Reader
from regspec.keras.reading.reading import model_of
from regspec.keras.reading.settings import data_format_of, is_frozen, precision_in, reduction_in, settings_of
from regspec.keras.reading.text import text_of
from regspec.keras.training.compiled import training_of, training_text
from regspec.specs.model import ModelSpec
from regspec.targets.source import source
from regspec.targets.torch.program import Program, program_of
from regspec.text import files
from regspec.text.problems import Problem, RegspecError
from regspec.text.seals import COMMENT, sealed
from regspec.views.summary import plural

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regspec.keras.verification.verifying import Verification

PORTED = "<the ported spec>"  # what messages call the text of one


@dataclass(frozen=True)
class Port(PortedModel):
    """A Keras model, ported: a spec, its text, torch's parameters by name, and notes on what may surprise.

    ``training`` are options of `regspec.train`, as the file was compiled: ``regspec.train(port.spec, data,
    **port.training)``; it is empty where the file was not.

    Example:
        >>> import regspec
        >>> ported = regspec.port("examples/keras_mlp.keras")
        >>> type(ported).__name__, ported.spec.name, len(ported.weights)
        ('Port', 'mlp', 4)
    """

    def verify(self, *, tolerance: float = TOLERANCE) -> Verification:
        """What comes of running the file's model in Keras and this one side by side, on random inputs.

        Outputs, penalties, gradients and moving statistics are compared, where Keras is installed; what could not be
        compared is listed. Nothing that the file holds is imported or run: of classes of its own, only the structure is
        checked.

        Args:
            tolerance: the largest relative error that passes.
        """
        from regspec.keras.verification.verifying import verify

        return verify(self, tolerance)

    def save(self, folder: str | Path, *, verification: Verification | None = None) -> None:
        """Writes ``spec.yaml``, ``model.py``, ``weights.safetensors`` and ``report.md``, all or none.

        Of a file that was compiled ``training.yaml`` too, a training file that says how, and begins with the weights.

        Args:
            folder: made if it is not there; what else is in it stays.
            verification: what `verify` gave, for the report.

        Raises:
            RegspecError: where the folder can't be written.
        """
        files.write_folder(Path(folder), {**contents(self), **report_of(self, verification)})


def contents(port: Port) -> dict[str, bytes]:
    """The files that are saved of a port, but its report, by name."""
    found = {
        "spec.yaml": port.text.encode(),
        "model.py": source(port.spec).encode(),
        "weights.safetensors": stored_state(port),
    }
    if port.training:
        weights = None if port.provenance.account is None else "weights.safetensors"
        found["training.yaml"] = training_text(port.training, weights).encode()
    return found


def report_of(port: Port, verification: Verification | None = None) -> dict[str, bytes]:
    """The report on a port, with what its verification gave, by the name of its file."""
    from regspec.keras.porting.report import report

    return {"report.md": sealed(f"{report(port, verification)}\n{COMMENT}".encode())}


def port(
    model: str | PathLike[str] | Any,
    *,
    weights: str | Path | None = None,
    activity_reduction: Literal["mean", "sum"] | None = None,
    keeps_quirks: bool = True,
    backend: Literal["tensorflow", "theano"] | None = None,
    data_format: Literal["channels_first", "channels_last"] | None = None,
    fold: bool = False,
    blocks: bool = False,
    replace: Mapping[str, str | Callable[..., Any]] | None = None,
    verify: bool = False,
) -> Port:
    """A model of Keras, live or in a file, as a spec with its weights.

    Args:
        model: the file, or the folder of a SavedModel or of a model of TensorFlow.js; what it is, is told by what is in
            it. Or a live model, of Keras 3 on any backend, tf.keras or tf_keras: Functional or Sequential, and built.
        weights: a ``.weights.h5`` file, or a whole model, ``.h5`` or ``.keras``, for a config without weights: JSON or
            YAML.
        activity_reduction: whether the activity penalties were divided by the batch size (mean) or not (sum), where the
            file does not tell.
        keeps_quirks: whether behaviour of Keras that is surely not intended, such as a penalty that it drops, is
            reproduced; the notes name each case.
        backend: what trained a file of Keras 1 or 2, where it does not say so, as no file of Keras 1 does; theano turns
            the kernels of convolutions around, and pads otherwise.
        data_format: channels_first converts a model with channels last: its images are (batch, channels, height,
            width), and its weights go with them, those after a Flatten included.
        fold: whether a BatchNormalization that stands alone behind a convolution or a Dense becomes part of it, for
            inference.
        blocks: whether layers that repeat become blocks, so that a ResNet reads like one; the names of its weights
            begin with those of the blocks then.
        replace: objects of yours that stand in for what can't be ported, by names: the object, or
            ``package.module:name``. A torch module for a layer, by its name or class; its constructor gets the values
            of the layer's config that it takes, and it gets its arrays. A function for a regularizer, a constraint, an
            initializer or an activation, by its class's or its own name, or by its place, ``layer.field``; it gets the
            values of its config. What is registered under the name of a Keras class needs no mention.
        verify: whether `Port.verify` must pass.

    Raises:
        RegspecError: with every layer that can't be ported, or with what is wrong with the file; where it is to be
            verified, also with what is further apart than is allowed, or with why nothing was compared.

    Example:
        >>> import regspec, torch
        >>> model = regspec.port("examples/keras_mlp.keras").build()
        >>> list(model.regularization_terms())
        ['hidden.kernel', 'logits.bias']
        >>> model(torch.zeros(2, 13)).shape
        torch.Size([2, 3])
    """
    _check_known("backend", backend, "tensorflow", "theano")
    _check_known("data_format", data_format, "channels_first", "channels_last")
    live = None if isinstance(model, (str, PathLike)) else saved(model)
    path = Path(model) if live is None else live.path
    with nullcontext() if live is None else live.naming():
        stored = reading.read(path, None if weights is None else Path(weights))
        stored = stored if live is None else changed(stored, config=live.completed(stored.config))
        made = _ported(
            stored,
            changed(
                Dialect.of(stored.version, stored.config),
                has_arrays=stored.arrays is not None,
                thawed=None if live is None else live.thawed,
                keeps_quirks=keeps_quirks,
                replacements=Replacements(replace or {}),
            ),
            Wanted(data_format, fold, blocks),
            Told(activity_reduction, backend, None if weights is None else Path(weights), live),
        )
        if verify:
            _check_verified(made)
    return made


def _check_known(option: str, value: str | None, *known: str) -> None:
    """Raises `RegspecError` for a value that an option does not have."""
    if value is not None and value not in known:
        raise RegspecError(f"'{option}' must be {' or '.join(map(repr, known))}, but is {value!r}")


def _check_verified(port: Port) -> None:
    """Raises `RegspecError` where a port is not what Keras has, or nothing tells."""
    verification = port.verify()
    path = str(port.provenance.path)
    if not verification.passed:
        failed = [
            Problem(f"was ported otherwise than Keras computes it: {each}", path=path) for each in verification.failed
        ]
        raise RegspecError(failed or Problem(f"was not verified: {verification.verdict}", path=path))
    if verification.reference is None:
        raise RegspecError([Problem(f"was not verified: {each}", path=path) for each in verification.left_out])


@dataclass(frozen=True)
class Told:
    """What the user says of a file, besides the file."""

    activity_reduction: str | None
    backend: str | None
    weights: Path | None
    live: LiveModel | None  # which the file was saved of


def _ported(stored: Archive, dialect: Dialect, wanted: Wanted, told: Told) -> Port:
    """The port of what was read of a file. Raises `RegspecError`."""
    notes = Notes()
    dialect = changed(dialect, backend=_backend_of(stored, dialect, told.backend))
    config, dialect, model = _model_in(stored, dialect, notes)
    reduction = told.activity_reduction or reduction_in(stored, dialect)
    settings = settings_of(config, dialect, reduction, notes)
    model = _with_settled_masks(model, dialect, settings, notes)
    imports = tuple(dict.fromkeys(each.imported for each in notes.replacements))

    def resolved(model: Model, data_format: DataFormat) -> tuple[str, ModelSpec, Graph]:
        return _resolved(model, data_format, settings, imports, stored)

    text, spec, graph = resolved(model, "channels_last")
    if misaligned := [*ranks.problems(model, graph)]:
        raise RegspecError(misaligned)
    if (shorter := ranks.without_needless_axes(model, graph)) is not model:
        model = shorter
        text, spec, graph = resolved(model, "channels_last")
    arrays, account = _arrays(model, graph, config, stored, dialect)
    provenance = Provenance(
        path=stored.path,
        weights=told.weights,
        form=stored.form,
        version=stored.version,
        generation=dialect.generation,
        date=stored.date,
        config=stored.config,
        renewed=config,
        training=stored.training,
        model=model,
        account=account,
        reduction=reduction,
        backend=dialect.backend,
        imports=imports,
        live=told.live,
    )
    original = Port(
        spec=spec,
        text=text,
        weights=parameters_of(program_of(graph), arrays),
        notes=tuple(notes),
        provenance=provenance,
    )
    made = converted(model, arrays, wanted, dialect, lambda *given: resolved(*given)[2])
    notes.add(*made.notes)
    if made.model is not model:
        text, spec, graph = resolved(made.model, made.data_format)
    training = training_of(stored.training, stored.config, graph, dialect)
    notes.add(*training.remarks)
    if made.model is model:
        return changed(original, notes=tuple(notes), training=training.options)
    return Port(
        spec=spec,
        text=text,
        weights=parameters_of(program_of(graph), made.arrays),
        notes=tuple(notes),
        provenance=provenance,
        input_orders=made.inputs,
        output_orders=made.outputs,
        original=original,
        training=training.options,
        moves=made.moves,
    )


def _backend_of(stored: Archive, dialect: Dialect, given: str | None) -> str | None:
    """The backend that trained a file: as it or its weights say, or as it is given.

    Raises:
        RegspecError: where what is given can't be.
    """
    said = stored.config.get("backend")
    found = None if stored.arrays is None else legacy.backend_in(stored.arrays)
    known = found or (said if isinstance(said, str) else None)
    if given is None or given == known:
        return known
    if dialect.generation == 3:
        what = f"is of Keras 3, whose files mean the same with any backend, so 'backend={given}' says nothing of it"
        raise RegspecError(Problem(what, "leave 'backend' out", str(stored.path)))
    if known is not None:
        what = f"says that {known} trained it, and not {given}"
        raise RegspecError(Problem(what, "leave 'backend' out", str(stored.path)))
    return given


# What a damaged config may raise, anywhere in the port.
DAMAGE = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError)


def _model_in(stored: Archive, dialect: Dialect, notes: Notes) -> tuple[dict[str, Any], Dialect, Model]:
    """A file's config in the form of Keras 3, its dialect, as the whole config tells it, and the model in it.

    Raises:
        RegspecError: with every layer that can't be ported, or with what is wrong with the file.
    """
    reader = Reader(dialect, notes, stored)
    try:
        config = _renewed(stored, dialect, notes)
        dialect = changed(
            dialect,
            data_format=data_format_of(config),
            dtype=precision_in(config),
            is_frozen=dialect.generation == 3 and is_frozen(config),
        )
        config = distributed(with_configs(config), dialect)
        reader.dialect = dialect
        model = with_sizes(model_of(config, reader), config["config"], stored.arrays)
    except UnportedError as reason:
        raise RegspecError(Problem(f"can't be ported: {reason}", reason.hint, str(stored.path))) from None
    except DAMAGE as error:  # which is chained, because it may be a mistake of regspec's
        who = "" if reader.at is None else f"'{reader.at[:80]}' "
        place = stored.place() if reader.at is None else stored.place_of(reader.at)
        raise RegspecError(Problem(f"{who}can't be ported: its config is damaged: {error!r}", path=place)) from error
    replaced = dialect.replacements.problems(layers_in(config), notes.replacements, is_whole=not reader.problems)
    if problems := [*reader.problems, *replaced]:
        raise RegspecError(problems)
    return config, dialect, model


def _resolved(
    model: Model, data_format: DataFormat, settings: Mapping[str, str], imports: Sequence[str], stored: Archive
) -> tuple[str, ModelSpec, Graph]:
    """The text of a model, its spec and its graph. Raises `RegspecError`."""
    try:
        text = _remark(imports) + text_of(model, data_format, settings)
        spec = loads(text, PORTED)
        return text, spec, graph_of(spec)
    except UnportedError as reason:
        raise RegspecError(Problem(f"can't be ported: {reason}", path=str(stored.path))) from None
    except RegspecError as error:  # of a spec that nobody sees: it is told of the file of which it was made
        raise RegspecError([_of_file(each, model, stored) for each in error.problems]) from None


def _of_file(problem: Problem, model: Model, stored: Archive) -> Problem:
    """A problem of the text of a ported spec as one of the layer of the file that it is about."""
    if problem.path != PORTED:
        return problem
    name = (re.search(r"\bname: ([\w.-]+)", problem.text) or ["", ""])[1]
    waiting = [model]
    for each in waiting:  # which grows
        waiting += each.inner.values()
    layer = next((there for each in waiting for there, here in each.names.items() if name and here == name), None)
    if layer is None:
        return Problem(f"can't be ported: {problem.what}", problem.hint, str(stored.path))
    line = problem.text.strip().removeprefix("- ")
    what = f"'{layer[:80]}' can't be ported: {problem.what}, in {line[:120]}{'…' * (len(line) > 120)}"
    return Problem(what, problem.hint, stored.place_of(layer))


def _remark(imports: Sequence[str]) -> str:
    """A comment on what a spec needs that has kinds of the user's; nothing for one without any."""
    needed = " ".join(f"--import {each}" for each in imports)
    return f"# needs: regspec {needed} …\n" if needed else ""


def _arrays(
    model: Model, graph: Graph, config: Mapping[str, Any], stored: Archive, dialect: Dialect
) -> tuple[dict[WeightPath, NDArray[np.generic]], Account | None]:
    """The arrays of a model by the ways to its weights, and the account of the file's. Raises `RegspecError`."""
    arrays, found = constants_of(model), stored.arrays
    if found is None:
        return arrays, None
    if dialect.generation < 3:
        found = legacy.Renewed(found, dict(config), dialect)
    arrays |= arrays_of(graph, model, config["config"], found)
    account = found.account(NO_WEIGHTS)
    _check_account(account, found.path)
    return arrays, account


def _check_account(account: Account, path: Path) -> None:
    """Raises `RegspecError` where not each of a file's arrays was taken exactly once."""
    hint = "are these the weights of this model?"
    found = {"that no layer of the model takes": account.unused, "that several weights would take": account.repeated}
    for why, names in found.items():
        if names:
            several = f"{plural(len(names), 'array', 'arrays')} {why}: {', '.join(names[:3])}{', …' * (len(names) > 3)}"
            raise RegspecError(Problem(f"has {several}", hint, str(path)))


def _with_settled_masks(model: Model, dialect: Dialect, settings: Mapping[str, str], notes: Notes) -> Model:
    """A model whose entries name the masks that they must. Raises `RegspecError`."""
    if not masks.needs_settling(model):
        return model

    def program(model: Model) -> Program:
        return program_of(graph_of(loads(text_of(model, "channels_last", settings), PORTED)))

    try:
        settled, reasons = masks.settled(model, program, unmasks=dialect.generation == 3 and dialect.keeps_quirks)
    except UnportedError as reason:
        raise RegspecError(Problem(f"can't be ported: {reason}")) from None
    notes.add(*(f"in Keras {each}; so it is in the port, but not with keeps_quirks=False" for each in sorted(reasons)))
    return settled


def _renewed(stored: Archive, dialect: Dialect, notes: Notes) -> dict[str, Any]:
    """A file's config in the form of Keras 3."""
    layers = [layer for layer in layers_in(stored.config) if layer["class_name"] != "InputLayer"]
    counts = Counter(layer.get("shared_object_id") for layer in layers)
    for layer in layers:
        if layer.get("shared_object_id") is not None and counts[layer["shared_object_id"]] > 1:
            what = "is shared between models; here each has a copy, whose penalties count by themselves"
            notes.add(f"'{layer['config'].get('name')}' {what}")
    config = keras1.renewed(stored.config, dialect, notes) if dialect.generation == 1 else stored.config
    if dialect.generation == 1 and dialect.backend is None and theano.has_convolutions(stored.config):
        notes.add(
            "Keras 1 does not say which backend trained it, and TensorFlow is assumed: where it was Theano, whose "
            "convolutions turn their kernels around, give backend='theano' (--backend theano)"
        )
    if dialect.generation > 2:
        return config
    config = keras2.renewed(config, dialect, notes)
    return composed(config, stored.arrays) if dialect.generation == 1 else config
