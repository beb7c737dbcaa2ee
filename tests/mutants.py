"""The breaks of the package that the gate's tests must see, room by room; `mutations.py` runs them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutant:
    """A single break: a text that stands once in a file of the package, and what stands there instead."""

    what: str
    file: str
    before: str
    after: str
    tests: str  # which fail, most likely: tried before the whole gate

    def path(self, root: Path) -> Path:
        """The file in the copy of the repository that lies at ``root``."""
        return root / "regspec" / self.file

    def mutated(self, root: Path) -> str:
        """The file's text with the break. Raises where the text that it changes does not stand there once."""
        whole = self.path(root).read_text(encoding="utf-8")
        if whole.count(self.before) != 1:
            raise ValueError(f"{self.file} has {whole.count(self.before)} times what '{self.what}' changes")
        return whole.replace(self.before, self.after)

    def apply(self, root: Path) -> str:
        """Breaks the copy; gives the file's text before."""
        whole, broken = self.path(root).read_text(encoding="utf-8"), self.mutated(root)
        self.path(root).write_text(broken, encoding="utf-8")
        return whole


MUTANTS = (
    # -- text, code, language, specs ----------------------------------------------------------------------------------
    Mutant(
        "an interrupt leaves a folder half written",
        "text/files.py",
        "except BaseException:  # an interrupt too",
        "except Exception:",
        "tests/test_files.py",
    ),
    Mutant(
        "the levels of what an alias stands for are not counted",
        "text/document.py",
        "if len(self.open) + part.height > MAX_DEPTH:",
        "if part.height > MAX_DEPTH:",
        "tests/test_document.py",
    ),
    Mutant(
        "a text that begins with a number is taken for one",
        "text/document.py",
        "float(value) if _EXPONENT.fullmatch(value) else value",
        "float(value) if _EXPONENT.match(value) else value",
        "tests/test_document.py tests/test_surface.py",
    ),
    Mutant(
        "a parameter that does not exist causes a second fault",
        "text/faults.py",
        'errors = [error for error in errors if error["input"] is not UNKNOWN]',
        "errors = [*errors]",
        "tests/test_faults.py",
    ),
    Mutant(
        "the mark under a long line is not moved with the cut",
        "text/problems.py",
        "return _printable(cut), start - left",
        "return _printable(cut), start",
        "tests/test_document.py",
    ),
    Mutant(
        "outputs of a transposed convolution are looked for along its last axis",
        "code/axes.py",
        'return self._dimension("o" if "o" in self.keras else self.keras[-1])',
        "return self._dimension(self.keras[-1])",
        "tests/test_regularizers.py tests/test_penalties.py",
    ),
    Mutant(
        "inputs of a depthwise kernel are looked for along its first axis",
        "code/axes.py",
        'return self._dimension("i" if "i" in self.keras else self.keras[-2])',
        'return self._dimension("i" if "i" in self.keras else self.keras[0])',
        "tests/test_regularizers.py tests/test_penalties.py",
    ),
    Mutant(
        "the odd cell of padding comes first",
        "code/shapes.py",
        "return total // 2, total - total // 2",
        "return total - total // 2, total // 2",
        "tests/layers/test_sources.py",
    ),
    Mutant(
        "what stands in a mapping is not walked",
        "code/expressions.py",
        "    elif isinstance(value, dict):\n        for part in value.values():\n            yield from walk(part)\n",
        "",
        "tests/layers/test_sources.py",
    ),
    Mutant(
        "the seed of an initializer that torch has is lost",
        "language/initializers.py",
        "return call(same.function, *same.arguments, **dict(same.keywords), generator=self.generator)",
        "return call(same.function, *same.arguments, **dict(same.keywords))",
        "tests/test_initializers.py",
    ),
    Mutant(
        "a truncated normal of Keras's fans is not widened",
        "language/initializers.py",
        "return _truncated(0.0, math.sqrt(variance) / TRUNCATED_DEVIATION, generator)",
        "return _truncated(0.0, math.sqrt(variance), generator)",
        "tests/test_initializers.py",
    ),
    Mutant(
        "only the first of several penalties is checked for its slot",
        "language/regularizers.py",
        "        for part in self._penalties:\n            if slot",
        "        for part in self._penalties[:1]:\n            if slot",
        "tests/test_faults.py tests/test_regularizers.py",
    ),
    Mutant(
        "a constraint over a folded axis is not refused",
        "language/constraints.py",
        "if any(not set(pattern.torch[index]) <= names for index in groups):",
        "if False:",
        "tests/test_faults.py tests/test_penalties.py",
    ),
    Mutant(
        "an exception of a rule matches the beginnings of names",
        "specs/rules.py",
        "        if self.layers is not None and not re.fullmatch(self.layers, name):\n"
        "            return False\n"
        "        return self.except_ is None or not re.fullmatch(self.except_, name)",
        "        if self.layers is not None and not re.fullmatch(self.layers, name):\n"
        "            return False\n"
        "        return self.except_ is None or not re.match(self.except_, name)",
        "tests/test_language.py tests/test_penalties.py",
    ),
    Mutant(
        "the last step of a range is lost to rounding",
        "specs/parameters.py",
        "/ self.step * (1 + 1e-9))",
        "/ self.step)",
        "tests/test_tuning.py",
    ),
    Mutant(
        "a choice inside two pairs of parentheses may be repeated",
        "specs/patterns.py",
        "groups[-1].chooses = groups[-1].chooses or last.chooses or last.is_choice",
        "groups[-1].chooses = groups[-1].chooses or last.is_choice",
        "tests/test_patterns.py",
    ),
    # -- layers, graph, views -----------------------------------------------------------------------------------------
    Mutant(
        "the forget gate's ones are at the input gate",
        "layers/cells.py",
        "ones = (self.units, 2 * self.units) if self.unit_forget_bias",
        "ones = (0, self.units) if self.unit_forget_bias",
        "tests/test_initializers.py tests/test_recurrent.py",
    ),
    Mutant(
        "the cells of padding count in a mean",
        "layers/pooling.py",
        'count_include_pad=False if self.function == "Avg" and any(padding) else OMIT',
        "count_include_pad=OMIT",
        "tests/layers/test_layers.py",
    ),
    Mutant(
        "renorm takes the momentum of the moving averages",
        "layers/normalization.py",
        "renorm_momentum=unless(0.01, round(1 - self.renorm_momentum, 12))",
        "renorm_momentum=unless(0.01, round(1 - self.momentum, 12))",
        "tests/layers/test_layers.py -k renorm",
    ),
    Mutant(
        "the kernel of a transposed convolution is normalized along its outputs",
        "layers/normalization.py",
        "dim=unless(0, kernel.pattern.last),",
        "dim=unless(0, kernel.pattern.output),",
        "tests/layers/test_layers.py -k Spectral",
    ),
    Mutant(
        "weights in a TimeDistributed follow the axis before theirs",
        "layers/wrappers.py",
        "along=tuple(axis and axis + 1 for axis in weight.along)",
        "along=tuple(axis for axis in weight.along)",
        "tests/test_rows.py -k TimeDistributed",
    ),
    Mutant(
        "a Bidirectional layer shows the last state at masked steps",
        "layers/wrappers.py",
        'return layer.model_copy(update={"zero_output_for_mask": layer.return_sequences})',
        "return layer",
        "tests/test_masks.py -k directions",
    ),
    Mutant(
        "a sum has a mask where one of its inputs has",
        "layers/merging.py",
        "        masks = [each.mask for each in (x, *others) if each.mask is not None]\n"
        "        return _either(masks) if len(masks) == len(others) + 1 else None\n\n"
        "    def lower",
        "        masks = [each.mask for each in (x, *others) if each.mask is not None]\n"
        "        return _either(masks) if masks else None\n\n"
        "    def lower",
        "tests/test_masks.py -k graphs",
    ),
    Mutant(
        "a table in reverse is frozen with its layer no more",
        "layers/embedding.py",
        "            frozen=not self.trainable,\n",
        "",
        "tests/test_port_quantized.py tests/test_frozen_penalties.py",
    ),
    Mutant(
        "the first rule that names a slot wins",
        "graph/resolving.py",
        "found = rule.slots[slot]",
        "found = found or rule.slots[slot]",
        "tests/test_language.py -k rules",
    ),
    Mutant(
        "layers on inputs that share a mask are those on inputs that do not",
        "graph/resolved.py",
        "    yield from map(masks.index, masks)\n",
        "",
        "tests/test_masks.py -k graphs",
    ),
    Mutant(
        "layers on signals are those on sequences",
        "graph/resolved.py",
        "yield x.shape, x.order, x.dtype, x.is_signal",
        "yield x.shape, x.order, x.dtype",
        "tests/test_edges.py",
    ),
    Mutant(
        "what a repeated block does not give is not handed on",
        "graph/resolving.py",
        "inputs = [*node.outputs, *inputs[len(node.outputs) :]]",
        "inputs = [*node.outputs]",
        "tests/test_edges.py -k repeated",
    ),
    Mutant(
        "frozen weights count as trained",
        "views/summary.py",
        "trained = [weight for weight in weights if weight.trainable and not weight.frozen]",
        "trained = [weight for weight in weights if weight.trainable]",
        "tests/test_cli.py -k show",
    ),
    Mutant(
        "a diagram leaves out masks that are named",
        "views/summary.py",
        "for x in (*node.inputs, *named))",
        "for x in node.inputs)",
        "tests/test_cli.py -k show",
    ),
    Mutant(
        "a less-than sign in a table is markup",
        "views/markdown.py",
        'return re.sub(r"([|*<])"',
        'return re.sub(r"([|*])"',
        "tests/test_reference.py",
    ),
    # -- targets ------------------------------------------------------------------------------------------------------
    Mutant(
        "a difference on the right has no parentheses",
        "targets/python/printing.py",
        "self.document(value.right, own + 1))",
        "self.document(value.right, own))",
        "tests/test_printing.py",
    ),
    Mutant(
        "a quote in a text is not escaped",
        "targets/python/printing.py",
        """if single.startswith("'") and '"' not in text:""",
        """if single.startswith("'"):""",
        "tests/test_printing.py",
    ),
    Mutant(
        "blocks that start otherwise are one class",
        "targets/torch/classes.py",
        "self.init, self.fills, self.signature",
        "self.init, self.signature",
        "tests/test_language.py tests/test_initializers.py",
    ),
    Mutant(
        "frozen weights of a spec that counts them are not said to",
        "targets/torch/classes.py",
        'frozen = [beside("counts_frozen=", "True")] if graph.counts_frozen else []',
        'frozen = [beside("counts_frozen=", "True")] if graph.counts_frozen and graph.is_root else []',
        "tests/test_frozen_penalties.py",
    ),
    Mutant(
        "a variable is taken again before the last result is computed",
        "targets/torch/variables.py",
        "        if len(step.lowered.results) == 1:  # a single statement may replace what it takes\n"
        "            free |= spent\n",
        "        free |= spent\n",
        "tests/test_naming.py",
    ),
    Mutant(
        "the decorators of the runtime's classes are left out",
        "targets/torch/standalone.py",
        "first = min([statement.lineno, *(decorator.lineno for decorator in decorators)])",
        "first = statement.lineno",
        "tests/test_edges.py",
    ),
    Mutant(
        "a layer inside a frozen one is trained in Keras's code",
        "targets/keras/arguments.py",
        "found[declared.alias or name] = _frozen(value) if is_frozen else value",
        "found[declared.alias or name] = value",
        "tests/layers/test_keras_code.py tests/test_keras_code.py",
    ),
    Mutant(
        "the type of a layer is not said in Keras's code",
        "targets/keras/code.py",
        "dtype = layer.precision or self.graph.dtype",
        "dtype = self.graph.dtype",
        "tests/test_keras_code.py tests/test_precision.py",
    ),
    # -- runtime ------------------------------------------------------------------------------------------------------
    Mutant(
        "a penalty of no examples is divided by their number",
        "runtime/penalties/terms.py",
        "1.0 / max(x.shape[0], 1)",
        "1.0 / x.shape[0]",
        "tests/test_penalties.py -k empty",
    ),
    Mutant(
        "a divergence of mean activities is divided by the batch again",
        "runtime/penalties/regularizers.py",
        "    averages_batch = True\n",
        "    averages_batch = False\n",
        "tests/test_encoders.py tests/test_edges.py",
    ),
    Mutant(
        "the output of evaluation that is changed in place later is not copied",
        "runtime/penalties/terms.py",
        "self.penalty(x.clone() if has_gradient else x)",
        "self.penalty(x)",
        "tests/test_penalties.py -k place",
    ),
    Mutant(
        "the gradient that is differentiated again lacks the factor of 2",
        "runtime/kernels/fused.py",
        "(gradient * (l1 * x.sign() + 2 * l2 * x))",
        "(gradient * (l1 * x.sign() + l2 * x))",
        "tests/test_penalties.py -k backward",
    ),
    Mutant(
        "a hook after the accumulation of a gradient does not see the penalty's",
        "runtime/kernels/fused.py",
        "x.is_cuda or x._backward_hooks or x._post_accumulate_grad_hooks",
        "x.is_cuda or x._backward_hooks",
        "tests/test_penalties.py -k hooks",
    ),
    Mutant(
        "a dense gradient is added to a sparse one",
        "runtime/kernels/fused.py",
        "if x.grad is not None and not x.grad.is_sparse]",
        "if x.grad is not None]",
        "tests/test_penalties.py -k sparse",
    ),
    Mutant(
        "a value that ranks have in common is counted by each",
        "runtime/kernels/sharded.py",
        "[1.0 if name in own else 1 / group.size() for own in split]",
        "[1.0 for own in split]",
        "tests/test_distributed.py",
    ),
    Mutant(
        "a strength changes a step late",
        "runtime/penalties/schedules.py",
        "sum(each <= count for each in self.at)",
        "sum(each < count for each in self.at)",
        "tests/test_schedules.py",
    ),
    Mutant(
        "gates share the noise of their inputs",
        "runtime/modules/recurrent.py",
        "gates = self.gates if self.recurrent_dropout else 1",
        "gates = 1",
        "tests/test_recurrent.py",
    ),
    Mutant(
        "a sequence of padding alone has the state of its first step",
        "runtime/modules/recurrent.py",
        "return output, tuple(torch.where(has_any, new, old) for new, old in zip(after, states, strict=True))",
        "return output, after",
        "tests/test_masks.py -k sequential",
    ),
    Mutant(
        "rounding passes no gradient on",
        "runtime/modules/layers.py",
        "return x + (rounded - x).detach()",
        "return x + (rounded - x)",
        "tests/test_port_quantized.py",
    ),
    Mutant(
        "a step that sees none attends to all alike",
        "runtime/modules/attention.py",
        ".softmax(-1).masked_fill(~seen, 0)",
        ".softmax(-1)",
        "tests/test_edges.py -k see",
    ),
    Mutant(
        "the moving variance is not scaled back",
        "runtime/modules/normalization.py",
        "variance.copy_(moving / correction)",
        "variance.copy_(moving)",
        "tests/layers/test_layers.py",
    ),
    # -- modules ------------------------------------------------------------------------------------------------------
    Mutant(
        "the damping of momentum is left out of a proximal step",
        "modules/binding.py",
        'return group["lr"] * (1 - group["dampening"]) / (1 - momentum)',
        'return group["lr"] / (1 - momentum)',
        "tests/test_binding.py -k momentum",
    ),
    Mutant(
        "the optimizer's own decay is lost",
        "modules/binding.py",
        'group["weight_decay"] = decay + 2 * sum',
        'group["weight_decay"] = 2 * sum',
        "tests/test_binding.py",
    ),
    Mutant(
        "a group lasso on the gradient route does not follow its schedule",
        "modules/binding.py",
        "gradient = gradient * (part.factor * scale)",
        "gradient = gradient * scale",
        "tests/test_schedules.py tests/test_binding.py",
    ),
    Mutant(
        "an embedding's outputs are its rows",
        "modules/regularizing.py",
        "isinstance(owner, (nn.modules.conv._ConvTransposeNd, nn.Embedding))",
        "isinstance(owner, nn.modules.conv._ConvTransposeNd)",
        "tests/test_regularizing.py",
    ),
    Mutant(
        "a parameter that modules share has a penalty for each",
        "modules/regularizing.py",
        "if own in part._parameters and qualified not in named:",
        "if False:",
        "tests/test_regularizing.py",
    ),
    Mutant(
        "a source more than is to be kept is kept",
        "modules/building.py",
        "self.forget(keep=self.kept - 1)",
        "self.forget(keep=self.kept)",
        "tests/test_building.py",
    ),
    Mutant(
        "the strength of a function that has none is 1",
        "modules/measuring.py",
        "factor if strength is None else strength * factor",
        "1.0 if strength is None else strength * factor",
        "tests/test_measuring.py tests/test_schedules.py",
    ),
    # -- keras --------------------------------------------------------------------------------------------------------
    Mutant(
        "a low-rank update is not divided by its rank",
        "keras/weights.py",
        'float(config["lora_alpha"]) / rank * (a @ b)',
        'float(config["lora_alpha"]) * (a @ b)',
        "tests/test_port_quantized.py",
    ),
    Mutant(
        "a frozen wrapper freezes what Keras trains",
        "keras/quirks.py",
        'return {**config, "trainable": True}',
        "return config",
        "tests/test_port_options.py tests/test_port_values.py",
    ),
    Mutant(
        "a normalization is folded past a penalty on what it gives",
        "keras/conversion/folding.py",
        "            closed |= {before} if activity else set()\n",
        "",
        "tests/test_folding.py",
    ),
    Mutant(
        "a normalization is folded into what another layer takes too",
        "keras/conversion/folding.py",
        "            uses[before] = uses[name]\n",
        "",
        "tests/test_folding.py",
    ),
    Mutant(
        "an error as large as rounding makes is allowed without a bound",
        "keras/verification/comparing.py",
        "allowed = min(MARGIN * moves[check.sort], MOST)",
        "allowed = MARGIN * moves[check.sort]",
        "tests/test_verifying.py -k rounding",
    ),
    Mutant(
        "numbers that are not finite on one side only pass",
        "keras/verification/comparing.py",
        "is_same = (a == b) | (a.isnan() & b.isnan())",
        "is_same = (a == b) | a.isnan() | b.isnan()",
        "tests/test_verifying.py -k differences",
    ),
    Mutant(
        "masks are settled once",
        "keras/masks.py",
        "for _ in range(2):",
        "for _ in range(1):",
        "tests/test_masks.py -k graphs",
    ),
    Mutant(
        "a half of the smoothing of binary labels is left out",
        "keras/training/losses.py",
        "+ {smoothing / 2:.7g}",
        "+ {smoothing:.7g}",
        "tests/test_keras_training.py",
    ),
    Mutant(
        "a warm-up's steps count in the cosine after it",
        "keras/training/optimizers.py",
        'start, step = peak, f"step - {warm}"',
        'start, step = peak, "step"',
        "tests/test_keras_training.py",
    ),
    Mutant(
        "a layer of Keras 1 has its recurrent regularizer, whatever Keras did with it",
        "keras/quirks.py",
        'return {**fields, "recurrent_regularizer": fields.get("kernel_regularizer")}',
        "return fields",
        "tests/test_keras2.py",
    ),
    Mutant(
        "numbers that are none count as 0 in a running product",
        "keras/operations/rules.py",
        'number = {"nan": 1.0} if operation.name.endswith("prod") else {}',
        "number: dict[str, float] = {}",
        "tests/test_port_operations.py",
    ),
    Mutant(
        "a running sum from the end that leaves itself out is not",
        "keras/operations/tensorflow_math.py",
        'return call.to("Subtract", x1=total, x2=x) if call["exclusive"] else total',
        'return call.to("Subtract", x1=total, x2=turned) if call["exclusive"] else total',
        "tests/test_tensorflow_functions.py",
    ),
    # -- report, training, cli ----------------------------------------------------------------------------------------
    Mutant(
        "a term of a block is left out of the table of terms",
        "report/findings.py",
        'found += [] if node.is_again else _regularizers(node.block, f"{prefix}{node.name}.")',
        "found += [] if node.is_again else _regularizers(node.block, prefix)",
        "tests/test_report.py",
    ),
    Mutant(
        "weights that are not trained count in a report",
        "report/weights.py",
        "if (weight.trainable and not weight.frozen) or weight.name in regularizers:",
        "if weight.trainable or weight.name in regularizers:",
        "tests/test_report.py",
    ),
    Mutant(
        "a metric that is missing in an epoch is left out",
        "report/runs.py",
        "for name, values in found.items() if np.isfinite(values).any()}",
        "for name, values in found.items() if np.isfinite(values).all()}",
        "tests/test_report.py",
    ),
    Mutant(
        "a smaller part of a batch counts as much as a larger",
        "training/module.py",
        "return 1.0 if processes == 1 else count * processes / self.batches.whole(index)",
        "return 1.0",
        "tests/test_processes.py",
    ),
    Mutant(
        "a probability above 0 is a yes",
        "training/module.py",
        "(0.5 if self.gives_probabilities else 0.0)",
        "0.0",
        "tests/test_training.py tests/test_data.py",
    ),
    Mutant(
        "each epoch takes the examples in the same order",
        "training/batches.py",
        "self.seed * 1_000_003 + self.epoch",
        "self.seed * 1_000_003",
        "tests/test_training.py tests/test_resuming.py",
    ),
    Mutant(
        "of equal scores the later wins, whatever its loss",
        "training/tuning/scores.py",
        "return (-score if self.is_maximized else score, loss, trial.number)",
        "return (-score if self.is_maximized else score, 0.0, -trial.number)",
        "tests/test_tuning.py",
    ),
    Mutant(
        "images are not scaled where they are in half precision",
        "training/data/images.py",
        "if self.form.dtype.is_floating_point:",
        "if self.form.dtype == torch.float32:",
        "tests/test_data.py",
    ),
    Mutant(
        "the tolerance of a verification is not passed on",
        "cli/porting.py",
        "made.verify(tolerance=tolerance) if verify",
        "made.verify() if verify",
        "tests/test_verifying.py -k command",
    ),
    Mutant(
        "a command has vanished",
        "cli/language.py",
        '@app.command(epilog="Example: `regspec kinds Dense`")\n',
        "",
        "tests/test_readme.py -k table",
    ),
    Mutant(
        "a value that is given twice is taken once",
        "cli/application.py",
        "        if name in values:\n",
        "        if False:\n",
        "tests/test_cli.py",
    ),
    Mutant(
        "show does not take values of parameters",
        "cli/specs.py",
        "resolved = graph_of(spec, parameters=parameters(set))",
        "resolved = graph_of(spec)",
        "tests/test_cli.py",
    ),
)
