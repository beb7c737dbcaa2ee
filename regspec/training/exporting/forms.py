"""The forms that a model is exported in: the bytes of each, and how it is loaded again."""

from __future__ import annotations

import io
import json
import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import Tensor, nn

from regspec.graph.loading import graph_of
from regspec.graph.network import Graph
from regspec.modules.building import SOURCES, build
from regspec.specs.model import ModelSpec
from regspec.targets.source import source
from regspec.text.problems import Problem, RegspecError, needing
from regspec.training.exporting.about import output_names
from regspec.training.exporting.comparing import Cases, Tensors, reason
from regspec.training.measures.objective import tensors_of
from regspec.training.runs.folder import as_safetensors

if TYPE_CHECKING:
    from regspec.keras.training.compiling import Compiled

MOST = 2**31 - 2**20  # bytes of weights in one file of ONNX
_OPERATOR = re.compile(r"OpOverload\(op='([\w.]+)'")
_FIXED = re.compile(r"You marked L\['(\w+)'\]\.size\(\)\[(\d+)\] as dynamic but .* constant \((\d+)\)")

Given = Callable[[Tensors], Sequence[Tensor]]


@dataclass(frozen=True)
class Subject:
    """What is exported: a model in evaluation mode, on the CPU, and what is said of it."""

    spec: ModelSpec
    model: nn.Module
    given: nn.Module  # that it is a copy of, with what is trained of it
    cases: Cases
    about: Mapping[str, Any]
    lossy: bool = False  # whether a form may leave out what changes no output
    compiled: Compiled | None = None  # how it was trained, as Keras compiles a model

    @property
    def graph(self) -> Graph:
        """The network of the spec."""
        return graph_of(self.spec)

    @property
    def said(self) -> str:
        """What is said of the model, as JSON."""
        return json.dumps(self.about)


@dataclass(frozen=True)
class Made:
    """A form of a model: its files by their endings, and what gives its outputs, loaded from them.

    ``given`` is None where nothing is there to load it with, and ``by`` says then what is not.
    """

    files: Mapping[str, bytes]
    by: str
    given: Given | None
    left_out: tuple[str, ...] = ()  # what the form has no counterpart of


def safetensors_of(subject: Subject) -> Made:
    """The weights by the names of the state_dict, and in the metadata what is said of the model."""
    raw = as_safetensors(subject.model.state_dict(), {"regspec": subject.said})
    return Made({".safetensors": raw}, "a new model with these weights", _loaded(build(subject.spec), raw))


def source_of(subject: Subject) -> Made:
    """The source of a class that needs torch alone, and its weights beside it."""
    try:
        text = source(subject.spec, standalone=True)
    except RegspecError as error:
        hint = "another format has the model without its penalties"
        raise RegspecError([replace(each, hint=hint) for each in error.problems]) from None
    raw = as_safetensors(subject.model.state_dict(), {"regspec": subject.said})
    given = _loaded(SOURCES.executed(text).main(), raw)
    return Made({".py": text.encode(), ".safetensors": raw}, "the class with these weights", given)


def _loaded(model: nn.Module, raw: bytes) -> Given:
    model.load_state_dict(safetensors.torch.load(raw))
    model.eval()
    return lambda inputs: tensors_of(model(*inputs))


def pt2_of(subject: Subject) -> Made:
    """A program of torch.export, with what is said of the model in the extra file ``regspec.json``."""
    file = io.BytesIO()
    with _quiet():
        torch.export.save(_program(subject), file, extra_files={"regspec.json": subject.said})
        file.seek(0)
        program = torch.export.load(file).module()
    return Made({".pt2": file.getvalue()}, "torch.export.load", lambda inputs: tensors_of(program(*inputs)))


def _program(subject: Subject) -> torch.export.ExportedProgram:
    """The model traced with a batch of any size, and any size of axes that have none. Raises `RegspecError`."""
    batch = torch.export.Dim("batch")
    shapes = tuple(
        {0: batch, **dict.fromkeys(_open_axes(x.spec_shape), torch.export.Dim.DYNAMIC)} for x in subject.graph.inputs
    )
    try:
        with _quiet():
            return torch.export.export(subject.model, subject.cases.traced, dynamic_shapes=shapes)
    except Exception as error:  # torch raises many
        other = "source and safetensors go without torch.export"
        if found := _FIXED.search(str(error)):
            what = f"torch.export writes out the model for {found[3]} steps where '{found[1]}' has null"
            raise RegspecError(
                Problem(what, f"give it a size in the spec.yaml of a copy of the run; or {other}")
            ) from None
        raise RegspecError(Problem(f"torch.export can't take the model: {reason(error)}", other)) from None


def _open_axes(shape: Sequence[int | None]) -> list[int]:
    """The axes whose sizes are known only at run time, but for the batch."""
    return [axis for axis, size in enumerate(shape) if axis and size is None]


def onnx_of(subject: Subject) -> Made:
    """ONNX, with the spec's names of inputs and outputs, and what is said of the model in ``metadata_props``."""
    with needing("ONNX", "onnx"):
        import onnx  # noqa: F401  # is what torch needs
        import onnxscript  # noqa: F401
    size = sum(each.numel() * each.element_size() for each in subject.model.state_dict().values())
    if size > MOST:
        raise RegspecError(Problem(f"a file of ONNX holds 2 GB, but the weights are {size:,} bytes", "pt2 holds more"))
    program = _program(subject)
    inputs, outputs = [x.source for x in subject.graph.inputs], output_names(subject.graph)
    axes = tuple(
        {0: "batch", **{axis: f"{x.source}_{axis}" for axis in _open_axes(x.spec_shape)}} for x in subject.graph.inputs
    )
    with _quiet():
        try:
            # names of its own, which none of the tensors between has
            places = [f"<{index}>" for index in range(len(outputs))]
            made = torch.onnx.export(
                program, dynamo=True, verbose=False, output_names=places, dynamic_shapes=axes, input_names=inputs
            )
        except Exception as error:  # torch raises many
            raise RegspecError(_unknown(error, program)) from None
        assert made is not None
        _rename(made.model.graph, inputs, outputs)
        made.model.metadata_props.update(
            {key: each if isinstance(each, str) else json.dumps(each) for key, each in subject.about.items()}
        )
        raw = made.model_proto.SerializeToString(deterministic=True)
    return Made({".onnx": raw}, *_runtime(raw, inputs))


def _rename(graph: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Gives a graph of ONNX these names; tensors between that have one of them get another."""
    ends = {id(value) for value in (*graph.inputs, *graph.outputs)}
    between = [value for node in graph for value in node.outputs if id(value) not in ends]
    values = [*between, *(value for value in graph.initializers.values() if id(value) not in ends)]
    taken = {*inputs, *outputs, *(value.name for value in values)}
    for value in values:
        if value.name in (*inputs, *outputs):
            free = next(name for number in range(len(taken) + 1) if (name := f"{value.name}_{number}") not in taken)
            taken.add(free)
            value.name = free
    for value, name in zip(graph.outputs, outputs, strict=True):
        value.name = name


def _runtime(raw: bytes, names: Sequence[str]) -> tuple[str, Given | None]:
    """What runs a model of ONNX, and its outputs by it. Raises `RegspecError` where it can't."""
    try:
        import onnxruntime
    except ImportError:
        return "onnxruntime is not installed", None
    try:
        session = onnxruntime.InferenceSession(raw, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own, which share no class
        raise RegspecError(Problem(f"onnxruntime can't run the model: {reason(error)}")) from None

    def given(inputs: Tensors) -> Sequence[Tensor]:
        arrays = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        return [torch.as_tensor(each) for each in session.run(None, arrays)]

    return "onnxruntime", given


def _unknown(error: BaseException, program: torch.export.ExportedProgram) -> Problem:
    """What ONNX can't do, and in which layer, where that is known."""
    causes = [*_causes(error)]
    found = next((match[1] for each in causes if (match := _OPERATOR.search(str(each)))), None)
    if found is None:
        return Problem(f"ONNX can't take the model: {reason(causes[-1])}", "the other formats don't need ONNX")
    # the exporter divides operators further than the program does, and has other names for some
    nodes = [*program.run_decompositions().graph.nodes, *program.graph.nodes]
    named = (each for each in nodes if _plain(str(each.target)) == _plain(found))
    where = next((_where(each.meta) for each in named), "")
    return Problem(f"ONNX, as torch writes it, has no '{found}'{where}", "the other formats hold the model as it is")


def _plain(operator: str) -> str:
    """An operator's own name: ``erfinv`` of ``prims.erf_inv`` and of ``aten.erfinv.default``."""
    return operator.partition(".")[2].partition(".")[0].replace("_", "")


def _where(meta: Mapping[str, Any]) -> str:
    """The layer that a node of a program is of, or else the line of the model's source."""
    *_, path = ["", *(path for path, _ in (meta.get("nn_module_stack") or {}).values())]
    if path:
        return f", which '{path}' needs"
    *_, line = ["", *(line.strip() for line in (meta.get("stack_trace") or "").splitlines() if line.strip())]
    return f", which the line '{line}' needs" if line else ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings that torch has on its own account when it exports."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def keras_of(subject: Subject) -> Made:
    """A file of Keras, which is ported again to compare it."""
    found, left_out = _in_keras(subject, "keras")
    with needing("Keras files", "keras"):
        from regspec.keras.porting.porting import port
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        path.write_bytes(found[".keras"])
        ported = port(path).build()
    return Made(found, "a port of the file", lambda inputs: tensors_of(ported(*inputs)), left_out)


def keras_source_of(subject: Subject) -> Made:
    """Functional code of Keras, and its weights beside it."""
    found, left_out = _in_keras(subject, "keras-source")
    return Made(found, "its code needs Keras", None, left_out)


def _in_keras(subject: Subject, form: str) -> tuple[dict[str, bytes], tuple[str, ...]]:
    with needing("Keras files", "keras"):
        from regspec.keras.writing.exporting import contents_in_keras
    lossy, compiled, said = subject.lossy, subject.compiled, subject.about
    return contents_in_keras(subject.graph, subject.given, form, lossy=lossy, compiled=compiled, said=said)


FORMS: Mapping[str, Callable[[Subject], Made]] = {
    "onnx": onnx_of,
    "pt2": pt2_of,
    "safetensors": safetensors_of,
    "source": source_of,
    "keras": keras_of,
    "keras-source": keras_source_of,
}
