"""What every parametric body offers: meshes of random people that follow the skeleton.

    body = load_body("open")                                        # or load_body("smplx", model_folder=...)
    subject = body.sample_subject(seed=3)
    animation = body.animate(subject, coordinates)                  # (T, V, 3) in OpenSim ground, m
    if animation.joint_rms_m > JOINT_LIMIT_M: ...                   # the mesh left the skeleton: reject

Garments and scenes know a body by this interface alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.skeleton import BodyFrames, ForwardKinematics, Skeleton

# A clip whose mesh is further from its skeleton than this, RMS over all frames, is no ground truth.
JOINT_LIMIT_M = 0.010
MARKER_LIMIT_M = 0.015
KINDS = ("open", "smplx")
GENDERS = ("neutral", "male", "female")
_CHUNK = 64  # frames whose residuals are measured at a time


@dataclass(frozen=True)
class Subject:
    """One person. V vertices of the chosen mesh, ground axes (X forward, Y up, Z right), m.

    Attributes:
        seed: what it was sampled from.
        coefficients: (K,) shape coefficients.
        scales: (22,3) scale factors of the skeleton.
        rest_coordinates: (39,) the skeleton's coordinates at which the rest mesh was made.
        vertices: (V,3) rest mesh.
        stature: height of the rest mesh, m.
        bind_rotation, bind_position: (22,3,3), (22,3) inverse body frames at rest.
    """

    seed: int
    coefficients: Tensor
    scales: Tensor
    rest_coordinates: Tensor
    vertices: Tensor
    stature: float
    bind_rotation: Tensor
    bind_position: Tensor


@dataclass(frozen=True)
class Animation:
    """A subject's mesh over a motion, and how well it follows the skeleton.

    Residuals are distances between the undressed mesh's regressed joint centres (marker vertices) and the
    skeleton's own, RMS over the clip, m.

    Attributes:
        vertices: (T,V,3) float32 in ground, m; dressed if dressed rest vertices were given.
        joint_rms_m, marker_rms_m: RMS over all joints, all markers.
        joint_names, joint_residuals_m: names and (J,) RMS of each joint centre.
        marker_names, marker_residuals_m: names and (M,) RMS of each marker.
    """

    vertices: Tensor
    joint_rms_m: float
    marker_rms_m: float
    joint_names: tuple[str, ...]
    joint_residuals_m: Tensor
    marker_names: tuple[str, ...]
    marker_residuals_m: Tensor

    @property
    def accepted(self) -> bool:
        """Both residuals are within their limits."""
        return self.joint_rms_m <= JOINT_LIMIT_M and self.marker_rms_m <= MARKER_LIMIT_M


class FittedSubjects:
    """Subjects of a body whose skeleton is fitted to its shapes: the part that all such bodies share.

    A body brings ``fit`` (`odah.bodies.fitting.SkeletonFit`), ``targets`` (points of a rest mesh to what the
    fit takes), ``sample_coefficients`` and ``make_subjects``.
    """

    def sample_subjects(self, seeds: list[int]) -> list[Subject]:
        """Subjects of these seeds, fitted together; each depends on its own seed alone."""
        subjects = []
        for start in range(0, len(seeds), 64):
            part = seeds[start : start + 64]
            subjects += self.make_subjects(torch.stack([self.sample_coefficients(s) for s in part]), part)
        return subjects

    def sample_subject(self, seed: int) -> Subject:
        """The subject of this seed."""
        return self.sample_subjects([seed])[0]

    def fitted(
        self,
        points: Tensor,
        count: int,
        coefficients: Tensor,
        seeds: list[int],
        scales: Tensor | None = None,
    ) -> list[Subject]:
        """Subjects with rest points (n, rows, 3), ground, m, of which the first `count` are the mesh.

        Their skeletons have these scales (n, 22, 3), or those of the fit.
        """
        found, rest = self.fit(*self.targets(points))
        scales = found if scales is None else scales.double()
        frames = self.fit.kinematics(rest, scales)
        inverse = frames.rotation.transpose(-1, -2)
        offset = -(inverse @ frames.position[..., None])[..., 0]
        subjects = []
        for n, seed in enumerate(seeds):
            vertices = points[n, :count].clone()
            subjects.append(
                Subject(
                    seed=seed,
                    coefficients=coefficients[n],
                    scales=scales[n].float(),
                    rest_coordinates=rest[n].float(),
                    vertices=vertices,
                    stature=float(vertices[:, 1].max() - vertices[:, 1].min()),
                    bind_rotation=inverse[n].float(),
                    bind_position=offset[n].float(),
                )
            )
        return subjects


class Body(Protocol):
    """A parametric body on a skeleton. V vertices, F faces.

    Attributes:
        name: "open", "smplx-neutral", ...
        skeleton, kinematics: what drives it.
        faces: (F,3) int64, counter-clockwise from outside; uv: (V,2).
        weights: (V,22) skinning by the skeleton's bodies, rows sum to one.
        along: positions (V,) on limb segments of the mean shape, 0 proximal, 1 distal ("upper_arm_r", ...).
        head, neck: (V,) shares of the head's and the neck's bones.
        rest_mean: (V,3) mean rest mesh in ground axes, origin between the hips.
    """

    name: str
    skeleton: Skeleton
    kinematics: ForwardKinematics
    faces: Tensor
    uv: Tensor
    weights: Tensor
    along: dict[str, Tensor]
    head: Tensor
    neck: Tensor

    @property
    def rest_mean(self) -> Tensor: ...

    def sample_subject(self, seed: int) -> Subject:
        """The random adult of this seed."""
        ...

    def pose(self, subject: Subject, coordinates: Tensor, rest: Tensor | None = None) -> Tensor:
        """Vertices (..., V, 3) in ground that the skeleton's body frames move; no fit to targets."""
        ...

    def animate(self, subject: Subject, coordinates: Tensor, rest: Tensor | None = None) -> Animation:
        """The mesh over a motion (T,39), rad and m; `rest` (V,3): dressed rest vertices of the subject."""
        ...


def load_body(
    kind: str = "open",
    *,
    model_folder: Path | None = None,
    gender: str = "neutral",
    mesh: str = "coarse",
) -> Body:
    """A body by name.

    Args:
        kind: "open" (built in) or "smplx" (the user's own model files, through the `smplx` package).
        model_folder: for "smplx": SMPLX_NEUTRAL.npz (or .pkl) itself, its folder, or the folder above.
        gender: of the SMPL-X model; the built-in body has all in one shape space.
        mesh: "coarse" or "fine" mesh of the built-in body; SMPL-X has one mesh.
    Raises:
        BiokinError: unknown kind or gender, or a file that is missing or of another kind.
    """
    if kind not in KINDS:
        raise BiokinError(f"body: expected one of {', '.join(KINDS)}; found {kind!r}.")
    if gender not in GENDERS:
        raise BiokinError(f"body gender: expected one of {', '.join(GENDERS)}; found {gender!r}.")
    if kind == "open":
        from odah.bodies.open_body import OpenBody

        if gender != "neutral":
            raise BiokinError(
                f"body gender: {gender!r} is only for 'smplx'; the open body draws women and men alike. "
                "Leave it out."
            )
        return OpenBody(mesh, population="adults")
    if model_folder is None:
        raise BiokinError(
            "body: 'smplx' needs your SMPL-X model files (SMPLX_NEUTRAL.npz, ...): set model_folder; "
            "get them from https://smpl-x.is.tue.mpg.de."
        )
    from odah.bodies.smplx_body import SmplxBody

    return SmplxBody(Path(model_folder), gender=gender)


@torch.no_grad()
def measured_animation(
    body: Body,
    subject: Subject,
    frames: BodyFrames,
    vertices: Tensor,
    dressed: Tensor | None = None,
) -> Animation:
    """An Animation of undressed vertices (T,V,3) with residuals against body frames (T,22).

    Args:
        dressed: (T,V,3) vertices to return in place of the undressed ones.
    """
    from odah.bodies.registration import load_registration

    registration = load_registration(body)
    joints, markers, count = 0.0, 0.0, len(vertices)
    for start in range(0, count, _CHUNK):
        part = slice(start, start + _CHUNK)
        now = BodyFrames(frames.rotation[part], frames.position[part])
        j, m = registration.residuals(body.kinematics, now, subject.scales, vertices[part])
        joints, markers = (
            joints + j.square() * len(now.position) / count,
            markers + m.square() * len(now.position) / count,
        )
    return Animation(
        vertices=vertices if dressed is None else dressed,
        joint_rms_m=float(joints.mean().sqrt()),
        marker_rms_m=float(markers.mean().sqrt()),
        joint_names=registration.joint_names,
        joint_residuals_m=joints.sqrt(),
        marker_names=registration.marker_names,
        marker_residuals_m=markers.sqrt(),
    )
