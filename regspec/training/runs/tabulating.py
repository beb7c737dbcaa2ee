"""Predictions as a table, beside the columns that the examples came with, or as arrays in a file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regspec.text.problems import Problem, RegspecError
from regspec.training.data.examples import Examples
from regspec.training.data.images import Images
from regspec.training.data.scanned import Scanned
from regspec.training.data.table_files import ENDINGS, read_table
from regspec.training.data.targets import MANY
from regspec.training.runs.predicting import Prediction

if TYPE_CHECKING:
    import polars

Array = NDArray[Any]
WRITTEN = (*ENDINGS, ".npz")


def content(predictions: Mapping[str, Prediction], source: str, examples: Examples, ending: str) -> bytes:
    """The content of a file of predictions.

    Args:
        predictions: by the outputs' names.
        source: the data's, whose columns are kept if they are a table.
        examples: read from it.
        ending: ``.csv``, ``.parquet`` or ``.npz``.

    Raises:
        RegspecError: where a table can't hold them, or the source has a column of a name that they need.
    """
    file = io.BytesIO()
    if ending == ".npz":
        _write_arrays(file, _arrays(predictions))
    elif ending == ".csv":
        table_of(predictions, source, examples).write_csv(file)
    else:
        _typed(table_of(predictions, source, examples)).write_parquet(file)
    return file.getvalue()


def table_of(predictions: Mapping[str, Prediction], source: str, examples: Examples) -> polars.DataFrame:
    """A row for each example: the source's own columns, and what is predicted. Raises as `content` does."""
    try:
        import polars as pl
    except ImportError:
        raise RegspecError(
            Problem("tables need polars", "pip install 'regspec[data]', or -o predictions.npz")
        ) from None
    own: Any = pl.DataFrame()
    if Path(source).suffix.lower() in ENDINGS:
        own = read_table(source).frame
        own = own.whole() if isinstance(own, Scanned) else own
    elif isinstance(examples, Images):
        own = pl.DataFrame({"file": [str(each) for each in examples.files]})
    columns = _columns(predictions, own.columns)
    if both := [name for name in columns if name in own.columns]:
        raise RegspecError(Problem(f"has a column '{both[0]}' already", "rename it, or -o predictions.npz", source))
    return own.hstack(pl.DataFrame(columns)) if own.width else pl.DataFrame(columns)


def _columns(predictions: Mapping[str, Prediction], own: Sequence[str]) -> dict[str, Array]:
    """What is predicted as columns: a class and the probability of each, labels, or quantities.

    Labels have the names of the columns that they were, after ``prediction_`` where the source has these, too.
    """
    found: dict[str, Array] = {}
    for name, each in predictions.items():
        before = "" if len(predictions) == 1 else f"{name}_"
        if each.values.ndim > (1 if each.kind == "classes" else 2):
            what = f"'{name}' gives {' x '.join(map(str, each.values.shape[1:]))} values an example, and no columns"
            raise RegspecError(Problem(what, "-o predictions.npz holds them"))
        if each.kind == "labels" and each.classes is not None:
            names = [f"{before}{label}" for label in each.classes]
            names = [f"{before}prediction_{label}" for label in each.classes] if {*names} & {*own} else names
            found |= dict(zip(names, each.values.T, strict=True))
        else:
            found |= _numbered(f"{before}prediction", each.values)
        if each.probabilities is None:
            continue
        if each.classes is None:
            found |= _numbered(f"{before}probability", each.probabilities)
        elif each.kind == "classes" and len(each.classes) > MANY:
            found[f"{before}probability"] = each.probabilities.max(-1)
        else:
            shares = zip(each.classes, each.probabilities.T, strict=True)
            found |= {f"{before}probability_{_name(label)}": share for label, share in shares}
    return found


def _name(label: object) -> str:
    return str(label).lower() if isinstance(label, bool) else str(label)  # as it is in a file


def _numbered(name: str, values: Array) -> dict[str, Array]:
    return {name: values} if values.ndim == 1 else {f"{name}_{place}": each for place, each in enumerate(values.T)}


def _arrays(predictions: Mapping[str, Prediction]) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for name, each in predictions.items():
        found[name] = each.values
        if each.probabilities is not None:
            found[f"{name}_probabilities"] = each.probabilities
        if each.classes is not None:
            found[f"{name}_classes"] = np.array(each.classes)
    return found


def _write_arrays(file: io.BytesIO, arrays: Mapping[str, Array]) -> None:
    """Writes what numpy.load reads; `numpy.savez_compressed` takes no array that is called ``file``."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, each in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, each, allow_pickle=False)


def _typed(frame: polars.DataFrame) -> polars.DataFrame:
    """The columns of a text, which are words until they are taken, as numbers where all of them are."""
    import polars as pl

    for name in frame.columns:
        for dtype in (pl.Int64, pl.Float64) if frame[name].dtype == pl.String else ():
            cast = frame[name].cast(dtype, strict=False)
            if cast.null_count() == frame[name].null_count():
                frame = frame.with_columns(cast)
                break
    return frame
