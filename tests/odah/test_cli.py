"""Every command of ``odah`` leads to a module with a main()."""

import ast
import importlib.util
import sys
import types
from pathlib import Path

import pytest

from odah import cli


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_command_has_its_module(name):
    spec = importlib.util.find_spec(cli.COMMANDS[name][0])
    assert spec is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    assert "main" in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def test_options_are_handed_on(monkeypatch):
    seen = []
    module = types.ModuleType("odah.train")
    module.main = lambda: seen.append(list(sys.argv))
    monkeypatch.setitem(sys.modules, "odah.train", module)
    monkeypatch.setattr(sys, "argv", ["odah", "train", "--hours", "1"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code is None and seen == [["odah train", "--hours", "1"]]


def test_help_and_an_unknown_command(capsys):
    cli.main(["--help"])
    assert "generate" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        cli.main(["trian"])
    assert end.value.code == 2 and "'trian' is no command" in capsys.readouterr().err
