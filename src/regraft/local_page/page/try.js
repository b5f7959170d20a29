// Try: photos are dropped, pasted, chosen or taken by the camera, and their answers appear one after the other.
import { Refusal, post } from "./api.js";
import { answerText, bars, drawCard, showDetail } from "./answers.js";
import { csvOf, download } from "./answers_csv.js";
import { about, chosen, model, tell } from "./frame.js";
import { Camera, drawn, pasted, pickers, takesDrops } from "./intake.js";

const AT_ONCE = 4; // requests that are under way at a time
const LISTED = 48; // photos that are listed at a time
const SIDE = 144; // pixels of a small picture

// A photo: its file, path and state ("waiting", "asked", "answered" or "failed"), and what the server said of it.
let photos = [];
let listed = LISTED;
let askedOf = ""; // the model and version that the answers come from
let underWay = 0;
let camera = null;
let panel = null;
const wanted = new Set(); // answered photos on the screen, of which the map or the nearest photos are still wanted
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting) wanted.add(photos[entry.target.dataset.at]);
    else wanted.delete(photos[entry.target.dataset.at]);
  }
  pump();
});

export const isShown = () => about.models.length > 0;

export function open(element) {
  panel = element;
  const now = JSON.stringify(chosen());
  if (now !== askedOf) {
    askedOf = now;
    photos = photos.map(({ file, path }) => fresh(file, path));
  }
  document.addEventListener("paste", onPaste);
  takesDrops(panel, add);
  draw();
  pump();
}

export function close() {
  document.removeEventListener("paste", onPaste);
  stopCamera();
  wanted.clear();
  watcher.disconnect();
}

// ---- photos and requests

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

const fresh = (file, path) => ({ file, path, state: "waiting", canvas: null, answer: null, reason: "", near: [], map: null, presence: "", why: "", complete: false });

function add(found) {
  if (!found.length) return tell(say("no_photo_there"));
  tell("");
  photos.push(...found.map(({ file, path }) => fresh(file, path)));
  draw();
  pump();
}

function onPaste(event) {
  const found = pasted(event);
  if (found.length) add(found);
}

const isWaiting = (photo) => photo.state === "waiting";
const lacks = (photo) => photo && photo.state === "answered" && !photo.complete;

function pump() {
  // Send requests: first for the photos without an answer, in their order; then for the maps of those on the screen.
  while (underWay < AT_ONCE) {
    const next = photos.find(isWaiting);
    const photo = next || (underWay ? null : [...wanted].find(lacks));
    if (!photo) return;
    ask(photo, !next);
  }
}

async function ask(photo, more) {
  const of = askedOf;
  underWay += 1;
  if (!more) photo.state = "asked";
  try {
    const found = await post("/page/try", { ...chosen(), map: more ? 1 : null }, photo.file);
    const is_complete = found.presence === "export" || (more && found.presence !== "loading");
    if (of === askedOf && found.unreadable) Object.assign(photo, { state: "failed", reason: found.unreadable });
    else if (of === askedOf) Object.assign(photo, found, { state: "answered", complete: is_complete });
    if (more && !is_complete) await pause(1); // the training photos are being read
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (error.status === 429) await pause(error.wait);
    if (more) photo.complete = error.status !== 429;
    else Object.assign(photo, error.status === 429 ? { state: "waiting" } : { state: "failed", reason: error.message });
  } finally {
    underWay -= 1;
  }
  if (of !== askedOf) return;
  show(photo);
  pump();
}

// ---- the tab

function draw() {
  watcher.disconnect();
  wanted.clear();
  const is_empty = photos.length === 0;
  panel.replaceChildren(make("div", {},
    make("h2", { class: "hidden-text" }, say("section_try")),
    make("p", { class: "hidden-text", role: "status", id: "done" }),
    make("section", { class: is_empty ? "drop large" : "drop", id: "drop", "aria-label": say("give_photos") },
      make("p", { class: "lead" }, say("drop_here")),
      make("div", { class: "tools" }, pickers(add), make("button", { type: "button", id: "camera", "aria-pressed": String(camera !== null), onclick: toggleCamera }, say("use_camera"))),
      is_empty ? make("p", { class: "small soft" }, say("not_kept")) : null),
    make("div", { id: "live" }),
    make("div", { id: "summary" }),
    make("ul", { class: "photos answers", id: "answers" }),
    make("div", { id: "rest" }),
    is_empty ? classes() : null,
    forPrograms()));
  if (camera) drawCamera();
  drawList();
  drawSummary();
}

const classes = () => [
  make("h3", {}, say("classes_known")),
  make("p", { class: "names" }, model().classes.slice(0, 60).map((label) => make("bdi", { class: "badge" }, label)).flatMap((badge) => [badge, " "])),
  model().is_run ? null : make("p", { class: "small soft" }, say("is_export")),
];

function drawList() {
  const list = document.getElementById("answers");
  for (let at = list.children.length; at < Math.min(listed, photos.length); at += 1) {
    const card = make("li", { class: "card", "data-at": at });
    list.append(card);
    fill(card, photos[at]);
    watcher.observe(card);
  }
  const more = () => { listed += LISTED; drawList(); };
  document.getElementById("rest").replaceChildren(...(photos.length > listed ? [make("button", { id: "more", onclick: more }, say("more"))] : []));
}

function fill(card, photo) {
  if (!photo.canvas) photo.canvas = drawn(photo.file, model().crop, SIDE);
  const had_focus = card.contains(document.activeElement);
  card.replaceChildren(...drawCard(photo, () => showDetail(photo, drawn(photo.file, model().crop, 640))));
  if (had_focus) card.querySelector("button").focus();
}

function show(photo) {
  const card = document.querySelector(`#answers [data-at="${photos.indexOf(photo)}"]`);
  if (card) fill(card, photo);
  drawSummary();
}

let summaryIsDue = false;

function drawSummary() {
  // Count the answers, at most once a frame.
  if (summaryIsDue) return;
  summaryIsDue = true;
  requestAnimationFrame(() => {
    summaryIsDue = false;
    const place = document.getElementById("summary");
    if (place) place.replaceChildren(...(photos.length ? summary() : []));
  });
}

function summary() {
  const done = photos.filter((photo) => photo.state === "answered" || photo.state === "failed").length;
  const counts = new Map();
  for (const photo of photos) {
    const text = photo.state === "failed" ? say("unreadable") : photo.answer ? answerText(photo.answer) : null;
    if (text !== null) counts.set(text, (counts.get(text) || 0) + 1);
  }
  const spoken = document.getElementById("done");
  const text = done === photos.length ? say("all_answered", { all: number(photos.length) }) : "";
  if (spoken.textContent !== text) spoken.textContent = text;
  const sorted = [...counts].sort((a, b) => b[1] - a[1]);
  return [
    make("p", {}, done < photos.length ? [make("progress", { max: photos.length, value: done, "aria-label": say("answering") }), " "] : null, format("answered_of", { done, all: photos.length })),
    make("p", { class: "names" }, sorted.flatMap(([text, count]) => [make("span", { class: "badge" }, make("bdi", {}, text), " ", number(count)), " "])),
    make("div", { class: "tools" },
      make("button", { id: "csv", disabled: done < photos.length, onclick: () => download(`${model().name}.csv`, csvOf(photos)) }, say("download_csv")),
      make("button", { id: "clear", onclick: clear }, say("clear"))),
  ];
}

function clear() {
  photos = [];
  listed = LISTED;
  tell("");
  draw();
  document.getElementById("pick-photos-button").focus();
}

function forPrograms() {
  const { version } = chosen();
  const address = `${location.origin}/predict/${encodeURIComponent(model().name)}${version ? "?version=" + version : ""}`;
  const token = sessionStorage.getItem("regraft-token") ? ` -H "Authorization: Bearer TOKEN"` : "";
  return make("details", { class: "programs" }, make("summary", {}, say("for_programs")),
    make("p", {}, say("curl_example")), make("pre", { tabindex: "0" }, make("code", { id: "curl" }, `curl${token} -T photo.jpg -X POST ${address}`)));
}

// ---- the camera

async function toggleCamera() {
  if (camera) {
    stopCamera();
    draw();
    document.getElementById("camera").focus();
    return;
  }
  const started = new Camera();
  const reason = await started.start();
  if (reason) return tell(reason, true);
  camera = started;
  draw();
  document.getElementById("camera").focus();
  answerLive(started);
}

function stopCamera() {
  if (camera) camera.stop();
  camera = null;
}

function drawCamera() {
  const take = async () => {
    const blob = await camera.picture();
    add([{ file: blob, path: say("camera_name", { time: new Date().toISOString().slice(0, 19).replaceAll(":", "-") }) }]);
  };
  document.getElementById("live").replaceChildren(make("section", { class: "live", "aria-label": say("camera_picture") }, camera.video,
    make("div", {}, make("div", { id: "live-answer", class: "soft" }, say("live_waits")),
      make("div", { class: "tools" }, make("button", { class: "main", id: "take", onclick: take }, say("take_picture")), make("button", { onclick: toggleCamera }, say("stop_camera"))))));
  camera.video.play();
}

async function answerLive(running) {
  // Ask about what the camera sees, again as soon as an answer is there.
  while (camera === running) {
    let content;
    try {
      const found = await post("/page/try", chosen(), await running.picture());
      content = bars(found.answer, 3);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      content = [make("p", { class: "wrong" }, error.message)];
      await pause(error.wait);
    }
    const place = document.getElementById("live-answer");
    if (camera === running && place) place.replaceChildren(...content);
    await pause(0.15);
  }
}
