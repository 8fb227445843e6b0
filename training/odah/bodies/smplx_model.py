"""SMPL-X: the user's model file, checked, read through the `smplx` package, and its linear blend skinning.

    model = read_smplx(find_smplx(folder, "female"))
    vertices, joints = model.mesh(betas, rotations, translation)

All here is in the file's own axes: Y up, the T-pose faces Z, left is +X; metres. The files are licensed
(https://smpl-x.is.tue.mpg.de) and never bundled. Skinning is Loper et al. 2015, "SMPL", eq. 2-6, and
Pavlakos et al. 2019, "Expressive body capture"; written out here since fits need parts of it with gradients.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pose2sim_biokin.errors import BiokinError

JOINTS = (
    ("pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle")
    + ("right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head")
    + ("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist")
    + ("jaw", "left_eye", "right_eye")
    + tuple(
        f"{side}_{finger}{k}"
        for side in ("left", "right")
        for finger in ("index", "middle", "pinky", "ring", "thumb")
        for k in (1, 2, 3)
    )
)
BODY_JOINTS = 22  # the first ones; then jaw, eyes and fingers
MOST_BETAS = 16  # as AMASS has them; files of 2019 hold ten
_KEYS = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f")
_SITE = "get it from https://smpl-x.is.tue.mpg.de"
_KINDS = {24: "SMPL", 52: "SMPL-H", 16: "MANO"}  # by number of joints


@dataclass(frozen=True, eq=False)
class SmplxModel:
    """V vertices, 55 joints, S shape coefficients; float32, the file's axes, m.

    Attributes:
        gender: of the file.
        template: (V,3) mean T-pose; shapes: (S,V,3) added per unit of a coefficient.
        correctives: (486, 3 V) added per unit of the 54 rotations' (minus one) elements.
        joint_template, joint_shapes: (55,3), (S,55,3) joints of template and shapes.
        parents: of each joint, -1 for the root.
        weights: (V,55); faces: (F,3) int64; uv: (V,2), or None when the file has none.
    """

    gender: str
    template: Tensor
    shapes: Tensor
    correctives: Tensor
    joint_template: Tensor
    joint_shapes: Tensor
    parents: tuple[int, ...]
    weights: Tensor
    faces: Tensor
    uv: Tensor | None

    @property
    def shape_count(self) -> int:
        """S."""
        return len(self.shapes)

    def shaped(self, betas: Tensor) -> tuple[Tensor, Tensor]:
        """T-pose vertices (..., V, 3) and joints (..., 55, 3) of betas (..., <= S), the rest being zero."""
        count = betas.shape[-1]
        vertices = self.template.to(betas) + torch.einsum(
            "...s,svc->...vc", betas, self.shapes[:count].to(betas)
        )
        joints = self.joint_template.to(betas) + torch.einsum(
            "...s,sjc->...jc", betas, self.joint_shapes[:count].to(betas)
        )
        return vertices, joints

    def chain(self, rotations: Tensor, joints: Tensor) -> tuple[Tensor, Tensor]:
        """Orientations (..., n, 3, 3) and positions (..., n, 3) of the first n joints in pose.

        Args:
            rotations: (..., n, 3, 3) relative to the parent.
            joints: (..., 55, 3) in T-pose; the root stays where it is.
        """
        batch = torch.broadcast_shapes(rotations.shape[:-3], joints.shape[:-2])
        rotations = rotations.expand(*batch, *rotations.shape[-3:])
        orientation = [rotations[..., 0, :, :]]
        position = [joints[..., 0, :].expand(*batch, 3)]
        for j in range(1, rotations.shape[-3]):
            parent = self.parents[j]
            bone = joints[..., j, :] - joints[..., parent, :]
            position.append(position[parent] + (orientation[parent] @ bone[..., None])[..., 0])
            orientation.append(orientation[parent] @ rotations[..., j, :, :])
        return torch.stack(orientation, -3), torch.stack(position, -2)

    def pose_offsets(self, rotations: Tensor) -> Tensor:
        """(..., V, 3) pose correctives of rotations (..., n, 3, 3) of the first n joints; others at zero."""
        feature = (rotations[..., 1:, :, :] - torch.eye(3).to(rotations)).flatten(-3)
        return (feature @ self.correctives[: feature.shape[-1]].to(feature)).unflatten(-1, (-1, 3))

    def skinning(self, orientation: Tensor, position: Tensor, joints: Tensor) -> tuple[Tensor, Tensor]:
        """Matrices (..., V, 3, 3) and shifts (..., V, 3) that move T-pose vertices.

        Args:
            orientation, position: of the first n joints, as `chain` gives them; n is 22 or 55.
            joints: (..., 55, 3) in T-pose.
        """
        count = orientation.shape[-3]
        weights = (self.weights if count == len(JOINTS) else self.body_weights).to(orientation)
        shift = position - (orientation @ joints[..., :count, :, None])[..., 0]
        affine = torch.cat([orientation, shift[..., None]], -1).flatten(-2)
        blended = (weights @ affine).unflatten(-1, (3, 4))
        return blended[..., :3], blended[..., 3]

    @property
    def body_weights(self) -> Tensor:
        """(V,22) weights, face and fingers added to head and wrists: the same while those are at rest."""
        table = torch.zeros(len(JOINTS), BODY_JOINTS)
        for j in range(len(JOINTS)):
            target = j
            while target >= BODY_JOINTS:
                target = self.parents[target]
            table[j, target] = 1.0
        return self.weights @ table

    def mesh(self, betas: Tensor, rotations: Tensor, translation: Tensor) -> tuple[Tensor, Tensor]:
        """Vertices (..., V, 3) and joints (..., n, 3), as `smplx` computes them.

        Args:
            betas: (..., <= S) or (<= S,).
            rotations: (..., n, 3, 3) of the first n joints relative to their parents; n is 22 (hands flat)
                or 55. For axis-angles see `pose2sim_biokin.skeleton.rotations.axis_angle_to_matrix`.
            translation: (..., 3) of all; the root joint turns about its own place in T-pose.
        """
        vertices, joints = self.shaped(betas)
        orientation, position = self.chain(rotations, joints)
        matrix, shift = self.skinning(orientation, position, joints)
        posed = (matrix @ (vertices + self.pose_offsets(rotations))[..., None])[..., 0] + shift
        return posed + translation[..., None, :], position + translation[..., None, :]


def find_smplx(folder: Path, gender: str) -> Path:
    """The file SMPLX_<GENDER>.npz or .pkl in `folder`, `folder`/smplx or `folder`/models/smplx.

    `folder` may be such a file itself.

    Raises:
        BiokinError: there is none, or the file is named after another gender.
    """
    folder = Path(folder)
    name = f"SMPLX_{gender.upper()}"
    if folder.is_file():
        named = folder.stem.upper().removeprefix("SMPLX_")
        if named in ("NEUTRAL", "MALE", "FEMALE") and named != gender.upper():
            raise BiokinError(
                f"{folder}: the {named.lower()} model, but gender is {gender!r}; set gender to "
                f"{named.lower()!r}, or give the file's folder."
            )
        if folder.suffix.lower() not in (".npz", ".pkl"):
            raise BiokinError(f"{folder}: expected a .npz or .pkl file of SMPL-X; {_SITE}.")
        return folder
    for place in (folder, folder / "smplx", folder / "models" / "smplx"):
        for extension in ("npz", "pkl"):
            if (place / f"{name}.{extension}").is_file():
                return place / f"{name}.{extension}"
    found = sorted(p.name for p in folder.glob("**/SMPL*") if p.is_file())[:6] if folder.is_dir() else []
    raise BiokinError(
        f"{folder}: no {name}.npz or {name}.pkl there or in its folder smplx"
        f" (found: {', '.join(found) or 'no model file'}); {_SITE} and set model_folder."
    )


def read_smplx(path: Path, gender: str = "neutral") -> SmplxModel:
    """Read and check a model file.

    A .pkl file runs code when it is read, as every pickle does: use only files from the official site.

    Raises:
        BiokinError: `smplx` is not installed; the file is damaged, of another model (SMPL, SMPL-H, ...) or
            contradicts itself.
    """
    path = Path(path)
    extension = path.suffix.lower().lstrip(".")
    _check(path, _npz_shapes(path) if extension == "npz" else _pkl_shapes(path))
    try:
        import smplx
    except ImportError as error:
        raise BiokinError("SMPL-X needs the package smplx: pip install 'pose2sim-biokin[smplx]'.") from error
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it warns of files with few coefficients
            layer = smplx.SMPLXLayer(
                str(path),
                gender=gender,
                ext=extension,
                num_betas=MOST_BETAS,
                flat_hand_mean=True,
                use_pca=False,
            )
    except Exception as error:
        raise BiokinError(
            f"{path}: the package smplx cannot read it ({type(error).__name__}: {error}); {_SITE}."
        ) from error
    with torch.no_grad():
        regressor, template = layer.J_regressor.float(), layer.v_template.float()
        shapes = layer.shapedirs.float().permute(2, 0, 1).contiguous()
        parents = tuple(int(p) for p in layer.parents)
        weights = layer.lbs_weights.float()
        if not all(
            bool(torch.isfinite(t).all()) for t in (template, shapes, layer.posedirs, weights, regressor)
        ):
            raise BiokinError(f"{path}: holds numbers that are not finite; download it again.")
        if any(not -1 <= p < j for j, p in enumerate(parents)) or min(parents[1:]) < 0:
            raise BiokinError(f"{path}: kintree_table is no tree of joints; download it again.")
        return SmplxModel(
            gender=gender,
            template=template,
            shapes=shapes,
            correctives=layer.posedirs.float(),
            joint_template=regressor @ template,
            joint_shapes=regressor @ shapes,
            parents=parents,
            weights=weights / weights.sum(1, keepdim=True),
            faces=layer.faces_tensor.long(),
            uv=_uv(path, layer.faces_tensor.numpy(), len(template)),
        )


def _npz_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of all arrays from their headers alone: the real file holds 600 MB."""
    shapes = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as member:
                    major = np.lib.format.read_magic(member)[0]
                    read = (
                        np.lib.format.read_array_header_1_0
                        if major == 1
                        else np.lib.format.read_array_header_2_0
                    )
                    shapes[name.removesuffix(".npy")] = read(member)[0]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise BiokinError(f"{path}: cannot be read as .npz ({error}); download it again.") from error
    return shapes


def _pkl_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        with path.open("rb") as file:
            data = pickle.load(file, encoding="latin1")
        return {str(key): tuple(getattr(value, "shape", ())) for key, value in dict(data).items()}
    except ModuleNotFoundError as error:
        raise BiokinError(
            f"{path}: needs the Python package {error.name} to be read; use the .npz file instead ({_SITE})."
        ) from error
    except Exception as error:  # a damaged pickle can raise anything
        raise BiokinError(f"{path}: cannot be read as .pkl ({error}); download it again.") from error


def _check(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """That these are the arrays of an SMPL-X model that fit together."""
    missing = [key for key in _KEYS if key not in shapes]
    if missing:
        raise BiokinError(
            f"{path}: no SMPL-X model; it lacks {', '.join(missing)}"
            f" and holds {', '.join(sorted(shapes)[:8])}."
            f" Expected SMPLX_NEUTRAL.npz or the like; {_SITE}."
        )
    joints = shapes["weights"][-1] if shapes["weights"] else 0
    if joints != len(JOINTS):
        kind = f"a {_KINDS[joints]} model" if joints in _KINDS else "no SMPL-X model"
        raise BiokinError(f"{path}: {kind} ({joints} joints); expected SMPL-X with {len(JOINTS)}: {_SITE}.")
    hands = [key for key in ("hands_meanl", "hands_meanr", "lmk_faces_idx") if key not in shapes]
    if hands:
        raise BiokinError(
            f"{path}: no whole SMPL-X model; it lacks {', '.join(hands)}. {_SITE.capitalize()}."
        )
    count = shapes["v_template"][0]
    expected = {
        "v_template": (count, 3),
        "posedirs": (count, 3, 9 * (len(JOINTS) - 1)),
        "J_regressor": (len(JOINTS), count),
        "weights": (count, len(JOINTS)),
        "kintree_table": (2, len(JOINTS)),
    }
    for key, shape in expected.items():
        if tuple(shapes[key]) != shape:
            raise BiokinError(f"{path}: {key} is {shapes[key]}, expected {shape}; download it again.")
    shape = shapes["shapedirs"]
    if len(shape) != 3 or tuple(shape[:2]) != (count, 3) or shape[2] < 20:
        raise BiokinError(
            f"{path}: shapedirs is {shape}, expected ({count}, 3, at least 20); download it again."
        )


def _uv(path: Path, faces: np.ndarray, count: int) -> Tensor | None:
    """(V,2) the first texture coordinate of each vertex, of files that have them (vt, ft)."""
    if path.suffix.lower() != ".npz":
        return None
    with np.load(path) as data:
        if "vt" not in data.files or "ft" not in data.files or data["ft"].shape != faces.shape:
            return None
        out = np.zeros((count, 2), dtype=np.float32)
        out[faces.ravel()[::-1]] = data["vt"][data["ft"].astype(np.int64).ravel()[::-1]]
    return torch.as_tensor(out)
