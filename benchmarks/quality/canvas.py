"""Reads masks back from a canvas of headless Chromium: black must be 0 and white 255, within 2.

``python -m benchmarks.quality.canvas``. Masks are drawn, served on loopback, and never leave the
machine.
"""

import functools
import json
import sys
import tempfile
import threading
from fractions import Fraction
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue

import numpy as np
from tests.support import synth
from tests.support.browser import browsing

from foremask.media.reader import VideoReader
from foremask.media.writer import MaskWriter
from foremask.options import Preset

TIMEOUT_S = 90
PAGE = """<!doctype html><script>
const names = NAMES, found = {};
async function read(name) {
  const image = name.endsWith('.gif');
  const node = document.createElement(image ? 'img' : 'video');
  node.muted = true; node.src = name;
  await new Promise((good, bad) => {
    node.onerror = () => bad(new Error('cannot play'));
    if (image) node.onload = good; else node.onloadeddata = good;
    setTimeout(() => bad(new Error('no answer')), 15000);
  });
  const canvas = document.createElement('canvas'); canvas.width = 320; canvas.height = 180;
  const pen = canvas.getContext('2d'); pen.drawImage(node, 0, 0, 320, 180);
  const grey = x => { const p = pen.getImageData(x, 90, 1, 1).data; return [p[0], p[1], p[2]]; };
  return [grey(40), grey(160), grey(280)];
}
(async () => {
  for (const name of names) {
    try { found[name] = await read(name); } catch (error) { found[name] = error.message; }
  }
  await fetch('/done', {method: 'POST', body: JSON.stringify(found)});
})();
</script>"""


class _Server(SimpleHTTPRequestHandler):
    answers: Queue[dict[str, str | list[list[int]]]] = Queue()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answers.put(json.loads(body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


def draw(folder: Path) -> list[str]:
    """A mask of three bars in each preset: black, mid grey, white."""
    mask = np.zeros((180, 320), np.uint8)
    mask[:, 107:213] = 128
    mask[:, 213:] = 255
    spec = synth.Spec(320, 180, pts=synth.even(6, Fraction(30)))
    source = synth.write(folder / "source.mp4", spec)
    names = []
    for preset in Preset:
        target = folder / f"{preset.value}{preset.suffix}"
        with VideoReader(source) as reader, MaskWriter(target, preset, reader.clip, None) as writer:
            for frame in reader:
                writer.write(mask, frame)
            writer.finish(reader.end_pts, reader.time_base)
        names.append(target.name)
    return names


def main() -> int:
    """Print the table; 1 where black or white came back wrong."""
    with tempfile.TemporaryDirectory() as name, browsing() as browser:
        folder = Path(name)
        names = draw(folder)
        (folder / "index.html").write_text(PAGE.replace("NAMES", json.dumps(names)))
        server = ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(_Server, directory=str(folder))
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            browser.new_page().goto(f"http://127.0.0.1:{server.server_port}/index.html")
            found = _Server.answers.get(timeout=TIMEOUT_S)
        except Empty:
            print("the browser did not answer", file=sys.stderr)
            return 2
        finally:
            server.shutdown()
        print(f"Chromium {browser.version}")
    print("| preset | black | grey (128) | white |\n|---|---|---|---|")
    wrong = 0
    for name in names:
        message = found[name]
        if isinstance(message, str):
            print(f"| {Path(name).stem} | {message} | | |")
            continue
        black, grey, white = message
        wrong += max(black) > 2 or min(white) < 253
        print(f"| {Path(name).stem} | {max(black)} | {grey[1]} | {min(white)} |")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
