"""Opens a sequence of foremask-exr in Blender's compositor, over a picture or a grey.

blender --python blender.py -- frames/shot.0001.exr [background.jpg]

The node of the sequence has an output for each thing. Blender 5.0 or newer. Set the clip's frame
rate yourself.
"""

import sys
from pathlib import Path

import bpy


def over(first: Path, background: Path | None) -> None:
    """Make the scene as large and as long as the sequence, and composite it."""
    images = bpy.data.images
    shot = images.load(str(first))  # linear and premultiplied, by its header
    shot.source = "SEQUENCE"
    frames = len(list(first.parent.glob(f"*{first.suffix}")))
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 1, frames

    tree = bpy.data.node_groups.new("foremask", "CompositorNodeTree")
    tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
    scene.compositing_node_group = tree
    node = tree.nodes.new("CompositorNodeImage")
    node.image, node.frame_duration, node.frame_start, node.frame_offset = shot, frames, 1, 0
    mix = tree.nodes.new("CompositorNodeAlphaOver")
    output = tree.nodes.new("NodeGroupOutput")
    tree.links.new(node.outputs["Combined"], mix.inputs["Foreground"])
    tree.links.new(mix.outputs[0], output.inputs["Image"])
    if background is None:
        mix.inputs["Background"].default_value = (0.2, 0.2, 0.2, 1)
    else:
        behind = tree.nodes.new("CompositorNodeImage")
        behind.image = images.load(str(background))
        fit = tree.nodes.new("CompositorNodeScale")
        fit.inputs["Type"].default_value = "Render Size"
        fit.inputs["Frame Type"].default_value = "Crop"
        tree.links.new(behind.outputs["Image"], fit.inputs["Image"])
        tree.links.new(fit.outputs["Image"], mix.inputs["Background"])
        behind.location, fit.location = (-500, -250), (-250, -250)
    node.location, mix.location, output.location = (-500, 150), (0, 0), (250, 0)
    scene.render.resolution_x, scene.render.resolution_y = _size(first)
    scene.render.resolution_percentage = 100
    scene.view_settings.view_transform = "Standard"  # AgX would change the clip's colours


def _size(first: Path) -> tuple[int, int]:
    """A multi-layer image has no size before it is shown: its header has."""
    with first.open("rb") as file:
        head = file.read(1 << 16)
    name = b"displayWindow\0box2i\0\x10\0\0\0"
    start = head.index(name) + len(name)
    left, top, right, bottom = (
        int.from_bytes(head[at : at + 4], "little", signed=True)
        for at in range(start, start + 16, 4)
    )
    return right - left + 1, bottom - top + 1


if __name__ == "__main__":
    given = [Path(word).absolute() for word in sys.argv[sys.argv.index("--") + 1 :]]
    over(given[0], given[1] if len(given) > 1 else None)
