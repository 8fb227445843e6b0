"""A small body in SMPL-X's own file format, for tests: no licensed file is needed.

    path = write_tiny_smplx(tmp_path)                     # tmp_path/smplx/SMPLX_NEUTRAL.npz
    body = load_body("smplx", model_folder=tmp_path)
    layer = tiny_layer(tmp_path)                          # the smplx package's own module, for comparison

It has SMPL-X's 55 joints, names and tree, its T-pose (Y up, facing Z, left is +X), all keys that the `smplx`
package reads, and the proportions and skin of a person: the built-in body's mean shape and main directions,
thinned out to some 1,400 vertices and with its arms raised. Pose correctives are small random numbers.

The package picks keypoints by vertex numbers of the licensed mesh, so its module for a mesh this small needs
them changed before it can be called: `tiny_layer` does that. File names and folders are as published.
"""

from __future__ import annotations

import functools
import pickle
from pathlib import Path

import numpy as np

from odah.bodies.open_body import ASSET

VERTICES = 1400
MESH = Path(__file__).with_name("data") / "tiny_mesh.npz"  # made by `python tests/odah/tiny_smplx.py`
SHAPES = 10
JOINTS = 55
_FINGERS = {"index": 2, "middle": 3, "pinky": 5, "ring": 4, "thumb": 1}
_PARENTS = (
    (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15)
    + (20, 25, 26, 20, 28, 29, 20, 31, 32, 20, 34, 35, 20, 37, 38)
    + (21, 40, 41, 21, 43, 44, 21, 46, 47, 21, 49, 50, 21, 52, 53)
)
# Joints in SMPL-X's order -> heads of the built-in rig's bones that are averaged; {s} is L or R.
_TRUNK = (
    ("spine05", "spine04"),
    ("upperleg01.L",),
    ("upperleg01.R",),
    ("spine02",),
    ("lowerleg01.L",),
    ("lowerleg01.R",),
    ("spine02", "spine01"),
    ("foot.L",),
    ("foot.R",),
    ("spine01",),
    tuple(f"toe{k}-1.L" for k in range(1, 6)),
    tuple(f"toe{k}-1.R" for k in range(1, 6)),
    ("neck01",),
    ("clavicle.L",),
    ("clavicle.R",),
    ("head",),
    ("upperarm01.L",),
    ("upperarm01.R",),
    ("lowerarm01.L",),
    ("lowerarm01.R",),
    ("wrist.L",),
    ("wrist.R",),
    ("jaw",),
    ("eye.L",),
    ("eye.R",),
)
_HEADS = _TRUNK + tuple(
    (f"finger{digit}-{k}.{s}",) for s in "LR" for digit in _FINGERS.values() for k in (1, 2, 3)
)
# Prefix of a bone of the built-in rig -> SMPL-X joint (index of the left one) that moves its skin.
_SKIN = {"root": 0, "pelvis": 0, "spine05": 0, "spine04": 0, "spine03": 3, "spine02": 6, "spine01": 9}
_SKIN |= {
    "breast": 9,
    "neck": 12,
    "clavicle": 13,
    "shoulder": 13,
    "upperarm": 16,
    "lowerarm": 18,
    "wrist": 20,
}
_SKIN |= {"metacarpal": 20, "upperleg": 1, "lowerleg": 4, "foot": 7, "toe": 10, "jaw": 22, "eye.": 23}
_PAIRED = (1, 4, 7, 10, 13, 16, 18, 20, 23)


def write_tiny_smplx(folder: Path, gender: str = "neutral", extension: str = "npz") -> Path:
    """Write `folder`/smplx/SMPLX_<GENDER>.<extension> ("npz" or "pkl") and return its path.

    Women and men differ from the neutral body by a step along its first shape direction.
    """
    path = Path(folder) / "smplx" / f"SMPLX_{gender.upper()}.{extension}"
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = dict(tiny_arrays())
    step = {"neutral": 0.0, "female": -0.7, "male": 0.7}[gender]
    arrays["v_template"] = arrays["v_template"] + step * arrays["shapedirs"][..., 0]
    if extension == "npz":
        np.savez_compressed(path, **arrays)
    else:
        with path.open("wb") as file:
            pickle.dump(arrays, file, protocol=2)
    return path


def tiny_layer(folder: Path, gender: str = "neutral", num_betas: int = SHAPES):
    """The smplx package's own module of the file, hands flat, with its vertex keypoints put within reach."""
    import smplx

    layer = smplx.create(
        str(folder),
        model_type="smplx",
        gender=gender,
        ext="npz",
        use_pca=False,
        flat_hand_mean=True,
        num_betas=num_betas,
    )
    layer.vertex_joint_selector.extra_joints_idxs %= layer.get_num_verts()
    return layer


@functools.lru_cache(maxsize=1)
def tiny_arrays() -> dict[str, np.ndarray]:
    """All arrays of the neutral file; see the module docstring."""
    points, weights, faces, uv = _rig()  # (1 + SHAPES, V + 55, 3): mean, then mean + each shape
    count = len(weights)
    points = _raise_arms(points, weights)
    points = np.stack([-points[..., 2], points[..., 1] - 0.35, points[..., 0]], -1)  # ground to SMPL-X
    shapes, joints = points[:, :count], points[:, count:]
    rng = np.random.default_rng(0)
    correctives = np.zeros((count, 3, JOINTS - 1, 9))
    for joint in range(1, JOINTS):
        share = weights[:, joint] * (1 - weights[:, joint]) * 4  # around the joint, where skin folds
        correctives[:, :, joint - 1] = 2e-3 * share[:, None, None] * rng.standard_normal((3, 9))
    shapedirs = np.zeros((count, 3, 2 * SHAPES))  # the second half is for expressions
    shapedirs[..., :SHAPES] = np.moveaxis(shapes[1:] - shapes[0], 0, -1)
    tree = np.array([_PARENTS, range(JOINTS)], dtype=np.int64)
    tree[0, 0] = 2**32 - 1
    return {
        "v_template": shapes[0],
        "shapedirs": shapedirs,
        "posedirs": correctives.reshape(count, 3, -1).astype(np.float32),
        "J_regressor": _joint_regressor(shapes, joints),
        "weights": weights,
        "kintree_table": tree.astype(np.uint32),
        "f": faces.astype(np.uint32),
        "vt": uv,
        "ft": faces.astype(np.uint32),
        "hands_componentsl": np.eye(45),
        "hands_componentsr": np.eye(45),
        "hands_meanl": np.full(45, 0.1),
        "hands_meanr": np.full(45, 0.1),
        "lmk_faces_idx": np.arange(51),
        "lmk_bary_coords": np.full((51, 3), 1 / 3),
        "dynamic_lmk_faces_idx": np.zeros((79, 17), dtype=np.int64),
        "dynamic_lmk_bary_coords": np.full((79, 17, 3), 1 / 3),
    }


def _rig() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points (1 + SHAPES, V + 55, 3) in ground axes, weights (V,55), faces and UVs of a thinned mesh."""
    with np.load(MESH) as data:
        kept, faces = data["kept"].astype(np.int64), data["faces"].astype(np.int64)
    with np.load(ASSET) as data:
        bones = [str(name) for name in data["bone_names"]]
        uv = data["uv"]
        fine = len(uv)
        mean, basis = data["mean"].astype(np.float64), data["basis"][:SHAPES].astype(np.float64)
        skin_bones, skin_weights = data["skin_bones"][kept], data["skin_weights"][kept].astype(np.float64)
    points = np.concatenate([mean[None], mean + basis])
    heads = np.stack([points[:, [fine + bones.index(name) for name in names]].mean(1) for names in _HEADS], 1)
    heads[:, 1:3, 2] *= 0.84  # hip centres are closer together than the rig's bones
    heads[:, 7:9, 1] -= 0.006
    heads[:, 10:12, 1] -= 0.010
    weights = np.zeros((len(kept), JOINTS))
    for column in range(skin_bones.shape[1]):
        target = np.array([_skin_joint(name) for name in bones])[skin_bones[:, column]]
        np.add.at(weights, (np.arange(len(kept)), target), skin_weights[:, column])
    return (
        np.concatenate([points[:, kept], heads], 1),
        weights / weights.sum(1, keepdims=True),
        faces,
        uv[kept],
    )


def _skin_joint(bone: str) -> int:
    """SMPL-X joint whose rotation moves the skin of a bone of the built-in rig."""
    right = bone.endswith(".R")
    if bone.startswith("finger"):
        digit, phalanx = int(bone[6]), int(bone[8])
        return 25 + 15 * right + 3 * list(_FINGERS.values()).index(digit) + phalanx - 1
    joint = next((joint for prefix, joint in _SKIN.items() if bone.startswith(prefix)), 15)
    return joint + (right and joint in _PAIRED)


def _raise_arms(points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Points in T-pose: arms out to the sides, straight, palms down, by linear blend skinning."""
    count = len(weights)
    heads = points[:, count:]
    rotation = np.tile(np.eye(3), (JOINTS, 1, 1))
    for side, (shoulder, elbow, wrist, first) in enumerate(((16, 18, 20, 25), (17, 19, 21, 40))):
        out = np.array([0.0, 0.0, -1.0 if side == 0 else 1.0])
        forward = np.array([1.0, 0.0, 0.0])
        h = heads[0]
        upper, fore, hand = h[elbow] - h[shoulder], h[wrist] - h[elbow], h[first + 3] - h[wrist]
        bend, thumb = np.cross(upper, fore), h[first] - h[first + 6]
        rotation[shoulder] = _frame(out, np.cross(out, forward)) @ _frame(upper, bend).T
        rotation[wrist] = rotation[first : first + 15] = _frame(out, forward) @ _frame(hand, thumb).T
        straight = _frame(out, np.cross(out, forward)) @ _frame(fore, bend).T
        turned = _frame(out, forward) @ _frame(fore, thumb).T
        u, _, v = np.linalg.svd(straight + turned)  # half of the forearm's twist
        rotation[elbow] = u @ v
    placed = np.empty_like(heads)
    placed[:, 0] = heads[:, 0]
    for joint in range(1, JOINTS):
        parent = _PARENTS[joint]
        placed[:, joint] = placed[:, parent] + (heads[:, joint] - heads[:, parent]) @ rotation[parent].T
    blend = np.einsum("vj,jab->vab", weights, rotation)
    shift = placed - np.einsum("jab,njb->nja", rotation, heads)
    skin = np.einsum("vab,nvb->nva", blend, points[:, :count]) + np.einsum("vj,nja->nva", weights, shift)
    return np.concatenate([skin, placed], 1)


def _frame(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(3,3) orthonormal columns: `first`, the part of `second` across it, and their cross product."""
    a = first / np.linalg.norm(first)
    b = second - (second @ a) * a
    b /= np.linalg.norm(b)
    return np.stack([a, b, np.cross(a, b)], 1)


def _joint_regressor(shapes: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """(55,V) weights of the 60 nearest vertices that give the joints of every shape; rows sum to one."""
    out = np.zeros((JOINTS, shapes.shape[1]))
    for joint in range(JOINTS):
        offset = shapes - joints[:, joint, None]
        near = np.argsort(np.linalg.norm(offset[0], axis=1))[:60]
        rows = offset[:, near].transpose(0, 2, 1).reshape(-1, 60)
        a = np.linalg.solve(rows.T @ rows + 1e-3**2 * np.eye(60), np.ones(60))
        out[joint, near] = a / a.sum()
    return out


def main() -> None:
    """Thin the built-in body's coarse mesh and keep which vertices and faces are left."""
    from odah.bodies.decimate import decimate

    with np.load(ASSET) as data:
        coarse = data["coarse_vertices"]
        kept, faces = decimate(data["mean"][coarse].astype(np.float64), data["coarse_faces"], VERTICES)
    MESH.parent.mkdir(exist_ok=True)
    np.savez_compressed(MESH, kept=coarse[kept].astype(np.int32), faces=faces.astype(np.int32))


if __name__ == "__main__":
    main()
