// The form as a program: the same job in curl, Python and JavaScript.
import { find, make } from "./dom.js";

const LANGUAGES = { curl: "curl", python: "Python", javascript: "JavaScript" };
let chosen = "curl";
let fields = {};

const quoted = (text) => JSON.stringify(text);
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

const WRITE = {
  curl() {
    return `curl -sS ${location.origin}/v2/video/segment/foreground_mask \\
  -H "api_token: $TOKEN" -H 'Content-Type: application/json' \\
  -d ${shell(JSON.stringify(fields))}
# {"request_id": "…", "status_url": "…"}: read it until it is COMPLETED
curl -sS -H "api_token: $TOKEN" ${location.origin}/v2/status/REQUEST_ID`;
  },
  python() {
    const rest = Object.entries(fields).map(([name, value]) => `        ${quoted(name)}: ${quoted(value)},\n`).join("");
    return `# pip install bria-client: the hosted service's own SDK; only the address and the token are other ones
import os

from bria_client import BriaSyncClient

client = BriaSyncClient(base_url=${quoted(location.origin)}, api_token=os.environ["TOKEN"])
done = client.run(
    "/v2/video/segment/foreground_mask",
    {
${rest}    },
)
if not done.is_success():
    done = client.poll(done, timeout=600)
print(done.result)`;
  },
  javascript() {
    return `const headers = { api_token: process.env.TOKEN, "Content-Type": "application/json" };
const body = ${JSON.stringify(fields, null, 2)};
const sent = await fetch("${location.origin}/v2/video/segment/foreground_mask", {
  method: "POST", headers, body: JSON.stringify(body),
});
let job = await sent.json();
while (!job.error && job.status !== "COMPLETED") {
  await new Promise((resolve) => setTimeout(resolve, 1000));
  job = await (await fetch(\`${location.origin}/v2/status/\${job.request_id}\`, { headers })).json();
}
console.log(job.error ?? job.result.video_url);`;
  },
};

export function setUpSnippets() {
  for (const [value, label] of Object.entries(LANGUAGES)) {
    const tab = make("button", { type: "button", id: `code-tab-${value}`, textContent: label });
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", "code-panel");
    tab.addEventListener("click", () => choose(value));
    find("code-tabs").append(tab);
  }
  find("code-tabs").addEventListener("keydown", (event) => {
    const names = Object.keys(LANGUAGES);
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    choose(names[(names.indexOf(chosen) + step + names.length) % names.length]);
    find(`code-tab-${chosen}`).focus();
  });
  find("code-copy").addEventListener("click", async () => {
    const range = document.createRange();
    range.selectNodeContents(find("code-text"));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    await navigator.clipboard?.writeText(find("code-text").textContent).catch(() => {});
    find("code-copy").textContent = navigator.clipboard ? "Copied" : "Selected";
    setTimeout(() => (find("code-copy").textContent = "Copy"), 1500);
  });
  choose(chosen);
}

export function showFields(body) {
  fields = { ...body, video: body.video ?? "https://example.com/clip.mp4" };
  find("code-text").textContent = WRITE[chosen]();
}

function choose(value) {
  chosen = value;
  for (const each of Object.keys(LANGUAGES)) {
    find(`code-tab-${each}`).setAttribute("aria-selected", String(each === value));
    find(`code-tab-${each}`).tabIndex = each === value ? 0 : -1;
  }
  find("code-panel").setAttribute("aria-labelledby", `code-tab-${value}`);
  showFields(fields);
}
