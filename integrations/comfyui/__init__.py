"""ComfyUI loads this folder from `custom_nodes`: docs/comfyui.md."""

from .nodes import CutOut, Mask

NODE_CLASS_MAPPINGS = {"ForemaskMask": Mask, "ForemaskCutOut": CutOut}
NODE_DISPLAY_NAME_MAPPINGS = {
    "ForemaskMask": "foremask Mask",
    "ForemaskCutOut": "foremask Cut-out",
}
