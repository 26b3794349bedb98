"""After restructure.py: the documents that a person wrote for the new layout. Run in the same checkout."""

import shutil
from pathlib import Path

HERE = Path(__file__).parent
shutil.copyfile(HERE / "overlay-hand" / "architecture.md", "docs/architecture.md")

path = Path("CONTRIBUTING.md")
text = path.read_text()
marker = "A clip that is masked badly,"
assert marker in text
text = text.replace(marker, """Where what lives (`docs/architecture.md` has all rooms and the glossary):

| to change | begin at |
|---|---|
| what a command does or prints | `src/foremask/cli/` |
| a preset: container, codec, promises | `src/foremask/media/presets.py`, `options.py` |
| what can go wrong, and its remedy | `src/foremask/errors.py`, `service/api/remedies.py` |
| a stage of masking | `src/foremask/masking/pipeline.py` |
| how masks are found | `src/foremask/vision/`: `network/`, then `temporal/`, then `matting/` |
| a setting | `src/foremask/service/settings.py`, then `make docs` |
| an HTTP operation | `src/foremask/service/api/` |
| a step of a job, or a query | `src/foremask/service/worker/`, `service/jobs/` |

The tests of a room are in the folder of the same name under `tests/`; what tests share is in `tests/support/`.

""" + marker)
path.write_text(text)

path = Path("CHANGELOG.md")
text = path.read_text()
marker = "### Changed\n"
line = """- The modules of the package are in rooms: `masking`, `media`, `vision`, `weights`, `machine`, `service`, `cli`. The public names come from
  `foremask` itself (`from foremask import mask_video`); imports of inner modules change, as docs/architecture.md says. In
  the log, `house.*` is `maintenance.*` and `lane.lost` is `queue.lost`.
"""
if marker in text:
    text = text.replace(marker, marker + line, 1)
else:
    text = text.replace("### Added\n", "### Changed\n" + line + "\n### Added\n", 1)
path.write_text(text)
