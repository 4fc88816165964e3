"use strict";
// The page of `kka review RUN`: asks the server for a page of pictures, and tells it each decision as it is made.

const state = { start: 0, total: 0, page: 60, pictures: [], at: 0, pair: null, skipped: [], asked: 0 };
let keys = {}; // key -> [verdict, reason], filled from what the server knows

function counted(counts) {
  const vetoes = ["looks normal", "does not show its caption", "nonsense"].reduce((sum, name) => sum + counts[name], 0);
  $("said").textContent =
    `${counts.keep} kept · ${vetoes} vetoed · ${counts.harder} harder · ${counts.easier} easier · ${counts.choices} choices`;
}

function judged(picture) {
  if (picture.relative === null) return made("span", { textContent: "not judged" });
  const floor = Math.floor(100 * picture.relative) / 100;
  return made("span", { className: picture.hard ? "hard" : "easy", textContent: `${picture.hard ? "hard" : "easy"} ${floor.toFixed(2)}` });
}

function verdictOf(picture) {
  return made("span", { className: picture.verdict ?? "", textContent: picture.reason ?? picture.verdict ?? " " });
}

function tile(picture, place) {
  const image = made("img", { src: `thumbnail/${picture.id}`, alt: picture.caption, loading: "lazy", width: 112, height: 112 });
  const node = made("li", { id: `p-${picture.id}` }, image, judged(picture), verdictOf(picture));
  node.className = picture.verdict === "veto" ? "vetoed" : "";
  node.setAttribute("aria-selected", place === state.at);
  node.addEventListener("click", () => select(place));
  return node;
}

const load = guarded(async () => {
  const mine = ++state.asked;
  const query = new URLSearchParams({ round: $("round").value, kind: $("kind").value, words: $("words").value, start: state.start });
  const found = await ask(`pictures?${query}`);
  if (mine !== state.asked) return; // the filter has changed since
  state.pictures = found.pictures;
  state.total = found.total;
  state.at = 0;
  const aside = found.aside.map((row) => made("li", { className: "text", textContent: `round ${row.round}: ${row.caption} — ${row.reason}` }));
  $("grid").replaceChildren(...state.pictures.map(tile), ...aside);
  const last = Math.min(state.start + state.page, state.total);
  $("where").textContent = state.total ? `${state.start + 1} to ${last} of ${state.total.toLocaleString("en")}` : "none";
  $("back").disabled = state.start === 0;
  $("next").disabled = last >= state.total;
  show();
});

function select(place) {
  const before = $("grid").children[state.at];
  if (before) before.setAttribute("aria-selected", false);
  state.at = Math.max(0, Math.min(place, state.pictures.length - 1));
  const now = $("grid").children[state.at];
  if (now) {
    now.setAttribute("aria-selected", true);
    now.scrollIntoView({ block: "nearest" });
  }
  show();
}

function show() {
  const picture = state.pictures[state.at];
  $("one").hidden = !picture;
  if (!picture) return;
  $("large").src = `image/${picture.id}`;
  $("normal-figure").hidden = !picture.normal;
  if (picture.normal) $("normal").src = `normal/${picture.id}`;
  $("normal-is").textContent = picture.altered ? "the normal that was altered" : "the normal in its prompt";
  $("outline-figure").hidden = !picture.altered;
  if (picture.altered) $("outline").src = `outline/${picture.id}`;
  $("caption").textContent = picture.caption;
  $("facts").replaceChildren(`${picture.id} · `, judged(picture), picture.in_pool ? " · in the pool" : " · not in the pool");
  for (const button of $("verdicts").children) {
    const [verdict, reason] = keys[button.dataset.key];
    button.setAttribute("aria-pressed", picture.verdict === verdict && (picture.reason ?? null) === reason);
  }
}

const say = guarded(async (key) => {
  const picture = state.pictures[state.at];
  if (!picture) return;
  const [verdict, reason] = keys[key];
  const said = await ask("say", { id: picture.id, verdict, ...(reason ? { reason } : {}) });
  picture.verdict = verdict === "none" ? null : verdict;
  picture.reason = reason;
  const place = state.pictures.indexOf(picture);
  if (place >= 0) $("grid").children[place].replaceWith(tile(picture, place));
  counted(said.counts);
  select(verdict === "none" ? state.at : place + 1);
});

const nextPair = guarded(async () => {
  const found = await ask(`pair?${new URLSearchParams({ skipped: state.skipped.join(",") })}`);
  state.pair = found.pair;
  $("two").replaceChildren(...(found.pair ?? []).map((picture, side) => {
    const button = made("button", { type: "button" }, made("img", { src: `image/${picture.id}`, alt: picture.caption }), made("p", { textContent: picture.caption }), judged(picture));
    button.addEventListener("click", () => choose(side));
    return button;
  }));
  if (!found.pair) $("two").textContent = "There are no two left to compare: under one prompt, judged, and not vetoed.";
});

const choose = guarded(async (side) => {
  if (!state.pair) return;
  const [harder, easier] = side === 0 ? state.pair : [...state.pair].reverse();
  state.pair = null;
  counted((await ask("say", { harder: harder.id, easier: easier.id })).counts);
  await nextPair();
});

function compare(on) {
  $("pairs").hidden = !on;
  $("browse").hidden = on;
  if (on) nextPair();
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (["INPUT", "SELECT"].includes(document.activeElement.tagName)) {
    if (event.key === "Escape" || event.key === "Enter") document.activeElement.blur();
    return;
  }
  const pairs = { ArrowLeft: () => choose(0), ArrowRight: () => choose(1), Escape: () => compare(false), s: skip };
  const browse = {
    ArrowLeft: () => select(state.at - 1), ArrowRight: () => select(state.at + 1),
    ArrowUp: () => select(state.at - columns()), ArrowDown: () => select(state.at + columns()),
    PageUp: () => turn(-1), PageDown: () => turn(1), c: () => compare(true),
    ...Object.fromEntries(Object.keys(keys).map((key) => [key, () => say(key)])),
  };
  const work = ($("pairs").hidden ? browse : pairs)[event.key];
  if (work) {
    event.preventDefault();
    work();
  }
}

function skip() {
  if (state.pair) state.skipped.push(state.pair.map((picture) => picture.id).join("|"));
  nextPair();
}

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

guarded(async () => {
  const about = await ask("about");
  $("run").textContent = about.run;
  document.title = `kka review: ${about.run}`;
  state.page = about.page;
  $("round").append(made("option", { value: "", textContent: "all" }), ...Array.from({ length: about.rounds }, (_, n) => made("option", { value: n, textContent: n })));
  $("kind").append(...about.kinds.map((kind) => made("option", { value: kind, textContent: kind })));
  keys = { k: ["keep", null], h: ["harder", null], e: ["easier", null] };
  about.reasons.forEach((reason, n) => { keys[String(n + 1)] = ["veto", reason]; });
  keys.u = ["none", null];
  const words = { keep: "keep", harder: "harder than judged", easier: "easier than judged", none: "take back" };
  $("verdicts").append(...Object.entries(keys).map(([key, [verdict, reason]]) => {
    const button = made("button", { type: "button" }, made("kbd", { textContent: key }), ` ${reason ? `veto: ${reason}` : words[verdict]}`);
    button.dataset.key = key;
    button.addEventListener("click", () => say(key));
    return button;
  }));
  counted(about.counts);
  await load();
})();
for (const id of ["round", "kind"]) $(id).addEventListener("change", () => { $(id).blur(); filtered(); });
$("words").addEventListener("input", filtered);
$("back").addEventListener("click", () => turn(-1));
$("next").addEventListener("click", () => turn(1));
$("compare").addEventListener("click", () => compare(true));
document.addEventListener("keydown", pressed);
