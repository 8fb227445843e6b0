"""The one exception that bad input raises."""

from __future__ import annotations


class BiokinError(Exception):
    """Input that cannot be used.

    The message names the file or key, what was found, what was expected and what to do about it, so that it
    can be shown to the user as it is.
    """
