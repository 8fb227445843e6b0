"""How fast people are drawn: crops of dressed people in batches, and whole pictures of scenes.

Crops: the path of `odah crops`, square pictures of clothed random people from random sides, in batches.
Pictures: a scene of `odah.scenes.sampler`, 1080x720, the subject moving; setting up the scene and the
pictures of what stands still (once a camera) are timed apart. Times are wall clock and, on the CPU,
processor time, which other work on the machine disturbs less.

    python benchmarks/rasterizer.py --size 128 --threads 2
    python benchmarks/rasterizer.py --size 256 --device cuda
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from odah.bodies.body import load_body
from odah.render.crowd import DressedPerson
from odah.render.scene_raster import SceneRaster
from odah.scenes.cameras import crop_cameras, random_lights
from odah.scenes.people import dress
from odah.scenes.sampler import SceneSettings, build_scene
from odah.scenes.scene import SUBJECT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128, help="side of the crops, px (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="crops at once (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=5, help="batches, and pictures (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--no-scene", action="store_true", help="crops only")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"CPU, {args.threads} threads"
    print(f"on {where}")
    crops(args)
    if not args.no_scene:
        pictures(args)


def motion(body, subject, frames: int) -> torch.Tensor:
    """(frames, 39) coordinates: arms and legs swing."""
    q = subject.rest_coordinates[None].repeat(frames, 1).clone()
    phase = torch.linspace(0, 6.28, frames)
    for name, size in (
        ("arm_flex_r", 0.8),
        ("arm_flex_l", -0.8),
        ("hip_flexion_r", 0.5),
        ("hip_flexion_l", -0.5),
    ):
        q[:, body.skeleton.coordinate_index(name)] += size * torch.sin(phase)
    return q


def crops(args: argparse.Namespace) -> None:
    """Batches of crops."""
    body = load_body("open", mesh="coarse")
    subject = body.sample_subject(1)
    rng = np.random.default_rng(1)
    q = motion(body, subject, args.batch)
    person = dress(rng, body, subject, lambda rest: body.animate(subject, q, rest), SUBJECT)
    crowd = DressedPerson(person.meshes, args.device)
    angle = rng.uniform(0, 2 * np.pi, args.batch)
    eyes = np.stack([4 * np.cos(angle), 4 * np.sin(angle), rng.uniform(0.5, 2.5, args.batch)], 1)
    cameras = [
        crop_cameras(eye[None], frame[None], args.size)[0][0]
        for eye, frame in zip(eyes, crowd.vertices.double().cpu().numpy(), strict=True)
    ]
    K, R, t = (
        torch.as_tensor(np.array([getattr(c, name) for c in cameras], np.float32), device=args.device)
        for name in ("K", "R", "t")
    )
    lights = random_lights(rng, R.cpu())
    lights = type(lights)(*(value.to(args.device) for value in lights))

    def batch() -> None:
        crowd.render(range(args.batch), K, R, t, args.size, lights)

    wall, cpu = timed(batch, args)
    print(f"crops {args.size}x{args.size}, batches of {args.batch}: {args.batch / wall:.0f} a second", end="")
    print(f" ({args.batch / cpu:.0f} a second of processor time)" if args.device == "cpu" else "")


def pictures(args: argparse.Namespace) -> None:
    """Whole pictures of a room."""
    body = load_body("open", mesh="fine")
    subject = body.sample_subject(2)
    q = motion(body, subject, args.turns + 1)
    settings = SceneSettings(surroundings="room", bystander_share=0, occluder_share=0)
    scene = build_scene(
        *(np.random.default_rng(2), settings, body, subject),
        lambda rest=None: body.animate(subject, q, rest),
        *(args.turns + 1, 60.0),
    )
    wall, cpu, raster = once(lambda: SceneRaster(scene, device=args.device))
    print(f"scene set up once: {wall:.2f} s, processor {cpu:.2f} s")
    wall, cpu, _ = once(lambda: raster.plate(0))
    print(f"what stands still, once a camera: {wall:.2f} s, processor {cpu:.2f} s")
    frame = iter(range(args.turns + 1))
    wall, cpu = timed(lambda: list(raster.render(0, [next(frame)])), args)
    size = "x".join(map(str, scene.cameras[0].size))
    print(f"picture {size}, {len(raster.people.faces)} faces: {wall:.3f} s, processor {cpu:.3f} s")


def once(work: Callable) -> tuple[float, float, object]:
    """Wall and processor seconds of one call, and its result."""
    start, cpu = time.perf_counter(), time.process_time()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, time.process_time() - cpu, result


def timed(work: Callable, args: argparse.Namespace) -> tuple[float, float]:
    """Wall and processor seconds of the best of the turns, after one to warm up."""
    turns = [once(work)[:2] for _ in range(args.turns + 1)][1:]
    return tuple(np.min(turns, 0))


if __name__ == "__main__":
    main()
