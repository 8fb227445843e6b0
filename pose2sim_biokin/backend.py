"""The kinematics backends that come with the package: ours, and Pose2Sim's own."""

from __future__ import annotations

from pose2sim_biokin.dispatch import unhooked
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

        # Once the hook is live, the name leads to the hook, which would come back here.
        unhooked(kinematics_all)(config_dict)


@hookimpl
def kinematics_backends() -> list[KinematicsBackend]:
    return [Biokin(), OpenSim()]
