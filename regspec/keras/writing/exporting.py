"""From a spec with its weights to Keras: a `.keras` file, or code with a `.weights.h5` file beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from regspec.graph.loading import AnySpec, graph_of
from regspec.graph.network import Graph
from regspec.keras.arrays.matching import arrays_in
from regspec.keras.porting.ported import PortedModel
from regspec.keras.training.compiling import Compiled
from regspec.keras.writing.altered import as_it_is
from regspec.keras.writing.archive import archived, weights_file
from regspec.modules.building import build, graph_behind
from regspec.specs.model import ModelSpec
from regspec.targets.keras.calls import network_of
from regspec.targets.keras.code import print_network
from regspec.targets.keras.config import config_of
from regspec.targets.torch.program import program_of
from regspec.text import files
from regspec.text.problems import Problem, RegspecError

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMS = {".keras": "keras", ".py": "keras-source"}  # by the ending of the file


@runtime_checkable
class Trained(Protocol):
    """What `regspec.train` gives: a spec, and the module of it that was trained."""

    @property
    def spec(self) -> ModelSpec:
        """What was trained."""

    @property
    def model(self) -> nn.Module:
        """The module with the weights that were kept."""

    @property
    def compiled(self) -> Compiled:
        """How it was trained, as Keras compiles a model."""


@dataclass(frozen=True)
class InKeras:
    """What was written of a model for Keras: the files, and what was left out, because Keras has no such thing.

    Example:
        >>> from pathlib import Path
        >>> from regspec.keras.writing.exporting import InKeras
        >>> print(InKeras((Path("net.keras"),), ("hidden has the regularizer hoyer 0.1, which Keras does not have",)))
        net.keras
        left out: hidden has the regularizer hoyer 0.1, which Keras does not have
    """

    files: tuple[Path, ...]
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([" and ".join(map(str, self.files)), *(f"left out: {each}" for each in self.left_out)])


def to_keras(
    model: nn.Module | Trained | PortedModel | AnySpec,
    path: str | Path,
    *,
    seed: int | None = None,
    lossy: bool = False,
    force: bool = False,
) -> InKeras:
    """Writes a model as Keras 3 loads it: layers, weights, penalties, constraints and what is frozen. Needs no Keras.

    Args:
        model: a module that `regspec.build` made, what `regspec.train` or `regspec.port` gave, or a spec, whose
            weights are drawn.
        path: a ``.keras`` file; or a ``.py`` file for functional code, beside which the weights become a
            ``.weights.h5`` file.
        seed: draws the weights of a spec.
        lossy: whether what Keras has no counterpart of, such as a group lasso, is left out and listed, where it changes
            no output; else it is refused. What was done to a module besides its spec is written: layers that were
            frozen or freed, strengths that were set; a layer that is frozen in part is a thing that Keras has not.
        force: whether files that are there and hold something else may be written over.

    Raises:
        RegspecError: with everything that Keras has no counterpart of; or for a module that is not of a spec.

    Example:
        >>> import regspec, tempfile
        >>> model = regspec.build("examples/mlp.yaml", seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     written = regspec.to_keras(model, f"{folder}/mlp.keras")
        ...     print(written.files[0].name, len(regspec.port(written.files[0]).weights))
        mlp.keras 10
    """
    place = Path(path)
    if (form := FORMS.get(place.suffix.lower())) is None:
        raise RegspecError(Problem(f"is no {' or '.join(FORMS)} file", path=str(place)))
    graph, module, compiled = _subject(model, seed)
    found, left_out = contents_in_keras(graph, module, form, lossy=lossy, compiled=compiled)
    contents = {place.with_suffix(ending): raw for ending, raw in found.items()}
    for each, raw in contents.items():
        if not force:
            files.check_kept(each, raw, may_go=lambda _: False)
    files.write_folder(place.parent, {each.name: raw for each, raw in contents.items()})
    return InKeras(tuple(contents), left_out)


def _subject(model: Any, seed: int | None) -> tuple[Graph, nn.Module, Compiled | None]:
    """The graph and the module of a model, and how it is compiled in Keras."""
    from torch import nn

    if isinstance(model, nn.Module):
        if (graph := graph_behind(model)) is None:
            what = f"the {type(model).__name__} was not made of a spec, so that it is not known what its layers are"
            raise RegspecError(Problem(what, "regspec.build gives such a module"))
        return graph, model, None
    if isinstance(model, PortedModel):
        return graph_of(model.spec), model.build(), _compiled_as(model)
    if isinstance(model, Trained):
        return graph_of(model.spec), model.model, model.compiled
    return graph_of(model), build(model, seed=seed), None


def _compiled_as(port: PortedModel) -> Compiled:
    """How a port was compiled: as its file has it, which is Keras 3's already, or else by its training file alone."""
    written = port.provenance
    if written.generation > 2 or not port.training:
        return Compiled(written.training if written.generation > 2 else {})
    return Compiled({}, ("how it was compiled, by an older Keras: the folder of the saved port has it",))


def contents_in_keras(
    graph: Graph,
    module: nn.Module,
    form: str,
    *,
    lossy: bool = False,
    compiled: Compiled | None = None,
    said: Mapping[str, Any] | None = None,
) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """A model's files in a form, by their endings, and what was left out.

    Args:
        graph: of the model.
        module: the model.
        form: ``keras`` or ``keras-source``.
        lossy: whether what Keras has no counterpart of is left out, where that changes no output.
        compiled: what a model in Keras is compiled with.
        said: what a file says of it besides.

    Raises:
        RegspecError: with everything that Keras has no counterpart of.
    """
    graph, altered = as_it_is(module, graph)
    try:
        network = network_of(graph, for_file=form == "keras", lossy=lossy)
    except RegspecError as error:
        raise RegspecError([*error.problems, *altered] if not lossy else error.problems) from None
    if altered and not lossy:
        raise RegspecError(altered)
    arrays = arrays_in(program_of(graph), {name: _numbers(each) for name, each in module.state_dict().items()})
    left_out = (*network.left_out, *(each.what for each in altered))
    if form == "keras":
        compiled = compiled or Compiled()
        raw = archived(network, arrays, compiled.config, said or {})
        return {".keras": raw}, (*left_out, *compiled.unsaid)
    raw = weights_file(network, arrays, config_of(network))
    text = print_network(network, more="; load_weights takes the .weights.h5 file beside it")
    return {".py": text.encode(), ".weights.h5": raw}, left_out


def _numbers(x: Tensor) -> Any:
    """A tensor for numpy, which has no bfloat16: float32 holds its numbers."""
    import torch

    found = x.detach().cpu()
    return (found.float() if found.dtype == torch.bfloat16 else found).numpy()
