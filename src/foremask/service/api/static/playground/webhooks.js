// The receiver of this page: what the service has called back, and whether its signature is right.
import { askJson } from "./api.js";
import { find, make, show } from "./dom.js";
import { token } from "./token.js";

const PATIENCE_MS = 20000;
let receiver = "";

// Where a job is to call back so that this page hears of it.
export async function receiverUrl() {
  receiver ||= (await askJson("GET", "/v2/playground/webhooks")).result.url;
  return receiver;
}

// Waits for the job's callback and shows it.
export async function awaitDelivery(requestId) {
  show(find("hooks"));
  find("hooks-said").textContent = "Waiting for the call …";
  const until = performance.now() + PATIENCE_MS;
  while (performance.now() < until) {
    const { result } = await askJson("GET", "/v2/playground/webhooks");
    const ours = result.deliveries.filter((each) => each.request_id === requestId);
    if (ours.length) {
      find("hooks-said").textContent = "";
      find("deliveries").replaceChildren(...(await Promise.all(ours.map(render))));
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  find("hooks-said").textContent = `Nothing came within ${PATIENCE_MS / 1000} s; docs/webhooks.md says when it is tried again.`;
}

async function render(delivery) {
  const good = await verify(delivery);
  const verdict = make("strong", {
    className: good === false ? "bad" : "good",
    textContent: good === null ? "Signature verified by the service" : good ? "Signature verified in this browser" : "The signature is wrong",
  });
  const headers = [
    ["Bria-Webhook-Id", delivery.request_id],
    ["Bria-Webhook-Timestamp", delivery.timestamp],
    ["Bria-Webhook-Signature", delivery.signature],
  ].map(([name, value]) => `${name}: ${value}`);
  return make("li", {},
    verdict,
    make("pre", { textContent: `POST ${new URL(delivery.url).pathname}\n${headers.join("\n")}`, tabIndex: 0 }),
    make("details", {}, make("summary", { textContent: "Body" }), make("pre", { textContent: delivery.body, tabIndex: 0 })));
}

// As any receiver does it: docs/webhooks.md. Null where the browser has no cryptography (plain http, another host).
async function verify({ request_id: id, timestamp, signature, body }) {
  if (!crypto.subtle) return null;
  const text = new TextEncoder();
  const sign = async (secret, message) => {
    const key = await crypto.subtle.importKey("raw", secret, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
    return new Uint8Array(await crypto.subtle.sign("HMAC", key, text.encode(message)));
  };
  const key = await sign(text.encode(token()), "bria-webhook-signing-v1");
  const expected = `v1=${btoa(String.fromCharCode(...(await sign(key, `${id}.${timestamp}.${body}`))))}`;
  return signature.split(",").some((each) => each.trim() === expected);
}
