"""Plugins of other packages are found by their entry points, and by name."""

import ast
import importlib
import inspect
import re
import sys
import textwrap
import tomllib
from pathlib import Path

import numpy as np
import pytest

from pose2sim_biokin import hookspecs, plugins
from pose2sim_biokin.errors import BiokinError


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(source, name): a package with one module and an entry point, on sys.path."""

    def install_package(source, name="my_plugin"):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{hookspecs.PROJECT}]\n{name} = {name}\n")
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        plugins.plugin_manager.cache_clear()

    monkeypatch.syspath_prepend(str(tmp_path))
    yield install_package
    sys.modules.pop("my_plugin", None)
    plugins.plugin_manager.cache_clear()


def documented_example():
    """Module and pyproject.toml of the example in the documentation of the hooks."""
    doc = inspect.getdoc(hookspecs)
    module, toml = doc[doc.index("    # my_plugin.py") : doc.index("\nWith that")].split(
        "    # pyproject.toml"
    )
    return textwrap.dedent(module), textwrap.dedent(toml)


BACKEND = """
    from pose2sim_biokin.hookspecs import hookimpl

    class Backend:
        name = "{name}"
        replaces = frozenset()

        def run(self, config_dict):
            pass

    @hookimpl
    def kinematics_backends():
        return [Backend()]
    """


def test_the_built_ins_are_plugins():
    assert {"biokin", "opensim"} <= set(plugins.backends())
    assert {"yolo", "masks"} <= set(plugins.segmenters())
    biokin = plugins.get_backend("biokin")
    assert "poseEstimation" in biokin.replaces and "synchronization" not in biokin.replaces
    assert not plugins.get_backend("opensim").replaces


def test_the_example_of_the_documentation_works_as_it_stands(install, capsys, tmp_path):
    module, toml = documented_example()
    entry = tomllib.loads(toml)["project"]["entry-points"][hookspecs.PROJECT]
    assert entry == {"my_plugin": "my_plugin"}
    install(module)
    plugins.get_backend("hello").run({"project": {"project_dir": "here"}})
    assert capsys.readouterr().out == "Hello, here\n"
    segmenter = plugins.get_segmenter("whole_picture").load(
        "whole_picture", device="cpu", batch_size=1, project_dir=tmp_path
    )
    (people,) = segmenter.segment([np.zeros((4, 6, 3), np.uint8)], "cam1", [0])
    assert people[0].mask.shape == (4, 6) and people[0].mask.all()


def test_the_example_of_the_readme_works_as_it_stands(install, capsys):
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    (module,) = re.findall(r"```python\n(# my_plugin\.py\n.*?)```", readme, re.DOTALL)
    (toml,) = re.findall(r"```toml\n(# pyproject\.toml.*?)```", readme, re.DOTALL)
    assert tomllib.loads(toml)["project"]["entry-points"][hookspecs.PROJECT] == {"my_plugin": "my_plugin"}
    install(module)
    plugins.get_backend("hello").run({"project": {"project_dir": "here"}})
    assert capsys.readouterr().out == "Hello, here\n"


def test_every_hook_is_documented_with_an_example():
    module, _ = documented_example()
    shown = {node.name for node in ast.walk(ast.parse(module)) if isinstance(node, ast.FunctionDef)}
    hooks = {name for name, f in vars(hookspecs).items() if hasattr(f, f"{hookspecs.PROJECT}_spec")}
    assert hooks == {"kinematics_backends", "person_segmenters"} and hooks <= shown


@pytest.mark.parametrize("name", ["biokim", "", None, 3, ["biokin"]])
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(BiokinError, match='kinematics_backend is .*Known: .*"biokin".*"opensim"'):
        plugins.get_backend(name)
    with pytest.raises(BiokinError, match='segmentation is .*Known: .*"masks".*"yolo"'):
        plugins.get_segmenter(name)


def test_two_plugins_with_one_name_are_refused(install):
    install(BACKEND.format(name="biokin"))
    with pytest.raises(BiokinError, match='named "biokin": my_plugin.Backend and .*Biokin'):
        plugins.get_backend("biokin")


def test_a_hook_that_does_not_exist_is_refused_with_the_packages_name(install):
    install(BACKEND.format(name="mine").replace("def kinematics_backends", "def kinematic_backends"))
    with pytest.raises(BiokinError, match='"my_plugin" of package "my_plugin".*kinematic_backends'):
        plugins.backends()


def test_a_plugin_that_cannot_be_imported_is_named(install):
    install("import a_module_that_nobody_has")
    with pytest.raises(BiokinError, match='"my_plugin".*a_module_that_nobody_has.*uninstall'):
        plugins.backends()


def test_an_object_that_is_no_backend_is_refused(install):
    install("""
        from pose2sim_biokin.hookspecs import hookimpl

        @hookimpl
        def kinematics_backends():
            return ["hello"]
        """)
    with pytest.raises(BiokinError, match="'hello' as a kinematics backend.*KinematicsBackend"):
        plugins.backends()


def test_a_backend_that_replaces_what_is_no_stage_is_refused(install):
    install(BACKEND.format(name="mine").replace("frozenset()", 'frozenset({"triangulate"})'))
    with pytest.raises(BiokinError, match='"mine".*replaces "triangulate".*poseEstimation'):
        plugins.backends()


def test_the_stages_are_methods_of_the_installed_pose2sim():
    from Pose2Sim.Pose2Sim import Pose2SimPipeline

    assert all(callable(getattr(Pose2SimPipeline, stage)) for stage in hookspecs.REPLACEABLE)


def test_upstream_does_not_take_our_results_for_markers(tmp_path):
    folder = tmp_path / "pose-3d"
    folder.mkdir()
    (folder / "T_0-9_biokin.trc").write_text("ours", encoding="utf-8")
    (folder / "T_0-9.trc").write_text("theirs", encoding="utf-8")
    opensim = plugins.get_backend("opensim")
    with pytest.raises(BiokinError, match=r"T_0-9_biokin\.trc.*filtering"):
        opensim.run({"project": {"project_dir": str(tmp_path)}})
    assert not (tmp_path / "kinematics").exists()
