"""The kinematics backends that come with the package: ours, and Pose2Sim's own."""

from __future__ import annotations

from pathlib import Path

from pose2sim_biokin.dispatch import unhooked
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.hookspecs import KinematicsBackend, hookimpl


class Biokin:
    """Two views to joint angles and segment scales with one network."""

    name = "biokin"
    replaces = frozenset(
        {"poseEstimation", "personAssociation", "triangulation", "filtering", "markerAugmentation"}
    )

    def run(self, config_dict: dict) -> None:
        from pose2sim_biokin.pipeline import run_trial

        run_trial(config_dict)


class OpenSim:
    """Pose2Sim's own scaling and inverse kinematics, untouched."""

    name = "opensim"
    replaces: frozenset[str] = frozenset()

    def run(self, config_dict: dict) -> None:
        from Pose2Sim.kinematics import kinematics_all

        keep_our_results(Path(config_dict["project"]["project_dir"]))
        # Once the hook is live, the name leads to the hook, which would come back here.
        unhooked(kinematics_all)(config_dict)


def keep_our_results(trial: Path) -> None:
    """Upstream takes every .trc of pose-3d where none is filtered or augmented; ours are results.

    Raises:
        BiokinError: it would work on ours, and overwrite our .osim and .mot.
    """
    found = [path.name for path in sorted((trial / "pose-3d").glob("*.trc"))]
    ours = [name for name in found if name.endswith("_biokin.trc")]
    theirs = [name for name in found if name not in ours and ("_filt" in name or "_LSTM" in name)]
    if ours and not theirs:
        raise BiokinError(
            f"{trial / 'pose-3d'}: Pose2Sim's own kinematics would take {ours[0]} for triangulated markers, "
            "and overwrite biokin's results: there is no filtered or augmented .trc beside it. Run "
            "Pose2Sim.filtering() first, or move biokin's .trc out of the folder."
        )


@hookimpl
def kinematics_backends() -> list[KinematicsBackend]:
    return [Biokin(), OpenSim()]
