// Shows /openapi.json in Swagger UI, and opens the error that the address names.
const { SwaggerUIBundle } = /** @type {any} */ (window);
const reference = document.getElementById("reference");

function openError() {
  const name = location.hash.slice(1);
  const place = name && document.getElementById(name);
  const errors = place && place.closest("details");
  if (!errors) return false;
  errors.open = true;
  place.scrollIntoView();
  return true;
}

const waiting = new MutationObserver(() => openError() && waiting.disconnect());
waiting.observe(reference, { childList: true, subtree: true });
addEventListener("hashchange", openError);

SwaggerUIBundle({
  url: "/openapi.json",
  domNode: reference,
  validatorUrl: null,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  presets: [SwaggerUIBundle.presets.apis],
  onComplete: () => {
    // Below the page's h1 they are the second level, whatever Swagger UI calls them.
    for (const each of reference.querySelectorAll("h3.opblock-tag, .models > h4")) {
      each.setAttribute("role", "heading");
      each.setAttribute("aria-level", "2");
    }
  },
});
