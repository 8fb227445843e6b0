"""How SMPL-X's joints and the skeleton's bodies correspond; axes of the two."""

from __future__ import annotations

import torch

# ground = R @ file: the file's Z is forward, its X is left.
R_GROUND_FILE = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
# Rest pose, rotation vectors in the file's axes: arms lowered by 46 degrees, elbows bent by 29.
REST_POSE = {
    "left_shoulder": (0.0, 0.0, -0.8),
    "right_shoulder": (0.0, 0.0, 0.8),
    "left_elbow": (0.0, -0.5, 0.0),
    "right_elbow": (0.0, 0.5, 0.0),
}
# SMPL-X joint -> skeleton's bodies whose rotations it follows, with weights; {s} is l or r. The lumbar bend
# is spread over the spine, the forearm's twist over elbow and wrist.
FOLLOWS = {
    "pelvis": {"pelvis": 1.0},
    "hip": {"femur_{s}": 1.0},
    "knee": {"tibia_{s}": 1.0},
    "ankle": {"calcn_{s}": 1.0},
    "foot": {"toes_{s}": 1.0},
    "spine1": {"pelvis": 0.2, "torso": 0.8},
    "shoulder": {"humerus_{s}": 1.0},
    "elbow": {"ulna_{s}": 0.5, "radius_{s}": 0.5},
    "wrist": {"hand_{s}": 1.0},
}
# SMPL-X joint -> skeleton's bodies that own its skin; what is not named here belongs to the torso.
OWNERS = {
    "pelvis": {"pelvis": 1.0},
    "hip": {"femur_{s}": 1.0},
    "knee": {"tibia_{s}": 1.0},
    "ankle": {"calcn_{s}": 1.0},
    "foot": {"toes_{s}": 1.0},
    "spine1": {"pelvis": 0.5, "torso": 0.5},
    "spine2": {"pelvis": 0.1, "torso": 0.9},
    "shoulder": {"humerus_{s}": 1.0},
    "elbow": {"ulna_{s}": 1.0},
} | {part: {"hand_{s}": 1.0} for part in ("wrist", "index", "middle", "pinky", "ring", "thumb")}
# Joint centre of the skeleton (see fitting.JOINT_SIGMA) -> SMPL-X joints whose mean it is.
JOINT_TARGETS = {
    "femur_r": ("right_hip",),
    "tibia_r": ("right_knee",),
    "talus_r": ("right_ankle",),
    "toes_r": ("right_foot",),
    "torso": ("pelvis", "spine1"),  # the lumbar joint lies between the two
    "humerus_r": ("right_shoulder",),
    "ulna_r": ("right_elbow",),
    "hand_r": ("right_wrist",),
}
# SMPL-X joint -> body of the skeleton whose joint centre is the same place.
CARRIED = {
    "hip": "femur",
    "knee": "tibia",
    "ankle": "talus",
    "shoulder": "humerus",
    "elbow": "ulna",
    "wrist": "hand",
}
