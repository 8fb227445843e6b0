"""Registration of skeleton and mesh: the skeleton's joint centres and markers as functions of the vertices.

    registration = load_registration(body)
    centers = registration.joint_centers(vertices)      # (..., 22, 3) from the skin alone
    markers = registration.markers(vertices)            # (..., M, 3) vertices that stand for markers
    targets = registration.model_markers(frames, scales)  # (..., M, 3) the same markers on the skeleton

Joint centres are sums of a few dozen nearby vertices, with weights trained over many shapes and poses
(`odah.bodies.regressor`). Markers are the skeleton's own by name and body; where they sit on their body was
measured on the mesh, once for all subjects, since a model's published marker positions are those of one
person's flesh. A marker position scales with its body as any OpenSim marker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.skeleton import BodyFrames, ForwardKinematics, Skeleton
from pose2sim_biokin.skeleton.model import table_to_skeleton

ASSET = Path(__file__).with_name("data") / "open_registration.npz"
# Markers that are joint centres -> body whose joint it is. The model has no LUMBAR; with it pelvis and trunk
# can be measured apart.
CENTER_MARKERS = {
    f"{side}{name}": f"{body}_{side.lower()}"
    for side in "RL"
    for name, body in {
        "HJC": "femur",
        "KJC": "tibia",
        "AJC": "talus",
        "SJC": "humerus",
        "EJC": "ulna",
    }.items()
} | {"LUMBAR": "torso"}

_trained: WeakKeyDictionary = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Registration:
    """J joints and M markers of a mesh with V vertices.

    Attributes:
        joint_names: the skeleton's bodies; a body's joint is the one that carries it.
        joint_vertices, joint_weights: (J,K) int64, (J,K) float32; each row of weights sums to one.
        marker_names: skeleton's markers on the skin, and knuckles (`regressor.EXTRA_MARKERS`).
        marker_vertices: (M,) int64.
        marker_bodies: (M,) int64 index of the body that carries the marker.
        marker_locations: (M,3) float32 in that body's frame, unscaled, m.
        vertex_count: V.
    """

    joint_names: tuple[str, ...]
    joint_vertices: Tensor
    joint_weights: Tensor
    marker_names: tuple[str, ...]
    marker_vertices: Tensor
    marker_bodies: Tensor
    marker_locations: Tensor
    vertex_count: int

    @property
    def regressor(self) -> Tensor:
        """Sparse (J,V) matrix: ``joint_centers(v) = regressor @ v``."""
        rows = torch.arange(len(self.joint_names))[:, None].expand_as(self.joint_vertices)
        index = torch.stack([rows.flatten(), self.joint_vertices.flatten()])
        size = (len(self.joint_names), self.vertex_count)
        return torch.sparse_coo_tensor(
            index, self.joint_weights.flatten(), size, check_invariants=False
        ).coalesce()

    def joint_centers(self, vertices: Tensor) -> Tensor:
        """(..., J, 3) joint centres of vertices (..., V, 3), in their frame and unit."""
        self._check(vertices)
        near = vertices[..., self.joint_vertices.to(vertices.device), :]
        return (near * self.joint_weights.to(near)[..., None]).sum(-2)

    def markers(self, vertices: Tensor) -> Tensor:
        """(..., M, 3) marker vertices of vertices (..., V, 3)."""
        self._check(vertices)
        return vertices[..., self.marker_vertices.to(vertices.device), :]

    def model_markers(self, frames: BodyFrames, scales: Tensor) -> Tensor:
        """(..., M, 3) the markers on the skeleton, in ground, m.

        Args:
            frames: forward kinematics' body frames.
            scales: (..., 22, 3), as given to the kinematics.
        """
        bodies = self.marker_bodies.to(scales.device)
        local = self.marker_locations.to(scales) * scales[..., bodies, :]
        rotation = frames.rotation[..., bodies, :, :]
        return frames.position[..., bodies, :] + (rotation * local[..., None, :]).sum(-1)

    def residuals(
        self, kinematics: ForwardKinematics, frames: BodyFrames, scales: Tensor, vertices: Tensor
    ) -> tuple[Tensor, Tensor]:
        """RMS distance of mesh and skeleton over all leading dimensions: joints (J,), markers (M,); m.

        Args:
            frames: body frames (..., 22) of the skeleton with these scales.
            scales: (22,3) or any shape that fits.
            vertices: (..., V, 3) in ground, undressed.
        """
        joints = self.joint_centers(vertices) - kinematics.joint_centers(frames, scales)
        markers = self.markers(vertices) - self.model_markers(frames, scales)
        return tuple(d.flatten(0, -3).square().sum(-1).mean(0).sqrt() for d in (joints, markers))

    def select(self, names: Sequence[str]) -> Registration:
        """The same with these markers alone, in this order; BiokinError for an unknown name."""
        rows = [self.marker_index(name) for name in names]
        return replace(
            self,
            marker_names=tuple(names),
            marker_vertices=self.marker_vertices[rows],
            marker_bodies=self.marker_bodies[rows],
            marker_locations=self.marker_locations[rows],
        )

    def marker_index(self, name: str) -> int:
        """Index of a marker; BiokinError when there is none of that name."""
        if name not in self.marker_names:
            raise BiokinError(
                f"Marker {name!r} is not on the mesh; expected one of {', '.join(self.marker_names)}."
            )
        return self.marker_names.index(name)

    def virtual_markers(self, vertices: Tensor) -> tuple[tuple[str, ...], Tensor]:
        """Names and points (..., M + 11, 3) of a marker trial of the mesh: its markers and CENTER_MARKERS."""
        rows = [self.joint_names.index(body) for body in CENTER_MARKERS.values()]
        points = [self.markers(vertices), self.joint_centers(vertices)[..., rows, :]]
        return (*self.marker_names, *CENTER_MARKERS), torch.cat(points, -2)

    def marker_skeleton(self, skeleton: Skeleton) -> Skeleton:
        """The skeleton with its markers where this registration has them, as a trial of the mesh needs it.

        The mesh's markers move or are added, CENTER_MARKERS move right into the joint centres, the few that
        are left stay.
        """
        moved = {
            name: {
                "name": name,
                "body": skeleton.body_names[int(body)],
                "location": [float(v) for v in location],
            }
            for name, body, location in zip(
                self.marker_names, self.marker_bodies, self.marker_locations.double(), strict=True
            )
        }
        offsets = skeleton.joints.child_offsets.sum(-1)
        for name, body in CENTER_MARKERS.items():
            location = offsets[skeleton.body_index(body)].tolist()
            moved[name] = {"name": name, "body": body, "location": location}
        markers = [moved.pop(m["name"], m) for m in skeleton.table.get("markers", [])] + list(moved.values())
        return table_to_skeleton({**skeleton.table, "markers": markers}, skeleton.name)

    def _check(self, vertices: Tensor) -> None:
        if vertices.shape[-2] != self.vertex_count:
            raise ValueError(
                f"vertices: expected (..., {self.vertex_count}, 3), found {tuple(vertices.shape)}"
            )


def load_registration(body) -> Registration:
    """The registration of a body: shipped for the built-in one, trained on first use for any other.

    A body that is not the built-in asset is registered from its own random subjects and poses
    (`regressor.train_registration`, some seconds), and the result is kept as long as the body lives. Such a
    body needs ``kinematics``, ``sample_subject(seed)`` and ``pose(subject, coordinates)``, which must not
    ask for the registration itself.

    Raises:
        BiokinError: the shipped file is missing or is not the skeleton's.
    """
    if body not in _trained:
        from odah.bodies.open_body import OpenBody
        from odah.bodies.regressor import train_registration

        shipped = None
        if isinstance(body, OpenBody):
            shipped = read_registration(ASSET, len(body.weights), body.skeleton)
        _trained[body] = shipped or train_registration(body)
    return _trained[body]


def read_registration(path: Path, vertex_count: int, skeleton: Skeleton) -> Registration | None:
    """The registration in a file for the mesh with this many vertices; None when it has no such mesh.

    Raises:
        BiokinError: the file is missing or broken, or was made for another skeleton.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {key: data[key] for key in data.files}
        counts = arrays["vertex_counts"].tolist()
        names = tuple(map(str, arrays["joint_names"]))
    except (OSError, KeyError, ValueError) as error:
        raise BiokinError(
            f"{path}: cannot be read as a registration ({error}); build it with "
            "`python -m odah.bodies.regressor`."
        ) from error
    if names != skeleton.body_names:
        raise BiokinError(
            f"{path}: made for joints {', '.join(names[:4])}, ...; expected those of {skeleton.name}. "
            "Build it with `python -m odah.bodies.regressor`."
        )
    if vertex_count not in counts:
        return None
    mesh = counts.index(vertex_count)
    return Registration(
        joint_names=names,
        joint_vertices=torch.as_tensor(arrays["joint_vertices"][mesh]).long(),
        joint_weights=torch.as_tensor(arrays["joint_weights"]),
        marker_names=tuple(map(str, arrays["marker_names"])),
        marker_vertices=torch.as_tensor(arrays["marker_vertices"][mesh]).long(),
        marker_bodies=torch.as_tensor(arrays["marker_bodies"]).long(),
        marker_locations=torch.as_tensor(arrays["marker_locations"]),
        vertex_count=vertex_count,
    )
