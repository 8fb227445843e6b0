"""Every size and every switch of the networks. ``paper`` is the published network; ``fast`` is for CPUs.

A preset is plain data (it travels inside the checkpoints), so two networks with equal presets and skeletons
have the same weights' shapes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace

from pose2sim_biokin.errors import BiokinError


@dataclass(frozen=True)
class MeetingSize:
    """Attention between the views' smallest maps; see `pose2sim_biokin.network.meeting`.

    Attributes:
        layers, heads: of attention; without layers the views do not meet.
        expansion: width of the layers' inner part over the maps'.
    """

    layers: int = 0
    heads: int = 4
    expansion: int = 2


@dataclass(frozen=True)
class HourglassSize:
    """The picture encoder: stem, then stacked hourglasses.

    Attributes:
        block: "hierarchical" (the published three-step block) or "residual" (two 3x3 convolutions).
        norm: "group" (GroupNorm) or "batch" (BatchNorm: faster, needs batches).
        groups: groups of GroupNorm.
        stem: "published" (7x7 stride 2, three blocks: maps of S/2) or "quick" (two strided convolutions, one
            block: maps of S/4).
        stem_channels: width of the quick stem's first convolution.
        stacks, depth: hourglasses, and how often each halves its maps.
        channels: width of the maps; `widths` are the widths at each halving (empty: `channels` throughout).
        lean: leaves out the block and the 1x1 convolution that follow each hourglass.
        out_channels: width to which each stack's output is reduced before it is sampled; 0: not reduced.
        mask_channel: the person mask is a fourth input channel.
        heatmaps: each stack predicts heatmaps of the projected keypoints.
        meeting: each stack's smallest maps of both views look at each other.
    """

    block: str = "hierarchical"
    norm: str = "group"
    groups: int = 32
    stem: str = "published"
    stem_channels: int = 64
    stacks: int = 4
    depth: int = 2
    channels: int = 256
    widths: tuple[int, ...] = ()
    lean: bool = False
    out_channels: int = 128
    mask_channel: bool = False
    heatmaps: bool = False
    meeting: MeetingSize = field(default_factory=MeetingSize)


@dataclass(frozen=True)
class PointSize:
    """From maps and hull points to one feature a frame.

    Attributes:
        head: "flatten" (the published shared MLP and flattening, which depends on the points' order) or
            "attention" (each keypoint is a weighted mean of the points).
        count: hull points, N, in training.
        finer: in use so many times as many, which lie more evenly ("attention" only).
        stacks_sampled: how many of the last stacks are sampled at the points.
        hidden: widths of the shared MLP; the last one is the published L'.
        dense: widths after flattening ("flatten") or of the MLP behind the pooled keypoints ("attention").
        token: width of the feature pooled for each keypoint ("attention").
        markers: the skeleton's markers are keypoints too: they show how segments are turned about
            their length.
        triangulate: keypoints seen in both views' heatmaps are intersected and offered beside the
            pooled ones.
    """

    head: str = "flatten"
    count: int = 500
    finer: int = 1
    stacks_sampled: int = 4
    hidden: tuple[int, ...] = (512, 512, 32)
    dense: tuple[int, ...] = (128, 128)
    token: int = 0
    markers: bool = False
    triangulate: bool = False

    @property
    def in_use(self) -> int:
        """Hull points when the network is used."""
        return self.count * self.finer


@dataclass(frozen=True)
class HandSize:
    """The closer look at the hands; see `pose2sim_biokin.network.hands`.

    Attributes:
        patch: side of a hand's picture, pixels; a multiple of 8.
        reach: m, from its middle to its edge.
        channels: of the first convolution; the others have twice and four times as many. 0: no closer look.
        hidden: width behind them.
    """

    patch: int = 40
    reach: float = 0.22
    channels: int = 0
    hidden: int = 128


@dataclass(frozen=True)
class LookSize:
    """The second look at every keypoint; see `pose2sim_biokin.network.look`.

    Attributes:
        channels: of the maps that are sampled about the keypoints. 0: no second look.
        width: of what is known of each keypoint. 0: no second look.
        layers, heads: of attention among them.
        expansion: width of the layers' inner part over `width`.
        further: looks that follow it, each with weights of its own.
    """

    width: int = 0
    layers: int = 2
    heads: int = 4
    expansion: int = 2
    further: int = 0


@dataclass(frozen=True)
class RefinementSize:
    """The temporal network over windows of frames.

    Attributes:
        window: frames of a window, T, at `rate` Hz.
        blocks, heads, channels: of the three levels; `final_blocks` follow the decoder.
        factors: temporal down-sampling between the levels.
        square: 3x3 kernels as published, of which maps one wide use the middle column only; else 3x1.
        expansion: width of the gated feed-forward parts over the level's channels.
        residual: the input is added to the output (the published network has no such skip).
        smoothing: taps (odd) of a learnt filter over time that the added input goes through, at first a
            low-pass filter; 0: none.
    """

    window: int = 64
    rate: float = 60.0
    blocks: tuple[int, int, int] = (2, 4, 6)
    final_blocks: int = 0
    heads: tuple[int, int, int] = (1, 2, 4)
    channels: tuple[int, int, int] = (48, 96, 384)
    factors: tuple[int, int] = (2, 4)
    square: bool = True
    expansion: float = 2.66
    residual: bool = False
    smoothing: int = 0


@dataclass(frozen=True)
class FitSize:
    """The skeleton's fit to the keypoints; see `pose2sim_biokin.network.fit`.

    Attributes:
        iterations: Gauss-Newton steps.
        strength: of the trust in the head's pose, over that in independent keypoints.
        huber: standard deviations of a keypoint beyond which its pull stays the same.
        usual: how much head and keypoints disagree in an ordinary frame (mean square, in the keypoints'
            standard deviations); where they disagree more, the keypoints count less. 0: all frames alike.
    """

    iterations: int = 4
    strength: float = 10.0
    huber: float = 2.0
    usual: float = 0.0


@dataclass(frozen=True)
class Preset:
    """A whole network.

    Attributes:
        name: for people.
        size: side S of the crops, pixels.
        background: what is around the person is seen, so that what the mask lacks is not lost; else it is
            black, as published.
        hourglass, points, refinement: see there; without a refinement frames stand for themselves.
        rotations: free joints are predicted as rotations (6D) instead of angles.
        pelvis: the pelvis position is predicted, relative to the hull's centre.
        angle_spread: angles are predicted in units of this share of half their range, about its
            middle; 0: plain radians.
        look: keypoints are looked at again and moved, and say how sure they are.
        hands: the hands are looked at more closely, for the fit.
        fit: the skeleton is fitted to the predicted keypoints, or None; `odah.fit` measures what it needs.
    """

    name: str = "paper"
    size: int = 256
    background: bool = False
    hourglass: HourglassSize = field(default_factory=HourglassSize)
    points: PointSize = field(default_factory=PointSize)
    refinement: RefinementSize | None = field(default_factory=RefinementSize)
    rotations: bool = False
    pelvis: bool = False
    angle_spread: float = 0.0
    look: LookSize = field(default_factory=LookSize)
    hands: HandSize = field(default_factory=HandSize)
    fit: FitSize | None = None

    def to_dict(self) -> dict:
        """Nested plain dicts and lists."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> Preset:
        """The preset of `to_dict`; BiokinError for keys that this version does not know."""
        return _build(cls, values, "preset")

    def override(self, values: dict) -> Preset:
        """This preset with some values replaced, nested as in `to_dict` (an experiment file's [preset]
        table).
        """
        return Preset.from_dict(merge_tables(self.to_dict(), values))


PAPER = Preset()

FAST = Preset(
    name="fast",
    size=128,
    background=True,
    hourglass=HourglassSize(
        block="residual",
        norm="batch",
        stem="quick",
        stem_channels=24,
        stacks=1,
        depth=3,
        channels=48,
        widths=(96, 128, 128),
        lean=True,
        out_channels=0,
        mask_channel=True,
        heatmaps=True,
        meeting=MeetingSize(layers=3),
    ),
    points=PointSize(
        head="attention",
        count=256,
        finer=4,
        stacks_sampled=1,
        hidden=(128, 128),
        dense=(512, 512),
        token=8,
        markers=True,
        triangulate=True,
    ),
    refinement=RefinementSize(
        blocks=(1, 2, 2),
        channels=(32, 96, 128),
        factors=(4, 2),
        square=False,
        residual=True,
        smoothing=15,
    ),
    rotations=True,
    pelvis=True,
    angle_spread=0.5,
    look=LookSize(width=96, further=1),
    hands=HandSize(channels=24),
)

PRESETS = {"paper": PAPER, "fast": FAST}


def get_preset(name: str) -> Preset:
    """A preset by name; BiokinError that lists the known ones."""
    if name not in PRESETS:
        raise BiokinError(f"Unknown network preset {name!r}: expected one of {', '.join(PRESETS)}.")
    return PRESETS[name]


def encoder_alone(preset: Preset) -> Preset:
    """What decides which weights a frame encoder has; equal for encoders that can take each other's."""
    return replace(preset, refinement=None, fit=None, points=replace(preset.points, finer=1))


_NESTED = {
    "hourglass": HourglassSize,
    "meeting": MeetingSize,
    "points": PointSize,
    "look": LookSize,
    "hands": HandSize,
    "refinement": RefinementSize,
    "fit": FitSize,
}


def _build(cls: type, values: dict, where: str):
    known = {f.name: f for f in fields(cls)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise BiokinError(
            f"{where}: unknown key {', '.join(unknown)}; expected keys among {', '.join(known)}. "
            "Was it written by another version of pose2sim_biokin?"
        )
    arguments = {}
    for key, value in values.items():
        if key in _NESTED and isinstance(value, dict):
            value = _build(_NESTED[key], value, f"{where}.{key}")
        elif isinstance(value, list):
            value = tuple(value)
        arguments[key] = value
    return cls(**arguments)


def merge_tables(base: dict, values: dict) -> dict:
    """Nested tables of the one with those of the other on top."""
    merged = dict(base)
    for key, value in values.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge_tables(merged[key], value) if both else value
    return merged
