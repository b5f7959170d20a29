// Photos: a project that begins with nothing. Classes are made, photos are put in, and a classifier is trained.
import { Refusal, get, image, post } from "./api.js";
import { about, redraw, refresh, tell } from "./frame.js";
import { Camera, pickers, takesDrops } from "./intake.js";

const AT_ONCE = 3; // photos that are sent at a time
const SHOWN = 24; // photos of a class that are shown at first
const BURST = 300; // milliseconds between two pictures while the camera's button is held

let project = null; // what the server said last
let panel = null;
let watching = null; // the timer that asks how far a training is
let camera = null; // the camera, and the class that its pictures go to
let drawnNames = ""; // the names of the classes that are drawn
const opened = new Set(); // the names of the classes of which all photos are shown
let waiting = []; // photos that are not sent yet: {file, path, label}
let underWay = 0;
const report = { added: 0, known: [], unreadable: [] }; // of the photos that were sent since the last message

export const isShown = () => about.project !== null;

export async function open(element) {
  panel = element;
  drawnNames = "";
  if (project) draw();
  await reload();
  if (!project || !panel) return;
  const { state: now, result } = project.training;
  if (now === "running") watch();
  else if (now === "done" && !knows(result.version)) await learn();
}

// Return whether the page knows this version of the project's model already.
const knows = (version) => about.models.some((one) => one.name === project.name && one.versions.includes(version));

async function learn() {
  await refresh();
  redraw("go-try");
}

export function close() {
  clearTimeout(watching);
  stopCamera();
  panel = null;
}

// ---- the server

async function reload() {
  await tried(async () => {
    project = await get("/page/project");
    if (panel) draw();
  });
}

async function tried(work) {
  // Do something that the server may refuse, and say why it did. Return whether it was done.
  try {
    await work();
    return true;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    tell(error.message, true);
    return false;
  }
}

async function change(path, body) {
  tell("");
  const done = await tried(() => post(path, null, body));
  await reload();
  return done;
}

function add(found, label) {
  if (!found.length) return tell(say("no_photo_there"));
  waiting.push(...found.map(({ file, path }) => ({ file, path, label })));
  Object.assign(report, { added: 0, known: [], unreadable: [] });
  pump();
}

function pump() {
  while (underWay < AT_ONCE && waiting.length) send(waiting.shift());
  drawSending();
}

async function send(photo) {
  underWay += 1;
  try {
    const found = await post("/page/project/photos", { class: photo.label, file: photo.path }, photo.file);
    if (found.unreadable) report.unreadable.push(`${photo.path}: ${found.unreadable}`);
    else if (found.before) report.known.push(found.before);
    else keep(found.photo, photo.label);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (error.status === 429) {
      await new Promise((resolve) => setTimeout(resolve, 1000 * error.wait));
      waiting.unshift(photo);
    } else report.unreadable.push(`${photo.path}: ${error.message}`);
  } finally {
    underWay -= 1;
  }
  pump();
  if (!underWay && !waiting.length) await sent();
}

function keep(photo, label) {
  // Show a photo that is on the disk now.
  report.added += 1;
  const one = project.classes.find((other) => other.name === label);
  if (!one || one.photos.includes(photo)) return;
  one.count += 1;
  one.photos.unshift(photo);
  const card = panel && panel.querySelector(`[data-class="${CSS.escape(label)}"]`);
  if (card) fillPhotos(card, one);
  drawTraining();
}

async function sent() {
  const parts = [
    report.added ? say("added", { count: number(report.added) }) : "",
    report.known.length ? say("known_before", { count: number(report.known.length), labels: [...new Set(report.known)].join(", ") }) : "",
    report.unreadable.length ? say("unreadable_count", { count: number(report.unreadable.length), first: report.unreadable[0] }) : "",
  ];
  await reload();
  tell(parts.filter(Boolean).join(" "), report.unreadable.length > 0);
}

// ---- the tab

function draw() {
  // Draw the tab, or only what has changed in it, so that nobody loses what is typed at the moment.
  const names = JSON.stringify(project.classes.map((one) => one.name));
  if (names !== drawnNames) drawAll();
  else project.classes.forEach((one) => fillPhotos(panel.querySelector(`[data-class="${CSS.escape(one.name)}"]`), one));
  drawnNames = names;
  drawSteps();
  drawTraining();
  drawSending();
}

function drawAll() {
  const focus = document.activeElement && document.activeElement.id;
  const typed = document.getElementById("new-class");
  panel.replaceChildren(make("div", {},
    make("h2", { class: "hidden-text" }, say("section_project")),
    make("ol", { class: "steps", id: "steps" }),
    newClass(typed ? typed.value : ""),
    make("p", { id: "sending", class: "soft" }),
    make("div", { id: "live" }),
    make("div", { class: "folders" }, project.classes.map(card)),
    make("section", { id: "training", class: "training", "aria-label": say("train_now") }),
    make("p", { class: "small soft" }, say("where_photos"))));
  drawCamera();
  const field = focus && document.getElementById(focus);
  if (field) field.focus();
}

function drawSteps() {
  const steps = { step_classes: project.classes.length >= 2, step_photos: enough().length >= 2, step_train: project.trained.length > 0 };
  document.getElementById("steps").replaceChildren(...Object.entries(steps).map(([key, is_done]) => make("li", { class: is_done ? "done" : null }, say(key))));
}

function newClass(typed) {
  const field = make("input", { type: "text", id: "new-class", value: typed, maxlength: 80, required: true, autocomplete: "off", placeholder: say("class_example") });
  const submit = async (event) => {
    event.preventDefault();
    if (await change("/page/project/classes", { name: field.value })) document.getElementById("new-class").value = "";
    document.getElementById("new-class").focus();
  };
  return make("form", { class: "tools", onsubmit: submit }, make("label", { for: "new-class" }, say("new_class")), field, make("button", { id: "add-class" }, say("add_class")));
}

function card(one, at) {
  const element = make("section", { class: "folder", "data-class": one.name, "aria-labelledby": `class-${at}` },
    make("div", { class: "top" }, make("h3", { id: `class-${at}` }, make("bdi", {}, one.name)), make("span", { class: "count soft" })),
    make("div", { class: "tools" }, pickers((found) => add(found, one.name), `pick-${at}`),
      make("button", { id: `camera-${at}`, "aria-pressed": "false", onclick: () => toggleCamera(one.name, `camera-${at}`) }, say("use_camera"))),
    make("ul", { class: "thumbs" }), make("div", { class: "rest" }),
    make("details", {}, make("summary", {}, say("change_class")), renaming(one, at),
      make("button", { id: `remove-${at}`, onclick: () => removeClass(one) }, say("remove_class"))));
  takesDrops(element, (found) => add(found, one.name));
  fillPhotos(element, one);
  return element;
}

function renaming(one, at) {
  const field = make("input", { type: "text", id: `name-${at}`, value: one.name, maxlength: 80, required: true, autocomplete: "off" });
  const submit = (event) => { event.preventDefault(); change("/page/project/rename", { name: one.name, to: field.value }); };
  return make("form", { class: "tools", onsubmit: submit }, make("label", { for: `name-${at}` }, say("class_name")), field, make("button", {}, say("rename_class")));
}

async function removeClass(one) {
  if (await change("/page/project/remove-class", { name: one.name })) tell(say("class_removed", { label: one.name }));
  document.getElementById("new-class").focus();
}

function fillPhotos(element, one) {
  const most = opened.has(one.name) ? one.photos.length : SHOWN;
  element.querySelector(".count").replaceChildren(say("photo_count", { count: number(one.count) }));
  element.querySelector(".thumbs").replaceChildren(...one.photos.slice(0, most).map((photo, at) => thumb(one, photo, at)));
  element.querySelector(".rest").replaceChildren(one.photos.length > most
    ? make("button", { onclick: () => { opened.add(one.name); fillPhotos(element, one); } }, say("show_all", { count: number(one.photos.length) }))
    : one.count ? "" : make("p", { class: "soft small" }, say("drop_into", { label: one.name })));
}

function thumb(one, photo, at) {
  const remove = async (event) => {
    const place = event.currentTarget.closest(".thumbs");
    one.photos = one.photos.filter((other) => other !== photo);
    if (await change("/page/project/remove-photo", { photo })) tell(say("photo_removed"));
    const next = panel.querySelector(`[data-class="${CSS.escape(one.name)}"] .thumbs`).children[Math.min(at, one.photos.length - 1)];
    if (next && place) next.querySelector("button").focus();
  };
  return make("li", {}, make("span", { class: "picture small" }, image("/page/project/photos/" + photo, say("photo_of", { label: one.name }))),
    make("button", { class: "remove", "aria-label": say("remove_photo"), title: say("remove_photo"), onclick: remove }, "×"));
}

function drawSending() {
  const place = document.getElementById("sending");
  const left = waiting.length + underWay;
  if (place) place.replaceChildren(left ? say("sending", { count: number(left) }) : "");
}

// ---- the training

const enough = () => project.classes.filter((one) => one.count >= 2);

function drawTraining() {
  const place = document.getElementById("training");
  if (!place) return;
  const { state: now, step, done, total, error, result } = project.training;
  const is_running = now === "running";
  const start = make("button", { class: "main", id: "train", disabled: is_running || enough().length < 2, onclick: train }, say(project.trained.length ? "train_again" : "train_now"));
  const small = project.classes.filter((one) => one.count >= 2 && one.count < 20);
  place.replaceChildren(...[
    start,
    is_running ? make("p", { id: "progress" }, make("progress", total ? { max: total, value: done, "aria-label": say("training") } : { "aria-label": say("training") }), " ", stepText(step), total ? ` ${number(done)} / ${number(total)}` : "") : null,
    now === "failed" ? make("p", { class: "wrong", role: "alert", lang: "en" }, error) : null,
    now === "done" ? [
      make("p", { class: "verdict", role: "status", id: "trained" }, result.interval === null ? say("verdict_none") : say("verdict", { right: Math.round(100 * result.accuracy), low: Math.floor(100 * result.interval[0]), high: Math.ceil(100 * result.interval[1]) })),
      make("p", {}, make("a", { href: "#try", id: "go-try" }, say("try_it"))),
    ] : null,
    enough().length < 2 ? make("p", { class: "soft" }, say("needs_photos")) : small.length && !is_running ? make("p", { class: "soft small" }, format("few_photos", { labels: small.map((one) => one.name) })) : null,
  ].flat().filter(Boolean));
}

function stepText(step) {
  const key = "work_" + step.replaceAll(" ", "_").replace(/_\(once\)$/, "");
  return key in words[state.language] ? say(key) : say("training");
}

async function train() {
  tell("");
  if (!await tried(async () => { project.training = await post("/page/project/train"); })) return;
  drawTraining();
  watch();
}

function watch() {
  clearTimeout(watching);
  watching = setTimeout(async () => {
    const before = project.training.state;
    await tried(async () => { project = { ...(await get("/page/project")) }; });
    if (!panel) return;
    drawTraining();
    if (project.training.state === "running") return watch();
    if (before === "running" && project.training.state === "done") await learn();
  }, 400);
}

// ---- the camera

async function toggleCamera(label, focus) {
  const is_same = camera && camera.label === label;
  stopCamera();
  if (!is_same) {
    const started = new Camera();
    const reason = await started.start();
    if (reason) tell(reason, true);
    else camera = Object.assign(started, { label });
  }
  drawCamera();
  document.getElementById(focus).focus();
}

function stopCamera() {
  if (camera) camera.stop();
  camera = null;
}

function drawCamera() {
  for (const [at, one] of project.classes.entries()) document.getElementById(`camera-${at}`).setAttribute("aria-pressed", String(camera !== null && camera.label === one.name));
  if (!camera) return document.getElementById("live").replaceChildren();
  const { label } = camera;
  let burst = null;
  const take = async () => {
    if (!camera) return;
    add([{ file: await camera.picture(), path: "camera.jpg" }], label);
  };
  const begin = () => { take(); burst = setInterval(take, BURST); };
  const end = () => clearInterval(burst);
  document.getElementById("live").replaceChildren(make("section", { class: "live", "aria-label": say("camera_picture") }, camera.video,
    make("div", {}, make("p", {}, format("pictures_for", { label })),
      make("div", { class: "tools" },
        make("button", { class: "main", id: "take", onpointerdown: begin, onpointerup: end, onpointerleave: end, onclick: (event) => { if (event.detail === 0) take(); } }, say("take_pictures")),
        make("button", { onclick: () => { stopCamera(); drawCamera(); } }, say("stop_camera"))))));
  camera.video.play();
}
