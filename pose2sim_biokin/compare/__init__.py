"""Results of two or more backends, or of anybody, side by side: matched, aligned, measured.

The package can be called: ``pose2sim_biokin.compare(project, ...)`` is `session.compare_project`.
"""

from __future__ import annotations

import sys
from types import ModuleType


class _Callable(ModuleType):
    """A module of this name is there as soon as anything in it is imported, so it is the function as well."""

    def __call__(self, *args, **kwargs):
        from pose2sim_biokin.compare.session import compare_project

        return compare_project(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
