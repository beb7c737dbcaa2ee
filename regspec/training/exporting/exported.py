"""A run's model, exported: written, loaded again and compared, with what must be known to use it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from regspec.graph.loading import graph_of
from regspec.specs.model import ModelSpec
from regspec.text import files
from regspec.training.exporting.about import output_names, told
from regspec.training.exporting.comparing import BATCHES, cases_of, difference
from regspec.training.exporting.forms import FORMS, Subject
from regspec.views.summary import error_text

if TYPE_CHECKING:
    from regspec.keras.training.compiling import Compiled


@dataclass(frozen=True)
class Exported:
    """What was written. Its text tells what the model takes and gives, and what must be done before.

    Args:
        format: ``onnx``, ``pt2``, ``safetensors``, ``source``, ``keras`` or ``keras-source``.
        files: Those that were written.
        about: What is said of the model, as plain data, which the files hold too: its inputs, outputs with the names
            of classes, and columns.
        compared: How what was loaded again did beside the model, for people.
        difference: The largest difference of an output from the model's; None where it was not compared.
        left_out: What the format has no counterpart of, where that was allowed.

    Example:
        >>> from pathlib import Path
        >>> from regspec.training.exporting.exported import Exported
        >>> about = {"inputs": {"x": {"shape": [None, 4], "dtype": "float32"}}, "outputs": {}}
        >>> print(Exported("pt2", (Path("net.pt2"),), about, "torch.export.load gives what the model gives"))
        net.pt2: torch.export.load gives what the model gives
        takes x (batch, 4) float32
    """

    format: str
    files: tuple[Path, ...]
    about: Mapping[str, Any]
    compared: str
    difference: float | None = None
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        written = f"{' and '.join(map(str, self.files))}: {self.compared}"
        return "\n".join([written, *told(self.about), *(f"left out: {each}" for each in self.left_out)])


def export(
    model: nn.Module,
    spec: ModelSpec,
    about: Mapping[str, Any],
    path: Path,
    form: str,
    *,
    compiled: Compiled | None = None,
    lossy: bool = False,
    force: bool = False,
) -> Exported:
    """Writes a model in a format, loads it again, and compares what it gives with what the model does.

    Args:
        model: the model, which stays as it is.
        spec: what it was built from.
        about: what is said of it.
        path: the file.
        form: the format; ``source`` and ``keras-source`` write the weights beside it.
        compiled: how it was trained, as Keras compiles a model.
        lossy: whether what the format has no counterpart of may be left out, where that changes no output.
        force: whether files that are there and hold something else may be written over.

    Raises:
        RegspecError: where the format can't hold the model, or what was loaded gives something else; nothing is
            written then.
    """
    own = deepcopy(model).cpu().eval().requires_grad_(False)
    cases = cases_of(own, graph_of(spec))
    made = FORMS[form](Subject(spec, own, model, cases, about, lossy, compiled))
    apart = None
    if made.given is not None and not cases.is_drawn:
        apart = difference(made.given, cases, output_names(graph_of(spec)), made.by)
        where = f"on batches of {' and '.join(map(str, BATCHES))} made examples"
        told = f"{made.by} gives what the model gives, {where}"
        compared = f"{told}; the largest difference is {error_text(apart)}" if apart else f"{told}, to the last bit"
    elif made.given is None:
        compared = f"not compared with the model, because {made.by}"
    else:
        compared = "not compared with the model, which draws random numbers"
    contents = {path.with_suffix(ending): raw for ending, raw in made.files.items()}
    for each, raw in contents.items():
        if not force:
            files.check_kept(each, raw, may_go=lambda _: False)
    files.write_folder(path.parent, {each.name: raw for each, raw in contents.items()})
    return Exported(form, tuple(contents), about, compared, apart, made.left_out)
