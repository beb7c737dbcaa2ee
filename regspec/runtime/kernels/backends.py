"""Which code computes L1 and L2 on a CPU."""

from __future__ import annotations

from regspec.runtime.kernels import one_pass


def backend(choice: str | None = None) -> str:
    """What computes the L1 and L2 of large models on a CPU: "numba", if the extra `fast` is there, or "torch".

    With a choice, "torch" or "numba", that one computes them from now on, whatever the size; "auto" goes back.

    Raises:
        ValueError: where there is no such choice, or numba is chosen and can't be loaded.

    Example:
        >>> backend("torch")
        'torch'
        >>> backend("auto") in ("numba", "torch")
        True
    """
    if choice is not None:
        one_pass.choose(choice)
    return one_pass.of_large_models()
