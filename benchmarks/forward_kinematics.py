"""Forward kinematics of the built-in skeleton: this package against the OpenSim API, in one run.

Both turn random coordinates into the frames (rotation and position) of the 22 bodies: OpenSim one pose at a
time by setting the 39 coordinates, realizing positions and reading each body's transform; this package in
batches. Their results are compared before the clock starts. They take turns, and the best turn of each
counts, so that other work on the machine disturbs neither more than the other.

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
        "--poses", type=int, default=100, help="OpenSim's poses a turn (default: %(default)s)"
    )
    parser.add_argument(
        "--turns", type=int, default=20, help="the best of these counts (default: %(default)s)"
    )
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
    expected = np.array([read(pose)[1] for pose in poses])
    error = np.abs(kinematics(coordinates[: args.poses]).position.numpy() - expected).max()

    with_gradient = coordinates.clone().requires_grad_()
    best = np.full(3, np.inf)
    for _ in range(args.turns):
        turn = (
            seconds(lambda: [read(pose) for pose in poses]),
            seconds(lambda: infer(kinematics, coordinates, scales)),
            seconds(lambda: train(kinematics, with_gradient, scales)),
        )
        best = np.minimum(best, turn)
    theirs, ours, training = np.array([len(poses), args.batch, args.batch]) / best

    print(f"{args.batch} poses at once, {args.threads} threads, largest difference {error:.1e} m")
    print(f"OpenSim API                 {theirs:12,.0f} poses/s")
    print(f"this package                {ours:12,.0f} poses/s   {ours / theirs:6.0f} x")
    print(f"this package with gradient  {training:12,.0f} poses/s   {training / theirs:6.0f} x")


def infer(kinematics: ForwardKinematics, coordinates: torch.Tensor, scales: torch.Tensor | None) -> None:
    with torch.inference_mode():
        kinematics(coordinates, scales)


def train(kinematics: ForwardKinematics, coordinates: torch.Tensor, scales: torch.Tensor | None) -> None:
    coordinates.grad = None
    kinematics(coordinates, scales).position.sum().backward()


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def opensim_reader(skeleton: Skeleton) -> Callable[[np.ndarray], tuple[list, np.ndarray]]:
    """Coordinates to rotations and positions (22, 3) of the bodies, through OpenSim."""
    opensim.Logger.setLevelString("Off")
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
