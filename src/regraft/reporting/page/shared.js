// What all pages in one file share: the page's data, pictures, tabs and printing. elements.js stands before this script, and
// the script of a page after it, in the same element: it defines `TITLE`, `tabs` (functions by name, which return
// elements) and `verdict`, adds to `state`, and calls `redraw`. The data and the words are JSON beside the scripts.
const data = JSON.parse(document.getElementById("data").textContent);
Object.assign(words, JSON.parse(document.getElementById("words").textContent));
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

function redraw(focus) {
  // Draw the whole page anew. It is small: only the tab that is open has content.
  const from = document.getElementById(focus);
  const caret = from && "selectionStart" in from ? from.selectionStart : null;
  document.documentElement.lang = state.language;
  document.title = say(TITLE, { name: data.name });
  const names = Object.keys(tabs);
  const press = (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    show(names[(names.indexOf(state.tab) + by + names.length) % names.length]);
    document.getElementById("tab-" + state.tab).focus();
  };
  document.getElementById("page").replaceChildren(
    make("header", { class: ["overview", "comparison"].includes(state.tab) ? "" : "compact" },
      make("div", { class: "top" }, make("h1", {}, format(TITLE, { name: data.name })),
        languageButtons(redraw)),
      verdict()),
    make("div", { class: "tabs", role: "tablist", "aria-label": say("sections"), onkeydown: press }, names.map((name) =>
      make("button", { role: "tab", id: "tab-" + name, "aria-selected": String(name === state.tab), "aria-controls": "panel", tabindex: name === state.tab ? 0 : -1, onclick: () => { state.shown = PAGE; show(name); } }, say("tab_" + name)))),
    make("main", { role: "tabpanel", id: "panel", "aria-labelledby": "tab-" + state.tab, tabindex: "-1" }, tabs[state.tab]()));
  document.getElementById("tab-" + state.tab).scrollIntoView({ block: "nearest", inline: "center" });
  const field = focus && document.getElementById(focus);
  if (field) { field.focus(); if (caret !== null) field.setSelectionRange(caret, caret); }
}

window.addEventListener("beforeprint", () => {
  // On paper all sections follow one another.
  const panel = document.getElementById("panel");
  panel.replaceChildren(...Object.values(tabs).flatMap((tab) => tab().flat(Infinity).filter(Boolean)));
});
window.addEventListener("afterprint", () => redraw());
