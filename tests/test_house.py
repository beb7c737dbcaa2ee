"""The house: imports point one way, the torch-free part is torch-free, generated things are up to date."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from torch import nn

import regspec
from regspec import runtime
from regspec.layers import KINDS
from regspec.runtime import Regularized
from regspec.schema import spec_schema
from regspec.spec.fields import RESERVED

from .commands import command_apart

ROOT = Path(regspec.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# From the ground up: a module imports from lines above its own, and from its own line.
FLOORS = """
errors
document files calls axes
shapes
counting
spec.fields spec.faults
spec.forms spec.registration spec.parameters
spec.activations spec.initializers spec.constraints spec.schedules
spec.regularizers
spec.rules spec.synonyms
layers
spec.sections spec.model spec.loading
plans
nodes
masks
blocks
graph
printing
naming
imports standalone classes
writing schema summary
compiler
runtime
building measuring regularizing
binding
keras.archive keras.precision keras.references keras.training keras.values
keras.replacing
keras.dialect
keras.quantized keras.quirks
keras.layers
keras.operations
keras.modes keras.nodes
keras.models
keras.masks keras.text keras.weights
keras.conversion keras.older keras.ported keras.ranks
keras.verification
keras.report
keras.porting
report
training
tuning
tables
cli
__main__
"""


def floor_of(module: str) -> int:
    """The floor on which a module stands, by the longest name in the table that it begins with."""
    name = module.removeprefix("regspec.")
    floors = {each: number for number, line in enumerate(FLOORS.split("\n")) for each in line.split()}
    known = [each for each in floors if name == each or name.startswith(f"{each}.")]
    assert known, f"{module} has no place in the house"
    return floors[max(known, key=len)]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """The regspec modules that a file imports, those for type checkers among them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = (ROOT.parent / whole.replace(".", "/")).with_suffix(".py").exists()
                found.add(whole if is_module else node.module)
    return {each for each in found if each.startswith("regspec.")}


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.parent != ROOT or path.name != "__init__.py"], ids=module_of
)
def test_imports_point_down(path: Path) -> None:
    own = module_of(path)
    if own in ("regspec.spec", "regspec.report", "regspec.training", "regspec.keras"):
        assert imports_of(path) == set()
        return
    for imported in imports_of(path):
        assert floor_of(imported) <= floor_of(own), f"{own} imports {imported}, which stands above it"


@pytest.mark.parametrize("path", sorted((ROOT / "runtime").glob("*.py")), ids=module_of)
def test_the_runtime_stands_alone(path: Path) -> None:
    assert all(each.startswith("regspec.runtime") for each in imports_of(path))


def test_no_stage_but_the_layers_asks_for_a_kind() -> None:
    """Outside `layers/` nothing is compared with the name of a kind, nor with its class."""
    for path in FILES:
        if "layers" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                compared = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]
                assert not KINDS.keys() & {each for each in compared if isinstance(each, str)}, ast.unparse(node)
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
                classes = {each.id for each in ast.walk(node.args[1]) if isinstance(each, ast.Name)}
                assert path.parts[-2] in ("spec", "runtime") or not KINDS.keys() & classes, ast.unparse(node)


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from regspec.cli import app
for arguments in ("check", "show", "compile --standalone"):
    app([*arguments.split(), "examples/mlp.yaml"], standalone_mode=False)
for arguments in ("schema", "schema rules"):
    app(arguments.split(), standalone_mode=False)
"""


def test_works_without_torch() -> None:
    result = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_reserved_names_are_those_of_a_module() -> None:
    """What every module has of its own, torch's and ours, and what a forward calls the module itself."""
    own = {name for name in dir(Regularized()) if not name.startswith("_")}
    assert own | {"self", "init_weights"} == RESERVED
    assert {name for name in dir(nn.Module()) if not name.startswith("_")} <= RESERVED


def test_the_runtime_offers_what_it_defines() -> None:
    """But for what only its own modules, and those that attach and bind, use."""
    names = set()
    for path in (ROOT / "runtime").glob("*.py"):
        if path.stem in ("attaching", "compiling", "fused", "notebook", "sharded", "terms", "totals"):
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
                names.add(node.name)
    assert names == set(runtime.__all__)


@pytest.mark.parametrize(("what", "name"), [("spec", "model"), ("rules", "rules")])
def test_schemas_are_up_to_date(what: str, name: str) -> None:
    """If this fails: regspec schema -o schemas/model.schema.json, or regspec schema rules -o schemas/rules.schema.json.

    A process of its own, because a schema includes what is registered.
    """
    assert command_apart("schema", what).stdout == (ROOT.parent / "schemas" / f"{name}.schema.json").read_text(
        encoding="utf-8"
    )


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
