"""Folders of images by Pillow, decoded when a batch takes them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from regspec.code.shapes import text
from regspec.graph.network import Graph
from regspec.text.problems import Problem, Problems, RegspecError
from regspec.training.data.wanted import Array, Names, Wanted

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")
R = TypeVar("R")

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
HELD_OUT = ("val", "test")  # the folders beside train; val first, because data that tells when to stop is no test
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by the number of channels


@dataclass(frozen=True)
class Form:
    """How an input takes images."""

    mode: str  # Pillow's
    height: int
    width: int
    axes: tuple[int, ...] | None  # of (batch, height, width, channels), as the input has them; None without channels
    dtype: torch.dtype

    def as_dict(self) -> dict[str, Any]:
        """What a run's folder keeps of it: Pillow's mode of the channels, the size, and the largest number."""
        most = 1 if self.dtype.is_floating_point else 255
        return {"channels": self.mode, "height": self.height, "width": self.width, "most": most}


@dataclass(frozen=True)
class Files:
    """Images, the number of the class of each, and how the model takes them."""

    files: tuple[Path, ...]
    targets: Mapping[str, Array]  # by the output's name
    form: Form


@dataclass(frozen=True)
class Images:
    """Examples as files, which are decoded and fitted to the input when a batch takes them."""

    files: tuple[Path, ...]
    targets: tuple[Tensor, ...]
    form: Form

    def __len__(self) -> int:
        return len(self.files)

    @property
    def input_count(self) -> int:
        return 1

    def __getitem__(self, rows: Sequence[int]) -> tuple[Tensor, ...]:
        targets = (each.index_select(0, torch.as_tensor(rows)) for each in self.targets)
        return decoded([self.files[row] for row in rows], self.form), *targets

    def name(self, row: int) -> str:
        return in_folder(self.files[row])

    def part(self, rows: Tensor) -> Images:
        """The examples of these rows."""
        targets = tuple(each[rows] for each in self.targets)
        return Images(tuple(self.files[row] for row in rows.tolist()), targets, self.form)


def in_folder(file: Path) -> str:
    """A file with the folder that it is in."""
    return "/".join(file.parts[-2:])


def decoded(files: Sequence[Path], form: Form) -> Tensor:
    """Images as an input takes them. Raises `RegspecError` for one that is broken."""
    batch = torch.from_numpy(np.stack(_parallel(lambda file: _decoded(file, form), files)))
    if form.axes is not None:
        batch = (batch if batch.ndim == 4 else batch.unsqueeze(-1)).permute(form.axes).contiguous()
    if form.dtype.is_floating_point:
        batch = (batch.float() / 255).to(form.dtype)
    return batch.to(form.dtype)


def parts_of(folder: Path) -> list[Path]:
    """The folder, or the folders in it of what is trained on and of what is held out."""
    held_out = next((folder / name for name in HELD_OUT if (folder / name).is_dir()), None)
    return [folder] if held_out is None or not (folder / "train").is_dir() else [folder / "train", held_out]


def form_of(graph: Graph, source: str) -> Form:
    """How a model's only input takes images; a fault where it can't."""
    if len(graph.inputs) != 1:
        names = ", ".join(x.source for x in graph.inputs)
        raise RegspecError(Problem(f"the images in '{source}' are one input, but the spec takes {names}"))
    x = graph.inputs[0]
    sizes = x.logical[1:]
    if len(sizes) == 3:
        height, width, channels = sizes
    else:
        height, width, channels = (*sizes, 1) if len(sizes) == 2 else (None, None, None)
    if height is None or width is None or channels not in MODES:
        axes = "(batch, height, width, channels)" if x.is_plain else "(batch, channels, height, width)"
        what = f"'{source}' gives images {axes}, but the spec takes {text(x.spec_shape)} for '{x.source}'"
        raise RegspecError(Problem(what, "give it a height and a width, and 1, 3 or 4 channels"))
    if x.dtype in ("bool", "int8"):
        what = f"'{source}' gives images of numbers 0 to 255, but the spec takes {x.dtype} for '{x.source}'"
        raise RegspecError(Problem(what, "float32 (0 to 1) or uint8 (0 to 255) holds images"))
    order = None if len(sizes) == 2 else x.spec_order
    return Form(MODES[channels], height, width, order, getattr(torch, x.dtype))


def read_images(source: str, graph: Graph, wanted: Sequence[Wanted], names: Names = None) -> tuple[list[Files], Names]:
    """The images of a folder, or of its parts to train on and to hold out, and the names of the classes.

    These are ``names``, where the folder is held out, and another one is trained on.

    That each is an image is looked up in its first bytes; what is broken further on is a fault when it is decoded.
    """
    form = form_of(graph, source)
    if len(wanted) > 1 or wanted[0].said.target is not None:
        outputs = ", ".join(each.name for each in wanted)
        what = f"the images in '{source}' have a class each, for one output, but there are targets for {outputs}"
        hint = f"say which output it is, --outputs.{wanted[0].name}.loss cross_entropy; or learn the input alone"
        raise RegspecError(Problem(what, hint))
    train, *others = parts_of(Path(source))
    parts = [_by_class(train)]
    if names is not None:
        _check_classes(parts[0], names, train, "the data to train on have")
    names = names or tuple(parts[0])
    for held_out in others:
        parts.append(_by_class(held_out))
        _check_classes(parts[1], names, held_out, f"'{train}' has")
    _check_all(file for part in parts for files in part.values() for file in files)
    return [_numbered(part, names, form, wanted[0].name) for part in parts], names


def images_alone(source: str, graph: Graph) -> Files:
    """All images in a folder and in the folders in it, in the order of their paths, without classes."""
    form, folder = form_of(graph, source), Path(source)
    try:
        places = sorted(each for each in folder.rglob("*") if each.suffix.lower() in ENDINGS)
    except OSError as error:
        raise RegspecError(Problem(f"can't be read: {error.strerror}", path=str(error.filename or folder))) from None
    files = [each for each in places if not any(part.startswith(".") for part in each.relative_to(folder).parts)]
    if not files:
        raise RegspecError(Problem("has no images", f"it may be {' '.join(ENDINGS)}", path=source))
    _check_all(files)
    return Files(tuple(files), {}, form)


def _check_classes(part: Iterable[str], names: tuple[str, ...], folder: Path, others: str) -> None:
    """Raises where a folder has a class that others do not have."""
    if unknown := [name for name in part if name not in names]:
        raise RegspecError(Problem(f"has the class '{unknown[0]}', but {others} {', '.join(names)}", path=str(folder)))


def _numbered(by_class: dict[str, list[Path]], names: tuple[str, ...], form: Form, output: str) -> Files:
    pairs = [(file, names.index(name)) for name, files in by_class.items() for file in files]
    return Files(tuple(file for file, _ in pairs), {output: np.array([number for _, number in pairs])}, form)


def _by_class(folder: Path) -> dict[str, list[Path]]:
    """The images of each class, in the order of the names."""
    try:
        folders = sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
        found = {each.name: _images_in(each) for each in folders}
    except OSError as error:
        raise RegspecError(Problem(f"can't be read: {error.strerror}", path=str(error.filename or folder))) from None
    if not found:
        raise RegspecError(Problem("has no folders of images, one for each class", path=str(folder)))
    if empty := [name for name, files in found.items() if not files]:
        hint = "beside train there is neither val nor test" if empty[0] == "train" else f"it may be {' '.join(ENDINGS)}"
        raise RegspecError(Problem("has no images", hint, path=str(folder / empty[0])))
    return found


def _images_in(folder: Path) -> list[Path]:
    files = (each for each in folder.iterdir() if each.suffix.lower() in ENDINGS and not each.name.startswith("."))
    return sorted(files)


def _check_all(files: Iterable[Path]) -> None:
    """Raises with every file that does not begin as an image."""
    problems = Problems()
    problems.extend(each for each in _parallel(_problem, files) if each is not None)
    if problems:
        raise RegspecError(problems)


def _problem(file: Path) -> Problem | None:
    try:
        _opened(file).close()
    except RegspecError as error:
        return error.problems[0]
    return None


def _opened(file: Path) -> Image:
    """An image of which the first bytes are read."""
    try:
        from PIL import Image
    except ImportError:
        raise RegspecError(Problem("images need pillow", "pip install 'regspec[data]'", path=str(file))) from None
    try:
        return Image.open(file)
    except Exception as error:  # of a file that is no image, Pillow raises many
        raise RegspecError(_unreadable(file, error)) from None


def _decoded(file: Path, form: Form) -> Array:
    """An image as numbers 0 to 255, (height, width), or with channels after them."""
    from PIL import Image, ImageOps

    with _opened(file) as image:
        try:
            upright: Any = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16"):  # Pillow would cut these off at 255
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            fitted = upright.convert(form.mode).resize((form.width, form.height), Image.Resampling.BILINEAR)
            return np.array(fitted)
        except Exception as error:  # of a file that is broken, Pillow raises many
            raise RegspecError(_unreadable(file, error)) from None


def _unreadable(file: Path, error: Exception) -> Problem:
    if isinstance(error, OSError) and error.strerror:
        return Problem(f"can't be read: {error.strerror}", path=str(file))
    what = "it is empty" if file.is_file() and not file.stat().st_size else str(error).partition(" '")[0]
    return Problem(f"can't be read as an image: {what}", path=str(file))


def _parallel(function: Callable[[T], R], values: Iterable[T]) -> list[R]:
    """The results in order, by threads: Pillow decodes without the interpreter's lock."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, values))
