"""Adults of both sexes, all ages and builds for the built-in body, as tall and heavy as published ones.

    population = Population()
    coefficients, person = population.sample(seed)

The asset's sample of shapes is a sample of what its sliders can do: too tall and too lean for a population.
A person here is a mixture of two shapes of one sex, moved along that sex's directions of height and weight
until stature and body-mass index are those drawn for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from odah.bodies.ansur import ANSUR
from pose2sim_biokin.errors import BiokinError

DATA = Path(__file__).with_name("data")
# Statures spread a little wider than in the survey, whose soldiers had to meet limits.
_STATURE_SPREAD, _STATURE_LIMIT_SD = 1.1, 2.5
# Log-normal body-mass index, kg/m^2: 5 to 95 % is 19.7 to 33.4, between ANSUR II and the general population.
_BMI_MEDIAN, _BMI_LOG_SD, _BMI_RANGE = 25.7, 0.16, (17.0, 36.0)
_DENSITY = 1000.0  # kg/m^3
# The sliders' age -> years, as MakeHuman has it (child, young, old).
_AGE_SCALE, _AGE_YEARS = (1 / 3, 2 / 3, 1.0), (10.0, 25.0, 90.0)
_MOST_MIX = 0.45  # share of the second shape, at most
_ROUNDS = 8


@dataclass(frozen=True)
class Person:
    """Sex ("male" or "female"), age in years, stature in m, body-mass index in kg/m^2."""

    sex: str
    age: float
    stature: float
    bmi: float


class Population:
    """Draws people; holds the coarse mesh's shape space and the sliders of every shape of the asset."""

    def __init__(self, folder: Path = DATA):
        """Read `open_body.npz` and `open_phenotypes.npz`; BiokinError when they do not belong together."""
        with np.load(folder / "open_body.npz") as data:
            kept = data["coarse_vertices"]
            self._mean = data["mean"][kept].astype(np.float64)
            self._basis = data["basis"][:, kept].astype(np.float64)
            self._faces = data["coarse_faces"].astype(np.int64)
            self.bank = data["coefficients"].astype(np.float64)
        path = folder / "open_phenotypes.npz"
        try:
            with np.load(path) as data:
                names = [str(n) for n in data["names"]]
                self._sliders = data["values"].astype(np.float64)
        except (OSError, KeyError, ValueError) as error:
            raise BiokinError(
                f"{path}: cannot be read ({error}); build it with `odah body build --labels-only`."
            ) from error
        if len(self._sliders) != len(self.bank):
            raise BiokinError(
                f"{path}: labels of {len(self._sliders)} shapes; expected the {len(self.bank)} of "
                "open_body.npz. Build both with `odah body build`."
            )
        self._column = {name: i for i, name in enumerate(names)}
        female = self._sliders[:, self._column["gender"]] > 0.5
        self._members = {"male": np.flatnonzero(~female), "female": np.flatnonzero(female)}
        self._directions = {sex: self._slopes(members) for sex, members in self._members.items()}

    def sample(self, seed: int) -> tuple[np.ndarray, Person]:
        """Shape coefficients (K,) and the person of a seed."""
        rng = np.random.default_rng([seed, 0xAD01])
        sex = "female" if rng.random() < 0.5 else "male"
        first, second = rng.choice(self._members[sex], 2)
        mix = rng.uniform(0.0, _MOST_MIX)
        published = ANSUR["stature"][sex == "female"]
        normal = np.clip(rng.normal(), -_STATURE_LIMIT_SD, _STATURE_LIMIT_SD)
        stature = (published.mean + _STATURE_SPREAD * published.sd * normal) / 1000
        bmi = float(np.clip(_BMI_MEDIAN * np.exp(rng.normal(0, _BMI_LOG_SD)), *_BMI_RANGE))
        start = (1 - mix) * self.bank[first] + mix * self.bank[second]
        coefficients = self._reach(start, self._directions[sex], stature, bmi)
        age = self._sliders[[first, second], self._column["age"]] @ [1 - mix, mix]
        person = Person(sex, float(np.interp(age, _AGE_SCALE, _AGE_YEARS)), *self.size(coefficients))
        return coefficients, person

    def size(self, coefficients: np.ndarray) -> tuple[float, float]:
        """Stature, m, and body-mass index, kg/m^2, of a shape (K,)."""
        vertices = self._mean + np.tensordot(coefficients, self._basis, 1)
        a, b, c = (vertices[self._faces[:, k]] for k in range(3))
        mass = _DENSITY * (a * np.cross(b, c)).sum() / 6
        stature = np.ptp(vertices[:, 1])
        return float(stature), float(mass / stature**2)

    def _slopes(self, members: np.ndarray) -> np.ndarray:
        """(2,K) change of the coefficients per unit of the sliders height and weight, by regression."""
        sliders = self._sliders[members]
        predictors = np.column_stack([sliders, np.ones(len(sliders))])
        slopes, *_ = np.linalg.lstsq(predictors, self.bank[members], rcond=None)
        return slopes[[self._column["height"], self._column["weight"]]]

    def _reach(self, start: np.ndarray, directions: np.ndarray, stature: float, bmi: float) -> np.ndarray:
        """Coefficients on the plane through `start` whose stature and index are those wanted (Newton)."""
        wanted = np.array([stature, np.log(bmi)])
        steps = np.zeros(2)

        def reached(at: np.ndarray) -> np.ndarray:
            height, index = self.size(start + at @ directions)
            return np.array([height, np.log(index)])

        for _ in range(_ROUNDS):
            now = reached(steps)
            if np.abs(wanted - now).max() < 1e-4:
                break
            probe = 0.01
            slope = np.column_stack([(reached(steps + probe * e) - now) / probe for e in np.eye(2)])
            steps = steps + np.clip(np.linalg.solve(slope, wanted - now), -1.0, 1.0)
        return start + steps @ directions
