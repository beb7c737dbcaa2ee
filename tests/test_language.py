"""The language, case by case: each file is a spec, a marker, and the source that it compiles to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import regspec

FOLDER = Path(__file__).parent / "language"
CASES = sorted(FOLDER.glob("*.txt"))
MARKER = "----\n"


def spec_and_source(path: Path) -> tuple[regspec.ModelSpec, str]:
    text, _, source = path.read_text(encoding="utf-8").rpartition(MARKER)
    return regspec.loads(text, str(path)), source


@pytest.mark.parametrize("path", CASES, ids=[path.stem for path in CASES])
def test_compiles_to(path: Path) -> None:
    spec, source = spec_and_source(path)
    assert regspec.source(spec) == source


@pytest.mark.parametrize("path", CASES, ids=[path.stem for path in CASES])
def test_runs(path: Path) -> None:
    """It takes two batches of different sizes, and its loss is the sum of its terms."""
    spec, _ = spec_and_source(path)
    model = regspec.build(spec, seed=0)
    for batch in (3, 5):
        inputs = []
        for declared in spec.inputs.values():
            shape = (batch, *(7 if size is None else size for size in declared.shape))
            inputs.append(torch.randint(0, 4, shape) if "int" in declared.dtype else torch.randn(shape))
        model(*inputs)
        terms = regspec.regularization_terms(model)
        assert all(term.ndim == 0 and term.isfinite() for term in terms.values())
        torch.testing.assert_close(regspec.regularization_loss(model), sum(terms.values(), torch.zeros(())))
