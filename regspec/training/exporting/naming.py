"""Where an export is written, and in what format: a file's ending and a format tell each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from regspec.text.problems import Problem, RegspecError, did_you_mean

ENDINGS: Mapping[str, str] = {
    "onnx": ".onnx",
    "pt2": ".pt2",
    "safetensors": ".safetensors",
    "source": ".py",
    "keras": ".keras",
    "keras-source": ".py",
}


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
    found = [each for each, ending in ENDINGS.items() if ending == path.suffix.lower()]
    if form not in (None, *found) or not found:
        *others, last = dict.fromkeys(ENDINGS.values())
        wanted = ENDINGS[form] if form else f"{', '.join(others)} or {last}"
        raise RegspecError(Problem(f"is no {wanted} file", path=str(path)))
    return path, form or found[0]
