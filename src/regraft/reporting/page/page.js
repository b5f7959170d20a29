// The report of a run. page/shared.js stands before this script. A server adds to it by `served`, an object with
//   mark(i)           what stands below a photo: what was corrected, and buttons to correct it,
//   tools(i)          the same, larger, for the photo that is open,
//   press(event, i)   does what a key means for a photo, and returns whether it means something,
//   done()            the set of photos that somebody has corrected or confirmed,
//   tabs(lists)       further tabs, made of the functions in `lists`.
const TITLE = "title"; // its key among the words
const MATRIX = 30; // classes of the confusion matrix
Object.assign(state, {
  tab: data.comparison ? "comparison" : "overview", cell: null, filter: "", sort: "sure", maps: true, shown: PAGE, one: 0,
  hidden: new Set(), onlyWrong: false, threshold: null, view: null,
});

// ---- lists of photos

const isWrong = (i) => photos.measured[i] === 1 && photos.answer[i] !== photos.label[i];
// A list keeps its photos while they are corrected: it has those that belonged to it when its tab was opened.
let listed = { key: null };
const isListedWrong = (i) => listed.measured[i] === 1 && photos.answer[i] !== listed.label[i];
const isNovel = (i) => data.threshold !== null && photos.novelty[i] !== null && photos.novelty[i] > data.threshold;
const everything = photos.path.map((_, i) => i);

function nearList(index) {
  const near = photos.near[index] || [];
  if (!near.length) return make("p", { class: "small soft" }, say("no_nearest"));
  return make("ul", { class: "near", "aria-label": say("nearest") }, near.map((other) =>
    make("li", {}, picture(other, "tiny"), make("bdi", { title: data.classes[photos.label[other]] }, data.classes[photos.label[other]]))));
}

function answerLine(index) {
  const wrong = photos.answer[index] !== photos.label[index];
  return make("div", {},
    make("span", { class: wrong ? "wrong" : "right" }, className(photos.answer[index])), " ", share(photos.p[index], 0),
    isNovel(index) ? [" ", make("span", { class: "badge" }, say("none_of_these"))] : null,
    wrong ? [make("br"), make("span", { class: "soft" }, say("true_label"), ": "), className(photos.label[index])] : null);
}

function card(index, list, extra) {
  const mapClass = state.maps ? photos.answer[index] : null;
  const press = (event) => { if (served && served.press(event, index)) event.preventDefault(); };
  return make("li", { class: "card", "data-photo": index, onkeydown: press },
    make("button", { class: "seen", id: "seen-" + index, "aria-label": say("photo") + " " + photos.path[index], onclick: () => openPhoto(index, list) }, picture(index, "", mapClass)),
    make("div", { class: "text" },
      extra || answerLine(index),
      photos.novelty[index] !== null ? make("div", { class: "soft" }, say("novelty"), " ", fixed(photos.novelty[index], 2)) : null,
      make("div", { class: "path" }, make("bdi", {}, photos.path[index])),
      served ? served.mark(index) : null,
      nearList(index)));
}

const orders = {
  sure: (a, b) => photos.p[b] - photos.p[a],
  unsure: (a, b) => photos.p[a] - photos.p[b],
  novel: (a, b) => (photos.novelty[b] || 0) - (photos.novelty[a] || 0),
};

function photoList(found, total) {
  const wanted = state.filter.toLowerCase();
  const list = found.filter((i) => photos.path[i].toLowerCase().includes(wanted)).sort(orders[state.sort]);
  const first = list.slice(0, state.shown);
  return [
    make("p", { class: "small soft", role: "status", "data-count": list.length }, format("shown_of", { shown: first.length, all: list.length })),
    total > found.length ? make("p", { class: "small soft" }, format("not_in_file", { count: total - found.length, budget: photos.path.length })) : null,
    first.length ? make("ul", { class: "photos" }, first.map((i) => card(i, list))) : make("p", {}, say("no_photos")),
    list.length > first.length ? make("button", { id: "more", onclick: () => { state.shown += PAGE; redraw("more"); } }, say("more")) : null,
  ];
}

function openPhoto(index, list, mapClass = photos.answer[index]) {
  const dialog = document.getElementById("photo");
  const at = list.indexOf(index);
  const step = (by) => { if (list[at + by] !== undefined) openPhoto(list[at + by], list); };
  state.opened = { index, again: () => openPhoto(index, list, mapClass) };
  const map = data.maps[index];
  const choices = map ? map.classes : [];
  const top = photos.top[index] || [];
  dialog.replaceChildren(
    make("div", { class: "tools" },
      make("button", { onclick: () => step(-1), disabled: at <= 0, "aria-label": say("previous") }, "←"),
      make("button", { onclick: () => step(1), disabled: at + 1 >= list.length, "aria-label": say("following") }, "→"),
      make("span", { class: "soft small" }, number(at + 1), " / ", number(list.length)),
      make("button", { onclick: () => dialog.close(), autofocus: !served }, say("close"))),
    served ? served.tools(index) : null,
    make("div", { class: "detail" },
      make("div", {},
        picture(index, "big", mapClass),
        choices.length ? make("div", { class: "tools" }, choices.map((c) =>
          make("button", { "aria-pressed": String(mapClass === c), onclick: () => openPhoto(index, list, c) }, format("map_of", { label: data.classes[c] }))),
          make("button", { "aria-pressed": String(mapClass === null), onclick: () => openPhoto(index, list, null) }, say("map_none"))) : null,
        choices.length ? make("p", { class: "small soft" }, say("map_" + data.maps_kind)) : null),
      make("div", {},
        photos.answer[index] >= 0 ? answerLine(index) : make("div", {}, format("given", { label: data.classes[photos.label[index]] })),
        top.length ? make("table", { class: "bars" }, make("tbody", {}, top.map(([c, p]) =>
          make("tr", {}, make("td", {}, className(c)), make("td", { class: "bar" }, bar(p)), make("td", { class: "number" }, share(p, 0)))))) : null,
        make("dl", { class: "facts" },
          photos.novelty[index] !== null ? [make("dt", {}, say("novelty")), make("dd", {}, fixed(photos.novelty[index], 2))] : null,
          make("dt", {}, say("side")), make("dd", {}, say("side_" + data.sides[photos.side[index]])),
          make("dt", {}, say("path")), make("dd", {}, make("bdi", {}, photos.path[index]))),
        make("h3", {}, say("nearest")), nearList(index))));
  dialog.onkeydown = (event) => {
    if (served && served.press(event, index)) event.preventDefault();
    else if (event.target.matches("input")) return;
    else if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
  };
  dialog.onclose = () => { state.opened = null; if (served) redraw(); };
  if (!dialog.open) dialog.showModal();
  dialog.querySelector("[autofocus]").focus(); // the buttons are new
}

// ---- tabs

function comparison() {
  const c = data.comparison, [before, after] = c.names;
  const line = (i) => make("div", {}, make("div", { class: "soft" }, format("earlier_answer", { run: before, answer: c.earlier[i] })), answerLine(i));
  const list = (key) => [
    make("h2", {}, say(key), " ", make("span", { class: "badge" }, number(c[key].length))),
    c[key].length ? make("ul", { class: "photos" }, c[key].slice(0, state.shown).map((i) => card(i, c[key], line(i)))) : make("p", {}, say("no_photos")),
    c[key].length > state.shown ? make("button", { id: "more", onclick: () => { state.shown += PAGE; redraw("more"); } }, say("more")) : null,
  ];
  const head = ["class", "photos", "before", "after", "gained", "lost"];
  return [
    make("dl", { class: "figures" }, c.names.map((name, i) => make("div", {}, make("dt", {}, make("bdi", {}, name)), make("dd", {}, share(c.accuracy[i]))))),
    make("ul", { class: "points" }, c.limits.map((point) => make("li", {}, format(point.key, point.values)))),
    make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": say("per_class") }, make("table", { class: "classes" },
      make("thead", {}, make("tr", {}, head.map((key, i) => make("th", { scope: "col", class: i ? "number" : "" }, say(key))))),
      make("tbody", {}, c.per_class.map((row) => make("tr", {}, make("th", { scope: "row" }, make("bdi", { class: "name" }, row.label)),
        ["n", "before", "after", "gained", "lost"].map((key) => make("td", { class: "number" }, number(row[key])))))))),
    list("lost"), list("gained"),
  ];
}

function overview() {
  const e = data.evaluation;
  const figure = (key, value) => make("div", {}, make("dt", {}, say(key)), make("dd", {}, value));
  const points = (list, none) => (list.length ? make("ul", { class: "points" }, list.map((point) => make("li", {}, format(point.key, point.values)))) : make("p", {}, none));
  const few = data.classes.length <= 8;
  return [
    make("div", { class: "two" },
      make("div", {}, make("h2", {}, say("limits")), points(data.limits, say("nothing_limits")), make("h2", {}, say("next")), points(data.next, "")),
      e.n && few ? make("div", {}, confusionMatrix()) : null),
    e.n ? make("dl", { class: "figures" },
      figure("accuracy", share(e.accuracy)), figure("interval", range(e.interval)), figure("photos", number(e.n)),
      figure("balanced", share(e.balanced_accuracy)), figure("macro_f1", fixed(e.macro_f1, 3)),
      e.calibration_error === null ? null : figure("calibration_error", fixed(e.calibration_error, 3)),
      e.rejected === null ? null : figure("refused", share(e.rejected))) : null,
    data.total > photos.path.length ? make("p", { class: "small soft" }, format("sampled", { shown: photos.path.length, all: data.total })) : null,
    photos.path.length === data.thumbs.length ? null : make("p", { class: "small soft" }, format("thumbs", { with: data.thumbs.length, without: photos.path.length - data.thumbs.length, limit: data.limit })),
    e.n && !few ? confusionMatrix() : null,
  ];
}

function confusionMatrix() {
  const confusion = data.evaluation.confusion;
  if (!confusion.length) return null; // there are too many classes
  const mistakes = confusion.map((row, i) => row.reduce((sum, n, j) => sum + (i === j ? 0 : n + confusion[j][i]), 0));
  let chosen = data.classes.map((_, i) => i);
  if (chosen.length > MATRIX) chosen = chosen.sort((a, b) => mistakes[b] - mistakes[a]).slice(0, MATRIX).sort((a, b) => a - b);
  const cell = (i, j) => {
    const count = confusion[i][j];
    if (!count) return make("td", {}, make("span", { class: "none" }, "·"));
    const strength = count / Math.max(1, confusion[i].reduce((a, b) => a + b));
    const button = make("button", {
      "data-cell": i + "-" + j, "aria-label": say("cell", { label: data.classes[i], answer: data.classes[j], count }),
      "aria-pressed": String(state.cell !== null && state.cell[0] === i && state.cell[1] === j),
      onclick: () => { state.cell = [i, j]; state.shown = PAGE; state.filter = ""; show("mistakes", true); },
    }, number(count));
    button.style.background = "rgba(var(--" + (i === j ? "heat" : "hot") + "), " + (0.08 + 0.5 * strength).toFixed(2) + ")";
    button.style.color = "var(--ink)";
    return make("td", {}, button);
  };
  return [
    make("h2", {}, say("confusion")),
    make("p", { class: "small soft" }, say("confusion_how"), " ", chosen.length < data.classes.length ? format("confusion_some", { shown: chosen.length, all: data.classes.length }) : null),
    make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": say("confusion") }, make("table", { class: "matrix" },
      make("thead", {}, make("tr", {}, make("td"), chosen.map((j) => make("th", { scope: "col" }, make("span", { title: data.classes[j] }, className(j)))))),
      make("tbody", {}, chosen.map((i) => make("tr", {}, make("th", { scope: "row", title: data.classes[i] }, className(i)), chosen.map((j) => cell(i, j))))))),
  ];
}

function listTools() {
  const choose = (name, key, values) => make("label", {}, say(key), make("select", { id: name, onchange: (event) => { state[name] = event.target.value; redraw(name); } },
    values.map((value) => make("option", { value, selected: state[name] === value }, say(key + "_" + value)))));
  // While a Korean syllable is composed, the field must stay.
  const filter = (event) => { state.filter = event.target.value; state.shown = PAGE; redraw("filter"); };
  return make("div", { class: "tools" },
    make("label", {}, say("filter"), make("input", { type: "search", id: "filter", value: state.filter, oninput: (event) => { if (!event.isComposing) filter(event); }, oncompositionend: filter })),
    choose("sort", "sort", ["sure", "unsure", "novel"]),
    make("label", {}, make("input", { type: "checkbox", id: "maps", checked: state.maps, onchange: (event) => { state.maps = event.target.checked; redraw("maps"); } }), say("show_maps")));
}

function mistakes() {
  const cell = state.cell;
  const found = everything.filter((i) => (cell ? listed.measured[i] && listed.label[i] === cell[0] && photos.answer[i] === cell[1] : isListedWrong(i)));
  const e = data.evaluation;
  const total = photos.path.length === data.total ? found.length : cell ? e.confusion[cell[0]][cell[1]] : e.n - Math.round(e.n * e.accuracy);
  return [
    confusionMatrix(),
    make("h2", { id: "list" }, cell ? [className(cell[0]), " → ", className(cell[1])] : say("all_mistakes"), " ", make("span", { class: "badge" }, number(total))),
    cell ? make("button", { onclick: () => { state.cell = null; redraw(); } }, say("all_mistakes")) : null,
    listTools(), make("p", { class: "small soft" }, say("map_" + data.maps_kind)), photoList(found, total),
  ];
}

function classes() {
  const e = data.evaluation;
  const figure = (row, name) => make("td", { class: "number" }, share(row[name]), row[name + "_interval"] ? [make("br"), make("span", { class: "soft small" }, range(row[name + "_interval"]))] : null);
  const head = ["class", "train", "val", "test", "measured", "precision", "recall", "f1"];
  const own = everything.filter((i) => listed.measured[i] && listed.label[i] === state.one).sort(orders.sure);
  const best = own.filter((i) => !isListedWrong(i)).slice(0, 6);
  const worst = everything.filter((i) => isListedWrong(i) && (listed.label[i] === state.one || photos.answer[i] === state.one)).sort(orders.sure).slice(0, 6);
  return [
    make("h2", {}, say("per_class")),
    make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": say("per_class") }, make("table", { class: "classes" },
      make("thead", {}, make("tr", {}, head.map((key, i) => make("th", { scope: "col", class: i ? "number" : "" }, say(key))))),
      make("tbody", {}, e.per_class.map((row, i) => make("tr", {},
        make("th", { scope: "row" }, className(i)), ["train", "val", "test"].map((side) => make("td", { class: "number" }, number(data.counts[side][i]))),
        make("td", { class: "number" }, number(row.n)), figure(row, "precision"), figure(row, "recall"), figure(row, "f1")))))),
    make("div", { class: "tools" }, make("label", {}, say("choose_class"), make("select", { id: "one", onchange: (event) => { state.one = Number(event.target.value); redraw("one"); } },
      data.classes.map((name, i) => make("option", { value: i, selected: i === state.one }, name))))),
    make("h3", {}, say("best")), best.length ? make("ul", { class: "photos" }, best.map((i) => card(i, best))) : make("p", {}, say("no_photos")),
    make("h3", {}, say("worst")), worst.length ? make("ul", { class: "photos" }, worst.map((i) => card(i, worst))) : make("p", {}, say("no_photos")),
  ];
}

function labels() {
  const list = data.suspects.filter((i) => !listed.done.has(i));
  const line = (i) => make("div", {},
    make("div", {}, format("given", { label: data.classes[photos.label[i]] })),
    make("div", { class: "wrong" }, format("suggested", { label: data.classes[photos.suggested[i]] })),
    make("div", { class: "soft" }, say("margin"), " ", fixed(photos.margin[i], 2), " · ", say("side_" + data.sides[photos.side[i]])));
  return [
    make("h2", {}, say("tab_labels"), " ", make("span", { class: "badge" }, number(list.length))),
    make("p", { class: "soft" }, say(list.length ? "labels_how" : "labels_none")),
    make("ul", { class: "photos" }, list.slice(0, state.shown).map((i) => card(i, list, line(i)))),
    list.length > state.shown ? make("button", { id: "more", onclick: () => { state.shown += PAGE; redraw("more"); } }, say("more")) : null,
  ];
}

function copies() {
  const groups = data.copies;
  return [
    make("h2", {}, say("tab_copies"), " ", make("span", { class: "badge" }, number(groups.length))),
    make("p", { class: "soft" }, say(groups.length ? "copies_how" : "copies_none")),
    groups.slice(0, state.shown).map((group) => make("div", {},
      make("p", { class: "small" },
        group.labels ? make("span", { class: "badge wrong" }, say("copies_labels")) : null, " ",
        group.sides.length > 1 ? make("span", { class: "badge wrong" }, say("copies_sides", { sides: group.sides.map((s) => say("side_" + s)).join(", ") })) : null, " ",
        group.same ? make("span", { class: "badge" }, say("copies_same")) : null),
      make("div", { class: "group" }, group.photos.map((i) => make("figure", {},
        make("button", { "aria-label": say("photo") + " " + photos.path[i], onclick: () => openPhoto(i, group.photos) }, picture(i)),
        make("figcaption", {}, className(photos.label[i]), " · ", say("side_" + data.sides[photos.side[i]]), make("div", { class: "path" }, make("bdi", {}, photos.path[i]))))))) ),
    groups.length > state.shown ? make("button", { id: "more", onclick: () => { state.shown += PAGE; redraw("more"); } }, say("more")) : null,
  ];
}

function chart(label, across, up, lines, { from = [0, 0], to = [1, 1], asShare = true, ideal = false } = {}) {
  const width = 520, height = 330, left = 58, right = 26, topEdge = 14, bottom = 46;
  const x = (value) => left + ((value - from[0]) / (to[0] - from[0] || 1)) * (width - left - right);
  const y = (value) => height - bottom - ((value - from[1]) / (to[1] - from[1] || 1)) * (height - topEdge - bottom);
  const text = (value, axis) => (asShare[axis] ? share(value, 0) : number(Number(value.toPrecision(3))));
  asShare = Array.isArray(asShare) ? asShare : [asShare, asShare];
  const ticks = (axis) => [0, 0.25, 0.5, 0.75, 1].map((part) => from[axis] + part * (to[axis] - from[axis]));
  const svg = draw("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  for (const tick of ticks(1)) {
    const at = draw("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }); at.append(text(tick, 1));
    svg.append(draw("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }), at);
  }
  for (const tick of ticks(0)) {
    const at = draw("text", { x: x(tick), y: height - bottom + 18, "text-anchor": "middle" }); at.append(text(tick, 0));
    svg.append(at);
  }
  const name = draw("text", { x: left + (width - left - right) / 2, y: height - 8, "text-anchor": "middle" }); name.append(across);
  const side = draw("text", { x: 14, y: topEdge + (height - topEdge - bottom) / 2, transform: `rotate(-90 14 ${topEdge + (height - topEdge - bottom) / 2})`, "text-anchor": "middle" }); side.append(up);
  svg.append(name, side);
  if (ideal) svg.append(draw("line", { class: "ideal", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }));
  lines.forEach((line, i) => {
    svg.append(draw("polyline", { class: "line" + (i ? " second" : ""), points: line.points.map((p) => x(p[0]) + "," + y(p[1])).join(" ") }));
    for (const point of line.dots || []) svg.append(draw("circle", { class: "dot", cx: x(point[0]), cy: y(point[1]), r: point[2] || 4 }));
  });
  return svg;
}

function confidence() {
  const e = data.evaluation;
  if (!e.n) return [make("p", {}, say("verdict_none"))];
  const bins = e.reliability.filter((bin) => bin.n);
  const largest = Math.max(...bins.map((bin) => bin.n));
  const points = bins.map((bin) => [bin.confidence, bin.accuracy, 3 + 8 * Math.sqrt(bin.n / largest)]);
  const low = Math.max(0, Math.floor(10 * Math.min(...data.coverage.map((p) => p[1]))) / 10);
  return [
    make("div", { class: "two" },
      make("div", {}, make("h2", {}, say("reliability")), make("p", { class: "small soft" }, say("reliability_how")),
        chart(say("reliability"), say("confidence"), say("share_right"), [{ points, dots: points }], { ideal: true })),
      make("div", {}, make("h2", {}, say("coverage")), make("p", { class: "small soft" }, " "),
        chart(say("coverage"), say("share_answered"), say("share_right"), [{ points: data.coverage }], { from: [0, Math.min(low, 0.9)] }))),
    make("h2", {}, say("threshold")), thresholdSlider(),
  ];
}

function thresholdSlider() {
  const curve = data.threshold_curve;
  if (!curve) return make("p", {}, say("threshold_unknown"));
  const out = make("p", { role: "status" });
  const last = curve.at.length - 1;
  const now = data.threshold === null ? last : curve.at.findIndex((value) => value >= data.threshold);
  const tell = (i) => {
    state.threshold = i;
    const n = data.evaluation.n, refused = curve.right[i] + curve.wrong[i];
    const right = curve.all_right - curve.right[i];
    out.replaceChildren(...format("threshold_at", {
      value: fixed(curve.at[i], 2), n, refused, right: curve.right[i], wrong: curve.wrong[i],
      accuracy: n > refused ? share(right / (n - refused)) : "–",
    }).flat(Infinity));
  };
  const start = state.threshold === null ? (now < 0 ? last : now) : state.threshold;
  tell(start);
  return [
    make("p", { class: "soft" }, say("threshold_how"), " ", data.threshold === null ? say("threshold_never") : format("threshold_now", { value: fixed(data.threshold, 2) })),
    make("label", {}, make("span", { class: "hidden-text" }, say("threshold")), make("input", { type: "range", id: "threshold", min: 0, max: last, value: start, oninput: (event) => tell(Number(event.target.value)) })), out,
  ];
}

function run() {
  const r = data.run;
  const line = (key, value) => [make("dt", {}, say(key)), make("dd", {}, value)];
  const list = (values) => Object.entries(values).map(([name, value]) => make("div", {}, make("code", {}, name + " = " + value)));
  const curve = (title, across, table, low) => { // the axis of a share begins at the lowest share, that of a loss at 0
    const all = Object.values(table).flat();
    if (!all.length) return null;
    const highest = Math.max(...all.map((p) => p[1])), lowest = low ? Math.min(...all.map((p) => p[1])) : 0;
    const lines = Object.values(table).filter((points) => points.length).map((points) => ({ points }));
    return make("div", {}, make("h3", {}, title, " ", make("span", { class: "small soft" }, Object.keys(table).map((side) => say(side)).join(" / "))),
      chart(title, say(across), title, lines, { from: [Math.min(...all.map((p) => p[0])), lowest], to: [Math.max(...all.map((p) => p[0])), highest], asShare: [false, low] }));
  };
  return [
    make("h2", {}, say("run_how")),
    make("dl", { class: "facts" },
      line("command", make("code", {}, r.command)), line("backbone", make("bdi", {}, r.backbone)), line("size", r.sizes.map((size) => say("pixels", { size })).join(", ")), line("head", r.head),
      line("classes", number(data.classes.length)), line("source", make("bdi", {}, r.source)), line("data_digest", make("code", {}, r.digest)),
      line("made_by", list(r.made_by)), line("options", list(r.options)), line("report_made", r.report)),
    make("div", { class: "two" }, data.curves.map((c) => curve(say(c.kind), c.step, c.table, c.kind !== "loss"))),
  ];
}

// ---- the map of all photos

const palette = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#b8a000", "#7a5195"];
const colour = (i) => (i < palette.length ? palette[i] : `hsl(${(i * 137.508) % 360} 60% 48%)`);

function mapTab() {
  const canvas = make("canvas", { tabindex: "0", role: "application", "aria-label": say("map_label", { n: photos.path.length }) });
  const tip = make("div", { class: "tip", hidden: true });
  const counts = data.classes.map(() => 0);
  for (const label of photos.label) counts[label] += 1;
  const view = state.view || (state.view = { x: 0.5, y: 0.5, zoom: 1 });
  const redrawMap = () => drawMap(canvas, view);
  const zoomAt = (factor, px, py) => {
    const box = canvas.getBoundingClientRect(), before = fromScreen(box, view, px, py);
    view.zoom = Math.min(80, Math.max(0.6, view.zoom * factor));
    const after = fromScreen(box, view, px, py);
    view.x += before[0] - after[0]; view.y += before[1] - after[1];
    redrawMap();
  };
  const middle = (factor) => { const box = canvas.getBoundingClientRect(); zoomAt(factor, box.width / 2, box.height / 2); };
  const all = () => { Object.assign(view, { x: 0.5, y: 0.5, zoom: 1 }); redrawMap(); };
  const pointers = new Map();
  let moved = 0, pinch = 0;
  const at = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); pointers.set(event.pointerId, at(event)); moved = 0; pinch = 0; });
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect(), [px, py] = at(event);
    if (!pointers.has(event.pointerId)) return hover(px, py, box);
    const [ox, oy] = pointers.get(event.pointerId);
    pointers.set(event.pointerId, [px, py]);
    moved += Math.abs(px - ox) + Math.abs(py - oy);
    if (pointers.size === 2) {
      const [a, b] = [...pointers.values()], distance = Math.hypot(a[0] - b[0], a[1] - b[1]);
      if (pinch) zoomAt(distance / pinch, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
      pinch = distance;
      return;
    }
    const scale = scaleOf(box, view);
    view.x -= (px - ox) / scale; view.y -= (py - oy) / scale;
    tip.hidden = true;
    redrawMap();
  });
  const up = (event) => {
    const [px, py] = at(event), box = canvas.getBoundingClientRect();
    if (pointers.delete(event.pointerId) && moved < 6 && event.type === "pointerup") {
      const found = nearestPoint(box, view, px, py);
      if (found >= 0) openPhoto(found, [found]);
    }
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoomAt(Math.exp(-event.deltaY / 400), ...at(event)); }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const step = 0.08 / view.zoom, moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (moves[event.key]) { view.x += moves[event.key][0]; view.y += moves[event.key][1]; redrawMap(); }
    else if (event.key === "+" || event.key === "=") middle(1.4);
    else if (event.key === "-") middle(1 / 1.4);
    else if (event.key === "0") all();
    else return;
    event.preventDefault();
  });
  function hover(px, py, box) {
    const found = nearestPoint(box, view, px, py);
    tip.hidden = found < 0;
    if (found < 0) return;
    const wrong = isWrong(found);
    tip.dataset.photo = found;
    tip.replaceChildren(...[photos.tile[found] >= 0 ? tileCanvas(found) : null, className(photos.label[found]),
      wrong ? make("div", { class: "wrong" }, "→ ", className(photos.answer[found])) : null,
      make("div", { class: "path" }, photos.path[found])].filter(Boolean));
    tip.style.left = Math.max(0, Math.min(px + 14, box.width - 180)) + "px";
    tip.style.top = Math.max(0, Math.min(py + 14, box.height - 150)) + "px";
  }
  const toggle = (i) => { if (!state.hidden.delete(i)) state.hidden.add(i); };
  new ResizeObserver(redrawMap).observe(canvas);
  return [
    make("h2", {}, say("map_title")), make("p", { class: "small soft" }, format("map_how", { method: data.map_method })),
    make("div", { class: "tools" },
      make("button", { onclick: () => middle(1.5), "aria-label": say("zoom_in") }, "+"), make("button", { onclick: () => middle(1 / 1.5), "aria-label": say("zoom_out") }, "−"),
      make("button", { onclick: all }, say("zoom_all")),
      make("label", {}, make("input", { type: "checkbox", checked: state.onlyWrong, onchange: (event) => { state.onlyWrong = event.target.checked; redrawMap(); } }), say("only_wrong"))),
    make("div", { class: "map" }, canvas, tip),
    make("div", { class: "legend" }, data.classes.map((name, i) => {
      const dot = make("i"); dot.style.background = colour(i);
      const button = make("button", { "aria-pressed": String(!state.hidden.has(i)), onclick: () => { toggle(i); button.setAttribute("aria-pressed", String(!state.hidden.has(i))); redrawMap(); } },
        dot, make("bdi", {}, name), make("span", { class: "soft" }, number(counts[i])));
      return button;
    })),
  ];
}

const scaleOf = (box, view) => 0.94 * Math.min(box.width, box.height) * view.zoom;
const fromScreen = (box, view, px, py) => [view.x + (px - box.width / 2) / scaleOf(box, view), view.y + (py - box.height / 2) / scaleOf(box, view)];
const isOnMap = (i) => photos.x[i] !== null && !state.hidden.has(photos.label[i]) && (!state.onlyWrong || isWrong(i));

function nearestPoint(box, view, px, py) {
  const [x, y] = fromScreen(box, view, px, py), scale = scaleOf(box, view);
  let best = -1, least = (14 / scale) ** 2;
  for (const i of everything) {
    const distance = (photos.x[i] - x) ** 2 + (photos.y[i] - y) ** 2;
    if (distance < least && isOnMap(i)) { least = distance; best = i; }
  }
  return best;
}

function drawMap(canvas, view) {
  const box = canvas.getBoundingClientRect(), dense = window.devicePixelRatio || 1;
  if (!box.width) return;
  canvas.width = box.width * dense; canvas.height = box.height * dense;
  const context = canvas.getContext("2d"), scale = scaleOf(box, view);
  context.setTransform(dense, 0, 0, dense, 0, 0);
  const radius = Math.min(7, Math.max(1.6, (2.2 * Math.sqrt(view.zoom) * 40) / Math.sqrt(40 + photos.path.length / 8)));
  const ink = getComputedStyle(document.body).color;
  const byClass = new Map(), wrong = [];
  for (const i of everything) {
    if (!isOnMap(i)) continue;
    const px = (photos.x[i] - view.x) * scale + box.width / 2, py = (photos.y[i] - view.y) * scale + box.height / 2;
    if (px < -10 || py < -10 || px > box.width + 10 || py > box.height + 10) continue;
    if (!byClass.has(photos.label[i])) byClass.set(photos.label[i], []);
    byClass.get(photos.label[i]).push(px, py);
    if (isWrong(i)) wrong.push(px, py);
  }
  context.globalAlpha = 0.8;
  for (const [label, points] of byClass) {
    context.fillStyle = colour(label);
    context.beginPath();
    for (let k = 0; k < points.length; k += 2) { context.moveTo(points[k] + radius, points[k + 1]); context.arc(points[k], points[k + 1], radius, 0, 7); }
    context.fill();
  }
  context.globalAlpha = 1;
  context.strokeStyle = ink; context.lineWidth = 1.5;
  context.beginPath();
  for (let k = 0; k < wrong.length; k += 2) { context.moveTo(wrong[k] + radius + 3, wrong[k + 1]); context.arc(wrong[k], wrong[k + 1], radius + 3, 0, 7); }
  context.stroke();
}

// ---- the page

const tabs = { ...(data.comparison ? { comparison } : {}), overview, mistakes, classes, labels, copies, confidence, map: mapTab, run, ...(served ? served.tabs({ listTools, photoList, redraw }) : {}) };

function verdict() {
  const key = `${state.tab} ${state.cell}`;
  if (listed.key !== key) listed = { key, label: [...photos.label], measured: [...photos.measured], done: served ? served.done() : new Set() };
  const said = state.tab === "comparison" ? data.comparison : data;
  return [
    make("p", { class: "verdict" }, format(said.verdict.key, said.verdict.values)),
    said.basis ? make("p", { class: "soft" }, format(said.basis.key, said.basis.values)) : null,
  ];
}

// After the sections were put on paper, by a listener that was added before this one.
if (!served) window.addEventListener("beforeprint", () => drawMap(document.querySelector(".map > canvas"), state.view));

redraw();
