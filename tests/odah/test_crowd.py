"""The renderer of crops against that of whole scenes: the same people, by other code."""

import numpy as np
import torch

from odah.bodies.body import load_body
from odah.render.crowd import DressedPerson
from odah.render.rasterizer import srgb_to_linear
from odah.render.scene_raster import Silhouettes
from odah.scenes.cameras import crop_cameras, random_lights
from odah.scenes.people import dress
from odah.scenes.sampler import Posed
from odah.scenes.scene import SUBJECT, Scene, Sky
from pose2sim_biokin.vision.camera import Camera

SIZE = 128


def test_outlines_are_those_of_the_scene_and_colours_those_of_the_cloth():
    body = load_body("open", mesh="coarse")
    subject = body.sample_subject(4)
    q = subject.rest_coordinates[None].repeat(3, 1)
    q[1:, body.skeleton.coordinate_index("hip_flexion_r")] += torch.tensor([0.6, 1.1])
    rng = np.random.default_rng(3)
    fixed = {"whole": "", "upper": "vest", "lower": "skirt"}
    person = dress(rng, body, subject, lambda rest: Posed(body.pose(subject, q, rest)), SUBJECT, fixed=fixed)
    crowd = DressedPerson(person.meshes)
    crops = [
        pair[0] for pair in crop_cameras(np.array([[3.0, 2.0, 1.4]]), crowd.vertices.double().numpy(), SIZE)
    ]
    K, R, t = (torch.as_tensor(np.array([getattr(c, n) for c in crops], np.float32)) for n in ("K", "R", "t"))
    image = crowd.render(range(3), K, R, t, SIZE, random_lights(rng, R))

    cameras = tuple(Camera(f"c{k}", SIZE, SIZE, c.K, np.zeros(4), c.R, c.t) for k, c in enumerate(crops))
    black = np.zeros(3)
    scene = Scene(person.meshes, (), None, Sky(black, black, black), cameras, 3, 30.0, (1.0,) * 3)
    outline = Silhouettes(scene)
    for frame in range(3):
        wanted, found = outline(frame, frame), image.mask[frame].numpy() > 0.5
        assert wanted.sum() > 1000
        assert (wanted & found).sum() / (wanted | found).sum() > 0.99

    # In white light from all sides, a vest shows the colours of its cloth.
    dark, bright = torch.zeros_like(white_of(R).colour), torch.ones(3, 3)
    white = white_of(R)._replace(colour=dark, sky=bright, ground=bright, specular=torch.zeros(3))
    seen = crowd.render(range(3), K, R, t, SIZE, white).rgb[0]
    vest = [mesh for mesh in person.meshes if mesh.name == "subject upper"]
    where = DressedPerson(vest).render(range(3), K, R, t, SIZE, white).mask[0] > 0
    cloth = srgb_to_linear(torch.as_tensor(vest[0].material.texture.reshape(-1, 3) / 255.0).float())
    assert where.sum() > 100
    # the median of what is seen: arms cross before the vest, and patterns are finer than pixels
    found = srgb_to_linear(seen[where]).median(0).values
    assert (found - cloth.mean(0)).abs().max() < 0.05, (found, cloth.mean(0))


def white_of(R: torch.Tensor):
    """Some light, to be replaced in part."""
    return random_lights(np.random.default_rng(0), R)
