"""What people are born with: tones of skin, colours of hair."""

from __future__ import annotations

import numpy as np

# sRGB of the Monk skin tone scale (Monk 2019), light to dark.
SKIN_TONES = (
    (246, 237, 228),
    (243, 231, 219),
    (247, 234, 208),
    (234, 218, 186),
    (215, 189, 150),
    (160, 126, 86),
    (130, 92, 67),
    (96, 65, 52),
    (58, 49, 42),
    (41, 36, 32),
)
HAIR = (
    (20, 16, 14),
    (45, 30, 22),
    (80, 52, 34),
    (120, 84, 50),
    (176, 140, 92),
    (150, 70, 40),
    (150, 148, 146),
)


def looks_of(seed: int) -> np.random.Generator:
    """Draws what a person is born with, skin and hair: the same in every clip of the subject of this seed."""
    return np.random.default_rng([seed, 0x100C5])
