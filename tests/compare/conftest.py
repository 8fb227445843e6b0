"""Makes `compare_scenes`, beside this file, and the tests' shared modules importable."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "skeleton")]
