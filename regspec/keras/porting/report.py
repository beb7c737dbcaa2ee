"""The page beside a port: what the file was, what became of it, what was verified, and what was left behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from regspec.code import shapes
from regspec.graph.loading import graph_of
from regspec.graph.network import Graph
from regspec.keras.training.compiled import training_text
from regspec.keras.training.settings import code
from regspec.views.summary import Summary, error_text, plural, summarize

if TYPE_CHECKING:
    from regspec.keras.porting.ported import PortedModel, Provenance
    from regspec.keras.verification.verifying import Verification

FORMS = {"JSON": "JSON, a model's config", "SavedModel": "a SavedModel"}  # that are not named by a file's ending


def report(port: PortedModel, verification: Verification | None = None) -> str:
    """The page, in Markdown."""
    graph = graph_of(port.spec)
    summary = summarize(graph)
    parts = [
        _head(port, summary, verification),
        _use(port, graph),
        _layers(summary),
        _verified(verification),
        _notes(port.notes),
        _training(port, graph),
    ]
    return "\n".join(line for part in parts for line in part).rstrip("\n") + "\n"


def _head(port: PortedModel, summary: Summary, verification: Verification | None) -> Iterator[str]:
    provenance = port.provenance
    yield f"# {port.spec.name}, ported from Keras"
    yield ""
    said = f", saved {code(provenance.date)}" if provenance.date else ""
    version = f"Keras {code(provenance.version)}" if provenance.version else "a Keras that it does not name"
    if provenance.live is None:
        yield f"- **From:** {code(provenance.path.name)}: {_form(provenance)}, written by {version}{said}."
    else:
        yield f"- **From:** {_plain(provenance.live.name)}, as {version} had it in memory{said}."
    yield f"- **To:** `spec.yaml`, the same as PyTorch code in `model.py`, and `weights.safetensors`: {summary.totals}."
    if provenance.account is None:
        yield "- **Weights:** drawn anew, as the initializers say; the file had none."
    else:
        account = provenance.account
        what = (
            f"{plural(account.arrays, 'array', 'arrays')} of the file, {plural(account.numbers, 'number', 'numbers')}"
        )
        whole = "each used once" if account.is_complete else f"and {code(', '.join(account.unused))} left unused"
        yield f"- **Weights:** {what}, {whole}."
    verdict = "none yet: `regspec port … --verify`" if verification is None else verification.verdict
    rest = "; what was not compared is said below" if verification is not None and verification.left_out else ""
    yield f"- **Verification:** {verdict}{rest}."
    yield ""


def _form(provenance: Provenance) -> str:
    form = FORMS.get(provenance.form, f"a {provenance.form} file")
    return form if provenance.weights is None else f"{form} with the weights of {code(provenance.weights.name)}"


def _use(port: PortedModel, graph: Graph) -> Iterator[str]:
    shown = ", ".join(x.source for x in graph.inputs)
    yield from ("## Use it", "", "```python", "import regspec", "from safetensors.torch import load_file", "")
    yield from _registered(port.provenance.imports)
    yield 'model = regspec.build("spec.yaml")'
    yield 'model.load_state_dict(load_file("weights.safetensors"))'
    yield ""
    yield f"outputs = model({shown})"
    yield f"loss = criterion(outputs, targets){' + model.regularization_loss()' if graph.has_penalties else ''}"
    yield from ("```", "")
    inputs = [f"`{x.source}` {shapes.text(x.spec_shape)} {x.dtype}" for x in graph.inputs]
    names = graph.output_names or tuple(x.source for x in graph.outputs)
    outputs = [f"`{name}` {shapes.text(x.spec_shape)}" for name, x in zip(names, graph.outputs, strict=True)]
    form = "" if graph.is_single else ", a mapping" if graph.output_names else ", a tuple"
    yield f"Takes {', '.join(inputs)}; gives {', '.join(outputs)}{form}."
    if port.spec.data_format == "channels_last" and any(x.rank > 3 for x in graph.inputs):
        yield "Images and the like have their channels last, as in Keras."
    yield ""


def _registered(imports: Sequence[str]) -> Iterator[str]:
    """The lines that make known what is the user's own; ``imports`` are values of `--import`."""
    names: dict[str, list[str]] = {}
    named = []
    for each in imports:
        sort, _, target = each.rpartition("=")
        module, _, name = target.partition(":")
        names.setdefault(module, []).extend([name] * bool(name))
        named += [f"regspec.register_{sort or 'layer'}({name})"] * bool(name)
    for module, own in names.items():
        unique = ", ".join(dict.fromkeys(own))
        yield f"from {module} import {unique}" if own else f"import {module}  # which registers what is yours"
    yield from [""] * bool(imports)
    yield from (*named, *[""] * bool(named))


def _layers(summary: Summary) -> Iterator[str]:
    yield from ("## Layers", "")
    rows = []
    for row in summary.rows:
        penalties = ", ".join(f"{slot} {regularizer}" for slot, regularizer in row.penalties.items())
        numbers = "?" if row.parameters is None else f"{row.parameters:,}" if row.parameters else ""
        frozen = " frozen" if row.parameters and row.trainable == 0 else ""
        kind = f"{row.kind}, again" if row.is_call else row.kind
        rows.append((row.name, kind, " ".join(row.output_shapes), numbers + frozen, penalties))
    yield from _table(("layer", "kind", "output", "parameters:", "penalties"), rows)
    yield ""


def _verified(verification: Verification | None) -> Iterator[str]:
    if verification is None:
        return
    yield from ("## Verification", "", f"{verification.verdict[0].upper()}{verification.verdict[1:]}.")
    if verification.reference:
        yield (
            f"Both ran on the same random inputs: {verification.reference}, and this port. An error is the largest "
            "difference, relative to the largest number; of gradients, the norm of the difference to the norm."
        )
    if len(verification.weights) == 2 and verification.account is not None:
        constant = verification.account.constant
        yield (
            f"They ran with random weights too, because {constant} of the file's arrays hold one number over and over, "
            "which would hide a mistake."
        )
    yield ""
    if verification.checks:
        titles = {"file": "error:", "random": "error, random weights:"}
        heads = ["compared", "how many:", *(titles[each] for each in verification.weights), "largest at"]
        rows = [
            [
                row.what,
                str(row.count),
                *(error_text(row.errors[each]) if each in row.errors else "" for each in verification.weights),
                row.name,
            ]
            for row in verification.rows()
        ]
        yield from _table(heads, rows)
        yield ""
    if verification.failed:
        yield "Further apart than is allowed:"
        yield ""
        yield from (f"- {_plain(str(each))}" for each in verification.failed[:50])
        yield ""
    if verification.left_out:
        yield "Not compared:"
        yield ""
        yield from (f"- {_plain(each)}" for each in verification.left_out)
        yield ""


def _notes(notes: Sequence[str]) -> Iterator[str]:
    if notes:
        yield from ("## Notes", "", *(f"- {_plain(note)}" for note in notes), "")


def _training(port: PortedModel, graph: Graph) -> Iterator[str]:
    yield from ("## How it was trained", "")
    if not port.training:
        yield from ("The file does not say.", "")
        return
    yield "`training.yaml` says what the file does; the optimizer's state stays behind. So training goes on:"
    yield from ("", "```sh", "regspec train spec.yaml --with training.yaml --data …", "```", "")
    yield from ("```yaml", *training_text(port.training, None).splitlines()[1:], "```", "")
    if graph.has_penalties:
        yield "The penalties are the spec's, and no part of it."
        yield ""


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table; a head that ends in a colon is of a column of numbers."""
    yield f"| {' | '.join(head.rstrip(':') for head in heads)} |"
    yield f"|{'|'.join('---:' if head.endswith(':') else '---' for head in heads)}|"
    for row in rows:
        yield f"| {' | '.join(_plain(each) for each in row)} |"


def _plain(text: str) -> str:
    """A text that may come from the file, on one line and without a meaning of its own in Markdown."""
    line = " ".join(text.split())
    return "".join(f"\\{each}" if each in "|*_<>[]\\`" else each for each in line)
