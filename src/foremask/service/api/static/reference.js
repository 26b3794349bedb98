// Shows /openapi.json in Swagger UI, and opens the error that the address names.
const { SwaggerUIBundle } = /** @type {any} */ (window);
const reference = document.getElementById("reference");

const dark = matchMedia("(prefers-color-scheme: dark)");
const paint = () => document.documentElement.classList.toggle("dark-mode", dark.matches); // Swagger UI's own name for it
dark.addEventListener("change", paint);
paint();

function openError() {
  const name = location.hash.slice(1);
  const place = name && document.getElementById(name);
  const errors = place && place.closest("details");
  if (!errors) return false;
  errors.open = true;
  place.scrollIntoView();
  return true;
}

// Below the page's h1 they are the second level, whatever Swagger UI calls them.
function level() {
  for (const each of reference.querySelectorAll("h3.opblock-tag:not([role]), .models > h4:not([role])")) {
    each.setAttribute("role", "heading");
    each.setAttribute("aria-level", "2");
  }
}

let opened = false;
new MutationObserver(() => {
  level();
  opened ||= openError();
}).observe(reference, { childList: true, subtree: true });
addEventListener("hashchange", openError);

// One call is shown once: a HEAD is its GET without a body, and the paths of other clients lead to the same submission.
const spec = await (await fetch("/openapi.json")).json();
const others = [];
for (const [path, methods] of Object.entries(spec.paths)) {
  delete methods.head;
  if (methods.post?.operationId.startsWith("submit_by_")) {
    others.push(`\`${path}\``);
    delete spec.paths[path];
  }
}
spec.info.description += `\n\nA job can also be submitted to ${others.join(", ")}. Each GET answers HEAD, too.`;

SwaggerUIBundle({
  spec,
  domNode: reference,
  validatorUrl: null,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  presets: [SwaggerUIBundle.presets.apis],
});
