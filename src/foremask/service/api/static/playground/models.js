// The network, and the tracker that follows the marks: offered where the service has more than one way.
import { askJson } from "./api.js";
import { find, make, show } from "./dom.js";
import { token } from "./held-token.js";

let usual = null; // the network of jobs that name none; null is a file of the operator's

export function setUpModels(onChange) {
  for (const id of ["network", "tracker"])
    find(id).addEventListener("change", () => {
      render();
      onChange();
    });
  document.addEventListener("token", () => token() && offer());
  if (token()) offer();
}

async function offer() {
  const { result } = await askJson("GET", "/v2/models").catch(() => ({ result: null }));
  if (!result) return; // the token is in doubt, or the service is away: both are said elsewhere
  usual = result.default_network;
  const others = result.networks.filter((name) => name !== usual);
  fill("network", [["", usual ?? "the operator's own"], ...others.map((name) => [name, name])]);
  fill("tracker", [["", "the network above"], ...result.trackers.map((name) => [name, name])]);
  if (find("network-group").hidden) find("tracker").options[0].textContent = usual ?? "the network";
  render();
}

// The select's choices; what was chosen stays. A single one is none.
function fill(id, choices) {
  const before = find(id).value;
  find(id).replaceChildren(...choices.map(([value, textContent]) => make("option", { value, textContent })));
  chooseOf(id, before);
  show(find(`${id}-group`), choices.length > 1);
}

function chooseOf(id, value) {
  find(id).value = [...find(id).options].some((each) => each.value === value) ? value : "";
}

// As a body's fields.
export const modelFields = () => ({ network: find("network").value, tracker: find("tracker").value });

// Those of a job that is opened.
export function chooseModels({ network = "", tracker = "" }) {
  chooseOf("network", network);
  chooseOf("tracker", tracker);
  render();
}

// The names that differ from the usual, for a label.
export const modelLabel = ({ network = "", tracker = "" }) => [network, tracker].filter(Boolean).join(", ");

function render() {
  const { network, tracker } = modelFields();
  const preview = `The preview of a mark is made by ${usual ?? "the operator's network"}, and may differ.`;
  find("models-means").textContent = tracker
    ? `Only what you mark is in the mask: mark the subject first. ${preview}`
    : network && preview;
  show(find("models-means"), Boolean(network || tracker));
}
