"""What a data set is made of: a TOML file that states only what differs from the defaults.

[dataset]  seed, subjects = {train, val, test}, clips, seconds, fps, attempts
[body]     kind, model_folder, gender, mesh
[motion]   sources, shares, piece_s
[scene]    see `odah.scenes.sampler.SceneSettings`
[render]   renderer, device, supersample, crf, and the settings of the Blender renderers
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from odah.crops import SUBJECT_BASE
from odah.datasets import SPLITS
from odah.scenes.sampler import SceneSettings
from pose2sim_biokin.errors import BiokinError


@dataclass(frozen=True)
class DatasetSettings:
    """[dataset]

    Attributes:
        seed: of everything random.
        subjects: people in each split.
        clips: of all subjects together; the only setting that may grow later.
        seconds: length of a clip.
        fps: frames a second, whole (Pose2Sim rounds them).
        attempts: motions that are tried before a clip is given up because the body cannot follow.
    """

    seed: int = 0
    subjects: dict[str, int] = field(default_factory=lambda: {"train": 42, "val": 6, "test": 8})
    clips: int = 1132
    seconds: float = 10.0
    fps: int = 60
    attempts: int = 4


@dataclass(frozen=True)
class BodySettings:
    """[body]

    Attributes:
        kind: "open" or "smplx".
        model_folder: of SMPL-X's model files, relative to the config's folder; "" for none.
        gender: "any" (drawn), "neutral", "male" or "female"; SMPL-X only.
        mesh: "fine" or "coarse"; the open body only.
    """

    kind: str = "open"
    model_folder: str = ""
    gender: str = "any"
    mesh: str = "fine"


@dataclass(frozen=True)
class MotionSettings:
    """[motion]

    Attributes:
        sources: archives, folders or files of recorded motion, relative to the config's folder.
        shares: of each kind of motion; those of `odah.motions.sampler.SHARES` for what is left out.
        piece_s: shortest and longest time that one motion of a clip lasts, s.
    """

    sources: tuple[str, ...] = ()
    shares: dict[str, float] = field(default_factory=dict)
    piece_s: tuple[float, float] = (2.0, 5.0)


@dataclass(frozen=True)
class RenderSettings:
    """[render]

    Attributes:
        renderer: "raster" (PyTorch), "cycles" or "eevee" (Blender).
        device: of the rasteriser, "cpu", "cuda", ...
        supersample: samples along each side of a pixel; the rasteriser only.
        samples: of each pixel; Blender only.
        crf: quality of the videos, 0 best to 51.
    """

    renderer: str = "raster"
    device: str = "cpu"
    supersample: int = 2
    samples: int = 8
    crf: int = 20


@dataclass(frozen=True)
class Config:
    """A data set's settings; `folder` is what relative paths start from."""

    dataset: DatasetSettings = field(default_factory=DatasetSettings)
    body: BodySettings = field(default_factory=BodySettings)
    motion: MotionSettings = field(default_factory=MotionSettings)
    scene: SceneSettings = field(default_factory=SceneSettings)
    render: RenderSettings = field(default_factory=RenderSettings)
    folder: Path = Path(".")

    @property
    def frames(self) -> int:
        """Frames of a clip."""
        return round(self.dataset.seconds * self.dataset.fps)

    @property
    def subjects(self) -> int:
        """People of all splits."""
        return sum(self.dataset.subjects.values())

    def path(self, text: str) -> Path:
        """A path of the config, absolute."""
        return (self.folder / text).resolve()

    def as_dict(self) -> dict:
        """All settings as plain values, for the manifest."""
        return {name: _plain(asdict(getattr(self, name))) for name in TABLES}


TABLES = ("dataset", "body", "motion", "scene", "render")


@dataclass(frozen=True)
class ClipPlan:
    """Who is in a clip, and in which split: known before anything is rendered.

    Attributes:
        index: of the clip, 0...; with the data set's seed it gives everything random in it.
        name: "S0001/clip_0001".
        split: "train", "val" or "test".
        subject: seed of the subject; the splits' seeds are disjoint, as in `odah.crops`.
    """

    index: int
    name: str
    split: str
    subject: int


def plan_clips(config: Config) -> list[ClipPlan]:
    """All clips: the subjects take turns, so that more clips leave the earlier ones as they are."""
    people = []
    for split in SPLITS:
        first = SUBJECT_BASE[split] + 10_000 * config.dataset.seed
        people += [(split, first + k) for k in range(config.dataset.subjects[split])]
    plans = []
    for index in range(config.dataset.clips):
        turn, person = divmod(index, len(people))
        split, subject = people[person]
        plans.append(ClipPlan(index, f"S{person + 1:04d}/clip_{turn + 1:04d}", split, subject))
    return plans


def read_config(path: str | Path) -> Config:
    """Read and check a data set's TOML file.

    Raises:
        BiokinError: no such file, not TOML, an unknown table or key, or a value that cannot be used.
    """
    path = Path(path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BiokinError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BiokinError(f"{path}: not a valid TOML file ({error}).") from error
    for name in tables:
        if name not in TABLES or not isinstance(tables[name], dict):
            raise BiokinError(f"{path}: unknown table or key {name!r}; expected [{'], ['.join(TABLES)}].")
    config = Config(folder=path.parent.resolve())
    for name, values in tables.items():
        where = f"{path}: [{name}]"
        config = replace(config, **{name: _filled(getattr(config, name), values, where)})
    _check(config, path)
    return config


def _filled(settings, values: dict, where: str):
    """Settings with the table's values in place of the defaults."""
    known = {f.name: getattr(settings, f.name) for f in fields(settings)}
    changed = {}
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise BiokinError(f"{where}: unknown key {key!r}.{hint} Its keys: {', '.join(known)}.")
        default = known[key]
        value = _tupled(value)
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if isinstance(value, bool) != isinstance(default, bool) or not isinstance(value, type(default)):
            raise BiokinError(f"{where}: {key} is {values[key]!r}; expected something like {default!r}.")
        changed[key] = {**default, **value} if isinstance(value, dict) else value
    try:
        return replace(settings, **changed)
    except (TypeError, ValueError, BiokinError) as error:  # the class checks its own values
        raise BiokinError(f"{where}: {error}") from error


def _check(config: Config, path: Path) -> None:
    from odah.motions.sampler import SHARES
    from odah.render.renderers import NAMES

    d, m = config.dataset, config.motion

    def expect(good: bool, key: str, value: object, expected: str) -> None:
        if not good:
            raise BiokinError(f"{path}: {key} is {value!r}; expected {expected}.")

    expect(0 <= d.seed < 100, "[dataset] seed", d.seed, "0 to 99")  # subjects of two seeds never meet
    expect(
        set(d.subjects) == set(SPLITS)
        and all(isinstance(n, int) and 0 <= n < 10_000 for n in d.subjects.values())
        and config.subjects > 0,
        "[dataset] subjects",
        d.subjects,
        "numbers of people below 10000, as {train = 42, val = 6, test = 8}",
    )
    expect(1 <= d.clips < 10_000 * config.subjects, "[dataset] clips", d.clips, "1 or more")
    expect(1 <= d.fps <= 1000, "[dataset] fps", d.fps, "1 to 1000")
    expect(config.frames >= 2, "[dataset] seconds", d.seconds, "at least two frames")
    expect(1 <= d.attempts <= 100, "[dataset] attempts", d.attempts, "1 to 100")
    expect(config.body.gender in ("any", "neutral", "male", "female"), "[body] gender", config.body.gender,
           "'any', 'neutral', 'male' or 'female'")  # fmt: skip
    expect(
        set(m.shares) <= set(SHARES) and all(v >= 0 for v in m.shares.values()),
        "[motion] shares",
        m.shares,
        f"numbers, 0 or more, of {', '.join(SHARES)}",
    )
    expect(
        len(m.piece_s) == 2 and 0.5 <= m.piece_s[0] <= m.piece_s[1],
        "[motion] piece_s",
        m.piece_s,
        "the shortest and the longest time, 0.5 s or more, as [2.0, 5.0]",
    )
    expect(all(isinstance(s, str) for s in m.sources), "[motion] sources", m.sources, "a list of paths")
    r = config.render
    expect(r.renderer in NAMES, "[render] renderer", r.renderer, f"one of {', '.join(NAMES)}")
    expect(1 <= r.supersample <= 8, "[render] supersample", r.supersample, "1 to 8")
    expect(r.samples >= 1, "[render] samples", r.samples, "1 or more")
    expect(config.scene.views >= 2, "[scene] views", config.scene.views, "2 or more")
    expect(0 <= r.crf <= 51, "[render] crf", r.crf, "0 (best) to 51")


def _tupled(value):
    return tuple(map(_tupled, value)) if isinstance(value, list) else value


def _plain(value):
    """Tuples as lists, as JSON gives them back."""
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value
