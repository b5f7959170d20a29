// The page of the server: a frame with one tab for each module. A tab is a module of its own, which is added to `modules`
// under the name that stands behind the # of the address. It exports
//   isShown()    whether the tab belongs to what is served (see `about` in frame.js),
//   open(panel)  draws the tab into an element; it is called again when the language or the model was changed,
//   close()      called before another tab opens.
import { Refusal, keepToken, takeTokenFromAddress } from "./api.js";
import { about, model, onRedraw, redraw, refresh } from "./frame.js";
import * as label from "./label.js";
import * as look from "./look.js";
import * as project from "./project.js";
import * as tryPhotos from "./try.js";

const modules = { project, try: tryPhotos, look, label };
let opened = null;

async function start() {
  takeTokenFromAddress();
  const response = await fetch("/static/words.json");
  Object.assign(words, await response.json());
  onRedraw(drawFrame);
  window.addEventListener("hashchange", () => redraw());
  await enter();
}

async function enter(typed = false) {
  try {
    await refresh();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return error.status === 401 ? askForToken(typed === true) : drawProblem(error.message);
  }
  redraw();
}

// ---- the frame

function names() {
  return Object.keys(modules).filter((name) => modules[name].isShown());
}

function tabOf(hash) {
  const shown = names();
  return shown.includes(hash.slice(1)) ? hash.slice(1) : shown[0];
}

function drawFrame(focus) {
  const tab = tabOf(location.hash);
  if (opened) modules[opened].close();
  opened = tab;
  document.documentElement.lang = state.language;
  document.title = `${say("section_" + tab)} · ${title()}`;
  const panel = make("main", { id: "panel", tabindex: "-1" });
  document.getElementById("page").replaceChildren(header(),
    make("nav", { class: "tabs", "aria-label": say("sections") }, names().map((name) =>
      make("a", { href: "#" + name, id: "tab-" + name, "aria-current": name === tab ? "page" : null }, say("section_" + name)))),
    make("p", { id: "message", role: "status" }), panel);
  modules[tab].open(panel);
  const field = focus && document.getElementById(focus);
  if (field) field.focus();
}

const title = () => (about.project ? about.project.name : state.model || "regraft");

const header = () => make("header", { class: "frame" },
  make("h1", {}, make("bdi", {}, title())), modelChoice(), languageButtons(redraw));

function modelChoice() {
  const now = model();
  if (!now || (about.models.length < 2 && now.versions.length < 2)) return null;
  const newest = Math.max(...now.versions);
  return make("div", { class: "tools" },
    about.models.length < 2 ? null : choice("model", about.models.map((one) => [one.name, one.name]), state.model, (value) => { state.model = value; state.version = null; }),
    now.versions.length < 2 ? null : choice("version", [["", say("newest", { version: newest })], ...[...now.versions].reverse().map((one) => [one, one])], state.version || "", (value) => { state.version = value ? Number(value) : null; }));
}

const choice = (id, options, value, onchange) => make("label", {}, say("choose_" + id),
  make("select", { id, onchange: (event) => { onchange(event.target.value); redraw(id); } }, options.map(([key, text]) =>
    make("option", { value: key, selected: String(key) === String(value) }, text))));

// ---- without a token, or without a server

function askForToken(is_wrong) {
  document.documentElement.lang = state.language;
  const field = make("input", { id: "token", type: "password", autocomplete: "off", required: true });
  const submit = async (event) => { event.preventDefault(); keepToken(field.value.trim()); await enter(true); };
  document.getElementById("page").replaceChildren(
    make("header", { class: "frame" }, make("h1", {}, "regraft"), languageButtons(() => askForToken(is_wrong))),
    make("main", { id: "panel" }, make("h2", {}, say("token_title")), make("p", {}, say("token_why")),
      is_wrong ? make("p", { class: "wrong", role: "alert" }, say("token_wrong")) : null,
      make("form", { class: "tools", onsubmit: submit }, make("label", { for: "token" }, say("token")), field, make("button", { class: "main" }, say("token_send")))));
  keepToken("");
  field.focus();
}

function drawProblem(text) {
  document.getElementById("page").replaceChildren(make("main", { id: "panel" }, make("h2", {}, say("problem")),
    make("p", { role: "alert" }, text), make("button", { onclick: enter }, say("again"))));
}

start();
