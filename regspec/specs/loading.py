"""From a document to a ModelSpec: parameters put in, blocks unfolded, every field validated, every fault collected."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from regspec.code.expressions import Itself
from regspec.language.fields import Frozen
from regspec.layers import KINDS, Layer, find_kind
from regspec.layers.layer import Placement
from regspec.specs import synonyms
from regspec.specs.copies import arguments_of_copies, hint_at_copies, without_copies
from regspec.specs.formulas import formulas_of
from regspec.specs.items import MAX_ENTRIES, Item, items_of, name_items, refuse_size
from regspec.specs.model import (
    BlockUse,
    Body,
    Copy,
    Entry,
    Invalid,
    LayerCall,
    LayerUse,
    ModelSpec,
    Outputs,
    names_of_copies,
    size_of,
)
from regspec.specs.parameters import defaults, places_of, plain, resolved, substitute
from regspec.specs.rules import ModuleRule, RulesFile
from regspec.specs.searches import Search, Searched, is_searched
from regspec.specs.sections import (
    BlockSection,
    CallEntry,
    Input,
    SpecSections,
    UseEntry,
    fields_in,
    name_of_file,
    section_of,
)
from regspec.specs.selecting import check_kinds, with_kinds
from regspec.text import faults
from regspec.text.document import Document, read
from regspec.text.faults import UNKNOWN, Origin
from regspec.text.files import real_path
from regspec.text.hints import section_hint
from regspec.text.problems import Problem, Problems, RegspecError, did_you_mean

F = TypeVar("F", bound=Frozen)


def spec_from(
    document: Document, parameters: Mapping[str, Any] | None = None
) -> tuple[ModelSpec | None, list[Problem]]:
    """The spec of a document as far as it could be read, and what is wrong with it.

    ``parameters`` are values in place of the defaults.
    """
    loader = _Loader(document)
    given = dict(parameters or {})
    known = document.data.get("parameters") if isinstance(document.data, dict) else None
    for name in [name for name in given if name not in (known if isinstance(known, dict) else {})]:
        del given[name]
        hint = did_you_mean(name, known) if isinstance(known, dict) else None
        loader.problems.append(Problem(f"the spec has no parameter '{name}'", hint, document.path))
    spec = loader.spec(given, places_of(given))
    notes = tuple(dict.fromkeys(loader.notes))
    return None if spec is None else replace(spec, given=given, notes=notes), loader.problems


def rules_from(document: Document) -> tuple[RulesFile | None, list[Problem]]:
    """The rules for modules of a document; or None, and what is wrong."""
    top = Origin(document)
    try:
        return RulesFile.model_validate(document.data), []
    except ValidationError as error:
        known = [*RulesFile.model_fields, *(each.alias or name for name, each in ModuleRule.model_fields.items())]
        found = Problems()
        found.extend(faults.problems(error.errors(include_url=False), top, "the rules", known))
        return None, found


@dataclass
class _Loader:
    document: Document
    files: tuple[str, ...] = ()  # the files that are being read, to find one that uses itself
    problems: Problems = field(default_factory=Problems)
    notes: list[Problem] = field(default_factory=list)
    blocks: Mapping[str, BlockSection] = field(default_factory=dict)
    faulty_blocks: set[str] = field(default_factory=set)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    scope: Mapping[str, Any] = field(default_factory=dict)  # the parameters that the current entry may refer to
    search: Mapping[str, Search] = field(default_factory=dict)
    bodies: dict[tuple[str, str], Body | None] = field(default_factory=dict)  # by block and arguments
    unfolding: list[str] = field(default_factory=list)  # the blocks around the current entry
    layers: dict[tuple[str, str], Layer] = field(default_factory=dict)  # by kind and fields
    uses: dict[tuple[str, Itself], LayerUse] = field(default_factory=dict)  # by kind and fields, which equal ones share
    documents: dict[str, Document] = field(default_factory=dict)  # the files of blocks, by path
    count: int = 0

    def spec(self, arguments: Mapping[str, Any], places: Mapping[str, Origin] | None = None) -> ModelSpec | None:
        """The spec of the document, with ``arguments`` in place of the defaults of its parameters.

        ``places`` are those of arguments that may refer to other parameters.
        """
        top = Origin(self.document)
        data = self.document.data
        if not isinstance(data, dict):
            self._fault(top, f"a spec is a mapping, but this is {faults.shown(data)}", "it begins with 'regspec: 1'")
            return None
        if "rules" in data and "layers" not in data:
            self._fault(top / "rules", "these are rules, and no spec of a network", key=True)
            return None
        if "training" in data and "layers" not in data:
            what, hint = "this is a training file, and no spec of a network", "regspec train net.yaml --with this file"
            self._fault(top / "training", what, hint, key=True)
            return None
        sections = self._sections(data, arguments, places, top)
        self.blocks = sections["blocks"]
        self.faulty_blocks = set(data["blocks"]) - set(self.blocks) if isinstance(data.get("blocks"), dict) else set()
        check_kinds(data.get("regularizers"), top / "regularizers", self.problems)
        body = self._body(
            data["layers"] if sections["layers"] else [],
            tuple(data["inputs"]) if isinstance(data.get("inputs"), dict) else (),
            sections["outputs"],
            self.parameters,
            top,
            declared=_in_precision(sections["inputs"] or {}, sections["dtype"]),
            unused=frozenset(name for name, each in (sections["inputs"] or {}).items() if each.unused),
            rules=sections["regularizers"],
        )
        for name, block in self.blocks.items():
            self._check_block(name, block, top / "blocks" / name)
        name = sections["name"] or name_of_file(self.document.path)
        whole = ("data_format", "activity_reduction", "frozen_penalties", "dtype")
        settings = {section: sections[section] for section in whole}
        return ModelSpec(name, body, parameters=plain(self.parameters), search=self.search, **settings)

    def _sections(
        self, data: dict[str, Any], arguments: Mapping[str, Any], places: Mapping[str, Origin] | None, top: Origin
    ) -> dict[str, Any]:
        """Every section of the file, validated by itself, so that a fault in one leaves the others to be checked."""
        for name in data:
            if name not in SpecSections.model_fields:
                hint = section_hint(name, SpecSections.model_fields)
                self._fault(top / name, f"the spec has no field '{name}'", hint, key=True)
        sections = {"parameters": self._section("parameters", data, top)}
        self.search = self._searches(sections["parameters"], top / "parameters")
        here = top / "parameters"
        self.parameters = resolved(sections["parameters"], arguments, {}, here, self.problems, places=places)
        for name in SpecSections.model_fields:
            sections.setdefault(name, self._section(name, data, top))
        return sections

    def _section(self, name: str, data: dict[str, Any], top: Origin) -> Any:
        """A section's value; its default where it is absent or has faults, None where it has no default."""
        section = SpecSections.model_fields[name]
        default = None if section.is_required() else section.get_default(call_default_factory=True)
        if name not in data:
            if section.is_required():
                self._fault(
                    top, f"the spec needs '{name}'", "it begins with 'regspec: 1'" if name == "regspec" else None
                )
            return default
        value = data[name]
        if name not in ("parameters", "blocks", "layers"):
            value = substitute(value, self.parameters, top / name, self.problems)
        if name == "regularizers":
            value = with_kinds(value, top / name, self.notes)
        return self._valid(name, value, top, default)

    def _valid(self, name: str, value: Any, top: Origin, default: Any) -> Any:
        """A section without its faulty items; its default where nothing valid is left."""
        try:
            return section_of(name).validate_python(value)
        except ValidationError as error:
            errors = [{**each, "loc": (name, *each["loc"])} for each in error.errors(include_url=False)]
        self.problems.extend(faults.problems(errors, top, "the spec", fields_in(name), parameters=self.parameters))
        faulty = {location[1] for each in errors if isinstance(location := each["loc"], tuple) and len(location) > 1}
        if isinstance(value, dict):
            rest: Any = {key: item for key, item in value.items() if key not in faulty}
        elif isinstance(value, list):
            rest = [item for index, item in enumerate(value) if index not in faulty]
        if not faulty or not isinstance(value, (dict, list)) or not rest:
            return default
        try:
            return section_of(name).validate_python(rest)
        except ValidationError:
            return default

    def _searches(self, parameters: Mapping[str, Any], origin: Origin) -> dict[str, Search]:
        """The searches of the parameters that have one, by name."""
        searches = {}
        for name, value in parameters.items():
            if is_searched(value):
                searched = self._validated(Searched, value, origin / name, f"parameter '{name}'")
                if searched is not None:
                    searches[name] = searched.search
        return searches

    def _body(
        self,
        layers: list[Any],
        inputs: tuple[str, ...],
        outputs: Outputs,
        parameters: Mapping[str, Any],
        origin: Origin,
        **more: Any,
    ) -> Body:
        """The entries of a list of layers; ``origin`` is the mapping that holds it."""
        blocks = {*self.blocks, *self.faulty_blocks}
        items = items_of(layers, parameters, origin / "layers", self.problems, self._main_of, self.notes, blocks)
        name_items(items, set(inputs), self.problems)
        given = {name for item in items for name in item.callable_names}
        around, self.scope = self.scope, parameters
        entries = tuple(self._entry(item, given) for item in items)
        self.scope = around
        return Body(inputs, entries, outputs, origin=origin, origins=tuple(item.origin for item in items), **more)

    def _main_of(self, kind: str) -> str | None:
        """The field of a kind that a value stands for: Keras's first argument, a block's first parameter."""
        if kind == "call":
            return CallEntry.main
        if block := self.blocks.get(kind):
            of_file = {} if block.file is None else self._parameters_of_file(kind, block)
            return next(iter({**block.parameters, **of_file}), None)
        cls = find_kind(kind)
        return None if cls is None else cls.main

    def _entry(self, item: Item, names: Container[str]) -> Entry:
        """An entry as it is read, beside those that are given some names."""
        self.count += 1
        if self.count > MAX_ENTRIES:
            refuse_size(item, self.problems)
        if item.is_faulty or item.kind in self.faulty_blocks:
            return Invalid(item.name)
        if item.kind == "call":
            return self._call(item)
        if item.kind in self.blocks:
            return self._use(item)
        said = (item.kind, Itself(item.fields))
        if (same := self.uses.get(said)) is not None:
            return LayerUse(item.name, same.layer, same.inputs, same.mask)
        cls = find_kind(item.kind)
        if cls is None:
            hint = synonyms.call_hint(item.fields, item.kind) if item.kind in names else None
            hint = hint or synonyms.kind_hint(item.kind, [*KINDS, *self.blocks, "call"])
            self._fault(item.origin, f"no kind of layer or block is called '{item.kind}'", hint, key=True)
            return Invalid(item.name)
        fields, rest = _split(item.fields, Placement)
        placement = self._validated(Placement, fields, item.origin, item.kind)
        layer = self._layer(cls, rest, item)
        if placement is None or layer is None:
            return Invalid(item.name)
        self.uses[said] = LayerUse(item.name, layer, placement.inputs, placement.mask)
        return self.uses[said]

    def _layer(self, cls: type[Layer], fields: dict[str, Any], item: Item) -> Layer | None:
        """The layer with these fields; entries with equal fields share one."""
        key = (item.kind, repr(fields))
        if key in self.layers:
            return self.layers[key]
        layer = self._validated(cls, fields, item.origin, item.kind, [*Placement.model_fields])
        if layer is not None:
            self.layers[key] = layer
        return layer

    def _call(self, item: Item) -> Entry:
        fields, arguments = _split(item.fields, CallEntry)
        call = self._validated(CallEntry, fields, item.origin, "a call")
        return (
            Invalid(item.name) if call is None else LayerCall(item.name, call.layer, call.inputs, arguments, call.mask)
        )

    def _use(self, item: Item) -> Entry:
        block = self.blocks[item.kind]
        fields, arguments = _split(item.fields, UseEntry)
        use = self._validated(UseEntry, fields, item.origin, f"block '{item.kind}'")
        if item.kind in self.unfolding:
            self._fault(item.origin, f"block '{item.kind}' is used inside itself", key=True)
            return Invalid(item.name)
        if use is None:
            return Invalid(item.name)
        before = len(self.problems)
        made = [self._copy(item, block, own) for own in arguments_of_copies(use, arguments, item.origin, self.problems)]
        hint = hint_at_copies(use, {name: each for name, each in arguments.items() if name in block.parameters})
        for index, problem in enumerate(self.problems[before:], before):
            self.problems[index] = replace(problem, hint=problem.hint or hint)
        copies = [copy for copy in made if copy is not None]
        times = use.repeat if isinstance(use.repeat, int) else 1
        self.count += times * sum(size_of(copy.body) for copy in copies)
        if self.count > MAX_ENTRIES:
            refuse_size(item, self.problems)
        names = () if use.repeat is None else names_of_copies(item.name, times * len(made))
        if not copies or None in made:
            return Invalid(item.name, names)
        if use.repeat == 0:
            if (passed_on := without_copies(item.name, use, copies[0].body)) is None:
                self._fault(item.origin / "repeat", "a block without copies must take one tensor, and give one")
            return passed_on or Invalid(item.name)
        return BlockUse(item.name, item.kind, use.inputs, tuple(copies * times), use.repeat is not None)

    def _copy(self, item: Item, block: BlockSection, arguments: dict[str, Any]) -> Copy | None:
        """A block with its parameters put in; None where one is unknown or missing."""
        values = self._arguments(item, block, arguments)
        body = None if values is None else self._unfolded(item.kind, block, values)
        if values is None or body is None:
            return None
        written = [block.parameters, self.document.data["blocks"][item.kind].get("layers")]  # a file has its own
        return Copy(body, plain(values), formulas_of(written, plain(values), self.parameters))

    def _arguments(self, item: Item, block: BlockSection, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """The values of a block's parameters at a use of it; None where one is unknown or missing."""
        of_file = {} if block.file is None else self._parameters_of_file(item.kind, block)
        known = {**of_file, **block.parameters}
        before = len(self.problems)
        for name in arguments.keys() - known.keys():
            hint = did_you_mean(name, [*known, *UseEntry.model_fields])
            place = item.origin / name if name in item.fields else item.origin / "repeat" / name
            self._fault(place, f"block '{item.kind}' has no parameter '{name}'", hint, key=True)
        for name, value in {**defaults(known), **arguments}.items():
            if value is None:
                self._fault(item.origin, f"block '{item.kind}' needs '{name}'", key=True)
        if len(self.problems) > before:
            return None
        values = {**arguments, **self._own_values(item.kind, block, arguments)}
        if block.file is None:
            return values
        document = self._document_of_file(block.file, Origin(self.document, ("blocks", item.kind, "file")))
        if document is None:
            return None
        return {**resolved(of_file, values, {}, Origin(document, ("parameters",)), self.problems), **values}

    def _own_values(self, name: str, block: BlockSection, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The values of the parameters that the section of a block names."""
        origin = Origin(self.document, ("blocks", name, "parameters"))
        return resolved(block.parameters, arguments, self.parameters, origin, self.problems, null=UNKNOWN)

    def _unfolded(self, name: str, block: BlockSection, values: dict[str, Any]) -> Body | None:
        """The body of a block with its parameters put in."""
        key = (name, repr(sorted(values.items())))
        if key not in self.bodies:
            self.unfolding.append(name)
            origin = Origin(self.document, ("blocks", name))
            if block.file is not None:
                self.bodies[key] = self._body_of_file(block.file, values, origin / "file")
            else:
                written = self.document.data["blocks"][name].get("layers") or []
                scope = {**self.parameters, **values}
                unused = frozenset(block.unused or ())
                self.bodies[key] = self._body(written, block.inputs, block.outputs, scope, origin, unused=unused)
            self.unfolding.pop()
        return self.bodies[key]

    def _check_block(self, name: str, block: BlockSection, origin: Origin) -> None:
        """Reports a block's own faults; an unused one is unfolded with its defaults, if it has them all, as a check."""
        for parameter in [each for each, value in block.parameters.items() if is_searched(value)]:
            hint = f"search a parameter of the spec, and give it where the block is used: {{{parameter}: ${parameter}}}"
            here = origin / "parameters" / parameter / "search"
            self._fault(here, f"'{parameter}' is a block's parameter, and can't be searched", hint, key=True)
        own = self._own_values(name, block, {})
        for index, each in enumerate(block.unused or ()):
            if each not in block.inputs:
                self._fault(
                    origin / "unused" / index, f"'{each}' is no input of the block", did_you_mean(each, block.inputs)
                )
        if (block.file is None) == (block.layers is None):
            self._fault(origin, f"block '{name}' needs either 'layers' or 'file'", key=True)
        elif find_kind(name) is not None or name == "call":
            self._fault(origin, f"'{name}' is no name for a block: it has a meaning of its own", key=True)
        elif not any(used == name for used, _ in self.bodies) and None not in own.values():
            self._unfolded(name, block, own)

    def _document_of_file(self, file: str, origin: Origin) -> Document | None:
        folder = Path(self.document.path).parent
        path = folder / file
        if self.document.path.startswith("<") or Path(file).is_absolute():
            self._fault(
                origin, "a block's file is found from the folder of the spec: give a relative path, in a spec file"
            )
        elif real_path(path) in (*self.files, real_path(self.document.path)):
            self._fault(origin, f"the spec '{file}' uses itself")
        else:
            try:
                if str(path) not in self.documents:
                    self.documents[str(path)] = read(path)
                return self.documents[str(path)]
            except RegspecError as error:
                self._fault(origin, f"'{file}' is no spec to use", str(error.problems[0].what))
        return None

    def _parameters_of_file(self, name: str, block: BlockSection) -> dict[str, Any]:
        document = self._document_of_file(str(block.file), Origin(self.document, ("blocks", name, "file")))
        data = document.data if document is not None else None
        parameters = data.get("parameters") if isinstance(data, dict) else None
        return parameters if isinstance(parameters, dict) else {}

    def _body_of_file(self, file: str, values: dict[str, Any], origin: Origin) -> Body | None:
        document = self._document_of_file(file, origin)
        if document is None:
            return None
        loader = _Loader(
            document, (*self.files, real_path(self.document.path)), self.problems, self.notes, documents=self.documents
        )
        spec = loader.spec(values)
        self.count += loader.count
        if spec is None:
            return None
        own = SpecSections.model_fields
        for name in ("data_format", "dtype", "activity_reduction", "frozen_penalties"):
            mine = self.document.data.get(name, own[name].default)
            if getattr(spec, name) != mine:
                self._fault(origin, f"'{file}' has {name}: {getattr(spec, name)}, but this spec has {name}: {mine}")
        return spec.body

    def _validated(
        self, cls: type[F], fields: dict[str, Any], origin: Origin, subject: str, others: Sequence[str] = ()
    ) -> F | None:
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            known = [*others, *(item.alias or name for name, item in cls.model_fields.items())]
            errors, scope = error.errors(include_url=False), self.scope or self.parameters
            synonyms.hint_at_kinds(errors)
            self.problems.extend(faults.problems(errors, origin, subject, known, parameters=scope))
            return None

    def _fault(self, origin: Origin, what: str, hint: str | None = None, *, key: bool = False) -> None:
        self.problems.append(origin.problem(what, hint, key=key))


def _in_precision(inputs: Mapping[str, Input], dtype: str) -> dict[str, Input]:
    """The inputs; one without a dtype gets the model's."""
    return {
        name: each if "dtype" in each.model_fields_set else each.model_copy(update={"dtype": dtype})
        for name, each in inputs.items()
    }


def _split(fields: dict[str, Any], model: type[Frozen]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields that are a model's, and the others."""
    known = model.model_fields
    own = {name: value for name, value in fields.items() if name in known}
    return own, {name: value for name, value in fields.items() if name not in own}
