// The form as a program in three languages; pure text, so that a test runs each as it stands.
const ENDPOINT = "video/segment/foreground_mask";
const quoted = (text) => JSON.stringify(text);
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export const PROGRAMS = {
  curl: (origin, fields) => `STATUS_URL=$(curl -sS ${origin}/v2/${ENDPOINT} \\
  -H "api_token: $TOKEN" -H 'Content-Type: application/json' \\
  -d ${shell(JSON.stringify(fields))} |
  sed 's/.*"status_url":"\\([^"]*\\)".*/\\1/')
until curl -sS -H "api_token: $TOKEN" "$STATUS_URL" | tee job.json | grep -q 'COMPLETED\\|ERROR'; do sleep 1; done
curl -sS -o mask${ending(fields)} "$(sed 's/.*"video_url":"\\([^"]*\\)".*/\\1/' job.json)"`,

  python: (origin, fields) => `# pip install bria-client: the hosted service's own SDK, with another address and token
import os

from bria_client import BriaSyncClient

with BriaSyncClient(base_url=${quoted(origin)}, api_token=os.environ["TOKEN"]) as client:
    job = client.submit(
        ${quoted(ENDPOINT)},
        {
${Object.entries(fields).map(([name, value]) => `            ${quoted(name)}: ${quoted(value)},`).join("\n")}
        },
        raise_for_status=True,
    )
    done = client.poll(job, timeout=600)
print(done.result.video_url)`,

  javascript: (origin, fields) => `// node job.mjs
const headers = { api_token: process.env.TOKEN, "Content-Type": "application/json" };
const ask = async (url, body) => (await fetch(url, { method: body ? "POST" : "GET", headers, body })).json();

let job = await ask("${origin}/v2/${ENDPOINT}", JSON.stringify(${JSON.stringify(fields, null, 2)}));
while (!job.error && job.status !== "COMPLETED") {
  await new Promise((resolve) => setTimeout(resolve, 1000));
  job = await ask(\`${origin}/v2/status/\${job.request_id}\`);
}
console.log(job.error?.details ?? job.result.video_url);`,
};

const ending = (fields) => `.${(fields.output_container_and_codec ?? "mp4").split("_")[0]}`;
