// Shows /openapi.json: each call with its fields, an example that can be sent, its answers; and every error.
import { find, make } from "./playground/dom.js";

const { paths, components, tags, info } = await (await fetch("/openapi.json")).json();
const DEEP = 3; // fields of fields are named by their path so far
const PLENTY = 1e9;

// Text in little Markdown: paragraphs, lists, code, emphasis, links between pages.
function inline(text) {
  const parts = text.split(/(``.+?``|`.+?`|\*[^*\s][^*]*\*|\[.+?\]\(.+?\))/);
  return parts.map((part) => {
    const link = /^\[(.+)\]\((?:\.\.\/)?(.+?)\.md(#.*)?\)$/.exec(part);
    if (link) return make("a", { href: `/docs/${link[2].toLowerCase()}.html${link[3] ?? ""}`, textContent: link[1].replace(/\.md$/, "") });
    if (/^`/.test(part)) return code(part.replaceAll("`", ""));
    return /^\*.+\*$/.test(part) ? make("em", { textContent: part.slice(1, -1) }) : part;
  });
}

const code = (textContent) => make("code", { textContent });

function prose(text = "") {
  return text.split(/\n\n+/).filter((block) => !/^[|<]/.test(block)).map((block) => {
    if (!block.startsWith("* ")) return make("p", {}, ...inline(block));
    return make("ul", {}, ...block.split(/^\* /m).filter(Boolean).map((item) => make("li", {}, ...reasoned(item))));
  });
}

// A reason at the head of a line leads to what it means.
function reasoned(item) {
  const [, reason, rest] = /^`(\w+)`(.*)$/s.exec(item) ?? [];
  return reason ? [make("a", { href: `#reason-${reason}` }, code(reason)), ...inline(rest)] : inline(item);
}

const resolve = (schema = {}) => (schema.$ref ? { ...components.schemas[schema.$ref.split("/").at(-1)], ...schema, $ref: undefined } : schema);

// The ways that a value can be, without null: whatever may be null may also be absent.
function waysOf(schema) {
  const { anyOf, oneOf, ...rest } = resolve(schema);
  const ways = anyOf ?? oneOf;
  return ways ? ways.filter(({ type }) => type !== "null").flatMap(waysOf) : [rest];
}

function typeOf(schema) {
  return [...new Set(waysOf(schema).map((way) => {
    if (way.const !== undefined || way.enum) return (way.enum ?? [way.const]).map((value) => JSON.stringify(value)).join(", ");
    if (way.type === "array") return `list${way.items ? ` of ${typeOf(way.items)}` : ""}${way.maxItems ? `, at most ${way.maxItems}` : ""}`;
    const least = way.minimum ?? way.minLength ?? way.exclusiveMinimum;
    const most = way.maximum < PLENTY || way.maxLength ? (way.maximum ?? way.maxLength) : undefined;
    const unit = way.type === "string" && most !== undefined ? " characters" : "";
    const range = most !== undefined ? `, ${least === undefined ? "up to " : `${least} to `}${most}${unit}` : least ? `, from ${least}` : "";
    return `${way.type ?? "anything"}${range}`;
  }))].join(" or ");
}

// Rows of name, type and meaning; the fields of an object stand below it by their paths.
function rowsOf(schema, path = "", depth = 0) {
  return waysOf(schema).flatMap((way) => {
    if (way.type === "array" && way.items) return rowsOf(way.items, `${path}[]`, depth);
    if (depth > DEEP || !way.properties) return [];
    const isRequired = (name) => Boolean(way.required?.includes(name));
    const fields = Object.entries(way.properties).sort(([one], [other]) => Number(isRequired(other)) - Number(isRequired(one)));
    return fields.flatMap(([name, field]) => {
      const here = path ? `${path}.${name}` : name;
      const { description = "", default: usual } = resolve(field);
      const said = usual === undefined || usual === null ? "" : ` Default: \`${JSON.stringify(usual)}\`.`;
      return [[here, typeOf(field), description + said, isRequired(name)], ...rowsOf(field, here, depth + 1)];
    });
  });
}

function table(label, heads, rows) {
  const head = make("tr", {}, ...heads.map((text) => make("th", { textContent: text, scope: "col" })));
  const region = make("div", { className: "table", tabIndex: 0 }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
  region.setAttribute("role", "region");
  region.setAttribute("aria-label", label);
  return region;
}

const seenOnce = (row, index, rows) => rows.findIndex((each) => String(each) === String(row)) === index; // kinds of a thing share fields

const fieldTable = (label, rows) => table(label, ["Field", "Type", "Meaning"], rows.filter(seenOnce).map(([name, type, meaning, required]) => make("tr", {},
  make("td", {}, code(name), required ? make("span", { className: "required", textContent: " required" }) : ""),
  make("td", { textContent: type }), make("td", {}, ...inline(meaning)))));

// A value that the schema allows: the example of its author, else the default, else the plainest.
function sampleOf(schema, all, depth = 0) {
  const [way] = waysOf(schema);
  const { examples, default: usual } = resolve(schema);
  const known = examples?.[0] ?? way.examples?.[0] ?? usual ?? way.default ?? way.const ?? way.enum?.[0];
  if (known !== undefined && known !== null) return known;
  if (way.type === "array") return way.items && depth < DEEP ? [sampleOf(way.items, all, depth + 1)] : [];
  if (!way.properties) return { string: "…", integer: way.minimum ?? 0, number: way.minimum ?? 0, boolean: false }[way.type] ?? {};
  const names = Object.keys(way.properties).filter((name) => all || way.required?.includes(name));
  return Object.fromEntries(names.map((name) => [name, sampleOf(way.properties[name], all, depth + 1)]));
}

const pretty = (value) => JSON.stringify(value, null, 2);
const jsonOf = (content) => content?.["application/json"]?.schema;
const idOf = ({ tags: [tag], operationId }) => `operations-${tag}-${operationId}`;
const method = (name) => make("span", { className: `method ${name}`, textContent: name.toUpperCase() });

// A form that sends the call to this service with the token above, and shows what comes back.
function trying(path, name, call) {
  const inputs = (call.parameters ?? []).map((each) => [each, make("input", { id: `${idOf(call)}-${each.name}`, autocomplete: "off", placeholder: each.required ? "required" : "" })]);
  const schema = jsonOf(call.requestBody?.content);
  const body = schema && make("textarea", { id: `${idOf(call)}-body`, spellcheck: false, value: pretty(sampleOf(schema, false)) });
  if (body) body.rows = body.value.split("\n").length + 1;
  const said = make("pre", { tabIndex: 0, hidden: true });
  said.setAttribute("role", "status");
  const form = make("form", { className: "try" },
    ...inputs.flatMap(([each, input]) => [make("label", { htmlFor: input.id, textContent: each.name }), input]),
    ...(body ? [make("label", { htmlFor: body.id, textContent: "Body" }), body] : []),
    make("button", { textContent: "Send" }), said);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const headers = { api_token: find("token").value };
    const query = new URLSearchParams();
    let address = path;
    for (const [{ name: key, in: place }, { value }] of inputs) {
      if (place === "path") address = address.replace(`{${key}}`, encodeURIComponent(value));
      else if (value && place === "query") query.set(key, value);
      else if (value) headers[key] = value;
    }
    if (body) headers["Content-Type"] = "application/json";
    const began_ms = performance.now();
    const answer = await fetch(`${address}${query.size ? `?${query}` : ""}`, { method: name.toUpperCase(), headers, body: body?.value }).catch(() => null);
    const text = answer ? await answer.text() : "The service does not answer.";
    said.textContent = answer ? `${answer.status} ${answer.statusText}, ${Math.round(performance.now() - began_ms)} ms\n\n${text.startsWith("{") ? pretty(JSON.parse(text)) : text.slice(0, 4000)}` : text;
    said.hidden = false;
  });
  return form;
}

function answersOf(label, responses) {
  return Object.entries(responses).flatMap(([status, { description, content }]) => {
    const schema = status < "300" && jsonOf(content);
    const shown = schema ? [fieldTable(`${label}: ${status}`, rowsOf(schema)), make("pre", { tabIndex: 0, textContent: pretty(sampleOf(schema, true)) })] : [];
    return [make("h5", {}, code(status), ` ${description.split("\n")[0]}`), ...prose(description.split("\n").slice(1).join("\n").trim()), ...shown];
  });
}

function contentOf(path, name, call) {
  const rows = (call.parameters ?? []).map(({ name: field, in: place, schema, description = "", required }) => [field, `${typeOf(schema)}, in the ${place}`, description, required]);
  const [body] = Object.values(call.requestBody?.content ?? {});
  if (body?.schema) rows.push(...rowsOf(body.schema));
  const sendable = !call.requestBody || jsonOf(call.requestBody.content);
  return [
    ...prose(call.description),
    ...(rows.length ? [make("h4", { textContent: "Fields" }), fieldTable(`${call.summary}: fields`, rows)] : []),
    ...(sendable ? [make("h4", { textContent: "Try it" }), trying(path, name, call)] : []),
    make("h4", { textContent: "Answers" }), ...answersOf(call.summary, call.responses),
  ];
}

// A call is written out when it is first opened.
function shown(path, name, call) {
  const fold = make("details", { className: "call", id: idOf(call) }, make("summary", {}, method(name), code(path), make("span", { textContent: call.summary })));
  fold.addEventListener("toggle", () => fold.open && fold.children.length === 1 && fold.append(make("div", {}, ...contentOf(path, name, call))));
  return fold;
}

// One call is shown once: the paths of other clients lead to the same submission.
const calls = Object.entries(paths).flatMap(([path, methods]) => Object.entries(methods).map(([name, call]) => ({ path, name, call })));
const others = calls.filter(({ call }) => call.operationId.startsWith("submit_by_")).map(({ path }) => `\`${path}\``);
const listed = calls.filter(({ call }) => !call.operationId.startsWith("submit_by_"));

const errors = [...info.description.matchAll(/^\| <span id="(reason-\w+)">`(\w+)`<\/span> \| (\d+) \| (.*?) \| (.*?) \|$/gm)].map(([, id, reason, status, means, out]) =>
  make("tr", { id }, make("td", {}, code(reason)), make("td", { textContent: status }), make("td", {}, ...inline(means)), make("td", {}, ...inline(out))));

find("about").append(...prose(info.description), ...prose(`A job can also be submitted to ${others.join(", ")}. Each GET answers HEAD, too. Version ${info.version}, ${info.license.name}.`));
for (const { name: tag, description } of tags) {
  const mine = listed.filter(({ call }) => call.tags[0] === tag);
  const title = tag[0].toUpperCase() + tag.slice(1);
  find("reference").append(make("h3", { textContent: title }), make("p", { className: "hint", textContent: description }), ...mine.map(({ path, name, call }) => shown(path, name, call)));
  find("calls").append(make("strong", { textContent: title }), ...mine.map(({ call }) => make("a", { href: `#${idOf(call)}`, textContent: call.summary })));
}
find("reference").append(make("h3", { textContent: "Errors" }), make("details", { id: "errors" }, make("summary", { textContent: "Every reason, and what to do" }), table("Errors", ["Reason", "Status", "Meaning", "What to do"], errors)));
find("calls").append(make("strong", { textContent: "Errors" }), make("a", { href: "#errors", textContent: "Every reason" }));
const held = sessionStorage.getItem("foremask-token") ?? localStorage.getItem("foremask-token") ?? "";
find("token").value = held;

// A tab of this browser that has a token of the page's tells it; what is typed here is not told.
const tabs = new BroadcastChannel("foremask-token");
tabs.addEventListener("message", ({ data }) => {
  if (data !== "ask") find("token").value ||= data.token ?? "";
  else if (held) tabs.postMessage({ token: held });
});
tabs.postMessage("ask");

// Opens what the address names.
function open() {
  const place = document.getElementById(location.hash.slice(1));
  const fold = place?.closest("details");
  if (!fold) return;
  fold.open = true;
  place.scrollIntoView();
}
addEventListener("hashchange", open);
open();
document.documentElement.dataset.ready = "yes";
