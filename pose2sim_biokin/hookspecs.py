"""The two things that a plugin can bring: a kinematics backend, and a person segmenter.

A plugin is a module (or object) with functions marked by ``hookimpl``, named in the entry-point group
``pose2sim_biokin`` of its package::

    # my_plugin.py
    import numpy as np
    from pose2sim_biokin.hookspecs import hookimpl
    from pose2sim_biokin.vision.masks import PersonInstance

    class Hello:
        name = "hello"
        replaces = frozenset()

        def run(self, config_dict):
            print("Hello,", config_dict["project"]["project_dir"])

    @hookimpl
    def kinematics_backends():
        return [Hello()]

    class WholePicture:
        name = "whole_picture"
        description = "everything is the person"

        def load(self, spec, *, device, batch_size, project_dir):
            return self

        def segment(self, images, camera, frames):
            everywhere = [np.ones(image.shape[:2], bool) for image in images]
            return [[PersonInstance(m, (0, 0, m.shape[1], m.shape[0]), 1.0)] for m in everywhere]

    @hookimpl
    def person_segmenters():
        return [WholePicture()]

    # pyproject.toml
    [project.entry-points.pose2sim_biokin]
    my_plugin = "my_plugin"

With that package installed, ``kinematics_backend = "hello"`` under ``[kinematics]``, or
``segmentation = "whole_picture"`` under ``[biokin]``, is all that a user writes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import pluggy

if TYPE_CHECKING:
    import numpy as np

    from pose2sim_biokin.vision.masks import PersonInstance

PROJECT = "pose2sim_biokin"  # pluggy's project name, and the entry-point group

# Pose2Sim's stages that a backend may replace, named as its pipeline's methods are.
REPLACEABLE = (
    "poseEstimation",
    "synchronization",
    "personAssociation",
    "triangulation",
    "filtering",
    "markerAugmentation",
)

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@runtime_checkable
class KinematicsBackend(Protocol):
    """Turns one trial into joint angles.

    Attributes:
        name: what ``[kinematics] kinematics_backend`` says to get it.
        replaces: the stages, of `REPLACEABLE`, that ``runAll()`` leaves out for trials of this backend.
    """

    name: str
    replaces: frozenset[str]

    def run(self, config_dict: dict) -> None:
        """Do the trial of this config: Pose2Sim's merged one, ``["project"]["project_dir"]`` its folder."""
        ...


class PersonSegmenter(Protocol):
    """Finds people in images; made by a `SegmenterFactory`.

    Attributes:
        description: the weights in use, for the log and the quality file.
    """

    description: str

    def segment(self, images: list[np.ndarray], camera: str, frames: list[int]) -> list[list[PersonInstance]]:
        """The people in each image.

        Args:
            images: (H, W, 3) uint8 BGR, whole frames of one camera.
            camera: its name.
            frames: the frames' numbers in the camera's own recording.

        Returns:
            One list of people per image, empty where nobody is seen.
        """
        ...


@runtime_checkable
class SegmenterFactory(Protocol):
    """Makes the segmenter of a run.

    Attributes:
        name: what ``[biokin] segmentation`` says to get it.
    """

    name: str

    def load(self, spec: str, *, device: str, batch_size: int, project_dir: Path) -> PersonSegmenter:
        """A segmenter, ready to run.

        Args:
            spec: ``[biokin] segmentation`` as it is in the config.
            device: ``cpu``, ``cuda`` or ``mps``.
            batch_size: the most images to take at once.
            project_dir: the trial's folder; relative paths start there.
        """
        ...


@hookspec
def kinematics_backends() -> list[KinematicsBackend]:
    """The kinematics backends that this plugin brings."""


@hookspec
def person_segmenters() -> list[SegmenterFactory]:
    """The person segmenters that this plugin brings."""
