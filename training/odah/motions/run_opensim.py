"""Runs OpenSim's ScaleTool and InverseKinematicsTool in a process of their own, on files in a folder.

    python -m odah.motions.run_opensim FOLDER

The tools print to the screen, change the working folder, and bring the process down when a file is missing:
here all that does no harm. Imports nothing but OpenSim.
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Scale as scale.xml says, then inverse kinematics as ik.xml says, both in FOLDER.

    Exit code 1, and the tool's complaint on stderr, when a tool fails.
    """
    import opensim

    opensim.Logger.removeFileSink()
    opensim.Logger.setLevelString("Error")
    os.chdir(sys.argv[1])
    # its result is false when no marker was to be placed; what counts is the file
    opensim.ScaleTool("scale.xml").run()
    if not os.path.isfile("subject.osim"):
        print("ScaleTool wrote no model", file=sys.stderr)
        return 1
    if not opensim.InverseKinematicsTool("ik.xml").run():
        print("InverseKinematicsTool failed", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
