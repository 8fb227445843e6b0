"""Pickles from elsewhere, without running what is in them: numpy arrays and plain types only."""

from __future__ import annotations

import pickle
from pathlib import Path

from pose2sim_biokin.errors import BiokinError

# What numpy arrays and numbers of any version are rebuilt with; dicts, lists and texts need nothing.
_ALLOWED = {
    *(
        (f"numpy.{core}.multiarray", name)
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    ),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),  # bytes, as old protocols write them
    ("collections", "OrderedDict"),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def read_pickle(path: Path) -> object:
    """What a pickle holds.

    Raises:
        BiokinError: it cannot be read, or holds anything but numpy arrays and plain types.
    """
    try:
        with path.open("rb") as file:
            return _Unpickler(file, encoding="latin1").load()
    except Exception as error:  # a damaged pickle can raise anything
        raise BiokinError(
            f"{path}: cannot be read as a pickle of numpy arrays and plain types ({error}). Nothing else is "
            "read from pickles, since they can run code: use the file as it was published."
        ) from error
