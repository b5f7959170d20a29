// The page of a check: what was found in photos and labels. page/shared.js stands before this script.
const TITLE = "check_title"; // its key among the words
Object.assign(state, { tab: "overview", shown: PAGE });

const count = (value) => make("span", { class: "badge" }, number(value));
const name = (text) => make("bdi", { class: "name" }, text);

function overview() {
  const points = [
    data.findings.some((found) => found.left_out) ? format("next_clean", { command: { code: "regraft check PHOTOS --write clean.csv" } }) : null,
    data.findings.some((found) => found.kind === "mislabelled") ? format("next_labels") : null,
    data.trainable ? format("next_train", { command: { code: "regraft train PHOTOS" } }) : null,
  ].filter(Boolean);
  const missing = photos.thumb.filter((thumb) => thumb < 0).length;
  return [
    data.findings.length ? [make("h2", {}, say("found")), findings()] : null,
    points.length ? [make("h2", {}, say("next")), make("ul", { class: "points" }, points.map((point) => make("li", {}, point)))] : null,
    data.hint ? make("p", { class: "soft", lang: "en" }, name(data.hint)) : null,
    data.absent ? make("p", { class: "small soft" }, format("check_absent", { count: data.absent, most: photos.path.length })) : null,
    missing ? make("p", { class: "small soft", id: "missing" }, format("check_thumbs", { count: missing, all: photos.path.length, limit: data.limit })) : null,
  ];
}

const findings = () => make("ul", { class: "found" }, data.findings.map((found) => make("li", {},
  make("button", { "data-kind": found.kind, onclick: () => { state.shown = PAGE; show(tabOf(found)); } }, say("tab_" + found.kind)),
  make("span", { class: "count" }, number(found.count)),
  make("p", {}, say("why_" + found.kind), found.left_out ? [" ", make("span", { class: "soft" }, say("left_out"))] : null))));

// ---- one kind of problem

const isOfClasses = (found) => found.names.length > 0 || found.sizes.length > 0;
const tabOf = (found) => (isOfClasses(found) ? "classes" : found.kind);

function section(found) {
  const all = found.files.length || found.items.length;
  return [
    make("h2", {}, say("tab_" + found.kind), " ", count(found.count)),
    make("p", { class: "soft" }, say("why_" + found.kind)),
    found.files.length ? files(found.files.slice(0, state.shown)) : null,
    found.grouped ? found.items.slice(0, state.shown).map((item) => group(found.kind, item)) : null,
    found.grouped || found.files.length ? null : make("ul", { class: "photos" }, found.items.slice(0, state.shown).map((item) => card(found.kind, item))),
    all > state.shown ? more() : null,
  ];
}

const more = () => make("button", { id: "more", onclick: () => { state.shown += PAGE; redraw("more"); } }, say("more"));

const files = (list) => make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": say("tab_unreadable") }, make("table", { class: "files" },
  make("thead", {}, make("tr", {}, ["path", "reason"].map((key) => make("th", { scope: "col" }, say(key))))),
  make("tbody", {}, list.map(([path, reason]) => make("tr", {}, make("td", {}, name(path)), make("td", { lang: "en" }, reason))))));

const size = (i) => say("width_height", { width: number(photos.size[i][0]), height: number(photos.size[i][1]) });
const side = (i) => (photos.side[i] ? [" · ", say("side_" + photos.side[i])] : null);

function group(kind, item) {
  const copies = kind.endsWith("duplicate"); // the first photo is the one to keep
  return make("div", { class: "group", role: "group", "aria-label": say("tab_" + kind) },
    item.photos.map((i, at) => make("figure", { "data-photo": i }, picture(i),
      make("figcaption", {}, make("span", { class: kind === "two_labels" ? "wrong" : "" }, className(photos.label[i])), side(i),
        copies ? [" ", make("span", { class: "badge" }, say(at ? "copy" : "kept"))] : null,
        make("div", { class: "soft" }, size(i)), make("div", { class: "path" }, make("bdi", {}, photos.path[i]))))),
    item.more ? make("p", { class: "soft" }, format("check_more", { count: item.more })) : null);
}

function card(kind, item) {
  const [i] = item.photos;
  return make("li", { class: "card", "data-photo": i }, picture(i),
    make("div", { class: "text" },
      make("div", {}, format("given", { label: data.classes[photos.label[i]] })),
      item.suggested ? make("div", { class: "wrong" }, format("suggested", { label: item.suggested }), " ", share(item.probability, 0)) : null,
      kind === "blank" ? make("div", {}, say("spread", { value: fixed(item.score, 1) })) : null,
      kind === "extreme_shape" ? make("div", {}, say("shape", { value: fixed(-item.score, 1) })) : null,
      make("div", { class: "soft" }, size(i), side(i)),
      make("div", { class: "path" }, make("bdi", {}, photos.path[i]))));
}

// ---- classes

function classes() {
  const most = Math.max(1, ...data.counts);
  return [
    data.findings.filter(isOfClasses).map((found) => [
      make("h2", {}, say("tab_" + found.kind), " ", count(found.count)), make("p", { class: "soft" }, say("why_" + found.kind)),
      make("ul", { class: "points" }, found.names.slice(0, state.shown).map((line) => make("li", { lang: "en" }, make("bdi", {}, line))),
        found.sizes.slice(0, state.shown).map(([label, photos]) => make("li", {}, format("class_count", { label, count: photos }))))]),
    make("h2", {}, say("sizes"), " ", count(data.classes.length)),
    make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": say("sizes") }, make("table", { class: "bars sizes" },
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, say("class")), make("th", { scope: "col", class: "number" }, say("photos")), make("td"))),
      make("tbody", {}, data.classes.slice(0, state.shown).map((label, i) => make("tr", {}, make("th", { scope: "row" }, className(i)),
        make("td", { class: "number" }, number(data.counts[i])), make("td", { class: "bar" }, bar(data.counts[i] / most))))))),
    data.classes.length > state.shown ? more() : null,
  ];
}

// ---- the page

const tabs = { overview };
for (const found of data.findings) if (!isOfClasses(found)) tabs[found.kind] = () => section(found);
tabs.classes = classes;

function verdict() {
  const impossible = data.total ? "check_one_class" : "check_no_photo";
  return [
    make("p", { class: "verdict" }, format(data.verdict.key, data.verdict.values)),
    make("p", { class: "soft" }, format("check_basis", { photos: data.total, classes: data.classes.length })),
    data.trainable ? null : make("p", { class: "wrong" }, format(impossible, { label: data.classes[0] })),
  ];
}

redraw();
