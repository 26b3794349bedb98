// Shows /openapi.json as a page: one section per tag, one fold per operation. No library, no other server.
const api = await (await fetch("/openapi.json")).json();
const page = document.getElementById("doc");

function element(name, text = "", ...children) {
  const made = document.createElement(name);
  made.textContent = text;
  made.append(...children);
  return made;
}

function resolve(schema) {
  if (schema?.$ref) return resolve(api.components.schemas[schema.$ref.split("/").pop()]);
  if (schema?.allOf) return Object.assign({}, ...schema.allOf.map(resolve));
  return schema ?? {};
}

function kind(schema) {
  const known = resolve(schema);
  if (known.enum) return known.enum.map((each) => JSON.stringify(each)).join(" | ");
  if (known.anyOf) return known.anyOf.map(kind).join(" | ");
  if (known.type === "array") return `list of ${kind(known.items)}`;
  return known.title ?? known.type ?? "any";
}

function row(...cells) {
  return element("tr", "", ...cells.map((cell) => element("td", "", cell)));
}

function code(text) {
  return element("code", text);
}

function fields(schema) {
  const known = resolve(schema);
  const rows = Object.entries(known.properties ?? {}).map(([name, each]) => {
    const must = known.required?.includes(name) ? " (required)" : "";
    const said = each.description ?? resolve(each).description ?? "";
    return row(code(name), element("span", `${kind(each)}${must}. ${said}`));
  });
  return element("table", "", ...rows);
}

function curl(method, path, operation) {
  const lines = [`curl -X ${method.toUpperCase()} ${location.origin}${path}`];
  if (!operation.security) lines.push('-H "api_token: $TOKEN"');
  if (operation.requestBody?.content["application/json"])
    lines.push("-H 'Content-Type: application/json'", "-d '{…}'");
  return lines.join(" \\\n  ");
}

function fold(method, path, operation) {
  const summary = element("summary", "", element("b", method.toUpperCase()), code(path));
  summary.append(` ${operation.summary}`);
  const made = element("details", "", summary);
  if (operation.description) made.append(element("p", operation.description));
  made.append(element("pre", curl(method, path, operation)));
  const parameters = operation.parameters ?? [];
  if (parameters.length) {
    const rows = parameters.map((each) =>
      row(code(each.name), element("span", `${each.in}. ${each.description ?? ""}`)));
    made.append(element("h4", "Parameters"), element("table", "", ...rows));
  }
  const body = Object.entries(operation.requestBody?.content ?? {});
  for (const [type, each] of body) made.append(element("h4", `Body: ${type}`), fields(each.schema));
  made.append(element("h4", "Answers"));
  for (const [status, answer] of Object.entries(operation.responses)) {
    const line = element("details", "", element("summary", `${status} ${answer.description.split("\n")[0]}`));
    line.append(element("pre", answer.description));
    const schema = answer.content?.["application/json"]?.schema;
    if (schema) line.append(fields(schema));
    made.append(line);
  }
  return made;
}

page.replaceChildren(
  element("h1", `${api.info.title} ${api.info.version}`),
  element("p", api.info.description),
  element("p", "Send your token in the header api_token (or Authorization: Bearer, or x-api-key). "),
);
page.lastElementChild.append(Object.assign(element("a", "openapi.json"), { href: "/openapi.json" }));
for (const tag of api.tags) {
  page.append(element("h2", tag.name), element("p", tag.description));
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, operation] of Object.entries(methods))
      if (operation.tags.includes(tag.name)) page.append(fold(method, path, operation));
}

// Text with the little Markdown that remedies have: `code`, and links to pages that are not served here.
function prose(text) {
  const parts = text.replace(/\[([^\]]+)\]\([^)]*\)/g, "$1").split("`");
  return element("span", "", ...parts.map((part, index) => (index % 2 ? code(part) : part)));
}

// Every reason, with an anchor: the playground's errors lead here.
const errors = element("section", "", element("h2", "errors"));
errors.id = "errors";
errors.append(element("p", "The same words in the answer to a request and in the status of a job."));
const rows = Object.entries(api["x-reasons"]).map(([reason, { code: status, means, remedy }]) => {
  const made = row(code(reason), element("span", "", element("p", `${status}. ${means}`), element("p", "", prose(remedy))));
  made.id = `reason-${reason}`;
  return made;
});
errors.append(element("table", "", ...rows));
page.append(errors);
if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
