"""What bodies and joint centres of different models are called in common.

Bodies of Rajagopal's model and its relatives (OpenCap's, Pose2Sim's) share most names; spines and trunks do
not. Joint centres are named after the joint, sides as ``_r`` and ``_l``.
"""

from __future__ import annotations

from pose2sim_biokin.compare.models import Model

# Common name -> names of that body in models, the first that a model has counts.
_BODIES = {
    "pelvis": ("pelvis",),
    "torso": ("torso", "thorax"),
    "head": ("head", "skull", "head_neck"),
    "femur": ("femur",),
    "tibia": ("tibia",),
    "talus": ("talus",),
    "calcn": ("calcn",),
    "toes": ("toes",),
    "humerus": ("humerus",),
    "ulna": ("ulna",),
    "radius": ("radius",),
    "hand": ("hand",),
}
_SINGLE = ("pelvis", "torso", "head")
# The joint centre is that of the joint which carries the body.
_JOINTS = {
    "hip": "femur",
    "knee": "tibia",
    "ankle": "talus",
    "subtalar": "calcn",
    "mtp": "toes",
    "shoulder": "humerus",
    "elbow": "ulna",
    "wrist": "hand",
}
SIDES = ("r", "l")

# Segment -> the two joint centres whose distance is its length.
SEGMENTS = {
    "pelvis width": ("hip_r", "hip_l"),
    "trunk": ("lumbar", "shoulder midpoint"),
    "shoulder width": ("shoulder_r", "shoulder_l"),
    **{
        f"{name}_{side}": (f"{top}_{side}", f"{bottom}_{side}")
        for name, top, bottom in (
            ("thigh", "hip", "knee"),
            ("shank", "knee", "ankle"),
            ("foot", "ankle", "mtp"),
            ("upper arm", "shoulder", "elbow"),
            ("forearm", "elbow", "wrist"),
        )
        for side in SIDES
    },
}
# Pairs of joint centres that a stick figure connects.
BONES = (
    ("pelvis", "hip_r"),
    ("pelvis", "hip_l"),
    ("pelvis", "lumbar"),
    ("lumbar", "shoulder_r"),
    ("lumbar", "shoulder_l"),
    ("shoulder_r", "shoulder_l"),
    *(
        (f"{top}_{side}", f"{bottom}_{side}")
        for side in SIDES
        for top, bottom in (
            ("hip", "knee"),
            ("knee", "ankle"),
            ("ankle", "subtalar"),
            ("ankle", "mtp"),
            ("shoulder", "elbow"),
            ("elbow", "wrist"),
        )
    ),
)


def common_bodies(model: Model) -> dict[str, int]:
    """Common name -> index of the model's body; bodies without a common name keep their own."""
    index = {name: i for i, name in enumerate(model.body_names)}
    found = {}
    for common, names in _BODIES.items():
        for suffix in ("",) if common in _SINGLE else (f"_{side}" for side in SIDES):
            here = next((name + suffix for name in names if name + suffix in index), None)
            if here is not None:
                found[common + suffix] = index[here]
    taken = set(found.values())
    return found | {name: i for name, i in index.items() if i not in taken and name not in found}


def common_joints(model: Model) -> dict[str, int]:
    """Common name of a joint centre -> index of the body that the joint carries.

    "lumbar" is the lowest joint that moves between pelvis and torso, whatever lies above it.
    """
    bodies = common_bodies(model)
    found = {
        f"{joint}_{side}": bodies[f"{body}_{side}"]
        for joint, body in _JOINTS.items()
        for side in SIDES
        if f"{body}_{side}" in bodies
    }
    if "head" in bodies:
        found["neck"] = bodies["head"]
    if "torso" in bodies and "pelvis" in bodies:
        index = {name: i for i, name in enumerate(model.body_names)}
        chain, body = [], bodies["torso"]
        while body != bodies["pelvis"] and model.parent_names[body] in index:
            chain.append(body)
            body = index[model.parent_names[body]]
        moving = [b for b in chain if model.moving[b]]
        if body == bodies["pelvis"] and moving:
            found["lumbar"] = moving[-1]
    return found
