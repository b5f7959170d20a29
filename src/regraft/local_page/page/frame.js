// What the tabs of the page share: what the server says of itself, the model that is chosen, messages, and `redraw`.
import { get } from "./api.js";

export const about = { models: [], project: null };
Object.assign(state, { model: null, version: null });
let draw_all = () => null;

export function onRedraw(callback) {
  draw_all = callback;
}

// Draw the frame and the open tab anew. The element with the id `focus` keeps the focus.
export const redraw = (focus) => draw_all(focus);

export async function refresh() {
  // Ask the server again which models it has, and keep the choice where it is still possible.
  Object.assign(about, await get("/page/about"));
  const model = about.models.find((one) => one.name === state.model) || about.models[0];
  state.model = model ? model.name : null;
  if (!model || !model.versions.includes(state.version)) state.version = null;
}

// Return the model that is chosen, as /page/about describes it; undefined where there is none.
export const model = () => about.models.find((one) => one.name === state.model);

// Return the values that name the chosen model in a request: no version means the newest.
export const chosen = () => ({ model: state.model, version: state.version });

export function tell(text, isError = false) {
  // Show a message below the tabs, which a screen reader reads aloud; an empty text removes it.
  const place = document.getElementById("message");
  place.replaceChildren(text || "");
  place.classList.toggle("wrong", isError);
}
