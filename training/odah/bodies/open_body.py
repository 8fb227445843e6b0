"""The built-in body: random adults whose skin hangs on the OpenSim skeleton's own body frames.

    body = OpenBody()
    subject = body.sample_subject(seed=3)
    vertices = body.pose(subject, coordinates)      # (..., V, 3) in OpenSim ground, m

The skeleton moves the mesh directly: vertices(q) = sum_b w_b T_b(q) T_b(q_rest)^-1 v_rest, where T_b are the
frames of the scaled skeleton. So the mesh's joints are the skeleton's joints, whatever the pose.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from odah.bodies.body import Animation, FittedSubjects, Subject, measured_animation
from odah.bodies.fitting import JOINT_SIGMA, LANDMARK_SIGMA, SkeletonFit
from odah.bodies.population import Person, Population
from odah.bodies.skin import body_matrix, forearm_twist
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.skeleton import BodyFrames, ForwardKinematics, Skeleton, load_skeleton

POPULATIONS = ("bank", "adults")
ASSET = Path(__file__).with_name("data") / "open_body.npz"
JOINT_BONES = {
    "femur_r": "upperleg01.R",
    "tibia_r": "lowerleg01.R",
    "talus_r": "foot.R",
    "torso": "spine03",
    "humerus_r": "upperarm01.R",
    "ulna_r": "lowerarm01.R",
    "hand_r": "wrist.R",
}
# The rig's hips are set wider apart and further back than hip joint centres are (its bones are placed for
# bending, not by anatomy), and its ankle and toe bones lie above the joints: shifts towards the anatomical
# centres. The hips' are the mean difference to Harrington et al. 2007 (`odah.bodies.anatomy`).
HIP_WIDTH, HIP_FORWARD = 0.84, 0.032  # share of the rig's, m
FOOT_DROP = {"talus_r": 0.006, "toes_r": 0.010}  # m
_FRAMES = 32  # posed at a time: the blended matrices are four times as large as the vertices
TOE_BONES = tuple(f"toe{k}-1.R" for k in range(1, 6))


class OpenBody(FittedSubjects):
    """Asset, skinning weights and skeleton of the built-in body.

    Args:
        mesh: "coarse" (3,500 vertices, enough for small images) or "fine" (13,348).
        skeleton: the skeleton to hang it on; the built-in one when absent.
        asset: another asset of the same format.
        population: whom a seed draws. "bank": mixtures of the asset's own shapes, which are tall and lean;
            the shipped network was trained on them. "adults": `odah.bodies.population`.
    Attributes:
        faces (F,3) int64, counter-clockwise from outside; uv (V,2); weights (V,22), rows sum to one;
        along: positions (V,) on limb segments of the mean shape, 0 proximal, 1 distal ("upper_arm_r", ...);
        head, neck: (V,) shares of the head's and the neck's bones; for garments and hair.
    """

    name = "open"

    def __init__(
        self,
        mesh: str = "coarse",
        skeleton: Skeleton | None = None,
        asset: Path = ASSET,
        population: str = "bank",
    ):
        if mesh not in ("coarse", "fine"):
            raise BiokinError(f"mesh: expected 'coarse' or 'fine', found {mesh!r}.")
        if population not in POPULATIONS:
            raise BiokinError(f"population: expected one of {POPULATIONS}, found {population!r}.")
        if not Path(asset).is_file():
            raise BiokinError(
                f"{asset}: body asset not found; build it with `python -m odah.bodies.convert_anny`."
            )
        self.skeleton = skeleton or load_skeleton()
        self.kinematics = ForwardKinematics(self.skeleton)
        self.fit = SkeletonFit(self.skeleton)
        self._population = Population(Path(asset).parent) if population == "adults" else None
        with np.load(asset) as data:
            bones = [str(name) for name in data["bone_names"]]
            fine = len(data["uv"])
            kept = data["coarse_vertices"] if mesh == "coarse" else np.arange(fine)
            self.faces = torch.as_tensor(data["coarse_faces" if mesh == "coarse" else "faces"]).long()
            self.uv = torch.as_tensor(data["uv"][kept])
            self._bank = data["coefficients"]
            # Rows: mesh vertices, landmarks, bone heads.
            landmark = dict(zip(map(str, data["landmark_names"]), data["landmark_vertices"], strict=True))
            rows = np.concatenate(
                [kept, [landmark[name] for name in LANDMARK_SIGMA], fine + np.arange(len(bones))]
            )
            self._mean = torch.as_tensor(data["mean"][rows])
            self._basis = torch.as_tensor(data["basis"][:, rows].astype(np.float32))
            sparse = data["skin_weights"][kept].astype(np.float32)
            dense = np.zeros((len(kept), len(bones)), dtype=np.float32)
            for column in range(sparse.shape[1]):
                dense[np.arange(len(kept)), data["skin_bones"][kept, column]] += sparse[:, column]
        self._bones = bones
        self._vertex_count = len(kept)
        dense /= dense.sum(1, keepdims=True)
        self.weights, self.along = self._skin(dense)
        neck = np.array([name.startswith("neck") for name in bones])
        trunk_or_limb = neck | (
            body_matrix(bones, self.skeleton.body_names)[:, self.skeleton.body_index("torso")] < 1
        )
        trunk_or_limb |= np.array(
            [name.startswith(("spine", "clavicle", "shoulder", "breast")) for name in bones]
        )
        self.neck = torch.as_tensor(dense[:, neck].sum(1))
        self.head = torch.as_tensor(dense[:, ~trunk_or_limb].sum(1))

    def _skin(self, dense: np.ndarray) -> tuple[Tensor, dict[str, Tensor]]:
        """Body weights (V,22), and positions (V,) along each limb segment of the mean shape."""
        names = self.skeleton.body_names
        weights = dense @ body_matrix(self._bones, names)
        mean = self._mean.numpy()
        heads = dict(zip(self._bones, mean[self._vertex_count + len(LANDMARK_SIGMA) :], strict=True))
        vertices = mean[: self._vertex_count]
        along: dict[str, Tensor] = {}
        segments = {
            "upper_arm": ("upperarm01", "lowerarm01"),
            "forearm": ("lowerarm01", "wrist"),
            "thigh": ("upperleg01", "lowerleg01"),
            "shank": ("lowerleg01", "foot"),
        }
        for name, (proximal, distal) in segments.items():
            for side in "RL":
                a, b = heads[f"{proximal}.{side}"], heads[f"{distal}.{side}"]
                position = ((vertices - a) @ (b - a)) / ((b - a) @ (b - a))
                along[f"{name}_{side.lower()}"] = torch.as_tensor(position.astype(np.float32))
        for side in "rl":
            ulna, radius = (names.index(f"{n}_{side}") for n in ("ulna", "radius"))
            weights = forearm_twist(weights, along[f"forearm_{side}"].numpy(), ulna, radius)
        return torch.as_tensor(weights.astype(np.float32)), along

    @property
    def rest_mean(self) -> Tensor:
        """(V,3) mean rest mesh in ground axes, origin between the hips."""
        return self._mean[: self._vertex_count]

    def sample_coefficients(self, seed: int) -> Tensor:
        """(K,) shape coefficients: a random point between two adults of the asset's sample, or an adult."""
        if self._population is not None:
            return torch.as_tensor(self._population.sample(seed)[0], dtype=torch.float32)
        rng = np.random.default_rng([seed, 0x0DA8])
        first, second = rng.integers(len(self._bank), size=2)
        mix = rng.uniform(0.0, 0.45)
        return torch.as_tensor((1 - mix) * self._bank[first] + mix * self._bank[second])

    def person(self, seed: int) -> Person | None:
        """Sex, age, stature and body-mass index of a seed's subject; None when they are not known."""
        return self._population.sample(seed)[1] if self._population is not None else None

    def targets(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Joint centres (n,8,3), landmarks (n,16,3) and knuckle (n,3) of asset rows (n, rows, 3)."""
        first_bone = self._vertex_count + len(LANDMARK_SIGMA)

        def head(name: str) -> Tensor:
            return points[:, first_bone + self._bones.index(name)]

        toes = torch.stack([head(name) for name in TOE_BONES], 1).mean(1)
        joints = [toes if body == "toes_r" else head(JOINT_BONES[body]) for body in JOINT_SIGMA]
        joints = torch.stack(joints, 1).clone()
        order = list(JOINT_SIGMA)
        joints[:, order.index("femur_r"), 2] *= HIP_WIDTH
        joints[:, order.index("femur_r"), 0] += HIP_FORWARD
        for body, drop in FOOT_DROP.items():
            joints[:, order.index(body), 1] -= drop
        return joints, points[:, self._vertex_count : first_bone], head("finger3-1.R")

    def make_subjects(self, coefficients: Tensor, seeds: list[int]) -> list[Subject]:
        """Subjects with these shape coefficients (n,K)."""
        points = self._mean + torch.einsum("nk,kvc->nvc", coefficients, self._basis)
        return self.fitted(points, self._vertex_count, coefficients, seeds)

    def pose(
        self,
        subject: Subject,
        coordinates: Tensor,
        rest: Tensor | None = None,
        frames: BodyFrames | None = None,
    ) -> Tensor:
        """Posed vertices (..., V, 3) in ground, m.

        Args:
            coordinates: (..., 39) rad and m.
            rest: (V,3) rest vertices in place of the subject's own (dressed, say).
            frames: the kinematics' result for these coordinates, if it is there already.
        """
        frames = frames or self.kinematics(coordinates, subject.scales)
        rotation = frames.rotation @ subject.bind_rotation
        position = (frames.rotation @ subject.bind_position[..., None])[..., 0] + frames.position
        transform = torch.cat([rotation, position[..., None]], -1).flatten(-2)  # (..., 22, 12)
        blended = (self.weights @ transform).unflatten(-1, (3, 4))  # (..., V, 3, 4)
        vertices = subject.vertices if rest is None else rest
        return (blended[..., :3] * vertices[:, None]).sum(-1) + blended[..., 3]

    @torch.no_grad()
    def animate(self, subject: Subject, coordinates: Tensor, rest: Tensor | None = None) -> Animation:
        """The mesh over a motion; see `odah.bodies.body.Body`.

        Args:
            coordinates: (T,39) rad and m.
            rest: (V,3) dressed rest vertices.
        """
        frames = self.kinematics(coordinates, subject.scales)

        def posed(vertices: Tensor | None) -> Tensor:
            out = torch.empty(len(coordinates), self._vertex_count, 3)
            for start in range(0, len(out), _FRAMES):
                part = slice(start, start + _FRAMES)
                now = BodyFrames(frames.rotation[part], frames.position[part])
                out[part] = self.pose(subject, coordinates[part], vertices, now)
            return out

        return measured_animation(self, subject, frames, posed(None), None if rest is None else posed(rest))
