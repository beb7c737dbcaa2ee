"""The house: imports point one way, the torch-free part is torch-free, generated things are up to date."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from graphlib import TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

import pytest
from torch import nn

import regspec
from regspec.language.fields import RESERVED
from regspec.layers import KINDS, Layer
from regspec.runtime import Regularized
from regspec.views.schema import spec_schema

from .commands import PRELOADED

ROOT = Path(regspec.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# The rooms, from the ground up: a file imports from its own room and from those before it.
ROOMS = (
    "runtime",
    "code",
    "text",
    "language",
    "layers",
    "specs",
    "graph",
    "views",
    "targets",
    "modules",
    "keras",
    "report",
    "training",
    "sklearn",
    "cli",
)

# Those of Keras's files, likewise, of what is imported at the beginning of a file.
ROOMS_OF_KERAS = (
    "configs",
    "operations",
    "arrays",
    "formats",
    "older",
    "reading",
    "conversion",
    "training",
    "porting",
    "verification",
    "writing",
)


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def imports_of(path: Path, *, at_once: bool = False) -> set[str]:
    """The regspec modules that a file imports, those for type checkers among them; or ``at_once``, in its beginning."""
    found = set()
    tree = ast.parse(path.read_text())
    for node in tree.body if at_once else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            wholes = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {whole if whole in MODULES else node.module for whole in wholes}
    return {each for each in found if each.startswith("regspec.")}


def room_of(module: str) -> str:
    return module.split(".")[1]


def test_every_file_is_in_a_room() -> None:
    loose = {path.name for path in ROOT.glob("*.py")}
    assert loose == {"__init__.py", "__main__.py"}
    assert {room_of(module) for module in MODULES if module != "regspec"} - {"__main__"} == set(ROOMS)


@pytest.mark.parametrize("module", [each for each in MODULES if each not in ("regspec", "regspec.__main__")])
def test_imports_point_to_rooms_before(module: str) -> None:
    allowed = ROOMS[: ROOMS.index(room_of(module)) + 1]
    assert {each for each in imports_of(MODULES[module]) if room_of(each) not in allowed} == set()


def test_rooms_of_keras_import_those_before() -> None:
    own = {module: path for module, path in MODULES.items() if module.startswith("regspec.keras.")}
    assert {module.split(".")[2] for module in own} == {*ROOMS_OF_KERAS}
    for module, path in own.items():
        allowed = ROOMS_OF_KERAS[: ROOMS_OF_KERAS.index(module.split(".")[2]) + 1]
        found = {each.split(".")[2] for each in imports_of(path, at_once=True) if each.startswith("regspec.keras.")}
        assert found <= {*allowed}, module


def test_no_circle_of_imports() -> None:
    known = {module: imports_of(path) - {module} for module, path in MODULES.items()}
    TopologicalSorter(known).prepare()


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_holds(room: str) -> None:
    """And what it may import."""
    text = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text())) or ""
    assert "import" in text
    assert 2 <= len(text.splitlines()) <= 16


@pytest.mark.parametrize("path", sorted((ROOT / "runtime").rglob("*.py")), ids=module_of)
def test_the_runtime_stands_alone(path: Path) -> None:
    assert all(each.startswith("regspec.runtime") for each in imports_of(path))


# Rooms that know no kind at all; the others name some: the language its own things, and the port what stands in files.
BLIND = ("graph", "views", "targets", "modules", "report", "training", "cli")
FOREIGN = (
    "regspec/targets/python/printing.py",
)  # names arguments of torch's constructors, some of which are called alike
NAMESAKES = ("language", "runtime")  # have classes of such names
FIELDS = {name for kind in KINDS.values() for name in kind.model_fields} - {*Layer.model_fields}


def questions(tree: ast.AST, room: str, *, is_foreign: bool = False) -> Iterator[str]:
    """What in a file outside `layers/` asks for a kind: by its class, by its name, or by a field that it has."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [each for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            is_asked = bool(KINDS.keys() & {each.value for each in sides})
            is_asked |= room not in NAMESAKES and bool(KINDS.keys() & _names(node))
            of_fields = [
                each for each in node.comparators if ast.unparse(each).endswith(("model_fields", "_fields_set"))
            ]
            is_asked |= bool(of_fields) and isinstance(node.left, ast.Constant) and node.left.value in FIELDS
        elif isinstance(node, ast.Call):
            function, *arguments = [ast.unparse(each) for each in (node.func, *node.args)]
            is_asked = function in ("isinstance", "issubclass") and room not in NAMESAKES
            is_asked = is_asked and bool(KINDS.keys() & _names(node.args[1]))
            is_asked |= function == "hasattr" and arguments[1].strip("\"'") in FIELDS
        elif isinstance(node, ast.MatchClass):
            is_asked = room not in NAMESAKES and bool(KINDS.keys() & _names(node.cls))
        elif isinstance(node, ast.ImportFrom):
            is_ours = (node.module or "").startswith("regspec.layers")
            is_asked = is_ours and room in BLIND and bool(KINDS.keys() & {alias.name for alias in node.names})
        else:
            is_asked = room in BLIND and not is_foreign and isinstance(node, ast.Constant) and node.value in KINDS
        if is_asked:
            yield f"{node.lineno}: {ast.unparse(node)}"


def _names(tree: ast.AST) -> set[str]:
    """The names in an expression, those that are taken from modules too, but for torch's."""
    names = {each.id for each in ast.walk(tree) if isinstance(each, ast.Name)}
    taken = [each for each in ast.walk(tree) if isinstance(each, ast.Attribute) and ast.unparse(each.value) != "nn"]
    return names | {each.attr for each in taken}


@pytest.mark.parametrize("path", [each for each in FILES if "layers" not in each.parts], ids=module_of)
def test_no_stage_but_the_layers_asks_for_a_kind(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    is_foreign = path.relative_to(ROOT.parent).as_posix() in FOREIGN
    assert [*questions(ast.parse(path.read_text(encoding="utf-8")), room, is_foreign=is_foreign)] == []


@pytest.mark.parametrize(
    "code",
    [
        'node.kind == "Dense"',
        'node.kind in {"Dense", "Conv2D"}',
        'WIDE = {"Dense", "Conv2D"}',
        'type(layer).__name__ in ("Dense", *MORE)',
        'TABLE = {"Dense": 1}',
        'match node.kind:\n    case "Dense":\n        pass',
        "isinstance(layer, Dense)",
        "isinstance(layer, (Layer, dense.Dense))",
        "type(layer) is Dense",
        "type(layer) in (Dense, Conv2D)",
        "match layer:\n    case Dense():\n        pass",
        "from regspec.layers.dense import Dense",
        'hasattr(layer, "momentum")',
        '"momentum" in type(layer).model_fields',
        '"momentum" in layer.model_fields_set',
    ],
)
def test_kinds_in_disguise_are_seen(code: str) -> None:
    """A field that a layer declares whatever its kind is no disguise, and neither is a word in a sentence."""
    assert [*questions(ast.parse(code), "graph")] != []


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from regspec.cli import app
for arguments in ("check", "show", "compile --standalone"):
    app([*arguments.split(), "examples/mlp.yaml"], standalone_mode=False)
assert "regspec.layers.recurrent" not in sys.modules, "made, though no spec names any of it"
for arguments in ("schema", "schema rules", "kinds"):
    app(arguments.split(), standalone_mode=False)
"""


def test_works_without_torch() -> None:
    """And without the kinds that no spec names."""
    result = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_reserved_names_are_those_of_a_module() -> None:
    """What every module has of its own, torch's and ours, and what a forward calls the module itself."""
    own = {name for name in dir(Regularized()) if not name.startswith("_")}
    assert own | {"self"} == RESERVED
    assert {name for name in dir(nn.Module()) if not name.startswith("_")} <= RESERVED


def test_generated_files_are_up_to_date() -> None:
    """If this fails: python -m tests.generate. A process of its own, because a schema includes what is registered."""
    command = [sys.executable, "-m", "tests.generate", "--check"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT.parent)
    assert result.returncode == 0, result.stderr


def test_what_processes_of_tests_are_forked_from_is_there() -> None:
    """A server that can't import one says nothing, and is slow."""
    assert all(find_spec(name) for name in PRELOADED)


def test_the_readme_of_the_tests_has_every_file() -> None:
    folder = Path(__file__).parent
    known = re.findall(r"`(?:layers/)?(test_[a-z_0-9*]+)", (folder / "README.md").read_text(encoding="utf-8"))
    files = {path.stem for path in folder.rglob("test_*.py")}
    assert not [stem for stem in files if not any(fnmatch(stem, each) for each in known)]
    assert not [each for each in known if not any(fnmatch(stem, each) for stem in files)]


def test_every_field_has_a_description() -> None:
    """An editor shows it on hover."""
    definitions = spec_schema()["$defs"]
    for name, definition in definitions.items():
        if name in KINDS:
            assert definition["description"], name
            for field, schema in definition["properties"].items():
                shared = definitions.get(schema.get("$ref", "").rpartition("/")[2], schema)
                assert shared.get("description"), f"{name}.{field}"
