"""Forward kinematics: coordinates and scale factors in, body frames and points out, with gradients.

Everything is elementwise arithmetic on tensors whose last dimension is the batch: it is fast on small
machines, exact under autocast and TF32, and does the same operations whatever the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pose2sim_biokin.skeleton.functions import Terms
from pose2sim_biokin.skeleton.model import Skeleton


class BodyFrames(NamedTuple):
    """Frames of all bodies in OpenSim's ground.

    Attributes:
        rotation: (..., nb, 3, 3) body axes in ground: ``x_ground = rotation @ x_body + position``.
        position: (..., nb, 3) body origins, m.
    """

    rotation: Tensor
    position: Tensor


class ForwardKinematics(nn.Module):
    """Coordinates (..., nc) and scale factors (..., nb, 3) to body frames and points in OpenSim's ground.

    Scale factors act as in OpenSim's Model::scale (ScaleTool): joint frames move with the body they sit on,
    mass centres and markers with theirs, and the translation functions of custom joints grow with the
    parent body's factors. Couplers always hold: a dependent coordinate's input is ignored. Locked
    coordinates are taken as they are given; see `constrain`.

    Buffers are not part of the state dict: the skeleton is a constant. Gradients flow to coordinates and
    scale factors. Inputs are cast to `dtype`; batch shapes of coordinates and scales broadcast.
    """

    def __init__(self, skeleton: Skeleton, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.skeleton = skeleton
        self._constant("_defaults", np.array(skeleton.coordinate_defaults), dtype)
        joints = skeleton.joints
        nb = len(skeleton.body_names)

        # Frames are composed in order of depth; `_depth_bounds` slices the levels.
        depth = np.zeros(nb, dtype=np.int64)
        for body in joints.order:
            parent = joints.parents[body]
            depth[body] = 0 if parent < 0 else depth[parent] + 1
        order = np.argsort(depth, kind="stable")
        rank = np.argsort(order)
        self._depth_bounds = [0, *np.cumsum(np.bincount(depth)).tolist()]
        parents = joints.parents[order]
        self._constant("_order", order)
        self._constant("_rank", rank)
        # Row nb of the scales is ground's: always one.
        self._constant("_parent_body", np.where(parents < 0, nb, parents))
        # Place of the parent within the level above.
        level_start = np.asarray(self._depth_bounds)[np.maximum(depth[order] - 1, 0)]
        self._constant("_parent_in_level", np.where(parents < 0, 0, rank[parents] - level_start))

        self._add_rotations(order)
        self._add_translations(order)
        self._couplers = nn.ModuleList()
        self._coupler_scales: list[list[int]] = []
        for k, level in enumerate(_coupler_levels(skeleton)):
            self._couplers.append(FunctionSet([coupling.terms for coupling in level], dtype))
            self._coupler_scales.append([coupling.scale_body for coupling in level])
            replaced = np.arange(len(skeleton.coordinate_names))
            replaced[[coupling.dependent for coupling in level]] = len(replaced) + np.arange(len(level))
            self._constant(f"_coupled_{k}", replaced)

        self._constant("_locked", skeleton.locked)
        self._constant("_mass_centers", skeleton.mass_centers)
        self._constant("_body_child_offsets", joints.child_offsets)
        self._constant("_marker_bodies", skeleton.marker_bodies)
        self._constant("_marker_offsets", skeleton.marker_offsets)

    def _add_rotations(self, order: np.ndarray) -> None:
        """Constants of the joints' rotations.

        R_local = Rp Rot(a1) Rot(a2) Rot(a3) Rc^T, and Rot(a) = C0 + C1 sin + C2 cos with constant matrices,
        into which Rp and Rc^T are multiplied once and for all. Only axes that turn are kept: joints are
        sorted by their number, most first, and all first axes come before all second and all third ones.
        """
        joints = self.skeleton.joints
        turning = []
        for terms in joints.terms:
            turning.append([k for k in range(3) if terms[k] != Terms()] or [0])
        work = sorted(range(len(order)), key=lambda body: -len(turning[body]))
        self._turning_counts = [sum(len(axes) > slot for axes in turning) for slot in range(3)]
        basis, amounts = [], []
        for slot, count in enumerate(self._turning_counts):
            for body in work[:count]:
                k = turning[body][slot]
                matrices = _rodrigues_basis(joints.axes[body, k])
                if slot == 0:
                    matrices = joints.parent_rotations[body] @ matrices
                if slot == len(turning[body]) - 1:
                    matrices = matrices @ joints.child_rotations[body].T
                basis.append(matrices)
                amounts.append(joints.terms[body][k])
        self._constant("_rotation_basis", np.stack(basis, 1)[..., None])  # (3, axes, 3, 3, 1)
        self._constant("_depth_from_work", np.argsort(work)[order])
        self._rotation_amounts = FunctionSet(amounts, self.dtype)

    def _add_translations(self, order: np.ndarray) -> None:
        """Constants of the joints' translations and frame offsets, in order of depth."""
        joints = self.skeleton.joints
        moving = [i for i, body in enumerate(order) if any(t != Terms() for t in joints.terms[body][3:])]
        bodies = order[moving]
        self._constant("_moving", np.array(moving, dtype=np.int64))
        columns = joints.parent_rotations[bodies] @ np.swapaxes(joints.axes[bodies, 3:], -1, -2)
        self._constant("_translation_axes", columns[..., None])
        # Factor of a translation: weights . factors, or 1 where there are no weights
        weights = joints.translation_weights[bodies]
        self._constant("_translation_weights", weights[..., None])
        self._constant("_translation_unscaled", (weights.sum(-1) == 0).astype(np.float64)[..., None])
        self._translation_amounts = FunctionSet([t for i in bodies for t in joints.terms[i][3:]], self.dtype)
        self._constant("_parent_offsets", joints.parent_offsets[order][..., None])
        offset = [i for i, body in enumerate(order) if joints.child_offsets[body].any()]
        self._constant("_child_offset", np.array(offset, dtype=np.int64))
        self._constant("_child_offsets", joints.child_offsets[order[offset]][..., None])

    @property
    def dtype(self) -> torch.dtype:
        """Type of the constants, and of the results."""
        return self._defaults.dtype

    def forward(self, coordinates: Tensor, scales: Tensor | None = None) -> BodyFrames:
        """Frames of all bodies.

        Args:
            coordinates: (..., nc) rad and m.
            scales: (..., nb, 3) factors along each body's own axes; without them the model is as it is.
                (To OpenSim, and so here, that is the same as ones unless a custom joint translates along
                an axis between x, y and z.)

        Returns:
            rotation (..., nb, 3, 3), position (..., nb, 3) in m, in ground.
        """
        nb = len(self._order)
        shape, q, s = self._flatten(coordinates, scales)  # (nc, B), (nb + 1, 3, B or 1)
        q = self._couple(q, s)
        local_rotation = self._local_rotation(q)
        local_position = self._local_position(q, local_rotation, s, scales is not None)
        bounds = self._depth_bounds
        rotation, position = local_rotation[: bounds[1]], local_position[: bounds[1]]
        rotations, positions = [rotation], [position]
        for start, stop in zip(bounds[1:-1], bounds[2:], strict=True):
            parent = self._parent_in_level[start:stop]
            above = rotation.index_select(0, parent)
            position = position.index_select(0, parent) + _apply(above, local_position[start:stop])
            rotation = _matmul(above, local_rotation[start:stop])
            rotations.append(rotation)
            positions.append(position)
        # As matrices of two dimensions, for which PyTorch transposes in blocks.
        rotation = torch.cat(rotations).index_select(0, self._rank).flatten(0, 2).T.contiguous()
        position = torch.cat(positions).index_select(0, self._rank).flatten(0, 1).T.contiguous()
        return BodyFrames(rotation.view(*shape, nb, 3, 3), position.view(*shape, nb, 3))

    def _local_rotation(self, q: Tensor) -> Tensor:
        """(nb, 3, 3, B) body to parent body, in order of depth, from coordinates (nc, B)."""
        amounts = self._rotation_amounts(q)[:, None, None]  # (axes, 1, 1, B)
        c0, c1, c2 = self._rotation_basis
        turns = torch.addcmul(torch.addcmul(c0, c1, amounts.sin()), c2, amounts.cos())
        one, two, three = self._turning_counts
        first, second, third = turns.split([one, two, three])
        both = _matmul(first[:two], second)
        all_three = _matmul(both[:three], third)
        return torch.cat([all_three, both[three:], first[two:]]).index_select(0, self._depth_from_work)

    def _local_position(self, q: Tensor, local_rotation: Tensor, s: Tensor, scaled: bool) -> Tensor:
        """(nb, 3, B) body origins in the parent body, in order of depth."""
        parent_scales = s.index_select(0, self._parent_body)  # (nb, 3, B)
        position = _apply(self._parent_offsets, parent_scales).expand(-1, -1, q.shape[1])
        if len(self._moving):
            translation = self._translation_amounts(q).unflatten(0, (-1, 3))
            if scaled:
                factors = _apply(self._translation_weights, parent_scales[self._moving])
                translation = translation * (factors + self._translation_unscaled)
            position = position.index_add(0, self._moving, _apply(self._translation_axes, translation))
        if len(self._child_offset):
            offset = _apply(self._child_offsets, s[self._order[self._child_offset]])
            moved = _apply(local_rotation[self._child_offset], offset)
            position = position.index_add(0, self._child_offset, moved, alpha=-1)
        return position

    def joint_centers(self, frames: BodyFrames, scales: Tensor | None = None) -> Tensor:
        """(..., nb, 3) origin, in ground, of the child frame of the joint that carries each body."""
        scales = self._scales(scales, frames)
        return _to_ground(frames, (self._body_child_offsets * scales[..., None, :]).sum(-1))

    def mass_centers(self, frames: BodyFrames, scales: Tensor | None = None) -> Tensor:
        """(..., nb, 3) mass centres in ground."""
        return _to_ground(frames, self._mass_centers * self._scales(scales, frames))

    def markers(self, frames: BodyFrames, scales: Tensor | None = None) -> Tensor:
        """(..., nm, 3) markers in ground."""
        scales = self._scales(scales, frames)[..., self._marker_bodies, :]
        local = (self._marker_offsets * scales[..., None, :]).sum(-1)
        carriers = BodyFrames(
            frames.rotation[..., self._marker_bodies, :, :], frames.position[..., self._marker_bodies, :]
        )
        return _to_ground(carriers, local)

    def keypoints(self, frames: BodyFrames, scales: Tensor | None = None) -> Tensor:
        """(..., 2 nb, 3) joint centres, then mass centres, in ground."""
        return torch.cat([self.joint_centers(frames, scales), self.mass_centers(frames, scales)], -2)

    def constrain(self, coordinates: Tensor, scales: Tensor | None = None) -> Tensor:
        """Coordinates (..., nc) with locked ones at their default, then couplers applied.

        Scales (..., nb, 3) matter only to couplers whose dependent coordinate is a translation.
        """
        free = torch.where(self._locked, self._defaults, coordinates.to(self.dtype))
        shape, q, s = self._flatten(free, scales)
        return self._couple(q, s).T.reshape(*shape, -1)

    def _couple(self, q: Tensor, s: Tensor) -> Tensor:
        for k, couplers in enumerate(self._couplers):
            values = couplers(q)
            bodies = self._coupler_scales[k]
            if max(bodies) >= 0:
                # OpenSim knows this only for uniform factors, and takes x.
                values = values * s[bodies, 0]
            q = torch.cat([q, values])[getattr(self, f"_coupled_{k}")]
        return q

    def _flatten(self, coordinates: Tensor, scales: Tensor | None) -> tuple[Sequence[int], Tensor, Tensor]:
        """Batch shape, coordinates (nc, B) and scales with ground's row of ones (nb + 1, 3, B or 1)."""
        nb, nc = len(self._order), len(self._defaults)
        if coordinates.shape[-1] != nc:
            raise ValueError(f"coordinates: expected (..., {nc}), found {tuple(coordinates.shape)}")
        coordinates = coordinates.to(self.dtype)
        shape = coordinates.shape[:-1]
        if scales is None:
            s = coordinates.new_ones(nb + 1, 3, 1)
        else:
            if scales.shape[-2:] != (nb, 3):
                raise ValueError(f"scales: expected (..., {nb}, 3), found {tuple(scales.shape)}")
            scales = scales.to(self.dtype)
            shape = torch.broadcast_shapes(shape, scales.shape[:-2])
            if scales.shape[:-2].numel() > 1:
                scales = scales.expand(*shape, nb, 3)
            s = nn.functional.pad(scales.reshape(-1, nb, 3).permute(1, 2, 0), (0, 0, 0, 0, 0, 1), value=1.0)
        q = coordinates.expand(*shape, nc).reshape(-1, nc).T.contiguous()
        return shape, q, s

    def _scales(self, scales: Tensor | None, frames: BodyFrames) -> Tensor:
        return frames.position.new_ones(len(self._order), 3) if scales is None else scales.to(self.dtype)

    def _constant(self, name: str, values: np.ndarray, dtype: torch.dtype | None = None) -> None:
        tensor = torch.from_numpy(np.array(values))
        if tensor.is_floating_point():
            tensor = tensor.to(dtype or self.dtype)
        self.register_buffer(name, tensor, persistent=False)


class FunctionSet(nn.Module):
    """Many functions of the coordinates at once: (nc, B) -> (n, B)."""

    def __init__(self, functions: Sequence[Terms], dtype: torch.dtype):
        super().__init__()
        linear = [(k, i, gain) for k, f in enumerate(functions) for i, gain in f.linear]
        curves = [(k, i, curve) for k, f in enumerate(functions) for i, curve in f.curves]
        self._put("_constants", np.array([[f.constant] for f in functions]), dtype)
        self._put("_linear_out", np.array([k for k, _, _ in linear], dtype=np.int64), dtype)
        self._put("_linear_in", np.array([i for _, i, _ in linear], dtype=np.int64), dtype)
        self._put("_gains", np.array([gain for _, _, gain in linear], dtype=np.float64)[:, None], dtype)
        self._put("_curve_out", np.array([k for k, _, _ in curves], dtype=np.int64), dtype)
        self._put("_curve_in", np.array([i for _, i, _ in curves], dtype=np.int64), dtype)

        # Curves of different length share one table; knots are filled up with infinity, never reached.
        pieces = max((len(c.origins) for _, _, c in curves), default=1)
        powers = max((c.coefficients.shape[1] for _, _, c in curves), default=1)
        knots = np.full((len(curves), pieces - 1), np.inf)
        rows = np.zeros((len(curves), pieces, 1 + powers))
        for row, (_, _, curve) in enumerate(curves):
            knots[row, : len(curve.knots)] = curve.knots
            rows[row, : len(curve.origins), 0] = curve.origins
            rows[row, : len(curve.origins), 1 : 1 + curve.coefficients.shape[1]] = curve.coefficients
        self._put("_knots", knots, dtype)
        self._put("_pieces", rows.reshape(-1, 1 + powers).T, dtype)  # (1 + P, curves * pieces)
        self._put("_first_piece", np.arange(len(curves))[:, None] * pieces, dtype)

    def forward(self, q: Tensor) -> Tensor:
        """Values (n, B) of the functions at the coordinates (nc, B)."""
        values = self._constants.expand(-1, q.shape[1])
        values = values.index_add(0, self._linear_out, self._gains * q.index_select(0, self._linear_in))
        if not len(self._curve_in):
            return values
        x = q.index_select(0, self._curve_in)  # (curves, B)
        piece = torch.searchsorted(self._knots, x.detach(), right=True) if self._knots.shape[1] else 0
        chosen = self._pieces[:, self._first_piece + piece]  # (1 + P, curves, B)
        dx = x - chosen[0]
        curve = chosen[-1]
        for coefficient in chosen[1:-1].flip(0):
            curve = torch.addcmul(coefficient, curve, dx)
        return values.index_add(0, self._curve_out, curve.expand_as(x))

    def _put(self, name: str, values: np.ndarray, dtype: torch.dtype) -> None:
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        if tensor.is_floating_point():
            tensor = tensor.to(dtype)
        self.register_buffer(name, tensor, persistent=False)


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    """(n, 3, 3, B) x (n, 3, 3, B), elementwise: a batched 3 x 3 matmul is slower, and rounds under TF32."""
    product = a[:, :, 0, None] * b[:, 0, None]
    product = torch.addcmul(product, a[:, :, 1, None], b[:, 1, None])
    return torch.addcmul(product, a[:, :, 2, None], b[:, 2, None])


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    """(n, 3, 3, B) x (n, 3, B)."""
    product = matrix[:, :, 0] * vector[:, 0, None]
    product = torch.addcmul(product, matrix[:, :, 1], vector[:, 1, None])
    return torch.addcmul(product, matrix[:, :, 2], vector[:, 2, None])


def _to_ground(frames: BodyFrames, local: Tensor) -> Tensor:
    return frames.position + (frames.rotation * local[..., None, :]).sum(-1)


def _rodrigues_basis(axis: np.ndarray) -> np.ndarray:
    """(3, 3, 3) matrices C with Rot(axis, t) = C[0] + C[1] sin t + C[2] cos t; unit axis (3,)."""
    x, y, z = axis
    skew = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    outer = np.outer(axis, axis)
    return np.stack([outer, skew, np.eye(3) - outer])


def _coupler_levels(skeleton: Skeleton) -> list[list]:
    """Couplers in groups that can be evaluated together."""
    levels: list[list] = []
    level_of: dict[int, int] = {}
    for coupling in skeleton.couplings:
        inputs = [i for i, _ in (*coupling.terms.linear, *coupling.terms.curves)]
        level = max((level_of[i] + 1 for i in inputs if i in level_of), default=0)
        level_of[coupling.dependent] = level
        if level == len(levels):
            levels.append([])
        levels[level].append(coupling)
    return levels
