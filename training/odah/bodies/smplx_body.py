"""SMPL-X as a body of ours: random adults of the user's model file on the OpenSim skeleton.

    body = SmplxBody(model_folder, gender="female")
    subject = body.sample_subject(seed=3)
    animation = body.animate(subject, coordinates)

Rest meshes are in ground axes (X forward, Y up, Z right), origin between the hips, arms lowered and elbows a
little bent (the T-pose has no unique shoulder angles). The skeleton is fitted to the model's own joints and
to landmarks on its skin, as the built-in body's is. In motion, SMPL-X's joints first copy the rotations of
the skeleton's bodies since rest (`pose`); then they are fitted to its joint centres and markers (`animate`).

The file's joints are taken as they are: no published correction of their places was applied.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from odah.bodies.body import Animation, FittedSubjects, Subject, measured_animation
from odah.bodies.fitting import JOINT_SIGMA, LANDMARK_SIGMA, SkeletonFit
from odah.bodies.landmarks import find_landmarks
from odah.bodies.sites import knuckle_site, pelvis_sites
from odah.bodies.skin import forearm_twist
from odah.bodies.smplx_model import BODY_JOINTS, JOINTS, find_smplx, read_smplx
from odah.bodies.smplx_tables import CARRIED, FOLLOWS, JOINT_TARGETS, OWNERS, R_GROUND_FILE, REST_POSE
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.skeleton import BodyFrames, ForwardKinematics, Skeleton, load_skeleton
from pose2sim_biokin.skeleton.rotations import axis_angle_to_matrix, matrix_to_axis_angle

STATURE_M = (1.45, 2.05)  # of adults; others are drawn again
BETA_LIMIT = 2.5
_DRAWS = 50
_FRAMES = 32  # posed at a time


@dataclass(frozen=True)
class SmplxSubject(Subject):
    """One person of an SMPL-X model; `coefficients` are the betas.

    Attributes:
        gender: of the model.
        origin: (3,) what was taken off the file's rest positions, in ground axes, m.
    """

    gender: str
    origin: Tensor


class SmplxBody(FittedSubjects):
    """An SMPL-X model file on a skeleton; attributes as in `odah.bodies.body.Body`.

    Args:
        folder: the model file, its folder, or the folder above "smplx".
        gender: "neutral", "male" or "female".
        skeleton: the skeleton to hang it on; the built-in one when absent.
    Attributes:
        model: the file's arrays, in its own axes.
        sites: marker name -> (3,) place on the mean rest mesh, right side and midline (see `sites`).
    Raises:
        BiokinError: see `find_smplx` and `read_smplx`.
    """

    def __init__(self, folder: Path, gender: str = "neutral", skeleton: Skeleton | None = None):
        self.model = read_smplx(find_smplx(Path(folder), gender), gender)
        self.name = f"smplx-{gender}"
        self.skeleton = skeleton or load_skeleton()
        self.kinematics = ForwardKinematics(self.skeleton)
        self.fit = SkeletonFit(self.skeleton)
        self.faces = self.model.faces
        self._last: tuple | None = None  # subject, coordinates, motion and bare animation
        self.rest_rotations = torch.eye(3).repeat(BODY_JOINTS, 1, 1)
        for name, vector in REST_POSE.items():
            self.rest_rotations[JOINTS.index(name)] = axis_angle_to_matrix(torch.tensor(vector))
        self._follow = self._table(FOLLOWS, BODY_JOINTS)
        points, _ = self.rest_points(torch.zeros(1, self.model.shape_count))
        self._mean = points[0, : len(self.model.template)]
        heads = dict(zip(JOINTS, points[0, len(self._mean) :].numpy(), strict=True))
        self._landmarks = self._find_landmarks(heads)
        self.sites = self._sites(heads)
        self.weights, self.along = self._skin(heads)
        rig = self.model.weights
        self.neck = rig[:, JOINTS.index("neck")]
        self.head = rig[:, [JOINTS.index(n) for n in ("head", "jaw", "left_eye", "right_eye")]].sum(1)
        self.uv = _cylinder_uv(self._mean) if self.model.uv is None else self.model.uv

    @property
    def rest_mean(self) -> Tensor:
        """(V,3) mean rest mesh in ground axes, origin between the hips."""
        return self._mean

    def rest_points(self, betas: Tensor) -> tuple[Tensor, Tensor]:
        """Rest vertices, then joints (n, V + 55, 3) in ground axes, of betas (n,S); and origins (n,3)."""
        vertices, joints = self.model.mesh(
            betas, self._all_rotations(self.rest_rotations), torch.zeros(len(betas), 3)
        )
        points = torch.cat([vertices, joints], 1) @ R_GROUND_FILE.T
        first = vertices.shape[1]
        hips = [first + JOINTS.index(f"{side}_hip") for side in ("left", "right")]
        origin = points[:, hips].mean(1)
        return points - origin[:, None], origin

    def sample_coefficients(self, seed: int) -> Tensor:
        """(S,) betas: standard normal, as the model's shape space is scaled, of an adult's stature."""
        rng = np.random.default_rng([seed, 0x53A9])
        for _ in range(_DRAWS):
            betas = rng.normal(size=self.model.shape_count).clip(-BETA_LIMIT, BETA_LIMIT).astype(np.float32)
            height = self.model.shaped(torch.as_tensor(betas))[0][:, 1]
            if STATURE_M[0] < float(height.max() - height.min()) < STATURE_M[1]:
                return torch.as_tensor(betas)
        raise BiokinError(
            f"{self.name}: no shape between {STATURE_M[0]} and {STATURE_M[1]} m tall in {_DRAWS} draws; is "
            "the model file one of adults in metres?"
        )

    def targets(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Joint centres (n,8,3), landmarks (n,16,3) and knuckle (n,3) of rest points (n, V + 55, 3).

        Of the right side: the mean of both, since the skeleton's factors are the same left and right.
        """
        count = len(self._mean)
        mirror = torch.tensor([1.0, 1.0, -1.0])

        def joint(names: tuple[str, ...]) -> Tensor:
            other = [name.replace("right", "left") for name in names]
            right, left = (
                points[:, [count + JOINTS.index(n) for n in side]].mean(1) for side in (names, other)
            )
            return 0.5 * (right + left * mirror)

        joints = torch.stack([joint(JOINT_TARGETS[body]) for body in JOINT_SIGMA], 1)
        marks = []
        for name in LANDMARK_SIGMA:
            right = points[:, self._landmarks[name]]
            left = self._landmarks.get("L" + name[1:], self._landmarks[name])
            marks.append(0.5 * (right + points[:, left] * mirror))
        return joints, torch.stack(marks, 1), joint(("right_middle1",))

    def make_subjects(
        self, betas: Tensor, seeds: list[int], scales: Tensor | None = None
    ) -> list[SmplxSubject]:
        """Subjects with these betas (n,S); their skeletons are fitted, or have these scales (n,22,3)."""
        points, origin = self.rest_points(betas)
        subjects = self.fitted(points, len(self._mean), betas, seeds, scales)
        return [
            SmplxSubject(**vars(subject), gender=self.model.gender, origin=origin[n])
            for n, subject in enumerate(subjects)
        ]

    def follow(self, subject: Subject, frames: BodyFrames) -> Tensor:
        """Local rotations (..., 22, 3, 3), file axes, that copy the skeleton's motion since rest."""
        turned = frames.rotation @ subject.bind_rotation.to(
            frames.rotation
        )  # (..., 22 bodies): rest to now, ground
        to_file = R_GROUND_FILE.to(turned)
        turned = to_file.T @ turned @ to_file
        rest, _ = self.model.chain(self.rest_rotations.to(turned), self.model.joint_template.to(turned))
        world = []
        for j in range(BODY_JOINTS):
            bodies = torch.nonzero(self._follow[j])[:, 0].tolist()
            now = turned[..., bodies[0], :, :]
            if len(bodies) == 2:  # part of the way from the first body to the second
                share = self._follow[j, bodies[1]].to(turned)
                between = now.transpose(-1, -2) @ turned[..., bodies[1], :, :]
                now = now @ axis_angle_to_matrix(share * matrix_to_axis_angle(between))
            world.append(now @ rest[j])
        parents = self.model.parents
        local = [world[0]] + [world[parents[j]].transpose(-1, -2) @ world[j] for j in range(1, BODY_JOINTS)]
        return torch.stack(local, -3)

    def place(self, subject: Subject, frames: BodyFrames, rotations: Tensor) -> Tensor:
        """(..., 3) translation, file axes, that brings the model's joints nearest to the skeleton's."""
        _, joints = self.model.shaped(subject.coefficients.to(rotations))
        _, position = self.model.chain(rotations, joints)
        centers = self.kinematics.joint_centers(frames, subject.scales) @ R_GROUND_FILE.to(frames.position)
        gaps = []
        for name in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist"):
            body = f"{CARRIED[name]}_" + "{s}"
            for side in ("left", "right"):
                target = centers[..., self.skeleton.body_index(body.format(s=side[0])), :]
                gaps.append(target - position[..., JOINTS.index(f"{side}_{name}"), :])
        return torch.stack(gaps).mean(0)

    def skin(
        self, subject: Subject, rotations: Tensor, translation: Tensor, rest: Tensor | None = None
    ) -> Tensor:
        """Vertices (..., V, 3) in ground, m, of local rotations (..., 22, 3, 3) and translations (..., 3).

        Args:
            rest: (V,3) rest vertices in place of the subject's own (dressed, say).
        """
        shaped, joints = self.model.shaped(subject.coefficients)
        if rest is not None:
            orientation, position = self.model.chain(self.rest_rotations, joints)
            matrix, _ = self.model.skinning(orientation, position, joints)
            moved = (rest - subject.vertices) @ R_GROUND_FILE  # file axes
            shaped = shaped + torch.linalg.solve(matrix, moved[..., None])[..., 0]
        orientation, position = self.model.chain(rotations, joints)
        matrix, shift = self.model.skinning(orientation, position, joints)
        posed = (matrix @ (shaped + self.model.pose_offsets(rotations))[..., None])[..., 0] + shift
        return (posed + translation[..., None, :]) @ R_GROUND_FILE.T

    @torch.no_grad()
    def pose(self, subject: SmplxSubject, coordinates: Tensor, rest: Tensor | None = None) -> Tensor:
        """Posed vertices (..., V, 3) in ground, m: the model's own joints meet the skeleton's.

        Frame by frame and without the registration, which is trained on such poses; see `animate`.

        Args:
            coordinates: (..., 39) rad and m.
            rest: (V,3) rest vertices in place of the subject's own.
        """
        from odah.bodies.acquisition import fit_model_joints

        frames = self.kinematics(coordinates.reshape(-1, coordinates.shape[-1]), subject.scales)
        vertices = self._posed(subject, fit_model_joints(self, subject, frames), rest)
        return vertices.view(*coordinates.shape[:-1], *vertices.shape[1:])

    @torch.no_grad()
    def animate(self, subject: SmplxSubject, coordinates: Tensor, rest: Tensor | None = None) -> Animation:
        """The mesh over a motion (T,39), fitted to the skeleton; see `odah.bodies.body.Body`.

        The last fit is kept, so that the layers of an outfit share it.
        """
        from odah.bodies.acquisition import fit_motion

        if self._last is None or self._last[0] is not subject or not torch.equal(self._last[1], coordinates):
            frames = self.kinematics(coordinates, subject.scales)
            motion = fit_motion(self, subject, frames)
            bare = measured_animation(self, subject, frames, self._posed(subject, motion, None))
            self._last = (subject, coordinates.clone(), motion, bare)
        _, _, motion, bare = self._last
        if rest is None:
            return replace(bare, vertices=bare.vertices.clone())
        return replace(bare, vertices=self._posed(subject, motion, rest))

    def _posed(self, subject: SmplxSubject, motion, rest: Tensor | None) -> Tensor:
        """(T,V,3) vertices of an `acquisition.SmplxMotion`."""
        out = torch.empty(len(motion.rotations), len(self._mean), 3)
        for start in range(0, len(out), _FRAMES):
            part = slice(start, start + _FRAMES)
            out[part] = self.skin(subject, motion.rotations[part], motion.translation[part], rest)
        return out

    def _all_rotations(self, rotations: Tensor) -> Tensor:
        """(55,3,3) from (22,3,3): face and fingers at rest."""
        return torch.cat([rotations, torch.eye(3).expand(len(JOINTS) - BODY_JOINTS, 3, 3)])

    def _table(self, shares: dict[str, dict[str, float]], count: int) -> Tensor:
        """(count,22) shares of the skeleton's bodies in each of the first SMPL-X joints."""
        table = torch.zeros(count, len(self.skeleton.body_names))
        for j, name in enumerate(JOINTS[:count]):
            part = name.split("_")[-1].rstrip("123") if "spine" not in name else name
            for body, share in shares.get(part, {"torso": 1.0}).items():
                table[j, self.skeleton.body_index(body.format(s=name[0]))] = share
        return table

    def _find_landmarks(self, heads: dict[str, np.ndarray]) -> dict[str, int]:
        """Vertices of the landmarks, by the markers' names."""
        mean = self._mean.numpy()
        bone = {
            name: heads[f"right_{name}"] for name in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
        }
        bone |= {"index": heads["right_index1"], "little": heads["right_pinky1"], "neck": heads["neck"]}
        # the clavicles' inner ends lie a little higher than the shoulders
        bone["clavicle"] = heads["right_shoulder"] + np.array([0.0, 0.02, 0.0])
        # The model has one toe joint: the balls of the outer toes are found on the skin beside it.
        ball = heads["right_foot"]
        low = (mean[:, 1] < heads["right_ankle"][1] - 0.01) & (mean[:, 2] > 0)
        across = mean[low & (np.abs(mean[:, 0] - ball[0]) < 0.02), 2]
        if not len(across):
            raise BiokinError(
                f"{self.name}: no skin around the toe joint; is the model file an adult in metres?"
            )
        inner, outer = across.min(), across.max()
        bone["first_toe"] = np.array([ball[0], ball[1], inner + 0.25 * (outer - inner)])
        bone["fifth_toe"] = np.array([ball[0] - 0.015, ball[1], outer - 0.15 * (outer - inner)])
        return dict(zip(*find_landmarks(mean, bone), strict=True))

    def _sites(self, heads: dict[str, np.ndarray]) -> dict[str, Tensor]:
        """Places of the anatomical markers, as the built-in body's (`open_body_sites`)."""
        skin = self._mean.numpy().astype(np.float64)
        sites = {name: skin[v] for name, v in self._landmarks.items() if not name.startswith("L")}
        sites |= pelvis_sites(skin)
        right = (heads[f"right_{name}"] for name in ("middle1", "wrist", "index1", "pinky1"))
        sites["RMC3"] = knuckle_site(*right)
        return {name: torch.as_tensor(site, dtype=torch.float32) for name, site in sites.items()}

    def _skin(self, heads: dict[str, np.ndarray]) -> tuple[Tensor, dict[str, Tensor]]:
        """Weights (V,22) by the skeleton's bodies, and positions (V,) along each limb segment."""
        weights = (self.model.weights @ self._table(OWNERS, len(JOINTS))).numpy()
        names = self.skeleton.body_names
        along: dict[str, Tensor] = {}
        segments = {
            "upper_arm": ("shoulder", "elbow"),
            "forearm": ("elbow", "wrist"),
            "thigh": ("hip", "knee"),
            "shank": ("knee", "ankle"),
        }
        for name, (proximal, distal) in segments.items():
            for side in ("right", "left"):
                a, b = heads[f"{side}_{proximal}"], heads[f"{side}_{distal}"]
                position = ((self._mean.numpy() - a) @ (b - a)) / ((b - a) @ (b - a))
                along[f"{name}_{side[0]}"] = torch.as_tensor(position.astype(np.float32))
        for side in "rl":
            ulna, radius = (names.index(f"{n}_{side}") for n in ("ulna", "radius"))
            weights = forearm_twist(weights, along[f"forearm_{side}"].numpy(), ulna, radius)
        return torch.as_tensor(weights.astype(np.float32)), along


def _cylinder_uv(rest: Tensor) -> Tensor:
    """(V,2) for files without texture coordinates: around the body and up it; arms share the trunk's."""
    low, high = rest[:, 1].min(), rest[:, 1].max()
    around = torch.atan2(rest[:, 2], rest[:, 0]) / (2 * torch.pi) + 0.5
    return torch.stack([around, (rest[:, 1] - low) / (high - low)], -1)
