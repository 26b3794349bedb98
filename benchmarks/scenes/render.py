"""Renders three short scenes of ours with Blender: frames, and the exact alpha of the subject.

Runs in an environment of its own, because Blender is 427 MB: see ``README.md`` in this folder.
Everything is procedural and seeded. Each frame is rendered twice: the whole scene, and the subject
alone over nothing, whose coverage is the alpha, motion blur and hair included.
"""
# ruff: noqa: ANN401  # bpy has no types
# mypy: disable-error-code=misc

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Euler, Matrix, Vector

FRAMES = 32
FRAMES_PER_SECOND = 16
WIDTH_PX, HEIGHT_PX = 640, 360
COLOUR_SAMPLES = 6
ALPHA_SAMPLES = 24
SHUTTER_FRAMES = 0.5
SEED = 21


def _turn(frame: float, times: float = 1, ahead: float = 0) -> float:
    """The sine of a motion that repeats ``times`` in the clip, so that the clip loops."""
    return math.sin(2 * math.pi * (times * (frame - 1) / FRAMES + ahead))


def _material(
    name: str, colour: tuple[float, float, float], roughness: float = 0.6, metallic: float = 0
) -> Any:
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    shader = material.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (*colour, 1)
    shader.inputs["Roughness"].default_value = roughness
    shader.inputs["Metallic"].default_value = metallic
    return material


def _patterned(
    name: str, dark: tuple[float, float, float], light: tuple[float, float, float], scale: float
) -> Any:
    """A matt material whose colour is noise between two colours."""
    material = _material(name, dark, 0.8)
    nodes, links = material.node_tree.nodes, material.node_tree.links
    place = nodes.new("ShaderNodeTexCoord")
    noise = nodes.new("ShaderNodeTexNoise")
    noise.inputs["Scale"].default_value = scale
    noise.inputs["Detail"].default_value = 6
    ramp = nodes.new("ShaderNodeValToRGB")
    ramp.color_ramp.elements[0].color = (*dark, 1)
    ramp.color_ramp.elements[1].color = (*light, 1)
    ramp.color_ramp.elements[0].position, ramp.color_ramp.elements[1].position = 0.35, 0.65
    links.new(place.outputs["Object"], noise.inputs["Vector"])
    links.new(noise.outputs[0], ramp.inputs["Fac"])
    links.new(ramp.outputs["Color"], nodes["Principled BSDF"].inputs["Base Color"])
    return material


def _planks(name: str) -> Any:
    """Wooden boards, for floors and tables."""
    material = _material(name, (0.3, 0.17, 0.08), 0.5)
    nodes, links = material.node_tree.nodes, material.node_tree.links
    place = nodes.new("ShaderNodeTexCoord")
    bricks = nodes.new("ShaderNodeTexBrick")
    bricks.inputs["Color1"].default_value = (0.36, 0.21, 0.1, 1)
    bricks.inputs["Color2"].default_value = (0.24, 0.13, 0.06, 1)
    bricks.inputs["Mortar"].default_value = (0.06, 0.03, 0.02, 1)
    bricks.inputs["Scale"].default_value = 1.2
    bricks.inputs["Mortar Size"].default_value = 0.006
    bricks.inputs["Brick Width"].default_value = 2.4
    links.new(place.outputs["Object"], bricks.inputs["Vector"])
    links.new(bricks.outputs["Color"], nodes["Principled BSDF"].inputs["Base Color"])
    return material


def _add(kind: str, name: str, material: Any, **where: Any) -> Any:
    """A smooth primitive with a material, named after Blender's operator."""
    getattr(bpy.ops.mesh, f"primitive_{kind}_add")(**where)
    made = bpy.context.object
    made.name = name
    made.data.materials.append(material)
    bpy.ops.object.shade_smooth()
    return made


def _ball(name: str, material: Any, size: tuple[float, float, float], at: Any = (0, 0, 0)) -> Any:
    ball = _add("uv_sphere", name, material, segments=32, ring_count=20, location=at)
    ball.scale = size
    return ball


def _box(
    name: str, material: Any, size: tuple[float, float, float], at: Any, bevel: float = 0
) -> Any:
    box = _add("cube", name, material, size=1, location=at)
    box.scale = size
    bpy.ops.object.transform_apply(location=False, rotation=False, scale=True)
    if bevel:
        rounded = box.modifiers.new("rounded", "BEVEL")
        rounded.width, rounded.segments = bevel, 6
    else:
        bpy.ops.object.shade_flat()
    return box


def _hair(body: Any, material: Any, strands: int, length: float, width: float = 0.004) -> None:
    """Grow hair on a body: soft at the tips, a little curled, with children between strands."""
    body.data.materials.append(material)
    body.modifiers.new("hair", "PARTICLE_SYSTEM")
    hair = body.particle_systems[0]
    hair.seed = SEED
    made = hair.settings
    made.type = "HAIR"
    made.count = strands
    made.hair_step = 4
    made.render_step = 3
    made.use_advanced_hair = True
    made.hair_length = length
    made.factor_random = 0.12 * length
    made.brownian_factor = 0.06 * length
    made.object_align_factor = (0, 0, -0.35 * length)
    made.child_type = "INTERPOLATED"
    made.rendered_child_count = 10
    made.clump_factor = 0.35
    made.roughness_1 = 0.012
    made.roughness_2 = 0.02
    made.material = len(body.data.materials)
    made.root_radius, made.tip_radius, made.radius_scale = 1.0, 0.15, width


def _keyed(thing: Any, place: Callable[[float], Matrix]) -> None:
    """Move a thing by a function of the frame, keyed on every frame for motion blur."""
    size = thing.scale.copy()
    for frame in range(-1, FRAMES + 3):
        moved = place(frame)
        thing.location = moved.to_translation()
        thing.rotation_mode = "QUATERNION"
        thing.rotation_quaternion = moved.to_quaternion()
        thing.scale = size
        thing.keyframe_insert("location", frame=frame)
        thing.keyframe_insert("rotation_quaternion", frame=frame)


def _limbs(
    name: str,
    material: Any,
    bones: list[tuple[str, str]],
    radii: dict[str, float],
    joints: Callable[[float], dict[str, Vector]],
) -> Any:
    """A soft body around a skeleton whose joints are a function of the frame.

    The skin is made once, in the pose of frame 1. Each vertex then follows the bones near it, so
    that the topology stays and the body can be blurred by motion.
    """
    names = list(radii)
    rest = joints(1)
    mesh = bpy.data.meshes.new(name)
    edges = [(names.index(one), names.index(other)) for one, other in bones]
    mesh.from_pydata([rest[each] for each in names], edges, [])
    body = bpy.data.objects.new(name, mesh)
    bpy.context.collection.objects.link(body)
    bpy.context.view_layer.objects.active = body
    body.modifiers.new("skin", "SKIN").use_smooth_shade = True
    for vertex, each in zip(mesh.skin_vertices[0].data, names, strict=True):
        vertex.radius = (radii[each], radii[each])
    mesh.skin_vertices[0].data[0].use_root = True
    body.modifiers.new("smooth", "SUBSURF").levels = 2
    for modifier in ("skin", "smooth"):
        bpy.ops.object.modifier_apply(modifier=modifier)
    body.data.materials.clear()
    body.data.materials.append(material)
    still = np.array([vertex.co for vertex in body.data.vertices])
    weights = np.stack([_nearness(still, rest[one], rest[other]) for one, other in bones])
    weights /= weights.sum(axis=0)
    body.shape_key_add(name="rest")
    for frame in range(-1, FRAMES + 3):
        pose = joints(frame)
        moved = np.zeros_like(still)
        for (one, other), weight in zip(bones, weights, strict=True):
            turn = (rest[other] - rest[one]).rotation_difference(pose[other] - pose[one])
            placed = (still - rest[one]) @ np.array(turn.to_matrix()).T + pose[one]
            moved += weight[:, None] * placed
        key = body.shape_key_add(name=str(frame))
        key.data.foreach_set("co", moved.ravel())
        for near in (frame - 1, frame, frame + 1):
            key.value = float(near == frame)
            key.keyframe_insert("value", frame=near)
    return body


def _nearness(points: Any, one: Vector, other: Vector) -> Any:
    """How much each point belongs to the bone from ``one`` to ``other``."""
    start, along = np.array(one), np.array(other - one)
    share = np.clip((points - start) @ along / (along @ along), 0, 1)
    distance = np.linalg.norm(points - start - share[:, None] * along, axis=1)
    return (distance + 0.01) ** -5.0


def _dancer_joints(frame: float) -> dict[str, Vector]:
    """Where a dancing person's joints are: steps in place, and arms that swing."""
    bob = 0.035 * abs(_turn(frame, 2))
    pelvis = Vector((0.09 * _turn(frame), 0, 0.92 + bob))
    body = Euler((0.06 * _turn(frame, 2), 0.12 * _turn(frame), 0.35 * _turn(frame, 1, 0.1)))
    lean = body.to_matrix()
    at = {"pelvis": pelvis}
    for name, height in (
        ("hem", -0.09),
        ("waist", 0.18),
        ("chest", 0.38),
        ("neck", 0.52),
        ("head", 0.7),
    ):
        at[name] = pelvis + lean @ Vector((0, 0, height))
    for side, sign in (("l", 1), ("r", -1)):
        raised = math.radians(75 + 62 * _turn(frame, 2, 0.25 if sign > 0 else 0.55))
        bent = raised + math.radians(35 + 35 * _turn(frame, 2, 0.4))
        shoulder = pelvis + lean @ Vector((sign * 0.17, 0, 0.45))
        elbow = (
            shoulder
            + lean @ Vector((sign * math.sin(raised), -0.25, -math.cos(raised))).normalized() * 0.28
        )
        wrist = (
            elbow
            + lean @ Vector((sign * math.sin(bent), -0.35, -math.cos(bent))).normalized() * 0.25
        )
        hand = wrist + (wrist - elbow).normalized() * 0.07
        lifted = math.radians(58) * max(0.0, sign * _turn(frame))
        hip = pelvis + lean @ Vector((sign * 0.09, 0, -0.03))
        knee = hip + Vector((sign * 0.05, -math.sin(lifted) * 0.43, -math.cos(lifted) * 0.43))
        ankle = knee + Vector((0, math.sin(lifted * 0.9) * 0.4, -math.cos(lifted * 0.9) * 0.41))
        at |= {f"shoulder_{side}": shoulder, f"elbow_{side}": elbow, f"wrist_{side}": wrist}
        at |= {f"hand_{side}": hand, f"hip_{side}": hip, f"knee_{side}": knee}
        at |= {f"ankle_{side}": ankle, f"toe_{side}": ankle + Vector((sign * 0.02, -0.09, -0.05))}
    return at


def person() -> list[Any]:
    """A figure with loose hair that dances in a room; its arms are blurred by motion."""
    skin = _material("skin", (0.55, 0.29, 0.19), 0.5)
    shirt = _patterned("shirt", (0.75, 0.3, 0.04), (0.85, 0.42, 0.08), 6)
    jeans = _patterned("jeans", (0.03, 0.06, 0.18), (0.05, 0.09, 0.24), 14)
    shoes = _material("shoes", (0.75, 0.75, 0.72), 0.4)
    hair = _material("hair", (0.045, 0.02, 0.012), 0.4)
    eyes = _material("eyes", (0.01, 0.01, 0.012), 0.15)
    both = ("l", "r")
    subject = [
        _limbs(
            "shirt",
            shirt,
            [("hem", "pelvis"), ("pelvis", "waist"), ("waist", "chest"), ("chest", "neck")]
            + [("chest", f"shoulder_{side}") for side in both]
            + [(f"shoulder_{side}", f"elbow_{side}") for side in both],
            {"hem": 0.155, "pelvis": 0.15, "waist": 0.13, "chest": 0.16, "neck": 0.06}
            | {f"shoulder_{side}": 0.075 for side in both}
            | {f"elbow_{side}": 0.058 for side in both},
            _dancer_joints,
        ),
        _limbs(
            "jeans",
            jeans,
            [("pelvis", f"hip_{side}") for side in both]
            + [(f"hip_{side}", f"knee_{side}") for side in both]
            + [(f"knee_{side}", f"ankle_{side}") for side in both],
            {"pelvis": 0.09}
            | {f"hip_{side}": 0.1 for side in both}
            | {f"knee_{side}": 0.072 for side in both}
            | {f"ankle_{side}": 0.062 for side in both},
            _dancer_joints,
        ),
    ]
    for side in both:
        subject.append(
            _limbs(
                f"arm_{side}",
                skin,
                [(f"elbow_{side}", f"wrist_{side}"), (f"wrist_{side}", f"hand_{side}")],
                {f"elbow_{side}": 0.045, f"wrist_{side}": 0.032, f"hand_{side}": 0.042},
                _dancer_joints,
            )
        )
        shoe = _ball(f"shoe_{side}", shoes, (0.06, 0.13, 0.055))
        hand = _ball(f"hand_{side}", skin, (0.05, 0.045, 0.055))
        for part, joint in ((shoe, f"toe_{side}"), (hand, f"hand_{side}")):
            _keyed(part, lambda frame, j=joint: Matrix.Translation(_dancer_joints(frame)[j]))
            subject.append(part)

    def turned(frame: float) -> Matrix:
        nods = Euler(
            (0.1 * _turn(frame, 2), 0.14 * _turn(frame, 1, 0.05), 0.4 * _turn(frame, 1, 0.15))
        )
        return Matrix.Translation(_dancer_joints(frame)["head"]) @ nods.to_matrix().to_4x4()

    neck = _limbs("neck", skin, [("neck", "head")], {"neck": 0.055, "head": 0.05}, _dancer_joints)
    parts = {
        "head": (_ball("head", skin, (0.098, 0.11, 0.13)), (0, 0, 0)),
        "scalp": (_ball("scalp", hair, (0.098, 0.1, 0.1)), (0, 0.03, 0.055)),
        "nose": (_ball("nose", skin, (0.016, 0.022, 0.02)), (0, -0.112, -0.015)),
        "eye_l": (_ball("eye_l", eyes, (0.013, 0.01, 0.015)), (0.038, -0.1, 0.022)),
        "eye_r": (_ball("eye_r", eyes, (0.013, 0.01, 0.015)), (-0.038, -0.1, 0.022)),
    }
    _hair(parts["scalp"][0], hair, 800, 0.05, 0.0035)
    for part, offset in parts.values():
        _keyed(part, lambda frame, o=offset: turned(frame) @ Matrix.Translation(o))
    _room()
    _camera((0.25, -4.6, 1.25), (0, 0, 1.0), 44, 0.12)
    return [*subject, neck, *(part for part, _ in parts.values())]


def _room() -> None:
    """A wall with pictures, a shelf, a plant-like lamp and boards on the floor."""
    _add("plane", "floor", _planks("boards"), size=12)
    wall = _patterned("wall", (0.3, 0.42, 0.4), (0.36, 0.48, 0.45), 1.5)
    _box("wall", wall, (12, 0.1, 5), (0, 1.9, 2.5))
    frame = _material("frame", (0.08, 0.05, 0.03), 0.4)
    for number, (left, up, wide, high) in enumerate(
        ((-1.5, 1.75, 0.7, 0.5), (1.35, 1.85, 0.5, 0.65), (2.1, 1.6, 0.4, 0.4))
    ):
        _box(f"frame{number}", frame, (wide + 0.08, 0.05, high + 0.08), (left, 1.83, up))
        shown = _patterned(
            f"art{number}", (0.5, 0.12 * number, 0.1), (0.9, 0.75, 0.45 + 0.1 * number), 4 + number
        )
        _box(f"art{number}", shown, (wide, 0.05, high), (left, 1.815, up))
    _box("shelf", frame, (1.3, 0.35, 0.8), (-1.75, 1.6, 0.4), 0.02)
    for number in range(9):
        cover = _material(
            f"book{number}", (0.12 + 0.07 * number % 0.5, 0.1 + 0.11 * number % 0.4, 0.35), 0.6
        )
        high = 0.2 + 0.05 * (number * 7 % 4)
        _box(
            f"book{number}", cover, (0.07, 0.2, high), (-2.25 + 0.085 * number, 1.6, 0.8 + high / 2)
        )
    pot = _material("pot", (0.5, 0.2, 0.12), 0.7)
    _ball("pot", pot, (0.22, 0.22, 0.24), (1.75, 1.3, 0.22))
    leaf = _patterned("leaf", (0.03, 0.14, 0.04), (0.07, 0.26, 0.06), 8)
    for number in range(14):
        blade = _ball(f"leaf{number}", leaf, (0.045, 0.02, 0.42), (1.75, 1.3, 0.75))
        blade.rotation_euler = (0.5 * math.sin(number * 2.4), 0.5 * math.cos(number * 2.4), 0)


def animal() -> list[Any]:
    """A furry fox-like animal that hops, wags and looks about on grass."""
    coat = _material("coat", (0.52, 0.2, 0.05), 0.6)
    pale = _material("pale", (0.78, 0.7, 0.6), 0.6)
    dark = _material("dark", (0.05, 0.03, 0.025), 0.6)
    shiny = _material("shiny", (0.01, 0.008, 0.008), 0.1)

    def body(frame: float) -> Matrix:
        up = 0.07 * abs(_turn(frame, 2))
        return (
            Matrix.Translation((0.05 * _turn(frame), 0, up))
            @ Euler(
                (0.05 * _turn(frame, 2), 0.06 * _turn(frame, 2, 0.1), 0.55 + 0.15 * _turn(frame))
            )
            .to_matrix()
            .to_4x4()
        )

    def head(frame: float) -> Matrix:
        looks = Euler(
            (0.12 * _turn(frame, 2), 0.1 * _turn(frame), -0.35 + 0.5 * _turn(frame, 1, 0.2))
        )
        return body(frame) @ Matrix.Translation((0, -0.44, 0.8)) @ looks.to_matrix().to_4x4()

    def tail(frame: float) -> Matrix:
        wags = Euler((-0.5, 0, 0.75 * _turn(frame, 4)))
        return body(frame) @ Matrix.Translation((0, 0.38, 0.55)) @ wags.to_matrix().to_4x4()

    parts: list[Any] = [
        ("trunk", coat, (0.2, 0.4, 0.21), body, (0, 0, 0.48), 1000, 0.045),
        ("chest", pale, (0.17, 0.17, 0.2), body, (0, -0.3, 0.5), 500, 0.055),
        ("head", coat, (0.17, 0.17, 0.15), head, (0, 0, 0), 700, 0.028),
        ("cheeks", pale, (0.15, 0.13, 0.09), head, (0, -0.06, -0.06), 400, 0.03),
        ("muzzle", pale, (0.07, 0.14, 0.06), head, (0, -0.18, -0.045), 300, 0.012),
        ("nose", shiny, (0.028, 0.025, 0.024), head, (0, -0.325, -0.03), 0, 0),
        ("tail1", coat, (0.08, 0.22, 0.08), tail, (0, 0.2, 0.0), 400, 0.055),
        ("tail2", coat, (0.1, 0.2, 0.1), tail, (0, 0.46, 0.03), 450, 0.065),
        ("tail3", pale, (0.07, 0.12, 0.07), tail, (0, 0.68, 0.05), 300, 0.06),
    ]
    for sign in (-1, 1):
        side = "lr"[sign > 0]
        parts += [
            (f"eye_{side}", shiny, (0.028, 0.02, 0.03), head, (sign * 0.075, -0.15, 0.03), 0, 0),
            (f"ear_{side}", coat, (0.05, 0.03, 0.13), head, (sign * 0.105, 0.03, 0.17), 250, 0.02),
            (
                f"tip_{side}",
                dark,
                (0.03, 0.02, 0.05),
                head,
                (sign * 0.118, 0.03, 0.265),
                120,
                0.018,
            ),
        ]
        for name, along, ahead in (("front", -0.27, 0.0), ("back", 0.26, 0.5)):

            def swung(
                frame: float, along: float = along, s: int = sign, ahead: float = ahead
            ) -> Matrix:
                swing = Euler((0.35 * _turn(frame, 2, ahead + 0.12 * s), 0, 0)).to_matrix().to_4x4()
                return body(frame) @ Matrix.Translation((s * 0.11, along, 0.42)) @ swing

            parts += [
                (f"{name}_{side}", coat, (0.07, 0.09, 0.17), swung, (0, 0, -0.08), 250, 0.022),
                (
                    f"{name}_shin_{side}",
                    dark,
                    (0.045, 0.05, 0.15),
                    swung,
                    (0, 0, -0.26),
                    150,
                    0.015,
                ),
                (
                    f"{name}_paw_{side}",
                    dark,
                    (0.055, 0.08, 0.045),
                    swung,
                    (0, -0.03, -0.38),
                    120,
                    0.012,
                ),
            ]
    subject = []
    for name, colour, size, moves, offset, strands, length in parts:
        part = _ball(name, colour, size)
        bpy.ops.object.transform_apply(location=False, rotation=False, scale=True)
        if strands:
            _hair(part, colour, strands, length)
        _keyed(part, lambda frame, m=moves, o=offset: m(frame) @ Matrix.Translation(o))
        subject.append(part)
    meadow = _patterned("meadow", (0.03, 0.1, 0.02), (0.12, 0.22, 0.04), 5)
    _add("plane", "meadow", meadow, size=30)
    trunk = _patterned("bark", (0.08, 0.05, 0.03), (0.2, 0.13, 0.08), 7)
    crown = _patterned("crown", (0.02, 0.08, 0.02), (0.1, 0.2, 0.05), 3)
    for number in range(11):
        x = -6 + 1.25 * number + 0.5 * math.sin(number * 5)
        y = 4 + 2.2 * (number * 7 % 5) / 4
        _add("cylinder", f"trunk{number}", trunk, radius=0.16, depth=4, location=(x, y, 2))
        _ball(f"crown{number}", crown, (1.0, 1.0, 1.3), (x, y, 3))
    stone = _patterned("stone", (0.2, 0.2, 0.2), (0.4, 0.38, 0.36), 4)
    for number, (x, y, size) in enumerate(((-1.3, 1.2, 0.3), (1.5, 0.9, 0.22), (1.2, 1.8, 0.4))):
        _ball(f"stone{number}", stone, (size, size * 0.8, size * 0.7), (x, y, 0.08))
    _camera((0.1, -3.7, 0.95), (0, 0, 0.55), 52, 0.05)
    return subject


def thing() -> list[Any]:
    """A toy car with an aerial that drives in a circle on a table."""
    paint = _material("paint", (0.55, 0.02, 0.03), 0.25)
    glass = _material("glass", (0.02, 0.035, 0.05), 0.08)
    rubber = _material("rubber", (0.015, 0.015, 0.015), 0.8)
    metal = _material("metal", (0.7, 0.7, 0.72), 0.25, 1)
    lamp = _material("lamp", (0.95, 0.85, 0.5), 0.2)

    def car(frame: float) -> Matrix:
        around = 2 * math.pi * (frame - 1) / FRAMES
        return (
            Matrix.Translation((0.42 * math.cos(around), 0.3 * math.sin(around), 0))
            @ Euler((0, 0.07, around + math.pi / 2)).to_matrix().to_4x4()
        )

    boxes = [
        ("hull", paint, (0.86, 0.4, 0.17), (0, 0, 0.2), 0.07),
        ("cabin", paint, (0.42, 0.34, 0.2), (-0.06, 0, 0.36), 0.07),
        ("windows", glass, (0.43, 0.28, 0.11), (-0.06, 0, 0.37), 0.03),
        ("sides", glass, (0.32, 0.35, 0.1), (-0.06, 0, 0.37), 0.03),
        ("front", metal, (0.05, 0.4, 0.06), (0.43, 0, 0.14), 0.02),
        ("rear", metal, (0.05, 0.4, 0.06), (-0.43, 0, 0.14), 0.02),
    ]
    subject = []
    for name, colour, size, offset, bevel in boxes:
        part = _box(name, colour, size, (0, 0, 0), bevel)
        _keyed(part, lambda frame, o=offset: car(frame) @ Matrix.Translation(o))
        subject.append(part)
    for x in (-0.27, 0.27):
        for y in (-0.2, 0.2):
            for name, colour, radius, wide in (
                ("tyre", rubber, 0.11, 0.09),
                ("hub", metal, 0.06, 0.1),
            ):
                wheel = _add("cylinder", name, colour, radius=radius, depth=wide, vertices=40)

                def rolls(frame: float, x: float = x, y: float = y) -> Matrix:
                    spin = Euler((0, 0, -2 * math.pi * 4 * (frame - 1) / FRAMES))
                    upright = Euler((math.pi / 2, 0, 0)).to_matrix().to_4x4()
                    return (
                        car(frame)
                        @ Matrix.Translation((x, y, 0.11))
                        @ upright
                        @ spin.to_matrix().to_4x4()
                    )

                _keyed(wheel, rolls)
                subject.append(wheel)
    for y in (-0.13, 0.13):
        light = _ball("light", lamp, (0.03, 0.05, 0.045))
        _keyed(light, lambda frame, y=y: car(frame) @ Matrix.Translation((0.425, y, 0.22)))
        subject.append(light)
    aerial = _add("cylinder", "aerial", metal, radius=0.006, depth=0.4, vertices=12)
    bulb = _ball("bulb", lamp, (0.022, 0.022, 0.022))
    for part, up in ((aerial, 0.2), (bulb, 0.41)):
        _keyed(
            part,
            lambda frame, up=up: (
                car(frame)
                @ Matrix.Translation((-0.34, 0.14, 0.28))
                @ Euler((0.1 * _turn(frame, 4), 0.15 * _turn(frame, 3), 0)).to_matrix().to_4x4()
                @ Matrix.Translation((0, 0, up))
            ),
        )
        subject.append(part)
    _add("plane", "table", _planks("table"), size=8)
    wall = _patterned("paper", (0.5, 0.46, 0.36), (0.6, 0.56, 0.46), 2)
    _box("paper", wall, (10, 0.1, 4), (0, 2.2, 2))
    for number in range(12):
        cover = _material(
            f"spine{number}",
            (
                (0.07 + 0.13 * number) % 0.5,
                (0.25 + 0.09 * number) % 0.4,
                (0.3 + 0.17 * number) % 0.5,
            ),
        )
        high = 0.65 + 0.12 * (number * 5 % 4)
        _box(
            f"spine{number}", cover, (0.16, 0.5, high), (-2.1 + 0.18 * number, 1.5, high / 2), 0.01
        )
    mug = _material("mug", (0.08, 0.2, 0.32), 0.3)
    _add("cylinder", "mug", mug, radius=0.17, depth=0.42, location=(1.05, 1.25, 0.21))
    fruit = _patterned("fruit", (0.2, 0.32, 0.03), (0.4, 0.42, 0.05), 3)
    _ball("fruit", fruit, (0.18, 0.18, 0.17), (1.6, 0.9, 0.17))
    _camera((0.35, -2.75, 1.25), (0, 0, 0.2), 44, 0.06)
    return subject


def _camera(
    at: tuple[float, float, float], to: tuple[float, float, float], lens_mm: float, sway: float
) -> None:
    """A camera held by hand: it sways, looks at one point, and throws the distance out of focus."""
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    bpy.context.collection.objects.link(camera)
    bpy.context.scene.camera = camera
    camera.data.lens = lens_mm
    camera.data.dof.use_dof = True
    camera.data.dof.focus_distance = (Vector(at) - Vector(to)).length
    camera.data.dof.aperture_fstop = 2.8

    def held(frame: float) -> Matrix:
        place = Vector(at) + sway * Vector((_turn(frame), 0, 0.5 * _turn(frame, 2, 0.2)))
        look = (Vector(to) - place).to_track_quat("-Z", "Y")
        return Matrix.Translation(place) @ look.to_matrix().to_4x4()

    _keyed(camera, held)


def _light() -> None:
    """A sun with soft shadows, a wide lamp from the left, and a bluish sky."""
    sun = bpy.data.objects.new("sun", bpy.data.lights.new("sun", "SUN"))
    sun.data.energy, sun.data.angle = 2.6, math.radians(6)
    sun.rotation_euler = (math.radians(48), math.radians(8), math.radians(30))
    wide = bpy.data.objects.new("wide", bpy.data.lights.new("wide", "AREA"))
    wide.data.energy, wide.data.size = 140, 3
    wide.location = (-3, -3, 3.2)
    wide.rotation_euler = (Vector((0, 0, 0.8)) - wide.location).to_track_quat("-Z", "Y").to_euler()
    for lamp in (sun, wide):
        bpy.context.collection.objects.link(lamp)
    world = bpy.data.worlds.new("world")
    bpy.context.scene.world = world
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.55, 0.68, 0.85, 1)
    world.node_tree.nodes["Background"].inputs["Strength"].default_value = 0.55


def _white() -> None:
    """The material of the alpha pass, which needs no light."""
    white = bpy.data.materials.new("white")
    white.use_nodes = True
    nodes, links = white.node_tree.nodes, white.node_tree.links
    glow = nodes.new("ShaderNodeEmission")
    links.new(glow.outputs[0], nodes["Material Output"].inputs["Surface"])


SCENES: dict[str, Callable[[], list[Any]]] = {"person": person, "animal": animal, "thing": thing}


def _render(target: Path, frame: int, samples: int, *, alpha: bool) -> None:
    scene = bpy.context.scene
    scene.cycles.samples = samples
    scene.cycles.seed = SEED + frame
    scene.cycles.use_denoising = not alpha
    scene.render.film_transparent = alpha
    scene.render.image_settings.color_mode = "RGBA" if alpha else "RGB"
    scene.cycles.max_bounces = 0 if alpha else 2
    scene.view_layers[0].material_override = bpy.data.materials["white"] if alpha else None
    scene.render.filepath = str(target)
    scene.frame_set(frame)
    bpy.ops.render.render(write_still=True)


def build(name: str, scale: float, threads: int) -> tuple[list[Any], list[Any]]:
    """Make a scene; return its subject and everything else that can be seen."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.preferences.edit.keyframe_new_interpolation_type = "LINEAR"
    subject = SCENES[name]()
    _light()
    _white()
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.render.resolution_x, scene.render.resolution_y = WIDTH_PX, HEIGHT_PX
    scene.render.resolution_percentage = round(100 * scale)
    scene.render.fps = FRAMES_PER_SECOND
    scene.render.use_motion_blur = True
    scene.render.motion_blur_shutter = SHUTTER_FRAMES
    scene.render.threads_mode, scene.render.threads = "FIXED", threads
    scene.render.image_settings.file_format = "PNG"
    scene.render.use_persistent_data = False
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.denoising_prefilter, scene.cycles.denoising_quality = "FAST", "FAST"
    scene.view_settings.view_transform = "AgX"
    scene.view_settings.look = "AgX - Medium High Contrast"
    behind = [each for each in scene.objects if each.type == "MESH" and each not in subject]
    return subject, behind


def main() -> None:
    """Render the scenes that are named, or all, into ``TARGET/SCENE/{frames,alpha}/0001.png``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("target", type=Path)
    parser.add_argument("--scene", choices=list(SCENES), action="append")
    parser.add_argument("--frames", type=int, nargs="*", help="these only, from 1")
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    for name in asked.scene or SCENES:
        _, behind = build(name, asked.scale, asked.threads)
        for frame in asked.frames or range(1, FRAMES + 1):
            began_s = time.monotonic()
            for kind, samples in (("frames", COLOUR_SAMPLES), ("alpha", ALPHA_SAMPLES)):
                target = asked.target / name / kind / f"{frame:04}.png"
                if target.exists():
                    continue
                for each in behind:
                    each.hide_render = kind == "alpha"
                _render(target, frame, samples, alpha=kind == "alpha")
            print(f"{name} {frame}/{FRAMES} {time.monotonic() - began_s:.1f} s", flush=True)


if __name__ == "__main__":
    main()
