"use strict";
// The page of `kka review --detector-dir`: photos by score, what any threshold would mean, and what a person says.

const state = { start: 0, total: 0, page: 60, photos: [], at: 0, asked: 0, threshold: null, low: 0, high: 1 };
const BINS = 125;
const SETTLED = 250; // milliseconds after the last move of the slider
let about = null;
let waiting = 0;

const above = (score, threshold = state.threshold) => threshold !== null && Math.fround(score) > Math.fround(threshold);
const short = (number) => Number(number).toPrecision(5);
const share = (part, whole) => `${part.toLocaleString("en")} of ${whole.toLocaleString("en")}${whole ? ` (${percent(part / whole)})` : ""}`;

function percent(rate) {
  const value = 100 * rate;
  return `${value > 0 && value < 1 ? value.toFixed(2) : value.toFixed(1)}\u00a0%`;
}

function countAbove(sorted, threshold) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (above(sorted[middle], threshold)) high = middle;
    else low = middle + 1;
  }
  return sorted.length - low;
}

function promised() {
  const held = about.held_out;
  if (held.length) return (1 + countAbove(held, state.threshold)) / (held.length + 1);
  return about.own && about.own.threshold === state.threshold ? about.own.promised : null;
}

function figures() {
  const rows = [];
  const rate = promised();
  const from = about.held_out.length || about.own?.held_out;
  if (rate !== null) rows.push(["promised false positives", `at most ${percent(rate)} (${from} held out)`]);
  rows.push(["called anomalous", share(countAbove(about.scores, state.threshold), about.scores.length)]);
  if (about.bad.length) rows.push(["defects found, by folder", share(countAbove(about.bad, state.threshold), about.bad.length)]);
  if (about.good.length) rows.push(["false alarms, by folder", share(countAbove(about.good, state.threshold), about.good.length)]);
  for (const [said, title] of [["anomalous", "found, of your anomalous"], ["normal", "false alarms, of your normal"]]) {
    const mine = about.marked.filter(([, what]) => what === said).map(([score]) => score).sort((a, b) => a - b);
    if (mine.length) rows.push([title, share(countAbove(mine, state.threshold), mine.length)]);
  }
  return rows;
}

function note() {
  if (!about.own) return "This detector held out no normals: no threshold of its own, and nothing is promised.";
  if (about.held_out.length) return "";
  return "This detector keeps no scores of held-out normals (an earlier version trained it): what is promised is known at its own threshold alone. Train it again to know it everywhere.";
}

function whose() {
  if (about.chosen && about.chosen.threshold === state.threshold) return about.chosen.told;
  if (about.own && about.own.threshold === state.threshold) return `the detector's own, set for ${percent(about.own.fpr)}`;
  return about.threshold === null ? "not kept" : `not kept: ${short(about.threshold)} counts`;
}

function drawThreshold() {
  const known = state.threshold !== null;
  $("histogram").querySelector("#line").setAttribute("visibility", known ? "visible" : "hidden");
  if (!known) {
    $("whose").textContent = "none yet: move the slider";
  } else {
    const x = 1000 * (state.threshold - state.low) / (state.high - state.low);
    for (const side of ["x1", "x2"]) $("histogram").querySelector("#line").setAttribute(side, x);
    $("slider").value = state.threshold;
    if (document.activeElement !== $("value")) $("value").value = short(state.threshold);
    $("whose").textContent = whose();
    $("figures").replaceChildren(...figures().flatMap(([title, text]) => [made("dt", { textContent: title }), made("dd", { textContent: text })]));
  }
  $("note").textContent = note();
  $("keep").disabled = !known || state.threshold === about.threshold;
  $("own").hidden = !about.chosen;
  for (const [place, photo] of state.photos.entries()) {
    const node = $("grid").children[place]?.querySelector(".score");
    if (node) node.className = scored(photo).className;
  }
  if (state.photos[state.at]) facts(state.photos[state.at]);
}

function moved(threshold) {
  if (!Number.isFinite(threshold)) return;
  state.threshold = threshold;
  $("keeping").hidden = true;
  drawThreshold();
  const depends = ["above the threshold", "below the threshold", "wrong"].includes($("kind").value) || $("order").value .startsWith("nearest");
  clearTimeout(waiting);
  if (depends) waiting = setTimeout(filtered, SETTLED);
}

function shape(tag, fields) {
  const node = document.createElementNS($("histogram").namespaceURI, tag);
  for (const [name, value] of Object.entries(fields)) node.setAttribute(name, value);
  return node;
}

function drawHistogram() {
  const every = [...about.scores, ...about.held_out, ...(state.threshold === null ? [] : [state.threshold])];
  const least = every.reduce((a, b) => Math.min(a, b), Infinity);
  const most = every.reduce((a, b) => Math.max(a, b), -Infinity);
  const room = 0.02 * (most - least || Math.abs(most) || 1);
  [state.low, state.high] = [least - room, most + room];
  Object.assign($("slider"), { min: state.low, max: state.high, step: (state.high - state.low) / 2000 });
  const counted = (scores) => {
    const bins = new Array(BINS).fill(0);
    for (const score of scores) bins[Math.min(BINS - 1, Math.floor(BINS * (score - state.low) / (state.high - state.low)))] += 1;
    return bins;
  };
  const [all, bad, held] = [counted(about.scores), counted(about.bad), counted(about.held_out)];
  const tallest = Math.log1p(Math.max(...all, ...held));
  const height = (count, most) => count ? Math.max(1.5, most * Math.log1p(count) / tallest) : 0;
  const base = about.held_out.length ? 72 : 99;
  const bars = all.flatMap((count, i) => [
    [height(count, base - 1), "photos", base], [height(bad[i], base - 1), "defects", base], [-height(held[i], 99 - base), "held", base + 1],
  ].filter(([high]) => high).map(([high, kind, from]) => shape("rect", {
    x: 1000 * i / BINS, width: 1000 / BINS - 1, y: Math.min(from, from - high), height: Math.abs(high), class: kind,
  })));
  const line = shape("line", { id: "line", y1: 0, y2: 100 });
  $("histogram").replaceChildren(...bars, line);
  $("least").textContent = short(least);
  $("most").textContent = short(most);
  const parts = [["photos", "photos"], ...(about.bad.length ? [["defects", "defects by folder"]] : []), ...(about.held_out.length ? [["held", "held-out normals"]] : [])];
  $("legend").replaceChildren(...parts.map(([kind, words]) => made("span", { className: `key ${kind}`, textContent: words })), " score → · heights: logarithm of the number");
}

function counted() {
  const number = (said) => about.marked.filter(([, what]) => what === said).length;
  $("said").textContent = `${number("normal")} normal · ${number("anomalous")} anomalous · ${number("no opinion")} no opinion`;
}

function scored(photo) {
  return made("span", { className: `score ${above(photo.score) ? "hard" : ""}`, textContent: short(photo.score) });
}

function saidOf(photo) {
  const wrong = photo.said === (above(photo.score) ? "normal" : "anomalous");
  const words = photo.said ? `you: ${photo.said}` : photo.label ? `folder: ${photo.label}` : " ";
  return made("span", { className: photo.said ? (wrong && state.threshold !== null ? "veto" : "keep") : "", textContent: words });
}

function tile(photo, place) {
  const kind = $("heat").checked ? "heat-thumbnail" : "thumbnail";
  const image = made("img", { src: `${kind}/${photo.id}`, alt: photo.name, loading: "lazy", fetchPriority: "low", width: 112, height: 112 });
  const node = made("li", { id: `p-${photo.id}`, title: photo.name }, image, scored(photo), saidOf(photo));
  node.setAttribute("aria-selected", place === state.at);
  node.addEventListener("click", () => select(place));
  return node;
}

function drawGrid(aside = []) {
  $("grid").replaceChildren(...state.photos.map(tile), ...aside.map((row) => made("li", { className: "text", textContent: `${row.name} — ${row.reason}` })));
}

const load = guarded(async () => {
  const mine = ++state.asked;
  const query = new URLSearchParams({ order: $("order").value, kind: $("kind").value, words: $("words").value, start: state.start });
  if (state.threshold !== null) query.set("threshold", state.threshold);
  const found = await ask(`photos?${query}`);
  if (mine !== state.asked) return; // the filter has changed since
  Object.assign(state, { photos: found.photos, total: found.total, at: 0 });
  drawGrid(found.aside);
  const last = Math.min(state.start + state.page, state.total);
  $("where").textContent = state.total ? `${state.start + 1} to ${last} of ${state.total.toLocaleString("en")}` : "none";
  $("back").disabled = state.start === 0;
  $("next").disabled = last >= state.total;
  show();
});

function select(place) {
  const before = $("grid").children[state.at];
  if (before) before.setAttribute("aria-selected", false);
  state.at = Math.max(0, Math.min(place, state.photos.length - 1));
  const now = $("grid").children[state.at];
  if (now) {
    now.setAttribute("aria-selected", true);
    now.scrollIntoView({ block: "nearest" });
  }
  show();
}

function facts(photo) {
  const verdict = state.threshold === null ? "" : above(photo.score) ? ": anomalous at this threshold" : ": normal at this threshold";
  $("facts").replaceChildren("score ", scored(photo), verdict, photo.label ? ` · by its folder: ${photo.label}` : "");
}

function show() {
  const photo = state.photos[state.at];
  $("one").hidden = !photo;
  if (!photo) return;
  const path = `${$("heat").checked ? "heat" : "image"}/${photo.id}`;
  if ($("large").getAttribute("src") !== path) $("large").classList.add("waiting"); // until it is there, the last one is
  Object.assign($("large"), { fetchPriority: "high", alt: photo.name, src: path });
  $("caption").textContent = photo.name;
  facts(photo);
  for (const button of $("verdicts").children) button.setAttribute("aria-pressed", photo.said === button.dataset.said);
}

const say = guarded(async (said) => {
  const photo = state.photos[state.at];
  if (!photo) return;
  const answer = await ask("say", { id: photo.id, said, threshold: state.threshold });
  about.marked = answer.marked;
  photo.said = said;
  const place = state.photos.indexOf(photo);
  if (place >= 0) $("grid").children[place].replaceWith(tile(photo, place));
  counted();
  drawThreshold();
  select(place + 1);
});

function question() {
  const now = about.threshold === null ? "none" : `${short(about.threshold)} (${about.chosen ? about.chosen.told : "the detector's own"})`;
  $("question").textContent = `From then on kka score, kka review and kka export call photos anomalous above ${short(state.threshold)}. Now: ${now}. Models that were exported stay as they are.`;
  $("keeping").hidden = false;
}

const choose = guarded(async (threshold) => {
  Object.assign(about, await ask("say", { choose: threshold }));
  $("keeping").hidden = true;
  state.threshold = about.threshold;
  drawThreshold();
});

function turn(by) {
  const start = state.start + by * state.page;
  if (start < 0 || start >= state.total) return;
  state.start = start;
  load();
}

function filtered() {
  state.start = 0;
  load();
}

function heated() {
  drawGrid();
  show();
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const at = document.activeElement;
  if (at.tagName === "SELECT" || (at.tagName === "INPUT" && at.type !== "checkbox")) {
    const arrows = at.type === "range" && event.key.startsWith("Arrow");
    if (event.key === "Escape" || event.key === "Enter") at.blur();
    if (at.type !== "range" || arrows || event.key.startsWith("Page")) return;
  }
  const keys = {
    ArrowLeft: () => select(state.at - 1), ArrowRight: () => select(state.at + 1),
    ArrowUp: () => select(state.at - columns()), ArrowDown: () => select(state.at + columns()),
    PageUp: () => turn(-1), PageDown: () => turn(1),
    n: () => say("normal"), a: () => say("anomalous"), o: () => say("no opinion"),
    t: () => state.photos[state.at] && moved(state.photos[state.at].score),
    h: () => about.localises && $("heat").click(),
  };
  if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
}

guarded(async () => {
  about = await ask("about");
  $("run").textContent = `${about.detector} (${about.name})`;
  document.title = `kka review: ${about.detector}`;
  state.page = about.page;
  state.threshold = about.threshold;
  for (const name of ["order", "kind"]) $(name).append(...about[`${name}s`].map((text) => made("option", { value: text, textContent: text })));
  $("maps").hidden = !about.localises;
  const words = { normal: ["n", "it is normal"], anomalous: ["a", "it is anomalous"], "no opinion": ["o", "no opinion"] };
  $("verdicts").append(...about.said.map((said) => {
    const button = made("button", { type: "button" }, made("kbd", { textContent: words[said][0] }), ` ${words[said][1]}`);
    button.dataset.said = said;
    button.addEventListener("click", () => say(said));
    return button;
  }));
  counted();
  drawHistogram();
  drawThreshold();
  await load();
})();
for (const id of ["order", "kind"]) $(id).addEventListener("change", () => { $(id).blur(); filtered(); });
$("words").addEventListener("input", filtered);
$("heat").addEventListener("change", () => { $("heat").blur(); heated(); });
$("slider").addEventListener("input", () => moved(Number($("slider").value)));
$("value").addEventListener("input", () => $("value").value && moved(Number($("value").value)));
$("value").addEventListener("blur", drawThreshold);
for (const event of ["load", "error"]) $("large").addEventListener(event, () => $("large").classList.remove("waiting"));
$("keep").addEventListener("click", question);
$("yes").addEventListener("click", () => choose(state.threshold));
$("no").addEventListener("click", () => { $("keeping").hidden = true; });
$("own").addEventListener("click", () => choose(null));
$("back").addEventListener("click", () => turn(-1));
$("next").addEventListener("click", () => turn(1));
document.addEventListener("keydown", pressed);
