// What all pages of photos share: pictures, tabs and printing. Before this script stand elements.js and what gives it
// `data` (the data of the page), `root` (the element to draw into) and `served` (what a server adds to the page; null in a
// page that is one file). After it stands the script of a page: it defines `TITLE`, `tabs` (functions by name, which
// return elements) and `verdict`, adds to `state`, and calls `redraw`.
const photos = data.photos;
const PAGE = 48; // photos that are listed at a time

const className = (index) => make("bdi", { class: "name" }, data.classes[index]);

// ---- pictures

const images = new Map();
const sprite = data.sprite ? new Image() : null;
let spriteReady = false;
if (sprite) {
  sprite.addEventListener("load", () => {
    spriteReady = true;
    for (const canvas of document.querySelectorAll("canvas[data-tile]")) drawTile(canvas, Number(canvas.dataset.tile));
  });
  sprite.src = "data:image/webp;base64," + data.sprite.image;
}

function drawTile(canvas, tile) {
  const size = data.sprite.tile;
  canvas.width = canvas.height = size;
  const row = Math.floor(tile / data.sprite.columns), column = tile % data.sprite.columns;
  canvas.getContext("2d").drawImage(sprite, column * size, row * size, size, size, 0, 0, size, size);
}

function tileCanvas(index) {
  const canvas = make("canvas", { "data-tile": photos.tile[index], role: "img", "aria-label": photos.path[index] });
  if (spriteReady) drawTile(canvas, photos.tile[index]);
  return canvas;
}

function picture(index, kind = "", mapClass = null) {
  const box = make("span", { class: "picture " + kind });
  if (photos.thumb[index] >= 0) {
    if (!images.has(index)) images.set(index, "data:image/webp;base64," + data.thumbs[photos.thumb[index]]);
    box.append(make("img", { src: images.get(index), alt: photos.path[index], decoding: "sync" }));
  } else if (photos.tile[index] >= 0) box.append(tileCanvas(index));
  else box.setAttribute("aria-label", photos.path[index]);
  const heat = mapClass === null ? null : heatMap(index, mapClass);
  if (heat) box.append(heat);
  return box;
}

function heatMap(index, wanted) {
  const map = data.maps[index];
  const at = map ? map.classes.indexOf(wanted) : -1;
  if (at < 0) return null;
  return heatCanvas(map, at, data.classes[wanted]);
}

// ---- the page

function show(tab, toList = false) {
  state.tab = tab;
  redraw();
  if (toList) document.getElementById("list").scrollIntoView({ block: "start" });
}

const PANEL = served ? "report-panel" : "panel"; // the server's page has a panel of its own around this one

function redraw(focus) {
  // Draw the whole page anew. It is small: only the tab that is open has content.
  const from = document.getElementById(focus);
  const caret = from && "selectionStart" in from ? from.selectionStart : null;
  document.documentElement.lang = state.language;
  if (!served) document.title = say(TITLE, { name: data.name });
  const names = Object.keys(tabs);
  const press = (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    show(names[(names.indexOf(state.tab) + by + names.length) % names.length]);
    document.getElementById("tab-" + state.tab).focus();
  };
  const head = make("div", { class: "top" }, make("h1", {}, format(TITLE, { name: data.name })), languageButtons(redraw));
  root.replaceChildren(
    make(served ? "div" : "header", { class: ["overview", "comparison"].includes(state.tab) ? "" : "compact" }, served ? null : head, verdict()),
    make("div", { class: "tabs", role: "tablist", "aria-label": say("sections"), onkeydown: press }, names.map((name) =>
      make("button", { role: "tab", id: "tab-" + name, "aria-selected": String(name === state.tab), "aria-controls": PANEL, tabindex: name === state.tab ? 0 : -1, onclick: () => { state.shown = PAGE; show(name); } }, say("tab_" + name)))),
    make(served ? "div" : "main", { role: "tabpanel", id: PANEL, class: "panel", "aria-labelledby": "tab-" + state.tab, tabindex: "-1" }, tabs[state.tab]()));
  document.getElementById("tab-" + state.tab).scrollIntoView({ block: "nearest", inline: "center" });
  const field = focus && document.getElementById(focus);
  if (field) { field.focus(); if (caret !== null) field.setSelectionRange(caret, caret); }
}

function print() {
  // On paper all sections follow one another.
  document.getElementById(PANEL).replaceChildren(...Object.values(tabs).flatMap((tab) => tab().flat(Infinity).filter(Boolean)));
}

if (!served) {
  window.addEventListener("beforeprint", print);
  window.addEventListener("afterprint", () => redraw());
}
