"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from foremask.options import Preset

Shown = Parameter(show_default=False)
Flag = Parameter(negative="", show_default=False)
Switch = Annotated[bool, Flag]
AsJson = Annotated[bool, Flag, Parameter(name="--json", help="Answer with JSON.")]
Force = Annotated[bool, Flag, Parameter(help="Replace an OUTPUT that exists.")]
ByPreset = Annotated[Preset | None, Parameter(name_transform=str.lower, show_choices=False)]
Output = Annotated[Path | None, Parameter(name=("--output", "-o"))]
Clip = Annotated[Path, Parameter(name="INPUT", help="The clip.")]
