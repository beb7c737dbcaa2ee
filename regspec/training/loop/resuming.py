"""What must be so for a stopped run to go on: something is left to do, and nothing has changed since it began."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regspec.text.problems import Problem, RegspecError
from regspec.training.options.options import Options
from regspec.training.runs.folder import Folder

Facts = Mapping[str, Any]
COUNTS = {"examples": "to train on", "held_out": "held out"}


def check_is_left(place: Folder, facts: Facts, options: Options, *, has_other_patience: bool) -> None:
    """Raises `RegspecError` where a run has nothing left to do, or is a twin, which goes on with the other.

    Args:
        place: the run's folder.
        facts: what it says.
        options: how it is to go on.
        has_other_patience: whether the patience is given anew.
    """
    path = place.path.resolve()
    if path == Folder(path.parent).baseline.path and (path.parent / "run.json").exists():
        what = "is the twin of another run, which goes on with it"
        raise RegspecError(Problem(what, f"--resume {place.path.parent}", str(place.path)))
    done, total = facts.get("epochs", 0), options.epochs
    if total < done:
        what = f"has done {done} epochs, and can't be one of {total}"
        aim = facts.get("options", {}).get("epochs", done)
        raise RegspecError(Problem(what, f"without --epochs it goes on to {max(aim, done)}", str(place.path)))
    has_twin = options.baseline
    twin = place.baseline.facts() if has_twin and (place.baseline.path / "run.json").exists() else {}
    if not all(_is_ended(each, total, has_other_patience) for each in (facts, *([twin] if has_twin else []))):
        return
    if done >= total:
        raise RegspecError(Problem(f"has done its {done} epochs", f"--epochs {done + 10} goes on", str(place.path)))
    patience = options.patience or 1
    what = f"has ended after {done} epochs, because the held-out loss was not better for {patience}"
    raise RegspecError(Problem(what, f"--patience {2 * patience} goes on", str(place.path)))


def _is_ended(facts: Facts, total: int, has_other_patience: bool) -> bool:
    """Whether a run has done its epochs, or ended early, and is not to be more patient now."""
    done = facts.get("epochs", 0)
    is_early = done < facts.get("options", {}).get("epochs", 0)
    return bool(facts.get("finished")) and (done >= total or (is_early and not has_other_patience))


def check_is_same(place: Folder, before: Facts, now: Facts, source: str) -> None:
    """Raises `RegspecError` where the spec or the data are not those that a run began with, or its checkpoint is gone.

    Args:
        place: the run's folder.
        before: what it says.
        now: what it would say if it began now.
        source: the spec, compiled.
    """
    if before.get("epochs", 0) > 1 and not place.checkpoint.exists():  # the first may have been killed before it
        raise RegspecError(Problem("is gone, and the run can't go on without it", path=str(place.checkpoint)))
    began, hint = place.path / "model.py", "what is different now is another run: regspec train SPEC"
    if before.get("regspec") == now["regspec"] and began.is_file() and began.read_text(encoding="utf-8") != source:
        raise RegspecError(Problem("is not the spec that the run began with", hint, str(place.spec)))
    data = now["options"]["data"]
    for name, what in COUNTS.items():
        if before.get(name, now[name]) != now[name]:
            change = f"{now[name]} examples {what}, and not {before[name]}"
            raise RegspecError(Problem(f"'{data}' is not what the run began with: it has {change}", hint))
    if before.get("is_weighted", now["is_weighted"]) != now["is_weighted"]:
        has = "have weights now" if now["is_weighted"] else "have no weights any more"
        raise RegspecError(Problem(f"'{data}' is not what the run began with: the examples {has}", hint))
    if before.get("outputs", now["outputs"]) != now["outputs"]:
        raise RegspecError(Problem(f"'{data}' is not what the run began with: it has other classes", hint))
