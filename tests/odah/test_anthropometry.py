"""Body measurements on shapes of known size, the population they are compared with, and `odah body`."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from odah.bodies import command
from odah.bodies.ansur import ANSUR
from odah.bodies.anthropometry import compare, girth, measure, mesh_volume
from odah.bodies.open_body import OpenBody
from odah.bodies.population import DATA, Population
from pose2sim_biokin.errors import BiokinError

# Subject 3 of the asset's own sample: stature, m, and long factors of pelvis, thigh and trunk.
BANK_3 = (1.88307, (1.10783, 1.13649, 0.8946))


@pytest.fixture(scope="module")
def adults() -> OpenBody:
    return OpenBody(population="adults")


@pytest.fixture(scope="module")
def people(adults):
    seeds = list(range(400, 416))
    return [adults.person(s) for s in seeds], adults.sample_subjects(seeds)


def _cylinder(radius: float, height: float, corners: int = 90):
    """Closed cylinder along Y, faces winding outwards."""
    angle = 2 * np.pi * np.arange(corners) / corners
    ring = np.stack([radius * np.sin(angle), np.zeros(corners), radius * np.cos(angle)], -1)
    vertices = np.concatenate([ring, ring + [0, height, 0], [[0, 0, 0], [0, height, 0]]])
    faces = []
    for i in range(corners):
        j = (i + 1) % corners
        bottom, top = 2 * corners, 2 * corners + 1
        faces += [[i, j, i + corners], [j, j + corners, i + corners], [bottom, j, i]]
        faces += [[top, i + corners, j + corners]]
    return torch.tensor(vertices, dtype=torch.float32), torch.tensor(faces)


def test_volume_and_girth_of_a_cylinder():
    vertices, faces = _cylinder(0.15, 1.2)
    assert mesh_volume(vertices + 3.0, faces) == pytest.approx(np.pi * 0.15**2 * 1.2, rel=2e-3)
    assert girth(vertices, faces, 0.5) == pytest.approx(2 * np.pi * 0.15, rel=2e-3)
    assert girth(vertices, faces, 2.0) == 0.0


def test_a_tape_spans_hollows():
    """Two separate columns: the tape goes around both."""
    vertices, faces = _cylinder(0.1, 1.0)
    both = torch.cat([vertices, vertices + torch.tensor([0.0, 0.0, 0.4])])
    all_faces = torch.cat([faces, faces + len(vertices)])
    assert girth(both, all_faces, 0.5) == pytest.approx(2 * np.pi * 0.1 + 2 * 0.4, rel=3e-3)


def test_measurements_agree_with_the_skeleton(adults, people):
    """Joint-based lengths are the scaled skeleton's segments; heights are in anatomical order."""
    for subject in people[1][:3]:
        found = measure(adults, subject)
        scales = subject.scales[adults.skeleton.body_index("humerus_r")]
        reach = adults.kinematics(torch.zeros(39), subject.scales)
        centers = adults.kinematics.joint_centers(reach, subject.scales)
        names = adults.skeleton.body_names
        forearm = centers[names.index("ulna_r")] - centers[names.index("hand_r")]
        assert found["forearm length"] == pytest.approx(1000 * float(forearm.norm()), abs=0.1)
        assert scales.min() > 0.6
        assert found["stature"] == pytest.approx(1000 * subject.stature, abs=60)
        order = ["stature", "cervicale height", "sitting height", "knee height", "ankle height"]
        assert all(found[a] > found[b] for a, b in zip(order, order[1:], strict=False))
        assert found["trochanter height"] > found["knee height"] + 300
        assert found["mass"] == pytest.approx(found["BMI"] * (found["stature"] / 1000) ** 2)


def test_people_are_as_large_as_drawn(adults, people):
    for person, subject in zip(*people, strict=True):
        assert subject.stature == pytest.approx(person.stature, abs=0.002)
        bmi = 1000 * mesh_volume(subject.vertices, adults.faces) / subject.stature**2
        assert bmi == pytest.approx(person.bmi, rel=0.01)
        assert 18 <= person.age <= 90
        assert subject.scales.min() > 0.6 and subject.scales.max() < 1.7


def test_the_population_is_like_the_published_one():
    population = Population()
    drawn = [population.sample(seed)[1] for seed in range(160)]
    for sex, published in zip(("male", "female"), ANSUR["stature"], strict=True):
        heights = np.array([1000 * p.stature for p in drawn if p.sex == sex])
        assert len(heights) > 55
        assert heights.mean() == pytest.approx(published.mean, abs=0.4 * published.sd)
        assert heights.std() == pytest.approx(1.1 * published.sd, rel=0.3)
    bmi = np.array([p.bmi for p in drawn])
    assert 24 < np.median(bmi) < 27.5
    assert np.percentile(bmi, 5) < 21.5 and np.percentile(bmi, 95) > 31
    assert np.ptp([p.age for p in drawn]) > 45


def test_labels_belong_to_the_shapes():
    """Sex and height sliders against the shapes themselves: wrong rows would not correlate."""
    population = Population()
    stature = np.array([population.size(c)[0] for c in population.bank[:150]])
    height = population._sliders[:150, population._column["height"]]
    assert np.corrcoef(stature, height)[0, 1] > 0.8


def test_a_person_depends_on_the_seed_alone():
    first, second = Population(), Population()
    second.sample(1)
    for a, b in zip(first.sample(5), second.sample(5), strict=True):
        assert np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
    assert not np.allclose(first.sample(5)[0], first.sample(6)[0])


def test_both_meshes_show_the_same_person(adults, people):
    fine = OpenBody("fine", population="adults")
    torch.testing.assert_close(fine.sample_subject(403).scales, people[1][3].scales, atol=1e-4, rtol=0)


def test_the_banks_subjects_stay_what_they_were():
    """Their seeds name them in data sets: a change of what they are is a change of every data set."""
    body = OpenBody()
    subject = body.sample_subject(3)
    assert body.person(3) is None
    assert subject.stature == pytest.approx(BANK_3[0], abs=1e-4)
    scales = subject.scales[[body.skeleton.body_index(n) for n in ("pelvis", "femur_r", "torso")], 1]
    np.testing.assert_allclose(scales, BANK_3[1], atol=1e-3)


def test_comparison_of_sexes(adults, people):
    table = compare(adults, people[1], [p.sex for p in people[0]])
    rows = {(row.name, row.sex): row for row in table}
    counts = {sex: rows["stature", sex].count for sex in ("male", "female")}
    assert sum(counts.values()) == 16
    for sex, published in zip(("male", "female"), ANSUR["stature"], strict=True):
        row = rows["stature", sex]
        assert row.published == published and abs(row.shift) < 1.5
    mixed = {row.name: row for row in compare(adults, people[1][:2])}["stature"]
    assert mixed.sex == "all" and 1628.5 < mixed.published.mean < 1756.2
    assert mixed.published.p5 < 1550 and mixed.published.p95 > 1830


def test_broken_labels(tmp_path):
    (tmp_path / "open_body.npz").write_bytes((DATA / "open_body.npz").read_bytes())
    with pytest.raises(BiokinError, match="labels-only"):
        Population(tmp_path)
    np.savez(tmp_path / "open_phenotypes.npz", names=np.array(["gender"]), values=np.zeros((5, 1)))
    with pytest.raises(BiokinError, match="labels of 5 shapes"):
        Population(tmp_path)
    with pytest.raises(BiokinError, match="population"):
        OpenBody(population="everyone")


def test_odah_body_inspect(tmp_path, monkeypatch, capsys):
    sheet = tmp_path / "sheet.png"
    arguments = ["inspect", "--count", "2", "--drawn", "1", "--output", str(sheet)]
    monkeypatch.setattr(sys, "argv", ["odah body", *arguments, "--json"])
    assert command.main() is None
    report = json.loads(capsys.readouterr().out)
    assert report["residuals_mm"]["joints_rms"] < 10 and len(report["anatomy_mm"]) == 7
    assert {row["name"] for row in report["anthropometry"]} >= {"stature", "BMI", "foot length"}
    picture = cv2.imread(str(sheet))
    assert picture.shape[0] > 300 and 0.02 < (picture < 250).any(-1).mean() < 0.6
    for table in command.tables(report):
        assert table.row_count > 3


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["polish"], 2, "polish"),
        (["inspect", "--count", "0"], 1, "--count"),
        (["inspect", "--body", "smplx"], 1, "model_folder"),
    ],
)
def test_odah_body_bad_input(arguments, code, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["odah body", *arguments])
    assert command.main() == code
    assert said in capsys.readouterr().err
    assert not list(Path().glob("sheet*.png"))
