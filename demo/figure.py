"""Draws a simple athlete, for users without a photograph at hand: `python demo/figure.py figure.png`."""

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = (480, 440)  # height, width
JOINTS = {
    "right_ankle": (150, 420),
    "right_knee": (185, 345),
    "right_hip": (205, 262),
    "left_hip": (247, 262),
    "left_knee": (292, 330),
    "left_ankle": (300, 410),
    "right_wrist": (120, 120),
    "right_elbow": (150, 180),
    "right_shoulder": (195, 160),
    "left_shoulder": (260, 160),
    "left_elbow": (300, 205),
    "left_wrist": (345, 165),
    "neck": (228, 140),
    "head_top": (228, 82),
}  # x, y in pixels
SKY, HAZE, LAWN = (235, 200, 150), (225, 220, 210), (90, 140, 90)  # blue, green, red
SKIN, HAIR, SHIRT, SHORTS, SHOES = (140, 170, 220), (40, 60, 90), (60, 60, 190), (110, 60, 40), (40, 40, 40)
HORIZON = 400
LIMBS = (
    ("hip", "knee", SHORTS, 38),
    ("knee", "ankle", SKIN, 24),
    ("shoulder", "elbow", SHIRT, 26),
    ("elbow", "wrist", SKIN, 18),
)


def draw() -> NDArray[np.uint8]:
    """[height, width, 3], blue first, as in OpenCV. The figure faces us: its right is on our left."""
    image = _scenery()
    for side in ("right", "left"):
        for start, end, colour, width in LIMBS:
            cv2.line(image, JOINTS[f"{side}_{start}"], JOINTS[f"{side}_{end}"], colour, width, cv2.LINE_AA)
        x, y = JOINTS[f"{side}_ankle"]
        cv2.ellipse(image, (x + 8, y + 10), (22, 9), 0, 0, 360, SHOES, cv2.FILLED, cv2.LINE_AA)
        cv2.circle(image, JOINTS[f"{side}_wrist"], 12, SKIN, cv2.FILLED, cv2.LINE_AA)
    _trunk_and_head(image)
    return image


def _scenery() -> NDArray[np.uint8]:
    height, width = SIZE
    depth = np.linspace(0, 1, height)[:, None, None]
    image = np.broadcast_to((1 - depth) * SKY + depth * HAZE, (height, width, 3)).astype(np.uint8, order="C")
    image[HORIZON:] = LAWN
    return image


def _trunk_and_head(image: NDArray[np.uint8]) -> None:
    corners = ("right_shoulder", "left_shoulder", "left_hip", "right_hip")
    trunk = np.array([JOINTS[corner] for corner in corners])
    cv2.fillConvexPoly(image, trunk, SHIRT, cv2.LINE_AA)
    cv2.polylines(image, [trunk], isClosed=True, color=SHIRT, thickness=30, lineType=cv2.LINE_AA)
    x, y = JOINTS["neck"]
    cv2.line(image, (x, y), (x, y - 20), SKIN, 22, cv2.LINE_AA)
    cv2.ellipse(image, (x, y - 32), (22, 28), 0, 0, 360, SKIN, cv2.FILLED, cv2.LINE_AA)
    cv2.ellipse(image, (x, y - 45), (24, 18), 0, 180, 360, HAIR, cv2.FILLED, cv2.LINE_AA)


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(cv2.imencode(".png", draw())[1].tobytes())
