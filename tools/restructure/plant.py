"""Plant 15 forbidden imports, one at a time, and see that lint-imports refuses each. Run in a clean new-layout checkout."""

import subprocess
import sys
from pathlib import Path

PLANTED = [
    ("media/probe.py", "import foremask.service.settings"),
    ("vision/network/session.py", "import foremask.service.jobs.database"),
    ("masking/pipeline.py", "import foremask.service.storage.objects"),
    ("masking/pipeline.py", "import foremask.cli.exits"),
    ("weights/catalogue.py", "import foremask.vision.network.session"),
    ("media/reader.py", "import foremask.vision.resample"),
    ("errors.py", "import foremask.options"),
    ("media/reader.py", "import asyncio"),
    ("service/settings.py", "import foremask.service.observability.metrics"),
    ("service/api/auth.py", "import foremask.service.worker.tasks"),
    ("service/jobs/steps.py", "import foremask.service.storage.objects"),
    ("service/api/parsing.py", "import foremask.media.probe"),
    ("service/worker/maintenance.py", "import litestar"),
    ("vision/temporal/flow.py", "import av"),
    ("cli/doctor.py", "import psycopg"),
]

missed = 0
for name, line in PLANTED:
    path = Path("src/foremask", name)
    text = path.read_text(encoding="utf-8")
    path.write_text(text + f"\n{line}\n", encoding="utf-8")
    try:
        caught = subprocess.run([Path(sys.executable).with_name("lint-imports"), "--no-cache"], capture_output=True).returncode != 0
    finally:
        path.write_text(text, encoding="utf-8")
    missed += not caught
    print("caught" if caught else "MISSED", name, "<-", line, flush=True)
sys.exit(missed)
