"""For ``fabric run training/odah_train.py CONFIG ...``, which starts files: the same as ``odah train``."""

import sys

from odah.train import main

if __name__ == "__main__":
    sys.exit(main())
