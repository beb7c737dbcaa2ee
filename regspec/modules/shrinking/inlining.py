"""Blocks that stand in files of their own, written into the spec that uses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regspec.text.document import parse, read
from regspec.text.problems import Problem, RegspecError
from regspec.views.formatting import formatted


def apart(value: Any) -> Any:
    """Plain data in which no part is another's too, as aliases make it."""
    if isinstance(value, dict):
        return {key: apart(each) for key, each in value.items()}
    return [*map(apart, value)] if isinstance(value, list) else value


def inline(data: dict[str, Any], path: Path) -> None:
    """Puts the blocks that a spec's data have in files into the data, with the blocks that those use.

    Args:
        data: of a valid spec.
        path: its file.

    Raises:
        RegspecError: where a file has rules, which would be those of the whole spec, or a block of another's name.
    """
    for name, block in [*(data.get("blocks") or {}).items()]:
        if "file" not in block:
            continue
        place = path.parent / block["file"]
        found = apart(parse(formatted(read(place)), str(place)).data)
        inline(found, place)
        if found.get("regularizers"):
            hint = "say them at the layers of the block, or in the spec that uses it"
            raise RegspecError(Problem(f"the rules of block '{name}' can't be written into the spec", hint, str(place)))
        for inner, own in (found.get("blocks") or {}).items():
            if data["blocks"].setdefault(inner, own) != own:
                raise RegspecError(
                    Problem(f"the spec has another block '{inner}' too", "rename one of them", str(place))
                )
        unused = [each for each, declared in found["inputs"].items() if declared.get("unused")]
        section = {
            "parameters": {**(found.get("parameters") or {}), **(block.get("parameters") or {})},
            "inputs": [*found["inputs"]],
            "unused": unused,
            "layers": found["layers"],
            "outputs": found.get("outputs"),
        }
        data["blocks"][name] = {key: value for key, value in section.items() if value}
