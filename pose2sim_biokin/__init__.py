"""OpenSim joint angles and segment scales from two calibrated videos, as a kinematics backend of Pose2Sim.

This module is imported at every interpreter start (by ``pose2sim_biokin.pth``): it imports nothing itself,
and its public names are looked up where they live when they are first used.
"""

__version__ = "0.1.0"

_PUBLIC = {
    "BackendResult": "compare.result",
    "BiokinError": "errors",
    "Comparison": "compare.comparison",
    "Motion": "motion",
    "Predictor": "predictor",
    "compare_results": "compare.build",
    "install": "dispatch",
    "load_skeleton": "skeleton.model",
    "read_result": "compare.result",
    "run_trial": "pipeline",
    "uninstall": "dispatch",
}

# A package that can be called.
_CALLABLE = ("compare",)

__all__ = ["__version__", *_CALLABLE, *_PUBLIC]


def __getattr__(name):
    from importlib import import_module

    if name in _CALLABLE:
        return import_module(f"{__name__}.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__():
    return sorted([*globals(), *_CALLABLE, *_PUBLIC])
