// Look: the report of a run, in which labels can be corrected, and a new version can be trained.
import { Refusal, get, image, query } from "./api.js";
import { correcting } from "./correct.js";
import { corrections, follow, onChange, stop } from "./corrections.js";
import { about, model, redraw, tell } from "./frame.js";
import { openReport } from "./report.js";
import { bar, noticeVersion } from "./retrain.js";

let at = null; // what is shown: model, version, and the report once it is there
let chosen = null; // the model and version that were chosen when it was opened
let panel = null, quit = null, waiting = null;

export const isShown = () => about.models.length > 0;

export async function open(place) {
  panel = place;
  const now = `${state.model} ${state.version}`;
  if (chosen !== now || !at) {
    chosen = now;
    at = { model: state.model, version: state.version || Math.max(...model().versions), report: null };
  }
  quit = onChange(changed);
  await draw();
}

export function close() {
  clearTimeout(waiting);
  const dialog = document.getElementById("photo");
  if (dialog.open) { dialog.onclose = null; dialog.close(); }
  if (quit) quit();
  quit = panel = null;
  state.opened = null;
  stop();
}

async function draw() {
  if (!model().is_run) return panel.replaceChildren(make("h2", {}, say("section_look")), make("p", {}, format("export_none", { model: at.model })));
  const mine = panel, wanted = at;
  try {
    if (!at.report) panel.replaceChildren(make("p", { role: "status" }, say("loading")));
    await follow(at.model, at.version);
    if (!at.report) await load(mine, wanted);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return mine.replaceChildren(make("p", { class: "wrong", role: "alert" }, error.message), make("button", { onclick: draw }, say("again")));
  }
  if (panel === mine && at === wanted && at.report) show();
}

async function load(mine, wanted) {
  // Fetch the report, which the server may have to make first.
  while (panel === mine && at === wanted) {
    const data = await get("/page/report", { model: wanted.model, version: wanted.version });
    if (data.classes) {
      const root = make("div", { class: "report" });
      const place = make("div", { id: "bar" });
      wanted.own = correcting(data);
      wanted.places = [place, root];
      wanted.data = data;
      mine.replaceChildren(place, root); // a report is drawn where it is shown
      wanted.report = openReport(data, root, wanted.own.served);
      return;
    }
    mine.replaceChildren(make("p", { role: "status", class: "working" }, format("report_making", { photos: data.photos, seconds: fixed(data.seconds, 0) })), make("p", { class: "small soft" }, say("report_why")));
    await new Promise((done) => { waiting = setTimeout(done, 700); });
  }
}

function show() {
  panel.replaceChildren(...at.places);
  at.own.apply();
  drawBar();
  at.report.redraw();
}

function drawBar(isNew = false) {
  const focus = document.activeElement && document.activeElement.id;
  const had = at.places[0].querySelector("#outcome");
  at.places[0].replaceChildren(bar(goTo, pictureOf));
  const outcome = at.places[0].querySelector("#outcome h2");
  if (isNew && outcome && !had && !document.getElementById("photo").open) return outcome.focus();
  const field = focus && at.places[0].querySelector("#" + CSS.escape(focus));
  if (field) field.focus();
}

async function changed() {
  // Somebody corrected a label, here or in another tab, or a training goes on.
  if (!panel || !at.report) return;
  at.own.apply();
  drawBar(true);
  const dialog = document.getElementById("photo");
  if (dialog.open && state.opened) {
    const field = document.activeElement;
    if (!field || field.id !== "new-label" || !field.value) state.opened.again();
  } else if (!dialog.open) at.report.redraw(document.activeElement && document.activeElement.id);
  try {
    if (await noticeVersion()) tell(say("new_version"));
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
  }
}

function goTo(version) {
  // Look at another version; null only closes what the training brought.
  if (version === null) return drawBar();
  state.version = null;
  state.cell = null;
  chosen = `${state.model} ${state.version}`;
  at = { model: at.model, version, report: null };
  tell("");
  redraw();
}

function pictureOf(digest) {
  // Return the picture of a photo by its digest: from the report, or else from the server.
  const photos = at.data.photos, index = photos.digest.indexOf(digest);
  if (index < 0 || photos.thumb[index] < 0) return make("span", { class: "picture" }, image("/page/photos/" + digest + query({ model: at.model }), ""));
  return make("span", { class: "picture" }, make("img", { src: "data:image/webp;base64," + at.data.thumbs[photos.thumb[index]], alt: photos.path[index] }));
}
