// Finding and making elements, and how numbers read.
/** @returns {any} An element of index.html, which knows its kind. */
export const find = (id) => document.getElementById(id);

export function make(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// A list of facts: pairs of a name and a value; a pair without a value is left out.
export function listFacts(list, pairs) {
  const rows = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "");
  list.replaceChildren(...rows.map(([name, value]) => make("div", {},
    make("dt", { textContent: name }), make("dd", {}, value instanceof Node ? value : String(value)))));
}

export function show(element, shown = true) {
  element.hidden = !shown;
}

const NOTE_MS = 9000;

// A note over the page, which moves nothing below it. `say` changes it, `fail` makes an error of it, which stays until it is closed.
export function toast() {
  const said = make("p");
  const close = make("button", { type: "button", className: "quiet", textContent: "Close" });
  const note = make("div", { className: "toast" }, said, close);
  const going = { timer: 0 };
  close.addEventListener("click", () => note.remove());
  const fill = (parts) => {
    clearTimeout(going.timer);
    said.replaceChildren(...parts);
    if (!note.isConnected) find("toasts").append(note);
  };
  note.setAttribute("role", "status");
  return {
    say(...parts) {
      fill(parts);
    },
    done(...parts) {
      fill(parts);
      going.timer = setTimeout(() => note.remove(), NOTE_MS);
    },
    fail(parts) {
      said.className = "error";
      note.setAttribute("role", "alert");
      fill(parts);
    },
  };
}

// A menu closes when one of its buttons or anything else is clicked, and by Escape.
export function setUpMenu(menu) {
  document.addEventListener("click", (event) => {
    const outside = !menu.contains(/** @type {Node} */ (event.target));
    if (menu.open && (outside || /** @type {Element} */ (event.target).closest("button"))) menu.open = false;
  });
  menu.addEventListener("toggle", () => menu.open && menu.querySelector(".sheet").scrollIntoView({ block: "nearest" }));
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
}

// Whether nothing may move by itself.
export const prefersStill = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

export function bytes(count) {
  for (const unit of ["B", "kB", "MB"]) {
    if (count < 1000) return `${count < 10 && unit !== "B" ? count.toFixed(1) : Math.round(count)} ${unit}`;
    count /= 1000;
  }
  return `${count.toFixed(2)} GB`;
}

export function seconds(count) {
  if (count < 9.95) return `${count.toFixed(1)} s`;
  const whole = Math.round(count);
  if (whole < 60) return `${whole} s`;
  return `${Math.floor(whole / 60)} min${whole % 60 ? ` ${whole % 60} s` : ""}`;
}

export const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

// A group of radio buttons that looks like a row of tabs; `onChange` gets the value.
export function radios(group, name, choices, chosen, onChange) {
  for (const { value, label } of choices) {
    const input = make("input", { type: "radio", name, value, id: `${name}-${value}`, checked: value === chosen });
    input.addEventListener("change", () => onChange(value));
    group.append(make("label", { htmlFor: input.id, textContent: label }, input));
  }
}
