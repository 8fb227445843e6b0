"""The plugin manager: what is installed, found by name. The built-ins are plugins like any other."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

import pluggy

from pose2sim_biokin import hookspecs
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.hookspecs import KinematicsBackend, SegmenterFactory

BUILT_IN = ("pose2sim_biokin.backend", "pose2sim_biokin.segmentation")


@cache
def plugin_manager() -> pluggy.PluginManager:
    """The plugin manager of this process, with the built-ins and all installed plugins registered.

    Raises:
        BiokinError: a plugin cannot be imported, or does not fit the hooks.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    for module in BUILT_IN:
        manager.register(import_module(module), module)
    for entry in entry_points(group=hookspecs.PROJECT):
        source = f'plugin "{entry.name}" of package "{entry.dist.name if entry.dist else "?"}"'
        try:
            manager.register(entry.load(), f"{source} ({entry.value})")
            manager.check_pending()
        except Exception as error:  # whatever a stranger's module raises when it is imported
            raise BiokinError(
                f"The {source} ({entry.value}) cannot be used: {error}. Update or uninstall that package."
            ) from error
    return manager


def backends() -> dict[str, KinematicsBackend]:
    """All kinematics backends by name."""
    found = _by_name(plugin_manager().hook.kinematics_backends(), KinematicsBackend, "kinematics backend")
    for name, backend in found.items():
        unknown = sorted(set(backend.replaces) - set(hookspecs.REPLACEABLE))
        if unknown:
            raise BiokinError(
                f'Kinematics backend "{name}" ({_origin(backend)}) replaces "{unknown[0]}", which is no '
                f"stage that can be replaced. These can: {', '.join(hookspecs.REPLACEABLE)}."
            )
    return found


def segmenters() -> dict[str, SegmenterFactory]:
    """All person segmenters by name."""
    return _by_name(plugin_manager().hook.person_segmenters(), SegmenterFactory, "person segmenter")


def get_backend(name: str) -> KinematicsBackend:
    """The kinematics backend of this name; BiokinError with the known names when there is none."""
    return _get(name, backends(), "[kinematics] kinematics_backend", "kinematics backend")


def get_segmenter(name: str) -> SegmenterFactory:
    """The person segmenter of this name; BiokinError with the known names when there is none."""
    return _get(name, segmenters(), "[biokin] segmentation", "person segmenter")


def _by_name(results: list[list], kind: type, what: str) -> dict:
    found = {}
    for item in (item for result in results for item in result):
        name = getattr(item, "name", None)
        if not isinstance(item, kind) or not isinstance(name, str) or not name:
            raise BiokinError(
                f"A plugin brings {item!r} as a {what}; expected an object as {kind.__name__} in "
                f"pose2sim_biokin.hookspecs describes. Update or uninstall that plugin."
            )
        if name in found:
            origins = " and ".join(sorted((_origin(found[name]), _origin(item))))
            raise BiokinError(f'Two plugins bring a {what} named "{name}": {origins}. Uninstall one of them.')
        found[name] = item
    return dict(sorted(found.items()))


def _origin(item: object) -> str:
    return f"{type(item).__module__}.{type(item).__qualname__}"


def _get(name: str, known: dict, key: str, what: str):
    if not isinstance(name, str) or name not in known:
        raise BiokinError(
            f"{key} is {name!r}, which is no {what} that is installed. Known: "
            + ", ".join(f'"{known_name}"' for known_name in known)
            + ". Correct the name, or install the package that brings it."
        )
    return known[name]
