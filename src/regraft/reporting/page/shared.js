"use strict";
// What all pages share: text in two languages, elements, and pictures. The script of a page follows this one in the same
// element, defines `TITLE`, `state`, `tabs` (functions by name, which return elements) and `verdict`, and calls `redraw`.
// A page is one file: its data and its words are JSON beside the scripts. All text becomes text nodes and never HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const words = JSON.parse(document.getElementById("words").textContent);
const photos = data.photos;
const PAGE = 48; // photos that are listed at a time
const preferred = (navigator.language || "en").startsWith("ko") ? "ko" : "en";
const SVG = "http://www.w3.org/2000/svg";

// ---- text and elements

function format(key, values) {
  // Return the parts of a sentence: text, and an element for each value in it.
  const text = words[state.language][key];
  return text.split(/(\{\w+\})/).map((part) => {
    const name = /^\{(\w+)\}$/.exec(part);
    return name && values && name[1] in values ? shown(values[name[1]]) : part;
  });
}

function shown(value) {
  if (Array.isArray(value)) return value.flatMap((item, i) => (i ? [", ", shown(item)] : [shown(item)]));
  if (value instanceof Node || typeof value === "number") return typeof value === "number" ? number(value) : value;
  if (value && value.code) return make("code", {}, value.code);
  if (value && value.key) return words[state.language][value.key];
  return make("bdi", {}, String(value));
}

const say = (key, values) => words[state.language][key].replace(/\{(\w+)\}/g, (whole, name) => (values && name in values ? values[name] : whole));
const number = (value) => new Intl.NumberFormat(state.language).format(value);
const fixed = (value, digits) => new Intl.NumberFormat(state.language, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
const share = (value, digits = 1) => (value === null || value === undefined ? "–" : fixed(100 * value, digits) + "\u00a0%");
const range = (pair) => (pair ? share(pair[0]) + " – " + share(pair[1]) : "–");

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function draw(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
  element.append(...children.flat());
  return element;
}

const bar = (p) => draw("svg", { viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true" }, draw("rect", { x: 0, y: 1, width: Math.max(0.5, 100 * p), height: 10, rx: 2 }));

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
  // Draw the map of a class: red where the photo speaks for it, blue where it speaks against it.
  const map = data.maps[index];
  const at = map ? map.classes.indexOf(wanted) : -1;
  if (at < 0) return null;
  const bytes = Uint8Array.from(atob(map.values[at]), (letter) => letter.charCodeAt(0));
  const small = make("canvas", { width: map.width, height: map.height });
  const pixels = new ImageData(map.width, map.height);
  bytes.forEach((byte, i) => {
    const value = (byte - 128) / 127;
    pixels.data.set(value > 0 ? [214, 40, 40, 255 * value] : [38, 92, 190, -255 * value], 4 * i);
  });
  small.getContext("2d").putImageData(pixels, 0, 0);
  const canvas = make("canvas", { class: "heat", width: 128, height: 128, role: "img", "aria-label": say("map_of", { label: data.classes[wanted] }) });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, 128, 128);
  return canvas;
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
        make("div", { class: "languages", role: "group", "aria-label": say("languages") }, Object.keys(words).map((language) =>
          make("button", { lang: language, id: "language-" + language, "data-language": language, "aria-pressed": String(language === state.language), onclick: () => { state.language = language; redraw("language-" + language); } }, words[language].language)))),
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
