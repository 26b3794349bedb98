// The strip under the stage: how much is foreground and how much changes, frame by frame; a place to jump to.
export class Strip {
  // `onJump` gets a frame's number, `onStep` -1 or 1.
  constructor(element, onJump, onStep, onToggle) {
    this.element = element;
    this.canvas = element.querySelector("canvas");
    this.rows = null;
    this.now = 0;
    this.count = 1;
    this.part = [0, Infinity]; // the first frame that is masked, and the one after the last
    this.stale = true;
    const jump = (event) => {
      const box = element.getBoundingClientRect();
      onJump(Math.floor(((event.clientX - box.left) / box.width) * this.count));
    };
    element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      element.setPointerCapture(event.pointerId);
      jump(event);
      element.addEventListener("pointermove", jump);
      element.addEventListener("pointerup", () => element.removeEventListener("pointermove", jump), { once: true });
    });
    element.addEventListener("keydown", (event) => {
      if (event.key === " ") onToggle();
      const tenth = Math.max(1, Math.round(this.count / 10));
      const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
      const to = { PageDown: this.now - tenth, PageUp: this.now + tenth, Home: 0, End: this.count - 1 }[event.key];
      if (by === undefined && to === undefined && event.key !== " ") return;
      event.preventDefault();
      event.stopPropagation();
      if (by !== undefined) onStep(by);
      else if (to !== undefined) onJump(to);
    });
    new ResizeObserver(() => this.draw()).observe(element);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  // Rows of time_s, coverage (0 to 1) and change since the frame before; or null.
  set data(rows) {
    this.rows = rows;
    this.draw();
    this.stale = true; // what is said of the frame is of other rows
  }

  // `known` says whether the count is no guess.
  moveTo(now, count, known) {
    if (now === this.now && count === this.count && !this.stale) return;
    Object.assign(this, { now, count, stale: false });
    const row = this.rows?.[now];
    this.element.setAttribute("aria-valuemax", count - 1);
    this.element.setAttribute("aria-valuenow", now);
    this.element.setAttribute(
      "aria-valuetext",
      `frame ${now}${known ? ` of 0 to ${count - 1}` : ""}${row ? `, ${Math.round(100 * row[1])} percent foreground` : ""}`,
    );
    this.draw();
  }

  draw() {
    const { canvas, element, rows, now, count } = this;
    const width = Math.round(element.clientWidth * devicePixelRatio);
    const height = Math.round(element.clientHeight * devicePixelRatio);
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const pen = canvas.getContext("2d");
    const style = getComputedStyle(element);
    const colour = (name) => style.getPropertyValue(name);
    pen.clearRect(0, 0, width, height);
    const step = width / count;
    if (rows) {
      const most = 1.1 * Math.max(0.01, ...rows.map(([, coverage]) => coverage));
      const jumpiest = Math.max(0.03, ...rows.map(([, , change]) => change));
      const half = height * 0.62;
      const edge = (index) => Math.round(index * step);
      const gap = step > 5 ? Math.round(devicePixelRatio) : 0;
      const bar = (index, foot, tall) => pen.fillRect(edge(index), foot - tall, Math.max(1, edge(index + 1) - edge(index) - gap), tall);
      pen.fillStyle = `color-mix(in srgb, ${colour("--edge")} 50%, transparent)`;
      rows.forEach(([, coverage], index) => bar(index, half, (half - 4) * (coverage / most)));
      pen.fillStyle = colour("--warn");
      rows.forEach(([, , change], index) => bar(index, height, (height - half - 4) * (change / jumpiest)));
    }
    if (!rows) {
      const tall = Math.round(4 * devicePixelRatio);
      const [first, end] = this.part.map((each) => Math.min(count, each) * step);
      const line = (name, from, until, thick) => {
        pen.fillStyle = colour(name);
        pen.fillRect(from, (height - thick) / 2, Math.max(0, until - from), thick);
      };
      line("--line", 0, width, tall);
      if (this.part[0] > 0 || this.part[1] < count) {
        line("--edge", first, end, 3 * tall);
        for (const at of [first, end - tall / 2]) line("--ink", at, at + tall / 2, height);
      }
      line("--accent", first, Math.min(end, (now + 0.5) * step), tall);
    }
    pen.fillStyle = colour("--ink");
    const thick = Math.max(2 * devicePixelRatio, Math.min(step, 3 * devicePixelRatio));
    pen.fillRect(Math.min(width - thick, (now + 0.5) * step - thick / 2), 0, thick, height);
  }
}
