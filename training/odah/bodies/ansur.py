"""Published body measurements of adults: ANSUR II, 4,082 men and 1,986 women of the US Army, 2010-2012.

Mean, standard deviation, 5th, 50th and 95th percentile, computed from the survey's public-domain data files
(ANSUR II MALE/FEMALE Public), whose methods and summary statistics are in Gordon et al. 2014, Technical
Report NATICK/TR-15/007. Soldiers: few are over 50 or very heavy. mm, kg and kg/m^2.
"""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """Statistics of one measurement in one sex."""

    mean: float
    sd: float
    p5: float
    p50: float
    p95: float


# measurement: (men, women)
ANSUR = {
    "stature": (
        Published(1756.2, 68.6, 1648.0, 1755.0, 1870.0),
        Published(1628.5, 64.2, 1525.0, 1626.0, 1740.0),
    ),
    "cervicale height": (
        Published(1517.3, 63.3, 1416.0, 1517.0, 1622.9),
        Published(1395.7, 59.5, 1300.2, 1393.0, 1498.0),
    ),
    "sitting height": (
        Published(918.3, 35.7, 860.0, 918.0, 977.0),
        Published(856.6, 33.1, 803.0, 857.0, 912.0),
    ),
    "biacromial breadth": (
        Published(415.7, 19.2, 384.0, 415.0, 447.0),
        Published(365.3, 18.3, 335.0, 365.0, 396.0),
    ),
    "bideltoid breadth": (
        Published(510.4, 32.5, 459.0, 509.0, 567.0),
        Published(450.3, 28.7, 406.0, 450.0, 499.0),
    ),
    "hip breadth": (
        Published(345.7, 24.2, 308.0, 344.0, 387.0),
        Published(353.8, 26.7, 311.0, 353.0, 400.0),
    ),
    "upper arm length": (
        Published(335.2, 17.5, 307.0, 335.0, 365.0),
        Published(311.2, 17.2, 283.2, 311.0, 340.0),
    ),
    "forearm length": (
        Published(267.9, 15.4, 244.0, 267.0, 295.0),
        Published(241.3, 15.2, 218.0, 240.5, 268.0),
    ),
    "hand length": (
        Published(193.3, 9.9, 177.0, 193.0, 210.0),
        Published(181.1, 10.1, 165.0, 180.0, 199.0),
    ),
    "span": (
        Published(1814.2, 84.6, 1680.0, 1812.0, 1956.9),
        Published(1660.3, 83.0, 1529.0, 1657.0, 1802.8),
    ),
    "trochanter height": (
        Published(900.9, 49.2, 824.0, 899.0, 985.0),
        Published(845.4, 44.7, 774.2, 844.0, 919.0),
    ),
    "knee height": (
        Published(491.7, 26.6, 449.0, 491.0, 537.0),
        Published(465.9, 27.1, 422.0, 465.0, 511.0),
    ),
    "ankle height": (
        Published(72.9, 5.7, 64.0, 73.0, 83.0),
        Published(62.7, 5.1, 54.0, 63.0, 71.0),
    ),
    "foot length": (
        Published(271.2, 13.1, 250.0, 271.0, 293.0),
        Published(246.3, 12.4, 226.0, 246.0, 267.8),
    ),
    "foot breadth": (
        Published(101.9, 5.2, 94.0, 102.0, 111.0),
        Published(92.7, 4.8, 85.0, 93.0, 101.0),
    ),
    "head length": (
        Published(199.5, 7.0, 188.0, 200.0, 211.0),
        Published(189.8, 7.4, 178.0, 190.0, 202.0),
    ),
    "head breadth": (
        Published(154.3, 5.5, 146.0, 154.0, 163.0),
        Published(147.8, 5.2, 140.0, 147.0, 156.0),
    ),
    "chest girth": (
        Published(1058.7, 87.4, 922.0, 1056.0, 1207.0),
        Published(946.9, 82.7, 824.2, 940.0, 1094.0),
    ),
    "waist girth": (
        Published(940.6, 111.7, 768.0, 937.0, 1130.9),
        Published(860.9, 99.9, 710.0, 852.0, 1040.0),
    ),
    "buttock girth": (
        Published(1019.5, 76.7, 899.0, 1017.0, 1149.0),
        Published(1021.2, 75.9, 901.2, 1018.5, 1155.8),
    ),
    "thigh girth": (
        Published(625.1, 58.5, 532.0, 624.0, 723.0),
        Published(616.1, 55.8, 527.0, 613.0, 711.0),
    ),
    "calf girth": (
        Published(392.3, 29.7, 346.0, 392.0, 443.0),
        Published(373.3, 28.5, 328.0, 372.0, 423.0),
    ),
    "mass": (
        Published(85.5, 14.2, 64.4, 84.6, 110.7),
        Published(67.8, 11.0, 51.3, 66.8, 87.1),
    ),
    "BMI": (
        Published(27.7, 4.0, 21.4, 27.5, 34.8),
        Published(25.5, 3.5, 20.3, 25.3, 31.7),
    ),
}
