"""Makes `compare_scenes`, beside this file, and the tests' shared modules importable."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "skeleton")]
