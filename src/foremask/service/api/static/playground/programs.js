// What is chosen on the page as a program in three languages; pure text, so that a test runs each as it stands.
const quoted = (text) => JSON.stringify(text);
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

// The call that makes what the page shows: its path, its fields, and the file that it makes.
export function callOf(body, seen = { view: "mask", backing: { kind: "checker" } }, matte = {}) {
  const fields = { ...body, video: body.video ?? "https://example.com/clip.mp4" };
  if (seen.view !== "cutout") {
    const ofMask = Object.fromEntries(Object.entries(matte).filter(([name]) => name !== "despill")); // a mask has no colours
    const path = "video/segment/foreground_mask";
    return { path, fields: { ...fields, ...ofMask }, file: `mask.${suffix(fields.output_container_and_codec ?? "mp4_h264")}` };
  }
  const { kind, colour } = seen.backing;
  if (kind === "checker") {
    const ofCutOut = { ...fields, output_container_and_codec: "webm_vp9", ...matte };
    return { path: "video/edit/remove_background", fields: ofCutOut, file: "cutout.webm" };
  }
  const behind = kind === "picture" ? { background_url: "https://example.com/background.jpg", background_fit: "cover" } : { background: kind === "colour" ? colour : kind };
  const composite = { ...fields, output_container_and_codec: "mp4_h264", ...behind, ...matte };
  return { path: "video/edit/replace_background", fields: composite, file: "composite.mp4" };
}

const suffix = (form) => form.split("_")[0];

// A value of JSON in Python's words.
function pythonic(value) {
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(pythonic).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([name, each]) => `${quoted(name)}: ${pythonic(each)}`).join(", ")}}`;
  return quoted(value);
}

export const PROGRAMS = {
  curl: (origin, { path, fields, file }) => `STATUS_URL=$(curl -sS ${origin}/v2/${path} \\
  -H "api_token: $TOKEN" -H 'Content-Type: application/json' \\
  -d ${shell(JSON.stringify(fields))} |
  sed 's/.*"status_url":"\\([^"]*\\)".*/\\1/')
until curl -sS -H "api_token: $TOKEN" "$STATUS_URL" | tee job.json | grep -q 'COMPLETED\\|ERROR'; do sleep 1; done
curl -sS -o ${file} "$(sed 's/.*"video_url":"\\([^"]*\\)".*/\\1/' job.json)"`,

  python: (origin, { path, fields }) => `# pip install bria-client: the hosted service's own SDK, with another address and token
import os

from bria_client import BriaSyncClient

with BriaSyncClient(base_url=${quoted(origin)}, api_token=os.environ["TOKEN"]) as client:
    job = client.submit(
        ${quoted(path)},
        {
${Object.entries(fields).map(([name, value]) => `            ${quoted(name)}: ${pythonic(value)},`).join("\n")}
        },
        raise_for_status=True,
    )
    done = client.poll(job, timeout=600)
print(done.result.video_url)`,

  javascript: (origin, { path, fields }) => `// node job.mjs
const headers = { api_token: process.env.TOKEN, "Content-Type": "application/json" };
const ask = async (url, body) => (await fetch(url, { method: body ? "POST" : "GET", headers, body })).json();

let job = await ask("${origin}/v2/${path}", JSON.stringify(${JSON.stringify(fields, null, 2)}));
while (!job.error && job.status !== "COMPLETED") {
  await new Promise((resolve) => setTimeout(resolve, 1000));
  job = await ask(\`${origin}/v2/status/\${job.request_id}\`);
}
console.log(job.error?.details ?? job.result.video_url);`,
};
