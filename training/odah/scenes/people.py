"""A dressed person as the meshes of a scene: an outfit cut out of the body and moved with it.

person = dress(rng, body, subject, animate, person=0)
person.meshes, person.notes
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from torch import Tensor, as_tensor

from odah.scenes import heads
from odah.scenes.bodychart import BodyChart
from odah.scenes.garments import Layer
from odah.scenes.outfits import Outfit
from odah.scenes.primitives import ball, make_mesh
from odah.scenes.scene import Mesh
from odah.scenes.shells import cut, unwrap
from odah.scenes.skirts import skirt, skirt_field
from odah.scenes.textures import Rng, Swatch
from pose2sim_biokin.skeleton.rotations import ground_to_world

Animate = Callable[[Tensor | None], object]
_SUPPORT_M = 0.06  # how far outside its hem a layer's vertices still matter


@dataclass(frozen=True)
class Person:
    """One dressed person.

    Attributes:
        meshes: in the world, T frames.
        skin: (T,V,3) the bare skin in the world.
        outermost: (V,3) rest mesh of what is outermost, cloth over skin, in ground axes.
        loose: (V,) bool, skin under a skirt, on which nothing can stick outside.
        notes: for truth.json.
    """

    meshes: tuple[Mesh, ...]
    skin: np.ndarray
    outermost: np.ndarray
    loose: np.ndarray
    notes: dict


@lru_cache(maxsize=4)
def chart_of(body) -> BodyChart:
    """The chart of a body, made once."""
    return BodyChart(body)


def dress(
    rng: Rng,
    body,
    subject,
    animate: Animate,
    person: int,
    fixed: dict | None = None,
    skin: np.ndarray | None = None,
) -> Person:
    """A person in a random outfit; skin and hair are drawn from the subject's seed, clothes from `rng`.

    Args:
        animate: dressed rest vertices (V,3), or None for the bare skin, to an `Animation`.
        person: number of the person in the scene.
        fixed: pieces that are not drawn: whole, upper, lower, feet, hair by name.
        skin: (T,V,3) the bare skin in the world, if it is there already.
    """
    chart = chart_of(body)
    outfit = Outfit(rng, chart, subject.vertices.numpy(), subject.seed)
    fixed = dict(fixed or {})
    hair = fixed.pop("hair", "")
    outfit.put_on(**fixed)
    face = outfit.head(hair)
    if skin is None:
        skin = to_world(animate(None).vertices)
    prefix = "subject" if person == 0 else f"person {person}"
    meshes = _cut_out(chart, outfit, face, animate, skin, prefix, person)
    loose = np.zeros(len(chart.rest), bool)
    if outfit.skirt is not None:
        loose = skirt_field(chart, outfit.skirt.waist, outfit.skirt.length) > -0.02
    return Person(tuple(meshes), skin, outfit.dresser.surface, loose, outfit.notes)


def to_world(vertices) -> np.ndarray:
    """Vertices (...,V,3) in OpenSim ground to float32 in the world."""
    return np.ascontiguousarray(ground_to_world(as_tensor(vertices)).numpy(), dtype=np.float32)


def _cut_out(
    chart, outfit: Outfit, face: Swatch, animate: Animate, skin, prefix: str, person: int
) -> list[Mesh]:
    layers = outfit.dresser.layers
    covers = [(n, layer.field, layer.hides) for n, layer in enumerate(layers) if layer.hides is not None]
    if (s := outfit.skirt) is not None:
        rest, posed = outfit.dresser.skin, skin.astype(np.float64)
        *hung, covered = skirt(chart, rest, posed, s.waist, s.length, s.ease, s.flare, s.waves)
        covers.append((len(layers), skirt_field(chart, s.waist, covered), 0.07))

    def seen(number: int, field: np.ndarray) -> np.ndarray:
        """The part of a field that no later garment hides."""
        for n, other, margin in covers:
            if n > number:
                field = np.minimum(field, margin - other)
        return field

    meshes = []
    bare = cut(chart.faces, seen(-1, np.full(len(chart.rest), 0.1)))
    piece, uv = unwrap(bare, heads.skin_uv(chart, chart.corner_uv(bare)))
    meshes.append(
        make_mesh(f"{prefix} skin", piece.apply(skin), piece.faces, uv, face.material, person=person)
    )
    for members, animated in _animated(layers, animate):
        for n in members:
            layer = layers[n]
            number = n if layer.hides is not None else n + 0.5
            part = cut(chart.faces, seen(number, layer.field))
            if len(part.faces) == 0:
                continue
            piece, uv = unwrap(part, chart.corner_uv(part))
            meshes.append(
                make_mesh(
                    f"{prefix} {layer.name}",
                    piece.apply(animated),
                    piece.faces,
                    uv / layer.swatch.metres,
                    layer.swatch.material,
                    person=person,
                    two_sided=True,
                )
            )
    if s is not None:
        vertices, faces, uv = hung
        uv, cloth = uv / s.swatch.metres, s.swatch.material
        meshes.append(make_mesh(f"{prefix} skirt", vertices, faces, uv, cloth, person=person, two_sided=True))
    return meshes + _attached(chart, outfit, skin, prefix, person)


def _animated(layers: list[Layer], animate: Animate):
    """Groups of layers that do not meet on the skin, each with its vertices (T,V,3) in the world.

    A group is animated at once: the rest mesh is one garment here and another there.
    """
    groups: list[tuple[list[int], np.ndarray, np.ndarray]] = []
    for n, layer in enumerate(layers):
        near = layer.field > -_SUPPORT_M
        for members, taken, rest in groups:
            if not (taken & near).any():
                members.append(n)
                taken |= near
                rest[near] = layer.vertices[near]
                break
        else:
            groups.append(([n], near.copy(), layer.vertices.copy()))
    for members, _, rest in groups:
        yield members, to_world(animate(as_tensor(rest.astype(np.float32))).vertices)


def _attached(chart: BodyChart, outfit: Outfit, skin: np.ndarray, prefix: str, person: int) -> list[Mesh]:
    """What the head carries rigidly: a cap's brim, tied hair."""
    head = np.flatnonzero(chart.head > 0.9)
    rest = to_world(outfit.dresser.skin)
    parts = []
    if outfit.brim is not None:
        vertices, faces, swatch = outfit.brim
        parts.append(("brim", vertices, faces, vertices[:, [2, 0]] / swatch.metres, swatch.material))
    if outfit.knot is not None:
        material = next(layer.swatch.material for layer in outfit.dresser.layers if layer.name == "hair")
        vertices, faces, uv = ball()
        vertices = vertices[:, [1, 2, 0]] * outfit.knot[1] + outfit.knot[0]  # ball axes to ground axes
        parts.append(("tied hair", vertices, faces, uv * [4, 2], material))
    if not parts:
        return []
    rotation, shift = rigid(rest[head], skin[:, head])
    return [
        make_mesh(
            f"{prefix} {name}",
            np.einsum("tij,nj->tni", rotation, to_world(vertices)) + shift[:, None],
            faces,
            uv,
            material,
            person=person,
            two_sided=name == "brim",
        )
        for name, vertices, faces, uv, material in parts
    ]


def rigid(rest: np.ndarray, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (T,3,3) and translations (T,3) that take points (P,3) closest to (T,P,3) (Kabsch 1976)."""
    rest, moved = np.asarray(rest, np.float64), np.asarray(moved, np.float64)
    a, b = rest.mean(0), moved.mean(1)
    u, _, vt = np.linalg.svd(np.einsum("pi,tpj->tij", rest - a, moved - b[:, None]))
    u[..., 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
    rotation = np.swapaxes(u @ vt, 1, 2)
    return rotation, b - rotation @ a
