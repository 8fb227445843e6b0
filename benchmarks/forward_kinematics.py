"""Forward kinematics of the built-in skeleton: this package against the OpenSim API, in one run.

Both turn random coordinates into the frames (rotation and position) of the 22 bodies: OpenSim one pose at a
time by setting the 39 coordinates, realizing positions and reading each body's transform; this package in
batches. Their results are compared before the clock starts.

    python benchmarks/forward_kinematics.py
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import opensim
import torch

from pose2sim_biokin.io.osim import write_osim
from pose2sim_biokin.skeleton import ForwardKinematics, Skeleton, load_skeleton


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=4096, help="poses at once (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    parser.add_argument(
        "--poses", type=int, default=1000, help="poses through OpenSim (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=7, help="best of this many (default: %(default)s)")
    parser.add_argument("--scaled", action="store_true", help="with scale factors for every pose")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    skeleton = load_skeleton()
    rng = np.random.default_rng(0)
    low, high = np.clip(skeleton.coordinate_ranges, -3.0, 3.0).T
    kinematics = ForwardKinematics(skeleton)
    coordinates = kinematics.constrain(torch.tensor(rng.uniform(low, high, (args.batch, len(low)))))
    scales = torch.tensor(rng.uniform(0.8, 1.2, (args.batch, 22, 3))).float() if args.scaled else None

    poses = coordinates[: args.poses].double().numpy()
    read = opensim_reader(skeleton)
    with torch.inference_mode():
        expected = np.array([read(pose)[1] for pose in poses[:50]])
        error = np.abs(kinematics(coordinates[:50]).position.numpy() - expected).max()
        ours = args.batch / best(lambda: kinematics(coordinates, scales), args.repeats)
    with_gradient = coordinates.clone().requires_grad_()
    training = args.batch / best(lambda: step(kinematics, with_gradient, scales), args.repeats)
    theirs = len(poses) / best(lambda: [read(pose) for pose in poses], max(1, args.repeats // 3))

    print(f"{args.batch} poses at once, {args.threads} threads, largest difference {error:.1e} m")
    print(f"OpenSim API                 {theirs:12,.0f} poses/s")
    print(f"this package                {ours:12,.0f} poses/s   {ours / theirs:6.0f} x")
    print(f"this package with gradient  {training:12,.0f} poses/s   {training / theirs:6.0f} x")


def step(kinematics: ForwardKinematics, coordinates: torch.Tensor, scales: torch.Tensor | None) -> None:
    coordinates.grad = None
    kinematics(coordinates, scales).position.sum().backward()


def best(work: Callable[[], object], repeats: int) -> float:
    """Shortest of several runs, seconds, after one that does not count."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def opensim_reader(skeleton: Skeleton) -> Callable[[np.ndarray], tuple[list, np.ndarray]]:
    """Coordinates to rotations and positions (22, 3) of the bodies, through OpenSim."""
    with tempfile.TemporaryDirectory() as folder:
        model = opensim.Model(str(write_osim(Path(folder) / "model.osim", skeleton)))
    state = model.initSystem()
    coordinates = [model.getCoordinateSet().get(name) for name in skeleton.coordinate_names]
    bodies = [model.getBodySet().get(name) for name in skeleton.body_names]
    for coordinate in coordinates:
        coordinate.setLocked(state, False)

    def read(pose: np.ndarray) -> tuple[list, np.ndarray]:
        for coordinate, value in zip(coordinates, pose.tolist(), strict=True):
            coordinate.setValue(state, value, False)
        model.realizePosition(state)
        transforms = [body.getTransformInGround(state) for body in bodies]
        rotations = [transform.R() for transform in transforms]
        return rotations, np.array([transform.p().to_numpy() for transform in transforms])

    return read


if __name__ == "__main__":
    main()
