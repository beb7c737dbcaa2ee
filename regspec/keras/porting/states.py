"""The state of a ported module as bytes of safetensors: without torch, where the file has all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from regspec.graph.loading import graph_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regspec.keras.porting.ported import PortedModel


def stored_state(port: PortedModel) -> bytes:
    """What ``weights.safetensors`` holds: the state_dict of the module."""
    state = state_of(port)
    if state is not None:
        import safetensors.numpy

        return safetensors.numpy.save(state)
    import safetensors.torch

    # each a tensor of its own, as this format wants them
    return safetensors.torch.save({name: x.detach().clone() for name, x in port.build().state_dict().items()})


def state_of(port: PortedModel) -> dict[str, NDArray[np.generic]] | None:
    """The state_dict as arrays; None where only the module has all of it.

    So it is for weights that are drawn anew, for modules of the user's, and for types other than single precision.
    """
    layers = [node.resolved.layer for node in graph_of(port.spec).layers()]
    if port.provenance.account is None or any(each.is_opaque or each.precision for each in layers):
        return None
    if port.spec.dtype != "float32" or any(array.dtype != np.float32 for array in port.weights.values()):
        return None
    state = {name: np.asarray(array, order="C") for name, array in port.weights.items()}
    for name, array in port.weights.items():
        owner, _, own = name.rpartition(".")
        if own == "running_var":  # torch's batch normalizations count how often they were trained
            state[f"{owner}.num_batches_tracked"] = np.zeros((), "int64")
        if own.startswith("bias_ih"):  # torch's recurrent layers have two biases, of which Keras's have the sum
            state.setdefault(f"{owner}.{own.replace('ih', 'hh')}", np.zeros_like(array))
    return state
