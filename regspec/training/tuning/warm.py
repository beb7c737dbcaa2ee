"""What a training on a path begins with: weights near those of the strength before.

Weights that a training has ended with are a bad place to begin another from, as they lie: what they have learned by
heart stays learned, and units that are zero stay so. They are shrunk towards the initial weights instead: "shrink and
perturb" of Ash and Adams, On Warm-Starting Neural Network Training (2020).
"""

from __future__ import annotations

from collections.abc import Collection

from safetensors.torch import load_file

from regspec.text import files
from regspec.training.runs.folder import Folder, as_safetensors

KEPT = 0.7  # of the weights before; the rest is of the initial ones


def begin_near(place: Folder, before: Folder, first: Folder, parameters: Collection[str]) -> None:
    """Writes the weights that a training in a folder begins with: 0.7 w + 0.3 w0 of parameters, and w of buffers.

    Args:
        place: that of the training.
        before: of a run, whose weights w are.
        first: of the run whose initial weights w0 are.
        parameters: their names.
    """
    initial, state = load_file(first.initial), dict(before.weights().state)
    state |= {name: initial[name].lerp(state[name], KEPT) for name in parameters}
    files.write_folder(place.path, {place.initial.name: as_safetensors(state)})
