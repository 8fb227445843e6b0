"""Runs OpenSim's ScaleTool and InverseKinematicsTool in a process of their own, on files in a folder.

    python -m odah.motions.run_opensim FOLDER

The tools print to the screen, change the working folder, and bring the process down when a file is missing:
here all that does no harm. Imports nothing but OpenSim.
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    """What FOLDER asks for: scale.xml, then static.xml and place.xml if they are there, then trial.xml.

    Exit code 1, and the tool's complaint on stderr, when a tool fails.
    """
    import opensim

    opensim.Logger.removeFileSink()
    opensim.Logger.setLevelString("Error")
    os.chdir(sys.argv[1])
    steps = [("scale", opensim.ScaleTool, "scaled.osim")]
    if os.path.isfile("place.xml"):
        steps.append(("static", opensim.InverseKinematicsTool, "static.mot"))
        steps.append(("place", opensim.ScaleTool, "placed.osim"))
    steps.append(("trial", opensim.InverseKinematicsTool, "trial.mot"))
    for name, tool, result in steps:
        # a scaling tool that places no markers says false all the same; what counts is the file
        tool(f"{name}.xml").run()
        if not os.path.isfile(result):
            print(f"{tool.__name__} wrote no {result}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
