"""A run's model, exported: written, loaded again and compared, with what must be known to use it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from regspec.graph.loading import graph_of
from regspec.specs.model import ModelSpec
from regspec.text import files
from regspec.text.problems import Problem, RegspecError, did_you_mean
from regspec.training.exporting.about import output_names, told
from regspec.training.exporting.comparing import BATCHES, cases_of, difference
from regspec.training.exporting.forms import ENDINGS, FORMS, Subject
from regspec.views.summary import error_text


@dataclass(frozen=True)
class Exported:
    """What was written. Its text tells what the model takes and gives, and what must be done before.

    Args:
        format: ``onnx``, ``pt2``, ``safetensors`` or ``source``.
        files: Those that were written.
        about: What is said of the model, as plain data, which the files hold too: its inputs, outputs with the names
            of classes, and columns.
        compared: How what was loaded again did beside the model, for people.
        difference: The largest difference of an output from the model's; None where it was not compared.

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

    def __str__(self) -> str:
        return "\n".join([f"{' and '.join(map(str, self.files))}: {self.compared}", *told(self.about)])


def path_of(path: Path | None, form: str | None, name: str) -> tuple[Path, str]:
    """Where a model of a name is written, and in what format: each tells the other.

    Raises:
        RegspecError: where there is no such format, or the path has another's ending.
    """
    if form is not None and form not in ENDINGS:
        hint = did_you_mean(form, ENDINGS) or f"there are {', '.join(ENDINGS)}"
        raise RegspecError(Problem(f"'{form}' is no format", hint))
    if path is None:
        if form is None:
            raise RegspecError(Problem("neither a format nor a file is said", f"a format is {', '.join(ENDINGS)}"))
        return Path(f"{name}{ENDINGS[form]}"), form
    found = next((each for each, ending in ENDINGS.items() if ending == path.suffix.lower()), None)
    if found is None or form not in (None, found):
        wanted = ENDINGS[form] if form else f"{', '.join([*ENDINGS.values()][:-1])} or {[*ENDINGS.values()][-1]}"
        raise RegspecError(Problem(f"is no {wanted} file", path=str(path)))
    return path, found


def export(
    model: nn.Module, spec: ModelSpec, about: Mapping[str, Any], path: Path, form: str, *, force: bool = False
) -> Exported:
    """Writes a model in a format, loads it again, and compares what it gives with what the model does.

    Args:
        model: the model, which stays as it is.
        spec: what it was built from.
        about: what is said of it.
        path: the file.
        form: the format; ``source`` writes the weights beside it.
        force: whether files that are there and hold something else may be written over.

    Raises:
        RegspecError: where the format can't hold the model, or what was loaded gives something else; nothing is
            written then.
    """
    own = deepcopy(model).cpu().eval().requires_grad_(False)
    cases = cases_of(own, graph_of(spec))
    made = FORMS[form](Subject(spec, own, cases, about))
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
    return Exported(form, tuple(contents), about, compared, apart)
