"""Body measurements of subjects as an anthropometer takes them, beside published ones (`odah.bodies.ansur`).

    table = compare(body, subjects)        # one row a measurement and sex

Measured on the mesh in the skeleton's neutral pose (standing, arms down), sitting height in a right-angled
seat. Where the published landmark is a bone that a mesh does not show, the nearest joint centre or marker
stands in: PROXIES says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import ConvexHull, QhullError
from torch import Tensor

from odah.bodies.ansur import ANSUR, Published
from odah.bodies.registration import load_registration

PROXIES = {
    "biacromial breadth": "distance of the shoulder joint centres",
    "upper arm length": "skin above the shoulder joint centre to the lateral epicondyle",
    "forearm length": "elbow to wrist joint centre",
    "trochanter height": "height of the hip joint centre",
    "knee height": "height of the lateral epicondyle",
    "mass": "volume at 1000 kg/m^3",
}
_ARMS = ("humerus", "ulna", "radius", "hand")
# Heights of girths as shares of the stature (ANSUR II means over both sexes).
_CHEST, _WAIST, _SEAT = 0.723, 0.604, (0.46, 0.56)


@dataclass(frozen=True)
class Comparison:
    """A measurement of our subjects of one sex beside the published one; mm, kg, kg/m^2.

    Attributes:
        name, sex: "all" when the subjects' sex is not known; then men and women are mixed half and half.
        count, ours: number of subjects, and their statistics.
        published: the survey's.
    """

    name: str
    sex: str
    count: int
    ours: Published
    published: Published

    @property
    def shift(self) -> float:
        """Difference of the means in the survey's standard deviations."""
        return (self.ours.mean - self.published.mean) / self.published.sd


@torch.no_grad()
def measure(body, subject) -> dict[str, float]:
    """Measurements of one subject by name; mm, kg and kg/m^2. The body's registration gives landmarks."""
    skeleton, kinematics = body.skeleton, body.kinematics
    registration = load_registration(body)
    standing = torch.zeros(len(skeleton.coordinate_names))
    frames = kinematics(standing, subject.scales)
    vertices = body.pose(subject, standing)
    floor = vertices[:, 1].min()
    vertices = vertices - torch.tensor([0.0, float(floor), 0.0])
    centers = kinematics.joint_centers(frames, subject.scales) - torch.tensor([0.0, float(floor), 0.0])
    joint = dict(zip(skeleton.body_names, centers, strict=True))
    marker = dict(zip(registration.marker_names, registration.markers(vertices), strict=True))
    weights = body.weights.cpu()

    def share(*names: str) -> Tensor:
        """(V,) weight of the bodies whose names begin so."""
        return weights[:, [name.startswith(names) for name in skeleton.body_names]].sum(1)

    trunk = share(*_ARMS) < 0.5
    top = float(vertices[:, 1].max())
    right_hand = vertices[share("hand_r") > 0.5]
    foot = vertices[(share("calcn_r") + share("toes_r")) > 0.5]
    crown = vertices[(body.head.cpu() > 0.5) & (vertices[:, 1] > top - 0.11)]
    seat = vertices[trunk & (vertices[:, 1] > _SEAT[0] * top) & (vertices[:, 1] < _SEAT[1] * top)]
    deltoid = vertices[(share("humerus") > 0.3) & (vertices[:, 1] > joint["humerus_r"][1] - 0.12)]
    shoulder = joint["humerus_r"]
    above = vertices[(vertices[:, [0, 2]] - shoulder[[0, 2]]).norm(dim=-1) < 0.03]
    acromion = above[above[:, 1].argmax()]
    mass = 1000 * mesh_volume(vertices, body.faces)
    lengths = {
        "stature": top,
        "cervicale height": float(marker["C7"][1]),
        "sitting height": _sitting_height(body, subject, share("pelvis") > 0.5),
        "biacromial breadth": _distance(joint["humerus_r"], joint["humerus_l"]),
        "bideltoid breadth": _extent(deltoid, 2),
        "hip breadth": _extent(seat, 2),
        "upper arm length": _distance(acromion, marker["RLEL"]),
        "forearm length": _distance(joint["ulna_r"], joint["hand_r"]),
        "hand length": float((right_hand - joint["hand_r"]).norm(dim=-1).max()),
        "trochanter height": float(joint["femur_r"][1]),
        "knee height": float(marker["RLFC"][1]),
        "ankle height": float(marker["RLMAL"][1]),
        "foot length": _extent(foot, 0),
        "foot breadth": _extent(foot, 2),
        "head length": _extent(crown, 0),
        "head breadth": _extent(crown, 2),
    }
    faces = body.faces[trunk[body.faces].all(1)]
    leg = body.faces[(share("femur_r", "tibia_r") > 0.5)[body.faces].all(1)]
    hip, knee, ankle = (float(joint[name][1]) for name in ("femur_r", "tibia_r", "talus_r"))
    lengths |= {
        "chest girth": girth(vertices, faces, _CHEST * top),
        "waist girth": girth(vertices, faces, _WAIST * top),
        "buttock girth": max(girth(vertices, faces, h * top) for h in np.linspace(*_SEAT, 6)),
        "thigh girth": max(girth(vertices, leg, hip + s * (knee - hip)) for s in (0.25, 0.3, 0.35)),
        "calf girth": max(girth(vertices, leg, knee + s * (ankle - knee)) for s in (0.2, 0.27, 0.34, 0.41)),
    }
    return {
        **{name: 1000 * value for name, value in lengths.items()},
        "mass": mass,
        "BMI": mass / top**2,
    }


def mesh_volume(vertices: Tensor, faces: Tensor) -> float:
    """Volume, m^3, of a closed mesh (V,3), (F,3) whose faces wind outwards."""
    a, b, c = (vertices.double()[faces[:, k]] for k in range(3))
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def girth(vertices: Tensor, faces: Tensor, height: float) -> float:
    """Length, m, of a tape around the faces at a height; zero where there are none."""
    points = []
    for k in range(3):
        a, b = vertices[faces[:, k]], vertices[faces[:, (k + 1) % 3]]
        crosses = (a[:, 1] - height) * (b[:, 1] - height) < 0
        a, b = a[crosses], b[crosses]
        t = (height - a[:, 1]) / (b[:, 1] - a[:, 1])
        points.append((a + t[:, None] * (b - a))[:, [0, 2]])
    flat = torch.cat(points).double().numpy()
    try:
        return float(ConvexHull(flat).area) if len(flat) > 2 else 0.0  # of a plane figure: its perimeter
    except QhullError:
        return 0.0


def compare(body, subjects: Sequence, sexes: Sequence[str] | None = None) -> list[Comparison]:
    """Measurements of subjects beside the published ones.

    Args:
        sexes: "male" or "female" of each subject; when absent they are compared with both sexes, mixed.
    """
    rows = [measure(body, subject) for subject in subjects]
    groups = {"all": np.arange(len(rows))}
    if sexes is not None:
        groups = {sex: np.flatnonzero([s == sex for s in sexes]) for sex in ("male", "female")}
    table = []
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        for sex, members in groups.items():
            if name in ANSUR and len(members):
                men, women = ANSUR[name]
                published = {"male": men, "female": women}.get(sex) or _mixed(men, women)
                table.append(Comparison(name, sex, len(members), _statistics(values[members]), published))
    return table


def _mixed(men: Published, women: Published) -> Published:
    """Half men, half women: mean and SD are exact, percentiles are those of two normal distributions."""
    mean = (men.mean + women.mean) / 2
    sd = float(np.sqrt((men.sd**2 + women.sd**2) / 2 + (men.mean - women.mean) ** 2 / 4))
    normal = np.linspace(-4, 4, 4001)
    density = np.exp(-(normal**2) / 2)
    values = np.concatenate([p.mean + p.sd * normal for p in (men, women)])
    weight = np.tile(density, 2)
    order = np.argsort(values)
    share = np.cumsum(weight[order]) / weight.sum()
    return Published(mean, sd, *np.interp([0.05, 0.5, 0.95], share, values[order]).tolist())


def _statistics(values: np.ndarray) -> Published:
    sd = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return Published(float(values.mean()), sd, *np.percentile(values, [5, 50, 95]).tolist())


def _sitting_height(body, subject, seat: Tensor) -> float:
    """From the seat (V,) bool to the top of the head with hips and knees at right angles, m."""
    q = torch.zeros(len(body.skeleton.coordinate_names))
    for name in ("hip_flexion_r", "hip_flexion_l", "knee_angle_r", "knee_angle_l"):
        q[body.skeleton.coordinate_index(name)] = torch.pi / 2
    vertices = body.pose(subject, q)
    return float(vertices[:, 1].max() - vertices[seat, 1].min())


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm())


def _extent(points: Tensor, axis: int) -> float:
    return float(points[:, axis].max() - points[:, axis].min())
