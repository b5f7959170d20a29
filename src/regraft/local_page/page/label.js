// Label: the photos without a label that are worth the most, each with the suggested label, which one key confirms.
import { Refusal, get, image, post, query } from "./api.js";
import { labelForm } from "./correct.js";
import { correct, follow, inForce, onChange, rowOf, stop } from "./corrections.js";
import { about, model, redraw, tell } from "./frame.js";
import { bar, noticeVersion } from "./retrain.js";

let panel = null, quit = null, waiting = null;
let batch = null; // the photos that are offered, and the model and version that chose them
let current = 0;

export const isShown = () => about.models.some((one) => one.is_run);

export async function open(place) {
  panel = place;
  quit = onChange(changed);
  await load(false);
}

export function close() {
  clearTimeout(waiting);
  if (quit) quit();
  quit = panel = null;
  stop();
}

const version = () => state.version || Math.max(...model().versions);
const photoOf = (one) => ({ digest: one.digest, was: "" });
const rowFor = (one) => rowOf(one.digest, "");
// The classes of the model, and those that somebody named since.
const classesNow = () => [...new Set([...model().classes, ...[...inForce()].reverse().map((row) => (row.action === "label" ? row.label : "")).filter(Boolean)])];
const left = () => batch.photos.filter((one) => !rowFor(one)).length;

async function load(anew) {
  const mine = panel;
  if (!model().is_run) return panel.replaceChildren(make("h2", {}, say("label_title")), make("p", {}, format("export_none", { model: state.model })));
  const asked = { model: state.model, version: version() };
  const same = batch && !anew && batch.model === asked.model && batch.version === asked.version;
  try {
    await follow(asked.model, asked.version);
    if (same) return draw();
    let found = await (anew ? post("/page/next", asked) : get("/page/next", asked));
    while (!found.photos && panel === mine) {
      mine.replaceChildren(make("h2", {}, say("label_title")), make("p", { role: "status", class: "working" }, format("next_choosing", { seconds: fixed(found.seconds, 0) })));
      await new Promise((done) => { waiting = setTimeout(done, 600); });
      found = await get("/page/next", asked);
    }
    if (panel !== mine) return null;
    batch = { ...found, ...asked };
    current = 0;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return mine.replaceChildren(make("h2", {}, say("label_title")), make("p", { class: "wrong", role: "alert" }, error.message), make("button", { onclick: () => load(false) }, say("again")));
  }
  return draw();
}

function draw(focus = "labelling") {
  if (!panel) return;
  if (batch.none) return panel.replaceChildren(make("h2", {}, say("label_title")), make("p", {}, format("label_none")), make("p", {}, make("code", {}, `regraft serve RUN --unlabelled FOLDER`)));
  const done = batch.photos.length - left();
  panel.replaceChildren(make("div", { id: "bar" }, bar(goTo, pictureOf)),
    make("h2", {}, say("label_title")), make("p", { class: "soft" }, format("label_how", { count: batch.photos.length, all: batch.candidates })),
    batch.photos.length ? workplace() : make("p", {}, say("label_all")),
    make("p", { class: "small soft", role: "status" }, format("label_done", { done, all: batch.photos.length })),
    make("ol", { class: "strip" }, batch.photos.map(tile)),
    make("button", { id: "more-next", disabled: left() > 0, onclick: () => load(true) }, say("label_more")));
  const field = document.getElementById(focus) || document.getElementById("labelling");
  if (field) field.focus({ preventScroll: true });
}

function workplace() {
  const one = batch.photos[current], classes = classesNow(), found = rowFor(one);
  return make("div", { class: "labelling", id: "labelling", role: "group", tabindex: "-1", "aria-label": say("label_title"), onkeydown: press },
    make("div", { class: "picture large" }, image("/page/views/" + one.digest, one.path)),
    make("div", {},
      make("p", { class: "suggestion" }, format("suggested", { label: one.suggested }), " ", make("span", { class: "soft" }, share(one.probability, 0))),
      make("p", { class: "small soft" }, say("why_" + one.why), " ", make("bdi", {}, one.path)),
      make("div", { class: "tools" },
        make("button", { id: "take", class: "main", onclick: () => give(one.suggested) }, make("kbd", {}, "Enter"), format("label_yes", { label: one.suggested }))),
      make("div", { class: "tools classes-keys" }, classes.slice(0, 9).map((label, c) => make("button", { "data-class": c, "aria-pressed": String(Boolean(found) && found.label === label), onclick: () => give(label) }, make("kbd", {}, c + 1), make("bdi", {}, label))), labelForm(classes, give)),
      make("div", { class: "tools" },
        make("button", { id: "out", onclick: () => skip() }, make("kbd", {}, "X"), say("label_skip")),
        make("button", { id: "undo", disabled: !found, onclick: undo }, make("kbd", {}, "U"), say("label_undo")),
        make("span", { role: "status" }, mark(one)))));
}

function mark(one) {
  const found = rowFor(one);
  if (!found) return null;
  const waits = found.id.startsWith("new");
  return found.action === "exclude" ? make("span", { class: "badge mark out", "data-waits": waits }, "✕ ", say("mark_skip")) : make("span", { class: "badge mark good", "data-waits": waits }, "✓ ", make("bdi", {}, found.label));
}

function tile(one, i) {
  return make("li", {}, make("button", { "aria-label": one.path, "aria-current": i === current ? "true" : null, "data-digest": one.digest, onclick: () => { current = i; draw(); } },
    make("span", { class: "picture" }, image("/page/views/" + one.digest, "")), mark(one) || make("bdi", { class: "soft small" }, one.suggested + "?")));
}

// ---- what a person does

function give(label) {
  const wanted = label.normalize("NFC").trim();
  if (!wanted) return;
  correct("label", photoOf(batch.photos[current]), wanted);
  goOn();
}

function skip() {
  correct("exclude", photoOf(batch.photos[current]));
  goOn();
}

const undo = () => correct("undo", photoOf(batch.photos[current]));

function goOn() {
  // Go to the next photo that nobody has labelled.
  const order = batch.photos.map((_, i) => (current + 1 + i) % batch.photos.length);
  const next = order.find((i) => !rowFor(batch.photos[i]));
  if (next !== undefined) current = next;
  draw();
}

function press(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.target.matches("input")) return;
  const key = event.key.toLowerCase(), classes = classesNow(), last = batch.photos.length - 1;
  if (key === "c" || (key === "enter" && !event.target.matches("button:not(#take)"))) give(batch.photos[current].suggested);
  else if (key === "x") skip();
  else if (key === "u") undo();
  else if (key === "t") document.getElementById("new-label").focus();
  else if (/^[1-9]$/.test(key) && key <= classes.length) give(classes[key - 1]);
  else if (key === "arrowright" && current < last) { current += 1; draw(); }
  else if (key === "arrowleft" && current > 0) { current -= 1; draw(); }
  else return;
  event.preventDefault();
}

async function changed() {
  if (!panel || !batch || batch.none) return;
  const focus = document.activeElement && document.activeElement.id;
  if (focus !== "new-label" || !document.getElementById("new-label").value) draw(focus);
  try {
    if (await noticeVersion()) tell(say("new_version"));
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
  }
}

function goTo(version) {
  // Look at the new version in the section Look; null only closes what the training brought.
  if (version === null) return draw();
  state.version = null;
  tell("");
  location.hash = "#look";
  return redraw();
}

function pictureOf(digest) {
  return make("span", { class: "picture" }, image("/page/photos/" + digest + query({ model: state.model }), ""));
}
