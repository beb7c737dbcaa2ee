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
    tests: str  # which fail, most likely, as arguments of pytest: tried before the whole gate

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
    # -- text ----------------------------------------------------------------------------------------------------------
    Mutant(
        "an interrupt leaves a folder half written",
        "text/files.py",
        "except BaseException:  # an interrupt too",
        "except Exception:",
        "tests/test_files.py",
    ),
    Mutant(
        "a text that begins with a number is taken for one",
        "text/document.py",
        "return _EXPONENT.fullmatch(text) is not None",
        "return _EXPONENT.match(text) is not None",
        "tests/test_surface.py -k texts",
    ),
    # -- code ----------------------------------------------------------------------------------------------------------
    Mutant(
        "outputs of a transposed convolution are looked for along its last axis",
        "code/axes.py",
        "return found if found or self.inputs or not self.keras else (self.last,)",
        "return (self.last,)",
        "tests/test_groups.py",
    ),
    Mutant(
        "what an equation sums over is taken for the outputs of its kernel",
        "layers/dense.py",
        '"o" if each in outputs else "i" if each in inputs',
        '"o" if each in inputs else "i" if each in outputs',
        "tests/test_groups.py",
    ),
    # -- language ------------------------------------------------------------------------------------------------------
    Mutant(
        "the seed of an initializer that torch has is lost",
        "language/initializers.py",
        "return call(same.function, *same.arguments, **dict(same.keywords), generator=self.generator)",
        "return call(same.function, *same.arguments, **dict(same.keywords))",
        "tests/test_initializers.py -k seed",
    ),
    Mutant(
        "only the first of several penalties is checked for its slot",
        "language/regularizers.py",
        ("        for part in self._penalties:\n            if slot"),
        ("        for part in self._penalties[:1]:\n            if slot"),
        "tests/test_faults.py",
    ),
    Mutant(
        "a constraint over a folded axis is not refused",
        "language/constraints.py",
        "if any(not set(pattern.torch[index]) <= names for index in groups):",
        "if False:",
        "tests/test_faults.py",
    ),
    # -- specs ---------------------------------------------------------------------------------------------------------
    Mutant(
        "an exception of a rule matches the beginnings of names",
        "specs/rules.py",
        (
            "        if self.layers is not None and not re.fullmatch(self.layers, name):\n"
            "            return False\n"
            "        return self.except_ is None or not re.fullmatch(self.except_, name)"
        ),
        (
            "        if self.layers is not None and not re.fullmatch(self.layers, name):\n"
            "            return False\n"
            "        return self.except_ is None or not re.match(self.except_, name)"
        ),
        "tests/test_patterns.py",
    ),
    Mutant(
        "a choice inside two pairs of parentheses may be repeated",
        "specs/patterns.py",
        "groups[-1].chooses = groups[-1].chooses or last.chooses or last.is_choice",
        "groups[-1].chooses = groups[-1].chooses or last.is_choice",
        "tests/test_patterns.py",
    ),
    # -- layers --------------------------------------------------------------------------------------------------------
    Mutant(
        "the forget gate's ones are at the input gate",
        "layers/cells.py",
        "ones = (self.units, 2 * self.units) if self.unit_forget_bias",
        "ones = (0, self.units) if self.unit_forget_bias",
        "tests/test_recurrent.py -k chain",
    ),
    Mutant(
        "renorm takes the momentum of the moving averages",
        "layers/normalization.py",
        "renorm_momentum=unless(0.01, round(1 - self.renorm_momentum, 12))",
        "renorm_momentum=unless(0.01, round(1 - self.momentum, 12))",
        "tests/layers/test_layers.py -k renorm",
    ),
    Mutant(
        "zeros before the maximum of any numbers are its own padding",
        "targets/torch/padding.py",
        "is_maximum = is_not_negative and",
        "is_maximum =",
        "tests/test_own_padding.py",
    ),
    Mutant(
        "zeros that another layer takes too are taken out",
        "targets/torch/padding.py",
        "uses[step.inputs[0]] > 1 or ",
        "",
        "tests/test_own_padding.py",
    ),
    Mutant(
        "a port forgets that Keras's moving variance is biased",
        "keras/reading/layers.py",
        '{**fields, "moving_variance": "biased"}',
        "fields",
        "tests/test_stock_modules.py -k port",
    ),
    Mutant(
        "unmasked steps move the variance as if it were biased",
        "runtime/modules/normalization.py",
        "spread if biased else spread * number / (number - 1).clamp_min(1)",
        "spread",
        "tests/test_stock_modules.py -k unmasked",
    ),
    Mutant(
        "a masked recurrent layer is exported with packed sequences",
        "runtime/modules/recurrent.py",
        "is_packed = mask is not None and torch.compiler.is_exporting()",
        "is_packed = False",
        "tests/test_exports.py -k bilstm",
    ),
    Mutant(
        "a layer has a name that a traced module has itself",
        "targets/torch/steps.py",
        'f"{first}_" if first in OF_TRACED else first',
        "first",
        "tests/test_exports.py -k names",
    ),
    Mutant(
        "the kernel of a transposed convolution is normalized along its outputs",
        "layers/spectral.py",
        "dim=unless(0, kernel.pattern.last),",
        "dim=unless(0, kernel.pattern.output),",
        "tests/layers/test_layers.py -k Spectral",
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
        ("        return _either(masks) if len(masks) == len(others) + 1 else None\n\n    def lower"),
        ("        return _either(masks) if masks else None\n\n    def lower"),
        "tests/test_masks.py -k smallest",
    ),
    # -- graph ---------------------------------------------------------------------------------------------------------
    Mutant(
        "a mask that is named need not fit",
        "graph/masks.py",
        "        if mask.rank > x.rank or any(None not in pair and pair[0] != pair[1] for pair in sizes):\n",
        "        if False:\n",
        "tests/test_masks.py",
    ),
    Mutant(
        "modules run in another order than they stand",
        "targets/torch/inlined.py",
        "    if len(statement.made_of) > 1 and any(isinstance(each, Apply) for each in found[: taken[0]]):\n",
        "    if False:\n",
        "tests/test_inlined.py",
    ),
    Mutant(
        "a formula of a sum has no brackets",
        "targets/torch/parameters.py",
        'texts.append(text if are_products or _is_name(text) else f"({text})")',
        "texts.append(text)",
        "tests/test_block_classes.py",
    ),
    Mutant(
        "layers on inputs that share a mask are those on inputs that do not",
        "graph/resolved.py",
        ("    yield from map(masks.index, masks)\n"),
        "",
        "tests/test_edges.py -k sums",
    ),
    Mutant(
        "layers on tensors whose axes a spec counts otherwise are one",
        "graph/resolved.py",
        "yield x.shape, x.order, x.dtype, x.spec_order, x.is_open",
        "yield x.shape, x.order, x.dtype, x.is_open",
        "tests/layers/test_layouts.py -k beside",
    ),
    Mutant(
        "the channels that are summed are no longer those that the weights add",
        "layers/following.py",
        "found = channels.intersection(output) or new",
        "found = channels.intersection(output)",
        "tests/layers/test_axes.py -k equation",
    ),
    Mutant(
        "an axis that goes takes the meaning of the others with it",
        "layers/following.py",
        "return axes.without(x.spec_order, gone)",
        "return axes.identity(rank)",
        "tests/layers/test_axes.py -k squeeze",
    ),
    Mutant(
        "axes that a layer names are turned where the spec counts as Keras does",
        "graph/resolved.py",
        "if layer.gives_as_written and not x.is_open:",
        "if False:",
        "tests/layers/test_wrappers.py -k said",
    ),
    Mutant(
        "a layer that asks for no meaning tells one",
        "graph/readings.py",
        " or not (first.says_layout or first.reads_axes):",
        ":",
        "tests/layers/test_axes.py -k relu",
    ),
    Mutant(
        "a kind is known by a field",
        "graph/resolved.py",
        "takes_indices = layer.index_limit is not None",
        'takes_indices = hasattr(layer, "input_dim")',
        "tests/test_house.py -k kind",
    ),
    Mutant(
        "a kind is known by its name, in a table",
        "graph/resolved.py",
        "spec_order = layer.output_spec_order(len(shape), *xs)",
        'spec_order = None if type(layer).__name__ in {"Permute"} else layer.output_spec_order(len(shape), *xs)',
        "tests/test_house.py -k kind",
    ),
    # -- views ---------------------------------------------------------------------------------------------------------
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
    # -- targets -------------------------------------------------------------------------------------------------------
    Mutant(
        "a quote in a text is not escaped",
        "targets/python/printing.py",
        "if single.startswith(\"'\") and '\"' not in text:",
        'if single.startswith("\'"):',
        "tests/test_printing.py -k literal",
    ),
    Mutant(
        "a sum that a class computes is an operand without brackets",
        "targets/python/printing.py",
        'return _STRENGTH[text[left.end_col_offset : right.col_offset].strip(" ()")]',
        'return _STRENGTH["*"]',
        "tests/test_block_classes.py -k operand",
    ),
    Mutant(
        "blocks that start otherwise are one class",
        "targets/torch/classes.py",
        "self.init, self.fills, self.signature",
        "self.init, self.signature",
        "tests/test_initializers.py -k otherwise",
    ),
    Mutant(
        "in a file that stands alone, a block begins a forward of its own",
        "runtime/standalone/regularized.py",
        'if getattr(_forward, "heard", None) is not None or torch',
        "if torch",
        "tests/test_standalone.py -k blocks",
    ),
    Mutant(
        "in a file that stands alone, a weight that is tied counts twice",
        "runtime/standalone/regularized.py",
        "if not is_tied and (",
        "if (",
        "tests/test_standalone.py -k tied",
    ),
    Mutant(
        "what is for activities is printed where there are none",
        "targets/torch/standalone.py",
        "not in {None, *features}:",
        "not in {None, 'activities', *features}:",
        "tests/test_standalone.py -k short",
    ),
    Mutant(
        "the decorators of the runtime's classes are left out",
        "targets/torch/standalone.py",
        "return min([statement.lineno, *(each.lineno for each in decorators)])",
        "return statement.lineno",
        "tests/test_edges.py -k alone",
    ),
    Mutant(
        "the type of a layer is not said in Keras's code",
        "targets/keras/calls.py",
        "dtype = layer.precision or self.graph.dtype",
        "dtype = self.graph.dtype",
        "tests/test_keras_code.py -k precision",
    ),
    Mutant(
        "Keras's code gives tensors of several ranks as the first lies",
        "layers/layer.py",
        "        return [axes.identity(x.rank) for x in xs]\n",
        "        return [x.spec_order for x in xs]\n",
        "tests/layers/test_keras_layouts.py -k pooled",
    ),
    Mutant(
        "Keras's code names the axes of a normalization that its torch backend takes for the last",
        "layers/normalization.py",
        "return x.spec_order if places == sorted(places) and places[-1] == x.rank - 1 else self.order(x)",
        "return x.spec_order",
        "tests/layers/test_keras_layouts.py -k RMSNormalization",
    ),
    Mutant(
        "a layer that is called again on another layout has the inputs of that call in Keras's code",
        "targets/keras/calls.py",
        "        return first.inputs\n",
        "        return node.inputs\n",
        "tests/layers/test_keras_layouts.py -k again",
    ),
    Mutant(
        "TimeDistributed keeps the order of axes that a Permute gives",
        "layers/wrappers.py",
        "rank == x.rank and self.layer.keeps_axes",
        "rank == x.rank",
        "tests/layers/test_layouts.py -k turned",
    ),
    Mutant(
        "a file of Keras has layers in the order of the spec",
        "targets/keras/order.py",
        "key=lambda layer: (-of_layers[layer], found[layer])",
        "key=[*of_layers].index",
        "tests/test_to_keras.py -k order",
    ),
    Mutant(
        "gates go back to Keras in torch's order",
        "layers/arrays.py",
        "gates[..., np.argsort(weight.chunks), :]",
        "gates",
        "tests/layers/test_to_keras.py -k GRU",
    ),
    Mutant(
        "masks are left to Keras to hand on",
        "targets/keras/calls.py",
        'return {"mask": _one_or_list(known)} if None not in known else {}',
        "return {}",
        "tests/test_to_keras.py -k lost",
    ),
    # -- runtime -------------------------------------------------------------------------------------------------------
    Mutant(
        "the output of evaluation that is changed in place later is not copied",
        "runtime/penalties/listeners.py",
        "each if each[2] is None or each[0] in changed else",
        "each if each[2] is None else",
        "tests/test_settings.py -k place",
    ),
    Mutant(
        "what a model gives in evaluation is kept as its caller may change it",
        "runtime/penalties/listeners.py",
        "_apart(each) if id(each[2]) in given else each for each in heard",
        "each for each in heard",
        "tests/test_heard_outputs.py -k after_the_forward",
    ),
    Mutant(
        "outputs of inference mode, which have no versions, are kept without a copy",
        "runtime/penalties/listeners.py",
        "notes.heard.append((listener, output.clone(), None, COPY, None))",
        "notes.heard.append((listener, output, None, COPY, None))",
        "tests/test_heard_outputs.py -k after_the_forward",
    ),
    Mutant(
        "the room for outputs without gradients begins anew in each of several forwards",
        "runtime/penalties/regularized.py",
        "heard, state.room = settled(notes, (output, args, kwargs)), notes.room",
        "heard = settled(notes, (output, args, kwargs))",
        "tests/test_heard_outputs.py -k mebibyte",
    ),
    Mutant(
        "whether outputs are changed in place is learnt for training and evaluation at once",
        "runtime/penalties/listeners.py",
        "self.mode = 2 * is_training + self.has_gradients if has_versions else 4",
        "self.mode = 0 if has_versions else 4",
        "tests/test_heard_outputs.py -k learn_apart",
    ),
    Mutant(
        "what is heard twice hides what is not heard",
        "runtime/penalties/missed.py",
        "missing := listeners.difference([each[0] for each in heard])",
        "missing := listeners.difference([each[0] for each in heard]) if len(heard) < len(listeners) else None",
        "tests/test_missed_penalties.py",
    ),
    Mutant(
        "weights that hooks compute are left out beside parametrized ones",
        "runtime/penalties/weights.py",
        "return [*parametrized, *_hooks(owner)]",
        "return [*parametrized] or [*_hooks(owner)]",
        "tests/test_other_modules.py -k computed",
    ),
    Mutant(
        "the gradient that is differentiated again lacks the factor of 2",
        "runtime/kernels/fused.py",
        "(gradient * (l1 * x.sign() + 2 * l2 * x))",
        "(gradient * (l1 * x.sign() + l2 * x))",
        "tests/test_penalties.py -k double",
    ),
    Mutant(
        "a hook after the accumulation of a gradient does not see the penalty's",
        "runtime/kernels/fused.py",
        "x.is_cuda or x._backward_hooks or x._post_accumulate_grad_hooks",
        "x.is_cuda or x._backward_hooks",
        "tests/test_steps.py -k hook",
    ),
    Mutant(
        "gates share the noise of their inputs",
        "runtime/modules/recurrent.py",
        "gates = self.gates if self.recurrent_dropout else 1",
        "gates = 1",
        "tests/test_recurrent.py -k noise",
    ),
    Mutant(
        "a sequence of padding alone has the state of its first step",
        "runtime/modules/recurrent.py",
        "return output, tuple(torch.where(has_any, new, old) for new, old in zip(after, states, strict=True))",
        "return output, after",
        "tests/test_recurrent.py -k alone",
    ),
    Mutant(
        "the penalty on a sample's Gaussians is beside what is computed",
        "runtime/modules/dropout.py",
        "mean, log_var = self.kl(torch.cat([mean, log_var], self.dim)).chunk(2, self.dim)",
        "self.kl(torch.cat([mean, log_var], self.dim))",
        "tests/test_sampling.py -k gradient_route",
    ),
    Mutant(
        "a rule's own reduction is not heard",
        "modules/regularizing.py",
        'reduction = each.regularizer.reduction or "mean"',
        'reduction = "mean"',
        "tests/test_reduction.py -k not_compiled",
    ),
    Mutant(
        "equal penalties that are reduced otherwise are one statement",
        "targets/torch/terms.py",
        "grouped(penalized, lambda each: (each[1].constructor, each[1].reduction))",
        "grouped(penalized, lambda each: (each[1].constructor, None))",
        "tests/test_reduction.py",
    ),
    Mutant(
        "rounding passes no gradient on",
        "runtime/modules/layers.py",
        "return x + (rounded - x).detach()",
        "return x + (rounded - x)",
        "tests/test_port_quantized.py -k rounded",
    ),
    # -- modules -------------------------------------------------------------------------------------------------------
    Mutant(
        "names of parameters stay where the parameters were",
        "modules/decays.py",
        "named = {NAMES: [names[each] for each in parameters]} if NAMES in group else {}",
        "named = {}",
        "tests/test_routes.py -k names",
    ),
    Mutant(
        "what is on another route is named as unread",
        "runtime/penalties/missed.py",
        " and bool(term.on_loss())",
        "",
        "tests/test_routes.py -k nobody",
    ),
    Mutant(
        "the step of a bias's group lasso is that of one group",
        "runtime/penalties/regularizers.py",
        "torch.linalg.vector_norm(wide, dim=rest, keepdim=True) if rest else wide.abs()",
        "torch.linalg.vector_norm(wide, dim=rest, keepdim=True)",
        "tests/test_routes.py -k soft",
    ),
    Mutant(
        "a group lasso on the gradient route does not follow its schedule",
        "modules/routes.py",
        "add_to_grad(parameter, gradient * (part.factor * scale * signs[parameter]))",
        "add_to_grad(parameter, gradient * (scale * signs[parameter]))",
        "tests/test_schedules.py -k routes",
    ),
    Mutant(
        "an embedding's outputs are its rows",
        "modules/weights.py",
        'nn.EmbeddingBag)):\n        return Weight("kernel", Dimensions(1, 0))',
        'nn.EmbeddingBag)):\n        return Weight("kernel", Dimensions(0, 1))',
        "tests/test_regularizing.py -k encoder",
    ),
    Mutant(
        "the axes of a weight of another class are guessed",
        "modules/weights.py",
        "return places[0] if len(places) == 1 else None",
        "return places[0] if places else None",
        "tests/test_other_modules.py -k axes",
    ),
    Mutant(
        "a parameter that modules share has a penalty for each",
        "modules/regularizing.py",
        "named = {name for name, _ in module.named_parameters()}",
        "named = {name for name, _ in module.named_parameters(remove_duplicate=False)}",
        "tests/test_regularizing.py -k share",
    ),
    Mutant(
        "the strength of a function that has none is 1",
        "modules/measuring.py",
        "factor if strength is None else strength * factor",
        "1.0 if strength is None else strength * factor",
        "tests/test_measuring.py -k schedule",
    ),
    # -- keras ---------------------------------------------------------------------------------------------------------
    Mutant(
        "a frozen wrapper freezes what Keras trains",
        "keras/configs/quirks.py",
        'return {**config, "trainable": True}',
        "return config",
        "tests/test_recurrent.py -k frozen",
    ),
    Mutant(
        "a normalization is folded past a penalty on what it gives",
        "keras/conversion/folding.py",
        ("            closed |= {before} if activity else set()\n"),
        "",
        "tests/test_folding.py -k penalized",
    ),
    Mutant(
        "a normalization is folded into what another layer takes too",
        "keras/conversion/folding.py",
        ("            uses[before] = uses[name]\n"),
        "",
        "tests/test_folding.py -k branched",
    ),
    Mutant(
        "numbers that are not finite on one side only pass",
        "keras/verification/comparing.py",
        "is_same = (a == b) | (a.isnan() & b.isnan())",
        "is_same = (a == b) | a.isnan() | b.isnan()",
        "tests/test_verifying.py -k differences",
    ),
    Mutant(
        "an error as large as rounding makes is allowed without a bound",
        "keras/verification/comparing.py",
        "allowed = min(MARGIN * moves[check.sort], MOST)",
        "allowed = MARGIN * moves[check.sort]",
        "tests/test_verifying.py -k rounding",
    ),
    Mutant(
        "numbers that are none count as 0 in a running product",
        "keras/operations/rules.py",
        'number = {"nan": 1.0} if operation.name.endswith("prod") else {}',
        "number: dict[str, float] = {}",
        "tests/test_port_operations.py -k nancumprod",
    ),
    Mutant(
        "a running sum from the end that leaves itself out is not",
        "keras/operations/tensorflow_math.py",
        'return call.to("Subtract", x1=total, x2=x) if call["exclusive"] else total',
        'return call.to("Subtract", x1=total, x2=turned) if call["exclusive"] else total',
        "tests/test_tensorflow_functions.py",
    ),
    # -- report --------------------------------------------------------------------------------------------------------
    Mutant(
        "the term of a block has no regularizer in the table of terms",
        "report/findings.py",
        'found += [] if node.is_again else _regularizers(root, node.block, f"{prefix}{node.path}.")',
        "found += [] if node.is_again else _regularizers(root, node.block, prefix)",
        "tests/test_report.py -k blocks",
    ),
    Mutant(
        "a metric that is missing in an epoch is left out",
        "report/runs.py",
        "for name, values in found.items() if np.isfinite(values).any()}",
        "for name, values in found.items() if np.isfinite(values).all()}",
        "tests/test_report.py -k blocks",
    ),
    # -- training ------------------------------------------------------------------------------------------------------
    Mutant(
        "a probability above 0 is a yes",
        "training/measures/objective.py",
        "middle = 0.5 if self.gives_probabilities else 0.0",
        "middle = 0.0",
        "tests/test_objective.py -k right",
    ),
    Mutant(
        "metrics of quantities are of logarithms",
        "training/measures/objective.py",
        'return output.exp() if reads == "logarithms" else output',
        "return output",
        "tests/test_metrics.py -k units",
    ),
    Mutant(
        "each epoch takes the examples in the same order",
        "training/loop/batches.py",
        "torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)",
        "torch.Generator().manual_seed(self.seed * 1_000_003)",
        "tests/test_training.py -k epoch",
    ),
    Mutant(
        "a batch's share of a step is that of its examples, whatever counts in it",
        "training/loop/module.py",
        "return own * parts / whole.clamp_min(1)",
        "return (own * parts / whole)[0].expand(len(own))",
        "tests/test_shares.py -k places",
    ),
    Mutant(
        "a forward's whole weights are averaged in place of the shards",
        "training/loop/averaging.py",
        "        reshard()\n",
        "        pass\n",
        "tests/test_processes.py -k resumed",
    ),
    Mutant(
        "a stream's loader draws the same in each epoch",
        "training/loop/batches.py",
        "torch.manual_seed(self.seed * 1_000_003 + self.epoch)\n        for index",
        "torch.manual_seed(self.seed * 1_000_003)\n        for index",
        "tests/test_streams.py -k order_of_its_own",
    ),
    Mutant(
        "examples that weigh nothing are among the worst",
        "training/runs/judging.py",
        "order[weights[order] > 0][:WORST]",
        "order[:WORST]",
        "tests/test_judging.py -k weigh",
    ),
    Mutant(
        "a search begins before a schedule is found that does not fit the run",
        "training/loop/task.py",
        "if self.options.schedule is not None:",
        "if False:",
        "tests/test_tuning.py -k warmup",
    ),
    Mutant(
        "folds of other sizes are other data",
        "report/findings.py",
        "return train + held_out if",
        "return train if",
        "tests/test_report.py -k ranked",
    ),
    Mutant(
        "a class that a batch has and the model has not is told by the batch's row",
        "training/data/encoding.py",
        "rows[place // max(1, math.prod(goal.shape[1:]))]",
        "place // max(1, math.prod(goal.shape[1:]))",
        "tests/test_datasets.py -k faults",
    ),
    Mutant(
        "an array that was changed in memory loses its changes",
        "training/data/mapped.py",
        'or array.mode == "c"',
        'or array.mode == "w"',
        "tests/test_mapped.py",
    ),
    Mutant(
        "images are not scaled where they are in half precision",
        "training/data/images.py",
        "if form.dtype.is_floating_point:",
        "if form.dtype == torch.float32:",
        "tests/test_data.py -k images_fit",
    ),
    Mutant(
        "a penalty that takes another weight reads it when the penalty is read, and not in the forward",
        "runtime/penalties/listeners.py",
        "is_traced or self.takes_weights:",
        "is_traced:",
        "tests/test_other_weights.py -k put_in_place",
    ),
    # -- cli -----------------------------------------------------------------------------------------------------------
    Mutant(
        "the tolerance of a verification is not passed on",
        "cli/porting.py",
        "Request(file, options, imports, tolerance)",
        "Request(file, options, imports, 2e-4)",
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
        "a layer with weights counts once in files of tf.keras 2.12",
        "keras/arrays/groups.py",
        "number + (2 if is_double else 1)",
        "number + 1",
        "tests/test_port_groups.py",
    ),
    Mutant(
        "HDF5 makes room for texts before their lengths are looked at",
        "keras/arrays/headers.py",
        "if sum(length for length, _ in texts) > len(self.data):",
        "if sum(length for length, _ in texts) > 2**40:",
        "tests/test_hostile_hdf5.py -k texts",
    ),
    Mutant(
        "a piece that is too short is filled up with other memory",
        "keras/arrays/pieces.py",
        "if length != size:",
        "if length > size:",
        "tests/test_hostile_hdf5.py -k pieces",
    ),
    Mutant(
        "a link beside a model of TensorFlow.js is followed",
        "keras/formats/folders.py",
        "if not any(target.is_relative_to(root) for root in (own, *_caches(own))):",
        "if False:",
        "tests/test_port_tfjs.py -k lie",
    ),
    Mutant(
        "an alias of YAML counts as nothing",
        "keras/formats/yamls.py",
        "count=named.count, depth=named.depth",
        "depth=named.depth",
        "tests/test_recognition.py -k yaml",
    ),
    Mutant(
        "hints are said again and again",
        "text/problems.py",
        "said |= {problem.hint} if problem.hint else set()",
        "said |= set()",
        "tests/test_port_places.py -k once",
    ),
    # -- units --------------------------------------------------------------------------------------------------------
    Mutant(
        "what takes a unit is in its group",
        "graph/coupled.py",
        'if roles[key][0] != "takes" and key[:2] in trained:',
        "if key[:2] in trained:",
        "tests/test_units.py -k group",
    ),
    Mutant(
        "a unit that stays is penalized",
        "graph/coupled.py",
        "if units.why_kept(root) is None:",
        "if True:",
        "tests/test_units.py -k faults",
    ),
    Mutant(
        "pieces of a weight are one run",
        "targets/torch/coupled.py",
        "if length == each and start == before + parts * units * each:",
        "if length == each:",
        "tests/test_units.py -k group",
    ),
    Mutant(
        "a frozen parameter is in the norm of a group",
        "runtime/penalties/units.py",
        "weight_at(module, way, self.counts_frozen) if is_first",
        "weight_at(module, way, True) if is_first",
        "tests/test_units.py -k frozen",
    ),
    Mutant(
        "a parameter without a gradient moves with its units",
        "modules/routes.py",
        "return 0.0  # the optimizer left it alone",
        "return 0.1  # the optimizer left it alone",
        "tests/test_units.py -k move",
    ),
    Mutant(
        "each parameter of a unit has a threshold of its own",
        "modules/routes.py",
        "is_one = not any(isinstance(size, Tensor) or size != sizes[0] for size in sizes)",
        "is_one = not any(size is None for size in sizes)",
        "tests/test_units.py -k adam",
    ),
    # -- shrinking -----------------------------------------------------------------------------------------------------
    Mutant(
        "a constant beside zeros of padding goes into a bias",
        "layers/convolution.py",
        "folds = () if self.adds_zeros else",
        "folds = () if False else",
        "tests/test_shrinking.py -k goes",
    ),
    Mutant(
        "a unit goes that one of a sum's inputs needs",
        "layers/ties.py",
        "places = tuple(Place(i, own[i]) for i, each in sizes.items() if each == size)",
        "places = tuple(Place(i, own[i]) for i, each in sizes.items() if each == size)[:1]",
        "tests/test_shrinking.py -k goes",
    ),
    Mutant(
        "a softmax does without a unit",
        "layers/ties.py",
        "if function.along is None or function.along % rank == axis:",
        "if function.along is None:",
        "tests/test_shrinking.py -k goes",
    ),
    Mutant(
        "a recurrent unit goes that others hang on",
        "modules/shrinking/live.py",
        "is_inner or number in repeated:",
        "is_inner:",
        "tests/test_shrinking.py -k goes",
    ),
    Mutant(
        "units of groups go that leave the groups uneven",
        "modules/shrinking/choosing.py",
        "parted = [(tie, own) for tie, own in zip(ties, roots, strict=True) if tie.parts > 1]",
        "parted = [(tie, own) for tie, own in zip(ties, roots, strict=True) if tie.parts > 9]",
        "tests/test_shrinking.py -k goes",
    ),
    Mutant(
        "a layer that is called again goes by its last call",
        "graph/units.py",
        'path = f"{within}{first.name}"',
        'path = f"{within}{node.name}"',
        "tests/test_shrinking.py -k goes",
    ),
    Mutant(
        "what a product makes zero counts",
        "modules/shrinking/live.py",
        "flags &= ~zeros",
        "flags &= flags",
        "tests/test_shrinking.py -k goes",
    ),
    Mutant(
        "a shrunk block has one number for all of its copies",
        "modules/shrinking/writing.py",
        "if any(len({*map(repr, each)}) > 1 for each in column):",
        "if any(len({*map(repr, each)}) > 9 for each in column):",
        "tests/test_shrinking.py -k copies",
    ),
    Mutant(
        "each strength of a path begins anew",
        "training/tuning/path.py",
        "options = replace(options, weights=str(path.folder / last.run), weights_skip=skip, epochs=epochs)",
        "options = replace(options, epochs=epochs)",
        "tests/test_paths.py -k command",
    ),
    Mutant(
        "the simplest strength of a path is the weakest that is good enough",
        "training/tuning/points.py",
        "return next(each for each in self.scored if",
        "return next(each for each in self.scored[::-1] if",
        "tests/test_paths.py -k simplest",
    ),
    Mutant(
        "a strength that others share is changed for these too",
        "training/tuning/strengths.py",
        "if place in mine and each not in terms]:",
        "if place in mine and each not in now]:",
        "tests/test_paths.py -k can_not",
    ),
)
