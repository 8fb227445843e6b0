"""Imports point one way, and start-up stays light: read from the source, nothing is run."""

import ast
from pathlib import Path

import pytest

import pose2sim_biokin

OURS = "pose2sim_biokin"
PACKAGE = Path(pose2sim_biokin.__file__).parent
TRAINING = [p for p in (PACKAGE.parent / "odah", PACKAGE.parent / "training" / "odah") if p.is_dir()]
HEAVY = {"torch", "cv2", "numpy", "opensim", "Pose2Sim", "ultralytics", "scipy", "typer", "rich"}
# What a part of the package may import of the package; itself and errors always.
ALLOWED = {
    "errors": set(),
    "motion": set(),
    "progress": set(),
    "vision": set(),
    "skeleton": set(),
    "network": {"vision", "skeleton"},
    "io": {"vision", "skeleton", "motion", "config", "progress"},
    "config": set(),
    "dispatch": {"plugins"},
    "hookspecs": {"vision"},
}
# What the core may import from outside: it runs on a bare GPU node.
CORE = {"torch", "numpy", "cv2", "scipy", "lightning"}


def imports(path, nested=True):
    """Names of the modules that a file imports, anywhere in it or at its top level only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if nested else at_import_time(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            if node.module == OURS:
                yield from (f"{OURS}.{alias.name}" for alias in node.names)


def at_import_time(tree):
    """Statements that run when the module is imported: not in functions, nor for type checkers only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from at_import_time(node)


def part(name):
    """vision for pose2sim_biokin.vision.camera; None for what is not ours."""
    pieces = name.split(".")
    return pieces[1] if pieces[0] == OURS and len(pieces) > 1 else None


def files(name):
    return (
        [PACKAGE / f"{name}.py"]
        if (PACKAGE / f"{name}.py").is_file()
        else sorted((PACKAGE / name).rglob("*.py"))
    )


@pytest.mark.parametrize("name", ALLOWED)
def test_arrows_point_one_way(name):
    assert files(name)
    for path in files(name):
        found = {part(module) for module in imports(path)} - {None, name, "errors"}
        assert found <= ALLOWED[name], path


@pytest.mark.parametrize("name", ["vision", "skeleton", "network"])
def test_the_core_needs_only_torch_numpy_and_opencv(name):
    for path in files(name):
        outside = {module.split(".")[0] for module in imports(path, nested=False)} - CORE - {OURS}
        assert not (outside & (HEAVY | {"toml", "rtoml", "pluggy", "lightning_fabric"})), path


def test_nothing_of_ours_imports_the_training_package():
    for path in PACKAGE.rglob("*.py"):
        assert not [module for module in imports(path) if module.split(".")[0] == "odah"], path


def test_start_up_imports_only_the_standard_library():
    for name in ("__init__", "dispatch"):
        found = set(imports(PACKAGE / f"{name}.py", nested=False))
        assert found <= {"os", "sys"}, name


@pytest.mark.parametrize("name", ["hookspecs", "plugins", "backend", "config", "doctor", "cli"])
def test_light_modules_import_nothing_heavy(name):
    found = {module.split(".")[0] for module in imports(PACKAGE / f"{name}.py", nested=False)}
    assert not found & (HEAVY - ({"typer", "rich"} if name == "cli" else set()))


def test_upstream_is_imported_where_it_is_used():
    for root in [PACKAGE, *TRAINING]:
        for path in root.rglob("*.py"):
            if "blender" in path.name:
                continue
            found = {module.split(".")[0] for module in imports(path, nested=False)}
            assert not found & {"Pose2Sim", "opensim", "ultralytics", "bpy", "anny", "smplx"}, path
